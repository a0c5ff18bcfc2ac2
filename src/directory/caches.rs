//! The caches there are: one table with names and times to live.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::cache::{Cache, Options};
use crate::config;
use crate::store::{self, Conversation, Listed, Record, Role, Session, User};
use crate::types::{RoomName, Timestamp, UserId};

/// A cache of what the store answers.
pub(super) type Of<V> = Cache<V, store::Error>;

macro_rules! caches {
    ($( $(#[$doc:meta])* $name:ident: $value:ty, $is_negative:expr; )+) => {
        /// Every cache of the directory.
        pub(super) struct Caches {
            $( $(#[$doc])* pub(super) $name: Of<$value>, )+
        }

        impl Caches {
            pub(super) fn new(section: &config::Caches) -> Self {
                Self {
                    $( $name: Cache::new(
                        options(section, stringify!($name), section.$name.get()),
                        $is_negative,
                    ), )+
                }
            }

            /// Forgets a key of the cache of this name. A name that is not here is a newer node's.
            pub(super) fn forget(&self, cache: &str, key: &str) {
                match cache {
                    $( stringify!($name) => self.$name.forget(key), )+
                    _ => tracing::debug!(cache, "there is no such cache here"),
                }
            }

            pub(super) fn forget_all(&self) {
                $( self.$name.forget_all(); )+
            }
        }
    };
}

caches! {
    /// By token id.
    sessions: Option<Arc<Session>>, Option::is_none;
    /// By id.
    users: Option<Arc<User>>, Option::is_none;
    /// By e-mail in lower case.
    emails: Option<UserId>, Option::is_none;
    /// By user.
    last_seen: Option<Timestamp>, Option::is_none;
    /// By user. That there is no ban is what is usual, and worth keeping.
    bans: Option<Timestamp>, |_| false;
    /// By id.
    conversations: Option<Arc<Conversation>>, Option::is_none;
    /// By conversation: its members, as many as are ever told of one event.
    members: Arc<[UserId]>, |members| members.is_empty();
    /// By user.
    lists: Arc<Vec<Listed>>, |_| false;
    /// By [`pair`] of conversation and user.
    roles: Option<Role>, Option::is_none;
    /// By user.
    groups: Arc<Vec<RoomName>>, |_| false;
    /// By [`pair`] of users, and their stamps.
    visibility: bool, |is_visible| !is_visible;
    /// By [`pair`] of kind and id.
    records: Option<Arc<Record>>, Option::is_none;
}

/// Two ids as one key. Ids hold no control characters, so no two pairs have one key.
pub(super) fn pair(one: &str, other: &str) -> String {
    format!("{one}\n{other}")
}

fn options(section: &config::Caches, name: &'static str, ttl: Duration) -> Options {
    Options {
        name,
        ttl,
        negative_ttl: section.negative.get(),
        grace: section.grace.get(),
        entries_max: u64::try_from(section.entries_max).unwrap_or(u64::MAX),
        answer_within: section.answer_within.get(),
    }
}
