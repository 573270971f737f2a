//! Hosting: an owner's copy is never served incomplete, whatever happens between its two steps, and
//! an owner whose copy was deleted is hosted again.

use crate::harness::{Caller, Worker, World};
use gofavorites::domain::Version;
use gofavorites::seal::{OwnerKey, Record};
use gofavorites::shard::{
    Hosting, HostingOutcome, LockAttempt, OwnerCopy, Projector, Store, VersionPosition,
};
use gofavorites::truth::{Bucket, Delta};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long it may take until an owner is hosted again.
const HOSTING_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of the bucket.
const BUCKET: &str = "favorites";

const ROWS: &str = "select count(*) from item";
const COMPLETE: &str = "select count(*) from owner where complete_to is not null";
const HISTORY_COMPLETE: &str = "select history_complete from owner";

/// The other connections to a shard's database.
const OTHERS: &str = "select count(*) from pg_stat_activity \
                      where datname = current_database() and pid <> pg_backend_pid()";

/// Cancels what other connections to a shard's database execute, and counts them.
const CANCEL_OTHERS: &str = "select count(pg_cancel_backend(pid)) from pg_stat_activity \
                             where datname = current_database() and pid <> pg_backend_pid()";

/// Returns how many items a shard lists. The list must be current.
async fn count_items(caller: &Caller, shard: &str) -> usize {
    let body = json!({"limit": 500});
    let list = caller.done(&format!("{shard}.list"), &body).await;

    assert!(list["stale"].is_null(), "{list}");

    list["items"].as_array().expect("a list").len()
}

/// Reads on shard a until the shard hosts one owner completely. Each list must have so many items.
async fn read_until_hosted(world: &World, caller: &Caller, items: usize) {
    let start = Instant::now();

    while world.query("a", COMPLETE) != "1" {
        assert_eq!(count_items(caller, "a").await, items);
        assert!(start.elapsed() < HOSTING_TIMEOUT, "the owner is not hosted");
    }
}

/// Two shards. Alice has written on shard b, and shard a does not host her yet.
struct Scenario {
    store: Store,
    bucket: Bucket,
    owner: OwnerKey,
    alice: Caller,
    worker_of_a: Option<Worker>,
    _worker_of_b: Worker,
    world: World,
}

impl Scenario {
    async fn start() -> Self {
        let (world, a, b) = World::with_two_shards().await;
        let alice = world.caller("alice").await;
        let put = alice.put_text("b", "one", "x").await;
        world.until_projected("a", &put).await;

        Self {
            store: world.store("a"),
            bucket: world.bucket("a").await,
            owner: world.owner("alice"),
            alice,
            worker_of_a: Some(a),
            _worker_of_b: b,
            world,
        }
    }

    async fn stop_worker_of_a(&mut self) {
        let worker = self.worker_of_a.take().expect("a worker");

        worker.stop().await.expect("stopped in order");
    }

    /// The first step of hosting.
    async fn begin(&self) -> Hosting {
        self.store
            .begin_hosting(&self.owner, BUCKET)
            .await
            .expect("Postgres")
    }

    /// Fetches the owner's records.
    async fn fetch(&self) -> Delta {
        self.bucket
            .since_confirmed(&self.owner, Version::NONE)
            .await
            .expect("the bucket")
    }

    /// The second step of hosting, with the records that were fetched.
    async fn complete(&self, fetched: &Delta, up_to: u64) -> HostingOutcome {
        let copy = OwnerCopy {
            owner: self.owner,
            bucket: BUCKET.to_owned(),
            records: fetched.records.clone(),
            up_to,
        };

        self.store.complete_hosting(&copy).await.expect("Postgres")
    }

    /// Evicts alice, as an operator would in 90 days.
    async fn evict(&self) {
        let age = "update owner set seen_at = now() - interval '91 days'";

        // The worker stores in the background that it has just seen alice, which may come after the
        // first update.
        let start = Instant::now();
        loop {
            self.world.query("a", age);
            if self.store.evict(90, 100).await.expect("Postgres") == 1 {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "not evicted");
        }
    }
}

/// Returns the stream sequence up to which the records are complete.
fn up_to(fetched: &Delta) -> u64 {
    fetched.up_to.expect("records").get()
}

