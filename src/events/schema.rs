//! What an event's data must look like.

/// The rules for the data of one event type. Members that no rule names are allowed and ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schema {
    /// A rule for each of these members.
    Fields(Vec<Field>),
}

/// The rule for one member of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Whether it must be there; `null` is not there.
    pub is_required: bool,
    /// What it must be.
    pub rule: Rule,
}

/// What a member must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// A string of so many bytes of UTF-8.
    Text {
        /// Fewer are invalid.
        bytes_min: usize,
        /// More are too large.
        bytes_max: usize,
    },
    /// A string of 1 to so many bytes without control characters.
    Id {
        /// More are invalid.
        bytes_max: usize,
    },
    /// A whole number, 0 or more.
    Integer,
    /// One of these strings.
    OneOf(Vec<String>),
}

impl Schema {
    /// The members that have a rule.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        match self {
            Self::Fields(fields) => fields,
        }
    }

    /// Whether a member of this name has a rule.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.fields().iter().any(|field| field.name == name)
    }

    /// Whether a member of this name must be there.
    #[must_use]
    pub fn requires(&self, name: &str) -> bool {
        self.fields()
            .iter()
            .any(|field| field.name == name && field.is_required)
    }
}

impl AsRef<str> for Field {
    fn as_ref(&self) -> &str {
        &self.name
    }
}
