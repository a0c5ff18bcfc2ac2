//! What a section is: its keys with their documentation, defaults and limits, declared once.
//!
//! The struct, its default, the reader and the printed example all come from one declaration, so
//! none of them can fall behind another.

use toml::Value as Toml;

use super::reader::Reader;
use super::value::Shape;

/// A key as it is documented and printed.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its full path, for example `edge.tls.certificate`.
    pub path: String,
    /// Its documentation, line by line, each with a leading space.
    pub doc: &'static [&'static str],
    /// How the text of an environment variable is understood.
    pub shape: Shape,
    /// Its default.
    pub default: Toml,
    /// The limits of its value, where it has some.
    pub limits: Option<(Toml, Toml)>,
}

/// A table of the file, as it is documented and printed.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its full path; empty for the top of the file.
    pub path: &'static str,
    /// Its documentation, line by line, each with a leading space.
    pub doc: &'static [&'static str],
    /// Its keys.
    pub keys: Vec<Key>,
}

/// A section of the configuration.
pub(super) trait Section: Sized {
    /// Describes its table and those inside it.
    fn describe(out: &mut Vec<Table>);

    /// Takes its keys out of the reader.
    fn read(reader: &mut Reader) -> Self;
}

/// The full path of a key in a table.
pub(super) fn join(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    }
}

/// Declares a section: `Name = "path" { /// doc  key: Type = default, in low => high; … }`, then
/// optionally the tables inside it: `contains { key: Section }`.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $name:ident = $path:literal {
            $(
                $(#[doc = $key_doc:literal])*
                $key:ident : $type:ty = $default:expr $(, in $low:expr => $high:expr)? ;
            )*
        }
        $(contains { $($table:ident : $table_type:ty),* $(,)? })?
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $key_doc])* pub $key: $type, )*
            $($(
                #[doc = concat!("The table `", stringify!($table), "`.")]
                pub $table: $table_type,
            )*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $key: $default, )*
                    $($( $table: Default::default(), )*)?
                }
            }
        }

        impl $crate::config::section::Section for $name {
            fn describe(out: &mut Vec<$crate::config::section::Table>) {
                use $crate::config::section::{join, Key, Table};
                out.push(Table {
                    path: $path,
                    doc: &[$($doc),*],
                    keys: vec![$(
                        Key {
                            path: join($path, stringify!($key)),
                            doc: &[$($key_doc),*],
                            shape: <$type as $crate::config::value::Value>::SHAPE,
                            default: $crate::config::value::Value::show(&Self::default().$key),
                            limits: $crate::config::section::limits!($type $(, $low, $high)?),
                        },
                    )*],
                });
                $($( <$table_type as $crate::config::section::Section>::describe(out); )*)?
            }

            fn read(reader: &mut $crate::config::reader::Reader) -> Self {
                use $crate::config::section::{join, read_key};
                Self {
                    $( $key: {
                        let path = join($path, stringify!($key));
                        read_key!(reader, path, $default $(, $low, $high)?)
                    }, )*
                    $($( $table: $crate::config::section::Section::read(reader), )*)?
                }
            }
        }
    };
}

macro_rules! limits {
    ($type:ty) => {
        None
    };
    ($type:ty, $low:expr, $high:expr) => {{
        let (low, high): ($type, $type) = ($low, $high);
        Some((
            $crate::config::value::Value::show(&low),
            $crate::config::value::Value::show(&high),
        ))
    }};
}

macro_rules! read_key {
    ($reader:ident, $path:expr, $default:expr) => {
        $reader.take(&$path, $default)
    };
    ($reader:ident, $path:expr, $default:expr, $low:expr, $high:expr) => {
        $reader.take_in(&$path, $default, ($low, $high))
    };
}

/// Declares a closed set of words: `/// doc  Name { /// doc  Variant = "word", … }`.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])*
        $name:ident {
            $( $(#[doc = $variant_doc:literal])* $variant:ident = $text:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $variant_doc])* $variant,)* }

        impl $name {
            /// Every choice.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in the configuration.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl $crate::config::value::Value for $name {
            fn allowed() -> String {
                let quoted = Self::ALL.iter().map(|word| format!("{:?}", word.text()));
                quoted.collect::<Vec<_>>().join(" or ")
            }

            fn read(value: &toml::Value) -> Result<Self, String> {
                let text = value.as_str().unwrap_or_default();
                let found = Self::ALL.iter().find(|word| word.text() == text).copied();
                found.ok_or_else(<Self as $crate::config::value::Value>::allowed)
            }

            fn show(&self) -> toml::Value {
                toml::Value::String(self.text().to_owned())
            }
        }
    };
}

pub(super) use {choice, limits, read_key, section};
