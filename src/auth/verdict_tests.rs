//! Tests that a verdict is trusted only if a configured key signed it and it is fresh, for this
//! service and about this token.

use super::*;
use crate::auth::revocation::Revocation;
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
        token_issuers: vec!["tokens".into()],
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

/// The claim that makes a verdict unbelievable.
fn wrong_claim(claim: &str) -> Option<VerdictError> {
    Some(VerdictError::Unbelievable(JwtError::Claim(claim.into())))
}

#[test]
fn a_verdict_for_another_question_or_time_is_not_trusted() {
    let signer = signer();
    let of_another = URL_SAFE_NO_PAD.encode(sha256(b"other"));
    let cases = [
        ("/aud", json!("them"), "aud"),
        ("/iss", json!("other"), "iss"),
        ("/iss", Value::Null, "iss"),
        ("/token_sha256", json!(of_another), "token_sha256"),
        ("/iat", json!(NOW - 31), "iat"),
        ("/iat", json!(NOW as f64 - 30.1), "iat"),
        ("/iat", json!(NOW + 6), "iat"),
        ("/iat", json!(NOW as f64 + 5.1), "iat"),
        ("/token_introspection", Value::Null, "token_introspection"),
        (
            "/token_introspection/active",
            json!("true"),
            "token_introspection.active",
        ),
        (
            "/token_introspection/sub",
            json!(""),
            "token_introspection.sub",
        ),
        (
            "/token_introspection/exp",
            json!("soon"),
            "token_introspection.exp",
        ),
    ];

    for (pointer, value, claim) in cases {
        let claims = claims_with(pointer, value);
        let refused = read_claims(&signer, &claims).err();
        assert_eq!(refused, wrong_claim(claim), "{claims}");
    }
}

#[test]
fn the_issuer_of_the_token_is_an_expected_one_and_does_not_name_the_owner() {
    let signer = signer();
    let with_issuer = |issuer: &str| {
        let mut claims = good_claims();
        claims["token_introspection"]["iss"] = json!(issuer);
        read_claims(&signer, &claims)
    };

    for issuer in ["iss", "tokens"] {
        let caller = with_issuer(issuer).expect("an expected issuer");
        assert_eq!(caller.user().issuer(), "iss");
        assert_eq!(caller.user().subject(), "somebody");
    }
    assert_eq!(
        with_issuer("other").err(),
        wrong_claim("token_introspection.iss")
    );
}

#[test]
fn times_may_have_fractions() {
    let signer = signer();
    let mut claims = good_claims();
    claims["iat"] = json!(NOW as f64 - 29.5);
    claims["nbf"] = json!(NOW as f64 + 0.5);
    claims["token_introspection"]["exp"] = json!(NOW as f64 + 60.75);

    let caller = read_claims(&signer, &claims).expect("good");

    assert_eq!(caller.expires_at(), Some(NOW + 60), "rounded down");
}

