//! Why Postgres refuses a worker although it answers, and the probes that find out.

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// Why Postgres refuses a worker, although it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The user or the password is wrong, or the user may not connect.
    Login,
    /// There is no database of that name.
    NoDatabase,
    /// Its sessions may only read.
    ReadOnly,
}

/// Why the last probe was refused; `None` if it was not, or was not answered.
#[derive(Clone, Default)]
pub(super) struct LastRefusal(Arc<Mutex<Option<Refusal>>>);

impl LastRefusal {
    pub(super) fn get(&self) -> Option<Refusal> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, refusal: Option<Refusal>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }
}

impl Refusal {
    /// Reads the reason from an error of Postgres.
    pub(super) fn of(error: &sqlx::Error) -> Option<Self> {
        let code = error.as_database_error()?.code()?;
        match &*code {
            "25006" => Some(Self::ReadOnly),
            "3D000" => Some(Self::NoDatabase),
            code if code.starts_with("28") => Some(Self::Login),
            _ => None,
        }
    }
}

/// Returns whether the session may only read, as on a server that a failover has demoted.
pub(super) async fn reads_only(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select current_setting('transaction_read_only')::boolean as "reads_only!""#
    )
    .fetch_one(connection)
    .await
}

/// Returns whether Postgres accepts a new session and answers in it.
pub(super) async fn answers(
    options: PgConnectOptions,
    limit: Duration,
    last_refusal: LastRefusal,
) -> bool {
    let ping = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        connection.ping().await?;
        connection.close().await
    };

    let answer = timeout(limit, ping).await;
    let refused = match &answer {
        Ok(Err(error)) => Refusal::of(error),
        _ => None,
    };
    last_refusal.set(refused);

    matches!(answer, Ok(Ok(())))
}

/// Returns whether a new session may write. If not, the sessions of the pools are `read_only`: they
/// stay read-only when new ones may write again.
///
/// Returns true if there is no answer, because that is for the breaker of Postgres itself.
pub(super) async fn takes_writes(
    options: PgConnectOptions,
    limit: Duration,
    read_only: Arc<AtomicBool>,
) -> bool {
    let probe = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        let reads_only = reads_only(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(reads_only)
    };

    let reads_only = matches!(timeout(limit, probe).await, Ok(Ok(true)));
    if reads_only {
        read_only.store(true, Ordering::Release);
    }
    !reads_only
}
