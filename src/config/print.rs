//! The example file: every key with its documentation, its limits and its default.

use std::fmt::Write as _;

use super::Config;
use super::section::{Key, Section, Table};

/// The text of `docs/config.example.toml`, which is also what `vestibule default-config` prints.
/// Read back, it is the default configuration.
#[must_use]
pub fn example() -> String {
    let mut tables = Vec::new();
    Config::describe(&mut tables);
    let mut text = HEADER.to_owned();
    for table in &tables {
        write_table(&mut text, table);
    }
    text
}

const HEADER: &str = "\
# Every key of Vestibule's configuration with its default. A file needs only the keys it changes;
# with no file at all the node runs like this.
#
# Overridden by environment variables (VESTIBULE__EDGE__LISTEN=0.0.0.0:8080, lists separated by
# commas) and those by flags. Durations: \"250ms\", \"25s\", \"5m\", \"1h\", \"7d\". Sizes: \"512B\",
# \"64KiB\", \"1MB\". Rates: \"30/1m\". Check a file with: vestibule check-config --config FILE
";

fn write_table(text: &mut String, table: &Table) {
    text.push('\n');
    if !table.path.is_empty() {
        write_doc(text, table.doc);
        write_line(text, format_args!("[{}]", table.path));
        text.push('\n');
    }
    let keys: Vec<String> = table.keys.iter().map(key_text).collect();
    text.push_str(&keys.join("\n"));
}

fn key_text(key: &Key) -> String {
    let mut text = String::new();
    write_doc(&mut text, key.doc);
    if let Some((low, high)) = &key.limits {
        write_line(&mut text, format_args!("# Allowed: {low} to {high}."));
    }
    let name = key.path.rsplit('.').next().unwrap_or(&key.path);
    write_line(&mut text, format_args!("{name} = {}", key.default));
    text
}

fn write_doc(text: &mut String, doc: &[&str]) {
    for line in doc {
        write_line(text, format_args!("#{}", line.replace('`', "")));
    }
}

fn write_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}
