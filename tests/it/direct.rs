//! Calling services in the workers' own account, `SERVICE`: each has an inbox of its own, and only
//! permissions keep one from what another receives.

use crate::harness::{Caller, World, with_user_in};
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::tokens::ALL_SCOPES;
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a message that must not arrive is waited for.
const QUIET_TIME: Duration = Duration::from_millis(500);

/// Returns the accounts with a second calling service in the workers' account, which is hostile: it
/// has the permissions of the first one, with its own name in its inbox.
fn with_a_hostile_service() -> String {
    let at = ACCOUNTS_CONF.find("      { user: direct,").expect("a user");
    let end = at + ACCOUNTS_CONF[at..].find("} }\n").expect("an end") + 4;

    let hostile = ACCOUNTS_CONF[at..end]
        .replace("$DIRECT_PASSWORD", "mallory")
        .replace("direct", "mallory");

    [&ACCOUNTS_CONF[..end], &hostile, &ACCOUNTS_CONF[end..]].concat()
}

/// Connects as the hostile service. It also sends what the client library would refuse. The
/// receiver gets the errors that the server reports to the service.
async fn mallory(world: &World) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (sender, errors) = mpsc::unbounded_channel();
    let client = ConnectOptions::with_user_and_password("mallory".into(), "mallory".into())
        .skip_subject_validation(true)
        .custom_inbox_prefix("_INBOX.mallory")
        .event_callback(move |event| {
            if let Event::ServerError(error) = event {
                // The test may have ended.
                let _ = sender.send(error.to_string().to_lowercase());
            }
            async {}
        })
        .connect(world.nats.url())
        .await
        .expect("a connection");

    (client, errors)
}

/// Returns alice as a caller of the service `direct`.
async fn alice(world: &World) -> Caller {
    let token = world.token("alice", ALL_SCOPES, Duration::from_secs(600));

    Caller::new(world.connect("direct").await, token)
}

async fn next_error(errors: &mut mpsc::UnboundedReceiver<String>) -> String {
    timeout(Duration::from_secs(3), errors.recv())
        .await
        .expect("the server refuses it")
        .expect("open")
}

/// Returns whether a message with that text arrives.
async fn receives(messages: &mut Subscriber, text: &str) -> bool {
    while let Ok(Some(message)) = timeout(QUIET_TIME, messages.next()).await {
        if String::from_utf8_lossy(&message.payload).contains(text) {
            return true;
        }
    }

    false
}

/// Goal: no service receives the replies to another one.
///
/// Method: a hostile service tries every subscription that would include another's inbox. The
/// server refuses each. Its own inbox stays silent while another service is answered.
#[tokio::test(flavor = "multi_thread")]
async fn no_service_receives_the_replies_to_another() {
    let world = World::with_accounts(&with_a_hostile_service()).await;
    let _worker = world.worker("a").await;
    let alice = alice(&world).await;
    let (mallory, mut errors) = mallory(&world).await;

    for subject in [
        ">",
        "*.>",
        "_INBOX.>",
        "_INBOX.*.>",
        "_INBOX.*.*",
        "_INBOX.direct.>",
        "_INBOX.direct.*",
        "_R_.>",
        "favorites.v1.>",
        "favorites.v1.*",
    ] {
        let _refused = mallory.subscribe(subject).await.expect("sent");
        let error = next_error(&mut errors).await;
        let quoted = format!("\"{}\"", subject.to_lowercase());
        assert!(error.contains(&quoted), "{subject}: {error}");
    }

    let mut own = mallory.subscribe("_INBOX.mallory.>").await.expect("sent");
    mallory.flush().await.expect("sent");
    alice.put_text("a", "note", "a secret of alice's").await;

    assert!(!receives(&mut own, "a secret").await);
}

/// Goal: in the test above the permissions keep the service from the replies.
///
/// Method: a user of the same account without permissions receives them.
#[tokio::test(flavor = "multi_thread")]
async fn without_permissions_a_user_of_the_account_receives_them() {
    let world = World::with_accounts(&with_user_in(ACCOUNTS_CONF, "SERVICE", "mallory")).await;
    let _worker = world.worker("a").await;
    let alice = alice(&world).await;
    let mallory = world.connect_added("mallory").await;
    let mut all = mallory.subscribe("_INBOX.>").await.expect("subscribed");
    mallory.flush().await.expect("sent");

    alice.put_text("a", "note", "a secret of alice's").await;

    assert!(receives(&mut all, "a secret").await);
}

/// Goal: operators do not receive the replies to a service, although their inbox is `_INBOX.>`.
#[tokio::test(flavor = "multi_thread")]
async fn operators_do_not_receive_the_replies_to_a_service() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let operator = world.connect("operator").await;
    let mut all = operator.subscribe("_INBOX.>").await.expect("subscribed");
    operator.flush().await.expect("sent");

    let alice = alice(&world).await;
    alice.put_text("a", "note", "a secret of alice's").await;

    assert!(!receives(&mut all, "a secret").await);
}

