//! Who is asking: nobody is let in but by a verdict that the auth service has signed about this very token.

use crate::harness::{Caller, Verifier, World, isin};
use async_nats::HeaderMap;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gofavorites::config::Settings;
use gofavorites::dev::auth_service::AuthService;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use gofavorites::dev::tokens::{ALL_SCOPES, AUDIENCE, ISSUER, token};
use gofavorites::seal::sha256;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HOUR: Duration = Duration::from_secs(3_600);

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn an_item() -> Value {
    json!({"kind": "instrument", "data": {"isin": isin(1), "type": "stock"}})
}

/// A worker whose tokens say nothing to it, so that it asks about each.
fn asking(world: &World, shard: &str) -> Settings {
    let mut settings = world.settings(shard);
    settings.auth.token_keys = String::new();
    settings.auth.timeout_ms = 1_000;
    settings
}

/// Each request with these headers is refused so, and nothing is written.
async fn must_be_refused(
    world: &World,
    caller: &Caller,
    headers: &HeaderMap,
    code: &str,
    why: &str,
) {
    for (operation, body) in [("a.put", an_item()), ("a.list", json!({}))] {
        let reply = caller
            .ask_with(operation, headers.clone(), body.to_string().into_bytes())
            .await;
        assert_eq!(reply.body["error"]["code"], code, "{why}: {}", reply.body);
        reply.refusal(code);
    }
    assert!(
        world.records().await.is_empty(),
        "{why}: something was written"
    );
}

