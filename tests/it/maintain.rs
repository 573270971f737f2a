//! Old deletions are forgotten: the floor first, then the purge, and nobody brings anything back.

use crate::harness::{Caller, World, load::Load};
use gofavorites::app::Maintenance;
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::maintenance::Round;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The settings of maintenance that forgets every deletion.
pub(crate) fn settings(world: &World) -> Settings {
    let mut settings = world.settings("a");
    settings.nats.user = "maintain".into();
    settings.nats.password = world.secrets.nats("maintain").into();
    settings.nats.inbox_prefix = "_INBOX_maintain".into();
    settings.maintain.deletions_d = 0;
    settings
}

pub(crate) async fn maintain(settings: &Settings) -> Round {
    let round = Maintenance::build(settings)
        .await
        .expect("built")
        .once()
        .await
        .expect("a round");
    assert_eq!(round.failed, 0);
    round
}

pub(crate) async fn delete(caller: &Caller, shard: &str, id: &str) -> u64 {
    let reply = caller
        .done(
            &format!("{shard}.delete"),
            &json!({"kind": "text", "id": id}),
        )
        .await;
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
    let reply = caller
        .done(
            &format!("{shard}.list"),
            &json!({"consistency": consistency}),
        )
        .await;
    ids(&reply).into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_gone_and_no_version_goes_back() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for id in ["one", "two", "three", "four"] {
        alice.put_text("a", id, "x").await;
    }
    let seen = alice.done("b.changes", &json!({"since": 0})).await["owner_version"]
        .as_u64()
        .expect("a version");
    delete(&alice, "a", "two").await;
    let last = delete(&alice, "b", "four").await;
    assert_eq!(
        maintain(&settings(&world)).await,
        Round {
            owners: 1,
            tidied: 1,
            purged: 2,
            failed: 0
        }
    );
    assert_eq!(
        world.records().await.len(),
        4,
        "the key, the floor and the living"
    );
    for shard in ["a", "b"] {
        assert_eq!(listed(&alice, shard, "head").await, ["one", "three"]);
        let all = alice
            .done(&format!("{shard}.changes"), &json!({"since": 0}))
            .await;
        assert_eq!(
            ids(&all),
            ["one", "three"],
            "nothing is there any more to be told of"
        );
        let head = all["owner_version"].as_u64().expect("a version");
        assert!(head > last, "the floor is newer than what it ends");
        let reply = alice
            .ask(&format!("{shard}.changes"), &json!({"since": seen}))
            .await;
        let details = &reply.refusal("resync_required")["details"];
        assert_eq!(
            (&details["floor"], &details["owner_version"]),
            (&json!(last), &json!(head))
        );
        assert_eq!(
            ids(&alice
                .done(&format!("{shard}.changes"), &json!({"since": last}))
                .await),
            Vec::<&str>::new()
        );
        alice
            .ask(
                &format!("{shard}.history"),
                &json!({"kind": "text", "id": "two"}),
            )
            .await
            .refusal("not_found");
        assert_eq!(
            world.query(shard, "select count(*) from item where deleted"),
            "0"
        );
    }
    // A forgotten item may come back, as a new one.
    let again = alice
        .done(
            "b.put",
            &json!({"kind": "text", "id": "two", "data": {"text": "y"}, "if_version": 0}),
        )
        .await;
    assert!(again["item"]["version"].as_u64().expect("a version") > last);
    assert_eq!(listed(&alice, "a", "strong").await, ["one", "three", "two"]);
    assert_eq!(
        maintain(&settings(&world)).await,
        Round {
            owners: 1,
            ..Round::default()
        },
        "nothing is left to do"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_put_back_by_no_shard_that_still_has_it() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let kept = alice.put_text("a", "kept", "x").await;
    let first = alice.put_text("a", "two", "x").await;
    let this = json!({"kind": "text", "id": "two", "version": first["item"]["version"]});
    alice.done("b.list", &json!({})).await;
    delete(&alice, "a", "two").await;
    let back = alice.done("b.restore", &this).await;
    assert_eq!(
        back["item"]["data"], first["item"]["data"],
        "a deletion that is known can be undone"
    );
    delete(&alice, "a", "two").await;
    assert_eq!(maintain(&settings(&world)).await.purged, 1);
    for shard in ["a", "b"] {
        let versions = format!(
            "select count(*) from item_version where version = {}",
            this["version"]
        );
        assert_eq!(world.query(shard, &versions), "1", "the shard still has it");
        let of_it = json!({"kind": "text", "id": "two"});
        alice
            .ask(&format!("{shard}.history"), &of_it)
            .await
            .refusal("not_found");
        let details = alice
            .ask(&format!("{shard}.restore"), &this)
            .await
            .refusal("not_found")["details"]
            .clone();
        assert!(
            details["owner_version"].as_u64() > back["owner_version"].as_u64(),
            "{details}"
        );
        assert_eq!(listed(&alice, shard, "strong").await, ["kept"]);
    }
    let version = json!({"kind": "text", "id": "kept", "version": kept["item"]["version"]});
    alice.done("a.restore", &version).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_was_down_meanwhile_brings_nothing_back() {
    let (world, a, b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for id in ["one", "two", "three"] {
        alice.put_text("a", id, "x").await;
    }
    assert_eq!(listed(&alice, "b", "head").await, ["one", "two", "three"]);
    b.stop().await.expect("stopped in order");
    delete(&alice, "a", "two").await;
    alice.put_text("a", "four", "x").await;
    maintain(&settings(&world)).await;
    // With no record of the deletion left, shard b still has the row of the item.
    assert_eq!(
        world.query("b", "select count(*) from item where not deleted"),
        "3"
    );
    let _b = world.worker("b").await;
    for consistency in ["eventual", "head", "strong"] {
        assert_eq!(
            listed(&alice, "b", consistency).await,
            ["one", "three", "four"],
            "{consistency}"
        );
    }
    // Nor do its rows, when the projection has caught up.
    for _ in 0..200 {
        if world.query("b", "select count(*) from item") == "3" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.query("b", "select count(*) from item"), "3");
    assert_eq!(
        world.query(
            "b",
            "select count(*) from owner where complete_to is not null"
        ),
        "1"
    );
    a.stop().await.expect("stopped in order");
    let changes = alice.done("b.changes", &json!({"since": 0})).await;
    assert_eq!(ids(&changes), ["one", "three", "four"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_memory_that_is_older_than_the_floor_is_not_believed() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for id in ["one", "two"] {
        alice.put_text("a", id, "x").await;
    }
    assert_eq!(listed(&alice, "b", "head").await, ["one", "two"]);
    delete(&alice, "a", "one").await;
    maintain(&settings(&world)).await;
    assert_eq!(listed(&alice, "b", "head").await, ["two"]);
    alice
        .ask("b.get", &json!({"kind": "text", "id": "one"}))
        .await
        .refusal("not_found");
    let version = alice.put_text("b", "three", "x").await["owner_version"].clone();
    assert_eq!(
        alice.done("a.list", &json!({"min_version": version})).await["owner_version"],
        version
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_round_left_the_next_one_purges() {
    // This one may raise a floor, and not purge.
    let accounts = ACCOUNTS_CONF.replace("\"$JS.API.STREAM.PURGE.KV_favorites\"", "\"taken.away\"");
    let mut world = World::with_accounts(&accounts).await;
    let mut settings = settings(&world);
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    settings.truth.call_ms = 500;
    for id in ["one", "two"] {
        alice.put_text("a", id, "x").await;
    }
    delete(&alice, "a", "one").await;
    let round = Maintenance::build(&settings)
        .await
        .expect("built")
        .once()
        .await
        .expect("a round");
    assert_eq!(
        round.failed, 1,
        "the floor is raised, and nothing is purged"
    );
    assert_eq!(
        world.records().await.len(),
        4,
        "the key, the floor and both items"
    );
    assert_eq!(listed(&alice, "a", "strong").await, ["two"]);
    assert_eq!(
        ids(&alice.done("a.changes", &json!({"since": 0})).await),
        ["two"]
    );
    // Meanwhile the item comes back, and must not go with its deletion.
    alice.put_text("a", "one", "again").await;
    alice.put_text("a", "three", "x").await;
    delete(&alice, "a", "three").await;
    std::fs::write(world.directory.join("accounts.conf"), ACCOUNTS_CONF).expect("written");
    world
        .nats
        .process()
        .signal(Signal::SIGHUP)
        .expect("told to read them anew");
    // Three's own deletion is due by now as well.
    let round = maintain(&settings).await;
    assert_eq!((round.tidied, round.purged), (1, 1));
    assert_eq!(listed(&alice, "a", "strong").await, ["two", "one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_crowded_with_deletions_is_tidied_early() {
    let world = World::start().await;
    let mut worker = world.settings("a");
    (worker.limits.items, worker.limits.keys) = (10, 10);
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
    let details = alice.ask("a.put", &next).await.refusal("quota_exceeded")["details"].clone();
    assert_eq!(
        (&details["keys"], &details["items"]),
        (&json!(10), &json!(2))
    );
    let mut settings = settings(&world);
    (
        settings.limits.keys,
        settings.limits.items,
        settings.maintain.deletions_d,
    ) = (10, 10, 90);
    let round = maintain(&settings).await;
    assert_eq!(round.purged, 2, "the oldest, down to eight keys of ten");
    alice.done("a.put", &next).await;
    let kept = alice.done("a.changes", &json!({"since": 0})).await;
    assert_eq!(kept["items"].as_array().expect("a list").len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_writes_go_on_nothing_acknowledged_is_lost_by_it() {
    let (world, _a, _b) = World::with_two_shards().await;
    let load = Load::start(&world, &["", "a", "b"], 6, false).await;
    let over = Arc::new(AtomicBool::new(false));
    let tidying = tokio::spawn({
        let (settings, over) = (settings(&world), over.clone());
        async move {
            let maintenance = Maintenance::build(&settings).await.expect("built");
            let (mut rounds, mut purged) = (0, 0);
            while !over.load(Ordering::SeqCst) {
                let round = maintenance.once().await.expect("a round");
                assert_eq!(round.failed, 0);
                (rounds, purged) = (rounds + 1, purged + round.purged);
            }
            (rounds, purged)
        }
    });
    load.progress(1_500).await;
    let mut report = load.stop().await;
    over.store(true, Ordering::SeqCst);
    let (rounds, purged) = tidying.await.expect("no panic");
    println!("{rounds} rounds beside a load: {purged} deletions purged");
    assert!(purged > 20, "{purged}");
    report.only(&["overloaded"], &[crate::harness::load::Outcome::Pending]);
    report.verify(&["a", "b"]).await;
    report.is_clean();
    for shard in ["a", "b"] {
        assert_eq!(
            world.query(
                shard,
                "select count(*) from item join owner using (owner_key) where deleted and item.version <= floor"
            ),
            "0"
        );
    }
}
