//! What operators have for a shard: to look at it, to compare it with the bucket, and to build it anew.

use crate::harness::{Caller, World, copy};
use gofavorites::app::{OperatorSession, WaitLimit};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::maintenance::{Comparison, Difference, Verifier};
use serde_json::{Value, json};
use std::fs;

/// Everything that a shard's tables say of owners, in one text.
const EVERYTHING: &str = "select md5(string_agg(t, ';' order by t)) from (\
    select concat_ws('|', owner_key, version, wrapped_key, key_version, complete_to is not null) as t from owner \
    union all select concat_ws('|', owner_key, item_key, version, sealed, deleted, updated_at) from item) as all_rows";
/// Every version that passed by.
const VERSIONS: &str = "select md5(string_agg(concat_ws('|', owner_key, item_key, version, sealed, deleted, updated_at, \
    request_id, request), ';' order by owner_key, item_key, version)) from item_version";

async fn verify(world: &World, more: &[&str]) -> (i32, Value) {
    let (code, out) = world
        .run("a", &[&["verify", "--json"], more].concat())
        .await;
    (code, serde_json::from_str(&out).expect("JSON"))
}

/// Some owners with some items each, written on a, some of them changed and deleted.
async fn with_some_owners(count: usize) -> (World, Vec<crate::harness::Worker>, Vec<Caller>) {
    let world = World::start().await;
    let workers = vec![world.worker("a").await];
    let mut owners = Vec::new();
    for number in 0..count {
        let somebody = world.caller(&format!("somebody-{number}")).await;
        for item in 0..4 {
            somebody
                .put_text("a", &format!("note-{item}"), "a-favourite-text")
                .await;
        }
        somebody
            .put_text("a", "note-1", "another-favourite-text")
            .await;
        somebody
            .done("a.delete", &json!({"kind": "text", "id": "note-2"}))
            .await;
        owners.push(somebody);
    }
    (world, workers, owners)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_damage_is_found_told_apart_and_mended() {
    let (world, _workers, owners) = with_some_owners(9).await;
    let right = (world.query("a", EVERYTHING), world.query("a", VERSIONS));
    let (code, told) = verify(&world, &[]).await;
    assert_eq!(
        (code, &told["counts"]["equal"], &told["owners"]),
        (0, &json!(9), &json!([])),
        "{told}"
    );
    let damage = [
        (
            "missing_rows",
            "delete from item where owner_key = {o} and version = {oldest}",
        ),
        (
            "surplus_rows",
            "insert into item select owner_key, decode(repeat('ab', 16), 'hex'), 1, sealed, deleted, \
                          updated_at from item where owner_key = {o} limit 1",
        ),
        (
            "older_rows",
            "update item set version = v.version, sealed = v.sealed, updated_at = v.updated_at \
                        from (select * from item_version where owner_key = {o} order by version limit 2) as v \
                        where item.owner_key = {o} and item.item_key = v.item_key and item.version > v.version",
        ),
        (
            "newer_rows",
            "update item set version = 1000000 where owner_key = {o} and version = {oldest}",
        ),
        (
            "altered_rows",
            "update item set sealed = set_byte(sealed, 90, get_byte(sealed, 90) # 1) \
                          where owner_key = {o} and version = {oldest}",
        ),
        (
            "version",
            "update owner set version = version + 1 where owner_key = {o}",
        ),
        (
            "key",
            "update owner set wrapped_key = set_byte(wrapped_key, 90, get_byte(wrapped_key, 90) # 1) \
                 where owner_key = {o}",
        ),
        (
            "missing_versions",
            "delete from item_version where owner_key = {o} and version = {oldest}",
        ),
    ];
    for (number, (_, statement)) in damage.iter().enumerate() {
        let owner = world.key_of(&format!("somebody-{number}"));
        let oldest = format!("(select min(version) from item where owner_key = {owner})");
        world.query(
            "a",
            &statement
                .replace("{oldest}", &oldest)
                .replace("{o}", &owner),
        );
    }
    let damaged = world.query("a", EVERYTHING);
    let named = |told: &Value| -> Vec<(usize, String)> {
        let all = told["owners"].as_array().expect("a list").iter();
        let mut found: Vec<_> = all
            .flat_map(|one| {
                let number = (0..9)
                    .find(|n| world.owner(&format!("somebody-{n}")).to_string() == one["owner"]);
                let whats = one["differences"].as_array().expect("a list").clone();
                whats.into_iter().map(move |what| {
                    (
                        number.expect("known"),
                        what["what"].as_str().expect("text").into(),
                    )
                })
            })
            .collect();
        found.sort();
        found
    };
    let (code, told) = verify(&world, &[]).await;
    assert_eq!(
        (code, &told["counts"]["differ"]),
        (1, &json!(damage.len())),
        "{told}"
    );
    let found = named(&told);
    for (number, (what, _)) in damage.iter().enumerate() {
        assert!(
            found.contains(&(number, (*what).to_owned())),
            "{what} of {number} is not in {found:?}"
        );
    }
    assert!(
        found.iter().all(|(number, _)| *number < damage.len()),
        "nobody else is named"
    );
    // A dry run only says what would be done.
    let (code, text) = world.run("a", &["verify", "--repair", "--dry-run"]).await;
    assert_eq!(
        (code, text.matches("would be brought anew").count()),
        (1, damage.len()),
        "{text}"
    );
    assert_eq!(world.query("a", EVERYTHING), damaged);
    let (code, told) = verify(&world, &["--repair"]).await;
    assert_eq!(
        (code, &told["counts"]["mended"]),
        (0, &json!(damage.len())),
        "{told}"
    );
    assert_eq!(
        (world.query("a", EVERYTHING), world.query("a", VERSIONS)),
        right
    );
    assert_eq!(verify(&world, &[]).await.0, 0);
    // Whoever was mended goes on as before.
    for somebody in &owners {
        let put = somebody.put_text("a", "after", "x").await;
        world.until_projected("a", &put).await;
    }
    assert_eq!(verify(&world, &[]).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_merely_on_its_way_is_no_difference() {
    let (world, workers, owners) = with_some_owners(3).await;
    let session = OperatorSession::open(&world.settings("a"), "test", WaitLimit::FOREVER)
        .await
        .expect("a session");
    let verifier = Verifier::new(session.operator.clone());
    let writing = tokio::spawn({
        let owners = owners.clone();
        async move {
            for number in 0..60 {
                let note = format!("note-{number}");
                let puts = owners
                    .iter()
                    .map(|somebody| somebody.put_text("a", &note, "x"));
                futures::future::join_all(puts).await;
            }
        }
    });
    let mut compared = 0;
    while !writing.is_finished() {
        for number in 0..3 {
            let found = verifier
                .compare(&world.owner(&format!("somebody-{number}")))
                .await
                .expect("compared");
            assert!(
                matches!(found, Comparison::Equal | Comparison::Busy),
                "{found:?}"
            );
            compared += 1;
        }
    }
    writing.await.expect("no panic");
    assert!(compared > 20, "compared {compared} times");
    // With no worker there is nobody to wait for, and that is told.
    for worker in workers {
        worker.stop().await.expect("stopped in order");
    }
    let _b = world.worker("b").await;
    owners[0].put_text("b", "on-its-way", "x").await;
    let found = verifier
        .compare(&world.owner("somebody-0"))
        .await
        .expect("compared");
    let Comparison::Differ(how) = found else {
        panic!("{found:?}")
    };
    assert!(
        matches!(how.differences[..], [Difference::NotProjected { .. }]),
        "{how:?}"
    );
    let _a = world.worker("a").await;
    assert_eq!(
        verifier
            .compare(&world.owner("somebody-0"))
            .await
            .expect("compared"),
        Comparison::Equal
    );
}

/// Accounts with one more user who may do anything to the bucket: what a mishap could.
fn with_breaker() -> String {
    ACCOUNTS_CONF.replacen(
        "    users: [\n",
        "    users: [\n      { user: breaker, password: breaker }\n",
        1,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_bucket_has_lost_are_told_and_no_copy_is_thrown_away() {
    let world = World::with_accounts(&with_breaker()).await;
    let _a = world.worker("a").await;
    for name in ["alice", "bob", "carol"] {
        for item in 0..3 {
            world
                .caller(name)
                .await
                .put_text("a", &format!("note-{item}"), "x")
                .await;
        }
    }
    // Of alice's items the last is lost, and with it her version; of bob's one before.
    let place = |name: &str, end: &str| {
        let item = format!(
            "select item_key from item where owner_key = {} order by version",
            world.key_of(name)
        );
        let hex = world.query(
            "a",
            &format!("select encode(({item} {end} limit 1), 'hex')"),
        );
        let bytes: Vec<u8> = (0..16)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
            .collect();
        let item = gofavorites::seal::ItemKey::from_slice(&bytes).expect("16 bytes");
        format!("$KV.favorites.{}.{item}", world.owner(name))
    };
    let breaker =
        async_nats::ConnectOptions::with_user_and_password("breaker".into(), "breaker".into());
    let breaker = breaker
        .connect(world.nats.url())
        .await
        .expect("a connection");
    for subject in [place("alice", "desc"), place("bob", "")] {
        let purge = json!({ "filter": subject }).to_string();
        let purged = breaker
            .request("$JS.API.STREAM.PURGE.KV_favorites", purge.into())
            .await
            .expect("an answer");
        assert!(
            String::from_utf8_lossy(&purged.payload).contains("\"purged\":1"),
            "{:?}",
            purged.payload
        );
    }
    let before = world.query("a", EVERYTHING);
    for more in [&[][..], &["--repair"]] {
        let (code, told) = verify(&world, more).await;
        assert_eq!(
            (code, &told["counts"]["differ"], &told["counts"]["mended"]),
            (1, &json!(2), &json!(0)),
            "{told}"
        );
        let what = |name: &str| {
            let owner = world.owner(name).to_string();
            let all = told["owners"].as_array().expect("a list").iter();
            all.clone()
                .find(|one| one["owner"] == owner)
                .expect("named")["differences"][0]["what"]
                .clone()
        };
        assert_eq!(
            (what("alice"), what("bob")),
            (json!("truth_lost"), json!("truth_not_whole"))
        );
        assert_eq!(world.query("a", EVERYTHING), before);
    }
    // A replay does not throw them away either, unless told to.
    let (code, _) = world.run("a", &["replay"]).await;
    assert_eq!((code, world.query("a", EVERYTHING)), (1, before));
    let (code, _) = world.run("a", &["replay", "--accept-lost-history"]).await;
    assert_eq!(code, 1, "bob's records are not whole wherever one looks");
    assert_eq!(
        world.query("a", "select count(*) from item"),
        "8",
        "alice has lost one"
    );
}

/// The bucket loses history, by `loss` of its store; verify tells it, replay takes it as it is when told to.
async fn the_bucket_loses_history(loss: impl AsyncFnOnce(&mut World, &std::path::Path)) {
    let mut world = World::start().await;
    let a = world.worker("a").await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    alice.put_text("a", "old", "x").await;
    bob.put_text("a", "note", "x").await;
    world.nats.stop().expect("stopped");
    let backup = world.directory.join("backup");
    copy(&world.directory.join("store"), &backup);
    world.nats.restart().await.expect("started again");
    world.wait_for_worker("a").await;
    let once = json!({"kind": "text", "id": "new", "data": {"text": "x"}});
    let lost = alice.ask_once("a.put", "request-1", &once).await.body;
    assert!(lost["error"].is_null(), "{lost}");
    loss(&mut world, &backup).await;
    let (code, told) = verify(&world, &["--repair"]).await;
    assert!(code == 1 && told["history_went_back"].is_string(), "{told}");
    let before = world.query("a", EVERYTHING);
    let (code, _) = world.run("a", &["replay"]).await;
    assert_eq!(
        (code, world.query("a", EVERYTHING)),
        (1, before),
        "nothing is thrown away unasked"
    );
    let (code, text) = world
        .run("a", &["replay", "--accept-lost-history", "--everyone"])
        .await;
    assert!(
        code == 0 && text.contains("start the shard's workers again"),
        "{text}"
    );
    // A worker that still knows the old history cannot say that it is lost once more.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(
        world.query("a", "select lost is null, accepted from cursor"),
        "t|1"
    );
    a.stop().await.expect("stopped in order");
    let _a = world.worker("a").await;
    // What was lost was not done, so it is done now.
    let again = alice.ask_once("a.put", "request-1", &once).await.body;
    assert!(
        again["error"].is_null() && again["local"].is_null(),
        "{again}"
    );
    bob.put_text("a", "note", "y").await;
    let list = alice
        .done("a.list", &json!({"consistency": "strong"}))
        .await;
    assert!(
        list["items"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|item| item["id"] == "new"),
        "{list}"
    );
    let (code, told) = verify(&world, &[]).await;
    assert_eq!(code, 0, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_restored_from_an_older_backup_is_told_and_can_be_accepted() {
    the_bucket_loses_history(async |world, backup| {
        world.nats.stop().expect("stopped");
        let store = world.directory.join("store");
        fs::remove_dir_all(&store).expect("removed");
        copy(backup, &store);
        world.nats.restart().await.expect("started again");
        world.wait_for_worker("a").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_deleted_and_made_again_is_told_and_can_be_accepted() {
    the_bucket_loses_history(async |world, _| {
        world.nats.stop().expect("stopped");
        fs::remove_dir_all(world.directory.join("store")).expect("removed");
        world.nats.restart().await.expect("started again");
        assert!(
            world
                .init(&world.settings("a"))
                .await
                .expect("init")
                .bucket_created
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_comes_back_by_itself_and_by_a_replay_of_everyone() {
    let (world, workers, owners) = with_some_owners(6).await;
    let right = (world.query("a", EVERYTHING), world.query("a", VERSIONS));
    for worker in workers {
        worker.stop().await.expect("stopped in order");
    }
    let database = world.database("a");
    let dropped = world.shared.postgres.query(
        "postgres",
        &format!("drop database \"{database}\" with (force)"),
    );
    dropped.expect("dropped");
    // By itself: who comes is served, and hosted.
    let _a = world.worker("a").await;
    let list = owners[0].done("a.list", &json!({})).await;
    assert_eq!(
        (list["items"].as_array().map(Vec::len), &list["stale"]),
        (Some(3), &Value::Null)
    );
    assert_eq!(
        world.query("a", "select count(*), count(complete_to) from owner"),
        "1|1"
    );
    // By replay: everybody, with every version that the bucket keeps.
    let (code, text) = world.run("a", &["replay", "--everyone"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        (world.query("a", EVERYTHING), world.query("a", VERSIONS)),
        right
    );
    assert_eq!(
        world.query("a", "select count(*) from owner where history_complete"),
        "6"
    );
    assert_eq!(verify(&world, &[]).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_from_nothing_rebuilds_while_the_shard_serves() {
    let (world, _workers, owners) = with_some_owners(6).await;
    let versions = world.query("a", VERSIONS);
    world.query("a", "delete from item_version where version % 2 = 0");
    world.query("a", "update owner set history_complete = false");
    world.query(
        "a",
        "update item set sealed = set_byte(sealed, 90, get_byte(sealed, 90) # 1)",
    );
    let replaying = world.run("a", &["replay"]);
    let serving = async {
        for _ in 0..20 {
            for somebody in &owners {
                let list = somebody.done("a.list", &json!({})).await;
                assert_eq!(
                    (list["items"].as_array().map(Vec::len), &list["stale"]),
                    (Some(3), &Value::Null)
                );
            }
        }
    };
    let ((code, text), ()) = tokio::join!(replaying, serving);
    assert_eq!(code, 0, "{text}");
    assert_eq!(world.query("a", VERSIONS), versions);
    assert_eq!(
        world.query(
            "a",
            "select count(*) from owner where history_complete and complete_to is not null"
        ),
        "6"
    );
    assert_eq!(verify(&world, &[]).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_from_a_sequence_or_a_time_mends_what_came_since() {
    let (world, _workers, owners) = with_some_owners(4).await;
    let middle = owners[0].put_text("a", "middle", "x").await["item"].clone();
    // JetStream's times are its own: what follows is not of the same millisecond.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    owners[1].put_text("a", "later", "x").await;
    let last = owners[2].put_text("a", "later", "x").await;
    world.until_projected("a", &last).await;
    let right = world.query("a", EVERYTHING);
    let damage = |number: usize| {
        let statement = "delete from item where owner_key = {o} and version = \
                         (select max(version) from item where owner_key = {o})";
        world.query(
            "a",
            &statement.replace("{o}", &world.key_of(&format!("somebody-{number}"))),
        );
    };
    let since = middle["version"].as_u64().expect("a version") + 1;
    let time = middle["updated_at"].as_str().expect("a time").to_owned();
    for (option, value, expected) in [
        ("--from-sequence", since.to_string(), "2 owners differed"),
        ("--from-time", time, "2 owners differed"),
    ] {
        let versions = world.query("a", VERSIONS);
        damage(1);
        damage(2);
        world.query(
            "a",
            &format!("delete from item_version where version >= {since}"),
        );
        let (code, text) = world.run("a", &["replay", option, &value]).await;
        assert!(code == 0 && text.contains(expected), "{text}");
        assert_eq!(
            (world.query("a", EVERYTHING), world.query("a", VERSIONS)),
            (right.clone(), versions)
        );
    }
    let (code, _) = world
        .run("a", &["replay", "--from-time", "yesterday"])
        .await;
    assert_eq!(code, 1);
    for (option, value) in [
        ("--from-sequence", "99999999"),
        ("--from-time", "2999-01-01T00:00:00Z"),
    ] {
        assert_eq!(
            world.run("a", &["replay", option, value]).await.0,
            2,
            "nothing of that is there yet"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shard_is_shown_on_a_line_and_owners_not_seen_are_evicted() {
    let (world, _a, _b) = World::with_two_shards().await;
    for name in ["alice", "bob", "carol"] {
        world.caller(name).await.put_text("a", "note", "x").await;
    }
    world.caller("alice").await.done("b.list", &json!({})).await;
    let shown = async |more: &[&str]| {
        let mut command = world.program("a", &[&["shard"], more].concat());
        command
            .env("GOFAVORITES_URL", world.nats.url())
            .env("GOFAVORITES_USER", "operator");
        command.env("GOFAVORITES_PASSWORD", world.secrets.nats("operator"));
        let output = command.output().await.expect("it starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    world.until("a", "select count(*) from owner", "3").await;
    let mut told = Value::Null;
    for _ in 0..100 {
        told = serde_json::from_str(&shown(&["--json"]).await).expect("JSON");
        if told["shards"][0]["hosted"] == 3 && told["shards"][1]["hosted"] == 1 {
            break;
        }
    }
    let (a, b) = (&told["shards"][0], &told["shards"][1]);
    assert_eq!(
        (&a["shard"], &a["workers"], &a["hosted"], &b["hosted"]),
        (&json!("a"), &json!(1), &json!(3), &json!(1))
    );
    assert_eq!(
        (&a["cache"]["owners"], &a["truth"]["reached_by"]),
        (&json!(3), &json!(1))
    );
    assert!(
        a["projection"]["sequence"].as_u64() > Some(0) && a["cache"]["hit_rate"].is_f64(),
        "{a}"
    );
    assert!(
        a["truth"]["last_record_age_ms"].as_u64() < Some(60_000),
        "{a}"
    );
    let table = shown(&[]).await;
    assert_eq!(
        (table.lines().count(), table.matches(" reached").count()),
        (3, 2),
        "{table}"
    );
    let evict = |more: &'static [&str]| world.run("a", more);
    world.query(
        "a",
        &format!(
            "update owner set seen_at = now() - interval '31 days' where owner_key <> {}",
            world.key_of("bob")
        ),
    );
    let (code, text) = evict(&["shard", "evict", "--days", "30", "--dry-run"]).await;
    assert_eq!(
        (code, text.as_str()),
        (0, "2 owners have not been seen for 30 days\n")
    );
    let (code, text) = evict(&["shard", "evict", "--days", "30"]).await;
    assert!(
        code == 0 && text.starts_with("2 owners un-hosted"),
        "{text}"
    );
    assert_eq!(world.query("a", "select count(*) from owner"), "1");
    assert_eq!(
        evict(&["shard", "evict", "--days", "0"]).await.0,
        2,
        "today is not long ago"
    );
    assert_eq!(
        evict(&["shard", "evict", "--days", "7"]).await.0,
        2,
        "within retry.kept_h, 168 hours"
    );
    assert_eq!(
        evict(&["shard", "evict", "--days", "8", "--dry-run"])
            .await
            .0,
        0,
        "beyond it"
    );
}
