//! The operators' tools for a shard: `verify` compares its Postgres with the bucket and repairs it,
//! `replay` rebuilds it, and `shard` shows it and evicts owners.

use crate::harness::{Caller, Worker, World, copy, purge_record, with_breaker};
use gofavorites::app::{OperatorSession, WaitLimit};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::maintenance::{Comparison, Difference, Verifier};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Selects a digest of the rows of all owners and items.
const DIGEST_OF_ROWS: &str = "\
    select md5(string_agg(t, ';' order by t)) from (\
    select concat_ws('|', owner_key, version, wrapped_key, key_version, \
    complete_to is not null) as t from owner \
    union all \
    select concat_ws('|', owner_key, item_key, version, sealed, deleted, updated_at) from item\
    ) as all_rows";

/// Selects a digest of all kept versions.
const DIGEST_OF_VERSIONS: &str = "\
    select md5(string_agg(concat_ws('|', owner_key, item_key, version, sealed, deleted, \
    updated_at, request_id, request), ';' order by owner_key, item_key, version)) \
    from item_version";

/// How `verify` names each kind of damage, and the statement that does it to the owner `{o}`.
/// `{oldest}` is the owner's oldest version.
const DAMAGE: [(&str, &str); 8] = [
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

/// Runs `verify` with more arguments, and returns its exit code and its report.
pub(crate) async fn verify(world: &World, more: &[&str]) -> (i32, Value) {
    let arguments = [&["verify", "--json"], more].concat();

    let (code, out) = world.run("a", &arguments).await;

    (code, serde_json::from_str(&out).expect("JSON"))
}

/// Checks that `verify` finds no difference on shard a.
pub(crate) async fn check_equal(world: &World) {
    let (code, report) = verify(world, &[]).await;

    assert_eq!(code, 0, "{report}");
}

/// Returns the digests of all rows and of all kept versions of shard a.
fn digests(world: &World) -> [String; 2] {
    [DIGEST_OF_ROWS, DIGEST_OF_VERSIONS].map(|query| world.query("a", query))
}

/// Starts shard a with `count` owners, named `somebody-0` and so on. Each has four items, of which
/// one was changed and one deleted.
async fn with_some_owners(count: usize) -> (World, Vec<Worker>, Vec<Caller>) {
    let world = World::start().await;
    let workers = vec![world.worker("a").await];
    let note_2 = json!({"kind": "text", "id": "note-2"});

    let mut owners = Vec::new();
    for number in 0..count {
        let owner = world.caller(&format!("somebody-{number}")).await;
        for item in 0..4 {
            let id = format!("note-{item}");
            owner.put_text("a", &id, "a-favourite-text").await;
        }
        owner
            .put_text("a", "note-1", "another-favourite-text")
            .await;
        owner.done("a.delete", &note_2).await;
        owners.push(owner);
    }

    (world, workers, owners)
}

/// Does each kind of damage to one owner.
fn damage_owners(world: &World) {
    for (number, (_, statement)) in DAMAGE.iter().enumerate() {
        let owner = world.key_of(&format!("somebody-{number}"));
        let oldest = format!("(select min(version) from item where owner_key = {owner})");
        let statement = statement
            .replace("{oldest}", &oldest)
            .replace("{o}", &owner);

        world.query("a", &statement);
    }
}

/// Returns which differences a report has, each with the number of its owner.
fn differences(world: &World, report: &Value, owners: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();

    for finding in report["owners"].as_array().expect("a list") {
        let number = (0..owners)
            .find(|n| world.owner(&format!("somebody-{n}")).to_string() == finding["owner"])
            .expect("one of the owners");
        for difference in finding["differences"].as_array().expect("a list") {
            let what = difference["what"].as_str().expect("a text");
            found.push((number, what.to_owned()));
        }
    }

    found
}

/// Goal: `verify` names each kind of damage, says what a repair would do, and repairs it; the
/// repaired owners are served as before.
///
/// Method: of nine owners, eight have one kind of damage each, done by SQL. The tool runs without
/// options, with a dry run, and with `--repair`. Afterwards all rows are as they were.
#[tokio::test(flavor = "multi_thread")]
async fn verify_names_and_repairs_each_kind_of_damage() {
    let (world, _workers, owners) = with_some_owners(9).await;
    let right = digests(&world);

    let (code, report) = verify(&world, &[]).await;
    assert_eq!(code, 0);
    assert_eq!(report["counts"]["equal"], 9, "{report}");
    assert_eq!(report["owners"], json!([]), "{report}");

    damage_owners(&world);
    let damaged = world.query("a", DIGEST_OF_ROWS);
    let (code, report) = verify(&world, &[]).await;
    assert_eq!(code, 1);
    assert_eq!(report["counts"]["differ"], DAMAGE.len(), "{report}");
    let found = differences(&world, &report, owners.len());
    for (number, (what, _)) in DAMAGE.iter().enumerate() {
        let expected = (number, (*what).to_owned());
        assert!(found.contains(&expected), "no {expected:?} in {found:?}");
    }
    for (number, _) in &found {
        assert!(*number < DAMAGE.len(), "the last owner has no damage");
    }

    let (code, text) = world.run("a", &["verify", "--repair", "--dry-run"]).await;
    assert_eq!(code, 1);
    let announced = text.matches("would be rebuilt").count();
    assert_eq!(announced, DAMAGE.len(), "{text}");
    let rows = world.query("a", DIGEST_OF_ROWS);
    assert_eq!(rows, damaged, "a dry run changes nothing");

    let (code, report) = verify(&world, &["--repair"]).await;
    assert_eq!(code, 0);
    assert_eq!(report["counts"]["mended"], DAMAGE.len(), "{report}");
    assert_eq!(digests(&world), right);
    check_equal(&world).await;

    for owner in &owners {
        let put = owner.put_text("a", "after", "x").await;
        world.until_projected("a", &put).await;
    }
    check_equal(&world).await;
}

async fn compare(world: &World, verifier: &Verifier, name: &str) -> Comparison {
    verifier
        .compare(&world.owner(name))
        .await
        .expect("compared")
}

/// Goal: a write that the projection has not reached yet is not reported as damage. Without any
/// worker, `verify` reports that the projection lags.
///
/// Method: three owners write all the time, while their copies are compared. Then all workers of
/// shard a stop, an owner writes on shard b, and is compared before and after a worker is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_not_yet_projected_is_no_difference() {
    let (world, workers, owners) = with_some_owners(3).await;
    let session = OperatorSession::open(&world.settings("a"), "test", WaitLimit::FOREVER)
        .await
        .expect("a session");
    let verifier = Verifier::new(session.operator.clone());

    let writing = tokio::spawn({
        let owners = owners.clone();
        async move {
            for number in 0..60 {
                let id = format!("note-{number}");
                let puts = owners.iter().map(|owner| owner.put_text("a", &id, "x"));
                futures::future::join_all(puts).await;
            }
        }
    });
    let mut comparisons = 0;
    while !writing.is_finished() {
        for number in 0..3 {
            let found = compare(&world, &verifier, &format!("somebody-{number}")).await;
            assert!(
                matches!(found, Comparison::Equal | Comparison::Busy),
                "{found:?}"
            );
            comparisons += 1;
        }
    }
    writing.await.expect("no panic");
    assert!(comparisons > 20, "{comparisons} comparisons");

    for worker in workers {
        worker.stop().await.expect("stopped in order");
    }
    let _b = world.worker("b").await;
    owners[0].put_text("b", "on-its-way", "x").await;
    let found = compare(&world, &verifier, "somebody-0").await;
    let Comparison::Differ(divergence) = found else {
        panic!("{found:?}")
    };
    assert!(
        matches!(
            divergence.differences[..],
            [Difference::NotProjected { .. }]
        ),
        "{divergence:?}"
    );

    let _a = world.worker("a").await;
    let found = compare(&world, &verifier, "somebody-0").await;
    assert_eq!(found, Comparison::Equal);
}

