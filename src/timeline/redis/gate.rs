//! Whether a shard's replicas have what was written.

use redis::{Pipeline, cmd};

use super::reply;
use super::shard::Shard;
use crate::timeline::Error;

impl Shard {
    /// Whether enough replicas have everything that was written before.
    pub(super) async fn gate(&self) -> Result<bool, Error> {
        if self.replicas == 0 {
            return Ok(true);
        }
        // WAIT counts from the connection's own last write, so it makes one.
        let mut mark = cmd("HINCRBY");
        mark.arg(self.keys.shard()).arg("gates").arg(1);
        let mut wait = cmd("WAIT");
        wait.arg(self.replicas).arg(GATE_MS);
        let mut calls = Pipeline::with_capacity(2);
        calls.add_command(mark).add_command(wait);
        let answer = self.ask_all(&calls).await.pop();
        let answer = answer.ok_or(Error::Unavailable { shard: self.id })??;
        let count = reply::number(Some(&answer)).map_err(|strange| self.strange(&strange))?;
        Ok(count >= u64::from(self.replicas))
    }
}

/// How long replicas may take; then the commit is tried again later.
const GATE_MS: u64 = 200;
