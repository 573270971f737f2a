//! The three connections of a worker: the loss of one does not affect the other two, and a
//! connection that receives nothing any more is noticed.

use crate::harness::{ByHand, Proxy, World};
use async_nats::RequestErrorKind;
use gofavorites::dev::auth_service::{AuthService, REVOKED_SUBJECT, RevokedTokens};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::tokens::unix_now;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How long a worker may take to notice a change, and to open a connection again.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(20);

/// Header blocks over which the published client loses its connection. Over the last one it panics.
const UNREADABLE: [&[u8]; 4] = [
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/2.0\r\n\r\n",
    b"NATS/1.0\r\nX: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nX: a\rb\r\n\r\n",
];

/// Waits until the statistics of the only worker are as expected, and returns them.
async fn wait_for_stats(world: &World, is_expected: impl Fn(&Value) -> bool) -> Value {
    let event = "the worker's statistics";
    world
        .wait_for_stats(event, NOTICE_TIMEOUT, is_expected)
        .await
}

fn auth_connections(data: &Value) -> u64 {
    data["nats"]["auth"]["connections"]
        .as_u64()
        .expect("a number")
}

/// Goal: an unreadable message of the auth service ends the connection to it, and no other
/// connection. The worker opens the connection again, and receives revocations on it.
///
/// Method: a client without a library publishes such messages as revocations, one kind after the
/// other. After each kind a new caller is accepted, and this caller's tokens are revoked.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_message_ends_the_auth_connection_alone() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let service = AuthService::new(&world.secrets).expect("keys");
    let honest = world.connect("auth_service").await;
    let mut by_hand = ByHand::connect(&world, "auth_service").await;

    for (number, headers) in UNREADABLE.into_iter().enumerate() {
        let before = auth_connections(&world.stats(1).await[0]["data"]);
        let name = format!("caller-{number}");
        let caller = world.caller(&name).await;

        by_hand
            .publish(REVOKED_SUBJECT.as_bytes(), b"_INBOX.none", headers, b"{}")
            .await;
        let data = wait_for_stats(&world, |data| auth_connections(data) > before).await;

        assert_eq!(data["nats"]["connections"], 1, "the callers' connection");
        assert_eq!(data["nats"]["truth"]["connections"], 1, "the bucket's");

        let start = Instant::now();
        while caller.ask("a.list", &json!({})).await.body["error"].is_object() {
            assert!(start.elapsed() < NOTICE_TIMEOUT, "no caller is accepted");
        }

        let revoked = RevokedTokens {
            sub: Some(name),
            sid: None,
            iat: unix_now(),
        };
        let received = data["auth"]["revocations"].as_u64().expect("a number");
        let revocation = service.revocation(&revoked).expect("signed");
        // One that comes before the new subscription is missed, and the cache is emptied for it.
        let start = Instant::now();
        while world.stats(1).await[0]["data"]["auth"]["revocations"].as_u64() <= Some(received) {
            assert!(start.elapsed() < NOTICE_TIMEOUT, "no revocation is heard");
            let sent = honest.publish(REVOKED_SUBJECT, revocation.clone().into());
            sent.await.expect("sent");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Goal: a worker that loses the auth service's server still serves the callers whose verdicts it
/// has cached, and its connections to callers and bucket stay.
///
/// Method: the worker's auth connection goes through a proxy, which is cut and healed.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_auth_connection_leaves_the_others_alone() {
    let world = World::start().await;
    let proxy = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    let mut settings = world.settings("a");
    settings.nats.auth.url = format!("nats://127.0.0.1:{}", proxy.port());
    let _worker = world.worker_with(settings).await;
    let cached = world.caller("cached").await;
    cached.put_text("a", "note", "x").await;
    let newcomer = world.caller("newcomer").await;

    proxy.cut();
    wait_for_stats(&world, |data| data["nats"]["auth"]["connected"] == false).await;
    let refused = newcomer.ask("a.list", &json!({})).await;

    refused.refusal("auth_unavailable");
    let data = &world.stats(1).await[0]["data"];
    assert_eq!(data["nats"]["connections"], 1);
    assert_eq!(data["nats"]["truth"]["connections"], 1);

    proxy.heal();
    wait_for_stats(&world, |data| {
        data["nats"]["auth"]["connected"] == true && data["state"] == "healthy"
    })
    .await;
    newcomer.done("a.list", &json!({})).await;
}

/// Goal: a worker whose connection carries no messages, although it is up and the server answers PING
/// on it, takes no requests.
///
/// Method: a proxy changes the subject of the messages that a starting worker publishes to its own
/// inbox.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_carries_nothing_gets_no_requests() {
    let granted = "\"_INBOX_front.>\"                              # to itself";
    let accounts = ACCOUNTS_CONF.replace(granted, "\"_INBOX_other.>\"  # to itself");
    assert_ne!(accounts, ACCOUNTS_CONF, "the grant is in the file");
    let world = World::with_accounts(&accounts).await;
    let server = world.nats.url().replace("nats://", "");
    let proxy = Proxy::rewriting_requests(&server, "PUB _INBOX_front.", "PUB _INBOX_other.").await;
    let mut settings = world.settings("a");
    settings.nats.front.url = format!("nats://127.0.0.1:{}", proxy.port());
    world.init(&settings).await.expect("init");
    let gateway = world.connect("gateway").await;

    let nobody_answers = async {
        // Longer than the first message may take.
        tokio::time::sleep(Duration::from_secs(7)).await;
        for subject in ["favorites.v1.version", "$SRV.PING.favorites"] {
            let error = gateway.request(subject, "".into()).await;
            let kind = error.expect_err("nobody subscribes").kind();
            assert_eq!(kind, RequestErrorKind::NoResponders);
        }
    };
    tokio::select! {
        () = nobody_answers => {}
        _ = world.try_worker(settings) => panic!("the worker is ready, or has ended"),
    }
}

