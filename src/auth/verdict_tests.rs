//! A verdict counts only when signed by a known key, fresh, and about this token for this service.

use super::*;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const TOKEN: &str = "a-token";

struct Signer {
    key: EncodingKey,
    jwks: String,
}

fn signer() -> Signer {
    let document =
        Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("the key just made");
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let jwks =
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "alg": "EdDSA", "x": x}]})
            .to_string();
    Signer {
        key: EncodingKey::from_ed_der(document.as_ref()),
        jwks,
    }
}

fn algorithms() -> Vec<String> {
    vec!["EdDSA".into(), "ES256".into(), "RS256".into()]
}

fn terms() -> Terms {
    Terms {
        issuer: "iss".into(),
        audience: "us".into(),
        max_age_s: 30,
        leeway_s: 5,
    }
}

fn good() -> Value {
    json!({
        "iss": "iss", "aud": "us", "iat": NOW,
        "token_introspection": {"active": true, "sub": "somebody", "scope": "favorites:read", "exp": NOW + 60},
        "token_sha256": URL_SAFE_NO_PAD.encode(sha256(TOKEN.as_bytes())),
    })
}

fn header(typ: &str) -> Header {
    Header {
        typ: Some(typ.into()),
        kid: Some("1".into()),
        ..Header::new(Algorithm::EdDSA)
    }
}

fn judge(signer: &Signer, claims: &Value) -> Result<Principal, VerdictError> {
    let keys = KeySet::parse("verdict_keys", &signer.jwks, &algorithms()).expect("a key set");
    let answer = encode(&header(TYP), claims, &signer.key).expect("signed");
    read(&keys, &terms(), &answer, TOKEN, NOW).map(|verdict| verdict.principal)
}

fn with(pointer: &str, value: Value) -> Value {
    let mut claims = good();
    *claims.pointer_mut(pointer).expect("a known claim") = value;
    claims
}

#[test]
fn a_good_verdict_gives_the_caller() {
    let caller = judge(&signer(), &good()).expect("good");
    assert_eq!(
        (caller.user().issuer(), caller.user().subject()),
        ("iss", "somebody")
    );
    assert!(caller.may(crate::wire::Scope::Read));
    assert_eq!(caller.expires_at(), Some(NOW + 60));
}

#[test]
fn a_verdict_that_is_not_for_this_question_is_not_believed() {
    let signer = signer();
    for (case, claims) in [
        ("another audience", with("/aud", json!("them"))),
        ("another issuer", with("/iss", json!("other"))),
        (
            "another token",
            with(
                "/token_sha256",
                json!(URL_SAFE_NO_PAD.encode(sha256(b"other"))),
            ),
        ),
        ("stale", with("/iat", json!(NOW - 31))),
        ("from the future", with("/iat", json!(NOW + 6))),
        ("no subject", with("/token_introspection/sub", json!(""))),
        ("no issuer", {
            let mut claims = good();
            claims.as_object_mut().expect("an object").remove("iss");
            claims
        }),
    ] {
        assert_eq!(
            judge(&signer, &claims).err(),
            Some(VerdictError::Unbelievable),
            "{case}"
        );
    }
}

#[test]
fn a_verdict_against_the_token_is_believed() {
    let signer = signer();
    for claims in [
        with("/token_introspection/active", json!(false)),
        with("/token_introspection/exp", json!(NOW)),
        with("/token_introspection", json!({"active": false})),
    ] {
        assert_eq!(judge(&signer, &claims).err(), Some(VerdictError::Inactive));
    }
}

#[test]
fn an_unsigned_or_foreign_verdict_is_not_believed() {
    let (ours, theirs) = (signer(), signer());
    let keys = KeySet::parse("verdict_keys", &ours.jwks, &algorithms()).expect("a key set");
    let foreign = encode(&header(TYP), &good(), &theirs.key).expect("signed");
    assert!(read(&keys, &terms(), &foreign, TOKEN, NOW).is_err());
    let body = URL_SAFE_NO_PAD.encode(good().to_string());
    let unsigned = format!(
        "{}.{body}.",
        URL_SAFE_NO_PAD.encode(json!({"alg": "none", "typ": TYP}).to_string())
    );
    assert!(read(&keys, &terms(), &unsigned, TOKEN, NOW).is_err());
    assert!(read(&keys, &terms(), "", TOKEN, NOW).is_err());
    let other_typ = encode(&header("JWT"), &good(), &ours.key).expect("signed");
    assert!(
        read(&keys, &terms(), &other_typ, TOKEN, NOW).is_err(),
        "an access token is no verdict"
    );
    let hmac = encode(
        &Header {
            typ: Some(TYP.into()),
            ..Header::new(Algorithm::HS256)
        },
        &good(),
        &EncodingKey::from_secret(ours.jwks.as_bytes()),
    );
    assert!(
        read(&keys, &terms(), &hmac.expect("signed"), TOKEN, NOW).is_err(),
        "a public key is no secret"
    );
}

#[test]
fn a_key_set_that_cannot_be_used_is_refused_by_its_setting() {
    let set = |text: &str, algorithms: &[String]| {
        KeySet::parse("verdict_keys", text, algorithms)
            .err()
            .expect("refused")
            .to_string()
    };
    assert_eq!(
        set("{", &algorithms()),
        "auth.verdict_keys is not a JWK set (RFC 7517)"
    );
    assert_eq!(
        set("{\"keys\":[]}", &algorithms()),
        "auth.verdict_keys holds no key for any of auth.algorithms"
    );
    assert!(
        set(&signer().jwks, &["ES256".into()]).contains("no key"),
        "the key is for another algorithm"
    );
    assert!(set(&signer().jwks, &["none".into()]).contains("none is not one of"));
    assert!(set(&signer().jwks, &["HS256".into()]).contains("HS256 is not one of"));
}
