//! Whole runs against a server whose mistakes are known.

use std::sync::Arc;
use std::time::Duration;

use crate::types::Secret;

use super::faulty::{Fate, Fault, start};
use super::{Dialect, Error, Pace, Plan, Report, Scenario, Target, Times, run};

const MEMBERS: u32 = 40;

fn plan(address: impl std::fmt::Display, scenario: Scenario) -> Plan {
    let target = Target {
        url: format!("ws://{address}"),
        ca: None,
        dialect: Dialect::Relay,
        tokens: Vec::new(),
        opening_max: 8,
        pids: vec![std::process::id()],
    };
    let times = Times {
        warm_up: Duration::ZERO,
        measured: Duration::from_millis(500),
        settle: Duration::from_millis(50),
        stall: Duration::from_secs(1),
    };
    Plan {
        target,
        connections: MEMBERS,
        rooms: 1,
        scenario,
        times,
    }
}

fn fanout(publishers: u32, pace: Pace) -> Scenario {
    Scenario::Fanout {
        publishers,
        payload_bytes: 200,
        pace,
    }
}

/// 200 events in half a second, each to all members.
fn rate() -> Pace {
    Pace::Rate(400.0 * f64::from(MEMBERS))
}

fn play(fault: Fault, scenario: Scenario) -> Report {
    run(&plan(start(fault, None), scenario)).unwrap()
}

#[test]
fn one_in_ten_dropped_doubled_and_swapped_is_reported_exactly() {
    let report = play(
        |n, _| match n % 10 {
            2 => Fate::Drop,
            5 => Fate::Double,
            7 => Fate::Swap,
            _ => Fate::Deliver,
        },
        fanout(1, rate()),
    );
    let tenth = 20 * u64::from(MEMBERS);
    let check = report.check;
    assert_eq!(
        (check.lost, check.doubled, check.misordered),
        (tenth, tenth, tenth),
        "{report}"
    );
    assert_eq!((check.strays, check.disordered_members), (0, 0), "{report}");
    assert_eq!(check.uncompared_members, u64::from(MEMBERS));
    assert_eq!(
        report.stalled, 20,
        "an event that one member lacks is given up"
    );
}

#[test]
fn a_correct_server_is_found_correct_in_a_closed_loop() {
    let report = play(|_, _| Fate::Deliver, fanout(4, Pace::Window(10)));
    assert!(report.faults().is_empty(), "{report}");
    assert!(report.deliveries > 10 * u64::from(MEMBERS), "{report}");
    let delivery = report.delivery.unwrap();
    assert!(
        delivery.p50_ms > 0.0 && delivery.p50_ms <= delivery.max_ms,
        "{report}"
    );
    assert!(report.server.unwrap().us_per_delivery.is_some());
}

#[test]
fn a_member_that_sees_publishers_in_another_order_is_found() {
    let report = play(
        |n, member| {
            if member == 7 && n % 2 == 0 {
                Fate::Mingle
            } else {
                Fate::Deliver
            }
        },
        fanout(2, rate()),
    );
    assert_eq!(
        (report.check.misordered, report.check.lost),
        (0, 0),
        "{report}"
    );
    assert_eq!(report.check.disordered_members, 1, "{report}");
}

#[test]
fn a_lost_event_does_not_stop_a_closed_loop() {
    let fault: Fault = |n, member| {
        if n == 3 && member == 0 {
            Fate::Drop
        } else {
            Fate::Deliver
        }
    };
    let mut plan = plan(start(fault, None), fanout(1, Pace::Window(1)));
    plan.times.measured = Duration::from_secs(2);
    let report = run(&plan).unwrap();
    assert_eq!((report.check.lost, report.stalled), (1, 1), "{report}");
    assert!(
        report.deliveries > 5 * u64::from(MEMBERS),
        "it goes on after the stall: {report}"
    );
}

#[test]
fn a_socket_that_the_server_closes_is_counted_with_what_it_missed() {
    let hang: Fault = |n, member| {
        if n == 100 && member == 39 {
            Fate::Hang
        } else {
            Fate::Deliver
        }
    };
    // Members are numbered as they join: one time in forty the last is the publisher, and then
    // everything after it is missing. Three in a row would be no accident.
    let lost = (0..3).map(|_| {
        let report = play(hang, fanout(1, rate()));
        assert_eq!(report.parted.values().sum::<u64>(), 1, "{report}");
        report.check.lost
    });
    assert!(lost.into_iter().any(|lost| lost == 100));
}

#[test]
fn refused_messages_are_not_lost_and_the_rest_is_acknowledged() {
    let refuse: Fault = |n, _| {
        if n % 10 == 9 {
            Fate::Refuse
        } else {
            Fate::Deliver
        }
    };
    let mut plan = plan(start(refuse, None), fanout(2, rate()));
    plan.target.dialect = Dialect::Vestibule;
    plan.target.tokens = vec![Secret::new("token".to_owned())];
    let report = run(&plan).unwrap();
    assert_eq!(report.check, super::Verdict::default(), "{report}");
    assert_eq!(report.refused["overloaded"], 20, "{report}");
    assert_eq!((report.unacknowledged, report.foreign), (0, 0), "{report}");
    assert_eq!(report.ack.unwrap().count, 180, "{report}");
}

#[test]
fn every_question_is_answered() {
    let report = play(
        |_, _| Fate::Deliver,
        Scenario::Echo {
            payload_bytes: 64,
            pace: Pace::Window(2),
        },
    );
    assert!(report.faults().is_empty(), "{report}");
    assert!(report.deliveries > u64::from(MEMBERS), "{report}");
    let pace = Pace::Rate(1_000.0);
    let report = play(
        |_, _| Fate::Deliver,
        Scenario::Echo {
            payload_bytes: 64,
            pace,
        },
    );
    assert_eq!(report.delivery.unwrap().count, 500, "{report}");
    assert_eq!(report.send_lag.unwrap().count, 500, "{report}");
}

#[test]
fn idle_sockets_join_and_stay() {
    let mut plan = plan(start(|_, _| Fate::Deliver, None), Scenario::Idle);
    plan.rooms = 7;
    let report = run(&plan).unwrap();
    assert!(report.faults().is_empty(), "{report}");
    assert_eq!((report.connections, report.events), (MEMBERS, 0));
    assert!(report.server.unwrap().rss_bytes > 0 && report.opening.cpu_us.is_some());
}

#[test]
fn tls_is_checked_against_the_given_authority() {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let address = start(|_, _| Fate::Deliver, Some(Arc::new(config)));
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(address, fanout(1, rate()));
    plan.target.url = format!("wss://{address}");
    plan.target.ca = Some(folder.path().join("ca.pem"));
    std::fs::write(folder.path().join("ca.pem"), own.cert.pem()).unwrap();
    let report = run(&plan).unwrap();
    assert!(report.faults().is_empty(), "{report}");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.path().join("ca.pem"), other.cert.pem()).unwrap();
    assert!(matches!(run(&plan), Err(Error::Opening { ready: 0, .. })));
}

#[test]
fn a_server_that_is_not_there_is_named_in_the_error() {
    let error = run(&plan("127.0.0.1:1", fanout(1, rate())))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("0 of 40") && error.contains("refused"),
        "{error}"
    );
}
