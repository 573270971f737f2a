//! The bucket: every write is based on a known state, and readers notice records that do not fit.

use crate::harness::{Caller, World, is_record, isin, purge_record, with_breaker};
use async_nats::{Client, HeaderMap};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::domain::Version;
use gofavorites::requester::Requester;
use gofavorites::seal::{ItemKey, OwnerKey, RecordName};
use gofavorites::truth::{AppendError, Bucket, NewRecord, TruthSettings};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const OWNER: OwnerKey = OwnerKey::from_bytes([9; 16]);

/// How many owners have a batch and a single write in the bucket.
const FOLLOWED_OWNERS: usize = 5;

/// Creates the bucket, and returns it as a worker reaches it.
async fn bucket(world: &World) -> Bucket {
    world.init(&world.settings("a")).await.expect("init");
    let client = world.connect("worker").await;
    let requester = Requester::start(client).await.expect("an inbox");

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

/// Waits until each thread of a process stands still: a signal is only sent to it.
async fn until_stopped(pid: u32) {
    let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.expect("a thread").path().join("stat"));
        stat.is_ok_and(|stat| stat.contains(") T "))
    };

    let threads = format!("/proc/{pid}/task");
    while !std::fs::read_dir(&threads)
        .expect("a process")
        .all(is_stopped)
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Goal: a tool whose NATS user may not publish barriers asks nobody whether the bucket accepts
/// writes. It would be refused, and would end.
///
/// Method: the server pauses while a record is read. With barriers, the reader publishes one.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_barriers_is_only_read() {
    for has_barriers in [true, false] {
        let mut world = World::start().await;
        world.init(&world.settings("a")).await.expect("init");
        let client = world.connect("worker").await;
        let requester = Requester::start(client).await.expect("an inbox");
        let settings = TruthSettings {
            call_ms: 400,
            ..TruthSettings::default()
        };
        let bucket = match has_barriers {
            true => Bucket::new(requester, settings, "a"),
            false => Bucket::without_barriers(requester, settings),
        };
        let newest = async || bucket.position().await.expect("a position").newest;
        let before = newest().await;

        let process = world.nats.process();
        process.signal(Signal::SIGSTOP).expect("sent");
        until_stopped(process.pid()).await;
        let read = bucket.since(&OWNER, Version::NONE).await;
        assert!(read.is_err(), "the server is paused");
        tokio::time::sleep(Duration::from_secs(1)).await;
        process.signal(Signal::SIGCONT).expect("sent");

        bucket.reading().closed().await;
        bucket.writing().closed().await;
        assert_eq!(newest().await > before, has_barriers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_expectation_is_refused_single_and_in_a_batch() {
    let world = World::start().await;
    let bucket = bucket(&world).await;

    let first = append(&bucket, 0, vec![item(1)]).await;
    let first = first.expect("the first");

    for wrong in [0, first + 1, 999] {
        let single = append(&bucket, wrong, vec![item(2)]).await;
        assert!(
            matches!(single, Err(AppendError::Conflict)),
            "single, expecting {wrong}: {single:?}"
        );
        let batch = append(&bucket, wrong, vec![item(2), item(3)]).await;
        assert!(
            matches!(batch, Err(AppendError::Conflict)),
            "batch, expecting {wrong}: {batch:?}"
        );
    }

    let batch = append(&bucket, first, vec![item(2), item(3)]).await;
    assert_eq!(batch.expect("the right version"), first + 2);
    let single = append(&bucket, first + 2, vec![item(1)]).await;
    assert_eq!(single.expect("the right version"), first + 3);
}

/// Shows that the server refuses the end of a batch whose first message is missing. A message may
/// be lost with a connection, or be sent to a server that is no longer the leader.
#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_batch_is_refused_and_not_written() {
    let world = World::start().await;
    bucket(&world).await;
    let worker = world.connect("worker").await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Batch-Id", "x");
    headers.insert("Nats-Batch-Sequence", "2");
    headers.insert("Nats-Batch-Commit", "1");

    let reply = worker
        .request_with_headers("$KV.favorites.x.y", headers, "x".into())
        .await
        .expect("a reply");

    let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    assert_eq!(reply["error"]["err_code"], 10_176, "{reply}");
    assert!(world.records().await.is_empty());
}

fn owner_version(reply: &Value) -> Version {
    let version = reply["owner_version"].as_u64().expect("a version");

    Version::new(version).expect("in range")
}

/// Writes alice's item after a moment, and returns her version.
async fn put_later(alice: &Caller) -> Version {
    tokio::time::sleep(Duration::from_millis(150)).await;

    owner_version(&alice.put_text("a", "one", "later").await)
}

/// Goal: a reader that asks for a version which its replica does not have yet asks again.
///
/// Method: one owner writes an item. The next two versions are read while they are not yet
/// written, once as a record and once as the item's history.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_is_asked_again() {
    let world = World::start().await;
    let alice = world.caller("alice").await;
    let _a = world.worker("a").await;
    let bucket = world.bucket("a").await;
    let owner = world.owner("alice");

    let first = owner_version(&alice.put_text("a", "one", "1").await);
    let next = Version::new(first.get() + 1).expect("in range");
    let after_next = Version::new(first.get() + 2).expect("in range");
    let record = bucket.record_at(&owner, first).await.expect("the bucket");
    let name = record.expect("a record").name;

    let (found, written) = tokio::join!(bucket.record_at(&owner, next), put_later(&alice));
    let found = found.expect("the bucket").expect("a record");
    assert_eq!(found.version, next);
    assert_eq!(written, next);

    let (history, written) = tokio::join!(
        bucket.history(&owner, &name, Version::NONE, after_next),
        put_later(&alice)
    );
    let versions: Vec<Version> = history
        .expect("the bucket")
        .iter()
        .map(|record| record.version)
        .collect();
    assert_eq!(versions, [first, next, after_next]);
    assert_eq!(written, after_next);
}

