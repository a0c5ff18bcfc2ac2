//! The account of a run: one structure, written as one line of JSON or shown as a
//! table (`table`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::check::Verdict;
use super::dialect::Dialect;
use super::echo::Echo;
use super::fanout::Fanout;
use super::fleet::Opened;
use super::latency::Summary;
use super::plan::{Pace, Plan, Scenario};
use super::scene::Scene;
use super::usage::Usage;

/// What was asked for and what came of it. Rates, CPU and latencies are those of the measured part,
/// faults those of the whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// `idle`, `fanout` or `echo`.
    pub scenario: &'static str,
    /// `relay` or `vestibule`.
    pub dialect: &'static str,
    /// Sockets that took part.
    pub connections: u32,
    /// Rooms they were spread over.
    pub rooms: u32,
    /// Publishers in each room.
    pub publishers: u32,
    /// Length of an event's content.
    pub payload_bytes: usize,
    /// Closed loop: events on their way, per room (`echo`: per socket).
    pub window: Option<u32>,
    /// Open loop: deliveries asked for per second.
    pub rate: Option<f64>,
    /// How the sockets were opened.
    pub opening: Opening,
    /// Length of the measured part.
    pub seconds: f64,
    /// Events sent.
    pub events: u64,
    /// First copies that arrived (`echo`: answers).
    pub deliveries: u64,
    /// The same per second.
    pub deliveries_per_second: f64,
    /// From when an event was due until a member had it (`echo`: until the answer).
    pub delivery: Option<Summary>,
    /// The part of it that went to members on another node than the publisher.
    pub elsewhere: Option<Summary>,
    /// How many nodes the sockets are on, where session ids say so.
    pub nodes: usize,
    /// From when an event was due until its acknowledgement.
    pub ack: Option<Summary>,
    /// Open loop: how late the generator sent its events; part of the latencies above.
    pub send_lag: Option<Summary>,
    /// What went wrong on the way.
    pub check: Verdict,
    /// Events that were no longer waited for.
    pub stalled: u64,
    /// Events sent for which neither an acknowledgement nor a refusal came.
    pub unacknowledged: u64,
    /// Refused events, by error code.
    pub refused: BTreeMap<String, u64>,
    /// Events of the right name without a stamp of this run.
    pub foreign: u64,
    /// Sockets that ended early, by reason.
    pub parted: BTreeMap<String, u64>,
    /// The server's processes; `None` if none were named.
    pub server: Option<Server>,
    /// The generator itself.
    pub generator: Generator,
}

/// How the sockets were opened.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Opening {
    /// Time from the first to the last.
    pub seconds: f64,
    /// The server's CPU for one handshake and join, in microseconds.
    pub cpu_us: Option<f64>,
    /// Sockets that never took part, by reason.
    pub failed: BTreeMap<String, u64>,
}

/// What the server's processes used.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Server {
    /// CPU in user space, seconds.
    pub user_seconds: f64,
    /// CPU in the kernel, seconds.
    pub system_seconds: f64,
    /// Both, in cores.
    pub cores: f64,
    /// CPU per delivery, microseconds.
    pub us_per_delivery: Option<f64>,
    /// The part of it in user space.
    pub user_us_per_delivery: Option<f64>,
    /// Deliveries per second of CPU.
    pub deliveries_per_cpu_second: Option<f64>,
    /// Resident memory before the first socket.
    pub rss_before_bytes: u64,
    /// Resident memory at the end of the measured part.
    pub rss_bytes: u64,
    /// The growth, by socket.
    pub rss_bytes_per_connection: f64,
}

/// What the generator itself used in the measured part.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Generator {
    /// CPU, in cores. Near one, the server was not the limit.
    pub cores: f64,
    /// Resident memory at its end.
    pub rss_bytes: u64,
}

/// What was used and delivered between two moments.
pub(super) struct Span {
    pub(super) time: Duration,
    pub(super) server: Usage,
    pub(super) own: Usage,
    pub(super) delivered: u64,
    pub(super) sent: u64,
}

impl Report {
    /// A report that repeats what was asked for.
    pub(super) fn of(plan: &Plan) -> Self {
        let (scenario, publishers, payload_bytes, pace) = match plan.scenario {
            Scenario::Idle => ("idle", 0, 0, None),
            Scenario::Fanout {
                publishers,
                payload_bytes,
                pace,
            } => ("fanout", publishers, payload_bytes, Some(pace)),
            Scenario::Echo {
                payload_bytes,
                pace,
            } => ("echo", 0, payload_bytes, Some(pace)),
        };
        Self {
            scenario,
            dialect: match plan.target.dialect {
                Dialect::Relay => "relay",
                Dialect::Vestibule => "vestibule",
            },
            rooms: plan.rooms,
            publishers,
            payload_bytes,
            window: pace.and_then(|pace| {
                if let Pace::Window(window) = pace {
                    Some(window)
                } else {
                    None
                }
            }),
            rate: pace.and_then(|pace| {
                if let Pace::Rate(rate) = pace {
                    Some(rate)
                } else {
                    None
                }
            }),
            server: (!plan.target.pids.is_empty()).then(Server::default),
            ..Self::default()
        }
    }

