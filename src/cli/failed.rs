//! Errors of commands: the message for a person, and the exit code for a script.

use super::output::visible;
use crate::client::{ClientError, Refused};
use crate::wire::Code;
use std::time::Duration;

/// The exit codes, as `--help` lists them.
pub(super) const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed for another reason
  2  wrong usage, or wrong settings
  3  not found
  4  a condition is false: version_conflict, request_id_reused
  5  refused, and a retry will be too: bad_request, invalid_item, too_large and the like
  6  not authorised: unauthenticated, forbidden, or refused by NATS
  7  too much: quota_exceeded, rate_limited
  8  not now: NATS, the workers, or one of their dependencies is unavailable
  9  in doubt: the write may have been stored; repeat it with the same --request-id";

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    exit_code: u8,
    message: String,
    /// The service's refusal, if this is one.
    refused: Option<Box<Refused>>,
    /// The request id under which a write in doubt can be repeated.
    request_id: Option<String>,
}

impl CommandError {
    /// A dependency is unavailable: a retry may succeed.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(8, message)
    }

    /// There is nothing of this name.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(3, message)
    }

    /// A NATS server does not accept the user, or refuses something to it.
    pub(super) fn not_authorised(message: impl Into<String>) -> Self {
        Self::new(6, message)
    }

    /// The arguments or the settings are wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self {
            exit_code,
            message: message.into(),
            refused: None,
            request_id: None,
        }
    }

    /// A comparison found a difference: of copies, or of a code with the right one.
    pub(super) fn differs(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// A write of an import may have been stored.
    pub(super) fn import_in_doubt() -> Self {
        let message = "in_doubt: some entries may have been stored, or may yet be. To find out, \
                       run the import again: what is stored is not written twice";
        Self::new(9, message)
    }

    /// The write of an edit may have been stored.
    pub(super) fn edit_in_doubt() -> Self {
        let message = "in_doubt: what you wrote may have been stored, or may yet be. Look at the item \
                       before you edit it again";
        Self::new(9, message)
    }

    /// Some entries of an import have failed.
    pub(super) fn incomplete(failed: usize, entries: usize) -> Self {
        Self::new(1, format!("{failed} of {entries} entries failed"))
    }

    /// The service refused the request, and this says it better than its message.
    pub(super) fn refused_saying(refused: &Refused, message: impl Into<String>) -> Self {
        Self::refused(&Refused {
            message: message.into(),
            ..refused.clone()
        })
    }

    /// The service refused the request.
    pub(super) fn refused(refused: &Refused) -> Self {
        let code = &refused.code;

        let mut message = format!("{code} ({}): {}", refused.status, visible(&refused.message));
        // To wait does not make room.
        let wait = refused.retry_after();
        if let Some(wait) = wait.filter(|_| !refused.is(Code::QuotaExceeded)) {
            message += &format!("; try again in {}", in_words(wait));
        }
        if refused.is_stale() {
            message += "; the bucket could not be asked, so there may be newer data";
        }

        Self {
            exit_code: exit_code(code),
            message,
            refused: Some(refused.clone().into()),
            request_id: None,
        }
    }

    /// The service's refusal, if this is one.
    pub(super) fn refusal(&self) -> Option<&Refused> {
        self.refused.as_deref()
    }

    /// The request id under which a write in doubt can be repeated.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl From<&ClientError> for CommandError {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Refused(refused) => Self::refused(refused),
            ClientError::InDoubt { request_id } => Self {
                request_id: Some(request_id.clone()),
                ..Self::new(
                    9,
                    format!(
                        "in_doubt: the write may have been stored, or may yet be. To find out, \
                         repeat it with --request-id {request_id}: it will not be executed twice"
                    ),
                )
            },
            ClientError::NoWorker { subject } => Self::unavailable(format!(
                "nobody answers on {subject}: is a worker running, and the shard's name right?"
            )),
            ClientError::NoReply { .. } | ClientError::Closed => {
                Self::unavailable(error.to_string())
            }
            ClientError::Denied { .. } => {
                Self::not_authorised(format!("{error}: check --user and --prefix"))
            }
            ClientError::TooLarge { .. } => Self::new(5, format!("too_large: {error}")),
            ClientError::Unreadable(_) => Self::new(1, error.to_string()),
            ClientError::InvalidRequestId => {
                Self::usage("--request-id: give 1 to 128 printable ASCII characters, on one line")
            }
        }
    }
}

