//! The claims of a signed JWT, read one by one, so that an error names the claim that is wrong.

use serde_json::{Map, Value};

/// Why a JWT is not trusted. It names headers and claims, and never repeats their values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwtError {
    /// It does not have the form of a signed JWT (RFC 7519).
    #[error("it is not a signed JWT")]
    Malformed,
    /// A field of its header is missing or wrong.
    #[error("its header {0} is missing or wrong")]
    Header(&'static str),
    /// No key that fits its header signed it.
    #[error("none of the keys signed it")]
    Signature,
    /// A claim is missing or wrong.
    #[error("its claim {0} is missing or wrong")]
    Claim(String),
}

/// A time in seconds since the Unix epoch, which may have a fraction (RFC 7519, NumericDate).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) struct NumericDate(f64);

impl NumericDate {
    fn parse(value: &Value) -> Option<Self> {
        let seconds = value.as_f64()?;
        (seconds >= 0.0).then_some(Self(seconds))
    }

    /// Returns the time in whole seconds, rounded down. A time too large for the type is its
    /// maximum.
    pub fn whole_seconds(self) -> u64 {
        self.0 as u64
    }

    /// Returns whether the time is more than `leeway_s` before `now`, in seconds.
    fn is_past(self, now: u64, leeway_s: u64) -> bool {
        self.0 + (leeway_s as f64) < now as f64
    }

    /// Returns whether the time is more than `leeway_s` after `now`, in seconds.
    pub fn is_future(self, now: u64, leeway_s: u64) -> bool {
        self.0 > now as f64 + leeway_s as f64
    }
}

/// What the claims of a JWT must satisfy.
#[derive(Clone, Copy)]
pub(super) struct Demands<'a> {
    pub issuer: Option<&'a str>,
    pub audience: Option<&'a str>,
    /// The `typ` of its header.
    pub typ: Option<&'a str>,
    /// Whether it must have an `exp` in the future.
    pub expires: bool,
    pub leeway_s: u64,
}

/// Claims whose signature was verified.
#[derive(Debug)]
pub(super) struct Claims {
    fields: Map<String, Value>,
    /// The prefix of the claims' names in errors.
    path: &'static str,
}

impl Claims {
    /// Parses the payload of a JWT.
    pub fn parse(payload: &[u8]) -> Result<Self, JwtError> {
        let fields = serde_json::from_slice(payload).map_err(|_| JwtError::Malformed)?;
        Ok(Self { fields, path: "" })
    }

    /// Checks the registered claims; `now` is in seconds since the Unix epoch.
    pub fn check(&self, demands: &Demands<'_>, now: u64) -> Result<(), JwtError> {
        if demands.expires && self.require_date("exp")?.is_past(now, demands.leeway_s) {
            return Err(self.wrong("exp"));
        }
        if let Some(not_before) = self.date("nbf")?
            && not_before.is_future(now, demands.leeway_s)
        {
            return Err(self.wrong("nbf"));
        }
        if let Some(audience) = demands.audience
            && !self.is_for(audience)
        {
            return Err(self.wrong("aud"));
        }
        if let Some(issuer) = demands.issuer
            && self.text("iss")? != Some(issuer)
        {
            return Err(self.wrong("iss"));
        }

        Ok(())
    }

    /// Returns whether `aud`, a text or a list of texts, names this audience.
    fn is_for(&self, audience: &str) -> bool {
        match self.fields.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one == audience),
            _ => false,
        }
    }

    /// Returns the error that this claim is missing or wrong.
    pub fn wrong(&self, name: &str) -> JwtError {
        JwtError::Claim(format!("{}{name}", self.path))
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>, JwtError> {
        self.get(name, Value::as_str)
    }

    pub fn date(&self, name: &str) -> Result<Option<NumericDate>, JwtError> {
        self.get(name, NumericDate::parse)
    }

    pub fn require_text(&self, name: &str) -> Result<&str, JwtError> {
        self.text(name)?.ok_or_else(|| self.wrong(name))
    }

    pub fn require_date(&self, name: &str) -> Result<NumericDate, JwtError> {
        self.date(name)?.ok_or_else(|| self.wrong(name))
    }

    pub fn require_bool(&self, name: &str) -> Result<bool, JwtError> {
        self.get(name, Value::as_bool)?
            .ok_or_else(|| self.wrong(name))
    }

    /// Returns an object of claims. In errors `path` is the prefix of their names.
    pub fn require_object(&self, name: &str, path: &'static str) -> Result<Self, JwtError> {
        let fields = self.get(name, Value::as_object)?;
        let fields = fields.ok_or_else(|| self.wrong(name))?.clone();

        Ok(Self { fields, path })
    }

    /// Returns whether there are no claims.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Returns a claim that `read` accepts, or `None` if it is absent or null.
    fn get<'a, T>(
        &'a self,
        name: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, JwtError> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DEMANDS: Demands<'_> = Demands {
        issuer: Some("iss"),
        audience: Some("us"),
        typ: None,
        expires: true,
        leeway_s: 5,
    };

    fn check(claims: &Value) -> Result<(), JwtError> {
        Claims::parse(claims.to_string().as_bytes())
            .expect("an object")
            .check(&DEMANDS, 100)
    }

    fn with(claim: &str, value: Value) -> Value {
        let mut claims = json!({"iss": "iss", "aud": "us", "exp": 101, "nbf": 99});
        claims[claim] = value;

        claims
    }

    #[test]
    fn times_may_have_fractions() {
        let good = [
            with("exp", json!(100.5)),
            with("exp", json!(95.0)),
            with("nbf", json!(104.999)),
            with("nbf", Value::Null),
            with("aud", json!(["them", "us"])),
        ];

        for claims in good {
            assert_eq!(check(&claims), Ok(()), "{claims}");
        }
    }

    #[test]
    fn the_claim_that_is_wrong_is_named() {
        let cases = [
            ("exp", json!(94.9)),
            ("exp", Value::Null),
            ("exp", json!("101")),
            ("exp", json!(-1)),
            ("nbf", json!(105.1)),
            ("nbf", json!("soon")),
            ("aud", json!("them")),
            ("aud", json!([])),
            ("aud", Value::Null),
            ("iss", json!("other")),
            ("iss", json!(["iss"])),
            ("iss", Value::Null),
        ];

        for (claim, value) in cases {
            let claims = with(claim, value);

            let checked = check(&claims);

            assert_eq!(checked, Err(JwtError::Claim(claim.into())), "{claims}");
        }
    }

    #[test]
    fn a_claim_within_an_object_is_named_with_its_path() {
        let claims = Claims::parse(b"{\"a\": {\"b\": 1}}").expect("an object");

        let within = claims.require_object("a", "a.").expect("an object");
        let missing = claims.require_object("c", "c.").err();

        assert_eq!(within.text("b"), Err(JwtError::Claim("a.b".into())));
        assert_eq!(missing, Some(JwtError::Claim("c".into())));
    }

    #[test]
    fn a_time_too_large_is_the_last_one() {
        let claims = Claims::parse(b"{\"exp\": 1e300, \"iat\": 12.9}").expect("an object");

        let seconds = |name| claims.require_date(name).map(NumericDate::whole_seconds);

        assert_eq!(seconds("exp"), Ok(u64::MAX));
        assert_eq!(seconds("iat"), Ok(12));
    }
}
