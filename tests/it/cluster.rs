//! Three servers that keep the bucket together, whose leader changes, pauses and comes back.

use crate::harness::World;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn it_starts() {
    let since = std::time::Instant::now();
    let (world, _cluster) = World::cluster(ACCOUNTS_CONF).await;
    println!("cluster up in {:?}", since.elapsed());
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    alice.done("a.list", &json!({"consistency": "strong"})).await;
    println!("{:?}", world.leader().await);
}
