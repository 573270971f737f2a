//! Finds a pooler in front of Postgres that gives one session the backend of another.
//!
//! The worker needs sessions of its own: the lock of the projection, `LISTEN` and the time limits of
//! statements belong to a session.

use super::error::ShardError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Row as _, raw_sql};

/// What Postgres and poolers answer to a parameter of the connection that they do not know.
const PROTOCOL_VIOLATION: &str = "08P01";

/// Opens a session, and fails if it is no session of its own.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, ShardError> {
    let open = || async {
        let connected = PgConnection::connect_with(options).await;
        connected.map_err(|error| match error.as_database_error() {
            Some(refused) if refused.code().as_deref() == Some(PROTOCOL_VIOLATION) => {
                pooled("it refuses the parameters of a connection")
            }
            _ => error.into(),
        })
    };
    let (mut first, mut second) = tokio::try_join!(open(), open())?;

    // While the second session is in a transaction, a pooler cannot give its backend to the first.
    let before = backend(&mut first).await?;
    raw_sql("begin").execute(&mut second).await?;
    let other = backend(&mut second).await?;
    if before == other {
        return Err(pooled("two connections are one session"));
    }
    let after = backend(&mut first).await?;
    if before != after {
        return Err(pooled("one connection is not always the same session"));
    }

    second.close().await?;
    Ok(first)
}

/// Returns the number of the session's process. Prepares no statement, because a pooler may lose it.
async fn backend(connection: &mut PgConnection) -> Result<i32, ShardError> {
    let row = raw_sql("select pg_backend_pid()")
        .fetch_one(connection)
        .await?;

    Ok(row.try_get(0)?)
}

fn pooled(sign: &str) -> ShardError {
    ShardError::Unfit(format!(
        "postgres.url leads to a pooler that shares sessions ({sign}): name Postgres itself, or a \
         pooler in session mode (pool_mode = session)"
    ))
}
