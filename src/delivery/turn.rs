//! The running pump: what is on its way, and what to do about whatever happens next.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Sleep};

use super::apply::{Applied, Fate, Reach, Work, apply};
use super::backoff::Backoff;
use super::bury::bury;
use super::chain::Chain;
use super::progress::{Progress, Slot, Ticket};
use super::pump::{Options, Parts, Settled};
use super::route::{Fault, Route, route};
use crate::eventlog::{Append, Committing, Consumer, Error, Record};
use crate::events::Vocabulary;
use crate::timeline::{Entry, Timeline};
use crate::types::{NodeId, ShardId, ShardPosition};

/// Work under way, which keeps its own handles.
type Doing<T> = FuturesUnordered<Pin<Box<dyn Future<Output = T> + Send>>>;

/// What one shard has to do.
#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Work>,
    is_busy: bool,
}

/// A record that is finished, or a log that is closed.
type Finished = Result<(Ticket, Option<(ShardId, ShardPosition)>), Error>;

pub(super) enum Event {
    Polled(Result<Vec<Record>, Error>),
    Applied(Applied),
    Finished(Finished),
    CommitDue,
    Committed(Result<(), Error>),
    Drain,
}

/// The state of a running pump.
pub(super) struct Turn {
    reach: Arc<Reach>,
    vocabulary: Vocabulary,
    node: NodeId,
    options: Options,
    consumer: Consumer,
    poll_backoff: Backoff,
    poll_after: Option<Instant>,
    progress: Progress,
    bytes: usize,
    chain: Chain,
    lanes: HashMap<ShardId, Lane>,
    applying: Doing<Applied>,
    finishing: Doing<Finished>,
    settled: Settled,
    commit_due: Pin<Box<Sleep>>,
    committing: Option<Committing>,
    is_draining: bool,
}

