//! The one SQLite file of embedded mode.
//!
//! It is in WAL mode with `synchronous=FULL`: a commit that has returned is on the disk. One
//! connection writes (see [`writer`](super::writer)), a few read. The data folder is locked, so that
//! a second process is told so instead of writing beside this one. The schema's version is the
//! file's `user_version`; a file newer than the program is refused, an older one is brought forward.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _, TypeInfo as _,
    ValueRef as _,
};

use super::batches::{BatchLane, Queue};
pub use super::error::Error;
use super::folder;
use super::statement::{Row, Statement, Value};
use super::writer::{Bell, Lane, Writer};
use crate::types::ByteSize;

/// A connection to the file.
pub type Connection = sqlx::SqliteConnection;

/// A few connections that read.
pub type Readers = sqlx::SqlitePool;

/// How the file is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder; made if it is missing.
    pub folder: PathBuf,
    /// How long a statement waits for another process that holds the file (a backup, say).
    pub busy_timeout: Duration,
    /// How long the first write of a transaction waits for more. What comes while a commit is under
    /// way is gathered anyhow, so that zero serves load too.
    pub linger: Duration,
    /// The size at which the file counts as full; `None` leaves it to the disk.
    pub bytes_max: Option<ByteSize>,
}

impl Options {
    /// The usual options for a data folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            busy_timeout: Duration::from_secs(5),
            linger: Duration::ZERO,
            bytes_max: None,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }
}

/// The open file. Clones share it; when the last is gone, what was accepted is still written.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    writer: Writer,
    readers: Readers,
    batches: Arc<Queue>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Locks the folder, opens the file, brings its schema forward and starts the writer's thread.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let lock = folder::lock(&options.folder)?;
        let mut connection = connect(&options).await?;
        migrate(&mut connection, &options.file()).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(CONNECTION_WITHIN)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(
                common(&options)
                    .create_if_missing(false)
                    .pragma("query_only", "ON"),
            );
        let writer =
            Writer::start(connection, lock, options.linger).map_err(|source| Error::Folder {
                folder: options.folder.clone(),
                source,
            })?;
        let batches = Arc::new(Queue::new(writer.bell()));
        writer.attach(Box::new(BatchLane::new(Arc::clone(&batches))));
        Ok(Self(Arc::new(Inner {
            writer,
            readers,
            batches,
        })))
    }

    /// Runs a batch as one transaction and answers the rows of each statement; returns when it is
    /// durable. Waits while too many others do. When cancelled, it may or may not be done.
    ///
    /// # Errors
    /// [`Error::Unmet`] and [`Error::Unique`] say that nothing of this batch was done, and why.
    pub async fn write(&self, batch: Vec<Statement>) -> Result<Vec<Vec<Row>>, Arc<Error>> {
        self.0.batches.write(batch).await
    }

    /// Runs a statement that only reads. It sees every batch that was answered before.
    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>, Error> {
        let rows = query(&statement).fetch_all(&self.0.readers).await?;
        Ok(rows.iter().map(values).collect::<Result<_, _>>()?)
    }

    /// Adds a lane to the writer's transactions.
    pub fn attach(&self, lane: Box<dyn Lane>) {
        self.0.writer.attach(lane);
    }

    /// Wakes the writer; a lane rings it after it has accepted work.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.0.writer.bell()
    }

    /// The connections that read.
    #[must_use]
    pub fn readers(&self) -> &Readers {
        &self.0.readers
    }

    /// Writes what was accepted, closes the file and gives the folder back. Cancel-safe: the
    /// closing goes on without the caller.
    pub async fn close(&self) {
        self.0.writer.stop();
        self.0.readers.close().await;
        self.0.writer.stopped().await;
    }
}

fn common(options: &Options) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(options.file())
        .busy_timeout(options.busy_timeout)
        .disable_statement_logging()
        .statement_cache_capacity(STATEMENTS)
        // Enough for two batches of rows to arrive while one is read.
        .row_buffer_size(256)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-16384")
}

async fn connect(options: &Options) -> Result<Connection, Error> {
    let mut writing = common(options)
        .create_if_missing(true)
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .thread_name(|_| "sqlite-write".to_owned())
        // 16 MiB of log between two checkpoints: each costs two more flushes.
        .pragma("wal_autocheckpoint", "4096")
        .pragma("journal_size_limit", "67108864");
    if let Some(limit) = options.bytes_max {
        let pages = limit.bytes() / PAGE_BYTES;
        writing = writing.pragma("max_page_count", Cow::Owned(pages.to_string()));
    }
    Ok(writing.connect().await?)
}