/// Goal: the rows of an owner whose hosting was interrupted are not served.
///
/// Method: shard a reaches the bucket through a link, which freezes after the first step. The
/// worker of shard a is killed then, and another one starts. Alice writes on shard b meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_incompletely_hosted_owner_are_not_served() {
    let (world, hub) = World::behind_a_hub().await;
    let _b = world.worker("b").await;
    let alice = world.caller("alice").await;
    for number in 0..5 {
        alice.put_text("b", &format!("note-{number}"), "x").await;
    }

    world.init(&world.settings("a")).await.expect("init");
    let mut a = world.program("a", &["serve"]).spawn().expect("it starts");
    world.wait_for_worker("a").await;

    hub.link.freeze();
    let request = tokio::spawn({
        let alice = alice.clone();
        async move { alice.ask("a.list", &json!({})).await }
    });

    let begun = "select count(*) from owner where complete_to is null";
    world.until("a", begun, "1").await;
    a.kill().await.expect("killed");
    request.abort();

    hub.link.heal();
    world.wait_for_the_truth().await;
    assert_eq!(world.query("a", COMPLETE), "0");

    world.wait_for_worker("b").await;
    let put = alice.put_text("b", "one-more", "x").await;
    let _a = world.worker("a").await;
    world.until_projected("a", &put).await;

    assert_eq!(world.query("a", ROWS), "1", "the projected row");

    assert_eq!(
        count_items(&alice, "a").await,
        6,
        "the answer is complete nevertheless"
    );
    world.until("a", COMPLETE, "1").await;
    assert_eq!(world.query("a", ROWS), "6");
}

/// Goal: records that were fetched before an eviction do not complete the copy that begins after
/// it.
///
/// Method: the two steps of hosting run by hand, with an eviction and a write on shard b between
/// them. Then the first step runs again, and alice reads on shard a.
#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_between_the_two_steps_is_noticed() {
    let scenario = Scenario::start().await;
    let world = &scenario.world;
    scenario.begin().await;
    let fetched = scenario.fetch().await;
    let up_to = up_to(&fetched);

    scenario.evict().await;
    // The projection skips this record, because no owner is hosted.
    let put = scenario.alice.put_text("b", "two", "x").await;
    world.until_projected("a", &put).await;
    let outcome = scenario.complete(&fetched, up_to).await;

    assert_eq!(outcome, HostingOutcome::NotBegun);
    assert_eq!(world.query("a", "select count(*) from owner"), "0");

    // The new row begins beyond what the fetched records reach.
    let again = scenario.begin().await;
    let outcome = scenario.complete(&fetched, up_to).await;

    assert!(again.begun_at >= put["owner_version"].as_u64().expect("a version"));
    assert_eq!(outcome, HostingOutcome::NotBegun);
    assert_eq!(world.query("a", COMPLETE), "0");

    assert_eq!(count_items(&scenario.alice, "a").await, 2);
    world.until("a", COMPLETE, "1").await;

    let outcome = scenario.complete(&fetched, up_to).await;
    assert_eq!(
        outcome,
        HostingOutcome::Already,
        "a complete copy is not changed"
    );
    assert_eq!(world.query("a", ROWS), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_a_lagging_replica_completes_nothing() {
    let scenario = Scenario::start().await;
    let world = &scenario.world;
    // A lagging replica would return this: all records up to the first one.
    let lagging = scenario.fetch().await;
    let put = scenario.alice.put_text("b", "two", "x").await;
    world.until_projected("a", &put).await;
    let begun_at = scenario.begin().await.begun_at;

    let outcome = scenario.complete(&lagging, begun_at - 1).await;

    assert_eq!(outcome, HostingOutcome::NotBegun);
    assert_eq!(world.query("a", COMPLETE), "0");
    assert_eq!(world.query("a", ROWS), "0");
    assert_eq!(count_items(&scenario.alice, "a").await, 2);
}

/// Goal: records complete no copy if the projection has stored something newer.
///
/// Method: the two steps of hosting run by hand. Between them alice writes twice on shard b, and
/// one of the two projected rows is deleted. Then alice reads on shard a.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_projection_has_overtaken_complete_nothing() {
    let scenario = Scenario::start().await;
    let world = &scenario.world;
    scenario.begin().await;
    let fetched = scenario.fetch().await;
    scenario.alice.put_text("b", "two", "x").await;
    let put = scenario.alice.put_text("b", "three", "x").await;
    world.until_projected("a", &put).await;
    let lose_oldest = "delete from item where version = (select min(version) from item) \
                       returning item_key, sealed";
    assert!(!world.query("a", lose_oldest).is_empty());

    let outcome = scenario.complete(&fetched, up_to(&fetched)).await;

    assert_eq!(outcome, HostingOutcome::Overtaken);
    assert_eq!(world.query("a", COMPLETE), "0");
    assert_eq!(world.query("a", ROWS), "1", "nothing was stored");

    // A worker fetches what is newer too, and stores the lost row again.
    assert_eq!(count_items(&scenario.alice, "a").await, 3);
    world.until("a", COMPLETE, "1").await;
    assert_eq!(world.query("a", ROWS), "3");
}

