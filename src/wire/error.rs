//! The one form in which a request is refused.

use super::Code;
use crate::domain::{Invalid, Version};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::fmt;

/// Why a request is not done, complete as the caller gets it. It may repeat what the caller sent, cut short, and
/// nothing else that belongs to an owner; so only its code is ever printed.
#[derive(Clone, PartialEq)]
pub struct Refusal {
    code: Code,
    message: String,
    details: Map<String, Value>,
}

/// What a refusal takes at most in JSON, in bytes, without an item that it shows.
pub const REFUSAL_BYTES: usize = 3_072;
/// The longest message, in bytes of JSON: it may repeat a name that the caller made up.
const MESSAGE_BYTES: usize = 1_024;
/// The longest `details.field`, in bytes of JSON.
const FIELD_BYTES: usize = 256;

impl Refusal {
    /// A refusal without details. The message tells a person what to mend; beyond 1,024 bytes it is cut.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: shortened(message.into(), MESSAGE_BYTES),
            details: Map::new(),
        }
    }

    /// The same refusal with one more detail.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// The same refusal with `details.field`, a path such as `data.isin`; beyond 256 bytes it is cut.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        let field = shortened(field.into(), FIELD_BYTES);
        self.with("field", field)
    }

    /// The same refusal of what stands at `path` in the request: `details.field`, and a message that begins with it, name
    /// the whole path.
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
        let message = match self.message.starts_with(&field) {
            true => shortened(format!("{path}.{}", self.message), MESSAGE_BYTES),
            false => self.message,
        };
        Self { message, ..self }.field(format!("{path}.{field}"))
    }

    /// On what callers branch.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What a person reads.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What goes with the code; perhaps empty.
    pub fn details(&self) -> &Map<String, Value> {
        &self.details
    }

    /// The body of the reply: `{"error": {"code", "status", "message", "details"}}`.
    pub fn body(&self) -> Value {
        json!({"error": self.inner()})
    }

    /// What stands under `error`: also the form of one refusal among the results of a batch.
    pub fn inner(&self) -> Value {
        json!({
            "code": self.code.as_str(),
            "status": self.code.status(),
            "message": self.message,
            "details": self.details,
        })
    }
}

/// Those that several operations give.
impl Refusal {
    /// 400: the request as a whole cannot be read.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// 400: one field cannot be read. The message begins with the field's path.
    pub fn bad_field(field: impl Into<String>, message: impl fmt::Display) -> Self {
        let field = shortened(field.into(), FIELD_BYTES);
        Self::bad_request(format!("{field}: {message}")).field(field)
    }

    /// 401: who is asking is not known, and why.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }

    /// 403: the token lacks that scope, named in `details.scope`.
    pub fn forbidden(scope: &str) -> Self {
        Self::new(
            Code::Forbidden,
            format!("the token lacks the scope {scope}"),
        )
        .with("scope", scope)
    }

    /// 404: no such item, as of that version of the owner.
    pub fn not_found(owner_version: Version) -> Self {
        Self::new(Code::NotFound, "there is no such item")
            .with("owner_version", owner_version.get())
    }

    /// 409: the caller's condition is false. `item` is the item as it is now, or null.
    pub fn version_conflict(item: Value, owner_version: Version) -> Self {
        Self::new(
            Code::VersionConflict,
            "the version is not the one that the request names",
        )
        .with("item", item)
        .with("owner_version", owner_version.get())
    }

    /// 413: that field is `used` bytes where `limit` bytes are the most.
    pub fn too_large(field: &str, used: usize, limit: usize) -> Self {
        Self::too_many_bytes(field, used, limit).field(field)
    }

    /// 413: the body as a whole is.
    pub fn body_too_large(used: usize, limit: usize) -> Self {
        Self::too_many_bytes("the request's body", used, limit)
    }

    fn too_many_bytes(what: &str, used: usize, limit: usize) -> Self {
        Self::new(
            Code::TooLarge,
            format!("{what} is {used} bytes, at most {limit} are taken"),
        )
        .with("used", used)
        .with("limit", limit)
    }

