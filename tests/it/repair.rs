//! `gofavorites repair`: an owner whose records in the bucket are not complete comes back from the
//! shards' copies, on real servers.

use crate::harness::samples::{RFC_CODES, RFC_SECRET, code, codes, otp_uri, put_codes, put_otp};
use crate::harness::{Caller, Proxy, Worker, World, purge_record, with_breaker};
use async_nats::Client;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long the workers may take until they have what the bucket has.
const SHARD_TIMEOUT: Duration = Duration::from_secs(30);

/// Two shards that serve, an administrator, and the user of each test.
struct Scene {
    world: World,
    breaker: Client,
    workers: Vec<Worker>,
}

impl Scene {
    async fn start() -> Self {
        let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
        let a = world.worker("a").await;
        let b = world.worker("b").await;
        let breaker = world.connect_breaker().await;

        Self {
            world,
            breaker,
            workers: vec![a, b],
        }
    }

    /// Returns a new user, and the subject of each item that the user puts, in their order.
    async fn user(&self, name: &str, items: &[&str]) -> (Caller, Vec<String>) {
        let caller = self.world.caller(name).await;
        let mut subjects = Vec::new();
        for item in items {
            let subject = self.written(name, caller.put_text("a", item, "x")).await;
            subjects.push(subject);
        }
        (caller, subjects)
    }

    /// Returns the subject of the item's record that the write makes.
    async fn written<T>(&self, name: &str, write: impl Future<Output = T>) -> String {
        let before = self.subjects(name).await;
        write.await;
        let after = self.subjects(name).await;

        let mut new = after
            .difference(&before)
            .filter(|one| !one.ends_with(".key"));
        new.next().expect("a new record").clone()
    }

    /// Returns the subjects of the user's records.
    async fn subjects(&self, name: &str) -> BTreeSet<String> {
        let owner = format!(".{}.", self.world.owner(name));
        let records = self.world.records().await;

        records
            .into_keys()
            .filter(|one| one.contains(&owner))
            .collect()
    }

    fn key(&self, name: &str) -> String {
        format!("$KV.favorites.{}.key", self.world.owner(name))
    }

    /// Removes what the bucket has of a subject.
    async fn lose(&self, subject: &str) {
        let filter = json!({"filter": subject}).to_string();
        self.api("PURGE", filter).await;
    }

    /// Puts the oldest value of a subject in the place of all others.
    async fn roll_back(&self, subject: &str) {
        let oldest = json!({"seq": 1, "next_by_subj": subject}).to_string();
        let get = "$JS.API.DIRECT.GET.KV_favorites";
        let reply = self.breaker.request(get, oldest.into()).await;
        let oldest = reply.expect("a reply").payload.to_vec();

        self.lose(subject).await;
        self.publish(subject, oldest).await;
    }

    /// Returns the value of the newest message of a subject.
    async fn value(&self, subject: &str) -> Vec<u8> {
        let subject = format!("$JS.API.DIRECT.GET.KV_favorites.{subject}");
        let reply = self.breaker.request(subject, "".into()).await;

        reply.expect("a reply").payload.to_vec()
    }

    async fn api(&self, call: &str, body: String) -> Value {
        let subject = format!("$JS.API.STREAM.{call}.KV_favorites");
        let reply = self.breaker.request(subject, body.into()).await;
        let reply: Value = serde_json::from_slice(&reply.expect("a reply").payload).expect("JSON");

        assert!(reply["error"].is_null(), "{call}: {reply}");
        reply
    }

    /// Publishes into the bucket, as an administrator may.
    async fn publish(&self, subject: &str, value: Vec<u8>) {
        let reply = self.breaker.request(subject.to_owned(), value.into()).await;
        let reply: Value = serde_json::from_slice(&reply.expect("a reply").payload).expect("JSON");

        assert!(reply["error"].is_null(), "{reply}");
    }

    /// Returns how many of the user's items a shard's Postgres has.
    fn rows(&self, shard: &str, name: &str) -> String {
        let key = self.world.key_of(name);
        self.world.query(
            shard,
            &format!("select count(*) from item where owner_key = {key}"),
        )
    }

