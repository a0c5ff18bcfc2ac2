//! Members of groups: who may add, take out and promote whom.

use super::announce::{Notice, Told, forget, tell};
use super::conversation::MEMBERS_WRITE;
use super::{Context, conversation_room, now};
use crate::auth::Identity;
use crate::cluster::control::Control;
use crate::store::{ConversationKind, Role};
use crate::types::{Code, ConversationId, Problem, UserId};

/// What a change of members is about.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Who changes it.
    pub by: &'a Identity,
    /// Where.
    pub id: &'a ConversationId,
}

/// Members that are read at once when an owner is looked for.
const PAGE: usize = 200;

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
        kind: "MEMBER_ADDED",
        told: Told {
            conversation_id: place.id,
            change: "added",
            title: None,
            role: Some(role.text()),
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
        kind: "MEMBER_CHANGED",
        told: Told {
            conversation_id: place.id,
            change: "role",
            title: None,
            role: Some(role.text()),
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
            theirs.text()
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
        kind: "MEMBER_REMOVED",
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
        needed.text(),
        mine.text()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_role_that_is_needed() {
        assert!(needs(Role::Owner, Role::Moderator).is_ok());
        let refused = needs(Role::Member, Role::Moderator).unwrap_err();
        assert_eq!(refused.code, Code::Forbidden);
        assert!(refused.message.contains("moderator"), "{}", refused.message);
    }
}
