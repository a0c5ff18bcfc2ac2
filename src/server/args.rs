//! What an event carries, as JSON text made once.

use bytes::Bytes;
use serde::Serialize;

/// The arguments of an event: the inside of the JSON array after the name, and attachments.
///
/// Where there are attachments the text holds their placeholders,
/// `{"_placeholder":true,"num":0}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// JSON values separated by commas; empty for none.
    pub json: String,
    /// Binary attachments in the order of their placeholders' numbers.
    pub attachments: Vec<Bytes>,
}

/// One argument: any value that serialises.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

/// Anything that can be the arguments of an event.
pub trait IntoArgs {
    /// Encodes the arguments.
    fn into_args(self) -> Args;
}

impl IntoArgs for Args {
    fn into_args(self) -> Args {
        self
    }
}

impl<T: Serialize> IntoArgs for Json<T> {
    fn into_args(self) -> Args {
        Args {
            json: encode(&self.0),
            attachments: Vec::new(),
        }
    }
}

impl IntoArgs for () {
    fn into_args(self) -> Args {
        Args::default()
    }
}

/// A value that cannot be JSON (a map with keys that are no text) becomes `null`, as it does for
/// clients of the reference server.
fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))+) => {$(
        impl<$($name: Serialize),+> IntoArgs for &($($name,)+) {
            fn into_args(self) -> Args {
                let parts = [$(encode(&self.$index)),+];
                Args { json: parts.join(","), attachments: Vec::new() }
            }
        }
    )+};
}
tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_become_the_inside_of_an_array() {
        assert_eq!((&(1, "two", [3])).into_args().json, r#"1,"two",[3]"#);
        assert_eq!(().into_args().json, "");
        assert_eq!(
            Json(serde_json::json!({"a": 1})).into_args().json,
            r#"{"a":1}"#
        );
    }
}
