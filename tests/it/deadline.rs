//! A caller's time: what cannot be done in it is said to be undone.

use crate::harness::{World, exclusive};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_time_is_up_costs_nothing() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let mut headers = alice.headers();
    headers.insert("Request-Timeout-Ms", "0");
    let body = json!({"kind": "text", "data": {"text": "x"}})
        .to_string()
        .into_bytes();
    alice
        .ask_with("a.put", headers.clone(), body.clone())
        .await
        .refusal("deadline_exceeded");
    assert_eq!(alice.done("a.list", &json!({})).await["owner_version"], 0);
    headers.insert("Request-Timeout-Ms", "5000");
    assert!(
        alice
            .ask_with("a.put", headers.clone(), body.clone())
            .await
            .body["item"]
            .is_object()
    );
    headers.insert("Request-Timeout-Ms", "soon");
    let refused = alice.ask_with("a.put", headers, body).await;
    assert_eq!(
        refused.refusal("bad_request")["details"]["field"],
        "Request-Timeout-Ms"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auth_service_that_is_silent_costs_the_callers_time_and_no_more() {
    let _permit = exclusive().await;
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let mut settings = world.settings("a");
    settings.auth.timeout_ms = 60_000;
    let _a = world.worker_with(settings).await;
    let silent = world.connect("auth").await;
    let _questions = silent
        .queue_subscribe("auth.v1.verify", "auth".into())
        .await
        .expect("subscribed");
    silent.flush().await.expect("sent");
    let alice = world.caller("alice").await;
    let mut headers = alice.headers();
    headers.insert("Request-Timeout-Ms", "300");
    let asked = Instant::now();
    alice
        .ask_with("a.list", headers, b"{}".to_vec())
        .await
        .refusal("deadline_exceeded");
    let took = asked.elapsed();
    // Not quite all of it: the reply has its way back.
    assert!(
        took >= Duration::from_millis(250) && took < Duration::from_secs(3),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_whose_callers_have_given_up_are_bounded() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let mut settings = world.settings("a");
    (settings.auth.timeout_ms, settings.auth.in_flight) = (60_000, 4);
    let _a = world.worker_with(settings).await;
    let silent = world.connect("auth").await;
    let _questions = silent
        .queue_subscribe("auth.v1.verify", "auth".into())
        .await
        .expect("subscribed");
    silent.flush().await.expect("sent");
    for number in 0..8 {
        let caller = world.caller(&format!("caller-{number}")).await;
        let mut headers = caller.headers();
        headers.insert("Request-Timeout-Ms", "50");
        let refused = caller.ask_with("a.list", headers, b"{}".to_vec()).await;
        match number {
            0..4 => drop(refused.refusal("deadline_exceeded")),
            _ => assert!(refused.refusal("overloaded")["details"]["retry_after_ms"].is_u64()),
        }
    }
}
