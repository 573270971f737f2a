//! One-time passwords: which URIs are kept, what is read back of them, and what stays hidden.

use crate::harness::samples::{
    BANK, CODE_MARK, OTHER_SECRET, RFC_CODES, RFC_SECRET, codes, otp_uri, put_codes, put_otp,
};
use crate::harness::{Caller, World};
use serde_json::{Value, json};
use std::time::Duration;

/// Puts a URI on shard a, and returns the item of the reply.
async fn put(caller: &Caller, id: &str, uri: &str) -> Value {
    caller.done("a.put", &put_otp(id, uri)).await["item"].clone()
}

/// Reads an item on that shard.
async fn get(caller: &Caller, shard: &str, id: &str) -> Value {
    let body = json!({"kind": "otp", "id": id, "consistency": "strong"});

    caller.done(&format!("{shard}.get"), &body).await["item"].clone()
}

/// Reads an item with what it hides, and returns its data.
async fn revealed(caller: &Caller, id: &str) -> Value {
    let body = json!({"kind": "otp", "id": id, "reveal": true, "consistency": "strong"});

    caller.done("b.get", &body).await["item"]["data"].clone()
}

/// Asks for so many HOTP codes.
async fn use_codes(caller: &Caller, shard: &str, id: &str, count: usize) {
    for _ in 0..count {
        let body = json!({"id": id});
        caller.done(&format!("{shard}.otp.code"), &body).await;
    }
}

/// Returns the data of a TOTP item with these fields replaced, and without those that are null.
fn totp(fields: Value) -> Value {
    let mut data = json!({
        "type": "totp", "issuer": BANK, "account": "account", "algorithm": "SHA1", "digits": 6,
        "period_s": 30,
    });
    let data_fields = data.as_object_mut().expect("an object");
    for (name, value) in fields.as_object().expect("an object").clone() {
        data_fields.insert(name, value);
    }
    data_fields.retain(|_, value| !value.is_null());

    data
}

/// The label and the parameters of a TOTP URI, beside its secret, and the fields of its data that
/// differ from those of [`totp`].
fn labels() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("account", "", json!({"issuer": null})),
        ("", "", json!({"issuer": null, "account": null})),
        (
            "",
            "&issuer=Ä%20&Co",
            json!({"issuer": "Ä", "account": null}),
        ),
        ("Größe:ä", "", json!({"issuer": "Größe", "account": "ä"})),
        ("Bank%3A%20a", "", json!({"issuer": "Bank", "account": "a"})),
        (" Bank : a ", "", json!({"issuer": "Bank", "account": "a"})),
        (
            "Old:a",
            "&issuer=New",
            json!({"issuer": "New", "account": "a"}),
        ),
        ("A:B:a", "", json!({"issuer": "A", "account": "B:a"})),
        (
            "A:B:a",
            "&issuer=A%3AB",
            json!({"issuer": "A:B", "account": "a"}),
        ),
        (
            "a+b",
            "&issuer=c+d",
            json!({"issuer": "c+d", "account": "a+b"}),
        ),
        ("a%252B", "", json!({"issuer": null, "account": "a%2B"})),
        (
            "Bank:a",
            "&image=x&x=1&x=2",
            json!({"issuer": "Bank", "account": "a"}),
        ),
    ]
}

/// The type and the parameters of a URI, and the fields of its data that differ from those of
/// [`totp`].
fn kinds_of_codes() -> Vec<(&'static str, &'static str, Value)> {
    let hotp = |counter: u64| json!({"type": "hotp", "period_s": null, "counter": counter});
    let mut largest = hotp((1 << 53) - 1);
    largest["algorithm"] = json!("SHA256");
    largest["digits"] = json!(8);

    vec![
        ("totp", "", json!({})),
        (
            "totp",
            "&period=1&digits=7",
            json!({"period_s": 1, "digits": 7}),
        ),
        ("totp", "&period=86400", json!({"period_s": 86_400})),
        ("totp", "&algorithm=sha512", json!({"algorithm": "SHA512"})),
        ("totp", "&algorithm=Sha-256", json!({"algorithm": "SHA256"})),
        ("hotp", "", hotp(0)),
        ("hotp", "&counter=7", hotp(7)),
        (
            "hotp",
            "&algorithm=SHA256&digits=8&counter=9007199254740991",
            largest,
        ),
        ("steam", "", json!({"type": "steam", "digits": 5})),
        (
            "steam",
            "&digits=5&period=30",
            json!({"type": "steam", "digits": 5}),
        ),
        (
            "totp",
            "&encoder=steam",
            json!({"type": "steam", "digits": 5}),
        ),
    ]
}

