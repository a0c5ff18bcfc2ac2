//! Stage one: a TOML file, taken apart into values by path. Unknown keys are refused.

use std::fs;
use std::path::Path;

use toml::Value as Toml;

use super::mistake::{Mistake, Source};
use super::reader::Reader;
use super::section::{Table, join};

/// Reads a file into the reader. What cannot be read or parsed is noted.
pub(super) fn read(path: &Path, tables: &[Table], reader: &mut Reader) {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let mistake = Mistake {
                key: "--config".to_owned(),
                value: Some(path.display().to_string()),
                allowed: format!("the file cannot be read: {error}"),
                source: Source::File,
            };
            return reader.note_at(mistake);
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => take_apart("", table, tables, reader),
        Err(error) => {
            // Not the error's own text: it quotes the line, which may hold a secret.
            let (line, column) = place(&text, error.span().map_or(0, |span| span.start));
            reader.note_at(Mistake {
                key: format!("{}:{line}:{column}", path.display()),
                value: None,
                allowed: format!("not valid TOML: {}", error.message()),
                source: Source::File,
            });
        }
    }
}

fn take_apart(path: &str, table: toml::Table, tables: &[Table], reader: &mut Reader) {
    for (key, value) in table {
        let path = join(path, &key);
        match value {
            Toml::Table(inner) if tables.iter().any(|table| table.path == path) => {
                take_apart(&path, inner, tables, reader);
            }
            value => reader.set(path, value, Source::File),
        }
    }
}

/// Notes everything that no section asked for.
pub(super) fn refuse_leftovers(tables: &[Table], reader: &mut Reader) {
    for (path, source) in reader.leftovers() {
        let allowed = if tables.iter().any(|table| table.path == path) {
            format!("is a table: write [{path}]")
        } else {
            let owner = path.rsplit_once('.').map_or("", |(owner, _)| owner);
            unknown(owner, tables)
        };
        reader.note_at(Mistake {
            key: path,
            value: None,
            allowed,
            source,
        });
    }
}

/// What to say about a key that the table `owner` does not have.
pub(super) fn unknown(owner: &str, tables: &[Table]) -> String {
    // A dotted key may lead through tables that do not exist; name the nearest that does.
    let mut owner = owner;
    let table = loop {
        match tables.iter().find(|table| table.path == owner) {
            Some(table) => break table,
            None => owner = owner.rsplit_once('.').map_or("", |(outer, _)| outer),
        }
    };
    let own = table.keys.iter().map(|key| key.path.as_str());
    let inner = tables.iter().map(|table| table.path).filter(|path| {
        path.rsplit_once('.').map_or("", |(outer, _)| outer) == table.path && !path.is_empty()
    });
    let prefix = join(table.path, "");
    let strip = |path: &str| path.strip_prefix(&prefix).unwrap_or(path).to_owned();
    let names: Vec<String> = own.chain(inner).map(strip).collect();
    let place = if owner.is_empty() {
        "the file".to_owned()
    } else {
        format!("[{owner}]")
    };
    format!("unknown key; {place} has {}", names.join(", "))
}

/// Line and column of a byte offset, both from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}
