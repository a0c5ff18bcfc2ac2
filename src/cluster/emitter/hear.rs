//! The subscription: one connection, made again whenever it ends.

use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{FromRedisValue as _, PushInfo, PushKind, Value};
use tokio::sync::mpsc;

use super::decode::{self, Command, Nothing};
use crate::backend::redis::{self as backend, Connection};
use crate::telemetry::labels::Emitted;
use crate::telemetry::metrics;

/// What is heard, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub redis: backend::Options,
    /// What the channels begin with.
    pub prefix: String,
    /// Larger messages are not read, in bytes.
    pub message_max: usize,
}

/// Messages between the connection and who does what they say.
const QUEUE: usize = 1_024;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A connection that lived so long was a good one; the next is tried soon.
const SETTLED: Duration = Duration::from_secs(10);
/// How often a quiet connection is asked whether it lives.
const ASK_EVERY: Duration = Duration::from_secs(10);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Hears emitters and has `act` do what they say, in order; never returns. `act` answers whether it could.
pub async fn run(options: Options, mut act: impl FnMut(Command) -> bool) {
    let mut pause = PAUSE_MIN;
    let mut trouble = Seldom::default();
    loop {
        let began = Instant::now();
        let ended = hear(&options, &mut act, &mut trouble).await;
        metrics::EMITTER_CONNECTED.set(0.0);
        if began.elapsed() > SETTLED {
            pause = PAUSE_MIN;
        }
        // Nodes that lost the same server do not come back to it in the same moment.
        let jittered = pause.mul_f32(0.5 + rand::random::<f32>());
        match ended {
            Ok(()) => {
                tracing::warn!(again_in = ?jittered, "emitters are not heard: the connection ended")
            }
            Err(error) => tracing::warn!(%error, again_in = ?jittered, "emitters are not heard"),
        }
        tokio::time::sleep(jittered).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Hears until the connection ends.
async fn hear(
    options: &Options,
    act: &mut impl FnMut(Command) -> bool,
    trouble: &mut Seldom,
) -> Result<(), backend::Error> {
    let (sender, mut heard) = mpsc::channel(QUEUE);
    let max = options.message_max;
    let connection = Connection::open_hearing(&options.redis, move |push| {
        if push.kind == PushKind::Disconnection {
            // Dropping a message here would do no harm: the questions below fail too.
            drop(sender.try_send(Heard::End));
        } else if let Some(message) = message(push, max)
            && sender.try_send(message).is_err()
        {
            metrics::EMITTER_MESSAGES.of(Emitted::Dropped).add(1);
        }
    })
    .await?;
    let prefix = &options.prefix;
    let mut subscribe = redis::cmd("PSUBSCRIBE");
    subscribe.arg(format!("{}#/#*", literal(prefix)));
    connection.ask::<()>(&subscribe).await?;
    let mut subscribe = redis::cmd("SUBSCRIBE");
    subscribe.arg(format!("{prefix}-request#/#"));
    connection.ask::<()>(&subscribe).await?;
    tracing::info!(%prefix, "emitters are heard");
    metrics::EMITTER_CONNECTED.set(1.0);
    let mut timer = tokio::time::interval(ASK_EVERY);
    loop {
        tokio::select! {
            message = heard.recv() => match message {
                Some(Heard::End) | None => return Ok(()),
                Some(message) => take(message, act, trouble),
            },
            _ = timer.tick() => connection.ask::<()>(&redis::cmd("PING")).await?,
        }
    }
}

fn take(message: Heard, act: &mut impl FnMut(Command) -> bool, trouble: &mut Seldom) {
    let read = match message {
        Heard::Event(bytes) => decode::event(&bytes),
        Heard::Request(bytes) => decode::request(&bytes),
        Heard::TooLarge(bytes) => {
            metrics::EMITTER_MESSAGES.of(Emitted::Malformed).add(1);
            trouble.log(|unlogged| {
                tracing::warn!(bytes, unlogged, "a message of an emitter is too large");
            });
            return;
        }
        Heard::End => return,
    };
    let kind = match read {
        Ok(command) => {
            let kind = kind(&command);
            if act(command) { kind } else { Emitted::Dropped }
        }
        Err(Nothing::Ignored) => Emitted::Ignored,
        Err(why) => {
            trouble.log(|unlogged| {
                tracing::warn!(%why, unlogged, "a message of an emitter is malformed");
            });
            Emitted::Malformed
        }
    };
    metrics::EMITTER_MESSAGES.of(kind).add(1);
}

enum Heard {
    Event(Bytes),
    Request(Bytes),
    /// So many bytes.
    TooLarge(usize),
    End,
}

/// What a push says, when it is a message. Called by the task that reads the socket.
fn message(push: PushInfo, max: usize) -> Option<Heard> {
    let is_event = match push.kind {
        PushKind::PMessage => true,
        PushKind::Message => false,
        _ => return None,
    };
    let payload = push.data.into_iter().next_back()?;
    let bytes = match payload {
        Value::BulkString(bytes) => bytes,
        other => Vec::<u8>::from_redis_value(other).ok()?,
    };
    Some(match (bytes.len() > max, is_event) {
        (true, _) => Heard::TooLarge(bytes.len()),
        (false, true) => Heard::Event(bytes.into()),
        (false, false) => Heard::Request(bytes.into()),
    })
}

const fn kind(command: &Command) -> Emitted {
    match command {
        Command::Event { .. } => Emitted::Event,
        Command::Join { .. } => Emitted::Join,
        Command::Leave { .. } => Emitted::Leave,
        Command::Disconnect { .. } => Emitted::Disconnect,
    }
}

/// A text in which no character is a pattern's.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    for c in text.chars() {
        if "*?[]^\\".contains(c) {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal
}

/// Logs once in a while, and how often it did not.
#[derive(Default)]
struct Seldom {
    last: Option<Instant>,
    unlogged: u64,
}

impl Seldom {
    fn log(&mut self, log: impl FnOnce(u64)) {
        if self.last.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            self.unlogged += 1;
        } else {
            log(std::mem::take(&mut self.unlogged));
            self.last = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(literal("socket.io"), "socket.io");
        assert_eq!(literal("a*[b]?"), r"a\*\[b\]\?");
    }

    #[test]
    fn trouble_is_logged_once_in_a_while() {
        let mut seldom = Seldom::default();
        let mut logged = Vec::new();
        for _ in 0..5 {
            seldom.log(|unlogged| logged.push(unlogged));
        }
        seldom.last = Instant::now().checked_sub(LOG_EVERY);
        seldom.log(|unlogged| logged.push(unlogged));
        assert_eq!(logged, [0, 4]);
    }
}
