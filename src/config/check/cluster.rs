//! Rules of `[cluster]`: nodes must know each other, and where they are.

use super::Rules;
use crate::config::{Config, Mode, SECRET_BYTES_MIN};

/// Notes every rule of `[cluster]` that the configuration breaks.
pub(super) fn check(config: &Config, rules: &mut Rules<'_>) {
    let cluster = &config.cluster;
    if cluster.secret.is_some() && cluster.secret_file.is_some() {
        let text = "must not be set together with cluster.secret".to_owned();
        rules.broken(
            "cluster.secret_file",
            &cluster.secret_file,
            &["cluster.secret"],
            text,
        );
    }
    let length = cluster.secret.as_ref().map(|secret| secret.reveal().len());
    if length.is_some_and(|length| length < SECRET_BYTES_MIN) {
        let text = format!("must be at least {SECRET_BYTES_MIN} bytes");
        rules.broken("cluster.secret", &cluster.secret, &[], text);
    }
    let emitter = &cluster.emitter;
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
    if emitter.prefix.is_empty() || !emitter.prefix.chars().all(is_plain) {
        let text = "must be a text without white space, like \"socket.io\"".to_owned();
        rules.broken("cluster.emitter.prefix", &emitter.prefix, &[], text);
    }
    if emitter.enabled && emitter.url.is_none() && config.mode == Mode::Embedded {
        let text =
            "must be set, because cluster.emitter.enabled is and embedded mode has no shards";
        let others = ["cluster.emitter.enabled", "mode"];
        rules.broken(
            "cluster.emitter.url",
            &emitter.url,
            &others,
            text.to_owned(),
        );
    }
    if config.mode == Mode::Cluster {
        of_nodes(config, rules);
        of_servers(config, rules);
    }
}

fn of_nodes(config: &Config, rules: &mut Rules<'_>) {
    let (cluster, edge) = (&config.cluster, &config.edge);
    if cluster.secret.is_none() && cluster.secret_file.is_none() {
        let text = format!(
            "must be set, at least {SECRET_BYTES_MIN} bytes, the same on every node (or cluster.secret_file)"
        );
        let others = ["cluster.secret_file", "mode"];
        rules.broken("cluster.secret", &cluster.secret, &others, text);
    }
    let others = [
        ("edge.listen", edge.listen),
        ("edge.operations", edge.operations),
    ];
    for (name, other) in others {
        if edge.internal == other && other.port() != 0 {
            let text = format!("must differ from {name}");
            rules.broken("edge.internal", &edge.internal, &[name, "mode"], text);
        }
    }
    let advertised = cluster.advertise.unwrap_or(edge.internal);
    if advertised.ip().is_unspecified() {
        let text = "must be an address at which other nodes reach edge.internal".to_owned();
        rules.broken(
            "cluster.advertise",
            &cluster.advertise,
            &["edge.internal", "mode"],
            text,
        );
    }
}

/// What the servers of mode "cluster" need.
fn of_servers(config: &Config, rules: &mut Rules<'_>) {
    let (redis, kafka) = (&config.redis, &config.kafka);
    if redis.shards.is_empty() == redis.cluster.is_none() {
        let text =
            "must name the shards, or redis.cluster a Redis Cluster, but not both".to_owned();
        rules.broken(
            "redis.shards",
            &redis.shards,
            &["redis.cluster", "mode"],
            text,
        );
    }
    let is_double = |index: usize| {
        let name = &redis.shards[index].name;
        redis.shards[..index]
            .iter()
            .any(|shard| shard.name == *name)
    };
    if (0..redis.shards.len()).any(is_double) || redis.shards.len() > SHARDS_MAX {
        let text = format!("must be at most {SHARDS_MAX} shards, each with a name of its own");
        rules.broken("redis.shards", &redis.shards, &["mode"], text);
    }
    if kafka.brokers.trim().is_empty() {
        let text = "must name at least one broker, like \"127.0.0.1:9092\"".to_owned();
        rules.broken("kafka.brokers", &kafka.brokers, &["mode"], text);
    }
    if kafka.sasl.is_some() && (kafka.username.is_empty() || kafka.password.is_none()) {
        let text = "must be set, with kafka.password, because kafka.sasl is".to_owned();
        rules.broken(
            "kafka.username",
            &kafka.username,
            &["kafka.sasl", "kafka.password"],
            text,
        );
    }
    if config.postgres.url.is_none() {
        let text = "must be set, like \"postgres://user@127.0.0.1/vestibule\"".to_owned();
        rules.broken("postgres.url", &config.postgres.url, &["mode"], text);
    }
}

/// As many as a client's position can hold.
const SHARDS_MAX: usize = 32;
