//! The feed for other programs, on real servers.

use crate::backup::{back_up, delete_stream, restore};
use crate::harness::samples::{RFC_SECRET, otp_uri, put_otp};
use crate::harness::{Caller, World, with_breaker};
use crate::maintain::{maintain, settings as maintain_settings};
use async_nats::HeaderMap;
use gofavorites::client::{Content, Item};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::feed::{
    Change, Event, Feed, FeedError, Following, Keyring, Position, Start, Unusable,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

#[path = "../../examples/rust/feed.rs"]
#[expect(dead_code, reason = "the test calls its parts, and not main")]
mod example;

/// How long a feed may take for its next event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(30);

fn keyring(world: &World) -> Keyring {
    let secrets = &world.secrets;
    Keyring::from_base64(&secrets.identity, &secrets.encryption).expect("the keys")
}

async fn open(world: &World) -> Feed {
    let nats = world.connect("feed").await;
    let feed = Feed::open(nats, keyring(world), "favorites").await;
    feed.expect("it opens")
}

async fn follow(world: &World, start: Start) -> Following {
    let following = open(world).await.follow(start).await;
    following.expect("it follows")
}

async fn next(following: &mut Following) -> Result<Event, FeedError> {
    let event = timeout(EVENT_TIMEOUT, following.next()).await;
    event.expect("in time")
}

/// What a feed has shown until it had caught up.
#[derive(Default)]
struct Shown {
    changes: Vec<Change>,
    resyncs: Vec<String>,
    unusable: Vec<Unusable>,
    position: Option<Position>,
}

impl Shown {
    /// What a program holds that applies the changes: the living items of that user.
    fn held(&self, user: &str) -> BTreeMap<String, Item> {
        let mut held = BTreeMap::new();
        for change in self.changes.iter().filter(|one| one.user.subject() == user) {
            let item = change.item.clone();
            match item.content {
                Content::Deleted => held.remove(&item.id),
                _ => held.insert(item.id.clone(), item),
            };
        }
        held
    }

    fn versions(&self) -> Vec<u64> {
        let versions = self.changes.iter().map(|change| change.item.version);
        versions.collect()
    }

    fn position(&self) -> Position {
        self.position.clone().expect("a position")
    }
}

/// Takes events until the feed has come to the sequence, or just has caught up.
async fn catch_up(following: &mut Following, least: u64) -> Shown {
    let mut shown = Shown::default();
    loop {
        match next(following).await.expect("an event") {
            Event::Change(change) => shown.changes.push(*change),
            Event::Resync { owner } => shown.resyncs.push(owner),
            Event::Unusable(unusable) => shown.unusable.push(unusable),
            Event::Reached { position, behind } => {
                let sequence = position.sequence();
                shown.position = Some(position);
                if behind == 0 && sequence >= least {
                    return shown;
                }
            }
        }
    }
}

async fn items(caller: &Caller) -> BTreeMap<String, Item> {
    let list = caller
        .done("a.list", &json!({"consistency": "strong"}))
        .await;
    let items: Vec<Item> = serde_json::from_value(list["items"].clone()).expect("items");
    let items = items.into_iter().map(|item| (item.id.clone(), item));
    items.collect()
}

fn version_of(reply: &Value) -> u64 {
    reply["owner_version"].as_u64().expect("a version")
}

/// Goal: a program that applies a feed has what the owners have, and knows who they are.
///
/// Method: items of each kind are written, changed, moved and deleted, singly and in a batch, by two
/// owners. The feed begins before, in the middle of and after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_owners_have_is_shown() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    world.init(&world.settings("a")).await.expect("a bucket");
    let mut live = follow(&world, Start::Beginning).await;

    alice.put_text("a", "note", "one").await;
    alice.put_text("a", "note", "two").await;
    let half = alice.put_text("a", "gone", "x").await;
    let half = catch_up(&mut live, version_of(&half)).await;
    alice
        .done("a.delete", &json!({"kind": "text", "id": "gone"}))
        .await;
    let share = json!({"kind": "instrument", "data": {"isin": "US0378331005", "type": "stock"}});
    alice.done("a.put", &share).await;
    let otp = put_otp("bank", &otp_uri("totp", RFC_SECRET, ""));
    let codes = json!({"kind": "codes", "id": "list", "data": {"codes": ["aaa-bbb", "ccc-ddd"]}});
    let batch = json!({"mode": "atomic", "ops": [
        {"op": "put", "kind": "text", "id": "b1", "data": {"text": "x"}, "tags": ["t"], "meta": {"k": "v"}},
        {"op": "put", "kind": "text", "id": "b2", "data": {"text": "y"}},
    ]});
    alice.done("a.put", &otp).await;
    alice.done("a.put", &codes).await;
    alice.done("a.batch", &batch).await;
    alice.done("a.codes.take", &json!({"id": "list"})).await;
    let last = bob.put_text("a", "note", "bob's").await;
    let last = version_of(&last);

    let rest = catch_up(&mut live, last).await;
    let mut whole = catch_up(&mut follow(&world, Start::Beginning).await, last).await;
    assert_eq!(whole.held("alice"), items(&alice).await);
    assert_eq!(whole.held("bob"), items(&bob).await);
    assert!(whole.unusable.is_empty() && whole.resyncs.is_empty());
    assert!(whole.versions().is_sorted());
    let note = whole.changes.iter().filter(|one| one.item.id == "note");
    let note: Vec<_> = note.map(|one| (one.previous, one.item.version)).collect();
    assert_eq!((note[0].0, note[1].0), (0, note[0].1), "{note:?}");
    assert!(
        whole
            .changes
            .iter()
            .all(|one| one.shard == "a" && one.user.issuer() == whole.changes[0].user.issuer())
    );

    // In two parts it is the same.
    let parts = [half.changes.clone(), rest.changes].concat();
    assert_eq!(parts, whole.changes);
    let json = serde_json::to_string(&half.position()).expect("JSON");
    let stored: Position = serde_json::from_str(&json).expect("read");
    let continued = catch_up(&mut follow(&world, Start::After(stored)).await, last).await;
    whole.changes.drain(..half.changes.len());
    assert_eq!(continued.changes, whole.changes);

    let moment = whole.changes[0].stored_at;
    let since = catch_up(&mut follow(&world, Start::Since(moment)).await, last).await;
    assert!(since.changes.ends_with(&whole.changes));
    let end = Start::After(since.position());
    let nothing = catch_up(&mut follow(&world, end).await, last).await;
    assert!(nothing.changes.is_empty());
}

