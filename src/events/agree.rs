//! What must hold between the rows of a catalogue.

use std::collections::{HashMap, HashSet};

use crate::events::catalogue::{Durability, Row};
use crate::events::coded::CODED;

/// Every mistake.
pub(super) fn check(rows: &[Row]) -> Vec<String> {
    let mut mistakes = clashes(rows);
    let by_type: HashMap<&str, &Row> = rows.iter().map(|row| (&*row.kind, row)).collect();
    for row in rows {
        emitted(row, &by_type, &mut mistakes);
    }
    mistakes.extend(circle(rows, &by_type));
    mistakes
}

/// Client events that two rows claim, or a row and code.
fn clashes(rows: &[Row]) -> Vec<String> {
    let (mut clients, mut clashes) = (HashSet::new(), Vec::new());
    for client in rows.iter().filter_map(|row| row.client.as_deref()) {
        if CODED.iter().any(|coded| coded.name == client) {
            clashes.push(format!(
                "client event {client:?} is handled by the program itself"
            ));
        }
        if !clients.insert(client) {
            clashes.push(format!("client event {client:?} is there twice"));
        }
    }
    clashes
}

/// Whether what a row emits is what the emitted rows want.
fn emitted(row: &Row, by_type: &HashMap<&str, &Row>, mistakes: &mut Vec<String>) {
    for emit in &row.emits {
        let (from, to) = (&row.kind, &emit.kind);
        let Some(target) = by_type.get(&**to) else {
            mistakes.push(format!(
                "event {from} emits {to:?}, which is not in the catalogue"
            ));
            continue;
        };
        let given = |name: &str| emit.data.iter().any(|(known, _)| known == name);
        for (name, _) in &emit.data {
            if !target.schema.names(name) {
                mistakes.push(format!(
                    "event {from} emits {to} with data.{name}, which its schema does not name"
                ));
            }
        }
        for property in target.schema.properties() {
            if property.is_required && !given(&property.name) {
                mistakes.push(format!(
                    "event {from} emits {to} without data.{}, which its schema requires",
                    property.name
                ));
            }
        }
        if row.durability == Durability::Ephemeral {
            mistakes.push(format!("event {from} is ephemeral and emits nothing"));
        }
    }
}

/// The first circle of rows that emit each other, if there is one: it would never end.
fn circle(rows: &[Row], by_type: &HashMap<&str, &Row>) -> Option<String> {
    let mut done = HashSet::new();
    for row in rows {
        let mut path = Vec::new();
        if walk(row, by_type, (&mut path, &mut done)) {
            return Some(format!(
                "events emit each other in a circle: {}",
                path.join(", ")
            ));
        }
    }
    None
}

/// True when a circle was found; then the path ends with it.
fn walk<'r>(
    row: &'r Row,
    by_type: &HashMap<&str, &'r Row>,
    (path, done): (&mut Vec<&'r str>, &mut HashSet<&'r str>),
) -> bool {
    if let Some(at) = path.iter().position(|kind| **kind == *row.kind) {
        path.drain(..at);
        path.push(&row.kind);
        return true;
    }
    if !done.insert(&row.kind) {
        return false;
    }
    path.push(&row.kind);
    for next in row.emits.iter().filter_map(|e| by_type.get(&*e.kind)) {
        if walk(next, by_type, (path, done)) {
            return true;
        }
    }
    path.pop();
    false
}