/// Goal: whatever the type, the parameters and the label of a URI are, the item shows what they
/// mean, and nothing of the secret, on every shard.
///
/// Method: one caller puts a URI of each sort on shard a, and reads it on shard b.
#[tokio::test(flavor = "multi_thread")]
async fn a_uri_is_read_back_without_its_secret() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let of_labels = labels().into_iter().map(|(label, parameters, fields)| {
        let uri = format!("otpauth://totp/{label}?secret={RFC_SECRET}{parameters}");
        (uri, fields)
    });
    let of_kinds = kinds_of_codes()
        .into_iter()
        .map(|(r#type, parameters, fields)| {
            let uri = otp_uri(r#type, RFC_SECRET, parameters);
            (uri, fields)
        });

    for (number, (uri, fields)) in of_labels.chain(of_kinds).enumerate() {
        let id = format!("otp-{number}");

        let item = put(&alice, &id, &uri).await;
        let read = get(&alice, "b", &id).await;

        assert_eq!(item["data"], totp(fields), "{uri}");
        assert_eq!(read, item, "{uri}");
    }
}

/// Goal: a revealed secret has one form however it was written, and the revealed URI, put again,
/// makes the same item.
///
/// Method: one caller puts a secret in each spelling and a URI of each sort, reads each revealed,
/// and puts that URI under another id.
#[tokio::test(flavor = "multi_thread")]
async fn a_revealed_uri_put_again_makes_the_same_item() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let spellings = [
        "mfxg65dimvzc243fmnzgk5bnnbsxezjr",
        "MFXG 65DI MVZC 243F MNZG K5BN NBSX EZJR",
        "mfxg-65di-mvzc-243f-mnzg-k5bn-nbsx-ezjr",
        "MFXG65DIMVZC243FMNZGK5BNNBSXEZJR%3D%3D%3D",
        "MFXG65DIMVZC243FMNZGK5BNNBSXEZJR==",
    ];
    let spelled = spellings.map(|secret| otp_uri("totp", secret, ""));
    let of_labels = labels().into_iter().map(|(label, parameters, _)| {
        format!("otpauth://totp/{label}?secret={OTHER_SECRET}{parameters}")
    });
    let of_kinds = kinds_of_codes()
        .into_iter()
        .map(|(r#type, parameters, _)| otp_uri(r#type, OTHER_SECRET, parameters));

    for (number, uri) in spelled
        .into_iter()
        .chain(of_labels)
        .chain(of_kinds)
        .enumerate()
    {
        let id = format!("otp-{number}");
        let again = format!("again-{number}");

        let first = put(&alice, &id, &uri).await;
        let shown = revealed(&alice, &id).await;
        let second = put(&alice, &again, shown["uri"].as_str().expect("a URI")).await;

        assert_eq!(shown["secret"], OTHER_SECRET, "{uri}");
        assert_eq!(second["data"], first["data"], "{uri}");
        assert_eq!(revealed(&alice, &again).await, shown, "{uri}");
        let mut without_secret = shown.clone();
        let fields = without_secret.as_object_mut().expect("an object");
        fields.retain(|name, _| name != "uri" && name != "secret");
        assert_eq!(without_secret, first["data"], "{uri}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_left_over_at_the_end_of_a_secret_are_dropped() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    put(&alice, "one", &otp_uri("totp", "MZ", "")).await;
    put(&alice, "longest", &otp_uri("totp", &"A".repeat(205), "")).await;

    assert_eq!(revealed(&alice, "one").await["secret"], "MY");
    assert_eq!(revealed(&alice, "longest").await["secret"], "A".repeat(205));
}

/// Goal: only a caller with the scope for secrets sees one, and only with `get`.
///
/// Method: a caller with the two other scopes reads an item with `reveal` and without it, and a
/// caller with all scopes sends `reveal` with other operations.
#[tokio::test(flavor = "multi_thread")]
async fn reveal_needs_its_scope_and_is_a_field_of_get_alone() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let scope = "favorites:read favorites:write";
    let reader = alice.with_token(&world.token("alice", scope, Duration::from_secs(600)));
    let uri = otp_uri("totp", RFC_SECRET, "");

    let item = put(&reader, "bank", &uri).await;
    let with = |reveal: bool| json!({"kind": "otp", "id": "bank", "reveal": reveal});

    let refused = reader.ask("a.get", &with(true)).await;
    let hidden = reader.done("a.get", &with(false)).await;
    assert_eq!(
        refused.refusal("forbidden")["details"]["scope"],
        "favorites:secrets"
    );
    assert_eq!(hidden["item"], item);

    let mut put_revealed = put_otp("bank", &uri);
    put_revealed["reveal"] = json!(true);
    let lookup = json!({"items": [{"kind": "otp", "id": "bank"}], "reveal": true});
    for (operation, body) in [
        ("a.list", json!({"reveal": true})),
        ("a.changes", json!({"since": 0, "reveal": true})),
        ("a.history", with(true)),
        ("a.delete", with(true)),
        ("a.move", with(true)),
        ("a.put", put_revealed),
        ("a.lookup", lookup),
    ] {
        let reply = alice.ask(operation, &body).await;

        let details = &reply.refusal("bad_request")["details"];
        assert_eq!(details["field"], "reveal", "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_otp_without_an_id_gets_a_generated_one() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    let uri = otp_uri("totp", RFC_SECRET, "");
    let body = json!({"kind": "otp", "data": {"uri": uri}});

    let first = alice.done("a.put", &body).await;
    let second = alice.done("a.put", &body).await;

    let id = first["item"]["id"].as_str().expect("an id");
    let uuid: uuid::Uuid = id.parse().expect("a UUID");
    assert_eq!(uuid.get_version_num(), 7);
    assert_ne!(second["item"]["id"], id);
}

/// URIs that are refused, each with a word that the reason has to contain.
fn bad_uris() -> Vec<(String, &'static str)> {
    let uri = |parameters: &str| otp_uri("totp", RFC_SECRET, parameters);
    let twice = format!("&secret={RFC_SECRET}");
    let too_long = format!("otpauth://totp/{}?secret={RFC_SECRET}", "x".repeat(257));

    vec![
        (String::new(), ""),
        (format!("https://totp/a?secret={RFC_SECRET}"), "otpauth"),
        (RFC_SECRET.to_owned(), "otpauth"),
        (format!("otpauth://sotp/a?secret={RFC_SECRET}"), "type"),
        ("otpauth://totp/a".to_owned(), "secret"),
        (otp_uri("totp", "", ""), "secret"),
        (otp_uri("totp", &format!("{RFC_SECRET}1"), ""), "secret"),
        (otp_uri("totp", &format!("{RFC_SECRET}A"), ""), "secret"),
        (otp_uri("totp", &format!("{RFC_SECRET}AAA"), ""), "secret"),
        (
            otp_uri("totp", &format!("{RFC_SECRET}AAAAAA"), ""),
            "secret",
        ),
        (otp_uri("totp", &RFC_SECRET.repeat(7), ""), "secret"),
        (uri(&twice), "secret"),
        (uri("&digits=6&digits=6"), "digits"),
        (uri("&digits=5"), "digits"),
        (uri("&digits=9"), "digits"),
        (uri("&digits=six"), "digits"),
        (uri("&period=0"), "period"),
        (uri("&period=86401"), "period"),
        (uri("&period=-30"), "period"),
        (uri("&period=1.5"), "period"),
        (uri("&algorithm=MD5"), "algorithm"),
        (
            otp_uri("hotp", RFC_SECRET, "&counter=9007199254740992"),
            "counter",
        ),
        (otp_uri("hotp", RFC_SECRET, "&counter=-1"), "counter"),
        (
            otp_uri("hotp", RFC_SECRET, "&counter=0&counter=1"),
            "counter",
        ),
        (otp_uri("steam", RFC_SECRET, "&digits=6"), "Steam"),
        (otp_uri("steam", RFC_SECRET, "&period=60"), "Steam"),
        (uri("&encoder=steam&digits=8"), "Steam"),
        (format!("otpauth://totp/%ff?secret={RFC_SECRET}"), "label"),
        (too_long, "label"),
    ]
}

/// Goal: a URI that breaks a rule is refused with its field, and nothing that the caller or a log
/// gets repeats it.
///
/// Method: one caller puts each bad URI alone, and in a batch. Nothing may be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_uri_is_refused_and_never_repeated() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;

    for (uri, word) in bad_uris() {
        let mut op = put_otp("bank", &uri);
        let alone = alice.ask("a.put", &op).await;
        op["op"] = json!("put");
        let batch = json!({"mode": "each", "ops": [op]});
        let in_batch = alice.done("a.batch", &batch).await;

        let error = alone.refusal("invalid_item");
        assert_eq!(error["details"]["field"], "data.uri", "{uri}");
        let reason = error["details"]["reason"].as_str().expect("a reason");
        assert!(reason.contains(word), "{uri}: {reason}");
        let error = &in_batch["results"][0]["error"];
        assert_eq!(error["code"], "invalid_item", "{uri}");
        assert_eq!(error["details"]["field"], "ops[0].data.uri", "{uri}");

        let all = format!("{} {:?} {in_batch}", alone.body, alone.headers);
        let repeated = all.contains(RFC_SECRET) || (!uri.is_empty() && all.contains(&uri));
        assert!(!repeated, "{uri}: {all}");
    }

    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["owner_version"], 0, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_form_are_refused_with_their_field() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let uri = otp_uri("totp", RFC_SECRET, "");

    for (data, field) in [
        (json!({}), "data.uri"),
        (json!({"uri": null}), "data.uri"),
        (json!({"uri": 1}), "data.uri"),
        (json!({"uri": uri, "secret": RFC_SECRET}), "data.secret"),
        (json!({"uri": uri, "counter": 1}), "data.counter"),
        (json!(uri), "data"),
    ] {
        let body = json!({"kind": "otp", "id": "bank", "data": data});
        let reply = alice.ask("a.put", &body).await;

        assert_eq!(reply.refusal("bad_request")["details"]["field"], field);
        assert!(!reply.body.to_string().contains(RFC_SECRET));
    }

    let no_data = alice
        .ask("a.put", &json!({"kind": "otp", "id": "bank"}))
        .await;
    assert_eq!(no_data.refusal("invalid_item")["details"]["field"], "data");
}

/// Requests whose replies show an `otp` and a list of codes, each with words that the reply has to
/// contain.
fn showing_requests(version: &Value) -> Vec<(&'static str, Value, &'static str)> {
    let otp = json!({"kind": "otp", "id": "bank"});
    let list = json!({"kind": "codes", "id": "list"});
    let with = |item: &Value, name: &str, value: Value| {
        let mut body = item.clone();
        body[name] = value;
        body
    };

    let put_bank = put_otp("bank", &otp_uri("hotp", OTHER_SECRET, ""));
    let put_list = put_codes("list", &codes(0..3));
    let conflict = |body: &Value| with(body, "if_version", json!(1_u64 << 53));
    let ops: Vec<_> = [&put_bank, &put_list]
        .map(|body| with(body, "op", json!("put")))
        .into();
    let conflicts: Vec<_> = ops.iter().map(conflict).collect();
    let after = with(&otp, "after", list.clone());

    vec![
        ("a.get", otp.clone(), BANK),
        ("b.get", list.clone(), "\"remaining\":"),
        ("b.list", json!({}), BANK),
        ("a.changes", json!({"since": 0}), BANK),
        ("b.history", otp.clone(), BANK),
        ("a.history", list.clone(), "\"remaining\":"),
        ("a.lookup", json!({"items": [otp, list]}), BANK),
        ("a.put", conflict(&put_bank), BANK),
        ("b.put", conflict(&put_list), "\"remaining\":"),
        ("b.delete", conflict(&otp), BANK),
        ("a.batch", json!({"mode": "each", "ops": conflicts}), BANK),
        ("b.batch", json!({"mode": "atomic", "ops": conflicts}), BANK),
        ("a.batch", json!({"mode": "atomic", "ops": ops}), BANK),
        ("b.move", after, BANK),
        ("b.restore", with(&otp, "version", version.clone()), BANK),
        (
            "a.codes.add",
            json!({"id": "list", "codes": codes(3..5)}),
            "\"remaining\":",
        ),
        (
            "a.codes.add",
            json!({"id": "list", "codes": codes(2..9)}),
            "invalid_item",
        ),
        (
            "a.put",
            put_codes("new", &[codes(0..1), codes(0..1)].concat()),
            "invalid_item",
        ),
    ]
}

/// Goal: without `reveal`, no reply shows a secret or a code.
///
/// Method: one caller has an `otp` and a list of codes, and sends every operation that shows items,
/// conflicts and refusals among them. Each reply has to show the items, and nothing hidden.
#[tokio::test(flavor = "multi_thread")]
async fn no_reply_shows_a_secret_or_a_code() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let first = put(&alice, "bank", &otp_uri("hotp", RFC_SECRET, "")).await;
    let list = put_codes("list", &codes(0..3));
    alice.done("a.put", &list).await;

    for (operation, body, words) in showing_requests(&first["version"]) {
        let reply = alice.ask(operation, &body).await;
        let text = format!("{} {:?}", reply.body, reply.headers);

        assert!(text.contains(words), "{operation} {body}: {text}");
        for hidden in [RFC_SECRET, OTHER_SECRET, "otpauth", CODE_MARK] {
            let is_hidden = !text.contains(hidden);
            assert!(is_hidden, "{operation} {body}: {hidden} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_without_data_keeps_secret_and_counter() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "bank", &otp_uri("hotp", RFC_SECRET, "")).await;
    use_codes(&alice, "a", "bank", 2).await;
    let tagged = json!({"kind": "otp", "id": "bank", "tags": ["daily"], "meta": {"m": "1"}});

    let item = alice.done("b.put", &tagged).await["item"].clone();

    assert_eq!(item["tags"], json!(["daily"]));
    assert_eq!(item["data"]["counter"], 2);
    let code = alice.done("a.otp.code", &json!({"id": "bank"})).await;
    assert_eq!(code["code"], RFC_CODES[2]);
}

/// Goal: a put of the same secret never sets the counter back, and may set it forward.
///
/// Method: one caller uses three codes, then puts the URI with lower and higher counters, alone and
/// in a batch, on two shards.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_of_the_same_secret_never_lowers_the_counter() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let uri = |counter: u64| otp_uri("hotp", RFC_SECRET, &format!("&counter={counter}"));
    put(&alice, "bank", &uri(5)).await;
    use_codes(&alice, "b", "bank", 3).await;

    for (counter, expected) in [(5, 8), (0, 8), (7, 8), (8, 8), (20, 20), (19, 20)] {
        let mut op = put_otp("bank", &uri(counter));
        let alone = alice.done("a.put", &op).await;
        op["op"] = json!("put");
        let batch = json!({"mode": "atomic", "ops": [op]});
        let in_batch = alice.done("b.batch", &batch).await;

        let item = &alone["item"];
        assert_eq!(item["data"]["counter"], expected, "{counter}");
        let item = &in_batch["results"][0]["item"];
        assert_eq!(item["data"]["counter"], expected, "{counter} in a batch");
    }

    let renamed = uri(0).replace("account", "renamed");
    let item = put(&alice, "bank", &renamed).await;
    assert_eq!(item["data"]["account"], "renamed");
    assert_eq!(item["data"]["counter"], 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_secret_or_type_begins_with_its_own_counter() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "bank", &otp_uri("hotp", RFC_SECRET, "&counter=5")).await;
    use_codes(&alice, "a", "bank", 3).await;

    let other = put(&alice, "bank", &otp_uri("hotp", OTHER_SECRET, "&counter=2")).await;
    let totp = put(&alice, "bank", &otp_uri("totp", OTHER_SECRET, "")).await;

    assert_eq!(other["data"]["counter"], 2);
    assert_eq!(totp["data"]["type"], "totp");
    assert_eq!(totp["data"]["period_s"], 30);
    assert!(totp["data"].get("counter").is_none(), "{totp}");
}

/// Goal: a restored item goes on with the counter of its last life, whatever version is restored.
///
/// Method: one caller uses three codes, one of them on shard b, deletes the item and restores its
/// first version, once on each shard. The next code follows the last one each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_otp_comes_back_with_its_counter() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let bank = json!({"kind": "otp", "id": "bank"});
    let first = put(&alice, "bank", &otp_uri("hotp", RFC_SECRET, "")).await;
    let restore = json!({"kind": "otp", "id": "bank", "version": first["version"]});
    use_codes(&alice, "a", "bank", 2).await;
    use_codes(&alice, "b", "bank", 1).await;

    for (shard, counter) in [("a", 3), ("b", 4)] {
        alice.done("a.delete", &bank).await;
        let restored = alice.done(&format!("{shard}.restore"), &restore).await;
        let code = alice.done("a.otp.code", &json!({"id": "bank"})).await;

        let data = &restored["item"]["data"];
        assert_eq!(data["counter"], counter, "on shard {shard}");
        assert_eq!(data["issuer"], BANK);
        assert_eq!(code["code"], RFC_CODES[counter], "on shard {shard}");
    }
}

/// Goal: restoring a living item brings back its labels, and its names only with the same secret.
///
/// Method: one caller renames an item that has used two codes and restores its first version. Then
/// the item gets another secret, and that version is restored once more.
#[tokio::test(flavor = "multi_thread")]
async fn restoring_a_living_otp_keeps_secret_and_counter() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let mut body = put_otp("bank", &otp_uri("hotp", RFC_SECRET, ""));
    body["tags"] = json!(["first"]);
    body["meta"] = json!({"m": "1"});
    let first = alice.done("a.put", &body).await["item"].clone();
    let restore = json!({"kind": "otp", "id": "bank", "version": first["version"]});
    use_codes(&alice, "a", "bank", 2).await;

    let renamed = format!("otpauth://hotp/new:name?secret={RFC_SECRET}");
    put(&alice, "bank", &renamed).await;
    let same_secret = alice.done("b.restore", &restore).await["item"].clone();
    assert_eq!(same_secret["tags"], first["tags"]);
    assert_eq!(same_secret["meta"], first["meta"]);
    assert_eq!(same_secret["data"]["issuer"], BANK);
    assert_eq!(same_secret["data"]["account"], "account");
    assert_eq!(same_secret["data"]["counter"], 2);

    let other = format!("otpauth://hotp/new:name?secret={OTHER_SECRET}&counter=40");
    put(&alice, "bank", &other).await;
    let other_secret = alice.done("a.restore", &restore).await["item"].clone();
    assert_eq!(other_secret["tags"], first["tags"]);
    assert_eq!(other_secret["data"]["issuer"], "new");
    assert_eq!(other_secret["data"]["account"], "name");
    assert_eq!(other_secret["data"]["counter"], 40);
    assert_eq!(revealed(&alice, "bank").await["secret"], OTHER_SECRET);
}
