//! Items that are written very often, and what Postgres keeps of them.

use crate::harness::World;
use gofavorites::seal::ItemKey;
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

/// Goal: to find the versions that are too many, Postgres looks at each version about once, however
/// many an item has.
///
/// Method: ten owners have an item of 300 versions each, of which 250 are kept, and 500 items of one
/// version each. 500 items are trimmed together, most of which have no versions, so that Postgres
/// expects few of each. It tells how many entries of the versions' index it has read.
#[tokio::test(flavor = "multi_thread")]
async fn old_versions_are_found_without_reading_all_again_for_each() {
    let world = World::start().await;
    let a = world.worker("a").await;
    let users: Vec<String> = (0..10).map(|number| format!("user-{number}")).collect();
    for user in &users {
        let put = world.caller(user).await.put_text("a", "often", "x").await;
        world.until_projected("a", &put).await;
    }
    a.stop().await.expect("stopped in order");
    world.query(
        "a",
        "insert into item_version (owner_key, item_key, version, sealed, deleted, updated_at) \
         select owner_key, item_key, version + 1000 * n, sealed, deleted, updated_at \
         from item_version, generate_series(1, 299) as n \
         union all \
         select owner_key, decode(md5(version || ' ' || n), 'hex'), version, sealed, deleted, updated_at \
         from item_version, generate_series(1, 500) as n; \
         analyze item_version",
    );
    let read = "select idx_tup_read from pg_stat_user_indexes \
                where indexrelname = 'item_version_pkey'";
    let read_before: u64 = world.query("a", read).parse().expect("a number");

    let often: Vec<_> = users.iter().map(|user| world.items_of("a", user)).collect();
    let others = (0..490_u16).map(|number| {
        let owner = often[usize::from(number) % often.len()][0].0;
        let mut key = [0; 16];
        key[..2].copy_from_slice(&number.to_be_bytes());
        (owner, ItemKey::from_bytes(key))
    });
    let items: Vec<_> = often.concat().into_iter().chain(others).collect();
    let deleted = world.store("a").trim_histories(&items, 250, 1_000).await;
    assert_eq!(deleted.expect("Postgres"), 10 * 50);

    let has_told = format!("select ({read}) > {}", read_before + 250);
    world.until("a", &has_told, "t").await;
    let read_after: u64 = world.query("a", read).parse().expect("a number");
    let entries = read_after - read_before;
    println!("{entries} index entries were read");
    assert!(entries < 30_000, "{entries} index entries were read");
}
