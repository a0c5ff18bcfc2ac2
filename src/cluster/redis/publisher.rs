//! What this node publishes: ephemeral events on the shards of their rooms, control words for all.
//!
//! Each shard has one task that takes what waits and sends it in one pipeline. Ephemeral events that do
//! not fit, or that the shard does not take, are dropped and counted. Control words must not be lost
//! without a trace: while one could not be sent, [`Control::Recheck`] is owed to the other nodes in
//! place of all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Pipeline, cmd, pipe};
use tokio::sync::{Notify, mpsc};

use super::Inner;
use super::message;
use crate::backend::redis::{Error, Shards};
use crate::cluster::control::Control;
use crate::telemetry::metrics;
use crate::types::ShardId;

/// One message and where it goes.
pub(super) type Outgoing = (String, Vec<u8>);

/// Messages that wait for one shard.
pub(super) const WAITING_MAX: usize = 4_096;
/// Messages sent at once.
const BATCH: usize = 256;
/// How long words that are owed wait for a shard that is away.
const PAUSE: Duration = Duration::from_millis(200);

/// Sends ephemeral events to one shard for as long as it is polled.
pub(super) async fn run(inner: Arc<Inner>, index: usize, mut waiting: mpsc::Receiver<Outgoing>) {
    let shard = inner.lanes[index].shard;
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let commands = commands(inner.lanes[index].publish_command(), &batch);
        let count = batch.len();
        batch.clear();
        let dropped = match inner.shards.ask_all(shard, &commands).await {
            Ok(answers) => answers.iter().filter(|answer| answer.is_err()).count(),
            Err(error) => {
                tracing::debug!(%shard, %error, count, "ephemeral events were not published");
                count
            }
        };
        metrics::BUS_EPHEMERAL_DROPPED.add(dropped as u64);
    }
}

fn commands(publish: &str, batch: &[Outgoing]) -> Pipeline {
    let mut commands = pipe();
    for (channel, message) in batch {
        commands.cmd(publish).arg(channel).arg(&message[..]);
    }
    commands
}

/// The way of control words to the other nodes.
#[derive(Debug)]
pub(super) struct Words {
    waiting: mpsc::Sender<Vec<u8>>,
    owed: AtomicBool,
    is_owed: Notify,
}

impl Words {
    pub(super) fn new() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (waiting, taken) = mpsc::channel(WAITING_MAX);
        let words = Self {
            waiting,
            owed: AtomicBool::new(false),
            is_owed: Notify::new(),
        };
        (words, taken)
    }

    pub(super) fn send(&self, from: &str, word: &Control) {
        let sent = message::control(from, word).map(|bytes| self.waiting.try_send(bytes));
        if !matches!(sent, Some(Ok(()))) {
            self.owe();
        }
    }

    fn owe(&self) {
        self.owed.store(true, Ordering::SeqCst);
        self.is_owed.notify_one();
    }
}

/// Sends control words for as long as it is polled.
pub(super) async fn run_words(inner: Arc<Inner>, mut waiting: mpsc::Receiver<Vec<u8>>) {
    let words = &inner.words;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            taken = waiting.recv_many(&mut batch, BATCH) => if taken == 0 { return },
            () = words.is_owed.notified() => {}
        }
        if !words.owed.load(Ordering::SeqCst) && send(&inner, &batch).await.is_err() {
            words.owed.store(true, Ordering::SeqCst);
        }
        batch.clear();
        while words.owed.swap(false, Ordering::SeqCst) {
            // What waits is covered by the word that is owed.
            while waiting.try_recv().is_ok() {}
            let Some(recheck) = message::control(&inner.own, &Control::Recheck) else {
                break;
            };
            if let Err(error) = send(&inner, &[recheck]).await {
                tracing::debug!(%error, "other nodes could not be told to look again");
                words.owed.store(true, Ordering::SeqCst);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn send(inner: &Inner, words: &[Vec<u8>]) -> Result<(), Error> {
    if words.is_empty() {
        return Ok(());
    }
    let lane = &inner.lanes[0];
    let channel = lane.channels.control();
    let to = |word: &Vec<u8>| (channel.clone(), word.clone());
    let batch: Vec<Outgoing> = words.iter().map(to).collect();
    let commands = commands(lane.publish_command(), &batch);
    for answer in inner.shards.ask_all(lane.shard, &commands).await? {
        answer?;
    }
    Ok(())
}

/// Publishes one message and waits until the shard has it.
pub(super) async fn now(
    shards: &Shards,
    shard: ShardId,
    (publish, channel, message): (&str, String, Vec<u8>),
) -> Result<(), Error> {
    let mut command = cmd(publish);
    command.arg(channel).arg(message);
    shards.ask::<u64>(shard, &command).await.map(drop)
}
