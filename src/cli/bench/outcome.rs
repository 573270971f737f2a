//! What a run has found, as JSON and as tables.

use super::latencies::{Latencies, QUANTILES};
use super::load::Found;
use super::mix::Mix;
use super::processor::ProcessorTimes;
use super::tally::{Counts, Tally, per_second};
use crate::build::BuildInfo;
use crate::cli::output::{BAD, Cell, Column, Screen, Table};
use crate::wire::Operation;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// The row of all operations together.
pub(super) const ALL: &str = "all";

/// What a run was asked to do.
pub(super) struct Asked {
    pub mix: Mix,
    pub callers: usize,
    pub connections: usize,
    pub owners: usize,
    pub in_turn: bool,
    pub fill_shard: Option<String>,
    pub before_load: Option<String>,
    pub items: usize,
    pub bytes: usize,
    pub encoding: &'static str,
    pub consistency: Option<String>,
    pub shard: Option<String>,
    pub rate_per_s: Option<f64>,
    pub rounds: usize,
}

/// The raw figures of a run, or why there are none.
#[derive(Default)]
pub(super) struct RawFigures {
    pub tally: Tally,
    /// How long each was measured.
    pub took: Vec<(&'static str, Duration)>,
    pub left_out: Option<String>,
}

/// What a run has found.
pub(super) struct Outcome {
    pub asked: Asked,
    /// How long it took to give all owners their items.
    pub filled_in: Duration,
    pub tally: Tally,
    /// How long the load ran, without the raw figures in between.
    pub took: Duration,
    pub wrong: Found,
    pub raw: RawFigures,
    pub processor: ProcessorTimes,
}

impl RawFigures {
    fn per_second(&self, name: &str) -> Option<f64> {
        let counts = self.tally.operations.get(name)?;
        let (_, took) = self.took.iter().find(|(other, _)| *other == name)?;

        Some(per_second(counts.answered(), *took))
    }

    fn figures(&self) -> impl Iterator<Item = (&'static str, Counts, Duration)> {
        self.took.iter().map(|(name, took)| {
            let counts = self.tally.operations.get(name).cloned();
            (*name, counts.unwrap_or_default(), *took)
        })
    }
}

impl Outcome {
    /// Returns how many requests a second a bare worker would do of this mix, and which share of them
    /// the service did. `None` without raw figures.
    pub fn limit(&self) -> Option<(f64, f64)> {
        let parts = self.asked.mix.parts().map(|(operation, _)| {
            let name = match operation {
                Operation::Put | Operation::Delete => "bare_put",
                Operation::Version => "echo",
                _ => "bare_get",
            };
            let limit = self.raw.per_second(name).filter(|limit| *limit > 0.0)?;
            Some(self.asked.mix.share(operation) / limit)
        });

        let seconds_each = parts.sum::<Option<f64>>()?;
        let limit = (10.0 / seconds_each).round() / 10.0;
        let done = per_second(self.tally.total().answered(), self.took);
        Some((limit, (done / limit * 1_000.0).round() / 1_000.0))
    }

    /// Returns the latencies of each operation, and of all together if there are several.
    pub fn latencies(&self) -> Vec<(&'static str, Latencies)> {
        let rows = self.rows().into_iter();

        rows.map(|(name, counts)| (name, counts.latencies))
            .collect()
    }

    fn rows(&self) -> Vec<(&'static str, Counts)> {
        let parts = self.asked.mix.parts().filter_map(|(operation, _)| {
            let counts = self.tally.operations.get(operation.name())?;
            Some((operation.name(), counts.clone()))
        });
        let mut rows: Vec<_> = parts.collect();
        if rows.len() > 1 {
            rows.push((ALL, self.tally.total()));
        }

        rows
    }

    /// Returns what the option `--json` prints.
    pub fn to_json(&self) -> Value {
        let total = self.tally.total();
        let operations = self.tally.operations.iter();
        let operations = operations.map(|(name, counts)| {
            let counts = counts.to_json(self.took);
            ((*name).to_owned(), counts)
        });
        let wrong = self.wrong.counts.iter();
        let wrong = wrong.map(|(wrong, count)| (wrong.name().to_owned(), json!(count)));
        let limit = self.limit();
        let processor = self.processor.per_request(total.requests());
        let processor = processor.into_iter().map(|(name, time)| {
            let micros = time.as_nanos() as f64 / 1_000.0;
            json!({"process": name, "us_per_request": (micros * 10.0).round() / 10.0})
        });

        let mut json = total.to_json(self.took);
        json["bench"] = self.asked_json();
        json["owners_filled"] = json!({
            "took_s": self.filled_in.as_secs_f64(), "per_second": self.filled_per_second(),
        });
        json["took_s"] = json!(self.took.as_secs_f64());
        json["operations"] = Value::Object(operations.collect());
        json["wrong"] = Value::Object(wrong.collect());
        json["wrong_examples"] = json!(self.wrong.examples);
        json["raw"] = self.raw_json();
        json["raw_left_out"] = json!(self.raw.left_out);
        json["limit_per_second"] = json!(limit.map(|(limit, _)| limit));
        json["share_of_limit"] = json!(limit.map(|(_, share)| share));
        json["processor"] = processor.collect();
        json["machine"] = machine();
        json
    }

