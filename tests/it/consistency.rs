//! How fresh a read is: as asked, never older than what was seen, and never at the cost of a write.

use crate::harness::World;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_strong_read_sees_what_was_acknowledged_on_another_shard() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    for round in 0..100 {
        let (writer, reader) = if round % 2 == 0 {
            ("a", "b")
        } else {
            ("b", "a")
        };
        let put = alice.put_text(writer, "note", &format!("{round}")).await;
        let got = alice
            .done(
                &format!("{reader}.get"),
                &json!({"kind": "text", "id": "note", "consistency": "strong"}),
            )
            .await;
        assert_eq!(got, put, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eventual_read_takes_the_copy_at_hand_and_min_version_makes_it_read_its_writes() {
    let world = World::start().await;
    let mut settings = world.settings("b");
    settings.read.max_age_ms = 60_000;
    let (_a, _b) = (world.worker("a").await, world.worker_with(settings).await);
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "old").await;
    let get = |more: Value| {
        let mut body = json!({"kind": "text", "id": "note", "consistency": "eventual"});
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        body
    };
    alice.done("b.get", &get(json!({}))).await;
    let new = alice.put_text("a", "note", "new").await;
    let copy = alice.done("b.get", &get(json!({}))).await;
    assert_eq!(
        copy["item"]["data"]["text"], "old",
        "the truth was not asked"
    );
    assert!(
        copy.get("stale").is_none(),
        "it is as fresh as was asked for"
    );
    let mine = alice
        .done("b.get", &get(json!({"min_version": new["owner_version"]})))
        .await;
    assert_eq!(mine["item"]["data"]["text"], "new");
    let after = alice.done("b.get", &get(json!({}))).await;
    assert_eq!(
        after["owner_version"], mine["owner_version"],
        "never older than what this worker has seen"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_min_version_that_never_was_is_refused_with_the_owners() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let put = alice.put_text("a", "note", "x").await;
    let version = put["owner_version"].as_u64().expect("a version");
    for what in ["a.list", "b.list"] {
        alice.done(what, &json!({"min_version": version})).await;
        for consistency in ["head", "strong", "eventual"] {
            let body = json!({"min_version": version + 50, "consistency": consistency});
            let reply = alice.ask(what, &body).await;
            assert_eq!(
                reply.refusal("bad_request")["details"]["owner_version"],
                version
            );
        }
    }
    let bad = alice
        .ask("a.list", &json!({"consistency": "sometimes"}))
        .await;
    assert_eq!(
        bad.refusal("bad_request")["details"]["field"],
        "consistency"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_creates_anything_in_the_truth() {
    let (world, _a, _b) = World::with_two_shards().await;
    let nobody = world.caller("nobody").await;
    let operator = world.connect("operator").await;
    let subjects = async || {
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
        subjects
            .keys()
            .filter(|subject| !subject.contains("._b."))
            .count()
    };
    for consistency in ["head", "strong", "eventual"] {
        for shard in ["a", "b"] {
            let body = json!({"consistency": consistency});
            assert_eq!(
                nobody.done(&format!("{shard}.list"), &body).await["owner_version"],
                0
            );
            let get = json!({"kind": "text", "id": "x", "consistency": consistency});
            nobody
                .ask(&format!("{shard}.get"), &get)
                .await
                .refusal("not_found");
            nobody
                .ask(
                    &format!("{shard}.delete"),
                    &json!({"kind": "text", "id": "x"}),
                )
                .await
                .refusal("not_found");
        }
    }
    assert_eq!(subjects().await, 0);
    nobody.put_text("a", "x", "y").await;
    assert_eq!(subjects().await, 2, "the owner's key and the item");
}
