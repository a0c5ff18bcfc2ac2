//! The mark inside each published event: which run, which publisher, which event, when.
//!
//! Thirty ASCII characters that JSON never escapes, so they are found by a byte search, without
//! parsing what a server wraps around them. The place where the last one stood is tried first:
//! within a run it is nearly always the same.

use memchr::memmem;

/// Who published an event, as its how-maniest, and when (nanoseconds on the run's clock).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) publisher: u16,
    pub(super) seq: u32,
    pub(super) at: u64,
}

/// Writes and finds the stamps of one run.
pub(super) struct Stamps {
    marker: [u8; MARKER],
    hint: usize,
}

/// `~`, run (4 digits), publisher (4), sequence (8), time (12), `~`.
pub(super) const STAMP_BYTES: usize = 30;
const MARKER: usize = 5;
const AT_MAX: u64 = (1 << 48) - 1;

impl Stamps {
    /// The stamps of run `run`; those of other runs are not found.
    pub(super) fn new(run: u16) -> Self {
        let mut marker = [b'~'; MARKER];
        marker[1..].copy_from_slice(format!("{run:04x}").as_bytes());
        Self { marker, hint: 0 }
    }

    /// A text of `bytes` bytes (at least [`STAMP_BYTES`]) that begins with the stamp.
    pub(super) fn content(&self, stamp: Stamp, bytes: usize) -> String {
        let marker = str::from_utf8(&self.marker).expect("`~` and hex digits");
        let Stamp { publisher, seq, at } = stamp;
        let mut text = format!("{marker}{publisher:04x}{seq:08x}{:012x}~", at.min(AT_MAX));
        text.extend(std::iter::repeat_n('x', bytes.saturating_sub(STAMP_BYTES)));
        text
    }

    /// The stamp in `text`, if one of this run is there.
    pub(super) fn find(&mut self, text: &[u8]) -> Option<Stamp> {
        let is_here = |at: usize| text.get(at..at + MARKER) == Some(&self.marker[..]);
        if !is_here(self.hint) {
            self.hint = memmem::find(text, &self.marker)?;
        }
        let body = text.get(self.hint + MARKER..self.hint + STAMP_BYTES)?;
        let (digits, end) = body.split_at(STAMP_BYTES - MARKER - 1);
        if end != b"~" {
            return None;
        }
        Some(Stamp {
            publisher: u16::try_from(hex(&digits[..4])?).ok()?,
            seq: u32::try_from(hex(&digits[4..12])?).ok()?,
            at: hex(&digits[12..])?,
        })
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_wherever_it_moves() {
        let mut stamps = Stamps::new(0xbeef);
        for (n, before) in ["42[\"event\",{\"data\":\"", "", "42[~\"~bee~beef", "~"]
            .iter()
            .enumerate()
        {
            let stamp = Stamp {
                publisher: 0xffff,
                seq: n as u32,
                at: AT_MAX - n as u64,
            };
            let text = format!("{before}{}\"}}]", stamps.content(stamp, 200));
            let is_truncated = before.ends_with("beef");
            assert_eq!(
                stamps.find(text.as_bytes()),
                (!is_truncated).then_some(stamp),
                "{text}"
            );
        }
    }

    #[test]
    fn content_has_the_length_that_was_asked_for() {
        let stamps = Stamps::new(1);
        let stamp = Stamp {
            publisher: 1,
            seq: 2,
            at: 3,
        };
        assert_eq!(stamps.content(stamp, STAMP_BYTES).len(), STAMP_BYTES);
        assert_eq!(stamps.content(stamp, 200).len(), 200);
    }

    #[test]
    fn foreign_runs_and_cut_stamps_are_not_found() {
        let mut ours = Stamps::new(1);
        let stamp = Stamp {
            publisher: 1,
            seq: 2,
            at: 3,
        };
        let theirs = Stamps::new(2).content(stamp, 64);
        assert_eq!(ours.find(theirs.as_bytes()), None);
        let own = ours.content(stamp, STAMP_BYTES);
        for cut in 0..STAMP_BYTES {
            assert_eq!(ours.find(&own.as_bytes()[..cut]), None, "cut at {cut}");
        }
        assert_eq!(ours.find(own.replace('2', "G").as_bytes()), None);
    }
}
