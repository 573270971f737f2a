//! The error codes on which callers branch.

/// An error code of the contract.
///
/// A code is stable: callers branch on it, never on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The request cannot be decoded, names an unknown field or operation, or has a condition that
    /// can never hold.
    BadRequest,
    /// The content type is neither JSON nor CBOR.
    UnsupportedEncoding,
    /// There is no token, or it is bad, expired or revoked.
    Unauthenticated,
    /// The token lacks a scope.
    Forbidden,
    /// There is no such item or version.
    NotFound,
    /// The condition of the request does not hold.
    VersionConflict,
    /// The request id was used for another request.
    RequestIdReused,
    /// The deletions since a version, or the result of a batch, are no longer kept.
    ResyncRequired,
    /// The owner was erased.
    Erased,
    /// Something exceeds a limit on bytes.
    TooLarge,
    /// A value breaks a rule of the domain.
    InvalidItem,
    /// The reference service knows no such instrument.
    UnknownInstrument,
    /// The owner sends requests too fast.
    RateLimited,
    /// The owner has as many items or keys as allowed.
    QuotaExceeded,
    /// Too many requests are in progress, or a write lost too many races.
    Overloaded,
    /// The bucket cannot be reached, is full, or has lost acknowledged history.
    TruthUnavailable,
    /// The auth service does not answer, or its answer cannot be trusted.
    AuthUnavailable,
    /// The reference service does not answer, and the settings do not accept that.
    ReferenceUnavailable,
    /// The shard's database is needed and cannot be reached.
    StorageUnavailable,
    /// The deadline passed before anything was written.
    DeadlineExceeded,
    /// The deadline passed after the write was sent: it may be written, now or later.
    InDoubt,
    /// An error of the service itself.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 22] = [
        Self::BadRequest,
        Self::UnsupportedEncoding,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::VersionConflict,
        Self::RequestIdReused,
        Self::ResyncRequired,
        Self::Erased,
        Self::TooLarge,
        Self::InvalidItem,
        Self::UnknownInstrument,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::Overloaded,
        Self::TruthUnavailable,
        Self::AuthUnavailable,
        Self::ReferenceUnavailable,
        Self::StorageUnavailable,
        Self::DeadlineExceeded,
        Self::InDoubt,
        Self::Internal,
    ];

    /// Returns the code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::VersionConflict => "version_conflict",
            Self::RequestIdReused => "request_id_reused",
            Self::ResyncRequired => "resync_required",
            Self::Erased => "erased",
            Self::TooLarge => "too_large",
            Self::InvalidItem => "invalid_item",
            Self::UnknownInstrument => "unknown_instrument",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Overloaded => "overloaded",
            Self::TruthUnavailable => "truth_unavailable",
            Self::AuthUnavailable => "auth_unavailable",
            Self::ReferenceUnavailable => "reference_unavailable",
            Self::StorageUnavailable => "storage_unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::InDoubt => "in_doubt",
            Self::Internal => "internal",
        }
    }

    /// Returns the status of the code, which has its meaning in HTTP (RFC 9110).
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::UnsupportedEncoding => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::VersionConflict | Self::RequestIdReused => 409,
            Self::ResyncRequired | Self::Erased => 410,
            Self::TooLarge => 413,
            Self::InvalidItem | Self::UnknownInstrument => 422,
            Self::RateLimited | Self::QuotaExceeded => 429,
            Self::Internal => 500,
            Self::Overloaded
            | Self::TruthUnavailable
            | Self::AuthUnavailable
            | Self::ReferenceUnavailable
            | Self::StorageUnavailable => 503,
            Self::DeadlineExceeded | Self::InDoubt => 504,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_name_and_the_status_of_the_contract() {
        let table = [
            ("bad_request", 400),
            ("unsupported_encoding", 400),
            ("unauthenticated", 401),
            ("forbidden", 403),
            ("not_found", 404),
            ("version_conflict", 409),
            ("request_id_reused", 409),
            ("resync_required", 410),
            ("erased", 410),
            ("too_large", 413),
            ("invalid_item", 422),
            ("unknown_instrument", 422),
            ("rate_limited", 429),
            ("quota_exceeded", 429),
            ("overloaded", 503),
            ("truth_unavailable", 503),
            ("auth_unavailable", 503),
            ("reference_unavailable", 503),
            ("storage_unavailable", 503),
            ("deadline_exceeded", 504),
            ("in_doubt", 504),
            ("internal", 500),
        ];

        assert_eq!(Code::ALL.map(|code| (code.as_str(), code.status())), table);
    }
}
