//! Counters, codes and steps are given out once, whatever the races, retries and crashes.
//!
//! Ten callers race on two shards. In every tenth round the worker of one shard gets `kill -9` in
//! the middle. A caller repeats each request under its id until it is answered.

use crate::harness::samples::{
    RFC_CODES, RFC_SECRET, code_of_counter, codes, otp_uri, put_codes, put_otp, steady_period,
};
use crate::harness::{Caller, Process, Worker, World, extent};
use futures::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const CALLERS: usize = 10;

/// Returns how many requests each caller sends in a round, one after the other.
///
/// If no worker of a shard is there to project, the shard gets only those versions of an item that
/// the bucket still keeps, 16 by default. So a round in which a worker is killed has fewer writes.
fn requests_each(round: usize) -> usize {
    if is_killed_in(round) { 1 } else { 3 }
}

/// Returns whether shard b's worker is killed in a round.
fn is_killed_in(round: usize) -> bool {
    round % 10 == 9
}

/// How long a caller waits for one reply. It sends this time with the request.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a caller repeats a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The codes of refusals after which a caller repeats its request.
const REPEATED: [&str; 6] = [
    "truth_unavailable",
    "auth_unavailable",
    "storage_unavailable",
    "overloaded",
    "deadline_exceeded",
    "in_doubt",
];

/// One write, with the id under which it is repeated.
#[derive(Clone)]
struct Write {
    operation: &'static str,
    request_id: String,
    body: Value,
    /// Where it is sent first: 0 for shard a, 1 for shard b.
    shard: usize,
}

/// A worker of shard a in this process, and one of shard b that can be killed.
struct Stage {
    world: World,
    alice: Caller,
    _a: Worker,
    b: Process,
    /// How often a request was sent again.
    repeats: usize,
}

impl Write {
    /// Sends it once. Returns `None` if there is no reply, or if the reply asks for a repetition.
    async fn try_on(&self, caller: &Caller, shard: usize) -> Option<Value> {
        let shard = ["a", "b"][shard % 2];
        let subject = format!("favorites.v1.shard.{shard}.{}", self.operation);
        let body = self.body.to_string().into();
        let mut headers = caller.headers();
        headers.insert("Nats-Msg-Id", self.request_id.as_str());
        headers.insert("Request-Timeout-Ms", TRY_TIMEOUT.as_millis().to_string());

        let sent = caller.client.request_with_headers(subject, headers, body);
        let reply = timeout(TRY_TIMEOUT, sent).await.ok()?.ok()?;

        let body: Value = serde_json::from_slice(&reply.payload).expect("JSON");
        let code = body["error"]["code"].as_str().unwrap_or_default();
        (!REPEATED.contains(&code)).then_some(body)
    }