    /// Lets the shard host the user, and waits until its copy is as the bucket is.
    async fn host(&self, caller: &Caller, shard: &str, name: &str, items: &str) {
        caller.done(&format!("{shard}.list"), &json!({})).await;
        let key = self.world.key_of(name);
        let statement = format!(
            "select count(item_key) from owner left join item using (owner_key) \
             where owner_key = {key} and complete_to is not null"
        );
        self.world.until(shard, &statement, items).await;
    }

    /// Makes the shard forget the user.
    fn evict(&self, shard: &str, name: &str) {
        let key = self.world.key_of(name);
        self.world
            .query(shard, &format!("delete from owner where owner_key = {key}"));
    }

    /// Runs `repair` for the user with the settings of both shards. Returns its exit code and what
    /// it reports.
    async fn repair(&self, name: &str, more: &[&str]) -> (i32, Value) {
        let (code, printed) = self.run(name, &[more, &["--json"]].concat()).await;
        let report: Value = serde_json::from_str(&printed).expect("JSON");

        (code, report["owners"][0].clone())
    }

    async fn run(&self, name: &str, more: &[&str]) -> (i32, String) {
        let [a, b] = ["a", "b"].map(|shard| self.world.config(shard).display().to_string());
        let arguments = [
            &["repair", "--sub", name, "--config", &a, "--config", &b],
            more,
        ]
        .concat();

        let (code, printed) = self.world.run("a", &arguments).await;
        assert!(!printed.contains(name), "the user is named: {printed}");
        (code, printed)
    }

    /// Repairs the user without a loss, and checks that both shards serve as before: at once, and
    /// without a restart.
    async fn repaired(&self, name: &str, caller: &Caller, items: &[&str]) -> Value {
        let (code, report) = self.repair(name, &["--yes"]).await;
        assert_eq!(code, 0, "{report}");
        assert!(report["repaired_to"].is_u64(), "{report}");

        for shard in ["a", "b"] {
            self.lists(caller, shard, items).await;
            self.verifies(shard).await;
        }
        let (code, again) = self.repair(name, &["--yes"]).await;
        assert_eq!((code, &again["verdict"]), (0, &json!("sound")), "{again}");
        report
    }

