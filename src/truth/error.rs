//! What can go wrong with the truth.

use crate::requester::{CallError, Transient};

/// Why the truth gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// It cannot be reached, or did not answer in time.
    #[error("the truth is out of reach: {0}")]
    Unavailable(#[from] CallError),
    /// The bucket is full.
    #[error("the bucket is full")]
    Full,
    /// It answered with an error that none of the other variants covers.
    #[error("the truth refused: {0}")]
    Refused(String),
    /// This version of the service does not understand its answer.
    #[error("the truth's answer cannot be read: {0}")]
    Unreadable(&'static str),
}

impl Transient for TruthError {
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