impl Turn {
    pub(super) fn new(parts: Parts, options: Options, consumer: Consumer) -> Self {
        let Parts {
            log,
            timeline,
            bus,
            vocabulary,
            node,
        } = parts;
        Self {
            settled: Settled::of(&log),
            reach: Arc::new(Reach {
                log,
                timeline,
                bus,
                ring_version: AtomicU64::new(0),
            }),
            vocabulary,
            node,
            consumer,
            poll_backoff: Backoff::default(),
            poll_after: None,
            progress: Progress::default(),
            bytes: 0,
            chain: Chain::new(options.places),
            lanes: HashMap::new(),
            applying: Doing::new(),
            finishing: Doing::new(),
            commit_due: Box::pin(tokio::time::sleep(options.commit_every)),
            committing: None,
            is_draining: false,
            options,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_draining
            && self.applying.is_empty()
            && self.finishing.is_empty()
            && self.committing.is_none()
    }

    pub(super) async fn next(&mut self, drain: Pin<&mut impl Future<Output = ()>>) -> Event {
        let room = self.options.in_flight.saturating_sub(self.progress.open());
        let is_light = self.bytes < self.options.in_flight_bytes;
        let may_poll = !self.is_draining && room > 0 && is_light;
        let max = self.options.poll.min(room);
        let is_committing = self.committing.is_some();
        tokio::select! {
            () = drain, if !self.is_draining => Event::Drain,
            Some(applied) = self.applying.next() => Event::Applied(applied),
            Some(finished) = self.finishing.next() => Event::Finished(finished),
            Some(outcome) = maybe(self.committing.as_mut()) => Event::Committed(outcome),
            () = &mut self.commit_due, if !is_committing => Event::CommitDue,
            polled = poll(&mut self.consumer, self.poll_after, max), if may_poll => {
                Event::Polled(polled)
            }
        }
    }

    pub(super) async fn on(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Polled(Ok(records)) => {
                self.poll_backoff = Backoff::default();
                self.poll_after = None;
                records.into_iter().for_each(|record| self.take(record));
            }
            Event::Polled(Err(error)) if error.retry() => {
                tracing::warn!(%error, "the log could not be read; trying again");
                self.poll_after = Some(Instant::now() + self.poll_backoff.next());
            }
            Event::Polled(Err(error)) => return Err(error),
            Event::Applied(applied) => self.applied(applied).await?,
            Event::Finished(finished) => {
                let (ticket, settled) = finished?;
                self.finish(ticket, settled);
            }
            Event::CommitDue => self.commit(),
            Event::Committed(outcome) => {
                self.committing = None;
                match outcome {
                    Err(error) if !error.retry() => return Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "a commit failed; the next one repeats it")
                    }
                    Ok(()) => {}
                }
            }
            Event::Drain => {
                self.is_draining = true;
                // Not begun and not committed: read again at the next start.
                self.lanes.clear();
            }
        }
        Ok(())
    }

    /// The last commit, when everything else is over.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        self.commit();
        let last = maybe(self.committing.as_mut()).await.unwrap_or(Ok(()));
        self.on(Event::Committed(last)).await
    }

    /// Sends a record on its way.
    fn take(&mut self, record: Record) {
        let ticket = self.progress.begin(&record);
        self.bytes += ticket.bytes;
        match route(&self.vocabulary.current(), &record) {
            Route::Timeline { room, id } => {
                let shard = self.reach.timeline.shard_of(&room);
                let work = Work {
                    ticket,
                    record,
                    room,
                    id,
                };
                self.lanes.entry(shard).or_default().queue.push_back(work);
                self.start(shard);
            }
            Route::Members(event) => {
                self.reach.bus.publish_ephemeral(event);
                self.finish(ticket, None);
            }
            Route::Nowhere => self.finish(ticket, None),
            Route::Dead(fault) => self.bury(ticket, record, fault),
        }
    }

    /// Begins the next work of a shard, if it is not at work.
    fn start(&mut self, shard: ShardId) {
        while let Some(lane) = self.lanes.get_mut(&shard).filter(|lane| !lane.is_busy)
            && let Some(work) = lane.queue.pop_front()
        {
            if !self.progress.is_current(work.ticket) {
                self.finish(work.ticket, None);
                continue;
            }
            lane.is_busy = true;
            let place = (work.ticket.slot, work.ticket.offset);
            let prev = self.chain.advance(&work.room, place, &self.progress);
            self.applying
                .push(Box::pin(apply(Arc::clone(&self.reach), shard, work, prev)));
        }
    }

    async fn applied(&mut self, applied: Applied) -> Result<(), Error> {
        let Applied { shard, work, fate } = applied;
        let ticket = work.ticket;
        match fate? {
            Fate::Done => self.finish(ticket, None),
            Fate::Settling(entry, append) => {
                let settle = settle(self.reach.timeline.clone(), entry, append, ticket);
                self.finishing.push(Box::pin(settle));
            }
            Fate::Gap { last } if self.progress.is_current(ticket) => {
                self.rewind(ticket.slot, &work, last).await?;
                self.finish(ticket, None);
            }
            Fate::Gap { .. } => self.finish(ticket, None),
        }
        if let Some(lane) = self.lanes.get_mut(&shard) {
            lane.is_busy = false;
        }
        self.start(shard);
        Ok(())
    }

    /// Reads a partition again from after the last record that landed in a room.
    async fn rewind(&mut self, slot: Slot, work: &Work, last: Option<u64>) -> Result<(), Error> {
        let low = self.progress.low(slot);
        let to = last.map_or(low, |last| (last + 1).min(low));
        let (topic, partition) = self.progress.name(slot);
        tracing::warn!(%topic, partition, offset = work.record.offset, to, room = %work.room,
            "earlier records of a room are missing; reading them again");
        let mut backoff = Backoff::default();
        while let Err(error) = self.consumer.seek(&topic, partition, to).await {
            if !error.retry() {
                return Err(error);
            }
            backoff.wait().await;
        }
        self.progress.rewind(slot, to);
        self.chain.forget(slot);
        Ok(())
    }

    /// Puts a record aside that can never be applied.
    fn bury(&self, ticket: Ticket, record: Record, fault: Fault) {
        let (log, node) = (self.reach.log.clone(), self.node.clone());
        self.finishing.push(Box::pin(async move {
            bury(&log, &node, &record, &fault).await?;
            Ok((ticket, None))
        }));
    }

    /// A record holds nothing any more; it counts as done unless its session is over.
    fn finish(&mut self, ticket: Ticket, settled: Option<(ShardId, ShardPosition)>) {
        if let Some((shard, at)) = settled {
            let top = self.settled.shards.entry(shard.0).or_default();
            *top = at.max(*top);
        }
        self.bytes -= ticket.bytes;
        self.progress.finish(ticket);
    }

    fn commit(&mut self) {
        for (topic, partition, next) in self.progress.changed() {
            self.consumer.store(topic, partition, next);
        }
        let metadata = serde_json::to_string(&self.settled).expect("numbers are JSON");
        self.committing = Some(self.consumer.commit(&metadata));
        let due = Instant::now() + self.options.commit_every;
        self.commit_due.as_mut().reset(due);
    }
}

