//! Authentication: a caller is served only if the auth service has signed a verdict about the
//! caller's token.

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

/// The type of a signed verdict.
const VERDICT_TYPE: &str = "token-introspection+jwt";

/// Returns the present time in seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// Returns a part of a JWT.
fn jwt_part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn an_item() -> Value {
    json!({"kind": "instrument", "data": {"isin": isin(1), "type": "stock"}})
}

/// Returns the settings of a worker without token keys: it asks the auth service about each token.
fn settings_without_token_keys(world: &World, shard: &str) -> Settings {
    let mut settings = world.settings(shard);
    settings.auth.token_keys = String::new();
    settings.auth.timeout_ms = 1_000;

    settings
}

/// Asserts that requests with these headers are refused with that code, and nothing is written.
async fn assert_refused(
    world: &World,
    caller: &Caller,
    headers: &HeaderMap,
    code: &str,
    why: &str,
) {
    for (operation, body) in [("a.put", an_item()), ("a.list", json!({}))] {
        let bytes = body.to_string().into_bytes();

        let reply = caller.ask_with(operation, headers.clone(), bytes).await;

        assert_eq!(reply.body["error"]["code"], code, "{why}: {}", reply.body);
        reply.refusal(code);
    }

    assert!(
        world.records().await.is_empty(),
        "{why}: something was written"
    );
}

/// Waits until the worker no longer refuses the caller because of the auth service, at most two
/// seconds.
async fn wait_until_served(caller: &Caller) {
    let back = Instant::now();

    while caller.ask("a.list", &json!({})).await.body["error"]["code"] == "auth_unavailable" {
        assert!(
            back.elapsed() < Duration::from_secs(2),
            "normal service within two seconds"
        );
    }
}

/// Returns the claims of alice's access token, with all scopes.
fn token_claims(expires_at: Option<u64>) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": ALL_SCOPES});

    if let Some(expires_at) = expires_at {
        claims["exp"] = json!(expires_at);
    }

    claims
}

/// Returns an access token with these claims, signed with the key that workers trust.
fn sign_token(world: &World, claims: &Value) -> String {
    let header = Header {
        typ: Some("at+jwt".into()),
        kid: Some("token".into()),
        ..Header::new(Algorithm::EdDSA)
    };
    let key = EncodingKey::from_ed_der(&world.secrets.token_key().expect("a key"));

    encode(&header, claims, &key).expect("signed")
}

/// Returns an access token with a symmetric signature.
fn sign_with_hmac(claims: &Value, secret: &[u8], kid: Option<&str>) -> String {
    let header = Header {
        kid: kid.map(Into::into),
        ..Header::new(Algorithm::HS256)
    };

    encode(&header, claims, &EncodingKey::from_secret(secret)).expect("signed")
}

/// Returns tokens that no worker may accept, and what is wrong with each.
fn bad_tokens(world: &World, good: &str) -> Vec<(&'static str, String)> {
    let claims = token_claims(Some(now() + 3_600));
    let body = jwt_part(&claims);
    let no_algorithm = jwt_part(&json!({"alg": "none", "typ": "at+jwt"}));
    let (good_start, good_signature) = good.rsplit_once('.').expect("a signature");
    let (good_header, _) = good_start.split_once('.').expect("two parts");

    let strangers = Secrets::generate().expect("secrets");
    let strangers_token = token(&strangers, "alice", ALL_SCOPES, HOUR).expect("a token");
    let jwks = world.secrets.token_jwks().expect("keys");
    let jwks: Value = serde_json::from_str(&jwks).expect("JSON");
    let public_key = jwks["keys"][0]["x"].as_str().expect("a public key");
    let public_key_bytes = URL_SAFE_NO_PAD.decode(public_key).expect("base64");

    vec![
        ("garbage", "garbage".to_owned()),
        ("three empty parts", "..".to_owned()),
        ("a stranger's key", strangers_token),
        ("no algorithm", format!("{no_algorithm}.{body}.")),
        (
            "no algorithm, with a signature",
            format!("{no_algorithm}.{body}.{good_signature}"),
        ),
        (
            "the public key as a secret",
            sign_with_hmac(&claims, &public_key_bytes, None),
        ),
        (
            "the public key's text as a secret",
            sign_with_hmac(&claims, public_key.as_bytes(), Some("token")),
        ),
        (
            "expired",
            sign_token(world, &token_claims(Some(now() - 60))),
        ),
        ("without an end", sign_token(world, &token_claims(None))),
        ("cut short", good[..good.len() - 2].to_owned()),
        (
            "claims of another token",
            format!("{good_header}.{body}.{good_signature}"),
        ),
    ]
}

