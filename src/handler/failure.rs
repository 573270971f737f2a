//! Why a request has no answer, and which of it the caller is told.

use crate::auth::AuthFault;
use crate::domain::Invalid;
use crate::owners::OwnersFault;
use crate::seal::SealFault;
use crate::truth::TruthFault;
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
    pub(super) fn unreachable(why: &'static str) -> Self {
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

impl From<SealFault> for Failure {
    fn from(fault: SealFault) -> Self {
        Self::Internal(fault.into())
    }
}

impl From<AuthFault> for Failure {
    fn from(fault: AuthFault) -> Self {
        Self::Refused(match fault {
            AuthFault::Unauthenticated => Refusal::new(
                Code::Unauthenticated,
                "the token is bad, expired or revoked: get a new one",
            ),
            AuthFault::Busy => away(
                Code::Overloaded,
                "too many questions to the auth service are under way: ask again",
            ),
            AuthFault::Unavailable(_) => away(
                Code::AuthUnavailable,
                "the auth service does not answer: ask again",
            ),
            AuthFault::Unbelievable => away(
                Code::AuthUnavailable,
                "the auth service's verdict could not be believed, so nobody was let in: ask again",
            ),
        })
    }
}

impl From<OwnersFault> for Failure {
    fn from(fault: OwnersFault) -> Self {
        match fault {
            OwnersFault::Truth(TruthFault::Unavailable(_)) => Self::Refused(away(
                Code::TruthUnavailable,
                "the truth is out of reach: ask again",
            )),
            OwnersFault::Truth(TruthFault::Full) => Self::Refused(bucket_full()),
            OwnersFault::HistoryLost { .. } => Self::Refused(away(
                Code::TruthUnavailable,
                "the truth has lost acknowledged history of this owner: the operators have to mend it",
            )),
            OwnersFault::NeverWas { owner_version } => Self::Refused(
                Refusal::bad_request("that version is above the owner's: it never was")
                    .with("owner_version", owner_version.get()),
            ),
            OwnersFault::Truth(TruthFault::Refused(_) | TruthFault::Unreadable(_))
            | OwnersFault::Broken { .. }
            | OwnersFault::HistoryWentBack(_)
            | OwnersFault::Shard(_)
            | OwnersFault::Seal(_) => Self::Internal(fault.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Version;
    use crate::exchange::CallFault;

    #[test]
    fn each_fault_has_its_code() {
        let code = |failure: Failure| failure.refusal("id").code();
        assert_eq!(
            code(AuthFault::Unauthenticated.into()),
            Code::Unauthenticated
        );
        assert_eq!(code(AuthFault::Unbelievable.into()), Code::AuthUnavailable);
        assert_eq!(code(AuthFault::Busy.into()), Code::Overloaded);
        assert_eq!(
            code(AuthFault::Unavailable(CallFault::TimedOut).into()),
            Code::AuthUnavailable
        );
        assert_eq!(code(SealFault::Tampered.into()), Code::Internal);
        assert_eq!(
            code(OwnersFault::Truth(CallFault::NotConnected.into()).into()),
            Code::TruthUnavailable
        );
        assert_eq!(
            code(OwnersFault::Truth(TruthFault::Full).into()),
            Code::TruthUnavailable
        );
        assert_eq!(
            code(OwnersFault::Truth(TruthFault::Unreadable("x")).into()),
            Code::Internal
        );
        assert_eq!(
            code(
                OwnersFault::NeverWas {
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
        let failure = Failure::unreachable("a secret cause");
        assert!(!failure.refusal("id").body().to_string().contains("secret"));
    }
}