    /// Waits until the shard lists these items, and says that they are fresh.
    async fn lists(&self, caller: &Caller, shard: &str, items: &[&str]) {
        let start = Instant::now();
        let expected: BTreeSet<&str> = items.iter().copied().collect();
        loop {
            let list = caller
                .ask(&format!("{shard}.list"), &json!({"limit": 100}))
                .await
                .body;
            let found = list["items"].as_array().into_iter().flatten();
            let found: BTreeSet<&str> = found.filter_map(|item| item["id"].as_str()).collect();
            if found == expected && list["stale"].is_null() {
                return;
            }

            assert!(start.elapsed() < SHARD_TIMEOUT, "{shard}: {list}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn verifies(&self, shard: &str) {
        let (code, printed) = self.world.run(shard, &["verify"]).await;
        assert_eq!(code, 0, "{printed}");
    }

    async fn is_broken(&self, caller: &Caller, shard: &str) {
        let refused = caller
            .ask(&format!("{shard}.list"), &json!({"consistency": "strong"}))
            .await;
        refused.refusal("internal");
    }
}

/// Goal: each kind of damage to one record is repaired from a shard's copy, and other shards serve the
/// owner again without a restart. A dry run changes nothing, and a healthy owner stays as it is.
///
/// Method: shard a has a copy of each user, and shard b has none. Each user has three items, and loses
/// one record in one way.
#[tokio::test(flavor = "multi_thread")]
async fn each_damaged_record_comes_back() {
    let scene = Scene::start().await;
    let items = ["one", "two", "three"];

    for (name, what) in [
        ("user-healthy", ""),
        ("user-oldest", "missing"),
        ("user-newest", "missing"),
        ("user-keyless", "missing"),
        ("user-rolled-back", "altered"),
        ("user-altered", "altered"),
        ("user-forged", "altered"),
        ("user-unreadable", "unreadable"),
    ] {
        let (caller, subjects) = scene.user(name, &items).await;
        caller.put_text("a", "one", "y").await;
        let last = caller.put_text("a", "three", "y").await;
        scene.world.until_projected("a", &last).await;
        scene.host(&caller, "a", name, "3").await;
        let before = scene.subjects(name).await;
        match name {
            "user-oldest" => scene.lose(&subjects[1]).await,
            "user-newest" => scene.lose(&subjects[2]).await,
            "user-keyless" => scene.lose(&scene.key(name)).await,
            "user-rolled-back" => scene.roll_back(&subjects[0]).await,
            "user-altered" => {
                let mut value = scene.value(&subjects[1]).await;
                *value.last_mut().expect("bytes") ^= 1;
                scene.publish(&subjects[1], value).await;
            }
            "user-forged" => {
                let value = scene.value(&subjects[1]).await;
                scene.publish(&subjects[1], value).await;
            }
            "user-unreadable" => scene.publish(&subjects[1], b"no record".to_vec()).await,
            _ => {
                let (code, report) = scene.repair(name, &["--yes"]).await;
                assert_eq!((code, &report["verdict"]), (0, &json!("sound")), "{report}");
                assert!(report["repaired_to"].is_null());
                continue;
            }
        }
        if name != "user-newest" {
            scene.is_broken(&caller, "b").await;
        }
        let damaged = scene.world.records().await;

        let (code, report) = scene.repair(name, &[]).await;
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["bucket"]["damage"][what], 1, "{name}: {report}");
        assert_eq!(report["verdict"], "repairable", "{name}: {report}");
        assert!(report["losses"]["unproven"] == false, "{name}: {report}");
        assert_eq!(scene.world.records().await, damaged, "a dry run");

        scene.repaired(name, &caller, &items).await;
        assert_eq!(scene.subjects(name).await, before);
        let put = caller.put_text("b", "one", "z").await;
        assert!(put["owner_version"].is_u64());
        scene.lists(&caller, "a", &items).await;
    }
    drop(scene.workers);
}

/// Goal: what was deleted stays deleted, no code is given out twice, and a repeated request is
/// recognised: the repair keeps what must not go back.
///
/// Method: of a list of codes, a counter and a deletion the bucket keeps an older record only, and
/// shard a has the newest. Another user's list is newer in the bucket than in shard a's copy, which
/// the projection does not change any more.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_used_or_deleted_comes_back() {
    let scene = Scene::start().await;
    let (alice, _) = scene.user("alice", &["kept"]).await;
    let list = put_codes("list", &codes(0..3));
    let counter = put_otp("counter", &otp_uri("hotp", RFC_SECRET, ""));
    let list = scene.written("alice", alice.done("a.put", &list)).await;
    let counter = scene.written("alice", alice.done("a.put", &counter)).await;
    let gone = scene
        .written("alice", alice.put_text("a", "gone", "x"))
        .await;
    let of_list = json!({"id": "list"});
    let of_counter = json!({"id": "counter"});
    let taken = alice
        .ask_once("a.codes.take", "take-1", &of_list)
        .await
        .body;
    assert_eq!(taken["code"], code(0));
    alice.done("a.otp.code", &of_counter).await;
    let delete = json!({"kind": "text", "id": "gone"});
    alice.done("a.delete", &delete).await;
    let put = |id: &str| json!({"op": "put", "kind": "text", "id": id, "data": {"text": "x"}});
    let batch = json!({"mode": "atomic", "ops": [put("first"), put("second")]});
    let before = scene.subjects("alice").await;
    let written = alice.ask_once("a.batch", "batch-1", &batch).await.body;
    assert!(written["results"].is_array(), "{written}");
    let after = scene.subjects("alice").await;
    let one_of_two = after.difference(&before).next().expect("two").clone();
    let last = alice.put_text("a", "last", "x").await;
    scene.world.until_projected("a", &last).await;
    scene.host(&alice, "a", "alice", "7").await;

    scene.lose(&one_of_two).await;
    for subject in [&list, &counter, &gone] {
        scene.roll_back(subject).await;
    }
    let items = ["kept", "list", "counter", "last", "first", "second"];
    let report = scene.repaired("alice", &alice, &items).await;
    assert_eq!(report["bucket"]["damage"]["altered"], 3, "{report}");
    assert_eq!(report["bucket"]["damage"]["missing"], 1, "{report}");
    for shard in ["a", "b"] {
        let before = scene.world.records().await;
        let repeated = alice
            .ask_once(&format!("{shard}.batch"), "batch-1", &batch)
            .await;
        if repeated.body["results"] != written["results"] {
            repeated.refusal("resync_required");
        }
        assert_eq!(scene.world.records().await, before, "it is not done again");
    }