/// Goal: a caller without a valid token is refused and writes nothing, and a token that is
/// obviously bad costs no request to the auth service.
///
/// Method: a caller sends bad tokens, and a good one in headers that are missing, malformed or
/// ambiguous. The auth service, which would answer, counts the questions.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_valid_token_is_refused() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let good = caller.token.to_string();
    let bearer = format!("Bearer {good}");

    for (why, bad) in bad_tokens(&world, &good) {
        let headers = caller.with_token(&bad).headers();
        assert_refused(&world, &caller, &headers, "unauthenticated", why).await;
    }

    assert!(
        verifier.questions().is_empty(),
        "garbage costs no round trip"
    );

    let long = caller.with_token(&"a".repeat(9_000)).headers();
    assert_refused(&world, &caller, &long, "too_large", "9,000 bytes").await;

    let none = HeaderMap::new();
    assert_refused(&world, &caller, &none, "unauthenticated", "no token").await;

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

        assert_refused(&world, &caller, &headers, "unauthenticated", value).await;
    }

    let mut two_values = caller.headers();
    two_values.append("Authorization", bearer.clone());
    assert_refused(&world, &caller, &two_values, "bad_request", "two values").await;

    let mut two_spellings = caller.headers();
    two_spellings.insert("AUTHORIZATION", bearer);
    let why = "two spellings";
    assert_refused(&world, &caller, &two_spellings, "bad_request", why).await;

    let mut lower_case = HeaderMap::new();
    lower_case.insert("authorization", format!("bearer {good}"));
    let item = an_item().to_string().into_bytes();
    let reply = caller.ask_with("a.put", lower_case, item).await;

    assert_eq!(
        reply.body["item"]["id"],
        isin(1),
        "the case of a header's name does not matter: {}",
        reply.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_does_not_outlive_its_token() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let settings = settings_without_token_keys(&world, "a");
    let _worker = world.worker_with(settings).await;
    let caller = world.caller("alice").await;
    let short = caller.with_token(&world.token("alice", ALL_SCOPES, Duration::from_secs(2)));

    short.done("a.list", &json!({})).await;
    short.done("a.list", &json!({})).await;

    assert_eq!(
        verifier.questions().len(),
        1,
        "the second verdict comes from the cache"
    );

    let end = now() + 3;
    let refused = loop {
        let reply = short.ask("a.list", &json!({})).await;
        if !reply.body["error"].is_null() {
            break reply;
        }

        assert!(now() < end, "served after the token's end");
    };

    refused.refusal("unauthenticated");
}

/// Returns the claims of a verdict that admits the bearer of `token` as `subject`.
fn verdict(token: &str, subject: &str) -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now(),
        "token_introspection": {
            "active": true,
            "sub": subject,
            "scope": ALL_SCOPES,
            "exp": now() + 3_600,
        },
        "token_sha256": URL_SAFE_NO_PAD.encode(sha256(token.as_bytes())),
    })
}

/// How the auth service answers a token. `None` is no answer.
type Answer = Box<dyn Fn(&AuthService, &str) -> Option<String> + Send + Sync>;

/// Returns the answer with a correctly signed verdict of which one claim is changed, or left out
/// if its value is null.
fn with_claim(claim: &'static str, value: impl Fn() -> Value + Send + Sync + 'static) -> Answer {
    Box::new(move |service, token| {
        let mut claims = verdict(token, "alice");

        match value() {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(claim)),
            value => claims[claim] = value,
        }

        service.sign(VERDICT_TYPE, &claims).ok()
    })
}

/// Returns answers with the right claims, but without the signature of a verdict.
fn badly_signed_answers() -> Vec<(&'static str, Answer)> {
    let strangers = AuthService::new(&Secrets::generate().expect("secrets")).expect("keys");
    let no_algorithm = jwt_part(&json!({"alg": "none", "typ": VERDICT_TYPE}));

    vec![
        (
            "unsigned claims",
            Box::new(|_, token| Some(verdict(token, "alice").to_string())),
        ),
        (
            "unsigned introspection",
            Box::new(|_, _| Some(json!({"active": true, "sub": "alice"}).to_string())),
        ),
        (
            "the algorithm none",
            Box::new(move |_, token| {
                let body = jwt_part(&verdict(token, "alice"));
                Some(format!("{no_algorithm}.{body}."))
            }),
        ),
        (
            "another key",
            Box::new(move |_, token| strangers.sign(VERDICT_TYPE, &verdict(token, "alice")).ok()),
        ),
        (
            "another type",
            Box::new(|service, token| service.sign("JWT", &verdict(token, "alice")).ok()),
        ),
        (
            "a token in place of a verdict",
            Box::new(|_, token| Some(token.to_owned())),
        ),
        ("not JSON", Box::new(|_, _| Some("yes".into()))),
        ("empty", Box::new(|_, _| Some(String::new()))),
        ("no answer", Box::new(|_, _| None)),
    ]
}

