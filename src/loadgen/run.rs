//! The course of a run: open, warm up, measure, wait for what is still on its way, add up.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::sleep_until;

use super::Error;
use super::echo::Echo;
use super::fanout::{Casting, Fanout};
use super::fleet::{Fleet, Opened};
use super::link::Door;
use super::plan::{Pace, Plan, Scenario};
use super::report::{Report, Span};
use super::scene::{Orders, Scene};
use super::usage::Usage;

/// How often an open window or a stalled event is looked for.
const SWEEP: Duration = Duration::from_millis(100);

/// Plays `plan` to its end on this thread.
pub(super) fn play(plan: &Plan) -> Result<Report, Error> {
    plan.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    LocalSet::new().block_on(&runtime, Run::play(plan))
}

struct Run<'a> {
    plan: &'a Plan,
    fleet: Rc<Fleet>,
}

/// CPU, memory and deliveries so far, at one moment.
#[derive(Clone, Copy)]
struct Mark {
    at: u64,
    server: Usage,
    own: Usage,
    delivered: u64,
    sent: u64,
}

impl Run<'_> {
    async fn play(plan: &Plan) -> Result<Report, Error> {
        let door = Door::find(&plan.target).await?;
        let id: u16 = rand::random();
        let joins = !matches!(plan.scenario, Scenario::Echo { .. });
        let rooms: Vec<String> = if joins {
            (0..plan.rooms)
                .map(|room| format!("load-{id:04x}-{room}"))
                .collect()
        } else {
            Vec::new()
        };
        let scene = match plan.scenario {
            Scenario::Idle => Scene::Idle,
            Scenario::Fanout {
                publishers,
                payload_bytes,
                pace,
            } => {
                let casting = Casting {
                    publishers,
                    payload_bytes,
                    pace,
                    run: id,
                    rooms: rooms.clone(),
                };
                Scene::Fanout(Box::new(Fanout::new(plan, casting)))
            }
            Scenario::Echo {
                payload_bytes,
                pace,
            } => Scene::Echo(Box::new(Echo::new(plan, payload_bytes, pace))),
        };
        let run = Run {
            plan,
            fleet: Rc::new(Fleet::new(plan, rooms, scene)),
        };
        let before = run.mark()?;
        let opened = run.fleet.open(&door, plan.target.opening_max).await;
        let open = run.mark()?;
        run.refuse_if_incomplete(&opened)?;
        run.idle(plan.times.settle).await;
        let mut report = Report::of(plan);
        report.opening(&opened, run.span(before, open));
        let (from, to) = match plan.scenario {
            Scenario::Idle => run.hold().await?,
            Scenario::Fanout { pace, .. } | Scenario::Echo { pace, .. } => run.drive(pace).await?,
        };
        report.server(before.server, run.span(from, to));
        let desk = run.fleet.desk.borrow();
        report.parted(&desk.parted);
        report.scene(&desk.scene);
        Ok(report)
    }

    /// Only `idle` can do with fewer sockets than it asked for: the others would measure another case.
    fn refuse_if_incomplete(&self, opened: &Opened) -> Result<(), Error> {
        let needed = match self.plan.scenario {
            Scenario::Idle => 1,
            _ => self.plan.connections,
        };
        if opened.ready >= needed {
            return Ok(());
        }
        let (reason, _) = opened.failed.iter().max_by_key(|(_, n)| **n).unzip();
        Err(Error::Opening {
            ready: opened.ready,
            wanted: self.plan.connections,
            reason: reason.cloned().unwrap_or_default(),
        })
    }

    /// Keeps the sockets open and says nothing.
    async fn hold(&self) -> Result<(Mark, Mark), Error> {
        let from = self.mark()?;
        self.idle(self.plan.times.measured).await;
        Ok((from, self.mark()?))
    }

    /// Load, of which the middle part is measured.
    async fn drive(&self, pace: Pace) -> Result<(Mark, Mark), Error> {
        let times = self.plan.times;
        let begin = self.fleet.now();
        let from_at = begin + nanoseconds(times.warm_up);
        let to_at = from_at + nanoseconds(times.measured);
        let mut pacer = Pacer::new(pace, begin, &self.fleet);
        self.with_scene(|scene, orders| {
            scene.measure(from_at..to_at);
            scene.begin(begin, orders);
        });
        self.pace(&mut pacer, from_at).await;
        let from = self.mark()?;
        self.pace(&mut pacer, to_at).await;
        let to = self.mark()?;
        self.with_scene(|scene, _| scene.stop());
        self.drain().await;
        Ok((from, to))
    }

    /// Sends what is due and sweeps, until `until`.
    async fn pace(&self, pacer: &mut Pacer, until: u64) {
        let mut sweep = self.fleet.now();
        loop {
            let now = self.fleet.now();
            self.with_scene(|scene, orders| {
                while let Some(due) = pacer.due(now.min(until - 1)) {
                    scene.send(due, now, orders);
                }
            });
            if now >= sweep {
                sweep = now + nanoseconds(SWEEP);
                self.sweep(now);
            }
            if now >= until {
                return;
            }
            let next = sweep.min(until).min(pacer.next().unwrap_or(u64::MAX));
            sleep_until(self.fleet.instant(next)).await;
        }
    }

    /// Waits for what is still on its way; each sweep gives up what has stalled, so this ends.
    async fn drain(&self) {
        loop {
            // At least once: a copy too many comes after the last one that was waited for.
            self.idle(SWEEP).await;
            self.sweep(self.fleet.now());
            if self.fleet.desk.borrow().scene.open() == 0 {
                return;
            }
        }
    }

    fn sweep(&self, now: u64) {
        let moment = now.saturating_sub(nanoseconds(self.plan.times.stall));
        self.with_scene(|scene, orders| scene.expire(moment, now, orders));
    }

    fn with_scene(&self, act: impl FnOnce(&mut Scene, &mut Orders)) {
        let mut desk = self.fleet.desk.borrow_mut();
        let mut orders = std::mem::take(&mut desk.orders);
        act(&mut desk.scene, &mut orders);
        desk.orders = orders;
        drop(desk);
        self.fleet.carry_out();
    }

    async fn idle(&self, time: Duration) {
        sleep_until(self.fleet.instant(self.fleet.now() + nanoseconds(time))).await;
    }

    fn mark(&self) -> Result<Mark, Error> {
        let desk = self.fleet.desk.borrow();
        Ok(Mark {
            at: self.fleet.now(),
            server: Usage::of(&self.plan.target.pids)?,
            own: Usage::own()?,
            delivered: desk.scene.delivered(),
            sent: desk.scene.sent(),
        })
    }

    fn span(&self, from: Mark, to: Mark) -> Span {
        Span {
            time: Duration::from_nanos(to.at - from.at),
            server: to.server - from.server,
            own: to.own - from.own,
            delivered: to.delivered - from.delivered,
            sent: to.sent - from.sent,
        }
    }
}

