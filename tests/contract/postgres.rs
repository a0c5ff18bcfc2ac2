//! PostgreSQL as tests hold it: one server for all of them, a schema for each; or one of its own for
//! a test that stops it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use vestibule::backend::postgres::{Database, Options};

use crate::servers::postgres::Postgres;

/// An empty schema of the shared server.
pub(crate) async fn schema() -> Options {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", LAST.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(shared()).await.unwrap();
    // Nobody crashes the machine under it.
    for command in [
        "ALTER SYSTEM SET fsync = off",
        "SELECT pg_reload_conf()",
        &format!("CREATE SCHEMA {name}"),
    ] {
        let command = sqlx::raw_sql(AssertSqlSafe(command));
        connection.execute(command).await.unwrap();
    }
    connection.close().await.unwrap();
    patient(&format!("{}?options[search_path]={name}", shared()))
}

/// The same with the tables in it.
pub(crate) async fn database() -> Database {
    Database::open(&schema().await).await.unwrap()
}

/// The port of the shared server.
pub(crate) fn port() -> u16 {
    let (_, rest) = shared().rsplit_once(':').unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// The same place, reached through another port.
pub(crate) fn through(options: &Options, port: u16) -> Options {
    let url = options.url.reveal();
    let url = url.replacen(&format!(":{}/", self::port()), &format!(":{port}/"), 1);
    patient(&url)
}

/// Times for a machine that builds something beside the test.
pub(crate) fn patient(url: &str) -> Options {
    let mut options = Options::new(url.to_owned());
    options.connect_timeout = Duration::from_secs(60);
    options.statement_timeout = Duration::from_secs(60);
    options
}

/// Where the shared server is. It ends with this process, whose exit runs nothing: what it leaves
/// behind is removed by the next start.
fn shared() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        let (tell, told) = mpsc::channel();
        // A server lives no longer than the thread that started it.
        std::thread::spawn(move || {
            let server = Postgres::start(&folder());
            tell.send(server.url()).unwrap();
            loop {
                std::thread::park();
            }
        });
        told.recv().unwrap()
    })
}

fn folder() -> PathBuf {
    let parent = std::env::temp_dir().join("vestibule-contract");
    std::fs::create_dir_all(&parent).unwrap();
    for left in std::fs::read_dir(&parent).unwrap().flatten() {
        if !Path::new("/proc").join(left.file_name()).exists() {
            // Another process may do the same.
            std::fs::remove_dir_all(left.path()).ok();
        }
    }
    let folder = parent.join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
