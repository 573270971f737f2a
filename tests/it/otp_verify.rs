//! The codes of one-time passwords: which code comes next, and which one is accepted.

use crate::harness::samples::{
    OTHER_SECRET, RFC_CODES, RFC_SECRET, code_of_counter, otp_uri, put_otp, steady_period,
};
use crate::harness::{Caller, Proxy, Worker, World};
use gofavorites::dev::tokens::unix_now;
use serde_json::{Value, json};
use std::time::Duration;

/// The greatest counter.
const COUNTER_MAX: u64 = (1 << 53) - 1;

/// How many wrong codes of an item a worker takes within a minute.
const WRONG_CODES_MAX: usize = 10;

/// The codes with which a request may be refused while the bucket is unavailable.
const BUCKET_CODES: [&str; 4] = [
    "truth_unavailable",
    "in_doubt",
    "deadline_exceeded",
    "overloaded",
];

async fn put(caller: &Caller, id: &str, uri: &str) -> Value {
    caller.done("a.put", &put_otp(id, uri)).await["item"].clone()
}

async fn next_code(caller: &Caller, shard: &str, id: &str) -> Value {
    let body = json!({"id": id});

    caller.done(&format!("{shard}.otp.code"), &body).await
}

async fn verify(caller: &Caller, shard: &str, id: &str, code: &str) -> Value {
    let body = json!({"id": id, "code": code});

    caller.done(&format!("{shard}.otp.verify"), &body).await
}

/// Checks that a code was accepted.
#[track_caller]
fn assert_valid(reply: &Value) {
    assert_eq!(reply["valid"], true, "{reply}");
    assert!(reply.get("reason").is_none(), "{reply}");
    assert!(reply["owner_version"].is_u64(), "{reply}");
}

/// Checks that a code was not accepted, for that reason.
#[track_caller]
fn assert_invalid(reply: &Value, reason: &str) {
    assert_eq!(reply["valid"], false, "{reply}");
    assert_eq!(reply["reason"], reason, "{reply}");
    assert!(reply["owner_version"].is_u64(), "{reply}");
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Returns a code that differs from this one in its first digit.
fn wrong(code: &str) -> String {
    let first = if code.starts_with('0') { "1" } else { "0" };

    format!("{first}{}", &code[1..])
}

/// An owner with a TOTP item `bank`, and the codes of the steps around the present one.
struct Steps {
    world: World,
    alice: Caller,
    period: u64,
    /// The codes of five steps. The present one is in the middle.
    codes: Vec<String>,
    _workers: [Worker; 2],
}

impl Steps {
    /// Puts an item whose present step lasts longer than the test.
    async fn new() -> Self {
        let (world, a, b) = World::with_two_shards().await;
        let alice = world.caller("alice").await;
        let calculator = world.caller("calculator").await;
        let period = steady_period();
        let present = unix_now() / period;

        put(&alice, "bank", &Self::uri(period)).await;
        let mut codes = Vec::new();
        for step in present - 2..=present + 2 {
            codes.push(code_of_counter(&calculator, RFC_SECRET, step).await);
        }

        Self {
            world,
            alice,
            period,
            codes,
            _workers: [a, b],
        }
    }

    fn uri(period: u64) -> String {
        otp_uri("totp", RFC_SECRET, &format!("&digits=8&period={period}"))
    }

    /// Verifies the code of the step that is so many steps from the present one.
    async fn verify(&self, shard: &str, step: isize) -> Value {
        verify(&self.alice, shard, "bank", self.code(step)).await
    }

    fn code(&self, step: isize) -> &str {
        let index = 2_usize.checked_add_signed(step).expect("one of five");

        &self.codes[index]
    }
}

/// Goal: HOTP codes are those of RFC 4226, one for each counter, whichever shard is asked.
///
/// Method: one caller asks two shards in turn for the ten codes of appendix D.
#[tokio::test(flavor = "multi_thread")]
async fn hotp_codes_follow_rfc_4226_on_all_shards() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "bank", &otp_uri("hotp", RFC_SECRET, "")).await;
    let get = json!({"kind": "otp", "id": "bank", "consistency": "strong"});

    for (counter, expected) in RFC_CODES.into_iter().enumerate() {
        let shard = if counter % 2 == 0 { "a" } else { "b" };

        let reply = next_code(&alice, shard, "bank").await;
        let item = alice.done("a.get", &get).await["item"].clone();

        assert_eq!(reply["code"], expected);
        assert_eq!(reply["counter"], counter, "the counter that was used");
        assert_eq!(reply["version"], reply["owner_version"]);
        assert_eq!(item["version"], reply["version"], "it is a write");
        assert_eq!(item["data"]["counter"], counter + 1, "the next one");
    }
}