/// Goal: a service reaches neither the bucket nor the auth service, and can send no reply.
///
/// Method: it publishes to their subjects. The server refuses each message, and the bucket is
/// unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn no_service_reaches_anything_but_the_workers() {
    let world = World::with_accounts(&with_a_hostile_service()).await;
    let _worker = world.worker("a").await;
    alice(&world).await.put_text("a", "note", "x").await;
    let before = world.records().await;
    let (mallory, mut errors) = mallory(&world).await;

    for subject in [
        "$KV.favorites.x.y",
        "$JS.API.STREAM.DELETE.KV_favorites",
        "$JS.API.STREAM.PURGE.KV_favorites",
        "auth.v1.verify",
        "auth.v1.revoked",
        "favorites.changed.x.y",
        "_INBOX.direct.x",
        "_R_.x.y",
    ] {
        mallory.publish(subject, "".into()).await.expect("sent");
        let error = next_error(&mut errors).await;
        let quoted = format!("\"{}\"", subject.to_lowercase());
        assert!(error.contains(&quoted), "{subject}: {error}");
    }

    assert_eq!(world.records().await, before);
}

/// Goal: no reply subject of a service becomes a command, a request, or a reply between accounts.
///
/// Method: a hostile service sends requests with such subjects. The server refuses those of its own
/// replies; the worker drops and counts the others, and publishes nothing that the server refuses.
#[tokio::test(flavor = "multi_thread")]
async fn no_reply_subject_of_a_service_becomes_a_command() {
    let world = World::with_accounts(&with_a_hostile_service()).await;
    let worker = world.worker("a").await;
    let alice = alice(&world).await;
    alice.put_text("a", "note", "x").await;
    let before = world.records().await;
    let (mallory, mut errors) = mallory(&world).await;

    let send = async |reply: &str| {
        mallory
            .publish_with_reply("favorites.v1.version", reply.to_owned(), "".into())
            .await
            .expect("sent");
    };

    for reply in ["_R_.x.y", "_GR_.x.y"] {
        send(reply).await;
        let error = next_error(&mut errors).await;
        assert!(error.contains(&reply.to_lowercase()), "{reply}: {error}");
    }

    let dropped = [
        "$JS.API.STREAM.DELETE.KV_favorites",
        "$KV.favorites.x.y",
        "favorites.v1.put",
        "favorites.changed.x.y",
        "auth.v1.verify",
        "_INBOX_worker.x",
        "_INBOX_front.x",
        "_INBOX_auth.x",
    ];
    for reply in dropped {
        send(reply).await;
    }
    mallory
        .request("favorites.v1.version", "".into())
        .await
        .expect("an honest request is answered");

    let counted = worker.counters.dropped().hostile_reply_subject;
    let stats = world.stats(1).await;
    let reasons = stats[0]["data"]["reasons"].as_array();
    assert_eq!(counted, dropped.len() as u64);
    assert_eq!(world.records().await, before);
    assert!(reasons.is_none_or(Vec::is_empty), "{reasons:?}");
}

/// Goal: the permissions of the front alone stop a reply that would be a request or a command.
///
/// Method: a naive service with the user of the front replies to any subject. The server refuses
/// each such reply.
#[tokio::test(flavor = "multi_thread")]
async fn the_front_may_publish_replies_only() {
    let world = World::with_accounts(&with_a_hostile_service()).await;
    world.init(&world.settings("a")).await.expect("init");
    let front = world.connect("front").await;
    let mut requests = front
        .queue_subscribe("favorites.v1.*", "favorites".into())
        .await
        .expect("subscribed");
    front.flush().await.expect("sent");

    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let subject = request.reply.expect("a reply subject");
            front.publish(subject, "{}".into()).await.expect("sent");
        }
    });

    let listener = world.connect("worker").await;
    let mut inbox = listener.subscribe("_INBOX_worker.>").await.expect("sent");
    listener.flush().await.expect("sent");
    let before = world.records().await;
    let (mallory, _errors) = mallory(&world).await;

    for reply in [
        "$JS.API.STREAM.DELETE.KV_favorites",
        "$KV.favorites.x.y",
        "_INBOX_worker.x",
        "favorites.v1.version",
    ] {
        mallory
            .publish_with_reply("favorites.v1.limits", reply, "".into())
            .await
            .expect("sent");
    }
    let reply = mallory
        .request("favorites.v1.version", "".into())
        .await
        .expect("a reply");

    assert_eq!(reply.payload, json!({}).to_string());
    assert_eq!(world.records().await, before);
    assert!(!receives(&mut inbox, "").await);
}
