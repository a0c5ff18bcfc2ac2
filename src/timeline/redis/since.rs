//! Reading a room back to a place in the shard's stream.

use std::sync::Arc;

use redis::{Pipeline, Value, cmd};

use super::reply::{self, Strange};
use super::shard::{Answer, Shard, may_be_elsewhere};
use crate::placement::View;
use crate::timeline::{Ask, End, Error, Since};
use crate::types::{Epoch, Position, ShardPosition, ShardSeq};

impl Shard {
    pub(super) async fn since_all(
        &self,
        view: &View,
        asks: &[Ask],
    ) -> Vec<Result<Answer<Since>, Error>> {
        let mut calls = Pipeline::with_capacity(asks.len());
        for ask in asks {
            let mut call = cmd("FCALL_RO");
            call.arg("vb1_since").arg(3).arg(self.keys.shard());
            call.arg(self.keys.meta(&ask.room))
                .arg(self.keys.stream(&ask.room));
            call.arg(ask.mark.epoch.0.min(EXACT))
                .arg(ask.mark.shard_seq.0.min(EXACT));
            let before = ask.before.map(|before| before.to_string());
            call.arg(before.unwrap_or_default()).arg(ask.limit);
            call.arg(may_be_elsewhere(view, &ask.room));
            calls.add_command(call);
        }
        let answers = self.ask_all(&calls).await;
        let read = |(answer, ask): (Result<Value, Error>, &Ask)| {
            let answer = answer?;
            if reply::is_absent(&answer) {
                return Ok(Answer::Absent);
            }
            let since = self
                .since(answer, ask)
                .map_err(|strange| self.strange(&strange))?;
            self.stale(since.epoch)?;
            Ok(Answer::Here(since))
        };
        answers.into_iter().zip(asks).map(read).collect()
    }

    fn since(&self, answer: Value, ask: &Ask) -> Result<Since, Strange> {
        let mut parts = reply::list(answer)?;
        let entries = reply::list(parts.pop().ok_or(Strange("no entries"))?)?;
        let read = |value| Ok(Arc::new(reply::entry(value, (&ask.room, self.id))?));
        let entries = entries
            .into_iter()
            .map(read)
            .collect::<Result<_, Strange>>()?;
        let end = match reply::text(parts.get(1))?.as_str() {
            "MARK" => End::Mark,
            "MORE" => End::More,
            "BEGINNING" => End::Beginning,
            "GONE" => End::Gone(gone(&reply::text(parts.get(2))?)?),
            _ => return Err(Strange("an unknown end")),
        };
        Ok(Since {
            epoch: Epoch(reply::number(parts.first())?),
            entries,
            end,
        })
    }

    pub(super) async fn end_of(&self, epoch: Epoch) -> Result<Option<ShardSeq>, Error> {
        let mut call = cmd("HGET");
        call.arg(self.keys.shard()).arg(format!("end:{epoch}"));
        match self.ask(&call).await? {
            Value::Nil => Ok(None),
            answer => {
                let end = reply::number(Some(&answer));
                Ok(Some(ShardSeq(
                    end.map_err(|strange| self.strange(&strange))?,
                )))
            }
        }
    }
}

/// `EPOCH-SHARD_SEQ`, or nothing.
fn gone(text: &str) -> Result<Option<ShardPosition>, Strange> {
    if text.is_empty() {
        return Ok(None);
    }
    let Position { epoch, seq } = reply::place(text)?;
    Ok(Some(ShardPosition {
        epoch,
        shard_seq: ShardSeq(seq.0),
    }))
}

/// Lua's numbers are doubles: beyond this they are not exact, and nothing real is.
const EXACT: u64 = 1 << 53;
