//! Lists of one-time codes: each code is given out once, in order, and stays hidden otherwise.

use crate::harness::samples::{code, codes, put_codes};
use crate::harness::{Caller, World};
use serde_json::{Value, json};
use std::time::Duration;

/// Puts a list on shard a, and returns the item of the reply.
async fn put(caller: &Caller, id: &str, codes: &[String]) -> Value {
    caller.done("a.put", &put_codes(id, codes)).await["item"].clone()
}

async fn take(caller: &Caller, shard: &str, id: &str) -> Value {
    let body = json!({"id": id});

    caller.done(&format!("{shard}.codes.take"), &body).await
}

/// Reads the list `bank` on shard b with its codes, and returns its data.
async fn revealed(caller: &Caller) -> Value {
    let body = json!({"kind": "codes", "id": "bank", "reveal": true, "consistency": "strong"});

    caller.done("b.get", &body).await["item"]["data"].clone()
}

/// Checks that the list has no code left.
async fn assert_used_up(caller: &Caller, shard: &str) {
    let body = json!({"id": "bank"});
    let reply = caller.ask(&format!("{shard}.codes.take"), &body).await;

    let details = &reply.refusal("not_found")["details"];
    assert_eq!(details["remaining"], 0, "on shard {shard}");
    assert!(details["owner_version"].is_u64(), "{details}");
}

/// Goal: codes are given out in the order in which they were given, each with what is left, until
/// none is left.
///
/// Method: one caller takes four codes from two shards in turn, and reads the list after each.
#[tokio::test(flavor = "multi_thread")]
async fn codes_are_taken_in_order_until_none_is_left() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let get = json!({"kind": "codes", "id": "bank", "consistency": "strong"});
    let mut given = codes(0..4);
    given.reverse();

    let item = put(&alice, "bank", &given).await;
    assert_eq!(item["data"], json!({"remaining": 4, "total": 4}));

    for (number, expected) in given.iter().enumerate() {
        let shard = if number % 2 == 0 { "a" } else { "b" };

        let reply = take(&alice, shard, "bank").await;
        let item = alice.done("a.get", &get).await["item"].clone();
        let shown = revealed(&alice).await;

        assert_eq!(reply["code"], *expected);
        assert_eq!(reply["remaining"], 3 - number);
        assert_eq!(reply["version"], reply["owner_version"]);
        assert_eq!(item["version"], reply["version"], "it is a write");
        assert_eq!(item["data"], json!({"remaining": 3 - number, "total": 4}));
        assert_eq!(shown["codes"], json!(given[number + 1..]));
        assert_eq!(shown["taken"], json!(given[..=number]));
        assert_eq!(shown["total"], 4);
    }

    assert_used_up(&alice, "a").await;
    assert_used_up(&alice, "b").await;
    let after = alice.done("a.get", &get).await["item"].clone();
    assert_eq!(after["data"], json!({"remaining": 0, "total": 4}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_not_there_is_not_one_that_is_used_up() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "gone", &codes(0..1)).await;
    alice.put_text("a", "note", "x").await;
    let gone = json!({"kind": "codes", "id": "gone"});
    let deletion = alice.done("a.delete", &gone).await;

    for id in ["none", "gone", "note"] {
        let take = json!({"id": id});
        let add = json!({"id": id, "codes": codes(5..6)});

        for (operation, body) in [("a.codes.take", take), ("b.codes.add", add)] {
            let reply = alice.ask(operation, &body).await;
            let details = &reply.refusal("not_found")["details"];
            assert!(details.get("remaining").is_none(), "{operation} {id}");
            let version = &details["owner_version"];
            assert_eq!(*version, deletion["owner_version"], "{operation} {id}");
        }
    }
}