    let repeated = alice
        .ask_once("b.codes.take", "take-1", &of_list)
        .await
        .body;
    assert_eq!(repeated["code"], code(0), "{repeated}");
    let next = alice.done("b.codes.take", &of_list).await;
    assert_eq!(next["code"], code(1));
    let next = alice.done("b.otp.code", &of_counter).await;
    assert_eq!(next["code"], RFC_CODES[1]);
    let deleted = alice.ask("b.get", &delete).await;
    deleted.refusal("not_found");

    bucket_is_newer(&scene).await;
}

/// The bucket has newer records than the copy: they stay, and what is missing comes from the copy.
async fn bucket_is_newer(scene: &Scene) {
    let (bob, subjects) = scene.user("bob", &["old", "kept"]).await;
    let list = put_codes("list", &codes(0..3));
    let last = bob.done("a.put", &list).await;
    scene.world.until_projected("a", &last).await;
    scene.host(&bob, "a", "bob", "3").await;
    let key = scene.world.key_of("bob");
    let doubt = format!(
        "update owner set doubted_version = version, lost_at = now() where owner_key = {key}"
    );
    scene.world.query("a", &doubt);

    bob.done("b.codes.take", &json!({"id": "list"})).await;
    let last = bob.put_text("b", "kept", "newer").await;
    scene.world.until_projected("a", &last).await;
    scene.evict("b", "bob");
    scene.lose(&subjects[0]).await;

    let report = scene.repaired("bob", &bob, &["old", "kept", "list"]).await;
    assert_eq!(report["bucket"]["damage"]["missing"], 1, "{report}");
    assert_eq!(report["writes"], 1, "{report}");
    let next = bob.done("a.codes.take", &json!({"id": "list"})).await;
    assert_eq!(next["code"], code(1));
    let kept = bob
        .done("a.get", &json!({"kind": "text", "id": "kept"}))
        .await;
    assert_eq!(kept["item"]["data"]["text"], "newer");
}

/// Goal: of two shards' copies everything is taken that was acknowledged: the bucket lost its newest
/// record and went on without it. A caller that follows changes from before misses nothing.
///
/// Method: shard a has the lost write. Shard b, without a copy then, wrote on top of what was left.
#[tokio::test(flavor = "multi_thread")]
async fn what_two_shards_have_is_joined() {
    let scene = Scene::start().await;
    let (alice, _) = scene.user("alice", &["one"]).await;
    scene.host(&alice, "a", "alice", "1").await;
    let two = scene
        .written("alice", alice.put_text("a", "two", "x"))
        .await;
    let since = alice.done("a.list", &json!({})).await["owner_version"].clone();
    scene.host(&alice, "a", "alice", "2").await;
    scene.evict("b", "alice");
    scene.lose(&two).await;
    alice.put_text("b", "three", "x").await;
    scene.host(&alice, "b", "alice", "2").await;
    let lost = "select count(*) from owner where lost_at is not null";
    scene.world.until("a", lost, "1").await;

    let report = scene
        .repaired("alice", &alice, &["one", "two", "three"])
        .await;
    assert_eq!(report["losses"]["unproven"], false, "{report}");
    assert_eq!(scene.world.query("a", lost), "0");
    assert_eq!(scene.rows("a", "alice"), "3");

    for shard in ["a", "b"] {
        let changes = alice
            .done(&format!("{shard}.changes"), &json!({"since": since}))
            .await;
        let ids: BTreeSet<&str> = changes["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter_map(|item| item["id"].as_str())
            .collect();
        assert!(ids.contains("three"), "{shard}: {changes}");
    }
}

/// Goal: without a complete copy nothing changes unless the operator accepts the loss. Then what is
/// left comes back, each caller begins again, and no code can be given out twice.
///
/// Method: no shard has a copy, and one item of four is lost. Then shard a's copy is older than a
/// write of which nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_has_to_be_accepted() {
    let scene = Scene::start().await;
    let (alice, subjects) = scene.user("alice", &["one", "two", "three"]).await;
    alice.done("a.put", &put_codes("list", &codes(0..3))).await;
    let since = alice.done("a.list", &json!({})).await["owner_version"].clone();
    for shard in ["a", "b"] {
        scene.evict(shard, "alice");
    }
    scene.lose(&subjects[1]).await;
    let before = scene.world.records().await;

    for more in [&[][..], &["--yes"][..]] {
        let (code, report) = scene.repair("alice", more).await;
        assert_eq!(
            (code, &report["verdict"]),
            (1, &json!("no_copy")),
            "{report}"
        );
    }
    assert_eq!(scene.world.records().await, before);

    let (code, report) = scene.repair("alice", &["--yes", "--accept-loss"]).await;
    assert_eq!(code, 0, "{report}");
    for shard in ["a", "b"] {
        scene.lists(&alice, shard, &["one", "three"]).await;
        scene.verifies(shard).await;
        let changes = alice
            .ask(&format!("{shard}.changes"), &json!({"since": since}))
            .await;
        changes.refusal("resync_required");
    }
    alice.put_text("b", "four", "x").await;
    scene.lists(&alice, "a", &["one", "three", "four"]).await;
}

