//! What a node counts.

use std::collections::HashMap;

/// The metrics of one moment.
pub(crate) struct Scrape(HashMap<String, f64>);

impl Scrape {
    pub(crate) fn parse(page: &str) -> Self {
        let series = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            });
        Self(series.collect())
    }

    /// The sum of the series that begin with this, `vestibule_` left out: a whole name, or a name
    /// with labels.
    pub(crate) fn sum(&self, series: &str) -> f64 {
        let wanted = format!("vestibule_{series}");
        let is_wanted = |name: &str| {
            let rest = name.strip_prefix(&wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.0
            .iter()
            .filter(|(name, _)| is_wanted(name))
            .map(|(_, value)| value)
            .sum()
    }
}
