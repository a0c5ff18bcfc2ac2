//! Long-polling: one GET waits for packets, one POST at a time brings them.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use super::session::{CLOSE, Carrier, NOOP, Session};
use crate::protocol::engineio::handshake::Refusal;
use crate::protocol::engineio::payload::{self, Encoder, Item};
use crate::protocol::engineio::session::{Get, Post};
use crate::rooms::Link;
use crate::telemetry::metrics;
use crate::types::CloseReason;

/// The answer to a polling request.
#[derive(Debug)]
pub(super) enum Answer {
    /// 200 with packets.
    Packets(String),
    /// 200 `ok`.
    Ok,
    /// 400 or 403 with a code.
    Refused(Refusal),
    /// 400: the body was no payload, or came beside another.
    Bad,
}

/// Packets of one body before the worker's other tasks get a turn.
const PACKETS_PER_TURN: usize = 64;

/// What a client stamps a request with, so that nobody answers it from a cache.
pub(super) fn stamp(query: &str) -> Option<u64> {
    let mut pairs = query.split('&');
    let stamp = pairs.find_map(|pair| pair.strip_prefix("t="))?;
    Some(xxh3_64(stamp.as_bytes()))
}

impl Session {
    /// A GET.
    pub(super) fn get(&self, reply: oneshot::Sender<Answer>) {
        self.tick(Instant::now());
        let decision = self.machine.borrow_mut().get();
        match decision {
            Get::Serve if self.outbox.is_empty() => self.park(reply),
            Get::ServeOrNoop if self.outbox.is_empty() => {
                give(reply, Answer::Packets(NOOP.to_owned()));
            }
            Get::Serve | Get::ServeOrNoop => self.hand_over(reply),
            Get::Duplicate => {
                give(reply, Answer::Bad);
                self.close(CloseReason::TransportError);
            }
            Get::Refuse(Refusal::SessionUnknown) if self.is_over.get() => {
                // The end of a session that had no GET to be told by.
                let is_goodbye = self.is_goodbye.get();
                let is_last = self.outbox.is_empty();
                let words = if is_goodbye {
                    NOOP.to_owned()
                } else {
                    // In the reference server's words.
                    self.last_words(&[NOOP, CLOSE])
                };
                give(reply, Answer::Packets(words));
                if is_last {
                    self.leave_map();
                }
            }
            Get::Refuse(refusal) => give(reply, Answer::Refused(refusal)),
        }
    }

    /// A GET that carries a stamp. A client stamps each one anew: the same stamp again means that somebody on
    /// the way sent the request twice (balancers do, when the node that carried it is gone), and the packets
    /// that the first took along are lost. The client comes back and resumes.
    pub(super) fn get_stamped(&self, reply: oneshot::Sender<Answer>, stamp: Option<u64>) {
        if stamp.is_some_and(|stamp| self.is_repeated(stamp)) {
            give(reply, Answer::Bad);
            self.close(CloseReason::TransportError);
        } else {
            self.get(reply);
        }
    }

    /// What the request that opened it was stamped with. The first GET carries the answer to CONNECT: that one sent
    /// twice has to be known too.
    pub(super) fn opened_with(&self, stamp: Option<u64>) {
        self.stamp.set((stamp, false));
    }

    /// Who never changes the stamp means nothing by it.
    fn is_repeated(&self, stamp: u64) -> bool {
        let (last, has_changed) = self.stamp.get();
        let is_same = last == Some(stamp);
        let has_changed = has_changed || (last.is_some() && !is_same);
        self.stamp.set((Some(stamp), has_changed));
        is_same && has_changed
    }

    /// The client gave up its GET; `has_lost` when that took packets along.
    pub(super) fn get_dropped(&self, has_lost: bool) {
        let is_parked = match &*self.carrier.borrow() {
            Carrier::Polling(Some(parked)) => parked.is_closed(),
            _ => false,
        };
        if is_parked {
            *self.carrier.borrow_mut() = Carrier::Polling(None);
            self.machine.borrow_mut().released();
        }
        if is_parked || has_lost {
            self.close(CloseReason::TransportError);
        }
    }

