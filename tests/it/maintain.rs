//! Maintenance: forgetting old deletions. The floor is raised first, then the purge follows, and
//! no shard brings a forgotten item back.

use crate::harness::load::{Load, Outcome};
use crate::harness::{Caller, Proxy, World};
use gofavorites::app::{Maintenance, WaitLimit};
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::maintenance::Round;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The settings of maintenance that forgets every deletion, however young.
pub(crate) fn settings(world: &World) -> Settings {
    let mut settings = world.settings("a");
    world.connect_all_as(&mut settings, "maintain");
    settings.maintain.deletions_d = 0;

    settings
}

/// Runs one round of maintenance, in which no owner may fail.
pub(crate) async fn maintain(settings: &Settings) -> Round {
    let maintenance = Maintenance::build(settings, WaitLimit::FOREVER)
        .await
        .expect("built");
    let round = maintenance.once().await.expect("a round");
    assert_eq!(round.failed, 0);

    round
}

/// Deletes a text, and returns the version of its deletion.
pub(crate) async fn delete(caller: &Caller, shard: &str, id: &str) -> u64 {
    let body = json!({"kind": "text", "id": id});
    let reply = caller.done(&format!("{shard}.delete"), &body).await;

    reply["item"]["version"].as_u64().expect("a version")
}

fn ids(reply: &Value) -> Vec<&str> {
    reply["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["id"].as_str().expect("an id"))
        .collect()
}

async fn listed(caller: &Caller, shard: &str, consistency: &str) -> Vec<String> {
    let body = json!({"consistency": consistency});
    let reply = caller.done(&format!("{shard}.list"), &body).await;

    ids(&reply).into_iter().map(str::to_owned).collect()
}

async fn changes(caller: &Caller, shard: &str, since: u64) -> Value {
    let body = json!({"since": since});

    caller.done(&format!("{shard}.changes"), &body).await
}

fn owner_version(reply: &Value) -> u64 {
    reply["owner_version"].as_u64().expect("a version")
}

/// Asserts that the shard shows nothing of the forgotten item `two`, and refuses changes since a
/// version below the floor.
async fn assert_forgotten(world: &World, alice: &Caller, shard: &str, since: u64, floor: u64) {
    let history = json!({"kind": "text", "id": "two"});

    assert_eq!(listed(alice, shard, "head").await, ["one", "three"]);
    let all = changes(alice, shard, 0).await;
    assert_eq!(
        ids(&all),
        ["one", "three"],
        "a forgotten deletion is not returned"
    );
    let head = owner_version(&all);
    assert!(head > floor, "the floor record is newer than the deletions");

    let reply = alice
        .ask(&format!("{shard}.changes"), &json!({"since": since}))
        .await;
    let details = &reply.refusal("resync_required")["details"];
    assert_eq!(details["floor"], floor);
    assert_eq!(details["owner_version"], head);
    let from_floor = changes(alice, shard, floor).await;
    assert_eq!(ids(&from_floor), Vec::<&str>::new());

    let reply = alice.ask(&format!("{shard}.history"), &history).await;
    reply.refusal("not_found");
    // The projection removes the rows.
    let deleted = "select count(*) from item where deleted";
    world.until(shard, deleted, "0").await;
}

/// Goal: a forgotten item is gone from the bucket and from both shards, and versions still rise.
///
/// Method: one caller deletes two of four items on two shards, and maintenance forgets them. A
/// put then creates one of them again, and a second round has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_item_is_gone_and_versions_still_rise() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for id in ["one", "two", "three", "four"] {
        alice.put_text("a", id, "x").await;
    }

    let seen = owner_version(&changes(&alice, "b", 0).await);
    delete(&alice, "a", "two").await;
    let last = delete(&alice, "b", "four").await;

    let round = maintain(&settings(&world)).await;
    let expected = Round {
        owners: 1,
        tidied: 1,
        purged: 2,
        ..Round::default()
    };
    assert_eq!(round, expected);
    assert_eq!(
        world.records().await.len(),
        4,
        "the key, the floor and the two live items"
    );

    for shard in ["a", "b"] {
        assert_forgotten(&world, &alice, shard, seen, last).await;
    }

    let new = json!({"kind": "text", "id": "two", "data": {"text": "y"}, "if_version": 0});
    let new = alice.done("b.put", &new).await;
    assert!(new["item"]["version"].as_u64().expect("a version") > last);
    assert_eq!(listed(&alice, "a", "strong").await, ["one", "three", "two"]);

    let round = maintain(&settings(&world)).await;
    let nothing_to_do = Round {
        owners: 1,
        ..Round::default()
    };
    assert_eq!(round, nothing_to_do);
}

