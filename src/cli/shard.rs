//! `gofavorites shard`: prints one line for each shard; `shard evict`: evicts inactive owners.

use super::CommandSettings;
use super::client::Connection;
use super::counted::counted;
use super::failed::CommandError;
use super::progress::Progress;
use super::show::{plain, print, print_json, table};
use super::wait::{Wait, with_exit_code};
use super::workers::fetch_statistics;
use crate::app::open_postgres;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Owners evicted in one transaction.
const TRANSACTION_OWNERS: i64 = 100;
/// How far `seen_at` may lag behind an owner's last request, in hours: each worker reports an owner
/// at most once an hour, and each shard stores it at most once an hour.
const SEEN_LAG_H: u32 = 2;

/// Show each shard: its workers, its hosted owners, the progress of its projection, its cache, and
/// whether it reaches the bucket.
///
/// For operators. `shard evict` removes owners not seen for long from the shard's Postgres. The
/// shard hosts them again on their next request.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  gofavorites shard --user operator
  gofavorites shard --shard a --json
  gofavorites shard evict --days 90 --dry-run --config shard-a.toml"
)]
pub(super) struct Shard {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Subcommand)]
enum Command {
    /// Evict owners not seen for some days
    Evict(Evict),
}

/// Evict owners not seen for some days.
///
/// It takes the settings of a worker of the shard and needs Postgres only. Workers may serve
/// meanwhile. Eviction also removes the request ids of the owners' writes, so --days has to be at
/// least two hours longer than retry.kept_h.
#[derive(Args)]
struct Evict {
    #[command(flatten)]
    settings: CommandSettings,
    #[command(flatten)]
    wait: Wait,
    /// How many days the owners have not been seen
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=36_500))]
    days: i32,
    /// Only print how many owners that would be
    #[arg(long)]
    dry_run: bool,
}

impl Shard {
    pub async fn run(self) -> anyhow::Result<()> {
        if let Some(Command::Evict(evict)) = self.command {
            return evict.run().await;
        }

        let client = self.connection.open().await?;
        let workers = fetch_statistics(&client, None, self.connection.requested_shard()).await?;
        if workers.is_empty() {
            return Err(CommandError::unavailable("no worker answers").into());
        }

        let mut workers_by_shard: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for worker in &workers {
            workers_by_shard
                .entry(plain(&worker["data"]["shard"]))
                .or_default()
                .push(&worker["data"]);
        }
        let shards: Vec<Value> = workers_by_shard
            .iter()
            .map(|(shard, workers)| summarise(shard, workers))
            .collect();

        if self.json {
            return print_json(&json!({ "shards": shards }));
        }
        let heading = [
            "SHARD",
            "WORKERS",
            "HOSTED",
            "PROJECTED",
            "LAG",
            "CACHED",
            "CACHE MIB",
            "HITS",
            "LAST RECORD",
            "BUCKET",
        ];
        print(&table(heading, shards.iter().map(row)))
    }
}

/// Summarises a shard from the statistics of its workers.
fn summarise(shard: &str, workers: &[&Value]) -> Value {
    let numbers = |path: &str| {
        workers
            .iter()
            .filter_map(move |data| data.pointer(path)?.as_u64())
            .collect::<Vec<_>>()
    };
    let sum = |path| numbers(path).iter().sum::<u64>();
    let max = |path| numbers(path).into_iter().max();

    let hits = sum("/cache/hits");
    let misses = sum("/cache/misses");
    let sequence = max("/projection/sequence").unwrap_or_default();
    let newest = max("/truth/newest").unwrap_or_default();
    let is_closed = |data: &&&Value, breaker: &str| data["truth"][breaker]["state"] == "closed";
    let reached_by = workers
        .iter()
        .filter(|data| is_closed(data, "reads") && is_closed(data, "writes"))
        .count();
    let lost_history = workers
        .iter()
        .any(|data| data["truth"]["history"] == "lost");

    json!({
        "shard": shard,
        "workers": workers.len(),
        "degraded": workers.iter().filter(|data| data["state"] != "healthy").count(),
        "hosted": max("/postgres/hosted"),
        "projection": {
            "sequence": sequence,
            "lag": newest.saturating_sub(sequence),
            "held": workers.iter().any(|data| data["projection"]["here"] == true),
        },
        "cache": {
            "owners": sum("/cache/owners"),
            "bytes": sum("/cache/bytes"),
            "hit_rate": (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64),
        },
        "truth": {
            "last_record_age_ms": numbers("/truth/newest_age_ms").into_iter().min(),
            "reached_by": reached_by,
            "history": if lost_history { "lost" } else { "whole" },
        },
    })
}