/// Goal: a repair never overwrites what a worker writes meanwhile, and one that was killed in the
/// middle is finished by the next.
///
/// Method: fifty items are lost, and the program's link to NATS is slow. It is killed once it has
/// written some. During the second run the user writes on shard a, which has everything: one of the
/// items that are still to come back, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_repair_is_finished_beside_writes() {
    let scene = Scene::start().await;
    let names: Vec<String> = (0..60).map(|number| format!("note-{number}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let (alice, subjects) = scene.user("alice", &ids).await;
    scene.host(&alice, "a", "alice", "60").await;
    for subject in &subjects[..50] {
        purge_record(&scene.breaker, subject).await;
    }
    let proxy = Proxy::start(scene.world.nats.url().trim_start_matches("nats://")).await;
    let slow = format!("nats://127.0.0.1:{}", proxy.port());
    let config = scene.world.config("a").display().to_string();
    let arguments = ["repair", "--sub", "alice", "--yes", "--config", &config];
    proxy.delay(Duration::from_millis(10));

    let mut first = scene.world.program("a", &arguments);
    let mut first = first
        .env("GOFAVORITES__NATS__URL", &slow)
        .spawn()
        .expect("it starts");
    until_records(&scene, "alice", 20).await;
    first.kill().await.expect("killed");
    let after_kill = scene.subjects("alice").await.len();
    assert!(after_kill < 61, "it was too fast: {after_kill}");
    scene.is_broken(&alice, "b").await;

    proxy.delay(Duration::from_millis(50));
    let mut second = scene.world.program("a", &arguments);
    let second = second
        .env("GOFAVORITES__NATS__URL", &slow)
        .spawn()
        .expect("it starts");
    until_records(&scene, "alice", after_kill + 3).await;
    alice.put_text("a", "meanwhile", "x").await;
    alice.put_text("a", "note-49", "newer").await;
    let ended = second.wait_with_output().await.expect("it ends");
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );

    let all = [&ids[..], &["meanwhile"]].concat();
    for shard in ["a", "b"] {
        scene.lists(&alice, shard, &all).await;
        scene.verifies(shard).await;
    }
    let get = json!({"kind": "text", "id": "note-49"});
    let written = alice.done("b.get", &get).await;
    assert_eq!(written["item"]["data"]["text"], "newer");
}

/// Waits until the bucket has that many keys of the user.
async fn until_records(scene: &Scene, name: &str, count: usize) {
    let start = Instant::now();
    while scene.subjects(name).await.len() < count {
        assert!(start.elapsed() < SHARD_TIMEOUT, "nothing is written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Goal: `--all` finds each broken owner of a shard, and repairs it, and says of the others nothing.
///
/// Method: two of three users have lost a record.
#[tokio::test(flavor = "multi_thread")]
async fn all_broken_owners_are_found() {
    let scene = Scene::start().await;
    for name in ["one", "two", "three"] {
        let (caller, subjects) = scene.user(name, &["first", "second"]).await;
        scene.host(&caller, "a", name, "2").await;
        if name != "two" {
            scene.lose(&subjects[0]).await;
        }
    }

    let (code, printed) = scene.world.run("a", &["repair", "--all"]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.contains("2 owners: a dry run, nothing was written"),
        "{printed}"
    );
    let (code, printed) = scene.world.run("a", &["repair", "--all", "--yes"]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("2 owners: 2 repaired"), "{printed}");
    scene.verifies("a").await;
    let (code, printed) = scene.world.run("a", &["repair", "--all"]).await;
    assert_eq!((code, printed.lines().count()), (0, 1), "{printed}");
}