/// Goal: a copy that lacks a row is rebuilt, and the shard still recognises a request whose record
/// the bucket no longer keeps.
///
/// Method: alice writes an item many times, first with a request id. The worker stops, a row is
/// deleted, and a new worker starts. Alice lists, and repeats the request.
#[tokio::test(flavor = "multi_thread")]
async fn incomplete_rows_are_rebuilt_and_request_ids_still_honoured() {
    let (world, a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let note = |text: &str| json!({"kind": "text", "id": "note-0", "data": {"text": text}});
    let first = alice.ask_once("a.put", "request-1", &note("first")).await;
    for number in 0..20 {
        alice.done("a.put", &note(&number.to_string())).await;
        alice.put_text("a", &format!("note-{number}"), "x").await;
    }

    a.stop().await.expect("stopped in order");
    let lose_oldest = "delete from item where version = (select min(version) from item)";
    world.query("a", lose_oldest);
    let _again = world.worker("a").await;

    assert_eq!(count_items(&alice, "a").await, 20);
    world.until("a", ROWS, "20").await;
    assert_eq!(world.query("a", COMPLETE), "1");

    let again = alice.ask_once("a.put", "request-1", &note("first")).await;
    assert_eq!(again.body["item"], first.body["item"]);
    assert_eq!(again.body["owner_version"], first.body["owner_version"]);
}

/// Returns the stream sequence at which the owner's row on shard b began.
fn begun_at_on_b(world: &World, subject: &str) -> u64 {
    let key = world.key_of(subject);
    let statement = format!("select begun_at_sequence from owner where owner_key = {key}");

    world.query("b", &statement).parse().expect("a number")
}

/// Goal: if the bucket no longer keeps versions that a shard has missed, the shard hosts the owner
/// again. An owner whose versions are all kept stays as is.
///
/// Method: the bucket keeps one record of each key. While shard b is down, alice writes one item
/// several times, so that versions are lost, and bob writes each of his items once.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_with_missed_versions_is_hosted_again() {
    let world = World::start().await;
    let settings = |shard| {
        let mut settings = world.settings(shard);
        settings.truth.history = 1;

        settings
    };
    let _a = world.worker_with(settings("a")).await;
    let b = world.worker_with(settings("b")).await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    for caller in [&alice, &bob] {
        caller.put_text("a", "one", "x").await;
        caller.put_text("a", "two", "x").await;
        assert_eq!(count_items(caller, "b").await, 2);
    }
    world.until("b", COMPLETE, "2").await;

    let alice_begun_at = begun_at_on_b(&world, "alice");
    let bob_begun_at = begun_at_on_b(&world, "bob");

    b.stop().await.expect("stopped in order");
    for number in 0..3 {
        alice.put_text("a", "one", &number.to_string()).await;
    }
    alice.put_text("a", "two", "y").await;
    bob.put_text("a", "one", "y").await;
    let last = bob.put_text("a", "two", "y").await;

    let _b = world.try_worker(settings("b")).await.expect("a worker");
    world.until_projected("b", &last).await;
    // Until then, alice's old copy counts as complete.
    let alice_key = world.key_of("alice");
    let is_hosted_again = format!(
        "select begun_at_sequence > {alice_begun_at} from owner where owner_key = {alice_key}"
    );
    world.until("b", &is_hosted_again, "t").await;
    world.until("b", COMPLETE, "2").await;

    assert_eq!(
        begun_at_on_b(&world, "bob"),
        bob_begun_at,
        "bob's copy is the old one"
    );

    let versions = "select string_agg(version::text, ',' order by version) from item";
    assert_eq!(world.query("b", versions), world.query("a", versions));
    assert_eq!(count_items(&alice, "b").await, 2);
    assert_eq!(count_items(&bob, "b").await, 2);
}