/// Goal: a record with an unreadable header block stops the projection, and no request. Only a
/// client with a worker's rights can store such a record. The projection continues after the
/// record's key is purged.
///
/// Method: a client without a library publishes such a record as the user of a worker.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_stops_the_projection_until_it_is_purged() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "before").await;
    let mut by_hand = ByHand::connect(&world, "worker").await;
    let key = "$KV.favorites.garbage";

    by_hand
        .publish(key.as_bytes(), b"_INBOX.none", UNREADABLE[0], b"{}")
        .await;
    wait_for_stats(&world, |data| {
        data["nats"]["truth"]["connections"].as_u64() > Some(3)
    })
    .await;

    let put = alice.put_text("a", "note", "meanwhile").await;
    let id = json!({"kind": "text", "id": "note"});
    let got = alice.done("a.get", &id).await;
    assert_eq!(got["item"], put["item"]);

    let maintain = world.connect("maintain").await;
    let purge = json!({ "filter": key }).to_string();
    let purged = maintain
        .request("$JS.API.STREAM.PURGE.KV_favorites", purge.into())
        .await
        .expect("an answer");
    let purged: Value = serde_json::from_slice(&purged.payload).expect("JSON");
    assert_eq!(purged["purged"], 1, "{purged}");

    wait_for_stats(&world, |data| {
        data["projection"]["lag"] == 0 && data["state"] == "healthy"
    })
    .await;
}

/// Runs `gofavorites health`, and returns its exit code.
async fn health_code(world: &World) -> Option<i32> {
    let ended = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
        .args(["health", "--url", &world.nats.url(), "--user", "gateway"])
        .env("GOFAVORITES_PASSWORD", world.secrets.nats("gateway"))
        .output()
        .await
        .expect("it starts");

    ended.status.code()
}

/// Takes a grant away while a worker runs, and waits until the worker has that state, and its
/// statistics name the part and the text. Then it gives the grant back, and waits until the worker
/// is healthy.
async fn take_away_and_give_back(grant: &str, state: &str, part: &str, text: &str) {
    let mut world = World::start().await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let narrowed = ACCOUNTS_CONF.replacen(grant, "\"nothing\" #", 1);
    assert_ne!(narrowed, ACCOUNTS_CONF, "the grant is in the file");

    world.reload_accounts(&narrowed).await;

    let names_it = |data: &Value| {
        let reasons = data["reasons"].as_array().expect("reasons");
        let is_named = reasons.iter().any(|reason| {
            let why = reason["why"].as_str().unwrap_or_default();
            reason["part"] == part && why.contains(text)
        });
        is_named && data["state"] == state
    };
    wait_for_stats(&world, names_it).await;
    if state == "unhealthy" {
        assert_eq!(health_code(&world).await, Some(8));
    }

    world.reload_accounts(ACCOUNTS_CONF).await;
    wait_for_stats(&world, |data| data["state"] == "healthy").await;

    caller.done("a.list", &json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_requests_is_unhealthy_meanwhile() {
    let grant = "\"favorites.v1.> favorites\"";
    take_away_and_give_back(grant, "unhealthy", "front", "favorites.v1.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_revocations_is_degraded_meanwhile() {
    // Other users have grants for the same subject, without this comment.
    let grant = "\"auth.v1.revoked\"                             # revocations";
    take_away_and_give_back(grant, "degraded", "rights", "auth.v1.revoked").await;
}