/// Goal: added codes come after those that are there, also on a list that was used up.
///
/// Method: one caller adds codes to a list of which one is taken, takes all, adds one more, and
/// takes it.
#[tokio::test(flavor = "multi_thread")]
async fn added_codes_come_after_those_that_are_left() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let mut body = put_codes("bank", &codes(0..2));
    body["tags"] = json!(["t"]);
    body["meta"] = json!({"m": "1"});
    alice.done("a.put", &body).await;
    take(&alice, "a", "bank").await;

    let add = json!({"id": "bank", "codes": [code(9), code(3)]});
    let added = alice.done("b.codes.add", &add).await;

    let item = &added["item"];
    assert_eq!(item["data"], json!({"remaining": 3, "total": 4}));
    assert_eq!(item["tags"], json!(["t"]), "everything else stays");
    assert_eq!(item["meta"], json!({"m": "1"}));
    assert_eq!(item["version"], added["owner_version"]);
    for expected in [code(1), code(9), code(3)] {
        assert_eq!(take(&alice, "a", "bank").await["code"], expected);
    }
    assert_used_up(&alice, "b").await;

    let add = json!({"id": "bank", "codes": [code(4)]});
    alice.done("a.codes.add", &add).await;
    assert_eq!(take(&alice, "b", "bank").await["code"], code(4));
}

/// Goal: a code that is in the list, taken or not, cannot be added; a refusal repeats no code.
///
/// Method: one caller adds codes that are taken, left, and twice in the request. Nothing may
/// change.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_there_already_is_not_added() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "bank", &codes(0..2)).await;
    take(&alice, "a", "bank").await;
    let before = revealed(&alice).await;

    for (number, why) in [(0, "taken"), (1, "left"), (5, "twice")] {
        let body = json!({"id": "bank", "codes": [code(5), code(number)]});
        let reply = alice.ask("b.codes.add", &body).await;

        let error = reply.refusal("invalid_item");
        assert_eq!(error["details"]["field"], "codes[1]", "{why}");
        assert!(!error.to_string().contains(&code(number)), "{why}: {error}");
    }
    assert_eq!(revealed(&alice).await, before);
}

/// Goal: a put of a list keeps what was taken, and cannot bring a taken code back.
///
/// Method: one caller takes a code, puts lists with it and without it, alone and in a batch, and
/// takes what is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_of_a_list_keeps_what_was_taken() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "bank", &codes(0..3)).await;
    take(&alice, "a", "bank").await;

    let mut op = put_codes("bank", &codes(0..3));
    let alone = alice.ask("b.put", &op).await;
    op["op"] = json!("put");
    let batch = json!({"mode": "each", "ops": [op]});
    let in_batch = alice.done("a.batch", &batch).await;
    let details = &alone.refusal("invalid_item")["details"];
    assert_eq!(details["field"], "data.codes[0]");
    let error = &in_batch["results"][0]["error"];
    assert_eq!(error["code"], "invalid_item");
    assert_eq!(error["details"]["field"], "ops[0].data.codes[0]");

    let others = [code(7), code(1)];
    let item = put(&alice, "bank", &others).await;
    assert_eq!(item["data"], json!({"remaining": 2, "total": 3}));
    let shown = revealed(&alice).await;
    assert_eq!(shown["codes"], json!(others));
    assert_eq!(shown["taken"], json!([code(0)]));
    // What the put replaced was not taken, so it may come back.
    let item = put(&alice, "bank", &codes(2..3)).await;
    assert_eq!(item["data"], json!({"remaining": 1, "total": 2}));

    let tagged = json!({"kind": "codes", "id": "bank", "tags": ["t"]});
    let item = alice.done("b.put", &tagged).await["item"].clone();
    assert_eq!(item["data"], json!({"remaining": 1, "total": 2}));
    assert_eq!(take(&alice, "a", "bank").await["code"], code(2));
}

