//! What a session still has to be sent.
//!
//! The hub puts frames in, the session's transport takes them out. The queue is bounded twice, by
//! frames and by bytes, because a thousand typing notices and one large attachment hurt in different
//! ways. A volatile frame is dropped whenever anything is still waiting; a durable one that does not
//! fit marks the outbox as overflowed, and its transport is closed: no frame is ever skipped.
//!
//! A *hold* keeps live frames back while a socket is attached to a room, so that what it missed goes
//! out before what came meanwhile.
//!
//! Not here: encoding (frames arrive encoded once for the whole room) and write deadlines (the
//! transport's).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::Waker;

use crate::protocol::frame::Frame;
use crate::types::CloseReason;

/// Bounds of one outbox.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Frames waiting, held ones included.
    pub frames_max: usize,
    /// Bytes waiting, held ones included.
    pub bytes_max: usize,
}

/// The outbox is full; its transport must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// The transport behind an outbox, as those who fill it see it.
///
/// Called while rooms are being walked: an implementation must not call back into the hub before it
/// returns, but do so from a task of its own.
pub trait Link {
    /// Sends what it can without waiting, and arranges to go on when the transport is writable.
    fn drain(&self);

    /// The transport is to be closed, after what is ready was sent where the reason allows it.
    fn close(&self, reason: CloseReason);

    /// True when something sent now would leave at once (volatile frames need it).
    fn is_writable(&self) -> bool;
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Frame>,
    /// Frames kept back while `holds > 0`.
    held: VecDeque<Frame>,
    bytes: usize,
    holds: u32,
}

impl Queue {
    fn len(&self) -> usize {
        self.ready.len() + self.held.len()
    }
}

/// A bounded queue of frames for one session.
pub struct Outbox {
    queue: RefCell<Queue>,
    link: RefCell<Option<Weak<dyn Link>>>,
    limits: Limits,
    is_dirty: Cell<bool>,
    is_closed: Cell<bool>,
    /// Who waits until it is no longer crowded.
    reader: Cell<Option<Waker>>,
}

/// Slots that an idle outbox keeps, so that small bursts do not allocate. 4 × 32 bytes.
const SLOTS_KEPT: usize = 4;

