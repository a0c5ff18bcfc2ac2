//! One socket's events, in the order it sent them, although some have to wait for an answer first.
//!
//! An event takes its [`Turn`] when it arrives. It may do what must be in order, entering the log
//! above all, when every turn before it has passed. An event that needs to ask nobody and finds the
//! chain empty goes without one.
//!
//! Bounded by the events that a session may have in flight.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The turns of one socket.
#[derive(Default)]
pub(crate) struct Chain {
    next: Cell<u64>,
    waiting: RefCell<VecDeque<Waiting>>,
}

struct Waiting {
    number: u64,
    waker: Option<Waker>,
}

/// A place in the chain. It passes when it is dropped, also by a panic.
pub(crate) struct Turn {
    chain: Rc<Chain>,
    number: u64,
}

impl Chain {
    /// True when nothing waits or is being done in its turn.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// The place behind all that were taken before.
    pub(crate) fn turn(self: &Rc<Self>) -> Turn {
        let number = self.next.get();
        self.next.set(number + 1);
        let waiting = Waiting {
            number,
            waker: None,
        };
        self.waiting.borrow_mut().push_back(waiting);
        Turn {
            chain: Rc::clone(self),
            number,
        }
    }
}

impl Turn {
    /// Resolves when every turn before this one has passed. Cancel-safe.
    pub(crate) async fn come(&self) {
        poll_fn(|context| {
            let mut waiting = self.chain.waiting.borrow_mut();
            match waiting.iter_mut().position(|w| w.number == self.number) {
                Some(0) | None => Poll::Ready(()),
                Some(place) => {
                    waiting[place].waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
    }

    /// Lets the next one go: what had to be in order is done.
    pub(crate) fn pass(self) {
        drop(self);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut waiting = self.chain.waiting.borrow_mut();
            waiting.retain(|w| w.number != self.number);
            waiting.front_mut().and_then(|first| first.waker.take())
        };
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn turns_come_in_the_order_they_were_taken() {
        let chain = Rc::new(Chain::default());
        assert!(chain.is_empty());
        let (first, second, third) = (chain.turn(), chain.turn(), chain.turn());
        assert!(third.come().now_or_never().is_none());
        assert!(second.come().now_or_never().is_none());
        assert!(first.come().now_or_never().is_some());
        assert!(
            first.come().now_or_never().is_some(),
            "it stays until it passes"
        );
        first.pass();
        assert!(third.come().now_or_never().is_none());
        assert!(second.come().now_or_never().is_some());
        second.pass();
        third.pass();
        assert!(chain.is_empty());
    }

    #[test]
    fn a_turn_that_is_given_up_holds_nobody_up() {
        let chain = Rc::new(Chain::default());
        let (first, second, third) = (chain.turn(), chain.turn(), chain.turn());
        drop(second);
        first.pass();
        assert!(third.come().now_or_never().is_some());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn work_of_any_length_is_done_in_order() {
        let local = tokio::task::LocalSet::new();
        let (chain, done) = (Rc::new(Chain::default()), Rc::new(RefCell::new(Vec::new())));
        for n in 0..20_u64 {
            let (turn, done) = (chain.turn(), Rc::clone(&done));
            local.spawn_local(async move {
                // Who came later is ready earlier.
                tokio::time::sleep(std::time::Duration::from_millis((20 - n) % 7)).await;
                turn.come().await;
                tokio::time::sleep(std::time::Duration::from_millis(n % 3)).await;
                assert!(n != 7, "a panic passes the turn on");
                done.borrow_mut().push(n);
            });
        }
        local.await;
        let expected: Vec<_> = (0..20).filter(|n| *n != 7).collect();
        assert_eq!(*done.borrow(), expected);
    }
}
