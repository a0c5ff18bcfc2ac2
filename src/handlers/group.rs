//! Courses and buildings: who belongs to them. The store first, then live sockets follow, then consumers of
//! the log are told (`COURSE_ENROLLED`), then the answer.

use serde::Serialize;

use super::change::raw;
use super::{Context, now};
use crate::auth::Identity;
use crate::cluster::control::Control;
use crate::delivery::publish::Fact;
use crate::events::derived_id;
use crate::types::{Code, Problem, RoomName, UserId};

/// A course or a building.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// `course:{id}`.
    Course,
    /// `building:{id}`.
    Building,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Enrolled<'a> {
    course_id: &'a str,
}

/// Scope of tokens that may change who belongs to any group.
const WRITE: &str = "members:write";

/// As every id that events carry.
const ID_BYTES_MAX: usize = 128;

impl Group {
    /// The room of one of them.
    ///
    /// # Errors
    /// When the id cannot be part of a room's name.
    pub fn room(self, id: &str) -> Result<RoomName, Problem> {
        let prefix = match self {
            Self::Course => "course",
            Self::Building => "building",
        };
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            let message = format!("id is {} bytes, allowed are 1 to {ID_BYTES_MAX}", id.len());
            return Err(Problem::field("id", message));
        }
        RoomName::parse(&format!("{prefix}:{id}"))
            .map_err(|error| Problem::field("id", error.to_string()))
    }
}

/// Who belongs to a group, by user id, after one.
///
/// # Errors
/// `forbidden` for who may not be in its room, or that the store does not answer.
pub async fn members(
    context: &Context,
    identity: &Identity,
    room: &RoomName,
    (after, limit): (Option<&UserId>, usize),
) -> Result<Vec<UserId>, Problem> {
    if !identity.has_scope(WRITE) {
        context.directory.may_join(identity, room).await?;
    }
    Ok(context.store.group_members(room, after, limit).await?)
}

/// Puts a user into a group. Who is in it already stays.
///
/// # Errors
/// `forbidden`, or that the store or the log does not answer.
pub async fn enroll(
    context: &Context,
    identity: &Identity,
    (group, id): (Group, &str),
    user: &UserId,
) -> Result<(), Problem> {
    let room = group.room(id)?;
    may_enroll(context, identity, (group, &room), user)?;
    context.store.enroll(&room, user, now()).await?;
    context.directory.groups_changed(user);
    control(context, user, &room, true);
    if group == Group::Building {
        return Ok(());
    }
    // Also for who was in it: the first try may have ended before this. It is the same event.
    let kind = "COURSE_ENROLLED";
    let fact = Fact {
        kind,
        user: user.clone(),
        conversation: None,
        data: raw(&Enrolled { course_id: id })?,
        id: Some(derived_id(&[kind, room.as_str(), user.as_str()])),
        at: now(),
    };
    let (_, publishing) = context.publisher.publish_type(&context.vocabulary, fact)?;
    publishing.await.map(drop)
}

/// Takes a user out of a group. Who is not in it is no mistake.
///
/// # Errors
/// `forbidden`, or that the store does not answer.
pub async fn withdraw(
    context: &Context,
    identity: &Identity,
    room: &RoomName,
    user: &UserId,
) -> Result<(), Problem> {
    if identity.user() != user && !identity.has_scope(WRITE) {
        return Err(forbidden());
    }
    context.store.withdraw(room, user).await?;
    context.directory.groups_changed(user);
    control(context, user, room, false);
    Ok(())
}

fn may_enroll(
    context: &Context,
    identity: &Identity,
    (group, room): (Group, &RoomName),
    user: &UserId,
) -> Result<(), Problem> {
    if identity.has_scope(WRITE) {
        return Ok(());
    }
    let is_own = identity.user() == user;
    let is_open = context.is_self_enrolment && group == Group::Course;
    if is_own && (is_open || identity.rooms().matches(room.as_str())) {
        return Ok(());
    }
    if is_own {
        let message = "users cannot enrol themselves here; ask who runs it";
        return Err(Problem::new(Code::Forbidden, message));
    }
    Err(forbidden())
}

fn forbidden() -> Problem {
    let message = format!("for other users a token with scope {WRITE:?} is needed");
    Problem::new(Code::Forbidden, message)
}

/// Live sockets follow; one that misses it finds its rooms when it connects again.
fn control(context: &Context, user: &UserId, room: &RoomName, is_in: bool) {
    let (user, room) = (user.clone(), room.clone());
    let missed = context.bus.control(if is_in {
        Control::JoinRoom { user, room }
    } else {
        Control::LeaveRoom { user, room }
    });
    if missed > 0 {
        tracing::warn!(missed, "workers were too busy to change a user's rooms");
    }
}
