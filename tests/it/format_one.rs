//! A bucket of format 1, recorded from the release that knew no other: it is read, verified and
//! written on, first in format 1, and in format 2 once the mark is raised.
//!
//! `recorded/format_one.json` has what the program of commit 57c33c3 stored for five owners, and
//! its replies about them on a shard that had never seen them before.

use crate::harness::samples::{RFC_CODES, RFC_SECRET, code, codes, otp_uri, put_codes, put_otp};
use crate::harness::{Caller, Recorded, RecordedOwner, Worker, World};
use crate::maintain;
use gofavorites::app::{self, WaitLimit};
use gofavorites::maintenance::Round;
use gofavorites::seal::Format;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const FORMAT_ONE: &str = include_str!("recorded/format_one.json");

/// How long running workers may take to see the mark.
const MARK_TIMEOUT: Duration = Duration::from_secs(20);

/// The fields of replies that the recorded release did not have, and the one that depends on the
/// moment.
const NEW_FIELDS: [&str; 3] = ["place", "epoch", "local"];

/// Starts servers with the recorded bucket, and a worker for each of the shards `a` and `b`, which
/// host nobody yet.
pub(crate) async fn with_recorded_bucket() -> (Recorded, World, Vec<Worker>) {
    let recorded = Recorded::parse(FORMAT_ONE);
    let world = recorded.start().await;

    let mut workers = Vec::new();
    for shard in ["a", "b"] {
        let settings = world.settings(shard);
        let report = world.init(&settings).await.expect("init");
        assert!(!report.bucket_created, "it is the recorded one");
        assert_eq!(report.format, 1, "init alone does not raise the mark");
        workers.push(world.try_worker(settings).await.expect("a worker"));
    }

    (recorded, world, workers)
}

/// Returns a reply as the recorded release would have sent it.
fn as_recorded(mut reply: Value) -> Value {
    match &mut reply {
        Value::Object(fields) => {
            fields.retain(|name, _| !NEW_FIELDS.contains(&name.as_str()));
            for value in fields.values_mut() {
                *value = as_recorded(value.take());
            }
        }
        Value::Array(values) => {
            for value in values {
                *value = as_recorded(value.take());
            }
        }
        _ => {}
    }

    reply
}

fn version(reply: &Value, name: &str) -> u64 {
    reply[name].as_u64().expect("a version")
}

/// Returns the kind and id of an item, as requests name it.
fn name_of(item: &Value) -> Value {
    json!({"kind": item["kind"], "id": item["id"]})
}

fn text(id: &str) -> Value {
    json!({"kind": "text", "id": id})
}

fn put(id: &str, text: &str) -> Value {
    json!({"kind": "text", "id": id, "data": {"text": text}})
}

/// Returns the items of a strong list, after a check that their places are in the order of the
/// list.
async fn listed(caller: &Caller, shard: &str) -> Vec<Value> {
    let body = json!({"consistency": "strong", "limit": 500});
    let list = caller.done(&format!("{shard}.list"), &body).await;

    let items = list["items"].as_array().expect("a list");
    let places: Vec<&str> = items
        .iter()
        .map(|item| item["place"].as_str().expect("a place"))
        .collect();
    assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
    items.clone()
}

/// Returns the names of the items, in the order of the list.
async fn names(caller: &Caller, shard: &str) -> Vec<Value> {
    listed(caller, shard).await.iter().map(name_of).collect()
}

/// Checks that the shard hosts all owners of the bucket, and that `verify` finds no difference.
async fn check_verified(world: &World, shard: &str, owners: usize) {
    let complete = "select count(*) from owner where history_complete and complete_to is not null";
    world.until(shard, complete, &owners.to_string()).await;

    let (code, report) = world.run(shard, &["verify", "--json"]).await;
    assert_eq!(code, 0, "{report}");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["counts"]["equal"], owners, "{report}");
}

