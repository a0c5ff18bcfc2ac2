//! The contract of `archive`.

use vestibule::archive::{Archive, Page, Row};
use vestibule::backend::postgres::{Database, Options};
use vestibule::backend::statement::{Statement, Value};
use vestibule::types::{
    Epoch, EventId, Position, RoomName, Seq, ShardPosition, ShardSeq, Timestamp, UserId,
};

use crate::sqlite::{Folder, let_go};

/// An archive that can be closed and opened again.
struct Fixture {
    archive: Archive,
    backend: Backend,
}

enum Backend {
    Sql(Folder),
    Postgres(Options, Database),
}

impl Fixture {
    async fn sql() -> Self {
        let folder = Folder::new().await;
        Self {
            archive: Archive::sql(&folder.database),
            backend: Backend::Sql(folder),
        }
    }

    async fn postgres() -> Self {
        let options = crate::postgres::schema().await;
        let database = Database::open(&options).await.unwrap();
        Self {
            archive: Archive::postgres(&database),
            backend: Backend::Postgres(options, database),
        }
    }

    async fn reopen(&mut self) {
        match &mut self.backend {
            Backend::Sql(folder) => {
                folder.reopen().await;
                self.archive = Archive::sql(&folder.database);
            }
            Backend::Postgres(options, database) => {
                database.close().await;
                *database = Database::open(options).await.unwrap();
                self.archive = Archive::postgres(database);
            }
        }
    }
}

/// Runs claims on each backend.
macro_rules! suite {
    ($($claim:ident)*) => {
        mod sql {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Fixture::sql().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Fixture::postgres().await).await;
            })*
        }
    };
}

