//! The table of event types.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::events::derive::{Effect, Emit};
use crate::events::envelope::Envelope;
use crate::events::load::{self, Mistakes};
use crate::events::schema::Schema;
use crate::events::template::{Template, TemplateError};
use crate::types::{Problem, RoomName};

/// Every event type there is. Loaded once, then only read.
#[derive(Debug, Clone)]
pub struct Catalogue {
    rows: Vec<Arc<Row>>,
    by_type: HashMap<Arc<str>, usize>,
    by_client: HashMap<Arc<str>, usize>,
    limiters: Vec<Limiter>,
}

/// What the catalogue says about one event type.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Row {
    /// The event type, for example `MESSAGE_SENT`.
    pub kind: Arc<str>,
    /// The client event that makes one, for example `message:send`; `None` if clients make none.
    pub client: Option<Arc<str>>,
    /// Who may send it.
    pub who: Who,
    /// What a service's token must be allowed to do in order to send it.
    pub scope: Arc<str>,
    /// The limiter that takes a token for each.
    pub limiter: Option<Limiter>,
    /// Whether it is kept.
    pub durability: Durability,
    /// The log's topic. An ephemeral event needs none; with one the log has a copy of it, for consumers
    /// of its own.
    pub topic: Option<Arc<str>>,
    /// The record's key, by which one sender's events stay in order.
    pub key: Template,
    /// The room it goes to; `None` for what only the log's consumers read.
    pub room: Option<Template>,
    /// The event that the room's members get; `None` if they get none.
    pub server: Option<Arc<str>>,
    /// Whether it has a place in its room's timeline, so that who was away gets it too.
    pub is_in_timeline: bool,
    /// Whether it is an entry of its own in pages of history: a message.
    pub is_in_history: bool,
    /// How long a client's id for it is remembered; `None` for the timeline's own.
    pub dedup_window: Option<Duration>,
    /// What other events follow from it.
    pub emits: Vec<Emit>,
    /// What it does to what is stored.
    pub effects: Vec<Effect>,
    /// What its data must look like.
    pub schema: Schema,
    /// What clients see of it, in this order.
    pub(super) view: Vec<Member>,
    /// The names for [`Member::OfData`], in the same order.
    pub(super) data_members: Vec<String>,
}

/// Who may send a client event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Who may join the room it goes to.
    Members,
    /// Every authenticated user.
    Anyone,
    /// Service tokens alone.
    Services,
}

/// Whether an event is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Through the log: acknowledged when it is safe.
    Durable,
    /// Straight to who is there.
    Ephemeral,
}

/// So many events per time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limiter {
    /// Its name in the rows.
    pub name: Arc<str>,
    /// Tokens.
    pub count: u32,
    /// The time in which they come back.
    pub per: Duration,
    /// Whose tokens they are.
    pub scope: LimiterScope,
}

/// Whose tokens a limiter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimiterScope {
    /// The user's, on all sockets and nodes.
    User,
    /// The network address's.
    Address,
}

/// One member of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Id,
    Kind,
    UserId,
    ConversationId,
    Timestamp,
    Data,
    Epoch,
    Seq,
    /// The next of the row's `data_members`.
    OfData,
}

impl Catalogue {
    /// The catalogue that comes with the program.
    #[must_use]
    pub fn builtin() -> Self {
        Self::parse(include_str!("catalogue.toml")).expect("a test loads the built-in catalogue")
    }

    /// Reads a catalogue. The error lists every mistake in it.
    pub fn parse(toml: &str) -> Result<Self, Mistakes> {
        load::load(toml)
    }

    pub(super) fn of(rows: Vec<Row>, limiters: Vec<Limiter>) -> Self {
        let rows: Vec<_> = rows.into_iter().map(Arc::new).collect();
        let by_type = rows
            .iter()
            .enumerate()
            .map(|(n, row)| (row.kind.clone(), n))
            .collect();
        let client = |(n, row): (usize, &Arc<Row>)| Some((row.client.clone()?, n));
        let by_client = rows.iter().enumerate().filter_map(client).collect();
        Self {
            rows,
            by_type,
            by_client,
            limiters,
        }
    }

    /// All rows, in the file's order.
    #[must_use]
    pub fn rows(&self) -> &[Arc<Row>] {
        &self.rows
    }

    /// The row of an event type.
    #[must_use]
    pub fn by_type(&self, kind: &str) -> Option<&Arc<Row>> {
        self.by_type.get(kind).map(|n| &self.rows[*n])
    }

    /// The row that a client event makes an event of.
    #[must_use]
    pub fn by_client(&self, event: &str) -> Option<&Arc<Row>> {
        self.by_client.get(event).map(|n| &self.rows[*n])
    }

    /// The topics of all rows, each once, sorted.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<str>> {
        let topics = self.rows.iter().filter_map(|row| row.topic.clone());
        topics.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The limiter of this name.
    #[must_use]
    pub fn limiter(&self, name: &str) -> Option<&Limiter> {
        self.limiters.iter().find(|limiter| &*limiter.name == name)
    }

    /// The limiters that rows name.
    #[must_use]
    pub fn limiters(&self) -> &[Limiter] {
        &self.limiters
    }
}

impl Row {
    /// The name to show for it: the client event if it has one, else the type.
    #[must_use]
    pub fn name(&self) -> &str {
        self.client.as_ref().unwrap_or(&self.kind)
    }

    /// The room an event of this type goes to; an error for a type that goes to none.
    pub fn room_of(&self, envelope: &Envelope) -> Result<RoomName, Problem> {
        let nowhere = |reason: TemplateError| Problem::field(&reason.0, reason.to_string());
        let template = self
            .room
            .as_ref()
            .ok_or_else(|| nowhere(TemplateError("room".to_owned())))?;
        let name = template.fill(envelope).map_err(nowhere)?;
        RoomName::parse(&name).map_err(|error| Problem::field("room", error.to_string()))
    }

    /// The key of its record in the log.
    pub fn key_of(&self, envelope: &Envelope) -> Result<String, Problem> {
        let keyless = |reason: TemplateError| Problem::field(&reason.0, reason.to_string());
        self.key.fill(envelope).map_err(keyless)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_catalogue_holds_the_first_words() {
        let catalogue = Catalogue::builtin();
        let send = catalogue.by_client("message:send").unwrap();
        assert_eq!(&*send.kind, "MESSAGE_SENT");
        assert_eq!(send.topic.as_deref(), Some("messages"));
        assert_eq!(send.server.as_deref(), Some("message:new"));
        assert_eq!(
            (send.durability, send.is_in_timeline),
            (Durability::Durable, true)
        );
        assert_eq!(send.dedup_window, Some(Duration::from_secs(1_200)));
        assert_eq!(send.who, Who::Members);
        let start = catalogue.by_type("TYPING_START").unwrap();
        assert_eq!(
            (start.durability, start.is_in_timeline),
            (Durability::Ephemeral, false)
        );
        assert_eq!(start.name(), "typing:start");
        assert_eq!(catalogue.by_client("typing:stop").unwrap().topic, None);
        assert!(catalogue.by_client("message:new").is_none());
        assert_eq!(catalogue.topics(), [Arc::from("messages")]);
        assert_eq!(catalogue.limiters().len(), 2);
    }
}