/// When an open loop's events are due: evenly, from the beginning, whatever happened to earlier ones.
struct Pacer {
    begin: u64,
    /// Nanoseconds between two events; infinite in a closed loop.
    step: f64,
    sent: u64,
}

impl Pacer {
    fn new(pace: Pace, begin: u64, fleet: &Fleet) -> Self {
        let step = match pace {
            Pace::Window(_) => f64::INFINITY,
            Pace::Rate(rate) => fleet.desk.borrow().scene.deliveries_per_event() * 1e9 / rate,
        };
        Self {
            begin,
            step,
            sent: 0,
        }
    }

    /// When the next event is due; `None` in a closed loop.
    fn next(&self) -> Option<u64> {
        self.step
            .is_finite()
            .then(|| self.begin + (self.sent as f64 * self.step) as u64)
    }

    /// The time of the next event if it is due by `now`; the one after it is next then.
    fn due(&mut self, now: u64) -> Option<u64> {
        let due = self.next().filter(|due| *due <= now)?;
        self.sent += 1;
        Some(due)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_keeps_its_schedule_after_a_pause() {
        let mut pacer = Pacer {
            begin: 100,
            step: 10.0,
            sent: 0,
        };
        assert_eq!(
            (pacer.due(99), pacer.due(100), pacer.due(100)),
            (None, Some(100), None)
        );
        let late: Vec<u64> = std::iter::from_fn(|| pacer.due(145)).collect();
        assert_eq!(
            late,
            [110, 120, 130, 140],
            "what came due meanwhile is sent with its own time"
        );
        assert_eq!(pacer.next(), Some(150));
    }

    #[test]
    fn a_closed_loop_has_no_schedule() {
        let mut pacer = Pacer {
            begin: 100,
            step: f64::INFINITY,
            sent: 0,
        };
        assert_eq!((pacer.next(), pacer.due(u64::MAX)), (None, None));
    }
}
