//! Families about connections, circuit breakers, and the services that a worker asks.

use super::WORKER;
use crate::cli::metrics::family::Family;
use crate::cli::metrics::family::Kind::{Counter, Gauge};
use crate::cli::metrics::family::Source::{Field, Fields, FieldsAre};

pub(super) const DEPENDENCIES: &[Family] = &[
    Family {
        name: "gofavorites_messages_lost_total",
        kind: Counter,
        labels: &["shard", "worker", "connection"],
        help: "Messages lost because a queue of that connection was full",
        source: Fields(&[
            ("front", "/data/requests/lost_to_full_queues"),
            ("auth", "/data/nats/auth/lost_to_full_queues"),
            ("truth", "/data/nats/truth/lost_to_full_queues"),
        ]),
    },
    Family {
        name: "gofavorites_connection_up",
        kind: Gauge,
        labels: &["shard", "worker", "connection"],
        help: "1 if that connection to NATS is up",
        source: Fields(&[
            ("front", "/data/nats/connected"),
            ("auth", "/data/nats/auth/connected"),
            ("truth", "/data/nats/truth/connected"),
        ]),
    },
    Family {
        name: "gofavorites_connections_total",
        kind: Counter,
        labels: &["shard", "worker", "connection"],
        help: "How often that connection to NATS was made",
        source: Fields(&[
            ("front", "/data/nats/connections"),
            ("auth", "/data/nats/auth/connections"),
            ("truth", "/data/nats/truth/connections"),
        ]),
    },
    Family {
        name: "gofavorites_breaker_open",
        kind: Gauge,
        labels: &["shard", "worker", "dependency"],
        help: "1 while the circuit breaker is open: the dependency does not answer, or refuses writes",
        source: FieldsAre(
            "open",
            &[
                ("bucket_reads", "/data/truth/reads/state"),
                ("bucket_writes", "/data/truth/writes/state"),
                ("postgres", "/data/postgres/breaker/state"),
                ("postgres_writes", "/data/postgres/writes/state"),
                ("auth", "/data/auth/breaker/state"),
                ("reference", "/data/reference/breaker/state"),
            ],
        ),
    },
    Family {
        name: "gofavorites_breaker_opened_total",
        kind: Counter,
        labels: &["shard", "worker", "dependency"],
        help: "How often the circuit breaker has opened",
        source: Fields(&[
            ("bucket_reads", "/data/truth/reads/opened"),
            ("bucket_writes", "/data/truth/writes/opened"),
            ("postgres", "/data/postgres/breaker/opened"),
            ("postgres_writes", "/data/postgres/writes/opened"),
            ("auth", "/data/auth/breaker/opened"),
            ("reference", "/data/reference/breaker/opened"),
        ]),
    },
    Family {
        name: "gofavorites_auth_questions_total",
        kind: Counter,
        labels: WORKER,
        help: "Questions to the auth service",
        source: Field("/data/auth/asked"),
    },
    Family {
        name: "gofavorites_auth_cache_hits_total",
        kind: Counter,
        labels: WORKER,
        help: "Requests with a cached verdict",
        source: Field("/data/auth/hits"),
    },
    Family {
        name: "gofavorites_auth_cached_verdicts",
        kind: Gauge,
        labels: WORKER,
        help: "Verdicts in the cache",
        source: Field("/data/auth/kept"),
    },
    Family {
        name: "gofavorites_auth_revocations_total",
        kind: Counter,
        labels: WORKER,
        help: "Revocation events of the auth service",
        source: Field("/data/auth/revocations"),
    },
    Family {
        name: "gofavorites_auth_forged_revocations_total",
        kind: Counter,
        labels: WORKER,
        help: "Revocation events without a valid signature",
        source: Field("/data/auth/forged_revocations"),
    },
    Family {
        name: "gofavorites_auth_key_reloads_total",
        kind: Counter,
        labels: WORKER,
        help: "How often changed keys of the auth service came into force",
        source: Field("/data/auth/key_reloads"),
    },
    Family {
        name: "gofavorites_auth_keys_current",
        kind: Gauge,
        labels: WORKER,
        help: "0 if a file of the auth service's keys cannot be used, so that former ones are in force",
        source: Field("/data/auth/keys_current"),
    },
    Family {
        name: "gofavorites_reference_questions_total",
        kind: Counter,
        labels: WORKER,
        help: "Questions to the reference service; no sample without one",
        source: Field("/data/reference/asked"),
    },
    Family {
        name: "gofavorites_reference_cache_hits_total",
        kind: Counter,
        labels: WORKER,
        help: "Instruments about which an answer was cached",
        source: Field("/data/reference/hits"),
    },
    Family {
        name: "gofavorites_reference_cached_answers",
        kind: Gauge,
        labels: WORKER,
        help: "Answers of the reference service in the cache",
        source: Field("/data/reference/kept"),
    },
    Family {
        name: "gofavorites_reference_silences_total",
        kind: Counter,
        labels: WORKER,
        help: "Questions that the reference service did not answer",
        source: Field("/data/reference/silent"),
    },
];
