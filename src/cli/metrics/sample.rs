//! Reads the samples of a family from the workers' answers.

use super::family::{Family, OperationSource, Source};
use super::scrape::{Scrape, id};
use crate::domain::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// One number of a family.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// What follows the family's name: nothing, except in a histogram.
    pub ending: &'static str,
    /// The values of the family's labels, in their order.
    pub labels: Vec<String>,
    /// The upper bound of a histogram's bucket.
    pub bound: Option<String>,
    pub number: String,
}

impl Sample {
    fn new(labels: Vec<String>, number: String) -> Self {
        Self {
            ending: "",
            labels,
            bound: None,
            number,
        }
    }
}

/// Returns all samples of a family.
pub(super) fn samples(family: &Family, scrape: &Scrape) -> Vec<Sample> {
    match family.source {
        Source::Success => {
            let number = u8::from(scrape.has_succeeded()).to_string();
            vec![Sample::new(Vec::new(), number)]
        }
        Source::ScrapeTime => vec![Sample::new(Vec::new(), seconds(scrape.at()))],
        Source::Workers => workers_by_shard(scrape),
        _ => {
            let workers = scrape.workers().iter();
            workers
                .flat_map(|worker| of_worker(&family.source, worker))
                .collect()
        }
    }
}

fn workers_by_shard(scrape: &Scrape) -> Vec<Sample> {
    let mut shards: BTreeMap<String, u64> = BTreeMap::new();
    for worker in scrape.workers() {
        let [shard, _] = id(worker);
        *shards.entry(shard).or_default() += 1;
    }

    shards
        .into_iter()
        .map(|(shard, count)| Sample::new(vec![shard], count.to_string()))
        .collect()
}

/// Returns a sample of a worker, with these values of the labels that follow shard and worker.
fn sample(worker: &Value, more: &[&str], number: String) -> Sample {
    let more = more.iter().map(|text| (*text).to_owned());

    Sample::new(id(worker).into_iter().chain(more).collect(), number)
}

fn of_worker(source: &Source, worker: &Value) -> Vec<Sample> {
    let sample = |more: &[&str], number| sample(worker, more, number);
    let text_at = |path: &str| worker.pointer(path).and_then(Value::as_str);

    match source {
        Source::Field(path) => number(worker, path)
            .map(|number| sample(&[], number))
            .into_iter()
            .collect(),
        Source::Fields(fields) => fields
            .iter()
            .filter_map(|(label, path)| Some(sample(&[label], number(worker, path)?)))
            .collect(),
        Source::FieldIs(path, wanted) => text_at(path)
            .map(|text| sample(&[], truth(text == *wanted)))
            .into_iter()
            .collect(),
        Source::FieldsAre(wanted, fields) => fields
            .iter()
            .filter_map(|(label, path)| Some(sample(&[label], truth(text_at(path)? == *wanted))))
            .collect(),
        Source::OneOf(path, states) => text_at(path).map_or_else(Vec::new, |text| {
            let states = states.iter();
            states
                .map(|state| sample(&[state], truth(*state == text)))
                .collect()
        }),
        Source::Moment(path) => text_at(path)
            .and_then(Timestamp::parse_rfc3339)
            .map(|moment| sample(&[], seconds(moment)))
            .into_iter()
            .collect(),
        Source::Reasons => parts_with_reasons(worker)
            .into_iter()
            .map(|(part, count)| sample(&[part], count.to_string()))
            .collect(),
        Source::Texts(paths) => {
            let texts: Vec<&str> = paths
                .iter()
                .map(|path| text_at(path).unwrap_or_default())
                .collect();
            vec![sample(&texts, "1".to_owned())]
        }
        Source::Operations(part) => of_operations(part, worker),
        Source::Workers | Source::Success | Source::ScrapeTime => Vec::new(),
    }
}