/// Goal: a forgotten item cannot be restored, although the shards still have its old versions.
///
/// Method: one caller restores a deleted item while its deletion is remembered. After a second
/// deletion and a round of maintenance the same restore is refused by both shards.
#[tokio::test(flavor = "multi_thread")]
async fn no_shard_restores_a_forgotten_item() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let kept = alice.put_text("a", "kept", "x").await;
    let first = alice.put_text("a", "two", "x").await;
    let first_version = json!({"kind": "text", "id": "two", "version": first["item"]["version"]});
    let rows = format!(
        "select count(*) from item_version where version = {}",
        first["item"]["version"]
    );
    alice.done("b.list", &json!({})).await;
    world.until("b", &rows, "1").await;

    delete(&alice, "a", "two").await;
    let restored = alice.done("b.restore", &first_version).await;
    assert_eq!(
        restored["item"]["data"], first["item"]["data"],
        "a remembered deletion can be undone"
    );
    delete(&alice, "a", "two").await;
    assert_eq!(maintain(&settings(&world)).await.purged, 1);

    for shard in ["a", "b"] {
        assert_eq!(world.query(shard, &rows), "1", "the shard has the version");

        let body = json!({"kind": "text", "id": "two"});
        let history = alice.ask(&format!("{shard}.history"), &body).await;
        history.refusal("not_found");
        let restore = alice.ask(&format!("{shard}.restore"), &first_version).await;
        let details = &restore.refusal("not_found")["details"];
        assert!(
            details["owner_version"].as_u64() > restored["owner_version"].as_u64(),
            "{details}"
        );
        assert_eq!(listed(&alice, shard, "strong").await, ["kept"]);
    }

    let kept = json!({"kind": "text", "id": "kept", "version": kept["item"]["version"]});
    alice.done("a.restore", &kept).await;
}

/// Goal: a shard that was stopped during a deletion and its purge never shows the item again.
///
/// Method: shard b hosts three items and stops. The caller deletes one on shard a, and maintenance
/// purges the deletion. Shard b starts with a row that no record contradicts any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_stopped_meanwhile_brings_no_item_back() {
    let (world, a, b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for id in ["one", "two", "three"] {
        alice.put_text("a", id, "x").await;
    }

    assert_eq!(listed(&alice, "b", "head").await, ["one", "two", "three"]);
    let live_rows = "select count(*) from item where not deleted";
    world.until("b", live_rows, "3").await;

    b.stop().await.expect("stopped in order");
    delete(&alice, "a", "two").await;
    alice.put_text("a", "four", "x").await;
    maintain(&settings(&world)).await;
    let live_rows = world.query("b", live_rows);
    assert_eq!(live_rows, "3", "shard b still has the item's row");

    let _b = world.worker("b").await;

    for consistency in ["eventual", "head", "strong"] {
        assert_eq!(
            listed(&alice, "b", consistency).await,
            ["one", "three", "four"],
            "{consistency}"
        );
    }

    // Nor do its rows show it after the projection has caught up.
    for _ in 0..200 {
        if world.query("b", "select count(*) from item") == "3" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert_eq!(world.query("b", "select count(*) from item"), "3");
    let complete = "select count(*) from owner where complete_to is not null";
    assert_eq!(world.query("b", complete), "1");
    a.stop().await.expect("stopped in order");
    let changes = changes(&alice, "b", 0).await;
    assert_eq!(ids(&changes), ["one", "three", "four"]);
}

/// Goal: a worker does not use its copy in memory once maintenance has raised the floor above it.
///
/// Method: shard b reads the owner; the caller deletes on shard a, maintenance forgets, and
/// shard b is read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_memory_older_than_the_floor_is_not_used() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for id in ["one", "two"] {
        alice.put_text("a", id, "x").await;
    }

    assert_eq!(listed(&alice, "b", "head").await, ["one", "two"]);

    delete(&alice, "a", "one").await;
    maintain(&settings(&world)).await;

    assert_eq!(listed(&alice, "b", "head").await, ["two"]);
    let get = json!({"kind": "text", "id": "one"});
    alice.ask("b.get", &get).await.refusal("not_found");
    let version = alice.put_text("b", "three", "x").await["owner_version"].clone();
    let list = alice.done("a.list", &json!({"min_version": version})).await;
    assert_eq!(list["owner_version"], version);
}

