//! The reply subject of a request is input: no reply goes to a subject where it would act as a
//! command.

use crate::harness::{Caller, Worker, World, subscribe, with_user_in};
use async_nats::{Client, Message};
use bytes::Bytes;
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::tokens::ALL_SCOPES;
use serde_json::{Value, json};
use std::time::Duration;

/// A user of the workers' front who may do everything in the bucket's account, where the front of a
/// worker has no business.
const ALMIGHTY: &str = "almighty";

/// The accounts, with a caller and a front inside the bucket's own account.
fn with_an_insider() -> String {
    let conf = with_user_in(ACCOUNTS_CONF, "TRUTH", "insider");

    with_user_in(&conf, "TRUTH", ALMIGHTY)
}

/// A connection of the insider, which sends also what the client library would refuse.
async fn insider(world: &World) -> Client {
    world.connect_added("insider").await
}

/// The insider as a caller with alice's token.
async fn insider_as_alice(world: &World) -> Caller {
    let token = world.token("alice", ALL_SCOPES, Duration::from_secs(600));

    Caller::new(insider(world).await, token)
}

/// Reply subjects to which no worker may reply.
fn hostile_subjects() -> Vec<String> {
    let plain = [
        "$JS.API.STREAM.DELETE.KV_favorites",
        "$JS.API.STREAM.PURGE.KV_favorites",
        "$JS.API.CONSUMER.DELETE.KV_favorites.x",
        "$KV.favorites.x.y",
        "$SYS.REQ.SERVER.PING",
        "$",
        "favorites.v1.put",
        "favorites.v1.version",
        "auth.v1.verify",
        "inbox",
        "_inbox.x",
        "_INBOX_worker.x.1",
        "_INBOX_front.x.1",
        "_INBOX_auth.x.1",
        "_INBOXES.x",
        "_R_x.y",
        "_INBOX.*",
        "_INBOX.>",
        "*",
        ">",
        "_INBOX.$JS.API.STREAM.DELETE.KV_favorites",
        "_INBOX..x",
        "_INBOX.x.",
    ];
    let long = format!("_INBOX.{}", "a".repeat(300));

    plain.into_iter().map(str::to_owned).chain([long]).collect()
}

