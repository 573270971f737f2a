//! A write of an owner, and why it was not acknowledged.

use super::api::ApiError;
use super::error::TruthError;
use crate::domain::Version;
use crate::seal::{OwnerKey, RecordName};
use bytes::Bytes;

/// A sealed record to write.
#[derive(Clone)]
pub struct NewRecord {
    /// Which of the owner's records it is.
    pub name: RecordName,
    /// Envelope and ciphertext.
    pub value: Bytes,
}

/// A write of one owner.
#[derive(Clone, Copy)]
pub struct OwnerWrite<'w> {
    /// The owner.
    pub owner: &'w OwnerKey,
    /// The version that the owner has to have.
    pub expected: Version,
    /// What to write.
    pub records: &'w [NewRecord],
}

/// Why a write was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The owner's version is not the expected one: nothing was written.
    #[error("the owner has another version by now")]
    Conflict,
    /// The bucket is full: nothing was written.
    #[error("the bucket is full")]
    Full,
    /// Too many batches are open, here or at the server: nothing was written.
    #[error("too many batches are open")]
    Busy,
    /// The write was refused, or never reached the bucket: nothing was written.
    #[error(transparent)]
    NotWritten(TruthError),
    /// The write was sent without a usable acknowledgement: it may be written, now or later.
    #[error("the write was sent, but no usable acknowledgement came")]
    InDoubt,
}

impl From<ApiError> for AppendError {
    fn from(error: ApiError) -> Self {
        if error.is_conflict() {
            Self::Conflict
        } else if error.is_full() {
            Self::Full
        } else if error.is_untaken_batch() {
            Self::Busy
        } else {
            Self::NotWritten(error.into())
        }
    }
}
