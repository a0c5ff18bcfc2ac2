//! How each type of value is read from TOML, shown, and described to somebody who got it wrong.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use toml::Value as Toml;

use crate::types::{ByteSize, NodeId, Rate, Secret, Span};

/// The shape of a value, which decides how the text of an environment variable is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Taken as it stands; a quoted TOML string is unquoted.
    Text,
    /// A TOML number or boolean.
    Scalar,
    /// A TOML array, or items separated by commas.
    List,
}

/// A type that a key of the configuration can have.
pub(super) trait Value: Sized {
    /// Its shape.
    const SHAPE: Shape = Shape::Text;
    /// True if a value must not be shown, also when it is wrong.
    const IS_SECRET: bool = false;

    /// What is allowed, to stand after "must be".
    fn allowed() -> String;

    /// Reads a value; the error says what is allowed.
    fn read(value: &Toml) -> Result<Self, String>;

    /// Writes a value so that it reads back.
    fn show(&self) -> Toml;
}

/// A value whose text form is `FromStr` and `Display`.
macro_rules! text_value {
    ($type:ty, $allowed:literal) => {
        impl Value for $type {
            fn allowed() -> String {
                $allowed.to_owned()
            }

            fn read(value: &Toml) -> Result<Self, String> {
                value
                    .as_str()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(Self::allowed)
            }

            fn show(&self) -> Toml {
                Toml::String(self.to_string())
            }
        }
    };
}
text_value!(
    Span,
    r#"a duration like "250ms", "25s", "5m", "1h" or "7d""#
);
text_value!(ByteSize, r#"a size like "512B", "64KiB" or "1MB""#);
text_value!(
    Rate,
    r#"a number and a duration, both above zero, like "30/1m" or "1000/1h""#
);
text_value!(
    SocketAddr,
    r#"an IP address with a port, like "127.0.0.1:8080" or "[::1]:8080""#
);

impl Value for String {
    fn allowed() -> String {
        "a text".to_owned()
    }

    fn read(value: &Toml) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(Self::allowed)
    }

    fn show(&self) -> Toml {
        Toml::String(self.clone())
    }
}

impl Value for Secret<String> {
    const IS_SECRET: bool = true;

    fn allowed() -> String {
        "a text".to_owned()
    }

    fn read(value: &Toml) -> Result<Self, String> {
        String::read(value).map(Self::new)
    }

    fn show(&self) -> Toml {
        Toml::String("***".to_owned())
    }
}

impl Value for PathBuf {
    fn allowed() -> String {
        "the path of a file or folder".to_owned()
    }

    fn read(value: &Toml) -> Result<Self, String> {
        let path = value
            .as_str()
            .filter(|text| !text.is_empty() && !text.contains('\0'));
        path.map(Self::from).ok_or_else(Self::allowed)
    }

    fn show(&self) -> Toml {
        Toml::String(self.display().to_string())
    }
}

impl Value for NodeId {
    fn allowed() -> String {
        "1 to 64 letters, digits, \"-\", \"_\" and \".\"".to_owned()
    }

    fn read(value: &Toml) -> Result<Self, String> {
        value
            .as_str()
            .and_then(|text| Self::parse(text).ok())
            .ok_or_else(Self::allowed)
    }

    fn show(&self) -> Toml {
        Toml::String(self.to_string())
    }
}

impl Value for IpNet {
    fn allowed() -> String {
        r#"an IP address or network, like "10.0.0.7" or "10.0.0.0/8""#.to_owned()
    }

    fn read(value: &Toml) -> Result<Self, String> {
        let text = value.as_str().unwrap_or_default();
        let net = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(Self::from));
        net.map_err(|_| Self::allowed())
    }

    fn show(&self) -> Toml {
        Toml::String(self.to_string())
    }
}

impl Value for bool {
    const SHAPE: Shape = Shape::Scalar;

    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn read(value: &Toml) -> Result<Self, String> {
        value.as_bool().ok_or_else(Self::allowed)
    }

    fn show(&self) -> Toml {
        Toml::Boolean(*self)
    }
}

macro_rules! integer_value {
    ($($type:ty)*) => {$(
        impl Value for $type {
            const SHAPE: Shape = Shape::Scalar;

            fn allowed() -> String {
                "a whole number".to_owned()
            }

            fn read(value: &Toml) -> Result<Self, String> {
                let number = value.as_integer().and_then(|number| Self::try_from(number).ok());
                number.ok_or_else(Self::allowed)
            }

            fn show(&self) -> Toml {
                Toml::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }
    )*};
}
integer_value!(u32 usize);

/// An optional value; the empty text means that it is not set.
impl<T: Value> Value for Option<T> {
    const SHAPE: Shape = T::SHAPE;
    const IS_SECRET: bool = T::IS_SECRET;

    fn allowed() -> String {
        format!("{}, or \"\" for none", T::allowed())
    }

    fn read(value: &Toml) -> Result<Self, String> {
        match value.as_str() {
            Some("") => Ok(None),
            _ => T::read(value).map(Some).map_err(|_| Self::allowed()),
        }
    }

    fn show(&self) -> Toml {
        self.as_ref()
            .map_or_else(|| Toml::String(String::new()), T::show)
    }
}

/// A list; the error names the item that is wrong.
impl<T: Value> Value for Vec<T> {
    const SHAPE: Shape = Shape::List;
    const IS_SECRET: bool = T::IS_SECRET;

    fn allowed() -> String {
        format!("a list, each item {}", T::allowed())
    }

    fn read(value: &Toml) -> Result<Self, String> {
        value
            .as_array()
            .ok_or_else(Self::allowed)?
            .iter()
            .map(|item| T::read(item).map_err(|_| format!("{}; {item} is not", Self::allowed())))
            .collect()
    }

    fn show(&self) -> Toml {
        Toml::Array(self.iter().map(T::show).collect())
    }
}