#[test]
fn a_verdict_that_a_token_is_not_valid_is_trusted() {
    let signer = signer();
    let cases = [
        claims_with("/token_introspection/active", json!(false)),
        claims_with("/token_introspection/exp", json!(NOW)),
        claims_with("/token_introspection/exp", json!(NOW as f64 + 0.9)),
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

/// Signs the good claims with this header as it stands.
fn sign_with_header(signer: &Signer, header: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(&good_claims()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, Algorithm::EdDSA)
        .expect("signed");
    format!("{message}.{signature}")
}

#[test]
fn both_names_of_the_algorithm_are_the_same() {
    let signer = signer();
    let names = ["EdDSA", "Ed25519"];

    for in_key in names {
        for allowed in names {
            let jwks = signer.jwks.replace("EdDSA", in_key);
            let keys = KeySet::parse("verdict_keys", &jwks, &[allowed.into()]).expect("a key set");
            for in_header in names {
                let header = json!({"alg": in_header, "typ": TYP, "kid": "1"});
                let answer = sign_with_header(&signer, &header);
                let verdict = read(&keys, &terms(), &answer, TOKEN, NOW);
                assert!(verdict.is_ok(), "{in_key} {allowed} {in_header}");
            }
        }
    }
}

#[test]
fn a_header_that_is_wrong_is_named() {
    let signer = signer();
    let keys = KeySet::parse("verdict_keys", &signer.jwks, &algorithms()).expect("a key set");
    let cases = [
        (json!({"alg": "EdDSA"}), JwtError::Header("typ")),
        (json!({"alg": "ES512", "typ": TYP}), JwtError::Header("alg")),
        (
            json!({"alg": "EdDSA", "typ": TYP, "crit": ["b64"], "b64": false}),
            JwtError::Header("crit"),
        ),
        (
            json!({"alg": "EdDSA", "typ": TYP, "crit": null}),
            JwtError::Header("crit"),
        ),
        (
            json!({"alg": "EdDSA", "typ": TYP, "kid": "2"}),
            JwtError::Signature,
        ),
        (json!({"alg": "RS256", "typ": TYP}), JwtError::Signature),
        (json!({"typ": TYP}), JwtError::Malformed),
    ];

    for (header, error) in cases {
        let answer = sign_with_header(&signer, &header);
        let refused = read(&keys, &terms(), &answer, TOKEN, NOW).err();
        assert_eq!(refused, Some(VerdictError::Unbelievable(error)), "{header}");
    }
}

/// The number of usable keys in the signer's set after `change` of its key.
fn usable_keys(change: &Value, others: &[Value]) -> usize {
    let mut set: Value = serde_json::from_str(&signer().jwks).expect("JSON");
    let key = set["keys"][0].as_object_mut().expect("a key");
    for (name, value) in change.as_object().expect("changes") {
        key.insert(name.clone(), value.clone());
    }
    let keys = set["keys"].as_array_mut().expect("keys");
    keys.extend(others.iter().cloned());

    KeySet::parse("verdict_keys", &set.to_string(), &algorithms()).map_or(0, |keys| keys.count())
}

#[test]
fn keys_for_other_purposes_are_skipped() {
    let unusable = [
        json!({"use": "enc"}),
        json!({"key_ops": ["encrypt", "wrapKey"]}),
        json!({"key_ops": []}),
        json!({"alg": "ECDH-ES"}),
        json!({"alg": "RSA-OAEP-256"}),
        json!({"alg": "HS256"}),
        json!({"kty": "new"}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"crv": "X25519"}),
        json!({"x": "AAAA"}),
        json!({"x": null}),
        json!({"kid": 1}),
    ];
    for change in unusable {
        assert_eq!(usable_keys(&change, &[]), 0, "{change}");
    }

    let usable = [
        json!({}),
        json!({"use": "sig", "key_ops": ["sign", "verify"]}),
        json!({"alg": null, "kid": null}),
        json!({"new": [1, 2]}),
    ];
    for change in usable {
        assert_eq!(usable_keys(&change, &[]), 1, "{change}");
    }

    let others = [
        json!("not a key"),
        json!({"kty": "EC", "crv": "P-384", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "RSA", "alg": "RSA-OAEP", "n": "AAAA", "e": "AQAB"}),
    ];
    assert_eq!(usable_keys(&json!({}), &others), 1, "only the good one");
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

/// The bytes are the answer of the auth service, and the claims of one that it signed.
#[test]
fn fuzz_the_verdict() {
    let signer = signer();
    let keys = KeySet::parse("verdict_keys", &signer.jwks, &algorithms()).expect("a key set");

    bolero::check!().for_each(|input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        assert!(read(&keys, &terms(), &text, TOKEN, NOW).is_err());

        let Ok(Value::Object(mut claims)) = serde_json::from_slice(input) else {
            return;
        };
        // With the hash of the token, which nothing can guess, the other claims are read too.
        let hash = good_claims()["token_sha256"].clone();
        claims.insert("token_sha256".into(), hash);
        if let Ok(principal) = read_claims(&signer, &Value::Object(claims)) {
            assert!(!principal.user().subject().is_empty());
        }
    });
}

/// The bytes are a message on the revocation subject, and the claims of one that is signed.
#[test]
fn fuzz_the_revocation() {
    let signer = signer();
    let keys = KeySet::parse("verdict_keys", &signer.jwks, &algorithms()).expect("a key set");
    let read = |text: &str| Revocation::read(&keys, "iss", "us", 5, text, NOW);

    bolero::check!().for_each(|input: &[u8]| {
        assert!(read(&String::from_utf8_lossy(input)).is_err());

        if let Ok(Value::Object(claims)) = serde_json::from_slice(input) {
            let signed = encode(&header("secevent+jwt"), &claims, &signer.key).expect("signed");
            if read(&signed).is_ok() {
                assert!(claims["sub"].is_string() || claims["sid"].is_string());
            }
        }
    });
}

#[test]
fn fuzz_the_key_set() {
    bolero::check!().for_each(|input: &[u8]| {
        if let Ok(text) = std::str::from_utf8(input)
            && let Ok(keys) = KeySet::parse("verdict_keys", text, &algorithms())
        {
            assert!(keys.count() > 0);
        }
    });
}
