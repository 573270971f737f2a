//! The example in docs/operations.md of an auth service's answer: a worker accepts it, and accepts
//! no answer in which a required part is missing or wrong.

use crate::harness::{Caller, Verifier, World};
use crate::pages::{blocks, section, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gofavorites::dev::auth_service::REVOKED_SUBJECT;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a worker may take to notice a change.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(5);

/// The JSON blocks of the section, in their order.
struct Example {
    question: Value,
    header: Value,
    claims: Value,
    event_header: Value,
    event_claims: Value,
}

impl Example {
    fn read() -> Self {
        let document = text("docs/operations.md");
        let section = section(&document, "What an auth service has to answer");

        let found: Vec<Value> = blocks(section)
            .into_iter()
            .filter(|(language, _)| language == "json")
            .map(|(_, block)| serde_json::from_str(&block).expect("JSON"))
            .collect();
        let [question, header, claims, event_header, event_claims] =
            found.try_into().expect("five blocks");

        Self {
            question,
            header,
            claims,
            event_header,
            event_claims,
        }
    }

    /// Returns the claims with the times moved to the present. Everything else is as in the
    /// document.
    fn current_claims(&self) -> Value {
        let mut claims = self.claims.clone();
        let age = age(&claims);

        move_time(&mut claims["iat"], age);
        move_time(&mut claims["token_introspection"]["exp"], age);

        claims
    }
}

/// Returns how long ago the claims were issued, in seconds.
fn age(claims: &Value) -> f64 {
    now() - claims["iat"].as_f64().expect("a time")
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64()
}

fn move_time(time: &mut Value, by: f64) {
    *time = json!(time.as_f64().expect("a time") + by);
}

/// Signs a header and claims without a change.
fn sign(world: &World, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_ed_der(&world.secrets.verdict_key().expect("a key"));
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA).expect("signed");

    format!("{message}.{signature}")
}

/// Returns the value with the field at this path removed, or replaced if there is a new value.
fn changed(value: &Value, pointer: &str, new: &Option<Value>) -> Value {
    let mut changed = value.clone();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let parent = changed.pointer_mut(parent).expect("an object");
    let object = parent.as_object_mut().expect("an object");

    match new {
        Some(new) => object.insert(field.to_owned(), new.clone()),
        None => object.remove(field),
    };

    changed
}

/// A pointer to a field, and its new value. Without a value the field is removed.
type Change = (&'static str, Option<Value>);

/// Returns the changes of the header with which a worker must refuse the answer.
fn refused_headers() -> Vec<Change> {
    vec![
        ("/typ", None),
        ("/typ", Some(json!("JWT"))),
        ("/alg", None),
        ("/alg", Some(json!("none"))),
        ("/alg", Some(json!("ES256"))),
        ("/kid", Some(json!("another"))),
        ("/crit", Some(json!(["exp"]))),
    ]
}

/// Returns the changes of the claims with which a worker must refuse the answer.
fn refused_claims() -> Vec<Change> {
    vec![
        ("/iss", None),
        ("/iss", Some(json!("https://other.example.com"))),
        ("/aud", None),
        ("/aud", Some(json!(["another"]))),
        ("/iat", None),
        ("/iat", Some(json!(now() - 300.5))),
        ("/iat", Some(json!(now() + 300.5))),
        ("/nbf", Some(json!(now() + 300.5))),
        ("/token_sha256", None),
        ("/token_sha256", Some(json!("AAAA"))),
        ("/token_introspection", None),
        ("/token_introspection/active", None),
        ("/token_introspection/active", Some(json!("true"))),
        ("/token_introspection/sub", None),
        ("/token_introspection/sub", Some(json!(""))),
        (
            "/token_introspection/iss",
            Some(json!("https://other.example.com")),
        ),
    ]
}

/// Checks that the worker refuses the current answer of the auth service, `answer`.
async fn check_refused(caller: &Caller, answer: &Value) {
    let reply = caller.ask("a.list", &json!({})).await;

    assert_eq!(reply.body["error"]["code"], "auth_unavailable", "{answer}");
}

/// Waits until the worker's reply is not a refusal because of the auth service.
async fn wait_for_reply(caller: &Caller) -> Value {
    let start = Instant::now();

    loop {
        let body = caller.ask("a.list", &json!({})).await.body;
        if body["error"]["code"] != "auth_unavailable" {
            return body;
        }

        assert!(start.elapsed() < NOTICE_TIMEOUT, "{body}");
    }
}

/// Signs these claims of a revocation at the present time, and publishes them.
async fn publish_revocation(world: &World, header: &Value, claims: &Value) {
    let auth = world.connect("auth_service").await;
    let mut claims = claims.clone();
    let age = age(&claims);
    move_time(&mut claims["iat"], age + 1.0);
    let message = sign(world, header, &claims);

    auth.publish(REVOKED_SUBJECT, message.into())
        .await
        .expect("sent");
    auth.flush().await.expect("sent");
}

/// Goal: a worker accepts the document's example, and each part that the document calls required is
/// required.
///
/// Method: the auth service leaves out or changes one part of the example's header and claims after
/// the other. Then it signs them without a change, except that the times are moved to the present.
/// At last it revokes the token as the example does, first without an event.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_accepts_the_example_and_nothing_less() {
    let example = Example::read();
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let answer = Arc::new(Mutex::new(String::new()));
    let current = answer.clone();
    let verifier = Verifier::start(&world, move |_, _| {
        Some(current.lock().expect("no panic").clone())
    })
    .await;
    let set_answer = |header: &Value, claims: &Value| {
        *answer.lock().expect("no panic") = sign(&world, header, claims);
    };

    let mut jwk = world.secrets.verdict_jwk().expect("a key");
    jwk["kid"] = example.header["kid"].clone();
    let mut settings = world.settings("a");
    settings.auth.verdict_keys = json!({"keys": [jwk]}).to_string();
    settings.auth.token_keys = String::new();
    settings.auth.issuer = example.claims["iss"].as_str().expect("a text").into();
    let token = example.question["token"].as_str().expect("a token");
    let _worker = world.worker_with(settings).await;
    let caller = world.caller("alice").await.with_token(token);

    for (pointer, new) in refused_headers() {
        let header = changed(&example.header, pointer, &new);
        set_answer(&header, &example.current_claims());
        check_refused(&caller, &header).await;
    }
    for (pointer, new) in refused_claims() {
        let claims = changed(&example.current_claims(), pointer, &new);
        set_answer(&example.header, &claims);
        check_refused(&caller, &claims).await;
    }

    set_answer(&example.header, &example.current_claims());
    let listed = wait_for_reply(&caller).await;
    assert_eq!(listed, json!({"items": [], "owner_version": 0}));
    let question = verifier.questions().pop().expect("a question");
    assert_eq!(question.token, token);

    let inactive = Some(json!({"active": false}));
    let claims = changed(&example.current_claims(), "/token_introspection", &inactive);
    set_answer(&example.header, &claims);

    let without_event = changed(&example.event_claims, "/events", &Some(json!({})));
    publish_revocation(&world, &example.event_header, &without_event).await;
    let start = Instant::now();
    while world.stats(1).await[0]["data"]["auth"]["forged_revocations"] != 1 {
        assert!(start.elapsed() < NOTICE_TIMEOUT, "it is not counted");
    }
    caller.done("a.list", &json!({})).await;

    publish_revocation(&world, &example.event_header, &example.event_claims).await;
    let start = Instant::now();
    while caller.ask("a.list", &json!({})).await.body["error"]["code"] != "unauthenticated" {
        assert!(start.elapsed() < NOTICE_TIMEOUT, "it is not revoked");
    }
}
