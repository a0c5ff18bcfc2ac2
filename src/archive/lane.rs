//! The archive's part of each transaction.

use std::sync::Arc;

use super::queue::{Pending, Queue};
use super::{Error, sql};
use crate::backend::sql as database;
use crate::backend::writer::{Lane, Writing};
use crate::telemetry::metrics;

/// What the writer's thread knows of the archive.
pub(super) struct ArchiveLane {
    queue: Arc<Queue>,
    batch: Vec<Pending>,
}

impl ArchiveLane {
    pub(super) const fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            batch: Vec::new(),
        }
    }
}

impl Lane for ArchiveLane {
    fn take(&mut self) -> bool {
        self.batch = self.queue.take();
        !self.batch.is_empty()
    }

    fn write<'a>(&'a mut self, connection: &'a mut database::Connection) -> Writing<'a> {
        Box::pin(async {
            let rows: Vec<_> = self
                .batch
                .iter()
                .flat_map(|pending| &pending.rows)
                .collect();
            sql::upsert(connection, &rows).await?;
            for statement in self.batch.iter().flat_map(|pending| &pending.statements) {
                match database::run(connection, statement).await {
                    Ok(_) => {}
                    // The transaction goes on without it: repeating it would fail again, and hold
                    // back every row behind it for ever.
                    Err(error) if error.is_of_statement() => {
                        tracing::error!(%error, sql = statement.sql, "an event was not projected");
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    fn finish(&mut self, outcome: Result<(), Arc<database::Error>>) {
        for pending in self.batch.drain(..) {
            if outcome.is_ok() {
                metrics::ARCHIVE_ROWS.add(pending.rows.len() as u64);
            }
            // Whoever gave up waiting has dropped the other end.
            pending
                .done
                .send(outcome.clone().map_err(Error::Storage))
                .ok();
        }
    }
}

impl Drop for ArchiveLane {
    fn drop(&mut self) {
        self.queue.close();
    }
}
