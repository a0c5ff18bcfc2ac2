//! What emitters hand to the workers, in one order for all of them.
//!
//! A worker applies what its own handlers emit at once, so that a socket is sent everything in the order
//! in which its handlers emitted it; other workers get it through their lane. Both happen at one point of
//! one order: an emitter first applies what other workers put into its own lane before. Every member
//! of a room therefore sees its broadcasts in the same order, whichever worker it lives on.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::io::Overloaded;
use super::local::Local;
use crate::rooms::Broadcast;

/// Something that each worker does with its own state.
pub(super) type Act = dyn Fn(&Rc<Local>) + Send + Sync;

/// One thing for every worker to do.
#[derive(Clone)]
pub(super) enum Order {
    /// Put a frame into outboxes.
    Broadcast(Box<Broadcast>),
    /// Change sockets: have them join, leave, go.
    Run(Arc<Act>),
}

/// One lane for each worker. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lanes(Arc<Inner>);

struct Inner {
    /// All under one lock, which is what makes the order one. Held for a few pushes, never longer.
    queues: Mutex<Vec<VecDeque<Order>>>,
    bells: Box<[Notify]>,
    capacity: usize,
}

impl Lanes {
    pub(super) fn new(count: usize, capacity: usize) -> Self {
        let queues = Mutex::new((0..count).map(|_| VecDeque::new()).collect());
        let bells = (0..count).map(|_| Notify::new()).collect();
        Self(Arc::new(Inner {
            queues,
            bells,
            capacity,
        }))
    }

    /// Gives an order to every worker but `own`, and returns what `own` has to apply before it.
    pub(super) fn give(
        &self,
        order: &Order,
        own: Option<usize>,
    ) -> (VecDeque<Order>, Result<(), Overloaded>) {
        let mut result = Ok(());
        let mut before = VecDeque::new();
        let mut queues = self.0.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, queue) in queues.iter_mut().enumerate() {
            if Some(index) == own {
                before = std::mem::take(queue);
            } else if queue.len() < self.0.capacity {
                queue.push_back(order.clone());
            } else {
                result = Err(Overloaded);
            }
        }
        drop(queues);
        for (index, bell) in self.0.bells.iter().enumerate() {
            if Some(index) != own {
                bell.notify_one();
            }
        }
        (before, result)
    }

    /// What waits for a worker.
    pub(super) fn take(&self, index: usize) -> VecDeque<Order> {
        let mut queues = self.0.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues
            .get_mut(index)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Resolves when something was given to a worker. Cancel-safe.
    pub(super) async fn given(&self, index: usize) {
        self.0.bells[index].notified().await;
    }
}
