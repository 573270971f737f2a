//! GoFavorites keeps what the users of an investment platform mark as favourites: privately,
//! versioned, and in step on every shard of the platform. It is a NATS-native worker without HTTP.
//!
//! The modules [`client`] and [`feed`] are for other programs. The others are public for `main` and for
//! `tests/it`, and so that every item must be documented. They are not an API for others.
//!
//! # The map
//!
//! A request arrives on a NATS subject, and its reply leaves on the same connection:
//!
//! ```text
//! app ─► wire (decode) ─► auth (who) ─► handler (what) ─► owners ─► seal ─► truth (JetStream)
//!                                                            ▲                 │ in order
//! reply ◄── wire (encode) ◄── handler ◄── snapshot in memory ◄── shard (Postgres) ◄┘
//! ```
//!
//! | layer | modules | may name |
//! |---|---|---|
//! | 0 | [`domain`] | nothing of ours |
//! | 1 | [`wire`], [`seal`], [`front`], [`requester`], [`breaker`], [`build`], [`secret_file`] | 0 |
//! | 2 | [`auth`], `reference`, [`truth`], [`shard`], [`nats`], [`client`] | 0, 1 |
//! | 3 | [`owners`], [`feed`] | 0 to 2 |
//! | 4 | [`handler`], [`maintenance`] | 0 to 3 |
//! | 5 | [`app`], [`config`], [`telemetry`], [`shutdown`], `dev` | all below |
//! | 6 | [`cli`] | all below |
//!
//! # What always holds
//!
//! 1. A write goes to the bucket and nowhere else; rows in Postgres come from its records alone.
//! 2. Every write is a compare-and-set on its owner's version, built in one place
//!    (`truth::append`).
//! 3. A refusal is decided on a state that the bucket has confirmed; an acceptance is confirmed by
//!    its compare-and-set.
//! 4. Every set of records is checked to be complete before it is trusted (`seal::OwnerSet`).
//! 5. The owner of a request comes from the auth service's signed verdict and from nowhere else.
//! 6. No user id, token, ISIN, secret or text of an owner stands in a log line, a subject, a key or
//!    a column.
//! 7. A reply goes only to a subject that is an inbox; every other request is counted and dropped
//!    before any work.
//! 8. A deletion is purged only once its owner's floor has reached it, so no version goes back and
//!    nothing deleted returns.

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "feed")]
pub mod breaker;
#[cfg(feature = "server")]
pub mod build;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "dev")]
pub mod dev;
pub mod domain;
#[cfg(feature = "feed")]
pub mod feed;
#[cfg(feature = "server")]
pub mod front;
#[cfg(feature = "server")]
pub mod handler;
#[cfg(feature = "server")]
pub mod maintenance;
#[cfg(feature = "server")]
pub mod nats;
#[cfg(feature = "server")]
pub mod owners;
#[cfg(feature = "server")]
pub mod reference;
#[cfg(feature = "feed")]
pub mod requester;
#[cfg(feature = "feed")]
pub mod seal;
#[cfg(feature = "server")]
pub mod secret_file;
#[cfg(feature = "server")]
pub mod shard;
#[cfg(feature = "server")]
pub mod shutdown;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "feed")]
pub mod truth;
pub mod wire;