/// Goal: nothing is missed and nothing shown twice, whatever goes down.
///
/// Method: a caller writes without a pause while the server is killed twice, and while the feed is
/// stopped and continued from its last position, and calls are given up half-way.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_leaves_no_gap() {
    let mut world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note-0", "x").await;
    let mut following = follow(&world, Start::Beginning).await;
    let mut shown = catch_up(&mut following, 1).await;

    for round in 1..=40 {
        match round {
            10 | 25 => {
                world.nats.process().kill9().expect("killed");
                world.nats.restart().await.expect("restarted");
                world.wait_for_worker("a").await;
            }
            18 | 33 => following = follow(&world, Start::After(shown.position())).await,
            _ => {}
        }
        let id = format!("note-{}", round % 7);
        let put = json!({"kind": "text", "id": id, "data": {"text": round.to_string()}});
        let reply = loop {
            let reply = alice.ask_once("a.put", &round.to_string(), &put).await;
            if reply.body["error"].is_null() {
                break reply.body;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };

        let _ = timeout(Duration::from_micros(500), following.next())
            .await
            .map(|event| {
                if let Ok(Event::Change(change)) = event {
                    shown.changes.push(*change);
                }
            });
        let more = catch_up(&mut following, version_of(&reply)).await;
        assert!(more.unusable.is_empty() && more.resyncs.is_empty());
        shown.changes.extend(more.changes);
        shown.position = more.position;
    }

    let versions = shown.versions();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    assert_eq!(versions.len(), 41);
    assert_eq!(shown.held("alice"), items(&alice).await);
}

