//! What every timeline must do, whatever keeps it. Each test uses rooms and sources of its own.

#![expect(clippy::unwrap_used, reason = "a suite's helpers fail as its tests do")]

mod applying;
mod ranges;
mod shards;

use std::sync::Arc;

use bytes::Bytes;
use vestibule::backend::redis::Options;
use vestibule::timeline::redis::{Options as Kept, ShardOptions, Timeline as Shards};
use vestibule::timeline::{Apply, Entry, Limits, Memory, Outcome, Range, Source, Timeline};
use vestibule::types::{EventId, Position, RoomName, Timestamp};

use crate::servers::redis::Redis;

/// Runs the suite on a backend; a new one needs only a line like this.
macro_rules! suite {
    ($backend:ident: $new:expr; $($test:ident)*) => {
        mod $backend {
            $(#[tokio::test]
            async fn $test() {
                let (_servers, timeline) = $new;
                super::$test(&timeline).await;
            })*
        }
    };
}
pub(super) use suite;

pub(crate) fn memory() -> Timeline {
    Timeline::Memory(Memory::new(Limits::default()))
}

/// Timelines on shards of their own, and the servers, which end with the value.
pub(crate) async fn on_redis(count: usize) -> ((tempfile::TempDir, Vec<Redis>), Timeline) {
    let folder = tempfile::tempdir().unwrap();
    let servers: Vec<Redis> = (0..count).map(|_| Redis::start(folder.path())).collect();
    let shard = |(n, server): (usize, &Redis)| ShardOptions {
        name: format!("shard-{n}"),
        weight: 1,
        server: Options::new(server.url()),
    };
    let shards = servers.iter().enumerate().map(shard).collect();
    let timeline = Shards::open(shards, Kept::default()).await;
    ((folder, servers), Timeline::Redis(timeline.unwrap()))
}

/// A record of `messages`, partition 0.
pub(super) fn record(timeline: &Timeline, room: &str, offset: u64) -> Apply {
    let room = RoomName::parse(room).unwrap();
    Apply {
        epoch: timeline.epoch(timeline.shard_of(&room)),
        ring_version: 1,
        source: Source {
            topic: Arc::from("messages"),
            generation: 0,
            partition: 0,
        },
        offset,
        prev: None,
        id: EventId::parse(&format!("e{offset}")).unwrap(),
        at: Timestamp::from_millis(1_000),
        payload: Bytes::from(format!("{{\"n\": {offset}}}")),
        room,
    }
}

pub(super) async fn applied(timeline: &Timeline, record: Apply) -> Arc<Entry> {
    match timeline.apply(record).await.unwrap() {
        Outcome::Applied { entry, .. } => entry,
        other => panic!("not applied: {other:?}"),
    }
}

pub(super) async fn read(timeline: &Timeline, room: &str, after: Position) -> Range {
    let room = RoomName::parse(room).unwrap();
    let up_to = timeline.shard_top(timeline.shard_of(&room));
    timeline.range(&room, after, up_to, 1_000).await.unwrap()
}

pub(super) fn seqs(range: &Range) -> Vec<u64> {
    range.entries.iter().map(|entry| entry.seq.0).collect()
}
