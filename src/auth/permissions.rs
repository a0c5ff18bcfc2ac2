//! Who may join a room and who may send to it, decided by the room's kind.
//!
//! | kind | join | send |
//! |---|---|---|
//! | `user:{id}` | that user | that user |
//! | `global:…` | everybody | nobody |
//! | `conversation:{id}`, `course:{id}`, `building:{id}` | members | members |
//! | anything else | nobody | nobody |
//!
//! The first two rows are decided before any pattern of the token is looked at: no pattern, however
//! wide, opens another user's room.

use super::identity::Identity;
use crate::types::{Code, Problem, RoomName};

/// What somebody wants to do with a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Join,
    Send,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("user {user:?} may not {} room {room:?}: {reason}", match .action {
    Action::Join => "join",
    Action::Send => "send to",
})]
pub struct Refusal {
    action: Action,
    room: String,
    user: String,
    reason: &'static str,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(Code::Forbidden, refusal.to_string())
    }
}

/// Says whether a user may become a member of a room, and read its history.
///
/// # Errors
/// The refusal, with its reason.
pub fn may_join(identity: &Identity, room: &RoomName) -> Result<(), Refusal> {
    check(identity, Action::Join, room)
}

/// Says whether a user may send events to a room.
///
/// # Errors
/// The refusal, with its reason.
pub fn may_send(identity: &Identity, room: &RoomName) -> Result<(), Refusal> {
    check(identity, Action::Send, room)
}

fn check(identity: &Identity, action: Action, room: &RoomName) -> Result<(), Refusal> {
    let Some(reason) = reason_against(identity, action, room) else {
        return Ok(());
    };
    let (room, user) = (room.to_string(), identity.user().to_string());
    Err(Refusal {
        action,
        room,
        user,
        reason,
    })
}

fn reason_against(identity: &Identity, action: Action, room: &RoomName) -> Option<&'static str> {
    let (kind, id) = room.as_str().split_once(':').unwrap_or(("", ""));
    if id.is_empty() {
        return Some("it is not of the form kind:id");
    }
    match (kind, action) {
        ("user", _) if id == identity.user().as_str() => None,
        ("user", _) => Some("it is another user's"),
        ("global", Action::Join) => None,
        ("global", Action::Send) => Some("only the service itself sends there"),
        ("conversation" | "course" | "building", _) if is_member(identity, room) => None,
        ("conversation" | "course" | "building", _) => Some("the user is not a member"),
        _ => Some("there is no such kind of room"),
    }
}

/// Membership. The token alone decides as yet; membership from records is to be asked here too.
fn is_member(identity: &Identity, room: &RoomName) -> bool {
    identity.rooms().matches(room.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Parts, Rooms};
    use crate::types::{Timestamp, UserId};

    fn identity(globs: &[&str]) -> Identity {
        let parts = Parts {
            user: UserId::parse("ada").unwrap(),
            name: None,
            rooms: Rooms::parse(globs).unwrap(),
            token_id: None,
            scope: None,
            is_login: false,
            expires_at: Timestamp::default(),
        };
        parts.into()
    }

    #[test]
    fn the_kind_of_room_decides() {
        // globs, room, may join, may send
        let table: &[(&[&str], &str, bool, bool)] = &[
            (&[], "user:ada", true, true),
            (&[], "user:bob", false, false),
            (
                &["user:*", "user:bob", "*", "*:*"],
                "user:bob",
                false,
                false,
            ),
            (&["*"], "user:ada2", false, false),
            (&["*"], "user:", false, false),
            (&[], "global:announcements", true, false),
            (&["*", "global:*"], "global:announcements", true, false),
            (&["*"], "global:", false, false),
            (&[], "conversation:1", false, false),
            (&["conversation:*"], "conversation:1", true, true),
            (&["conversation:1"], "conversation:1", true, true),
            (&["conversation:1"], "conversation:12", false, false),
            (&["conversation:*"], "conversation:", false, false),
            (&["conversation:*"], "course:1", false, false),
            (
                &["course:bio-*", "building:7"],
                "course:bio-101",
                true,
                true,
            ),
            (&["course:bio-*", "building:7"], "building:7", true, true),
            (&["course:bio-*", "building:7"], "building:70", false, false),
            (&["*"], "conversation:a:b", true, true),
            (&["*"], "secret:1", false, false),
            (&["*"], "abcdefghij-_ABCDEF01", false, false),
            (&["*"], ":1", false, false),
            (&["*"], "USER:bob", false, false),
            (&["*"], " user:bob", false, false),
        ];
        for (globs, room, join, send) in table {
            let (identity, room) = (identity(globs), RoomName::parse(room).unwrap());
            assert_eq!(
                may_join(&identity, &room).is_ok(),
                *join,
                "{globs:?} {room}"
            );
            assert_eq!(
                may_send(&identity, &room).is_ok(),
                *send,
                "{globs:?} {room}"
            );
        }
    }

    #[test]
    fn a_refusal_says_who_what_and_why() {
        let room = RoomName::parse("user:bob").unwrap();
        let refusal = may_join(&identity(&["*"]), &room).unwrap_err();
        let problem = Problem::from(refusal);
        assert_eq!(problem.code, Code::Forbidden);
        assert_eq!(
            problem.message,
            r#"user "ada" may not join room "user:bob": it is another user's"#
        );
    }
}
