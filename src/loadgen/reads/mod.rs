//! A mix of reads over REST: session checks, newest pages of history, conversation lists, presence.
//!
//! An open loop over connections that are kept: requests are due evenly, and who is asked about, and
//! where, is drawn from a Zipf distribution, as people and conversations are. Messages are sent
//! meanwhile, so that lists and pages change under their readers. What the caches answered comes
//! from the server's metrics, before and after.
//!
//! Reading order: [`Reads`] → `world` (accounts and conversations are made) → `mix` (what to ask) →
//! `drive` (when) → [`Account`].

mod account;
mod caches;
mod drive;
mod http;
mod mix;
mod world;

use std::net::SocketAddr;
use std::rc::Rc;

use ::http::Uri;
use tokio::net::lookup_host;
use tokio::task::LocalSet;

use super::Error;
use super::plan::Times;
use super::usage::Usage;

pub use account::{Account, CacheUse, Timed};
pub use mix::{Kind, SHARES};

/// One run.
#[derive(Debug, Clone)]
pub struct Reads {
    /// The server: `http://HOST:PORT`, or the same with `ws`.
    pub url: String,
    /// The operations listeners of its nodes, for the metrics; without any nothing is said about caches.
    pub operations: Vec<String>,
    /// Accounts that are signed up and read.
    pub users: u32,
    /// Conversations among them.
    pub conversations: u32,
    /// Messages that each conversation begins with.
    pub messages: u32,
    /// Connections that requests are spread over.
    pub connections: u32,
    /// Reads in a second.
    pub rate: f64,
    /// Messages sent in a second, meanwhile.
    pub sent: f64,
    /// How long each part takes.
    pub times: Times,
    /// Processes whose CPU and memory are the server's.
    pub pids: Vec<u32>,
}

/// Plays `reads` on this thread and gives the account.
///
/// # Errors
/// If the plan cannot work or what is to be read cannot be made. Answers other than 200 under load
/// are no errors but part of the account.
pub fn run(reads: &Reads) -> Result<Account, Error> {
    reads.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    LocalSet::new().block_on(&runtime, play(reads))
}

async fn play(reads: &Reads) -> Result<Account, Error> {
    let server = address(&reads.url).await?;
    let mut operations = Vec::new();
    for url in &reads.operations {
        operations.push(address(url).await?);
    }
    let began = std::time::Instant::now();
    let world = world::make(reads, server).await.map_err(Error::Plan)?;
    let made_in = began.elapsed();
    tokio::time::sleep(reads.times.settle).await;
    let plan = drive::Drive::new(reads, server, Rc::new(world));
    plan.warm_up().await?;
    let before = caches::read(&operations).await?;
    let used = Usage::of(&reads.pids)?;
    let driven = plan.measure().await?;
    let used = Usage::of(&reads.pids)? - used;
    let after = caches::read(&operations).await?;
    let mut account = Account::of(reads, driven);
    account.preparing_seconds = made_in.as_secs_f64();
    account.caches = caches::between(&before, &after);
    account.server_cores =
        (!reads.pids.is_empty()).then(|| used.cpu().as_secs_f64() / account.seconds);
    Ok(account)
}

async fn address(url: &str) -> Result<SocketAddr, Error> {
    let refuse = |why: &str| Error::Plan(format!("{url:?} is not a usable URL: {why}"));
    let uri: Uri = url.parse().map_err(|_| refuse("it does not parse"))?;
    if !matches!(uri.scheme_str(), Some("http" | "ws")) {
        return Err(refuse("it begins with neither http:// nor ws://"));
    }
    let host = uri.host().ok_or_else(|| refuse("there is no host"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut found = lookup_host((bare, uri.port_u16().unwrap_or(80)))
        .await
        .map_err(|_| refuse("unknown host"))?;
    found
        .next()
        .ok_or_else(|| refuse("the host has no address"))
}

impl Reads {
    fn check(&self) -> Result<(), Error> {
        let rules = [
            (
                self.conversations > 0 && self.conversations <= self.users,
                "conversations must be 1 to the number of users",
            ),
            (
                self.connections > 0 && self.connections <= 1024,
                "connections must be 1 to 1024",
            ),
            (
                self.rate.is_finite() && self.rate > 0.0,
                "the rate must be above 0",
            ),
            (
                self.sent.is_finite() && self.sent >= 0.0,
                "the rate of messages must be 0 or more",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(Error::Plan(rule.to_owned())),
            None => Ok(()),
        }
    }
}
