//! Renews the lease, looks who lives and whether every shard answers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::lease::{Lease, Turn};
use super::redis as shard;
use super::redis::Whose;
use super::table::Table;
use super::{Inner, JoinError, Load, Member, Membership, ShardReport, Shared, Times, View, lock};
use crate::backend::redis::{Error as ServerError, Shards};
use crate::telemetry::metrics;
use crate::types::Timestamp;

/// Between the end of a lease and the look at it.
const JUST_AFTER: Duration = Duration::from_millis(10);
/// A renewal that takes longer is made again.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

impl Membership {
    /// Takes this node's lease and looks who else lives. `load` is asked before each renewal. A lease of a
    /// crashed process with the same id is waited for.
    ///
    /// # Errors
    /// When a process with this id lives, or the first shard does not answer.
    pub async fn join(
        shards: Shards,
        me: Member,
        times: Times,
        load: impl Fn() -> Load + Send + Sync + 'static,
    ) -> Result<Self, JoinError> {
        let count = shards.all().count();
        let inner = Arc::new(Inner {
            me: Mutex::new(me),
            times,
            lease: Mutex::new(Lease::new(times)),
            view: watch::Sender::new(Arc::new(View::default())),
            reached: Mutex::new(Vec::with_capacity(count)),
            load: Box::new(load),
            news: Notify::new(),
            shards,
        });
        take(&inner).await?;
        let mut table = Table::new(times.ttl);
        look(&inner, &mut table)
            .await
            .map_err(JoinError::Unavailable)?;
        probe(&inner).await;
        Ok(Self::Shared(Shared(inner)))
    }
}

/// Takes the lease. Another process's is waited for as long as it can last, unless it is renewed meanwhile.
async fn take(inner: &Inner) -> Result<(), JoinError> {
    let end = Instant::now() + inner.times.ttl + inner.times.renew;
    let mut first: Option<Whose> = None;
    loop {
        let asked = renew(inner).await;
        let is_late = Instant::now() >= end;
        match asked {
            Ok(Whose::Ours) => return Ok(()),
            Ok(other) => {
                let is_alive = first.as_ref().is_some_and(|first| *first != other);
                if is_alive || is_late {
                    return Err(JoinError::Taken(lock(&inner.me).id.to_string()));
                }
                first = first.or(Some(other));
            }
            Err(error) if is_late || !error.retry() => return Err(JoinError::Unavailable(error)),
            Err(_) => {}
        }
        sleep(inner.times.ttl / 20).await;
    }
}

pub(super) async fn run(inner: &Inner, stop: impl Future<Output = ()>) {
    let renewing = async {
        let mut has_worked = true;
        loop {
            let pause = lock(&inner.lease).pause(has_worked, rand::random());
            tokio::select! {
                () = sleep(pause) => {}
                () = inner.news.notified() => {}
            }
            let answer = timeout(ANSWERS_WITHIN, renew(inner)).await;
            has_worked = matches!(answer, Ok(Ok(Whose::Ours)));
            if let Ok(Ok(Whose::Others { .. })) = answer {
                let id = lock(&inner.me).id.clone();
                tracing::error!(%id, "another process has this node's id; this one has no duties");
            }
        }
    };
    let looking = async {
        let mut table = Table::new(inner.times.ttl);
        loop {
            let pause = match look(inner, &mut table).await {
                Ok(()) => until_next_look(inner),
                Err(error) => {
                    tracing::debug!(%error, "who lives cannot be asked");
                    inner.times.poll
                }
            };
            sleep(pause).await;
            told(inner);
        }
    };
    let probing = async {
        loop {
            sleep(inner.times.poll).await;
            probe(inner).await;
        }
    };
    tokio::select! {
        () = stop => {}
        () = async { tokio::join!(renewing, looking, probing); } => {}
    }
    lock(&inner.lease).gone();
    told(inner);
    let me = lock(&inner.me).clone();
    if !matches!(
        timeout(ANSWERS_WITHIN, shard::leave(&inner.shards, &me)).await,
        Ok(Ok(()))
    ) {
        tracing::warn!("the lease could not be given back; it ends by itself");
    }
}

async fn renew(inner: &Inner) -> Result<Whose, ServerError> {
    let me = {
        let mut me = lock(&inner.me);
        me.load = (inner.load)();
        me.clone()
    };
    let sent = Instant::now();
    let ttl = u64::try_from(inner.times.ttl.as_millis()).unwrap_or(u64::MAX);
    let whose = shard::lease(&inner.shards, &me, ttl).await?;
    match whose {
        Whose::Ours => lock(&inner.lease).renewed(sent),
        Whose::Others { .. } => lock(&inner.lease).gone(),
    }
    told(inner);
    Ok(whose)
}

/// Tells operators what became of the lease.
fn told(inner: &Inner) {
    let turn = lock(&inner.lease).turn(Instant::now());
    match turn {
        Turn::None => {}
        Turn::Had => {
            metrics::CLUSTER_LEASE_HELD.set(1.0);
            tracing::info!("this node holds its lease");
        }
        Turn::Lost => {
            metrics::CLUSTER_LEASE_HELD.set(0.0);
            metrics::CLUSTER_LEASES_LOST.add(1);
            tracing::warn!("this node has no lease: it keeps its clients and does no duties");
        }
    }
}

/// A lease that may end before the next look is looked at right after its end.
fn until_next_look(inner: &Inner) -> Duration {
    let view = inner.view.borrow();
    let first = view.live.iter().map(|live| live.left).min();
    let end = first.unwrap_or(Duration::MAX).saturating_add(JUST_AFTER);
    inner.times.poll.min(end)
}

async fn look(inner: &Inner, table: &mut Table) -> Result<(), ServerError> {
    let (asked, since) = (Timestamp::from(SystemTime::now()), Instant::now());
    let (server_now, rows, run_id) = shard::members(&inner.shards).await?;
    // It was read about halfway.
    let halfway = i64::try_from(since.elapsed().as_millis() / 2).unwrap_or(i64::MAX);
    let ahead = server_now.saturating_sub(asked.as_millis().saturating_add(halfway));
    let (live, gone) = table.heard(rows, (Instant::now(), server_now), &run_id);
    let count = u32::try_from(live.len()).unwrap_or(u32::MAX);
    metrics::CLUSTER_NODES.set(f64::from(count));
    let is_same = {
        let view = inner.view.borrow();
        let ids = |view: &View| {
            view.live
                .iter()
                .map(|live| live.member.id.clone())
                .collect::<Vec<_>>()
        };
        ids(&view)
            == live
                .iter()
                .map(|live| live.member.id.clone())
                .collect::<Vec<_>>()
    };
    if !is_same {
        let nodes: Vec<&str> = live.iter().map(|live| live.member.id.as_str()).collect();
        tracing::info!(?nodes, "the nodes that live");
    }
    let view = View::new(live, gone);
    inner.view.send_replace(Arc::new(View { ahead, ..view }));
    Ok(())
}

/// Asks every shard something. Whoever asks with little patience relies on it: a connection that is dead
/// without a word is found out here.
async fn probe(inner: &Inner) {
    let shards = &inner.shards;
    let asked = shards.all().map(async |shard| {
        let epoch = shard::epoch(shards, shard).await.ok();
        ShardReport {
            name: shards.name(shard).to_owned(),
            is_reachable: epoch.is_some(),
            epoch,
            share: shards.share(shard),
        }
    });
    let reached = join_all(asked).await;
    *lock(&inner.reached) = reached;
}
