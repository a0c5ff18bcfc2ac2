//! The nodes that live now, as every part of this node reads them.
//!
//! Membership sets the table about once a second; reading it takes no lock. A node that drains stays in
//! it to its end: requests for its polling sessions come through the others by then.
//!
//! A session id names its node by a [`Tag`] of four characters, a hash of the node's id. Two of a hundred
//! nodes share one once in 3,000 clusters. So a node asks [`Nodes::clash`] before it joins, and takes
//! another name if it may choose one; a clash that gets in all the same (two nodes that joined at once)
//! is logged and counted at each [`Nodes::set`], and the tag belongs to the lesser id until it is gone:
//! clients of the other node whose polls go astray start anew.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine as _;
use sha2::{Digest, Sha256};

use crate::telemetry::metrics;
use crate::types::{NodeId, SessionId};

/// What session ids carry of their node: four characters of `[A-Za-z0-9_-]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; 4]);

impl Tag {
    /// Of a node.
    #[must_use]
    pub fn of(node: &NodeId) -> Self {
        let hash = Sha256::digest(node.as_str());
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&hash[..3]);
        let mut tag = [0; 4];
        tag.copy_from_slice(text.as_bytes());
        Self(tag)
    }

    /// Of the node that a session id names.
    #[must_use]
    pub fn of_session(id: &SessionId) -> Self {
        let mut tag = [0; 4];
        tag.copy_from_slice(&id.as_str().as_bytes()[1..5]);
        Self(tag)
    }

    /// The four characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Base64 or a part of an id, both ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A node that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its name.
    pub id: NodeId,
    /// Where its internal listener is.
    pub address: SocketAddr,
    /// What it runs.
    pub version: Arc<str>,
    /// Its open client connections.
    pub load: u32,
}

/// The table. Cheap to clone; all clones see the same.
#[derive(Clone)]
pub struct Nodes(Arc<Inner>);

struct Inner {
    me: NodeId,
    table: ArcSwap<Table>,
    /// By how many milliseconds the nodes' common clock is ahead of this machine's.
    ahead: AtomicI64,
}

#[derive(Default)]
struct Table {
    by_tag: HashMap<Tag, Arc<NodeInfo>>,
    /// In the order of their ids.
    all: Arc<[Arc<NodeInfo>]>,
}

