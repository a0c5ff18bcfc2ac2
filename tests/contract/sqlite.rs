//! The SQLite file as a test holds it: opened, reopened, copied as a crash leaves it, held by
//! somebody else.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use vestibule::backend::sql::{Database, Error, Options};

/// A data folder and its open database.
pub(crate) struct Folder {
    pub(crate) folder: TempDir,
    pub(crate) options: Options,
    pub(crate) database: Database,
}

impl Folder {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::open(tempfile::tempdir().unwrap(), change).await
    }

    pub(crate) async fn open(folder: TempDir, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(folder.path());
        options.busy_timeout = Duration::from_millis(50);
        change(&mut options);
        let database = Database::open(options.clone()).await.unwrap();
        Self {
            folder,
            options,
            database,
        }
    }

    pub(crate) async fn reopen(&mut self) {
        self.database.close().await;
        // A server that another test starts at this moment holds a copy of the lock until it is itself.
        for _ in 0..100 {
            match Database::open(self.options.clone()).await {
                Ok(database) => return self.database = database,
                Err(Error::Locked(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the folder stays locked");
    }

    /// What a kill would leave behind, opened: what was written so far and nothing more.
    pub(crate) async fn crashed(&self) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for file in ["vestibule.db", "vestibule.db-wal"] {
            std::fs::copy(self.folder.path().join(file), copy.path().join(file)).unwrap();
        }
        Self::open(copy, |_| {}).await
    }

    /// Keeps everybody else from writing until it is dropped.
    pub(crate) async fn hold(&self) -> SqliteConnection {
        hold(self.folder.path()).await
    }
}

async fn hold(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("vestibule.db"))
        .busy_timeout(Duration::from_secs(10));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

/// Ends a hold.
pub(crate) async fn let_go(mut connection: SqliteConnection) {
    sqlx::query("ROLLBACK")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}