/// Returns the first difference that a report names for an owner.
fn first_difference<'a>(world: &World, report: &'a Value, name: &str) -> &'a Value {
    let owner = world.owner(name).to_string();
    let finding = report["owners"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|finding| finding["owner"] == owner)
        .expect("the owner is named");

    &finding["differences"][0]["what"]
}

/// Goal: if the bucket has lost records, `verify` reports it and no tool removes a copy that still
/// has them, unless the operator accepts the loss.
///
/// Method: three owners have three items each. A user with all rights removes alice's last record,
/// and with it her version, and one of bob's earlier records. `verify`, `verify --repair` and
/// `replay` must change nothing; `replay --accept-lost-history` gives up alice's item only.
#[tokio::test(flavor = "multi_thread")]
async fn lost_records_are_reported_and_no_copy_is_removed() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    for name in ["alice", "bob", "carol"] {
        let owner = world.caller(name).await;
        for item in 0..3 {
            owner.put_text("a", &format!("note-{item}"), "x").await;
        }
    }
    let subject_of = |name, item: usize| {
        let (owner, item) = world.items_of("a", name)[item];
        format!("$KV.favorites.{owner}.{item}")
    };
    let alices_last = subject_of("alice", 2);
    let bobs_first = subject_of("bob", 0);
    let breaker = world.connect_breaker().await;

    purge_record(&breaker, &alices_last).await;
    purge_record(&breaker, &bobs_first).await;
    let before = world.query("a", DIGEST_OF_ROWS);

    for more in [&[][..], &["--repair"]] {
        let (code, report) = verify(&world, more).await;
        assert_eq!(code, 1);
        assert_eq!(report["counts"]["differ"], 2, "{report}");
        assert_eq!(report["counts"]["mended"], 0, "{report}");
        let of_alice = first_difference(&world, &report, "alice");
        assert_eq!(of_alice, "truth_lost");
        let of_bob = first_difference(&world, &report, "bob");
        assert_eq!(of_bob, "truth_not_whole");
        assert_eq!(world.query("a", DIGEST_OF_ROWS), before);
    }

    let (code, _) = world.run("a", &["replay"]).await;
    assert_eq!(code, 1);
    assert_eq!(world.query("a", DIGEST_OF_ROWS), before);

    let (code, _) = world.run("a", &["replay", "--accept-lost-history"]).await;
    assert_eq!(code, 1, "bob's records are not complete anywhere");
    let items = world.query("a", "select count(*) from item");
    assert_eq!(items, "8", "alice has lost one");
}

