//! The running consumer: a batch of records at a time, everything that follows from them, then
//! their offsets.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::change::Change;
use super::follow::{Follow, follow};
use super::known::Known;
use super::{Failure, Options, Parts};
use crate::cluster::bus::Ephemeral;
use crate::delivery::backoff::Backoff;
use crate::delivery::bury::bury;
use crate::delivery::meter;
use crate::delivery::route::Fault;
use crate::eventlog::{Append, Consumer, Error, Polled, Record};
use crate::events::{Durability, Envelope, Row, view_ephemeral};
use crate::store;
use crate::telemetry::metrics;

/// Records whose recipients are looked up at once, and subjects that are changed at once.
const AT_ONCE: usize = 16;

pub(super) struct Turn {
    parts: Parts,
    options: Options,
    consumer: Consumer,
    known: Known,
    /// Derived events on their way into the log.
    appends: Vec<Append>,
}

impl Turn {
    pub(super) fn new(parts: Parts, options: Options, consumer: Consumer, known: Known) -> Self {
        Self {
            parts,
            options,
            consumer,
            known,
            appends: Vec::new(),
        }
    }

    /// Runs until `end` resolves, then commits.
    pub(super) async fn run(
        &mut self,
        mut end: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Failure> {
        let mut backoff = Backoff::default();
        let mut commit_due = Instant::now() + self.options.commit_every;
        loop {
            let polled = tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep_until(commit_due) => Ok(Polled::Records(Vec::new())),
                polled = self.consumer.poll(self.options.batch) => polled,
            };
            match polled {
                Ok(Polled::Records(records)) => self.work(records).await?,
                // What was done is committed before another member begins, while this is held.
                Ok(Polled::Revoked(_revocation)) => self.commit().await?,
                Ok(Polled::Assigned(_)) => {}
                Err(error) if error.retry() => {
                    tracing::warn!(%error, "the log could not be read; trying again");
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            backoff = Backoff::default();
            if Instant::now() >= commit_due {
                commit_due = Instant::now() + self.options.commit_every;
                self.commit().await?;
            }
        }
        self.commit().await
    }

    /// Everything that follows from what is in the log now.
    #[cfg(test)]
    pub(super) async fn take_all(&mut self) {
        loop {
            let soon = std::time::Duration::from_millis(50);
            match tokio::time::timeout(soon, self.consumer.poll(self.options.batch)).await {
                Ok(polled) => self.work(polled.unwrap().into_records()).await.unwrap(),
                Err(_) => return,
            }
        }
    }

    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        match self.consumer.commit("").await {
            Err(error) if !error.retry() => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "a commit failed; the next one repeats it");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Everything that follows from these records.
    async fn work(&mut self, records: Vec<Record>) -> Result<(), Failure> {
        if records.is_empty() {
            return Ok(());
        }
        self.known.pass(&records);
        let (parts, within) = (self.parts.clone(), self.options.derive_within);
        let mut changes = Vec::new();
        let mut faults = Vec::new();
        // Owned, because a stream of borrowing futures cannot go between threads as yet.
        let follows: Vec<_> = records
            .iter()
            .enumerate()
            .map(|(n, record)| {
                let (parts, record) = (parts.clone(), record.clone());
                async move { (n, follow(&parts, within, &record).await) }.boxed()
            })
            .collect();
        // In the records' order, so that derived events are in the log in the order of their parents.
        let mut follows = stream::iter(follows).buffered(AT_ONCE);
        while let Some((n, followed)) = follows.next().await {
            let followed = match followed {
                Ok(followed) => followed,
                Err(error) => Follow {
                    faults: vec![refused(error)?],
                    ..Follow::default()
                },
            };
            for (row, event) in followed.events {
                if let Some(fault) = self.emit(&row, event).await? {
                    faults.push((n, fault));
                }
            }
            changes.extend(followed.changes.into_iter().map(|change| (n, change)));
            faults.extend(followed.faults.into_iter().map(|fault| (n, fault)));
        }
        drop(follows);
        faults.extend(self.make(changes).await?);
        self.settle().await?;
        for (n, fault) in faults {
            bury(&self.parts.log, &self.parts.node, &records[n], &fault).await?;
        }
        for record in &records {
            let next = record.offset + 1;
            self.consumer.store(&record.topic, record.partition, next);
        }
        Ok(())
    }

    /// Puts a derived event into the log, or to the members of its room if it is ephemeral.
    async fn emit(&mut self, row: &Arc<Row>, event: Envelope) -> Result<Option<Fault>, Failure> {
        if self.known.take(&event.id) {
            return Ok(None);
        }
        metrics::DELIVERY_DERIVED.add(1);
        if row.durability == Durability::Ephemeral {
            return Ok(self.show(row, &event));
        }
        let wrong = |message: String| {
            Ok(Some(Fault {
                class: "derived",
                message: format!("{} cannot be derived: {message}", event.kind),
                id: Some(event.id.clone()),
            }))
        };
        let Some(topic) = &row.topic else {
            return wrong("it has no topic".to_owned());
        };
        let key = match row.key_of(&event) {
            Ok(key) => key,
            Err(problem) => return wrong(problem.message),
        };
        meter::traced_derived(&event, &self.parts.log);
        let json = Bytes::from(event.to_json());
        let mut backoff = Backoff::default();
        loop {
            match self.parts.log.append_patiently(topic, &key, json.clone()) {
                Ok(append) => break self.appends.push(append),
                Err(error) if error.retry() => backoff.wait().await,
                Err(error @ Error::TooLarge { .. }) => return wrong(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        if self.appends.len() >= self.options.in_flight {
            self.settle().await?;
        }
        Ok(None)
    }

    /// Waits until every derived event is durable.
    async fn settle(&mut self) -> Result<(), Failure> {
        for append in self.appends.drain(..) {
            append.await?;
        }
        Ok(())
    }

    fn show(&self, row: &Row, event: &Envelope) -> Option<Fault> {
        let shown = || -> Result<Ephemeral, String> {
            let room = row.room_of(event).map_err(|problem| problem.message)?;
            let view = view_ephemeral(row, event);
            let view = view.map_err(|error| error.to_string())?;
            let data = RawValue::from_string(view.json).map_err(|error| error.to_string())?;
            Ok(Ephemeral {
                room,
                event: view.event,
                data,
                except: None,
            })
        };
        match shown() {
            Ok(shown) => {
                self.parts.bus.publish_ephemeral(Arc::new(shown));
                None
            }
            Err(message) => Some(Fault {
                class: "derived",
                message,
                id: Some(event.id.clone()),
            }),
        }
    }

    /// Makes changes: those of one subject in order, several subjects at once. Answers what can
    /// never be made, with the record it follows from.
    async fn make(&self, changes: Vec<(usize, Change)>) -> Result<Vec<(usize, Fault)>, Failure> {
        let mut subjects: HashMap<(String, String), Vec<(usize, Change)>> = HashMap::new();
        for (n, change) in changes {
            let (one, other) = change.subject();
            let subject = (one.to_owned(), other.to_owned());
            subjects.entry(subject).or_default().push((n, change));
        }
        let made: Vec<_> = subjects
            .into_values()
            .map(|changes| make_all(self.parts.clone(), changes).boxed())
            .collect();
        let made: Vec<Vec<_>> = stream::iter(made)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(made.into_iter().flatten().collect())
    }
}

/// Makes changes of one subject, one after the other.
async fn make_all(
    parts: Parts,
    changes: Vec<(usize, Change)>,
) -> Result<Vec<(usize, Fault)>, Failure> {
    let mut faults = Vec::new();
    for (n, change) in changes {
        metrics::DELIVERY_EFFECTS.add(1);
        if let Err(error) = persist(&parts, &change).await {
            faults.push((n, refused(error)?));
        }
    }
    Ok(faults)
}

/// Makes a change, waiting for a store that does not answer.
async fn persist(parts: &Parts, change: &Change) -> Result<(), store::Error> {
    let mut backoff = Backoff::default();
    loop {
        match change.make(parts).await {
            Err(error) if error.retry() => {
                tracing::warn!(%error, "an effect could not be stored; trying again");
                backoff.wait().await;
            }
            outcome => return outcome,
        }
    }
}

/// What the store will never do is put aside; a store that is closed ends everything.
fn refused(error: store::Error) -> Result<Fault, Failure> {
    if matches!(error, store::Error::Closed) {
        return Err(error.into());
    }
    Ok(Fault {
        class: "store",
        message: error.to_string(),
        id: None,
    })
}
