//! Partitions of topics, as a node tells the others which ones it pumps.
//!
//! Written down, a topic is a hexadecimal digit for each four partitions, the first four first: of 1,024
//! partitions 256 bytes, whoever has which of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A set of partitions, by topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Partitions(BTreeMap<Arc<str>, BTreeSet<u32>>);

/// What another node says of itself is not believed beyond this.
const NUMBER_MAX: u32 = 16_383;

impl Partitions {
    /// Adds one.
    pub fn insert(&mut self, topic: &Arc<str>, partition: u32) {
        if partition <= NUMBER_MAX {
            let topic = self.0.entry(Arc::clone(topic)).or_default();
            topic.insert(partition);
        }
    }

    /// Takes one away.
    pub fn remove(&mut self, topic: &str, partition: u32) {
        if let Some(numbers) = self.0.get_mut(topic) {
            numbers.remove(&partition);
            if numbers.is_empty() {
                self.0.remove(topic);
            }
        }
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, topic: &str, partition: u32) -> bool {
        let numbers = self.0.get(topic);
        numbers.is_some_and(|numbers| numbers.contains(&partition))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        let topics = self.0.iter();
        topics.flat_map(|(topic, numbers)| numbers.iter().map(move |number| (topic, *number)))
    }
}

impl FromIterator<(Arc<str>, u32)> for Partitions {
    fn from_iter<T: IntoIterator<Item = (Arc<str>, u32)>>(all: T) -> Self {
        let mut partitions = Self::default();
        for (topic, partition) in all {
            partitions.insert(&topic, partition);
        }
        partitions
    }
}

/// What is no digit stands for none: a node is not unknown because of what it pumps.
impl From<BTreeMap<String, String>> for Partitions {
    fn from(written: BTreeMap<String, String>) -> Self {
        let digits = |text: &str| {
            let places = (0..=NUMBER_MAX)
                .step_by(4)
                .zip(text.chars().collect::<Vec<_>>());
            let bits = places.flat_map(|(first, digit)| {
                let bits = digit.to_digit(16).unwrap_or(0);
                (0..4)
                    .filter(move |bit| bits & (1 << bit) != 0)
                    .map(move |bit| first + bit)
            });
            bits.collect::<BTreeSet<u32>>()
        };
        let topics = written
            .into_iter()
            .map(|(topic, text)| (Arc::from(topic), digits(&text)));
        Self(topics.filter(|(_, numbers)| !numbers.is_empty()).collect())
    }
}

impl From<Partitions> for BTreeMap<String, String> {
    fn from(partitions: Partitions) -> Self {
        let written = |numbers: &BTreeSet<u32>| {
            let last = numbers.last().copied().unwrap_or(0);
            let digit = |first: u32| {
                let bits = (0..4).filter(|bit| numbers.contains(&(first + bit)));
                char::from_digit(bits.fold(0, |bits, bit| bits | 1 << bit), 16).unwrap_or('0')
            };
            (0..=last).step_by(4).map(digit).collect::<String>()
        };
        let topics = partitions.0.iter();
        topics
            .map(|(topic, numbers)| (topic.to_string(), written(numbers)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            all in prop::collection::vec(("[a-c]", 0..=NUMBER_MAX), 0..40),
        ) {
            let all = all.into_iter().map(|(topic, number)| (Arc::from(topic), number));
            let partitions: Partitions = all.collect();
            let json = serde_json::to_string(&partitions).unwrap();
            prop_assert_eq!(serde_json::from_str::<Partitions>(&json).unwrap(), partitions);
        }
    }

    #[test]
    fn it_is_short_and_nonsense_is_nothing() {
        let topic: Arc<str> = Arc::from("messages");
        let mut partitions: Partitions = [0, 3, 6, 9]
            .map(|n| (Arc::clone(&topic), n))
            .into_iter()
            .collect();
        let json = r#"{"messages":"942"}"#;
        assert_eq!(serde_json::to_string(&partitions).unwrap(), json);
        assert!(partitions.contains("messages", 6) && !partitions.contains("messages", 5));
        assert_eq!(partitions.len(), 4);
        for number in [0, 3, 6, 9, 10] {
            partitions.remove("messages", number);
        }
        assert!(partitions.is_empty());
        partitions.insert(&topic, u32::MAX);
        assert!(partitions.is_empty());
        let odd: Partitions = serde_json::from_str(r#"{"a":"zü1","b":"zz"}"#).unwrap();
        assert_eq!(odd.iter().collect::<Vec<_>>(), [(&Arc::from("a"), 8)]);
        let long = format!(r#"{{"a":"{}"}}"#, "f".repeat(1 << 20));
        let long: Partitions = serde_json::from_str(&long).unwrap();
        assert_eq!(long.len(), 16_384);
    }
}
