//! Conversations and their members: who may change what, and who is told.
//!
//! The store first, then the directory forgets, then the users whose lists changed are told in their
//! own rooms (`conversation:changed`), then the answer. The ids of these events follow from what was
//! stored, so that a retry tells nobody twice.

use serde::Serialize;

use super::change::raw;
use super::{Context, conversation_room, now};
use crate::auth::Identity;
use crate::cluster::control::Control;
use crate::delivery::publish::Publishing;
use crate::events::{Envelope, derived_id};
use crate::store::{Conversation, ConversationKind, NewConversation, Role};
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

/// What a change of members is about.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Who changes it.
    pub by: &'a Identity,
    /// Where.
    pub id: &'a ConversationId,
}

/// The data of the events that tell users of their conversations.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    conversation_id: &'a ConversationId,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    by: &'a UserId,
}

/// Something to tell a user.
struct Notice<'a> {
    kind: &'static str,
    told: Told<'a>,
    at: Timestamp,
}

/// Scope of tokens that may change the members of any conversation.
const MEMBERS_WRITE: &str = "members:write";
/// Members that are read at once when an owner is looked for.
const PAGE: usize = 200;

const CREATED: &str = "CONVERSATION_CREATED";
const ADDED: &str = "MEMBER_ADDED";
const REMOVED: &str = "MEMBER_REMOVED";
const CHANGED: &str = "MEMBER_CHANGED";

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
    settle(context, &made, &wish.others).await?;
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
        kind: CREATED,
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

/// Adds members to a group, or leaves those as they are who are in it; answers the new ones.
///
/// # Errors
/// `forbidden` for who is no moderator, or gives a role without being an owner.
pub async fn add(
    context: &Context,
    place: Place<'_>,
    users: &[UserId],
    role: Role,
) -> Result<Vec<UserId>, Problem> {
    group(context, place.id).await?;
    let mine = rank(context, place).await?;
    let needed = if role > Role::Member {
        Role::Owner
    } else {
        Role::Moderator
    };
    needs(mine, needed)?;
    let mut new = Vec::new();
    for user in users {
        // Adding is not a way to change the role of who is there.
        if context.store.role(place.id, user).await?.is_none() {
            new.push(user.clone());
        }
    }
    let at = now();
    let added = context.store.add_members(place.id, &new, role, at).await?;
    let added_ids: Vec<&UserId> = added.iter().collect();
    forget(context, place.id, &added_ids);
    let notice = Notice {
        kind: ADDED,
        told: Told {
            conversation_id: place.id,
            change: "added",
            title: None,
            role: Some(name(role)),
            by: place.by.user(),
        },
        at,
    };
    tell(context, &added_ids, &notice).await?;
    Ok(added)
}

/// Gives a member another role.
///
/// # Errors
/// `forbidden` for who is no owner, `conflict` when the group would have none.
pub async fn set_role(
    context: &Context,
    place: Place<'_>,
    user: &UserId,
    role: Role,
) -> Result<(), Problem> {
    group(context, place.id).await?;
    needs(rank(context, place).await?, Role::Owner)?;
    let before = member(context, place.id, user).await?;
    if before == role {
        return Ok(());
    }
    if before == Role::Owner {
        another_owner(context, place.id, user).await?;
    }
    let (users, at) = ([user.clone()], now());
    context
        .store
        .add_members(place.id, &users, role, at)
        .await?;
    forget(context, place.id, &[user]);
    let notice = Notice {
        kind: CHANGED,
        told: Told {
            conversation_id: place.id,
            change: "role",
            title: None,
            role: Some(name(role)),
            by: place.by.user(),
        },
        at,
    };
    tell(context, &[user], &notice).await
}

/// Takes a member out, also of the room, live. Everybody may leave.
///
/// # Errors
/// `forbidden` for who is no moderator or takes out a higher one, `conflict` when the group would
/// be left without an owner, `not_found` for who is not in it.
pub async fn remove(context: &Context, place: Place<'_>, user: &UserId) -> Result<(), Problem> {
    group(context, place.id).await?;
    let is_self = user == place.by.user();
    let mine = if is_self {
        None
    } else {
        let mine = rank(context, place).await?;
        needs(mine, Role::Moderator)?;
        Some(mine)
    };
    let theirs = member(context, place.id, user).await?;
    if mine.is_some_and(|mine| mine < Role::Owner && theirs >= mine) {
        let message = format!(
            "only an owner may take out a member who is {}",
            name(theirs)
        );
        return Err(Problem::new(Code::Forbidden, message));
    }
    if theirs == Role::Owner {
        another_owner(context, place.id, user).await?;
    }
    let at = now();
    context.store.remove_member(place.id, user).await?;
    forget(context, place.id, &[user]);
    context.bus.control(Control::LeaveRoom {
        user: user.clone(),
        room: conversation_room(place.id.as_str())?,
    });
    let notice = Notice {
        kind: REMOVED,
        told: Told {
            conversation_id: place.id,
            change: "removed",
            title: None,
            role: None,
            by: place.by.user(),
        },
        at,
    };
    tell(context, &[user], &notice).await
}