/// Goal: a reader does not wait for records that were purged.
///
/// Method: an item of alice's is purged, and bob writes, so the bucket is beyond her version. Then
/// her record and the item's history are read, which takes less than a second together.
#[tokio::test(flavor = "multi_thread")]
async fn purged_records_are_not_waited_for() {
    let world = World::start().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let _a = world.worker("a").await;
    let bucket = world.bucket("a").await;
    let owner = world.owner("alice");
    alice.put_text("a", "one", "1").await;
    let version = owner_version(&alice.put_text("a", "one", "2").await);
    let last = owner_version(&alice.put_text("a", "one", "3").await);
    let record = bucket.record_at(&owner, last).await.expect("the bucket");
    let name = record.expect("a record").name;

    let maintain = world.connect("maintain").await;
    let filter = json!({"filter": format!("$KV.favorites.{owner}.{name}")}).to_string();
    maintain
        .request("$JS.API.STREAM.PURGE.KV_favorites", filter.into())
        .await
        .expect("purged");
    bob.put_text("a", "one", "x").await;

    let start = Instant::now();
    let history = bucket
        .history(&owner, &name, Version::NONE, last)
        .await
        .expect("the bucket");
    let record = bucket.record_at(&owner, version).await.expect("the bucket");
    let took = start.elapsed();

    assert!(history.is_empty());
    assert!(record.is_none());
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// Goal: of many writes based on one state, exactly one is accepted.
///
/// Method: in fifty rounds, four single writes and four batches expect the same version.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_writes_based_on_one_state_one_is_accepted() {
    let world = World::start().await;
    let bucket = bucket(&world).await;

    let mut at = 0;
    for round in 0..50u8 {
        let writes = (0..8).map(|number| {
            let records = if number % 2 == 0 {
                vec![item(number)]
            } else {
                vec![item(number), item(100 + round)]
            };
            append(&bucket, at, records)
        });

        let accepted: Vec<u64> = futures::future::join_all(writes)
            .await
            .into_iter()
            .flatten()
            .collect();

        assert_eq!(accepted.len(), 1, "round {round}");
        at = accepted[0];
    }
}

/// Goal: a reader of the bucket gets a batch with all its records or not at all.
///
/// Method: five owners write twice. The first write of each is an atomic batch of two, the key and
/// the item; the second one is single. All are read with several sizes of the reader's own batches.
#[tokio::test(flavor = "multi_thread")]
async fn an_atomic_batch_is_never_returned_in_parts() {
    let world = World::start().await;
    let bucket = bucket(&world).await;
    let _a = world.worker("a").await;
    for number in 0..FOLLOWED_OWNERS {
        let owner = world.caller(&format!("somebody-{number}")).await;
        owner.put_text("a", "one", "x").await;
        owner.put_text("a", "two", "y").await;
    }

    for limit in [1, 2, 3, 100] {
        let mut follower = bucket.follow(0).await.expect("a follower");
        let mut batches = 0;
        let mut singles = 0;

        while batches < FOLLOWED_OWNERS || singles < FOLLOWED_OWNERS {
            let entries = follower.next_batch(limit).await.expect("entries");

            let last = entries.last().expect("never empty");
            assert!(
                last.batch.as_ref().is_none_or(|(_, ended)| *ended),
                "ends inside a batch, with {limit}"
            );
            assert!(entries.len() <= limit + 1);

            for entry in &entries {
                match &entry.batch {
                    Some((_, ended)) => batches += usize::from(*ended),
                    None => singles += usize::from(entry.record.is_some()),
                }
            }
        }
    }
}

/// Returns the records of the bucket, oldest first: subject, sequence, value.
async fn records(breaker: &Client) -> Vec<(String, u64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut sequence = 1;

    loop {
        let request = json!({"seq": sequence}).to_string();
        let reply = breaker
            .request("$JS.API.DIRECT.GET.KV_favorites", request.into())
            .await;
        let Ok(message) = reply else { break };

        let headers = message.headers.unwrap_or_default();
        let subject = headers.get("Nats-Subject").map(|value| value.to_string());
        match subject {
            // No message has that sequence. Above 40 there are none.
            None if sequence > 40 => break,
            None => {}
            // Barriers and marks are no records.
            Some(subject) if !is_record(&subject) => {}
            Some(subject) => found.push((subject, sequence, message.payload.to_vec())),
        }

        sequence += 1;
    }

    found
}

