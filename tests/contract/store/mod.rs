//! The contract of `store`: what is asked twice is done once, what is refused changes nothing.

mod accounts;
mod conversations;
mod load;
mod messages;
mod others;
mod projection;

use serde_json::value::RawValue;
use vestibule::archive::{Archive, Row};
use vestibule::backend::database::Database;
use vestibule::events::{Catalogue, Envelope};
use vestibule::store::{Store, project};
use vestibule::types::{
    ConversationId, Epoch, EventId, Position, RoomName, Seq, ShardPosition, Timestamp, UserId,
};

use crate::sqlite::Folder;

/// A store, and the archive whose events it projects.
pub(super) struct Fixture {
    pub(super) store: Store,
    archive: Archive,
    catalogue: Catalogue,
    pub(super) database: Database,
    /// Removed with the fixture.
    _folder: Option<Folder>,
}

impl Fixture {
    async fn sql() -> Self {
        let folder = Folder::new().await;
        Self {
            store: Store::sqlite(&folder.database),
            archive: Archive::sql(&folder.database),
            catalogue: Catalogue::builtin(),
            database: (&folder.database).into(),
            _folder: Some(folder),
        }
    }

    async fn postgres() -> Self {
        let database = crate::postgres::database().await;
        Self {
            store: Store::postgres(&database),
            archive: Archive::postgres(&database),
            catalogue: Catalogue::builtin(),
            database: (&database).into(),
            _folder: None,
        }
    }

    /// Archives events together, as the archiver does.
    pub(super) async fn archive(&self, rows: Vec<Row>) {
        let statements = project::batch(&self.catalogue, &rows);
        self.archive.upsert(rows, statements).await.unwrap();
    }

    /// Archives events one by one.
    pub(super) async fn archive_each(&self, rows: &[Row]) {
        for row in rows {
            self.archive(vec![row.clone()]).await;
        }
    }
}

/// Runs claims on each backend.
macro_rules! suite {
    ($($claim:ident)*) => {
        mod sql {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(crate::store::Fixture::sql().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(crate::store::Fixture::postgres().await).await;
            })*
        }
    };
}
pub(super) use suite;

pub(super) fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

pub(super) fn users(ids: &[&str]) -> Vec<UserId> {
    ids.iter().map(|id| user(id)).collect()
}

pub(super) fn conversation(id: &str) -> ConversationId {
    ConversationId::parse(id).unwrap()
}

pub(super) fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

pub(super) fn event(id: &str) -> EventId {
    EventId::parse(id).unwrap()
}

pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

pub(super) fn place(epoch: u64, seq: u64) -> Position {
    Position {
        epoch: Epoch(epoch),
        seq: Seq(seq),
    }
}

pub(super) fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

/// An archived event of conversation `c`; `seq` is also its time.
pub(super) fn archived(kind: &str, user: &str, seq: u64, data: &str) -> Row {
    archived_in("conversation:c", kind, user, seq, data)
}

pub(super) fn archived_in(room: &str, kind: &str, user: &str, seq: u64, data: &str) -> Row {
    let id = format!("{}-{seq}", room.rsplit(':').next().unwrap());
    let envelope = Envelope {
        id: event(&id),
        kind: kind.to_owned(),
        user_id: self::user(user),
        conversation_id: None,
        timestamp: at(seq.cast_signed()),
        data: json(data),
    };
    Row {
        room: self::room(room),
        position: place(1, seq),
        shard: ShardPosition::default(),
        id: envelope.id.clone(),
        kind: envelope.kind.clone(),
        user_id: envelope.user_id.clone(),
        at: envelope.timestamp,
        payload: envelope.to_json(),
    }
}

/// A message of conversation `c` whose id is `c-SEQ`.
pub(super) fn message(user: &str, seq: u64) -> Row {
    archived(
        "MESSAGE_SENT",
        user,
        seq,
        &format!(r#"{{"conversationId":"c","content":"text {seq}"}}"#),
    )
}
