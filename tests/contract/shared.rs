//! Shards with the functions of everything that nodes share.

use tempfile::TempDir;
use vestibule::backend::cache;
use vestibule::backend::redis::{Options, Scripted, ShardOptions, Shards};
use vestibule::cluster::{membership, presence};
use vestibule::limits;

use crate::servers::redis::Redis;

/// The servers; they end with the value.
pub(crate) struct Servers {
    pub(crate) redis: Vec<Redis>,
    _folder: TempDir,
}

const LIBRARIES: &[Scripted] = &[
    limits::redis::LIBRARY,
    membership::LIBRARY,
    presence::redis::LIBRARY,
    cache::shared::LIBRARY,
];

impl Servers {
    /// So many servers, one shard each.
    pub(crate) fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = (0..count).map(|_| Redis::start(folder.path())).collect();
        Self {
            redis,
            _folder: folder,
        }
    }

    /// Connections of one node.
    pub(crate) fn shards(&self) -> Shards {
        let shard = |(n, server): (usize, &Redis)| ShardOptions {
            name: format!("shard-{n}"),
            weight: 1,
            server: Options::new(server.url()),
        };
        let shards: Vec<_> = self.redis.iter().enumerate().map(shard).collect();
        Shards::new(&shards, LIBRARIES).unwrap()
    }
}