async fn put(caller: &Caller, number: usize) -> Value {
    let data = json!({"isin": isin(number), "type": "stock"});

    caller
        .done("a.put", &json!({"kind": "instrument", "data": data}))
        .await
}

/// Checks that a strong read on shard a is refused, because the owner's records do not fit.
async fn check_strong_read_fails(caller: &Caller) {
    let strong = json!({"consistency": "strong"});

    let reply = caller.ask("a.list", &strong).await;

    reply.refusal("internal");
}

/// Goal: an old record that is published again as the newest is noticed, and no other owner is
/// affected.
///
/// Method: a user with all rights repeats alice's first record. The worker that has her in its
/// cache, and a worker of a shard that has never seen her, must refuse to read. Bob can write.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_record_published_again_is_noticed() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let breaker = world.connect_breaker().await;
    put(&alice, 1).await;
    let (subject, _, value) = records(&breaker).await.pop().expect("a record");
    put(&alice, 1).await;
    put(&alice, 2).await;

    breaker
        .request(subject, value.into())
        .await
        .expect("published");

    check_strong_read_fails(&alice).await;
    let _b = world.worker("b").await;
    let on_b = alice.ask("b.list", &json!({})).await;
    on_b.refusal("internal");
    put(&bob, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_lost_from_the_bucket_is_noticed() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let breaker = world.connect_breaker().await;
    for number in 1..=3 {
        put(&alice, number).await;
    }
    let all = records(&breaker).await;
    let (second_item, ..) = &all[2];

    purge_record(&breaker, second_item).await;

    let _b = world.worker("b").await;
    let on_b = alice.ask("b.list", &json!({})).await;
    on_b.refusal("internal");
}

/// Goal: a missing record of the newest write is noticed. No later write names it, so the write
/// itself says how many records it has.
///
/// Method: five owners write an item; four of them also write an atomic batch of three. The first
/// owner loses the key, three lose one record of the batch each, and the last loses nothing. All
/// read and write on a shard that has not seen them before.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_part_of_the_newest_write_is_noticed() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let breaker = world.connect_breaker().await;
    let op = |id| json!({"op": "put", "kind": "text", "id": id, "data": {"text": "x"}});
    let batch = json!({"mode": "atomic", "ops": [op("x"), op("y"), op("z")]});
    let text = json!({"kind": "text", "data": {"text": "x"}});

    let mut owners = Vec::new();
    for part in 0..5 {
        let owner = world.caller(&format!("somebody-{part}")).await;
        let before = records(&breaker).await.len();
        put(&owner, 1).await;
        if part > 0 {
            owner.done("a.batch", &batch).await;
        }

        let of_owner = records(&breaker).await.split_off(before);
        match part {
            // The key, which was written with the first item.
            0 => purge_record(&breaker, &of_owner[0].0).await,
            1..4 => purge_record(&breaker, &of_owner[part + 1].0).await,
            _ => {}
        }
        owners.push(owner);
    }

    let _b = world.worker("b").await;
    let complete = owners.pop().expect("the last owner");
    let list = complete.done("b.list", &json!({})).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(4), "{list}");

    for owner in owners {
        let read = owner.ask("b.list", &json!({})).await;
        read.refusal("internal");
        // No write may be based on an incomplete set.
        let write = owner.ask("b.put", &text).await;
        write.refusal("internal");
    }
}

/// Goal: a record under the key of another item is noticed, because it names another chain.
///
/// Method: a user with all rights publishes alice's second item under the key of the first one.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_moved_to_another_key_is_noticed() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let breaker = world.connect_breaker().await;
    put(&alice, 1).await;
    put(&alice, 2).await;
    let all = records(&breaker).await;
    let (first_key, ..) = all[1].clone();
    let (_, _, second_value) = all[2].clone();

    breaker
        .request_with_headers(first_key, HeaderMap::new(), second_value.into())
        .await
        .expect("published");

    check_strong_read_fails(&alice).await;
}

/// Goal: a message that is no record is noticed when its owner reads, and does not stop the
/// projection for others.
///
/// Method: a user with all rights publishes a text under the key of alice's item. Then alice reads,
/// and bob writes and gets his row.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_record_stops_nobody_else() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let breaker = world.connect_breaker().await;
    put(&alice, 1).await;
    let (subject, ..) = records(&breaker).await.pop().expect("a record");

    breaker
        .request(subject, "no record".into())
        .await
        .expect("published");

    check_strong_read_fails(&alice).await;
    let put = put(&bob, 1).await;
    assert!(put.get("local").is_none(), "the projection goes on: {put}");
}