async fn migrate(connection: &mut Connection, file: &Path) -> Result<(), Error> {
    let known = i64::try_from(SCHEMA.len()).expect("a handful of versions");
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await?;
    if found > known {
        return Err(Error::Newer {
            place: file.display().to_string(),
            found,
            known,
        });
    }
    for (version, statements) in (1..).zip(SCHEMA).skip(usize::try_from(found).unwrap_or(0)) {
        let mut step = connection.begin().await?;
        step.execute(sqlx::raw_sql(*statements)).await?;
        let mark = format!("PRAGMA user_version = {version}");
        step.execute(sqlx::raw_sql(AssertSqlSafe(mark))).await?;
        step.commit().await?;
    }
    Ok(())
}

/// Begins a transaction that will write.
pub(super) async fn begin(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(connection).await?;
    Ok(())
}

/// Makes a transaction durable.
pub(super) async fn commit(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(())
}

/// Forgets a transaction. After most errors SQLite has already done so, and refuses.
pub(super) async fn roll_back(connection: &mut Connection) {
    let already_rolled_back = sqlx::query("ROLLBACK").execute(connection).await.is_err();
    tracing::trace!(already_rolled_back, "transaction rolled back");
}

/// Begins a batch within a transaction.
pub(super) async fn savepoint(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query("SAVEPOINT batch").execute(connection).await?;
    Ok(())
}

/// Ends a batch; what it did, if anything is left of it, is the transaction's.
pub(super) async fn release(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query("RELEASE batch").execute(connection).await?;
    Ok(())
}

/// Takes back what a batch did.
pub(super) async fn undo(connection: &mut Connection) -> Result<(), Error> {
    sqlx::query("ROLLBACK TO batch").execute(connection).await?;
    Ok(())
}

/// Runs one statement on the writing connection, for lanes that have statements among their work.
pub async fn run(connection: &mut Connection, statement: &Statement) -> Result<Vec<Row>, Error> {
    let rows = query(statement).fetch_all(connection).await?;
    Ok(rows.iter().map(values).collect::<Result<_, _>>()?)
}

fn query(statement: &Statement) -> sqlx::query::Query<'_, sqlx::Sqlite, SqliteArguments> {
    let query = sqlx::query(AssertSqlSafe(statement.sql));
    statement
        .args
        .iter()
        .fold(query, |query, value| match value {
            Value::Null => query.bind(None::<i64>),
            Value::Integer(number) => query.bind(*number),
            Value::Text(text) => query.bind(text.clone()),
        })
}

fn values(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    let value = |index| {
        let raw = row.try_get_raw(index)?;
        // The type of a NULL is told as that of its column.
        if raw.is_null() {
            return Ok(Value::Null);
        }
        Ok(match raw.type_info().name() {
            "INTEGER" => Value::Integer(row.try_get_unchecked(index)?),
            _ => Value::Text(row.try_get_unchecked(index)?),
        })
    };
    (0..row.len()).map(value).collect::<Result<_, _>>().map(Row)
}

/// Closes the writing connection.
pub(super) async fn close(connection: Connection) {
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the database did not close cleanly; nothing is lost");
    }
}

const FILE: &str = "vestibule.db";

/// History pages, replay at start and lag: more connections would only compete for two cores.
const READERS: u32 = 3;

/// More than the program has texts, so that each is compiled once for each connection.
const STATEMENTS: usize = 256;

/// How long a reading may wait for one of them.
const CONNECTION_WITHIN: Duration = Duration::from_secs(5);

/// SQLite's default.
const PAGE_BYTES: usize = 4096;

/// Every version of the schema, each as the step from the one before.
const SCHEMA: &[&str] = &[
    include_str!("schema/0001.sql"),
    include_str!("schema/0002.sql"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_open_of_the_folder_is_refused_by_name_until_the_first_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let first = Database::open(Options::new(folder.path())).await.unwrap();
        let refused = Database::open(Options::new(folder.path()))
            .await
            .unwrap_err();
        assert!(matches!(refused, Error::Locked(_)));
        assert!(
            refused
                .to_string()
                .contains(folder.path().to_str().unwrap()),
            "{refused}"
        );
        first.close().await;
        Database::open(Options::new(folder.path()))
            .await
            .unwrap()
            .close()
            .await;
    }

    #[tokio::test]
    async fn a_file_of_a_newer_program_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        Database::open(Options::new(folder.path()))
            .await
            .unwrap()
            .close()
            .await;
        let options = Options::new(folder.path());
        let mut connection = connect(&options).await.unwrap();
        sqlx::query("PRAGMA user_version = 99")
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        let refused = Database::open(options).await.unwrap_err().to_string();
        assert!(
            refused.contains("99") && refused.contains("newer"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_an_error_not_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), vec![b'x'; 8192]).unwrap();
        let refused = Database::open(Options::new(folder.path()))
            .await
            .unwrap_err();
        assert!(matches!(refused, Error::Damaged(_)), "{refused:?}");
    }
}