/// Returns answers that are correctly signed, but have a wrong claim.
fn answers_with_wrong_claims() -> Vec<(&'static str, Answer)> {
    let active_without_subject = || json!({"active": true, "scope": ALL_SCOPES});
    let hash_of_another = || json!(URL_SAFE_NO_PAD.encode(sha256(b"other")));

    vec![
        ("stale", with_claim("iat", || json!(now() - 300))),
        ("of the future", with_claim("iat", || json!(now() + 300))),
        ("without time", with_claim("iat", || Value::Null)),
        ("another audience", with_claim("aud", || json!("another"))),
        ("without audience", with_claim("aud", || Value::Null)),
        (
            "another issuer",
            with_claim("iss", || json!("https://other.invalid")),
        ),
        ("without issuer", with_claim("iss", || Value::Null)),
        (
            "about another token",
            with_claim("token_sha256", hash_of_another),
        ),
        ("about no token", with_claim("token_sha256", || Value::Null)),
        (
            "without subject",
            with_claim("token_introspection", active_without_subject),
        ),
    ]
}

/// Goal: a worker trusts an answer of the auth service only if it is a current verdict, correctly
/// signed, about this token and for this service.
///
/// Method: the auth service gives one bad answer after the other to a caller's requests, then says
/// that the token is inactive, that it has expired, and at last that it is good.
#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_must_not_be_trusted_admits_no_caller() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(|_, _| None)));
    let set_answer = |new: Answer| *answer.lock().expect("no panic") = new;
    let current = answer.clone();
    let _verifier = Verifier::start(&world, move |service, token| {
        current.lock().expect("no panic")(service, token)
    })
    .await;
    let settings = settings_without_token_keys(&world, "a");
    let _worker = world.worker_with(settings).await;
    let caller = world.caller("alice").await;
    let headers = caller.headers();

    // The missing answer is the last one, because the worker may fail fast after it.
    let wrong_claims = answers_with_wrong_claims().into_iter();
    for (why, bad) in wrong_claims.chain(badly_signed_answers()) {
        set_answer(bad);

        assert_refused(&world, &caller, &headers, "auth_unavailable", why).await;

        let reply = caller.ask("a.list", &json!({})).await;
        let details = &reply.refusal("auth_unavailable")["details"];
        assert!(details["retry_after_ms"].is_u64(), "{why}");
    }

    let inactive = || json!({"active": false});
    set_answer(with_claim("token_introspection", inactive));
    wait_until_served(&caller).await;

    assert_refused(&world, &caller, &headers, "unauthenticated", "inactive").await;

    // Each time with a new token, because the verdict that a token is inactive is cached.
    let caller = caller.with_token(&world.token("alice", ALL_SCOPES, HOUR));
    let headers = caller.headers();
    let expired = || json!({"active": true, "sub": "alice", "exp": now() - 1, "scope": ALL_SCOPES});

    set_answer(with_claim("token_introspection", expired));
    let why = "active after its end";
    assert_refused(&world, &caller, &headers, "unauthenticated", why).await;

    let caller = caller.with_token(&world.token("alice", ALL_SCOPES, HOUR * 2));
    set_answer(Box::new(|service, token| {
        service.sign(VERDICT_TYPE, &verdict(token, "alice")).ok()
    }));
    caller.done("a.put", &an_item()).await;
}

/// The scopes of a token, and the scope that each of five requests then lacks: put, delete, get,
/// list, and get with `reveal`.
const LACKING: [(&str, [Option<&str>; 5]); 5] = [
    ("favorites:read", [WRITE, WRITE, None, None, SECRETS]),
    (
        "favorites:read favorites:secrets",
        [WRITE, WRITE, None, None, None],
    ),
    ("favorites:secrets", [WRITE, WRITE, READ, READ, READ]),
    ("", [WRITE, WRITE, READ, READ, READ]),
    (
        "favorites:read-not FAVORITES:WRITE favorites:*",
        [WRITE, WRITE, READ, READ, READ],
    ),
];