/// Goal: a repeated request gets the same HOTP code, from any shard, and uses no further counter.
///
/// Method: one caller sends a request with an id, ten requests without one, and repeats the first
/// on both shards.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_same_hotp_code() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "bank", &otp_uri("hotp", RFC_SECRET, "&digits=8")).await;
    put(&alice, "other", &otp_uri("hotp", RFC_SECRET, "&digits=8")).await;
    let body = json!({"id": "bank"});

    let first = alice.ask_once("a.otp.code", "request", &body).await.body;
    let at_once = alice.ask_once("b.otp.code", "request", &body).await.body;
    for _ in 0..10 {
        next_code(&alice, "a", "bank").await;
    }

    assert_eq!(first["counter"], 0);
    assert_eq!(at_once, first);
    for shard in ["a", "b"] {
        let operation = format!("{shard}.otp.code");
        let later = alice.ask_once(&operation, "request", &body).await.body;
        assert_eq!(later, first, "later on shard {shard}");
    }

    let next = next_code(&alice, "b", "bank").await;
    assert_eq!(next["counter"], 11, "no counter was used by a repeat");
    let other = json!({"id": "other"});
    let reused = alice.ask_once("a.otp.code", "request", &other).await;
    reused.refusal("request_id_reused");
}

/// Goal: a TOTP code is the same on every shard, writes nothing, and is accepted.
///
/// Method: one caller asks both shards for the code of a step that lasts for hours, compares it
/// with the HOTP code of that step, and verifies it.
#[tokio::test(flavor = "multi_thread")]
async fn a_totp_code_is_the_same_on_all_shards_and_accepted() {
    let steps = Steps::new().await;
    let alice = &steps.alice;
    let before = steps.world.records().await;

    for shard in ["a", "b"] {
        let reply = next_code(alice, shard, "bank").await;

        assert_eq!(reply["code"], steps.code(0), "on shard {shard}");
        assert_eq!(reply["period_s"], steps.period);
        let valid_for_s = reply["valid_for_s"].as_u64().expect("a number");
        assert!((1..=steps.period).contains(&valid_for_s), "{reply}");
        assert!(reply["owner_version"].is_u64(), "{reply}");
        assert!(reply.get("counter").is_none(), "{reply}");
    }
    assert_eq!(steps.world.records().await, before, "a read");

    assert_valid(&steps.verify("b", 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steam_code_has_five_characters_and_is_accepted_once() {
    const ALPHABET: &str = "23456789BCDFGHJKMNPQRTVWXY";
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "steam", &otp_uri("steam", RFC_SECRET, "")).await;

    let reply = next_code(&alice, "a", "steam").await;
    let accepted = verify(&alice, "b", "steam", text(&reply["code"])).await;
    let again = verify(&alice, "a", "steam", text(&reply["code"])).await;

    let code = text(&reply["code"]);
    assert_eq!(code.len(), 5, "{code}");
    assert!(code.chars().all(|c| ALPHABET.contains(c)), "{code}");
    assert_eq!(reply["period_s"], 30);
    assert_valid(&accepted);
    assert_invalid(&again, "already_used");
}

/// Goal: TOTP codes of one step before and after the present one are accepted, and no others.
///
/// Method: one caller verifies the codes of five steps, from the oldest to the newest, on two
/// shards in turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_totp_code_may_be_one_step_off_either_way() {
    let steps = Steps::new().await;

    assert_invalid(&steps.verify("a", -2).await, "wrong");
    assert_valid(&steps.verify("b", -1).await);
    assert_valid(&steps.verify("a", 0).await);
    assert_valid(&steps.verify("b", 1).await);
    assert_invalid(&steps.verify("a", 2).await, "wrong");
}

/// Goal: once a step is accepted, neither it nor an earlier one is accepted again, on any shard.
///
/// Method: one caller verifies the present step, then it and the one before on both shards; then
/// the next step, and all three again.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_up_to_the_last_accepted_one_is_already_used() {
    let steps = Steps::new().await;

    for (accepted, shard) in [(0, "a"), (1, "b")] {
        assert_valid(&steps.verify(shard, accepted).await);

        for used in -1..=accepted {
            for shard in ["b", "a"] {
                assert_invalid(&steps.verify(shard, used).await, "already_used");
            }
        }
    }
}

