//! `docs/VOCABULARY.md`, made from the catalogue and the defaults of the configuration.

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::fs;
    use std::path::PathBuf;

    use crate::config::{self, Config};
    use crate::events::{
        CODED, Catalogue, Durability, Each, Effect, Emit, LimiterScope, PRESETS, Row, TOLD, Who,
    };
    use crate::types::Code;

    const HEAD: &str = "\
# The vocabulary

What can be said, over Socket.IO and in the log. This page is made from `src/events/catalogue.toml`, the presets
beside it, and the defaults of the configuration; a test fails when they differ
(`cargo test --lib write_the_vocabulary_page -- --ignored` writes it anew).

An operator changes all of it that is a row: `[catalogue] preset = \"…\"` picks the names of a known system,
`[catalogue] file = \"own.toml\"` lays a file on top. In it a `[[event]]` of a type that is here replaces the keys it
gives (`false` takes one back), `remove = true` takes the row away, other types are added; `replace = true` at the
top of the file starts from nothing. `vestibule check-config` reports every mistake at once. SIGHUP reads the file
again: a valid one is in force for the next event, one with mistakes changes nothing. New topics are read within
a second; taking a topic away needs a restart. What the keys mean is told at the top of
`src/events/catalogue.toml`.

Every acknowledgement is `{ok: true, …}` or `{ok: false, error: {code, message, field?, retryAfterMs?}}`.
";

    const ROOMS: &str = "\
## Rooms

| room | who is in it | who may send |
|---|---|---|
| `conversation:{id}` | members who joined with `join:conversation` | members |
| `user:{id}` | all sockets of that user, from CONNECT on | services, by rows |
| `course:{id}`, `building:{id}` | who is enrolled or named by the token's claim, from CONNECT on; COURSE_ENROLLED joins live sockets | members |
| `presence:{id}` | sockets that subscribed to a user they may see | the program |
| `global:announcements` | everybody, from CONNECT on | services |

";

    const REDIS: &str = "\
## Redis keys

For cluster mode. A node in embedded mode keeps the same things in memory. `{vbN}` is the hash tag of shard N: what one
function touches is on one slot. Where a KEY, NAME or address is hashed, it is `#` and 32 hexadecimal digits.

| key | type | time to live | purpose |
|---|---|---|---|
| `{vbN}:s` | hash | none | the shard: its epoch, its last `shard_seq`, the run id for which the epoch was raised, where each ended epoch ended, how far `timeline` is settled |
| `{vbN}:raise` | string | 10 s, renewed | who raises the epoch now |
| `{vbN}:m:ROOM` | hash | none | a room's high-waters: epoch, seq, the last offset of each (topic, generation, partition), the trim mark, where in the shard its top stands; the ring's version when it was moved |
| `{vbN}:t:ROOM` | stream | timeline.ttl after the last event was settled; of a room in use, older entries but timeline.keep_min go | a room's recent events, `EPOCH-SEQ` |
| `{vbN}:u:ROOM` | hash | until they are settled | entries that are not settled |
| `{vbN}:d:ROOM:G` | hash | 3 × timeline.dedup_window | ids of events, so that a retry is the same event |
| `{vbN}:c:ROOM` | channel | – | what is published to a room, in order |
| `{vbN}:n:NODE:START` | channel | – | answers of the shard for one node, in their place among what it hears |
| `{vb0}:ctl` | channel | – | words to all nodes: close, put into a room, forget |
| `{vbN}:p:USER` | hash | 1 day after the user went | the nodes (`NODE/BOOT`) that have a user; whether the user is online, since when, when last seen; what is being told of it |
| `{vbN}:pn:NODE/BOOT` | set | none; swept when the node is gone | the users that a node has |
| `{vbN}:po` | zset | none | users of whom something is to be told, by since when |
| `{vbN}:pm` | hash | none | for which process of the server these keys were completed, which nodes have written their users since, how many came and went |
| `{vbN}:pf` | list | none; the last 4,096 | who came and went last, for those who count crowds |
| `{vbN}:x:CACHE:KEY` | string | the cache's; a record's is its row's | what a node read from the store, for the others: one of the caches above but `visibility`; a KEY of more than 96 bytes and each of `emails` is hashed |
| `{vbN}:r:PRIVATE-ID` | hash | recovery.window and a half after its owner was heard of | what a socket is, for a client that comes back: its user and id, its owner and how often it was taken over, where it joined each room, the shard's epoch when this was written |
| `{vbN}:xg` | hash | none; at most 4,097 numbers | how often values were forgotten, so that none that was read before is kept after |
| `{vbN}:l:NAME:KEY` | string | until it is full again | one limiter of one user or address (GCRA); a KEY of more than 96 bytes is hashed |
| `{vb0}:node:NODE` | hash | 3 s, renewed each second | a node's lease: its boot, how often renewed |
| `{vb0}:nodes` | hash | none | `NODE/BOOT`, when its lease was renewed last and what it said of itself then (address, version, load, which partitions it pumps), of all that were seen and not swept since |