/// A shard's row in the table.
fn row(shard: &Value) -> [String; 10] {
    let or_unknown = |value: &Value| {
        if value.is_null() {
            "?".into()
        } else {
            plain(value)
        }
    };
    let cache = &shard["cache"];
    let truth = &shard["truth"];

    let cache_mib = cache["bytes"].as_f64().unwrap_or_default() / f64::from(1 << 20);
    let hit_rate = cache["hit_rate"]
        .as_f64()
        .map_or("?".into(), |rate| format!("{:.1}%", rate * 100.0));
    let last_record = truth["last_record_age_ms"]
        .as_u64()
        .map_or("?".into(), |age| format!("{:.1} s ago", age as f64 / 1e3));
    let bucket = if truth["history"] == "lost" {
        "lost history".into()
    } else if truth["reached_by"] == shard["workers"] {
        "reached".into()
    } else {
        format!("reached by {}", truth["reached_by"])
    };

    [
        plain(&shard["shard"]),
        plain(&shard["workers"]),
        or_unknown(&shard["hosted"]),
        plain(&shard["projection"]["sequence"]),
        plain(&shard["projection"]["lag"]),
        plain(&cache["owners"]),
        format!("{cache_mib:.1}"),
        hit_rate,
        last_record,
        bucket,
    ]
}

impl Evict {
    async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        self.check_days(settings.retry.kept_h)?;

        let store = open_postgres(&settings, self.wait.limit())
            .await
            .map_err(with_exit_code)?;
        let unseen = store.unseen(self.days).await?;
        if self.dry_run {
            return print(&format!(
                "{} not seen for {} days\n",
                counted(unseen, "owner"),
                self.days
            ));
        }

        let mut evicted = 0;
        let mut progress = Progress::new("owners un-hosted");
        loop {
            let count = store.evict(self.days, TRANSACTION_OWNERS).await? as u64;
            evicted += count;
            progress.step(evicted, unseen.max(evicted));
            if count < TRANSACTION_OWNERS as u64 {
                break;
            }
        }
        progress.end();
        store.close().await;

        print(&format!(
            "{} un-hosted, not seen for {} days\n",
            counted(evicted, "owner"),
            self.days
        ))
    }

    /// Refuses to evict owners whose request ids have to be kept.
    fn check_days(&self, kept_h: u32) -> Result<(), CommandError> {
        let days_min = kept_h.saturating_add(SEEN_LAG_H).div_ceil(24);
        if i64::from(self.days) < i64::from(days_min) {
            return Err(CommandError::usage(format!(
                "--days: eviction removes request ids, and those are kept for retry.kept_h, \
                 {kept_h} hours: give {days_min} or more, or lower retry.kept_h"
            )));
        }

        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(hosted: Value, sequence: u64, reads: &str) -> Value {
        json!({
            "state": "healthy",
            "postgres": {"hosted": hosted},
            "projection": {"here": sequence == 7, "sequence": sequence},
            "cache": {"owners": 2, "bytes": 1 << 20, "hits": 3, "misses": 1},
            "truth": {
                "newest": 9,
                "newest_age_ms": 1_500,
                "history": "whole",
                "reads": {"state": reads},
                "writes": {"state": "closed"},
            },
        })
    }

    #[test]
    fn a_shards_row_combines_its_workers() {
        let one = worker(json!(4), 7, "closed");
        let two = worker(Value::Null, 6, "open");

        let row = row(&summarise("a", &[&one, &two]));

        let expected = [
            "a",
            "2",
            "4",
            "7",
            "2",
            "4",
            "2.0",
            "75.0%",
            "1.5 s ago",
            "reached by 1",
        ];
        assert_eq!(row, expected);
    }
}