/// Goal: a program that was away while deletions were forgotten is told to drop what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn forgotten_deletions_demand_a_resync() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    alice.put_text("a", "gone", "x").await;
    alice.put_text("a", "kept", "x").await;
    bob.put_text("a", "note", "x").await;
    let mut live = follow(&world, Start::Beginning).await;
    let before = catch_up(&mut live, 1).await;

    let gone = json!({"kind": "text", "id": "gone"});
    let deleted = alice.done("a.delete", &gone).await;
    maintain(&maintain_settings(&world)).await;
    let last = alice.put_text("a", "new", "x").await;
    let last = version_of(&last);

    let away = follow(&world, Start::After(before.position()));
    let away = catch_up(&mut away.await, last).await;
    assert_eq!(away.resyncs, [before.changes[0].owner.clone()]);
    assert_eq!(away.held("alice"), items(&alice).await);
    assert!(away.changes.iter().all(|one| one.user.subject() == "alice"));
    let live = catch_up(&mut live, last).await;
    assert!(live.versions().contains(&version_of(&deleted)));
    assert!(live.resyncs.is_empty(), "it saw the deletion");
    let anew = catch_up(&mut follow(&world, Start::Beginning).await, last).await;
    assert!(anew.resyncs.is_empty(), "it holds nothing");
    assert_eq!(anew.held("alice"), items(&alice).await);
}

/// Goal: a record that was altered, and an owner who lacks one, are named; all others are shown.
///
/// Method: an administrator stores one of alice's records under another of her keys, and a text under
/// bob's; carol has her records.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_named() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let breaker = world.connect_breaker().await;
    for name in ["alice", "bob", "carol"] {
        let caller = world.caller(name).await;
        caller.put_text("a", "note", "x").await;
        caller.put_text("a", "other", "x").await;
    }
    let mut live = follow(&world, Start::Beginning).await;
    let before = catch_up(&mut live, 1).await;
    assert_eq!((before.changes.len(), before.unusable.len()), (6, 0));

    let stream = world.records().await;
    let owner = |name: &str| world.owner(name).to_string();
    let of = |name: &str| -> Vec<String> {
        let prefix = format!("{}.", owner(name));
        let keys = stream.keys().filter(|key| key.contains(&prefix));
        keys.filter(|key| !key.ends_with(".key")).cloned().collect()
    };
    let get = json!({"last_by_subj": of("alice")[0]}).to_string();
    let moved = breaker
        .request("$JS.API.DIRECT.GET.KV_favorites", get.into())
        .await
        .expect("a record");
    for (subject, payload) in [
        (of("alice")[1].clone(), moved.payload),
        (of("bob")[0].clone(), "no record".into()),
    ] {
        let headers = HeaderMap::new();
        let stored = breaker.request_with_headers(subject, headers, payload);
        stored.await.expect("published");
    }
    let last = world.caller("carol").await.put_text("a", "note", "y").await;
    let last = version_of(&last);

    for start in [Start::Beginning, Start::After(before.position())] {
        let shown = catch_up(&mut follow(&world, start.clone()).await, last).await;
        let named: Vec<_> = shown.unusable.iter().map(|one| one.owner.clone()).collect();
        for name in ["alice", "bob"] {
            assert!(named.contains(&owner(name)), "{start:?}: {named:?}");
        }
        assert!(!named.contains(&owner("carol")));
        assert!(
            shown.held("alice").is_empty(),
            "{start:?}: nothing unchecked"
        );
        assert!(shown.held("carol").contains_key("note"));
    }
    let shown = catch_up(&mut live, last).await;
    assert_eq!(shown.unusable.len(), 2, "{:?}", shown.unusable);
    assert_eq!(shown.changes.len(), 1);
}

