//! PostgreSQL that starts twice at once, stops, comes back, and is written by many.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's own tasks end with its runtime, and nothing else runs while a server is down"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use vestibule::archive::{Archive, Page, Row};
use vestibule::backend::error::Error;
use vestibule::backend::postgres::{Database, Options};
use vestibule::backend::statement::{Statement, Value};
use vestibule::store::Store;
use vestibule::types::{
    Epoch, EventId, Kind, Position, RoomName, Seq, ShardPosition, Timestamp, UserId,
};

use crate::postgres::schema;
use crate::servers::free_ports;
use crate::servers::postgres::Postgres;

/// A server that the test may stop.
struct Own {
    server: Postgres,
    _folder: TempDir,
}

impl Own {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            server: Postgres::start(folder.path()),
            _folder: folder,
        }
    }

    /// Short times, so that what waits is seen to end.
    fn options(&self) -> Options {
        let mut options = Options::new(self.server.url());
        options.connect_timeout = Duration::from_secs(1);
        options.statement_timeout = Duration::from_secs(2);
        options
    }
}

fn seen(id: &str) -> Statement {
    let args = [Value::from(id), Value::from(1_i64)];
    Statement::new("INSERT INTO last_seen (user_id, at) VALUES ($1, $2)", args)
}

fn count() -> Statement {
    Statement::new("SELECT COUNT(*) FROM last_seen", [])
}