/// The auth service answers again, and within two seconds the worker knows it.
async fn served_again(caller: &Caller) {
    let back = Instant::now();
    while caller.ask("a.list", &json!({})).await.body["error"]["code"] == "auth_unavailable" {
        assert!(
            back.elapsed() < Duration::from_secs(2),
            "normal service within two seconds"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_good_token_is_not_let_in() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let good = caller.token.to_string();
    let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": ALL_SCOPES, "exp": now() + 3_600});
    let strangers = Secrets::generate().expect("secrets");
    let (head, body) = (
        part(&json!({"alg": "none", "typ": "at+jwt"})),
        part(&claims),
    );
    let jwks: Value =
        serde_json::from_str(&world.secrets.token_jwks().expect("keys")).expect("JSON");
    let public = jwks["keys"][0]["x"]
        .as_str()
        .expect("a public key")
        .to_owned();
    let hmac = |secret: &[u8], kid: Option<&str>| {
        let header = Header {
            kid: kid.map(Into::into),
            ..Header::new(Algorithm::HS256)
        };
        encode(&header, &claims, &EncodingKey::from_secret(secret)).expect("signed")
    };
    let raw_public = URL_SAFE_NO_PAD.decode(&public).expect("base64");
    let expired = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": ALL_SCOPES, "exp": now() - 60});
    let endless = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": ALL_SCOPES});
    let (start, signature) = good.rsplit_once('.').expect("a signature");
    let other_body = format!(
        "{}.{}.{signature}",
        start.split_once('.').expect("two parts").0,
        part(&claims)
    );
    let bad = [
        ("garbage", "garbage".to_owned()),
        ("three empty parts", "..".to_owned()),
        (
            "a stranger's key",
            token(&strangers, "alice", ALL_SCOPES, HOUR).expect("a token"),
        ),
        ("no algorithm", format!("{head}.{body}.")),
        (
            "no algorithm, with a signature",
            format!("{head}.{body}.{signature}"),
        ),
        ("the public key as a secret", hmac(&raw_public, None)),
        (
            "the public key's text as a secret",
            hmac(public.as_bytes(), Some("token")),
        ),
        ("expired", signed_as_token(&world, &expired)),
        ("without an end", signed_as_token(&world, &endless)),
        ("cut short", good[..good.len() - 2].to_owned()),
        ("claims of another token", other_body),
    ];
    for (why, bad) in &bad {
        must_be_refused(
            &world,
            &caller,
            &caller.with_token(bad).headers(),
            "unauthenticated",
            why,
        )
        .await;
    }
    assert!(
        verifier.questions().is_empty(),
        "garbage costs no round trip"
    );
    let long = "a".repeat(9_000);
    must_be_refused(
        &world,
        &caller,
        &caller.with_token(&long).headers(),
        "too_large",
        "a token of 9,000 bytes",
    )
    .await;
    must_be_refused(
        &world,
        &caller,
        &HeaderMap::new(),
        "unauthenticated",
        "no token",
    )
    .await;
    for value in [
        "",
        "Bearer",
        "Bearer ",
        &good,
        &format!("Basic {good}"),
        &format!("Bearer {good} {good}"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("Authorization", value);
        must_be_refused(&world, &caller, &headers, "unauthenticated", value).await;
    }
    let mut twice = caller.headers();
    twice.append("Authorization", format!("Bearer {good}"));
    must_be_refused(
        &world,
        &caller,
        &twice,
        "bad_request",
        "two values under one name",
    )
    .await;
    let mut spellings = caller.headers();
    spellings.insert("AUTHORIZATION", format!("Bearer {good}"));
    must_be_refused(&world, &caller, &spellings, "bad_request", "two spellings").await;
    let mut lower = HeaderMap::new();
    lower.insert("authorization", format!("bearer {good}"));
    let reply = caller
        .ask_with("a.put", lower, an_item().to_string().into_bytes())
        .await;
    assert_eq!(
        reply.body["item"]["id"],
        isin(1),
        "the case of a name does not matter: {}",
        reply.body
    );
}

fn signed_as_token(world: &World, claims: &Value) -> String {
    let header = Header {
        typ: Some("at+jwt".into()),
        kid: Some("token".into()),
        ..Header::new(Algorithm::EdDSA)
    };
    let key = EncodingKey::from_ed_der(&world.secrets.token_key().expect("a key"));
    encode(&header, claims, &key).expect("signed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_does_not_outlive_its_token() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker_with(asking(&world, "a")).await;
    let caller = world.caller("alice").await;
    let short = caller.with_token(&world.token("alice", ALL_SCOPES, Duration::from_secs(2)));
    short.done("a.list", &json!({})).await;
    short.done("a.list", &json!({})).await;
    assert_eq!(
        verifier.questions().len(),
        1,
        "the second came from the cache"
    );
    let end = now() + 3;
    let refused = loop {
        let reply = short.ask("a.list", &json!({})).await;
        if !reply.body["error"].is_null() {
            break reply;
        }
        assert!(now() < end, "let in after the token's end");
    };
    refused.refusal("unauthenticated");
}

/// The claims of a verdict that lets the bearer of `token` in as `subject`.
fn verdict(token: &str, subject: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": now(),
        "token_introspection": {"active": true, "sub": subject, "scope": ALL_SCOPES, "exp": now() + 3_600},
        "token_sha256": URL_SAFE_NO_PAD.encode(sha256(token.as_bytes())),
    })
}

const TYP: &str = "token-introspection+jwt";

type Answer = Box<dyn Fn(&AuthService, &str) -> Option<String> + Send + Sync>;

/// A verdict with one claim changed, signed as it has to be.
fn with(claim: &'static str, value: impl Fn() -> Value + Send + Sync + 'static) -> Answer {
    Box::new(move |service, token| {
        let mut claims = verdict(token, "alice");
        match value() {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(claim)),
            value => claims[claim] = value,
        }
        service.sign(TYP, &claims).ok()
    })
}

fn unbelievable() -> Vec<(&'static str, Answer)> {
    let strangers = AuthService::new(&Secrets::generate().expect("secrets")).expect("keys");
    let active_without_subject = || json!({"active": true, "scope": ALL_SCOPES});
    vec![
        (
            "unsigned claims",
            Box::new(|_, token| Some(verdict(token, "alice").to_string())),
        ),
        (
            "unsigned introspection",
            Box::new(|_, _| Some(json!({"active": true, "sub": "alice"}).to_string())),
        ),
        ("the algorithm none", {
            let head = part(&json!({"alg": "none", "typ": TYP}));
            Box::new(move |_, token| Some(format!("{head}.{}.", part(&verdict(token, "alice")))))
        }),
        (
            "another key",
            Box::new(move |_, token| strangers.sign(TYP, &verdict(token, "alice")).ok()),
        ),
        (
            "another type",
            Box::new(|service, token| service.sign("JWT", &verdict(token, "alice")).ok()),
        ),
        (
            "a token in place of a verdict",
            Box::new(|_, token| Some(token.to_owned())),
        ),
        ("stale", with("iat", || json!(now() - 300))),
        ("of the future", with("iat", || json!(now() + 300))),
        ("without time", with("iat", || Value::Null)),
        ("another audience", with("aud", || json!("another"))),
        ("without audience", with("aud", || Value::Null)),
        (
            "another issuer",
            with("iss", || json!("https://other.invalid")),
        ),
        ("without issuer", with("iss", || Value::Null)),
        (
            "about another token",
            with("token_sha256", || {
                json!(URL_SAFE_NO_PAD.encode(sha256(b"other")))
            }),
        ),
        ("about no token", with("token_sha256", || Value::Null)),
        (
            "about nobody",
            with("token_introspection", active_without_subject),
        ),
        ("not JSON", Box::new(|_, _| Some("yes".into()))),
        ("empty", Box::new(|_, _| Some(String::new()))),
        ("no answer", Box::new(|_, _| None)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_to_be_believed_lets_nobody_in() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(|_, _| None)));
    let current = answer.clone();
    let _verifier = Verifier::start(&world, move |service, token| {
        current.lock().expect("one")(service, token)
    })
    .await;
    let _worker = world.worker_with(asking(&world, "a")).await;
    let caller = world.caller("alice").await;
    for (why, hostile) in unbelievable() {
        *answer.lock().expect("one") = hostile;
        must_be_refused(&world, &caller, &caller.headers(), "auth_unavailable", why).await;
        let refused = caller.ask("a.list", &json!({})).await;
        assert!(
            refused.refusal("auth_unavailable")["details"]["retry_after_ms"].is_u64(),
            "{why}"
        );
    }
    *answer.lock().expect("one") = with("token_introspection", || json!({"active": false}));
    served_again(&caller).await;
    must_be_refused(
        &world,
        &caller,
        &caller.headers(),
        "unauthenticated",
        "inactive",
    )
    .await;
    // Another token each time: what was called inactive is not asked about at once.
    let caller = caller.with_token(&world.token("alice", ALL_SCOPES, HOUR));
    *answer.lock().expect("one") = with(
        "token_introspection",
        || json!({"active": true, "sub": "alice", "exp": now() - 1, "scope": ALL_SCOPES}),
    );
    must_be_refused(
        &world,
        &caller,
        &caller.headers(),
        "unauthenticated",
        "active and past its end",
    )
    .await;
    let caller = caller.with_token(&world.token("alice", ALL_SCOPES, HOUR * 2));
    *answer.lock().expect("one") =
        Box::new(|service, token| service.sign(TYP, &verdict(token, "alice")).ok());
    caller.done("a.put", &an_item()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_opens_what_it_names_and_no_more() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.done("a.put", &an_item()).await;
    let before = world.records().await;
    let id = json!({"kind": "instrument", "id": isin(1)});
    let reveal = json!({"kind": "instrument", "id": isin(1), "reveal": true});
    let operations = [
        ("put", &an_item()),
        ("delete", &id),
        ("get", &id),
        ("list", &json!({})),
        ("get", &reveal),
    ]
    .map(|(name, body)| (name, body.clone()));
    let none = [
        Some("favorites:write"),
        Some("favorites:write"),
        Some("favorites:read"),
        Some("favorites:read"),
    ];
    let table = [
        (
            "favorites:read",
            [none[0], none[1], None, None, Some("favorites:secrets")],
        ),
        (
            "favorites:read favorites:secrets",
            [none[0], none[1], None, None, None],
        ),
        (
            "favorites:secrets",
            [none[0], none[1], none[2], none[3], none[2]],
        ),
        ("", [none[0], none[1], none[2], none[3], none[2]]),
        (
            "favorites:read-not FAVORITES:WRITE favorites:*",
            [none[0], none[1], none[2], none[3], none[2]],
        ),
    ];
    for (scope, lacking) in table {
        let caller = alice.with_token(&world.token("alice", scope, HOUR));
        for ((operation, body), lacks) in std::iter::zip(&operations, lacking) {
            let reply = caller.ask(&format!("a.{operation}"), body).await;
            match lacks {
                Some(lacks) => assert_eq!(
                    reply.refusal("forbidden")["details"],
                    json!({ "scope": lacks }),
                    "{scope}"
                ),
                None => assert!(
                    reply.body["error"].is_null(),
                    "{scope} {operation}: {}",
                    reply.body
                ),
            }
        }
    }
    assert_eq!(
        world.records().await,
        before,
        "nobody without the scope has written"
    );
    let writer = alice.with_token(&world.token("alice", "favorites:write", HOUR));
    for (operation, body) in &operations[2..] {
        let refused = writer.ask(&format!("a.{operation}"), body).await;
        assert_eq!(
            refused.refusal("forbidden")["details"]["scope"],
            "favorites:read"
        );
    }
    writer.done("a.put", &an_item()).await;
    writer.done("a.delete", &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_subject_of_another_issuer_is_another_owner() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let issuer = Arc::new(Mutex::new(ISSUER));
    let current = issuer.clone();
    let _verifier = Verifier::start(&world, move |service, token| {
        let mut claims = verdict(token, "alice");
        claims["iss"] = json!(*current.lock().expect("one"));
        service.sign(TYP, &claims).ok()
    })
    .await;
    let _a = world.worker_with(asking(&world, "a")).await;
    let mut settings = asking(&world, "b");
    settings.auth.issuer = "https://other.invalid".into();
    let _b = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    alice.done("a.put", &an_item()).await;
    *issuer.lock().expect("one") = "https://other.invalid";
    let other = alice
        .done("b.list", &json!({"consistency": "strong"}))
        .await;
    assert_eq!(other, json!({"items": [], "owner_version": 0}));
    alice
        .done(
            "b.put",
            &json!({"kind": "text", "id": "x", "data": {"text": "other"}}),
        )
        .await;
    let list = alice
        .done("a.list", &json!({"consistency": "strong"}))
        .await;
    assert_eq!(
        list["items"].as_array().expect("a list").len(),
        1,
        "from the cache of the first: only its own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reaches_the_items_of_another() {
    let (world, _a, _b) = World::with_two_shards().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    alice.done("a.put", &an_item()).await;
    let id = json!({"kind": "instrument", "id": isin(1)});
    for shard in ["a", "b"] {
        bob.ask(&format!("{shard}.get"), &id)
            .await
            .refusal("not_found");
        bob.ask(&format!("{shard}.delete"), &id)
            .await
            .refusal("not_found");
        assert_eq!(
            bob.done(&format!("{shard}.list"), &json!({})).await,
            json!({"items": [], "owner_version": 0})
        );
    }
    alice.done("b.get", &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_about_once_while_its_verdict_is_kept() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    for _ in 0..100 {
        alice.done("a.list", &json!({})).await;
    }
    let asked = verifier.questions();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].token, *alice.token);
    let fresh = alice.with_token(&world.token("alice", ALL_SCOPES, HOUR));
    futures::future::join_all((0..50).map(|_| fresh.done("a.list", &json!({})))).await;
    assert_eq!(
        verifier.questions().len(),
        2,
        "fifty at once make one question"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_each_request_is_asked_about() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let mut settings = world.settings("a");
    settings.auth.cache_ttl_ms = 0;
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    for asked in 1..=10 {
        alice.done("a.list", &json!({})).await;
        assert_eq!(verifier.questions().len(), asked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_is_asked_about_and_garbage_is_not_where_tokens_can_be_checked() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::start(&world, |service, token| {
        let claims = match token {
            "opaque-of-alice" => verdict(token, "alice"),
            _ => json!({"iss": ISSUER, "aud": AUDIENCE, "iat": now(), "token_introspection": {"active": false},
                        "token_sha256": URL_SAFE_NO_PAD.encode(sha256(token.as_bytes()))}),
        };
        service.sign(TYP, &claims).ok()
    })
    .await;
    let _asks = world.worker_with(asking(&world, "a")).await;
    let _checks = world.worker("b").await;
    let opaque = world.caller("alice").await.with_token("opaque-of-alice");
    opaque.done("a.put", &an_item()).await;
    opaque
        .with_token("opaque-of-nobody")
        .ask("a.list", &json!({}))
        .await
        .refusal("unauthenticated");
    assert_eq!(verifier.questions().len(), 2);
    opaque
        .ask("b.list", &json!({}))
        .await
        .refusal("unauthenticated");
    assert_eq!(
        verifier.questions().len(),
        2,
        "the other worker can tell by itself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_auth_service_a_known_caller_goes_on_and_no_other_is_let_in() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    alice.done("a.put", &an_item()).await;
    verifier.stop().await;
    let before = world.records().await;
    let begun = Instant::now();
    let refused = bob.ask("a.put", &an_item()).await;
    let details = &refused.refusal("auth_unavailable")["details"];
    assert!(
        details["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0),
        "{details}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "told after {:?}",
        begun.elapsed()
    );
    bob.ask("a.list", &json!({}))
        .await
        .refusal("auth_unavailable");
    assert_eq!(
        world.records().await,
        before,
        "and nothing is written for him"
    );
    alice.done("a.list", &json!({})).await;
    alice
        .done("a.delete", &json!({"kind": "instrument", "id": isin(1)}))
        .await;
    let _back = Verifier::honest(&world).await;
    served_again(&bob).await;
    bob.done("a.put", &an_item()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_request_goes_with_the_question() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut headers = alice.headers();
    headers.insert("traceparent", trace);
    alice.ask_with("a.list", headers, b"{}".to_vec()).await;
    let carried = verifier.questions()[0]
        .traceparent
        .clone()
        .expect("a trace");
    let parts: Vec<_> = carried.split('-').collect();
    assert_eq!(
        (parts[1], parts.len()),
        ("4bf92f3577b34da6a3ce929d0e0e4736", 4),
        "the same trace: {carried}"
    );
    let mut odd = alice
        .with_token(&world.token("alice", ALL_SCOPES, HOUR))
        .headers();
    odd.insert("traceparent", "00-nonsense");
    let reply = alice.ask_with("a.list", odd, b"{}".to_vec()).await;
    assert!(
        reply.body["error"].is_null(),
        "a malformed one is none: {}",
        reply.body
    );
    assert_eq!(verifier.questions()[1].traceparent, None);
}

/// The key of this file's tokens is what the workers are given, so that the refusals above are about the tokens.
#[tokio::test(flavor = "multi_thread")]
async fn the_signature_made_here_by_hand_is_good() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": ALL_SCOPES, "exp": now() + 60});
    let token = signed_as_token(&world, &claims);
    world
        .caller("alice")
        .await
        .with_token(&token)
        .done("a.list", &json!({}))
        .await;
    let pair =
        Ed25519KeyPair::from_pkcs8(&world.secrets.token_key().expect("a key")).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    assert!(
        world.secrets.token_jwks().expect("keys").contains(&x),
        "and the public key is the one tried as a secret"
    );
}
