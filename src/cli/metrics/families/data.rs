//! Families about what a worker and its shard hold, and the bucket.

use super::WORKER;
use crate::cli::metrics::family::Family;
use crate::cli::metrics::family::Kind::{Counter, Gauge};
use crate::cli::metrics::family::Source::{Field, FieldIs};

pub(super) const DATA: &[Family] = &[
    Family {
        name: "gofavorites_cache_owners",
        kind: Gauge,
        labels: WORKER,
        help: "Owners in the worker's memory",
        source: Field("/data/cache/owners"),
    },
    Family {
        name: "gofavorites_cache_size_bytes",
        kind: Gauge,
        labels: WORKER,
        help: "Approximate memory of those owners, which read.cache_bytes limits",
        source: Field("/data/cache/bytes"),
    },
    Family {
        name: "gofavorites_cache_hits_total",
        kind: Counter,
        labels: WORKER,
        help: "Requests that found their owner in memory",
        source: Field("/data/cache/hits"),
    },
    Family {
        name: "gofavorites_cache_misses_total",
        kind: Counter,
        labels: WORKER,
        help: "Requests that did not find their owner in memory",
        source: Field("/data/cache/misses"),
    },
    Family {
        name: "gofavorites_hosted_owners",
        kind: Gauge,
        labels: WORKER,
        help: "Owners that the shard's Postgres hosts, as the worker counted last",
        source: Field("/data/postgres/hosted"),
    },
    Family {
        name: "gofavorites_projecting",
        kind: Gauge,
        labels: WORKER,
        help: "1 if this worker projects for its shard; one of each shard does",
        source: Field("/data/projection/here"),
    },
    Family {
        name: "gofavorites_projection_sequence",
        kind: Gauge,
        labels: WORKER,
        help: "The stream sequence up to which the shard's Postgres has all records",
        source: Field("/data/projection/sequence"),
    },
    Family {
        name: "gofavorites_projection_lag_sequences",
        kind: Gauge,
        labels: WORKER,
        help: "How far that sequence is behind the bucket's newest one",
        source: Field("/data/projection/lag"),
    },
    Family {
        name: "gofavorites_bucket_newest_sequence",
        kind: Gauge,
        labels: WORKER,
        help: "The stream sequence of the newest record that the worker knows",
        source: Field("/data/truth/newest"),
    },
    Family {
        name: "gofavorites_bucket_newest_record_age_seconds",
        kind: Gauge,
        labels: WORKER,
        help: "Time since that record was written",
        source: Field("/data/truth/newest_age_ms"),
    },
    Family {
        name: "gofavorites_bucket_history_lost",
        kind: Gauge,
        labels: WORKER,
        help: "1 if the bucket has lost history that the shard has seen",
        source: FieldIs("/data/truth/history", "lost"),
    },
    Family {
        name: "gofavorites_lost_owners",
        kind: Gauge,
        labels: WORKER,
        help: "Owners whose copy in the shard's Postgres has records that the bucket lacks",
        source: Field("/data/truth/lost_owners"),
    },
    Family {
        name: "gofavorites_bucket_records",
        kind: Gauge,
        labels: WORKER,
        help: "Messages that the bucket stores: records, their earlier versions, and barriers",
        source: Field("/data/truth/records"),
    },
    Family {
        name: "gofavorites_bucket_size_bytes",
        kind: Gauge,
        labels: WORKER,
        help: "Size of those messages",
        source: Field("/data/truth/bytes"),
    },
    Family {
        name: "gofavorites_bucket_limit_bytes",
        kind: Gauge,
        labels: WORKER,
        help: "Size that they may have; no sample if the stream has no limit",
        source: Field("/data/truth/bytes_max"),
    },
];