#[tokio::test]
async fn nodes_that_start_at_once_make_one_schema() {
    let options = schema().await;
    let opened = join_all((0..8).map(|_| Database::open(&options))).await;
    for database in &opened {
        let database = database.as_ref().unwrap();
        assert_eq!(database.read(&count()).await.unwrap()[0].integer(0), 0);
    }
    let versions = Statement::new("SELECT version FROM vestibule_schema", []);
    let first = opened[0].as_ref().unwrap();
    assert_eq!(first.read(&versions).await.unwrap().len(), 1);

    let newer = "INSERT INTO vestibule_schema (version, at) VALUES (99, 0)";
    first.write(vec![Statement::new(newer, [])]).await.unwrap();
    let refused = Database::open(&options).await.unwrap_err();
    assert!(
        matches!(refused, Error::Newer { found: 99, .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("\"vestibule\""), "{refused}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for_and_no_longer() {
    let [port] = free_ports();
    let url = format!("postgres://vestibule:topsecret@127.0.0.1:{port}/vestibule");
    let mut options = Options::new(url);
    options.open_timeout = Duration::from_millis(700);
    let began = Instant::now();
    let refused = Database::open(&options).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    let wrong = Options::new("mysql://vestibule:topsecret@127.0.0.1".to_owned());
    let wrong_port = Options::new("postgres://vestibule:topsecret@127.0.0.1:x/".to_owned());
    for (options, error) in [
        (&options, refused),
        (&wrong, Database::open(&wrong).await.unwrap_err()),
        (&wrong_port, Database::open(&wrong_port).await.unwrap_err()),
    ] {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let shown = format!("{error} {error:?} {source:?} {options:?}");
        assert!(!shown.contains("topsecret"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_a_crash_and_calls_heal() {
    let mut own = Own::start();
    let database = Database::open(&own.options()).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..6)
        .map(|number| {
            tokio::spawn(write(
                number,
                database.clone(),
                Arc::clone(&is_over),
                Arc::clone(&written),
            ))
        })
        .collect();
    for crash in [true, false, true] {
        wait_for_more(&written, 40).await;
        tokio::task::block_in_place(|| {
            if crash {
                own.server.kill();
            } else {
                own.server.end();
            }
            std::thread::sleep(Duration::from_millis(300));
            own.server.restart();
        });
    }
    wait_for_more(&written, 40).await;
    is_over.store(true, Ordering::Relaxed);
    let results: Vec<_> = join_all(writers).await;
    let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert!(results.iter().any(|(_, failures)| *failures > 0));
    let all = Statement::new("SELECT user_id FROM last_seen", []);
    let rows = database.read(&all).await.unwrap();
    let found: std::collections::HashSet<&str> = rows.iter().map(|row| row.text(0)).collect();
    for id in results.iter().flat_map(|(acknowledged, _)| acknowledged) {
        assert!(found.contains(id.as_str()), "{id} was acknowledged");
    }
    let halves = found.iter().filter(|id| id.ends_with("-b"));
    for half in halves {
        let other = half.trim_end_matches("-b");
        assert!(found.contains(other), "{half} without {other}");
    }
    database.close().await;
}

/// Writes until it is over; what was acknowledged, and how often nothing was.
async fn write(
    writer: u64,
    database: Database,
    is_over: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> (Vec<String>, u32) {
    let (mut acknowledged, mut failures, mut n) = (Vec::new(), 0, 0);
    while !is_over.load(Ordering::Relaxed) {
        // Alone, and in a batch of two, which are there both or not at all.
        let id = format!("{writer}-{n}");
        let mut batch = vec![seen(&id)];
        if n % 2 == 1 {
            batch.push(seen(&format!("{id}-b")));
        }
        match database.write(batch).await {
            Ok(_) => {
                acknowledged.push(id);
                written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert!(error.retry(), "{error:?}");
                assert_eq!(error.kind(), Kind::Unavailable);
                failures += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        n += 1;
    }
    (acknowledged, failures)
}

async fn wait_for_more(written: &AtomicU64, more: u64) {
    let until = written.load(Ordering::Relaxed) + more;
    let end = Instant::now() + Duration::from_secs(60);
    while written.load(Ordering::Relaxed) < until {
        assert!(Instant::now() < end, "calls do not heal");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_told_in_time() {
    let mut own = Own::start();
    let options = own.options();
    let database = Database::open(&options).await.unwrap();
    let (store, archive) = (Store::postgres(&database), Archive::postgres(&database));
    let bound = options.connect_timeout + options.statement_timeout + Duration::from_secs(3);
    let ann = UserId::parse("ann").unwrap();
    let ask = || async {
        let began = Instant::now();
        let asked = store.user(&ann).await.unwrap_err();
        assert!(
            asked.retry() && asked.kind() == Kind::Unavailable,
            "{asked:?}"
        );
        let paged = archive
            .page(&RoomName::parse("r").unwrap(), Page::Before(None), 1)
            .await
            .unwrap_err();
        assert!(
            paged.retry() && paged.kind() == Kind::Unavailable,
            "{paged:?}"
        );
        assert!(began.elapsed() < 2 * bound, "{:?}", began.elapsed());
    };
    assert!(store.user(&ann).await.unwrap().is_none());
    // Statements that are under way, and more callers than connections.
    let sleepers = join_all((0..30).map(|_| database.read(const { &SLEEP })));
    let began = Instant::now();
    let slept = sleepers.await;
    assert!(
        slept
            .iter()
            .all(|slept| slept.as_ref().is_err_and(Error::retry))
    );
    assert!(began.elapsed() < bound * 2, "{:?}", began.elapsed());
    assert!(store.user(&ann).await.unwrap().is_none());

    tokio::task::block_in_place(|| own.server.kill());
    ask().await;
    tokio::task::block_in_place(|| own.server.restart());
    assert!(store.user(&ann).await.unwrap().is_none());
    // Callers that go away leave nothing behind that others could trip over.
    for _ in 0..20 {
        let gone = tokio::time::timeout(Duration::from_millis(5), database.read(const { &SLEEP }));
        assert!(gone.await.is_err());
    }
    assert!(store.user(&ann).await.unwrap().is_none());
    database.close().await;
    let closed = database.read(&count()).await.unwrap_err();
    assert!(matches!(closed, Error::Closed), "{closed:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_told_in_time() {
    let server = schema().await;
    drop(Database::open(&server).await.unwrap());
    let (gate, port) = gate(crate::postgres::port()).await;
    let mut options = crate::postgres::through(&server, port);
    options.connect_timeout = Duration::from_secs(1);
    options.statement_timeout = Duration::from_secs(1);
    let bound = options.connect_timeout + options.statement_timeout + Duration::from_secs(3);
    let database = Database::open(&options).await.unwrap();
    database.write(vec![seen("before")]).await.unwrap();
    gate.send_replace(false);
    for round in 0..3 {
        let began = Instant::now();
        let (read, written) = (count(), vec![seen("lost"), seen("lost too")]);
        let (read, written) = tokio::join!(database.read(&read), database.write(written));
        for error in [read.unwrap_err(), written.unwrap_err()] {
            assert!(matches!(error, Error::Unavailable(_)), "{round}: {error:?}");
        }
        assert!(began.elapsed() < bound, "{:?}", began.elapsed());
    }
    gate.send_replace(true);
    assert_eq!(database.read(&count()).await.unwrap()[0].integer(0), 1);
    database.close().await;
}

/// A way to a port, which lets nothing through while it is shut.
async fn gate(to: u16) -> (watch::Sender<bool>, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, is_open) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(pass(from_client, to_server, is_open.clone()));
            tokio::spawn(pass(from_server, to_client, is_open.clone()));
        }
    });
    (sender, port)
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_open: watch::Receiver<bool>) {
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if is_open.wait_for(|is_open| *is_open).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}

const SLEEP: Statement = Statement {
    sql: "SELECT 1 FROM pg_sleep(10)",
    args: Vec::new(),
    is_must: false,
};

fn row(room: u64, seq: u64, epoch: u64) -> Row {
    Row {
        room: RoomName::parse(&format!("r{room}")).unwrap(),
        position: Position {
            epoch: Epoch(epoch),
            seq: Seq(seq),
        },
        shard: ShardPosition::default(),
        id: EventId::parse(&format!("id-{seq}")).unwrap(),
        kind: "MESSAGE_SENT".to_owned(),
        user_id: UserId::parse("ann").unwrap(),
        at: Timestamp::from_millis(1),
        payload: "{\"nul\":\"\0\"}".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archivers_that_overlap_agree() {
    let options = schema().await;
    let nodes = join_all((0..3).map(|_| Database::open(&options))).await;
    let (rooms, seqs) = (5, 60);
    let work = nodes.iter().enumerate().map(|(node, database)| {
        let archive = Archive::postgres(database.as_ref().unwrap());
        async move {
            // Each writes everything, in an order of its own; the second half again in a later epoch.
            let mut rows: Vec<Row> = (0..rooms)
                .flat_map(|room| (1..=seqs).map(move |seq| row(room, seq, 1)))
                .collect();
            rows.extend(
                (0..rooms).flat_map(|room| (seqs / 2 + 1..=seqs).map(move |seq| row(room, seq, 2))),
            );
            match node {
                0 => {}
                1 => rows.reverse(),
                _ => rows.sort_by_key(|row| row.position.seq.0 * 7_919 % 61),
            }
            for batch in rows.chunks(23 + node) {
                let statements = batch.iter().map(|row| {
                    let args = [Value::from(&row.id), Value::from(row.position.seq.0)];
                    Statement::new(
                        "INSERT INTO last_seen (user_id, at) VALUES ($1, $2)
                        ON CONFLICT (user_id) DO UPDATE SET at = excluded.at",
                        args,
                    )
                });
                let statements = statements.collect();
                archive.upsert(batch.to_vec(), statements).await.unwrap();
            }
        }
    });
    let began = Instant::now();
    join_all(work).await;
    // A circle of waits would have been found by the server after a second.
    assert!(began.elapsed() < Duration::from_secs(30));
    let archive = Archive::postgres(nodes[0].as_ref().unwrap());
    for room in 0..rooms {
        let name = RoomName::parse(&format!("r{room}")).unwrap();
        let found = archive
            .page(&name, Page::Before(None), 1_000)
            .await
            .unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|row| (row.position.epoch.0, row.position.seq.0))
            .collect();
        let expected: Vec<_> = (1..=seqs)
            .map(|seq| (if seq > seqs / 2 { 2 } else { 1 }, seq))
            .collect();
        assert_eq!(found, expected);
    }
}
