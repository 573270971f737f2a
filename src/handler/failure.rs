//! Why a request fails, and what its caller learns about it.
//!
//! # Which error is for what
//!
//! - [`Refusal`] is the caller's. Its code, message and details are the reply, and say what to
//!   mend.
//! - [`Invalid`] is the caller's too: a value breaks a rule of the domain. It becomes the refusal
//!   `invalid_item`.
//! - [`WriteFailure`] is the end of a write that was neither done nor refused by its handler. Each
//!   one becomes a refusal too.
//! - A type named `…Error` is ours: this worker, a server or stored data is at fault. Only
//!   [`AuthError`] can also mean a bad token. The text is for the log, and no caller gets it.
//! - [`Failure`] is the end of a request, with one of two contents: a refusal for the caller, or an
//!   internal error, for which the caller gets one fixed sentence and the request id.
//! - [`Transient`](crate::requester::Transient) marks an error that may pass. Its `is_unavailable`
//!   returns whether the same call may succeed later. The start of a worker waits while it does.
//!
//! # Which layer maps which
//!
//! | layer | errors | from |
//! |---|---|---|
//! | `wire` | [`Refusal`] | a request that cannot be read, or [`Invalid`] |
//! | `requester` | `CallError` | a call over NATS without an answer |
//! | `auth` | [`AuthError`] | `CallError`, or a verdict that cannot be trusted |
//! | `seal` | [`SealError`], `Broken` | a record that cannot be opened, an incomplete set |
//! | `reference` | `ReferenceError` | `CallError`, or an answer that cannot be used |
//! | `truth` | [`TruthError`], `AppendError` | `CallError`, or JetStream's error codes |
//! | `shard` | `ShardError` | sqlx |
//! | `owners` | [`OwnersError`], [`WriteFailure`] | `truth`, `shard` and `seal` |
//! | `handler` | [`Failure`] | all of the above, in this file |
//! | `app` | | replies with [`Failure::refusal`], logs an internal error once |
//!
//! A refusal that an operation decides is made where its details are known: in the file of the
//! operation, in `condition.rs`, `quota.rs`, `freshness.rs` (a version that is too high),
//! `limits.rs` (a denied admission) and `reference.rs` (an instrument that is not confirmed).
//! `ReferenceError` is logged where it comes up, because its request may go on.
//! `SettingsError` and `SetupError` end the start of a process and not a request.

use crate::auth::AuthError;
use crate::domain::Invalid;
use crate::owners::{OwnersError, WriteFailure};
use crate::seal::SealError;
use crate::truth::TruthError;
use crate::wire::{Code, Refusal};
use futures::FutureExt as _;
use tokio::time::{Instant, timeout_at};

/// How long a caller should wait before a retry if something is unavailable, in milliseconds.
pub(super) const RETRY_AFTER_MS: u64 = 500;

/// The end of a request that failed.
#[derive(Debug)]
pub enum Failure {
    /// The caller gets this refusal, which says what to mend.
    Refused(Refusal),
    /// The caller gets one fixed sentence. The error is for the log.
    Internal(anyhow::Error),
}

impl Failure {
    pub(super) fn internal(message: &'static str) -> Self {
        Self::Internal(anyhow::anyhow!(message))
    }

    /// The refusal that the caller gets.
    pub fn refusal(&self, request_id: &str) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone(),
            Self::Internal(_) => Refusal::internal(request_id),
        }
    }
}

/// A refusal that says when to retry.
pub(super) fn retry_soon(code: Code, message: &str) -> Refusal {
    Refusal::retry_later(code, message, RETRY_AFTER_MS)
}

/// The refusal if the bucket is full. Then it takes no barrier either, so a refusal or a `strong`
/// read cannot be confirmed.
pub(super) fn bucket_full() -> Refusal {
    retry_soon(
        Code::TruthUnavailable,
        "the bucket is full and takes no more: tell the operators",
    )
}

/// The refusal if the caller's time is up and nothing was written.
pub(super) fn deadline_exceeded() -> Refusal {
    Refusal::new(
        Code::DeadlineExceeded,
        "the time for this request was up before it was done; nothing was written",
    )
}

/// Waits for work that has written nothing yet, at most until the caller's time is up.
///
/// # Errors
/// `deadline_exceeded`.
pub(super) fn within<T>(
    deadline: Instant,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Refusal>> {
    timeout_at(deadline, work).map(|done| done.map_err(|_| deadline_exceeded()))
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(invalid.into())
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        Self::Refused(match error {
            AuthError::Unauthenticated => Refusal::new(
                Code::Unauthenticated,
                "the token is bad, expired or revoked: get a new one",
            ),
            AuthError::Busy => retry_soon(
                Code::Overloaded,
                "too many requests to the auth service are under way: ask again",
            ),
            AuthError::Unavailable(_) => retry_soon(
                Code::AuthUnavailable,
                "the auth service does not answer: ask again",
            ),
            AuthError::Unbelievable => retry_soon(
                Code::AuthUnavailable,
                "the auth service's verdict cannot be trusted: ask again",
            ),
        })
    }
}

