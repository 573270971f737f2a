//! Why a call to the shard's Postgres failed.

use super::error_text::{describe, describe_migration};
use super::refusal::Refusal;
use crate::requester::Transient;
use sqlx::migrate::MigrateError;
use std::sync::Arc;

/// Why a call to the shard's Postgres failed.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// Postgres, or the connection to it, failed.
    #[error("Postgres: {}", describe(.0))]
    Postgres(sqlx::Error),
    /// Its schema cannot be migrated to the one that this version needs.
    #[error("the schema: {}", describe_migration(.0))]
    Schema(MigrateError),
    /// A start or a command cannot use this Postgres.
    #[error("Postgres at {place}: {}", error.reason())]
    At {
        /// The database as `host:port/name`.
        place: String,
        /// Why not.
        error: Box<Self>,
    },
    /// The database belongs to another shard.
    #[error(
        "the database {place} belongs to shard {found}, and shard.id names shard {shard}: name the \
         database of shard {shard} in postgres.url, or correct shard.id"
    )]
    OtherShard {
        /// The database as `host:port/name`.
        place: String,
        /// The shard that the database belongs to.
        found: String,
        /// The shard that the settings name.
        shard: String,
    },
    /// A call that was made for several callers has failed.
    #[error(transparent)]
    Together(Arc<Self>),
    /// It is known not to answer, so the call was not made.
    #[error("Postgres is known to be unavailable")]
    KnownUnavailable,
    /// It did not answer in time.
    #[error("Postgres did not answer in time")]
    TimedOut,
    /// It answers, and its sessions may only read.
    #[error("Postgres is read-only: it takes no rows")]
    ReadOnly,
    /// A row does not hold a record that the truth can have written.
    #[error("a stored record cannot be read")]
    Unreadable,
    /// Its settings or its schema are not what this worker needs; the text says what to do.
    #[error("{0}")]
    Unfit(String),
}

impl Transient for ShardError {
    /// Returns whether Postgres cannot be reached or does not answer.
    fn is_unavailable(&self) -> bool {
        match self {
            Self::TimedOut | Self::KnownUnavailable => true,
            Self::Postgres(error)
            | Self::Schema(
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _),
            ) => is_unavailable(error),
            Self::At { error, .. } => error.is_unavailable(),
            Self::Together(error) => error.is_unavailable(),
            Self::Schema(_)
            | Self::ReadOnly
            | Self::Unreadable
            | Self::Unfit(_)
            | Self::OtherShard { .. } => false,
        }
    }
}

fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            // Class 08: connection exception; 53: insufficient resources; 57: operator
            // intervention. 25P03: a transaction that was left open too long.
            error.code().is_some_and(|code| {
                ["08", "53", "57", "25P03"]
                    .iter()
                    .any(|class| code.starts_with(class))
            })
        }
        sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            false
        }
        _ => true,
    }
}

impl From<sqlx::Error> for ShardError {
    fn from(error: sqlx::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<MigrateError> for ShardError {
    fn from(error: MigrateError) -> Self {
        Self::Schema(error)
    }
}

impl ShardError {
    /// Returns what is wrong, without the word Postgres before it.
    fn reason(&self) -> String {
        match self {
            Self::Postgres(error) => describe(error),
            Self::TimedOut => "no answer in time".to_owned(),
            other => other.to_string(),
        }
    }

    /// Returns why Postgres refuses this worker; `None` if the error is another one.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::ReadOnly => Some(Refusal::ReadOnly),
            Self::Postgres(error) => Refusal::of(error),
            Self::Together(error) => error.refusal(),
            _ => None,
        }
    }

    /// Returns whether no call can succeed for now: Postgres does not answer, or lets nobody in.
    pub(super) fn is_outage(&self) -> bool {
        let is_locked_out = matches!(self.refusal(), Some(Refusal::Login | Refusal::NoDatabase));

        is_locked_out || (self.is_unavailable() && !self.is_cancelled())
    }

    /// Returns whether there was no answer in time, or no free connection in time.
    pub(super) fn is_too_slow(&self) -> bool {
        matches!(
            self,
            Self::TimedOut | Self::Postgres(sqlx::Error::PoolTimedOut)
        )
    }

    /// Returns whether less work may fit into the time.
    pub fn ran_out_of_time(&self) -> bool {
        self.is_too_slow() || self.is_cancelled()
    }

    /// Returns whether Postgres itself ended the statement because its time was up. So Postgres
    /// answers.
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Postgres(sqlx::Error::Database(error)) => {
                error.code().as_deref() == Some("57014")
            }
            _ => false,
        }
    }
}