/// Goal: all workers of a shard notice that an owner was evicted, and one hosts the owner again.
///
/// Method: both workers of a shard have alice and bob in memory. Alice is evicted by hand, and
/// reads until she is hosted.
#[tokio::test(flavor = "multi_thread")]
async fn workers_host_an_evicted_owner_again() {
    let world = World::start().await;
    let _first = world.worker("a").await;
    let _second = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let key = world.key_of("alice");
    let store = world.store("a");

    for number in 0..8 {
        alice.put_text("a", &format!("note-{number}"), "x").await;
        bob.put_text("a", "note", "x").await;
    }

    let age = "update owner set seen_at = now() - interval '91 days'";
    let mut tries = 0;
    loop {
        world.query("a", &format!("{age} where owner_key = {key}"));
        assert_eq!(store.evict(92, 10).await.expect("Postgres"), 0);
        if store.evict(90, 10).await.expect("Postgres") == 1 {
            break;
        }
        // Each of the two workers stores once that it has just seen alice.
        tries += 1;
        assert!(tries <= 2, "alice is not evicted");
    }

    let rows_of_alice = |table: &str| {
        let statement = format!("select count(*) from {table} where owner_key = {key}");

        world.query("a", &statement)
    };
    for table in ["owner", "item", "item_version"] {
        assert_eq!(rows_of_alice(table), "0", "{table}");
    }

    let owners = world.query("a", "select count(*) from owner");
    assert_eq!(owners, "1", "bob stays");

    let start = Instant::now();
    while rows_of_alice("item") != "8" {
        assert_eq!(count_items(&alice, "a").await, 8);
        assert!(
            start.elapsed() < HOSTING_TIMEOUT,
            "alice is not hosted again"
        );
    }

    let put = alice.put_text("a", "one-more", "x").await;
    world.until_projected("a", &put).await;
    assert_eq!(rows_of_alice("item"), "9");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_missed_by_the_listener_is_noticed_later() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;

    // This stands for an eviction while the listener had lost its connection.
    world.query("a", "delete from owner");
    let disconnect = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                      where application_name = 'gofavorites listener' \
                      and datname = current_database()";
    world.until("a", disconnect, "1").await;

    read_until_hosted(&world, &alice, 1).await;
}

/// Goal: a worker stores that it has seen an owner, but not again within an hour.
///
/// Method: alice was seen 30 days ago, and bob 59 minutes ago. A new worker starts, and both read.
#[tokio::test(flavor = "multi_thread")]
async fn last_seen_times_are_stored_at_most_once_an_hour() {
    let world = World::start().await;
    let a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let key = world.key_of("bob");
    alice.put_text("a", "note", "x").await;
    bob.put_text("a", "note", "x").await;

    a.stop().await.expect("stopped in order");
    let days_ago = "update owner set seen_at = now() - interval '30 days'";
    let minutes_ago = "update owner set seen_at = now() - interval '59 minutes'";
    world.query("a", days_ago);
    world.query("a", &format!("{minutes_ago} where owner_key = {key}"));
    let bob_seen_at = format!("select seen_at from owner where owner_key = {key}");
    let before = world.query("a", &bob_seen_at);

    let _a = world.worker("a").await;
    count_items(&alice, "a").await;
    count_items(&bob, "a").await;

    let seen_today = "select count(*) from owner where seen_at > now() - interval '1 day'";
    world.until("a", seen_today, "2").await;
    assert_eq!(world.query("a", &bob_seen_at), before);
}

/// The number of items of a heavy owner, which are more than one answer of the bucket holds.
const HEAVY_ITEMS: usize = 380;

