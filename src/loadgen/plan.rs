//! What a run is to do, checked before the first socket is opened.

use std::path::PathBuf;
use std::time::Duration;

use crate::types::Secret;

use super::Error;
use super::dialect::Dialect;
use super::stamp::STAMP_BYTES;
use super::usage::descriptors_max;

/// One run of the load generator.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server and how to talk to it.
    pub target: Target,
    /// How many sockets to open.
    pub connections: u32,
    /// How many rooms they are spread over, evenly.
    pub rooms: u32,
    /// What to do once they are there.
    pub scenario: Scenario,
    /// How long each part takes.
    pub times: Times,
}

/// The server and how to talk to it.
#[derive(Debug, Clone)]
pub struct Target {
    /// `ws://HOST:PORT` or `wss://HOST:PORT`, with another path than `/socket.io/` if given.
    pub url: String,
    /// A PEM file with the certificate authority to trust; needed for `wss`.
    pub ca: Option<PathBuf>,
    /// The event names that server knows.
    pub dialect: Dialect,
    /// Sent as `auth.token`, each by every so-manieth socket; none if there are none.
    pub tokens: Vec<Secret<String>>,
    /// How many handshakes may be under way at once.
    pub opening_max: usize,
    /// Processes whose CPU and memory are the server's.
    pub pids: Vec<u32>,
}

/// What the sockets do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scenario {
    /// Nothing: the server's memory is measured.
    Idle,
    /// Some members publish, every member of the room receives.
    Fanout {
        /// Publishers in each room.
        publishers: u32,
        /// Length of an event's content.
        payload_bytes: usize,
        /// When to publish.
        pace: Pace,
    },
    /// Every socket asks and waits for the acknowledgement.
    Echo {
        /// Length of the content.
        payload_bytes: usize,
        /// When to ask: the window is per socket, the rate in questions.
        pace: Pace,
    },
}

/// When the next event is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Closed loop: so many events of a room are on their way; the next one is sent when one has
    /// reached every member.
    Window(u32),
    /// Open loop: deliveries per second over all rooms, whatever the server does.
    Rate(f64),
}

/// How long each part of a run takes.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Load before measuring begins.
    pub warm_up: Duration,
    /// Load that is measured; for `idle` the time the sockets are held.
    pub measured: Duration,
    /// Quiet between the last join and the load.
    pub settle: Duration,
    /// After this time an event is no longer waited for: it is counted, its place in the window is
    /// free again, and the run can end without it.
    pub stall: Duration,
}

/// State per member and publisher (a few bytes each) that one run may keep.
const LANES_MAX: u64 = 16 << 20;

/// Descriptors for the runtime, the standard streams and `/proc`.
const DESCRIPTORS_SPARE: u64 = 32;

impl Plan {
    /// Refuses what cannot work, naming the value and the limit.
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::Plan(message));
        let Self {
            connections, rooms, ..
        } = *self;
        if connections == 0 || rooms == 0 || rooms > connections {
            return refuse(format!(
                "{connections} connections cannot be spread over {rooms} rooms"
            ));
        }
        let needed = u64::from(connections) + DESCRIPTORS_SPARE;
        if let Some(limit) = descriptors_max().filter(|limit| *limit < needed) {
            return refuse(format!(
                "{connections} connections need {needed} descriptors, the limit is {limit}"
            ));
        }
        match self.scenario {
            Scenario::Idle => Ok(()),
            Scenario::Fanout {
                publishers,
                payload_bytes,
                pace,
            } => {
                self.check_publishers(publishers, pace)?;
                check_payload(payload_bytes, STAMP_BYTES)?;
                check_pace(pace)
            }
            Scenario::Echo {
                payload_bytes,
                pace,
            } => {
                if self.target.dialect != Dialect::Relay {
                    return refuse("only the relay dialect has an echo".to_owned());
                }
                check_payload(payload_bytes, 0)?;
                check_pace(pace)
            }
        }
    }

    fn check_publishers(&self, publishers: u32, pace: Pace) -> Result<(), Error> {
        let smallest = self.connections / self.rooms;
        let message = if publishers == 0 || publishers > smallest {
            format!("{publishers} publishers in a room of {smallest} members")
        } else if publishers * self.rooms > u32::from(u16::MAX) {
            format!(
                "{} publishers in all, the limit is {}",
                publishers * self.rooms,
                u16::MAX
            )
        } else if u64::from(publishers) * u64::from(self.connections) > LANES_MAX {
            format!(
                "{publishers} publishers times {} members exceed {LANES_MAX}",
                self.connections
            )
        } else if let Pace::Window(window) = pace
            && window < publishers
        {
            format!("a window of {window} leaves some of the {publishers} publishers silent")
        } else {
            return Ok(());
        };
        Err(Error::Plan(message))
    }
}

fn check_payload(bytes: usize, least: usize) -> Result<(), Error> {
    const MOST: usize = 1 << 20;
    if (least..=MOST).contains(&bytes) {
        return Ok(());
    }
    Err(Error::Plan(format!(
        "a payload of {bytes} bytes is outside {least} to {MOST}"
    )))
}

fn check_pace(pace: Pace) -> Result<(), Error> {
    match pace {
        Pace::Window(window) if (1..=1024).contains(&window) => Ok(()),
        Pace::Window(window) => Err(Error::Plan(format!(
            "a window of {window} is outside 1 to 1024"
        ))),
        Pace::Rate(rate) if rate.is_finite() && rate > 0.0 => Ok(()),
        Pace::Rate(rate) => Err(Error::Plan(format!("a rate of {rate} per second"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connections: u32, rooms: u32, scenario: Scenario) -> Plan {
        let second = Duration::from_secs(1);
        let times = Times {
            warm_up: second,
            measured: second,
            settle: second,
            stall: second,
        };
        let target = Target {
            url: "ws://127.0.0.1:1".to_owned(),
            ca: None,
            dialect: Dialect::Relay,
            tokens: Vec::new(),
            opening_max: 1,
            pids: Vec::new(),
        };
        Plan {
            target,
            connections,
            rooms,
            scenario,
            times,
        }
    }

    fn fanout(publishers: u32, payload_bytes: usize, pace: Pace) -> Scenario {
        Scenario::Fanout {
            publishers,
            payload_bytes,
            pace,
        }
    }

    #[test]
    fn plans_that_cannot_work_are_refused_with_their_numbers() {
        for (plan, word) in [
            (plan(0, 1, Scenario::Idle), "0 connections"),
            (plan(5, 6, Scenario::Idle), "6 rooms"),
            (plan(4_000_000_000, 1, Scenario::Idle), "descriptors"),
            (plan(10, 5, fanout(3, 200, Pace::Window(3))), "room of 2"),
            (plan(10, 1, fanout(4, 200, Pace::Window(3))), "window of 3"),
            (plan(10, 1, fanout(1, 29, Pace::Window(1))), "29 bytes"),
            (plan(10, 1, fanout(1, 200, Pace::Rate(0.0))), "rate of 0"),
            (
                plan(10, 1, fanout(1, 200, Pace::Rate(f64::NAN))),
                "rate of NaN",
            ),
            (
                plan(10, 1, fanout(1, 200, Pace::Window(2000))),
                "window of 2000",
            ),
        ] {
            let error = plan.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(plan(10, 5, fanout(2, 200, Pace::Window(2))).check().is_ok());
    }
}
