//! The connection on which a shard is heard: made again whenever it breaks.
//!
//! Everything that the connection is told goes out in rounds, one at a time: the rooms that are new,
//! those that are not wanted any more, and behind them one tick for all who asked. A round is one
//! pipeline, so however many rooms change meanwhile, it costs one way there and back. A connection that
//! does not answer in time is given up; a new one is told everything again before anything counts that
//! it hears.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{Pipeline, PushInfo, PushKind, Value, cmd, pipe};

use super::lane::{Lane, Round};
use super::message::{self, Message};
use super::{Inner, LIBRARY};
use crate::backend::redis::{Connection, Error};
use crate::cluster::control::Control;
use crate::telemetry::metrics;

/// How often a connection on which nothing is asked is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why a connection was given up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("it broke, or the server ended a subscription")]
    Broken,
    #[error("no answer in time")]
    Late,
    #[error(transparent)]
    Server(#[from] Error),
}

/// Hears one shard for as long as it is polled.
pub(super) async fn run(inner: Arc<Inner>, index: usize) {
    let lane = &inner.lanes[index];
    let (mut line, mut failures) = (0, 0_u32);
    let mut is_first = true;
    loop {
        line += 1;
        let lost = match connect(&inner, index, line).await {
            Ok(connection) => {
                inner.live(index, is_first);
                let since = Instant::now();
                let lost = stay(lane, &connection).await;
                // One that lived longer than was waited for it was worth it.
                if since.elapsed() > longest(failures) {
                    failures = 0;
                }
                tracing::warn!(shard = %lane.shard, %lost, "a shard is not heard any more");
                lost
            }
            Err(lost) => {
                let is_refused = matches!(&lost, Lost::Server(error) if !error.retry());
                if is_refused || is_first {
                    tracing::error!(shard = %lane.shard, %lost, "a shard cannot be heard");
                }
                lost
            }
        };
        lane.cut();
        is_first = false;
        metrics::BUS_RECONNECTS.add(1);
        let most = longest(failures);
        failures = failures.saturating_add(1);
        tracing::debug!(shard = %lane.shard, %lost, "a shard is tried again");
        tokio::time::sleep(most.mul_f64(rand::random_range(0.5..=1.0))).await;
    }
}

fn longest(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << failures.min(6))
        .min(LONGEST_PAUSE)
}

/// A connection that hears everything that is wanted.
async fn connect(inner: &Arc<Inner>, index: usize, line: u64) -> Result<Connection, Lost> {
    let lane = &inner.lanes[index];
    let channels = inner.channels_of(index);
    // What the connection says before it is told anything is of no interest; afterwards it is.
    lane.begin(line, channels.len());
    let heard = {
        let inner = Arc::clone(inner);
        move |push: PushInfo| hear(&inner, (index, line), push)
    };
    let connection = Connection::open_hearing(inner.shards.options(lane.shard), heard).await?;
    let load = cmd("FUNCTION")
        .arg("LOAD")
        .arg("REPLACE")
        .arg(LIBRARY)
        .to_owned();
    let _: Value = in_time(connection.ask(&load)).await??;
    let mut own = pipe();
    for channel in channels {
        own.cmd(lane.subscribe_command()).arg(channel);
    }
    all(&connection, &own).await?;
    loop {
        let round = lane.round();
        if round.is_empty() {
            return Ok(connection);
        }
        all(&connection, &told(lane, &round)).await?;
    }
}

/// Tells the connection what changes, until it breaks.
async fn stay(lane: &Lane, connection: &Connection) -> Lost {
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if lane.is_broken() {
            return Lost::Broken;
        }
        let round = lane.round();
        let told = if round.is_empty() {
            tokio::select! {
                () = lane.changed.notified() => continue,
                _ = ping.tick() => all(connection, pipe().cmd("PING")).await,
            }
        } else {
            all(connection, &told(lane, &round)).await
        };
        if let Err(lost) = told {
            return lost;
        }
    }
}

/// Each subscription is a command of its own: each is answered once, and they leave together.
fn told(lane: &Lane, round: &Round) -> Pipeline {
    let mut commands = pipe();
    for room in &round.enter {
        commands
            .cmd(lane.subscribe_command())
            .arg(lane.channels.room(room));
    }
    for room in &round.leave {
        commands
            .cmd(lane.unsubscribe_command())
            .arg(lane.channels.room(room));
    }
    if let Some(number) = round.tick {
        commands
            .cmd("FCALL")
            .arg("vb1_tick")
            .arg(1)
            .arg(lane.channels.shard())
            .arg(&lane.channels.own)
            .arg(number)
            .arg(lane.publish_command());
    }
    commands
}

async fn all(connection: &Connection, commands: &Pipeline) -> Result<(), Lost> {
    for answer in in_time(connection.ask_all(commands)).await?? {
        answer?;
    }
    Ok(())
}

async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, Lost> {
    tokio::time::timeout(ANSWERS_WITHIN, answer)
        .await
        .map_err(|_| Lost::Late)
}

/// Called by whoever reads the socket: must not wait.
fn hear(inner: &Inner, (index, line): (usize, u64), push: PushInfo) {
    let lane = &inner.lanes[index];
    match push.kind {
        PushKind::Message | PushKind::SMessage => {
            let mut parts = push.data.into_iter();
            let (Some(Value::BulkString(channel)), Some(Value::BulkString(bytes))) =
                (parts.next(), parts.next())
            else {
                return;
            };
            let channel = String::from_utf8_lossy(&channel);
            let at = (&*channel, &*lane.channels.rooms);
            match message::read(Bytes::from(bytes), at, lane.shard) {
                Ok(Message::Entry(entry)) => lane.entry(line, entry),
                Ok(Message::Ephemeral(event)) => lane.ephemeral(line, event),
                Ok(Message::Tick { at, number }) => lane.ticked(line, at, number),
                Ok(Message::Control { from, word }) => {
                    // Its own words went to its workers at once.
                    if from != inner.own && lane.is_live() {
                        inner.tell(&Arc::<Control>::new(word));
                    }
                }
                Err(error) => {
                    tracing::error!(shard = %lane.shard, %channel, %error, "a message cannot be read");
                }
            }
        }
        PushKind::Subscribe | PushKind::SSubscribe => lane.entered(line),
        PushKind::Unsubscribe | PushKind::SUnsubscribe => lane.left(line),
        PushKind::Disconnection => lane.broke(line),
        _ => {}
    }
}