impl From<WriteFailure> for Failure {
    fn from(failure: WriteFailure) -> Self {
        Self::Refused(match failure {
            WriteFailure::RequestIdReused => Refusal::new(
                Code::RequestIdReused,
                "this Nats-Msg-Id was used for another request: use a new one",
            ),
            WriteFailure::Forgotten(owner_version) => Refusal::new(
                Code::ResyncRequired,
                "the request was done before, but not all it wrote is still kept: read the items",
            )
            .with("owner_version", owner_version.get()),
            WriteFailure::TooManyRaces => retry_soon(
                Code::Overloaded,
                "too many other writes to this owner's items are under way: ask again",
            ),
            WriteFailure::Full => bucket_full(),
            WriteFailure::TooManyBatches => retry_soon(
                Code::Overloaded,
                "the bucket has too many batches to store before this one: ask again",
            ),
            WriteFailure::TooLarge { used, limit } => Refusal::new(
                Code::TooLarge,
                format!("the items would take {used} bytes in one write, and {limit} are allowed"),
            )
            .with("used", used)
            .with("limit", limit),
            WriteFailure::OutOfTime => deadline_exceeded(),
            WriteFailure::InDoubt => Refusal::new(
                Code::InDoubt,
                "it may be written, now or later: repeat it with its Nats-Msg-Id, or read the item",
            ),
        })
    }
}

impl From<OwnersError> for Failure {
    fn from(error: OwnersError) -> Self {
        match error {
            OwnersError::Truth(TruthError::Unavailable(_)) => Self::Refused(retry_soon(
                Code::TruthUnavailable,
                "the bucket is out of reach: ask again",
            )),
            OwnersError::Truth(TruthError::Full) => Self::Refused(bucket_full()),
            OwnersError::HistoryLost { .. } => Self::Refused(retry_soon(
                Code::TruthUnavailable,
                "the bucket has lost acknowledged history of this owner: tell the operators",
            )),
            OwnersError::NoMemory => Self::Refused(retry_soon(
                Code::Overloaded,
                "this worker has no memory left for the owner's items: ask again",
            )),
            OwnersError::NeverWas { owner_version } => Self::Refused(
                Refusal::bad_request("that version is higher than the owner's version")
                    .with("owner_version", owner_version.get()),
            ),
            OwnersError::Truth(TruthError::Refused(_) | TruthError::Unreadable(_))
            | OwnersError::Broken { .. }
            | OwnersError::HistoryWentBack(_)
            | OwnersError::Shard(_)
            | OwnersError::Seal(_) => Self::Internal(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Version;
    use crate::requester::CallError;

    #[test]
    fn each_error_has_its_code() {
        let code = |failure: Failure| failure.refusal("id").code();

        assert_eq!(
            code(AuthError::Unauthenticated.into()),
            Code::Unauthenticated
        );
        assert_eq!(code(AuthError::Unbelievable.into()), Code::AuthUnavailable);
        assert_eq!(code(AuthError::Busy.into()), Code::Overloaded);
        assert_eq!(
            code(AuthError::Unavailable(CallError::TimedOut).into()),
            Code::AuthUnavailable
        );

        assert_eq!(code(SealError::Tampered.into()), Code::Internal);

        assert_eq!(
            code(OwnersError::Truth(CallError::NotConnected.into()).into()),
            Code::TruthUnavailable
        );
        assert_eq!(
            code(OwnersError::Truth(TruthError::Full).into()),
            Code::TruthUnavailable
        );
        assert_eq!(
            code(OwnersError::Truth(TruthError::Unreadable("x")).into()),
            Code::Internal
        );
        assert_eq!(
            code(
                OwnersError::NeverWas {
                    owner_version: Version::NONE
                }
                .into()
            ),
            Code::BadRequest
        );

        assert_eq!(code(OwnersError::NoMemory.into()), Code::Overloaded);
        assert_eq!(code(Invalid::new("f", "r").into()), Code::InvalidItem);
    }

    #[test]
    fn no_caller_gets_the_text_of_an_internal_error() {
        let failure = Failure::internal("a secret cause");

        let body = failure.refusal("id").body().to_string();

        assert!(!body.contains("secret"));
    }
}