impl Nodes {
    /// An empty table, as this node reads it.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self(Arc::new(Inner {
            me,
            table: ArcSwap::default(),
            ahead: AtomicI64::new(0),
        }))
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> &NodeId {
        &self.0.me
    }

    /// Replaces the table. This node may be in it or not; of two entries with one id the last counts.
    pub fn set(&self, nodes: Vec<NodeInfo>) {
        let by_id: std::collections::BTreeMap<NodeId, NodeInfo> = nodes
            .into_iter()
            .map(|node| (node.id.clone(), node))
            .collect();
        let all: Arc<[_]> = by_id.into_values().map(Arc::new).collect();
        let mut by_tag: HashMap<Tag, Arc<NodeInfo>> = HashMap::with_capacity(all.len());
        let mut clashes = 0_u32;
        for node in &*all {
            let tag = Tag::of(&node.id);
            if let Some(first) = by_tag.get(&tag) {
                clashes += 1;
                tracing::error!(first = %first.id, second = %node.id, ?tag,
                    "two nodes share a tag; give one of them another name");
            } else {
                by_tag.insert(tag, Arc::clone(node));
            }
        }
        metrics::INTERNAL_TAG_CLASHES.set(f64::from(clashes));
        self.0.table.store(Arc::new(Table { by_tag, all }));
    }

    /// Sets by how many milliseconds the clock that all nodes ask is ahead of this machine's.
    pub fn set_clock(&self, ahead: i64) {
        self.0.ahead.store(ahead, Ordering::Relaxed);
    }

    /// The time by the clock that all nodes ask: machines' own may be wrong, and differ.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let (ahead, now) = (self.0.ahead.load(Ordering::Relaxed), SystemTime::now());
        let by = Duration::from_millis(ahead.unsigned_abs());
        let right = match ahead < 0 {
            true => now.checked_sub(by),
            false => now.checked_add(by),
        };
        right.unwrap_or(now)
    }

    /// The live node that a tag names; also this one.
    #[must_use]
    pub fn find_by_tag(&self, tag: Tag) -> Option<Arc<NodeInfo>> {
        self.0.table.load().by_tag.get(&tag).cloned()
    }

    /// The live nodes, this one too if membership knows it, in the order of their ids.
    #[must_use]
    pub fn all(&self) -> Arc<[Arc<NodeInfo>]> {
        Arc::clone(&self.0.table.load().all)
    }

    /// The live nodes without this one.
    #[must_use]
    pub fn others(&self) -> Vec<Arc<NodeInfo>> {
        let all = self.all();
        all.iter()
            .filter(|node| node.id != self.0.me)
            .cloned()
            .collect()
    }

    /// The live node of another name that has the tag of this name: who would join with it must not.
    #[must_use]
    pub fn clash(&self, id: &NodeId) -> Option<NodeId> {
        let found = self.find_by_tag(Tag::of(id))?;
        (found.id != *id).then(|| found.id.clone())
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, port: u16) -> NodeInfo {
        NodeInfo {
            id: NodeId::parse(id).unwrap(),
            address: ([127, 0, 0, 1], port).into(),
            version: "0".into(),
            load: 0,
        }
    }

    #[test]
    fn a_session_id_leads_to_its_node_while_that_lives() {
        let nodes = Nodes::new(NodeId::parse("a").unwrap());
        let tag = Tag::of(&NodeId::parse("b").unwrap());
        let id = SessionId::parse(&format!("A{}{}", tag.as_str(), "x".repeat(15))).unwrap();
        assert_eq!(Tag::of_session(&id), tag);
        assert_eq!(nodes.find_by_tag(tag), None);
        nodes.set(vec![node("b", 1), node("a", 2), node("b", 3)]);
        assert_eq!(nodes.find_by_tag(tag).unwrap().address.port(), 3);
        assert_eq!(nodes.all().len(), 2);
        assert_eq!(nodes.others(), [Arc::new(node("b", 3))]);
        nodes.set(vec![node("a", 2)]);
        assert_eq!(nodes.find_by_tag(tag), None);
    }

    #[test]
    fn two_names_with_one_tag_are_found_out() {
        // Found by trying: any two names meet once in 16 million.
        let mut seen = HashMap::new();
        let (one, other) = (0..)
            .find_map(|n| {
                let id = NodeId::parse(&format!("n{n}")).unwrap();
                let before = seen.insert(Tag::of(&id), id.clone());
                before.map(|before| (before, id))
            })
            .unwrap();
        let nodes = Nodes::new(one.clone());
        nodes.set(vec![node(one.as_str(), 1)]);
        assert_eq!(nodes.clash(&other), Some(one.clone()));
        assert_eq!(nodes.clash(&one), None);
        nodes.set(vec![node(one.as_str(), 1), node(other.as_str(), 2)]);
        let lesser = one.min(other);
        assert_eq!(nodes.find_by_tag(Tag::of(&lesser)).unwrap().id, lesser);
    }

    #[test]
    fn nodes_with_wrong_clocks_agree_on_the_time() {
        let nodes = Nodes::new(NodeId::parse("a").unwrap());
        for ahead in [600_000, -600_000, 0] {
            nodes.set_clock(ahead);
            let (now, own) = (nodes.now(), SystemTime::now());
            let distance = match ahead < 0 {
                true => own.duration_since(now),
                false => now.duration_since(own),
            };
            let distance = distance.unwrap_or_default();
            let wanted = Duration::from_millis(i64::unsigned_abs(ahead));
            assert!(
                distance.abs_diff(wanted) < Duration::from_secs(60),
                "{ahead}: {distance:?}"
            );
        }
    }
}
