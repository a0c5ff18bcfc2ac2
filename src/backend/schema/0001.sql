-- The log: every record of every topic, in commit order. `id` is that order.
--
-- No index but the key: an index by partition would dirty a page for each partition that a commit
-- touches, and the log is read in commit order only.
CREATE TABLE log_record (
    id        INTEGER PRIMARY KEY,
    topic     INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    offset    INTEGER NOT NULL,
    at        INTEGER NOT NULL, -- milliseconds since 1970, never falling
    key       TEXT    NOT NULL,
    value     BLOB    NOT NULL
) STRICT;

CREATE TABLE log_topic (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    partitions INTEGER NOT NULL,
    last_id    INTEGER NOT NULL -- its newest record when `log_state` was written, 0 if none
) STRICT;

-- Where each partition stood when `log_state.next_id` was written; the rest is counted at start.
CREATE TABLE log_top (
    topic       INTEGER NOT NULL,
    partition   INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE log_state (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    next_id INTEGER NOT NULL,
    last_at INTEGER NOT NULL
) STRICT;

CREATE TABLE log_group (
    name     TEXT    PRIMARY KEY,
    row      INTEGER NOT NULL, -- every record of its topics below this id is done
    metadata TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE log_offset (
    name        TEXT    NOT NULL,
    topic       INTEGER NOT NULL,
    partition   INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (name, topic, partition)
) STRICT, WITHOUT ROWID;

-- The archive: every durable event of every room. Rows are kept in order of arrival and found by
-- two small indexes: a table clustered by room would put ten rows on a page instead of a hundred,
-- and each batch would dirty as many more.
CREATE TABLE archive_event (
    id        INTEGER PRIMARY KEY,
    room      TEXT    NOT NULL,
    epoch     INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    shard_epoch INTEGER NOT NULL,
    shard_seq INTEGER NOT NULL,
    event_id  TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    user_id   TEXT    NOT NULL,
    at        INTEGER NOT NULL, -- milliseconds since 1970
    payload   TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX archive_event_position ON archive_event (room, epoch, seq);
CREATE UNIQUE INDEX archive_event_id ON archive_event (room, event_id);
