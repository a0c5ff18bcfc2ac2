//! Conversations, their members, and how far each has read.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::row::{self, args};
use super::{Error, Store, unmet};
use crate::backend::statement::{Row, Statement};
use crate::types::{ConversationId, EventId, Position, Timestamp, UserId};

/// What a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConversationKind {
    /// Of two users, there once for each pair.
    Direct,
    /// Of any number.
    Group,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Read and send.
    Member,
    /// Also edit and delete others' messages, and add and remove members.
    Moderator,
    /// Also give roles.
    Owner,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// Its title; empty for direct ones.
    pub title: String,
    /// Who made it.
    pub creator: UserId,
    /// When.
    pub created_at: Timestamp,
    /// How many members it has.
    pub member_count: u64,
}

/// A conversation to be made.
#[derive(Debug, Clone)]
pub struct NewConversation {
    /// Its id.
    pub id: ConversationId,
    /// What it is. A direct one has exactly two members.
    pub kind: ConversationKind,
    /// Its title.
    pub title: String,
    /// Who makes it; becomes its owner. A direct one has no owner: neither may change what the
    /// other said.
    pub creator: UserId,
    /// The other members.
    pub others: Vec<UserId>,
    /// Now.
    pub at: Timestamp,
}

/// A member of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What it may do.
    pub role: Role,
    /// Since when.
    pub joined_at: Timestamp,
}

/// The newest message of a conversation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LastMessage {
    /// Its id.
    pub id: EventId,
    /// Where it stands.
    pub position: Position,
    /// Who sent it.
    pub user: UserId,
    /// When.
    pub at: Timestamp,
    /// Its content now, as JSON; `null` once it was deleted.
    pub content: Box<RawValue>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

/// A conversation in a user's list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Which.
    pub conversation: Conversation,
    /// The user's role in it.
    pub role: Role,
    /// The newest message, if there is one.
    pub last: Option<LastMessage>,
    /// Messages of others after the user's cursor that are not deleted; at most 1,000 are counted.
    pub unread: u64,
    /// How far the user has read.
    pub read: Position,
    /// For direct conversations, the other user.
    pub other: Option<UserId>,
    /// When something happened last: what the list is ordered by, newest first.
    pub active_at: Timestamp,
}

impl Role {
    /// Its word, as clients read it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Owner => "owner",
        }
    }

    /// The role of this word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ROLES.into_iter().find(|role| role.text() == text)
    }

    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Member => 0,
            Self::Moderator => 1,
            Self::Owner => 2,
        }
    }

    pub(super) fn of_number(number: i64) -> Result<Self, Error> {
        let role = ROLES.into_iter().find(|role| role.number() == number);
        role.ok_or_else(|| Error::Row(format!("role {number}")))
    }
}

const ROLES: [Role; 3] = [Role::Member, Role::Moderator, Role::Owner];

impl ConversationKind {
    /// Its word, as clients read it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Group => "group",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Direct, Self::Group]
            .into_iter()
            .find(|kind| kind.text() == text)
    }
}

impl Store {
    /// Makes a conversation. Made again with the same id by the same user, or direct for the same
    /// pair, the one that is there is answered.
    /// # Errors
    /// [`Error::Exists`] (`conversation`) when the id is another's.
    pub async fn create_conversation(&self, new: NewConversation) -> Result<Conversation, Error> {
        let pair = match (new.kind, new.others.first()) {
            (ConversationKind::Direct, Some(other)) => Some(pair(&new.creator, other)),
            (ConversationKind::Direct, None) | (ConversationKind::Group, _) => None,
        };
        match self.write(creation(&new, pair.as_deref())).await {
            Ok(answers) => {
                let row = answers.last().and_then(|rows| rows.first());
                read(row.ok_or(Error::Missing("conversation"))?)
            }
            Err(error) if unmet(&error).is_some() => {
                if let Some(pair) = &pair
                    && let Some(row) = self.read_one(BY_PAIR, args![pair.as_str()]).await?
                {
                    return read(&row);
                }
                let known = self.conversation(&new.id).await?;
                known
                    .filter(|known| known.creator == new.creator && known.kind == new.kind)
                    .ok_or(Error::Exists("conversation"))
            }
            Err(error) => Err(error),
        }
    }