/// Goal: an accepted step stays used whatever is done to the item with the same secret.
///
/// Method: one caller verifies the present step, then puts the URI again, alone and in a batch,
/// renames, restores the first version, and deletes and restores the item.
#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_step_stays_used_after_put_and_restore() {
    let steps = Steps::new().await;
    let alice = &steps.alice;
    let uri = Steps::uri(steps.period);
    let bank = json!({"kind": "otp", "id": "bank"});
    let first = alice.done("a.get", &bank).await["item"]["version"].clone();
    let restore = json!({"kind": "otp", "id": "bank", "version": first});
    let tagged = json!({"kind": "otp", "id": "bank", "tags": ["x"]});
    let mut op = put_otp("bank", &uri);
    op["op"] = json!("put");
    assert_valid(&steps.verify("a", 0).await);

    for (operation, body) in [
        ("a.put", put_otp("bank", &uri)),
        ("b.put", put_otp("bank", &uri.replace("account", "renamed"))),
        ("a.put", tagged),
        ("b.batch", json!({"mode": "atomic", "ops": [op]})),
        ("a.move", bank.clone()),
        ("b.restore", restore.clone()),
        ("a.delete", bank.clone()),
        ("b.restore", restore),
    ] {
        let is_deletion = operation == "a.delete";
        alice.done(operation, &body).await;

        if !is_deletion {
            let reply = steps.verify("a", 0).await;
            assert_invalid(&reply, "already_used");
        }
    }
    assert_valid(&steps.verify("b", 1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_secret_begins_without_used_steps() {
    let steps = Steps::new().await;
    let alice = &steps.alice;
    assert_valid(&steps.verify("a", 1).await);
    let parameters = format!("&digits=8&period={}", steps.period);

    put(alice, "bank", &otp_uri("totp", OTHER_SECRET, &parameters)).await;
    let reply = next_code(alice, "a", "bank").await;

    let accepted = verify(alice, "b", "bank", text(&reply["code"])).await;
    assert_valid(&accepted);
}

/// Goal: where the period changes, the last accepted step is compared by its time.
///
/// Method: one caller verifies the next step of a long period, which lies hours ahead. With a
/// period of 30 seconds, whose steps have far higher numbers, the present code is a used one. A
/// second item takes a code of 30 seconds, and then the next step of the long period.
#[tokio::test(flavor = "multi_thread")]
async fn steps_of_another_period_are_compared_by_time() {
    let steps = Steps::new().await;
    let alice = &steps.alice;
    let short = Steps::uri(30);

    assert_valid(&steps.verify("a", 1).await);
    put(alice, "bank", &short).await;
    let present = next_code(alice, "a", "bank").await;
    let reply = verify(alice, "b", "bank", text(&present["code"])).await;
    assert_invalid(&reply, "already_used");

    put(alice, "other", &short).await;
    let present = next_code(alice, "a", "other").await;
    let reply = verify(alice, "a", "other", text(&present["code"])).await;
    assert_valid(&reply);
    put(alice, "other", &Steps::uri(steps.period)).await;
    let reply = verify(alice, "b", "other", steps.code(1)).await;
    assert_valid(&reply);
}

/// Goal: HOTP accepts the next counter and up to ten after it, moves past the accepted one, and
/// accepts no earlier one.
///
/// Method: one caller verifies the codes of counters at both ends of what is accepted, on two
/// shards.
#[tokio::test(flavor = "multi_thread")]
async fn hotp_looks_ten_counters_ahead_and_never_back() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let calculator = world.caller("calculator").await;
    put(&alice, "bank", &otp_uri("hotp", RFC_SECRET, "&digits=8")).await;

    for (shard, counter, is_valid) in [
        ("a", 11, false),
        ("b", 0, true),
        ("a", 0, false),
        ("a", 12, false),
        ("a", 11, true),
        ("b", 11, false),
        ("b", 5, false),
        ("a", 22, true),
        ("b", 23, true),
    ] {
        let code = code_of_counter(&calculator, RFC_SECRET, counter).await;
        let reply = verify(&alice, shard, "bank", &code).await;

        println!("counter {counter} on shard {shard}: {reply}");
        if is_valid {
            assert_valid(&reply);
        } else {
            assert_invalid(&reply, "wrong");
        }
    }

    let next = next_code(&alice, "b", "bank").await;
    assert_eq!(next["counter"], 24, "past the accepted one");
}

/// Goal: a wrong code writes nothing, and an accepted one is one write, also when it is repeated.
///
/// Method: one caller verifies a wrong and a right code, each twice under its request id, the
/// second time on the other shard.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_verification_gets_the_first_answer() {
    let steps = Steps::new().await;
    let alice = &steps.alice;
    let right = json!({"id": "bank", "code": steps.code(0)});
    let wrong = json!({"id": "bank", "code": wrong(steps.code(0))});
    let before = steps.world.records().await;

    for shard in ["a", "b"] {
        let operation = format!("{shard}.otp.verify");
        let reply = alice.ask_once(&operation, "wrong", &wrong).await.body;
        assert_invalid(&reply, "wrong");
    }
    assert_eq!(steps.world.records().await, before, "nothing is written");

    let first = alice.ask_once("a.otp.verify", "right", &right).await.body;
    let written = steps.world.records().await;
    let again = alice.ask_once("b.otp.verify", "right", &right).await.body;
    let other_id = alice.ask_once("b.otp.verify", "else", &right).await.body;

    assert_valid(&first);
    assert_ne!(written, before, "the step is stored");
    assert_eq!(again, first, "the same request");
    assert_invalid(&other_id, "already_used");
    assert_eq!(steps.world.records().await, written, "one write");
}

