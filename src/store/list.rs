//! Statements over a list of ids: `… IN ($1, $2, …)`.
//!
//! A database compiles each text once, so there are few lengths: a list is cut and filled up with
//! its last id, which changes nothing in an `IN`.

use std::sync::OnceLock;

use crate::backend::statement::{Statement, Value};

/// A text with a list in it, `{}`, in all its lengths. Other arguments come first.
pub(super) struct Listing {
    text: &'static str,
    /// How many arguments come before the list.
    before: usize,
    texts: [OnceLock<String>; LENGTHS.len()],
}

impl Listing {
    pub(super) const fn new(text: &'static str, before: usize) -> Self {
        Self {
            text,
            before,
            texts: [const { OnceLock::new() }; LENGTHS.len()],
        }
    }

    /// The statements for a list; none for an empty one. An id that is given twice may be found
    /// twice, in two statements.
    pub(super) fn statements(&'static self, first: &[Value], list: &[Value]) -> Vec<Statement> {
        let cut = list.chunks(LENGTHS[LENGTHS.len() - 1]);
        cut.map(|ids| self.statement(first, ids)).collect()
    }

    fn statement(&'static self, first: &[Value], ids: &[Value]) -> Statement {
        let size = LENGTHS.iter().position(|length| ids.len() <= *length);
        let size = size.unwrap_or(LENGTHS.len() - 1);
        let sql = self.texts[size].get_or_init(|| self.of(LENGTHS[size]));
        let last = ids.last().cloned().unwrap_or_default();
        let fill = std::iter::repeat_n(last, LENGTHS[size].saturating_sub(ids.len()));
        let list = ids.iter().cloned().chain(fill);
        Statement::new(sql, first.iter().cloned().chain(list))
    }

    fn of(&self, length: usize) -> String {
        let names: Vec<String> = (1..=length)
            .map(|n| format!("${}", self.before + n))
            .collect();
        self.text.replace("{}", &names.join(", "))
    }
}

/// One id, a few, a page, many.
const LENGTHS: [usize; 4] = [1, 8, 64, 512];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_and_filled_up() {
        static LISTING: Listing = Listing::new("WHERE a = $1 AND b IN ({})", 1);
        let ids: Vec<Value> = (0..515_i64).map(Value::from).collect();
        assert!(LISTING.statements(&[Value::Null], &[]).is_empty());
        let one = LISTING.statements(&[Value::Null], &ids[..1]);
        assert_eq!(one[0].sql, "WHERE a = $1 AND b IN ($2)");
        let many = LISTING.statements(&[Value::Null], &ids);
        let lengths: Vec<_> = many.iter().map(|s| s.args.len()).collect();
        assert_eq!(lengths, [513, 9]);
        assert_eq!(many[1].args[3..], vec![Value::Integer(514); 6]);
    }
}
