-- What the product knows for good, besides events. All keys are whole: no table has a hidden row id.

-- Found by its id alone, whichever room it is in, and still once in a room.
DROP INDEX archive_event_id;
CREATE UNIQUE INDEX archive_event_id ON archive_event (event_id, room);

-- Unread messages are counted in the index alone: rooms hold many more receipts than messages.
CREATE INDEX archive_event_message ON archive_event (room, epoch, seq, user_id, event_id)
    WHERE kind = 'MESSAGE_SENT';

CREATE TABLE account (
    id         TEXT    PRIMARY KEY,
    email      TEXT    UNIQUE, -- in lower case
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    password   TEXT    NOT NULL, -- argon2id, PHC form
    attributes TEXT    NOT NULL, -- a JSON object
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Not in `account`: tokens made elsewhere name users that have none.
CREATE TABLE ban (
    user_id TEXT    PRIMARY KEY,
    until   INTEGER NOT NULL,
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    token_id   TEXT    PRIMARY KEY,
    user_id    TEXT    NOT NULL,
    device     TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX session_user ON session (user_id, created_at);
CREATE INDEX session_end ON session (expires_at);

CREATE TABLE conversation (
    id           TEXT    PRIMARY KEY,
    kind         TEXT    NOT NULL, -- direct, group
    title        TEXT    NOT NULL,
    creator      TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    member_count INTEGER NOT NULL,
    pair         TEXT    UNIQUE -- of a direct one: its two users in order
) STRICT, WITHOUT ROWID;

CREATE TABLE conversation_member (
    conversation TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    role         INTEGER NOT NULL, -- 0 member, 1 moderator, 2 owner
    joined_at    INTEGER NOT NULL,
    PRIMARY KEY (conversation, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX conversation_member_user ON conversation_member (user_id, conversation);

-- The newest message of a conversation, also of one that has no row of its own (yet).
CREATE TABLE conversation_activity (
    conversation TEXT    PRIMARY KEY,
    epoch        INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    at           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE read_cursor (
    conversation TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    epoch        INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (conversation, user_id)
) STRICT, WITHOUT ROWID;

-- What became of a message. Of edits the one in the latest place counts, of deletions the one in
-- the first; a deleted message has no content, whatever comes later.
CREATE TABLE message_state (
    message_id    TEXT    NOT NULL,
    room          TEXT    NOT NULL,
    content       TEXT, -- JSON
    edited_epoch  INTEGER NOT NULL,
    edited_seq    INTEGER NOT NULL,
    edited_at     INTEGER,
    deleted_epoch INTEGER NOT NULL,
    deleted_seq   INTEGER NOT NULL,
    deleted_at    INTEGER,
    PRIMARY KEY (message_id, room)
) STRICT, WITHOUT ROWID;

-- A reaction that was taken back keeps its row, or a late event would bring it to life again.
CREATE TABLE reaction (
    message_id TEXT    NOT NULL,
    emoji      TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    is_on      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    epoch      INTEGER NOT NULL, -- of the latest event about it; 0 before the first
    seq        INTEGER NOT NULL,
    asked_at   INTEGER NOT NULL, -- when it was last changed without waiting for its event
    PRIMARY KEY (message_id, emoji, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE connection (
    id         TEXT    PRIMARY KEY,
    low        TEXT    NOT NULL, -- the pair, in order
    high       TEXT    NOT NULL,
    from_user  TEXT    NOT NULL,
    to_user    TEXT    NOT NULL,
    status     TEXT    NOT NULL, -- pending, accepted, rejected
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (low, high)
) STRICT, WITHOUT ROWID;

CREATE INDEX connection_from ON connection (from_user, created_at);
CREATE INDEX connection_to ON connection (to_user, created_at);

CREATE TABLE group_member (
    room    TEXT    NOT NULL,
    user_id TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (room, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX group_member_user ON group_member (user_id, room);

CREATE TABLE notification (
    user_id  TEXT    NOT NULL,
    event_id TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    data     TEXT    NOT NULL, -- JSON
    at       INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    read_at  INTEGER,
    PRIMARY KEY (user_id, event_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX notification_position ON notification (user_id, epoch, seq);
CREATE INDEX notification_unread ON notification (user_id, epoch, seq) WHERE read_at IS NULL;

CREATE TABLE domain_record (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    data       TEXT, -- a JSON object; none once it was deleted
    version    INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE reply (
    user_id TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    request TEXT    NOT NULL,
    status  INTEGER NOT NULL, -- 0 while the request is being answered
    body    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX reply_at ON reply (at);

CREATE TABLE last_seen (
    user_id TEXT    PRIMARY KEY,
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
