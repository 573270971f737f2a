//! `gofavorites shard`: prints one line for each shard; `shard evict`: evicts inactive owners.

use super::CommandSettings;
use super::client::Connection;
use super::duration::days;
use super::failed::CommandError;
use super::output::{
    BAD, Cell, Column, DOUBTFUL, GOOD, Output, Screen, Table, ago, bytes, count, grouped, plain,
    print,
};
use super::progress::Progress;
use super::wait::{Wait, with_exit_code};
use super::workers::{fetch_statistics, format_reasons};
use crate::app::open_postgres;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

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
  gofavorites shard --shard a -o json
  gofavorites shard evict --unseen-for 90d --dry-run --config shard-a.toml"
)]
pub(super) struct Shard {
    #[command(flatten)]
    output: Output,
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
/// meanwhile. Eviction also removes the request ids of the owners' writes, so --unseen-for has to be at
/// least two hours longer than retry.kept_h.
#[derive(Args)]
struct Evict {
    #[command(flatten)]
    settings: CommandSettings,
    #[command(flatten)]
    wait: Wait,
    /// How long the owners have not been seen, in whole days
    #[arg(long = "unseen-for", value_name = "TIME", value_parser = days)]
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

        self.output.refuse_ids()?;
        let client = self.connection.open().await?;
        let workers = fetch_statistics(&client, None, self.connection.requested_shard()).await?;
        if workers.is_empty() {
            return Err(CommandError::unavailable("no worker answers").into());
        }

        let mut workers_by_shard: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for worker in &workers {
            let shard = plain(&worker["data"]["shard"]);
            workers_by_shard.entry(shard).or_default().push(worker);
        }
        let shards: Vec<Value> = workers_by_shard
            .iter()
            .map(|(shard, workers)| summarise(shard, workers))
            .collect();

        let reply = json!({ "shards": shards });
        self.output.print(&reply, |screen| {
            format_shards(&shards, screen) + &format_reasons(&workers)
        })
    }
}

/// Summarises a shard from the statistics of its workers.
fn summarise(shard: &str, workers: &[&Value]) -> Value {
    let holders = workers.iter();
    let holders = holders.filter(|worker| worker["data"]["projection"]["here"] == true);
    let held_by: Vec<&Value> = holders.map(|worker| &worker["id"]).collect();
    let workers: Vec<&Value> = workers.iter().map(|worker| &worker["data"]).collect();

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
            "held": !held_by.is_empty(),
            "held_by": held_by.first(),
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

/// Returns the table of shards.
fn format_shards(shards: &[Value], screen: &Screen) -> String {
    let columns = [
        Column::words("SHARD"),
        Column::numbers("WORKERS"),
        Column::words("STATE"),
        Column::numbers("HOSTED"),
        Column::numbers("LAG"),
        Column::numbers("CACHE"),
        Column::numbers("HITS"),
        Column::words("LAST RECORD"),
        Column::words("BUCKET"),
    ];

    Table::new(columns)
        .with_rows(shards.iter().map(row))
        .format(screen)
}

/// A shard's row in the table.
fn row(shard: &Value) -> Vec<Cell> {
    let cache = &shard["cache"];
    let hit_rate = cache["hit_rate"]
        .as_f64()
        .map_or("none yet".into(), |rate| format!("{:.1}%", rate * 100.0));
    let last_record = shard["truth"]["last_record_age_ms"]
        .as_u64()
        .map_or("unknown".into(), |age| ago(Duration::from_millis(age)));

    vec![
        plain(&shard["shard"]).into(),
        plain(&shard["workers"]).into(),
        state(shard),
        grouped(&shard["hosted"]).into(),
        grouped(&shard["projection"]["lag"]).into(),
        bytes(cache["bytes"].as_u64().unwrap_or_default()).into(),
        hit_rate.into(),
        last_record.into(),
        bucket(shard),
    ]
}

/// The state of a shard's workers.
fn state(shard: &Value) -> Cell {
    match (
        shard["degraded"].as_u64(),
        shard["projection"]["held"] == true,
    ) {
        (Some(0), true) => Cell::styled("healthy", GOOD),
        (Some(0), false) => Cell::styled("no projector", DOUBTFUL),
        (degraded, _) => {
            let state = format!("{} degraded", degraded.unwrap_or_default());
            Cell::styled(state, DOUBTFUL)
        }
    }
}

/// Whether a shard's workers reach the bucket, and whether it has lost history.
fn bucket(shard: &Value) -> Cell {
    let truth = &shard["truth"];

    if truth["history"] == "lost" {
        Cell::styled("lost history", BAD)
    } else if truth["reached_by"] == shard["workers"] {
        Cell::styled("reached", GOOD)
    } else {
        Cell::styled(format!("reached by {}", truth["reached_by"]), DOUBTFUL)
    }
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
                count(unseen, "owner"),
                self.days
            ));
        }

        let mut evicted = 0;
        let mut progress = Progress::new("owners evicted");
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
            "{} evicted, not seen for {} days\n",
            count(evicted, "owner"),
            self.days
        ))
    }

    /// Refuses to evict owners whose request ids have to be kept.
    fn check_days(&self, kept_h: u32) -> Result<(), CommandError> {
        let days_min = kept_h.saturating_add(SEEN_LAG_H).div_ceil(24);
        if i64::from(self.days) < i64::from(days_min) {
            return Err(CommandError::usage(format!(
                "--unseen-for: eviction removes request ids, and those are kept for retry.kept_h, \
                 {kept_h} hours: give {days_min}d or more, or lower retry.kept_h"
            )));
        }

        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str, hosted: Value, sequence: u64, reads: &str) -> Value {
        let data = json!({
            "state": if reads == "closed" { "healthy" } else { "degraded" },
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
        });

        json!({"id": id, "data": data})
    }

    #[test]
    fn a_shards_row_combines_its_workers() {
        let one = worker("w1", json!(4), 7, "closed");
        let two = worker("w2", Value::Null, 6, "open");
        let shard = summarise("a", &[&one, &two]);

        let table = format_shards(std::slice::from_ref(&shard), &Screen::pipe());

        assert_eq!(
            table,
            "SHARD  WORKERS  STATE       HOSTED  LAG  CACHE   HITS  LAST RECORD  BUCKET\n\
             a            2  1 degraded       4    2  2 MiB  75.0%  1 s ago      reached by 1\n"
        );
        assert_eq!(shard["projection"]["held_by"], "w1");
        assert_eq!(shard["cache"]["owners"], 4);
    }

    #[test]
    fn what_is_not_known_is_in_words() {
        let table = format_shards(&[summarise("b", &[&json!({})])], &Screen::pipe());

        assert!(!table.contains('?'), "{table}");
        assert!(
            table.contains("unknown") && table.contains("none yet"),
            "{table}"
        );
    }
}
