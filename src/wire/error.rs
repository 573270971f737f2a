//! The form in which every request is refused.

use super::Code;
use crate::domain::{Invalid, Version};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::fmt;

/// The refusal of a request, complete as the caller receives it.
///
/// It may repeat what the caller sent, truncated, and contains no other data of an owner. Because
/// of that repetition, `Debug` and `Display` print only its code.
#[derive(Clone, PartialEq)]
pub struct Refusal {
    code: Code,
    message: String,
    details: Map<String, Value>,
}

/// The maximum size of a refusal in JSON, in bytes, without an item that it shows.
pub const REFUSAL_BYTES: usize = 3_072;
/// The maximum length of a message, in bytes of JSON: it may repeat a name that the caller chose.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// The maximum length of `details.field`, in bytes of JSON.
const FIELD_BYTES_MAX: usize = 256;

impl Refusal {
    /// Creates a refusal without details.
    ///
    /// The message tells a person what to mend. It is truncated to 1,024 bytes.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: truncate(message.into(), MESSAGE_BYTES_MAX),
            details: Map::new(),
        }
    }

    /// Returns the same refusal with one more detail.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// Returns the same refusal without one of its details.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.details.remove(key);
        self
    }

    /// Returns the same refusal with `details.field`, a path such as `data.isin`. The path is
    /// truncated to 256 bytes.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        let field = truncate(field.into(), FIELD_BYTES_MAX);

        self.with("field", field)
    }

    /// Returns the same refusal for a field below `path` in the request.
    ///
    /// The full path is in `details.field`, and in the message if that begins with the field.
    #[must_use]
    pub fn below(self, path: &str) -> Self {
        let Some(field) = self
            .details
            .get("field")
            .and_then(Value::as_str)
            .map(str::to_owned)
        else {
            return self;
        };
        if field.starts_with(path) {
            return self;
        }

        let message = if self.message.starts_with(&field) {
            truncate(format!("{path}.{}", self.message), MESSAGE_BYTES_MAX)
        } else {
            self.message
        };
        Self { message, ..self }.field(format!("{path}.{field}"))
    }

    /// Returns the code, on which callers branch.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the message, which is for people to read.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the details of the code, possibly empty.
    pub fn details(&self) -> &Map<String, Value> {
        &self.details
    }

    /// Returns the body of the reply: `{"error": {"code", "status", "message", "details"}}`.
    pub fn body(&self) -> Value {
        json!({"error": self.inner()})
    }

    /// Returns the object under `error`, which is also the form of a refusal among the results of a
    /// batch.
    pub fn inner(&self) -> Value {
        json!({
            "code": self.code.as_str(),
            "status": self.code.status(),
            "message": self.message,
            "details": self.details,
        })
    }
}

/// The refusals that several operations return.
impl Refusal {
    /// 400: the request as a whole cannot be read.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// 400: one field cannot be read. The message begins with the field's path.
    pub fn bad_field(field: impl Into<String>, message: impl fmt::Display) -> Self {
        let field = truncate(field.into(), FIELD_BYTES_MAX);

        Self::bad_request(format!("{field}: {message}")).field(field)
    }

    /// 401: the caller is not authenticated, for the reason in the message.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }

    /// 403: the token lacks this scope, named in `details.scope`.
    pub fn forbidden(scope: &str) -> Self {
        Self::new(
            Code::Forbidden,
            format!("the token lacks the scope {scope}"),
        )
        .with("scope", scope)
    }

    /// 404: there is no such item, as of this version of the owner.
    pub fn not_found(owner_version: Version) -> Self {
        Self::new(Code::NotFound, "there is no such item")
            .with("owner_version", owner_version.get())
    }

    /// 409: the condition of the request does not hold. `item` is the current item, or null.
    pub fn version_conflict(item: Value, owner_version: Version) -> Self {
        Self::new(
            Code::VersionConflict,
            "the version is not the one that the request names",
        )
        .with("item", item)
        .with("owner_version", owner_version.get())
    }

    /// 413: the field has `used` bytes and may have `limit` bytes.
    pub fn too_large(field: &str, used: usize, limit: usize) -> Self {
        Self::too_many_bytes(field, used, limit).field(field)
    }

    /// 413: the body has `used` bytes and may have `limit` bytes.
    pub fn body_too_large(used: usize, limit: usize) -> Self {
        Self::too_many_bytes("the request's body", used, limit)
    }

    fn too_many_bytes(what: &str, used: usize, limit: usize) -> Self {
        Self::new(
            Code::TooLarge,
            format!("{what} is {used} bytes, at most {limit} are allowed"),
        )
        .with("used", used)
        .with("limit", limit)
    }

    /// 503 or 429: the request may succeed after `retry_after_ms`.
    pub fn retry_later(code: Code, message: impl Into<String>, retry_after_ms: u64) -> Self {
        Self::new(code, message).with("retry_after_ms", retry_after_ms)
    }

    /// 500: one fixed sentence, and the request id under which the log has the cause.
    pub fn internal(request_id: &str) -> Self {
        Self::new(
            Code::Internal,
            "The service made a mistake; its log has the cause under the request id.",
        )
        .with("request_id", request_id)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        let field = truncate(invalid.field, FIELD_BYTES_MAX);
        let reason = truncate(invalid.reason, MESSAGE_BYTES_MAX);

        Self::new(Code::InvalidItem, format!("{field}: {reason}"))
            .field(field)
            .with("reason", reason)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({})", self.code.as_str())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())
    }
}

impl std::error::Error for Refusal {}

