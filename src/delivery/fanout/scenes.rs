//! What is shown when entries are lost, come twice, or come in another order, with a timeline in this
//! process and a stream fed by hand.

use std::sync::Arc;

use bytes::Bytes;

use super::tests::{Noted, Worker, name};
use super::*;
use crate::cluster::bus::Publication;
use crate::server::Client;
use crate::timeline::{Apply, Limits, Memory, Outcome, Source};
use crate::types::{CloseReason, Epoch, EventId, ShardSeq, Timestamp};

struct Scene {
    worker: Worker,
    timeline: Memory,
    offset: Cell<u64>,
    clients: RefCell<Vec<Rc<Client>>>,
}

const ROOM: &str = "conversation:1";
const ONE: ShardId = ShardId(0);

impl Scene {
    fn new(limits: Limits, shards: u16) -> Self {
        let timeline = Memory::with_shards(limits, shards);
        let worker = Worker::over(Timeline::Memory(timeline.clone()));
        for shard in (0..shards).map(ShardId) {
            let at = ShardPosition {
                epoch: Epoch(1),
                shard_seq: ShardSeq(0),
            };
            worker.bus.begin(shard, at);
        }
        Self {
            worker,
            timeline,
            offset: Cell::new(0),
            clients: RefCell::default(),
        }
    }

    fn shard(&self, room: &str) -> ShardId {
        Timeline::Memory(self.timeline.clone()).shard_of(&name(room))
    }

    /// Two rooms of different shards.
    fn apart(&self) -> (String, String) {
        let mut rooms = (1..).map(|n| format!("conversation:{n}"));
        let one = rooms.find(|room| self.shard(room) == ShardId(0)).unwrap();
        let two = rooms.find(|room| self.shard(room) == ShardId(1)).unwrap();
        (one, two)
    }

    /// Gives an event its place; it is published when it is heard.
    async fn apply(&self, room: &str, id: &str) -> Publication {
        let offset = self.offset.replace(self.offset.get() + 1);
        let timeline = Timeline::Memory(self.timeline.clone());
        let payload = format!(
            r#"{{"id":"{id}","type":"MESSAGE_SENT","userId":"ann","conversationId":"1","timestamp":"2026-01-31T12:00:00.000Z","data":{{"content":"<{id}>"}}}}"#
        );
        let apply = Apply {
            room: name(room),
            epoch: timeline.epoch(self.shard(room)),
            ring_version: 1,
            source: Source {
                topic: Arc::from("messages"),
                generation: 0,
                partition: 0,
            },
            offset,
            prev: None,
            id: EventId::parse(id).unwrap(),
            at: Timestamp::from_millis(1_000),
            payload: Bytes::from(payload),
        };
        let Outcome::Applied { entry, .. } = timeline.apply(apply).await.unwrap() else {
            panic!("not applied")
        };
        timeline.settle(&entry).await.unwrap();
        self.worker.bus.begin(entry.shard, entry.shard_position());
        Publication {
            room: entry.room.clone(),
            shard: entry.shard,
            at: entry.shard_position(),
            position: entry.position(),
            id: entry.id.clone(),
            payload: entry.payload.clone(),
        }
    }

    fn hear(&self, publication: &Publication) {
        let entry = Delivery::Entry(Arc::new(publication.clone()));
        self.worker.fanout.deliver(entry);
    }

    fn interrupt(&self, shard: ShardId) {
        self.worker.fanout.deliver(Delivery::Interrupted { shard });
    }