";

    fn page() -> String {
        let catalogue = Catalogue::builtin();
        let mut page = HEAD.to_owned();
        clients(&mut page, &catalogue);
        servers(&mut page, &catalogue);
        types(&mut page, &catalogue);
        derived(&mut page, &catalogue);
        page += ROOMS;
        caches(&mut page);
        page += REDIS;
        limits(&mut page, &catalogue);
        presets(&mut page, &catalogue);
        codes(&mut page);
        page.truncate(page.trim_end().len());
        page + "\n"
    }

    fn clients(page: &mut String, catalogue: &Catalogue) {
        *page += "\n## Client events\n\n| event | type | who | limit | what the client sends |\n|---|---|---|---|---|\n";
        for row in catalogue.rows() {
            let Some(client) = &row.client else { continue };
            let limit = row.limiter.as_ref().map_or("other", |l| &l.name);
            line(
                page,
                &[
                    code(client),
                    code(&row.kind),
                    who(row).to_owned(),
                    limit.to_owned(),
                    members(row, false),
                ],
            );
        }
        *page += "\nThey answer `{ok, id, room?, at}`: the log has the event. Ephemeral ones answer `{ok}`.\n\n\
                  Handled by code, without a row:\n\n| event | takes | answers beside `ok` | what it does |\n|---|---|---|---|\n";
        for coded in CODED {
            let answers = if coded.answers.is_empty() {
                "–"
            } else {
                coded.answers
            };
            line(
                page,
                &[
                    code(coded.name),
                    code(coded.takes),
                    answers.to_owned(),
                    coded.says.to_owned(),
                ],
            );
        }
        page.push('\n');
    }

    fn servers(page: &mut String, catalogue: &Catalogue) {
        *page +=
            "## Server events\n\n| event | type | room | members | kept |\n|---|---|---|---|---|\n";
        for row in catalogue.rows() {
            let (Some(server), Some(room)) = (&row.server, &row.room) else {
                continue;
            };
            let kept = match (row.durability, row.is_in_timeline) {
                (Durability::Ephemeral, _) => "no",
                (_, true) => "in its place in the room",
                (_, false) => "in the log only",
            };
            line(
                page,
                &[
                    code(server),
                    code(&row.kind),
                    code(&room.to_string()),
                    row.shown().join(", "),
                    kept.to_owned(),
                ],
            );
        }
        *page +=
            "\nTold by code, without a row:\n\n| event | members | what it says |\n|---|---|---|\n";
        for (name, members, says) in TOLD {
            line(page, &[code(name), code(members), (*says).to_owned()]);
        }
        page.push('\n');
    }

    fn types(page: &mut String, catalogue: &Catalogue) {
        *page += "## Topics and types\n\nEach topic has a dead-letter topic of its name and `.dead-letters`. Events of one key stay in \
                  order. Data is what the schema names (`?`: may be missing; `*`: given by the program alone).\n\n\
                  | topic | type | key | data | record effect |\n|---|---|---|---|---|\n";
        let mut rows: Vec<_> = catalogue.rows().iter().collect();
        rows.sort_by_key(|row| row.topic.clone());
        for row in rows {
            let effects: Vec<_> = row.effects.iter().map(effect).collect();
            line(
                page,
                &[
                    row.topic.as_deref().map_or_else(|| "–".to_owned(), code),
                    code(&row.kind),
                    code(&row.key.to_string()),
                    members(row, true),
                    if effects.is_empty() {
                        "–".to_owned()
                    } else {
                        effects.join("; ")
                    },
                ],
            );
        }
        page.push('\n');
    }

    fn derived(page: &mut String, catalogue: &Catalogue) {
        *page += "## Derived events\n\nAn event's id and the recipient make the id of what follows, so it follows once however \
                  often it is derived.\n\n| from | follows | for | when | data |\n|---|---|---|---|---|\n";
        for row in catalogue.rows() {
            for emit in &row.emits {
                let when = emit.when.as_ref().map_or_else(
                    || "–".to_owned(),
                    |when| match &when.equals {
                        Some(value) => format!("`{}` is `{value}`", when.field),
                        None => format!("`{}` is there", when.field),
                    },
                );
                let data = emit
                    .data
                    .iter()
                    .map(|(name, value)| format!("{name} = `{value}`"));
                line(
                    page,
                    &[
                        code(&row.kind),
                        code(&emit.kind),
                        each(emit),
                        when,
                        data.collect::<Vec<_>>().join(", "),
                    ],
                );
            }
        }
        page.push('\n');
    }

    #[expect(clippy::too_many_lines, reason = "it is one table")]
    fn caches(page: &mut String) {
        // Taken apart, so that a cache that is added is missed here.
        let config::Caches {
            sessions,
            users,
            emails,
            last_seen,
            bans,
            conversations,
            members,
            lists,
            roles,
            groups,
            visibility,
            records,
            negative,
            grace,
            answer_within: _,
            entries_max: _,
            warm_every: _,
            shared: _,
            shared_answer_within: _,
            compress_over: _,
        } = Config::default().caches;
        let timeline = Config::default().timeline;
        let presence = Config::default().presence;
        let recent = format!("{}, at least {} events", timeline.ttl, timeline.keep_min);
        let rows = [
            (
                "logins and revoked tokens",
                "caches.sessions",
                sessions.to_string(),
            ),
            ("user records", "caches.users", users.to_string()),
            ("users by e-mail", "caches.emails", emails.to_string()),
            ("last seen", "caches.last_seen", last_seen.to_string()),
            ("bans", "caches.bans", bans.to_string()),
            (
                "conversations",
                "caches.conversations",
                conversations.to_string(),
            ),
            (
                "members of a conversation",
                "caches.members",
                members.to_string(),
            ),
            (
                "a user's list of conversations",
                "caches.lists",
                lists.to_string(),
            ),
            ("roles", "caches.roles", roles.to_string()),
            (
                "courses and buildings of a user",
                "caches.groups",
                groups.to_string(),
            ),
            (
                "who may see whom",
                "caches.visibility",
                visibility.to_string(),
            ),
            (
                "records of a kind without a time of its own",
                "caches.records",
                records.to_string(),
            ),
            ("complaint records", "the rows' effects", "15m".to_owned()),
            (
                "that there is no such thing",
                "caches.negative",
                negative.to_string(),
            ),
            (
                "stale values, while the store does not answer",
                "caches.grace",
                grace.to_string(),
            ),
            (
                "recent messages of a conversation",
                "timeline.ttl, timeline.keep_min",
                recent,
            ),
            (
                "clients' message ids",
                "timeline.dedup_window",
                timeline.dedup_window.to_string(),
            ),
            (
                "presence after the last link was lost",
                "presence.grace",
                presence.grace.to_string(),
            ),
            ("typing, ended by a `typing:stop`", "–", "3s".to_owned()),
        ];
        *page += "## Caches\n\n| what | setting | time to live |\n|---|---|---|\n";
        for (what, key, ttl) in rows {
            let key = if key.contains('.') {
                code(key)
            } else {
                key.to_owned()
            };
            line(page, &[what.to_owned(), key, ttl]);
        }
        page.push('\n');
    }

    fn limits(page: &mut String, catalogue: &Catalogue) {
        *page += "## Limits\n\nAll count by GCRA; a refusal is `rate_limited` and says how long to wait. `[limits] enabled = false` \
                  switches all of them off.\n\n| limit | rate | of whom | where it is set |\n|---|---|---|---|\n";
        for limiter in catalogue.limiters() {
            let whom = match limiter.scope {
                LimiterScope::User => "user",
                LimiterScope::Address => "address",
            };
            let per = crate::types::Span::from_millis(limiter.per.as_millis().try_into().unwrap());
            line(
                page,
                &[
                    limiter.name.to_string(),
                    format!("{}/{per}", limiter.count),
                    whom.to_owned(),
                    format!("`[limiter.{}]` of the catalogue", limiter.name),
                ],
            );
        }
        let config::Limits {
            enabled: _,
            api,
            login,
            signup,
            other,
            services,
            events_per_socket,
            keys_max: _,
            answer_within: _,
        } = Config::default().limits;
        let rows = [
            ("api", api, "user, or address without a login"),
            ("login", login, "address"),
            ("signup", signup, "address"),
            (
                "other",
                other,
                "user and endpoint, or user and client event",
            ),
            ("services", services, "service"),
            ("events_per_socket", events_per_socket, "socket"),
        ];
        for (name, rate, whom) in rows {
            let key = format!("`limits.{name}`");
            line(
                page,
                &[name.to_owned(), rate.to_string(), whom.to_owned(), key],
            );
        }
        page.push('\n');
    }

    fn presets(page: &mut String, builtin: &Catalogue) {
        *page += "## Presets\n\nWhat they say otherwise.\n\n| preset | type | topic | room |\n|---|---|---|---|\n";
        for (name, _) in PRESETS {
            let catalogue = Catalogue::with(name, None).unwrap();
            for row in catalogue.rows() {
                let base = builtin.by_type(&row.kind);
                let is_same = base.is_some_and(|b| b.topic == row.topic && b.room == row.room);
                if is_same {
                    continue;
                }
                line(
                    page,
                    &[
                        name.to_owned(),
                        code(&row.kind),
                        row.topic.as_deref().map_or_else(|| "–".to_owned(), code),
                        row.room
                            .as_ref()
                            .map_or_else(|| "–".to_owned(), |room| code(&room.to_string())),
                    ],
                );
            }
        }
        page.push('\n');
    }

    fn codes(page: &mut String) {
        *page += "## Error codes\n\nThe same over REST (problem+json, member `code`).\n\n| code | status |\n|---|---|\n";
        for known in Code::ALL {
            line(page, &[code(known.text()), known.status().to_string()]);
        }
    }

    fn who(row: &Row) -> &'static str {
        match row.who {
            Who::Members => "members of the room",
            Who::Anyone => "anyone",
            Who::Services => "services",
        }
    }

    fn each(emit: &Emit) -> String {
        match &emit.each {
            Each::Once => "the user".to_owned(),
            Each::Members => "the other members".to_owned(),
            Each::MembersAway => "the other members who are away".to_owned(),
            Each::Mentions => "members mentioned as `@id`".to_owned(),
            Each::Users(users) => {
                let users: Vec<_> = users.iter().map(|user| code(&user.to_string())).collect();
                users.join(", ")
            }
        }
    }

    fn effect(effect: &Effect) -> String {
        match effect {
            Effect::Upsert { kind, id, ttl } => {
                let ttl = ttl.map(|ttl| format!(", cached {} min", ttl.as_secs() / 60));
                format!("upsert `{kind}` `{id}`{}", ttl.unwrap_or_default())
            }
            Effect::Delete { kind, id } => format!("delete `{kind}` `{id}`"),
            Effect::Invalidate { kind, id } => format!("invalidate `{kind}` `{id}`"),
            Effect::Join { room, user } => format!("`{user}` joins `{room}`"),
            Effect::Leave { room, user } => format!("`{user}` leaves `{room}`"),
        }
    }

    fn members(row: &Row, is_all: bool) -> String {
        let shown = row.schema.properties().iter();
        let shown: Vec<_> = shown
            .filter(|property| is_all || !property.is_read_only)
            .map(|property| {
                let may_miss = if property.is_required { "" } else { "?" };
                let kept = if property.is_read_only { "*" } else { "" };
                format!("{}{may_miss}{kept}", property.name)
            })
            .collect();
        if shown.is_empty() {
            "–".to_owned()
        } else {
            shown.join(", ")
        }
    }

    fn code(text: &str) -> String {
        format!("`{text}`")
    }

    fn line(page: &mut String, cells: &[String]) {
        writeln!(page, "| {} |", cells.join(" | ")).unwrap();
    }

    fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/VOCABULARY.md")
    }

    #[test]
    fn the_vocabulary_page_is_the_catalogue() {
        let written = fs::read_to_string(path()).unwrap();
        assert!(
            written == page(),
            "docs/VOCABULARY.md is not what the catalogue says"
        );
    }

    #[test]
    #[ignore = "writes docs/VOCABULARY.md"]
    fn write_the_vocabulary_page() {
        fs::write(path(), page()).unwrap();
    }
}