/// Goal: if the bucket has lost its newest history, `verify` reports it, and `replay` changes
/// nothing until the operator accepts the loss. After that the shard works again.
///
/// Method: alice and bob write, the store is copied, and alice writes once more under a request
/// id. `lose` then takes that write from the bucket. After the replay, alice repeats her request,
/// which is now a new write.
async fn the_bucket_loses_history(lose: impl AsyncFnOnce(&mut World, &Path)) {
    let mut world = World::start().await;
    let a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    alice.put_text("a", "old", "x").await;
    bob.put_text("a", "note", "x").await;

    world.nats.stop().expect("stopped");
    let backup = world.directory.join("backup");
    copy(&world.directory.join("store"), &backup);
    world.nats.restart().await.expect("started again");
    world.wait_for_worker("a").await;

    let body = json!({"kind": "text", "id": "new", "data": {"text": "x"}});
    let first = alice.ask_once("a.put", "request-1", &body).await.body;
    assert!(first["error"].is_null(), "{first}");
    lose(&mut world, &backup).await;

    check_accepted(&world).await;
    a.stop().await.expect("stopped in order");
    let _a = world.worker("a").await;

    let again = alice.ask_once("a.put", "request-1", &body).await.body;
    assert!(again["error"].is_null(), "{again}");
    assert!(again["local"].is_null(), "{again}");
    bob.put_text("a", "note", "y").await;
    let strong = json!({"consistency": "strong"});
    let list = alice.done("a.list", &strong).await;
    let items = list["items"].as_array().expect("a list");
    assert!(items.iter().any(|item| item["id"] == "new"), "{list}");
    check_equal(&world).await;
}

/// Checks that the loss is reported, that nothing is removed before the operator accepts it, and
/// that the shard's database shows the acceptance.
async fn check_accepted(world: &World) {
    let (code, report) = verify(world, &["--repair"]).await;
    assert_eq!(code, 1, "{report}");
    assert!(report["history_went_back"].is_string(), "{report}");

    let before = world.query("a", DIGEST_OF_ROWS);
    let (code, _) = world.run("a", &["replay"]).await;
    assert_eq!(code, 1);
    let rows = world.query("a", DIGEST_OF_ROWS);
    assert_eq!(rows, before, "nothing is removed without acceptance");

    let arguments = ["replay", "--accept-lost-history", "--everyone"];
    let (code, text) = world.run("a", &arguments).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("start the shard's workers again"), "{text}");

    // A worker that still has the old history must not report the loss again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let state = world.query("a", "select lost is null, accepted from cursor");
    assert_eq!(state, "t|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_restored_from_a_backup_can_be_accepted() {
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
async fn a_bucket_that_was_deleted_and_recreated_can_be_accepted() {
    the_bucket_loses_history(async |world, _| {
        world.lose_store().await;

        let report = world.init(&world.settings("a")).await.expect("init");
        assert!(report.bucket_created);
    })
    .await;
}

/// Checks that a list is not stale and has the three items of an owner of `with_some_owners`.
fn check_list(list: &Value) {
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3), "{list}");
    assert_eq!(list["stale"], Value::Null, "{list}");
}

