//! Why a request of the client has no result.

use crate::wire::Code;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service refused the request.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// The time was up before it was known whether the write is stored. It may be stored, now or
    /// later. Repeated under the same request id, it is not executed twice.
    #[error("the write with the request id {request_id} may have been stored, or may yet be")]
    InDoubt {
        /// The request id under which to repeat the write.
        request_id: String,
    },
    /// No worker listens: none runs, or the shard or the prefix is another one.
    #[error("nobody answers on {subject}")]
    NoWorker {
        /// The subject of the request.
        subject: String,
    },
    /// No reply to a read came in time, or the connection was lost.
    #[error("no answer on {subject} in time")]
    NoReply {
        /// The subject of the request.
        subject: String,
    },
    /// The NATS server does not let the user publish to the subject, so the service never got the
    /// request. Only a client that hears of it has this; see
    /// [`Client::with_denials`](super::Client::with_denials).
    #[error("NATS does not let this user publish to {subject}")]
    Denied {
        /// The subject of the request.
        subject: String,
    },
    /// The request is larger than the NATS server accepts.
    #[error("this request has {bytes} bytes, and the NATS server takes {limit} at most")]
    TooLarge {
        /// The size of the request, headers included.
        bytes: usize,
        /// The server's `max_payload`.
        limit: usize,
    },
    /// The reply has another form than the contract says.
    #[error("the reply cannot be read: {0}")]
    Unreadable(String),
    /// A request id is 1 to 128 printable ASCII characters.
    #[error("a request id is 1 to 128 printable ASCII characters, on one line")]
    InvalidRequestId,
    /// The connection to NATS was closed by this program.
    #[error("the connection to NATS is closed")]
    Closed,
}

/// A refusal of the service.
#[derive(Clone, Debug, PartialEq, Deserialize, thiserror::Error)]
#[error("{code} ({status}): {message}")]
pub struct Refused {
    /// The code, on which a program branches; see [`Code`]. A later version may have others.
    pub code: String,
    /// The status, with its meaning in HTTP (RFC 9110).
    pub status: u16,
    /// What to mend, for people.
    pub message: String,
    /// Details of the code, as the contract lists them.
    #[serde(default)]
    pub details: Map<String, Value>,
    /// The id of the request in the worker's log: the reply's header `Request-Id`.
    #[serde(skip)]
    pub request_id: Option<String>,
}

impl Refused {
    /// Returns whether the code is this one.
    pub fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }

    /// The field of the request that is the cause, such as `data.isin`.
    pub fn field(&self) -> Option<&str> {
        self.details.get("field")?.as_str()
    }

    /// How long to wait before the request is sent again.
    pub fn retry_after(&self) -> Option<Duration> {
        let milliseconds = self.details.get("retry_after_ms")?.as_u64()?;
        Some(Duration::from_millis(milliseconds))
    }

    /// Returns how long to wait if the owner sends requests faster than allowed; `None` for any other
    /// refusal, among them that of too many wrong codes.
    pub(super) fn too_fast_for(&self) -> Option<Duration> {
        let is_about_requests = self.details.get("rate_per_s").is_some();

        self.retry_after()
            .filter(|_| self.is(Code::RateLimited) && is_about_requests)
    }

    /// Returns whether it was decided on a copy that could not be checked.
    pub fn is_stale(&self) -> bool {
        self.details
            .get("stale")
            .is_some_and(|stale| *stale == true)
    }

    /// Returns whether this refusal of a repeated write also settles the attempt before it: the
    /// service looks for that attempt before it checks what these refusals are about.
    pub(super) fn settles_write(&self) -> bool {
        match self.status {
            401 | 403 => false,
            429 => self.retry_after().is_none(),
            status => (400..500).contains(&status),
        }
    }
}

impl ClientError {
    /// The refusal, if the service refused the request.
    pub fn refusal(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// Returns whether the service refused the request with this code.
    pub fn is(&self, code: Code) -> bool {
        self.refusal().is_some_and(|refused| refused.is(code))
    }

    /// Returns whether the same request may succeed later, without a change. A write that is in
    /// doubt is not among them: repeat it under its request id.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(refused) => matches!(refused.status, 429 | 503 | 504),
            Self::NoWorker { .. } | Self::NoReply { .. } => true,
            _ => false,
        }
    }

    /// Returns whether the service says that the owner never had the version that the request names.
    pub(super) fn is_about_unknown_version(&self) -> bool {
        self.refusal().is_some_and(|refused| {
            refused.is(Code::BadRequest) && refused.details.contains_key("owner_version")
        })
    }

    /// Returns whether the time of an attempt was up, and nothing was written by it.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::NoReply { .. }) || self.is(Code::DeadlineExceeded)
    }

    pub(super) fn unreadable(what: impl ToString) -> Self {
        Self::Unreadable(what.to_string())
    }
}

/// Reads a reply, or a part of it.
pub(super) fn parse<R: DeserializeOwned>(value: Value) -> Result<R, ClientError> {
    serde_json::from_value(value).map_err(ClientError::unreadable)
}
