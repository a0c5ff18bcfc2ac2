//! What membership asks the first shard.

use redis::cmd;

use super::table::Row;
use super::{Live, Member};
use crate::backend::redis::{Error, Scripted, Shards};
use crate::types::{NodeId, ShardId};

/// The functions; load them with every connection of the shards.
pub const LIBRARY: Scripted = include_str!("membership.lua");

/// The shard that knows who lives.
const FIRST: ShardId = ShardId(0);

/// Whose a lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    /// Another process's, that has renewed it so often.
    Others {
        boot: String,
        renewals: u64,
    },
}

fn node_key(node: &str) -> String {
    format!("{}:node:{node}", Shards::tag(FIRST))
}

fn nodes_key() -> String {
    format!("{}:nodes", Shards::tag(FIRST))
}

pub(super) async fn lease(shards: &Shards, me: &Member, ttl_ms: u64) -> Result<Whose, Error> {
    let info = serde_json::to_string(me).unwrap_or_default();
    let mut call = cmd("FCALL");
    call.arg("vb1_lease").arg(2);
    call.arg(node_key(me.id.as_str())).arg(nodes_key());
    call.arg(me.id.as_str()).arg(&me.boot).arg(info).arg(ttl_ms);
    let (boot, renewals): (String, u64) = shards.ask(FIRST, &call).await?;
    Ok(match boot.is_empty() {
        true => Whose::Ours,
        false => Whose::Others { boot, renewals },
    })
}

pub(super) async fn leave(shards: &Shards, me: &Member) -> Result<(), Error> {
    let mut call = cmd("FCALL");
    call.arg("vb1_leave").arg(2);
    call.arg(node_key(me.id.as_str())).arg(nodes_key());
    call.arg(me.id.as_str()).arg(&me.boot);
    shards.ask::<u8>(FIRST, &call).await.map(drop)
}

/// The server's time in milliseconds, who was seen, and which server it is.
pub(super) async fn members(shards: &Shards) -> Result<(i64, Vec<Row>, String), Error> {
    let mut call = cmd("FCALL_RO");
    call.arg("vb1_members").arg(1);
    call.arg(nodes_key()).arg(node_key(""));
    type Seen = (String, String, i64, u64, String);
    let (now, seen): (i64, Vec<Seen>) = shards.ask(FIRST, &call).await?;
    let rows = seen
        .into_iter()
        .filter_map(|(node, boot, renewed, left, info)| {
            let member: Option<Member> = serde_json::from_str(&info).ok();
            let pumps = member.as_ref().map(|member| member.pumps.clone());
            let left = std::time::Duration::from_millis(left);
            Some(Row {
                node: NodeId::parse(&node).ok()?,
                boot,
                renewed,
                live: member
                    .filter(|_| !left.is_zero())
                    .map(|member| Live { member, left }),
                pumps: pumps.unwrap_or_default(),
            })
        });
    let rows = rows.collect();
    Ok((now, rows, shards.run_id(FIRST).await?))
}

/// Who lives now, as the first shard says; for a process that does not join.
///
/// # Errors
/// When it does not answer.
pub async fn living(shards: &Shards) -> Result<Vec<Member>, Error> {
    let (_, rows, _) = members(shards).await?;
    let live = rows.into_iter().filter_map(|row| row.live);
    Ok(live.map(|live| live.member).collect())
}

/// Nothing is left of this one.
pub(super) async fn forget(shards: &Shards, node: &NodeId, boot: &str) -> Result<(), Error> {
    let mut call = cmd("HDEL");
    call.arg(nodes_key()).arg(format!("{node}/{boot}"));
    shards.ask::<u8>(FIRST, &call).await.map(drop)
}

/// The epoch of a shard, once it answers.
pub(super) async fn epoch(shards: &Shards, shard: ShardId) -> Result<u64, Error> {
    let mut call = cmd("HGET");
    call.arg(format!("{}:s", Shards::tag(shard))).arg("e");
    let epoch: Option<u64> = shards.ask(shard, &call).await?;
    Ok(epoch.unwrap_or(0))
}
