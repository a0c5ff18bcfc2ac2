//! The words of the vocabulary that are code without a row: what a table cannot say.

/// A client event that the program handles itself.
#[derive(Debug, Clone, Copy)]
pub struct Coded {
    /// Its name.
    pub name: &'static str,
    /// What the client sends.
    pub takes: &'static str,
    /// What the acknowledgement holds beside `ok`.
    pub answers: &'static str,
    /// What it does.
    pub says: &'static str,
}

/// Every one of them. A row may not claim their names.
pub const CODED: &[Coded] = &[
    Coded {
        name: "join:conversation",
        takes: "{conversationId, after?: {epoch, seq}}",
        answers: "room, epoch, seq, missed, complete, reason?, next?",
        says: "Into the room at a known place, with what was missed since another.",
    },
    Coded {
        name: "leave:conversation",
        takes: "{conversationId}",
        answers: "room",
        says: "Out of the room. Leaving twice is no mistake.",
    },
    Coded {
        name: "private-message",
        takes: "{toUserId, message, clientMessageId?}",
        answers: "id, room, at, conversationId",
        says: "A MESSAGE_SENT into the conversation of two, which is made when there is none.",
    },
    Coded {
        name: "register",
        takes: "USER_ID or {userId}",
        answers: "userId, online",
        says: "Refreshes presence; the user must be the token's.",
    },
    Coded {
        name: "presence:query",
        takes: "{userId}",
        answers: "userId, online, lastSeen?",
        says: "How a visible user stands; comes as `presence:state` too.",
    },
    Coded {
        name: "presence:subscribe",
        takes: "{userIds} or {conversationId}",
        answers: "presence, refused?; or conversationId, online, presence?",
        says: "Tells of the presence of visible users, or of a conversation, from now on.",
    },
    Coded {
        name: "presence:unsubscribe",
        takes: "{userIds} or {conversationId}",
        answers: "",
        says: "No longer.",
    },
];

/// Server events that are code without a row: name, members, what they say.
pub const TOLD: &[(&str, &str, &str)] = &[
    (
        "presence:state",
        "{userId, online, lastSeen?}; of a crowd {conversationId, online, changes}",
        "The answer to `presence:query` and `presence:subscribe`.",
    ),
    (
        "degraded",
        "{what, since, until?}",
        "Something that the node needs does not answer; with `until`, it does again.",
    ),
    (
        "recovery:failed",
        "{reason}",
        "Right after CONNECT, to a client that came back and could not get its socket: it has to join its rooms again.",
    ),
];
