//! The vocabulary: what can happen, as data.
//!
//! An [`Envelope`] is an event with its metadata, as the log holds it. The [`Catalogue`] is the table
//! of event types, one [`Row`] each: who may send it, what its data looks like, where it goes,
//! and what clients see. Code exists only for what a row cannot say.
//!
//! Pure: the time, and the random bytes of an id, are arguments.

mod agree;
mod catalogue;
mod changes;
mod coded;
pub mod derive;
mod derived;
mod envelope;
mod form;
mod id;
mod layers;
mod load;
mod object;
mod presets;
mod refusal;
mod row;
mod schema;
mod section;
mod template;
mod validate;
mod view;
mod vocabulary;

pub use catalogue::{Catalogue, Durability, Limiter, LimiterScope, Row, Who};
pub use changes::Changes;
pub use coded::{CODED, Coded, TOLD};
pub use derive::{Each, Effect, Emit, When};
pub use envelope::{Envelope, EnvelopeError};
pub use form::{Author, form};
pub use id::{derived_id, random_id};
pub use layers::Layer;
pub use load::Mistakes;
pub use presets::{NONE, PRESETS};
pub use schema::{Property, Schema};
pub use template::{Template, TemplateError};
pub use validate::{validate, validate_own};
pub use view::{View, ViewError, view, view_ephemeral};
pub use vocabulary::{Current, Vocabulary};
