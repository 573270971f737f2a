//! The replies of the JetStream API, and what its error codes mean for a caller of the bucket.

use super::error::TruthError;
use crate::requester::CallError;
use async_nats::jetstream::ErrorCode;
use serde::Deserialize;

/// The server's acknowledgement of a publish.
#[derive(Deserialize)]
pub(super) struct Ack {
    pub(super) error: Option<ApiError>,
    #[serde(default)]
    pub(super) seq: u64,
}

impl Ack {
    /// Returns whether the publish was refused because the bucket is full.
    pub(super) fn is_full(&self) -> bool {
        self.error.as_ref().is_some_and(ApiError::is_full)
    }
}

/// An error of the JetStream API.
#[derive(Debug, Deserialize)]
pub(super) struct ApiError {
    pub(super) err_code: ErrorCode,
    description: String,
}

/// The owner's version is not the one that the write expected. The second code means that another
/// write to the same subjects is still under way.
const CONFLICT: [ErrorCode; 2] = [
    ErrorCode::STREAM_WRONG_LAST_SEQUENCE,
    ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
];

/// A publish is refused because the storage of the account or of the server is full, or a limit of
/// the stream is reached. The second code is that of the server's own limit, `max_file_store`.
const FULL: [ErrorCode; 5] = [
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
    ErrorCode::STREAM_STORE_FAILED,
];

/// No leader of the stream is known or ready, or the server has switched JetStream off, as it does when
/// it cannot write its disk.
const NOT_READY: [ErrorCode; 3] = [
    ErrorCode::CLUSTER_NOT_AVAILABLE,
    ErrorCode::CLUSTER_NOT_LEADER,
    ErrorCode::JETSTREAM_NOT_ENABLED,
];

/// The stream has stored nothing of a batch: too many are open, or the leader lacks members of it.
/// It lacks those that another leader got, and all of them if it did not open the batch: only the
/// last one has a reply.
const UNTAKEN_BATCH: [ErrorCode; 2] = [
    ErrorCode::ATOMIC_PUBLISH_INCOMPLETE_BATCH,
    ErrorCode::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT,
];

/// A call other than a publish finds no room: the stream has reached its limit of consumers, or the
/// servers have no memory or storage for one more.
const BUSY: [ErrorCode; 3] = [
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::MAXIMUM_CONSUMERS_LIMIT,
    ErrorCode::MEMORY_RESOURCES_EXCEEDED,
];

impl ApiError {
    /// Returns whether the same call may succeed later. Of a publish, [`is_full`](Self::is_full) comes
    /// first.
    pub(super) fn is_transient(&self) -> bool {
        NOT_READY.contains(&self.err_code) || BUSY.contains(&self.err_code)
    }

    /// Returns whether the owner's version is not the one that the write expected.
    pub(super) fn is_conflict(&self) -> bool {
        CONFLICT.contains(&self.err_code)
    }

    /// Returns whether the stream has not taken a batch, which may be sent again.
    pub(super) fn is_untaken_batch(&self) -> bool {
        UNTAKEN_BATCH.contains(&self.err_code)
    }

    /// Returns whether the bucket is too full for a publish.
    pub(super) fn is_full(&self) -> bool {
        FULL.contains(&self.err_code)
    }
}

impl From<ApiError> for TruthError {
    fn from(error: ApiError) -> Self {
        match error.err_code {
            code if NOT_READY.contains(&code) => CallError::NoResponders.into(),
            code if BUSY.contains(&code) => CallError::Busy.into(),
            code => Self::Refused(format!("{} {}", code.0, error.description)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(err_code: ErrorCode) -> ApiError {
        ApiError {
            err_code,
            description: "d".into(),
        }
    }

    #[test]
    fn each_code_means_one_thing() {
        for code in CONFLICT {
            let error = error(code);

            assert!(error.is_conflict(), "{code:?}");
            assert!(!error.is_full(), "{code:?}");
            assert!(!error.is_transient(), "{code:?}");
        }

        for code in FULL {
            let error = error(code);

            assert!(error.is_full(), "{code:?}");
            assert!(!error.is_conflict(), "{code:?}");
            assert!(!error.is_untaken_batch(), "{code:?}");
        }

        for code in UNTAKEN_BATCH {
            assert!(error(code).is_untaken_batch(), "{code:?}");
        }

        let refused = TruthError::from(error(ErrorCode::BAD_REQUEST));
        assert!(matches!(refused, TruthError::Refused(_)));
    }

    #[test]
    fn a_stream_that_is_not_ready_is_unavailable() {
        for code in NOT_READY.into_iter().chain(BUSY) {
            assert!(error(code).is_transient(), "{code:?}");

            let converted = TruthError::from(error(code));
            assert!(matches!(converted, TruthError::Unavailable(_)), "{code:?}");
        }
    }
}
