//! What the server's caches answered, from its metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::{HeaderValue, StatusCode};

use super::account::CacheUse;
use super::http::{Link, Question};
use crate::loadgen::Error;

/// Hits and first misses so far, by cache.
pub(super) type Counts = BTreeMap<String, CacheUse>;

const HITS: &str = "vestibule_cache_hits_total{";
const MISSES: &str = "vestibule_cache_misses_total{";

/// Reads the counters of all nodes together; none without an address.
pub(super) async fn read(operations: &[SocketAddr]) -> Result<Counts, Error> {
    let mut counts = Counts::new();
    for address in operations {
        for (name, one) in read_one(*address).await? {
            let sum = counts.entry(name).or_default();
            sum.lookups += one.lookups;
            sum.hits += one.hits;
        }
    }
    Ok(counts)
}

async fn read_one(operations: SocketAddr) -> Result<Counts, Error> {
    let nobody = HeaderValue::from_static("none");
    let question = Question::get("/metrics".to_owned(), &nobody);
    let (status, body) = Link::new(operations)
        .ask(question)
        .await
        .map_err(|error| Error::Plan(format!("{operations} gives no metrics: {error}")))?;
    if status != StatusCode::OK {
        return Err(Error::Plan(format!("the metrics were answered {status}")));
    }
    Ok(parse(&String::from_utf8_lossy(&body)))
}

/// A look-up begins at the first level: its misses are what it did not have. A hit at any level is
/// one.
fn parse(text: &str) -> Counts {
    let mut counts = Counts::new();
    for line in text.lines() {
        let (labels, is_hit) = match (line.strip_prefix(HITS), line.strip_prefix(MISSES)) {
            (Some(labels), _) => (labels, true),
            (None, Some(labels)) => (labels, false),
            (None, None) => continue,
        };
        let Some((labels, value)) = labels.split_once("} ") else {
            continue;
        };
        let (Some(cache), Some(level)) = (label(labels, "cache"), label(labels, "level")) else {
            continue;
        };
        let value = value.trim().parse::<f64>().unwrap_or_default() as u64;
        let count = counts.entry(cache.to_owned()).or_default();
        if is_hit {
            count.hits += value;
            if level == "l1" {
                count.lookups += value;
            }
        } else if level == "l1" {
            count.lookups += value;
        }
    }
    counts
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

/// What was counted from `before` to `after`; caches that nobody asked are left out.
pub(super) fn between(before: &Counts, after: &Counts) -> Counts {
    let grown = after.iter().map(|(name, after)| {
        let before = before.get(name).copied().unwrap_or_default();
        let grown = CacheUse {
            lookups: after.lookups.saturating_sub(before.lookups),
            hits: after.hits.saturating_sub(before.hits),
        };
        (name.clone(), grown)
    });
    grown.filter(|(_, grown)| grown.lookups > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_that_a_lower_level_answers_is_one_look_up_and_a_hit() {
        let text = "# HELP vestibule_cache_hits_total x\n\
            vestibule_cache_hits_total{cache=\"users\",level=\"l1\"} 90\n\
            vestibule_cache_misses_total{cache=\"users\",level=\"l1\"} 10\n\
            vestibule_cache_hits_total{cache=\"users\",level=\"l2\"} 6\n\
            vestibule_cache_misses_total{cache=\"users\",level=\"l2\"} 4\n\
            vestibule_other_total{cache=\"users\",level=\"l1\"} 7\n";
        let after = parse(text);
        let used = CacheUse {
            lookups: 100,
            hits: 96,
        };
        assert_eq!(after["users"], used);
        assert!(between(&after, &after).is_empty());
        assert_eq!(between(&Counts::new(), &after)["users"], used);
    }
}