/// Goal: a list that comes back after its deletion has all codes taken that were taken in its last
/// life, whatever version is restored.
///
/// Method: one caller takes a code, replaces the list, takes another code, deletes the list, and
/// restores each of the two lists, on another shard each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_list_comes_back_with_what_was_taken() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bank = json!({"kind": "codes", "id": "bank"});
    let first = put(&alice, "bank", &codes(0..2)).await;
    take(&alice, "a", "bank").await;
    let second = put(&alice, "bank", &codes(4..7)).await;
    take(&alice, "b", "bank").await;

    let restored = |version: &Value| {
        let version = version.clone();
        json!({"kind": "codes", "id": "bank", "version": version})
    };
    alice.done("a.delete", &bank).await;
    alice.done("b.restore", &restored(&first["version"])).await;
    assert_eq!(revealed(&alice).await["codes"], json!(codes(1..2)));
    assert_eq!(take(&alice, "a", "bank").await["code"], code(1));
    assert_used_up(&alice, "b").await;

    alice.done("b.delete", &bank).await;
    alice.done("a.restore", &restored(&second["version"])).await;
    assert_eq!(revealed(&alice).await["codes"], json!(codes(5..7)));
    for taken in [0, 1, 4] {
        let again = put_codes("bank", &[code(8), code(taken)]);
        let reply = alice.ask("a.put", &again).await;
        let details = &reply.refusal("invalid_item")["details"];
        assert_eq!(details["field"], "data.codes[1]", "{taken}");
    }
    assert_eq!(take(&alice, "b", "bank").await["code"], code(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring_a_living_list_brings_back_its_labels_only() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let mut body = put_codes("bank", &codes(0..3));
    body["tags"] = json!(["first"]);
    body["meta"] = json!({"m": "1"});
    let first = alice.done("a.put", &body).await["item"].clone();
    take(&alice, "a", "bank").await;
    put(&alice, "bank", &codes(5..7)).await;
    let before = revealed(&alice).await;
    let restore = json!({"kind": "codes", "id": "bank", "version": first["version"]});

    let restored = alice.done("b.restore", &restore).await["item"].clone();

    assert_eq!(restored["tags"], first["tags"]);
    assert_eq!(restored["meta"], first["meta"]);
    assert_eq!(restored["data"], json!({"remaining": 2, "total": 3}));
    assert_eq!(revealed(&alice).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_takes_the_same_code() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "bank", &codes(0..20)).await;
    let body = json!({"id": "bank"});

    let first = alice.ask_once("a.codes.take", "request", &body).await.body;
    let at_once = alice.ask_once("b.codes.take", "request", &body).await.body;
    for _ in 0..10 {
        take(&alice, "b", "bank").await;
    }

    assert_eq!(first["code"], code(0));
    assert_eq!(at_once, first);
    for shard in ["a", "b"] {
        let operation = format!("{shard}.codes.take");
        let later = alice.ask_once(&operation, "request", &body).await.body;
        assert_eq!(later, first, "later on shard {shard}");
    }
    let next = take(&alice, "a", "bank").await;
    assert_eq!(next["code"], code(11), "no code was lost to a repeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_an_id_gets_a_generated_one() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let body = json!({"kind": "codes", "data": {"codes": codes(0..1)}});

    let put = alice.done("a.put", &body).await;

    let id = put["item"]["id"].as_str().expect("an id");
    let uuid: uuid::Uuid = id.parse().expect("a UUID");
    assert_eq!(uuid.get_version_num(), 7);
    assert_eq!(take(&alice, "b", id).await["code"], code(0));
}

/// Goal: each operation on codes needs its own scope.
///
/// Method: callers with only the scope for secrets, and with only the other two, take, add and
/// reveal.
#[tokio::test(flavor = "multi_thread")]
async fn taking_needs_the_scope_for_secrets_and_adding_does_not() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let with = |scope: &str| {
        let token = world.token("alice", scope, Duration::from_secs(600));
        alice.with_token(&token)
    };
    let writer = with("favorites:read favorites:write");
    let holder = with("favorites:secrets");
    put(&alice, "bank", &codes(0..2)).await;
    let take = json!({"id": "bank"});
    let add = json!({"id": "bank", "codes": codes(2..3)});
    let reveal = json!({"kind": "codes", "id": "bank", "reveal": true});

    let taken = holder.done("a.codes.take", &take).await;
    writer.done("a.codes.add", &add).await;
    assert_eq!(taken["code"], code(0));

    for (caller, operation, body, scope) in [
        (&writer, "a.codes.take", &take, "favorites:secrets"),
        (&writer, "a.get", &reveal, "favorites:secrets"),
        (&holder, "a.codes.add", &add, "favorites:write"),
        (&holder, "a.get", &reveal, "favorites:read"),
    ] {
        let reply = caller.ask(operation, body).await;
        let details = &reply.refusal("forbidden")["details"];
        assert_eq!(details["scope"], scope, "{operation}");
    }
}

/// Goal: a list has 1 to `codes` codes, the taken ones included, each of 1 to `code_bytes` bytes.
///
/// Method: one caller puts and adds codes at both sides of each limit, and reads the limits.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_keeps_to_its_limits() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let limits = alice.done("a.limits", &json!({})).await["limits"].clone();
    assert_eq!(limits["codes"]["value"], 200);
    assert_eq!(limits["code_bytes"]["value"], 128);

    let longest = "é".repeat(64);
    put(&alice, "longest", std::slice::from_ref(&longest)).await;
    for (bad, field) in [
        (vec![], "data.codes"),
        (vec![code(0), String::new()], "data.codes[1]"),
        (vec![format!("{longest}x")], "data.codes[0]"),
        (vec!["a\nb".to_owned()], "data.codes[0]"),
        (vec![code(0), code(1), code(0)], "data.codes[2]"),
        (codes(0..201), "data.codes"),
    ] {
        let reply = alice.ask("a.put", &put_codes("bank", &bad)).await;
        let details = &reply.refusal("invalid_item")["details"];
        assert_eq!(details["field"], field);
    }

    put(&alice, "bank", &codes(0..199)).await;
    take(&alice, "a", "bank").await;
    let add = |codes: &[String]| json!({"id": "bank", "codes": codes});
    for (bad, field) in [
        (vec![], "codes"),
        (codes(300..302), "codes"),
        (vec![String::new()], "codes[0]"),
    ] {
        let reply = alice.ask("a.codes.add", &add(&bad)).await;
        let details = &reply.refusal("invalid_item")["details"];
        assert_eq!(details["field"], field, "the taken one counts");
    }
    let full = alice.done("b.codes.add", &add(&codes(300..301))).await;
    let data = &full["item"]["data"];
    assert_eq!(*data, json!({"remaining": 199, "total": 200}));

    let too_many = put_codes("bank", &codes(400..600));
    let reply = alice.ask("a.put", &too_many).await;
    let details = &reply.refusal("invalid_item")["details"];
    assert_eq!(details["field"], "data.codes", "the taken one counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_another_form_is_refused_with_its_field() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "bank", &codes(0..2)).await;
    let put = |data: Value| json!({"kind": "codes", "id": "bank", "data": data});

    for (operation, body, field) in [
        ("a.put", put(json!({})), "data.codes"),
        ("a.put", put(json!({"codes": code(0)})), "data.codes"),
        ("a.put", put(json!({"codes": [1]})), "data.codes[0]"),
        ("a.put", put(json!({"codes": [code(5)], "x": 1})), "data.x"),
        ("a.codes.take", json!({}), "id"),
        ("a.codes.take", json!({"id": "bank", "count": 2}), "count"),
        ("a.codes.add", json!({"codes": [code(5)]}), "id"),
        ("a.codes.add", json!({"id": "bank"}), "codes"),
        (
            "a.codes.add",
            json!({"id": "bank", "codes": [null]}),
            "codes[0]",
        ),
    ] {
        let reply = alice.ask(operation, &body).await;
        let details = &reply.refusal("bad_request")["details"];
        assert_eq!(details["field"], field, "{operation}");
    }
}
