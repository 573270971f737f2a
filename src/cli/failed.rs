//! Why a command failed: what a person reads, and the exit code on which a script branches.

use serde_json::Value;

/// The exit codes, as `--help` tells them.
pub(super) const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed otherwise
  2  wrong usage
  3  not found
  4  a condition is false: version_conflict, request_id_reused
  5  refused as it is: bad_request, invalid_item, too_large and the like
  6  not let in: unauthenticated, forbidden
  7  too much: quota_exceeded, rate_limited
  8  not now: NATS, the workers, or something that they need is away
  9  in doubt: the write may have landed; repeat it with the same --request-id";

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    exit_code: u8,
    message: String,
    /// Of the service's refusal; empty where there is none.
    code: String,
    /// How long the service asks to wait before it is asked again, in milliseconds.
    retry_after_ms: Option<u64>,
}

impl CommandError {
    /// Something is away: to be tried again.
    pub(super) fn away(message: impl Into<String>) -> Self {
        Self::new(8, message)
    }

    /// The command cannot be meant so.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// What is to be sent is more than the server takes.
    pub(super) fn too_large(bytes: usize, limit: usize) -> Self {
        Self::new(
            5,
            format!(
                "too_large: this request has {bytes} bytes, and the NATS server takes {limit} at most"
            ),
        )
    }

    fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self {
            exit_code,
            message: message.into(),
            code: String::new(),
            retry_after_ms: None,
        }
    }

    /// What was compared is not the same.
    pub(super) fn differs(message: impl Into<String>) -> Self {
        Self::new(1, message)
    }

    /// A write that may have landed, under that request id.
    pub(super) fn in_doubt(request_id: &str) -> Self {
        let message = format!(
            "in_doubt: the write may have landed, or may yet. To find out, repeat it with --request-id {request_id}: it \
             will not be done twice"
        );
        Self::new(9, message)
    }

    /// The service's refusal.
    pub(super) fn refused(error: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (code, details) = (text(&error["code"]), &error["details"]);
        let mut message = format!("{code} ({}): {}", error["status"], text(&error["message"]));
        if let Some(wait) = details["retry_after_ms"].as_u64() {
            message += &format!("; in {wait} ms at the earliest");
        }
        Self {
            exit_code: exit_code(&code),
            message,
            code,
            retry_after_ms: details["retry_after_ms"].as_u64(),
        }
    }

    /// How long the service asks to wait, in milliseconds.
    pub(super) fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after_ms
    }

    /// Whether it tells what became of an earlier attempt of the same write: the service looks for that first, and then
    /// at what it refuses for.
    pub(super) fn settles(&self) -> bool {
        matches!(self.exit_code, 3..=5) || self.exit_code == 7 && self.retry_after_ms.is_none()
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

/// What failed, and its causes; one that the text before ends with is not told twice.
pub fn told(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.ends_with(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// Whether what failed may be as it should in a moment.
pub(super) fn passes(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<CommandError>()
        .is_some_and(|failed| [7, 8].contains(&failed.exit_code))
}

/// Whether the service refused it with that code.
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
    use serde_json::json;

    #[test]
    fn every_code_of_the_contract_has_an_exit_code() {
        for code in Code::ALL {
            let expected = if code == Code::Internal { 1 } else { 3 };
            assert!(exit_code(code.as_str()) >= expected, "{code:?}");
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        use crate::requester::CallError;
        let error = anyhow::Error::from(crate::truth::TruthError::from(CallError::TimedOut))
            .context("no round");
        assert_eq!(
            told(&error),
            "no round: the truth is out of reach: no answer in time"
        );
    }

    #[test]
    fn a_refusal_tells_what_helps() {
        let error =
            json!({"code": "version_conflict", "status": 409, "message": "no", "details": {}});
        let failed = CommandError::refused(&error);
        assert_eq!(
            (failed.exit_code(), failed.to_string().as_str()),
            (4, "version_conflict (409): no")
        );
        let error = json!({"code": "overloaded", "status": 503, "message": "busy", "details": {"retry_after_ms": 100}});
        assert!(
            CommandError::refused(&error)
                .to_string()
                .ends_with("in 100 ms at the earliest")
        );
    }
}
