//! Items that are written very often, and what Postgres keeps of them.

use crate::harness::World;
use serde_json::json;

/// Goal: a shard keeps only the newest versions of an item, and all of an item that has fewer.
///
/// Method: a shard keeps 20 versions of an item. One item is written 60 times and another 5 times.
/// Then the first is written once more.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_only_the_newest_versions_of_an_item() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.retention.item_versions = 20;
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    for number in 0..60 {
        alice.put_text("a", "often", &number.to_string()).await;
    }
    for number in 0..5 {
        alice.put_text("a", "rarely", &number.to_string()).await;
    }

    let counts = "select max(n) || ' ' || min(n) from \
                  (select count(*) as n from item_version group by item_key) as counted";
    world.until("a", counts, "20 5").await;
    let newest =
        "select count(*) from item_version v join item i using (owner_key, item_key, version)";
    assert_eq!(
        world.query("a", newest),
        "2",
        "the current versions are there"
    );

    alice.put_text("a", "often", "again").await;
    world.until("a", counts, "20 5").await;
    let history = json!({"kind": "text", "id": "often", "limit": 500});
    let history = alice.done("a.history", &history).await;
    let versions = history["versions"].as_array().expect("a list");
    assert_eq!(versions.len(), 20, "{history}");
}
