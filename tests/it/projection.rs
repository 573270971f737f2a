//! Projection and hosting: which rows a shard's Postgres has, and when a worker reads from them.

use crate::harness::{Sent, World, is_record, isin, with_breaker};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::seal::{Keyring, UserId};
use gofavorites::shard::Store;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn count(list: &Value) -> Option<usize> {
    list["items"].as_array().map(Vec::len)
}

/// Waits until the statement returns that text in the shard's database, at most five seconds.
async fn wait_for_rows(world: &World, shard: &str, statement: &str, expected: &str) {
    let end = Instant::now() + Duration::from_secs(5);

    while world.query(shard, statement) != expected {
        assert!(
            Instant::now() < end,
            "shard {shard}: no {expected} from: {statement}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Looks at what is sent to the bucket from now on.
async fn sent(world: &World) -> Sent {
    Sent::to(world, "$KV.favorites.>").await
}

/// Counts the records among that.
async fn records(sent: Sent) -> usize {
    sent.count(|message| is_record(&message.subject)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_write_is_already_a_row_of_the_shard() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let put = alice.put_text("a", "note", "x").await;

    assert!(put.get("local").is_none(), "{put}");
    let version = put["item"]["version"].as_u64().expect("a version");
    let row = world.query("a", "select version from item");
    assert_eq!(row, version.to_string());
    let owner = "select version, complete_to is not null, history_complete from owner";
    assert_eq!(world.query("a", owner), format!("{version}|t|t"));
    let cursor = world.query("a", "select sequence from cursor");
    assert!(cursor.parse::<u64>().expect("a number") >= version);
}

/// Goal: the worker that projects knows what other workers wrote, so its next write for the same owner
/// does not lose a race.
///
/// Method: two shards write for one owner in turn, items and a batch. Each write begins when the last one
/// is in the writer's Postgres. All that is sent to the owner's keys is counted: a write that loses sends
/// its records twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_worker_that_projects_learns_what_passes_by() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _workers = (world.worker("a").await, world.worker("b").await);
    let alice = world.caller("alice").await;
    for (shard, other) in [("a", "b"), ("b", "a")] {
        let put = alice.put_text(shard, "note", "first").await;
        world.until_projected(other, &put).await;
    }
    let sent = sent(&world).await;

    let batch = json!({"mode": "atomic", "ops": [
        {"op": "put", "kind": "text", "id": "one", "data": {"text": "x"}},
        {"op": "put", "kind": "text", "id": "two", "data": {"text": "x"}},
    ]});
    for (shard, other) in [("a", "b"), ("b", "a"), ("a", "b"), ("b", "a")] {
        alice.done(&format!("{shard}.batch"), &batch).await;
        let put = alice.put_text(shard, "note", shard).await;
        world.until_projected(other, &put).await;
    }

    assert_eq!(records(sent).await, 4 * 3, "each record is sent once");
    for shard in ["a", "b"] {
        let list = alice.done(&format!("{shard}.list"), &json!({})).await;
        assert_eq!(count(&list), Some(3));
        let note = json!({"kind": "text", "id": "note"});
        let note = alice.done(&format!("{shard}.get"), &note).await;
        assert_eq!(note["item"]["data"]["text"], "b", "{note}");
    }
}

/// Goal: a worker that does not project knows what other workers wrote too.
///
/// Method: shard a has two workers, and either may get a request. Before each write on a there is one on
/// b. A worker of a that does not know it sends its record twice: half of the writes would.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_project_follows_the_bucket() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _first = world.worker("a").await;
    let _others = (world.worker("a").await, world.worker("b").await);
    let alice = world.caller("alice").await;
    alice.put_text("b", "note", "first").await;
    for _ in 0..12 {
        alice.done("a.list", &json!({})).await;
    }
    let sent = sent(&world).await;

    for _ in 0..12 {
        for shard in ["b", "a"] {
            let put = alice.put_text(shard, "note", shard).await;
            for shard in ["a", "b"] {
                world.until_projected(shard, &put).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    let sent = records(sent).await;
    assert!((24..=26).contains(&sent), "{sent} for 24 writes");
}

/// Goal: a shard hosts an owner from the first request on, and projects later writes by itself.
///
/// Method: one caller writes on shard a only. Shard b has no row until the caller lists there;
/// the next write on shard a then reaches shard b without a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_hosts_from_the_first_request_and_stays_current() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "one", "x").await;
    assert_eq!(
        world.query("b", "select count(*) from owner"),
        "0",
        "shard b skips owners that it does not host"
    );

    let list = alice.done("b.list", &json!({})).await;
    assert_eq!(count(&list), Some(1), "the first answer is complete");
    let hosted = "select count(complete_to) from item join owner using (owner_key)";
    world.until("b", hosted, "1").await;

    let put = alice.put_text("a", "two", "y").await;
    let version = put["item"]["version"].to_string();
    wait_for_rows(&world, "b", "select max(version) from item", &version).await;
}

/// Goal: rows of an owner that is not marked complete are not read, but replaced by hosting.
///
/// Method: the mark is removed in Postgres, the worker stops, and a row is deleted. A new worker
/// must return all items, and have all rows afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_incompletely_hosted_owner_is_not_read_from_postgres() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for number in 0..3 {
        alice.put_text("a", &format!("note-{number}"), "x").await;
    }

    let store = Store::new(&world.settings("a").postgres).expect("settings");
    let keyring =
        Keyring::from_base64(&world.secrets.identity, &world.secrets.encryption).expect("keys");
    let owner = keyring.owner(&UserId::new(gofavorites::dev::tokens::ISSUER, "alice"));
    let hosted = store.hosted_owner(&owner).await.expect("Postgres");
    let hosted = hosted.expect("hosted");
    assert_eq!(hosted.records.len(), 4, "three items and the owner's key");

    world.query("a", "update owner set complete_to = null");
    let hosted = store.hosted_owner(&owner).await.expect("Postgres");
    assert!(hosted.is_none());

    // A new worker has no copy in memory, so it hosts the owner again and returns all items.
    a.stop().await.expect("stopped in order");
    let lose_newest = "delete from item where version = (select max(version) from item)";
    world.query("a", lose_newest);
    let _again = world.worker("a").await;
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(count(&list), Some(3));
    let rows = "select count(*), count(complete_to) from item join owner using (owner_key)";
    world.until("a", rows, "3|3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_contradict_the_bucket_are_not_used() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for number in 0..3 {
        alice.put_text("a", &format!("note-{number}"), "x").await;
    }

    a.stop().await.expect("stopped in order");
    let lose_oldest = "delete from item where version = (select min(version) from item)";
    world.query("a", lose_oldest);
    let _again = world.worker("a").await;
    let list = alice.done("a.list", &json!({})).await;

    assert_eq!(count(&list), Some(3), "read from the bucket");
}

/// Goal: a transaction of the projection never ends inside a batch.
///
/// Method: the projection commits as often as it can. New owners write, whose first write is a
/// batch of their key and an item, while another thread queries Postgres for a key without item.
#[tokio::test(flavor = "multi_thread")]
async fn no_reader_of_postgres_sees_half_of_a_batch() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.projection.batch = 1;
    let _a = world.worker_with(settings).await;

    let is_done = Arc::new(AtomicBool::new(false));
    let watching = {
        let is_done = is_done.clone();
        let database = world.database("a");
        let postgres = &world.shared.postgres;
        tokio::task::spawn_blocking(move || {
            let half = "select count(*) from owner o where o.key_version is not null \
                        and not exists (select from item i where i.owner_key = o.owner_key)";
            let end = Instant::now() + Duration::from_secs(60);
            let mut seen = 0;

            while !is_done.load(Ordering::SeqCst) && Instant::now() < end {
                let count = postgres.query(&database, half).expect("Postgres");
                seen += count.parse::<u64>().expect("a number");
            }

            seen
        })
    };

    for number in 0..100 {
        let caller = world.caller(&format!("somebody-{number}")).await;
        caller.put_text("a", "note", "x").await;
    }
    assert!(!watching.is_finished(), "it watched all of them");
    is_done.store(true, Ordering::SeqCst);

    assert_eq!(watching.await.expect("no panic"), 0);
}

/// Goal: a shard that was stopped continues its projection where it had been.
///
/// Method: shard b hosts an owner and stops, shard a writes twenty items, and shard b starts
/// again. Its first answer must be complete, and its rows must follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_shard_catches_up_from_its_own_cursor() {
    let (world, a, b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "one", "x").await;
    alice.done("b.list", &json!({})).await;

    b.stop().await.expect("stopped in order");

    for number in 0..20 {
        let body = json!({"kind": "instrument", "data": {"isin": isin(number), "type": "fund"}});
        alice.done("a.put", &body).await;
    }

    let _b = world.worker("b").await;

    let list = alice.done("b.list", &json!({})).await;
    assert_eq!(count(&list), Some(21));
    wait_for_rows(&world, "b", "select count(*) from item", "21").await;
    a.stop().await.expect("stopped in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_rebuilt_without_an_operator() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "one", "x").await;

    a.stop().await.expect("stopped in order");
    world.query(
        "a",
        "truncate owner, item, item_version, other_record, cursor",
    );
    let _a = world.worker("a").await;
    let list = alice.done("a.list", &json!({})).await;

    assert_eq!(count(&list), Some(1));
}