/// Checks that a shard answers about an owner as the recorded release did.
async fn check_replies(caller: &Caller, shard: &str, owner: &RecordedOwner) {
    let subject = &owner.subject;
    let ask = async |operation: &str, body: &Value| {
        let reply = caller.done(&format!("{shard}.{operation}"), body).await;
        as_recorded(reply)
    };

    let list = ask("list", &json!({"consistency": "strong"})).await;
    assert_eq!(list, owner.list, "the list of {subject} on shard {shard}");
    listed(caller, shard).await;

    let changes = ask("changes", &json!({"since": 0})).await;
    assert_eq!(changes, owner.changes, "of {subject} on shard {shard}");

    for item in owner.list["items"].as_array().expect("a list") {
        let get = ask("get", &name_of(item)).await;
        assert_eq!(get["item"], *item, "of {subject} on shard {shard}");
    }
    for history in &owner.histories {
        let reply = ask("history", &history.request).await;
        assert_eq!(reply, history.reply, "of {subject} on shard {shard}");
    }
}

/// Checks that `changes` since a version below the owner's floor is refused, if the owner has one.
async fn check_floor(caller: &Caller, shard: &str, owner: &RecordedOwner) -> bool {
    let floor = version(&owner.changes, "floor");
    if floor == 0 {
        return false;
    }

    let since = json!({"since": floor - 1});
    let reply = caller.ask(&format!("{shard}.changes"), &since).await;
    let details = &reply.refusal("resync_required")["details"];
    assert_eq!(details["floor"], floor);
    assert_eq!(details["owner_version"], owner.changes["owner_version"]);

    true
}

/// Repeats every recorded write that had a request id, and checks that it gets its first reply.
async fn check_repeats(recorded: &Recorded, world: &World, shard: &str) {
    for owner in &recorded.owners {
        let caller = owner.caller(world).await;

        for request in &owner.requests {
            let operation = format!("{shard}.{}", request.operation);
            let reply = caller
                .ask_once(&operation, &request.id, &request.body)
                .await;

            let reply = as_recorded(reply.body);
            assert_eq!(reply, request.reply, "{} on shard {shard}", request.id);
        }
    }
}

/// Goal: every shard reads the recorded bucket as the release did that wrote it: the same items in
/// the same order, the same changes, histories and versions.
///
/// Method: two shards, which never saw the owners, answer about each of them. `verify` then
/// compares their rows, and a third shard is filled by a replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_format_1_is_read_as_it_was_before() {
    let (recorded, world, _workers) = with_recorded_bucket().await;
    let mut floors = 0;

    for owner in &recorded.owners {
        let caller = owner.caller(&world).await;
        for shard in ["a", "b"] {
            check_replies(&caller, shard, owner).await;
            floors += usize::from(check_floor(&caller, shard, owner).await);
        }
    }
    assert_eq!(floors, 4, "two owners have a floor, on both shards");
    for shard in ["a", "b"] {
        check_verified(&world, shard, recorded.owners.len()).await;
    }

    let _c = world.worker("c").await;
    let (code, report) = world.run("c", &["replay", "--everyone"]).await;
    assert_eq!(code, 0, "{report}");
    check_verified(&world, "c", recorded.owners.len()).await;
    for owner in &recorded.owners {
        check_replies(&owner.caller(&world).await, "c", owner).await;
    }
    let written = world.formats_after(recorded.newest()).await;
    assert_eq!(written, BTreeSet::new(), "nobody wrote a record");
}

/// Writes in every way that format 1 allows, on both shards in turn. Alice has the most items.
/// Returns the names of the items that were written.
async fn write_on(alice: &Caller) -> Vec<Value> {
    let wishes = alice.done("a.get", &text("wishes")).await;
    let wishes_version = version(&wishes["item"], "version");
    alice.done("a.put", &put("rates", "other rates")).await;
    alice.done("b.put", &put("spring", "a new text")).await;

    alice.done("a.delete", &text("wishes")).await;
    let restore = json!({"kind": "text", "id": "wishes", "version": wishes_version});
    let restored = alice.done("b.restore", &restore).await;
    assert_eq!(restored["item"]["data"], wishes["item"]["data"]);

    let atomic = json!({"mode": "atomic", "ops": [
        {"op": "put", "kind": "instrument", "id": "US0378331005", "tags": ["core", "new"]},
        {"op": "delete", "kind": "text", "id": "again"},
    ]});
    alice.done("a.batch", &atomic).await;
    let each = json!({"mode": "each", "ops": [
        {"op": "delete", "kind": "text", "id": "nothing"},
        {"op": "put", "kind": "text", "id": "something", "data": {"text": "x"}},
    ]});
    let first = alice.ask_once("b.batch", "each-today", &each).await.body;
    let again = alice.ask_once("a.batch", "each-today", &each).await.body;
    assert_eq!(first["results"][0]["error"]["code"], "not_found");
    assert_eq!(as_recorded(again), as_recorded(first));

    let rename = json!({"from": "held", "to": "kept"});
    let renamed = alice.done("a.tags.rename", &rename).await;
    assert_eq!(renamed["items"], 1);

    let stocks = ["US0378331005", "DE0007164600"].map(|id| json!({"kind": "instrument", "id": id}));
    let texts = ["rates", "spring", "wishes", "again", "something"].map(text);
    stocks.into_iter().chain(texts).collect()
}