/// Operations, each with a body, or with `null` for none.
fn requests() -> [(&'static str, Value); 4] {
    let put = json!({"kind": "text", "id": "never", "data": {"text": "never"}});

    [
        ("put", put),
        ("shard.a.list", json!({})),
        ("version", json!({})),
        ("version", Value::Null),
    ]
}

fn body(value: &Value) -> Bytes {
    if value.is_null() {
        Bytes::new()
    } else {
        value.to_string().into()
    }
}

/// Sends each request with each hostile reply subject, and returns how many that were.
async fn send_all_with_hostile_replies(caller: &Caller) -> u64 {
    let mut sent = 0;
    for (operation, value) in requests() {
        for reply in hostile_subjects() {
            let subject = format!("favorites.v1.{operation}");

            let sending = caller.client.publish_with_reply_and_headers(
                subject,
                reply,
                caller.headers(),
                body(&value),
            );
            sending.await.expect("sent");

            sent += 1;
        }
    }

    sent
}

/// Sends each request without a reply subject, and returns how many that were.
async fn send_all_without_reply(caller: &Caller) -> u64 {
    let mut sent = 0;
    for (operation, value) in requests() {
        let subject = format!("favorites.v1.{operation}");

        caller
            .client
            .publish_with_headers(subject, caller.headers(), body(&value))
            .await
            .expect("sent");

        sent += 1;
    }

    sent
}

/// Waits until the worker has received everything that was sent before: it reads each of its
/// subscriptions in order.
async fn until_received(caller: &Caller) {
    for operation in ["version", "a.version"] {
        caller.done(operation, &json!({})).await;
    }
}

/// Waits until the worker has counted so many replies, and returns its count: it counts a reply a
/// moment after it has sent it.
async fn answered(worker: &Worker, at_least: u64) -> u64 {
    let counted = async {
        while worker.counters.answered() < at_least {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted)
        .await
        .expect("as many replies");

    worker.counters.answered()
}

async fn request(client: &Client, subject: &'static str) -> Message {
    client.request(subject, "".into()).await.expect("an answer")
}

/// Goal: a worker drops a request whose reply would act as a command, and counts it.
///
/// Method: an insider, whose reply subjects arrive unchanged, sends every request with every
/// hostile subject and without one. The worker's front is in the bucket's account with all rights,
/// so that only its own check protects the bucket. The bucket must stay as it is, and honest requests must be served.
#[tokio::test(flavor = "multi_thread")]
async fn no_reply_goes_where_it_would_be_a_command() {
    let world = World::with_accounts(&with_an_insider()).await;
    let worker = world
        .worker_with(world.settings_with_front("a", ALMIGHTY))
        .await;
    let caller = insider_as_alice(&world).await;

    caller.put_text("a", "there", "y").await;
    let before = world.records().await;

    let hostile = send_all_with_hostile_replies(&caller).await;
    let without_reply = send_all_without_reply(&caller).await;
    until_received(&caller).await;

    let dropped = worker.counters.dropped();
    assert_eq!(dropped.hostile_reply_subject, hostile);
    assert_eq!(dropped.no_reply_subject, without_reply);
    assert_eq!(
        world.records().await,
        before,
        "nothing was written and nothing deleted"
    );

    let list = caller
        .done("a.list", &json!({"consistency": "strong"}))
        .await;
    assert_eq!(
        list["items"].as_array().expect("a list").len(),
        1,
        "an honest request is served"
    );

    assert_eq!(
        answered(&worker, 4).await,
        4,
        "only the honest requests were answered"
    );
}

/// Goal: no value of `worker.reply_prefixes` lets a reply act as a command.
///
/// Method: as above, with a worker whose settings allow the prefixes of commands.
#[tokio::test(flavor = "multi_thread")]
async fn no_setting_allows_replies_that_are_commands() {
    let world = World::with_accounts(&with_an_insider()).await;
    let mut settings = world.settings_with_front("a", ALMIGHTY);
    settings.worker.reply_prefixes = ["_INBOX", "$JS", "$KV", "$", ""]
        .map(str::to_owned)
        .to_vec();
    let worker = world.worker_with(settings).await;
    let caller = insider_as_alice(&world).await;

    caller.put_text("a", "there", "y").await;
    let before = world.records().await;

    let hostile = send_all_with_hostile_replies(&caller).await;
    until_received(&caller).await;

    let dropped = worker.counters.dropped();
    assert_eq!(dropped.hostile_reply_subject, hostile);
    assert_eq!(dropped.no_reply_subject, 0);
    assert_eq!(world.records().await, before);
}

/// Goal: in the tests above it is the check that protects the bucket, not missing rights.
///
/// Method: the NATS user of that front itself publishes what a reply to a hostile subject would be: a
/// record, and then, with an empty body, the deletion of the bucket. The server obeys both.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_check_such_a_reply_would_be_obeyed() {
    let world = World::with_accounts(&with_an_insider()).await;
    let worker = world
        .worker_with(world.settings_with_front("a", ALMIGHTY))
        .await;
    let client = world.connect_added(ALMIGHTY).await;
    let insider = insider(&world).await;

    let answer = request(&insider, "favorites.v1.version").await;
    client
        .publish("$KV.favorites.x.y", answer.payload)
        .await
        .expect("sent");

    // Once a later request is answered, the server has processed what was sent before it.
    request(&client, "$JS.API.STREAM.INFO.KV_favorites").await;

    assert!(
        world.records().await.contains_key("$KV.favorites.x.y"),
        "a reply would be a record"
    );

    worker.crash().await;
    request(&client, "$JS.API.STREAM.DELETE.KV_favorites").await;
    let info = request(&client, "$JS.API.STREAM.INFO.KV_favorites").await;

    assert!(
        String::from_utf8_lossy(&info.payload).contains("10059"),
        "an empty body would delete the bucket"
    );
}

/// Goal: the server rewrites the reply subject of a caller in another account, so that a command
/// in it reaches no worker.
///
/// Method: alice sends requests with commands as reply subjects, to a worker with its real
/// rights. A listener in the worker's account sees the subjects as they arrive.
#[tokio::test(flavor = "multi_thread")]
async fn between_accounts_a_reply_subject_is_rewritten() {
    let accounts = with_user_in(ACCOUNTS_CONF, "SERVICE", "insider");
    let world = World::with_accounts(&accounts).await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    alice.put_text("a", "there", "y").await;
    let before = world.records().await;

    let listening = insider(&world).await;
    let mut requests = subscribe(&listening, "favorites.v1.>").await;

    let commands = [
        "$JS.API.STREAM.DELETE.KV_favorites",
        "$KV.favorites.x.y",
        "favorites.v1.put",
    ];

    for reply in commands {
        let sending = alice.client.publish_with_reply_and_headers(
            "favorites.v1.shard.a.list",
            reply,
            alice.headers(),
            Bytes::new(),
        );
        sending.await.expect("sent");

        let request = requests.next().await.expect("a request");
        let arrived = request.reply.expect("a reply subject");
        assert!(arrived.starts_with("_R_."), "{reply} arrives as {arrived}");
        assert!(!arrived.contains('$'), "{reply} arrives as {arrived}");
    }

    until_received(&alice).await;

    let all = 1 + commands.len() as u64 + 2;
    assert_eq!(answered(&worker, all).await, all, "each is a valid request");
    let dropped = worker.counters.dropped();
    assert_eq!(dropped.hostile_reply_subject, 0);
    assert_eq!(dropped.no_reply_subject, 0);
    assert_eq!(world.records().await, before, "no reply acted as a command");
}
