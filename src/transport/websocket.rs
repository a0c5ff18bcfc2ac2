//! One WebSocket: frames in, outbox out.
//!
//! An idle connection holds no read buffer: the frame reader exists only from the moment the socket
//! is readable until every byte it was handed has been used up. Writes are one vectored call for
//! everything that waits, made by the worker's flusher at the end of a turn; this task only goes on
//! where the kernel had no room.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reader::read_burst;
use super::stream::Stream;
use crate::protocol::frame::Frame;
use crate::rooms::Outbox;
use crate::telemetry::metrics;
use crate::types::CloseReason;

/// What a WebSocket's messages are for.
pub(super) trait Route {
    /// A text message.
    fn text(&self, socket: &Rc<WebSocket>, text: &str) -> Result<(), CloseReason>;
    /// A binary message.
    fn binary(&self, socket: &Rc<WebSocket>, data: Bytes) -> Result<(), CloseReason>;
    /// True when nothing more must be read now; the waker is woken when that changes.
    fn is_paused(&self, waker: &Waker) -> bool;
    /// The connection ended by itself or broke a rule.
    fn ended(&self, socket: &Rc<WebSocket>, reason: CloseReason);
}

/// A WebSocket and where its write stands.
pub(super) struct WebSocket {
    pub(super) stream: RefCell<Stream>,
    pub(super) outbox: RefCell<Option<Rc<Outbox>>>,
    /// Control frames (pongs, the probe's answer) that go before the outbox.
    pub(super) control: RefCell<Vec<Frame>>,
    /// Bytes of the frame on its way that are written already.
    pub(super) written: Cell<usize>,
    /// Whether those bytes are of the first control frame, and not of the outbox's first frame: an
    /// outbox may be given, or emptied, while a frame is partly out.
    pub(super) is_control: Cell<bool>,
    pub(super) is_blocked: Cell<bool>,
    pub(super) closing: Cell<Option<CloseReason>>,
    /// The status that tells the peer which rule it broke, when it broke one.
    pub(super) fault: Cell<Fault>,
    /// The route asked for the end, so it need not be told.
    pub(super) is_told: Cell<bool>,
    /// Messages handed on since the task last let others run.
    pub(super) turn: Cell<u32>,
    pub(super) waker: RefCell<Option<Waker>>,
    pub(super) message_max: usize,
}

/// A reader at work; it must not be dropped between two frames of a message.
type Reading = Pin<Box<dyn Future<Output = Result<(), CloseReason>>>>;

/// Frames read before the worker's other tasks get a turn. Far fewer than an outbox holds.
const FRAMES_PER_TURN: u32 = 64;
/// Frames gathered into one write. 64 small frames fill a segment many times over.
const FRAMES_PER_WRITE: usize = 64;
/// Pongs owed at once; a peer that floods pings and does not read is closed.
const CONTROL_MAX: usize = 16;
/// How long a closed connection may take to let its last bytes out.
const LINGER: Duration = Duration::from_secs(2);