/// Checks that what format 1 cannot hold is refused, and that the message names the command that
/// raises the mark.
async fn check_refused_in_format_one(caller: &Caller, shard: &str) {
    let future = json!({"type": "future", "mic": "RTSX", "ticker": "SiZ6"});
    let writes = [
        ("put", put_otp("bank", &otp_uri("totp", RFC_SECRET, ""))),
        ("put", put_codes("bank", &codes(0..2))),
        ("put", json!({"kind": "instrument", "data": future})),
        ("move", text("rates")),
    ];

    for (operation, body) in writes {
        let reply = caller.ask(&format!("{shard}.{operation}"), &body).await;

        let refusal = reply.refusal("bad_request");
        let message = refusal["message"].as_str().expect("a text");
        assert!(message.contains("init --formats 2"), "{refusal}");
        if body["kind"] == "otp" || body["kind"] == "codes" {
            assert_eq!(refusal["details"]["field"], "kind");
        }
    }
}

/// Goal: until the mark is raised, workers write what the recorded release can read. A repeat of a
/// recorded request gets its first reply.
///
/// Method: every recorded request is repeated on both shards. Then the recorded owners, and a new
/// one, write on two shards. All new records must have format 1, and both shards must return the
/// same items. What format 1 cannot hold is refused.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_mark_the_bucket_is_written_on_in_format_1() {
    let (recorded, world, _workers) = with_recorded_bucket().await;
    for shard in ["b", "a"] {
        check_repeats(&recorded, &world, shard).await;
    }
    let written = world.formats_after(recorded.newest()).await;
    assert_eq!(written, BTreeSet::new(), "a repeat writes nothing");

    let alice = world.caller("alice").await;
    check_refused_in_format_one(&alice, "a").await;
    check_refused_in_format_one(&alice, "b").await;
    let before = alice.done("a.changes", &json!({"since": 0})).await;
    let mut written = write_on(&alice).await;
    for subject in ["bob", "carol", "dave", "erin", "frank"] {
        let caller = world.caller(subject).await;
        caller.put_text("a", "new", "of a shard").await;
        caller.put_text("b", "two", "of another shard").await;
    }

    let formats = world.formats_after(recorded.newest()).await;
    assert_eq!(formats, BTreeSet::from([1]));
    let since = json!({"since": before["owner_version"]});
    let changes = alice.done("b.changes", &since).await;
    let items = changes["items"].as_array().expect("a list");
    let mut changed: Vec<Value> = items.iter().map(name_of).collect();
    for names in [&mut changed, &mut written] {
        names.sort_by_key(Value::to_string);
    }
    assert_eq!(changed, written);

    check_repeats(&recorded, &world, "a").await;
    for subject in ["alice", "bob", "carol", "dave", "erin", "frank"] {
        let caller = world.caller(subject).await;
        assert_eq!(listed(&caller, "a").await, listed(&caller, "b").await);
    }
    check_verified(&world, "a", 6).await;
    check_verified(&world, "b", 6).await;
}

/// Goal: a recorded request id cannot be used for another request.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_request_id_with_another_body_is_refused() {
    let (recorded, world, _workers) = with_recorded_bucket().await;

    // Only a shard that has all kept versions of an owner recognises every request id.
    for owner in &recorded.owners {
        owner.caller(&world).await.done("a.list", &json!({})).await;
    }
    let incomplete = "select count(*) from owner where not history_complete";
    world.until("a", incomplete, "0").await;

    for owner in &recorded.owners {
        let caller = owner.caller(&world).await;
        for request in &owner.requests {
            let other = put("other", "x");
            let reply = caller.ask_once("a.put", &request.id, &other).await;
            reply.refusal("request_id_reused");
        }
    }
}

