-- The same in meaning as SQLite's versions 1 (the archive, not the log) and 2. Times are milliseconds
-- since 1970, booleans 0 and 1, JSON text. Every text has the collation "C": order is that of bytes,
-- on every server and in this program.

-- The archive: every durable event of every room, in order of arrival and found by small indexes.
CREATE TABLE archive_event (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room        TEXT COLLATE "C" NOT NULL,
    epoch       BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    shard_epoch BIGINT NOT NULL,
    shard_seq   BIGINT NOT NULL,
    event_id    TEXT COLLATE "C" NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    user_id     TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL, -- milliseconds since 1970
    payload     TEXT COLLATE "C" NOT NULL
);

-- Both are unique; pages are read through the first.
CREATE UNIQUE INDEX archive_event_position ON archive_event (room, epoch, seq);
-- Found by its id alone, whichever room it is in, and still once in a room.
CREATE UNIQUE INDEX archive_event_id ON archive_event (event_id, room);

-- Unread messages are counted in the index alone: rooms hold many more receipts than messages.
CREATE INDEX archive_event_message ON archive_event (room, epoch, seq, user_id, event_id)
    WHERE kind = 'MESSAGE_SENT';

CREATE TABLE account (
    id         TEXT COLLATE "C" PRIMARY KEY,
    email      TEXT COLLATE "C" UNIQUE, -- in lower case
    name       TEXT COLLATE "C" NOT NULL,
    role       TEXT COLLATE "C" NOT NULL,
    password   TEXT COLLATE "C" NOT NULL, -- argon2id, PHC form
    attributes TEXT COLLATE "C" NOT NULL, -- a JSON object
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Not in `account`: tokens made elsewhere name users that have none.
CREATE TABLE ban (
    user_id TEXT COLLATE "C" PRIMARY KEY,
    until   BIGINT NOT NULL,
    at      BIGINT NOT NULL
);

CREATE TABLE session (
    token_id   TEXT COLLATE "C" PRIMARY KEY,
    user_id    TEXT COLLATE "C" NOT NULL,
    device     TEXT COLLATE "C" NOT NULL,
    address    TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE INDEX session_of_user ON session (user_id, created_at);
CREATE INDEX session_end ON session (expires_at);

CREATE TABLE conversation (
    id           TEXT COLLATE "C" PRIMARY KEY,
    kind         TEXT COLLATE "C" NOT NULL, -- direct, group
    title        TEXT COLLATE "C" NOT NULL,
    creator      TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    member_count BIGINT NOT NULL,
    pair         TEXT COLLATE "C" UNIQUE -- of a direct one: its two users in order
);

CREATE TABLE conversation_member (
    conversation TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL,
    role         BIGINT NOT NULL, -- 0 member, 1 moderator, 2 owner
    joined_at    BIGINT NOT NULL,
    PRIMARY KEY (conversation, user_id)
);

CREATE INDEX conversation_member_user ON conversation_member (user_id, conversation);

-- The newest message of a conversation, also of one that has no row of its own (yet).
CREATE TABLE conversation_activity (
    conversation TEXT COLLATE "C" PRIMARY KEY,
    epoch        BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    at           BIGINT NOT NULL
);

CREATE TABLE read_cursor (
    conversation TEXT COLLATE "C" NOT NULL,
    user_id      TEXT COLLATE "C" NOT NULL,
    epoch        BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    at           BIGINT NOT NULL,
    PRIMARY KEY (conversation, user_id)
);

-- What became of a message. Of edits the one in the latest place counts, of deletions the one in
-- the first; a deleted message has no content, whatever comes later.
CREATE TABLE message_state (
    message_id    TEXT COLLATE "C" NOT NULL,
    room          TEXT COLLATE "C" NOT NULL,
    content       TEXT COLLATE "C", -- JSON
    edited_epoch  BIGINT NOT NULL,
    edited_seq    BIGINT NOT NULL,
    edited_at     BIGINT,
    deleted_epoch BIGINT NOT NULL,
    deleted_seq   BIGINT NOT NULL,
    deleted_at    BIGINT,
    PRIMARY KEY (message_id, room)
);

-- A reaction that was taken back keeps its row, or a late event would bring it to life again.
CREATE TABLE reaction (
    message_id TEXT COLLATE "C" NOT NULL,
    emoji      TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    is_on      BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    epoch      BIGINT NOT NULL, -- of the latest event about it; 0 before the first
    seq        BIGINT NOT NULL,
    asked_at   BIGINT NOT NULL, -- when it was last changed without waiting for its event
    PRIMARY KEY (message_id, emoji, user_id)
);

CREATE TABLE connection (
    id         TEXT COLLATE "C" PRIMARY KEY,
    low        TEXT COLLATE "C" NOT NULL, -- the pair, in order
    high       TEXT COLLATE "C" NOT NULL,
    from_user  TEXT COLLATE "C" NOT NULL,
    to_user    TEXT COLLATE "C" NOT NULL,
    status     TEXT COLLATE "C" NOT NULL, -- pending, accepted, rejected
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (low, high)
);

CREATE INDEX connection_from ON connection (from_user, created_at);
CREATE INDEX connection_to ON connection (to_user, created_at);

CREATE TABLE group_member (
    room    TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (room, user_id)
);

CREATE INDEX group_member_user ON group_member (user_id, room);

CREATE TABLE notification (
    user_id  TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    kind     TEXT COLLATE "C" NOT NULL,
    data     TEXT COLLATE "C" NOT NULL, -- JSON
    at       BIGINT NOT NULL,
    epoch    BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    read_at  BIGINT,
    PRIMARY KEY (user_id, event_id)
);

CREATE INDEX notification_position ON notification (user_id, epoch, seq);
CREATE INDEX notification_unread ON notification (user_id, epoch, seq) WHERE read_at IS NULL;

CREATE TABLE domain_record (
    kind       TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    data       TEXT COLLATE "C", -- a JSON object; none once it was deleted
    version    BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);

CREATE TABLE reply (
    user_id TEXT COLLATE "C" NOT NULL,
    key     TEXT COLLATE "C" NOT NULL,
    request TEXT COLLATE "C" NOT NULL,
    status  BIGINT NOT NULL, -- 0 while the request is being answered
    body    TEXT COLLATE "C" NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (user_id, key)
);

CREATE INDEX reply_at ON reply (at);

CREATE TABLE last_seen (
    user_id TEXT COLLATE "C" PRIMARY KEY,
    at      BIGINT NOT NULL
);
