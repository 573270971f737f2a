//! Tests that a verdict is trusted only if a configured key signed it and it is fresh, for this
//! service and about this token.

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

/// The claims of a verdict that is trusted.
fn good_claims() -> Value {
    json!({
        "iss": "iss", "aud": "us", "iat": NOW,
        "token_introspection": {
            "active": true, "sub": "somebody", "scope": "favorites:read", "exp": NOW + 60,
        },
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

/// Signs the claims and reads them as a verdict about [`TOKEN`].
fn read_claims(signer: &Signer, claims: &Value) -> Result<Principal, VerdictError> {
    let keys = KeySet::parse("verdict_keys", &signer.jwks, &algorithms()).expect("a key set");
    let answer = encode(&header(TYP), claims, &signer.key).expect("signed");
    read(&keys, &terms(), &answer, TOKEN, NOW).map(|verdict| verdict.principal)
}

/// Good claims with one of them replaced.
fn claims_with(pointer: &str, value: Value) -> Value {
    let mut claims = good_claims();
    *claims.pointer_mut(pointer).expect("a claim") = value;
    claims
}

#[test]
fn a_good_verdict_identifies_the_caller() {
    let caller = read_claims(&signer(), &good_claims()).expect("good");

    assert_eq!(caller.user().issuer(), "iss");
    assert_eq!(caller.user().subject(), "somebody");
    assert!(caller.may(crate::wire::Scope::Read));
    assert_eq!(caller.expires_at(), Some(NOW + 60));
}

#[test]
fn a_verdict_for_another_question_or_time_is_not_trusted() {
    let signer = signer();
    let cases = [
        ("another audience", claims_with("/aud", json!("them"))),
        ("another issuer", claims_with("/iss", json!("other"))),
        (
            "another token",
            claims_with(
                "/token_sha256",
                json!(URL_SAFE_NO_PAD.encode(sha256(b"other"))),
            ),
        ),
        ("stale", claims_with("/iat", json!(NOW - 31))),
        ("from the future", claims_with("/iat", json!(NOW + 6))),
        (
            "no subject",
            claims_with("/token_introspection/sub", json!("")),
        ),
        ("no issuer", {
            let mut claims = good_claims();
            claims.as_object_mut().expect("an object").remove("iss");
            claims
        }),
    ];

    for (case, claims) in cases {
        assert_eq!(
            read_claims(&signer, &claims).err(),
            Some(VerdictError::Unbelievable),
            "{case}"
        );
    }
}

#[test]
fn a_verdict_that_a_token_is_not_valid_is_trusted() {
    let signer = signer();
    let cases = [
        claims_with("/token_introspection/active", json!(false)),
        claims_with("/token_introspection/exp", json!(NOW)),
        claims_with("/token_introspection", json!({"active": false})),
    ];

    for claims in cases {
        assert_eq!(
            read_claims(&signer, &claims).err(),
            Some(VerdictError::Inactive)
        );
    }
}

#[test]
fn an_unsigned_or_foreign_verdict_is_not_trusted() {
    let ours = signer();
    let theirs = signer();
    let keys = KeySet::parse("verdict_keys", &ours.jwks, &algorithms()).expect("a key set");
    let is_refused = |verdict: &str| read(&keys, &terms(), verdict, TOKEN, NOW).is_err();

    let foreign = encode(&header(TYP), &good_claims(), &theirs.key).expect("signed");
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(json!({"alg": "none", "typ": TYP}).to_string()),
        URL_SAFE_NO_PAD.encode(good_claims().to_string()),
    );
    let other_typ = encode(&header("JWT"), &good_claims(), &ours.key).expect("signed");
    let hmac_header = Header {
        typ: Some(TYP.into()),
        ..Header::new(Algorithm::HS256)
    };
    let hmac_key = EncodingKey::from_secret(ours.jwks.as_bytes());
    let hmac = encode(&hmac_header, &good_claims(), &hmac_key).expect("signed");

    assert!(is_refused(&foreign));
    assert!(is_refused(&unsigned));
    assert!(is_refused(""));
    assert!(is_refused(&other_typ), "an access token is not a verdict");
    assert!(is_refused(&hmac), "a public key is not a secret");
}

#[test]
fn the_error_about_a_key_set_names_the_setting() {
    let error = |text: &str, algorithms: &[String]| {
        KeySet::parse("verdict_keys", text, algorithms)
            .err()
            .expect("refused")
            .to_string()
    };

    assert_eq!(
        error("{", &algorithms()),
        "auth.verdict_keys is not a JWK set (RFC 7517)"
    );
    assert_eq!(
        error("{\"keys\":[]}", &algorithms()),
        "auth.verdict_keys holds no key for any of auth.algorithms"
    );
    assert!(
        error(&signer().jwks, &["ES256".into()]).contains("no key"),
        "the key is for another algorithm"
    );
    assert!(error(&signer().jwks, &["none".into()]).contains("none is not one of"));
    assert!(error(&signer().jwks, &["HS256".into()]).contains("HS256 is not one of"));
}
