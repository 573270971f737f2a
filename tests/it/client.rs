//! The client for other programs, on real servers.

use crate::harness::samples::{RFC_SECRET, otp_uri};
use crate::harness::{Proxy, World};
use gofavorites::client::{
    BatchMode, BatchOperation, BatchResult, Change, Changes, Client, ClientError, Consistency,
    Content, Filter, Instrument, Item, ItemName, OtpVerdict, Position, Put,
};
use gofavorites::wire::Code;
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[path = "../../examples/rust/favourites.rs"]
#[expect(dead_code, reason = "the test calls run, and not main")]
mod favourites;

const SCOPES: &str = "favorites:read favorites:write favorites:secrets";

/// Returns a client for a caller, whose connection goes to this URL.
async fn client_at(world: &World, url: &str, caller: &str) -> Client {
    let nats = world.connect_at(url, "gateway").await;
    let token = world.token(caller, SCOPES, Duration::from_secs(600));

    Client::new(nats).expect("a prefix").with_token(token)
}

async fn client(world: &World, caller: &str) -> Client {
    client_at(world, &world.nats.url(), caller).await
}

fn text(id: &str) -> ItemName {
    ItemName::new("text", id)
}

/// Waits for the next change, at most for some seconds.
async fn next(changes: &mut Changes) -> Change {
    let change = tokio::time::timeout(Duration::from_secs(30), changes.next()).await;

    change.expect("in time").expect("a change")
}

/// Returns the ids of the items until the caller has caught up, and whether a resync was demanded.
async fn catch_up(changes: &mut Changes) -> (Vec<String>, bool, Position) {
    let mut ids = Vec::new();
    let mut resync = false;

    loop {
        match next(changes).await {
            Change::Item(item) => ids.push(item.id),
            Change::Resync => resync = true,
            Change::CaughtUp(position) => return (ids, resync, position),
        }
    }
}

/// Goal: items of each kind are written, read, changed, moved and deleted, with types.
#[tokio::test(flavor = "multi_thread")]
async fn items_are_kept() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = client(&world, "alice").await;
    let apple = Instrument {
        isin: Some("US0378331005".into()),
        r#type: "stock".into(),
        name: Some("Apple Inc.".into()),
        ..Instrument::default()
    };

    let put = Put::instrument(&apple).meta("broker", "any").tag("tech");
    let written = alice.put(&put).await.expect("stored");
    assert_eq!(written.item.content, Content::Instrument(apple.clone()));
    assert_eq!(written.item.meta["broker"], "any");
    let note = Put::text("milk").id("note").tag("home").if_version(0);
    let first = alice.put(&note).await.expect("stored").item;
    let conflict = alice.put(&note).await.expect_err("it exists");
    assert!(conflict.is(Code::VersionConflict), "{conflict}");
    let second = Put::text("bread").id("note");
    alice.put(&second).await.expect("stored");

    let name = ItemName::new("instrument", "US0378331005");
    let item = alice
        .get(&name)
        .await
        .expect("read")
        .value
        .expect("an item");
    assert_eq!(item.content, Content::Instrument(apple));
    assert_eq!(alice.get(&text("none")).await.expect("read").value, None);
    let found = alice.lookup(&[text("none"), text("note")]).await;
    let found: Vec<bool> = found.expect("read").iter().map(Option::is_some).collect();
    assert_eq!(found, [false, true]);
    let tagged = Filter {
        tag: Some("tech".into()),
        ..Filter::default()
    };
    assert_eq!(alice.list(&tagged).await.expect("read").len(), 1);

    let restored = alice.restore(&text("note"), first.version).await;
    assert_eq!(
        restored.expect("restored").item.content,
        Content::Text("milk".into())
    );
    assert_eq!(alice.history(&text("note")).await.expect("read").len(), 3);
    alice.move_item(&text("note"), None).await.expect("moved");
    let ids = async || -> Vec<String> {
        let items = alice.list(&Filter::default()).await.expect("read");
        items.value.into_iter().map(|item| item.id).collect()
    };
    assert_eq!(ids().await, ["note", "US0378331005"]);
    assert_eq!(
        alice.rename_tag("tech", Some("it")).await.expect("renamed"),
        1
    );
    let tags = alice.tags().await.expect("read");
    assert_eq!(
        tags.iter().map(|tag| tag.tag.as_str()).collect::<Vec<_>>(),
        ["home", "it"]
    );
    assert_eq!(alice.usage().await.expect("read").items.used, 2);

    let operations = [
        BatchOperation::Put(Put::text("tea").id("other")),
        BatchOperation::Delete(text("none")),
    ];
    let results = alice
        .batch(BatchMode::Each, &operations)
        .await
        .expect("executed");
    assert!(matches!(&results[0], BatchResult::Item(item) if item.id == "other"));
    assert!(matches!(&results[1], BatchResult::Error(error) if error.is(Code::NotFound)));
    let deleted = alice.delete(&text("note"), None).await.expect("deleted");
    assert_eq!(deleted.item.content, Content::Deleted);
}

