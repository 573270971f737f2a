//! `gofavorites changes`: prints what changed since a version; `gofavorites watch`: prints changes
//! as they happen.

use super::client::Connection;
use super::failed::is_transient;
use super::show::{plain, print, print_json, summary, table, visible, warn_if_stale};
use crate::client::Position;
use crate::telemetry::error_chain;
use clap::Args;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// How often `watch` asks without a notification: notifications are best effort, and one may be
/// lost.
const POLL_INTERVAL: Duration = Duration::from_secs(15);

/// List what changed since a version, oldest first, deletions included.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites changes
  gofavorites changes --since 42 --json
  gofavorites changes --since 42 --epoch Zx81kQ")]
pub(super) struct Changes {
    /// Only changes after this version
    #[arg(long, default_value_t = 0)]
    since: u64,
    /// The epoch that was printed with that version: the bucket's history that it belongs to
    #[arg(long)]
    epoch: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
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
    /// Print each change as a line of JSON
    #[arg(long)]
    json: bool,
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
        if self.json {
            return print_json(&json!({
                "items": changes.items,
                "owner_version": position.version,
                "epoch": position.epoch,
                "stale": changes.stale,
            }));
        }

        if changes.items.is_empty() {
            print(&format!(
                "nothing changed since {}: you are at version {}\n",
                from.version, position.version
            ))?;
        } else {
            print(&table(
                ["VERSION", "KIND", "ID", "WHAT", "UPDATED"],
                changes.items.iter().map(row),
            ))?;
        }
        // The standard output has the changes alone, so that a program can read the table.
        eprintln!("{}", continuation(position));
        Ok(())
    }
}

impl Watch {
    pub async fn run(self) -> anyhow::Result<()> {
        let mut client = self.connection.open().await?;
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
        if self.since.is_some() {
            self.print_items(&first.items)?;
        }
        eprintln!("watching from version {}; Ctrl-C ends it", position.version);

        loop {
            match client.fetch_changes(&position).await {
                Ok(changes) => {
                    self.print_items(&changes.items)?;
                    position = changes.position;
                }
                // Only a refusal that will not pass ends the command.
                Err(error) if is_transient(&error) => {
                    eprintln!("gofavorites: {}; trying again", error_chain(&error));
                }
                Err(error) => return Err(error),
            }

            let notification = timeout(POLL_INTERVAL, notifications.next()).await;
            client.restart_timeout();
            anyhow::ensure!(
                !matches!(notification, Ok(None)),
                "the connection is closed"
            );
        }
    }

    fn print_items(&self, items: &[Value]) -> anyhow::Result<()> {
        for item in items {
            let line = if self.json {
                item.to_string()
            } else {
                row(item).join("  ")
            };
            print(&format!("{line}\n"))?;
        }

        Ok(())
    }
}

/// An item's row in the table.
fn row(item: &Value) -> [String; 5] {
    let what = if item["deleted"] == true {
        "deleted".to_owned()
    } else {
        summary(item)
    };

    [
        plain(&item["version"]),
        plain(&item["kind"]),
        plain(&item["id"]),
        what,
        plain(&item["updated_at"]),
    ]
}
