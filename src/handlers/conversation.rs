//! Makes conversations: groups, and those of two users, of which there is one for each pair.

use super::announce::{Notice, Told, forget, tell};
use super::{Context, conversation_room, now};
use crate::auth::Identity;
use crate::events::derived_id;
use crate::store::{Conversation, ConversationKind, NewConversation};
use crate::types::{Code, ConversationId, Problem, Timestamp, UserId};

/// A conversation that somebody wants.
#[derive(Debug)]
pub struct Wish {
    /// Its id; a new one without it.
    pub id: Option<ConversationId>,
    /// Of two, or of any number.
    pub kind: ConversationKind,
    /// Its title.
    pub title: String,
    /// Who else is in it.
    pub others: Vec<UserId>,
}

/// Scope of tokens that may change the members of any conversation.
pub(super) const MEMBERS_WRITE: &str = "members:write";
/// Makes a conversation; true when it was not there before.
///
/// # Errors
/// `forbidden` for an id that is not this user's to give, `conflict` for another's conversation.
pub async fn create(
    context: &Context,
    identity: &Identity,
    wish: Wish,
) -> Result<(Conversation, bool), Problem> {
    let creator = identity.user();
    if wish.kind == ConversationKind::Direct {
        let [other] = &*wish.others else {
            let message = "a direct conversation has one other member";
            return Err(Problem::field("members", message));
        };
        return direct(context, creator, other, now()).await;
    }
    let id = match wish.id {
        Some(id) => own_id(identity, id)?,
        None => ConversationId::parse(&crate::server::random_token())
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?,
    };
    let is_new = context.store.conversation(&id).await?.is_none();
    let new = NewConversation {
        id,
        kind: ConversationKind::Group,
        title: wish.title,
        creator: creator.clone(),
        others: wish.others.clone(),
        at: now(),
    };
    let made = context.store.create_conversation(new).await?;
    let mut others = wish.others;
    if !is_new {
        // Made before, and perhaps with others: only its members are told, once more or at last.
        let mut members = Vec::new();
        for user in others {
            if context.store.role(&made.id, &user).await?.is_some() {
                members.push(user);
            }
        }
        others = members;
    }
    settle(context, &made, &others).await?;
    Ok((made, is_new))
}

/// The direct conversation of two users, made if it is not there; true when it was not.
///
/// # Errors
/// That the store or the log does not answer.
pub async fn direct(
    context: &Context,
    from: &UserId,
    to: &UserId,
    at: Timestamp,
) -> Result<(Conversation, bool), Problem> {
    if from == to {
        let message = "a direct conversation is with somebody else";
        return Err(Problem::field("members", message));
    }
    if let Some(known) = context.store.direct(from, to).await? {
        return Ok((known, false));
    }
    let new = NewConversation {
        id: direct_id(from, to),
        kind: ConversationKind::Direct,
        title: String::new(),
        creator: from.clone(),
        others: vec![to.clone()],
        at,
    };
    let made = context.store.create_conversation(new).await?;
    settle(context, &made, std::slice::from_ref(to)).await?;
    Ok((made, true))
}

/// The id under which the conversation of two users is made, whoever begins.
#[must_use]
pub fn direct_id(one: &UserId, other: &UserId) -> ConversationId {
    let (first, second) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    let id = derived_id(&["direct", first.as_str(), second.as_str()]);
    ConversationId::parse(&format!("direct-{id}")).expect("letters and digits are an id")
}

/// A chosen id opens the room of that name with all its past, so only who is in that room by its
/// token, or may change any conversation, may choose it.
fn own_id(identity: &Identity, id: ConversationId) -> Result<ConversationId, Problem> {
    let room = conversation_room(id.as_str())?;
    if identity.rooms().matches(room.as_str()) || identity.has_scope(MEMBERS_WRITE) {
        return Ok(id);
    }
    Err(Problem {
        code: Code::Forbidden,
        ..Problem::field("id", "this token may not choose ids; leave id out")
    })
}

/// What follows from a conversation that was made.
async fn settle(context: &Context, made: &Conversation, others: &[UserId]) -> Result<(), Problem> {
    let users: Vec<&UserId> = std::iter::once(&made.creator).chain(others).collect();
    forget(context, &made.id, &users);
    let notice = Notice {
        kind: "CONVERSATION_CREATED",
        told: Told {
            conversation_id: &made.id,
            change: "created",
            title: Some(&made.title),
            role: None,
            by: &made.creator,
        },
        at: made.created_at,
    };
    tell(context, &users, &notice).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conversation_of_two_has_one_id_whoever_begins() {
        let user = |name: &str| UserId::parse(name).unwrap();
        let (ann, bob) = (user("ann"), user("bob"));
        assert_eq!(direct_id(&ann, &bob), direct_id(&bob, &ann));
        assert_ne!(direct_id(&ann, &bob), direct_id(&ann, &user("bobby")));
        assert_ne!(
            direct_id(&user("a"), &user("bc")),
            direct_id(&user("ab"), &user("c")),
            "ids are hashed with their lengths"
        );
    }
}
