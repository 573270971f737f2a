//! Rows that only `gofavorites bench` writes: what storing a record costs any worker.
//!
//! They are in a table of their own on a development platform. As the projection does, one statement
//! stores all rows that have come meanwhile, and one commit makes them durable.

use anyhow::Context as _;
use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::collections::HashMap;
use std::str::FromStr as _;
use tokio::sync::{mpsc, oneshot};

/// The most rows of one statement.
const STEP_ROWS_MAX: usize = 512;
/// How many rows may wait.
const QUEUE_ROWS_MAX: usize = 4_096;

const CREATE: &str = "
    create table if not exists bench_row (
        owner int not null, item int not null, version bigint not null, body bytea not null,
        primary key (owner, item)
    )
";
const DROP: &str = "drop table if exists bench_row";
const STORE: &str = "
    insert into bench_row (owner, item, version, body)
    select * from unnest($1::int[], $2::int[], $3::bigint[], $4::bytea[])
    on conflict (owner, item) do update set version = excluded.version, body = excluded.body
    where bench_row.version < excluded.version
";

/// A record of an owner.
#[derive(Clone, Debug)]
pub struct BareRow {
    /// The owner's number.
    pub owner: i32,
    /// The item's number.
    pub item: i32,
    /// The version of the record.
    pub version: i64,
    /// What is stored.
    pub body: Bytes,
}

/// A row that waits, and who waits for it.
type Waiting = (BareRow, oneshot::Sender<()>);

/// The task that writes to the table of one database.
pub struct BareRows {
    queue: mpsc::Sender<Waiting>,
}

impl BareRows {
    /// Creates the table, empty.
    ///
    /// # Errors
    ///
    /// The database cannot be reached.
    pub async fn create(url: &str) -> anyhow::Result<()> {
        Self::remove(url).await?;

        execute(url, CREATE).await
    }

    /// Starts the task; [`create`](Self::create) has created the table.
    ///
    /// # Errors
    ///
    /// The database cannot be reached.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_ROWS_MAX);
        tokio::spawn(write(connect(url).await?, waiting));

        Ok(Self { queue })
    }

    /// Stores a row. Returns whether it is stored.
    pub async fn store(&self, row: BareRow) -> bool {
        let (stored, waiting) = oneshot::channel();

        self.queue.send((row, stored)).await.is_ok() && waiting.await.is_ok()
    }

    /// Removes the table.
    ///
    /// # Errors
    ///
    /// The database cannot be reached.
    pub async fn remove(url: &str) -> anyhow::Result<()> {
        execute(url, DROP).await
    }
}

async fn execute(url: &str, statement: &'static str) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    sqlx::query(statement).execute(&mut connection).await?;

    Ok(connection.close().await?)
}

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let options = PgConnectOptions::from_str(url).context("the URL of a Postgres database")?;

    let connection = options.disable_statement_logging().connect().await;
    connection.context("Postgres cannot be reached")
}

/// Writes the rows that come, until the last sender is gone. If a row is not stored, its sender learns
/// that by the end of the channel.
async fn write(mut connection: PgConnection, mut waiting: mpsc::Receiver<Waiting>) {
    let mut step = Vec::new();
    while waiting.recv_many(&mut step, STEP_ROWS_MAX).await > 0 {
        // One statement cannot change a row twice.
        let mut rows: HashMap<(i32, i32), BareRow> = HashMap::new();
        let mut stored = Vec::with_capacity(step.len());
        for (row, tell) in step.drain(..) {
            stored.push(tell);
            let key = (row.owner, row.item);
            if rows
                .get(&key)
                .is_none_or(|other| other.version < row.version)
            {
                rows.insert(key, row);
            }
        }

        let rows: Vec<BareRow> = rows.into_values().collect();
        let bodies: Vec<&[u8]> = rows.iter().map(|row| row.body.as_ref()).collect();
        let done = sqlx::query(STORE)
            .bind(rows.iter().map(|row| row.owner).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.item).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
            .bind(bodies)
            .execute(&mut connection)
            .await;
        if done.is_ok() {
            for tell in stored {
                let _ = tell.send(());
            }
        }
    }
}
