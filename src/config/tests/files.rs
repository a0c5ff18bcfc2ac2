//! Wrong files, and the exact complaints about each.

/// A file, and everything that is said about it.
pub(super) const FILES: &[(&str, &[&str])] = &[
    ("", &[]),
    ("mode = 'embedded'\n[edge]\n[edge.tls]", &[]),
    // Values of the wrong kind or out of range.
    (
        "transport.ping_interval = 'soon'",
        &[
            r#"transport.ping_interval = "soon": must be a duration like "250ms", "25s", "5m", "1h" or "7d""#,
        ],
    ),
    (
        "transport.ping_interval = 25",
        &[
            r#"transport.ping_interval = 25: must be a duration like "250ms", "25s", "5m", "1h" or "7d""#,
        ],
    ),
    (
        "transport.ping_timeout = '99ms'\ntransport.max_payload = '1GiB'",
        &[
            r#"transport.ping_timeout = "99ms": must be "100ms" to "10m""#,
            r#"transport.max_payload = "1GiB": must be "1KiB" to "100MiB""#,
        ],
    ),
    (
        "edge.max_body = 'large'",
        &[r#"edge.max_body = "large": must be a size like "512B", "64KiB" or "1MB""#],
    ),
    (
        "eventlog.partitions = 0\neventlog.in_flight_records = -1\nrooms.outbox_frames = 1.5",
        &[
            "rooms.outbox_frames = 1.5: must be a whole number",
            "eventlog.partitions = 0: must be 1 to 1024",
            "eventlog.in_flight_records = -1: must be a whole number",
        ],
    ),
    (
        "edge.listen = 'localhost'",
        &[
            r#"edge.listen = "localhost": must be an IP address with a port, like "127.0.0.1:8080" or "[::1]:8080""#,
        ],
    ),
    (
        "edge.trusted_proxies = ['10.0.0.0/8', 'proxy']\nedge.http2 = 'yes'",
        &[
            r#"edge.trusted_proxies = ["10.0.0.0/8", "proxy"]: must be a list, each item an IP address or network, like "10.0.0.7" or "10.0.0.0/8"; "proxy" is not"#,
            r#"edge.http2 = "yes": must be true or false"#,
        ],
    ),
    (
        "edge.origins = ['app.example.com']",
        &[
            r#"edge.origins = ["app.example.com"]: must be a list, each item "*" or an origin like "https://app.example.com" without a path; "app.example.com" is not"#,
        ],
    ),
    (
        "data = ''",
        &[r#"data = "": must be the path of a file or folder"#],
    ),
    (
        "node = 'a/b'",
        &[r#"node = "a/b": must be 1 to 64 letters, digits, "-", "_" and ".", or "" for none"#],
    ),
    (
        "mode = 'solo'",
        &[r#"mode = "solo": must be "embedded" or "cluster""#],
    ),
    (
        "telemetry.log_format = 'xml'\ntelemetry.log_level = 'loud, please'",
        &[
            r#"telemetry.log_format = "xml": must be "text" or "json""#,
            r#"telemetry.log_level = "loud, please": must be a level, "error", "warn", "info", "debug" or "trace", or levels by part, like "info,vestibule::auth=debug""#,
        ],
    ),
    (
        "auth.secret = 12",
        &["auth.secret = ***: must be a text, or \"\" for none"],
    ),
    // Keys that do not exist.
    (
        "drain.unreddy = '1s'",
        &["drain.unreddy: unknown key; [drain] has unready, parting, flushing"],
    ),
    (
        "edge.tls.cert = 'a.pem'",
        &[
            "edge.tls.cert: unknown key; [edge.tls] has certificate, key, reload_interval, handshake_timeout",
        ],
    ),
    (
        "eventlog.group_commit.deep.er = 1\n",
        &["eventlog.group_commit.deep: unknown key; [eventlog.group_commit] has max_batch, linger"],
    ),
    (
        "[drian]\nparting = '1s'",
        &[
            "drian: unknown key; the file has mode, node, data, edge, transport, rooms, limits, presence, recovery, auth, eventlog, timeline, catalogue, archive, caches, cluster, redis, kafka, postgres, telemetry, admission, drain",
        ],
    ),
    (
        "[[drain]]\nparting = '1s'",
        &["drain: is a table: write [drain]"],
    ),
    // Rules across keys.
    (
        "mode = 'cluster'",
        &[
            r#"cluster.secret = ***: must be set, at least 32 bytes, the same on every node (or cluster.secret_file)"#,
            r#"redis.shards = ***: must name the shards, or redis.cluster a Redis Cluster, but not both"#,
            r#"kafka.brokers = "": must name at least one broker, like "127.0.0.1:9092""#,
            r#"postgres.url = ***: must be set, like "postgres://user@127.0.0.1/vestibule""#,
        ],
    ),
    (
        "[cluster]\nsecret = 'short'\nsecret_file = 'a'",
        &[
            r#"cluster.secret_file = "a": must not be set together with cluster.secret"#,
            r#"cluster.secret = ***: must be at least 32 bytes"#,
        ],
    ),
    (
        "[cluster.emitter]\nenabled = true\nprefix = 'a b'",
        &[
            r#"cluster.emitter.prefix = "a b": must be a text without white space, like "socket.io""#,
            r#"cluster.emitter.url = ***: must be set, because cluster.emitter.enabled is and embedded mode has no shards"#,
        ],
    ),
    (
        "edge.tls.certificate = 'a.pem'",
        &[r#"edge.tls.key = "": must be set, because edge.tls.certificate is"#],
    ),
    (
        "edge.tls.key = 'a.pem'",
        &[r#"edge.tls.certificate = "": must be set, because edge.tls.key is"#],
    ),
    (
        "edge.operations = '127.0.0.1:8080'",
        &[r#"edge.operations = "127.0.0.1:8080": must differ from edge.listen"#],
    ),
    (
        "[edge]\nlisten = '127.0.0.1:0'\noperations = '127.0.0.1:0'",
        &[],
    ),
    ("edge.origins = ['*']\nauth.cookie = ''", &[]),
    (
        "edge.origins = ['*']",
        &[
            r#"edge.origins = ["*"]: must be a list of origins while auth.cookie is not "": with "*" every website could act with its visitors' cookies"#,
        ],
    ),
    (
        "transport.path = 'socket.io'\ntransport.transports = []",
        &[
            r#"transport.path = "socket.io": must begin and end with "/", with letters, digits, "-", "_", "." and "~" between"#,
            r#"transport.transports = []: must name "polling", "websocket" or both, each once"#,
        ],
    ),
    (
        "transport.transports = ['polling', 'polling']",
        &[
            r#"transport.transports = ["polling", "polling"]: must name "polling", "websocket" or both, each once"#,
        ],
    ),
    (
        "rooms.outbox_bytes = '64KiB'",
        &[
            r#"rooms.outbox_bytes = "64KiB": must not be less than transport.max_payload (1000000B)"#,
        ],
    ),
    (
        "timeline.keep_min = 2000",
        &["timeline.keep_min = 2000: must not be more than timeline.entries_max (1000)"],
    ),
    (
        "edge.listen = '0.0.0.0:8080'",
        &[
            r#"edge.listen = "0.0.0.0:8080": must be a loopback address while auth.mode is "development"; set auth.mode = "token" to let others connect"#,
        ],
    ),
    ("edge.listen = '[::ffff:127.0.0.1]:8080'", &[]),
    (
        "auth.mode = 'token'",
        &[
            r#"auth.mode = "token": needs one of auth.secret, auth.secret_file, auth.jwks_file, auth.jwks_url"#,
        ],
    ),
    (
        "auth.secret_file = 'secret'",
        &[
            r#"auth.mode = "development": must be "token", because a secret or keys are set; "development" does not use them"#,
        ],
    ),
    (
        "[auth]\nmode = 'token'\nsecret = 'short'\nsecret_file = 'secret'\njwks_file = 'a'\njwks_url = 'http://keys.example'\ncookie = 'a;b'",
        &[
            r#"auth.secret_file = "secret": must not be set together with auth.secret"#,
            r#"auth.jwks_url = "http://keys.example": must not be set together with auth.jwks_file"#,
            "auth.secret = ***: must be at least 32 bytes",
            r#"auth.cookie = "a;b": must be a cookie name: letters, digits, "-", "_" and ".""#,
        ],
    ),
    (
        "[auth]\nmode = 'token'\njwks_url = 'http://keys.example'",
        &[
            r#"auth.jwks_url = "http://keys.example": must be an https URL, or http on a loopback address"#,
        ],
    ),
    (
        "[auth]\nmode = 'token'\njwks_url = 'http://127.0.0.1:9/keys'",
        &[],
    ),
    (
        "[auth]\nmode = 'token'\nsecret_file = 'secret'\nalgorithms = ['ES256']",
        &[r#"auth.algorithms = ["ES256"]: must contain "HS256", because a secret is set"#],
    ),
    (
        "[auth]\nmode = 'token'\njwks_file = 'keys'\nalgorithms = ['HS256']",
        &[
            r#"auth.algorithms = ["HS256"]: must contain "RS256", "ES256" or "EdDSA", because keys (JWKS) are set"#,
        ],
    ),
    (
        "auth.algorithms = ['none']",
        &[
            r#"auth.algorithms = ["none"]: must be a list, each item "HS256" or "RS256" or "ES256" or "EdDSA"; "none" is not"#,
        ],
    ),
    // A rule is not judged on a value that is wrong already.
    (
        "edge.listen = '0.0.0.0:8080'\nauth.mode = 'tokn'",
        &[r#"auth.mode = "tokn": must be "development" or "token""#],
    ),
];
