//! Discovery: the tools that NATS has for services find, describe and measure every worker.

use crate::harness::World;
use futures::StreamExt as _;
use gofavorites::wire::Operation;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

/// After so long without a further reply there will be none.
const REPLY_TIMEOUT: Duration = Duration::from_millis(400);

/// Returns all replies to a discovery request of that user.
async fn discover(world: &World, user: &str, subject: &str) -> Vec<Value> {
    let client = world.connect(user).await;
    let inbox = client.new_inbox();
    let mut messages = client
        .subscribe(inbox.clone())
        .await
        .expect("a subscription");
    let mut replies = Vec::new();

    client
        .publish_with_reply(subject.to_owned(), inbox, "".into())
        .await
        .expect("sent");

    while let Ok(Some(message)) = timeout(REPLY_TIMEOUT, messages.next()).await {
        // A status means that there is no responder.
        if message.status.is_none() {
            replies.push(serde_json::from_slice(&message.payload).expect("JSON"));
        }
    }

    replies
}

/// Goal: every worker replies once to each form of a discovery request, whichever user sends it.
///
/// Method: three workers of two shards run. Both calling services and the operator send requests to
/// all services, to this one, to one worker, and to what does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn every_worker_replies_to_discovery_by_any_user() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let _another_a = world.worker("a").await;
    let _b = world.worker("b").await;

    for user in ["gateway", "gateway2", "operator"] {
        let pings = discover(&world, user, "$SRV.PING").await;
        let ids: BTreeSet<_> = pings
            .iter()
            .map(|ping| ping["id"].as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(pings.len(), 3, "{user} receives one reply of each worker");
        assert_eq!(ids.len(), 3, "{user} receives one reply of each worker");
        for ping in &pings {
            assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
            assert_eq!(ping["name"], "favorites");
        }

        let infos = discover(&world, user, "$SRV.INFO.favorites").await;
        assert_eq!(infos.len(), 3, "{user}");

        let id = ids.first().expect("a worker");
        let stats = discover(&world, user, &format!("$SRV.STATS.favorites.{id}")).await;
        assert_eq!(stats.len(), 1, "{user}");
        assert_eq!(stats[0]["id"], id.as_str());

        let other_service = discover(&world, user, "$SRV.PING.others").await;
        assert!(other_service.is_empty(), "{user}");

        let unknown_verb = discover(&world, user, "$SRV.DANCE").await;
        assert!(unknown_verb.is_empty(), "{user}");
    }
}

/// Parses the JSON in a text of the metadata.
fn parse_metadata(text: &Value) -> Value {
    serde_json::from_str(text.as_str().expect("text")).expect("JSON")
}

/// Goal: the description of each endpoint matches the operation: subject, queue group, scope,
/// limits, and the fields that its schema names.
///
/// Method: a caller sends each field of the schema to the operation, and one more field that no
/// schema has.
#[tokio::test(flavor = "multi_thread")]
async fn the_description_matches_what_the_service_does() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let infos = discover(&world, "gateway", "$SRV.INFO.favorites").await;
    let endpoints = infos[0]["endpoints"].as_array().expect("a list");
    assert_eq!(infos[0]["type"], "io.nats.micro.v1.info_response");
    assert_eq!(endpoints.len(), Operation::ALL.len());

    for (endpoint, operation) in endpoints.iter().zip(Operation::ALL) {
        let name = operation.name();
        let on_shard = format!("a.{name}");
        let metadata = &endpoint["metadata"];
        let limits = parse_metadata(&metadata["limits"]);
        let schema = parse_metadata(&metadata["schema"]);
        let scope = operation.scope().map_or("", |scope| scope.as_str());

        assert_eq!(endpoint["subject"], format!("favorites.v1.{name}"));
        assert_eq!(endpoint["queue_group"], "favorites");
        assert_eq!(metadata["scope"], scope);
        assert_eq!(limits["items"]["value"], 500);

        for field in schema["properties"].as_object().expect("an object").keys() {
            let reply = alice.ask(&on_shard, &json!({ field: [] })).await;

            let message = reply.body["error"]["message"].as_str().unwrap_or_default();
            assert!(
                !message.contains("unknown field"),
                "{name} {field}: {message}"
            );
        }

        let unknown_field = json!({"zzz": 1, "kind": "text", "id": "x"});
        let reply = alice.ask(&on_shard, &unknown_field).await;
        reply.refusal("bad_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_show_requests_and_the_workers_state() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    for number in 0..10 {
        alice.put_text("a", &number.to_string(), "x").await;
    }
    let none = json!({"kind": "text", "id": "none"});
    let reply = alice.ask("a.get", &none).await;
    reply.refusal("not_found");

    let stats = discover(&world, "operator", "$SRV.STATS.favorites").await;
    let stats = &stats[0];
    let endpoints = stats["endpoints"].as_array().expect("a list");
    let endpoint = |name: &str| {
        endpoints
            .iter()
            .find(|endpoint| endpoint["name"] == name)
            .expect("listed")
    };
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");

    let put = endpoint("put");
    let average = put["average_processing_time"].as_u64();
    let median = put["data"]["latency_us"]["p50"].as_u64();
    let max = put["data"]["latency_us"]["max"].as_u64();
    assert_eq!(put["num_requests"], 10);
    assert_eq!(put["num_errors"], 0);
    assert!(average > Some(0), "{put}");
    assert!(median > Some(0), "{put}");
    assert!(median <= max, "{put}");

    let buckets = put["data"]["buckets_us"].as_array().expect("a list");
    let counts: Vec<u64> = buckets
        .iter()
        .filter_map(|bucket| bucket[1].as_u64())
        .collect();
    assert!(counts.is_sorted(), "{put}");
    assert_eq!(counts.last(), Some(&10), "{put}");

    let get = endpoint("get");
    assert_eq!(get["num_errors"], 1);
    assert_eq!(get["last_error"], "not_found");

    let data = &stats["data"];
    assert_eq!(data["state"], "healthy");
    assert_eq!(data["reasons"], json!([]));
    assert_eq!(data["requests"]["answered"], 11);
    assert_eq!(data["cache"]["owners"], 1);
    assert_eq!(data["truth"]["writes"]["state"], "closed");
    assert_eq!(data["truth"]["history"], "whole");
    assert!(data["truth"]["records"].as_u64() > Some(0), "{data}");
    assert!(data["truth"]["bytes"].as_u64() > Some(0), "{data}");
    assert_eq!(data["truth"]["bytes_max"], Value::Null);

    assert_eq!(data["projection"]["here"], true);
    assert!(data["projection"]["sequence"].as_u64() >= Some(10));
    assert!(data["tasks"].as_u64() > Some(0));
}
