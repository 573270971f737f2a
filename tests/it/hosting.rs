//! Hosting: an owner is never served half, whatever comes between its two steps, and whoever is un-hosted comes back.

use crate::harness::{Caller, World};
use gofavorites::domain::Version;
use gofavorites::shard::{HostingOutcome, LockAttempt, OwnerCopy, Store};
use gofavorites::truth::{Bucket, Delta};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a worker may take to hear something.
const PATIENCE: Duration = Duration::from_secs(10);

const ROWS: &str = "select count(*) from item";
const COMPLETE: &str = "select count(*) from owner where complete_to is not null";

async fn items(somebody: &Caller, shard: &str) -> usize {
    let list = somebody
        .done(&format!("{shard}.list"), &json!({"limit": 500}))
        .await;
    assert!(list["stale"].is_null(), "{list}");
    list["items"].as_array().expect("a list").len()
}

/// Two shards; alice has written on b, and a does not know her.
async fn with_alice_on_b() -> (World, Vec<crate::harness::Worker>, Caller, Store, Bucket) {
    let (world, a, b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let put = alice.put_text("b", "one", "x").await;
    world.until_projected("a", &put).await;
    let (store, bucket) = (world.store("a"), world.bucket("a").await);
    (world, vec![a, b], alice, store, bucket)
}

/// The second step of hosting, with what was fetched.
async fn complete(world: &World, store: &Store, fetched: &Delta, up_to: u64) -> HostingOutcome {
    let (owner, records) = (world.owner("alice"), fetched.records.clone());
    store
        .complete_hosting(&OwnerCopy {
            owner,
            bucket: "favorites",
            records,
            up_to,
        })
        .await
        .expect("Postgres")
}

/// Evicts alice as an operator would, in 90 days' time.
async fn evict(world: &World, store: &Store) {
    world.query("a", "update owner set seen_at = now() - interval '91 days'");
    assert_eq!(store.unseen(90).await.expect("Postgres"), 1);
    assert_eq!(store.evict(90, 100).await.expect("Postgres"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_the_two_steps_leaves_nothing_that_is_served() {
    let (world, hub) = World::behind_a_hub().await;
    let b = world.worker("b").await;
    let alice = world.caller("alice").await;
    for number in 0..5 {
        alice.put_text("b", &format!("note-{number}"), "x").await;
    }
    world.init(&world.settings("a")).await.expect("init");
    let mut a = world.program("a", &["serve"]).spawn().expect("it starts");
    world.wait_for_worker("a").await;
    // The truth hangs after the first step, and the worker is killed then.
    hub.link.freeze();
    let asking = tokio::spawn({
        let alice = alice.clone();
        async move { alice.ask("a.list", &json!({})).await }
    });
    world
        .until(
            "a",
            "select count(*) from owner where complete_to is null",
            "1",
        )
        .await;
    a.kill().await.expect("killed");
    asking.abort();
    hub.link.heal();
    world.wait_for_the_truth().await;
    assert_eq!(world.query("a", COMPLETE), "0");
    world.wait_for_worker("b").await;
    let put = alice.put_text("b", "one-more", "x").await;
    let _again = world.worker("a").await;
    world.until_projected("a", &put).await;
    assert_eq!(
        world.query("a", ROWS),
        "1",
        "the row that the projection brought is all that is here"
    );
    assert_eq!(items(&alice, "a").await, 6, "and the answer is whole");
    assert_eq!(
        (world.query("a", COMPLETE), world.query("a", ROWS)),
        ("1".into(), "6".into())
    );
    drop(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_between_the_two_steps_is_not_passed_over() {
    let (world, _workers, alice, store, bucket) = with_alice_on_b().await;
    let owner = world.owner("alice");
    store
        .begin_hosting(&owner, "favorites")
        .await
        .expect("Postgres");
    let fetched = bucket
        .since_confirmed(&owner, Version::NONE)
        .await
        .expect("the truth");
    let up_to = fetched.up_to.expect("some").get();
    evict(&world, &store).await;
    // The projection passes this one over, for nobody is hosted.
    let put = alice.put_text("b", "two", "x").await;
    world.until_projected("a", &put).await;
    assert_eq!(
        complete(&world, &store, &fetched, up_to).await,
        HostingOutcome::NotBegun
    );
    assert_eq!(world.query("a", "select count(*) from owner"), "0");
    // Another begins: the row that is there now is not the one that these records reach.
    let again = store
        .begin_hosting(&owner, "favorites")
        .await
        .expect("Postgres");
    assert!(again.begun_at >= put["owner_version"].as_u64().expect("a version"));
    assert_eq!(
        complete(&world, &store, &fetched, up_to).await,
        HostingOutcome::NotBegun
    );
    assert_eq!(world.query("a", COMPLETE), "0");
    assert_eq!(items(&alice, "a").await, 2);
    assert_eq!(
        complete(&world, &store, &fetched, up_to).await,
        HostingOutcome::Already,
        "and nothing is done twice"
    );
    assert_eq!(world.query("a", ROWS), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_a_replica_that_lags_completes_nothing() {
    let (world, _workers, alice, store, bucket) = with_alice_on_b().await;
    let owner = world.owner("alice");
    // What a replica that lags would give: all of it, up to the first record.
    let lagging = bucket
        .since_confirmed(&owner, Version::NONE)
        .await
        .expect("the truth");
    let put = alice.put_text("b", "two", "x").await;
    world.until_projected("a", &put).await;
    let begun_at = store
        .begin_hosting(&owner, "favorites")
        .await
        .expect("Postgres")
        .begun_at;
    assert_eq!(
        complete(&world, &store, &lagging, begun_at - 1).await,
        HostingOutcome::NotBegun
    );
    assert_eq!(
        (world.query("a", COMPLETE), world.query("a", ROWS)),
        ("0".into(), "0".into())
    );
    assert_eq!(items(&alice, "a").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_projection_has_overtaken_complete_nothing() {
    let (world, _workers, alice, store, bucket) = with_alice_on_b().await;
    let owner = world.owner("alice");
    store
        .begin_hosting(&owner, "favorites")
        .await
        .expect("Postgres");
    let fetched = bucket
        .since_confirmed(&owner, Version::NONE)
        .await
        .expect("the truth");
    let up_to = fetched.up_to.expect("some").get();
    alice.put_text("b", "two", "x").await;
    let put = alice.put_text("b", "three", "x").await;
    world.until_projected("a", &put).await;
    // Of the two rows that the projection has brought, one is lost.
    let lost = "delete from item where version = (select min(version) from item) returning item_key, sealed";
    assert!(!world.query("a", lost).is_empty());
    assert_eq!(
        complete(&world, &store, &fetched, up_to).await,
        HostingOutcome::Overtaken
    );
    assert_eq!(
        (world.query("a", COMPLETE), world.query("a", ROWS)),
        ("0".into(), "1".into()),
        "nothing was stored"
    );
    // A worker fetches what is newer too, and brings what is not there.
    assert_eq!(items(&alice, "a").await, 3);
    assert_eq!(
        (world.query("a", COMPLETE), world.query("a", ROWS)),
        ("1".into(), "3".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_whole_are_brought_anew_and_request_ids_stay_honoured() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let note = |text: &str| json!({"kind": "text", "id": "note-0", "data": {"text": text}});
    let first = alice
        .ask_once("a.put", "request-1", &note("first"))
        .await
        .body;
    for number in 0..20 {
        alice.done("a.put", &note(&number.to_string())).await;
        alice.put_text("a", &format!("note-{number}"), "x").await;
    }
    a.stop().await.expect("stopped in order");
    world.query(
        "a",
        "delete from item where version = (select min(version) from item)",
    );
    let _again = world.worker("a").await;
    assert_eq!(items(&alice, "a").await, 20);
    assert_eq!(
        (world.query("a", COMPLETE), world.query("a", ROWS)),
        ("1".into(), "20".into())
    );
    // The bucket no longer keeps the record of that request; this shard does.
    let again = alice
        .ask_once("a.put", "request-1", &note("first"))
        .await
        .body;
    assert_eq!(
        (&again["item"], &again["owner_version"]),
        (&first["item"], &first["owner_version"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_never_came_here_bring_the_owner_anew() {
    let world = World::start().await;
    let settings = |shard| {
        let mut settings = world.settings(shard);
        settings.truth.history = 1;
        settings
    };
    let (_a, b) = (
        world.worker_with(settings("a")).await,
        world.worker_with(settings("b")).await,
    );
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    for somebody in [&alice, &bob] {
        somebody.put_text("a", "one", "x").await;
        somebody.put_text("a", "two", "x").await;
        assert_eq!(items(somebody, "b").await, 2);
    }
    let life = |subject: &str| {
        let statement = format!(
            "select begun_at_sequence from owner where owner_key = {}",
            world.key_of(subject)
        );
        world
            .query("b", &statement)
            .parse::<u64>()
            .expect("a number")
    };
    let before = (life("alice"), life("bob"));
    b.stop().await.expect("stopped in order");
    // Of alice's three writes of one item the bucket keeps the last; of bob's two items both.
    for number in 0..3 {
        alice.put_text("a", "one", &number.to_string()).await;
    }
    alice.put_text("a", "two", "y").await;
    bob.put_text("a", "one", "y").await;
    let last = bob.put_text("a", "two", "y").await;
    let _b = world.try_worker(settings("b")).await.expect("a worker");
    world.until_projected("b", &last).await;
    world.until("b", COMPLETE, "2").await;
    assert!(life("alice") > before.0, "alice's rows are new ones");
    assert_eq!(life("bob"), before.1, "bob's are the old ones");
    let rows = "select string_agg(version::text, ',' order by version) from item";
    assert_eq!(world.query("b", rows), world.query("a", rows));
    assert_eq!((items(&alice, "b").await, items(&bob, "b").await), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_hears_that_an_owner_was_evicted_and_hosts_them_again() {
    let world = World::start().await;
    let _workers = (world.worker("a").await, world.worker("a").await);
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    for number in 0..8 {
        // Each of the two workers has her in memory.
        alice.put_text("a", &format!("note-{number}"), "x").await;
        bob.put_text("a", "note", "x").await;
    }
    let key = world.key_of("alice");
    world.query(
        "a",
        &format!("update owner set seen_at = now() - interval '91 days' where owner_key = {key}"),
    );
    let store = world.store("a");
    assert_eq!(
        (
            store.evict(92, 10).await.expect("Postgres"),
            store.evict(90, 10).await.expect("Postgres")
        ),
        (0, 1)
    );
    let rows = |what: &str| format!("select count(*) from {what} where owner_key = {key}");
    for table in ["owner", "item", "item_version"] {
        assert_eq!(world.query("a", &rows(table)), "0", "{table}");
    }
    assert_eq!(
        world.query("a", "select count(*) from owner"),
        "1",
        "bob stays"
    );
    // No worker believes for long that she is hosted.
    let since = Instant::now();
    while world.query("a", &rows("item")) != "8" {
        assert_eq!(items(&alice, "a").await, 8);
        assert!(since.elapsed() < PATIENCE, "she is not hosted again");
    }
    let put = alice.put_text("a", "one-more", "x").await;
    world.until_projected("a", &put).await;
    assert_eq!(world.query("a", &rows("item")), "9");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_could_not_hear_it_asks_when_it_listens_again() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    // As an eviction while the listener's connection was lost.
    world.query("a", "delete from owner");
    let listener = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                    where query ilike 'listen%' and datname = current_database()";
    assert_eq!(world.query("a", listener), "1");
    let since = Instant::now();
    while world.query("a", COMPLETE) != "1" {
        assert_eq!(items(&alice, "a").await, 1);
        assert!(since.elapsed() < PATIENCE, "she is not hosted again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_here_is_noted_and_who_was_here_within_the_hour_is_not_noted_again() {
    let world = World::start().await;
    let a = world.worker("a").await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    for somebody in [&alice, &bob] {
        somebody.put_text("a", "note", "x").await;
    }
    a.stop().await.expect("stopped in order");
    let key = world.key_of("bob");
    world.query("a", "update owner set seen_at = now() - interval '30 days'");
    world.query(
        "a",
        &format!(
            "update owner set seen_at = now() - interval '59 minutes' where owner_key = {key}"
        ),
    );
    let before = world.query(
        "a",
        &format!("select seen_at from owner where owner_key = {key}"),
    );
    let _a = world.worker("a").await;
    for somebody in [&alice, &bob] {
        items(somebody, "a").await;
    }
    world
        .until(
            "a",
            "select count(*) from owner where seen_at > now() - interval '1 day'",
            "2",
        )
        .await;
    assert_eq!(
        world.query(
            "a",
            &format!("select seen_at from owner where owner_key = {key}")
        ),
        before
    );
}

/// What a heavy owner has here: more than one answer of the truth holds.
const HEAVY: usize = 380;

/// Items of 190 KB each.
async fn fill(somebody: &Caller) {
    let (text, value) = ("x".repeat(65_000), "y".repeat(4_000));
    let meta: Value = (0..31)
        .map(|number| (format!("m{number}"), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for number in 0..HEAVY {
        let id = format!("large-{number}");
        somebody
            .done(
                "a.put",
                &json!({"kind": "text", "id": id, "data": {"text": text}, "meta": meta}),
            )
            .await;
    }
}

/// How many items somebody has on b, in as many pages as it takes.
async fn count_on_b(somebody: &Caller) -> usize {
    let (mut cursor, mut listed) = (None, 0);
    loop {
        let mut headers = somebody.headers();
        headers.insert("Request-Timeout-Ms", "30000");
        let mut body = json!({"limit": 500});
        if let Some(cursor) = cursor {
            body["cursor"] = cursor;
        }
        let page = somebody
            .ask_with("b.list", headers, body.to_string().into_bytes())
            .await
            .body;
        listed += page["items"]
            .as_array()
            .unwrap_or_else(|| panic!("{:?}", page["error"]["code"]))
            .len();
        match page.get("next_cursor") {
            Some(next) => cursor = Some(next.clone()),
            None => return listed,
        }
    }
}

/// Somebody who writes on b until told to stop; how many puts, and how many of them did not find their row in time.
async fn go_on_writing(somebody: Caller, stop: Arc<AtomicBool>) -> (usize, usize) {
    let (mut puts, mut pending) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let put = somebody
            .put_text("b", &format!("note-{}", puts % 50), "x")
            .await;
        puts += 1;
        pending += usize::from(put["local"] == "pending");
    }
    (puts, pending)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_owner_moves_whole_and_is_brought_anew_while_others_go_on() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    fill(&alice).await;
    let _b = world.worker("b").await;
    bob.put_text("b", "note", "x").await;
    let stop = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(go_on_writing(bob.clone(), stop.clone()));
    let began = Instant::now();
    assert_eq!(count_on_b(&alice).await, HEAVY);
    println!(
        "{HEAVY} items of 190 KB each were listed on another shard in {:?}",
        began.elapsed()
    );
    // It goes on by itself.
    while world.query("b", COMPLETE) != "2" {
        assert!(began.elapsed() < 9 * PATIENCE, "she is not hosted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("and hosted after {:?}", began.elapsed());
    let row = format!(
        "select begun_at_sequence from owner where owner_key = {}",
        world.key_of("alice")
    );
    let (life, began) = (world.query("b", &row), Instant::now());
    let always_hosted = async {
        loop {
            assert_eq!(
                world.query("b", COMPLETE),
                "2",
                "somebody is not hosted meanwhile"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let code = tokio::select! {
        (code, _) = world.run("b", &["replay"]) => code,
        () = always_hosted => unreachable!(),
    };
    println!("replayed in {:?}", began.elapsed());
    assert_eq!(
        (code, world.query("b", COMPLETE), world.query("b", &row)),
        (0, "2".into(), life)
    );
    stop.store(true, Ordering::Relaxed);
    let (puts, pending) = others.await.expect("no panic");
    println!("meanwhile somebody else made {puts} puts, {pending} of them pending");
    assert!(
        puts > 20 && pending * 10 <= puts,
        "{pending} of {puts} puts did not find their row in time"
    );
    let (code, told) = world.run("b", &["verify", "--json"]).await;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(
        (code, &told["counts"]["equal"], &told["counts"]["unclear"]),
        (0, &json!(2), &json!(0)),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_with_as_many_items_as_they_may_have_moves_whole() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let puts = (0..500).map(|number| {
        let alice = &alice;
        async move {
            alice
                .put_text("a", &format!("note-{number}"), "a-favourite-text")
                .await
        }
    });
    let mut puts: Vec<_> = puts.collect();
    while !puts.is_empty() {
        let some = puts.split_off(puts.len().saturating_sub(20));
        futures::future::join_all(some).await;
    }
    let began = Instant::now();
    let list: Value = alice.done("b.list", &json!({"limit": 500})).await;
    let took = began.elapsed();
    println!(
        "the first list of an owner with 500 items, on a shard that has never seen them: {took:?}"
    );
    assert_eq!(list["items"].as_array().map(Vec::len), Some(500));
    assert!(list["next_cursor"].is_null() && list["stale"].is_null());
    assert_eq!(
        (world.query("b", COMPLETE), world.query("b", ROWS)),
        ("1".into(), "500".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn older_versions_follow_behind_and_a_request_id_is_honoured_beyond_what_the_bucket_keeps() {
    let (world, _a, b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let note = |text: &str| json!({"kind": "text", "id": "note", "data": {"text": text}});
    let first = alice
        .ask_once("a.put", "request-1", &note("first"))
        .await
        .body;
    for number in 0..10 {
        alice.done("a.put", &note(&number.to_string())).await;
    }
    assert_eq!(items(&alice, "b").await, 1);
    world
        .until("b", "select history_complete from owner", "t")
        .await;
    let all = "select string_agg(version::text, ',' order by version), count(request_id) from item_version";
    assert_eq!(world.query("b", all), world.query("a", all));
    assert_eq!(
        world.query("b", ROWS),
        "1",
        "none of the older ones is an item's row"
    );
    // Sixteen later the bucket has forgotten it; b has not.
    for number in 0..16 {
        alice.done("a.put", &note(&number.to_string())).await;
    }
    assert_eq!(
        alice
            .ask_once("b.put", "request-1", &note("first"))
            .await
            .body,
        first
    );
    // A worker that ended before it was done leaves it to the next.
    b.stop().await.expect("stopped in order");
    world.query("b", "update owner set history_complete = false");
    let kept = world.query("b", all);
    world.query(
        "b",
        "delete from item_version where version = (select max(version) from item_version) - 1",
    );
    let _b = world.worker("b").await;
    items(&alice, "b").await;
    world
        .until("b", "select history_complete from owner", "t")
        .await;
    assert_eq!(world.query("b", all), kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_or_an_eviction_meanwhile_leaves_the_history_open() {
    let (world, _workers, alice, store, _bucket) = with_alice_on_b().await;
    let owner = world.owner("alice");
    alice.put_text("b", "one", "y").await;
    items(&alice, "a").await;
    world
        .until("a", "select history_complete from owner", "t")
        .await;
    let open = "update owner set history_complete = false";
    world.query("a", open);
    let life = store
        .lacks_history(&owner)
        .await
        .expect("Postgres")
        .expect("open");
    store
        .reset_owner(&owner, "favorites")
        .await
        .expect("Postgres");
    assert!(
        !store
            .complete_history(&owner, life)
            .await
            .expect("Postgres"),
        "not hosted"
    );
    evict(&world, &store).await;
    let since = Instant::now();
    while world.query("a", COMPLETE) != "1" {
        items(&alice, "a").await;
        assert!(since.elapsed() < PATIENCE, "she is not hosted again");
    }
    world.query("a", open);
    assert!(
        !store
            .complete_history(&owner, life)
            .await
            .expect("Postgres"),
        "another life"
    );
    let life = store
        .lacks_history(&owner)
        .await
        .expect("Postgres")
        .expect("open");
    assert!(
        store
            .complete_history(&owner, life)
            .await
            .expect("Postgres")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_older_than_they_are_kept_end_and_the_current_ones_stay() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    (settings.retention.versions_d, settings.retry.kept_h) = (10, 240);
    world.init(&settings).await.expect("init");
    let alice = world.caller("alice").await;
    let a = world.try_worker(settings.clone()).await.expect("a worker");
    for number in 0..3 {
        alice.put_text("a", "one", &number.to_string()).await;
        alice.put_text("a", "two", &number.to_string()).await;
    }
    a.stop().await.expect("stopped in order");
    world.query(
        "a",
        "update item_version set updated_at = now() - interval '9 days'",
    );
    let oldest = "(select version from item_version order by version limit 5)";
    world.query(
        "a",
        &format!("update item_version set updated_at = now() - interval '11 days' where version in {oldest}"),
    );
    // Of the five one is the current version of its item.
    world.query(
        "a",
        "delete from item_version where version = (select max(version) from item_version)",
    );
    assert_eq!(world.query("a", "select count(*) from item_version"), "5");
    let _a = world.try_worker(settings).await.expect("a worker");
    world
        .until("a", "select count(*) from item_version", "1")
        .await;
    assert_eq!(
        world.query(
            "a",
            "select v.version = min(i.version) from item_version v, item i group by v.version"
        ),
        "t"
    );
}

/// The lock that keeps hosting and projection apart, seen at the one moment that it is for.
#[tokio::test(flavor = "multi_thread")]
async fn hosting_waits_for_a_projection_that_has_looked_owners_up() {
    let (world, mut workers, alice, _store, bucket) = with_alice_on_b().await;
    // Nobody projects on a but this test.
    workers.remove(0).stop().await.expect("stopped in order");
    let mut settings = world.settings("a").postgres;
    settings.call_ms = 10_000;
    let store = Store::new(&settings).expect("settings");
    let mut projector = store
        .become_projector("favorites", &mut LockAttempt::default())
        .await
        .expect("Postgres")
        .expect("nobody else's");
    let from = projector.reached().await.expect("Postgres").sequence;
    let put = alice.put_text("b", "two", "x").await;
    let to = put["owner_version"].as_u64().expect("a version");
    let mut follower = bucket.follow(from).await.expect("a follower");
    let mut records = Vec::new();
    while records
        .last()
        .is_none_or(|(_, record): &(_, gofavorites::seal::Record)| record.version.get() < to)
    {
        records.extend(
            follower
                .next_batch(1)
                .await
                .expect("entries")
                .into_iter()
                .filter_map(|entry| entry.record),
        );
    }
    // The projection has found nobody hosted, and is held up before it commits.
    let (database, postgres) = (world.database("a"), &world.shared.postgres);
    let held_up = tokio::task::spawn_blocking(move || {
        postgres
            .query(
                &database,
                "select 1 from cursor for update; select pg_sleep(2)",
            )
            .expect("Postgres")
    });
    let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    world
        .until("a", &format!("{others} and wait_event = 'PgSleep'"), "1")
        .await;
    let projecting = tokio::spawn(async move {
        projector
            .store(&records, from, to)
            .await
            .map(|gaps| gaps.len())
    });
    world
        .until(
            "a",
            &format!("{others} and wait_event_type = 'Lock' and query ilike '%update cursor%'"),
            "1",
        )
        .await;
    let begun = store
        .begin_hosting(&world.owner("alice"), "favorites")
        .await
        .expect("Postgres");
    assert!(
        begun.begun_at >= to,
        "begun at {}: what was projected up to {to} was passed over",
        begun.begun_at
    );
    assert_eq!(projecting.await.expect("no panic").expect("stored"), 0);
    held_up.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_cannot_be_hosted_is_answered_and_hosting_is_not_tried_by_each_request() {
    let (world, _workers, alice, _store, _bucket) = with_alice_on_b().await;
    // A sequence counts what is rolled back too.
    world.query(
        "a",
        "create sequence tries; create function refuse() returns trigger language plpgsql as \
         $$ begin perform nextval('tries'); raise exception 'refused'; end $$; \
         create trigger refuse before insert on item for each statement execute function refuse()",
    );
    let since = Instant::now();
    let mut answers = 0;
    while since.elapsed() < Duration::from_millis(1_200) {
        assert_eq!(items(&alice, "a").await, 1);
        answers += 1;
    }
    let tries: usize = world
        .query("a", "select last_value from tries")
        .parse()
        .expect("a number");
    println!("{answers} answers, and {tries} tries");
    assert!(
        (1..=4).contains(&tries) && answers > 3 * tries,
        "{tries} tries with {answers} requests"
    );
    assert_eq!(world.query("a", COMPLETE), "0");
    world.query("a", "drop trigger refuse on item");
    let since = Instant::now();
    while world.query("a", COMPLETE) != "1" {
        assert_eq!(items(&alice, "a").await, 1);
        assert!(since.elapsed() < PATIENCE, "she is not hosted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long_is_ended_and_does_not_prove_that_postgres_is_away() {
    let (world, mut workers, _alice, _store, _bucket) = with_alice_on_b().await;
    // Nobody asks Postgres but this test.
    workers.remove(0).stop().await.expect("stopped in order");
    let (store, owner) = (world.store("a"), world.owner("alice"));
    let (database, postgres) = (world.database("a"), &world.shared.postgres);
    let held_up = tokio::task::spawn_blocking(move || {
        postgres
            .query(&database, "begin; lock table owner; select pg_sleep(3)")
            .expect("Postgres")
    });
    let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    world
        .until("a", &format!("{others} and wait_event = 'PgSleep'"), "1")
        .await;
    assert!(store.hosts(&owner).await.is_err(), "its time is up");
    let reached = store.reached("favorites").await;
    assert!(
        reached.is_ok_and(|reached| reached.is_some()),
        "others are answered"
    );
    assert_eq!((store.is_up(), store.breaker().opened()), (true, 0));
    assert_eq!(
        world.query("a", &format!("{others} and wait_event_type = 'Lock'")),
        "0",
        "it waits for no lock"
    );
    assert_eq!(
        world.query("a", &format!("{others} and wait_event = 'PgSleep'")),
        "1",
        "that is still held"
    );
    held_up.await.expect("no panic");
}
