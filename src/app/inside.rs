//! What a node has for the other nodes of its cluster: the internal listener, the table of who lives, and
//! answers to their questions.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;

use super::Error;
use super::front::Inside;
use crate::backend::redis::{self as servers, Place};
use crate::cluster::emitter;
use crate::cluster::internal::{Internal, Options};
use crate::cluster::nodes::Nodes;
use crate::config::{Config, SECRET_BYTES_MIN};
use crate::delivery::{sockets, whereabouts};
use crate::edge::internal::Answerer;
use crate::edge::listener::{self, Listener};
use crate::server::Local;
use crate::types::{NodeId, Secret};

/// An internal listener that is bound but not served yet.
pub(super) struct Opened {
    pub(super) listener: Listener,
    internal: Internal,
}

impl Opened {
    /// Binds `edge.internal` and reads the cluster's secret.
    pub(super) fn open(config: &Config, node: &NodeId) -> Result<Self, Error> {
        let listener = listener::bind(config.edge.internal)?.listen()?;
        let secret = secret(config).map_err(Error::Build)?;
        let options = Options {
            requests_max: config.cluster.requests_max,
            // A poll's answer is what an outbox holds, binary as text.
            answer_max: config.rooms.outbox_bytes.bytes() * 2 + (1 << 20),
        };
        let nodes = Nodes::new(node.clone());
        let internal = Internal::new(nodes, &secret, rand::random(), options);
        Ok(Self { listener, internal })
    }

    pub(super) fn nodes(&self) -> &Nodes {
        self.internal.nodes()
    }

    /// Where it listens, with the port that was taken.
    pub(super) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// What the workers get of it.
    pub(super) fn inside(&self) -> Inside {
        Inside {
            internal: self.internal.clone(),
            answerer: Arc::new(answerer),
        }
    }
}

/// How emitters are heard, when they are.
pub(super) fn emitter(config: &Config) -> anyhow::Result<Option<emitter::Options>> {
    let section = &config.cluster.emitter;
    if !section.enabled {
        return Ok(None);
    }
    // Published to one node of a Redis Cluster, a message reaches all of them: any bucket will do.
    let redis = match &section.url {
        Some(url) => {
            let place = Place::parse(url.reveal(), "")
                .map_err(|error| anyhow::anyhow!("cluster.emitter.url {error}"))?;
            servers::Options::at(place)
        }
        None => super::servers::shards(&config.redis)?
            .into_iter()
            .next()
            .map(|shard| shard.server)
            .context("cluster.emitter.url must be set: there are no shards")?,
    };
    Ok(Some(emitter::Options {
        redis,
        prefix: section.prefix.clone(),
        message_max: config.transport.max_payload.bytes(),
    }))
}

fn answerer(local: &Rc<Local>) -> Rc<Answerer> {
    let local = Rc::clone(local);
    Rc::new(move |path, body| match path {
        sockets::TARGET => {
            let io = local.io().clone();
            Box::pin(async move { sockets::answer(&io, &body).await })
        }
        whereabouts::TARGET => Box::pin(std::future::ready(whereabouts::answer(&local, &body))),
        _ => Box::pin(std::future::ready(None)),
    })
}

fn secret(config: &Config) -> anyhow::Result<Secret<String>> {
    let cluster = &config.cluster;
    let secret = match (&cluster.secret, &cluster.secret_file) {
        (Some(secret), _) => secret.clone(),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).with_context(|| {
                format!(
                    "cannot read the secret in {} (cluster.secret_file)",
                    path.display()
                )
            })?;
            Secret::new(text.trim_end().to_owned())
        }
        (None, None) => anyhow::bail!("cluster.secret is not set"),
    };
    let length = secret.reveal().len();
    anyhow::ensure!(
        length >= SECRET_BYTES_MIN,
        "the cluster's secret is {length} bytes, expected at least {SECRET_BYTES_MIN}"
    );
    Ok(secret)
}
