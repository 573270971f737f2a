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
        let of_requests = Session {
            statement: call * 9 / 10,
            open_transaction: call,
            plans: Plans::Once,
        };
        let request = of_requests
            .pool_options()
            .max_connections(settings.connections)
            .acquire_timeout(call);
        let of_background = Session {
            statement: BACKGROUND_TIMEOUT,
            open_transaction: OPEN_TRANSACTION_TIMEOUT,
            plans: Plans::EachTime,
        };
        let background = of_background
            .pool_options()
            .max_connections(BACKGROUND_CONNECTIONS_MAX)
            .acquire_timeout(BACKGROUND_TIMEOUT)
            .idle_timeout(BACKGROUND_IDLE_TIMEOUT);

        Self {
            request: request.connect_lazy_with(options.clone()),
            background: background.connect_lazy_with(options.clone()),
        }
    }
}

/// How Postgres treats a connection.
#[derive(Clone, Copy)]
pub(super) struct Session {
    /// When it ends a statement.
    pub statement: Duration,
    /// When it ends the connection, after its transaction has been idle.
    pub open_transaction: Duration,
    pub plans: Plans,
}

/// When Postgres plans a statement.
#[derive(Clone, Copy)]
pub(super) enum Plans {
    /// Once for a connection, until the statistics of a table change, and with indexes where there are
    /// any. For short statements that come often: to plan one that takes an array takes longer than to
    /// do it, and by itself Postgres plans it for each array again. The one plan has to serve tables of
    /// any size, and it may be made while they are empty.
    Once,
    /// As Postgres sees fit. For statements whose best plan depends on how much they are asked for.
    EachTime,
}

impl Session {
    fn pool_options(self) -> PgPoolOptions {
        PgPoolOptions::new().after_connect(move |connection, _| Box::pin(self.begin(connection)))
    }

    /// Tells Postgres.
    pub async fn begin(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let ms = |time: Duration| time.as_millis().max(1).to_string();
        let (plans, other_ways) = match self.plans {
            Plans::Once => ("force_generic_plan", "off"),
            Plans::EachTime => ("auto", "on"),
        };

        sqlx::query!(
            "
            select set_config('statement_timeout', $1, false) as statement,
                   set_config('idle_in_transaction_session_timeout', $2, false) as left_open,
                   set_config('plan_cache_mode', $3, false) as plans,
                   set_config('enable_seqscan', $4, false) as whole_tables,
                   set_config('enable_hashjoin', $4, false) as hashed,
                   set_config('enable_mergejoin', $4, false) as merged
            ",
            ms(self.statement),
            ms(self.open_transaction),
            plans,
            other_ways,
        )
        .fetch_one(connection)
        .await?;

        Ok(())
    }
}
