//! The vocabulary: what can happen, as data.
//!
//! An [`Envelope`] is an event with its metadata, as the log holds it. The [`Catalogue`] is the table
//! of event types, one [`Row`] each: who may send it, what its data looks like, where it goes,
//! and what clients see. Code exists only for what a row cannot say.
//!
//! Pure: the time, and the random bytes of an id, are arguments.

mod catalogue;
pub mod derive;
mod envelope;
mod form;
mod id;
mod load;
mod object;
mod schema;
mod section;
mod template;
mod validate;
mod view;
mod vocabulary;

pub use catalogue::{Catalogue, Durability, Limiter, LimiterScope, Row, Who};
pub use derive::{Each, Effect, Emit, When};
pub use envelope::{Envelope, EnvelopeError};
pub use form::{Author, form};
pub use id::{Identity, derived_id, event_id, random_id};
pub use load::Mistakes;
pub use schema::{Field, Rule, Schema};
pub use template::{Template, TemplateError};
pub use validate::validate;
pub use view::{View, ViewError, view, view_ephemeral};
pub use vocabulary::{Current, Vocabulary};
