//! The running pump: what is on its way, and what to do about whatever happens next.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::time::{Instant, Sleep};

use super::apply::{Applied, Fate, Reach, Work, apply};
use super::backoff::Backoff;
use super::bury::bury;
use super::chain::Chain;
use super::lanes::Lane;
use super::meter;
use super::progress::{Progress, Slot, Ticket};
use super::pump::{Options, Parts, Settled as Places};
use super::route::{Fault, Route, route};
use super::settle::{Acked, Settled, acked, settle};
use super::waits::{Doing, maybe, poll};
use crate::eventlog::{Assignment, Committing, Consumer, Error, Polled, Record, Revocation};
use crate::events::Vocabulary;
use crate::telemetry::labels::Stage;
use crate::timeline::Timeline;
use crate::types::{Epoch, NodeId, ShardId, ShardPosition};

/// Up to where partitions are done: topic, partition, next offset.
type Offsets = Vec<(Arc<str>, u32, u64)>;

pub(super) enum Event {
    Polled(Result<Polled, Error>),
    Applied(Applied),
    Acked(Result<Acked, Error>),
    Settled(Settled),
    Buried(Result<Ticket, Error>),
    CommitDue,
    /// Whether the replicas have what these offsets stand for.
    Gated(Offsets, bool),
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
    acking: Doing<Result<Acked, Error>>,
    settling: Doing<Settled>,
    burying: Doing<Result<Ticket, Error>>,
    places: Places,
    commit_due: Pin<Box<Sleep>>,
    gating: Doing<(Offsets, bool)>,
    /// What the commit under way commits, and when it began.
    offsets: Offsets,
    gated_at: Instant,
    committing: Option<Committing>,
    /// Held until what was done of these partitions is committed.
    revoked: Vec<Revocation>,
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
            places: Places::of(&log),
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
            acking: Doing::new(),
            settling: Doing::new(),
            burying: Doing::new(),
            commit_due: Box::pin(tokio::time::sleep(options.commit_every)),
            gating: Doing::new(),
            offsets: Offsets::new(),
            gated_at: Instant::now(),
            committing: None,
            revoked: Vec::new(),
            is_draining: false,
            options,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_draining
            && self.applying.is_empty()
            && self.acking.is_empty()
            && self.settling.is_empty()
            && self.burying.is_empty()
            && self.gating.is_empty()
            && self.committing.is_none()
    }

    pub(super) async fn next(&mut self, drain: Pin<&mut impl Future<Output = ()>>) -> Event {
        let room = self.options.in_flight.saturating_sub(self.progress.open());
        let is_light = self.bytes < self.options.in_flight_bytes;
        let may_poll = !self.is_draining && room > 0 && is_light;
        let max = self.options.poll.min(room);
        let is_committing = self.committing.is_some() || !self.gating.is_empty();
        tokio::select! {
            () = drain, if !self.is_draining => Event::Drain,
            Some(applied) = self.applying.next() => Event::Applied(applied),
            Some(acked) = self.acking.next() => Event::Acked(acked),
            Some(settled) = self.settling.next() => Event::Settled(settled),
            Some(buried) = self.burying.next() => Event::Buried(buried),
            Some((offsets, is_open)) = self.gating.next() => Event::Gated(offsets, is_open),
            Some(outcome) = maybe(self.committing.as_mut()) => Event::Committed(outcome),
            () = &mut self.commit_due, if !is_committing => Event::CommitDue,
            polled = poll(&mut self.consumer, self.poll_after, max), if may_poll => {
                Event::Polled(polled)
            }
        }
    }

    pub(super) async fn on(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Polled(Ok(polled)) => {
                self.poll_backoff = Backoff::default();
                self.poll_after = None;
                match polled {
                    Polled::Records(records) => records.into_iter().for_each(|one| self.take(one)),
                    Polled::Assigned(assignments) => self.assigned(&assignments),
                    Polled::Revoked(revocation) => self.revoke(revocation),
                }
            }
            Event::Polled(Err(error)) if error.retry() => {
                tracing::warn!(%error, "the log could not be read; trying again");
                self.poll_after = Some(Instant::now() + self.poll_backoff.next());
            }
            Event::Polled(Err(error)) => return Err(error),
            Event::Applied(applied) => self.applied(applied).await?,
            Event::Acked(acked) => {
                let acked = acked?;
                let shard = acked.settle.entry.shard;
                self.lanes.entry(shard).or_default().acked.push(acked);
                self.settle(shard);
            }
            Event::Settled(settled) => self.settled(settled).await?,
            Event::Buried(ticket) => self.finish(ticket?),
            Event::CommitDue => self.gate(),
            Event::Gated(offsets, is_open) => self.gated(offsets, is_open),
            Event::Committed(outcome) => self.committed(outcome)?,
            Event::Drain => {
                self.is_draining = true;
                // Not begun and not committed: read again at the next start.
                self.lanes.values_mut().for_each(|lane| lane.queue.clear());
            }
        }
        Ok(())
    }

    /// The last commit, when everything else is over.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        self.gate();
        while let Some((offsets, is_open)) = self.gating.next().await {
            self.gated(offsets, is_open);
        }
        let last = maybe(self.committing.as_mut()).await.unwrap_or(Ok(()));
        self.committed(last)
    }

    fn assigned(&mut self, assignments: &[Assignment]) {
        for Assignment {
            topic,
            partition,
            committed,
            ..
        } in assignments
        {
            let from = committed.unwrap_or(0);
            let slot = self.progress.assign(topic, *partition, from);
            self.chain.forget(slot);
            tracing::debug!(%topic, partition, from, "a partition is read from now on");
        }
    }

    /// What is on its way of these partitions is left to whoever reads them next; what is done is
    /// committed before they are given up.
    fn revoke(&mut self, revocation: Revocation) {
        let done = match revocation.is_lost {
            true => Offsets::new(),
            false => self.progress.changed(),
        };
        for (topic, partition) in &revocation.partitions {
            if let Some(slot) = self.progress.slot(topic, *partition) {
                self.progress.end(slot);
                self.chain.forget(slot);
            }
        }
        if !done.is_empty() {
            self.progress.not_committed(&done);
            self.revoked.push(revocation);
            self.commit_due.as_mut().reset(Instant::now());
        }
    }

    /// Sends a record on its way.
    fn take(&mut self, record: Record) {
        let ticket = self.progress.begin(&record);
        self.bytes += ticket.bytes;
        meter::fetched(record.at);
        match route(&self.vocabulary.current(), &record) {
            Route::Timeline { room, id } => {
                let work = Work::new(&self.reach.log, (ticket, record), (room, id));
                self.dispatch(work);
            }
            Route::Members(event) => {
                self.reach.bus.publish_ephemeral(event);
                self.finish(ticket);
            }
            Route::Nowhere => self.finish(ticket),
            Route::Dead(fault) => self.bury(ticket, record, fault),
        }
    }

    fn dispatch(&mut self, work: Work) {
        let shard = self.reach.timeline.shard_of(&work.room);
        self.lanes.entry(shard).or_default().queue.push_back(work);
        self.start(shard);
    }

    /// Begins the next batch of a shard, if it is not at work.
    fn start(&mut self, shard: ShardId) {
        let Some(lane) = self.lanes.get_mut(&shard).filter(|lane| !lane.is_busy) else {
            return;
        };
        let (mut batch, mut over) = (Vec::new(), Vec::new());
        while batch.len() < self.options.batch
            && let Some(mut work) = lane.queue.pop_front()
        {
            if !self.progress.is_current(work.ticket) {
                over.push(work.ticket);
                continue;
            }
            if !work.is_chained {
                let place = (work.ticket.slot, work.ticket.offset);
                work.prev = self.chain.advance(&work.room, place, &self.progress);
                work.is_chained = true;
                work.leaves_the_queue();
            }
            batch.push(work);
        }
        if !batch.is_empty() {
            lane.is_busy = true;
            let at = (shard, lane.epoch);
            self.applying
                .push(Box::pin(apply(Arc::clone(&self.reach), at, batch)));
        }
        over.into_iter().for_each(|ticket| self.finish(ticket));
    }

    async fn applied(&mut self, applied: Applied) -> Result<(), Error> {
        let Applied {
            shard,
            epoch,
            works,
            failure,
        } = applied;
        let (mut raised, mut moved, mut rewound) = (None, Vec::new(), HashSet::new());
        let mut lost = Vec::new();
        for (work, fate) in works {
            let ticket = work.ticket;
            match fate {
                Fate::Done => self.finish(ticket),
                Fate::Settling(entry, seen_in, append) => {
                    self.acking
                        .push(Box::pin(acked(ticket, (entry, seen_in), append)));
                }
                Fate::Gap { last } => {
                    if self.progress.is_current(ticket) && rewound.insert(ticket.slot) {
                        self.rewind(ticket.slot, &work, last).await?;
                    }
                    self.finish(ticket);
                }
                Fate::Raised(epoch) => {
                    raised = raised.max(Some(epoch));
                    lost.push(ticket);
                }
                Fate::Moved => moved.push(work),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let lane = self.lanes.entry(shard).or_default();
        lane.is_busy = false;
        if lane.epoch == Epoch(0) {
            lane.epoch = epoch;
            meter::epoch(&self.reach.timeline, shard, epoch);
        }
        if !moved.is_empty() {
            // Whatever waits for the old shard follows, so that each room's order stays.
            moved.extend(lane.queue.drain(..));
            moved.into_iter().for_each(|work| self.dispatch(work));
        }
        if let Some(epoch) = raised {
            self.raised(shard, epoch).await?;
        }
        // Only now, when their partitions are read again: none of them counts as done.
        self.read_again(lost).await?;
        self.start(shard);
        Ok(())
    }

    /// A shard began another epoch: what is not committed may be lost there, so it is read again. What
    /// is committed was settled in an epoch that the raise has put back.
    async fn raised(&mut self, shard: ShardId, epoch: Epoch) -> Result<(), Error> {
        let lane = self.lanes.entry(shard).or_default();
        if lane.epoch >= epoch {
            return Ok(());
        }
        lane.epoch = epoch;
        meter::epoch(&self.reach.timeline, shard, epoch);
        tracing::info!(%shard, %epoch, "a shard began an epoch; reading again what is not committed");
        for (slot, to) in self.progress.uncommitted() {
            self.go_back(slot, to).await?;
        }
        Ok(())
    }

    /// Tells a shard what is durable in topic `timeline`, if it is not being told.
    fn settle(&mut self, shard: ShardId) {
        let lane = self.lanes.entry(shard).or_default();
        if lane.is_settling || lane.acked.is_empty() {
            return;
        }
        lane.is_settling = true;
        let batch = std::mem::take(&mut lane.acked);
        let timeline: Timeline = self.reach.timeline.clone();
        self.settling.push(Box::pin(settle(timeline, shard, batch)));
    }

    async fn settled(&mut self, settled: Settled) -> Result<(), Error> {
        let shard = settled.shard;
        let lane = self.lanes.entry(shard).or_default();
        lane.is_settling = false;
        lane.is_ungated |= !settled.done.is_empty();
        for (ticket, at, since) in settled.done {
            let top: &mut ShardPosition = self.places.shards.entry(shard.0).or_default();
            *top = at.max(*top);
            self.finish(ticket);
            meter::stage(Stage::Settled, since.elapsed());
        }
        if let Some(epoch) = settled.raised {
            self.raised(shard, epoch).await?;
        }
        self.read_again(settled.lost).await?;
        self.settle(shard);
        Ok(())
    }

    /// These did not land, or are lost: unless an epoch had them read again, that is done now.
    async fn read_again(&mut self, lost: Vec<Ticket>) -> Result<(), Error> {
        for ticket in lost {
            if self.progress.is_current(ticket) {
                let low = self.progress.low(ticket.slot);
                self.go_back(ticket.slot, low).await?;
            }
            self.finish(ticket);
        }
        Ok(())
    }

    /// Reads a partition again from after the last record that landed in a room.
    async fn rewind(&mut self, slot: Slot, work: &Work, last: Option<u64>) -> Result<(), Error> {
        let low = self.progress.low(slot);
        let to = last.map_or(low, |last| (last + 1).min(low));
        let (topic, partition) = self.progress.name(slot);
        tracing::warn!(%topic, partition, offset = work.record.offset, to, room = %work.room,
            "earlier records of a room are missing; reading them again");
        self.go_back(slot, to).await
    }

    async fn go_back(&mut self, slot: Slot, to: u64) -> Result<(), Error> {
        let (topic, partition) = self.progress.name(slot);
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
        self.burying.push(Box::pin(async move {
            bury(&log, &node, &record, &fault).await?;
            Ok(ticket)
        }));
    }

    /// A record holds nothing any more; it counts as done unless its session is over.
    fn finish(&mut self, ticket: Ticket) {
        self.bytes -= ticket.bytes;
        self.progress.finish(ticket);
    }

    /// Asks whether replicas have what was settled, and then commits it.
    fn gate(&mut self) {
        self.gated_at = Instant::now();
        let offsets = self.progress.changed();
        let lanes = self.lanes.iter_mut().filter(|(_, lane)| lane.is_ungated);
        let shards: Vec<ShardId> = lanes.map(|(shard, _)| *shard).collect();
        let timeline = self.reach.timeline.clone();
        for shard in &shards {
            if let Some(lane) = self.lanes.get_mut(shard) {
                lane.is_ungated = false;
            }
        }
        self.gating.push(Box::pin(async move {
            let gates = shards.iter().map(|shard| timeline.gate(*shard));
            let answers = join_all(gates).await;
            (
                offsets,
                answers.iter().all(|answer| matches!(answer, Ok(true))),
            )
        }));
    }

    fn gated(&mut self, offsets: Offsets, is_open: bool) {
        let due = Instant::now() + self.options.commit_every;
        self.commit_due.as_mut().reset(due);
        if !is_open {
            tracing::warn!(
                "replicas of a shard are behind; nothing is committed until they are not"
            );
            self.progress.not_committed(&offsets);
            self.lanes
                .values_mut()
                .for_each(|lane| lane.is_ungated = true);
            self.revoked.clear();
            return;
        }
        for (topic, partition, next) in &offsets {
            self.consumer.store(topic, *partition, *next);
        }
        self.offsets = offsets;
        let metadata = serde_json::to_string(&self.places).expect("numbers are JSON");
        self.committing = Some(self.consumer.commit(&metadata));
    }

    fn committed(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        self.committing = None;
        self.revoked.clear();
        let offsets = std::mem::take(&mut self.offsets);
        match outcome {
            Ok(()) => {
                if !offsets.is_empty() {
                    meter::stage(Stage::Committed, self.gated_at.elapsed());
                }
                self.progress.committed(&offsets);
            }
            Err(error) if !error.retry() => return Err(error),
            Err(error) => tracing::warn!(%error, "a commit failed; the next one repeats it"),
        }
        Ok(())
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
    use crate::timeline::{Apply, Entry, Limits, Memory, Range, Source};
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
                let done = self.turn.progress.changed();
                self.turn.progress.not_committed(&done);
                let done: u64 = done.iter().map(|(_, _, next)| next).sum();
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
        assert_eq!(fixture.turn.progress.changed().len(), 1);
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
                fixture.turn.progress.changed().len(),
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
        let record = other.poll(1).await.unwrap().into_records().remove(0);
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
        assert_eq!(fixture.turn.places.shards[&0].shard_seq, ShardSeq(4));
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
