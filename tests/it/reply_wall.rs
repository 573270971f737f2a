//! The reply subject of a request is input: an answer never goes where it would be a command.

use crate::harness::{Caller, Worker, World};
use async_nats::{Client, ConnectOptions};
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::tokens::ALL_SCOPES;
use serde_json::{Value, json};
use std::time::Duration;

/// The accounts, with a caller inside the workers' own, and a worker who may do all that the account may.
fn with_an_insider() -> String {
    let insider = "users: [\n      { user: insider, password: insider, permissions: { publish: { allow: [\">\"] } } }\n";
    let conf = ACCOUNTS_CONF.replacen("users: [\n", insider, 1);
    let conf = conf.replacen("\"$KV.favorites.>\"", "\">\"", 1);
    assert_eq!(conf.matches("\">\"").count(), 2, "{conf}");
    conf
}

async fn insider(world: &World) -> Client {
    // The server is to get what a client would refuse to send.
    let options = ConnectOptions::with_user_and_password("insider".into(), "insider".into());
    options
        .skip_subject_validation(true)
        .connect(world.nats.url())
        .await
        .expect("a connection")
}

/// Reply subjects that are none to answer to.
fn hostile() -> Vec<String> {
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

/// Operations, with a body or with none.
fn requests() -> [(&'static str, Value); 4] {
    let put = json!({"kind": "text", "id": "never", "data": {"text": "never"}});
    [
        ("put", put),
        ("shard.a.list", json!({})),
        ("version", json!({})),
        ("version", Value::Null),
    ]
}

fn body(value: &Value) -> bytes::Bytes {
    if value.is_null() {
        bytes::Bytes::new()
    } else {
        value.to_string().into()
    }
}

async fn send_all_with_hostile_replies(caller: &Caller) -> usize {
    let mut sent = 0;
    for (operation, value) in requests() {
        for reply in hostile() {
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

/// Ends when the worker has taken what was sent to each of its subscriptions before: it reads each in order.
async fn taken(caller: &Caller) {
    for what in ["version", "a.version"] {
        caller.done(what, &json!({})).await;
    }
}

fn dropped(worker: &Worker) -> (u64, u64) {
    let dropped = worker.counters.dropped();
    (dropped.hostile_reply_subject, dropped.no_reply_subject)
}

/// How many were answered, once it is that many: an answer is counted a moment after it has left.
async fn answered(worker: &Worker, at_least: u64) -> u64 {
    let counted = async {
        while worker.counters.answered() < at_least {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted)
        .await
        .expect("as many answers");
    worker.counters.answered()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_never_goes_where_it_would_be_a_command() {
    let world = World::with_accounts(&with_an_insider()).await;
    let worker = world.worker("a").await;
    let token = world.token("alice", ALL_SCOPES, Duration::from_secs(600));
    let caller = Caller::new(insider(&world).await, token);
    caller.put_text("a", "there", "y").await;
    let before = world.records().await;
    let sent = send_all_with_hostile_replies(&caller).await;
    let mut without = 0;
    for (operation, value) in requests() {
        let subject = format!("favorites.v1.{operation}");
        caller
            .client
            .publish_with_headers(subject, caller.headers(), body(&value))
            .await
            .expect("sent");
        without += 1;
    }
    taken(&caller).await;
    assert_eq!(dropped(&worker), (sent as u64, without), "each is counted");
    assert_eq!(
        world.records().await,
        before,
        "nothing was written, and nothing is gone"
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

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_opens_the_wall_to_commands() {
    let world = World::with_accounts(&with_an_insider()).await;
    let mut settings = world.settings("a");
    settings.worker.reply_prefixes = ["_INBOX", "$JS", "$KV", "$", ""]
        .map(str::to_owned)
        .to_vec();
    let worker = world.worker_with(settings).await;
    let token = world.token("alice", ALL_SCOPES, Duration::from_secs(600));
    let caller = Caller::new(insider(&world).await, token);
    caller.put_text("a", "there", "y").await;
    let before = world.records().await;
    let sent = send_all_with_hostile_replies(&caller).await;
    taken(&caller).await;
    assert_eq!(dropped(&worker), (sent as u64, 0));
    assert_eq!(world.records().await, before);
}

/// The test above would not tell a wall from a worker without rights; so here its user does what an answer would do.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_wall_such_an_answer_would_be_obeyed() {
    let world = World::with_accounts(&with_an_insider()).await;
    let worker = world.worker("a").await;
    let client = world.connect("worker").await;
    let answer = insider(&world)
        .await
        .request("favorites.v1.version", "".into())
        .await
        .expect("an answer");
    client
        .publish("$KV.favorites.x.y", answer.payload)
        .await
        .expect("sent");
    // The answer to a later request: the server has taken what was sent before.
    client
        .request("$JS.API.STREAM.INFO.KV_favorites", "".into())
        .await
        .expect("an answer");
    assert!(
        world.records().await.contains_key("$KV.favorites.x.y"),
        "an answer would be a record"
    );
    worker.crash().await;
    client
        .request("$JS.API.STREAM.DELETE.KV_favorites", "".into())
        .await
        .expect("an answer");
    let gone = client
        .request("$JS.API.STREAM.INFO.KV_favorites", "".into())
        .await
        .expect("an answer");
    assert!(
        String::from_utf8_lossy(&gone.payload).contains("10059"),
        "an empty body would delete the bucket"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn between_accounts_a_reply_subject_arrives_rewritten() {
    // The worker has its real rights here; the insider only listens.
    let listener = "users: [\n      { user: insider, password: insider }\n";
    let world = World::with_accounts(&ACCOUNTS_CONF.replacen("users: [\n", listener, 1)).await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "there", "y").await;
    let before = world.records().await;
    let listening = insider(&world).await;
    let mut requests = listening
        .subscribe("favorites.v1.>")
        .await
        .expect("a subscription");
    listening
        .request("nobody.listens", "".into())
        .await
        .expect_err("and by now the subscription is known");
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
            bytes::Bytes::new(),
        );
        sending.await.expect("sent");
        let arrived = requests
            .next()
            .await
            .expect("a request")
            .reply
            .expect("a reply subject");
        assert!(
            arrived.starts_with("_R_.") && !arrived.contains('$'),
            "{reply} arrives as {arrived}"
        );
    }
    taken(&alice).await;
    let all = 1 + commands.len() as u64 + 2;
    assert_eq!(
        (answered(&worker, all).await, dropped(&worker)),
        (all, (0, 0)),
        "they are requests like any"
    );
    assert_eq!(
        world.records().await,
        before,
        "and their answers are commands to nobody"
    );
}
