//! What presence asks a shard.

use std::collections::HashSet;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Pipeline, Value, cmd, from_redis_value};

use crate::backend::redis::Shards;
use crate::cluster::presence::Change;
use crate::types::{ShardId, Timestamp, UserId};

/// A shard that takes longer is asked again later: what is told must not wait for one shard.
const ANSWERS_WITHIN: Duration = Duration::from_millis(700);
/// After a restart of a shard every node is waited for, at most so long.
const EVERYBODY_WITHIN: Duration = Duration::from_secs(10);

/// A shard did not answer, or not what it should.
#[derive(Debug)]
pub(super) struct Silent;

/// Calls to one shard on behalf of one node, `NODE/BOOT`.
pub(super) struct Calls<'a> {
    pub(super) shards: &'a Shards,
    pub(super) shard: ShardId,
    pub(super) node: &'a str,
}

/// What a change of a user came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// The caller tells this.
    Tell(Change),
    /// There is nothing to tell, or another one tells it.
    Nothing,
    /// To be said again later.
    Wait,
}

/// How a shard knows this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entered {
    /// Since when it counts who has written.
    pub(super) begun: String,
    /// Whether this node has written its users.
    pub(super) is_written: bool,
}

impl Calls<'_> {
    fn key(&self, kind: &str, name: &str) -> String {
        format!("{}:{kind}:{name}", Shards::tag(self.shard))
    }

    fn table(&self) -> String {
        format!("{}:pm", Shards::tag(self.shard))
    }

    fn outbox(&self) -> String {
        format!("{}:po", Shards::tag(self.shard))
    }

    fn feed(&self) -> String {
        format!("{}:pf", Shards::tag(self.shard))
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Silent> {
        let asked = self.shards.ask(self.shard, command);
        match tokio::time::timeout(ANSWERS_WITHIN, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if !error.retry() => {
                tracing::error!(shard = %self.shard, %error, "presence: a shard refused a call");
                Err(Silent)
            }
            _ => Err(Silent),
        }
    }

    /// Asks many at once; each answer or refusal stands for itself.
    async fn ask_all(&self, commands: &[Cmd]) -> Result<Vec<Option<Value>>, Silent> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command.clone());
        }
        let asked = self.shards.ask_all(self.shard, &pipeline);
        let Ok(Ok(answers)) = tokio::time::timeout(ANSWERS_WITHIN, asked).await else {
            return Err(Silent);
        };
        let each = |answer: Result<Value, crate::backend::redis::Error>| match answer {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::error!(shard = %self.shard, %error, "presence: a shard refused a call");
                None
            }
        };
        Ok(answers.into_iter().map(each).collect())
    }

    /// A function about one user of a node.
    fn about(&self, function: &str, (node, user): (&str, &UserId)) -> Cmd {
        let mut call = cmd("FCALL");
        call.arg(function).arg(5).arg(self.table());
        call.arg(self.key("p", user.as_str()))
            .arg(self.key("pn", node))
            .arg(self.outbox())
            .arg(self.feed());
        call.arg(node).arg(user.as_str());
        call
    }

    /// Users came to this node, or went; of those in `again` it was said before, without an answer.
    pub(super) async fn change(
        &self,
        changes: &[Change],
        again: &HashSet<UserId>,
    ) -> Result<Vec<Came>, Silent> {
        let call = |change: &Change| {
            let function = if change.is_online {
                "vb1_came"
            } else {
                "vb1_went"
            };
            let mut call = self.about(function, (self.node, &change.user));
            call.arg(u8::from(again.contains(&change.user)))
                .arg(change.at.as_millis());
            if !change.is_online {
                call.arg(change.last_seen.unwrap_or(change.at).as_millis());
            }
            call
        };
        let calls: Vec<Cmd> = changes.iter().map(call).collect();
        let answers = self.ask_all(&calls).await?;
        let users = changes.iter().map(|change| &change.user);
        Ok(users
            .zip(answers)
            .map(|(user, answer)| said(user, answer))
            .collect())
    }

    /// A node that is gone has these users no more; it had them last `seen`.
    pub(super) async fn sweep(
        &self,
        node: &str,
        users: &[UserId],
        (now, seen): (Timestamp, Timestamp),
    ) -> Result<Vec<Came>, Silent> {
        let call = |user: &UserId| {
            let mut call = self.about("vb1_went", (node, user));
            call.arg(0).arg(now.as_millis()).arg(seen.as_millis());
            call
        };
        let calls: Vec<Cmd> = users.iter().map(call).collect();
        let answers = self.ask_all(&calls).await?;
        Ok(users
            .iter()
            .zip(answers)
            .map(|(user, answer)| said(user, answer))
            .collect())
    }

    /// This node had these users all the time (`again`), or never since it wrote them last.
    pub(super) async fn correct(
        &self,
        users: &[UserId],
        is_here: bool,
        now: Timestamp,
    ) -> Result<Vec<Came>, Silent> {
        let call = |user: &UserId| {
            let function = if is_here { "vb1_again" } else { "vb1_never" };
            let mut call = self.about(function, (self.node, user));
            call.arg(now.as_millis());
            call
        };
        let calls: Vec<Cmd> = users.iter().map(call).collect();
        let answers = self.ask_all(&calls).await?;
        if answers.iter().any(Option::is_none) {
            return Err(Silent);
        }
        Ok(users
            .iter()
            .zip(answers)
            .map(|(user, answer)| said(user, answer))
            .collect())
    }

    /// Who has how the shard stands; begins anew after a restart of its server.
    pub(super) async fn enter(&self, live: &[String]) -> Result<Entered, Silent> {
        let mut call = cmd("FCALL");
        call.arg("vb1_presence_enter")
            .arg(1)
            .arg(self.table())
            .arg(self.node);
        call.arg(u64::try_from(EVERYBODY_WITHIN.as_millis()).unwrap_or(u64::MAX))
            .arg(live);
        let (begun, is_written, _): (String, u8, u8) = self.ask(&call).await?;
        Ok(Entered {
            begun,
            is_written: is_written == 1,
        })
    }

    /// This node has written its users; false when the server was restarted meanwhile.
    pub(super) async fn written(&self, entered: &Entered) -> Result<bool, Silent> {
        let mut call = cmd("FCALL");
        call.arg("vb1_presence_written").arg(1).arg(self.table());
        call.arg(self.node).arg(&entered.begun);
        Ok(self.ask::<u8>(&call).await? == 1)
    }

    /// The users that a node has on this shard, about so many of them; all of them with `None`.
    pub(super) async fn users_of(
        &self,
        node: &str,
        max: Option<usize>,
    ) -> Result<Vec<UserId>, Silent> {
        let mut call = cmd(if max.is_some() {
            "SRANDMEMBER"
        } else {
            "SMEMBERS"
        });
        call.arg(self.key("pn", node));
        if let Some(max) = max {
            call.arg(max);
        }
        let users: Vec<String> = self.ask(&call).await?;
        Ok(users
            .iter()
            .filter_map(|user| UserId::parse(user).ok())
            .collect())
    }

    /// `NODE/BOOT` of everybody who has written.
    pub(super) async fn writers(&self) -> Result<Vec<String>, Silent> {
        let mut call = cmd("HKEYS");
        call.arg(self.table());
        let mut fields: Vec<String> = self.ask(&call).await?;
        fields.retain(|field| field.contains('/'));
        Ok(fields)
    }

    /// Forgets that a node has written its users: when it lives after all it writes them again.
    pub(super) async fn forget(&self, node: &str) -> Result<(), Silent> {
        let mut call = cmd("HDEL");
        call.arg(self.table()).arg(node);
        self.ask::<u8>(&call).await.map(drop)
    }

    /// Whether nothing is left of a node.
    pub(super) async fn is_swept(&self, node: &str) -> Result<bool, Silent> {
        let mut call = cmd("EXISTS");
        call.arg(self.key("pn", node));
        Ok(self.ask::<u8>(&call).await? == 0)
    }

    /// These transitions were told: the next ones to tell.
    pub(super) async fn told(&self, told: &[(&UserId, u64)]) -> Result<Vec<Came>, Silent> {
        let call = |&(user, number): &(&UserId, u64)| {
            let mut call = cmd("FCALL");
            call.arg("vb1_told")
                .arg(2)
                .arg(self.key("p", user.as_str()))
                .arg(self.outbox());
            call.arg(user.as_str()).arg(number);
            call
        };
        let calls: Vec<Cmd> = told.iter().map(call).collect();
        let answers = self.ask_all(&calls).await?;
        Ok(told
            .iter()
            .zip(answers)
            .map(|((user, _), answer)| said(user, answer))
            .collect())
    }

    /// Takes over at most `max` transitions that nobody has told for `age`.
    pub(super) async fn overdue(&self, age: Duration, max: usize) -> Result<Vec<Came>, Silent> {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let mut call = cmd("FCALL_RO");
        call.arg("vb1_overdue")
            .arg(1)
            .arg(self.outbox())
            .arg(age)
            .arg(max);
        let users: Vec<String> = self.ask(&call).await?;
        let users: Vec<UserId> = users
            .iter()
            .filter_map(|user| UserId::parse(user).ok())
            .collect();
        let call = |user: &UserId| {
            let mut call = cmd("FCALL");
            call.arg("vb1_claim")
                .arg(2)
                .arg(self.key("p", user.as_str()))
                .arg(self.outbox());
            call.arg(user.as_str()).arg(age);
            call
        };
        let calls: Vec<Cmd> = users.iter().map(call).collect();
        let answers = self.ask_all(&calls).await?;
        Ok(users
            .iter()
            .zip(answers)
            .map(|(user, answer)| said(user, answer))
            .collect())
    }

    /// Who came (true) and went since a place in the shard's feed, in order; `None` when it does not go back so
    /// far. The place moves on.
    pub(super) async fn since(
        &self,
        place: &mut String,
    ) -> Result<Option<Vec<(UserId, bool)>>, Silent> {
        let mut call = cmd("FCALL_RO");
        call.arg("vb1_presence_since").arg(2);
        call.arg(self.table()).arg(self.feed()).arg(&*place);
        let answer: Vec<Value> = self.ask(&call).await?;
        let mut answer = answer.into_iter();
        let head = (answer.next().map(from_redis_value), answer.next());
        let (Some(Ok(now)), Some(Value::Int(is_whole))) = head else {
            return Err(Silent);
        };
        *place = now;
        let entry = |value: Value| {
            let text: String = from_redis_value(value).ok()?;
            let (on, user) = text.split_once(' ')?;
            Some((UserId::parse(user).ok()?, on == "1"))
        };
        Ok((is_whole == 1).then(|| answer.rev().filter_map(entry).collect()))
    }

    /// Whether these users are online, and when they were last here.
    pub(super) async fn states(
        &self,
        users: &[&UserId],
    ) -> Result<Vec<(bool, Option<Timestamp>)>, Silent> {
        let call = |user: &&UserId| {
            let mut call = cmd("HMGET");
            call.arg(self.key("p", user.as_str()))
                .arg(".on")
                .arg(".seen");
            call
        };
        let calls: Vec<Cmd> = users.iter().map(call).collect();
        let answers = self.ask_all(&calls).await?;
        let state = |answer: Option<Value>| {
            let (on, seen): (Option<String>, Option<i64>) = from_redis_value(answer?).ok()?;
            Some((on.as_deref() == Some("1"), seen.map(Timestamp::from_millis)))
        };
        let states: Option<Vec<_>> = answers.into_iter().map(state).collect();
        states.ok_or(Silent)
    }
}