    /// How many owners got their items a second.
    fn filled_per_second(&self) -> f64 {
        per_second(self.asked.owners as u64, self.filled_in)
    }

    fn asked_json(&self) -> Value {
        let Asked { mix, .. } = &self.asked;

        json!({
            "mix": mix.to_string(), "callers": self.asked.callers,
            "connections": self.asked.connections, "owners": self.asked.owners,
            "items": self.asked.items, "item_bytes": self.asked.bytes,
            "encoding": self.asked.encoding, "consistency": self.asked.consistency,
            "on_shard": self.asked.shard, "filled_on_shard": self.asked.fill_shard,
            "in_turn": self.asked.in_turn, "before_load": self.asked.before_load,
            "rate_per_second": self.asked.rate_per_s, "rounds": self.asked.rounds,
        })
    }

    fn raw_json(&self) -> Value {
        if self.raw.left_out.is_some() {
            return Value::Null;
        }

        let figures = self.raw.figures();
        let figures = figures.map(|(name, counts, took)| (name.to_owned(), counts.to_json(took)));
        Value::Object(figures.collect())
    }

    /// Returns the tables for people.
    pub fn to_text(&self, screen: &Screen) -> String {
        let mut text = self.load_table().format(screen);
        if self.raw.left_out.is_none() {
            let figures = self.raw.figures();
            let rows =
                figures.map(|(name, counts, took)| row(&name.replace('_', " "), &counts, took));
            text += "\n";
            text += &table("RAW").with_rows(rows).format(screen);
        }

        let total = self.tally.total();
        let processor = self.processor.per_request(total.requests());
        if !processor.is_empty() {
            let columns = [Column::words("PROCESS"), Column::numbers("CPU A REQUEST")];
            let rows = processor
                .into_iter()
                .map(|(name, time)| vec![name.into(), latency(time).into()]);
            text += "\n";
            text += &Table::new(columns).with_rows(rows).format(screen);
        }
        text + "\n" + &self.sentences()
    }

    fn load_table(&self) -> Table {
        let rows = self.rows().into_iter();
        let rows = rows.map(|(name, counts)| row(name, &counts, self.took));

        table("OPERATION").with_rows(rows)
    }