/// Goal: after ten wrong codes, a worker takes no further code of that item for a while; other
/// items and the other worker go on. Used codes do not count.
///
/// Method: one caller has a used code and wrong codes verified on shard a, then right codes on both
/// shards.
#[tokio::test(flavor = "multi_thread")]
async fn ten_wrong_codes_stop_verification_for_a_while() {
    let steps = Steps::new().await;
    let alice = &steps.alice;
    put(alice, "other", &Steps::uri(steps.period)).await;
    let wrong = wrong(steps.code(1));
    assert_valid(&steps.verify("a", 0).await);

    for _ in 0..WRONG_CODES_MAX + 2 {
        assert_invalid(&steps.verify("a", 0).await, "already_used");
    }
    for _ in 0..WRONG_CODES_MAX {
        let reply = verify(alice, "a", "bank", &wrong).await;
        assert_invalid(&reply, "wrong");
    }

    for code in [wrong.as_str(), steps.code(1)] {
        let body = json!({"id": "bank", "code": code});
        let reply = alice.ask("a.otp.verify", &body).await;

        let details = &reply.refusal("rate_limited")["details"];
        let wait = details["retry_after_ms"].as_u64().expect("a number");
        assert!((1..=60_000).contains(&wait), "{details}");
    }
    let other = verify(alice, "a", "other", steps.code(1)).await;
    assert_valid(&other);
    assert_valid(&steps.verify("b", 1).await);
}

/// Goal: the greatest counter is used once, by a code or by a verification, and none comes after
/// it.
///
/// Method: one caller has two items at the greatest counter. One is asked for codes, and the other
/// verifies the last code.
#[tokio::test(flavor = "multi_thread")]
async fn the_greatest_counter_is_the_last_one() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    let parameters = format!("&digits=8&counter={COUNTER_MAX}");
    let uri = otp_uri("hotp", RFC_SECRET, &parameters);
    put(&alice, "one", &uri).await;
    put(&alice, "two", &uri).await;

    let last = next_code(&alice, "a", "one").await;
    let accepted = verify(&alice, "a", "two", text(&last["code"])).await;
    let again = verify(&alice, "b", "two", text(&last["code"])).await;

    assert_eq!(last["counter"], COUNTER_MAX);
    assert_valid(&accepted);
    assert_invalid(&again, "wrong");
    for id in ["one", "two"] {
        // A put with the same secret does not set the counter back.
        put(&alice, id, &uri).await;

        for shard in ["a", "b"] {
            let operation = format!("{shard}.otp.code");
            let reply = alice.ask(&operation, &json!({"id": id})).await;
            let details = &reply.refusal("invalid_item")["details"];
            assert_eq!(details["field"], "counter", "{id} on shard {shard}");
        }
    }
}

/// Goal: codes need the scope for secrets, and no other.
///
/// Method: callers with only that scope, and with only the other two, send both operations.
#[tokio::test(flavor = "multi_thread")]
async fn codes_need_the_scope_for_secrets() {
    let steps = Steps::new().await;
    let alice = &steps.alice;
    put(alice, "hotp", &otp_uri("hotp", RFC_SECRET, "")).await;
    let with = |scope: &str| {
        let token = steps.world.token("alice", scope, Duration::from_secs(600));
        alice.with_token(&token)
    };
    let reader = with("favorites:read favorites:write");
    let holder = with("favorites:secrets");

    for (operation, body) in [
        ("a.otp.code", json!({"id": "bank"})),
        ("a.otp.code", json!({"id": "hotp"})),
        ("a.otp.verify", json!({"id": "bank", "code": steps.code(0)})),
    ] {
        let refused = reader.ask(operation, &body).await;
        let done = holder.done(operation, &body).await;

        let details = &refused.refusal("forbidden")["details"];
        assert_eq!(details["scope"], "favorites:secrets", "{operation}");
        assert!(done["owner_version"].is_u64(), "{operation}: {done}");
    }

    let get = json!({"kind": "otp", "id": "bank"});
    holder.ask("a.get", &get).await.refusal("forbidden");
}

