//! When what is asked: evenly, whatever became of the requests before.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::sleep_until;

use super::Reads;
use super::http::{Link, Question};
use super::mix::{Kind, Mix};
use super::world::World;
use crate::loadgen::Error;
use crate::loadgen::latency::Latencies;

/// A run that is prepared.
pub(super) struct Drive<'a> {
    reads: &'a Reads,
    server: SocketAddr,
    world: Rc<World>,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Driven {
    pub(super) kinds: BTreeMap<Kind, Latencies>,
    /// Answers that were not as they should be, by kind and what came instead.
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) time: Duration,
}

/// One connection's part.
struct Lane {
    /// How long after the beginning its first request is due.
    offset: Duration,
    /// And how long after that each further one.
    step: Duration,
    is_writer: bool,
    mix: Mix,
}

impl<'a> Drive<'a> {
    pub(super) const fn new(reads: &'a Reads, server: SocketAddr, world: Rc<World>) -> Self {
        Self {
            reads,
            server,
            world,
        }
    }

    /// The same load, not counted.
    pub(super) async fn warm_up(&self) -> Result<(), Error> {
        drop(self.play(self.reads.times.warm_up).await);
        Ok(())
    }

    /// The load that is counted.
    pub(super) async fn measure(&self) -> Result<Driven, Error> {
        Ok(self.play(self.reads.times.measured).await)
    }

    async fn play(&self, time: Duration) -> Driven {
        let begin = Instant::now();
        let lanes = self.lanes().into_iter();
        let lanes = lanes.map(|lane| lane.play(Link::new(self.server), (begin, time)));
        let mut driven = Driven::default();
        for lane in join_all(lanes).await {
            for (kind, latencies) in lane.kinds {
                driven
                    .kinds
                    .entry(kind)
                    .or_insert_with(Latencies::new)
                    .add(&latencies);
            }
            for (what, n) in lane.failed {
                *driven.failed.entry(what).or_default() += n;
            }
        }
        driven.time = begin.elapsed();
        driven
    }

    fn lanes(&self) -> Vec<Lane> {
        let Reads {
            connections,
            rate,
            sent,
            ..
        } = *self.reads;
        let lane = |number: u32, (step, offset): (f64, f64), is_writer| Lane {
            offset: Duration::from_secs_f64(offset),
            step: Duration::from_secs_f64(step),
            is_writer,
            mix: Mix::new(
                Rc::clone(&self.world),
                SmallRng::seed_from_u64(u64::from(number)),
            ),
        };
        let mut lanes: Vec<Lane> = (0..connections)
            .map(|number| {
                let times = (f64::from(connections) / rate, f64::from(number) / rate);
                lane(number, times, false)
            })
            .collect();
        if sent > 0.0 {
            lanes.push(lane(connections, (1.0 / sent, 0.0), true));
        }
        lanes
    }
}

impl Lane {
    async fn play(mut self, mut link: Link, (begin, time): (Instant, Duration)) -> Driven {
        let mut driven = Driven::default();
        let mut due = begin + self.offset;
        while due < begin + time {
            // Who is late because of the answer before waits already; who is woken late, by a clock
            // that ticks in milliseconds, does not.
            let is_waiting = Instant::now() > due;
            sleep_until(due.into()).await;
            let from = if is_waiting { due } else { Instant::now() };
            let (kind, question) = if self.is_writer {
                self.mix.message()
            } else {
                self.mix.read()
            };
            let outcome = ask(&mut link, question, kind).await;
            match outcome {
                Ok(()) => driven
                    .kinds
                    .entry(kind)
                    .or_insert_with(Latencies::new)
                    .record(u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX)),
                Err(what) => {
                    *driven
                        .failed
                        .entry(format!("{}: {what}", kind.name()))
                        .or_default() += 1;
                }
            }
            due += self.step;
        }
        driven
    }
}

async fn ask(link: &mut Link, question: Question, kind: Kind) -> Result<(), String> {
    let expected = if kind == Kind::Message {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let (status, _) = link.ask(question).await?;
    if status == expected {
        Ok(())
    } else {
        Err(status.to_string())
    }
}
