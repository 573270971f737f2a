//! The connections to the shard's Postgres, and the time limits on them.

use super::settings::{BACKGROUND_TIMEOUT, ShardSettings};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use std::time::Duration;

/// The most connections for work that no request waits for.
const BACKGROUND_CONNECTIONS_MAX: u32 = 4;
/// Such a connection is closed after this long without use.
const BACKGROUND_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a worker that stops in the middle of a transaction may keep its locks. It is shorter
/// than the time after which a projection that waits for them gives up.
pub(super) const OPEN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(4);

/// The two pools of connections, so that slow work never takes a connection that a request needs.
#[derive(Clone)]
pub(super) struct Pools {
    /// For work that a request waits for.
    pub(super) request: PgPool,
    /// For work that no request waits for.
    pub(super) background: PgPool,
}

impl Pools {
    /// Opens both pools. Their connections are made when they are first used.
    ///
    /// Postgres itself ends a statement whose time is up. So no locks stay behind, even if the
    /// worker that sent the statement is gone. A request's statement ends a little before the
    /// worker gives the call up, so that the worker still gets the answer.
    pub(super) fn new(settings: &ShardSettings, options: &PgConnectOptions) -> Self {
        let call = Duration::from_millis(settings.call_ms);
        let request = pool_options(call * 9 / 10, call)
            .max_connections(settings.connections)
            .acquire_timeout(call);
        let background = pool_options(BACKGROUND_TIMEOUT, OPEN_TRANSACTION_TIMEOUT)
            .max_connections(BACKGROUND_CONNECTIONS_MAX)
            .acquire_timeout(BACKGROUND_TIMEOUT)
            .idle_timeout(BACKGROUND_IDLE_TIMEOUT);

        Self {
            request: request.connect_lazy_with(options.clone()),
            background: background.connect_lazy_with(options.clone()),
        }
    }
}

fn pool_options(statement: Duration, open_transaction: Duration) -> PgPoolOptions {
    PgPoolOptions::new().after_connect(move |connection, _| {
        Box::pin(set_timeouts(connection, statement, open_transaction))
    })
}

/// Lets Postgres end each statement of the connection after `statement`, and the connection itself
/// after a transaction has been idle for `open_transaction`.
pub(super) async fn set_timeouts(
    connection: &mut PgConnection,
    statement: Duration,
    open_transaction: Duration,
) -> Result<(), sqlx::Error> {
    let ms = |time: Duration| time.as_millis().max(1).to_string();

    sqlx::query!(
        "
        select set_config('statement_timeout', $1, false) as statement,
               set_config('idle_in_transaction_session_timeout', $2, false) as left_open
        ",
        ms(statement),
        ms(open_transaction),
    )
    .fetch_one(connection)
    .await?;

    Ok(())
}
