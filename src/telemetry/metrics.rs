//! Every metric of the node, in one table.
//!
//! Names are `vestibule_<part>_<thing>_<unit>`, counters end in `_total`; labels come from enums
//! ([`labels`](super::labels)) or, where configuration names them, from the texts below. The page
//! `docs/METRICS.md` is made from this table. To record: `metrics::ROOMS_BROADCASTS.add(1)`,
//! `metrics::CONNECTIONS_CLOSED.of(reason).add(1)`.

use super::family::{Count, Counter, Gauge, Histogram, Kind, LabelInfo, Level, Open, Sampled};
use super::family::{Series, Spread, Values};
use super::labels::{
    AppendLane, Applied, Attempt, AuthFailure, Emitted, EngineIoError, Hop, Interruption,
    LoginOutcome, Method, NotAdmitted, Packet, Refused, Resumed, Route,
};
use super::labels::{Stage, Status, Transport, Unsealed};
use crate::types::{CloseReason, Code};

const EVENT: LabelInfo = LabelInfo {
    name: "event",
    values: Values::Configured("an event of the catalogue, or `other`"),
};
const TOPIC: LabelInfo = LabelInfo {
    name: "topic",
    values: Values::Configured("a topic of the event log"),
};
const GROUP: LabelInfo = LabelInfo {
    name: "group",
    values: Values::Configured("a consumer group of the event log"),
};
const PARTITION: LabelInfo = LabelInfo {
    name: "partition",
    values: Values::Configured("a partition's number"),
};
const VERSION: LabelInfo = LabelInfo {
    name: "version",
    values: Values::Configured("this build's version"),
};
const ERROR: LabelInfo = LabelInfo {
    name: "error",
    values: Values::Configured("the kind of I/O error, in the standard library's words"),
};
const LIMITER: LabelInfo = LabelInfo {
    name: "limiter",
    values: Values::Configured("a limiter of the catalogue or of `[limits]`"),
};
const CACHE: LabelInfo = LabelInfo {
    name: "cache",
    values: Values::Configured("a cache, as `[caches]` calls it"),
};
const LEVEL: LabelInfo = LabelInfo {
    name: "level",
    values: Values::Configured("`l1`: in this process; `l2`: on a Redis shard"),
};
const DEPENDENCY: LabelInfo = LabelInfo {
    name: "dependency",
    values: Values::Configured("`log`, `archive`, or `rooms/` and a shard's name"),
};
const SHARD: LabelInfo = LabelInfo {
    name: "shard",
    values: Values::Configured("a shard's name"),
};
const OUTCOME: LabelInfo = LabelInfo {
    name: "outcome",
    values: Values::Fixed(&["delivered", "unheard", "lost", "doubled", "refused"]),
};
const TASK: LabelInfo = LabelInfo {
    name: "task",
    values: Values::Configured("a kind of task, or `worker`"),
};