    /// A conversation by id.
    pub async fn conversation(&self, id: &ConversationId) -> Result<Option<Conversation>, Error> {
        let found = self.read_one(BY_ID, args![id]).await?;
        found.as_ref().map(read).transpose()
    }

    /// The direct conversation of a pair.
    pub async fn direct(
        &self,
        one: &UserId,
        other: &UserId,
    ) -> Result<Option<Conversation>, Error> {
        let found = self.read_one(BY_PAIR, args![pair(one, other)]).await?;
        found.as_ref().map(read).transpose()
    }

    /// Members by user id, after one.
    pub async fn members(
        &self,
        id: &ConversationId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, Error> {
        // No id is empty, so all are after the empty text.
        let after = after.map_or("", UserId::as_str);
        let rows = self.read(MEMBERS, args![id, after, limit]).await?;
        let member = |found: &Row| {
            Ok(Member {
                user: row::user(found, 0)?,
                role: Role::of_number(found.integer(1))?,
                joined_at: row::time(found, 2),
            })
        };
        rows.iter().map(member).collect()
    }

    /// A user's role in it.
    pub async fn role(&self, id: &ConversationId, user: &UserId) -> Result<Option<Role>, Error> {
        let found = self.read_one(ROLE, args![id, user]).await?;
        found
            .map(|found| Role::of_number(found.integer(0)))
            .transpose()
    }

    /// Adds members or changes their role; answers who was not a member before.
    /// # Errors
    /// [`Error::Missing`] (`conversation`).
    pub async fn add_members(
        &self,
        id: &ConversationId,
        users: &[UserId],
        role: Role,
        at: Timestamp,
    ) -> Result<Vec<UserId>, Error> {
        let mut batch = vec![Statement::new(TURN, args![id]).must()];
        for user in users {
            let args = || args![id, user, role.number(), at];
            batch.push(Statement::new(ADD_MEMBER, args()));
            batch.push(Statement::new(SET_ROLE, args![id, user, role.number()]));
        }
        batch.push(Statement::new(COUNT_MEMBERS, args![id]));
        let answers = self.write(batch).await.map_err(|error| {
            if unmet(&error).is_some() {
                Error::Missing("conversation")
            } else {
                error
            }
        })?;
        let added = answers.iter().skip(1).step_by(2).zip(users);
        let added = added.filter(|(rows, _)| !rows.is_empty());
        Ok(added.map(|(_, user)| user.clone()).collect())
    }

    /// Takes a member out; false if it was none.
    pub async fn remove_member(&self, id: &ConversationId, user: &UserId) -> Result<bool, Error> {
        let batch = vec![
            Statement::new(TURN, args![id]),
            Statement::new(REMOVE_MEMBER, args![id, user]),
            Statement::new(COUNT_MEMBERS, args![id]),
        ];
        let answers = self.write(batch).await?;
        Ok(answers.get(1).is_some_and(|rows| !rows.is_empty()))
    }

    /// Whether two users are in one conversation.
    pub async fn share_conversation(&self, one: &UserId, other: &UserId) -> Result<bool, Error> {
        self.is_there(SHARE, args![one, other]).await
    }

    /// Moves a user's cursor forward; false if it stood there or further already. Any room name:
    /// conversations without a row have cursors too.
    pub async fn read_up_to(
        &self,
        id: &ConversationId,
        user: &UserId,
        position: Position,
        at: Timestamp,
    ) -> Result<bool, Error> {
        let answers = self.write(vec![cursor(id, user, position, at)]).await?;
        Ok(answers.first().is_some_and(|rows| !rows.is_empty()))
    }

    /// How far each of (at most `limit`) members has read.
    pub async fn cursors(
        &self,
        id: &ConversationId,
        limit: usize,
    ) -> Result<Vec<(UserId, Position)>, Error> {
        let rows = self.read(CURSORS, args![id, limit]).await?;
        rows.iter()
            .map(|found| Ok((row::user(found, 0)?, row::position(found, 1))))
            .collect()
    }
}

/// Moves a cursor forward; answers a row if it did.
pub(super) fn cursor(
    id: &ConversationId,
    user: &UserId,
    position: Position,
    at: Timestamp,
) -> Statement {
    let args = args![id, user, position.epoch.0, position.seq.0, at];
    Statement::new(READ_UP_TO, args)
}

/// The members come only with the conversation, so that making it again adds nobody.
fn creation(new: &NewConversation, pair: Option<&str>) -> Vec<Statement> {
    let args = args![
        &new.id,
        new.kind.text(),
        new.title.as_str(),
        &new.creator,
        new.at,
        pair,
    ];
    let role = match new.kind {
        ConversationKind::Direct => Role::Member,
        ConversationKind::Group => Role::Owner,
    };
    let mut batch = vec![Statement::new(CREATE, args).must()];
    let others = new.others.iter().map(|other| (other, Role::Member));
    for (user, role) in [(&new.creator, role)].into_iter().chain(others) {
        let args = args![&new.id, user, role.number(), new.at];
        batch.push(Statement::new(ADD_MEMBER, args));
    }
    batch.push(Statement::new(COUNT_MEMBERS, args![&new.id]));
    batch.push(Statement::new(BY_ID, args![&new.id]).must());
    batch
}

/// The key of a pair. No id holds a control character, so the line break is in neither.
fn pair(one: &UserId, other: &UserId) -> String {
    format!("{}\n{}", one.min(other), one.max(other))
}

/// Reads the first six columns.
pub(super) fn read(row: &Row) -> Result<Conversation, Error> {
    let kind = ConversationKind::parse(row.text(1));
    Ok(Conversation {
        id: row::conversation(row, 0)?,
        kind: kind.ok_or_else(|| Error::Row(format!("kind {:?}", row.text(1))))?,
        title: row.text(2).to_owned(),
        creator: row::user(row, 3)?,
        created_at: row::time(row, 4),
        member_count: row::count(row, 5),
    })
}

const CREATE: &str = "
    INSERT INTO conversation (id, kind, title, creator, created_at, member_count, pair)
    VALUES ($1, $2, $3, $4, $5, 0, $6)
    ON CONFLICT DO NOTHING RETURNING id";
/// Whoever changes members has the conversation to itself until it is done, so that they are counted
/// after the changes of others and not beside them.
const TURN: &str = "
    UPDATE conversation SET member_count = member_count WHERE id = $1 RETURNING id";
const BY_ID: &str = "
    SELECT id, kind, title, creator, created_at, member_count FROM conversation WHERE id = $1";
const BY_PAIR: &str = "
    SELECT id, kind, title, creator, created_at, member_count FROM conversation WHERE pair = $1";
const ADD_MEMBER: &str = "
    INSERT INTO conversation_member (conversation, user_id, role, joined_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (conversation, user_id) DO NOTHING RETURNING user_id";
const SET_ROLE: &str = "
    UPDATE conversation_member SET role = $3
    WHERE conversation = $1 AND user_id = $2 AND role <> $3";
const REMOVE_MEMBER: &str = "
    DELETE FROM conversation_member WHERE conversation = $1 AND user_id = $2 RETURNING user_id";
const COUNT_MEMBERS: &str = "
    UPDATE conversation SET member_count =
        (SELECT COUNT(*) FROM conversation_member WHERE conversation = $1)
    WHERE id = $1";
const MEMBERS: &str = "
    SELECT user_id, role, joined_at FROM conversation_member
    WHERE conversation = $1 AND user_id > $2 ORDER BY user_id LIMIT $3";
const ROLE: &str = "
    SELECT role FROM conversation_member WHERE conversation = $1 AND user_id = $2";
const SHARE: &str = "
    SELECT one.conversation FROM conversation_member one
    JOIN conversation_member other
        ON other.conversation = one.conversation AND other.user_id = $2
    WHERE one.user_id = $1 LIMIT 1";
const READ_UP_TO: &str = "
    INSERT INTO read_cursor (conversation, user_id, epoch, seq, at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (conversation, user_id) DO UPDATE SET
        epoch = excluded.epoch, seq = excluded.seq, at = excluded.at
    WHERE (excluded.epoch, excluded.seq) > (read_cursor.epoch, read_cursor.seq)
    RETURNING seq";
const CURSORS: &str = "
    SELECT user_id, epoch, seq FROM read_cursor WHERE conversation = $1
    ORDER BY user_id LIMIT $2";