    /// Sends it to both shards in turn until it is answered. Returns the answer, and how often it
    /// was sent again.
    async fn until_answered(&self, caller: &Caller, first_shard: usize) -> (Value, usize) {
        let start = Instant::now();
        let mut repeats = 0;

        loop {
            if let Some(body) = self.try_on(caller, first_shard + repeats).await {
                return (body, repeats);
            }

            let waited = start.elapsed();
            assert!(
                waited < ANSWER_TIMEOUT,
                "{} is not answered",
                self.operation
            );
            repeats += 1;
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Stage {
    /// Starts two shards that both host the owner.
    async fn new() -> Self {
        let world = World::start().await;
        let a = world.worker("a").await;
        world.init(&world.settings("b")).await.expect("init");
        let mut b = world.serve(world.settings("b"));
        b.is_ready().await;

        let alice = world.caller("alice").await;
        alice.put_text("a", "note", "x").await;
        for shard in ["a", "b"] {
            alice.done(&format!("{shard}.list"), &json!({})).await;
            let complete = "select count(*) from owner where complete_to is not null";
            world.until(shard, complete, "1").await;
        }

        Self {
            world,
            alice,
            _a: a,
            b,
            repeats: 0,
        }
    }

    /// Kills shard b's worker, and starts another one.
    async fn kill_b(&mut self) {
        self.b.signal(Signal::SIGKILL);
        self.b.ended().await;

        self.b = self.world.serve(self.world.settings("b"));
        self.b.is_ready().await;
    }

    /// Returns the writes of a round: so many of each caller, half of the callers on each shard.
    fn writes(operation: &'static str, body: &Value, round: usize, each: usize) -> Vec<Vec<Write>> {
        let write = |caller: usize, number: usize| Write {
            operation,
            request_id: format!("{operation}-{round}-{caller}-{number}"),
            body: body.clone(),
            shard: caller % 2,
        };

        (0..CALLERS)
            .map(|caller| (0..each).map(|number| write(caller, number)).collect())
            .collect()
    }

    /// Lets all callers race. In every tenth round, shard b's worker is killed once some writes
    /// are answered. Returns the answers in the order of the writes.
    async fn race(&mut self, writes: &[Vec<Write>], round: usize) -> Vec<Value> {
        let (answered, mut progress) = watch::channel(0);
        let answered = Arc::new(answered);

        let callers = writes.iter().cloned().map(|writes| {
            let caller = self.alice.clone();
            let answered = answered.clone();
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for write in writes {
                    answers.push(write.until_answered(&caller, write.shard).await);
                    answered.send_modify(|count| *count += 1);
                }
                answers
            })
        });
        let callers: Vec<_> = callers.collect();
        drop(answered);

        if is_killed_in(round) {
            let some = 1 + round / 10 % 5;
            let reached = progress.wait_for(|count| *count >= some).await;
            drop(reached.expect("a caller goes on"));
            self.kill_b().await;
        }

        let mut answers = Vec::new();
        for caller in callers {
            for (body, repeats) in caller.await.expect("no panic") {
                self.repeats += repeats;
                answers.push(body);
            }
        }
        answers
    }

    /// Repeats each write on the shard that it was not sent to first, and checks that it gets the
    /// same code at the same version.
    async fn check_repeats(&self, writes: &[Vec<Write>], answers: &[Value]) {
        let writes = writes.concat();
        let repeated = writes
            .iter()
            .map(|write| write.until_answered(&self.alice, write.shard + 1));

        let repeated = join_all(repeated).await;

        for ((again, _), first) in repeated.iter().zip(answers) {
            for field in ["code", "counter", "remaining", "version", "owner_version"] {
                assert_eq!(again[field], first[field], "{field} of {again}");
            }
        }
    }

    /// Puts an item, and returns a request that names it.
    async fn put(&self, body: &Value) -> Value {
        let put = self.alice.done("a.put", body).await;

        json!({"id": put["item"]["id"]})
    }

    fn print(&self, title: &str, rounds: usize) {
        println!("{title}: {rounds} rounds, {} repeats", self.repeats);
    }
}

/// Returns the numbers that the answers have in that field; fails for an answer without one.
fn numbers(answers: &[Value], field: &str) -> BTreeSet<u64> {
    answers
        .iter()
        .map(|answer| {
            answer[field]
                .as_u64()
                .unwrap_or_else(|| panic!("no {field}: {answer}"))
        })
        .collect()
}

fn is_valid(answer: &Value) -> bool {
    answer["valid"]
        .as_bool()
        .unwrap_or_else(|| panic!("no verdict: {answer}"))
}

/// Checks that exactly one verification accepted the code, and that the others have that reason.
/// Returns which one.
#[track_caller]
fn assert_one_accepted(answers: &[Value], reason: &str) -> usize {
    let accepted: Vec<_> = (0..answers.len())
        .filter(|index| is_valid(&answers[*index]))
        .collect();

    for answer in answers.iter().filter(|answer| !is_valid(answer)) {
        assert_eq!(answer["reason"], reason, "{answer}");
    }
    assert_eq!(accepted.len(), 1, "{answers:?}");
    accepted[0]
}

/// Goal: a request that two shards get at the same time is done once, although neither sees at
/// first what the other does.
///
/// Method: in each round ten callers put the same item. Two of them, one on each shard, send the
/// same request, and have to get the same version. All others get versions of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_two_shards_get_at_once_is_done_once() {
    let mut stage = Stage::new().await;
    let rounds = extent(100, 1_000);

    for round in 0..rounds {
        let body = json!({"kind": "text", "id": "raced", "data": {"text": "x"}});
        let mut writes = Stage::writes("put", &body, round, 1);
        writes[1][0].request_id = writes[0][0].request_id.clone();

        let answers = stage.race(&writes, round).await;

        let items: Vec<Value> = answers
            .iter()
            .map(|answer| answer["item"].clone())
            .collect();
        let versions = numbers(&items, "version");
        assert_eq!(items[0]["version"], items[1]["version"], "round {round}");
        assert_eq!(versions.len(), CALLERS - 1, "round {round}");
    }

    stage.print("one request on two shards", rounds);
}

