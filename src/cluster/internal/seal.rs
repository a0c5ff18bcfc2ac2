//! How a node knows that a request comes from another node of its cluster.
//!
//! Each request carries a seal: HMAC-SHA256 with the cluster's secret over what it asks, of whom, from
//! whom, and a digest of its body. The secret itself never travels. A seal is good for 30 seconds and
//! once: it names the sender's process and a number that only grows there, and the receiver remembers the
//! last 65,536 of each process. The time is that of the first shard's clock, because machines' own may differ by
//! more. Answers are not sealed and nothing is encrypted: nodes belong in a network
//! of their own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::telemetry::labels::Unsealed;
use crate::types::{NodeId, Secret};

/// The header of a seal.
pub const SEAL: &str = "x-vestibule-seal";
/// The header that names the client for whom a node asks.
pub const CLIENT: &str = "x-vestibule-client";

/// How far the clocks of two nodes may differ, and how long a request may travel.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// Requests of one process that may overtake each other: more than it can have open.
const WINDOW: u64 = 65_536;
/// Processes whose numbers are remembered. One goes when it was not heard for twice as long as a seal is
/// good; a cluster that starts more nodes than this in a minute has other worries.
const SENDERS_MAX: usize = 256;

/// What is sealed of a request.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// For whom it is asked.
    pub client: Option<IpAddr>,
    /// What the body is.
    pub body: Digest,
}

/// SHA-256 of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

/// The secret, and what was sealed and seen with it. One for each node.
pub struct Seals {
    me: NodeId,
    key: Hmac<Sha256>,
    process: u64,
    next: AtomicU64,
    senders: Mutex<HashMap<(NodeId, u64), Seen>>,
}

impl Seals {
    /// With the cluster's secret; `process` differs at each start.
    #[must_use]
    pub fn new(me: NodeId, secret: &Secret<String>, process: u64) -> Self {
        let key = Hmac::new_from_slice(secret.reveal().as_bytes());
        Self {
            me,
            key: key.expect("HMAC takes a key of any length"),
            process,
            next: AtomicU64::new(1),
            senders: Mutex::default(),
        }
    }

    /// The header for a request to `to`, good for one request from now on.
    #[must_use]
    pub fn seal(&self, to: &NodeId, request: &Sealed<'_>, now: SystemTime) -> String {
        let stamp = Stamp {
            from: &self.me,
            process: self.process,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            millis: millis(now),
        };
        let mac = self.mac(to, request, &stamp).finalize().into_bytes();
        let (body, mac) = (
            URL_SAFE_NO_PAD.encode(request.body.0),
            URL_SAFE_NO_PAD.encode(mac),
        );
        let Stamp {
            from,
            process,
            number,
            millis,
        } = stamp;
        format!("1 {from} {process} {number} {millis} {body} {mac}")
    }

    /// Who sealed a request for this node, and the body that it must have. Counts the seal as used.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn check(
        &self,
        seal: &str,
        (method, target, client): (&str, &str, Option<IpAddr>),
        now: SystemTime,
    ) -> Result<(NodeId, Digest), Unsealed> {
        let parts: Vec<&str> = seal.splitn(8, ' ').collect();
        let ["1", from, process, number, millis_then, body, mac] = parts[..] else {
            return Err(Unsealed::Malformed);
        };
        let number_of = |text: &str| text.parse::<u64>().map_err(|_| Unsealed::Malformed);
        let from = NodeId::parse(from).map_err(|_| Unsealed::Malformed)?;
        let mut digest = [0; 32];
        let decoded = URL_SAFE_NO_PAD.decode(body).ok();
        let decoded = decoded.filter(|bytes| bytes.len() == digest.len());
        digest.copy_from_slice(&decoded.ok_or(Unsealed::Malformed)?);
        let mac = URL_SAFE_NO_PAD
            .decode(mac)
            .map_err(|_| Unsealed::Malformed)?;
        let stamp = Stamp {
            from: &from,
            process: number_of(process)?,
            number: number_of(number)?,
            millis: number_of(millis_then)?,
        };
        let request = Sealed {
            method,
            target,
            client,
            body: Digest(digest),
        };
        // Compares in constant time.
        let is_ours = self.mac(&self.me, &request, &stamp).verify_slice(&mac);
        is_ours.map_err(|_| Unsealed::Wrong)?;
        let now = millis(now);
        if now.abs_diff(stamp.millis) > millis_of(GOOD_FOR) {
            return Err(Unsealed::Late);
        }
        let sender = (from.clone(), stamp.process);
        if self.is_new(sender, stamp.number, now) {
            Ok((from, request.body))
        } else {
            Err(Unsealed::Replayed)
        }
    }

    /// Each part ends with a line feed, which none of them can hold.
    fn mac(&self, to: &NodeId, request: &Sealed<'_>, stamp: &Stamp<'_>) -> Hmac<Sha256> {
        let client = request.client.map(|client| client.to_string());
        let mut mac = self.key.clone();
        for part in [
            "vestibule internal 1",
            to.as_str(),
            request.method,
            request.target,
            client.as_deref().unwrap_or("-"),
            stamp.from.as_str(),
        ] {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        for number in [stamp.process, stamp.number, stamp.millis] {
            mac.update(&number.to_be_bytes());
        }
        mac.update(&request.body.0);
        mac
    }

    fn is_new(&self, sender: (NodeId, u64), number: u64, now: u64) -> bool {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.len() >= SENDERS_MAX && !senders.contains_key(&sender) {
            // Whatever such a process sealed is too old by now.
            senders.retain(|_, seen| now.saturating_sub(seen.heard) <= 2 * millis_of(GOOD_FOR));
            if senders.len() >= SENDERS_MAX {
                return false;
            }
        }
        match senders.entry(sender) {
            Entry::Occupied(mut seen) => {
                seen.get_mut().heard = now;
                seen.get_mut().take(number)
            }
            Entry::Vacant(place) => place.insert(Seen::new(now)).take(number),
        }
    }
}

