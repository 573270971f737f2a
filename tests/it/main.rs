//! The service on real servers, spoken to over the wire: one file a feature, each test a sentence.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

mod accounts;
mod auth;
mod bad_input;
mod dev;
mod item;
mod projection;
mod readme;
mod reply_wall;
mod rooms;

mod startup;
mod survive;
mod truth;
mod unreadable;
