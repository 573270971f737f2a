//! Discovery: every worker is found, described and measured with the tools that NATS has for services.

use crate::harness::World;
use futures::StreamExt as _;
use gofavorites::wire::Operation;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

/// All answers to a question, as that user gets them; none comes for a while after the last.
async fn answers(world: &World, user: &str, subject: &str) -> Vec<Value> {
    let client = world.connect(user).await;
    let inbox = client.new_inbox();
    let mut heard = client
        .subscribe(inbox.clone())
        .await
        .expect("a subscription");
    client
        .publish_with_reply(subject.to_owned(), inbox, "".into())
        .await
        .expect("sent");
    let mut told = Vec::new();
    while let Ok(Some(answer)) = timeout(Duration::from_millis(400), heard.next()).await {
        // Nobody listens there.
        if answer.status.is_none() {
            told.push(serde_json::from_slice(&answer.payload).expect("JSON"));
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_answers_whoever_calls() {
    let world = World::start().await;
    let _workers = (
        world.worker("a").await,
        world.worker("a").await,
        world.worker("b").await,
    );
    for user in ["gateway", "gateway2", "operator"] {
        let pings = answers(&world, user, "$SRV.PING").await;
        let ids: BTreeSet<_> = pings
            .iter()
            .map(|ping| ping["id"].as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(
            (pings.len(), ids.len()),
            (3, 3),
            "{user} hears each of them once"
        );
        assert!(
            pings
                .iter()
                .all(|ping| ping["type"] == "io.nats.micro.v1.ping_response"
                    && ping["name"] == "favorites")
        );
        assert_eq!(answers(&world, user, "$SRV.INFO.favorites").await.len(), 3);
        let id = ids.first().expect("one");
        let one = answers(&world, user, &format!("$SRV.STATS.favorites.{id}")).await;
        assert_eq!((one.len(), one[0]["id"].as_str()), (1, Some(id.as_str())));
        assert!(answers(&world, user, "$SRV.PING.others").await.is_empty());
        assert!(answers(&world, user, "$SRV.DANCE").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_what_the_service_does() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let told = answers(&world, "gateway", "$SRV.INFO.favorites")
        .await
        .remove(0);
    assert_eq!(told["type"], "io.nats.micro.v1.info_response");
    let endpoints = told["endpoints"].as_array().expect("a list");
    assert_eq!(endpoints.len(), Operation::ALL.len());
    for (endpoint, operation) in endpoints.iter().zip(Operation::ALL) {
        assert_eq!(
            endpoint["subject"],
            format!("favorites.v1.{}", operation.name())
        );
        assert_eq!(endpoint["queue_group"], "favorites");
        let metadata = &endpoint["metadata"];
        let scope = operation.scope().map_or("", |scope| scope.as_str());
        assert_eq!(metadata["scope"], scope);
        let limits: Value =
            serde_json::from_str(metadata["limits"].as_str().expect("text")).expect("JSON");
        assert_eq!(limits["items"]["value"], 500);
        let schema: Value =
            serde_json::from_str(metadata["schema"].as_str().expect("text")).expect("JSON");
        // Each field of the schema is known to the operation, and another is not.
        let subject = endpoint["subject"].as_str().expect("text");
        let subject = subject.rsplit('.').next().expect("a part");
        for name in schema["properties"].as_object().expect("an object").keys() {
            let reply = alice
                .ask(&format!("a.{subject}"), &json!({ name: [] }))
                .await;
            let text = reply.body["error"]["message"].as_str().unwrap_or_default();
            assert!(!text.contains("unknown field"), "{subject} {name}: {text}");
        }
        let reply = alice
            .ask(
                &format!("a.{subject}"),
                &json!({"zzz": 1, "kind": "text", "id": "x"}),
            )
            .await;
        reply.refusal("bad_request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statistics_tell_what_was_done_and_how_the_worker_is() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    for number in 0..10 {
        alice.put_text("a", &number.to_string(), "x").await;
    }
    alice
        .ask("a.get", &json!({"kind": "text", "id": "none"}))
        .await
        .refusal("not_found");
    let told = answers(&world, "operator", "$SRV.STATS.favorites")
        .await
        .remove(0);
    assert_eq!(told["type"], "io.nats.micro.v1.stats_response");
    let endpoint = |name: &str| {
        let all = told["endpoints"].as_array().expect("a list").iter();
        all.clone()
            .find(|one| one["name"] == name)
            .expect("listed")
            .clone()
    };
    let (put, get) = (endpoint("put"), endpoint("get"));
    assert_eq!(
        (&put["num_requests"], &put["num_errors"]),
        (&json!(10), &json!(0))
    );
    assert!(put["average_processing_time"].as_u64() > Some(0), "{put}");
    let latency = &put["data"]["latency_us"];
    assert!(
        latency["p50"].as_u64() > Some(0) && latency["p50"].as_u64() <= latency["max"].as_u64(),
        "{latency}"
    );
    assert_eq!(
        (&get["num_errors"], &get["last_error"]),
        (&json!(1), &json!("not_found"))
    );
    let data = &told["data"];
    assert_eq!(
        (&data["state"], &data["reasons"]),
        (&json!("healthy"), &json!([]))
    );
    assert_eq!(data["requests"]["answered"], 11);
    assert_eq!(data["cache"]["owners"], 1);
    assert_eq!(
        (&data["truth"]["writes"]["state"], &data["truth"]["history"]),
        (&json!("closed"), &json!("whole"))
    );
    assert_eq!(data["projection"]["here"], true);
    assert!(
        data["projection"]["sequence"].as_u64() >= Some(10) && data["tasks"].as_u64() > Some(0)
    );
}
