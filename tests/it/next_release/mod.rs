//! Two releases side by side: this one, and a made-up next one, serve one shard and one bucket.
//!
//! The next release is this program in a process that plays it (`src/domain/next.rs`). It knows one
//! more kind of item, `basket`. It adds a record of another name, `hint`, to each write. And it has
//! one more migration, which the test applies.

mod load;

use crate::harness::{Caller, Process, World, extent};
use crate::maintain;
use crate::shard_tools::{check_equal, verify};
use load::{
    LIST_CODES, LISTS, Load, Model, OTP, RetryingCaller, assert_unknown, items, list_id, name,
    version,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The owners that write all the time.
const BUSY_OWNERS: [&str; 2] = ["alice", "bob"];

/// An owner that the load leaves alone.
const QUIET_OWNER: &str = "carol";

/// How long it may take until a worker of the next release takes a request.
const BASKET_TIMEOUT: Duration = Duration::from_secs(60);

/// Counts the owners with a record of the next release.
const COUNT_HINTS: &str = "select count(*) from other_record where name = 'hint'";

/// Which release a worker is of.
#[derive(Clone, Copy)]
enum Release {
    This,
    Next,
}

/// Shard a with its workers, which are processes.
struct Shard {
    world: World,
    /// The workers, oldest first.
    workers: VecDeque<Process>,
}

impl Shard {
    /// Starts shard a with two workers of this release.
    async fn start() -> Self {
        let world = World::start().await;
        world.init(&world.settings("a")).await.expect("init");

        let mut shard = Self {
            world,
            workers: VecDeque::new(),
        };
        for _ in 0..2 {
            shard.add(Release::This).await;
        }
        shard
    }

    /// Starts one more worker, and waits until it is ready.
    async fn add(&mut self, release: Release) {
        let settings = self.world.settings("a");
        let mut worker = match release {
            Release::This => self.world.serve(settings),
            Release::Next => self.world.serve_next(settings),
        };

        worker.is_ready().await;
        self.workers.push_back(worker);
    }

    /// Stops the oldest worker, and checks that it ends in order and has logged no error.
    async fn stop_oldest(&mut self) {
        let mut oldest = self.workers.pop_front().expect("a worker");
        oldest.signal(Signal::SIGTERM);

        let status = oldest.ended().await;

        let log = oldest.log();
        assert!(status.success(), "{status:?}\n{log}");
        assert_no_errors(&log);
    }

    /// Puts a worker of that release in the place of the oldest one.
    async fn replace_oldest(&mut self, release: Release) {
        self.add(release).await;
        self.stop_oldest().await;
    }

    async fn caller(&self, owner: &str) -> RetryingCaller {
        RetryingCaller::new(self.world.caller(owner).await)
    }
}

/// Checks that a worker has logged no error. It may find a write of which it has read only a part,
/// and then it fetches the owner again.
fn assert_no_errors(log: &str) {
    let errors: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("ERROR") && !line.contains("fetched again"))
        .collect();

    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

fn basket(id: &str) -> Value {
    json!({"kind": "basket", "id": id})
}

/// The body of a `put` of a basket, which has its id as a tag.
fn put_basket(id: &str) -> Value {
    json!({
        "kind": "basket", "id": id, "data": {"text": format!("what {id} holds")},
        "meta": {"colour": "green"}, "tags": ["baskets", id],
    })
}

/// Checks that an answer is the refusal of a kind that the worker does not know.
#[track_caller]
fn assert_unknown_kind(answer: &Value) {
    assert_eq!(answer["error"]["code"], "bad_request", "{answer}");
    assert_eq!(answer["error"]["details"]["field"], "kind", "{answer}");
}

/// Puts two baskets more of each owner, again and again until a worker of the next release takes
/// the request. Adds the items of the replies.
async fn put_baskets(callers: &[RetryingCaller], baskets: &mut [Vec<Value>]) {
    for (caller, baskets) in std::iter::zip(callers, baskets) {
        for _ in 0..2 {
            let body = put_basket(&format!("basket-{}", baskets.len()));
            let start = Instant::now();

            let item = loop {
                let answer = caller.ask("put", &body).await;
                if answer["error"].is_null() {
                    break answer["item"].clone();
                }
                assert_unknown_kind(&answer);
                let waited = start.elapsed();
                assert!(waited < BASKET_TIMEOUT, "no worker knows baskets");
                sleep(Duration::from_millis(5)).await;
            };

            assert_eq!(item["data"], body["data"]);
            baskets.push(item);
        }
    }
}

/// Returns the items of a strong list.
async fn listed(caller: &Caller, shard: &str) -> Vec<Value> {
    let body = json!({"consistency": "strong", "limit": 500});
    let list = caller.done(&format!("{shard}.list"), &body).await;

    items(&list).to_vec()
}

/// Checks that every acknowledged write of an owner is there with its content, and that `changes`
/// led to the same items.
async fn check_writes(caller: &RetryingCaller, model: &Model) {
    let items = listed(&caller.caller, "a").await;
    let by_name: BTreeMap<String, &Value> = items.iter().map(|item| (name(item), item)).collect();

    for (id, text) in &model.texts {
        let item = by_name
            .get(&format!("text {id}"))
            .unwrap_or_else(|| panic!("{id} is lost"));
        assert_eq!(item["data"]["text"], *text, "{item}");
    }
    let anchors = by_name
        .iter()
        .filter(|(name, _)| name.starts_with("text anchor-"));
    for (_, anchor) in anchors {
        assert_eq!(anchor["tags"], json!([model.tag]), "{anchor}");
    }
    let versions: BTreeMap<String, u64> = items
        .iter()
        .map(|item| (name(item), version(item, "version")))
        .collect();
    assert_eq!(model.mirror, versions);
}

/// Checks that each code and each counter of an owner was given out once, and none is missing.
async fn check_given_out(caller: &RetryingCaller, model: &Model) {
    let mut left = 0;
    for list in 0..LISTS {
        let get = json!({"kind": "codes", "id": list_id(list)});
        let answer = caller.done("get", &get).await;
        left += answer["item"]["data"]["remaining"]
            .as_u64()
            .expect("a number");
    }
    let codes: BTreeSet<&String> = model.codes.iter().collect();
    assert_eq!(codes.len(), model.codes.len(), "each is given out once");
    assert_eq!(
        codes.len() as u64 + left,
        (LISTS * LIST_CODES) as u64,
        "none is lost"
    );

    let get = json!({"kind": "otp", "id": OTP});
    let answer = caller.done("get", &get).await;
    let counters: BTreeSet<u64> = model.counters.iter().copied().collect();
    let all: BTreeSet<u64> = (0..model.counters.len() as u64).collect();
    assert_eq!(counters, all);
    assert_eq!(answer["item"]["data"]["counter"], model.counters.len());
}

/// Checks that this release shows a basket as an item of an unknown kind, whatever is asked, and
/// refuses to write one.
async fn check_is_unknown(caller: &RetryingCaller, put: &Value) {
    let id = put["id"].as_str().expect("an id");
    let is_it = |item: &&Value| item["kind"] == "basket" && item["id"] == *id;

    let got = caller.done("get", &basket(id)).await;
    let list = caller.done("list", &json!({"kind": "basket"})).await;
    let changes = json!({"since": version(&got["item"], "version") - 1, "limit": 1});
    let changes = caller.done("changes", &changes).await;
    let history = caller.done("history", &basket(id)).await;
    let lookup = json!({"items": [basket(id), basket("none")]});
    let lookup = caller.done("lookup", &lookup).await;
    let refused_put = caller.ask("put", &put_basket(id)).await;
    let mut restore = basket(id);
    restore["version"] = put["version"].clone();
    let refused_restore = caller.ask("restore", &restore).await;

    let shown = &got["item"];
    assert_unknown(shown);
    assert_eq!(shown["tags"], put["tags"]);
    assert_eq!(shown["created_at"], put["created_at"]);
    assert_eq!(items(&list).iter().find(is_it), Some(shown));
    assert_eq!(items(&changes).iter().find(is_it), Some(shown));
    assert_eq!(history["versions"][0], *shown);
    assert_eq!(lookup["items"], json!([shown, null]));
    assert_unknown_kind(&refused_put);
    assert_unknown_kind(&refused_restore);
}

/// Moves the first basket to the beginning, renames a tag of the second, and deletes the third and
/// the fourth, all with workers of this release.
async fn change_baskets(caller: &RetryingCaller) {
    let moved = caller.done("move", &basket("basket-0")).await;
    let rename = json!({"from": "basket-1", "to": "renamed"});
    let renamed = caller.done("tags.rename", &rename).await;
    let deleted = caller.done("delete", &basket("basket-2")).await;
    caller.done("delete", &basket("basket-3")).await;

    assert_unknown(&moved["item"]);
    assert_eq!(renamed["items"], 1);
    assert_eq!(deleted["item"]["deleted"], true);
    let items = listed(&caller.caller, "a").await;
    assert_eq!(items[0], moved["item"]);
    let one = caller.done("get", &basket("basket-1")).await;
    assert_eq!(one["item"]["tags"], json!(["baskets", "renamed"]));
}

/// Checks with workers of the next release that the baskets have their content, whatever this
/// release did with them.
async fn check_by_next(caller: &RetryingCaller, baskets: &[Value]) {
    for number in [0, 1, 4, 5] {
        let put = &baskets[number];
        let body = basket(&format!("basket-{number}"));
        let item = caller.done("get", &body).await["item"].clone();

        for field in ["data", "meta", "created_at"] {
            assert_eq!(item[field], put[field], "{item}");
        }
        let tags = match number {
            1 => json!(["baskets", "renamed"]),
            _ => put["tags"].clone(),
        };
        assert_eq!(item["tags"], tags);
    }
    let items = listed(&caller.caller, "a").await;
    assert_eq!(items[0]["id"], "basket-0");
    assert!(items.iter().all(|item| item["unknown"].is_null()));

    let gone = caller.ask("get", &basket("basket-2")).await;
    assert_eq!(gone["error"]["code"], "not_found", "{gone}");
    let mut restore = basket("basket-2");
    restore["version"] = baskets[2]["version"].clone();
    let restored = caller.done("restore", &restore).await;
    for field in ["data", "meta", "tags"] {
        assert_eq!(restored["item"][field], baskets[2][field]);
    }
}

/// Checks that shard b, which is of this release and has no row of the owners yet, has the same
/// items and the same records as shard a.
async fn check_other_shard(shard: &Shard, callers: &[RetryingCaller]) {
    let world = &shard.world;
    let b = world.worker("b").await;

    for RetryingCaller { caller, .. } in callers {
        assert_eq!(listed(caller, "b").await, listed(caller, "a").await);
    }

    let complete = "select count(*) from owner where complete_to is not null";
    world.until("b", complete, &callers.len().to_string()).await;
    let records = "select md5(string_agg(concat_ws('|', owner_key, name, version, sealed), ';' \
                   order by owner_key)) from other_record";
    assert_eq!(world.query("b", records), world.query("a", records));
    b.stop().await.expect("stopped in order");
}

/// Checks that `verify` reports the row of a record of the next release that was lost, and repairs
/// it, and that a replay keeps these rows.
async fn check_lost_row(world: &World, owner: &str, owners: &str) {
    let delete = format!(
        "delete from other_record where owner_key = {}",
        world.key_of(owner)
    );
    world.query("a", &delete);

    let (code, report) = verify(world, &[]).await;
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["counts"]["differ"], 1, "{report}");
    let differences = &report["owners"][0]["differences"];
    assert_eq!(*differences, json!([{"what": "others"}]), "{report}");

    let (code, report) = verify(world, &["--repair"]).await;
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["counts"]["mended"], 1, "{report}");
    assert_eq!(world.query("a", COUNT_HINTS), owners);
    check_equal(world).await;

    let (code, text) = world.run("a", &["replay"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(world.query("a", COUNT_HINTS), owners);
    check_equal(world).await;
}

/// Goal: workers of this release and of the next one serve one shard and one bucket under load,
/// forward and back. Nothing is lost, nothing is answered `internal`, and this release carries
/// along what it does not know.
///
/// Method: two owners write and read all the time, at any worker of a shard with two workers. The
/// next release's migration is applied, and the workers are replaced one after the other: first by
/// workers of the next release, then by workers of this one. While the next release is there,
/// baskets are put. Then everything is compared with the answers of the callers. This release
/// lists and changes the baskets, and another shard hosts the owners. Workers of the next release
/// then read the baskets again.
#[tokio::test(flavor = "multi_thread")]
async fn two_releases_serve_one_shard_forward_and_back() {
    let mut shard = Shard::start().await;
    let mut callers = Vec::new();
    for owner in BUSY_OWNERS {
        callers.push(shard.caller(owner).await);
    }
    let requests = extent(100, 1_000) as u64;
    let load = Load::start(callers.clone()).await;
    let mut baskets = vec![Vec::new(); callers.len()];

    load.progress(requests).await;
    assert_unknown_kind(&callers[0].ask("put", &put_basket("too-early")).await);
    shard.world.migrate_to_next("a");
    load.progress(requests).await;
    shard.replace_oldest(Release::Next).await;
    put_baskets(&callers, &mut baskets).await;
    load.move_baskets();
    load.progress(requests).await;
    shard.replace_oldest(Release::Next).await;
    put_baskets(&callers, &mut baskets).await;
    load.progress(requests).await;
    shard.replace_oldest(Release::This).await;
    put_baskets(&callers, &mut baskets).await;
    load.progress(requests).await;
    shard.replace_oldest(Release::This).await;
    load.progress(requests).await;
    let models = load.stop().await;

    for (at, caller) in callers.iter().enumerate() {
        check_writes(caller, &models[at]).await;
        check_given_out(caller, &models[at]).await;
        for put in &baskets[at] {
            check_is_unknown(caller, put).await;
        }
        change_baskets(caller).await;
    }
    let owners = callers.len().to_string();
    assert_eq!(shard.world.query("a", COUNT_HINTS), owners);
    check_equal(&shard.world).await;
    check_other_shard(&shard, &callers).await;
    check_lost_row(&shard.world, BUSY_OWNERS[0], &owners).await;

    for _ in 0..2 {
        shard.replace_oldest(Release::Next).await;
    }
    for (caller, baskets) in std::iter::zip(&callers, &baskets) {
        check_by_next(caller, baskets).await;
    }
    shard
        .workers
        .iter()
        .for_each(|one| assert_no_errors(&one.log()));
}

/// Goal: this release recognises a repeat of a request that the next release did, even if the item
/// was changed since, and of the current records only the next release's own one still names the
/// request. It also forgets deletions of owners with such records.
///
/// Method: workers of the next release put and delete a basket, and put a text under a request id.
/// Workers of this release change the text, and get the first request again, on the same shard and
/// on another one. Then maintenance of this release forgets the deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_the_next_release_is_recognised() {
    let mut shard = Shard::start().await;
    let carol = shard.caller(QUIET_OWNER).await;
    for _ in 0..2 {
        shard.replace_oldest(Release::Next).await;
    }
    carol.done("put", &put_basket("gone")).await;
    carol.done("delete", &basket("gone")).await;
    let put = json!({"kind": "text", "id": "note", "data": {"text": "the first"}});
    let first = carol.ask_as("once", "put", &put).await;
    assert!(first["error"].is_null(), "{first}");

    for _ in 0..2 {
        shard.replace_oldest(Release::This).await;
    }
    let other = json!({"kind": "text", "id": "note", "data": {"text": "the second"}});
    let second = carol.done("put", &other).await;
    let again = carol.ask_as("once", "put", &put).await;
    let _b = shard.world.worker("b").await;
    let on_b = carol.caller.ask_once("b.put", "once", &put).await.body;

    for repeated in [&again, &on_b] {
        assert_eq!(repeated["item"], first["item"], "{repeated}");
        assert_eq!(repeated["owner_version"], first["owner_version"]);
    }
    let got = carol
        .done("get", &json!({"kind": "text", "id": "note"}))
        .await;
    assert_eq!(got["item"], second["item"]);

    let round = maintain::maintain(&maintain::settings(&shard.world)).await;
    assert_eq!(round.purged, 1);
    let list = listed(&carol.caller, "a").await;
    assert_eq!(list, listed(&carol.caller, "b").await);
    assert_eq!(list, [second["item"].clone()]);
    check_equal(&shard.world).await;
    shard
        .workers
        .iter()
        .for_each(|one| assert_no_errors(&one.log()));
}
