//! The reference service: whether an instrument exists, and what is known about it.
//!
//! The worker asks over NATS, on the connection of the auth service, and only if the settings name
//! a subject. A question names an instrument and nothing of its owner. A refusal and an answer that
//! cannot be read count as no answer. No log line shows an instrument.

mod answer;
mod cache;
mod client;
mod error;
mod question;
mod settings;

pub use answer::{Answer, Listing};
pub use client::{ReferenceClient, ReferenceCounts};
pub use error::ReferenceError;
pub use question::Question;
pub use settings::{OnSilence, ReferenceSettings};