/// Waits until an entry is durable, and tells the timeline so.
async fn settle(timeline: Timeline, entry: Arc<Entry>, append: Append, ticket: Ticket) -> Finished {
    append.await?;
    let mut backoff = Backoff::default();
    while let Err(error) = timeline
        .settled(&entry.room, &entry.source, entry.offset)
        .await
    {
        tracing::warn!(%error, "an entry could not be marked as settled; trying again");
        backoff.wait().await;
    }
    Ok((ticket, Some((entry.shard, entry.shard_position()))))
}

/// Polls, not before a time if there is one.
async fn poll(
    consumer: &mut Consumer,
    after: Option<Instant>,
    max: usize,
) -> Result<Vec<Record>, Error> {
    if let Some(after) = after {
        tokio::time::sleep_until(after).await;
    }
    consumer.poll(max).await
}

/// Waits for a future if there is one; gives nothing at once if there is none.
async fn maybe<F: Future + Unpin>(future: Option<&mut F>) -> Option<F::Output> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use sqlx::ConnectOptions as _;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::backend::sql::{Database, Options as FileOptions};
    use crate::cluster::bus::Bus;
    use crate::eventlog::{EventLog, Options as LogOptions};
    use crate::timeline::{Apply, Limits, Memory, Range, Source};
    use crate::types::{Epoch, EventId, Position, RoomName, Seq, ShardSeq};

    struct Fixture {
        log: EventLog,
        timeline: Memory,
        turn: Turn,
        sent: usize,
    }

    impl Fixture {
        async fn new() -> Self {
            Self::over(EventLog::memory(LogOptions::default())).await
        }

        async fn over(log: EventLog) -> Self {
            let timeline = Memory::new(Limits::default());
            let parts = Parts {
                log: log.clone(),
                timeline: Timeline::Memory(timeline.clone()),
                bus: Bus::memory(),
                vocabulary: Vocabulary::builtin(),
                node: NodeId::parse("node-1").unwrap(),
            };
            let consumer = log.consumer("pump", &["messages"]).await.unwrap();
            let turn = Turn::new(parts, Options::default(), consumer);
            Self {
                log,
                timeline,
                turn,
                sent: 0,
            }
        }

        /// Sends one user's events and lets the pump settle them.
        async fn settle(&mut self, count: usize) {
            for _ in 0..count {
                self.send().await;
            }
            let mut never = pin!(pending());
            loop {
                let event = self.turn.next(never.as_mut()).await;
                self.turn.on(event).await.unwrap();
                let done: u64 = self.turn.progress.changed().map(|(_, _, next)| next).sum();
                if done == self.sent as u64 {
                    return;
                }
            }
        }

        async fn send(&mut self) {
            self.sent += 1;
            let json = format!(
                r#"{{"id":"e{}","type":"MESSAGE_SENT","userId":"ann","conversationId":"1","timestamp":"2026-01-31T12:00:00.000Z","data":{{}}}}"#,
                self.sent
            );
            self.log
                .append("messages", "ann", Bytes::from(json))
                .unwrap()
                .await
                .unwrap();
        }

        fn top(&self) -> ShardPosition {
            Timeline::Memory(self.timeline.clone()).shard_top(ShardId(0))
        }

        async fn range(&self) -> Range {
            let timeline = Timeline::Memory(self.timeline.clone());
            let all = ShardPosition {
                epoch: Epoch(9),
                shard_seq: ShardSeq(0),
            };
            timeline
                .range(&room(), Position::default(), all, 100)
                .await
                .unwrap()
        }
    }

    fn room() -> RoomName {
        RoomName::parse("conversation:1").unwrap()
    }

    #[tokio::test]
    async fn a_record_is_done_only_when_its_entry_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(FileOptions::new(folder.path()))
            .await
            .unwrap();
        let log = EventLog::sql(&database, LogOptions::default())
            .await
            .unwrap();
        let mut fixture = Fixture::over(log).await;
        fixture.settle(1).await;
        fixture.send().await;
        // Somebody else holds the file, so that nothing becomes durable.
        let file = SqliteConnectOptions::new().filename(folder.path().join("vestibule.db"));
        let mut holder = file.connect().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut holder)
            .await
            .unwrap();
        let mut never = pin!(pending());
        while fixture.top().shard_seq < ShardSeq(2) {
            let event = fixture.turn.next(never.as_mut()).await;
            fixture.turn.on(event).await.unwrap();
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
            if let Some(event) = fixture.turn.next(never.as_mut()).now_or_never() {
                fixture.turn.on(event).await.unwrap();
            }
        }
        assert_eq!(
            (
                fixture.turn.progress.changed().count(),
                fixture.turn.progress.open()
            ),
            (0, 1)
        );
        sqlx::query("ROLLBACK").execute(&mut holder).await.unwrap();
        fixture.settle(0).await;
        database.close().await;
    }

    #[tokio::test]
    async fn an_entry_that_another_owner_left_unsettled_is_produced() {
        let mut fixture = Fixture::new().await;
        fixture.send().await;
        let mut other = fixture.log.consumer("other", &["messages"]).await.unwrap();
        let record = other.poll(1).await.unwrap().remove(0);
        let timeline = Timeline::Memory(fixture.timeline.clone());
        let apply = Apply {
            room: room(),
            epoch: Epoch(1),
            ring_version: 0,
            source: Source {
                topic: record.topic,
                generation: 0,
                partition: record.partition,
            },
            offset: record.offset,
            prev: None,
            id: EventId::parse("e1").unwrap(),
            at: record.at,
            payload: record.value,
        };
        timeline.apply(apply).await.unwrap();
        fixture.settle(0).await;
        let mut replay = fixture
            .log
            .replay("timeline", &[], Duration::ZERO)
            .await
            .unwrap();
        let produced = Entry::from_json(&replay.next(9).await.unwrap()[0].value).unwrap();
        assert_eq!(produced.id.as_str(), "e1");
    }

    #[tokio::test]
    async fn a_gap_is_closed_by_reading_the_partition_again() {
        let mut fixture = Fixture::new().await;
        fixture.settle(3).await;
        // As if a record had been sent that never landed.
        let slot = fixture.turn.chain.young.keys().next().unwrap().1;
        fixture
            .turn
            .chain
            .advance(&room(), (slot, 1_000), &fixture.turn.progress);
        fixture.settle(3).await;
        let seqs = fixture
            .range()
            .await
            .entries
            .iter()
            .map(|entry| entry.seq)
            .collect::<Vec<_>>();
        assert_eq!(seqs, (1..=6).map(Seq).collect::<Vec<_>>());
        assert_eq!(fixture.turn.bytes, 0);
    }

    #[tokio::test]
    async fn a_new_epoch_and_a_new_ring_are_taken_up_in_place() {
        let mut fixture = Fixture::new().await;
        fixture.settle(2).await;
        fixture.timeline.raise(ShardId(0));
        fixture.settle(2).await;
        fixture.timeline.tombstone(&room(), 7);
        fixture.settle(2).await;
        let range = fixture.range().await;
        let epochs = range
            .entries
            .iter()
            .map(|entry| (entry.epoch.0, entry.seq.0));
        assert_eq!(
            epochs.collect::<Vec<_>>(),
            [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (2, 6)]
        );
        assert_eq!(fixture.turn.settled.shards[&0].shard_seq, ShardSeq(4));
    }

    #[tokio::test]
    async fn a_drain_commits_what_was_settled_and_ends() {
        let fixture = Fixture::new().await;
        let mut turn = fixture.turn;
        fixture
            .log
            .append("messages", "ann", Bytes::from_static(b"{"))
            .unwrap()
            .await
            .unwrap();
        let mut drain = pin!(async {
            while fixture
                .log
                .replay("messages.dead-letters", &[], Duration::ZERO)
                .await
                .unwrap()
                .next(1)
                .await
                .unwrap()
                .is_empty()
            {
                tokio::task::yield_now().await;
            }
        });
        while !turn.is_over() {
            let event = turn.next(drain.as_mut()).await;
            turn.on(event).await.unwrap();
        }
        turn.end().await.unwrap();
        assert!(fixture.log.lag().iter().all(|lag| lag.records == 0));
    }
}
