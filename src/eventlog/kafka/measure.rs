//! Measures how far the groups of this process are behind, in a thread of its own, because the
//! brokers may take long to answer.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::cursor::Queries;
use super::reader::Link;
use super::{Error, Lag, meter};
use crate::backend::kafka;

/// The members of this process. Measuring ends with this.
#[derive(Debug)]
pub(super) struct Measure {
    links: Arc<Mutex<Vec<Weak<Link>>>>,
    thread: std::thread::Thread,
}

impl Measure {
    pub(super) fn start(queries: &Arc<Queries>, every: Duration) -> Result<Self, Error> {
        let links: Arc<Mutex<Vec<Weak<Link>>>> = Arc::default();
        let (watched, queries) = (Arc::downgrade(&links), Arc::clone(queries));
        let run = move || {
            while let Some(links) = watched.upgrade() {
                queries.attend();
                for link in living(&links) {
                    measure(&queries, &link);
                    link.standing.lag().iter().for_each(meter::lag);
                }
                drop(links);
                std::thread::park_timeout(every);
            }
        };
        let thread = std::thread::Builder::new().name("kafka-lag".to_owned());
        let thread = thread.spawn(run);
        let thread = thread.map_err(|error| kafka::Error::Other(error.to_string()))?;
        Ok(Self {
            links,
            thread: thread.thread().clone(),
        })
    }

    /// Measures a member from now on, as long as it reads.
    pub(super) fn watch(&self, link: &Arc<Link>) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(link));
    }

    /// What was measured last.
    pub(super) fn lag(&self) -> Vec<Lag> {
        let links = living(&self.links);
        links.iter().flat_map(|link| link.standing.lag()).collect()
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        self.links = Arc::default();
        self.thread.unpark();
    }
}

fn living(links: &Mutex<Vec<Weak<Link>>>) -> Vec<Arc<Link>> {
    let links = links.lock().unwrap_or_else(PoisonError::into_inner);
    links.iter().filter_map(Weak::upgrade).collect()
}

fn measure(queries: &Queries, link: &Link) {
    match queries.bounds(&link.standing.spots()) {
        Ok(bounds) => {
            for (spot, found) in bounds {
                link.standing.found(&spot, found);
            }
        }
        Err(error) => tracing::debug!(%error, "how far a group is behind could not be measured"),
    }
}
