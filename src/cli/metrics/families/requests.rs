//! Families about requests and replies.

use super::WORKER;
use crate::cli::metrics::family::Family;
use crate::cli::metrics::family::Kind::{Counter, Gauge, Histogram};
use crate::cli::metrics::family::OperationSource::{self, Refusals, Times};
use crate::cli::metrics::family::Source::{Field, Fields, Operations};

pub(super) const REQUESTS: &[Family] = &[
    Family {
        name: "gofavorites_requests_total",
        kind: Counter,
        labels: &["shard", "worker", "operation"],
        help: "Requests that were answered, refused ones too",
        source: Operations(OperationSource::Field("/num_requests")),
    },
    Family {
        name: "gofavorites_refusals_total",
        kind: Counter,
        labels: &["shard", "worker", "operation", "code"],
        help: "Requests that were refused with that code",
        source: Operations(Refusals),
    },
    Family {
        name: "gofavorites_request_duration_seconds",
        kind: Histogram,
        labels: &["shard", "worker", "operation"],
        help: "Times from a request's arrival to its reply",
        source: Operations(Times),
    },
    Family {
        name: "gofavorites_replies_total",
        kind: Counter,
        labels: WORKER,
        help: "Replies that were sent, those to overloaded callers too",
        source: Field("/data/requests/answered"),
    },
    Family {
        name: "gofavorites_requests_in_flight",
        kind: Gauge,
        labels: WORKER,
        help: "Requests under way",
        source: Field("/data/requests/in_flight"),
    },
    Family {
        name: "gofavorites_requests_in_flight_limit",
        kind: Gauge,
        labels: WORKER,
        help: "Requests that may be under way at once: limits.in_flight",
        source: Field("/data/requests/in_flight_max"),
    },
    Family {
        name: "gofavorites_requests_refused_for_load_total",
        kind: Counter,
        labels: WORKER,
        help: "Requests answered overloaded at once, because too many were under way",
        source: Field("/data/requests/refused_for_load"),
    },
    Family {
        name: "gofavorites_requests_dropped_total",
        kind: Counter,
        labels: &["shard", "worker", "reason"],
        help: "Requests dropped without a reply, by what was wrong with their reply subject",
        source: Fields(&[
            (
                "no_reply_subject",
                "/data/requests/dropped_without_reply_subject",
            ),
            (
                "hostile_reply_subject",
                "/data/requests/dropped_for_hostile_reply_subject",
            ),
        ]),
    },
    Family {
        name: "gofavorites_replies_refused_total",
        kind: Counter,
        labels: WORKER,
        help: "Replies that the NATS server did not let the worker send",
        source: Field("/data/requests/replies_refused_by_the_server"),
    },
];