impl WebSocket {
    pub(super) fn new(stream: Stream, message_max: usize) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(stream),
            outbox: RefCell::new(None),
            control: RefCell::default(),
            written: Cell::new(0),
            is_control: Cell::new(false),
            is_blocked: Cell::new(false),
            closing: Cell::new(None),
            fault: Cell::default(),
            is_told: Cell::new(false),
            turn: Cell::new(0),
            waker: RefCell::new(None),
            message_max,
        })
    }

    /// From now on this is where the outbox's frames go.
    pub(super) fn serve(&self, outbox: Rc<Outbox>) {
        *self.outbox.borrow_mut() = Some(outbox);
    }

    /// Sends a frame ahead of the outbox.
    pub(super) fn send_control(&self, frame: Frame) {
        let is_flood = {
            let mut control = self.control.borrow_mut();
            control.push(frame);
            control.len() > CONTROL_MAX
        };
        if is_flood {
            self.fail(CloseReason::SlowConsumer);
        } else {
            self.flush();
        }
    }

    /// Ends the connection from its own task; the route is not told of what it asked for.
    pub(super) fn close(&self, reason: CloseReason) {
        self.is_told.set(true);
        self.fail(reason);
    }

    /// Ends the connection, and has its task tell the route.
    fn fail(&self, reason: CloseReason) {
        if self.closing.get().is_none() {
            self.closing.set(Some(reason));
        }
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// True when others must run first; this task is woken again behind them. Whoever pipelines
    /// would else fill the outboxes of healthy receivers before the flusher has its turn.
    pub(super) fn is_turn_over(&self, context: &Context<'_>) -> bool {
        let is_over = self.turn.get() >= FRAMES_PER_TURN;
        if is_over {
            context.waker().wake_by_ref();
        }
        is_over
    }

    /// True when a frame written now would leave at once.
    pub(super) fn is_writable(&self) -> bool {
        !self.is_blocked.get() && self.closing.get().is_none()
    }

    /// Writes what waits, as far as the kernel takes it.
    pub(super) fn flush(&self) {
        if self.is_blocked.get() {
            return;
        }
        let waker = self
            .waker
            .borrow()
            .clone()
            .unwrap_or_else(|| Waker::noop().clone());
        let mut context = Context::from_waker(&waker);
        match self.poll_flush(&mut context) {
            Poll::Ready(Ok(())) => {}
            Poll::Pending => self.is_blocked.set(true),
            Poll::Ready(Err(_)) => self.fail(CloseReason::TransportError),
        }
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.borrow_mut();
        loop {
            let outbox = self.outbox.borrow();
            let offset = self.written.get();
            let mut control = self.control.borrow_mut();
            // A frame that is partly out goes on before anything else. Where its outbox was emptied
            // under it, nothing can follow it any more.
            let is_control = !control.is_empty() && (offset == 0 || self.is_control.get());
            let write = if is_control {
                let slices = [IoSlice::new(&control[0].wire()[offset..])];
                Pin::new(&mut *stream).poll_write_vectored(context, &slices)
            } else if let Some(outbox) = outbox.as_ref().filter(|outbox| !outbox.is_empty()) {
                outbox.peek(FRAMES_PER_WRITE, |frames| {
                    gather(frames, offset, |slices| {
                        Pin::new(&mut *stream).poll_write_vectored(context, slices)
                    })
                })
            } else {
                break;
            };
            match write {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) if is_control => {
                    let is_out = offset + count == control[0].len();
                    if is_out {
                        control.remove(0);
                    }
                    self.written.set(if is_out { 0 } else { offset + count });
                    self.is_control.set(!is_out);
                }
                Poll::Ready(Ok(count)) => {
                    if let Some(outbox) = outbox.as_ref() {
                        self.advance(outbox, offset + count);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut *stream).poll_flush(context)
    }

    /// Takes the frames that are out of the queue.
    fn advance(&self, outbox: &Outbox, mut written: usize) {
        let (mut packets, mut bytes) = (0, 0);
        while let Some(length) = outbox.peek(1, |frames| frames.next().map(Frame::len)) {
            if written < length {
                break;
            }
            written -= length;
            bytes += length as u64;
            packets += 1;
            outbox.pop();
        }
        self.written.set(written);
        metrics::PACKETS_SENT.add(packets);
        metrics::BYTES_SENT.add(bytes);
    }

    /// Reads and writes until the connection is over, then tells the route.
    pub(super) async fn run(self: Rc<Self>, route: Rc<dyn Route>) {
        let mut reading: Option<Reading> = None;
        let reason = poll_fn(|context| self.poll_run(&route, &mut reading, context)).await;
        drop(reading);
        self.closing.set(Some(reason));
        if !self.is_told.get() {
            route.ended(&self, reason);
        }
        drop(route);
        Box::pin(self.finish(reason)).await;
    }

    fn poll_run(
        self: &Rc<Self>,
        route: &Rc<dyn Route>,
        reading: &mut Option<Reading>,
        context: &mut Context<'_>,
    ) -> Poll<CloseReason> {
        if !self
            .waker
            .borrow()
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *self.waker.borrow_mut() = Some(context.waker().clone());
        }
        self.turn.set(0);
        if self.is_blocked.replace(false) {
            self.flush();
        }
        loop {
            if let Some(reason) = self.closing.get() {
                return Poll::Ready(reason);
            }
            let mut burst = match reading.take() {
                Some(burst) => burst,
                None => {
                    if route.is_paused(context.waker()) {
                        return Poll::Pending;
                    }
                    match self.stream.borrow_mut().poll_readable(context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(CloseReason::TransportError),
                        Poll::Pending => return Poll::Pending,
                    }
                    Box::pin(read_burst(Rc::clone(self), Rc::clone(route)))
                }
            };
            match burst.as_mut().poll(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(reason)) => {
                    return Poll::Ready(self.closing.get().unwrap_or(reason));
                }
                Poll::Pending => {
                    if let Some(reason) = self.closing.get() {
                        return Poll::Ready(reason);
                    }
                    *reading = Some(burst);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Lets the last frames and a close frame out, then waits briefly for the peer to end, so that
    /// unread input does not make the kernel throw our last bytes away.
    async fn finish(self: Rc<Self>, reason: CloseReason) {
        let is_broken = matches!(
            reason,
            CloseReason::TransportClose | CloseReason::PingTimeout
        );
        let farewell = async {
            if is_broken || reason == CloseReason::SlowConsumer {
                self.outbox.borrow_mut().take();
            }
            // What waits goes out before the close frame: nothing is read after that.
            poll_fn(|context| self.poll_flush(context)).await?;
            if !is_broken {
                self.control
                    .borrow_mut()
                    .push(close_frame(reason, self.fault.get()));
                poll_fn(|context| self.poll_flush(context)).await?;
            }
            poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(context))
                .await?;
            let mut rest = [0; 512];
            while poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut rest);
                let read = Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, &mut buffer);
                read.map_ok(|()| buffer.filled().len())
            })
            .await?
                > 0
            {}
            io::Result::Ok(())
        };
        // Whatever goes wrong now, the connection is over: dropping it closes the socket.
        drop(tokio::time::timeout(LINGER, farewell).await);
    }
}

