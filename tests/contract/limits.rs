//! Limits that nodes share.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vestibule::limits::{Limits, Rule};
use vestibule::types::Timestamp;

use crate::shared::Servers;

const PATIENCE: Duration = Duration::from_millis(500);

fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

fn node(servers: &Servers) -> Limits {
    Limits::redis(servers.shards(), PATIENCE, 10_000)
}

#[tokio::test]
async fn two_nodes_share_thirty_in_a_minute() {
    let servers = Servers::start(2);
    let nodes = [node(&servers), node(&servers)];
    let rule = Rule {
        count: 30,
        per: Duration::from_secs(60),
    };
    let mut passed = 0;
    for n in 0..50_usize {
        let limits = &nodes[n % 2];
        let decision = limits.take("messages", rule, "ann", now()).await;
        match decision.retry_after {
            None => {
                passed += 1;
                assert_eq!(decision.remaining, 30 - passed);
            }
            Some(wait) => {
                assert_eq!(decision.remaining, 0);
                assert!(wait <= Duration::from_secs(2), "{wait:?}");
            }
        }
    }
    // A slow machine may have had one back.
    assert!((30..=31).contains(&passed), "{passed}");
    let other = nodes[1].take("messages", rule, "bob", now()).await;
    assert_eq!(other.remaining, 29);
    let left = nodes[0].look("messages", rule, "bob", now()).await.unwrap();
    assert_eq!((left.remaining, left.retry_after), (29, None));
}

#[tokio::test]
async fn at_the_same_time_no_more_pass_than_there_are() {
    let servers = Servers::start(1);
    let nodes = [node(&servers), node(&servers)];
    let rule = Rule {
        count: 10,
        per: Duration::from_secs(600),
    };
    let taken = (0..60).map(|n| nodes[n % 2].take("messages", rule, "ann", now()));
    let taken = futures_util::future::join_all(taken).await;
    let passed = taken.iter().filter(|d| d.retry_after.is_none()).count();
    assert_eq!(passed, 10);
}

#[tokio::test]
async fn who_was_refused_does_not_ask_again_until_a_token_is_back() {
    let servers = Servers::start(1);
    let limits = node(&servers);
    let rule = Rule {
        count: 1,
        per: Duration::from_millis(1_500),
    };
    assert!(
        limits.take_now("other", rule, "ann", now()).is_none(),
        "a shard has to be asked"
    );
    assert!(
        limits
            .take("other", rule, "ann", now())
            .await
            .retry_after
            .is_none()
    );
    let refused = limits.take("other", rule, "ann", now()).await;
    let wait = refused.retry_after.unwrap();
    let calls = || {
        let stats = servers.redis[0].ask(&["INFO", "commandstats"]).unwrap();
        let line = stats
            .lines()
            .find(|line| line.starts_with("cmdstat_fcall:"));
        line.unwrap()
            .split(['=', ','])
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = calls();
    for _ in 0..1_000 {
        let again = limits.take("other", rule, "ann", now()).await;
        assert!(again.retry_after.unwrap() <= wait);
        assert!(
            limits
                .take_now("other", rule, "ann", now())
                .unwrap()
                .retry_after
                .is_some()
        );
    }
    assert_eq!(calls(), before);
    tokio::time::sleep(wait).await;
    assert!(
        limits
            .take("other", rule, "ann", now())
            .await
            .retry_after
            .is_none()
    );
}

#[tokio::test]
async fn while_the_shard_is_silent_the_node_counts_alone() {
    let mut servers = Servers::start(1);
    let limits = Limits::redis(servers.shards(), Duration::from_millis(100), 10_000);
    let rule = Rule {
        count: 3,
        per: Duration::from_secs(600),
    };
    assert_eq!(limits.take("other", rule, "ann", now()).await.remaining, 2);
    servers.redis[0].process().pause();
    let start = Instant::now();
    let mut passed = 0;
    for _ in 0..20 {
        let decision = limits.take("other", rule, "ann", now()).await;
        passed += u32::from(decision.retry_after.is_none());
    }
    assert_eq!(passed, 3);
    assert!(
        // Asking each time would take two seconds.
        start.elapsed() < Duration::from_millis(1_500),
        "{:?}",
        start.elapsed()
    );
    servers.redis[0].process().resume();
    // The late call may have taken one: it is counted, not lost.
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    let decision = limits.take("other", rule, "ann", now()).await;
    assert!(
        decision.retry_after.is_none() && decision.remaining <= 1,
        "{decision:?}"
    );
}

#[tokio::test]
async fn a_server_that_comes_back_empty_counts_from_the_start() {
    let mut servers = Servers::start(1);
    let limits = node(&servers);
    let rule = Rule {
        count: 3,
        per: Duration::from_secs(600),
    };
    assert_eq!(limits.take("other", rule, "ann", now()).await.remaining, 2);
    servers.redis[0].lose();
    // The broken connection is found out by one call, which this node answers alone.
    let mut remaining = Vec::new();
    for _ in 0..8 {
        remaining.push(limits.take("other", rule, "bob", now()).await.remaining);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let keys = servers.redis[0].ask(&["KEYS", "{vb0}:l:*"]).unwrap();
    assert_eq!(keys, "{vb0}:l:other:bob", "{remaining:?}");
}

#[derive(Debug, Clone)]
struct Step {
    wait: i64,
    key: u8,
}

/// The function says what the memory's algorithm says, for the same times, also when the clock is
/// set back.
#[test]
fn the_function_decides_as_the_memory_does() {
    let servers = Servers::start(1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Limits::Redis(shared) = node(&servers) else {
        panic!("not shared");
    };
    let run = std::cell::Cell::new(0_u32);
    let step = (prop_oneof![8 => 0i64..800, 1 => -5_000i64..0], 0u8..3);
    let steps = prop::collection::vec(step.prop_map(|(wait, key)| Step { wait, key }), 1..60);
    let strategy = (1u32..20, 1u64..5_000, steps);
    let mut runner = TestRunner::new(Config::with_cases(100));
    let outcome = runner.run(&strategy, |(count, per, steps)| {
        let rule = Rule {
            count,
            per: Duration::from_millis(per),
        };
        run.set(run.get() + 1);
        let (memory, name) = (Limits::memory(1_000), format!("run-{}", run.get()));
        let mut at = 1_700_000_000_000;
        for Step { wait, key } in steps {
            at += wait;
            let (at, key) = (Timestamp::from_millis(at), key.to_string());
            let own = memory.take_now(&name, rule, &key, at);
            let theirs = runtime.block_on(shared.take_at(&name, rule, &key, at));
            prop_assert_eq!(own, theirs);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
