//! Each change notification and each reply to discovery arrives exactly once at each server that a
//! caller may be connected to: no two links of a leaf carry the same subject.

use crate::harness::{Caller, World};
use async_nats::{Client, Subscriber};
use futures::StreamExt as _;
use futures::future::join_all;
use gofavorites::dev::role::{ACCOUNTS_CONF, LEAF_ACCOUNTS_CONF};
use gofavorites::dev::tokens::ALL_SCOPES;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long the tests wait for a second copy of a message.
const QUIET_TIME: Duration = Duration::from_millis(700);

/// How long the first copies may take: interest has to spread over all servers, on a busy machine.
const ARRIVAL_TIME: Duration = Duration::from_secs(30);

/// How many notifications are expected.
const WRITES: usize = 5;

/// Returns the position in the bucket of the next message that is no status, 0 for a reply, if one
/// arrives in this time.
async fn arrives(messages: &mut Subscriber, within: Duration) -> Option<u64> {
    let message = timeout(within, async {
        loop {
            let message = messages.next().await?;
            if message.status.is_none() {
                return Some(message);
            }
        }
    });
    let headers = message.await.ok()??.headers.unwrap_or_default();

    let position = headers.get("Nats-Sequence").map(|at| at.as_str().parse());
    Some(position.map_or(0, |at| at.expect("a number")))
}

/// Returns the messages that arrive: waits for this many, and then for more.
async fn collect(messages: &mut Subscriber, expected: usize) -> Vec<u64> {
    let mut arrived = Vec::new();
    while arrived.len() < expected {
        let Some(message) = arrives(messages, ARRIVAL_TIME).await else {
            break;
        };
        arrived.push(message);
    }
    while let Some(message) = arrives(messages, QUIET_TIME).await {
        arrived.push(message);
    }

    arrived
}

/// Returns how many replies a discovery request of this client gets. Repeats it until this many
/// arrive, because a server that was started just now may not know all workers yet.
async fn count_discovered(client: &Client, subject: &str, expected: usize) -> usize {
    let until = Instant::now() + ARRIVAL_TIME;
    loop {
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.expect("subscribed");
        client
            .publish_with_reply(subject.to_owned(), inbox, "".into())
            .await
            .expect("sent");

        let replies = collect(&mut replies, 0).await.len();
        if replies >= expected || Instant::now() > until {
            return replies;
        }
    }
}

/// Checks at each server that each of the workers answers discovery once: for callers in both kinds
/// of account, and for an operator.
async fn check_discovery(world: &World, urls: &[(&str, String)], workers: usize) {
    for (place, url) in urls {
        for user in ["gateway", "direct", "operator"] {
            let client = world.connect_at(url, user).await;

            for subject in ["$SRV.PING", "$SRV.INFO.favorites"] {
                let replies = count_discovered(&client, subject, workers).await;
                assert_eq!(replies, workers, "{subject} by {user} at {place}");
            }
        }
    }
}

/// A listener: its server, its user, whether it listens for one owner only, and its subscription.
type Listener = ((String, &'static str, bool), Client, Subscriber);

/// Writes until each listener has received a notification.
async fn spread_interest(alice: &Caller, listeners: &mut [Listener]) {
    let mut unheard: Vec<&mut Listener> = listeners.iter_mut().collect();
    let until = Instant::now() + ARRIVAL_TIME;
    while !unheard.is_empty() {
        assert!(Instant::now() < until, "{} hear nothing", unheard.len());
        alice.put_text("a", "note", "x").await;

        let heard = unheard.into_iter().map(async |listener| {
            let heard = arrives(&mut listener.2, QUIET_TIME).await;
            heard.is_none().then_some(listener)
        });
        unheard = join_all(heard).await.into_iter().flatten().collect();
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

    let mut listeners: Vec<Listener> = Vec::new();
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
    spread_interest(&alice, &mut listeners).await;

    for _ in 0..WRITES {
        alice.put_text("a", "note", "x").await;
    }

    let arrivals = listeners
        .into_iter()
        .map(async |(key, _client, mut messages)| (key, collect(&mut messages, WRITES).await));
    count_newest(join_all(arrivals).await)
}

/// Counts the notifications of the last writes; one of an earlier write may come late.
fn count_newest<K: Ord>(arrivals: Vec<(K, Vec<u64>)>) -> BTreeMap<K, usize> {
    let all: BTreeSet<u64> = arrivals.iter().flat_map(|(_, all)| all).copied().collect();
    let newest: BTreeSet<u64> = all.into_iter().rev().take(WRITES).collect();

    arrivals
        .into_iter()
        .map(|(key, all)| (key, all.iter().filter(|at| newest.contains(at)).count()))
        .collect()
}

/// Checks discovery and notifications on a platform with these servers and with a worker on each of
/// two shards.
async fn check(world: &World, urls: &[(&str, String)]) {
    check_discovery(world, urls, 2).await;

    let counts = count_notifications(world, urls).await;
    assert_eq!(counts.len(), 4 * urls.len());

    for (listener, count) in &counts {
        assert_eq!(*count, WRITES, "{listener:?}: {counts:?}");
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
