//! The caches there are: one table with names and times to live, and how nodes share their values.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::activity::Activity;
use crate::backend::cache::{Cache, Codec, Options, Shared};
use crate::config;
use crate::store::{self, Conversation, Listed, Record, Role, Session, User};
use crate::types::{RoomName, Timestamp, UserId};

/// A cache of what the store answers.
pub(super) type Of<V> = Cache<V, store::Error>;

macro_rules! caches {
    ($( $(#[$doc:meta])* $name:ident: $value:ty, $is_negative:expr, $codec:expr; )+) => {
        /// Every cache of the directory.
        pub(super) struct Caches {
            $( $(#[$doc])* pub(super) $name: Of<$value>, )+
        }

        impl Caches {
            /// With a second level on shards, if there is one.
            pub(super) fn new(
                section: &config::Caches,
                shared: Option<&Shared>,
                activity: &Arc<Activity>,
            ) -> Self {
                Self {
                    $( $name: {
                        let options = options(section, stringify!($name), section.$name.get());
                        let codec: Option<Codec<$value>> = ($codec)(activity);
                        match (shared, codec) {
                            (Some(shared), Some(codec)) => {
                                Cache::shared(options, $is_negative, (shared.clone(), codec))
                            }
                            _ => Cache::new(options, $is_negative),
                        }
                    }, )+
                }
            }

            /// Forgets a key of the cache of this name. A name that is not here is a newer node's.
            pub(super) fn forget(&self, cache: &str, key: &str) {
                match cache {
                    $( stringify!($name) => self.$name.forget(key), )+
                    _ => tracing::debug!(cache, "there is no such cache here"),
                }
            }

            /// The same after a change by this node.
            pub(super) fn change(&self, cache: &str, key: &str) {
                match cache {
                    $( stringify!($name) => self.$name.change(key), )+
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
    sessions: Option<Arc<Session>>, Option::is_none, json;
    /// By id.
    users: Option<Arc<User>>, Option::is_none, json;
    /// By e-mail in lower case.
    emails: Option<UserId>, Option::is_none, private;
    /// By user.
    last_seen: Option<Timestamp>, Option::is_none, json;
    /// By user. That there is no ban is what is usual, and worth keeping.
    bans: Option<Timestamp>, |_| false, json;
    /// By id.
    conversations: Option<Arc<Conversation>>, Option::is_none, json;
    /// By conversation: its members, as many as are ever told of one event.
    members: Arc<[UserId]>, |members| members.is_empty(), json;
    /// By user.
    lists: Arc<List>, |_| false, lists;
    /// By [`pair`] of conversation and user.
    roles: Option<Role>, Option::is_none, json;
    /// By user.
    groups: Arc<Vec<RoomName>>, |_| false, json;
    /// By [`pair`] of users, and their stamps, which are this node's own.
    visibility: bool, |is_visible| !is_visible, alone;
    /// By [`pair`] of kind and id.
    records: Option<Arc<Record>>, Option::is_none, json;
}

/// The first page of a user's conversations.
pub(super) struct List {
    /// The page.
    pub(super) page: Arc<Vec<Listed>>,
    /// When it was read, by the clock of conversations' activity.
    pub(super) read_at: u64,
}

fn json<V: Serialize + DeserializeOwned>(_: &Arc<Activity>) -> Option<Codec<V>> {
    Some(Codec::json())
}

/// Keys are people's addresses.
fn private<V: Serialize + DeserializeOwned>(_: &Arc<Activity>) -> Option<Codec<V>> {
    Some(Codec::json().private())
}

const fn alone<V>(_: &Arc<Activity>) -> Option<Codec<V>> {
    None
}

/// A list that another node read is good if this one would have heard of everything that was said in its
/// conversations since, and nothing was.
fn lists(activity: &Arc<Activity>) -> Option<Codec<Arc<List>>> {
    let activity = Arc::clone(activity);
    let encode = |list: &Arc<List>| serde_json::to_vec(&list.page).ok();
    Some(Codec::new(encode, move |bytes, age| {
        let page: Arc<Vec<Listed>> = serde_json::from_slice(bytes).ok()?;
        let read_at = activity.ago(age)?;
        let list = Arc::new(List { page, read_at });
        (!list.is_outdated(&activity)).then_some(list)
    }))
}

impl List {
    /// Whether something was said in one of the conversations since the list was read.
    pub(super) fn is_outdated(&self, activity: &Activity) -> bool {
        let mut ids = self.page.iter().map(|listed| &listed.conversation.id);
        ids.any(|id| activity.is_newer(id.as_str(), self.read_at))
    }
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