    /// A socket of this user, in these rooms since their ticks; with where it was attached last.
    async fn join(&mut self, user: &str, rooms: &[&str]) -> (Rc<Noted>, ShardPosition) {
        let (client, noted) = self.worker.connect(&format!(r#"["user:{user}"]"#));
        self.worker.settle().await;
        self.clients.borrow_mut().push(client);
        let mut at = ShardPosition::default();
        for room in rooms {
            at = self.attach(user, room).await;
        }
        self.worker.settle().await;
        (noted, at)
    }
}

impl Scene {
    async fn attach(&mut self, user: &str, room: &str) -> ShardPosition {
        let own = name(&format!("user:{user}"));
        let socket = Socket::of(&self.worker.fanout.members(Some(own))[0]).unwrap();
        let (fanout, shard, room) = (Rc::clone(&self.worker.fanout), self.shard(room), name(room));
        let attached =
            tokio::task::spawn_local(async move { fanout.attach(&socket, &room, shard).await });
        self.worker.settle().await;
        let attached = attached.await.unwrap().unwrap();
        attached.hold.release(Vec::new());
        attached.at
    }
}

/// The ids of the messages that a client was shown.
fn shown(noted: &Noted) -> String {
    let seen = noted.seen.borrow();
    let id = |frame: &String| {
        let (_, rest) = frame.split_once("<")?;
        Some(rest.split_once(">")?.0.to_owned())
    };
    seen.iter().filter_map(id).collect::<Vec<_>>().join(" ")
}

async fn scene<F: Future>(limits: Limits, shards: u16, test: impl FnOnce(Scene) -> F) {
    tokio::task::LocalSet::new()
        .run_until(async { test(Scene::new(limits, shards)).await })
        .await;
}

#[tokio::test]
async fn a_gap_is_filled_before_anything_else_is_shown() {
    scene(Limits::default(), 1, |mut s| async move {
        let (ann, _) = s.join("ann", &[ROOM, "conversation:2"]).await;
        let mut all = Vec::new();
        for (room, id) in [
            (ROOM, "a1"),
            ("conversation:2", "b1"),
            (ROOM, "a2"),
            ("conversation:2", "b2"),
            (ROOM, "a3"),
        ] {
            all.push(s.apply(room, id).await);
        }
        s.hear(&all[0]);
        s.hear(&all[1]);
        // a2 is lost, and b2 without a word as well.
        s.hear(&all[4]);
        s.worker.fanout.hub.flush();
        assert_eq!(shown(&ann), "a1 b1");
        assert_eq!(
            s.worker.fanout.position(ONE),
            all[1].at,
            "not ahead of what was shown"
        );
        let after = s.apply("conversation:2", "b3").await;
        s.hear(&after);
        s.worker.settle().await;
        assert_eq!(shown(&ann), "a1 b1 a2 b2 a3 b3");
        assert_eq!(s.worker.fanout.vector().at(ONE), Some(after.at));
        // Whatever comes again is shown once.
        all.iter().for_each(|entry| s.hear(entry));
        s.worker.settle().await;
        assert_eq!(shown(&ann), "a1 b1 a2 b2 a3 b3");
    })
    .await;
}

#[tokio::test]
async fn what_an_interruption_hid_is_shown_though_nothing_follows() {
    scene(Limits::default(), 1, |mut s| async move {
        let before = s.apply(ROOM, "before").await;
        let (ann, at) = s.join("ann", &[ROOM]).await;
        assert_eq!(at, before.at);
        s.apply(ROOM, "a1").await;
        let last = s.apply(ROOM, "a2").await;
        s.interrupt(ONE);
        s.interrupt(ONE);
        s.worker.settle().await;
        assert_eq!(shown(&ann), "a1 a2", "and not what the join brought");
        assert_eq!(s.worker.fanout.position(ONE), last.at);
        s.apply(ROOM, "a3").await;
        s.interrupt(ONE);
        s.worker.settle().await;
        assert_eq!(shown(&ann), "a1 a2 a3");
    })
    .await;
}

#[tokio::test]
async fn a_join_during_a_repair_comes_after_it() {
    scene(Limits::default(), 1, |mut s| async move {
        let (ann, _) = s.join("ann", &[ROOM]).await;
        s.worker.fanout.begin_check();
        s.worker.settle().await;
        let (bob, _) = s.join("bob", &[]).await;
        let (a1, a2) = (s.apply(ROOM, "a1").await, s.apply(ROOM, "a2").await);
        s.hear(&a2);
        assert!(!s.worker.fanout.repairs.borrow().is_empty());
        let at = s.attach("bob", ROOM).await;
        assert_eq!(at, a2.at, "its history ends where the worker is");
        s.worker.settle().await;
        assert_eq!((shown(&ann).as_str(), shown(&bob).as_str()), ("a1 a2", ""));
        s.hear(&a1);
        let a3 = s.apply(ROOM, "a3").await;
        s.hear(&a3);
        s.worker.settle().await;
        assert_eq!(
            (shown(&ann).as_str(), shown(&bob).as_str()),
            ("a1 a2 a3", "a3")
        );
    })
    .await;
}

#[tokio::test]
async fn only_the_shard_that_was_interrupted_is_held() {
    scene(Limits::default(), 2, |mut s| async move {
        let (one, two) = s.apart();
        let (ann, _) = s.join("ann", &[&one, &two]).await;
        s.apply(&one, "lost").await;
        s.interrupt(ShardId(0));
        let (held, free) = (s.apply(&one, "held").await, s.apply(&two, "free").await);
        s.hear(&held);
        s.hear(&free);
        s.worker.fanout.hub.flush();
        assert_eq!(shown(&ann), "free");
        s.worker.settle().await;
        assert_eq!(shown(&ann), "free lost held");
    })
    .await;
}

#[tokio::test]
async fn what_was_lost_and_is_applied_again_is_shown_once_to_everybody() {
    scene(Limits::default(), 1, |mut s| async move {
        let (ann, _) = s.join("ann", &[ROOM]).await;
        let a1 = s.apply(ROOM, "a1").await;
        s.hear(&a1);
        // a2 and a3 were shown and lost.
        for (seq, id) in [(2, "a2"), (3, "a3")] {
            let mut lost = a1.clone();
            (lost.position.seq.0, lost.at.shard_seq.0) = (seq, seq);
            lost.id = EventId::parse(id).unwrap();
            lost.payload = String::from_utf8_lossy(&a1.payload)
                .replace("a1", id)
                .into();
            s.hear(&lost);
        }
        let epoch = s.timeline.raise(ONE);
        let shard_seq = ShardSeq(0);
        s.worker.bus.begin(ONE, ShardPosition { epoch, shard_seq });
        s.interrupt(ONE);
        let a2 = s.apply(ROOM, "a2").await;
        assert_eq!(a2.position.to_string(), "2-2");
        s.worker.settle().await;
        let (bob, at) = s.join("bob", &[ROOM]).await;
        assert_eq!(at, a2.at);
        for id in ["a3", "a4"] {
            let entry = s.apply(ROOM, id).await;
            s.hear(&entry);
        }
        s.worker.settle().await;
        assert_eq!(shown(&ann), "a1 a2 a3 a4");
        assert_eq!(shown(&bob), "a3 a4", "he was not there when it was shown");
        assert_eq!((ann.closed.get(), bob.closed.get()), (None, None));
    })
    .await;
}

#[tokio::test]
async fn members_begin_anew_when_the_order_they_saw_is_lost() {
    for is_repaired in [false, true] {
        scene(Limits::default(), 1, |mut s| async move {
            let (ann, _) = s.join("ann", &[ROOM]).await;
            let a1 = s.apply(ROOM, "a1").await;
            s.hear(&a1);
            let mut lost = a1.clone();
            (lost.position.seq.0, lost.at.shard_seq.0) = (2, 2);
            lost.id = EventId::parse("a2").unwrap();
            s.hear(&lost);
            let epoch = s.timeline.raise(ONE);
            let shard_seq = ShardSeq(0);
            s.worker.bus.begin(ONE, ShardPosition { epoch, shard_seq });
            let (bob, _) = s.join("bob", &[ROOM]).await;
            // Another event takes its place.
            let other = s.apply(ROOM, "b2").await;
            match is_repaired {
                true => s.interrupt(ONE),
                false => s.hear(&other),
            }
            s.worker.settle().await;
            assert_eq!(ann.closed.get(), Some(CloseReason::Interrupted));
            assert!(!shown(&ann).contains("b2"));
            assert_eq!((bob.closed.get(), shown(&bob).as_str()), (None, "b2"));
            let next = s.apply(ROOM, "b3").await;
            s.hear(&next);
            s.worker.settle().await;
            assert_eq!(shown(&bob), "b2 b3");
            assert_eq!(s.worker.size(ROOM), 1);
        })
        .await;
    }
}

#[tokio::test]
async fn members_begin_anew_when_what_they_missed_is_not_kept() {
    let limits = Limits {
        entries_max: 3,
        keep_min: 1,
        ..Limits::default()
    };
    scene(limits, 1, |mut s| async move {
        let (ann, _) = s.join("ann", &[ROOM]).await;
        let (bob, _) = s.join("bob", &["conversation:2"]).await;
        let a1 = s.apply(ROOM, "a1").await;
        s.hear(&a1);
        s.worker.settle().await;
        for n in 2..9 {
            s.apply(ROOM, &format!("a{n}")).await;
        }
        s.apply("conversation:2", "b1").await;
        s.interrupt(ONE);
        s.worker.settle().await;
        assert_eq!(ann.closed.get(), Some(CloseReason::Interrupted));
        assert_eq!(shown(&ann), "a1");
        assert_eq!((bob.closed.get(), shown(&bob).as_str()), (None, "b1"));
        // Who joins now is shown what comes now.
        let (eve, _) = s.join("eve", &[ROOM]).await;
        let next = s.apply(ROOM, "a9").await;
        s.hear(&next);
        s.worker.settle().await;
        assert_eq!(shown(&eve), "a9");
    })
    .await;
}

#[tokio::test]
async fn a_quiet_room_is_found_behind_its_top() {
    scene(Limits::default(), 1, |mut s| async move {
        s.apply(ROOM, "before").await;
        let (ann, _) = s.join("ann", &[ROOM]).await;
        for id in ["a1", "a2"] {
            s.apply(ROOM, id).await;
            s.worker.fanout.begin_check();
            s.worker.settle().await;
        }
        assert_eq!(shown(&ann), "a1 a2");
        // A room that never had an entry is not behind, in whatever epoch.
        s.join("bob", &["conversation:2"]).await;
        s.worker.fanout.begin_check();
        s.worker.settle().await;
        let epoch = s.timeline.raise(ONE);
        let shard_seq = ShardSeq(0);
        s.worker.bus.begin(ONE, ShardPosition { epoch, shard_seq });
        s.worker.fanout.begin_check();
        s.worker.settle().await;
        assert!(s.worker.fanout.repairs.borrow().is_empty());
        // What is only on its way is not missing.
        let late = s.apply(ROOM, "a3").await;
        s.worker.fanout.begin_check();
        s.hear(&late);
        s.worker.settle().await;
        assert_eq!(shown(&ann), "a1 a2 a3");
    })
    .await;
}

#[tokio::test]
async fn a_repair_that_holds_too_much_begins_again() {
    scene(Limits::default(), 1, |mut s| async move {
        let (ann, _) = s.join("ann", &[ROOM]).await;
        s.apply(ROOM, "a1").await;
        s.interrupt(ONE);
        let a2 = s.apply(ROOM, "a2").await;
        for _ in 0..10_000 {
            s.hear(&a2);
        }
        s.worker.settle().await;
        assert_eq!(shown(&ann), "a1 a2");
    })
    .await;
}
