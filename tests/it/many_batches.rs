//! More atomic batches at once than the server keeps open for a stream (50 by default). Each
//! owner's first write is one, because it writes the owner's key too.

use crate::harness::{Caller, World, exclusive};
use futures::future::join_all;

use serde_json::{Value, json};
use std::time::Duration;

/// How many people become owners in the same moment.
const NEWCOMERS: usize = 1_000;
/// How many owners send a batch in that moment.
const BATCHES: usize = 200;
/// The operations of each of these batches.
const BATCH_OPS: usize = 100;

const SCOPES: &str = "favorites:read favorites:write";
const HOUR: Duration = Duration::from_secs(3600);

/// Returns how often the workers' breakers have opened, that of Postgres aside.
async fn breakers_opened(world: &World, workers: usize) -> Vec<Value> {
    let stats = world.stats(workers).await;

    stats
        .iter()
        .flat_map(|worker| {
            let data = &worker["data"];
            [
                data["truth"]["reads"]["opened"].clone(),
                data["truth"]["writes"]["opened"].clone(),
            ]
        })
        .collect()
}

/// Sends a request again until it is not refused as `overloaded`, or because its time was up: a busy
/// machine may not get to it in that. Returns how often it was refused, and the code of another
/// refusal.
async fn persist(caller: &Caller, what: &str, body: &Value) -> (usize, Option<String>) {
    let mut refused = 0;
    loop {
        let reply = caller.ask(what, body).await;
        match reply.body["error"]["code"].as_str() {
            None => return (refused, None),
            Some("overloaded" | "deadline_exceeded") => refused += 1,
            Some(code) => return (refused, Some(code.to_owned())),
        }
    }
}

/// Goal: an onboarding wave is served or told to come back, and is never taken for an outage.
///
/// Method: a thousand newcomers send their first put while two hundred others send a batch of a
/// hundred puts, on two shards. Each repeats what was not done for lack of room or time.
#[tokio::test(flavor = "multi_thread")]
async fn a_wave_of_batches_is_no_outage() {
    let _permit = exclusive().await;
    let (world, _a, _b) = World::with_two_shards().await;
    let gateway = world.caller("gateway").await;
    let put = |id: usize| json!({"kind": "text", "id": id.to_string(), "data": {"text": "x"}});
    let ops: Vec<Value> = (0..BATCH_OPS)
        .map(|id| {
            let mut op = put(id);
            op["op"] = json!("put");
            op
        })
        .collect();

    let requests = (0..NEWCOMERS + BATCHES).map(|number| {
        let token = world.token(&format!("newcomer-{number}"), SCOPES, HOUR);
        let caller = gateway.with_token(&token);
        let shard = if number % 2 == 0 { "a" } else { "b" };
        let (operation, body) = if number < NEWCOMERS {
            ("put", put(0))
        } else {
            ("batch", json!({"mode": "atomic", "ops": ops}))
        };

        async move { persist(&caller, &format!("{shard}.{operation}"), &body).await }
    });
    let outcomes = join_all(requests).await;

    let refusals: Vec<&String> = outcomes
        .iter()
        .filter_map(|(_, code)| code.as_ref())
        .collect();
    assert!(
        refusals.is_empty(),
        "{} others: {refusals:?}",
        refusals.len()
    );
    assert_eq!(breakers_opened(&world, 2).await, [0, 0, 0, 0]);
    let refused: usize = outcomes.iter().map(|(times, _)| times).sum();
    println!("refused in the wave: {refused} times");
}