const WRITE: Option<&str> = Some("favorites:write");
const READ: Option<&str> = Some("favorites:read");
const SECRETS: Option<&str> = Some("favorites:secrets");

/// Goal: a scope permits the operations that it names and no others.
///
/// Method: one owner sends five requests with tokens of different scopes. `LACKING` says which
/// scope each request lacks.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_permits_its_operations_and_no_others() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.done("a.put", &an_item()).await;
    let before = world.records().await;
    let id = json!({"kind": "instrument", "id": isin(1)});
    let reveal = json!({"kind": "instrument", "id": isin(1), "reveal": true});
    let requests = [
        ("a.put", an_item()),
        ("a.delete", id.clone()),
        ("a.get", id.clone()),
        ("a.list", json!({})),
        ("a.get", reveal),
    ];

    for (scope, lacking) in LACKING {
        let caller = alice.with_token(&world.token("alice", scope, HOUR));
        for ((operation, body), lacking) in std::iter::zip(&requests, lacking) {
            let reply = caller.ask(operation, body).await;

            if let Some(lacking) = lacking {
                let details = &reply.refusal("forbidden")["details"];
                assert_eq!(*details, json!({"scope": lacking}), "{scope}");
            } else {
                let error = &reply.body["error"];
                assert!(error.is_null(), "{scope} {operation}: {}", reply.body);
            }
        }
    }

    assert_eq!(
        world.records().await,
        before,
        "no token without the scope has written"
    );

    let writer = alice.with_token(&world.token("alice", "favorites:write", HOUR));
    for (operation, body) in &requests[2..] {
        let reply = writer.ask(operation, body).await;

        let details = &reply.refusal("forbidden")["details"];
        assert_eq!(details["scope"], "favorites:read");
    }

    writer.done("a.put", &an_item()).await;
    writer.done("a.delete", &id).await;
}

