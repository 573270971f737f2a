//! What runs, and what is bounded: told to everyone, without a token.

use crate::harness::World;
use async_nats::HeaderMap;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_what_it_is_and_which_client_was_released_with_it() {
    let (world, _a, _b) = World::with_two_shards().await;
    let anyone = world.caller("anyone").await;
    let reply = anyone
        .ask_with("b.version", HeaderMap::new(), Vec::new())
        .await
        .body;
    assert_eq!(reply["shard"], "b");
    assert_eq!(reply["service"]["name"], "gofavorites");
    for part in ["service", "client"] {
        assert_eq!(reply[part]["version"], env!("CARGO_PKG_VERSION"));
        assert!(
            reply[part]["built_at"]
                .as_str()
                .expect("a time")
                .ends_with('Z')
        );
        assert!(
            reply[part]["commit"]
                .as_str()
                .is_some_and(|commit| commit.len() == 40 || commit == "unknown")
        );
    }
    let reply = anyone.ask("a.version", &json!({"x": 1})).await;
    assert_eq!(reply.refusal("bad_request")["details"]["field"], "x");
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
    assert!(
        limits
            .values()
            .all(|limit| limit["value"].is_u64() && limit["unit"].is_string()),
        "{reply}"
    );
    assert_eq!(limits["page_max"], json!({"value": 77, "unit": "entries"}));
    assert_eq!(
        limits["request_bytes"],
        json!({"value": 262_144, "unit": "bytes"})
    );
    assert_eq!(limits["items"]["value"], 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_token_does_not_mind_a_bad_one() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for token in ["Basic x", "Bearer", "Bearer a b"] {
        let mut headers = alice.headers();
        headers.insert("Authorization", token);
        for operation in ["version", "limits"] {
            let reply = alice.ask_with(operation, headers.clone(), Vec::new()).await;
            assert!(reply.body["error"].is_null(), "{operation}: {}", reply.body);
        }
        alice
            .ask_with("list", headers, Vec::new())
            .await
            .refusal("unauthenticated");
    }
    let limits = &alice.done("limits", &json!({})).await["limits"];
    assert_eq!(
        limits["cache_bytes"],
        json!({"value": 256 << 20, "unit": "bytes"})
    );
    assert_eq!(
        limits["write_retries"],
        json!({"value": 20, "unit": "times"})
    );
}
