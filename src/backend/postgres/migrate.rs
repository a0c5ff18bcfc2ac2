//! Brings the schema forward. Several nodes may start at once: one does it, the others wait for it.

use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use super::fault;
use crate::backend::error::Error;

/// Connects once and brings the schema to the version of this program.
pub(super) async fn migrate(server: &PgConnectOptions) -> Result<(), Error> {
    let mut connection = server.connect().await.map_err(fault::of)?;
    let found = version(&mut connection).await?;
    // Where there is nothing to do, a login that may change no schema is enough.
    if found != KNOWN {
        refuse_newer(server, found)?;
        step(&mut connection, server).await?;
    }
    connection.close().await.ok();
    Ok(())
}

/// All steps are one transaction: a node that ends half way leaves nothing behind.
async fn step(connection: &mut PgConnection, server: &PgConnectOptions) -> Result<(), Error> {
    let mut step = connection.begin().await.map_err(fault::of)?;
    step.execute(sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK))
        .await
        .map_err(fault::of)?;
    step.execute(sqlx::raw_sql(VERSIONS))
        .await
        .map_err(fault::of)?;
    let found = version(&mut step).await?;
    refuse_newer(server, found)?;
    let done = usize::try_from(found).unwrap_or(0);
    for (version, statements) in (1_i64..).zip(SCHEMA).skip(done) {
        step.execute(sqlx::raw_sql(AssertSqlSafe(*statements)))
            .await
            .map_err(fault::of)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        let mark = sqlx::query("INSERT INTO vestibule_schema (version, at) VALUES ($1, $2)")
            .bind(version)
            .bind(now);
        step.execute(mark).await.map_err(fault::of)?;
        tracing::info!(version, "PostgreSQL's schema was brought forward");
    }
    step.commit().await.map_err(fault::of)
}

async fn version(connection: &mut PgConnection) -> Result<i64, Error> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('vestibule_schema') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(fault::of)?;
    if !is_there {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM vestibule_schema")
        .fetch_one(connection)
        .await
        .map_err(fault::of)
}

fn refuse_newer(server: &PgConnectOptions, found: i64) -> Result<(), Error> {
    if found <= KNOWN {
        return Ok(());
    }
    let database = server.get_database();
    let database = database.unwrap_or_else(|| server.get_username());
    Err(Error::Newer {
        place: format!("PostgreSQL database {database:?}"),
        found,
        known: KNOWN,
    })
}

const VERSIONS: &str = "
    CREATE TABLE IF NOT EXISTS vestibule_schema (version BIGINT PRIMARY KEY, at BIGINT NOT NULL)";

/// "vestibul" in ASCII: a key that nobody else of the database uses.
const LOCK: i64 = i64::from_be_bytes(*b"vestibul");

/// Every version of the schema, each as the step from the one before.
const SCHEMA: &[&str] = &[include_str!("../schema/postgres/0001.sql")];

const KNOWN: i64 = SCHEMA.len() as i64;
