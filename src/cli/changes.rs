//! `gofavorites changes`: prints what changed since a version; `gofavorites watch`: prints changes
//! as they happen.

use super::client::Connection;
use super::connection_events::ConnectionEvents;
use super::failed::is_transient;
use super::output::{
    Cell, Column, Output, Screen, Table, note, plain, print, visible, warn, warn_if_stale, what,
};
use crate::client::Position;
use crate::telemetry::error_chain;
use clap::Args;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

/// How often `watch` asks without a notification: notifications are best effort, and one may be
/// lost.
const POLL_INTERVAL: Duration = Duration::from_secs(15);

/// List what changed since a version, oldest first, deletions included.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites changes
  gofavorites changes --since 42 -o json
  gofavorites changes --since 42 --epoch Zx81kQ")]
pub(super) struct Changes {
    /// Only changes after this version
    #[arg(long, default_value_t = 0)]
    since: u64,
    /// The epoch that was printed with that version: the bucket's history that it belongs to
    #[arg(long)]
    epoch: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Print changes as they happen, until you press Ctrl-C.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites watch
  gofavorites watch --since 42 --json")]
pub(super) struct Watch {
    /// First print the changes after this version [default: only new changes]
    #[arg(long)]
    since: Option<u64>,
    /// The epoch that was printed with that version: the bucket's history that it belongs to
    #[arg(long, requires = "since")]
    epoch: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Returns the options with which a later walk continues from there.
fn continuation(position: &Position) -> String {
    let since = format!("continue with --since {}", position.version);

    match &position.epoch {
        Some(epoch) => format!("{since} --epoch {}", visible(epoch)),
        None => since,
    }
}

impl Changes {
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.open().await?;
        let from = Position {
            version: self.since,
            epoch: self.epoch,
        };
        let changes = client.fetch_changes(&from).await?;
        let position = &changes.position;

        warn_if_stale(&json!({"stale": changes.stale}));
        let reply = json!({
            "items": changes.items,
            "owner_version": position.version,
            "epoch": position.epoch,
            "stale": changes.stale,
        });
        self.output.print(&reply, |screen| {
            if changes.items.is_empty() {
                return format!(
                    "nothing changed since {}: you are at version {}\n",
                    from.version, position.version
                );
            }
            let rows = changes.items.iter().map(row);
            Table::new(columns()).with_rows(rows).format(screen)
        })?;
        // The standard output has the changes alone, so that a program can read the table.
        if self.output.is_by_line() {
            note(&continuation(position));
        }
        Ok(())
    }
}

impl Watch {
    pub async fn run(self) -> anyhow::Result<()> {
        let events = ConnectionEvents::default();
        let mut client = self.connection.open_and_tell(&events).await?;
        let from = Position {
            version: self.since.unwrap_or_default(),
            epoch: self.epoch.clone(),
        };
        let first = client.fetch_changes(&from).await?;
        let mut notifications = client.nats().subscribe(first.notify.clone()).await?;
        // From here on the subscription is active. The loop begins with a request, because there
        // was no notification of what changed before.
        client.nats().flush().await?;

        let mut position = first.position;
        self.print_heading()?;
        if self.since.is_some() {
            self.print_items(&first.items)?;
        }
        note(&format!(
            "watching from version {}; Ctrl-C ends it",
            position.version
        ));

        loop {
            match client.fetch_changes(&position).await {
                Ok(changes) => {
                    self.print_items(&changes.items)?;
                    position = changes.position;
                }
                // Only a refusal that will not pass ends the command.
                Err(error) if is_transient(&error) => {
                    warn(&format!("{}; trying again", error_chain(&error)));
                }
                Err(error) => return Err(error),
            }

            // While there was no connection, notifications were lost.
            let has_ended = tokio::select! {
                notification = notifications.next() => notification.is_none(),
                () = events.wait_until_back() => false,
                () = sleep(POLL_INTERVAL) => false,
            };
            client.restart_timeout();
            anyhow::ensure!(!has_ended, "the connection is closed");
        }
    }

    /// Prints the heading of the changes that follow, if a person reads them.
    fn print_heading(&self) -> anyhow::Result<()> {
        let screen = Screen::new();
        if !self.output.is_text() || !screen.is_terminal() {
            return Ok(());
        }

        print(&Table::new(live_columns()).format_heading(&screen))
    }

    fn print_items(&self, items: &[Value]) -> anyhow::Result<()> {
        for item in items {
            self.output.print_next(item, |screen| {
                if screen.is_terminal() {
                    let table = Table::new(live_columns());
                    return table.with_rows([live_row(item)]).format_rows(screen);
                }
                let cells: Vec<String> = row(item).iter().map(ToString::to_string).collect();
                cells.join("  ") + "\n"
            })?;
        }

        Ok(())
    }
}

/// The columns of the table.
fn columns() -> [Column; 5] {
    [
        Column::numbers("VERSION"),
        Column::words("KIND"),
        Column::words("ID"),
        Column::free_text("WHAT"),
        Column::times("UPDATED"),
    ]
}

/// An item's row in the table.
fn row(item: &Value) -> Vec<Cell> {
    vec![
        plain(&item["version"]).into(),
        plain(&item["kind"]).into(),
        plain(&item["id"]).into(),
        what(item),
        plain(&item["updated_at"]).into(),
    ]
}

/// The columns of changes that come one by one. What comes later is not known, so they are as wide
/// as most entries are.
fn live_columns() -> [Column; 5] {
    [
        Column::words("TIME").at_least("17:54:19Z".len()),
        Column::numbers("VERSION").at_least("1000000".len()),
        Column::words("KIND").at_least("instrument".len()),
        Column::words("ID").at_least("US0378331005".len()),
        Column::free_text("WHAT"),
    ]
}

/// An item's row among the changes that come one by one.
fn live_row(item: &Value) -> Vec<Cell> {
    let updated = plain(&item["updated_at"]);
    let time = updated.get(11..19).map(|time| format!("{time}Z"));

    vec![
        time.unwrap_or(updated).into(),
        plain(&item["version"]).into(),
        plain(&item["kind"]).into(),
        plain(&item["id"]).into(),
        what(item),
    ]
}
