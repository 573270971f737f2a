//! Writes the text: OpenMetrics 1.0, or the older text format of Prometheus (0.0.4).
//!
//! Both have the same samples. They differ in how they announce a family.

use super::families::families;
use super::family::{Family, Kind};
use super::sample::{Sample, samples};
use super::scrape::Scrape;
use crate::cli::output::visible;
use clap::ValueEnum;
use std::collections::BTreeSet;

/// A format of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// OpenMetrics 1.0
    Openmetrics,
    /// Prometheus' older text format, which the textfile collector of node_exporter reads
    Prometheus,
}

/// Returns the text of all families that have samples.
pub(super) fn format(scrape: &Scrape, format: Format) -> String {
    let mut text = String::new();
    for family in families() {
        let samples = samples(family, scrape);
        if samples.is_empty() {
            continue;
        }

        text += &announcement(family, format);
        // A parser refuses the complete text because of one sample that is there twice.
        let mut written = BTreeSet::new();
        for sample in samples {
            let name = sample_name(family, &sample);
            if !written.contains(&name) {
                text += &format!("{name} {}\n", sample.number);
                written.insert(name);
            }
        }
    }

    if format == Format::Openmetrics {
        text += "# EOF\n";
    }
    text
}

/// Returns the lines before a family's samples.
fn announcement(family: &Family, format: Format) -> String {
    let Family {
        name, kind, help, ..
    } = family;
    if format == Format::Prometheus {
        let kind = match kind {
            Kind::Info => Kind::Gauge,
            kind => *kind,
        };
        return format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str());
    }

    // Here the endings of counters and infos belong to the samples alone.
    let name = match kind {
        Kind::Counter => name.strip_suffix("_total"),
        Kind::Info => name.strip_suffix("_info"),
        Kind::Gauge | Kind::Histogram => None,
    }
    .unwrap_or(name);
    let kind = kind.as_str();
    let unit = match family.unit() {
        Some(unit) => format!("# UNIT {name} {unit}\n"),
        None => String::new(),
    };
    format!("# TYPE {name} {kind}\n{unit}# HELP {name} {help}\n")
}

/// Returns the name of a sample with its labels.
fn sample_name(family: &Family, sample: &Sample) -> String {
    let labels = family.labels.iter().zip(&sample.labels);
    let mut pairs: Vec<String> = labels
        .map(|(label, value)| format!("{label}=\"{}\"", escape(value)))
        .collect();
    if let Some(bound) = &sample.bound {
        pairs.push(format!("le=\"{bound}\""));
    }

    let name = family.name;
    let ending = sample.ending;
    match pairs.is_empty() {
        true => format!("{name}{ending}"),
        false => format!("{name}{ending}{{{}}}", pairs.join(",")),
    }
}

/// Returns a label's value as both formats have it within quotes: on one line, with nothing hidden
/// in it.
fn escape(value: &str) -> String {
    visible(value).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use serde_json::{Value, json};

    fn text_of(workers: Vec<Value>) -> String {
        let at = Timestamp::from_millis(1_795_410_000_250);
        format(&Scrape::of(workers, at), Format::Openmetrics)
    }

    #[test]
    fn a_worker_that_reports_little_gives_few_samples() {
        let data = json!({"shard": "a", "truth": {"bytes": 7, "bytes_max": null}});
        let text = text_of(vec![json!({"id": "one", "data": data})]);

        assert!(text.contains("gofavorites_scrape_time_seconds 1795410000.25\n"));
        assert!(text.contains("gofavorites_bucket_size_bytes{shard=\"a\",worker=\"one\"} 7\n"));
        assert!(!text.contains("bucket_limit_bytes") && !text.contains("requests"));
    }

    #[test]
    fn a_time_is_in_seconds_and_in_the_buckets_it_fits() {
        let get = json!({
            "name": "get",
            "num_requests": 3,
            "processing_time": 2_500_000_000_u64,
            "data": {"buckets_us": [[100, 1], [1_000_000, 2]], "refusals": {}},
        });
        let data = json!({"shard": "a"});
        let text = text_of(vec![json!({"id": "one", "endpoints": [get], "data": data})]);

        let name = "gofavorites_request_duration_seconds";
        let labels = "shard=\"a\",worker=\"one\",operation=\"get\"";
        let expected = format!(
            "{name}_bucket{{{labels},le=\"0.0001\"}} 1\n\
             {name}_bucket{{{labels},le=\"1.0\"}} 2\n\
             {name}_bucket{{{labels},le=\"+Inf\"}} 3\n\
             {name}_sum{{{labels}}} 2.5\n\
             {name}_count{{{labels}}} 3\n"
        );
        assert!(text.contains(&expected), "{text}");
    }

    #[test]
    fn what_no_parser_accepts_is_left_out() {
        let operation = |name: &str, requests: i64, buckets: Value| {
            let data = json!({"buckets_us": buckets, "refusals": {}});
            json!({"name": name, "num_requests": requests, "data": data})
        };
        let endpoints = json!([
            operation("put", -1, json!([])),
            operation("get", 9, json!([[100, 2], [100, 3]])),
            operation("list", 9, json!([[100, 3], [200, 2]])),
            operation("move", 9, json!([[100, 10]])),
        ]);
        let text = text_of(vec![
            json!({"id": "one", "endpoints": endpoints, "data": {}}),
        ]);

        assert!(!text.contains("operation=\"put\""), "{text}");
        assert!(text.contains("operation=\"get\"} 9\n"), "{text}");
        assert!(!text.contains("duration_seconds"), "{text}");
    }

    #[test]
    fn no_sample_is_there_twice_and_labels_are_escaped() {
        let worker = |started: &str, tasks: u8| {
            let data = json!({"shard": "a\"b\\c\nd", "tasks": tasks});
            json!({"id": "one", "started": started, "data": data})
        };
        let former = worker("2026-11-28T20:00:00.000Z", 1);
        let later = worker("2026-11-28T21:00:00.000Z", 2);
        let text = text_of(vec![former, later]);

        let labels = r#"shard="a\"b\\c d""#;
        assert!(
            text.contains(&format!("gofavorites_workers{{{labels}}} 1\n")),
            "{text}"
        );
        let tasks = format!("gofavorites_tasks{{{labels},worker=\"one\"}} ");
        assert_eq!(text.matches(&tasks).count(), 1);
        assert!(text.contains(&format!("{tasks}2\n")), "{text}");
    }
}