/// Which rule of RFC 6455 a peer broke, and its status in section 7.4.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Fault {
    /// Frames that do not follow each other so.
    #[default]
    Protocol,
    /// Text that is not UTF-8.
    Text,
    /// More than is taken.
    TooLarge,
}

impl Fault {
    const fn status(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Text => 1007,
            Self::TooLarge => 1009,
        }
    }
}

fn close_frame(reason: CloseReason, fault: Fault) -> Frame {
    let code = match reason {
        CloseReason::TransportError => Some(fault.status()),
        other => other.websocket_code(),
    };
    Frame::close(code)
}

/// The unwritten bytes of the frames, without allocating.
fn gather<R>(
    frames: &mut dyn Iterator<Item = &Frame>,
    offset: usize,
    write: impl FnOnce(&[IoSlice<'_>]) -> R,
) -> R {
    let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE];
    let mut count = 0;
    for (slot, frame) in slices.iter_mut().zip(frames) {
        let skip = if count == 0 { offset } else { 0 };
        *slot = IoSlice::new(&frame.wire()[skip..]);
        count += 1;
    }
    write(&slices[..count])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::Limits;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (Rc<WebSocket>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        (
            WebSocket::new(Stream::plain(stream, Box::new(())), 1000),
            peer,
        )
    }

    fn outbox() -> Rc<Outbox> {
        Outbox::new(Limits {
            frames_max: 8,
            bytes_max: 64 << 20,
        })
    }

    /// Larger than what the kernel takes at once.
    fn large() -> Frame {
        Frame::text(&["4", &"x".repeat(32 << 20)])
    }

    async fn drained(socket: &Rc<WebSocket>, mut peer: TcpStream, expected: &[Frame]) {
        let total = expected.iter().map(Frame::len).sum();
        let mut bytes = vec![0; total];
        let reading = async { peer.read_exact(&mut bytes).await.unwrap() };
        let writing = poll_fn(|context| socket.poll_flush(context));
        let (_, written) = tokio::join!(reading, writing);
        written.unwrap();
        let all: Vec<u8> = expected
            .iter()
            .flat_map(|frame| frame.wire().to_vec())
            .collect();
        assert!(bytes == all, "the peer got other bytes");
    }

    #[tokio::test]
    async fn a_control_frame_that_is_partly_out_is_ended_before_a_new_outbox() {
        let (socket, peer) = pair().await;
        let (control, first) = (large(), Frame::text(&["4first"]));
        socket.send_control(control.clone());
        assert!(socket.is_blocked.get() && socket.written.get() > 0);
        let outbox = outbox();
        outbox.push(first.clone()).unwrap();
        socket.serve(outbox);
        drained(&socket, peer, &[control, first]).await;
    }

    #[tokio::test]
    async fn nothing_follows_a_frame_whose_outbox_was_emptied_under_it() {
        let (socket, mut peer) = pair().await;
        let outbox = outbox();
        outbox.push(large()).unwrap();
        socket.serve(Rc::clone(&outbox));
        socket.flush();
        let written = socket.written.get();
        assert!(socket.is_blocked.get() && written > 0);
        outbox.close();
        let mut bytes = Vec::new();
        let finishing = Rc::clone(&socket).finish(CloseReason::SlowConsumer);
        let reading = async {
            let mut chunk = vec![0; 1 << 16];
            while bytes.len() < written {
                let count = peer.read(&mut chunk).await.unwrap();
                bytes.extend_from_slice(&chunk[..count]);
            }
            assert_eq!(
                peer.read(&mut chunk).await.unwrap(),
                0,
                "nothing but the end follows"
            );
            drop(peer);
        };
        tokio::join!(finishing, reading);
    }

    #[tokio::test]
    async fn what_waits_goes_out_before_the_close_frame() {
        let (socket, mut peer) = pair().await;
        let outbox = outbox();
        outbox.push(Frame::text(&["4last"])).unwrap();
        socket.serve(Rc::clone(&outbox));
        outbox.seal();
        assert_eq!(outbox.push(Frame::text(&["4late"])), Ok(false));
        let finishing = Rc::clone(&socket).finish(CloseReason::ServerShuttingDown);
        let reading = async {
            let mut bytes = Vec::new();
            peer.shutdown().await.unwrap();
            peer.read_to_end(&mut bytes).await.unwrap();
            bytes
        };
        let ((), bytes) = tokio::join!(finishing, reading);
        assert_eq!(bytes, b"\x81\x054last\x88\x02\x03\xf4");
    }

    struct Told(RefCell<Vec<CloseReason>>);

    impl Route for Told {
        fn text(&self, _: &Rc<WebSocket>, _: &str) -> Result<(), CloseReason> {
            Ok(())
        }
        fn binary(&self, _: &Rc<WebSocket>, _: Bytes) -> Result<(), CloseReason> {
            Ok(())
        }
        fn is_paused(&self, _: &Waker) -> bool {
            true
        }
        fn ended(&self, _: &Rc<WebSocket>, reason: CloseReason) {
            self.0.borrow_mut().push(reason);
        }
    }

    #[tokio::test]
    async fn the_route_is_told_of_an_end_that_it_did_not_ask_for() {
        for (is_asked, expected) in [(true, vec![]), (false, vec![CloseReason::SlowConsumer])] {
            let (socket, peer) = pair().await;
            let route = Rc::new(Told(RefCell::default()));
            if is_asked {
                socket.close(CloseReason::SlowConsumer);
            } else {
                socket.send_control(large());
                for _ in 0..=CONTROL_MAX {
                    socket.send_control(Frame::websocket_pong(&[]));
                }
            }
            drop(peer);
            let running = Rc::clone(&route);
            Rc::clone(&socket).run(running).await;
            assert_eq!(*route.0.borrow(), expected);
        }
    }
}
