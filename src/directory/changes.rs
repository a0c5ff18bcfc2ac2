//! What is to be forgotten when something changed, here and on the other nodes.
//!
//! To be called when the change is in the store: whoever asks after that gets the new value.

use std::sync::Arc;

use super::Directory;
use super::caches::pair;
use crate::cluster::control::Control;
use crate::types::{ConversationId, UserId};

/// Not a cache's name: all pairs of a user.
const VISIBILITY: &str = "visibility";
/// Not a cache's name: all lists that a conversation is in.
const ACTIVITY: &str = "activity";

impl Directory {
    /// A user's account changed.
    pub fn user_changed(&self, id: &UserId) {
        self.changed("users", id.as_str());
    }

    /// An e-mail address became somebody's.
    pub fn email_changed(&self, email: &str) {
        self.changed("emails", &email.to_lowercase());
    }

    /// A login ended.
    pub fn session_changed(&self, token_id: &str) {
        self.changed("sessions", token_id);
    }

    /// A user was banned, or the ban lifted.
    pub fn ban_changed(&self, user: &UserId) {
        self.changed("bans", user.as_str());
        self.changed("users", user.as_str());
    }

    /// A user was seen.
    pub fn last_seen_changed(&self, user: &UserId) {
        self.changed("last_seen", user.as_str());
    }

    /// A user became or ceased to be a member, or its role changed.
    pub fn membership_changed(&self, id: &ConversationId, user: &UserId) {
        self.changed("roles", &pair(id.as_str(), user.as_str()));
        self.changed("members", id.as_str());
        self.changed("conversations", id.as_str());
        self.changed("lists", user.as_str());
        self.changed(VISIBILITY, user.as_str());
    }

    /// A conversation's title or kind changed.
    pub fn conversation_changed(&self, id: &ConversationId) {
        self.changed("conversations", id.as_str());
    }

    /// Something in a conversation that lists show: title, members, last message. `users` are those
    /// whose lists are affected, as far as the caller knows them.
    pub fn list_changed(&self, users: &[UserId]) {
        for user in users {
            self.changed("lists", user.as_str());
        }
    }

    /// Messages of a conversation are new in the store, or other than they were.
    pub fn conversation_active(&self, id: &ConversationId) {
        self.changed(ACTIVITY, id.as_str());
    }

    /// A user's courses or buildings changed.
    pub fn groups_changed(&self, user: &UserId) {
        self.changed("groups", user.as_str());
        self.changed(VISIBILITY, user.as_str());
    }

    /// A connection between these changed.
    pub fn connection_changed(&self, one: &UserId, other: &UserId) {
        self.changed(VISIBILITY, one.as_str());
        self.changed(VISIBILITY, other.as_str());
    }

    /// A record was written or deleted.
    pub fn record_changed(&self, kind: &str, id: &str) {
        self.changed("records", &pair(kind, id));
    }

    /// An event says that what is kept of a record is old. Accounts and conversations have caches of
    /// their own.
    pub fn forget_record(&self, kind: &str, id: &str) {
        match kind {
            "user" => self.changed("users", id),
            "conversation" => self.changed("conversations", id),
            _ => self.record_changed(kind, id),
        }
    }

    /// Another node says: forget this.
    pub fn forget(&self, cache: &str, key: &str) {
        match cache {
            VISIBILITY => self.0.stamps.renew(key),
            ACTIVITY => self.0.activity.changed(key),
            _ => self.0.caches.forget(cache, key),
        }
    }

    /// Words of other nodes were lost: forget everything.
    pub fn forget_all(&self) {
        self.0.activity.lost();
        self.0.caches.forget_all();
    }

    fn changed(&self, cache: &'static str, key: &str) {
        if !matches!(cache, VISIBILITY | ACTIVITY) {
            self.0.caches.change(cache, key);
        }
        self.say(cache, Arc::from(key));
    }

    /// Forgets a key here and on every node.
    pub(super) fn say(&self, cache: &'static str, key: Arc<str>) {
        self.forget(cache, &key);
        let cache = cache.into();
        self.0.bus.control(Control::Forget { cache, key });
    }
}