/// Goal: a lost database is rebuilt from the bucket: each owner by their next request, and all
/// owners by `replay --everyone`.
///
/// Method: the database of a shard with six owners is dropped while its worker is stopped. A new
/// worker serves one owner, then the replay hosts all.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_rebuilt_by_requests_and_by_replay() {
    let (world, workers, owners) = with_some_owners(6).await;
    let right = digests(&world);
    for worker in workers {
        worker.stop().await.expect("stopped in order");
    }
    let statement = format!("drop database \"{}\" with (force)", world.database("a"));
    let dropped = world.shared.postgres.query("postgres", &statement);
    dropped.expect("dropped");

    let _a = world.worker("a").await;
    check_list(&owners[0].done("a.list", &json!({})).await);
    // An owner is hosted by their request.
    let hosted = "select count(*), count(complete_to) from owner";
    world.until("a", hosted, "1|1").await;

    let (code, text) = world.run("a", &["replay", "--everyone"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(digests(&world), right);
    let complete = world.query("a", "select count(*) from owner where history_complete");
    assert_eq!(complete, "6", "every kept version is there");
    check_equal(&world).await;
}

/// Goal: a complete replay repairs every row while the shard serves its callers.
///
/// Method: half of the kept versions of six owners are deleted and all items altered. During the
/// replay, each owner lists their items twenty times.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_replay_rebuilds_while_the_shard_serves() {
    let (world, _workers, owners) = with_some_owners(6).await;
    let versions = world.query("a", DIGEST_OF_VERSIONS);
    world.query("a", "delete from item_version where version % 2 = 0");
    world.query("a", "update owner set history_complete = false");
    world.query(
        "a",
        "update item set sealed = set_byte(sealed, 90, get_byte(sealed, 90) # 1)",
    );

    let replaying = world.run("a", &["replay"]);
    let serving = async {
        for _ in 0..20 {
            for owner in &owners {
                check_list(&owner.done("a.list", &json!({})).await);
            }
        }
    };
    let ((code, text), ()) = tokio::join!(replaying, serving);

    assert_eq!(code, 0, "{text}");
    assert_eq!(world.query("a", DIGEST_OF_VERSIONS), versions);
    let complete = world.query(
        "a",
        "select count(*) from owner where history_complete and complete_to is not null",
    );
    assert_eq!(complete, "6");
    check_equal(&world).await;
}

/// Deletes the row of an owner's newest item.
fn delete_newest_row(world: &World, name: &str) {
    let owner = world.key_of(name);
    let newest = format!("select max(version) from item where owner_key = {owner}");

    world.query(
        "a",
        &format!("delete from item where owner_key = {owner} and version = ({newest})"),
    );
}

/// Goal: `replay` from a sequence or a time repairs what was written since. It refuses a start
/// that it cannot parse or that lies in the future.
///
/// Method: one owner writes, then two others. The newest rows of these two, and all versions since
/// the first write, are deleted and replayed, once by sequence and once by time.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_from_a_sequence_or_a_time_repairs_what_came_since() {
    let (world, _workers, owners) = with_some_owners(4).await;
    let middle = owners[0].put_text("a", "middle", "x").await["item"].clone();
    // JetStream sets the times. The later writes must not have the same millisecond.
    tokio::time::sleep(Duration::from_millis(5)).await;
    owners[1].put_text("a", "later", "x").await;
    let last = owners[2].put_text("a", "later", "x").await;
    world.until_projected("a", &last).await;

    let right = digests(&world);
    let sequence = middle["version"].as_u64().expect("a version") + 1;
    let since = format!("delete from item_version where version >= {sequence}");
    let time = middle["updated_at"].as_str().expect("a time").to_owned();

    for (option, value) in [
        ("--from-sequence", sequence.to_string()),
        ("--from-time", time),
    ] {
        delete_newest_row(&world, "somebody-1");
        delete_newest_row(&world, "somebody-2");
        world.query("a", &since);

        let (code, text) = world.run("a", &["replay", option, &value]).await;

        assert_eq!(code, 0, "{text}");
        assert!(text.contains("2 owners differed"), "{text}");
        assert_eq!(digests(&world), right);
    }

    for (option, value, expected) in [
        ("--from-time", "yesterday", 1),
        ("--from-sequence", "99999999", 2),
        ("--from-time", "2999-01-01T00:00:00Z", 2),
    ] {
        let (code, _) = world.run("a", &["replay", option, value]).await;
        assert_eq!(code, expected, "{option} {value}");
    }
}