/// Raises the mark, and waits until the running workers of both shards write format 2. Returns a
/// sequence after which they all do.
async fn raise_mark(world: &World) -> u64 {
    let mut settings = world.settings("a");
    world.connect_all_as(&mut settings, "init");
    let report = app::init(&settings, Some(Format::Two), WaitLimit::FOREVER).await;
    assert_eq!(report.expect("init").format, 2);

    let mut marked = 0;
    for shard in ["a", "b"] {
        // Each shard has its own owner. One record of format 2 is enough for a worker to write that
        // owner's next record in format 2 as well.
        let caller = world.caller(&format!("probe-{shard}")).await;
        let start = Instant::now();
        loop {
            let put = caller.put_text(shard, "probe", "x").await;
            marked = version(&put["item"], "version");
            if world.formats_after(marked - 1).await == BTreeSet::from([2]) {
                break;
            }

            assert!(start.elapsed() < MARK_TIMEOUT, "shard {shard}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    marked
}

/// Writes what only format 2 can hold, on both shards in turn. Returns the names of the owner's
/// items as they are to be listed then.
async fn write_in_format_two(alice: &Caller) -> Vec<Value> {
    let mut expected = names(alice, "a").await;
    let last = expected.pop().expect("an item");
    alice.done("a.move", &last).await;
    expected.insert(0, last);
    let mut third = expected.remove(2);
    expected.insert(1, third.clone());
    third["after"] = expected[0].clone();
    alice.done("b.move", &third).await;

    let rename = json!({"from": "core", "to": "kernel"});
    assert_eq!(alice.done("a.tags.rename", &rename).await["items"], 2);
    let otp = put_otp("bank", &otp_uri("hotp", RFC_SECRET, ""));
    alice.done("b.put", &otp).await;
    let used = alice.done("a.otp.code", &json!({"id": "bank"})).await;
    assert_eq!(used["code"], RFC_CODES[0]);
    alice.done("a.put", &put_codes("bank", &codes(0..3))).await;
    let taken = alice.done("b.codes.take", &json!({"id": "bank"})).await;
    assert_eq!(taken["code"], code(0));

    let future = json!({"type": "future", "mic": "RTSX", "ticker": "SiZ6"});
    let future = json!({"kind": "instrument", "data": future});
    alice.done("a.put", &future).await;
    alice.done("b.put", &put("today", "a text")).await;
    let new = [
        json!({"kind": "otp", "id": "bank"}),
        json!({"kind": "codes", "id": "bank"}),
        json!({"kind": "instrument", "id": "RTSX:SiZ6"}),
        text("today"),
    ];
    expected.extend(new);
    expected
}

/// Checks that the recorded versions are still in the histories, as they were.
async fn check_old_versions(recorded: &Recorded, world: &World, shard: &str) {
    for owner in &recorded.owners {
        let caller = owner.caller(world).await;

        for history in &owner.histories {
            let operation = format!("{shard}.history");
            let reply = caller.done(&operation, &history.request).await;

            let mut versions = reply["versions"].as_array().expect("a list").clone();
            versions.retain(|one| version(one, "version") <= recorded.newest());
            let versions = as_recorded(json!(versions));
            assert_eq!(versions, history.reply["versions"], "{}", owner.subject);
        }
    }
}

/// Goal: once the mark is raised, running workers write format 2 on top of format 1, and records of
/// both formats make one list, one complete set and one history.
///
/// Method: the mark is raised while two workers run. The owners then move items, rename tags, and
/// write secrets on both shards. `verify` compares both shards, and a third one hosts the owners
/// from the bucket alone.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_mark_the_bucket_is_written_on_in_format_2() {
    let (recorded, world, _workers) = with_recorded_bucket().await;
    let alice = world.caller("alice").await;
    names(&alice, "b").await;
    alice
        .put_text("a", "last", "the last one of format 1")
        .await;
    let last = version(&alice.done("a.list", &json!({})).await, "owner_version");
    let marked = raise_mark(&world).await;

    let expected = write_in_format_two(&alice).await;
    for subject in ["bob", "carol", "dave", "frank"] {
        let caller = world.caller(subject).await;
        let last = names(&caller, "b").await.pop().expect("an item");
        caller.done("a.move", &last).await;
        caller.put_text("b", "today", "of another shard").await;
    }
    assert_eq!(world.formats_after(marked).await, BTreeSet::from([2]));

    for shard in ["a", "b"] {
        assert_eq!(names(&alice, shard).await, expected, "on shard {shard}");
    }
    let items = listed(&alice, "a").await;
    let old = |item: &&Value| version(item, "version") <= last;
    let count = items.iter().filter(old).count();
    assert!(0 < count && count < items.len(), "both formats: {items:?}");

    // The recorded owners, and one for each shard that waited for the mark.
    let owners = recorded.owners.len();
    for shard in ["a", "b"] {
        check_verified(&world, shard, owners + 1).await;
    }
    let _c = world.worker("c").await;
    for owner in &recorded.owners {
        let caller = owner.caller(&world).await;
        assert_eq!(listed(&caller, "c").await, listed(&caller, "a").await);
    }
    check_repeats(&recorded, &world, "c").await;
    check_old_versions(&recorded, &world, "c").await;
    check_verified(&world, "c", owners).await;
}

/// Goal: a text of format 1 that is written again in format 2 keeps its place, and its old version
/// can be restored.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_format_1_is_restored_in_format_2() {
    let (_recorded, world, _workers) = with_recorded_bucket().await;
    let alice = world.caller("alice").await;
    let then = alice.done("a.get", &text("rates")).await["item"].clone();
    raise_mark(&world).await;

    let put = alice.done("b.put", &put("rates", "other rates")).await;
    let restore = json!({"kind": "text", "id": "rates", "version": then["version"]});
    let restored = alice.done("a.restore", &restore).await;

    assert_eq!(put["item"]["place"], then["place"]);
    assert_eq!(put["item"]["created_at"], then["created_at"]);
    for field in ["data", "meta", "tags", "place", "created_at"] {
        assert_eq!(restored["item"][field], then[field], "{field}");
    }
}

/// Runs maintenance that forgets every deletion, and returns how many owners had one and how many
/// there were.
async fn forget_deletions(world: &World) -> [u64; 2] {
    let Round { tidied, purged, .. } = maintain::maintain(&maintain::settings(world)).await;

    [tidied, purged]
}

/// Goal: deletions of the recorded bucket are forgotten, in format 1 and, once the mark is raised,
/// in format 2, and no shard shows a forgotten item.
#[tokio::test(flavor = "multi_thread")]
async fn deletions_of_format_1_are_forgotten_in_both_formats() {
    let (recorded, world, _workers) = with_recorded_bucket().await;
    let deletions = |owner: &RecordedOwner| {
        let items = owner.changes["items"].as_array().expect("a list");
        items.iter().filter(|item| item["deleted"] == true).count() as u64
    };
    let counts: Vec<u64> = recorded.owners.iter().map(deletions).collect();
    let owners = counts.iter().filter(|count| **count > 0).count() as u64;
    let alice = world.caller("alice").await;
    let before = listed(&alice, "b").await;

    let forgotten = forget_deletions(&world).await;
    assert_eq!(forgotten, [owners, counts.iter().sum()]);
    let formats = world.formats_after(recorded.newest()).await;
    assert_eq!(formats, BTreeSet::from([1]), "floors of format 1");
    for shard in ["a", "b"] {
        assert_eq!(listed(&alice, shard).await, before, "on shard {shard}");
    }

    let marked = raise_mark(&world).await;
    let last = alice.done("a.list", &json!({})).await;
    alice.done("b.delete", &text("rates")).await;
    assert_eq!(forget_deletions(&world).await, [1, 1]);
    let formats = world.formats_after(marked).await;
    assert_eq!(formats, BTreeSet::from([2]), "a floor of format 2");
    for shard in ["a", "b"] {
        let since = json!({"since": last["owner_version"]});
        let changes = alice.ask(&format!("{shard}.changes"), &since).await;
        changes.refusal("resync_required");
        let names = names(&alice, shard).await;
        assert_eq!(names.len() + 1, before.len(), "on shard {shard}");
        assert!(!names.contains(&text("rates")), "on shard {shard}");
    }
}
