//! Each change notification and each reply to discovery arrives exactly once at each server that a
//! caller may be connected to: no two links of a leaf carry the same subject.

use crate::harness::{Caller, World};
use async_nats::{Client, Subscriber};
use futures::StreamExt as _;
use gofavorites::dev::role::{ACCOUNTS_CONF, LEAF_ACCOUNTS_CONF};
use gofavorites::dev::tokens::ALL_SCOPES;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// How long messages may take to arrive, and how long the tests wait for a second copy.
const ARRIVAL_TIME: Duration = Duration::from_millis(700);

/// How many notifications are expected.
const WRITES: usize = 5;

/// Returns how many messages arrive.
async fn count(messages: &mut Subscriber) -> usize {
    let mut count = 0;
    while let Ok(Some(message)) = timeout(ARRIVAL_TIME, messages.next()).await {
        count += usize::from(message.status.is_none());
    }

    count
}

/// Returns how many replies a discovery request of this client gets.
async fn count_discovered(client: &Client, subject: &str) -> usize {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.expect("subscribed");
    client
        .publish_with_reply(subject.to_owned(), inbox, "".into())
        .await
        .expect("sent");

    count(&mut replies).await
}

/// Checks at each server that each of the workers answers discovery once: for callers in both kinds
/// of account, and for an operator.
async fn check_discovery(world: &World, urls: &[(&str, String)], workers: usize) {
    for (place, url) in urls {
        for user in ["gateway", "direct", "operator"] {
            let client = world.connect_at(url, user).await;

            for subject in ["$SRV.PING", "$SRV.INFO.favorites"] {
                let replies = count_discovered(&client, subject).await;
                assert_eq!(replies, workers, "{subject} by {user} at {place}");
            }
        }
    }
}

/// Writes, and returns how many notifications each listener received. There are listeners at each
/// server and in each kind of account, both with a wildcard and without.
async fn count_notifications(
    world: &World,
    urls: &[(&str, String)],
) -> BTreeMap<(String, &'static str, bool), usize> {
    let token = world.token("alice", ALL_SCOPES, Duration::from_secs(600));
    let alice = Caller::new(world.connect("gateway").await, token);
    let changes = alice
        .done("changes", &serde_json::json!({"since": 0}))
        .await;
    let subject = changes["notify"].as_str().expect("a subject").to_owned();

    let mut listeners = Vec::new();
    for (place, url) in urls {
        for user in ["gateway", "direct"] {
            for (is_of_owner, subject) in [(true, subject.as_str()), (false, "favorites.changed.>")]
            {
                let client = world.connect_at(url, user).await;
                let messages = client.subscribe(subject.to_owned()).await;
                client.flush().await.expect("sent");
                let key = ((*place).to_owned(), user, is_of_owner);
                listeners.push((key, client, messages.expect("subscribed")));
            }
        }
    }
    // The interest of the leaves has to reach the hub.
    tokio::time::sleep(ARRIVAL_TIME).await;

    for _ in 0..WRITES {
        alice.put_text("a", "note", "x").await;
    }

    let mut counts = BTreeMap::new();
    for (key, _client, mut messages) in listeners {
        counts.insert(key, count(&mut messages).await);
    }

    counts
}

/// Checks discovery and notifications on a platform with these servers and with a worker on each of
/// two shards.
async fn check(world: &World, urls: &[(&str, String)]) {
    check_discovery(world, urls, 2).await;

    let counts = count_notifications(world, urls).await;
    assert_eq!(counts.len(), 4 * urls.len());

    // The owner's first write has a second record: the owner's key.
    let expected = counts.values().next().copied().expect("a listener");
    assert!(expected == WRITES || expected == WRITES + 1, "{counts:?}");
    for (listener, count) in &counts {
        assert_eq!(*count, expected, "{listener:?}: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_once_with_leaves_of_one_hub() {
    let (world, leaves) = World::with_leaves().await;
    let _workers = (world.worker("a").await, world.worker("b").await);
    let urls = [
        ("leaf a", world.nats.url()),
        ("leaf b", leaves.b.url()),
        ("the hub", leaves.hub.url()),
    ];

    check(&world, &urls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_once_with_leaves_of_a_hub_of_three() {
    let (world, hub) = World::with_a_hub_of_three().await;
    let _workers = (world.worker("a").await, world.worker("b").await);
    let urls = [
        ("leaf a", world.nats.url()),
        ("leaf b", hub.b.url()),
        ("hub-1", hub.servers[0].url()),
        ("hub-2", hub.servers[1].url()),
        ("hub-3", hub.servers[2].url()),
    ];

    check(&world, &urls).await;
}

/// Goal: the tests above notice a message that arrives twice.
///
/// Method: the link of the requests carries the notifications too, as the link of the bucket does.
#[tokio::test(flavor = "multi_thread")]
async fn a_subject_on_two_links_arrives_twice() {
    let both = ACCOUNTS_CONF.replace(
        r#"subscribe: { allow: ["favorites.v1.>", "$SRV.>", "_R_.>", "_INBOX.>"] }"#,
        r#"subscribe: { allow: ["favorites.v1.>", "favorites.changed.>", "$SRV.>", "_R_.>", "_INBOX.>"] }"#,
    );
    assert_ne!(both, ACCOUNTS_CONF);
    let (world, leaves) = World::with_leaves_and_accounts(&both, LEAF_ACCOUNTS_CONF).await;
    let _workers = (world.worker("a").await, world.worker("b").await);

    let counts = count_notifications(&world, &[("leaf b", leaves.b.url())]).await;

    let at_b = |user| counts[&("leaf b".to_owned(), user, false)];
    assert_eq!(at_b("direct"), 2 * at_b("gateway"), "{counts:?}");
}