impl Outbox {
    /// An empty outbox with these bounds.
    #[must_use]
    pub fn new(limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            queue: RefCell::default(),
            link: RefCell::new(None),
            limits,
            is_dirty: Cell::new(false),
            is_closed: Cell::new(false),
            reader: Cell::new(None),
        })
    }

    /// Names who takes the frames out.
    pub fn connect(&self, link: Weak<dyn Link>) {
        *self.link.borrow_mut() = Some(link);
    }

    /// Queues a frame. Returns true when the outbox was clean before, so that the caller schedules
    /// it to be drained once.
    ///
    /// # Errors
    /// [`Overflow`] when it does not fit; the outbox then takes nothing more.
    pub fn push(&self, frame: Frame) -> Result<bool, Overflow> {
        if self.is_closed.get() {
            return Ok(false);
        }
        let mut queue = self.queue.borrow_mut();
        let bytes = queue.bytes + frame.len();
        // A single frame may be larger than the bound on bytes when it is alone: the payload limit
        // has already judged it.
        let fits = queue.len() < self.limits.frames_max
            && (bytes <= self.limits.bytes_max || queue.len() == 0);
        if !fits {
            drop(queue);
            self.close();
            return Err(Overflow);
        }
        queue.bytes = bytes;
        if queue.holds > 0 {
            queue.held.push_back(frame);
            return Ok(false);
        }
        queue.ready.push_back(frame);
        Ok(!self.is_dirty.replace(true))
    }

    /// True when a frame pushed now would leave at once; volatile frames are sent only then.
    pub fn is_writable(&self) -> bool {
        let idle = !self.is_closed.get() && self.queue.borrow().len() == 0;
        idle && self.with_link(|link| link.is_writable()).unwrap_or(false)
    }

    /// Keeps live frames back until the returned guard is released or dropped.
    pub fn hold(self: &Rc<Self>) -> Hold {
        self.queue.borrow_mut().holds += 1;
        Hold {
            outbox: Some(Rc::clone(self)),
        }
    }

    /// Sends what it can now.
    pub fn flush(&self) {
        self.is_dirty.set(false);
        self.with_link(|link| link.drain());
    }

    /// Takes nothing more and forgets what waits.
    pub fn close(&self) {
        self.is_closed.set(true);
        *self.queue.borrow_mut() = Queue::default();
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Takes nothing more; what is ready may still be taken out. What is held is forgotten.
    pub fn seal(&self) {
        self.is_closed.set(true);
        let mut queue = self.queue.borrow_mut();
        queue.bytes -= queue.held.iter().map(Frame::len).sum::<usize>();
        queue.held = VecDeque::new();
    }

    /// Has the transport closed.
    pub fn close_link(&self, reason: CloseReason) {
        self.with_link(|link| link.close(reason));
    }

    /// True after [`Outbox::close`], [`Outbox::seal`] or an overflow.
    pub fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// True when it is more than half full of frames: its session is not read until it is less, so
    /// that a client's own acks and echoes do not overflow it. `waker` is woken then.
    pub fn is_crowded(&self, waker: &Waker) -> bool {
        let is_crowded = self.queue.borrow().len() > self.limits.frames_max / 2;
        if is_crowded {
            self.reader.set(Some(waker.clone()));
        }
        is_crowded
    }

    /// True when nothing is ready to be sent.
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().ready.is_empty()
    }

    /// The oldest frames, at most `count`, still in the queue.
    pub fn peek<R>(
        &self,
        count: usize,
        read: impl FnOnce(&mut dyn Iterator<Item = &Frame>) -> R,
    ) -> R {
        read(&mut self.queue.borrow().ready.iter().take(count))
    }

    /// Removes the oldest frame.
    pub fn pop(&self) -> Option<Frame> {
        let mut queue = self.queue.borrow_mut();
        let frame = queue.ready.pop_front()?;
        queue.bytes -= frame.len();
        if queue.ready.is_empty() && queue.ready.capacity() > SLOTS_KEPT {
            queue.ready.shrink_to(SLOTS_KEPT);
        }
        if queue.len() <= self.limits.frames_max / 2
            && let Some(reader) = self.reader.take()
        {
            reader.wake();
        }
        Some(frame)
    }

    fn with_link<R>(&self, act: impl FnOnce(&dyn Link) -> R) -> Option<R> {
        let link = self.link.borrow().as_ref().and_then(Weak::upgrade)?;
        Some(act(&*link))
    }

    /// Queues what goes before everything that is held.
    fn send_first(&self, frames: Vec<Frame>) {
        if self.is_closed.get() {
            return;
        }
        {
            let mut queue = self.queue.borrow_mut();
            queue.bytes += frames.iter().map(Frame::len).sum::<usize>();
            queue.ready.extend(frames);
        }
        self.flush();
    }

    fn release(&self, first: Vec<Frame>) {
        if self.is_closed.get() {
            return;
        }
        {
            let mut queue = self.queue.borrow_mut();
            queue.holds -= 1;
            for frame in first {
                queue.bytes += frame.len();
                queue.ready.push_back(frame);
            }
            if queue.holds == 0 {
                let mut held = std::mem::take(&mut queue.held);
                queue.ready.append(&mut held);
            }
        }
        self.flush();
    }
}

/// Live frames of an outbox are kept back while this lives.
pub struct Hold {
    outbox: Option<Rc<Outbox>>,
}

impl Hold {
    /// Sends `first`, then everything that was kept back, then lets live frames through again.
    pub fn release(mut self, first: Vec<Frame>) {
        if let Some(outbox) = self.outbox.take() {
            outbox.release(first);
        }
    }