/// Puts items of 190 KB each.
async fn fill(caller: &Caller) {
    let text = "x".repeat(65_000);
    let value = "y".repeat(4_000);
    let meta: Value = (0..31)
        .map(|number| (format!("m{number}"), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into();

    for number in 0..HEAVY_ITEMS {
        let id = format!("large-{number}");
        let item = json!({"kind": "text", "id": id, "data": {"text": text}, "meta": meta});
        caller.done("a.put", &item).await;
    }
}

/// Returns how many items shard b lists, in as many pages as it takes.
async fn count_in_pages_on_b(caller: &Caller) -> usize {
    let mut listed = 0;
    let mut cursor = None;

    loop {
        let mut headers = caller.headers();
        headers.insert("Request-Timeout-Ms", "30000");
        let mut body = json!({"limit": 500});

        if let Some(cursor) = cursor {
            body["cursor"] = cursor;
        }

        let bytes = body.to_string().into_bytes();
        let page = caller.ask_with("b.list", headers, bytes).await.body;
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

/// A caller who writes on shard b all the time.
struct BackgroundWriter {
    stop: Arc<AtomicBool>,
    writing: JoinHandle<PutCounts>,
}

#[derive(Default)]
struct PutCounts {
    all: usize,
    /// Those whose row was not stored in time.
    pending: usize,
}

impl BackgroundWriter {
    fn start(caller: Caller) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn(Self::write(caller, stop.clone()));

        Self { stop, writing }
    }

    async fn write(caller: Caller, stop: Arc<AtomicBool>) -> PutCounts {
        let mut puts = PutCounts::default();

        while !stop.load(Ordering::Relaxed) {
            let id = format!("note-{}", puts.all % 50);
            let put = caller.put_text("b", &id, "x").await;

            puts.all += 1;
            puts.pending += usize::from(put["local"] == "pending");
        }

        puts
    }

    async fn finish(self) -> PutCounts {
        self.stop.store(true, Ordering::Relaxed);

        self.writing.await.expect("no panic")
    }
}

/// Runs `replay` on shard b, during which both owners must be hosted all the time. Returns its exit
/// code.
async fn replay_on_b(world: &World) -> i32 {
    let always_hosted = async {
        loop {
            assert_eq!(
                world.query("b", COMPLETE),
                "2",
                "both owners are hosted during the replay"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };

    tokio::select! {
        (code, _) = world.run("b", &["replay"]) => code,
        () = always_hosted => unreachable!(),
    }
}

/// Goal: a heavy owner is hosted and rebuilt completely, and other owners are served meanwhile.
///
/// Method: alice has more items than one answer of the bucket holds. Shard b hosts her, and an
/// operator replays the shard, while bob writes there all the time. At last `verify` compares both
/// owners with the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_owner_is_hosted_and_rebuilt_while_others_write() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    fill(&alice).await;
    let _b = world.worker("b").await;
    bob.put_text("b", "note", "x").await;
    let writer = BackgroundWriter::start(bob);

    let start = Instant::now();
    assert_eq!(count_in_pages_on_b(&alice).await, HEAVY_ITEMS);
    let took = start.elapsed();

    println!("another shard listed {HEAVY_ITEMS} items of 190 KB each in {took:?}");

    // Hosting goes on in the background.
    while world.query("b", COMPLETE) != "2" {
        assert!(start.elapsed() < 9 * HOSTING_TIMEOUT, "alice is not hosted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    println!("and hosted the owner after {:?}", start.elapsed());

    let begun_at = begun_at_on_b(&world, "alice");
    let start = Instant::now();
    let code = replay_on_b(&world).await;
    println!("replayed in {:?}", start.elapsed());

    assert_eq!(code, 0);
    assert_eq!(world.query("b", COMPLETE), "2");
    assert_eq!(begun_at_on_b(&world, "alice"), begun_at, "the same row");

    let PutCounts { all, pending } = writer.finish().await;
    println!("meanwhile another owner made {all} puts, {pending} of them pending");
    assert!(all > 20, "{all} puts");
    assert!(
        pending * 10 <= all,
        "the rows of {pending} of {all} puts were not stored in time"
    );

    let (code, report) = world.run("b", &["verify", "--json"]).await;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["counts"]["equal"], 2, "{report}");
    assert_eq!(report["counts"]["unclear"], 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_with_the_most_items_allowed_is_hosted() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let numbers: Vec<usize> = (0..500).collect();

    for chunk in numbers.chunks(20) {
        let puts = chunk.iter().map(|number| {
            let alice = &alice;
            let id = format!("note-{number}");
            async move { alice.put_text("a", &id, "a-favourite-text").await }
        });

        futures::future::join_all(puts).await;
    }

    let start = Instant::now();
    let list = alice.done("b.list", &json!({"limit": 500})).await;
    let took = start.elapsed();

    println!("the first list of 500 items on a shard that has never served the owner: {took:?}");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(500));
    assert!(list["next_cursor"].is_null());
    assert!(list["stale"].is_null());
    world.until("b", COMPLETE, "1").await;
    assert_eq!(world.query("b", ROWS), "500");
}

/// Goal: after an owner is hosted, the shard gets the older versions too. It then recognises a
/// request whose record the bucket no longer keeps.
///
/// Method: alice writes an item often, first with a request id, and reads on shard b. After more
/// writes she repeats the request there. Then the worker of shard b stops, as if it had not
/// finished: its mark and a version are deleted, and a new worker starts.
#[tokio::test(flavor = "multi_thread")]
async fn older_versions_follow_and_keep_request_ids_honoured() {
    let (world, _a, b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let note = |text: &str| json!({"kind": "text", "id": "note", "data": {"text": text}});
    let first = alice.ask_once("a.put", "request-1", &note("first")).await;

    for number in 0..10 {
        alice.done("a.put", &note(&number.to_string())).await;
    }

    assert_eq!(count_items(&alice, "b").await, 1);
    world.until("b", HISTORY_COMPLETE, "t").await;
    let versions = "select string_agg(version::text, ',' order by version), count(request_id) \
                    from item_version";
    assert_eq!(world.query("b", versions), world.query("a", versions));
    assert_eq!(
        world.query("b", ROWS),
        "1",
        "an older version is no row of the item"
    );

    // Sixteen writes later the bucket no longer keeps the first record. Shard b does.
    for number in 0..16 {
        alice.done("a.put", &note(&number.to_string())).await;
    }

    let again = alice.ask_once("b.put", "request-1", &note("first")).await;
    assert_eq!(again.body, first.body);

    b.stop().await.expect("stopped in order");
    let kept = world.query("b", versions);
    world.query("b", "update owner set history_complete = false");
    let second_newest = "(select max(version) from item_version) - 1";
    let lose_version = format!("delete from item_version where version = {second_newest}");
    world.query("b", &lose_version);

    let _b = world.worker("b").await;
    count_items(&alice, "b").await;
    world.until("b", HISTORY_COMPLETE, "t").await;

    assert_eq!(world.query("b", versions), kept);
}

/// Goal: a worker marks an owner's history complete only if the owner's row is still the one for
/// which it fetched the versions.
///
/// Method: the mark is removed, and the life of the row is read. The owner is reset, then evicted
/// and hosted again. Each time the old life must not set the mark.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_or_an_eviction_leaves_the_history_incomplete() {
    let scenario = Scenario::start().await;
    let Scenario {
        world,
        store,
        owner,
        alice,
        ..
    } = &scenario;
    let mark_incomplete = "update owner set history_complete = false";
    let complete_history = async |life| {
        let completed = store.complete_history(owner, life).await;

        completed.expect("Postgres")
    };

    alice.put_text("b", "one", "y").await;
    count_items(alice, "a").await;
    world.until("a", HISTORY_COMPLETE, "t").await;

    world.query("a", mark_incomplete);
    let life = store.lacks_history(owner).await.expect("Postgres");
    let life = life.expect("incomplete");
    store.reset_owner(owner, BUCKET).await.expect("Postgres");
    assert!(!complete_history(life).await, "the owner is not hosted");

    scenario.evict().await;
    read_until_hosted(world, alice, 1).await;
    // Otherwise the worker may complete it after the mark is removed.
    world.until("a", HISTORY_COMPLETE, "t").await;

    world.query("a", mark_incomplete);
    assert!(!complete_history(life).await, "it is another row");

    let life = store.lacks_history(owner).await.expect("Postgres");
    assert!(complete_history(life.expect("incomplete")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_expire_and_current_ones_stay() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.retention.versions_d = 10;
    settings.retry.kept_h = 240;
    world.init(&settings).await.expect("init");
    let alice = world.caller("alice").await;
    let a = world.try_worker(settings.clone()).await.expect("a worker");
    for number in 0..3 {
        alice.put_text("a", "one", &number.to_string()).await;
        alice.put_text("a", "two", &number.to_string()).await;
    }

    a.stop().await.expect("stopped in order");

    // One of the five oldest versions is the current version of its item. The newest is deleted.
    let nine_days_ago = "update item_version set updated_at = now() - interval '9 days'";
    let eleven_days_ago = "update item_version set updated_at = now() - interval '11 days'";
    let oldest = "(select version from item_version order by version limit 5)";
    let newest = "(select max(version) from item_version)";
    world.query("a", nine_days_ago);
    world.query("a", &format!("{eleven_days_ago} where version in {oldest}"));
    let lose_newest = format!("delete from item_version where version = {newest}");
    world.query("a", &lose_newest);

    let count = "select count(*) from item_version";
    assert_eq!(world.query("a", count), "5");

    let _a = world.try_worker(settings).await.expect("a worker");
    world.until("a", count, "1").await;

    let is_current = "select v.version = min(i.version) \
                      from item_version v, item i group by v.version";
    assert_eq!(world.query("a", is_current), "t");
}

/// Inserts rows of `owners` owners that are hosted, and of `items` items of each: a current version
/// and one that it superseded, both of 100 days ago.
fn insert_owners(world: &World, owners: u32, items: u32) {
    let owner = format!(
        "(select n, decode(md5('o' || n), 'hex') as key from generate_series(1, {owners}) n) o"
    );
    let item = format!(
        "(select m, decode(md5('i' || m), 'hex') as key from generate_series(1, {items}) m) i"
    );
    let row = "'x'::bytea, false, now() - interval '100 days'";

    for statement in [
        format!("insert into owner (owner_key, complete_to) select o.key, 1 from {owner}"),
        format!("insert into item select o.key, i.key, 1000 + m, {row} from {owner}, {item}"),
        format!(
            "insert into item_version select o.key, i.key, 1000 + m, {row} from {owner}, {item}"
        ),
        format!("insert into item_version select o.key, i.key, m, {row} from {owner}, {item}"),
    ] {
        world.query("a", &statement);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_old_versions_are_deleted_in_steps() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let store = world.store("a");
    insert_owners(&world, 40, 200);

    let mut position = Some(VersionPosition::default());
    let mut deleted = Vec::new();
    while let Some(from) = position {
        let ended = store.end_versions(90, &from).await.expect("Postgres");
        deleted.push(ended.deleted);
        position = ended.next;
    }

    assert!(deleted.len() > 3, "in steps: {deleted:?}");
    assert!(deleted.iter().all(|step| *step <= 5_000), "{deleted:?}");
    assert_eq!(deleted.iter().sum::<u64>(), 8_000);
    let current =
        "select count(*) from item_version join item using (owner_key, item_key, version)";
    assert_eq!(world.query("a", current), "8000");
    assert_eq!(
        world.query("a", "select count(*) from item_version"),
        "8000"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_histories_of_many_owners_are_completed() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let store = world.store("a");
    insert_owners(&world, 2_500, 1);
    let later = "(select owner_key from owner order by owner_key desc limit 3)";
    world.query(
        "a",
        &format!("update owner set begun_at_sequence = 6 where owner_key in {later}"),
    );

    let now = store.clock().await.expect("Postgres");
    let completed = store.complete_histories(now, 5).await.expect("Postgres");

    assert_eq!(completed, 2_497, "all but those that began later");
    let count = "select count(*) from owner where history_complete";
    assert_eq!(world.query("a", count), "2497");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_unseen_for_longest_are_evicted_first() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let store = world.store("a");
    insert_owners(&world, 50, 1);
    let last = "(select max(owner_key) from owner)";
    world.query("a", "update owner set seen_at = now() - interval '91 days'");
    world.query(
        "a",
        &format!("update owner set seen_at = now() - interval '99 days' where owner_key = {last}"),
    );
    let oldest = world.query("a", &format!("select {last}"));

    assert_eq!(store.evict(90, 1).await.expect("Postgres"), 1);
    assert_ne!(world.query("a", &format!("select {last}")), oldest);
    assert_eq!(store.evict(90, 100).await.expect("Postgres"), 49);
    assert_eq!(world.query("a", "select count(*) from owner"), "0");
}

/// Runs statements in shard a's database on a thread of their own, and waits until they sleep. They
/// hold their locks until [`wake`] ends them.
async fn run_until_asleep(world: &World, statements: &str) {
    let database = world.database("a");
    let postgres = &world.shared.postgres;
    let statements = format!("{statements}; select pg_sleep(300)");
    tokio::task::spawn_blocking(move || postgres.query(&database, &statements));

    let asleep = format!("{OTHERS} and wait_event = 'PgSleep'");
    world.until("a", &asleep, "1").await;
}

/// Ends what sleeps, and waits until its locks are free.
async fn wake(world: &World) {
    let cancel = format!("{CANCEL_OTHERS} and wait_event = 'PgSleep'");
    assert_eq!(world.query("a", &cancel), "1", "it still slept");

    let asleep = format!("{OTHERS} and wait_event = 'PgSleep'");
    world.until("a", &asleep, "0").await;
}

/// Follows the bucket until the record of that version.
async fn follow(bucket: &Bucket, from: u64, to: u64) -> Vec<(OwnerKey, Record)> {
    let mut follower = bucket.follow(from).await.expect("a follower");
    let mut records: Vec<(OwnerKey, Record)> = Vec::new();

    while records
        .last()
        .is_none_or(|(_, record)| record.version.get() < to)
    {
        let entries = follower.next_batch(1).await.expect("entries");
        records.extend(entries.into_iter().filter_map(|entry| entry.record));
    }

    records
}

async fn become_projector(store: &Store) -> Projector {
    store
        .become_projector(BUCKET, &mut LockAttempt::default())
        .await
        .expect("Postgres")
        .expect("no other worker projects")
}

/// Goal: hosting begins either before the projection looks owners up, or with the cursor that the
/// projection has moved. So neither misses the other.
///
/// Method: the projection of shard a runs by hand and stores a record of alice, whom it does not
/// find hosted. Another connection locks the cursor, so that the projection stands still right
/// before its commit. Hosting begins at this moment.
#[tokio::test(flavor = "multi_thread")]
async fn hosting_waits_for_a_projection_that_has_looked_owners_up() {
    let mut scenario = Scenario::start().await;
    scenario.stop_worker_of_a().await;
    let world = &scenario.world;
    let mut settings = world.settings("a").postgres;
    settings.call_ms = 10_000;
    let store = Store::new(&settings).expect("settings");
    let mut projector = become_projector(&store).await;
    let from = projector.reached().await.expect("Postgres").sequence;
    let put = scenario.alice.put_text("b", "two", "x").await;
    let to = put["owner_version"].as_u64().expect("a version");
    let records = follow(&scenario.bucket, from, to).await;

    run_until_asleep(world, "select 1 from cursor for update").await;

    let projecting = tokio::spawn(async move {
        let gaps = projector.store(&records, from, to).await;

        gaps.map(|gaps| gaps.len())
    });

    let waiting = format!("{OTHERS} and wait_event_type = 'Lock'");
    let projects = format!("{waiting} and query ilike '%update cursor%'");
    world.until("a", &projects, "1").await;
    let hosting = tokio::spawn({
        let owner = scenario.owner;
        async move { store.begin_hosting(&owner, BUCKET).await }
    });
    world.until("a", &waiting, "2").await;
    wake(world).await;
    let begun = hosting.await.expect("no panic").expect("Postgres");

    assert!(
        begun.begun_at >= to,
        "begun at {}, so what was projected up to {to} is missing",
        begun.begun_at
    );
    assert_eq!(projecting.await.expect("no panic").expect("stored"), 0);
}

/// Goal: an owner whose hosting fails is served from the bucket. Hosting is retried after a pause,
/// and not by each request.
///
/// Method: a trigger in shard a's Postgres refuses every row and counts the attempts in a sequence,
/// which a rollback does not reset. Alice reads for more than a second. Then the trigger is
/// dropped.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_cannot_be_hosted_is_served_nevertheless() {
    let scenario = Scenario::start().await;
    let world = &scenario.world;
    let alice = &scenario.alice;
    let refuse_rows = "create sequence tries; \
                       create function refuse() returns trigger language plpgsql as $$ begin \
                         perform nextval('tries'); raise exception 'refused'; \
                       end $$; \
                       create trigger refuse before insert on item \
                         for each statement execute function refuse()";
    world.query("a", refuse_rows);

    let start = Instant::now();
    let mut answers = 0;
    while start.elapsed() < Duration::from_millis(1_200) {
        assert_eq!(count_items(alice, "a").await, 1);
        answers += 1;
    }

    let tries = world.query("a", "select last_value from tries");
    let tries: usize = tries.parse().expect("a number");

    println!("{answers} answers, and {tries} attempts to host");
    assert!((1..=4).contains(&tries), "{tries} attempts");
    assert!(
        answers > 3 * tries,
        "{tries} attempts with {answers} requests"
    );
    assert_eq!(world.query("a", COMPLETE), "0");

    world.query("a", "drop trigger refuse on item");
    read_until_hosted(world, alice, 1).await;
}

/// Goal: a call to Postgres that takes too long is cancelled, also on the server. It does not prove
/// that Postgres is unavailable, so the breaker stays closed.
///
/// Method: another connection locks the table of owners. The test calls Postgres
/// as a worker does, once for this table and once for another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_call_is_cancelled_and_opens_no_breaker() {
    let mut scenario = Scenario::start().await;
    scenario.stop_worker_of_a().await;
    let world = &scenario.world;
    let store = &scenario.store;
    run_until_asleep(world, "begin; lock table owner").await;

    let hosts = store.copy_state(&scenario.owner).await;
    let reached = store.reached(BUCKET).await;

    assert!(hosts.is_err(), "the call takes too long");
    assert!(
        reached.is_ok_and(|reached| reached.is_some()),
        "other calls are answered"
    );
    assert!(store.is_up());
    assert_eq!(store.breaker().opened(), 0);

    let waiting = world.query("a", &format!("{OTHERS} and wait_event_type = 'Lock'"));
    assert_eq!(waiting, "0", "the call no longer waits for the lock");
    let asleep = world.query("a", &format!("{OTHERS} and wait_event = 'PgSleep'"));
    assert_eq!(asleep, "1", "the lock is still held");
    wake(world).await;
}
