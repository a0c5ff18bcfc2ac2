//! Tells users what changed in their lists of conversations.
//!
//! The store first, then the directory forgets, then the users are told in their own rooms
//! (`conversation:changed`), then whoever asked is answered. The ids of these events follow from what
//! was stored, so that a retry tells nobody twice.

use std::sync::Arc;

use serde::Serialize;

use super::Context;
use super::change::raw;
use crate::delivery::publish::Publishing;
use crate::events::{Envelope, derived_id};
use crate::types::{ConversationId, Problem, Timestamp, UserId};

/// The data of the events that tell users of their conversations.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told<'a> {
    pub(super) conversation_id: &'a ConversationId,
    pub(super) change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    pub(super) by: &'a UserId,
}

/// Something to tell a user.
pub(super) struct Notice<'a> {
    pub(super) kind: &'static str,
    pub(super) told: Told<'a>,
    pub(super) at: Timestamp,
}

pub(super) fn forget(context: &Context, id: &ConversationId, users: &[&UserId]) {
    for user in users {
        context.directory.membership_changed(id, user);
    }
    let users: Vec<UserId> = users.iter().map(|user| (*user).clone()).collect();
    context.directory.list_changed(&users);
}

/// Tells users in their own rooms; done when the log has all of it.
pub(super) async fn tell(
    context: &Context,
    users: &[&UserId],
    notice: &Notice<'_>,
) -> Result<(), Problem> {
    let row = context
        .vocabulary
        .current()
        .by_type(notice.kind)
        .map(Arc::clone);
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
