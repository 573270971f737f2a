//! The service on real servers, spoken to over the wire: one file a feature, each test a sentence.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

mod accounts;
mod arrivals;
mod asyncapi;
mod auth;
mod auth_document;
mod backup;
mod bad_input;
mod batch;
mod changes;
mod cli;
mod cli_otp;
mod client;
mod cluster;
mod codes;
mod condition;
mod connections;
mod consistency;
mod contract;
mod deadline;
mod dev;
mod dev_commands;
mod direct;
mod discovery;
mod epoch;
mod exactly_once;
mod examples;
mod feed;
mod flood;
mod format_one;
mod front;
mod heavy;
mod history;
mod hosting;
mod hub_of_three;
mod import;
mod instruments;
mod interleavings;
mod item;
mod key_rotation;
mod layers;
mod linearizability;
mod links;
mod list;
mod lookup;
mod maintain;
mod malformed;
mod next_release;
mod order;
mod otp;
mod otp_verify;
mod outage;
mod payload;
mod postgres_tls;
mod projection;
mod readme;
mod reference;
mod reload;
mod reply_wall;
mod reproducible;
mod retry;
mod revocation;
mod separation;
mod shard_tools;
mod shell;
mod soak;
mod startup;
mod stopping;
mod suite_scan;
mod survive;
mod tags;
mod threats;
mod topology;
mod truth;
mod unreadable;
mod version_limits;
mod versions;
mod waiting;