    /// 503 or 429: not now, but perhaps after `retry_after_ms`.
    pub fn retry_later(code: Code, message: impl Into<String>, retry_after_ms: u64) -> Self {
        Self::new(code, message).with("retry_after_ms", retry_after_ms)
    }

    /// 500: one fixed sentence and the request id, by which the log shows the cause.
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
        let field = shortened(invalid.field, FIELD_BYTES);
        let reason = shortened(invalid.reason, MESSAGE_BYTES);
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

/// The text, cut at a character so that it takes at most `most` bytes in JSON, with a sign where it was cut.
pub(super) fn shortened<'a>(text: impl Into<Cow<'a, str>>, most: usize) -> String {
    const CUT: &str = "…";
    let mut text = text.into().into_owned();
    let (mut used, mut fitting) = (0, 0);
    for (at, character) in text.char_indices() {
        if used <= most.saturating_sub(CUT.len()) {
            fitting = at;
        }
        used += in_json(character);
        if used > most {
            text.truncate(fitting);
            text.push_str(CUT);
            break;
        }
    }
    text
}

/// The bytes that a character takes in JSON at most.
fn in_json(character: char) -> usize {
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
        let refusal = Refusal::bad_field("data.isin", "must be text");
        let details = json!({"field": "data.isin"});
        let error = json!({"code": "bad_request", "status": 400, "message": "data.isin: must be text", "details": details});
        assert_eq!(refusal.body(), json!({"error": error}));
        assert_eq!(
            Refusal::bad_request("no").body()["error"]["details"],
            json!({})
        );
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
        let refusal = Refusal::from(Invalid::new(
            "data.isin",
            "the check digit is 6, expected 5",
        ));
        assert_eq!(
            (refusal.code(), refusal.message()),
            (
                Code::InvalidItem,
                "data.isin: the check digit is 6, expected 5"
            )
        );
        let details = json!({"field": "data.isin", "reason": "the check digit is 6, expected 5"});
        assert_eq!(Some(refusal.details()), details.as_object());
    }

    #[test]
    fn what_stands_below_a_path_is_named_with_it() {
        let told = |refusal: Refusal| {
            let refusal = refusal.below("ops[1]");
            (
                refusal.details()["field"].clone(),
                refusal.message().to_owned(),
            )
        };
        let whole = (
            json!("ops[1].tags[0]"),
            "ops[1].tags[0]: is empty".to_owned(),
        );
        assert_eq!(told(Invalid::new("tags[0]", "is empty").into()), whole);
        assert_eq!(
            told(Refusal::bad_field("ops[1].tags[0]", "is empty")),
            whole,
            "and once only"
        );
        assert_eq!(
            told(Refusal::new(Code::TooLarge, "no").field("data")),
            (json!("ops[1].data"), "no".into())
        );
        assert_eq!(
            Refusal::bad_request("no").below("ops[1]"),
            Refusal::bad_request("no")
        );
    }

    #[test]
    fn the_common_ones_carry_what_a_caller_needs() {
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
            assert_eq!(
                Value::Object(refusal.details().clone()),
                details,
                "{refusal}"
            );
            assert!(!refusal.message().is_empty());
        }
    }

    #[test]
    fn what_a_caller_made_up_is_cut_at_a_character() {
        let refusal = Refusal::bad_field("é".repeat(1_000), "unknown");
        let field = refusal.details()["field"].as_str().expect("text");
        assert!(
            field.len() <= FIELD_BYTES && field.ends_with('…') && refusal.message().len() < 300
        );
        assert!(Refusal::bad_request("x".repeat(9_999)).message().len() <= MESSAGE_BYTES);
        assert_eq!(
            (
                shortened("short", 5).as_str(),
                shortened("shorts", 5).as_str()
            ),
            ("short", "sh…")
        );
        let worst = Refusal::from(Invalid::new("\u{1}".repeat(999), "\u{1}".repeat(9_999)));
        let bytes = worst
            .with("owner_version", Version::MAX.get())
            .inner()
            .to_string()
            .len();
        assert!(bytes <= REFUSAL_BYTES, "{bytes}");
    }
}