    fn sentences(&self) -> String {
        let total = self.tally.total();
        let Asked { owners, items, .. } = self.asked;
        let filled = self.filled_per_second();
        let mut text =
            format!("{owners} owners got {items} items each before: {filled:.0} owners a second\n");
        for (code, times) in &total.refused {
            text += &format!("refused with {code}: {times}\n");
        }
        for (cause, times) in &total.unanswered {
            text += &format!("without an answer, {cause}: {times}\n");
        }
        match (&self.raw.left_out, self.limit()) {
            (Some(why), _) => text += &format!("no raw figures: {why}\n"),
            (_, Some((limit, share))) => {
                let percent = share * 100.0;
                text += &format!(
                    "a bare worker: {limit:.0} a second of this mix; the service did {percent:.1} % \
                     of that\n"
                );
            }
            _ => {}
        }
        match self.wrong.total() {
            0 => text += &format!("{} replies checked, all right\n", total.answered()),
            wrong => {
                text += &format!("WRONG: {wrong} of {} replies\n", total.answered());
                for example in &self.wrong.examples {
                    text += &format!("  {example}\n");
                }
            }
        }

        text
    }
}

fn table(what: &'static str) -> Table {
    Table::new([
        Column::words(what),
        Column::numbers("REQUESTS"),
        Column::numbers("PER S"),
        Column::numbers("P50"),
        Column::numbers("P90"),
        Column::numbers("P99"),
        Column::numbers("P99.9"),
        Column::numbers("MAX"),
        Column::numbers("REFUSED"),
    ])
}

fn row(name: &str, counts: &Counts, took: Duration) -> Vec<Cell> {
    let lost = counts.requests() - counts.answered();
    let mut row: Vec<Cell> = vec![
        name.into(),
        counts.requests().to_string().into(),
        format!("{:.0}", per_second(counts.answered(), took)).into(),
    ];
    let quantiles = QUANTILES.map(|(share, _)| counts.latencies.quantile(share));
    row.extend(quantiles.map(|time| latency(time).into()));
    row.push(latency(counts.latencies.max()).into());
    row.push(match lost {
        0 => "0".into(),
        lost => Cell::styled(lost.to_string(), BAD),
    });

    row
}

/// Returns a latency with three digits and its unit.
pub(super) fn latency(latency: Duration) -> String {
    match latency.as_secs_f64() * 1e6 {
        micros if micros < 999.5 => format!("{micros:.0} µs"),
        micros if micros < 9_995.0 => format!("{:.2} ms", micros / 1e3),
        micros if micros < 99_950.0 => format!("{:.1} ms", micros / 1e3),
        micros if micros < 999_500.0 => format!("{:.0} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

/// What the run was made on, and with what.
fn machine() -> Value {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": "));
    let memory = read("/proc/meminfo");
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let memory = memory.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let build = BuildInfo::of_this_program();

    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "model": model.map(|(_, model)| model.trim()),
        "memory_bytes": memory.map(|kib| kib * 1024),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "version": build.version,
        "commit": build.commit,
        "is_release": !cfg!(debug_assertions),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::tally::End;

    fn outcome(raw: RawFigures) -> Outcome {
        let mut tally = Tally::default();
        for _ in 0..60 {
            tally.record("get", End::Answered, Duration::from_millis(1));
        }
        for _ in 0..40 {
            tally.record("put", End::Answered, Duration::from_millis(9));
        }
        tally.record("put", End::Refused("overloaded".into()), Duration::ZERO);

        Outcome {
            asked: Asked {
                mix: "get=60,put=40".parse().expect("a mix"),
                callers: 4,
                connections: 1,
                owners: 2,
                items: 3,
                bytes: 100,
                encoding: "json",
                consistency: None,
                shard: None,
                in_turn: false,
                fill_shard: None,
                before_load: None,
                rate_per_s: None,
                rounds: 1,
            },
            filled_in: Duration::from_millis(500),
            tally,
            took: Duration::from_secs(1),
            wrong: Found::default(),
            raw,
            processor: ProcessorTimes::default(),
        }
    }

    fn measured() -> RawFigures {
        let mut tally = Tally::default();
        for _ in 0..600 {
            tally.record("bare_get", End::Answered, Duration::from_millis(1));
        }
        for _ in 0..100 {
            tally.record("bare_put", End::Answered, Duration::from_millis(1));
        }
        let took = ["bare_get", "bare_put"].map(|name| (name, Duration::from_secs(1)));

        RawFigures {
            tally,
            took: took.into(),
            left_out: None,
        }
    }

    fn left_out(why: &str) -> RawFigures {
        RawFigures {
            left_out: Some(why.to_owned()),
            ..RawFigures::default()
        }
    }

    #[test]
    fn the_limit_of_a_mix_is_that_of_its_operations_one_after_the_other() {
        let (limit, share) = outcome(measured()).limit().expect("a limit");

        // 0.6 of 600 a second, and 0.4 of 100 a second: 5 ms each.
        assert!((limit - 200.0).abs() < 0.1, "{limit}");
        assert!((share - 0.5).abs() < 0.001, "{share}");
        assert_eq!(outcome(left_out("x")).limit(), None);
    }

    #[test]
    fn the_tables_have_a_row_for_each_operation_and_say_what_was_left_out() {
        let text = outcome(left_out("no rights")).to_text(&Screen::pipe());

        let first: Vec<_> = text
            .lines()
            .take(4)
            .map(|line| line.split("  ").next().unwrap_or_default())
            .collect();
        assert_eq!(first, ["OPERATION", "get", "put", "all"], "{text}");
        for part in [
            "refused with overloaded: 1",
            "2 owners got 3 items each before: 4 owners a second",
            "no raw figures: no rights",
            "all right",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let with_raw = outcome(measured()).to_text(&Screen::pipe());
        assert!(
            with_raw.contains("bare get") && with_raw.contains("50.0 %"),
            "{with_raw}"
        );
    }

    #[test]
    fn a_latency_has_three_digits() {
        for (micros, expected) in [
            (7, "7 µs"),
            (999, "999 µs"),
            (1_234, "1.23 ms"),
            (12_345, "12.3 ms"),
            (123_456, "123 ms"),
            (1_234_567, "1.23 s"),
        ] {
            assert_eq!(latency(Duration::from_micros(micros)), expected);
        }
    }
}
