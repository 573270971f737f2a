//! Why a request has no answer, and which of it the caller is told.

use crate::auth::AuthError;
use crate::domain::Invalid;
use crate::owners::{OwnersError, WriteFailure};
use crate::seal::SealError;
use crate::truth::TruthError;
use crate::wire::{Code, Refusal};

/// How long a caller may wait before asking again where something is away, in milliseconds.
pub(super) const RETRY_AFTER_MS: u64 = 500;

/// The end of a request that failed.
#[derive(Debug)]
pub enum Failure {
    /// The caller is told what to mend.
    Refused(Refusal),
    /// The caller is told one fixed sentence; the cause is for the log.
    Internal(anyhow::Error),
}

impl Failure {
    pub(super) fn internal(why: &'static str) -> Self {
        Self::Internal(anyhow::anyhow!(why))
    }

    /// What the caller is told.
    pub fn refusal(&self, request_id: &str) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone(),
            Self::Internal(_) => Refusal::internal(request_id),
        }
    }
}

/// A refusal that says when to ask again.
pub(super) fn away(code: Code, message: &str) -> Refusal {
    Refusal::retry_later(code, message, RETRY_AFTER_MS)
}

/// The bucket takes no more, not even what confirms a refusal or a `strong` read.
pub(super) fn bucket_full() -> Refusal {
    away(
        Code::TruthUnavailable,
        "the bucket takes no more: tell the operators",
    )
}

/// The caller's time is up, and nothing was written.
pub(super) fn out_of_time() -> Refusal {
    Refusal::new(
        Code::DeadlineExceeded,
        "the time for this request was up before it was done; nothing was written",
    )
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
            AuthError::Busy => away(
                Code::Overloaded,
                "too many questions to the auth service are under way: ask again",
            ),
            AuthError::Unavailable(_) => away(
                Code::AuthUnavailable,
                "the auth service does not answer: ask again",
            ),
            AuthError::Unbelievable => away(
                Code::AuthUnavailable,
                "the auth service's verdict could not be believed, so nobody was let in: ask again",
            ),
        })
    }
}

impl From<WriteFailure> for Failure {
    fn from(failure: WriteFailure) -> Self {
        Self::Refused(match failure {
            WriteFailure::RequestIdReused => Refusal::new(
                Code::RequestIdReused,
                "this Nats-Msg-Id stands for another request: use a new one",
            ),
            WriteFailure::Forgotten(owner_version) => Refusal::new(
                Code::ResyncRequired,
                "it was done before, and not all that it wrote is still kept as it was: look at the items",
            )
            .with("owner_version", owner_version.get()),
            WriteFailure::TooManyRaces => away(
                Code::Overloaded,
                "others write this owner's items all the time: ask again",
            ),
            WriteFailure::Full => bucket_full(),
            WriteFailure::OutOfTime => out_of_time(),
            WriteFailure::InDoubt => Refusal::new(
                Code::InDoubt,
                "it may be written, or may yet be: ask again with the same Nats-Msg-Id, or look",
            ),
        })
    }
}

impl From<OwnersError> for Failure {
    fn from(error: OwnersError) -> Self {
        match error {
            OwnersError::Truth(TruthError::Unavailable(_)) => Self::Refused(away(
                Code::TruthUnavailable,
                "the truth is out of reach: ask again",
            )),
            OwnersError::Truth(TruthError::Full) => Self::Refused(bucket_full()),
            OwnersError::HistoryLost { .. } => Self::Refused(away(
                Code::TruthUnavailable,
                "the truth has lost acknowledged history of this owner: the operators have to mend it",
            )),
            OwnersError::NeverWas { owner_version } => Self::Refused(
                Refusal::bad_request("that version is above the owner's: it never was")
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
    fn each_fault_has_its_code() {
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
        assert_eq!(code(Invalid::new("f", "r").into()), Code::InvalidItem);
    }

    #[test]
    fn the_cause_of_an_internal_failure_is_not_told() {
        let failure = Failure::internal("a secret cause");
        assert!(!failure.refusal("id").body().to_string().contains("secret"));
    }
}
