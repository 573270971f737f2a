//! Consistency of reads: as fresh as the caller asks for, never older than what the worker has
//! already seen, and never a write.

use crate::harness::{World, is_record};
use serde_json::{Value, json};

/// A get of the text `note`, with these fields added.
fn get_note(fields: Value) -> Value {
    let mut body = json!({"kind": "text", "id": "note"});
    let fields = fields.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);

    body
}

/// Goal: a strong read returns every write that was acknowledged before it, on any shard.
///
/// Method: in a hundred rounds, one caller writes on one of two shards and reads on the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_strong_read_sees_the_acknowledged_writes_of_all_shards() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let strong = get_note(json!({"consistency": "strong"}));

    for round in 0..100 {
        let (writer, reader) = if round % 2 == 0 {
            ("a", "b")
        } else {
            ("b", "a")
        };
        let put = alice.put_text(writer, "note", &format!("{round}")).await;
        let got = alice.done(&format!("{reader}.get"), &strong).await;

        assert_eq!(got["item"], put["item"], "round {round}");
        assert_eq!(got["owner_version"], put["owner_version"]);
    }
}

/// Goal: an eventual read may return an old copy, except that `min_version` makes it return the
/// caller's own write, and what a worker has once returned it never takes back.
///
/// Method: shard b keeps copies for a minute. The caller writes on shard a and reads on shard b,
/// without and with `min_version`.
#[tokio::test(flavor = "multi_thread")]
async fn min_version_makes_an_eventual_read_see_own_writes() {
    let world = World::start().await;
    let mut settings = world.settings("b");
    settings.read.max_age_ms = 60_000;
    settings.read.follow = false;
    let _a = world.worker("a").await;
    let _b = world.worker_with(settings).await;
    let alice = world.caller("alice").await;

    let eventual = get_note(json!({"consistency": "eventual"}));
    alice.put_text("a", "note", "old").await;
    alice.done("b.get", &eventual).await;
    let new = alice.put_text("a", "note", "new").await;

    let copy = alice.done("b.get", &eventual).await;
    assert_eq!(
        copy["item"]["data"]["text"], "old",
        "the worker did not ask the bucket"
    );
    assert!(
        copy.get("stale").is_none(),
        "the copy is as fresh as the caller asked for"
    );

    let own = get_note(json!({"consistency": "eventual", "min_version": new["owner_version"]}));
    let own = alice.done("b.get", &own).await;
    let after = alice.done("b.get", &eventual).await;
    assert_eq!(own["item"]["data"]["text"], "new");
    assert_eq!(
        after["owner_version"], own["owner_version"],
        "never older than what this worker has seen"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_min_version_that_never_existed_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let put = alice.put_text("a", "note", "x").await;
    let version = put["owner_version"].as_u64().expect("a version");

    for list in ["a.list", "b.list"] {
        alice.done(list, &json!({"min_version": version})).await;

        for consistency in ["head", "strong", "eventual"] {
            let body = json!({"min_version": version + 50, "consistency": consistency});
            let reply = alice.ask(list, &body).await;

            let details = &reply.refusal("bad_request")["details"];
            assert_eq!(details["owner_version"], version, "{list} {consistency}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_consistency_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "note", "x").await;

    let body = json!({"consistency": "sometimes"});
    let reply = alice.ask("a.list", &body).await;

    let details = &reply.refusal("bad_request")["details"];
    assert_eq!(details["field"], "consistency");
}

/// Goal: reads and refused deletions create no record, not even the owner's key.
///
/// Method: a caller without items reads and deletes on two shards with every consistency. The
/// operator counts the subjects of the bucket, before and after the caller's first put.
#[tokio::test(flavor = "multi_thread")]
async fn no_read_creates_a_record_in_the_bucket() {
    let (world, _a, _b) = World::with_two_shards().await;
    let newcomer = world.caller("nobody").await;
    let operator = world.connect("operator").await;

    let count_subjects = async || {
        let query = json!({"subjects_filter": "$KV.favorites.>"}).to_string();
        let info = operator
            .request("$JS.API.STREAM.INFO.KV_favorites", query.into())
            .await
            .expect("an answer");
        let info: Value = serde_json::from_slice(&info.payload).expect("JSON");
        let subjects = info["state"]["subjects"]
            .as_object()
            .cloned()
            .unwrap_or_default();

        subjects.keys().filter(|subject| is_record(subject)).count()
    };
    let delete = json!({"kind": "text", "id": "x"});

    for consistency in ["head", "strong", "eventual"] {
        for shard in ["a", "b"] {
            let body = json!({"consistency": consistency});
            let list = newcomer.done(&format!("{shard}.list"), &body).await;
            assert_eq!(list["owner_version"], 0);

            let body = json!({"kind": "text", "id": "x", "consistency": consistency});
            let get = newcomer.ask(&format!("{shard}.get"), &body).await;
            get.refusal("not_found");
            let deletion = newcomer.ask(&format!("{shard}.delete"), &delete).await;
            deletion.refusal("not_found");
        }
    }

    assert_eq!(count_subjects().await, 0);
    newcomer.put_text("a", "x", "y").await;
    assert_eq!(count_subjects().await, 2, "the owner's key and the item");
}
