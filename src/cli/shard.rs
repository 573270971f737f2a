//! `gofavorites shard`: each shard on one line; and `shard evict`, which un-hosts who has not been here for long.

use super::Settings;
use super::client::Connection;
use super::failed::CommandError;
use super::progress::Progress;
use super::show::{plain, print, print_json, table};
use super::workers::statistics;
use crate::shard::Store;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Owners forgotten in one transaction.
const CHUNK: i64 = 100;
/// By how many hours it may be noted late that an owner was here: each worker and each shard notes it once an hour.
const SEEN_LATE_H: u32 = 2;

/// Show each shard: its workers, whom it hosts, how far its projection is, its cache, and whether the bucket is reached.
///
/// For operators. `shard evict` un-hosts owners who have not been seen for long; they are hosted anew when they come back.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  gofavorites shard --user operator
  gofavorites shard --shard a --json
  gofavorites shard evict --days 90 --dry-run --config shard-a.toml"
)]
pub(super) struct Shard {
    #[command(flatten)]
    connection: Connection,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Un-host owners who have not been seen for some days
    Evict(Evict),
}

/// Un-host owners who have not been seen for some days.
///
/// It takes the settings of a worker of the shard and needs Postgres only. Workers may serve meanwhile. With their rows go
/// the request ids by which their writes are known again, so the days are more than retry.kept_h.
#[derive(Args)]
struct Evict {
    #[command(flatten)]
    settings: Settings,
    /// For how many days they have not been seen
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=36_500))]
    days: i32,
    /// Only say how many they are
    #[arg(long)]
    dry_run: bool,
}

impl Shard {
    pub async fn run(self) -> anyhow::Result<()> {
        if let Some(Command::Evict(evict)) = self.command {
            return evict.run().await;
        }
        let client = self.connection.open().await?;
        let told = statistics(&client, None, self.connection.shard_named()).await?;
        if told.is_empty() {
            return Err(CommandError::away("no worker answers").into());
        }
        let mut shards: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for one in &told {
            shards
                .entry(plain(&one["data"]["shard"]))
                .or_default()
                .push(&one["data"]);
        }
        let shards: Vec<Value> = shards
            .iter()
            .map(|(shard, workers)| of_shard(shard, workers))
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

/// One shard, from what its workers tell.
fn of_shard(shard: &str, workers: &[&Value]) -> Value {
    let numbers = |path: &str| {
        workers
            .iter()
            .filter_map(move |data| data.pointer(path)?.as_u64())
            .collect::<Vec<_>>()
    };
    let (sum, most) = (
        |path| numbers(path).iter().sum::<u64>(),
        |path| numbers(path).into_iter().max(),
    );
    let (hits, misses) = (sum("/cache/hits"), sum("/cache/misses"));
    let sequence = most("/projection/sequence").unwrap_or_default();
    let closed = |data: &&&Value, what: &str| data["truth"][what]["state"] == "closed";
    let reached = workers
        .iter()
        .filter(|data| closed(data, "reads") && closed(data, "writes"))
        .count();
    let lost = workers
        .iter()
        .any(|data| data["truth"]["history"] == "lost");
    json!({
        "shard": shard,
        "workers": workers.len(),
        "degraded": workers.iter().filter(|data| data["state"] != "healthy").count(),
        "hosted": most("/postgres/hosted"),
        "projection": {
            "sequence": sequence, "lag": most("/truth/newest").unwrap_or_default().saturating_sub(sequence),
            "held": workers.iter().any(|data| data["projection"]["here"] == true),
        },
        "cache": {
            "owners": sum("/cache/owners"), "bytes": sum("/cache/bytes"),
            "hit_rate": (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64),
        },
        "truth": {
            "last_record_age_ms": numbers("/truth/newest_age_ms").into_iter().min(),
            "reached_by": reached, "history": if lost { "lost" } else { "whole" },
        },
    })
}

fn row(shard: &Value) -> [String; 10] {
    let known = |value: &Value| {
        if value.is_null() {
            "?".into()
        } else {
            plain(value)
        }
    };
    let truth = &shard["truth"];
    let bucket = match (
        truth["history"] == "lost",
        truth["reached_by"] == shard["workers"],
    ) {
        (true, _) => "lost history".into(),
        (false, true) => "reached".into(),
        (false, false) => format!("reached by {}", truth["reached_by"]),
    };
    let rate = shard["cache"]["hit_rate"]
        .as_f64()
        .map_or("?".into(), |rate| format!("{:.1}%", rate * 100.0));
    [
        plain(&shard["shard"]),
        plain(&shard["workers"]),
        known(&shard["hosted"]),
        plain(&shard["projection"]["sequence"]),
        plain(&shard["projection"]["lag"]),
        plain(&shard["cache"]["owners"]),
        format!(
            "{:.1}",
            shard["cache"]["bytes"].as_f64().unwrap_or_default() / f64::from(1 << 20)
        ),
        rate,
        truth["last_record_age_ms"]
            .as_u64()
            .map_or("?".into(), |age| format!("{:.1} s ago", age as f64 / 1e3)),
        bucket,
    ]
}

impl Evict {
    async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        // With an owner's rows go those by which a request id is known again.
        let kept_h = settings.retry.kept_h;
        let least = kept_h.saturating_add(SEEN_LATE_H).div_ceil(24);
        if i64::from(self.days) < i64::from(least) {
            let why = format!(
                "a request id is honoured for retry.kept_h, {kept_h} hours, where its owner is hosted"
            );
            return Err(CommandError::usage(format!(
                "--days: {why}: give {least} or more, or lower retry.kept_h"
            ))
            .into());
        }
        let store = Store::new(&settings.postgres)?;
        store.check_schema().await?;
        let unseen = store.unseen(self.days).await?;
        if self.dry_run {
            return print(&format!(
                "{unseen} owners have not been seen for {} days\n",
                self.days
            ));
        }
        let (mut gone, mut progress) = (0, Progress::new("owners un-hosted"));
        loop {
            let some = store.evict(self.days, CHUNK).await? as u64;
            gone += some;
            progress.step(gone, unseen.max(gone));
            if some < CHUNK as u64 {
                break;
            }
        }
        progress.end();
        store.close().await;
        print(&format!(
            "{gone} owners un-hosted, who had not been seen for {} days\n",
            self.days
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_what_its_workers_tell_together() {
        let worker = |hosted: Value, sequence: u64, reads: &str| {
            json!({
                "state": "healthy", "postgres": {"hosted": hosted},
                "projection": {"here": sequence == 7, "sequence": sequence},
                "cache": {"owners": 2, "bytes": 1 << 20, "hits": 3, "misses": 1},
                "truth": {
                    "newest": 9, "newest_age_ms": 1_500, "history": "whole",
                    "reads": {"state": reads}, "writes": {"state": "closed"},
                },
            })
        };
        let (one, two) = (
            worker(json!(4), 7, "closed"),
            worker(Value::Null, 6, "open"),
        );
        let told = row(&of_shard("a", &[&one, &two]));
        assert_eq!(
            told,
            [
                "a",
                "2",
                "4",
                "7",
                "2",
                "4",
                "2.0",
                "75.0%",
                "1.5 s ago",
                "reached by 1"
            ]
        );
    }
}
