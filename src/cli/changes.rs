//! `gofavorites changes`: what is new since a version; `gofavorites watch`: the same, as it happens.

use super::client::{Client, Connection};
use super::show::{plain, print, print_json, summary, table, tell_if_stale};
use crate::wire::Operation;
use anyhow::Context as _;
use clap::Args;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Between one look and the next where the bell is silent: it is no promise, and may be missed.
const LOOK: Duration = Duration::from_secs(15);

/// List what changed since a version, oldest first, deletions included.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites changes --since 0
  gofavorites changes --since 42 --json")]
pub(super) struct Changes {
    #[command(flatten)]
    connection: Connection,
    /// The version from which on; 0: from the beginning
    #[arg(long)]
    since: u64,
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
    /// The version from which on [default: from now on]
    #[arg(long)]
    since: Option<u64>,
    /// Print each change as a line of JSON
    #[arg(long)]
    json: bool,
}

/// How often a walk from the beginning is begun anew, where deletions are forgotten while it is under way.
const ANEW: usize = 5;

/// What came of asking for everything that is new.
struct News {
    items: Vec<Value>,
    owner_version: u64,
    notify: String,
    stale: bool,
}

/// All that is new since a version.
async fn news(client: &Client, since: u64) -> anyhow::Result<News> {
    let mut anew = 0;
    loop {
        match walk(client, since).await {
            // Nothing is held from before, so nothing is to be dropped.
            Err(error)
                if since == 0
                    && anew < ANEW
                    && super::failed::has_code(&error, "resync_required") =>
            {
                anew += 1
            }
            walked => return walked,
        }
    }
}

/// As [`news`], page by page, all under the floor of the first: then nothing among them is deleted and forgotten.
async fn walk(client: &Client, mut since: u64) -> anyhow::Result<News> {
    let mut items: Vec<Value> = Vec::new();
    let mut floor = None;
    loop {
        let mut body = json!({"since": since});
        if let Some(floor) = floor.filter(|floor| *floor > 0) {
            body["floor"] = Value::from(floor);
        }
        let mut reply = client.ask(Operation::Changes, &body).await?;
        if let Value::Array(page) = reply["items"].take() {
            items.extend(page);
        }
        let owner_version = reply["owner_version"]
            .as_u64()
            .context("the reply has no owner_version")?;
        if reply["more"] != true {
            let notify = reply["notify"].as_str().unwrap_or_default().to_owned();
            return Ok(News {
                items,
                owner_version,
                notify,
                stale: reply["stale"] == true,
            });
        }
        floor = floor.or(reply["floor"].as_u64());
        since = items
            .last()
            .and_then(|item| item["version"].as_u64())
            .context("an empty page with more behind it")?;
    }
}

impl Changes {
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.open().await?;
        let news = news(&client, self.since).await?;
        tell_if_stale(&json!({"stale": news.stale}));
        if self.json {
            let told = json!({"items": news.items, "owner_version": news.owner_version, "stale": news.stale});
            return print_json(&told);
        }
        match news.items.is_empty() {
            true => print(&format!(
                "nothing changed since {}: you are at version {}\n",
                self.since, news.owner_version
            )),
            false => print(&table(
                ["VERSION", "KIND", "ID", "WHAT", "UPDATED"],
                news.items.iter().map(row),
            )),
        }
    }
}

impl Watch {
    pub async fn run(self) -> anyhow::Result<()> {
        let mut client = self.connection.open().await?;
        let first = news(&client, self.since.unwrap_or_default()).await?;
        let mut bell = client.nats().subscribe(first.notify.clone()).await?;
        // What came before the bell was hung up is asked for once more.
        client.nats().flush().await?;
        let mut since = first.owner_version;
        if self.since.is_some() {
            self.tell(&first.items)?;
        }
        eprintln!("watching from version {since}; Ctrl-C ends it");
        loop {
            match news(&client, since).await {
                Ok(news) => {
                    self.tell(&news.items)?;
                    since = news.owner_version;
                }
                // Only what is refused for good ends it.
                Err(error) if super::failed::passes(&error) => {
                    eprintln!("gofavorites: {}; trying again", super::failed::told(&error));
                }
                Err(error) => return Err(error),
            }
            let rung = timeout(LOOK, bell.next()).await;
            client.wait_anew();
            anyhow::ensure!(!matches!(rung, Ok(None)), "the connection is closed");
        }
    }

    fn tell(&self, items: &[Value]) -> anyhow::Result<()> {
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

/// An item's row.
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
