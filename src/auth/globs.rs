//! The rooms that a token grants, as patterns in which `*` stands for any characters or none.
//!
//! Matching takes time linear in pattern and name, whatever the pattern: the pieces between the
//! stars are looked for from left to right and never again. Patterns and their count are bounded,
//! and kept as the text they came in, because ten thousand sockets keep theirs.

use std::fmt;

/// What a token's claim `rooms` grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rooms(Box<[Box<str>]>);

/// Why patterns are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GlobError {
    /// There are more patterns than the limit.
    TooMany(usize),
    /// A pattern is empty.
    Empty,
    /// A pattern is longer than the limit, in bytes.
    TooLong(usize),
    /// A pattern holds a control character.
    Character(char),
}

/// A token of 8 KiB has no room for many more.
const GLOBS_MAX: usize = 64;
/// As long as the longest room name.
const GLOB_BYTES_MAX: usize = 256;

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(count) => write!(f, "{count} room patterns, the limit is {GLOBS_MAX}"),
            Self::Empty => f.write_str("a room pattern is empty"),
            Self::TooLong(bytes) => {
                write!(
                    f,
                    "a room pattern is {bytes} bytes, the limit is {GLOB_BYTES_MAX}"
                )
            }
            Self::Character(c) => write!(f, "a room pattern holds the character {c:?}"),
        }
    }
}

impl std::error::Error for GlobError {}

impl Rooms {
    /// Parses patterns like `conversation:*`.
    ///
    /// # Errors
    /// When there are too many, or one is empty, too long or holds a control character.
    pub fn parse<T: AsRef<str>>(patterns: &[T]) -> Result<Self, GlobError> {
        if patterns.len() > GLOBS_MAX {
            return Err(GlobError::TooMany(patterns.len()));
        }
        patterns
            .iter()
            .map(|pattern| parse_one(pattern.as_ref()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// True if a pattern matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, name))
    }

    /// The patterns, as they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| &**pattern)
    }
}

fn parse_one(pattern: &str) -> Result<Box<str>, GlobError> {
    if pattern.is_empty() {
        return Err(GlobError::Empty);
    }
    if pattern.len() > GLOB_BYTES_MAX {
        return Err(GlobError::TooLong(pattern.len()));
    }
    match pattern.chars().find(|c| c.is_control()) {
        Some(c) => Err(GlobError::Character(c)),
        None => Ok(pattern.into()),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(between) = name
        .strip_prefix(head)
        .and_then(|name| name.strip_suffix(tail))
    else {
        return false;
    };
    // The leftmost place for each piece leaves the most room for those after it.
    let mut left = between;
    middle.split('*').all(|piece| match left.find(piece) {
        Some(at) => {
            left = &left[at + piece.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn plain(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skip| plain(rest, &name[skip..])),
            Some((first, rest)) => name.first() == Some(first) && plain(rest, &name[1..]),
        }
    }

    #[test]
    fn a_star_stands_for_any_characters_or_none() {
        for (pattern, name, expected) in [
            ("conversation:*", "conversation:42", true),
            ("conversation:*", "conversation:", true),
            ("conversation:*", "conversation", false),
            ("conversation:42", "conversation:42", true),
            ("conversation:42", "conversation:421", false),
            ("course:*-2026", "course:bio-2026", true),
            ("course:*-2026", "course:bio-2026-b", false),
            ("*", "anything", true),
            ("**", "", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*ab*ba*", "aba", false),
            ("*ab*ba*", "abba", true),
            ("building:?", "building:1", false),
            ("raum:ü*", "raum:übung", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_are_bounded() {
        assert_eq!(Rooms::parse(&[""]), Err(GlobError::Empty));
        assert_eq!(
            Rooms::parse(&["x".repeat(257)]),
            Err(GlobError::TooLong(257))
        );
        assert_eq!(
            Rooms::parse(&["a\u{7}"]),
            Err(GlobError::Character('\u{7}'))
        );
        assert_eq!(Rooms::parse(&vec!["a"; 65]), Err(GlobError::TooMany(65)));
        assert!(Rooms::parse(&vec!["a"; 64]).is_ok());
    }

    #[test]
    fn hostile_patterns_are_answered_quickly() {
        let hostile = "*a".repeat(128);
        let rooms = Rooms::parse(&vec![hostile.as_str(); 64]).unwrap();
        let name = format!("{}b", "a".repeat(255));
        let start = Instant::now();
        assert!((0..100).all(|_| !rooms.matches(&name)));
        // 6,400 matches; backtracking would not end in a lifetime.
        assert!(start.elapsed().as_secs() < 5);
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &name), plain(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