/// Runs `gofavorites shard` as an operator, and returns what it prints.
async fn print_shards(world: &World, more: &[&str]) -> String {
    let mut command = world.program("a", &[&["shard"], more].concat());
    command
        .env("GOFAVORITES_URL", world.nats.url())
        .env("GOFAVORITES_USER", "operator")
        .env("GOFAVORITES_PASSWORD", world.secrets.nats("operator"));

    let output = command.output().await.expect("it starts");

    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Starts two shards with one worker each. Three owners write on shard a, and alice also reads on
/// shard b.
async fn with_hosted_owners() -> (World, Worker, Worker) {
    let (world, a, b) = World::with_two_shards().await;

    for name in ["alice", "bob", "carol"] {
        world.caller(name).await.put_text("a", "note", "x").await;
    }
    world.caller("alice").await.done("b.list", &json!({})).await;
    world.until("a", "select count(*) from owner", "3").await;

    (world, a, b)
}

/// Waits until the shards report three hosted owners and one, and returns the report.
///
/// A worker counts its owners right after it has stored their last-seen times. So no update of
/// `seen_at` is pending afterwards.
async fn wait_for_hosted_counts(world: &World) -> Value {
    let mut report = Value::Null;

    for _ in 0..100 {
        let text = print_shards(world, &["--json"]).await;
        report = serde_json::from_str(&text).expect("JSON");
        if report["shards"][0]["hosted"] == 3 && report["shards"][1]["hosted"] == 1 {
            break;
        }
    }

    report
}

/// Goal: `shard` prints one line for each shard, with what an operator needs to know of it.
///
/// Method: two shards with one worker each; three owners write on shard a, and one of them reads
/// on shard b.
#[tokio::test(flavor = "multi_thread")]
async fn each_shard_is_printed_on_one_line() {
    let (world, _a, _b) = with_hosted_owners().await;

    let report = wait_for_hosted_counts(&world).await;
    let table = print_shards(&world, &[]).await;

    let a = &report["shards"][0];
    let b = &report["shards"][1];
    assert_eq!(a["shard"], "a");
    assert_eq!(a["workers"], 1);
    assert_eq!(a["hosted"], 3);
    assert_eq!(b["hosted"], 1);
    assert_eq!(a["cache"]["owners"], 3);
    assert!(a["cache"]["hit_rate"].is_f64(), "{a}");
    assert_eq!(a["truth"]["reached_by"], 1);
    assert!(
        a["truth"]["last_record_age_ms"].as_u64() < Some(60_000),
        "{a}"
    );
    assert!(a["projection"]["sequence"].as_u64() > Some(0), "{a}");
    assert_eq!(table.lines().count(), 3, "{table}");
    assert_eq!(table.matches(" reached").count(), 2, "{table}");
}

/// Goal: `shard evict` evicts the owners that have not been seen for some days, and refuses fewer
/// days than the shard keeps request ids.
///
/// Method: of three owners, two were last seen 31 days ago, as their rows say. They are evicted
/// after 30 days, once as a dry run.
#[tokio::test(flavor = "multi_thread")]
async fn owners_not_seen_for_some_days_are_evicted() {
    let (world, a, _b) = with_hosted_owners().await;
    wait_for_hosted_counts(&world).await;
    let bob = world.key_of("bob");
    // A worker would store that it has just seen the owners.
    a.stop().await.expect("stopped in order");
    world.query(
        "a",
        &format!("update owner set seen_at = now() - interval '31 days' where owner_key <> {bob}"),
    );

    let evict = async |days: &str, more: &[&str]| {
        let arguments = [&["shard", "evict", "--unseen-for", days], more].concat();
        world.run("a", &arguments).await
    };

    let (code, text) = evict("30d", &["--dry-run"]).await;
    assert_eq!(code, 0);
    assert_eq!(text, "2 owners not seen for 30 days\n");

    let (code, text) = evict("30d", &[]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("2 owners evicted"), "{text}");
    assert_eq!(world.query("a", "select count(*) from owner"), "1");

    let (today, _) = evict("0d", &[]).await;
    assert_eq!(today, 2, "an owner seen today is not inactive");
    let (within, _) = evict("7d", &[]).await;
    assert_eq!(within, 2, "within retry.kept_h, which is 168 hours");
    let (beyond, _) = evict("8d", &["--dry-run"]).await;
    assert_eq!(beyond, 0, "beyond retry.kept_h");
}
