//! What a record carries beside its key and value.

use std::sync::Arc;

use bytes::Bytes;

/// Names and values, in the order in which they were given. Embedded logs keep none. Cheap to clone,
/// and costs nothing when there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<[(String, Bytes)]>>);

impl Headers {
    /// These headers.
    #[must_use]
    pub fn new(pairs: Vec<(String, Bytes)>) -> Self {
        Self((!pairs.is_empty()).then(|| pairs.into()))
    }

    /// The first value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        let pairs = self.0.as_deref().unwrap_or_default();
        let (_, value) = pairs.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The same, if it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }
}
