//! `[redis]`: the shards that order rooms and carry events between nodes.

use std::path::PathBuf;

use toml::Value as Toml;

use crate::config::section::section;
use crate::config::value::Value;
use crate::types::{Secret, Span};

section! {
    /// The Redis shards, which order rooms, carry events between nodes and keep what nodes share. For mode
    /// "cluster".
    Redis = "redis" {
        /// The shards, each "NAME=URL" or "NAME*WEIGHT=URL". A URL is redis://[user:password@]host:port,
        /// rediss:// for TLS, or redis+sentinel://[user:password@]host:port,host:port/PRIMARY. Names decide
        /// which rooms are where; new shards are added at the end, and none is taken out of the list.
        shards: Vec<ShardSpec> = Vec::new();
        /// Instead of shards, a Redis Cluster: redis+cluster://[user:password@]host:port,host:port.
        cluster: Option<Secret<String>> = None;
        /// Into how many parts the rooms of a Redis Cluster are divided. Fixed for good.
        buckets: u32 = 16, in 1 => 32;
        /// Replicas that must have an event before it counts as settled. With 0 nobody waits for one; a
        /// failover then repeats a little more. Not more than there are.
        replicas: u32 = 0, in 0 => 5;
        /// Certificates of the authorities to trust, in PEM form, for rediss. Empty: the machine's own.
        authority: Option<PathBuf> = None;
        /// How long connecting may take.
        connect_timeout: Span = Span::from_secs(2), in Span::from_millis(50) => Span::from_secs(60);
        /// How long an answer may take.
        response_timeout: Span = Span::from_secs(3), in Span::from_millis(50) => Span::from_secs(60);
    }
}

/// One shard of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSpec {
    /// Its name on the ring.
    pub name: String,
    /// Its share.
    pub weight: u32,
    /// Where it is.
    pub url: Secret<String>,
}

impl Value for ShardSpec {
    const IS_SECRET: bool = true;

    fn allowed() -> String {
        r#""NAME=URL" or "NAME*WEIGHT=URL", like "a=redis://127.0.0.1:6379", the weight 0 (off the ring) to 16"#
            .to_owned()
    }

    fn read(value: &Toml) -> Result<Self, String> {
        let read = || {
            let (name, url) = value.as_str()?.split_once('=')?;
            let (name, weight) = match name.split_once('*') {
                Some((name, weight)) => (name, weight.parse().ok()?),
                None => (name, 1),
            };
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let is_name = !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain);
            let is_fine = is_name && (0..=16).contains(&weight) && url.contains("://");
            is_fine.then(|| Self {
                name: name.to_owned(),
                weight,
                url: Secret::new(url.to_owned()),
            })
        };
        read().ok_or_else(Self::allowed)
    }

    fn show(&self) -> Toml {
        Toml::String(format!("{}*{}=***", self.name, self.weight))
    }
}