/// `NUMBER|1 or 0|TIME|LAST SEEN`, WAIT or nothing.
fn said(user: &UserId, answer: Option<Value>) -> Came {
    let text: Option<String> = answer.and_then(|answer| from_redis_value(answer).ok());
    match text.as_deref() {
        Some("") => Came::Nothing,
        Some("WAIT") | None => Came::Wait,
        Some(text) => transition(user, text).map_or(Came::Nothing, Came::Tell),
    }
}

fn transition(user: &UserId, text: &str) -> Option<Change> {
    let mut parts = text.split('|');
    let number = parts.next()?.parse().ok()?;
    let is_online = parts.next()? == "1";
    let at = Timestamp::from_millis(parts.next()?.parse().ok()?);
    let seen = parts.next().and_then(|seen| seen.parse().ok());
    Some(Change {
        user: user.clone(),
        is_online,
        at,
        last_seen: seen.map(Timestamp::from_millis),
        number: Some(number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_reads_back() {
        let ann = UserId::parse("ann").unwrap();
        let text = |text: &str| said(&ann, Some(Value::BulkString(text.as_bytes().to_vec())));
        let Came::Tell(went) = text("7|0|5|3") else {
            panic!("nothing to tell");
        };
        assert_eq!((went.number, went.is_online), (Some(7), false));
        assert_eq!(went.last_seen, Some(Timestamp::from_millis(3)));
        assert!(matches!(text("8|1|6|"), Came::Tell(change) if change.last_seen.is_none()));
        assert_eq!(
            (text(""), text("WAIT"), said(&ann, None)),
            (Came::Nothing, Came::Wait, Came::Wait)
        );
        assert_eq!(text("x|1"), Came::Nothing);
    }
}