    pub(super) fn opening(&mut self, opened: &Opened, span: Span) {
        self.connections = opened.ready;
        self.opening = Opening {
            seconds: span.time.as_secs_f64(),
            cpu_us: self
                .server
                .as_ref()
                .map(|_| us(span.server.cpu()) / f64::from(opened.ready)),
            failed: opened.failed.clone(),
        };
    }

    pub(super) fn server(&mut self, before: Usage, span: Span) {
        let seconds = span.time.as_secs_f64();
        self.seconds = seconds;
        self.events = span.sent;
        self.deliveries = span.delivered;
        self.deliveries_per_second = span.delivered as f64 / seconds;
        self.generator = Generator {
            cores: span.own.cpu().as_secs_f64() / seconds,
            rss_bytes: span.own.rss_bytes,
        };
        let growth = span.server.rss_bytes.saturating_sub(before.rss_bytes) as f64;
        let per_delivery =
            |time: Duration| (span.delivered > 0).then(|| us(time) / span.delivered as f64);
        let cpu = span.server.cpu();
        if let Some(server) = &mut self.server {
            *server = Server {
                user_seconds: span.server.user.as_secs_f64(),
                system_seconds: span.server.system.as_secs_f64(),
                cores: cpu.as_secs_f64() / seconds,
                us_per_delivery: per_delivery(cpu),
                user_us_per_delivery: per_delivery(span.server.user),
                deliveries_per_cpu_second: (!cpu.is_zero())
                    .then(|| span.delivered as f64 / cpu.as_secs_f64()),
                rss_before_bytes: before.rss_bytes,
                rss_bytes: span.server.rss_bytes,
                rss_bytes_per_connection: growth / f64::from(self.connections),
            };
        }
    }

    pub(super) fn parted(&mut self, parted: &BTreeMap<String, u64>) {
        self.parted.clone_from(parted);
    }

    pub(super) fn scene(&mut self, scene: &Scene) {
        match scene {
            Scene::Idle => {}
            Scene::Fanout(fanout) => self.fanout(fanout),
            Scene::Echo(echo) => self.echo(echo),
        }
    }

    fn fanout(&mut self, fanout: &Fanout) {
        self.delivery = fanout.deliveries.summary();
        self.elsewhere = fanout.elsewhere.summary();
        self.nodes = fanout.nodes();
        self.ack = fanout.acks.summary();
        self.send_lag = fanout.lag.summary();
        self.check = fanout.checker.verdict();
        self.stalled = fanout.stalled;
        self.refused.clone_from(&fanout.refused);
        self.foreign = fanout.foreign;
        if self.dialect == "vestibule" {
            let answered = fanout.acknowledged + fanout.refused.values().sum::<u64>();
            self.unacknowledged = fanout.sent.saturating_sub(answered);
        }
    }

    fn echo(&mut self, echo: &Echo) {
        self.delivery = echo.answers.summary();
        self.send_lag = echo.lag.summary();
        self.stalled = echo.stalled;
        self.check = Verdict {
            lost: echo.sent - echo.delivered,
            doubled: echo.doubled,
            misordered: echo.misordered,
            ..Verdict::default()
        };
    }

    /// Everything that a correct server under a load it can bear never does; empty if all was well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let Verdict {
            lost,
            doubled,
            misordered,
            strays,
            disordered_members,
            ..
        } = self.check;
        [
            (lost, "deliveries lost"),
            (doubled, "deliveries doubled"),
            (misordered, "deliveries out of order"),
            (strays, "deliveries that nobody expected"),
            (disordered_members, "members with an order of their own"),
            (self.stalled, "events stalled"),
            (self.unacknowledged, "events never acknowledged"),
            (self.refused.values().sum(), "events refused"),
            (self.foreign, "events without a stamp"),
            (self.parted.values().sum(), "sockets ended early"),
            (self.opening.failed.values().sum(), "sockets never ready"),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect()
    }
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_report_names_no_fault_and_a_dirty_one_every_fault() {
        let mut report = Report {
            scenario: "fanout",
            ..Report::default()
        };
        assert!(report.faults().is_empty());
        assert!(report.to_string().contains("faults       none"), "{report}");
        report.check.lost = 3;
        report.parted.insert("closed by the server".to_owned(), 2);
        assert_eq!(
            report.faults(),
            ["3 deliveries lost", "2 sockets ended early"]
        );
        assert!(
            report.to_string().contains("2 x closed by the server"),
            "{report}"
        );
    }

    #[test]
    fn json_is_one_line() {
        let line = serde_json::to_string(&Report::default()).unwrap();
        assert!(!line.contains('\n'));
        let back: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["check"]["lost"], 0);
    }
}
