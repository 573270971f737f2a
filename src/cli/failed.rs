//! Errors of commands: the message for a person, and the exit code for a script.

use super::show::visible;
use serde_json::Value;

/// The exit codes, as `--help` lists them.
pub(super) const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed for another reason
  2  wrong usage
  3  not found
  4  a condition is false: version_conflict, request_id_reused
  5  refused, and a retry will be too: bad_request, invalid_item, too_large and the like
  6  not authorised: unauthenticated, forbidden
  7  too much: quota_exceeded, rate_limited
  8  not now: NATS, the workers, or one of their dependencies is unavailable
  9  in doubt: the write may have been stored; repeat it with the same --request-id";

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    exit_code: u8,
    message: String,
    /// The code of the service's refusal; empty if the error is not a refusal.
    code: String,
    /// How long the service asks to wait before a retry, in milliseconds.
    retry_after_ms: Option<u64>,
}

impl CommandError {
    /// A dependency is unavailable: a retry may succeed.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(8, message)
    }

    /// The arguments are wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// The request is larger than the NATS server accepts.
    pub(super) fn too_large(bytes: usize, limit: usize) -> Self {
        let message = format!(
            "too_large: this request has {bytes} bytes, and the NATS server takes {limit} at most"
        );
        Self::new(5, message)
    }

    fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self {
            exit_code,
            message: message.into(),
            code: String::new(),
            retry_after_ms: None,
        }
    }

    /// A comparison found a difference: of copies, or of a code with the right one.
    pub(super) fn differs(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// The write under that request id may have been stored.
    pub(super) fn in_doubt(request_id: &str) -> Self {
        let message = format!(
            "in_doubt: the write may have been stored, or may yet be. To find out, repeat it with \
             --request-id {request_id}: it will not be executed twice"
        );
        Self::new(9, message)
    }

    /// A write of an import may have been stored.
    pub(super) fn import_in_doubt() -> Self {
        let message = "in_doubt: some entries may have been stored, or may yet be. To find out, \
                       run the import again: what is stored is not written twice";
        Self::new(9, message)
    }

    /// Some entries of an import have failed.
    pub(super) fn incomplete(failed: usize, entries: usize) -> Self {
        Self::new(1, format!("{failed} of {entries} entries failed"))
    }

    /// The service refused the request.
    pub(super) fn refused(error: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let code = text(&error["code"]);
        let retry_after_ms = error["details"]["retry_after_ms"].as_u64();

        let mut message = format!(
            "{code} ({}): {}",
            error["status"],
            visible(&text(&error["message"]))
        );
        if let Some(wait) = retry_after_ms {
            message += &format!("; in {wait} ms at the earliest");
        }
        if error["details"]["remaining"] == 0 {
            message += "; no code of the list is left";
        }

        Self {
            exit_code: exit_code(&code),
            message,
            code,
            retry_after_ms,
        }
    }

    /// How long the service asks to wait, in milliseconds.
    pub(super) fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after_ms
    }

    /// Returns whether this refusal of a repeated write also settles the attempt before it: the
    /// service looks for that attempt before it checks what these refusals are about.
    pub(super) fn settles_write(&self) -> bool {
        matches!(self.exit_code, 3..=5) || self.exit_code == 7 && self.retry_after_ms.is_none()
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

/// Returns the error with its chain of causes. A cause that the text already ends with is not
/// repeated.
pub fn error_chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }

    text
}

/// Returns whether a retry may succeed.
pub(super) fn is_transient(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<CommandError>()
        .is_some_and(|failed| [7, 8].contains(&failed.exit_code))
}

/// Returns whether the service refused the request with that code.
pub(super) fn has_code(error: &anyhow::Error, code: &str) -> bool {
    error
        .downcast_ref::<CommandError>()
        .is_some_and(|failed| failed.code == code)
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
    use crate::wire::Code;
    use anyhow::anyhow;
    use serde_json::json;

    #[test]
    fn every_code_of_the_contract_has_an_exit_code() {
        for code in Code::ALL {
            let expected = if code == Code::Internal { 1 } else { 3 };

            assert!(exit_code(code.as_str()) >= expected, "{code:?}");
        }
    }

    #[test]
    fn a_cause_is_printed_once() {
        let error = anyhow!("no answer in time")
            .context("the bucket is unavailable: no answer in time")
            .context("no round");

        let text = error_chain(&error);

        assert_eq!(
            text,
            "no round: the bucket is unavailable: no answer in time"
        );
    }

    #[test]
    fn a_refusal_has_the_exit_code_of_its_code() {
        let error =
            json!({"code": "version_conflict", "status": 409, "message": "no", "details": {}});

        let failed = CommandError::refused(&error);

        assert_eq!(failed.exit_code(), 4);
        assert_eq!(failed.to_string(), "version_conflict (409): no");
    }

    #[test]
    fn a_list_that_is_used_up_is_told_from_a_list_that_is_not_there() {
        let refused = |details: Value| {
            let error =
                json!({"code": "not_found", "status": 404, "message": "no", "details": details});
            CommandError::refused(&error).to_string()
        };

        let used_up = refused(json!({"remaining": 0, "owner_version": 7}));
        let missing = refused(json!({"owner_version": 7}));

        assert_eq!(used_up, "not_found (404): no; no code of the list is left");
        assert_eq!(missing, "not_found (404): no");
    }

    #[test]
    fn a_refusal_says_when_to_try_again() {
        let error = json!({
            "code": "overloaded",
            "status": 503,
            "message": "busy",
            "details": {"retry_after_ms": 100},
        });

        let message = CommandError::refused(&error).to_string();

        assert!(message.ends_with("in 100 ms at the earliest"), "{message}");
    }
}