/// Returns a time in the unit of a person.
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3_600)),
    }
}

/// Returns whether the service refused with that code.
pub(super) fn is_refused_with(error: &anyhow::Error, code: Code) -> bool {
    refusal(error).is_some_and(|refused| refused.is(code))
}

/// The service's refusal, if the error is one.
pub(super) fn refusal(error: &anyhow::Error) -> Option<&Refused> {
    error.downcast_ref::<CommandError>()?.refusal()
}

/// Returns the error of an atomic batch with the name of the operation that was refused. `name` has
/// the names, by the operations' numbers from 0.
pub(super) fn of_operation(
    error: anyhow::Error,
    name: impl Fn(usize) -> Option<String>,
) -> anyhow::Error {
    let named = refusal(&error).and_then(|refused| {
        let operation = refused.details.get("op")?.as_u64()?;
        let name = name(usize::try_from(operation).ok()?)?;
        let message = format!("{name}: {}; nothing was done", refused.message);
        Some(CommandError::refused_saying(refused, message))
    });

    named.map_or(error, Into::into)
}

/// Returns whether a write may have been stored.
pub(super) fn is_in_doubt(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<CommandError>()
        .is_some_and(|failed| failed.exit_code == 9)
}

/// Returns whether a retry may succeed.
pub(super) fn is_transient(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<CommandError>()
        .is_some_and(|failed| [7, 8].contains(&failed.exit_code))
}

fn exit_code(code: &str) -> u8 {
    match code {
        "not_found" => 3,
        "version_conflict" | "request_id_reused" => 4,
        "bad_request"
        | "unsupported_encoding"
        | "invalid_item"
        | "unknown_instrument"
        | "too_large"
        | "erased"
        | "resync_required" => 5,
        "unauthenticated" | "forbidden" => 6,
        "quota_exceeded" | "rate_limited" => 7,
        "overloaded"
        | "truth_unavailable"
        | "auth_unavailable"
        | "reference_unavailable"
        | "storage_unavailable"
        | "deadline_exceeded" => 8,
        "in_doubt" => 9,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(code: &str, status: u16, message: &str, details: Value) -> CommandError {
        let error = json!({"code": code, "status": status, "message": message, "details": details});

        CommandError::refused(&serde_json::from_value(error).expect("a refusal"))
    }

    #[test]
    fn every_code_of_the_contract_has_an_exit_code() {
        for code in Code::ALL {
            let expected = if code == Code::Internal { 1 } else { 3 };

            assert!(exit_code(code.as_str()) >= expected, "{code:?}");
        }
    }

    #[test]
    fn a_refusal_has_the_exit_code_of_its_code() {
        let failed = refused("version_conflict", 409, "no", json!({}));

        assert_eq!(failed.exit_code(), 4);
        assert_eq!(failed.to_string(), "version_conflict (409): no");
    }

    #[test]
    fn a_refusal_says_when_to_try_again() {
        for (milliseconds, words) in [
            (100, "100 ms"),
            (1_500, "1 s"),
            (300_000, "5 min"),
            (86_400_000, "24 h"),
        ] {
            let details = json!({"retry_after_ms": milliseconds});
            let message = refused("overloaded", 503, "busy", details).to_string();

            assert!(
                message.ends_with(&format!("; try again in {words}")),
                "{message}"
            );
        }
        let full = refused(
            "quota_exceeded",
            429,
            "full",
            json!({"retry_after_ms": 3_600_000}),
        );
        assert_eq!(full.to_string(), "quota_exceeded (429): full");
    }

    #[test]
    fn a_refusal_says_that_it_may_be_old() {
        let message = refused("not_found", 404, "no", json!({"stale": true})).to_string();

        assert!(message.ends_with("there may be newer data"), "{message}");
    }
}
