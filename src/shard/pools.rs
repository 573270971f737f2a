//! The connections to the shard's Postgres, and how long anything may take on them.

use super::settings::{ShardSettings, UNHURRIED};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use std::time::Duration;

/// Connections at most for what no request waits for.
const UNHURRIED_CONNECTIONS: u32 = 4;
/// Such a connection is given back when nothing was done on it for that long.
const UNUSED: Duration = Duration::from_secs(10);
/// How long a worker that stops in the middle of a transaction may keep its locks: not so long that the projection is
/// given up that waits for them.
pub(super) const LEFT_OPEN: Duration = Duration::from_secs(4);

/// The connections: what takes long must not keep one from those who wait.
#[derive(Clone)]
pub(super) struct Pools {
    /// For what a request waits for.
    pub(super) hurried: PgPool,
    /// For what no request waits for.
    pub(super) unhurried: PgPool,
}

impl Pools {
    /// What Postgres itself ends after its time leaves no locks behind, whatever became of who asked for it. A call's
    /// statement is ended a little before the call is given up, so that its answer is still heard.
    pub(super) fn new(settings: &ShardSettings, options: &PgConnectOptions) -> Self {
        let call = Duration::from_millis(settings.call_ms);
        let hurried = limited(call * 9 / 10, call)
            .max_connections(settings.connections)
            .acquire_timeout(call);
        let unhurried = limited(UNHURRIED, LEFT_OPEN)
            .max_connections(UNHURRIED_CONNECTIONS)
            .acquire_timeout(UNHURRIED)
            .idle_timeout(UNUSED);
        let connected = |pool: PgPoolOptions| pool.connect_lazy_with(options.clone());
        Self {
            hurried: connected(hurried),
            unhurried: connected(unhurried),
        }
    }
}

fn limited(statement: Duration, left_open: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .after_connect(move |connection, _| Box::pin(limit(connection, statement, left_open)))
}

/// Has Postgres end each statement of the connection after its time, and the connection itself when nothing is done in a
/// transaction for so long.
pub(super) async fn limit(
    connection: &mut PgConnection,
    statement: Duration,
    left_open: Duration,
) -> Result<(), sqlx::Error> {
    let ms = |time: Duration| time.as_millis().max(1).to_string();
    sqlx::query!(
        "
        select set_config('statement_timeout', $1, false) as statement,
               set_config('idle_in_transaction_session_timeout', $2, false) as left_open
        ",
        ms(statement),
        ms(left_open),
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}
