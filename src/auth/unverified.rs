//! The subject of a token that nobody has verified. It names an owner to an operator, and lets
//! nobody in.

use super::claims::Claims;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Returns the `sub` of a token that is a JWT. Neither its signature nor its times are checked.
pub fn unverified_subject(token: &str) -> Option<String> {
    let payload = token.trim().split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims = Claims::parse(&payload).ok()?;

    let subject = claims.require_text("sub").ok()?;
    (!subject.is_empty()).then(|| subject.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jwt_with_a_subject_has_one() {
        let token = |payload: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));

        let subject = unverified_subject(&token("{\"sub\":\"alice\",\"exp\":1}"));
        assert_eq!(subject.as_deref(), Some("alice"));
        for other in [token("{\"sub\":\"\"}"), token("{}"), "opaque".to_owned()] {
            assert_eq!(unverified_subject(&other), None);
        }
    }
}
