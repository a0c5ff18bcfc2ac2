//! One socket: what it still has to write, how far its handshake is, and the task that reads it.
//!
//! The task is a hand-written future of a few words, because there are thousands of them. It reads
//! into the fleet's one buffer and gives each batch of messages to the fleet. Writing goes straight
//! to the kernel; only what does not fit there is queued and written by the task.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;
use tokio::sync::oneshot;

use super::fleet::Fleet;
use super::inbox::Inbox;
use super::link::Link;

/// A socket of the fleet.
pub(super) struct Client {
    pub(super) number: u32,
    pub(super) phase: Cell<Phase>,
    link: RefCell<Link>,
    outbound: RefCell<Outbound>,
    /// Whoever waits for the socket to be ready.
    opener: RefCell<Option<oneshot::Sender<Result<(), String>>>>,
}

/// How far a socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The server has not said that the session is open.
    Opening,
    /// CONNECT is sent.
    Connecting,
    /// The room is asked for.
    Joining,
    /// It takes part.
    Ready,
    /// It is over; the task ends at its next turn.
    Ended,
}

#[derive(Default)]
struct Outbound {
    bytes: Vec<u8>,
    waker: Option<Waker>,
}

/// Unwritten bytes at which a socket is given up: the server has stopped reading it.
const UNWRITTEN_MAX: usize = 8 << 20;

impl Client {
    pub(super) fn new(
        number: u32,
        link: Link,
        opener: oneshot::Sender<Result<(), String>>,
    ) -> Self {
        Self {
            number,
            phase: Cell::new(Phase::Opening),
            link: RefCell::new(link),
            outbound: RefCell::default(),
            opener: RefCell::new(Some(opener)),
        }
    }

    /// Tells whoever opened this socket how that ended; only the first time counts.
    pub(super) fn settle(&self, outcome: Result<(), String>) {
        if let Some(opener) = self.opener.take() {
            // The opener may have run out of patience, and then nobody needs to know.
            drop(opener.send(outcome));
        }
    }

    /// True until the socket has been ready or has failed.
    pub(super) fn is_opening(&self) -> bool {
        self.opener.borrow().is_some()
    }

    /// Writes `wire` at once if it can, else queues it.
    pub(super) fn send(&self, wire: &[u8]) {
        let mut outbound = self.outbound.borrow_mut();
        let written = if outbound.bytes.is_empty() {
            // An error here is found again by the task, which then says why the socket ended.
            self.link.borrow().try_write(wire).unwrap_or(0)
        } else {
            0
        };
        if written < wire.len() {
            outbound.bytes.extend_from_slice(&wire[written..]);
            if outbound.bytes.len() > UNWRITTEN_MAX {
                self.phase.set(Phase::Ended);
            }
            if let Some(waker) = &outbound.waker {
                waker.wake_by_ref();
            }
        }
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Result<(), String> {
        let mut outbound = self.outbound.borrow_mut();
        if !outbound
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            outbound.waker = Some(context.waker().clone());
        }
        if outbound.bytes.is_empty() {
            return Ok(());
        }
        let mut link = self.link.borrow_mut();
        let mut done = 0;
        while done < outbound.bytes.len() {
            match link.poll_write(context, &outbound.bytes[done..]) {
                Poll::Ready(written) => done += written.map_err(text)?,
                Poll::Pending => break,
            }
        }
        outbound.bytes.drain(..done);
        if outbound.bytes.is_empty() {
            outbound.bytes = Vec::new();
        }
        match link.poll_flush(context) {
            Poll::Ready(result) => result.map_err(text),
            Poll::Pending => Ok(()),
        }
    }
}

/// Reads a socket until it ends.
pub(super) struct Reader {
    client: Rc<Client>,
    fleet: Rc<Fleet>,
    inbox: Inbox,
    /// Bytes that came with the handshake are still to be looked at.
    has_rest: bool,
}

impl Reader {
    /// A reader that begins with `rest`, which was read together with the handshake.
    pub(super) fn new(client: Rc<Client>, fleet: Rc<Fleet>, rest: Vec<u8>) -> Self {
        Self {
            client,
            fleet,
            has_rest: !rest.is_empty(),
            inbox: Inbox::with(rest),
        }
    }

    /// One turn of the task: writes what waits, reads until nothing is there. Ready means the end,
    /// and why.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<String> {
        loop {
            if self.client.phase.get() == Phase::Ended {
                return Poll::Ready("ended by the server, or it stopped reading".to_owned());
            }
            if let Err(reason) = self.client.poll_flush(context) {
                return Poll::Ready(reason);
            }
            let mut buffer = self.fleet.buffer.borrow_mut();
            let kept = self.inbox.lay_out(&mut buffer);
            let mut read = 0;
            if !std::mem::take(&mut self.has_rest) {
                let mut space = ReadBuf::new(&mut buffer[kept..]);
                match self.client.link.borrow_mut().poll_read(context, &mut space) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(text(error)),
                    Poll::Ready(Ok(())) => read = space.filled().len(),
                }
                if read == 0 {
                    return Poll::Ready("closed by the server".to_owned());
                }
            }
            let taken = self
                .fleet
                .receive(&self.client, &mut self.inbox, &buffer[..kept + read]);
            drop(buffer);
            self.fleet.carry_out();
            if let Err(reason) = taken {
                return Poll::Ready(text(reason));
            }
        }
    }
}

impl Future for Reader {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let reader = self.get_mut();
        reader
            .turn(context)
            .map(|reason| reader.fleet.part(&reader.client, &reason))
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_socket_stays_small() {
        assert!(size_of::<Reader>() <= 64, "{} bytes", size_of::<Reader>());
        assert!(size_of::<Client>() <= 160, "{} bytes", size_of::<Client>());
    }
}