/// Waits until maintenance can be built with the rights that it has, or cannot.
async fn wait_until_built(settings: &Settings, expected: bool) {
    for _ in 0..500 {
        let built = Maintenance::build(settings, WaitLimit::FOREVER).await;
        if built.is_ok() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    panic!("the rights have not changed");
}

/// Goal: a round that could raise the floor but not purge is finished by the next one, and an
/// item that was put again in between survives.
///
/// Method: the NATS server denies the purge to maintenance from the first round on. The caller then
/// puts the deleted item again and deletes another one, and the server gets its real accounts.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_round_purges_what_a_round_left() {
    let denied = ACCOUNTS_CONF.replace("\"$JS.API.STREAM.PURGE.KV_favorites\"", "\"taken.away\"");
    let mut world = World::start().await;
    let mut settings = settings(&world);
    settings.truth.call_ms = 500;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;

    for id in ["one", "two"] {
        alice.put_text("a", id, "x").await;
    }

    delete(&alice, "a", "one").await;

    let maintenance = Maintenance::build(&settings, WaitLimit::FOREVER)
        .await
        .expect("built");
    world.reload_accounts(&denied).await;
    // It does not start without the right, and the one that runs has lost it.
    wait_until_built(&settings, false).await;
    let round = maintenance.once().await.expect("a round");
    assert_eq!(round.failed, 1, "the floor is raised, and nothing purged");
    assert_eq!(
        world.records().await.len(),
        4,
        "the key, the floor and both items"
    );
    assert_eq!(listed(&alice, "a", "strong").await, ["two"]);
    assert_eq!(ids(&changes(&alice, "a", 0).await), ["two"]);

    // The new item `one` must not be purged with its old deletion.
    alice.put_text("a", "one", "again").await;
    alice.put_text("a", "three", "x").await;
    delete(&alice, "a", "three").await;
    world.reload_accounts(ACCOUNTS_CONF).await;
    wait_until_built(&settings, true).await;

    // By now the deletion of `three` is due as well.
    let round = maintain(&settings).await;
    assert_eq!(round.tidied, 1);
    assert_eq!(round.purged, 1);
    assert_eq!(listed(&alice, "a", "strong").await, ["two", "one"]);
}

async fn delete_two_items(world: &World, number: usize) {
    let caller = world.caller(&format!("user-{number}")).await;
    for id in ["one", "two"] {
        caller.put_text("a", id, "x").await;
        delete(&caller, "a", id).await;
    }
}

