//! Deadlines: a request that cannot be done within its caller's time is refused, and not done.

use crate::harness::{World, exclusive};
use async_nats::{Client, Subscriber};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::json;
use std::time::{Duration, Instant};

/// An auth service that takes every question and answers none, as long as both are kept.
async fn silent_auth_service(world: &World) -> (Client, Subscriber) {
    let client = world.connect("auth_service").await;
    let questions = client
        .queue_subscribe("auth.v1.verify", "auth".into())
        .await
        .expect("subscribed");
    client.flush().await.expect("sent");

    (client, questions)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_time_left_is_not_done() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let body = json!({"kind": "text", "data": {"text": "x"}}).to_string();
    let put = async |timeout: &str| {
        let mut headers = alice.headers();
        headers.insert("Request-Timeout-Ms", timeout);
        alice.ask_with("a.put", headers, body.clone().into()).await
    };

    let too_late = put("0").await;
    too_late.refusal("deadline_exceeded");
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["owner_version"], 0, "nothing was written");

    let in_time = put("5000").await;
    assert!(in_time.body["item"].is_object(), "{}", in_time.body);

    let no_number = put("soon").await;
    let details = &no_number.refusal("bad_request")["details"];
    assert_eq!(details["field"], "Request-Timeout-Ms");
}

/// Goal: a request waits for a silent auth service only as long as its caller does, although the
/// worker itself would wait a minute.
///
/// Method: an auth service takes the worker's question and does not answer; the caller allows
/// 300 ms, and the time until the refusal is measured.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_auth_service_costs_no_more_than_the_callers_time() {
    let _permit = exclusive().await;
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let mut settings = world.settings("a");
    settings.auth.timeout_ms = 60_000;
    let _a = world.worker_with(settings).await;
    let _auth_service = silent_auth_service(&world).await;
    let alice = world.caller("alice").await;

    let mut headers = alice.headers();
    headers.insert("Request-Timeout-Ms", "300");

    let start = Instant::now();
    let reply = alice.ask_with("a.list", headers, b"{}".to_vec()).await;
    let took = start.elapsed();

    reply.refusal("deadline_exceeded");
    // A little less than the 300 ms, because the worker leaves time for the reply's way back.
    assert!(took >= Duration::from_millis(250), "{took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// Goal: questions to a silent auth service are bounded, although their callers have given up.
///
/// Method: eight callers with 50 ms each ask a worker that may have four questions open. The
/// first four run out of time, the others are refused as overloaded.
#[tokio::test(flavor = "multi_thread")]
async fn questions_of_callers_that_gave_up_are_bounded() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let mut settings = world.settings("a");
    settings.auth.timeout_ms = 60_000;
    settings.auth.in_flight = 4;
    let _a = world.worker_with(settings).await;
    let _auth_service = silent_auth_service(&world).await;

    for number in 0..8 {
        let caller = world.caller(&format!("caller-{number}")).await;
        let mut headers = caller.headers();
        headers.insert("Request-Timeout-Ms", "50");
        let reply = caller.ask_with("a.list", headers, b"{}".to_vec()).await;

        if number < 4 {
            reply.refusal("deadline_exceeded");
        } else {
            let details = &reply.refusal("overloaded")["details"];
            assert!(details["retry_after_ms"].is_u64(), "{details}");
        }
    }
}