/// Goal: one-time passwords and codes are used, and a debug print shows none of them.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_used() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = client(&world, "alice").await;
    let uri = "otpauth://hotp/VPN:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    let put = Put::otp(uri).id("vpn");
    assert!(!format!("{put:?}").contains("GEZDGN"));
    alice.put(&put).await.expect("stored");
    let code = alice.otp_code("vpn").await.expect("a code");
    assert_eq!((code.code.as_str(), code.counter), ("755224", Some(0)));
    let verdicts = ["287082", "287082"].map(|code| alice.otp_verify("vpn", code));
    let [first, again] = verdicts;
    assert_eq!(first.await.expect("verified"), OtpVerdict::Valid);
    assert_eq!(again.await.expect("verified"), OtpVerdict::Wrong);

    let codes = Put::codes(&["4417-2093"]).id("bank");
    alice.put(&codes).await.expect("stored");
    alice
        .codes_add("bank", &["8605-3316"])
        .await
        .expect("added");
    let taken = alice.codes_take("bank").await.expect("a code");
    assert_eq!((taken.code.as_str(), taken.remaining), ("4417-2093", 1));
    let bank = ItemName::new("codes", "bank");
    let revealed = alice
        .reveal(&bank)
        .await
        .expect("read")
        .value
        .expect("an item");
    let Content::Codes(list) = &revealed.content else {
        panic!("not a list");
    };
    assert_eq!(list.codes.as_deref(), Some(&["8605-3316".to_owned()][..]));
    assert!(!format!("{revealed:?}{code:?}{taken:?}").contains("8605"));
}