    /// May a POST's body be read?
    pub(super) fn begin_post(&self) -> Result<(), Answer> {
        self.tick(Instant::now());
        let decision = self.machine.borrow_mut().post();
        match decision {
            Post::Read => Ok(()),
            Post::Refuse(refusal) => Err(Answer::Refused(refusal)),
            Post::Duplicate => {
                self.close(CloseReason::TransportError);
                Err(Answer::Bad)
            }
        }
    }

    /// A POST's body could not be taken; with a reason, the session ends for it.
    pub(super) fn abandon_post(&self, reason: Option<CloseReason>) {
        self.machine.borrow_mut().posted();
        if let Some(reason) = reason {
            self.close(reason);
        }
    }

    /// Handles a POST's packets in order, as fast as the session's events in flight allow.
    pub(super) async fn post(self: Rc<Self>, body: String) -> Answer {
        let mut answer = Answer::Ok;
        metrics::BYTES_RECEIVED.add(body.len() as u64);
        for (index, item) in payload::decode(&body).enumerate() {
            if index % PACKETS_PER_TURN == PACKETS_PER_TURN - 1 {
                // A body of tiny packets must not keep the flusher from its turn.
                tokio::task::yield_now().await;
            }
            poll_fn(|context| {
                let is_paused = !self.is_over.get() && self.client.is_paused(context.waker());
                if is_paused {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            let done = match item {
                Ok(Item::Text(kind, rest)) => self.packet((kind, rest)),
                Ok(Item::Binary(data)) => self.attachment(data),
                Err(violation) => {
                    tracing::debug!(%violation, "bad payload");
                    Err(CloseReason::ParseError)
                }
            };
            if let Err(reason) = done {
                if reason != CloseReason::TransportClose {
                    answer = Answer::Bad;
                }
                self.close(reason);
                break;
            }
        }
        self.machine.borrow_mut().posted();
        answer
    }

    pub(super) fn park(&self, reply: oneshot::Sender<Answer>) {
        *self.carrier.borrow_mut() = Carrier::Polling(Some(reply));
        self.machine.borrow_mut().parked();
    }

    /// Answers the parked GET with one packet.
    pub(super) fn release(&self, packet: &str) {
        if let Some(parked) = self.take_parked() {
            give(parked, Answer::Packets(packet.to_owned()));
        }
    }

    pub(super) fn take_parked(&self) -> Option<oneshot::Sender<Answer>> {
        let parked = match &mut *self.carrier.borrow_mut() {
            Carrier::Polling(parked) => parked.take()?,
            Carrier::WebSocket(_) => return None,
        };
        self.machine.borrow_mut().released();
        Some(parked)
    }

    /// Answers a GET with what waits. Frames given to nobody are lost, and no frame is ever skipped:
    /// the session ends with them.
    pub(super) fn hand_over(&self, reply: oneshot::Sender<Answer>) {
        if reply.is_closed()
            || reply
                .send(Answer::Packets(self.collect().finish()))
                .is_err()
        {
            self.close(CloseReason::TransportError);
        }
    }

    /// As many waiting frames as fit into one answer.
    pub(super) fn collect(&self) -> Encoder {
        let max = self
            .sessions
            .upgrade()
            .map_or(0, |sessions| sessions.settings().payload_max);
        let mut encoder = Encoder::default();
        while self.outbox.peek(1, |frames| {
            frames.next().is_some_and(|frame| encoder.add(frame, max))
        }) {
            self.outbox.pop();
            metrics::PACKETS_SENT.add(1);
        }
        encoder
    }

    /// What still waits, or if nothing does, the end in these words; never both. A stock client hands the packets
    /// of an answer on a moment after it has read all of it, and an end beside them comes first: it would keep
    /// the events for after its return without counting them as seen, and be brought them once more.
    pub(super) fn last_words(&self, end: &[&str]) -> String {
        let mut encoder = self.collect();
        if encoder.is_empty() {
            end.iter().for_each(|word| encoder.add_text(word));
        }
        encoder.finish()
    }
}

/// Nobody waits any more when the client gave its request up; that is noticed on its own.
pub(super) fn give(reply: oneshot::Sender<Answer>, answer: Answer) {
    drop(reply.send(answer));
}
