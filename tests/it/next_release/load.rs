//! The load: each owner has callers that write and read at any worker of shard a, and record the
//! answers.
//!
//! Each request is repeated under its id until it is answered. No answer may be `internal`, and no
//! request of the load may be refused, except that a list of codes may be used up.

use crate::harness::Caller;
use crate::harness::samples::{RFC_SECRET, codes, otp_uri, put_codes, put_otp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// How many lists of codes an owner has.
pub const LISTS: usize = 3;

/// How many codes a list has at first.
pub const LIST_CODES: usize = 200;

/// The id of the owner's secret.
pub const OTP: &str = "counter";

/// How many items are moved and change their tag.
const ANCHORS: usize = 4;

/// How long a caller waits for one reply. It sends this time with the request.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a caller repeats a request, and how long the load may take to make progress.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How long a caller pauses between two requests.
const PAUSE: Duration = Duration::from_millis(20);

/// The codes of refusals after which a caller repeats its request.
const REPEATED: [&str; 5] = [
    "truth_unavailable",
    "auth_unavailable",
    "overloaded",
    "deadline_exceeded",
    "in_doubt",
];

/// A caller that repeats each request until a worker of shard a has answered it.
#[derive(Clone)]
pub struct RetryingCaller {
    pub caller: Caller,
    /// How many requests were done.
    done: Arc<AtomicU64>,
}

impl RetryingCaller {
    pub fn new(caller: Caller) -> Self {
        Self {
            caller,
            done: Arc::default(),
        }
    }

    /// Sends a request until it is answered, and returns the answer.
    pub async fn ask(&self, operation: &str, body: &Value) -> Value {
        let request_id = Uuid::now_v7().to_string();

        self.ask_as(&request_id, operation, body).await
    }

    /// Does the same as [`ask`](Self::ask), with that request id.
    pub async fn ask_as(&self, request_id: &str, operation: &str, body: &Value) -> Value {
        let start = Instant::now();

        loop {
            if let Some(answer) = self.try_once(request_id, operation, body).await {
                if answer["error"].is_null() {
                    self.done.fetch_add(1, Ordering::SeqCst);
                }
                return answer;
            }

            let waited = start.elapsed();
            assert!(waited < ANSWER_TIMEOUT, "{operation} is not answered");
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Does the same as [`ask`](Self::ask), and fails for a refusal.
    pub async fn done(&self, operation: &str, body: &Value) -> Value {
        let answer = self.ask(operation, body).await;

        assert!(answer["error"].is_null(), "{operation}: {answer}");
        answer
    }

    /// Sends a request once. Returns `None` if there is no reply, or if the reply asks for a
    /// repetition.
    async fn try_once(&self, request_id: &str, operation: &str, body: &Value) -> Option<Value> {
        let subject = format!("favorites.v1.shard.a.{operation}");
        let mut headers = self.caller.headers();
        headers.insert("Nats-Msg-Id", request_id);
        headers.insert("Request-Timeout-Ms", TRY_TIMEOUT.as_millis().to_string());

        let client = &self.caller.client;
        let sent = client.request_with_headers(subject, headers, body.to_string().into());
        let reply = timeout(TRY_TIMEOUT * 2, sent).await.ok()?.ok()?;

        let answer: Value = serde_json::from_slice(&reply.payload).expect("JSON");
        let code = answer["error"]["code"].as_str().unwrap_or_default();
        assert_ne!(code, "internal", "{operation}: {answer}");
        (!REPEATED.contains(&code)).then_some(answer)
    }
}

/// The answers that the callers of one owner got.
pub struct Model {
    /// The last text that was put, by id.
    pub texts: BTreeMap<String, String>,
    /// The codes that were given out.
    pub codes: Vec<String>,
    /// The counters that were given out.
    pub counters: Vec<u64>,
    /// The tag that the anchors have.
    pub tag: String,
    /// The living items that `changes` returned, with their versions.
    pub mirror: BTreeMap<String, u64>,
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    has_baskets: Arc<AtomicBool>,
    callers: Vec<RetryingCaller>,
    owners: Vec<JoinHandle<Model>>,
}

impl Load {
    /// Puts the items of each owner, and starts their callers.
    pub async fn start(callers: Vec<RetryingCaller>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let has_baskets = Arc::new(AtomicBool::new(false));

        let mut owners = Vec::new();
        for caller in callers.iter().cloned() {
            put_first_items(&caller).await;
            let owner = Owner {
                caller,
                stop: stop.clone(),
                has_baskets: has_baskets.clone(),
            };
            owners.push(tokio::spawn(owner.run()));
        }

        Self {
            stop,
            has_baskets,
            callers,
            owners,
        }
    }

    /// Makes the callers move each owner's `basket-0` too. It has to be there.
    pub fn move_baskets(&self) {
        self.has_baskets.store(true, Ordering::SeqCst);
    }

    /// Waits until `more` further requests of each owner were done.
    pub async fn progress(&self, more: u64) {
        let start = Instant::now();
        let done = |caller: &RetryingCaller| caller.done.load(Ordering::SeqCst);
        let before: Vec<u64> = self.callers.iter().map(done).collect();

        while std::iter::zip(&self.callers, &before).any(|(one, before)| done(one) < before + more)
        {
            let failed = self.owners.iter().any(JoinHandle::is_finished);
            assert!(!failed, "a caller has failed");
            assert!(start.elapsed() < ANSWER_TIMEOUT, "no progress");
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Ends the load, and returns the answers that the callers of each owner got.
    pub async fn stop(self) -> Vec<Model> {
        self.stop.store(true, Ordering::SeqCst);

        let mut models = Vec::new();
        for owner in self.owners {
            models.push(owner.await.expect("no panic"));
        }
        models
    }
}

/// The callers of one owner.
struct Owner {
    caller: RetryingCaller,
    stop: Arc<AtomicBool>,
    has_baskets: Arc<AtomicBool>,
}

/// Puts the items that the callers of an owner change.
async fn put_first_items(caller: &RetryingCaller) {
    for number in 0..ANCHORS {
        let mut body = anchor(number);
        body["data"] = json!({"text": "an anchor"});
        body["tags"] = json!([tag(0)]);
        caller.done("put", &body).await;
    }
    for number in 0..LISTS {
        let given = codes(number * LIST_CODES..(number + 1) * LIST_CODES);
        caller
            .done("put", &put_codes(&list_id(number), &given))
            .await;
    }

    let uri = otp_uri("hotp", RFC_SECRET, "");
    caller.done("put", &put_otp(OTP, &uri)).await;
}

/// Returns the id of a list of codes.
pub fn list_id(number: usize) -> String {
    format!("list-{number}")
}

/// Names a text that is moved and changes its tag.
fn anchor(number: usize) -> Value {
    json!({"kind": "text", "id": format!("anchor-{}", number % ANCHORS)})
}

/// Returns the tag of the anchors after so many renamings.
fn tag(turn: usize) -> String {
    format!("turn-{turn}")
}

impl Owner {
    async fn run(self) -> Model {
        let (texts, one, two, counters, tag, followed) = tokio::join!(
            self.put_texts(),
            self.take_codes(),
            self.take_codes(),
            self.use_counters(),
            self.rearrange(),
            self.read(),
        );

        let (mut mirror, since) = followed;
        self.follow(&mut mirror, since).await;
        Model {
            texts,
            codes: [one, two].concat(),
            counters,
            tag,
            mirror,
        }
    }

    fn is_running(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// Puts texts, every third time several in a batch. Returns the last one of each id.
    async fn put_texts(&self) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        let mut number = 0;

        while self.is_running() {
            number += 1;
            let text = format!("a-favourite-text-{number}");
            let put = |id: &String| json!({"kind": "text", "id": id, "data": {"text": text}});

            let ids: Vec<String> = if number % 3 == 0 {
                let ids: Vec<String> = (0..3).map(|at| format!("trio-{at}")).collect();
                let mut ops: Vec<Value> = ids.iter().map(put).collect();
                ops.iter_mut().for_each(|op| op["op"] = json!("put"));
                let batch = json!({"mode": "atomic", "ops": ops});
                self.caller.done("batch", &batch).await;
                ids
            } else {
                let id = format!("note-{}", number % 10);
                self.caller.done("put", &put(&id)).await;
                vec![id]
            };

            texts.extend(ids.into_iter().map(|id| (id, text.clone())));
            sleep(PAUSE).await;
        }

        texts
    }

    /// Takes codes of one list after the other. Returns those that it was given.
    async fn take_codes(&self) -> Vec<String> {
        let mut taken = Vec::new();

        for list in 0..LISTS {
            let body = json!({"id": list_id(list)});
            while self.is_running() {
                let answer = self.caller.ask("codes.take", &body).await;
                let Some(code) = answer["code"].as_str() else {
                    assert_eq!(answer["error"]["details"]["remaining"], 0, "{answer}");
                    break;
                };
                taken.push(code.to_owned());
                sleep(PAUSE).await;
            }
        }

        taken
    }

    /// Asks for codes of a counter. Returns the counters that it was given.
    async fn use_counters(&self) -> Vec<u64> {
        let body = json!({"id": OTP});
        let mut counters = Vec::new();

        while self.is_running() {
            let answer = self.caller.done("otp.code", &body).await;
            counters.push(answer["counter"].as_u64().expect("a counter"));
            sleep(PAUSE).await;
        }

        counters
    }

    /// Moves the anchors and the basket, and renames the anchors' tag. Returns the last tag.
    async fn rearrange(&self) -> String {
        let mut turn = 0;

        while self.is_running() {
            let mut to_move = anchor(turn);
            if turn % 3 != 0 {
                to_move["after"] = anchor(turn + 1);
            }
            self.caller.done("move", &to_move).await;
            if self.has_baskets.load(Ordering::SeqCst) {
                let basket = json!({"kind": "basket", "id": "basket-0", "after": anchor(turn)});
                self.caller.done("move", &basket).await;
            }

            let rename = json!({"from": tag(turn), "to": tag(turn + 1)});
            let renamed = self.caller.done("tags.rename", &rename).await;
            assert_eq!(renamed["items"], ANCHORS, "{renamed}");
            turn += 1;
            sleep(PAUSE).await;
        }

        tag(turn)
    }

    /// Keeps a mirror of the owner's items and lists them. Returns the mirror, and the version up
    /// to which it is complete.
    async fn read(&self) -> (BTreeMap<String, u64>, u64) {
        let mut mirror = BTreeMap::new();
        let mut since = 0;

        while self.is_running() {
            since = self.follow(&mut mirror, since).await;
            self.list(since).await;
            let history = json!({"kind": "text", "id": "anchor-0"});
            self.caller.done("history", &history).await;
            sleep(PAUSE).await;
        }

        (mirror, since)
    }

    /// Brings the mirror up to date. Returns the version up to which it is complete then.
    async fn follow(&self, mirror: &mut BTreeMap<String, u64>, mut since: u64) -> u64 {
        loop {
            let body = json!({"since": since, "limit": 500});
            let page = self.caller.done("changes", &body).await;

            for item in items(&page) {
                since = version(item, "version");
                if item["deleted"] == true {
                    mirror.remove(&name(item));
                } else {
                    assert_form(item);
                    mirror.insert(name(item), since);
                }
            }
            if page["more"] == false {
                return version(&page, "owner_version");
            }
        }
    }

    /// Lists the items, which are at least as new as `since`, and checks their order and form.
    async fn list(&self, since: u64) {
        let list = self.caller.done("list", &json!({"limit": 500})).await;

        let is_new_enough = version(&list, "owner_version") >= since;
        assert!(is_new_enough, "{list} is older than {since}");
        let places: Vec<_> = items(&list)
            .iter()
            .map(|item| item["place"].as_str())
            .collect();
        assert!(places.is_sorted(), "{places:?}");
        items(&list).iter().for_each(assert_form);
    }
}

/// Returns the items of a reply.
pub fn items(reply: &Value) -> &[Value] {
    reply["items"].as_array().expect("a list")
}

/// Returns the name of an item: its kind and id.
pub fn name(item: &Value) -> String {
    let text = |field: &str| item[field].as_str().expect("a text");

    format!("{} {}", text("kind"), text("id"))
}

/// Returns that version in a reply or an item.
pub fn version(value: &Value, field: &str) -> u64 {
    value[field].as_u64().expect("a version")
}

/// Checks that a living item has data, or is a basket of a worker that does not know baskets.
fn assert_form(item: &Value) {
    if item["kind"] == "basket" && item["data"].is_null() {
        assert_unknown(item);
    } else {
        assert!(item["data"].is_object(), "{item}");
        assert!(item["unknown"].is_null(), "{item}");
    }
}

/// Checks that a living item has the form of a kind that the worker does not know.
#[track_caller]
pub fn assert_unknown(item: &Value) {
    let fields: BTreeSet<&str> = item
        .as_object()
        .expect("an item")
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "kind",
        "id",
        "tags",
        "place",
        "version",
        "created_at",
        "updated_at",
        "unknown",
    ];

    assert_eq!(fields, BTreeSet::from(expected), "{item}");
    assert_eq!(item["unknown"], true, "{item}");
}
