//! The truth: every write stands upon a known state, and who reads notices what does not fit.

use crate::harness::{Caller, World, isin};
use async_nats::{Client, HeaderMap};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::domain::Version;
use gofavorites::requester::Requester;
use gofavorites::seal::{ItemKey, OwnerKey, RecordName};
use gofavorites::truth::{AppendError, Bucket, NewRecord, TruthSettings};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const OWNER: OwnerKey = OwnerKey::from_bytes([9; 16]);

async fn bucket(world: &World) -> Bucket {
    world.init(&world.settings("a")).await.expect("init");
    let requester = Requester::start(world.connect("worker").await)
        .await
        .expect("an inbox");
    Bucket::new(requester, TruthSettings::default(), "a")
}

fn item(number: u8) -> NewRecord {
    NewRecord {
        name: RecordName::Item(ItemKey::from_bytes([number; 16])),
        value: vec![number].into(),
    }
}

async fn append(
    bucket: &Bucket,
    expected: u64,
    records: Vec<NewRecord>,
) -> Result<u64, AppendError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let expected = Version::new(expected).expect("in range");
    bucket
        .append(&OWNER, expected, &records, deadline)
        .await
        .map(Version::get)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_expectation_is_refused_single_and_in_a_batch() {
    let world = World::start().await;
    let bucket = bucket(&world).await;
    assert_eq!(
        append(&bucket, 0, vec![item(1)]).await.expect("the first"),
        1
    );
    for wrong in [0, 2, 999] {
        let single = append(&bucket, wrong, vec![item(2)]).await;
        assert!(
            matches!(single, Err(AppendError::Conflict)),
            "single upon {wrong}: {single:?}"
        );
        let batch = append(&bucket, wrong, vec![item(2), item(3)]).await;
        assert!(
            matches!(batch, Err(AppendError::Conflict)),
            "batch upon {wrong}: {batch:?}"
        );
    }
    assert_eq!(
        append(&bucket, 1, vec![item(2), item(3)])
            .await
            .expect("the right one"),
        3
    );
    assert_eq!(
        append(&bucket, 3, vec![item(1)])
            .await
            .expect("the right one"),
        4
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_get_all_of_a_batch_says_so_and_writes_nothing() {
    let world = World::start().await;
    bucket(&world).await;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("Nats-Batch-Id", "x"),
        ("Nats-Batch-Sequence", "2"),
        ("Nats-Batch-Commit", "1"),
    ] {
        headers.insert(name, value);
    }
    // The first went to a leader who is none any more, or got lost with a connection.
    let second = world
        .connect("worker")
        .await
        .request_with_headers("$KV.favorites.x.y", headers, "x".into())
        .await;
    let told: Value = serde_json::from_slice(&second.expect("a reply").payload).expect("JSON");
    assert_eq!(told["error"]["err_code"], 10_176, "{told}");
    assert!(world.records().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_is_asked_again_for_what_an_item_was() {
    let world = World::start().await;
    let alice = world.caller("alice").await;
    let _a = world.worker("a").await;
    let bucket = world.bucket("a").await;
    let version = |value: &Value| {
        Version::new(value["owner_version"].as_u64().expect("a version")).expect("in range")
    };
    let first = version(&alice.put_text("a", "one", "1").await);
    let owner = world.owner("alice");
    let name = bucket
        .record_at(&owner, first)
        .await
        .expect("the truth")
        .expect("a record")
        .name;
    let later = async || {
        tokio::time::sleep(Duration::from_millis(150)).await;
        version(&alice.put_text("a", "one", "later").await)
    };
    let next = Version::new(first.get() + 1).expect("in range");
    let (found, written) = tokio::join!(bucket.record_at(&owner, next), later());
    assert_eq!(
        (
            found.expect("the truth").map(|record| record.version),
            written
        ),
        (Some(next), next)
    );
    let after_it = Version::new(next.get() + 1).expect("in range");
    let (kept, written) = tokio::join!(
        bucket.history(&owner, &name, Version::NONE, after_it),
        later()
    );
    let kept: Vec<Version> = kept
        .expect("the truth")
        .iter()
        .map(|record| record.version)
        .collect();
    assert_eq!((kept, written), (vec![first, next, after_it], after_it));
    // What was purged is waited for by nobody.
    let maintain = world.connect("maintain").await;
    let body = json!({"filter": format!("$KV.favorites.{owner}.{name}")}).to_string();
    maintain
        .request("$JS.API.STREAM.PURGE.KV_favorites", body.into())
        .await
        .expect("purged");
    world.caller("bob").await.put_text("a", "one", "x").await;
    let began = Instant::now();
    assert!(
        bucket
            .history(&owner, &name, Version::NONE, after_it)
            .await
            .expect("the truth")
            .is_empty()
    );
    assert!(
        bucket
            .record_at(&owner, next)
            .await
            .expect("the truth")
            .is_none()
    );
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writes_upon_one_state_one_is_taken() {
    let world = World::start().await;
    let bucket = bucket(&world).await;
    let mut at = 0;
    for round in 0..50u8 {
        let tries = (0..8).map(|i| {
            let records = if i % 2 == 0 {
                vec![item(i)]
            } else {
                vec![item(i), item(100 + round)]
            };
            append(&bucket, at, records)
        });
        let taken: Vec<u64> = futures::future::join_all(tries)
            .await
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(taken.len(), 1, "round {round}");
        at = taken[0];
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_the_bucket_is_never_handed_out_in_parts() {
    let world = World::start().await;
    let bucket = bucket(&world).await;
    let _a = world.worker("a").await;
    // An owner's first write is an atomic batch of two, their key and the item; later ones are single.
    for number in 0..5 {
        let somebody = world.caller(&format!("somebody-{number}")).await;
        somebody.put_text("a", "one", "x").await;
        somebody.put_text("a", "two", "y").await;
    }
    for most in [1, 2, 3, 100] {
        let mut follower = bucket.follow(0).await.expect("a follower");
        let (mut whole, mut single) = (0, 0);
        while whole < 5 || single < 5 {
            let entries = follower.next_batch(most).await.expect("entries");
            let last = entries.last().expect("never empty");
            assert!(
                last.batch.as_ref().is_none_or(|(_, ended)| *ended),
                "ends inside a batch, with {most}"
            );
            assert!(entries.len() <= most + 1);
            whole += entries
                .iter()
                .filter(|e| e.batch.as_ref().is_some_and(|(_, ended)| *ended))
                .count();
            single += entries
                .iter()
                .filter(|e| e.batch.is_none() && e.record.is_some())
                .count();
        }
    }
}

/// Accounts with one more user who may do anything to the bucket: what an attacker or a mishap could.
fn with_breaker() -> String {
    let user = "    users: [\n      { user: breaker, password: breaker }\n";
    ACCOUNTS_CONF.replacen("    users: [\n", user, 1)
}

async fn breaker(world: &World) -> Client {
    async_nats::ConnectOptions::with_user_and_password("breaker".into(), "breaker".into())
        .connect(world.nats.url())
        .await
        .expect("a connection")
}

/// The owner's records in the bucket, oldest first: subject, sequence, value.
async fn records(breaker: &Client) -> Vec<(String, u64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut sequence = 1;
    while let Ok(message) = breaker
        .request(
            "$JS.API.DIRECT.GET.KV_favorites",
            json!({"seq": sequence}).to_string().into(),
        )
        .await
    {
        let headers = message.headers.unwrap_or_default();
        let Some(subject) = headers.get("Nats-Subject").map(|value| value.to_string()) else {
            if sequence > 40 {
                break;
            }
            sequence += 1;
            continue;
        };
        if !subject.contains("._b.") {
            found.push((subject, sequence, message.payload.to_vec()));
        }
        sequence += 1;
    }
    found
}

async fn put(alice: &Caller, number: usize) -> Value {
    alice
        .done(
            "a.put",
            &json!({"kind": "instrument", "data": {"isin": isin(number), "type": "stock"}}),
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_record_put_back_as_the_newest_is_noticed() {
    let world = World::with_accounts(&with_breaker()).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    put(&alice, 1).await;
    let old = records(&breaker(&world).await)
        .await
        .pop()
        .expect("a record");
    put(&alice, 1).await;
    put(&alice, 2).await;
    breaker(&world)
        .await
        .request(old.0, old.2.into())
        .await
        .expect("published");
    // On the worker that has a copy, and on a shard that sees the owner for the first time.
    alice
        .ask("a.list", &json!({"consistency": "strong"}))
        .await
        .refusal("internal");
    let _b = world.worker("b").await;
    alice.ask("b.list", &json!({})).await.refusal("internal");
    // Nobody else is touched by it.
    let bob = world.caller("bob").await;
    put(&bob, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_lost_from_the_bucket_is_noticed() {
    let world = World::with_accounts(&with_breaker()).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    for number in 1..=3 {
        put(&alice, number).await;
    }
    let breaker = breaker(&world).await;
    let lost = records(&breaker)
        .await
        .into_iter()
        .nth(2)
        .expect("the second item");
    lose(&breaker, &lost.0).await;
    let _b = world.worker("b").await;
    alice.ask("b.list", &json!({})).await.refusal("internal");
}

async fn lose(breaker: &Client, subject: &str) {
    let purge = json!({"filter": subject}).to_string();
    let purged = breaker
        .request("$JS.API.STREAM.PURGE.KV_favorites", purge.into())
        .await
        .expect("an answer");
    assert!(
        String::from_utf8_lossy(&purged.payload).contains("\"purged\":1"),
        "{:?}",
        purged.payload
    );
}

/// The newest write has no later one that would vouch for it; so it says itself how many records it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_newest_write_that_was_lost_is_noticed() {
    let world = World::with_accounts(&with_breaker()).await;
    let _a = world.worker("a").await;
    let breaker = breaker(&world).await;
    let mut owners = Vec::new();
    for part in 0..5 {
        let somebody = world.caller(&format!("somebody-{part}")).await;
        let before = records(&breaker).await.len();
        put(&somebody, 1).await;
        if part > 0 {
            let op = |id| json!({"op": "put", "kind": "text", "id": id, "data": {"text": "x"}});
            somebody
                .done(
                    "a.batch",
                    &json!({"mode": "atomic", "ops": [op("x"), op("y"), op("z")]}),
                )
                .await;
        }
        let theirs = records(&breaker).await.split_off(before);
        match part {
            // Their key, which came along with their first item.
            0 => lose(&breaker, &theirs[0].0).await,
            1..4 => lose(&breaker, &theirs[part + 1].0).await,
            _ => {}
        }
        owners.push(somebody);
    }
    let _b = world.worker("b").await;
    let whole = owners.pop().expect("the last one");
    assert_eq!(
        whole.done("b.list", &json!({})).await["items"]
            .as_array()
            .map(Vec::len),
        Some(4),
        "nothing was lost"
    );
    for somebody in owners {
        somebody.ask("b.list", &json!({})).await.refusal("internal");
        // Nothing is built upon what is not whole.
        somebody
            .ask("b.put", &json!({"kind": "text", "data": {"text": "x"}}))
            .await
            .refusal("internal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_altered_or_moved_is_noticed() {
    let world = World::with_accounts(&with_breaker()).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    put(&alice, 1).await;
    put(&alice, 2).await;
    let breaker = breaker(&world).await;
    let all = records(&breaker).await;
    let (one, two) = (&all[1], &all[2]);
    // The second item's record under the first one's key: the chain it names is not that of this key.
    breaker
        .request_with_headers(one.0.clone(), HeaderMap::new(), two.2.clone().into())
        .await
        .expect("published");
    alice
        .ask("a.list", &json!({"consistency": "strong"}))
        .await
        .refusal("internal");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_is_noticed_by_its_owner_and_holds_up_nobody_else() {
    let world = World::with_accounts(&with_breaker()).await;
    let _a = world.worker("a").await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    put(&alice, 1).await;
    let breaker = breaker(&world).await;
    let (subject, ..) = records(&breaker).await.pop().expect("a record");
    breaker
        .request(subject, "no record".into())
        .await
        .expect("published");
    alice
        .ask("a.list", &json!({"consistency": "strong"}))
        .await
        .refusal("internal");
    let put = put(&bob, 1).await;
    assert!(put.get("local").is_none(), "the projection goes on: {put}");
}
