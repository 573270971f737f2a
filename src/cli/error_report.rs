//! Says why a command failed: a text for people, or an object of JSON for programs.

use super::failed::{CommandError, refusal};
use super::output::{WrongOutput, error, json_line, note, plain, summary};
use crate::client::Refused;
use crate::telemetry::error_chain;
use serde_json::{Value, json};

/// The exit code of a failure that has none of its own.
const FAILED: u8 = 1;
/// The exit code of wrong usage.
pub(super) const USAGE: u8 = 2;

/// Returns the exit code for an error.
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<WrongOutput>() {
        return USAGE;
    }

    error
        .downcast_ref::<CommandError>()
        .map_or(FAILED, CommandError::exit_code)
}

/// Prints the error to the standard error stream.
pub(super) fn print(failed: &anyhow::Error, as_json: bool) {
    if as_json {
        note(&json_line(&to_json(failed)));
        return;
    }

    let more = refusal(failed).map(more_lines).unwrap_or_default();
    error(&(error_chain(failed) + &more));
}

/// Returns the error in the form that the service gives a refusal. An error of this program has a
/// code that says what its exit code means.
fn to_json(failed: &anyhow::Error) -> Value {
    let exit_code = exit_code(failed);
    let body = match refusal(failed) {
        Some(refused) => {
            let mut body = json!({
                "code": refused.code,
                "status": refused.status,
                "message": refused.message,
                "details": refused.details,
                "exit_code": exit_code,
            });
            if let Some(id) = &refused.request_id {
                body["log_id"] = json!(id);
            }
            body
        }
        None => json!({
            "code": code(exit_code),
            "message": error_chain(failed),
            "details": details(failed),
            "exit_code": exit_code,
        }),
    };

    json!({ "error": body })
}

/// Returns with what a program can repeat a write in doubt.
fn details(failed: &anyhow::Error) -> Value {
    let failed = failed.downcast_ref::<CommandError>();

    match failed.and_then(CommandError::request_id) {
        Some(request_id) => json!({"request_id": request_id}),
        None => json!({}),
    }
}

/// Returns the code of an error that does not come from the service.
fn code(exit_code: u8) -> &'static str {
    match exit_code {
        USAGE => "usage",
        3 => "not_found",
        5 => "too_large",
        6 => "not_authorised",
        8 => "unavailable",
        9 => "in_doubt",
        _ => "failed",
    }
}

/// Returns what a person may need beside the message, one thing on a line.
fn more_lines(refused: &Refused) -> String {
    let mut lines = String::new();
    if let Some(item) = refused.details.get("item").filter(|item| item.is_object()) {
        lines += &format!(
            "\n  now {} {} is at version {}: {}",
            plain(&item["kind"]),
            plain(&item["id"]),
            item["version"],
            summary(item)
        );
    }
    if let Some(id) = &refused.request_id {
        lines += &format!("\n  log id {}", plain(&json!(id)));
    }

    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict() -> Refused {
        let item = json!({
            "kind": "text", "id": "a", "version": 8, "data": {"text": "milk"},
        });
        let error = json!({
            "code": "version_conflict", "status": 409, "message": "no", "details": {"item": item},
        });

        Refused {
            request_id: Some("01a2".to_owned()),
            ..serde_json::from_value(error).expect("a refusal")
        }
    }

    #[test]
    fn a_conflict_shows_what_is_there_now() {
        assert_eq!(
            more_lines(&conflict()),
            "\n  now text a is at version 8: milk\n  log id 01a2"
        );
    }

    #[test]
    fn each_error_has_the_form_of_a_refusal() {
        let refused = CommandError::refused(&conflict()).into();
        let unavailable = CommandError::unavailable("no worker answers").into();
        let wrong = CommandError::usage("not so").into();

        let shown = to_json(&refused);
        assert_eq!(shown["error"]["code"], "version_conflict");
        assert_eq!(shown["error"]["details"]["item"]["version"], 8);
        assert_eq!(shown["error"]["log_id"], "01a2");
        assert_eq!(shown["error"]["exit_code"], 4);
        assert_eq!(
            to_json(&unavailable)["error"],
            json!({"code": "unavailable", "message": "no worker answers", "details": {}, "exit_code": 8})
        );
        assert_eq!(to_json(&wrong)["error"]["code"], "usage");
    }
}
