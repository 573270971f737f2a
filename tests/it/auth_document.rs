//! The example of docs/operations.md of what an auth service answers: a worker takes it, and takes
//! nothing with a required part missing or wrong.

use crate::harness::{Caller, Verifier, World};
use crate::readme::{blocks, section, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gofavorites::dev::auth_service::REVOKED_SUBJECT;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

    /// The claims with the times moved to the present. All else stays as it is in the document.
    fn current_claims(&self) -> Value {
        let mut claims = self.claims.clone();
        let age = now() - claims["iat"].as_f64().expect("a time");
        move_time(&mut claims["iat"], age);
        move_time(&mut claims["token_introspection"]["exp"], age);
        claims
    }
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

/// Signs a header and claims as they stand.
fn sign(world: &World, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_ed_der(&world.secrets.verdict_key().expect("a key"));
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA).expect("signed");

    format!("{message}.{signature}")
}

/// The value with the field at this path removed, or replaced if there is a new value.
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

/// A pointer to a field, and its new value; none removes it.
type Change = (&'static str, Option<Value>);

/// Changes of the header and of the claims that must be refused, each with a pointer and a value;
/// without one the field is removed.
fn refused_changes() -> (Vec<Change>, Vec<Change>) {
    let headers = vec![
        ("/typ", None),
        ("/typ", Some(json!("JWT"))),
        ("/alg", None),
        ("/alg", Some(json!("none"))),
        ("/alg", Some(json!("ES256"))),
        ("/kid", Some(json!("another"))),
        ("/crit", Some(json!(["exp"]))),
    ];
    let claims = vec![
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
    ];

    (headers, claims)
}

/// Waits until the worker answers with anything but a refusal because of the auth service.
async fn until_known(caller: &Caller) -> Value {
    let begun = Instant::now();
    loop {
        let body = caller.ask("a.list", &json!({})).await.body;
        if body["error"]["code"] != "auth_unavailable" {
            return body;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{body}");
    }
}

/// Goal: the document's example is what a worker takes, and each part that it calls required is.
///
/// Method: the auth service signs the example's header and claims, with the times moved to the
/// present. Then it leaves out or changes one part after the other. At last it revokes the token as
/// the example does.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_the_example_of_the_document_and_nothing_less() {
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

    let (headers, claims) = refused_changes();
    for (pointer, new) in headers {
        let header = changed(&example.header, pointer, &new);
        set_answer(&header, &example.current_claims());
        let reply = caller.ask("a.list", &json!({})).await;
        assert_eq!(reply.body["error"]["code"], "auth_unavailable", "{header}");
    }
    for (pointer, new) in claims {
        let claims = changed(&example.current_claims(), pointer, &new);
        set_answer(&example.header, &claims);
        let reply = caller.ask("a.list", &json!({})).await;
        assert_eq!(reply.body["error"]["code"], "auth_unavailable", "{claims}");
    }

    set_answer(&example.header, &example.current_claims());
    let listed = until_known(&caller).await;
    assert_eq!(listed, json!({"items": [], "owner_version": 0}));
    let question = verifier.questions().pop().expect("a question");
    assert_eq!(question.token, token);

    let without_event = changed(&example.event_claims, "/events", &Some(json!({})));
    let age = now() - example.event_claims["iat"].as_f64().expect("a time");
    let inactive = json!({"active": false});
    let end = changed(
        &example.current_claims(),
        "/token_introspection",
        &Some(inactive),
    );
    set_answer(&example.header, &end);
    let auth = world.connect("auth_service").await;
    let revoke = async |claims: &Value, ignored: u64| {
        let mut claims = claims.clone();
        move_time(&mut claims["iat"], age + 1.0);
        let message = sign(&world, &example.event_header, &claims);
        auth.publish(REVOKED_SUBJECT, message.into())
            .await
            .expect("sent");

        let begun = Instant::now();
        while world.stats(1).await[0]["data"]["auth"]["forged_revocations"] != ignored {
            assert!(begun.elapsed() < Duration::from_secs(5), "it was counted");
        }
    };
    revoke(&without_event, 1).await;
    caller.done("a.list", &json!({})).await;

    revoke(&example.event_claims, 1).await;
    let begun = Instant::now();
    while caller.ask("a.list", &json!({})).await.body["error"]["code"] != "unauthenticated" {
        assert!(begun.elapsed() < Duration::from_secs(5), "revoked");
    }
}
