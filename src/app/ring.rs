//! The ring of a cluster's shards, for the command that shows and changes it.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::servers;
use crate::backend::redis::{PutError, Shards};
use crate::cluster::membership;
use crate::config::{Config, Mode};
use crate::placement::Plan;

/// How often is looked whether a change is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The ring that a cluster has agreed on.
pub struct OpenRing {
    shards: Shards,
    /// The first shard that did not answer.
    away: Option<PutError>,
}

impl OpenRing {
    /// Connects to the shards that a configuration names.
    ///
    /// # Errors
    /// When that is no cluster, or its ring cannot be read from any shard.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        ensure!(
            config.mode == Mode::Cluster,
            "there is no ring in embedded mode: set mode = \"cluster\""
        );
        let specs = servers::shards(&config.redis)?;
        let shards = Shards::new(&specs, &[membership::LIBRARY]).context("redis.shards")?;
        let away = shards.all_answer().await.err();
        ensure!(
            shards.look_for_plan().await?,
            "the shards have not agreed on a ring"
        );
        Ok(Self { shards, away })
    }

    fn plan(&self) -> Plan {
        self.shards.rings().view().plan.clone()
    }

    /// What there is, a line for each shard.
    #[must_use]
    pub fn show(&self) -> String {
        let plan = self.plan();
        let mut text = format!("version {}\n", plan.version);
        for shard in self.shards.all() {
            let name = self.shards.name(shard);
            let share = self.shards.share(shard) * 100.0;
            match plan.rooms.get(name) {
                Some(weight) => {
                    writeln!(text, "{name}  weight {weight}  {share:.1} % of the rooms")
                }
                None => writeln!(
                    text,
                    "{name}  not on the ring: `vestibule ring apply` puts it there"
                ),
            }
            .expect("writing to a string does not fail");
        }
        text.push_str(match plan.before {
            Some(_) => "rooms are moving\n",
            None => "every room is at its place\n",
        });
        if let Some(away) = &self.away {
            writeln!(text, "{away}").expect("writing to a string does not fail");
        }
        text
    }

    /// Makes the ring the one that the configuration says.
    ///
    /// # Errors
    /// When a shard does not answer, there is nothing to change, another change is not over, or a node does not know a shard.
    pub async fn apply(&self, is_cluster: bool) -> anyhow::Result<()> {
        ensure!(
            !is_cluster,
            "the buckets of a Redis Cluster stay what they are: move its slots with redis-cli instead"
        );
        if let Some(away) = &self.away {
            bail!("{away}");
        }
        let plan = self.plan().change(self.shards.configured())?;
        let living = membership::living(&self.shards)
            .await
            .context("the nodes cannot be asked whether they know the shards")?;
        for node in living {
            let unknown = plan.rooms.keys().find(|name| !node.shards.contains(name));
            if let Some(name) = unknown {
                bail!(
                    "node {} does not know shard {name:?}: add it to redis.shards there and restart the node first",
                    node.id
                );
            }
        }
        self.shards.put_plan(plan).await?;
        Ok(())
    }

    /// Waits until no room moves any more.
    ///
    /// # Errors
    /// When the ring cannot be read.
    pub async fn settled(&self) -> anyhow::Result<()> {
        while self.plan().before.is_some() {
            tokio::time::sleep(LOOK_EVERY).await;
            self.shards.look_for_plan().await?;
        }
        Ok(())
    }
}
