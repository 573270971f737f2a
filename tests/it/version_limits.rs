//! The operations `version` and `limits`, which everybody may call without a token.

use crate::harness::World;
use async_nats::HeaderMap;
use serde_json::{Value, json};

/// Checks the version, the build time and the commit of a part of the `version` reply.
#[track_caller]
fn check_build(build: &Value) {
    let built_at = build["built_at"].as_str().expect("a time");
    let commit = build["commit"].as_str().expect("a commit");

    assert_eq!(build["version"], env!("CARGO_PKG_VERSION"));
    assert!(built_at.ends_with('Z'), "{built_at}");
    assert!(commit.len() == 40 || commit == "unknown", "{commit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_returns_its_version_and_its_clients() {
    let (world, _a, _b) = World::with_two_shards().await;
    let anyone = world.caller("anyone").await;

    let reply = anyone
        .ask_with("b.version", HeaderMap::new(), Vec::new())
        .await
        .body;
    let unknown_field = anyone.ask("a.version", &json!({"x": 1})).await;

    assert_eq!(reply["shard"], "b");
    assert_eq!(reply["service"]["name"], "gofavorites");
    check_build(&reply["service"]);
    check_build(&reply["client"]);
    let details = &unknown_field.refusal("bad_request")["details"];
    assert_eq!(details["field"], "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_has_a_value_and_a_unit() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.page_max = 77;
    let _a = world.worker_with(settings).await;
    let anyone = world.caller("anyone").await;

    let reply = anyone
        .ask_with("limits", HeaderMap::new(), b"{}".to_vec())
        .await
        .body;

    let limits = reply["limits"].as_object().expect("limits");
    for (name, limit) in limits {
        assert!(limit["value"].is_u64(), "{name}: {limit}");
        assert!(limit["unit"].is_string(), "{name}: {limit}");
    }
    assert_eq!(limits["page_max"], json!({"value": 77, "unit": "entries"}));
    assert_eq!(
        limits["request_bytes"],
        json!({"value": 262_144, "unit": "bytes"})
    );
    assert_eq!(limits["items"]["value"], 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_without_a_token_accept_a_bad_one() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for token in ["Basic x", "Bearer", "Bearer a b"] {
        let mut headers = alice.headers();
        headers.insert("Authorization", token);

        for operation in ["version", "limits"] {
            let reply = alice.ask_with(operation, headers.clone(), Vec::new()).await;
            assert!(reply.body["error"].is_null(), "{operation}: {}", reply.body);
        }
        let reply = alice.ask_with("list", headers, Vec::new()).await;
        reply.refusal("unauthenticated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_returns_the_cache_size_and_the_write_retries() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let reply = alice.done("limits", &json!({})).await;

    let limits = &reply["limits"];
    assert_eq!(
        limits["cache_bytes"],
        json!({"value": 256 << 20, "unit": "bytes"})
    );
    assert_eq!(
        limits["write_retries"],
        json!({"value": 20, "unit": "times"})
    );
}