/// Goal: a write whose worker is killed before it replies, or whose reply is lost, is answered once
/// and right.
///
/// Method: two worker processes serve, and one is killed every half a second. The client's link is
/// cut at other moments. Each write stores the number of a counter, until there were enough writes
/// and enough kills; at the end the history has each number once.
#[tokio::test(flavor = "multi_thread")]
async fn each_write_is_executed_once() {
    let world = World::start().await;
    let settings = world.settings("a");
    world.init(&settings).await.expect("init");
    let mut workers = [world.serve(settings.clone()), world.serve(settings.clone())];
    for worker in &mut workers {
        worker.is_ready().await;
    }
    let address = world.nats.url();
    let link = Proxy::start(address.trim_start_matches("nats://")).await;
    let url = format!("nats://127.0.0.1:{}", link.port());
    let alice = client_at(&world, &url, "alice").await;
    let alice = alice.with_timeout(Duration::from_secs(20));

    let is_enough = Arc::new(AtomicBool::new(false));
    let writes = tokio::spawn({
        let alice = alice.clone();
        let is_enough = is_enough.clone();
        async move {
            let mut versions = Vec::new();
            while versions.len() < 60 || !is_enough.load(Ordering::Relaxed) {
                let put = Put::text(&versions.len().to_string()).id("counter");
                let put = async || loop {
                    match alice.put(&put).await {
                        // While nobody listens, nothing was sent.
                        Err(ClientError::NoWorker { .. }) => {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        written => return written.expect("known").item.version,
                    }
                };
                versions.push(put().await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            versions
        }
    });
    let mut killed = 0;
    while !writes.is_finished() {
        let worker = &mut workers[killed % 2];
        worker.signal(Signal::SIGKILL);
        worker.ended().await;
        *worker = world.serve(settings.clone());
        link.cut();
        tokio::time::sleep(Duration::from_millis(30)).await;
        link.heal();
        workers[killed % 2].is_ready().await;
        killed += 1;
        is_enough.store(killed >= 3, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let versions = writes.await.expect("no panic");

    assert!(killed >= 3, "{killed}");
    let history = alice.history(&text("counter")).await.expect("read");
    let history: Vec<Item> = history.value;
    let stored: Vec<u64> = history.iter().rev().map(|item| item.version).collect();
    assert_eq!(stored, versions, "each write is one version, in order");
    let number = |item: &Item| match &item.content {
        Content::Text(text) => text.parse::<usize>().expect("a number"),
        _ => panic!("no text"),
    };
    assert!(history.iter().rev().map(number).eq(0..versions.len()));
}

/// Goal: reads show one's own writes on another shard at once, and begin again after the bucket was
/// made again.
#[tokio::test(flavor = "multi_thread")]
async fn own_writes_are_read_on_every_shard() {
    let (mut world, a, b) = World::with_two_shards().await;
    let alice = client(&world, "alice").await;
    let on = |shard: &str| alice.clone().on_shard(shard).expect("a shard");
    let on_b = on("b").with_consistency(Consistency::Eventual);

    for number in 0..30 {
        let put = Put::text(&number.to_string()).id("note");
        on("a").put(&put).await.expect("stored");
        let item = on_b.get(&text("note")).await.expect("read");
        let content = item.value.expect("an item").content;
        assert_eq!(content, Content::Text(number.to_string()));
    }

    a.stop().await.expect("stopped");
    b.stop().await.expect("stopped");
    world.lose_store().await;
    world.stop_auth().await;
    world.start_auth().await;
    let _c = world.worker("c").await;
    let on_c = on("c");
    let found = loop {
        match on_c.get(&text("note")).await {
            Err(error) if error.is_transient() => {}
            found => break found,
        }
    };
    assert_eq!(found.expect("read").value, None, "the version is forgotten");
}

/// Goal: a code of a secret that was just stored is given out on every shard, and a repeat gets the
/// same code although the caller has seen more meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_given_out_on_every_shard_and_again() {
    let (world, _a, _b) = World::with_two_shards().await;
    let alice = client(&world, "alice").await;
    let on = |shard: &str| alice.clone().on_shard(shard).expect("a shard");

    for number in 0..20 {
        let id = format!("bank-{number}");
        let put = Put::otp(&otp_uri("hotp", RFC_SECRET, "&counter=0")).id(&id);
        on("a").put(&put).await.expect("stored");
        let once = on("b").with_request_id(&id);
        let code = once.otp_code(&id).await.expect("a code");
        on("a").put(&Put::text("x")).await.expect("stored");
        assert!(once.otp_code(&id).await.expect("a code") == code, "{id}");
    }
}

/// Goal: a program learns that an answer may be old.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_says_so() {
    let (world, hub) = World::behind_a_hub().await;
    let _a = world.worker("a").await;
    let alice = client(&world, "alice").await;
    alice.put(&Put::text("x").id("note")).await.expect("stored");
    let list = async || alice.list(&Filter::default()).await.expect("read");
    assert!(!list().await.stale);

    hub.link.cut();
    let start = std::time::Instant::now();
    while !list().await.stale {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it becomes stale"
        );
    }
    let note = alice.get(&text("note")).await.expect("read");
    assert!(note.stale && note.is_some());
    let none = alice.get(&text("none")).await.expect("read");
    assert!(none.stale && none.is_none());
}

/// Goal: a newer token counts for the client, its clones and the changes that they follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_token_takes_over() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = client(&world, "alice").await;
    let clone = alice.clone();
    let mut changes = alice.changes(Position::default());
    catch_up(&mut changes).await;
    alice.put(&Put::text("x").id("one")).await.expect("stored");

    let token = |ttl| world.token("alice", SCOPES, ttl);
    alice.set_token("expired");
    let refused = clone.get(&text("one")).await.expect_err("refused");
    assert!(refused.is(Code::Unauthenticated), "{refused}");
    let refused = changes.next().await.expect_err("refused");
    assert!(refused.is(Code::Unauthenticated), "{refused}");

    alice.set_token(token(Duration::from_secs(600)));
    assert!(clone.get(&text("one")).await.expect("read").is_some());
    assert_eq!(catch_up(&mut changes).await.0, ["one"]);
}

/// Goal: changes are followed without a gap, over an outage and in another process.
#[tokio::test(flavor = "multi_thread")]
async fn changes_are_followed() {
    let world = World::start().await;
    let a = world.worker("a").await;
    let alice = client(&world, "alice").await;
    let put = async |id: &str| {
        alice.put(&Put::text("x").id(id)).await.expect("stored");
    };
    put("one").await;

    let mut changes = alice.changes(Position::default());
    let (ids, resync, position) = catch_up(&mut changes).await;
    assert_eq!((ids, resync), (vec!["one".to_owned()], false));
    put("two").await;
    alice.delete(&text("one"), None).await.expect("deleted");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(catch_up(&mut changes).await.0);
    }
    assert_eq!(seen, ["two", "one"]);

    a.stop().await.expect("stopped");
    let waiting = tokio::time::timeout(Duration::from_secs(1), changes.next()).await;
    assert!(waiting.is_err(), "it waits for a worker");
    let _a = world.worker("a").await;
    put("three").await;
    assert_eq!(catch_up(&mut changes).await.0, ["three"]);

    let stored = serde_json::to_string(&position).expect("JSON");
    let position = serde_json::from_str(&stored).expect("a position");
    let mut other = alice.changes(position);
    assert_eq!(catch_up(&mut other).await.0, ["two", "one", "three"]);
}

