//! What processes have used so far, from `/proc`: CPU of all threads, resident memory.
//!
//! The kernel reports CPU in ticks of 10 ms, so a difference over a run of some seconds is good to
//! about one part in a hundred. Linux only.

use std::fs;
use std::ops::{Add, Sub};
use std::time::Duration;

use super::Error;

/// CPU since the process began and memory now, summed over the processes asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) user: Duration,
    pub(super) system: Duration,
    pub(super) rss_bytes: u64,
}

/// `USER_HZ`, which Linux fixes at 100 for user space on every architecture we run on.
const TICK: Duration = Duration::from_millis(10);

impl Usage {
    /// The usage of `pids` together.
    pub(super) fn of(pids: &[u32]) -> Result<Self, Error> {
        pids.iter().try_fold(Self::default(), |sum, pid| {
            Ok(sum + Self::read(&pid.to_string())?)
        })
    }

    /// The usage of this process.
    pub(super) fn own() -> Result<Self, Error> {
        Self::read("self")
    }

    pub(super) fn cpu(&self) -> Duration {
        self.user + self.system
    }

    fn read(process: &str) -> Result<Self, Error> {
        let file = |name: &str| {
            let path = format!("/proc/{process}/{name}");
            fs::read_to_string(&path).map_err(|source| Error::Usage { path, source })
        };
        let unreadable = |name: &str| Error::Usage {
            path: format!("/proc/{process}/{name}"),
            source: std::io::ErrorKind::InvalidData.into(),
        };
        let (user, system) = cpu(&file("stat")?).ok_or_else(|| unreadable("stat"))?;
        let rss_bytes = rss(&file("status")?).ok_or_else(|| unreadable("status"))?;
        Ok(Self {
            user,
            system,
            rss_bytes,
        })
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
            rss_bytes: self.rss_bytes + other.rss_bytes,
        }
    }
}

/// The CPU between two moments and the memory of the later one.
impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            rss_bytes: self.rss_bytes,
        }
    }
}

/// Fields 14 and 15 of `stat`. The second field is the program's name, in parentheses, and may hold
/// anything, parentheses and spaces included.
fn cpu(stat: &str) -> Option<(Duration, Duration)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest
        .split_ascii_whitespace()
        .skip(11)
        .map(|field| field.parse::<u32>().ok());
    Some((TICK * ticks.next()??, TICK * ticks.next()??))
}

fn rss(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// How many descriptors this process may open, if it says.
pub(super) fn descriptors_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_hides_nothing() {
        let stat = "7 (a ) (b) S 1 7 7 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 3 0 9 1 2";
        let ms = Duration::from_millis;
        assert_eq!(cpu(stat), Some((ms(2_500), ms(750))));
        assert_eq!(cpu("7 (x) S 1"), None);
        assert_eq!(rss("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
    }

    #[test]
    fn this_process_has_memory_and_a_missing_one_is_named() {
        assert!(Usage::own().unwrap().rss_bytes > 100_000);
        assert!(descriptors_max().unwrap() > 16);
        let error = Usage::of(&[u32::MAX]).unwrap_err().to_string();
        assert!(error.contains(&u32::MAX.to_string()), "{error}");
    }
}
