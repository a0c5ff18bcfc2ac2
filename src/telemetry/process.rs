//! What the kernel says about this process, read from `/proc` when the page is asked for.
//!
//! What cannot be read (another system than Linux) is left out.

use std::fmt::Write;
use std::fs;

use super::family::{Sampled, Series};
use super::metrics;

/// Ticks in a second of the times in `/proc`: `USER_HZ`, 100 on every architecture Linux runs on today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends the process metrics to a page.
pub(super) fn render(page: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let system = fs::read_to_string("/proc/stat").unwrap_or_default();
    let started = |ticks: f64| Some(keyed(&system, "btime")? + ticks / TICKS_PER_SECOND);

    write(page, &metrics::PROCESS_CPU, cpu(&stat));
    write(
        page,
        &metrics::PROCESS_MEMORY,
        keyed(&status, "VmRSS:").map(|kib| kib * 1024.0),
    );
    write(page, &metrics::PROCESS_FDS, open_descriptors());
    write(
        page,
        &metrics::PROCESS_FDS_MAX,
        keyed(&limits, "Max open files"),
    );
    write(page, &metrics::PROCESS_THREADS, keyed(&status, "Threads:"));
    write(
        page,
        &metrics::PROCESS_START,
        tick_field(&stat, 22).and_then(started),
    );
}

/// The processor time that this process has used, in seconds; `None` where `/proc` is not there.
#[must_use]
pub fn cpu_seconds() -> Option<f64> {
    cpu(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn cpu(stat: &str) -> Option<f64> {
    let (user, kernel) = tick_field(stat, 14).zip(tick_field(stat, 15))?;
    Some((user + kernel) / TICKS_PER_SECOND)
}

fn write(page: &mut String, sampled: &Sampled, value: Option<f64>) {
    let Some(value) = value else { return };
    let metric = sampled.metric();
    let (name, kind) = (metric.name, metric.kind.text());
    writeln!(
        page,
        "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {value}",
        metric.help
    )
    .expect("writing to a string does not fail");
}

/// Field `number` (from 1, as in proc(5)) of a `stat` line; the second may contain spaces.
fn tick_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number - 3)?.parse().ok()
}

/// The first number on the line that starts with `key`.
fn keyed(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Since Linux 6.2 the folder's size is their number; before that they have to be counted.
fn open_descriptors() -> Option<f64> {
    let folder = "/proc/self/fd";
    let size = fs::metadata(folder).ok()?.len();
    let count = if size > 0 {
        size
    } else {
        fs::read_dir(folder).ok()?.count() as u64
    };
    Some(count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 4711 0";
        assert_eq!(tick_field(stat, 14), Some(250.0));
        assert_eq!(tick_field(stat, 15), Some(50.0));
        assert_eq!(tick_field(stat, 22), Some(4711.0));
        assert_eq!(tick_field("", 14), None);
    }

    #[test]
    fn this_process_has_plausible_values() {
        let mut page = String::new();
        render(&mut page);
        let value = |name: &str| -> f64 {
            let line = page
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")))
                .unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
    }
}