/// Goal: after the bucket was made again, a follower is told to compare everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_made_again_demands_a_resync() {
    let mut world = World::start().await;
    let a = world.worker("a").await;
    let alice = client(&world, "alice").await;
    alice.put(&Put::text("x").id("one")).await.expect("stored");
    let mut changes = alice.changes(Position::default());
    let (_, _, position) = catch_up(&mut changes).await;
    assert!(position.epoch.is_some());

    a.stop().await.expect("stopped");
    world.lose_store().await;
    world.stop_auth().await;
    world.start_auth().await;
    let _c = world.worker("c").await;
    let put = Put::text("x").id("two");
    while let Err(error) = alice.put(&put).await {
        assert!(error.is_transient(), "{error}");
    }

    let without_epoch = Position {
        epoch: None,
        version: position.version + 100,
    };
    for from in [position, without_epoch] {
        let (ids, resync, _) = catch_up(&mut alice.changes(from)).await;
        assert_eq!((ids, resync), (vec!["two".to_owned()], true));
    }
    let (ids, resync, _) = catch_up(&mut changes).await;
    assert_eq!((ids, resync), (vec!["two".to_owned()], true));
}

/// Goal: the example runs, also when what it wrote before is there.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_runs() {
    let world = World::start().await;
    let _a = world.worker("a").await;

    for _ in 0..2 {
        let caller = favourites::Caller {
            url: world.nats.url(),
            user: "gateway".to_owned(),
            password: world.secrets.nats("gateway").to_owned(),
            token: world.token("alice", SCOPES, Duration::from_secs(600)),
        };
        favourites::run(caller).await.expect("it runs");
    }
    let alice = client(&world, "alice").await;
    let left = alice.list(&Filter::default()).await.expect("read");
    assert_eq!(left.len(), 1, "the secret");
}

/// Goal: an error says what it is about, and whether to try again.
#[tokio::test(flavor = "multi_thread")]
async fn errors_are_told_apart() {
    let world = World::start().await;
    let alice = client(&world, "alice").await;

    let error = alice.get(&text("note")).await.expect_err("no worker");
    assert!(matches!(error, ClientError::NoWorker { .. }) && error.is_transient());
    let _a = world.worker("a").await;
    let error = alice.put(&Put::text("")).await.expect_err("invalid");
    let refused = error.refusal().expect("a refusal");
    assert_eq!((refused.field(), refused.status), (Some("data.text"), 422));
    assert!(!error.is_transient());
    let huge = Put::text(&"x".repeat(2 << 20));
    let error = alice.put(&huge).await.expect_err("too large");
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");
    let error = alice.with_token("no token").get(&text("note")).await;
    assert!(error.expect_err("no token").is(Code::Unauthenticated));
}