/// Goal: another bucket of the same name is noticed: at the start, and while it is followed.
#[tokio::test(flavor = "multi_thread")]
async fn another_history_is_noticed() {
    let mut world = World::start().await;
    let a = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    let mut live = follow(&world, Start::Beginning).await;
    let shown = catch_up(&mut live, 1).await;

    a.crash().await;
    world.lose_store().await;
    world.init(&world.settings("a")).await.expect("init");

    let feed = open(&world).await;
    let refused = feed.follow(Start::After(shown.position())).await;
    let refused = refused.err().expect("refused");
    assert!(matches!(refused, FeedError::OtherHistory(_)), "{refused}");
    for _ in 0..2 {
        let error = loop {
            match next(&mut live).await {
                Ok(Event::Reached { .. }) => {}
                Ok(event) => panic!("{event:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, FeedError::OtherHistory(_)), "{error}");
    }
}

/// Goal: a bucket that was restored from a complete backup is followed further.
///
/// Method: the backup lacks the barrier that a strong read has written after it. The feed that was
/// under way goes on, and so does one from a stored position.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_bucket_is_followed_further() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let first = alice.put_text("a", "note", "x").await;
    let backup = back_up(&world).await;
    items(&alice).await;
    let mut live = follow(&world, Start::Beginning).await;
    let before = catch_up(&mut live, version_of(&first) + 1).await;
    assert!(before.position().sequence() > version_of(&first));

    a.crash().await;
    delete_stream(&world.connect_breaker().await).await;
    let (code, printed) = restore(&world, &backup).await;
    assert_eq!(code, 0, "{printed}");
    let _a = world.worker("a").await;
    let last = version_of(&alice.put_text("a", "other", "x").await);

    let stored = follow(&world, Start::After(before.position()));
    for following in [&mut live, &mut stored.await] {
        let shown = catch_up(following, last).await;
        assert_eq!(shown.versions(), [last]);
    }
}

/// Goal: a feed opens only with the bucket's keys, and only a bucket that is there.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_refused() {
    let world = World::start().await;
    let open = async |keyring, bucket| {
        let nats = world.connect("feed").await;
        Feed::open(nats, keyring, bucket).await.err()
    };
    let missing = open(keyring(&world), "favorites").await;
    let missing = missing.expect("no bucket").to_string();
    assert!(missing.contains("no bucket"), "{missing}");

    world.init(&world.settings("a")).await.expect("init");
    let other = gofavorites::dev::secrets::Secrets::generate().expect("secrets");
    let right = &world.secrets;
    for (identity, encryption) in [
        (&other.identity, &right.encryption),
        (&right.identity, &other.encryption),
    ] {
        let keyring = Keyring::from_base64(identity, encryption).expect("keys");
        let refused = open(keyring, "favorites").await.expect("refused");
        assert!(refused.to_string().contains("key"), "{refused}");
    }
    assert!(open(keyring(&world), "favorites").await.is_none());
}

/// Goal: the example runs, and continues where it stopped.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_continues() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let file = world.directory.join("position.json");
    let start = async |file: &Path| {
        let installation = example::Installation {
            url: world.nats.url(),
            password: world.secrets.nats("feed").to_owned(),
            identity: world.secrets.identity.clone(),
            encryption: world.secrets.encryption.clone(),
        };
        example::start(installation, file).await.expect("it starts")
    };

    for round in 0..3 {
        let put = alice.put_text("a", "note", &round.to_string()).await;
        let mut feed = start(&file).await;
        let mut changes = 0;
        loop {
            let event = next(&mut feed).await.expect("an event");
            example::print(&event, &file).expect("printed");
            match event {
                Event::Change(_) => changes += 1,
                Event::Reached { position, .. } if position.sequence() >= version_of(&put) => break,
                _ => {}
            }
        }
        assert_eq!(changes, 1, "round {round}");
    }
}
