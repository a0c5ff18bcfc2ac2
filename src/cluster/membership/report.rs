//! What an operator is told of the cluster.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DUTY_NODES, DUTY_RING, Live, Load, Membership, duty_presence, lock};
use crate::cluster::nodes::Tag;
use crate::types::{NodeId, ShardId, Timestamp};

/// The cluster as this node knows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// This node.
    pub node: NodeId,
    /// Whether it holds its lease.
    pub has_lease: bool,
    /// Who lives.
    pub nodes: Vec<NodeReport>,
    /// Who died and is not swept yet.
    pub gone: Vec<NodeId>,
    /// The shards; none where there is one node.
    pub shards: Vec<ShardReport>,
    /// By what the shards share the rooms; nothing where there is one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingReport>,
    /// Who does what is done once.
    pub duties: BTreeMap<String, Option<NodeId>>,
}

/// The ring of the shards.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RingReport {
    /// Rises with every change of it.
    pub version: u64,
    /// Whether rooms may still be where they were before the last change.
    pub moving: bool,
}

/// One node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Its name.
    pub id: NodeId,
    /// What names it in session ids.
    pub tag: String,
    /// Where other nodes reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<std::net::SocketAddr>,
    /// What it runs.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// How busy it is.
    pub load: Load,
    /// How many partitions of topics it pumps.
    pub partitions: usize,
    /// What is left of its lease, in milliseconds; nothing where there is one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_remaining_ms: Option<u64>,
}

/// One shard.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardReport {
    /// Its name on the ring.
    pub name: String,
    /// Whether it answered a moment ago.
    #[serde(rename = "reachable")]
    pub is_reachable: bool,
    /// Its epoch, when it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Its share of the keys, of 1.
    pub share: f64,
}

impl Membership {
    /// The cluster as this node knows it.
    #[must_use]
    pub fn report(&self) -> Report {
        let view = self.view();
        let shards = match self {
            Self::Alone(_) => Vec::new(),
            Self::Shared(shared) => lock(&shared.0.reached).clone(),
        };
        let numbers = (0..u16::try_from(shards.len()).unwrap_or(u16::MAX)).map(ShardId);
        let duties = numbers
            .map(duty_presence)
            .chain([DUTY_NODES, DUTY_RING].map(str::to_owned));
        let is_alone = matches!(self, Self::Alone(_));
        let node = |live: &Live| NodeReport {
            id: live.member.id.clone(),
            tag: Tag::of(&live.member.id).as_str().to_owned(),
            address: live.member.address,
            version: live.member.version.clone(),
            started: live.member.started,
            load: live.member.load,
            partitions: live.member.pumps.len(),
            lease_remaining_ms: (!is_alone)
                .then(|| u64::try_from(live.left.as_millis()).unwrap_or(u64::MAX)),
        };
        Report {
            node: self.me().id,
            has_lease: self.holds_lease(),
            nodes: view.live.iter().map(node).collect(),
            gone: view.gone.iter().map(|gone| gone.node.clone()).collect(),
            duties: duties
                .map(|duty| (duty.clone(), self.duty_of(&duty)))
                .collect(),
            ring: match self {
                Self::Alone(_) => None,
                Self::Shared(shared) => Some(shared.ring()),
            },
            shards,
        }
    }
}
