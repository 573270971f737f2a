//! The limits and the NATS server's `max_payload`: each request gets exactly one reply, also at the
//! limit.

use crate::harness::{Caller, World};
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::wire::REPLY_HEADER_BYTES_MAX;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

/// Returns the accounts of `nats/` for a server with this `max_payload`, in bytes.
fn accounts(max_payload: usize) -> String {
    format!("{ACCOUNTS_CONF}\nmax_payload: {max_payload}\n")
}

/// Returns settings whose limits just fit that `max_payload`.
fn fitting_settings(world: &World, max_payload: usize) -> Settings {
    let mut settings = world.settings("a");
    settings.limits.reply_bytes = max_payload - REPLY_HEADER_BYTES_MAX;
    settings.limits.request_bytes = max_payload - settings.limits.headers().request_header_bytes();
    // A record also keeps the refusals of a batch, and has to fit as well.
    settings.limits.batch = 1;

    settings
}

async fn start_error(world: &World, settings: Settings) -> String {
    let refused = world.try_worker(settings).await.err();

    format!("{:#}", refused.expect("refused"))
}

/// Returns the length of a reply's body. The reply must not be a refusal.
async fn reply_bytes(caller: &Caller, operation: &str, body: &Value) -> usize {
    let reply = caller
        .client
        .request_with_headers(
            format!("favorites.v1.shard.a.{operation}"),
            caller.headers(),
            body.to_string().into(),
        )
        .await
        .expect("a reply");

    let value: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    assert!(value["error"].is_null(), "{value}");

    reply.payload.len()
}

/// Restarts the server with another `max_payload`, and waits until the worker answers and has
/// noticed it.
async fn restart_with(world: &mut World, max_payload: usize) {
    world.nats.stop().expect("stopped");
    let file = world.directory.join("accounts.conf");
    fs::write(file, accounts(max_payload)).expect("written");
    world.nats.restart().await.expect("restarted");

    world.start_auth().await;
    world.wait_for_worker("a").await;

    let limit_in_force = || async {
        let caller = world.caller("alice").await;
        let limits = caller.done("a.limits", &json!({})).await;
        let limit = limits["limits"]["reply_bytes"]["value"].as_u64();
        limit.expect("a number") as usize
    };
    let expected = (max_payload - REPLY_HEADER_BYTES_MAX).min(786_432);
    let start = Instant::now();
    while limit_in_force().await != expected {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it is not noticed"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_do_not_fit_the_server_are_refused_at_start() {
    const MAX_PAYLOAD: usize = 100_000;
    let world = World::with_accounts(&accounts(MAX_PAYLOAD)).await;
    let fitting = fitting_settings(&world, MAX_PAYLOAD);
    world.init(&fitting).await.expect("init");

    let error = start_error(&world, world.settings("a")).await;
    for part in ["limits.reply_bytes", "limits.request_bytes", "100000"] {
        assert!(error.contains(part), "{part}: {error}");
    }

    let mut settings = fitting.clone();
    settings.limits.reply_bytes += 1;
    let error = start_error(&world, settings).await;
    let limit = fitting.limits.reply_bytes;
    let advice = format!("limits.reply_bytes to at most {limit}");
    assert!(error.contains(&advice), "{error}");
    assert!(!error.contains("limits.request_bytes"), "{error}");

    let mut settings = fitting.clone();
    settings.limits.token_bytes += 1;
    let error = start_error(&world, settings).await;
    assert!(error.contains("limits.request_bytes to at most"), "{error}");

    let worker = world.try_worker(fitting).await;
    worker.expect("exactly at the limit");
}

/// Goal: at the limit, each page is one reply, and the pages together have all items.
///
/// Method: a worker whose `limits.reply_bytes` just fits a small `max_payload` lists more items
/// than fit into one page.
#[tokio::test(flavor = "multi_thread")]
async fn pages_keep_to_a_small_payload() {
    const MAX_PAYLOAD: usize = 64_000;
    let world = World::with_accounts(&accounts(MAX_PAYLOAD)).await;
    let _worker = world
        .worker_with(fitting_settings(&world, MAX_PAYLOAD))
        .await;
    let alice = world.caller("alice").await;
    let text = "x".repeat(5_000);
    for number in 0..40 {
        alice.put_text("a", &format!("t{number}"), &text).await;
    }

    let mut seen = 0;
    let mut body = json!({"limit": 500});
    loop {
        let length = reply_bytes(&alice, "list", &body).await;
        assert!(length <= MAX_PAYLOAD - REPLY_HEADER_BYTES_MAX, "{length}");

        let page = alice.done("a.list", &body).await;
        seen += page["items"].as_array().expect("items").len();
        match &page["next_cursor"] {
            Value::Null => break,
            cursor => body["cursor"] = cursor.clone(),
        }
    }

    assert_eq!(seen, 40);
}

/// Goal: after the worker has connected to a server with a smaller `max_payload`, each request
/// still gets exactly one reply.
///
/// Method: one item's reply is exactly as long as the server accepts, then one byte longer. The
/// other replies are pages, conflicts and repetitions.
#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_a_reply_after_the_payload_shrinks() {
    let mut world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    let large = json!({"kind": "text", "id": "large", "data": {"text": "x".repeat(60_000)}});
    let larger = json!({"kind": "text", "id": "larger", "data": {"text": "x".repeat(60_010)}});
    alice.ask_once("a.put", "first", &larger).await;
    let version_of_both = alice.done("a.put", &large).await["owner_version"].clone();
    let text = "x".repeat(10_000);
    for number in 0..10 {
        alice.put_text("a", &format!("t{number}"), &text).await;
    }
    let id = json!({"kind": "text", "id": "large"});
    let length = reply_bytes(&alice, "get", &id).await;

    restart_with(&mut world, length + REPLY_HEADER_BYTES_MAX).await;
    let alice = world.caller("alice").await;

    let length_at_limit = reply_bytes(&alice, "get", &id).await;
    assert_eq!(length_at_limit, length, "exactly the limit");

    let stats = world.stats(1).await;
    let reasons = stats[0]["data"]["reasons"].to_string();
    assert!(reasons.contains("limits.reply_bytes"), "{reasons}");
    assert_eq!(stats[0]["data"]["state"], "degraded");

    restart_with(&mut world, length + REPLY_HEADER_BYTES_MAX - 1).await;
    let alice = world.caller("alice").await;

    let refused = alice.ask("a.get", &id).await;
    let details = &refused.refusal("too_large")["details"];
    assert_eq!(*details, json!({"used": length, "limit": length - 1}));

    let conflict = json!({"kind": "text", "id": "large", "if_version": 999});
    let refused = alice.ask("a.delete", &conflict).await;
    let details = &refused.refusal("version_conflict")["details"];
    assert!(details.get("item").is_none(), "{details}");

    let repeated = alice.ask_once("a.put", "first", &larger).await;
    repeated.refusal("in_doubt");

    let again = json!({"kind": "text", "id": "large", "data": {"text": "y".repeat(59_500)}});
    alice.ask("a.put", &again).await.refusal("too_large");

    let changes = json!({"since": version_of_both, "limit": 500});
    let small = alice.ask("a.changes", &changes).await;
    assert_eq!(small.body["more"], true);
    assert_eq!(small.body["items"].as_array().expect("items").len(), 5);

    restart_with(&mut world, 1 << 20).await;
    let alice = world.caller("alice").await;

    assert_eq!(reply_bytes(&alice, "get", &id).await, length);
    assert_eq!(world.stats(1).await[0]["data"]["state"], "healthy");
}