/// Goal: an owner is a subject of one issuer. The same subject of another issuer is another owner.
///
/// Method: the workers of two shards trust different issuers. The auth service signs verdicts about
/// the same token first as one issuer, then as the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_subject_of_another_issuer_is_another_owner() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let issuer = Arc::new(Mutex::new(ISSUER));
    let current = issuer.clone();
    let _verifier = Verifier::start(&world, move |service, token| {
        let mut claims = verdict(token, "alice");
        claims["iss"] = json!(*current.lock().expect("no panic"));

        service.sign(VERDICT_TYPE, &claims).ok()
    })
    .await;
    let settings = settings_without_token_keys(&world, "a");
    let _a = world.worker_with(settings).await;
    let mut settings = settings_without_token_keys(&world, "b");
    settings.auth.issuer = "https://other.invalid".into();
    let _b = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    let strong = json!({"consistency": "strong"});
    let other_item = json!({"kind": "text", "id": "x", "data": {"text": "other"}});

    alice.done("a.put", &an_item()).await;

    *issuer.lock().expect("no panic") = "https://other.invalid";
    let list_of_other = alice.done("b.list", &strong).await;
    alice.done("b.put", &other_item).await;
    let list_of_first = alice.done("a.list", &strong).await;

    assert_eq!(list_of_other, json!({"items": [], "owner_version": 0}));
    assert_eq!(
        list_of_first["items"].as_array().expect("a list").len(),
        1,
        "the cached verdict of the first issuer: only that owner's item"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_cannot_reach_the_items_of_another_owner() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let id = json!({"kind": "instrument", "id": isin(1)});
    alice.done("a.put", &an_item()).await;

    for shard in ["a", "b"] {
        let get = bob.ask(&format!("{shard}.get"), &id).await;
        let deletion = bob.ask(&format!("{shard}.delete"), &id).await;
        let list = bob.done(&format!("{shard}.list"), &json!({})).await;

        get.refusal("not_found");
        deletion.refusal("not_found");
        assert_eq!(list, json!({"items": [], "owner_version": 0}));
    }

    alice.done("b.get", &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_verified_once_while_its_verdict_is_cached() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let fresh = alice.with_token(&world.token("alice", ALL_SCOPES, HOUR));

    for _ in 0..100 {
        alice.done("a.list", &json!({})).await;
    }

    let questions = verifier.questions();
    assert_eq!(questions.len(), 1);
    assert_eq!(questions[0].token, *alice.token);

    let concurrent = (0..50).map(|_| fresh.done("a.list", &json!({})));
    futures::future::join_all(concurrent).await;

    assert_eq!(
        verifier.questions().len(),
        2,
        "fifty concurrent requests cause one question"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_each_request_is_verified() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let mut settings = world.settings("a");
    settings.auth.cache_ttl_ms = 0;
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;

    for expected in 1..=10 {
        alice.done("a.list", &json!({})).await;

        assert_eq!(verifier.questions().len(), expected);
    }
}

/// Goal: a worker without token keys asks the auth service about opaque tokens. A worker with token
/// keys refuses them by itself.
///
/// Method: the worker of shard a has no token keys, that of shard b has them. Callers send opaque
/// tokens to both, and the auth service counts the questions.
#[tokio::test(flavor = "multi_thread")]
async fn opaque_tokens_are_verified_unless_token_keys_are_set() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::start(&world, |service, token| {
        let mut claims = verdict(token, "alice");
        if token != "opaque-of-alice" {
            claims["token_introspection"] = json!({"active": false});
        }

        service.sign(VERDICT_TYPE, &claims).ok()
    })
    .await;
    let settings = settings_without_token_keys(&world, "a");
    let _without_keys = world.worker_with(settings).await;
    let _with_keys = world.worker("b").await;
    let alice = world.caller("alice").await.with_token("opaque-of-alice");
    let stranger = alice.with_token("opaque-of-nobody");

    alice.done("a.put", &an_item()).await;
    let reply = stranger.ask("a.list", &json!({})).await;

    reply.refusal("unauthenticated");
    assert_eq!(verifier.questions().len(), 2);

    let reply = alice.ask("b.list", &json!({})).await;

    reply.refusal("unauthenticated");
    assert_eq!(
        verifier.questions().len(),
        2,
        "the worker with token keys asks nothing"
    );
}

/// Goal: while the auth service is down, callers with a cached verdict are served, and others are
/// refused at once and write nothing.
///
/// Method: alice writes before the auth service stops. Then bob, unknown to the worker, is refused,
/// and alice goes on. When the auth service is back, bob is served within two seconds.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_auth_service_only_known_callers_are_served() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let id = json!({"kind": "instrument", "id": isin(1)});
    alice.done("a.put", &an_item()).await;
    verifier.stop().await;
    let before = world.records().await;

    let start = Instant::now();
    let put = bob.ask("a.put", &an_item()).await;
    let took = start.elapsed();
    let list = bob.ask("a.list", &json!({})).await;

    let details = &put.refusal("auth_unavailable")["details"];
    let retry_after_ms = details["retry_after_ms"].as_u64();
    assert!(retry_after_ms.is_some_and(|ms| ms > 0), "{details}");

    assert!(took < Duration::from_secs(3), "refused after {took:?}");
    list.refusal("auth_unavailable");
    assert_eq!(
        world.records().await,
        before,
        "nothing is written for an unknown caller"
    );

    alice.done("a.list", &json!({})).await;
    alice.done("a.delete", &id).await;

    let _back = Verifier::honest(&world).await;
    wait_until_served(&bob).await;
    bob.done("a.put", &an_item()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auth_request_carries_the_trace_of_its_request() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let mut headers = alice.headers();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    headers.insert("traceparent", trace);

    alice.ask_with("a.list", headers, b"{}".to_vec()).await;

    let carried = verifier.questions()[0]
        .traceparent
        .clone()
        .expect("a trace");
    let parts: Vec<_> = carried.split('-').collect();
    assert_eq!(
        parts[1], "4bf92f3577b34da6a3ce929d0e0e4736",
        "the same trace: {carried}"
    );
    assert_eq!(parts.len(), 4, "{carried}");

    let fresh = alice.with_token(&world.token("alice", ALL_SCOPES, HOUR));
    let mut malformed = fresh.headers();
    malformed.insert("traceparent", "00-nonsense");
    let reply = alice.ask_with("a.list", malformed, b"{}".to_vec()).await;

    assert!(
        reply.body["error"].is_null(),
        "a malformed trace is ignored: {}",
        reply.body
    );
    assert_eq!(verifier.questions()[1].traceparent, None);
}

/// Goal: the refusals above are about the tokens, because tokens that this file signs are valid.
///
/// Method: a caller is served with such a token. The public key that was tried as a secret is the
/// one that workers have.
#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_that_this_file_signs_are_valid() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let token = sign_token(&world, &token_claims(Some(now() + 60)));
    let caller = world.caller("alice").await.with_token(&token);
    let key = world.secrets.token_key().expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(&key).expect("a key");

    caller.done("a.list", &json!({})).await;

    let public_key = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let jwks = world.secrets.token_jwks().expect("keys");
    assert!(jwks.contains(&public_key), "the key that workers have");
}
