//! `gofavorites changes`: prints what changed since a version; `gofavorites watch`: prints changes
//! as they happen.

use super::client::{Client, Connection};
use super::failed::{error_chain, has_code, is_transient};
use super::show::{plain, print, print_json, summary, table, visible, warn_if_stale};
use crate::wire::Operation;
use anyhow::Context as _;
use clap::Args;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// How often `watch` asks without a notification: notifications are best effort, and one may be
/// lost.
const POLL_INTERVAL: Duration = Duration::from_secs(15);
/// How often a walk from the beginning starts again if deletions are purged while it is under way.
const WALK_RESTARTS_MAX: usize = 5;

/// List what changed since a version, oldest first, deletions included.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites changes --since 0
  gofavorites changes --since 42 --json
  gofavorites changes --since 42 --epoch Zx81kQ")]
pub(super) struct Changes {
    #[command(flatten)]
    connection: Connection,
    /// Changes after this version; 0: from the beginning
    #[arg(long)]
    since: u64,
    /// The epoch that was printed with that version: the bucket's history that it belongs to
    #[arg(long)]
    epoch: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Print changes as they happen, until you press Ctrl-C.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites watch
  gofavorites watch --since 42 --json")]
pub(super) struct Watch {
    #[command(flatten)]
    connection: Connection,
    /// First print the changes after this version [default: only new changes]
    #[arg(long)]
    since: Option<u64>,
    /// The epoch that was printed with that version: the bucket's history that it belongs to
    #[arg(long, requires = "since")]
    epoch: Option<String>,
    /// Print each change as a line of JSON
    #[arg(long)]
    json: bool,
}

/// All changes since a version.
struct ChangeSet {
    items: Vec<Value>,
    owner_version: u64,
    /// The history that the version belongs to; `None` if the service does not name it.
    epoch: Option<String>,
    /// The subject of change notifications.
    notify: String,
    stale: bool,
}

/// Fetches all changes since a version of that epoch.
async fn fetch_changes(
    client: &Client,
    since: u64,
    epoch: Option<&str>,
) -> anyhow::Result<ChangeSet> {
    let mut restarts = 0;
    loop {
        match walk_pages(client, since, epoch).await {
            // A caller that starts from 0 holds no items that the refusal would make it drop.
            Err(error)
                if since == 0
                    && restarts < WALK_RESTARTS_MAX
                    && has_code(&error, "resync_required") =>
            {
                restarts += 1
            }
            result => return result,
        }
    }
}

/// Fetches all changes since a version, page by page.
///
/// Each further page repeats the deletion floor of the first one. The service refuses a page with
/// `resync_required` once the floor is higher, so no item of a complete walk was deleted and purged
/// meanwhile. It repeats the epoch as well, so no walk mixes the versions of two histories.
async fn walk_pages(
    client: &Client,
    mut since: u64,
    epoch: Option<&str>,
) -> anyhow::Result<ChangeSet> {
    let mut items: Vec<Value> = Vec::new();
    let mut epoch = epoch.map(str::to_owned);
    let mut floor = None;
    loop {
        let mut body = json!({"since": since});
        if let Some(floor) = floor.filter(|floor| *floor > 0) {
            body["floor"] = Value::from(floor);
        }
        if let Some(epoch) = &epoch {
            body["epoch"] = json!(epoch);
        }

        let mut reply = client.ask(Operation::Changes, &body).await?;
        if let Value::Array(page) = reply["items"].take() {
            items.extend(page);
        }
        let owner_version = reply["owner_version"]
            .as_u64()
            .context("the reply has no owner_version")?;
        if let Value::String(present) = reply["epoch"].take() {
            epoch = Some(present);
        }

        if reply["more"] != true {
            let notify = reply["notify"].as_str().unwrap_or_default().to_owned();
            return Ok(ChangeSet {
                items,
                owner_version,
                epoch,
                notify,
                stale: reply["stale"] == true,
            });
        }

        floor = floor.or(reply["floor"].as_u64());
        since = items
            .last()
            .and_then(|item| item["version"].as_u64())
            .context("the reply announces more items, but has none")?;
    }
}

impl ChangeSet {
    /// Returns the options with which a later walk continues after this one.
    fn continuation(&self) -> String {
        let since = format!("continue with --since {}", self.owner_version);

        match &self.epoch {
            Some(epoch) => format!("{since} --epoch {}", visible(epoch)),
            None => since,
        }
    }
}

impl Changes {
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.open().await?;
        let changes = fetch_changes(&client, self.since, self.epoch.as_deref()).await?;

        warn_if_stale(&json!({"stale": changes.stale}));
        if self.json {
            return print_json(&json!({
                "items": changes.items,
                "owner_version": changes.owner_version,
                "epoch": changes.epoch,
                "stale": changes.stale,
            }));
        }

        if changes.items.is_empty() {
            print(&format!(
                "nothing changed since {}: you are at version {}\n",
                self.since, changes.owner_version
            ))?;
        } else {
            print(&table(
                ["VERSION", "KIND", "ID", "WHAT", "UPDATED"],
                changes.items.iter().map(row),
            ))?;
        }
        // The standard output has the changes alone, so that a program can read the table.
        eprintln!("{}", changes.continuation());
        Ok(())
    }
}

impl Watch {
    pub async fn run(self) -> anyhow::Result<()> {
        let mut client = self.connection.open().await?;
        let since = self.since.unwrap_or_default();
        let first = fetch_changes(&client, since, self.epoch.as_deref()).await?;
        let mut notifications = client.nats().subscribe(first.notify.clone()).await?;
        // From here on the subscription is active. The loop begins with a request, because there
        // was no notification of what changed before.
        client.nats().flush().await?;

        let mut since = first.owner_version;
        let mut epoch = first.epoch;
        if self.since.is_some() {
            self.print_items(&first.items)?;
        }
        eprintln!("watching from version {since}; Ctrl-C ends it");

        loop {
            match fetch_changes(&client, since, epoch.as_deref()).await {
                Ok(changes) => {
                    self.print_items(&changes.items)?;
                    since = changes.owner_version;
                    epoch = changes.epoch;
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