/// Goal: a round that ended with `kill -9` leaves no owner worse off, and the next round has only the
/// rest to do.
///
/// Method: twenty owners delete two items each. Maintenance has a slow link, and is ended as soon as
/// it has purged something.
/// How long a round may take until its first purge.
const PURGE_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_round_after_a_kill_has_only_the_rest_to_do() {
    const OWNERS: usize = 20;
    let world = World::start().await;
    let _a = world.worker("a").await;
    let owners = (0..OWNERS).map(|number| delete_two_items(&world, number));
    futures::future::join_all(owners).await;
    let with_deletions = 3 * OWNERS;
    assert_eq!(world.records().await.len(), with_deletions);

    let link = Proxy::start(world.nats.url().trim_start_matches("nats://")).await;
    link.delay(Duration::from_millis(50));
    let mut slow = settings(&world);
    slow.nats.url = format!("nats://127.0.0.1:{}", link.port());
    slow.truth.call_ms = 5_000;
    let mut killed = world.maintain(slow);
    let start = Instant::now();
    while world.records().await.len() >= with_deletions {
        assert!(start.elapsed() < PURGE_TIMEOUT, "nothing is purged");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    killed.signal(Signal::SIGKILL);
    killed.ended().await;
    let round = maintain(&settings(&world)).await;

    assert_eq!(round.owners, OWNERS as u64);
    assert!(round.tidied > 0, "the first round was ended too late");
    assert!(round.tidied < OWNERS as u64, "{round:?}");
    let keys_and_floors = 2 * OWNERS;
    assert_eq!(world.records().await.len(), keys_and_floors);
}

/// Goal: an owner whose keys are mostly deletions is tidied before these are old, down to the
/// share of `limits.keys` that is allowed.
///
/// Method: the caller fills the key limit with eight deletions and two items, so that a put is
/// refused. One round of maintenance that keeps deletions for 90 days makes it possible again.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_crowded_with_deletions_is_tidied_early() {
    let world = World::start().await;
    let mut worker = world.settings("a");
    worker.limits.items = 10;
    worker.limits.keys = 10;
    let _a = world.worker_with(worker).await;
    let alice = world.caller("alice").await;

    for number in 0..10 {
        let id = format!("n-{number}");
        alice.put_text("a", &id, "x").await;
        if number < 8 {
            delete(&alice, "a", &id).await;
        }
    }

    let next = json!({"kind": "text", "id": "next", "data": {"text": "x"}});
    let full = alice.ask("a.put", &next).await;
    let details = &full.refusal("quota_exceeded")["details"];
    assert_eq!(details["keys"], 10);
    assert_eq!(details["items"], 2);

    let mut settings = settings(&world);
    settings.limits.items = 10;
    settings.limits.keys = 10;
    settings.maintain.deletions_d = 90;
    let round = maintain(&settings).await;

    assert_eq!(round.purged, 2, "the oldest, down to eight keys of ten");
    alice.done("a.put", &next).await;
    let kept = changes(&alice, "a", 0).await;
    assert_eq!(ids(&kept).len(), 9);
}

/// Goal: maintenance loses no acknowledged write, although it forgets while owners write.
///
/// Method: six callers write through two shards and through either of them, while rounds of
/// maintenance follow one another. The report of the load is then checked against both shards,
/// and no shard may keep the row of a deletion below the floor.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_during_writes_loses_no_acknowledged_write() {
    let (world, _a, _b) = World::with_two_shards().await;

    let load = Load::start(&world, &["", "a", "b"], 6, false).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tidying = tokio::spawn({
        let settings = settings(&world);
        let stop = stop.clone();
        async move {
            let maintenance = Maintenance::build(&settings, WaitLimit::FOREVER)
                .await
                .expect("built");
            let mut rounds = 0;
            let mut purged = 0;
            while !stop.load(Ordering::SeqCst) {
                let round = maintenance.once().await.expect("a round");
                assert_eq!(round.failed, 0);
                rounds += 1;
                purged += round.purged;
            }

            (rounds, purged)
        }
    });

    load.progress(1_500).await;
    let mut report = load.stop().await;
    stop.store(true, Ordering::SeqCst);
    let (rounds, purged) = tidying.await.expect("no panic");
    println!("{rounds} rounds of maintenance under load: {purged} deletions purged");

    assert!(purged > 20, "{purged}");
    report.only(&["overloaded"], &[Outcome::Pending]);
    report.verify(&["a", "b"]).await;
    report.is_clean();
    let below_floor = "select count(*) from item join owner using (owner_key) \
                       where deleted and item.version <= floor";

    for shard in ["a", "b"] {
        assert_eq!(world.query(shard, below_floor), "0");
    }
}