/// Goal: a request for codes of another form is refused with its field.
///
/// Method: one caller sends requests with missing, empty, unknown and wrong fields.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_codes_of_another_form_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "bank", &otp_uri("totp", RFC_SECRET, "")).await;
    let bank = |name: &str, value: Value| {
        let mut body = json!({"id": "bank"});
        body[name] = value;
        body
    };
    let mut two = bank("code", json!("123456"));
    two["codes"] = json!(["123456"]);
    let empty = json!({"id": "", "code": "123456"});

    for (operation, body, code, field) in [
        ("code", json!({}), "bad_request", "id"),
        ("code", json!({"id": ""}), "invalid_item", "id"),
        ("code", bank("kind", json!("otp")), "bad_request", "kind"),
        (
            "code",
            bank("min_version", json!(-1)),
            "bad_request",
            "min_version",
        ),
        (
            "code",
            bank("consistency", json!("x")),
            "bad_request",
            "consistency",
        ),
        ("verify", json!({"code": "123456"}), "bad_request", "id"),
        ("verify", empty, "invalid_item", "id"),
        ("verify", json!({"id": "bank"}), "bad_request", "code"),
        ("verify", bank("code", json!(null)), "bad_request", "code"),
        (
            "verify",
            bank("code", json!(123_456)),
            "bad_request",
            "code",
        ),
        ("verify", bank("code", json!("")), "invalid_item", "code"),
        ("verify", two, "bad_request", "codes"),
    ] {
        let reply = alice.ask(&format!("a.otp.{operation}"), &body).await;
        let details = &reply.refusal(code)["details"];
        assert_eq!(details["field"], field, "{operation} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_without_codes_is_not_found() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = world.caller("alice").await;
    put(&alice, "gone", &otp_uri("totp", RFC_SECRET, "")).await;
    alice.put_text("a", "note", "x").await;
    let gone = json!({"kind": "otp", "id": "gone"});
    let deletion = alice.done("a.delete", &gone).await;

    for id in ["none", "gone", "note"] {
        for (operation, body) in [
            ("a.otp.code", json!({"id": id})),
            ("b.otp.verify", json!({"id": id, "code": "123456"})),
        ] {
            let reply = alice.ask(operation, &body).await;

            let details = &reply.refusal("not_found")["details"];
            let version = &details["owner_version"];
            assert_eq!(*version, deletion["owner_version"], "{operation} {id}");
        }
    }
}

/// Goal: while the bucket is unavailable, TOTP codes are answered, and HOTP codes and verifications
/// are refused, because those need the bucket.
///
/// Method: a worker that hosts the owner reaches the bucket through a proxy, which is cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_totp_code_needs_no_bucket_and_other_codes_do() {
    let world = World::start().await;
    let link = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    let mut settings = world.settings("a");
    settings.nats.truth.url = format!("nats://127.0.0.1:{}", link.port());
    let _a = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    let parameters = format!("&period={}", steady_period());
    put(&alice, "totp", &otp_uri("totp", RFC_SECRET, &parameters)).await;
    let hotp = put_otp("hotp", &otp_uri("hotp", RFC_SECRET, ""));
    let last = alice.done("a.put", &hotp).await;
    let before = next_code(&alice, "a", "totp").await;
    let complete = "select count(*) from owner where complete_to is not null";
    world.until("a", complete, "1").await;
    world.until_projected("a", &last).await;

    link.cut();
    let code = next_code(&alice, "a", "totp").await;
    assert_eq!(code["code"], before["code"]);
    assert_eq!(code["stale"], true, "{code}");

    for (operation, body) in [
        ("a.otp.code", json!({"id": "hotp"})),
        (
            "a.otp.verify",
            json!({"id": "totp", "code": before["code"]}),
        ),
    ] {
        let reply = alice.ask(operation, &body).await.body;
        let code = reply["error"]["code"].as_str().unwrap_or_default();
        assert!(BUCKET_CODES.contains(&code), "{operation}: {reply}");
    }
}