/// Goal: each HOTP counter is given out once, and none is lost to a repeated request.
///
/// Method: in each round ten callers ask for up to three codes each. The counters have to be 0 to
/// 29, and every request, repeated on the other shard, has to get its own code again.
#[tokio::test(flavor = "multi_thread")]
async fn each_hotp_counter_is_given_out_once() {
    let mut stage = Stage::new().await;
    let rounds = extent(20, 200);
    let uri = otp_uri("hotp", RFC_SECRET, "");

    for round in 0..rounds {
        let body = stage.put(&put_otp(&format!("otp-{round}"), &uri)).await;
        let writes = Stage::writes("otp.code", &body, round, requests_each(round));

        let answers = stage.race(&writes, round).await;

        let count = (CALLERS * requests_each(round)) as u64;
        let all: BTreeSet<u64> = (0..count).collect();
        assert_eq!(numbers(&answers, "counter"), all, "round {round}");
        assert_eq!(answers.len() as u64, count);
        for answer in &answers {
            let counter = answer["counter"].as_u64().unwrap_or_default() as usize;
            let expected = RFC_CODES.get(counter);
            let is_expected = expected.is_none_or(|code| answer["code"] == *code);
            assert!(is_expected, "round {round}: {answer}");
        }
        stage.check_repeats(&writes, &answers).await;
        let next = stage.alice.done("a.otp.code", &body).await;
        assert_eq!(next["counter"], count, "round {round}");
    }

    stage.print("HOTP counters", rounds);
}

/// Goal: each code of a list is given out once, and none is lost to a repeated request.
///
/// Method: in each round ten callers take all codes of a list, up to three each. Each code has to
/// be given out, and every request, repeated on the other shard, has to get its own code again.
#[tokio::test(flavor = "multi_thread")]
async fn each_code_of_a_list_is_given_out_once() {
    let mut stage = Stage::new().await;
    let rounds = extent(20, 200);

    for round in 0..rounds {
        let given = codes(0..CALLERS * requests_each(round));
        let body = stage
            .put(&put_codes(&format!("list-{round}"), &given))
            .await;
        let writes = Stage::writes("codes.take", &body, round, requests_each(round));

        let answers = stage.race(&writes, round).await;

        // In the order of the versions, the codes come as they were given.
        let by_version: BTreeMap<u64, &Value> = answers
            .iter()
            .map(|answer| (answer["version"].as_u64().unwrap_or_default(), answer))
            .collect();
        let taken: Vec<_> = by_version.values().map(|answer| &answer["code"]).collect();
        assert_eq!(json!(taken), json!(given), "round {round}");
        let all: BTreeSet<u64> = (0..given.len() as u64).collect();
        assert_eq!(numbers(&answers, "remaining"), all, "round {round}");

        stage.check_repeats(&writes, &answers).await;
        let none_left = stage.alice.ask("b.codes.take", &body).await;
        let details = &none_left.refusal("not_found")["details"];
        assert_eq!(details["remaining"], 0, "round {round}");
    }

    stage.print("codes", rounds);
}

/// Goal: one TOTP code is accepted once, and that answer is not lost to a repeated request.
///
/// Method: in each round ten callers verify the same code. The one whose code is accepted repeats
/// its request on both shards.
#[tokio::test(flavor = "multi_thread")]
async fn one_totp_code_is_accepted_once() {
    let mut stage = Stage::new().await;
    let rounds = extent(20, 200);
    let uri = otp_uri("totp", RFC_SECRET, &format!("&period={}", steady_period()));

    for round in 0..rounds {
        let mut body = stage.put(&put_otp(&format!("otp-{round}"), &uri)).await;
        let code = stage.alice.done("a.otp.code", &body).await;
        body["code"] = code["code"].clone();
        let writes = Stage::writes("otp.verify", &body, round, 1);

        let answers = stage.race(&writes, round).await;

        let accepted = assert_one_accepted(&answers, "already_used");
        for shard in 0..2 {
            let repeated = writes[accepted][0].until_answered(&stage.alice, shard);
            let (again, _) = repeated.await;
            assert_eq!(again, answers[accepted], "round {round}");
        }
    }

    stage.print("TOTP codes", rounds);
}

/// Goal: one HOTP code is accepted once, and that answer is not lost to a repeated request.
///
/// Method: in each round ten callers verify the code of the next counter of a new item. The one
/// whose code is accepted repeats its request on both shards.
#[tokio::test(flavor = "multi_thread")]
async fn one_hotp_code_is_accepted_once() {
    let mut stage = Stage::new().await;
    let calculator = stage.world.caller("calculator").await;
    let rounds = extent(20, 200);
    let code = code_of_counter(&calculator, RFC_SECRET, 7).await;
    let uri = otp_uri("hotp", RFC_SECRET, "&digits=8&counter=5");

    for round in 0..rounds {
        let item = stage.put(&put_otp(&format!("otp-{round}"), &uri)).await;
        let mut body = item.clone();
        body["code"] = json!(code);
        let writes = Stage::writes("otp.verify", &body, round, 1);

        let answers = stage.race(&writes, round).await;

        let accepted = assert_one_accepted(&answers, "wrong");
        for shard in 0..2 {
            let repeated = writes[accepted][0].until_answered(&stage.alice, shard);
            let (again, _) = repeated.await;
            assert_eq!(again, answers[accepted], "round {round}");
        }
        let next = stage.alice.done("a.otp.code", &item).await;
        assert_eq!(next["counter"], 8, "round {round}");
    }

    stage.print("HOTP codes", rounds);
}