    /// Sends frames before what is kept back, and goes on holding that.
    pub fn send_first(&self, frames: Vec<Frame>) {
        if let Some(outbox) = &self.outbox {
            outbox.send_first(frames);
        }
    }

    /// Whether what was sent first has left, or can not any more.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let outbox = self.outbox.as_ref();
        outbox.is_none_or(|outbox| outbox.is_closed() || outbox.is_empty())
    }

    /// Lets live frames through again, without what was kept back unless others hold it too.
    pub fn forget(self) {
        if let Some(outbox) = &self.outbox {
            let mut queue = outbox.queue.borrow_mut();
            if queue.holds == 1 {
                queue.bytes -= queue.held.iter().map(Frame::len).sum::<usize>();
                queue.held = VecDeque::new();
            }
        }
    }
}

/// A hold that is given up (its task ended early) must not silence the socket for ever.
impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            outbox.release(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Frame {
        Frame::text(&[text])
    }

    fn texts(outbox: &Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop())
            .map(|frame| String::from_utf8_lossy(&frame.wire()[2..]).into_owned())
            .collect()
    }

    fn outbox(frames_max: usize, bytes_max: usize) -> Rc<Outbox> {
        Outbox::new(Limits {
            frames_max,
            bytes_max,
        })
    }

    #[test]
    fn only_the_first_frame_asks_to_be_drained() {
        let outbox = outbox(10, 1000);
        assert_eq!(outbox.push(frame("4a")), Ok(true));
        assert_eq!(outbox.push(frame("4b")), Ok(false));
        outbox.flush();
        assert_eq!(outbox.push(frame("4c")), Ok(true));
        assert_eq!(texts(&outbox), ["4a", "4b", "4c"]);
    }

    #[test]
    fn a_full_outbox_takes_nothing_more() {
        let by_frames = outbox(2, 1000);
        assert!(by_frames.push(frame("4a")).is_ok() && by_frames.push(frame("4b")).is_ok());
        assert_eq!(by_frames.push(frame("4c")), Err(Overflow));
        assert!(by_frames.is_closed());
        assert_eq!(by_frames.push(frame("4d")), Ok(false));
        assert!(texts(&by_frames).is_empty());

        let by_bytes = outbox(10, 8);
        assert!(by_bytes.push(frame("4aaaa")).is_ok());
        assert_eq!(by_bytes.push(frame("4b")), Err(Overflow));
    }

    #[test]
    fn one_large_frame_passes_when_alone() {
        let outbox = outbox(10, 8);
        assert_eq!(outbox.push(frame("4aaaaaaaaaaaaaaaaa")), Ok(true));
        assert!(outbox.pop().is_some());
        assert!(outbox.push(frame("4b")).is_ok(), "bytes are given back");
    }

    #[test]
    fn what_was_missed_goes_before_what_came_meanwhile() {
        let outbox = outbox(10, 1000);
        outbox.push(frame("4before")).unwrap();
        let hold = outbox.hold();
        outbox.push(frame("4live")).unwrap();
        assert_eq!(texts(&outbox), ["4before"]);
        hold.release(vec![frame("4missed")]);
        outbox.push(frame("4after")).unwrap();
        assert_eq!(texts(&outbox), ["4missed", "4live", "4after"]);
    }

    #[test]
    fn a_hold_that_is_given_up_lets_frames_through() {
        let outbox = outbox(10, 1000);
        let (one, two) = (outbox.hold(), outbox.hold());
        outbox.push(frame("4live")).unwrap();
        drop(one);
        assert!(outbox.is_empty());
        drop(two);
        assert_eq!(texts(&outbox), ["4live"]);
    }

    #[test]
    fn an_idle_outbox_keeps_little_memory() {
        let outbox = outbox(1000, 100_000);
        for _ in 0..500 {
            outbox.push(frame("4x")).unwrap();
        }
        assert_eq!(texts(&outbox).len(), 500);
        assert!(outbox.queue.borrow().ready.capacity() <= SLOTS_KEPT);
    }
}
