//! Keeps the shape of the source tree: layers, doors to third-party crates, file size.
//!
//! These are the rules that reviewers would otherwise have to remember. A failure names the file,
//! the line and the rule; to change a rule, change the table here and `ARCHITECTURE.md` together.

#![expect(
    clippy::unwrap_used,
    reason = "a tree that cannot be read fails the test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder or root file of `src/`, lowest layer first. A part may import only from lower layers.
const LAYERS: &[&[&str]] = &[
    &["types"],
    &["config"],
    &["telemetry"],
    &["lifecycle", "placement"],
    &["protocol", "events", "backend"],
    &[
        "rooms", "eventlog", "timeline", "cluster", "archive", "auth", "limits", "loadgen",
    ],
    &["store"],
    &["directory"],
    &["accounts"],
    &["server"],
    &["delivery"],
    &["handlers"],
    &["transport", "api", "web"],
    &["edge"],
    &["app"],
    &["cli"],
];

/// Parts that never touch the outside world: no sockets, no clock, no randomness, no runtime.
const PURE: &[&str] = &["types", "protocol", "events", "placement"];
const IMPURE: &[&str] = &[
    "tokio::",
    "hyper::",
    "Instant::now",
    "SystemTime::now",
    "rand::",
];

/// The only places that may name each third-party crate.
const DOORS: &[(&str, &[&str])] = &[
    (
        "redis::",
        &[
            "backend/redis/",
            "backend/cache/shared.rs",
            "timeline/redis/",
            "cluster/redis/",
            "cluster/emitter/",
            "cluster/membership/redis.rs",
            "cluster/presence/redis/",
            "cluster/recovery/redis/",
            "limits/redis/",
        ],
    ),
    ("moka::", &["backend/cache/"]),
    ("opentelemetry", &["telemetry/trace/"]),
    ("rdkafka::", &["backend/kafka.rs", "eventlog/kafka/"]),
    (
        "sqlx::",
        &[
            "backend/error.rs",
            "backend/postgres/",
            "backend/sql.rs",
            "archive/postgres.rs",
            "archive/sql.rs",
            "eventlog/sql.rs",
            "auth/accounts.rs",
        ],
    ),
    ("rustls::", &["edge/tls.rs", "backend/", "loadgen/"]),
    (
        "fastwebsockets::",
        &["transport/reader.rs", "transport/request.rs", "loadgen/"],
    ),
];

/// Lines of code in one file, its inline tests not counted.
const CODE_LINES_MAX: usize = 500;

#[test]
fn imports_point_down() {
    let layer: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(depth, parts)| parts.iter().map(move |part| (*part, depth)))
        .collect();
    each_line(|file, number, line| {
        // A grouped or climbing import would hide the part it reaches for.
        for hidden in ["crate::{", "super::super"] {
            assert!(
                !line.contains(hidden),
                "{file}:{number}: spell out `{hidden}`"
            );
        }
        let from = part_of(file);
        for to in line.split("crate::").skip(1).map(first_word) {
            let (Some(from_layer), Some(to_layer)) = (layer.get(from), layer.get(to)) else {
                continue;
            };
            let allowed = from == to || to_layer < from_layer;
            assert!(allowed, "{file}:{number}: `{from}` may not import `{to}`");
        }
    });
}

#[test]
fn pure_parts_stay_pure() {
    each_line(|file, number, line| {
        if PURE.contains(&part_of(file)) {
            for word in IMPURE {
                assert!(
                    !line.contains(word),
                    "{file}:{number}: `{word}` in a pure part"
                );
            }
        }
    });
}

#[test]
fn third_party_crates_enter_by_their_door() {
    each_line(|file, number, line| {
        for (word, doors) in DOORS {
            let through_door = doors.iter().any(|door| file.starts_with(door));
            assert!(
                through_door || !names_crate(line, word),
                "{file}:{number}: `{word}` outside {doors:?}"
            );
        }
    });
}

#[test]
fn mode_is_chosen_in_one_place() {
    each_line(|file, number, line| {
        let may_choose = matches!(part_of(file), "config" | "app");
        assert!(
            may_choose || !names_crate(line, "Mode::"),
            "{file}:{number}: only `app` chooses by mode"
        );
    });
}

#[test]
fn files_stay_small() {
    for (file, text) in sources() {
        let lines = code(&text).lines().count();
        assert!(
            lines <= CODE_LINES_MAX,
            "{file}: {lines} lines, the limit is {CODE_LINES_MAX}"
        );
    }
}

/// All libraries of functions are loaded into one server, where a second library with a function of the
/// same name is refused.
#[test]
fn functions_on_a_server_have_one_name_each() {
    let mut known: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in files("lua") {
        let text = fs::read_to_string(&path).unwrap();
        for name in text.split('\'').filter(|word| word.starts_with("vb1_")) {
            let before = known.insert(name.to_owned(), path.clone());
            assert!(before.is_none(), "{name}: in {before:?} and {path:?}");
        }
    }
    assert!(!known.is_empty());
}

fn each_line(mut check: impl FnMut(&str, usize, &str)) {
    for (file, text) in sources() {
        for (index, line) in code(&text).lines().enumerate() {
            if !line.trim_start().starts_with("//") {
                check(&file, index + 1, line);
            }
        }
    }
}

/// Everything before the inline test module, which by convention is last in its file.
fn code(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or(text)
}

/// True if `word` stands at the start of a path; `self::redis::Bus` does not name the `redis` crate.
fn names_crate(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

fn part_of(file: &str) -> &str {
    file.split('/')
        .next()
        .unwrap_or(file)
        .trim_end_matches(".rs")
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap_or("")
}

fn sources() -> Vec<(String, String)> {
    let root = root();
    let read = |path: PathBuf| {
        let file = path.strip_prefix(&root).unwrap();
        let file = file.to_string_lossy().into_owned();
        (file, fs::read_to_string(&path).unwrap())
    };
    files("rs").into_iter().map(read).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The files of `src/` with this ending, in order.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut queue = vec![root()];
    while let Some(path) = queue.pop() {
        if path.is_dir() {
            queue.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|ext| ext == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}
