//! What follows from an event: other events, records, memberships. Data of the catalogue's rows.

use std::sync::Arc;
use std::time::Duration;

use crate::events::template::Template;

/// An event that follows from one.
#[derive(Debug, Clone)]
pub struct Emit {
    /// Its type.
    pub kind: Arc<str>,
    /// Only then.
    pub when: Option<When>,
    /// For whom: one event for each.
    pub each: Each,
    /// Members of its data, each a template over the event, with `{recipient}` for the user it is for.
    /// The envelope's `userId` is the recipient, its `conversationId` the event's.
    pub data: Vec<(String, Template)>,
}

/// For whom an event follows.
#[derive(Debug, Clone)]
pub enum Each {
    /// Once, as the event's own user.
    Once,
    /// These users, each once; templates that fill to nothing are left out.
    Users(Vec<Template>),
    /// The members of the event's conversation, the sender left out.
    Members,
    /// Those of them who are not online.
    MembersAway,
    /// Those of them whom the member `content` of the data mentions as `@id`.
    Mentions,
}

/// A condition over the event's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// The member.
    pub field: String,
    /// What it must be; `None`: it must be there.
    pub equals: Option<String>,
}

/// What an event does to stored things.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Its data becomes (or is merged into) a record.
    Upsert {
        /// The record's kind.
        kind: Arc<str>,
        /// Its id.
        id: Template,
        /// How long caches keep it.
        ttl: Option<Duration>,
    },
    /// The record is deleted.
    Delete {
        /// The record's kind.
        kind: Arc<str>,
        /// Its id.
        id: Template,
    },
    /// Caches forget the record.
    Invalidate {
        /// The record's kind.
        kind: Arc<str>,
        /// Its id.
        id: Template,
    },
    /// A user becomes a member of a course or building; live sockets join its room.
    Join {
        /// The room.
        room: Template,
        /// The user.
        user: Template,
    },
    /// A user ceases to be one.
    Leave {
        /// The room.
        room: Template,
        /// The user.
        user: Template,
    },
}
