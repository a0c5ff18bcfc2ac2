//! What is kept of sockets for clients that come back, on every backend; and reading back what they missed.

mod kept;
mod missed;

use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use vestibule::backend::redis::{Options, ShardOptions, Shards};
use vestibule::cluster::recovery::{self, Joined, Recovery};
use vestibule::timeline::redis::{Options as Kept, Timeline as OnShards};
use vestibule::timeline::{Apply, Entry, Outcome, Settle, Source, Timeline};
use vestibule::types::{
    Epoch, EventId, RoomName, ShardId, ShardPosition, ShardSeq, Timestamp, UserId,
};

use crate::servers::redis::Redis;

pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// Enters the shards, as every node does, so that they have an epoch.
pub(super) async fn node(shards: &[ShardOptions]) -> (Timeline, Recovery) {
    let timeline = OnShards::open(shards.to_vec(), Kept::default()).await;
    let libraries = [recovery::redis::LIBRARY];
    let recovery = Recovery::redis(Shards::new(shards, &libraries).unwrap(), WINDOW);
    (Timeline::Redis(timeline.unwrap()), recovery)
}

pub(super) fn servers(count: usize) -> (TempDir, Vec<Redis>, Vec<ShardOptions>) {
    let folder = tempfile::tempdir().unwrap();
    let servers: Vec<Redis> = (0..count).map(|_| Redis::start(folder.path())).collect();
    let shard = |(n, server): (usize, &Redis)| ShardOptions {
        name: format!("shard-{n}"),
        weight: 1,
        server: Options::new(server.url()),
    };
    let shards = servers.iter().enumerate().map(shard).collect();
    (folder, servers, shards)
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

pub(super) const fn at(epoch: u64, shard_seq: u64) -> ShardPosition {
    ShardPosition {
        epoch: Epoch(epoch),
        shard_seq: ShardSeq(shard_seq),
    }
}

pub(super) const fn joined(shard: u16, shard_seq: u64) -> Joined {
    Joined {
        shard: ShardId(shard),
        at: at(1, shard_seq),
    }
}

/// An event of a room, settled or not.
pub(crate) async fn apply(timeline: &Timeline, name: &str, offset: u64, is_settled: bool) -> Entry {
    let room = room(name);
    let shard = timeline.shard_of(&room);
    let payload = format!(
        r#"{{"id":"e{offset}","type":"MESSAGE_SENT","userId":"ann","conversationId":"1","timestamp":"2026-01-31T12:00:00.000Z","data":{{"content":"{offset}"}}}}"#
    );
    let apply = Apply {
        epoch: timeline.epoch(shard),
        ring_version: 1,
        source: Source {
            topic: "messages".into(),
            generation: 0,
            partition: 0,
        },
        offset,
        prev: None,
        id: EventId::parse(&format!("e{offset}")).unwrap(),
        at: Timestamp::from_millis(1_000),
        payload: Bytes::from(payload),
        room,
    };
    let Outcome::Applied { entry, .. } = timeline.apply(apply).await.unwrap() else {
        panic!("it takes its place")
    };
    if is_settled {
        let settle = Settle {
            seen_in: entry.epoch,
            entry: entry.clone(),
            record: None,
        };
        for settled in timeline.settle_all(shard, &[settle]).await {
            settled.unwrap();
        }
    }
    (*entry).clone()
}
