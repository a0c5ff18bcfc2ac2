//! Histories of which the timeline keeps a part and the archive has a part.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tempfile::TempDir;

use super::{History, Page, Parts, Recent};
use crate::archive::{Archive, Row};
use crate::backend::sql::{Database, Options};
use crate::events::{Envelope, Vocabulary};
use crate::store::{Store, project};
use crate::timeline::{Entry, Limits, Memory, Source, Timeline};
use crate::types::{
    Epoch, EventId, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq, Timestamp, UserId,
};

/// What happens in conversation `1`; of edits and deletions, to which message.
#[derive(Debug, Clone, Copy)]
enum Step {
    Message,
    Reaction,
    Edit(u64),
    Delete(u64),
}

struct Scene {
    history: History,
    recent: Recent,
    database: Database,
    _folder: TempDir,
}

fn room() -> RoomName {
    RoomName::parse("conversation:1").unwrap()
}

fn id(seq: u64) -> EventId {
    EventId::parse(&format!("e{seq}")).unwrap()
}

fn at(seq: u64) -> Position {
    Position {
        epoch: Epoch(1),
        seq: Seq(seq),
    }
}

fn envelope(step: Step, seq: u64) -> Envelope {
    let (kind, data) = match step {
        Step::Message => (
            "MESSAGE_SENT",
            format!(r#"{{"conversationId":"1","content":"{seq}"}}"#),
        ),
        Step::Reaction => (
            "REACTION_ADDED",
            r#"{"messageId":"none","conversationId":"1","emoji":"+","count":1}"#.to_owned(),
        ),
        Step::Edit(of) => (
            "MESSAGE_EDITED",
            format!(r#"{{"messageId":"e{of}","conversationId":"1","content":"edit {seq}"}}"#),
        ),
        Step::Delete(of) => (
            "MESSAGE_DELETED",
            format!(r#"{{"messageId":"e{of}","conversationId":"1"}}"#),
        ),
    };
    let json = format!(
        r#"{{"id":"e{seq}","type":"{kind}","userId":"ann","conversationId":"1","timestamp":"2026-01-31T12:00:00.000Z","data":{data}}}"#
    );
    Envelope::parse(json.as_bytes()).unwrap()
}

fn entry(step: Step, seq: u64) -> Entry {
    Entry {
        room: room(),
        shard: ShardId(0),
        epoch: Epoch(1),
        seq: Seq(seq),
        shard_seq: ShardSeq(seq),
        source: Source {
            topic: Arc::from("messages"),
            generation: 0,
            partition: 0,
        },
        offset: seq,
        id: id(seq),
        at: Timestamp::default(),
        payload: Bytes::from(envelope(step, seq).to_json()),
    }
}

fn row(step: Step, seq: u64) -> Row {
    let envelope = envelope(step, seq);
    Row {
        room: room(),
        position: at(seq),
        shard: ShardPosition {
            epoch: Epoch(1),
            shard_seq: ShardSeq(seq),
        },
        id: id(seq),
        kind: envelope.kind.clone(),
        user_id: UserId::parse("ann").unwrap(),
        at: envelope.timestamp,
        payload: envelope.to_json(),
    }
}

impl Scene {
    /// The timeline keeps the last `kept`, the archive has the first `archived`.
    async fn of(steps: &[Step], kept: usize, archived: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(Options::new(folder.path())).await.unwrap();
        let vocabulary = Vocabulary::builtin();
        let (archive, store) = (Archive::sql(&database), Store::sqlite(&database));
        let timeline = Timeline::Memory(Memory::new(Limits {
            entries_max: kept,
            keep_min: 0,
            ..Limits::default()
        }));
        let numbered = || steps.iter().copied().zip(1..);
        numbered().for_each(|(step, seq)| timeline.restore(entry(step, seq)));
        let rows: Vec<Row> = numbered()
            .take(archived)
            .map(|(step, seq)| row(step, seq))
            .collect();
        let statements = project::batch(&vocabulary.current(), &rows);
        archive.upsert(rows, statements).await.unwrap();
        let recent = Recent::default();
        let history = History::new(Parts {
            timeline,
            archive,
            store,
            vocabulary,
            recent: recent.clone(),
        });
        Self {
            history,
            recent,
            database,
            _folder: folder,
        }
    }

    /// All pages from the newest, as a client scrolls up; and how many they were.
    async fn up(&self, limit: usize) -> (Vec<u64>, usize) {
        let (mut seqs, mut before, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = self.history.before(&room(), before, limit).await.unwrap();
            assert!(page.messages.len() <= limit);
            seqs.splice(0..0, places(&page));
            pages += 1;
            assert!(pages < 200, "it goes on for ever");
            match page.previous {
                Some(previous) => before = Some(previous),
                None => return (seqs, pages),
            }
        }
    }

    /// All pages from a position, as a client catches up.
    async fn down(&self, after: Position, limit: usize) -> (Vec<u64>, usize) {
        let (mut seqs, mut after, mut pages) = (Vec::new(), after, 0);
        loop {
            let page = self
                .history
                .after_page(&room(), after, limit)
                .await
                .unwrap();
            assert!(page.messages.len() <= limit);
            seqs.extend(places(&page));
            pages += 1;
            assert!(pages < 200, "it goes on for ever");
            match page.next {
                Some(next) => after = next,
                None => return (seqs, pages),
            }
        }
    }
}

fn places(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|m| m.position.seq.0).collect()
}

fn messages(steps: &[Step]) -> Vec<u64> {
    let numbered = steps.iter().zip(1..);
    numbered
        .filter(|(step, _)| matches!(step, Step::Message))
        .map(|(_, seq)| seq)
        .collect()
}

#[tokio::test]
async fn a_long_run_of_reactions_takes_several_short_pages() {
    let mut steps = vec![Step::Message; 3];
    steps.extend([Step::Reaction; 9_000]);
    steps.extend([Step::Message; 2]);
    let scene = Scene::of(&steps, 100, steps.len()).await;
    let (seqs, pages) = scene.up(50).await;
    assert_eq!(seqs, messages(&steps));
    assert!((5..8).contains(&pages), "{pages}");
    let (seqs, pages) = scene.down(at(0), 50).await;
    assert_eq!(seqs, messages(&steps));
    assert!((5..8).contains(&pages), "{pages}");
    scene.database.close().await;
}

#[tokio::test]
async fn a_place_of_an_epoch_that_ended_is_good_while_it_is_kept() {
    let scene = Scene::of(&[Step::Message; 3], 100, 0).await;
    let mut later = entry(Step::Message, 4);
    (later.epoch, later.shard_seq) = (Epoch(2), ShardSeq(1));
    scene.history.timeline.restore(later);
    let now = ShardPosition {
        epoch: Epoch(2),
        shard_seq: ShardSeq(1),
    };
    for (after, expected) in [
        (at(0), Ok(4)),
        (at(3), Ok(1)),
        (at(4), Err("epoch_changed")),
    ] {
        let missed = scene
            .history
            .missed(&room(), Some(after), (ShardId(0), now))
            .await;
        let missed = missed.unwrap();
        let found = missed.reason.map_or(Ok(missed.events.len()), Err);
        assert_eq!(found, expected, "{after}");
    }
    scene.database.close().await;
}

#[tokio::test]
async fn what_is_in_neither_is_said_to_be_missing() {
    let steps = [Step::Message; 40];
    // 11 to 30 are in neither.
    let scene = Scene::of(&steps, 10, 10).await;
    let newest = scene.history.before(&room(), None, 5).await.unwrap();
    assert!(newest.complete, "these are all in the timeline");
    let across = scene.history.before(&room(), None, 15).await.unwrap();
    assert_eq!(
        places(&across),
        [6, 7, 8, 9, 10, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40]
    );
    assert_eq!(
        (across.complete, across.archived_up_to),
        (false, Some(at(10)))
    );
    let older = scene
        .history
        .before(&room(), Some(at(11)), 15)
        .await
        .unwrap();
    assert_eq!(places(&older), (1..=10).collect::<Vec<_>>());
    assert!(older.complete && older.archived_up_to.is_none());
    let up = scene.history.after_page(&room(), at(8), 5).await.unwrap();
    assert_eq!(places(&up), [9, 10, 31, 32, 33]);
    assert_eq!((up.complete, up.archived_up_to), (false, Some(at(10))));
    let low = scene.history.after_page(&room(), at(2), 5).await.unwrap();
    assert!(low.complete, "it ends before the gap");
    let high = scene.history.after_page(&room(), at(30), 50).await.unwrap();
    assert!(high.complete && high.next.is_none());
    scene.database.close().await;
}

#[tokio::test]
async fn a_message_is_shown_as_it_is_now_wherever_that_is_known() {
    use Step::{Delete, Edit, Message};
    let steps = [
        Message,
        Message,
        Message,
        Edit(1),
        Edit(2),
        Delete(3),
        Edit(2),
        Edit(3),
    ];
    for (kept, archived) in [(8, 0), (8, 5), (2, 6), (1, 8), (8, 8)] {
        let scene = Scene::of(&steps, kept, archived).await;
        let page = scene.history.before(&room(), None, 10).await.unwrap();
        let shown: Vec<Value> = page
            .messages
            .iter()
            .map(|m| serde_json::from_str(m.data.get()).unwrap())
            .collect();
        let contents: Vec<_> = shown
            .iter()
            .map(|m| m["content"].as_str().unwrap())
            .collect();
        assert_eq!(contents, ["edit 4", "edit 7", ""], "{kept} {archived}");
        let marks: Vec<_> = shown
            .iter()
            .map(|m| (m["editedAt"].is_string(), m["deletedAt"].is_string()))
            .collect();
        assert_eq!(marks, [(true, false), (true, false), (false, true)]);
        scene.database.close().await;
    }
}

#[tokio::test]
async fn reactions_come_from_the_store() {
    let scene = Scene::of(&[Step::Message], 10, 0).await;
    let store = &scene.history.store;
    let ann = UserId::parse("ann").unwrap();
    store
        .react(&id(1), &ann, "+", Timestamp::default())
        .await
        .unwrap();
    let page = scene.history.before(&room(), None, 10).await.unwrap();
    let shown: Value = serde_json::from_str(page.messages[0].data.get()).unwrap();
    assert_eq!(
        shown["reactions"],
        serde_json::json!([{"emoji": "+", "count": 1, "users": ["ann"]}])
    );
    scene.database.close().await;
}

#[tokio::test]
async fn a_message_of_this_moment_is_found_by_its_id() {
    let steps = [Step::Message, Step::Message, Step::Edit(2), Step::Delete(1)];
    let scene = Scene::of(&steps, 10, 1).await;
    let message = |seq, room: Option<RoomName>| {
        let history = &scene.history;
        async move { history.message(&id(seq), room.as_ref()).await.unwrap() }
    };
    let stored = message(1, None).await.unwrap();
    assert!(stored.deleted_at.is_some(), "the timeline knows");
    assert!(message(2, None).await.is_none());
    let hinted = message(2, Some(room())).await.unwrap();
    assert_eq!(
        (hinted.position, hinted.content.unwrap().get()),
        (at(2), "\"edit 3\"")
    );
    scene.recent.note(&id(2), &room());
    assert_eq!(message(2, None).await.unwrap().room, room());
    assert!(
        message(3, Some(room())).await.is_none(),
        "an edit is no message"
    );
    scene.database.close().await;
}

#[test]
fn pages_in_both_directions_show_every_message_once_and_in_order() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let step = prop_oneof![
        3 => Just(Step::Message),
        3 => Just(Step::Reaction),
        1 => (1..20_u64).prop_map(Step::Edit),
    ];
    let scenes = (
        proptest::collection::vec(step, 0..60),
        1..20_usize,
        0..20_usize,
        1..12_usize,
        0..60_u64,
    );
    TestRunner::new(Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    })
    .run(&scenes, |(steps, kept, behind, limit, after)| {
        // Behind, but by no more than the timeline keeps.
        let archived = steps.len() - behind.min(kept).min(steps.len());
        runtime.block_on(async {
            let scene = Scene::of(&steps, kept, archived).await;
            let expected = messages(&steps);
            prop_assert_eq!(&scene.up(limit).await.0, &expected);
            prop_assert_eq!(&scene.down(at(0), limit).await.0, &expected);
            let later: Vec<u64> = expected
                .iter()
                .copied()
                .filter(|seq| *seq > after)
                .collect();
            for from in [
                at(after),
                Position {
                    epoch: Epoch(0),
                    seq: Seq(after),
                },
            ] {
                prop_assert_eq!(&scene.down(from, limit).await.0, &later);
            }
            let page = scene.history.before(&room(), None, limit).await.unwrap();
            prop_assert!(page.complete);
            scene.database.close().await;
            Ok(())
        })
    })
    .unwrap();
}