fn of_operations(part: &OperationSource, worker: &Value) -> Vec<Sample> {
    let sample = |more: &[&str], number| sample(worker, more, number);

    match part {
        OperationSource::Field(path) => operations(worker)
            .filter_map(|(name, operation)| Some(sample(&[&name], number(operation, path)?)))
            .collect(),
        OperationSource::Refusals => operations(worker)
            .flat_map(|(name, operation)| {
                let refusals = operation["data"]["refusals"].as_object();
                let refusals = refusals.into_iter().flatten();
                refusals.map(move |(code, count)| (name.clone(), code, count))
            })
            .filter_map(|(name, code, count)| Some(sample(&[&name, code], number(count, "")?)))
            .collect(),
        OperationSource::Times => operations(worker)
            .flat_map(|(name, operation)| histogram(&sample(&[&name], String::new()), operation))
            .collect(),
    }
}

fn parts_with_reasons(worker: &Value) -> BTreeMap<&str, u64> {
    let mut parts = BTreeMap::new();
    for reason in worker["data"]["reasons"].as_array().into_iter().flatten() {
        *parts
            .entry(reason["part"].as_str().unwrap_or_default())
            .or_default() += 1;
    }

    parts
}

/// Returns each operation's part of a worker's answer, with the operation's name in the contract:
/// names in discovery have no dots.
fn operations(worker: &Value) -> impl Iterator<Item = (String, &Value)> {
    let operations = worker["endpoints"].as_array().into_iter().flatten();

    operations
        .filter_map(|operation| Some((operation["name"].as_str()?.replace('-', "."), operation)))
}

/// Returns the samples of an operation's histogram, with the labels of `like`. A worker of an older
/// release reports none.
fn histogram(like: &Sample, operation: &Value) -> Vec<Sample> {
    let Some(buckets) = operation["data"]["buckets_us"].as_array() else {
        return Vec::new();
    };
    let sample = |ending, bound, number| Sample {
        ending,
        labels: like.labels.clone(),
        bound,
        number,
    };

    let buckets: Vec<(u64, u64)> = buckets
        .iter()
        .filter_map(|bucket| Some((bucket[0].as_u64()?, bucket[1].as_u64()?)))
        .collect();
    let requests = operation["num_requests"].as_u64();
    let Some(requests) = requests.filter(|requests| is_cumulative(&buckets, *requests)) else {
        return Vec::new();
    };

    let mut samples: Vec<Sample> = buckets
        .iter()
        .map(|(bound_us, count)| {
            let bound = format!("{:?}", *bound_us as f64 / 1e6);
            sample("_bucket", Some(bound), count.to_string())
        })
        .collect();
    let sum = number(operation, "/processing_time").unwrap_or_else(|| "0".to_owned());
    let count = requests.to_string();
    samples.push(sample("_bucket", Some("+Inf".to_owned()), count.clone()));
    samples.push(sample("_sum", None, sum));
    samples.push(sample("_count", None, count));
    samples
}

/// Returns whether the bounds rise and the counts do not fall, up to the number of requests. A parser
/// refuses the complete text because of a histogram in which they do not.
fn is_cumulative(buckets: &[(u64, u64)], requests: u64) -> bool {
    let rises = |pair: &[(u64, u64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;

    buckets.windows(2).all(rises) && buckets.last().is_none_or(|(_, count)| *count <= requests)
}

/// Returns a number or a truth value, times in seconds. A field's name says its unit; NATS defines
/// that of `processing_time`.
fn number(value: &Value, path: &str) -> Option<String> {
    let value = value.pointer(path)?;
    if let Some(is_true) = value.as_bool() {
        return Some(truth(is_true));
    }

    let divisor = match path {
        _ if path.ends_with("_ms") => 1e3,
        "/processing_time" => 1e9,
        _ => 1.0,
    };
    // No figure of a worker is below zero, and a counter must not be.
    let figure = value.as_f64().filter(|figure| *figure >= 0.0)?;
    Some(match divisor {
        1.0 => value.to_string(),
        divisor => (figure / divisor).to_string(),
    })
}

fn truth(is_true: bool) -> String {
    u8::from(is_true).to_string()
}

fn seconds(moment: Timestamp) -> String {
    (moment.millis() as f64 / 1e3).to_string()
}
