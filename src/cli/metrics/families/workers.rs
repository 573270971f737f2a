//! Families about the workers themselves and their processes.

use super::WORKER;
use crate::cli::metrics::family::Family;
use crate::cli::metrics::family::Kind::{Counter, Gauge, Info};
use crate::cli::metrics::family::Source::{
    Field, Moment, OneOf, Reasons, ScrapeTime, Success, Texts, Workers,
};

pub(super) const WORKERS: &[Family] = &[
    Family {
        name: "gofavorites_scrape_success",
        kind: Gauge,
        labels: &[],
        help: "1 if NATS carried the question to the workers, though none may have answered",
        source: Success,
    },
    Family {
        name: "gofavorites_scrape_time_seconds",
        kind: Gauge,
        labels: &[],
        help: "When the workers were asked, in seconds since 1970",
        source: ScrapeTime,
    },
    Family {
        name: "gofavorites_workers",
        kind: Gauge,
        labels: &["shard"],
        help: "Workers that answered",
        source: Workers,
    },
    Family {
        name: "gofavorites_build_info",
        kind: Info,
        labels: &["shard", "worker", "version", "commit", "built_at"],
        help: "What the worker was built from",
        source: Texts(&["/version", "/metadata/commit", "/metadata/built_at"]),
    },
    Family {
        name: "gofavorites_start_time_seconds",
        kind: Gauge,
        labels: WORKER,
        help: "When the worker started, in seconds since 1970",
        source: Moment("/started"),
    },
    Family {
        name: "gofavorites_worker_state",
        kind: Gauge,
        labels: &["shard", "worker", "state"],
        help: "1 for the state that the worker is in, 0 for the others",
        source: OneOf("/data/state", &["healthy", "degraded", "unhealthy"]),
    },
    Family {
        name: "gofavorites_worker_reasons",
        kind: Gauge,
        labels: &["shard", "worker", "part"],
        help: "Reasons why the worker is not healthy; no sample for a part without a reason",
        source: Reasons,
    },
    Family {
        name: "gofavorites_settings_reloads_total",
        kind: Counter,
        labels: WORKER,
        help: "How often changed settings came into force",
        source: Field("/data/settings/reloads"),
    },
    Family {
        name: "gofavorites_log_lines_dropped_total",
        kind: Counter,
        labels: WORKER,
        help: "Lines of the log that could not be written",
        source: Field("/data/log/dropped"),
    },
    Family {
        name: "gofavorites_tasks",
        kind: Gauge,
        labels: WORKER,
        help: "Tasks of the worker that are under way",
        source: Field("/data/tasks"),
    },
    Family {
        name: "gofavorites_process_cpu_seconds_total",
        kind: Counter,
        labels: WORKER,
        help: "CPU time of the worker's process",
        source: Field("/data/process/cpu_ms"),
    },
    Family {
        name: "gofavorites_process_resident_memory_bytes",
        kind: Gauge,
        labels: WORKER,
        help: "Resident memory of the worker's process",
        source: Field("/data/process/memory_bytes"),
    },
    Family {
        name: "gofavorites_process_open_files",
        kind: Gauge,
        labels: WORKER,
        help: "Files and connections that the worker's process has open",
        source: Field("/data/process/open_files"),
    },
];
