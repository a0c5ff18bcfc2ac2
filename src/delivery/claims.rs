//! Which partitions a pump reads, told to the other nodes: they pump those that a dead node claimed.

use super::turn::Event;
use crate::cluster::membership::{Membership, Partitions};
use crate::eventlog::Polled;

/// What one pump reads. Once it is dropped the node claims nothing.
pub(super) struct Claims {
    membership: Option<Membership>,
    partitions: Partitions,
}

impl Claims {
    pub(super) fn new(membership: Option<Membership>) -> Self {
        Self {
            membership,
            partitions: Partitions::default(),
        }
    }

    /// Tells the others when partitions came or went.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Polled(Ok(Polled::Assigned(assigned))) => {
                for one in assigned {
                    self.partitions.insert(&one.topic, one.partition);
                }
            }
            Event::Polled(Ok(Polled::Revoked(revocation))) => {
                for (topic, partition) in &revocation.partitions {
                    self.partitions.remove(topic, *partition);
                }
            }
            _ => return,
        }
        self.tell(self.partitions.clone());
    }

    fn tell(&self, partitions: Partitions) {
        if let Some(membership) = &self.membership {
            membership.announce(partitions);
        }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.tell(Partitions::default());
    }
}
