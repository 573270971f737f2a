//! The projection and hosting: what a shard's Postgres has, and when it may be believed.

use crate::harness::{World, isin};
use gofavorites::seal::{Keyring, UserId};
use gofavorites::shard::Store;
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_write_is_a_row_of_the_shard_when_it_is_answered() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let put = alice.put_text("a", "note", "x").await;
    assert!(put.get("local").is_none(), "{put}");
    let version = put["item"]["version"].to_string();
    assert_eq!(world.query("a", "select version from item"), version);
    assert_eq!(
        world.query(
            "a",
            "select version, complete_to is not null, history_complete from owner"
        ),
        format!("{version}|t|t")
    );
    let cursor: u64 = world
        .query("a", "select sequence from cursor")
        .parse()
        .expect("a number");
    assert!(cursor >= put["item"]["version"].as_u64().expect("a version"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_hosts_from_the_first_request_and_is_kept_current_from_then_on() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "one", "x").await;
    assert_eq!(
        world.query("b", "select count(*) from owner"),
        "0",
        "b skips owners whom it does not host"
    );
    let list = alice.done("b.list", &json!({})).await;
    assert_eq!(
        list["items"].as_array().map(Vec::len),
        Some(1),
        "the first answer is whole"
    );
    assert_eq!(world.query("b", "select count(*) from item"), "1");
    let put = alice.put_text("a", "two", "y").await;
    let version = put["item"]["version"].to_string();
    let until = Instant::now() + Duration::from_secs(5);
    while world.query("b", "select max(version) from item") != version {
        assert!(
            Instant::now() < until,
            "b's projection does not bring the row"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_is_not_completely_hosted_is_not_read_from_postgres() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for number in 0..3 {
        alice.put_text("a", &format!("note-{number}"), "x").await;
    }
    let store = Store::new(&world.settings("a").postgres).expect("settings");
    let keyring =
        Keyring::from_base64(&world.secrets.identity, &world.secrets.encryption).expect("keys");
    let owner = keyring.owner(&UserId::new(gofavorites::dev::tokens::ISSUER, "alice"));
    let hosted = store
        .hosted_owner(&owner)
        .await
        .expect("Postgres")
        .expect("hosted");
    assert_eq!(hosted.records.len(), 4, "three items and the owner's key");
    world.query("a", "update owner set complete_to = null");
    assert!(
        store
            .hosted_owner(&owner)
            .await
            .expect("Postgres")
            .is_none()
    );
    // A worker that has nothing in memory brings the owner here again, and answers whole.
    a.stop().await.expect("stopped in order");
    world.query(
        "a",
        "delete from item where version = (select max(version) from item)",
    );
    let _again = world.worker("a").await;
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        world.query(
            "a",
            "select count(*), count(complete_to) from item join owner using (owner_key)"
        ),
        "3|3"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_the_truth_are_not_believed() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for number in 0..3 {
        alice.put_text("a", &format!("note-{number}"), "x").await;
    }
    a.stop().await.expect("stopped in order");
    world.query(
        "a",
        "delete from item where version = (select min(version) from item)",
    );
    let _again = world.worker("a").await;
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(
        list["items"].as_array().map(Vec::len),
        Some(3),
        "taken from the truth"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_of_postgres_sees_half_of_a_batch() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    // As small as a transaction of the projection can be told to be.
    settings.projection.batch = 1;
    let _a = world.worker_with(settings).await;
    let watching = {
        let (database, postgres) = (world.database("a"), &world.shared.postgres);
        tokio::task::spawn_blocking(move || {
            let half = "select count(*) from owner o where o.key_version is not null and not exists \
                        (select from item i where i.owner_key = o.owner_key)";
            let mut seen = 0;
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                seen += postgres
                    .query(&database, half)
                    .expect("Postgres")
                    .parse::<u64>()
                    .expect("a number");
            }
            seen
        })
    };
    // An owner's first write is a batch of two: their key and the item.
    let mut number = 0;
    while !watching.is_finished() {
        number += 1;
        let somebody = world.caller(&format!("somebody-{number}")).await;
        somebody.put_text("a", "note", "x").await;
    }
    assert!(number > 20, "only {number} owners were made");
    assert_eq!(watching.await.expect("no panic"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_was_down_catches_up_from_its_own_cursor() {
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
    assert_eq!(list["items"].as_array().map(Vec::len), Some(21));
    let until = Instant::now() + Duration::from_secs(5);
    while world.query("b", "select count(*) from item") != "21" {
        assert!(Instant::now() < until, "b does not catch up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    a.stop().await.expect("stopped in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shards_lost_database_comes_back_by_itself() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "one", "x").await;
    a.stop().await.expect("stopped in order");
    world.query("a", "truncate owner, item, item_version, cursor");
    let _a = world.worker("a").await;
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
}
