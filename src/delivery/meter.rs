//! What delivery tells about itself.

use std::time::{Duration, SystemTime};

use crate::eventlog::{EventLog, Record};
use crate::events::Envelope;
use crate::telemetry::labels::{Applied, Label as _, Stage};
use crate::telemetry::metrics;
use crate::telemetry::trace::{self, Part, Trace};
use crate::timeline::{Outcome, Timeline};
use crate::types::{Epoch, EventId, RoomName, ShardId, Timestamp};

/// What the timeline answered.
pub(super) fn applied(outcome: &Outcome) {
    let outcome = match outcome {
        Outcome::Applied { .. } => Applied::Applied,
        Outcome::Duplicate { .. } => Applied::Duplicate,
        Outcome::DuplicateId { .. } => Applied::DuplicateId,
        Outcome::Gap { .. } => Applied::Gap,
        Outcome::Stale { .. } => Applied::Stale,
        Outcome::Moved { .. } => Applied::Moved,
    };
    metrics::DELIVERY_APPLIED.of(outcome).add(1);
}

/// From the append of an event to its publication.
pub(super) fn published(appended: Timestamp) {
    metrics::DELIVERY_TIME.record(Timestamp::from(SystemTime::now()).since(appended));
}

/// How long a part of the path took.
pub(super) fn stage(stage: Stage, took: Duration) {
    metrics::DELIVERY_STAGE_TIME.of(stage).record(took);
}

/// The pump has a record that the log took then.
pub(super) fn fetched(appended: Timestamp) {
    stage(Stage::Fetched, since(appended));
}

/// The same of a traced event's record.
pub(super) fn traced_fetched(id: &EventId, record: &Record, log: &EventLog) {
    let Some(trace) = Trace::of(id) else {
        return;
    };
    let partition = record.partition.to_string();
    let offset = record.offset.to_string();
    let part = Part {
        name: name(Stage::Fetched),
        from: trace::ago(since(record.at)),
        more: &[
            ("topic", &record.topic),
            ("partition", &partition),
            ("offset", &offset),
        ],
    };
    let header = record.headers.text(trace::HEADER);
    match !log.keeps_headers() || trace.is_begun(header) {
        true => trace.took(part),
        // Derived from others, or written by another program.
        false => trace.begins(part, header),
    }
}

/// An event follows from another. Where records keep headers its path begins when it is fetched.
pub(super) fn traced_derived(event: &Envelope, log: &EventLog) {
    if !log.keeps_headers()
        && let Some(trace) = Trace::of(&event.id)
    {
        let part = Part {
            name: "derived",
            from: SystemTime::now(),
            more: &[("event.type", &event.kind)],
        };
        trace.begins(part, None);
    }
}

/// How long a part of the path of one event took, if it is traced.
pub(super) fn traced(id: &EventId, stage: Stage, took: Duration, room: &RoomName) {
    part(id, name(stage), took, room);
}

/// The same of the archive, whose batches begin with a record of this time.
pub(super) fn traced_archived(id: &EventId, oldest: Timestamp, room: &RoomName) {
    part(id, name(Stage::Archived), since(oldest), room);
}

/// The same of what members are shown by a worker.
pub(super) fn traced_shown(id: &EventId, took: Duration, room: &RoomName) {
    part(id, "shown", took, room);
}

const fn name(stage: Stage) -> &'static str {
    Stage::VALUES[stage as usize]
}

fn part(id: &EventId, name: &'static str, took: Duration, room: &RoomName) {
    if let Some(trace) = Trace::of(id) {
        let part = Part {
            name,
            from: trace::ago(took),
            more: &[("room", room.as_str())],
        };
        trace.took(part);
    }
}

fn since(then: Timestamp) -> Duration {
    Timestamp::from(SystemTime::now()).since(then)
}

/// An event of that time is in the outboxes of a worker's members.
pub(super) fn shown(happened: Timestamp) {
    let took = Timestamp::from(SystemTime::now()).since(happened);
    metrics::DELIVERY_SHOWN_TIME.record(took);
}

/// The pump knows of a shard's epoch.
pub(super) fn epoch(timeline: &Timeline, shard: ShardId, epoch: Epoch) {
    let name = timeline.shard_name(shard);
    let name = name.map_or_else(|| shard.to_string(), str::to_owned);
    #[expect(clippy::cast_precision_loss, reason = "losses of writes are few")]
    metrics::SHARD_EPOCH.of([&name]).set(epoch.0 as f64);
}

/// Records of these topics may be put aside: counted from 0, so that the first one shows as an increase.
pub(super) fn may_bury(topics: &[&str]) {
    for topic in topics {
        metrics::DELIVERY_DEAD_LETTERS.of([topic]).add(0);
    }
}

/// A record was put aside.
pub(super) fn dead_letter(topic: &str) {
    metrics::DELIVERY_APPLIED.of(Applied::DeadLetter).add(1);
    metrics::DELIVERY_DEAD_LETTERS.of([topic]).add(1);
}

/// Something that the log took then waits for the archive, which does not take it.
pub(super) fn archive_waits(appended: Timestamp) {
    metrics::ARCHIVE_LAG.set(since(appended).as_secs_f64());
}

/// The archive has what the log took at these times, the newest last.
pub(super) fn archived(times: impl Iterator<Item = Timestamp>) {
    let now = Timestamp::from(SystemTime::now());
    let series = metrics::DELIVERY_STAGE_TIME.of(Stage::Archived);
    let lag = times
        .map(|at| now.since(at))
        .inspect(|lag| series.record(*lag));
    if let Some(lag) = lag.last() {
        metrics::ARCHIVE_LAG.set(lag.as_secs_f64());
    }
}