macro_rules! table {
    ($(
        $( #[doc = $help:literal] )+
        $metric:ident: $family:ty = $name:literal, $unit:literal $(, $extra:expr)?;
    )+) => {
        $(
            $( #[doc = $help] )+
            pub static $metric: $family =
                <$family>::new($name, $unit, concat!($( $help ),+).trim_ascii() $(, $extra)?);
        )+

        /// The whole table, in the order of the data's path.
        pub static TABLE: &[&dyn Series] = &[$( &$metric ),+];
    };
}

table! {
    /// Client connections open now, by what they carry.
    CONNECTIONS_OPEN: Gauge<Transport> = "vestibule_connections_open", "connections";
    /// Sessions opened, by the transport of their handshake.
    CONNECTIONS_OPENED: Counter<Transport> = "vestibule_connections_opened_total", "connections";
    /// Sessions closed, by reason.
    CONNECTIONS_CLOSED: Counter<CloseReason> =
        "vestibule_connections_closed_total", "connections";

    /// 1 while every connection permit is taken and new connections wait in the kernel's backlog.
    EDGE_ACCEPT_WAITING: Gauge = "vestibule_edge_accept_waiting", "listeners";
    /// TCP connections accepted.
    EDGE_ACCEPTED: Counter = "vestibule_edge_accepted_total", "connections";
    /// Failures of the accept call itself, for example for want of descriptors.
    EDGE_ACCEPT_ERRORS: Open<1, Count> =
        "vestibule_edge_accept_errors_total", "errors", &[ERROR];
    /// Connections closed before their first request was read.
    EDGE_REFUSED: Counter<Refused> = "vestibule_edge_refused_total", "connections";
    /// TLS handshakes, by how they ended.
    TLS_HANDSHAKES: Counter<Attempt> = "vestibule_tls_handshakes_total", "handshakes";
    /// Attempts to load changed certificate files; after a failed one the old certificate serves on.
    TLS_RELOADS: Counter<Attempt> = "vestibule_tls_reloads_total", "reloads";
    /// Attempts to read the catalogue again; after a failed one the old one stays in force.
    CATALOGUE_RELOADS: Counter<Attempt> = "vestibule_catalogue_reloads_total", "reloads";
    /// When the certificate being served ends, as a Unix time; 0 without TLS.
    TLS_CERTIFICATE_EXPIRY: Gauge =
        "vestibule_tls_certificate_expiry_timestamp_seconds", "seconds";

    /// HTTP requests answered, an accepted WebSocket upgrade (101) included.
    HTTP_REQUESTS: Counter<(Route, Method, Status)> = "vestibule_http_requests_total", "requests";
    /// From a request's head to its answer's head; a poll that waits for data counts its wait.
    HTTP_REQUEST_TIME: Histogram<Route> = "vestibule_http_request_seconds", "seconds";

    /// Engine.IO requests refused, by code.
    ENGINEIO_HANDSHAKE_ERRORS: Counter<EngineIoError> =
        "vestibule_engineio_handshake_errors_total", "requests";
    /// Upgrades from polling to WebSocket.
    ENGINEIO_UPGRADES: Counter<Attempt> = "vestibule_engineio_upgrades_total", "upgrades";
    /// Packets received, by kind.
    PACKETS_RECEIVED: Counter<Packet> = "vestibule_packets_received_total", "packets";
    /// Packets written; a broadcast counts once for each member.
    PACKETS_SENT: Counter = "vestibule_packets_sent_total", "packets";
    /// Payload bytes received: frames and polling bodies, without headers and TLS.
    BYTES_RECEIVED: Counter = "vestibule_bytes_received_total", "bytes";
    /// Payload bytes written: frames and polling bodies, without headers and TLS.
    BYTES_SENT: Counter = "vestibule_bytes_sent_total", "bytes";

    /// Sockets (a session in a namespace) open now.
    SOCKETS_OPEN: Gauge = "vestibule_sockets_open", "sockets";
    /// Sockets closed, by reason.
    SOCKETS_CLOSED: Counter<CloseReason> = "vestibule_sockets_closed_total", "sockets";
    /// Refused CONNECTs, by code.
    CONNECT_ERRORS: Counter<Code> = "vestibule_connect_errors_total", "refusals";
    /// Client events received, by event.
    EVENTS_RECEIVED: Open<1, Count> = "vestibule_events_received_total", "events", &[EVENT];
    /// Client events answered with a refusal, by code.
    EVENT_ERRORS: Counter<Code> = "vestibule_event_errors_total", "events";
    /// Times a socket's reading was paused because its handlers in flight were at their limit.
    HANDLERS_PAUSED: Counter = "vestibule_handlers_paused_total", "pauses";
    /// Tokens that were not accepted, by reason.
    AUTH_FAILURES: Counter<AuthFailure> = "vestibule_auth_failures_total", "tokens";
    /// Logins with a password, by how they ended.
    ACCOUNTS_LOGINS: Counter<LoginOutcome> = "vestibule_accounts_logins_total", "logins";

    /// Requests and events refused because somebody came too often, by limiter.
    LIMITS_REFUSED: Open<1, Count> = "vestibule_limits_refused_total", "requests", &[LIMITER];
    /// Keys whose limit was forgotten early because there were too many.
    LIMITS_FORGOTTEN: Counter = "vestibule_limits_forgotten_total", "keys";
    /// Limits that this node counted alone because their shard did not answer in time.
    LIMITS_ALONE: Counter = "vestibule_limits_alone_total", "requests";
    /// Users online on this node.
    PRESENCE_ONLINE: Gauge = "vestibule_presence_online", "users";
    /// Users who came or went.
    PRESENCE_CHANGES: Counter = "vestibule_presence_changes_total", "changes";

    /// Users taken off a node that is gone, by this node.
    PRESENCE_SWEPT: Counter = "vestibule_presence_swept_total", "users";
    /// Questions about users answered with what was known here, because their shard did not answer.
    PRESENCE_STALE: Counter = "vestibule_presence_stale_total", "users";
    /// Times this node began to pump partitions of a node whose lease was over.
    TAKEOVERS: Counter = "vestibule_takeovers_total", "takeovers";
    /// Records of such nodes that this node settled: they are in their places, and durable in topic `timeline`.
    TAKEOVER_RECORDS: Counter = "vestibule_takeover_records_total", "records";
    /// Nodes that hold a lease, as this node sees it.
    CLUSTER_NODES: Gauge = "vestibule_cluster_nodes", "nodes";
    /// 1 while this node holds its lease; without one it does no once-only duties.
    CLUSTER_LEASE_HELD: Gauge = "vestibule_cluster_lease_held", "leases";
    /// Times this node lost its lease.
    CLUSTER_LEASES_LOST: Counter = "vestibule_cluster_leases_lost_total", "leases";

    /// Rooms with at least one member on this node.
    ROOMS_OPEN: Gauge = "vestibule_rooms_open", "rooms";
    /// Memberships on this node: one for each room of each socket.
    ROOMS_MEMBERS: Gauge = "vestibule_rooms_members", "memberships";
    /// Events handed to a room of a worker.
    ROOMS_BROADCASTS: Counter = "vestibule_rooms_broadcasts_total", "broadcasts";
    /// Frames put into members' outboxes.
    ROOMS_DELIVERIES: Counter = "vestibule_rooms_deliveries_total", "frames";
    /// Volatile frames dropped because an outbox was full.
    ROOMS_OUTBOX_DROPPED: Counter = "vestibule_rooms_outbox_dropped_total", "frames";
    /// Sockets closed because an outbox was full.
    ROOMS_OUTBOX_OVERFLOWS: Counter = "vestibule_rooms_outbox_overflows_total", "sockets";
    /// Ephemeral events dropped because a worker's bus queue was full.
    BUS_EPHEMERAL_DROPPED: Counter = "vestibule_bus_ephemeral_dropped_total", "events";
    /// Control words that a worker had no room for; it looked everything up again instead.
    BUS_CONTROL_LOST: Counter = "vestibule_bus_control_lost_total", "words";
    /// Times durable events were found missing between the bus and a room, and fetched.
    BUS_GAPS: Counter = "vestibule_bus_gaps_total", "gaps";
    /// Sockets closed because events of a room could not be completed.
    BUS_RELOADS: Counter = "vestibule_bus_reloads_total", "sockets";
    /// A shard's share of the rooms on the ring in force.
    RING_SHARE: Open<1, Level> = "vestibule_ring_share", "1", &[SHARD];
    /// A shard's epoch, as the pump of this node knows it; one more after a loss of writes.
    SHARD_EPOCH: Open<1, Level> = "vestibule_shard_epoch", "epochs", &[SHARD];
    /// 1 while the ring has changed and rooms may still be at their old places.
    RING_MOVING: Gauge = "vestibule_ring_moving", "1";
    /// Rooms that this node has brought to their places on a changed ring, though nobody asked for them.
    RING_MOVED_ROOMS: Counter = "vestibule_ring_moved_rooms_total", "rooms";
    /// Times a worker was told that entries of a shard may be missing, by why.
    BUS_INTERRUPTIONS: Counter<Interruption> =
        "vestibule_bus_interruptions_total", "interruptions";
    /// Clients on their way in, from the handshake until CONNECT is answered.
    ADMISSION_OPENING: Gauge = "vestibule_admission_opening", "clients";
    /// CONNECTs that wait for their turn.
    ADMISSION_WAITING: Gauge = "vestibule_admission_connects_waiting", "connects";
    /// Clients that were sent away, to come again: too many were on their way in, or too many CONNECTs waited.
    ADMISSION_REFUSED: Counter<NotAdmitted> = "vestibule_admission_refused_total", "clients";
    /// Clients that were sent to other nodes, which have fewer.
    ADMISSION_SHED: Counter = "vestibule_admission_shed_total", "clients";
    /// Clients that named the socket they had before, by how that ended.
    RECOVERY_RESUMES: Counter<Resumed> = "vestibule_recovery_resumes_total", "clients";
    /// Missed events that such clients were sent.
    RECOVERY_REPLAYED: Counter = "vestibule_recovery_replayed_total", "events";
    /// Reads of a room's last events that were asked for by clients that came back.
    RECOVERY_READS_ASKED: Counter = "vestibule_recovery_reads_asked_total", "reads";
    /// Those of them that were answered by a read that another client had asked for.
    RECOVERY_READS_SHARED: Counter = "vestibule_recovery_reads_shared_total", "reads";
    /// Sockets that ended because their clients had come back elsewhere.
    RECOVERY_TAKEN_OVER: Counter = "vestibule_recovery_taken_over_total", "sockets";
    /// Rooms that this node hears from shards.
    BUS_SUBSCRIPTIONS: Gauge = "vestibule_bus_subscriptions", "rooms";
    /// Times the connection on which a shard is heard broke or could not be made.
    BUS_RECONNECTS: Counter = "vestibule_bus_reconnects_total", "attempts";

    /// Requests to other nodes, by what they came to.
    INTERNAL_ASKED: Counter<Hop> = "vestibule_internal_asked_total", "requests";
    /// Requests of other nodes that were answered.
    INTERNAL_ANSWERED: Counter = "vestibule_internal_answered_total", "requests";
    /// Requests on the internal listener that were not believed, by reason.
    INTERNAL_REFUSED: Counter<Unsealed> = "vestibule_internal_refused_total", "requests";
    /// WebSockets of other nodes' sessions that go through this node.
    INTERNAL_TUNNELS: Gauge = "vestibule_internal_tunnels_open", "connections";
    /// Live nodes whose sessions cannot be told from another's because of their names.
    INTERNAL_TAG_CLASHES: Gauge = "vestibule_internal_tag_clashes", "nodes";
    /// 1 while emitters are heard, where that is switched on.
    EMITTER_CONNECTED: Gauge = "vestibule_emitter_connected", "connections";
    /// Messages of emitters, by kind.
    EMITTER_MESSAGES: Counter<Emitted> = "vestibule_emitter_messages_total", "messages";

    /// Records appended durably, by topic.
    EVENTLOG_APPENDED: Open<1, Count> =
        "vestibule_eventlog_appended_total", "records", &[TOPIC];
    /// Appends refused because the records or bytes in flight were at their limit.
    EVENTLOG_REFUSED: Counter = "vestibule_eventlog_refused_total", "records";
    /// Records deleted because they were old.
    EVENTLOG_DELETED: Counter = "vestibule_eventlog_deleted_total", "records";
    /// From an append to its durability, by how it waits; of a batch, its slowest.
    EVENTLOG_APPEND_TIME: Histogram<AppendLane> = "vestibule_eventlog_append_seconds", "seconds";
    /// Records appended but not durable yet.
    EVENTLOG_INFLIGHT: Gauge = "vestibule_eventlog_inflight_records", "records";
    /// Times a consumer of this node was given partitions, or lost some.
    EVENTLOG_REBALANCES: Counter = "vestibule_eventlog_rebalances_total", "changes";
    /// Partitions read once more because records seemed to be passed over, or nothing came though there was something.
    EVENTLOG_REREAD: Counter = "vestibule_eventlog_rereads_total", "reads";
    /// Records a consumer group has not settled yet.
    EVENTLOG_LAG: Open<3, Level> =
        "vestibule_eventlog_consumer_lag", "records", &[GROUP, TOPIC, PARTITION];

    /// From the sending of a canary to its return through log, shard and bus, by shard.
    CANARY_DELIVERY: Open<1, Spread> =
        "vestibule_canary_delivery_seconds", "seconds", &[SHARD];
    /// Canaries by shard and what became of them. `unheard`: in its place, but not brought by the bus, which members
    /// have repaired; `lost`: acknowledged, and without a place.
    CANARY_PROBES: Open<2, Count> =
        "vestibule_canary_probes_total", "events", &[SHARD, OUTCOME];

    /// Durable events applied to their room's timeline, by outcome.
    DELIVERY_APPLIED: Counter<Applied> = "vestibule_delivery_applied_total", "events";
    /// Calls to a store that are made again because they failed.
    DELIVERY_RETRIES: Counter = "vestibule_delivery_retries_total", "calls";
    /// From an event's append to its publication on the bus.
    DELIVERY_TIME: Histogram = "vestibule_delivery_seconds", "seconds";
    /// The same, part by part. Clocks of log, archive and nodes count where a part spans two of them.
    DELIVERY_STAGE_TIME: Histogram<Stage> = "vestibule_delivery_stage_seconds", "seconds";
    /// From an event's own time to the outboxes of a worker's members; once for each worker that has any.
    DELIVERY_SHOWN_TIME: Histogram = "vestibule_delivery_shown_seconds", "seconds";
    /// Records put aside because they could not be applied, by the topic they came from.
    DELIVERY_DEAD_LETTERS: Open<1, Count> =
        "vestibule_delivery_dead_letters_total", "records", &[TOPIC];
    /// Events that followed from others.
    DELIVERY_DERIVED: Counter = "vestibule_delivery_derived_total", "events";
    /// Changes of records and memberships that followed from events.
    DELIVERY_EFFECTS: Counter = "vestibule_delivery_effects_total", "changes";
    /// Rows written to the archive.
    ARCHIVE_ROWS: Counter = "vestibule_archive_rows_total", "rows";
    /// Age of the newest event of a batch when the archive had it; of the oldest while it cannot be written.
    ARCHIVE_LAG: Gauge = "vestibule_archive_lag_seconds", "seconds";

    /// From a call to a Redis shard to its answer, or until it is not waited for: sessions, presence, limits, caches.
    /// Of the timelines' calls `vestibule_delivery_stage_seconds` tells, as `applied`.
    REDIS_TIME: Open<1, Spread> = "vestibule_redis_call_seconds", "seconds", &[SHARD];
    /// From a call to PostgreSQL to its answer, with the wait for a connection.
    POSTGRES_TIME: Histogram = "vestibule_postgres_call_seconds", "seconds";
    /// Callers that wait for a connection to PostgreSQL.
    POSTGRES_WAITING: Gauge = "vestibule_postgres_waiting", "callers";
    /// Work that was done again because PostgreSQL took it back or the connection broke.
    POSTGRES_REPEATS: Counter = "vestibule_postgres_repeats_total", "repeats";
    /// Connections to PostgreSQL found broken, or given up because no answer came in time.
    POSTGRES_BROKEN: Counter = "vestibule_postgres_broken_total", "connections";

    /// Reads that a cache answered.
    CACHE_HITS: Open<2, Count> = "vestibule_cache_hits_total", "reads", &[CACHE, LEVEL];
    /// Reads that a cache had no fresh answer to.
    CACHE_MISSES: Open<2, Count> = "vestibule_cache_misses_total", "reads", &[CACHE, LEVEL];
    /// Reads that were answered with an expired value because the store did not answer.
    CACHE_STALE: Open<2, Count> = "vestibule_cache_stale_total", "reads", &[CACHE, LEVEL];
    /// Reads that a Redis shard did not answer in time. For a second after each the store is asked instead.
    CACHE_SHARD_SILENT: Counter = "vestibule_cache_shard_silent_total", "reads";

    /// 1 while something that the node depends on works, 0 while it does not and clients are told so.
    DEPENDENCY_UP: Open<1, Level> = "vestibule_dependency_up", "dependencies", &[DEPENDENCY];
    /// Whole seconds for which it did not.
    DEPENDENCY_DEGRADED: Open<1, Count> =
        "vestibule_dependency_degraded_seconds_total", "seconds", &[DEPENDENCY];

    /// Tasks that ended by a panic, by kind.
    TASKS_PANICKED: Open<1, Count> = "vestibule_tasks_panicked_total", "tasks", &[TASK];
    /// The drain's phase: 0 serving, 1 unready, 2 closed, 3 parting, 4 flushing, 5 stopped.
    DRAIN_PHASE: Gauge = "vestibule_drain_phase", "phase";
    /// Always 1; the label says what runs.
    BUILD_INFO: Open<1, Level> = "vestibule_build_info", "builds", &[VERSION];

    /// CPU time of the process, user and system.
    PROCESS_CPU: Sampled = "process_cpu_seconds_total", "seconds", Kind::Counter;
    /// Resident memory.
    PROCESS_MEMORY: Sampled = "process_resident_memory_bytes", "bytes", Kind::Gauge;
    /// Open file descriptors.
    PROCESS_FDS: Sampled = "process_open_fds", "descriptors", Kind::Gauge;
    /// The limit of open file descriptors.
    PROCESS_FDS_MAX: Sampled = "process_max_fds", "descriptors", Kind::Gauge;
    /// Threads.
    PROCESS_THREADS: Sampled = "process_threads", "threads", Kind::Gauge;
    /// When the process started, as a Unix time.
    PROCESS_START: Sampled = "process_start_time_seconds", "seconds", Kind::Gauge;
}

/// Exports the series that are known from the start, so that they are 0 before they first happen.
pub fn describe_all() {
    for series in TABLE {
        series.touch();
    }
    BUILD_INFO.of([env!("CARGO_PKG_VERSION")]).set(1.0);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::expose;
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        let mut names = BTreeSet::new();
        for series in TABLE {
            let metric = series.metric();
            let name = metric.name;
            assert!(names.insert(name), "{name} is there twice");
            assert!(
                name.starts_with("vestibule_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                metric.kind == Kind::Counter,
                name.ends_with("_total"),
                "{name}"
            );
            for unit in ["seconds", "bytes"] {
                assert_eq!(metric.unit == unit, name.contains(unit), "{name}");
            }
            if metric.kind == Kind::Histogram {
                assert_eq!(
                    metric.unit, "seconds",
                    "{name}: the buckets are made for seconds"
                );
            }
            assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
        }
    }

    #[test]
    fn what_is_exported_is_in_the_table_and_the_other_way_round() {
        describe_all();
        HTTP_REQUESTS
            .of((Route::Api, Method::Get, Status::Ok))
            .add(1);
        EVENTS_RECEIVED.of(["other"]).add(1);
        EDGE_ACCEPT_ERRORS.of(["other"]).add(1);
        EVENTLOG_APPENDED.of(["messages"]).add(1);
        EVENTLOG_LAG.of(["pump", "messages", "0"]).set(0.0);
        DELIVERY_DEAD_LETTERS.of(["messages"]).add(1);
        LIMITS_REFUSED.of(["messages"]).add(1);
        CACHE_HITS.of(["users", "l1"]).add(1);
        CACHE_MISSES.of(["users", "l1"]).add(1);
        CACHE_STALE.of(["users", "l1"]).add(1);
        CANARY_DELIVERY.of(["shard-0"]).record(Duration::ZERO);
        CANARY_PROBES.of(["shard-0", "lost"]).add(0);
        RING_SHARE.of(["shard-0"]).set(1.0);
        SHARD_EPOCH.of(["shard-0"]).set(1.0);
        REDIS_TIME.of(["shard-0"]).record(Duration::ZERO);
        TASKS_PANICKED.of(["handler"]).add(0);
        DEPENDENCY_UP.of(["log"]).set(1.0);
        DEPENDENCY_DEGRADED.of(["log"]).add(0);
        let page = expose::render();
        let exported: BTreeSet<(&str, &str)> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .filter(|(name, _)| !name.starts_with("test_"))
            .collect();
        let table: BTreeSet<(&str, &str)> = TABLE
            .iter()
            .map(|s| (s.metric().name, s.metric().kind.text()))
            .collect();
        assert_eq!(exported, table);
        for series in TABLE {
            let help = format!("# HELP {} {}\n", series.metric().name, series.metric().help);
            assert!(page.contains(&help), "{help}");
        }
    }

    #[test]
    fn labels_from_configuration_are_bounded() {
        for n in 0..2_000 {
            // A row of its own, so that the page of the other tests stays small.
            static CROWDED: Open<1, Count> = Open::new("test_total", "things", "Help.", &[TOPIC]);
            CROWDED.of([&n.to_string()]).add(1);
        }
        let page = expose::render();
        let series = page
            .lines()
            .filter(|line| line.starts_with("test_total{"))
            .count();
        assert_eq!(series, Open::<1, Count>::SERIES_MAX + 1);
        assert!(page.contains("test_total{topic=\"other\"} 976"));
    }
}