suite! {
    rows_come_back_as_they_went_in
    pages_go_both_ways_over_epochs
    a_position_without_an_epoch_counts_by_seq_alone
    the_same_row_twice_is_there_once
    an_event_moves_only_to_a_higher_epoch
    a_taken_position_is_never_replaced
    tops_are_the_highest_position_of_each_room
    rows_may_arrive_in_any_order
    a_batch_is_as_one_after_the_other
    a_statement_that_is_refused_holds_no_row_back
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn at(epoch: u64, seq: u64) -> Position {
    Position {
        epoch: Epoch(epoch),
        seq: Seq(seq),
    }
}

fn row(name: &str, position: Position, id: &str) -> Row {
    Row {
        room: room(name),
        position,
        shard: ShardPosition {
            epoch: position.epoch,
            shard_seq: ShardSeq(position.seq.0 + 100),
        },
        id: EventId::parse(id).unwrap(),
        kind: "MESSAGE_SENT".to_owned(),
        user_id: UserId::parse("user-1").unwrap(),
        at: Timestamp::from_millis(1_700_000_000_000 + position.seq.0.cast_signed()),
        payload: format!("{{\"id\":\"{id}\",\"data\":{{\"content\":\"ä \\u0000\"}}}}"),
    }
}

/// Six events in three epochs.
fn history() -> Vec<Row> {
    let positions = [at(1, 1), at(1, 2), at(2, 3), at(2, 4), at(5, 5), at(5, 6)];
    let rows = positions.into_iter().enumerate();
    rows.map(|(n, position)| row("r", position, &format!("id-{n}")))
        .collect()
}

async fn positions(archive: &Archive, page: Page, limit: usize) -> Vec<Position> {
    let rows = archive.page(&room("r"), page, limit).await.unwrap();
    rows.into_iter().map(|row| row.position).collect()
}

async fn rows_come_back_as_they_went_in(mut fixture: Fixture) {
    let rows = history();
    fixture
        .archive
        .upsert(rows.clone(), Vec::new())
        .await
        .unwrap();
    fixture
        .archive
        .upsert(vec![row("other", at(1, 1), "id-0")], Vec::new())
        .await
        .unwrap();
    fixture
        .archive
        .upsert(Vec::new(), Vec::new())
        .await
        .unwrap();
    fixture.reopen().await;
    let found = fixture
        .archive
        .page(&room("r"), Page::Before(None), 100)
        .await
        .unwrap();
    assert_eq!(found, rows);
    assert!(
        fixture
            .archive
            .page(&room("none"), Page::Before(None), 9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn pages_go_both_ways_over_epochs(fixture: Fixture) {
    fixture.archive.upsert(history(), Vec::new()).await.unwrap();
    let archive = &fixture.archive;
    let before = |position| Page::Before(Some(position));
    assert_eq!(
        positions(archive, Page::Before(None), 2).await,
        [at(5, 5), at(5, 6)]
    );
    assert_eq!(
        positions(archive, before(at(5, 5)), 3).await,
        [at(1, 2), at(2, 3), at(2, 4)]
    );
    assert_eq!(positions(archive, before(at(2, 99)), 1).await, [at(2, 4)]);
    assert_eq!(positions(archive, before(at(1, 1)), 9).await, []);
    assert_eq!(
        positions(archive, Page::After(at(1, 2)), 3).await,
        [at(2, 3), at(2, 4), at(5, 5)]
    );
    assert_eq!(
        positions(archive, Page::After(at(3, 0)), 9).await,
        [at(5, 5), at(5, 6)]
    );
    assert_eq!(positions(archive, Page::After(at(5, 6)), 9).await, []);
    assert_eq!(positions(archive, Page::After(at(1, 1)), 0).await, []);
    let far = at(u64::MAX, u64::MAX);
    assert_eq!(positions(archive, before(far), 1).await, [at(5, 6)]);
    assert_eq!(positions(archive, Page::After(far), 1).await, []);
}

async fn a_position_without_an_epoch_counts_by_seq_alone(fixture: Fixture) {
    fixture.archive.upsert(history(), Vec::new()).await.unwrap();
    let archive = &fixture.archive;
    assert_eq!(
        positions(archive, Page::After(at(0, 0)), 1).await,
        [at(1, 1)]
    );
    assert_eq!(
        positions(archive, Page::After(at(0, 2)), 2).await,
        [at(2, 3), at(2, 4)]
    );
    assert_eq!(
        positions(archive, Page::After(at(0, 3)), 2).await,
        [at(2, 4), at(5, 5)]
    );
    assert_eq!(positions(archive, Page::After(at(0, 6)), 2).await, []);
    let before = |seq| Page::Before(Some(at(0, seq)));
    assert_eq!(positions(archive, before(5), 2).await, [at(2, 3), at(2, 4)]);
    assert_eq!(positions(archive, before(4), 2).await, [at(1, 2), at(2, 3)]);
    assert_eq!(positions(archive, before(1), 2).await, []);
    assert_eq!(positions(archive, before(u64::MAX), 1).await, [at(5, 6)]);
}

async fn the_same_row_twice_is_there_once(fixture: Fixture) {
    fixture.archive.upsert(history(), Vec::new()).await.unwrap();
    let mut again = history();
    again.extend(history());
    fixture.archive.upsert(again, Vec::new()).await.unwrap();
    let found = fixture
        .archive
        .page(&room("r"), Page::After(at(0, 0)), 100)
        .await
        .unwrap();
    assert_eq!(found, history());
}

async fn an_event_moves_only_to_a_higher_epoch(fixture: Fixture) {
    fixture
        .archive
        .upsert(vec![row("r", at(2, 7), "x")], Vec::new())
        .await
        .unwrap();
    for lower_or_same in [at(1, 3), at(2, 9)] {
        fixture
            .archive
            .upsert(vec![row("r", lower_or_same, "x")], Vec::new())
            .await
            .unwrap();
        assert_eq!(
            positions(&fixture.archive, Page::Before(None), 9).await,
            [at(2, 7)]
        );
    }
    fixture
        .archive
        .upsert(vec![row("r", at(3, 4), "x")], Vec::new())
        .await
        .unwrap();
    assert_eq!(
        positions(&fixture.archive, Page::Before(None), 9).await,
        [at(3, 4)]
    );
    // In another room it is another event.
    fixture
        .archive
        .upsert(vec![row("s", at(1, 1), "x")], Vec::new())
        .await
        .unwrap();
    assert_eq!(
        positions(&fixture.archive, Page::Before(None), 9).await,
        [at(3, 4)]
    );
}

async fn a_taken_position_is_never_replaced(fixture: Fixture) {
    fixture
        .archive
        .upsert(
            vec![row("r", at(2, 7), "x"), row("r", at(1, 1), "y")],
            Vec::new(),
        )
        .await
        .unwrap();
    fixture
        .archive
        .upsert(
            vec![row("r", at(2, 7), "z"), row("r", at(2, 7), "y")],
            Vec::new(),
        )
        .await
        .unwrap();
    let found = fixture
        .archive
        .page(&room("r"), Page::Before(None), 9)
        .await
        .unwrap();
    let ids: Vec<_> = found.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["y", "x"]);
}

async fn tops_are_the_highest_position_of_each_room(fixture: Fixture) {
    assert_eq!(fixture.archive.tops().await.unwrap(), []);
    fixture.archive.upsert(history(), Vec::new()).await.unwrap();
    fixture
        .archive
        .upsert(
            vec![row("a", at(1, 9), "a"), row("z", at(3, 1), "z")],
            Vec::new(),
        )
        .await
        .unwrap();
    let mut tops = fixture.archive.tops().await.unwrap();
    tops.sort();
    assert_eq!(
        tops,
        [
            (room("a"), at(1, 9)),
            (room("r"), at(5, 6)),
            (room("z"), at(3, 1))
        ]
    );
    assert_eq!(
        fixture.archive.top(&room("r")).await.unwrap(),
        Some(at(5, 6))
    );
    assert_eq!(fixture.archive.top(&room("none")).await.unwrap(), None);
}

async fn rows_may_arrive_in_any_order(fixture: Fixture) {
    let mut rows = history();
    rows.reverse();
    for row in rows {
        fixture.archive.upsert(vec![row], Vec::new()).await.unwrap();
    }
    let found = fixture
        .archive
        .page(&room("r"), Page::After(at(0, 0)), 9)
        .await
        .unwrap();
    assert_eq!(found, history());
}

async fn a_batch_is_as_one_after_the_other(fixture: Fixture) {
    let batch = vec![
        row("r", at(1, 1), "x"),
        row("r", at(1, 1), "late"),
        row("r", at(1, 2), "y"),
        row("r", at(3, 5), "x"),
        row("r", at(2, 4), "x"),
        row("r", at(3, 5), "y"),
        row("r", at(1, 1), "x"),
        row("r", at(4, 9), "y"),
    ];
    fixture.archive.upsert(batch, Vec::new()).await.unwrap();
    let name = room("r");
    let found = fixture.archive.page(&name, Page::Before(None), 9);
    let found = found.await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|row| (row.position, row.id.as_str()))
        .collect();
    assert_eq!(found, [(at(3, 5), "x"), (at(4, 9), "y")]);
}

async fn a_statement_that_is_refused_holds_no_row_back(fixture: Fixture) {
    let seen = |id: &str, at: i64| {
        Statement::new(
            "INSERT INTO last_seen (user_id, at) VALUES ($1, $2)",
            [Value::from(id), Value::from(at)],
        )
    };
    let statements = vec![
        seen("a", 1),
        Statement::new("SELECT nonsense", []),
        seen("a", 2),
        seen("b", 3),
    ];
    fixture.archive.upsert(history(), statements).await.unwrap();
    assert_eq!(
        positions(&fixture.archive, Page::Before(None), 9)
            .await
            .len(),
        6
    );
    let kept = Statement::new("SELECT user_id FROM last_seen ORDER BY user_id", []);
    let kept = match &fixture.backend {
        Backend::Sql(folder) => folder.database.read(kept).await.unwrap(),
        Backend::Postgres(_, database) => database.read(&kept).await.unwrap(),
    };
    let kept: Vec<_> = kept.iter().map(|row| row.text(0)).collect();
    assert_eq!(kept, ["a", "b"]);
}

#[tokio::test]
async fn a_failed_write_keeps_no_row_and_may_be_repeated() {
    let folder = Folder::new().await;
    let archive = Archive::sql(&folder.database);
    let hold = folder.hold().await;
    let refused = archive.upsert(history(), Vec::new()).await.unwrap_err();
    assert!(refused.retry(), "{refused:?}");
    let_go(hold).await;
    assert_eq!(positions(&archive, Page::Before(None), 9).await, []);
    archive.upsert(history(), Vec::new()).await.unwrap();
    assert_eq!(positions(&archive, Page::Before(None), 9).await.len(), 6);
}