/// Truncates the text to at most `max_bytes` bytes in JSON, at a character boundary.
///
/// A truncated text ends in an ellipsis.
pub(super) fn truncate<'a>(text: impl Into<Cow<'a, str>>, max_bytes: usize) -> String {
    const ELLIPSIS: &str = "…";

    let mut text = text.into().into_owned();
    let mut used = 0;
    let mut end = 0;

    for (offset, character) in text.char_indices() {
        if used <= max_bytes.saturating_sub(ELLIPSIS.len()) {
            end = offset;
        }

        used += json_bytes(character);
        if used > max_bytes {
            text.truncate(end);
            text.push_str(ELLIPSIS);
            break;
        }
    }

    text
}

/// Returns the maximum number of bytes of a character in JSON.
fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' => 2,
        '\0'..='\x1f' => "\\u0000".len(),
        _ => character.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_form_of_the_contract() {
        let expected = json!({
            "error": {
                "code": "bad_request",
                "status": 400,
                "message": "data.isin: must be text",
                "details": {"field": "data.isin"},
            },
        });

        let refusal = Refusal::bad_field("data.isin", "must be text");

        assert_eq!(refusal.body(), expected);
    }

    #[test]
    fn the_details_are_an_object_even_if_there_are_none() {
        let refusal = Refusal::bad_request("no");

        assert_eq!(refusal.body()["error"]["details"], json!({}));
    }

    #[test]
    fn only_the_code_is_printed() {
        let refusal = Refusal::bad_field("secret", "secret");

        assert_eq!(
            format!("{refusal:?} {refusal}"),
            "Refusal(bad_request) bad_request"
        );
    }

    #[test]
    fn a_broken_rule_of_the_domain_is_an_invalid_item() {
        let invalid = Invalid::new("data.isin", "the check digit is 6, expected 5");

        let refusal = Refusal::from(invalid);

        let details = json!({"field": "data.isin", "reason": "the check digit is 6, expected 5"});
        assert_eq!(refusal.code(), Code::InvalidItem);
        assert_eq!(
            refusal.message(),
            "data.isin: the check digit is 6, expected 5"
        );
        assert_eq!(Some(refusal.details()), details.as_object());
    }

    #[test]
    fn a_field_below_a_path_is_named_with_the_full_path() {
        let refusal = Refusal::from(Invalid::new("tags[0]", "is empty")).below("ops[1]");

        assert_eq!(refusal.details()["field"], "ops[1].tags[0]");
        assert_eq!(refusal.message(), "ops[1].tags[0]: is empty");
    }

    #[test]
    fn a_path_is_not_added_twice() {
        let refusal = Refusal::bad_field("ops[1].tags[0]", "is empty");

        assert_eq!(refusal.clone().below("ops[1]"), refusal);
    }

    #[test]
    fn a_message_without_the_field_stays_as_it_is() {
        let refusal = Refusal::new(Code::TooLarge, "no").field("data");

        let refusal = refusal.below("ops[1]");

        assert_eq!(refusal.details()["field"], "ops[1].data");
        assert_eq!(refusal.message(), "no");
    }

    #[test]
    fn a_refusal_without_a_field_gets_no_path() {
        let refusal = Refusal::bad_request("no");

        assert_eq!(refusal.clone().below("ops[1]"), refusal);
    }

    #[test]
    fn each_common_refusal_has_its_status_and_details() {
        let version = Version::new(7).expect("in range");
        let table = [
            (Refusal::unauthenticated("no token"), 401, json!({})),
            (
                Refusal::forbidden("favorites:read"),
                403,
                json!({"scope": "favorites:read"}),
            ),
            (
                Refusal::not_found(version),
                404,
                json!({"owner_version": 7}),
            ),
            (
                Refusal::version_conflict(Value::Null, version),
                409,
                json!({"item": null, "owner_version": 7}),
            ),
            (
                Refusal::too_large("ops", 9, 8),
                413,
                json!({"field": "ops", "used": 9, "limit": 8}),
            ),
            (
                Refusal::body_too_large(9, 8),
                413,
                json!({"used": 9, "limit": 8}),
            ),
            (
                Refusal::retry_later(Code::Overloaded, "busy", 50),
                503,
                json!({"retry_after_ms": 50}),
            ),
            (Refusal::internal("r1"), 500, json!({"request_id": "r1"})),
        ];

        for (refusal, status, details) in table {
            assert_eq!(refusal.code().status(), status);
            assert_eq!(Some(refusal.details()), details.as_object(), "{refusal}");
            assert!(!refusal.message().is_empty());
        }
    }

    #[test]
    fn a_text_is_truncated_at_a_character() {
        assert_eq!(truncate("short", 5), "short");
        assert_eq!(truncate("shorts", 5), "sh…");
        assert_eq!(truncate("ééé", 5), "é…");
    }

    #[test]
    fn a_long_field_is_truncated() {
        let refusal = Refusal::bad_field("é".repeat(1_000), "unknown");

        let field = refusal.details()["field"].as_str().expect("text");
        assert!(field.len() <= FIELD_BYTES_MAX);
        assert!(field.ends_with('…'));
        assert!(refusal.message().len() < 300);
    }

    #[test]
    fn a_long_message_is_truncated() {
        let refusal = Refusal::bad_request("x".repeat(9_999));

        assert!(refusal.message().len() <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn the_longest_refusal_is_within_its_limit() {
        let invalid = Invalid::new("\u{1}".repeat(999), "\u{1}".repeat(9_999));

        let refusal = Refusal::from(invalid).with("owner_version", Version::MAX.get());

        let bytes = refusal.inner().to_string().len();
        assert!(bytes <= REFUSAL_BYTES, "{bytes}");
    }
}