/// When and by whom.
struct Stamp<'a> {
    from: &'a NodeId,
    process: u64,
    number: u64,
    millis: u64,
}

/// Which of the last numbers of a process were used.
struct Seen {
    highest: u64,
    bits: Box<[u64]>,
    heard: u64,
}

impl Seen {
    fn new(now: u64) -> Self {
        Self {
            highest: 0,
            bits: vec![0; usize::try_from(WINDOW / 64).unwrap_or(0)].into(),
            heard: now,
        }
    }

    /// False when it was taken before, or is so old that nobody knows.
    fn take(&mut self, number: u64) -> bool {
        if number > self.highest {
            for skipped in (self.highest + 1..=number).rev().take(self.bits.len() * 64) {
                *self.word(skipped) &= !bit(skipped);
            }
            self.highest = number;
        } else if self.highest - number >= WINDOW || *self.word(number) & bit(number) != 0 {
            return false;
        }
        *self.word(number) |= bit(number);
        true
    }

    fn word(&mut self, number: u64) -> &mut u64 {
        &mut self.bits[usize::try_from(number % WINDOW / 64).unwrap_or(0)]
    }
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

fn millis(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, millis_of)
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const SECRET: &str = "a secret of at least thirty-two bytes";

    fn seals(node: &str, secret: &str) -> Seals {
        let secret = Secret::new(secret.to_owned());
        Seals::new(NodeId::parse(node).unwrap(), &secret, 7)
    }

    fn request(client: Option<IpAddr>) -> Sealed<'static> {
        Sealed {
            method: "POST",
            target: "/engine?sid=1",
            client,
            body: Digest::of(b"body"),
        }
    }

    #[test]
    fn a_seal_is_good_once_for_what_it_seals() {
        let (a, b) = (seals("a", SECRET), seals("b", SECRET));
        let client: IpAddr = [192, 0, 2, 1].into();
        let asked = ("POST", "/engine?sid=1", Some(client));
        let fresh = || a.seal(&b.me, &request(Some(client)), NOW);
        let seal = fresh();
        assert!(!seal.contains(SECRET));
        let (from, body) = b.check(&seal, asked, NOW).unwrap();
        assert_eq!((from.as_str(), body), ("a", Digest::of(b"body")));
        assert_eq!(b.check(&seal, asked, NOW), Err(Unsealed::Replayed));
        for other in [
            ("GET", asked.1, asked.2),
            ("POST", "/engine?sid=2", asked.2),
            ("POST", asked.1, None),
        ] {
            assert_eq!(b.check(&fresh(), other, NOW), Err(Unsealed::Wrong));
        }
        let c = seals("c", SECRET);
        assert_eq!(c.check(&fresh(), asked, NOW), Err(Unsealed::Wrong), "for b");
        let stranger = seals("a", "another secret of thirty-two bytes or so");
        let seal = stranger.seal(&b.me, &request(Some(client)), NOW);
        assert_eq!(b.check(&seal, asked, NOW), Err(Unsealed::Wrong));
        let later = NOW + GOOD_FOR + Duration::from_millis(1);
        assert_eq!(b.check(&fresh(), asked, later), Err(Unsealed::Late));
        assert!(b.check(&fresh(), asked, NOW + GOOD_FOR).is_ok());
        for noise in ["", "1", "1 a b c d e f", "2 a 1 1 1 e f", "1 a 1 1 1 e f g"] {
            assert_eq!(b.check(noise, asked, NOW), Err(Unsealed::Malformed));
        }
        let tampered = fresh().replacen(" 7 ", " 8 ", 1);
        assert_eq!(b.check(&tampered, asked, NOW), Err(Unsealed::Wrong));
    }

    #[test]
    fn numbers_may_overtake_each_other_within_the_window() {
        let mut seen = Seen::new(0);
        assert!(seen.take(5) && seen.take(3) && seen.take(4));
        assert!(!seen.take(5) && !seen.take(3) && !seen.take(4));
        assert!(seen.take(5 + WINDOW - 1));
        assert!(!seen.take(5) && seen.take(6));
        assert!(seen.take(10 * WINDOW));
        assert!(seen.take(9 * WINDOW + 1) && !seen.take(9 * WINDOW));
        assert!(!seen.take(9 * WINDOW + 1) && !seen.take(10 * WINDOW));
    }

    #[test]
    fn processes_that_fell_silent_make_room() {
        let b = seals("b", SECRET);
        for process in 0..u64::try_from(SENDERS_MAX).unwrap() {
            let a = Seals::new(b.me.clone(), &Secret::new(SECRET.to_owned()), process);
            let seal = a.seal(&b.me, &request(None), NOW);
            assert!(b.check(&seal, ("POST", "/engine?sid=1", None), NOW).is_ok());
        }
        let a = seals("a", SECRET);
        let ask = |now| {
            let seal = a.seal(&b.me, &request(None), now);
            b.check(&seal, ("POST", "/engine?sid=1", None), now)
        };
        assert_eq!(ask(NOW), Err(Unsealed::Replayed));
        assert!(ask(NOW + 3 * GOOD_FOR).is_ok());
    }
}
