//! The service in several blocks: a hub with the bucket, and a leaf for each shard that reaches it by its domain.

use crate::harness::World;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_at_one_leaf_is_read_at_another_and_the_owner_moves() {
    let (world, leaves) = World::with_leaves().await;
    let (_a, _b) = (world.worker("a").await, world.worker("b").await);
    let here = world.caller("alice").await;
    let there = world.caller_at(&leaves.b.url(), "alice").await;
    let put = here.put_text("a", "note", "x").await;
    assert!(put.get("local").is_none(), "its row is there: {put}");
    let note = json!({"kind": "text", "id": "note"});
    // Each reaches the worker that is near, without naming a shard.
    for (caller, shard) in [(&here, "a"), (&there, "b")] {
        assert_eq!(caller.done("version", &json!({})).await["shard"], shard);
        assert_eq!(caller.done("get", &note).await["item"], put["item"], "at {shard}");
    }
    let moved = there.done("put", &json!({"kind": "text", "id": "note", "data": {"text": "y"}})).await;
    assert!(moved["item"]["version"].as_u64() > put["item"]["version"].as_u64());
    assert_eq!(here.done("get", &note).await["item"], moved["item"]);
    // A request for the other shard crosses the hub, from either side.
    assert_eq!(here.done("b.get", &note).await["item"], moved["item"]);
    assert_eq!(there.done("a.get", &note).await["item"], moved["item"]);
    for shard in ["a", "b"] {
        assert_eq!(world.query(shard, "select count(*) from item"), "1", "hosted at {shard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_nobody_serves_is_told_at_once() {
    let (world, leaves) = World::with_leaves().await;
    let _a = world.worker("a").await;
    for url in [world.nats.url(), leaves.b.url()] {
        let client = world.connect_at(&url, "gateway").await;
        let refused =
            client.request("favorites.v1.shard.nowhere.list", "{}".into()).await.expect_err("nobody is there");
        assert_eq!(refused.kind(), async_nats::RequestErrorKind::NoResponders);
    }
}