/// A role's name on the wire.
#[must_use]
pub const fn name(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Moderator => "moderator",
        Role::Owner => "owner",
    }
}

async fn group(context: &Context, id: &ConversationId) -> Result<(), Problem> {
    let known = context.directory.conversation(id).await?;
    let known =
        known.ok_or_else(|| Problem::new(Code::NotFound, "there is no such conversation"))?;
    match known.kind {
        ConversationKind::Group => Ok(()),
        ConversationKind::Direct => Err(Problem::new(
            Code::Conflict,
            "a direct conversation keeps its two members",
        )),
    }
}

/// How high who changes it stands. Read from the store: a cached role may have been taken away.
async fn rank(context: &Context, place: Place<'_>) -> Result<Role, Problem> {
    if place.by.has_scope(MEMBERS_WRITE) {
        return Ok(Role::Owner);
    }
    let role = context.store.role(place.id, place.by.user()).await?;
    role.ok_or_else(|| {
        let message = "you are not a member of this conversation";
        Problem::new(Code::Forbidden, message)
    })
}

fn needs(mine: Role, needed: Role) -> Result<(), Problem> {
    if mine >= needed {
        return Ok(());
    }
    let message = format!(
        "this needs the role {}; yours is {}",
        name(needed),
        name(mine)
    );
    Err(Problem::new(Code::Forbidden, message))
}

async fn member(context: &Context, id: &ConversationId, user: &UserId) -> Result<Role, Problem> {
    let role = context.store.role(id, user).await?;
    role.ok_or_else(|| Problem::new(Code::NotFound, format!("{user} is not a member")))
}

/// That somebody else is an owner, or nobody else is there at all.
async fn another_owner(
    context: &Context,
    id: &ConversationId,
    owner: &UserId,
) -> Result<(), Problem> {
    let (mut after, mut others) = (None, false);
    loop {
        let page = context.store.members(id, after.as_ref(), PAGE).await?;
        for member in page.iter().filter(|member| member.user != *owner) {
            others = true;
            if member.role == Role::Owner {
                return Ok(());
            }
        }
        after = match page.last() {
            Some(last) if page.len() == PAGE => Some(last.user.clone()),
            _ if others => {
                let message = "a group has an owner; make another member one first";
                return Err(Problem::new(Code::Conflict, message));
            }
            _ => return Ok(()),
        };
    }
}

fn forget(context: &Context, id: &ConversationId, users: &[&UserId]) {
    for user in users {
        context.directory.membership_changed(id, user);
    }
    let users: Vec<UserId> = users.iter().map(|user| (*user).clone()).collect();
    context.directory.list_changed(&users);
}

/// Tells users in their own rooms; done when the log has all of it.
async fn tell(context: &Context, users: &[&UserId], notice: &Notice<'_>) -> Result<(), Problem> {
    let row = context
        .vocabulary
        .current()
        .by_type(notice.kind)
        .map(std::sync::Arc::clone);
    let Some(row) = row else {
        // An operator's catalogue without this type: nobody wants to be told.
        return Ok(());
    };
    let data = raw(&notice.told)?;
    let mut pending: Vec<Publishing> = Vec::with_capacity(users.len());
    for user in users {
        let id = notice.told.conversation_id;
        let at = notice.at.as_millis().to_string();
        let envelope = Envelope {
            id: derived_id(&[notice.kind, id.as_str(), user.as_str(), &at]),
            kind: row.kind.to_string(),
            user_id: (*user).clone(),
            conversation_id: Some(id.clone()),
            timestamp: notice.at,
            data: data.clone(),
        };
        pending.push(context.publisher.publish(&row, &envelope)?);
    }
    for told in pending {
        told.await?;
    }
    Ok(())
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

    #[test]
    fn a_refusal_names_the_role_that_is_needed() {
        assert!(needs(Role::Owner, Role::Moderator).is_ok());
        let refused = needs(Role::Member, Role::Moderator).unwrap_err();
        assert_eq!(refused.code, Code::Forbidden);
        assert!(refused.message.contains("moderator"), "{}", refused.message);
    }
}
