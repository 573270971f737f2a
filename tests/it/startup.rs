//! Starting and stopping: what a worker refuses to start with, and that it leaves no request behind.

use crate::harness::World;
use gofavorites::dev::secrets::Secrets;
use serde_json::json;

/// Why a worker with these settings does not start.
async fn refused(world: &World, settings: gofavorites::config::Settings) -> String {
    match world.try_worker(settings).await {
        Ok(_) => panic!("it started"),
        Err(fault) => format!("{fault:#}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bucket_it_says_what_to_run() {
    let world = World::start().await;
    world.shared.postgres.create_database(&world.database("a")).expect("a database");
    let fault = refused(&world, world.settings("a")).await;
    assert!(fault.contains("gofavorites init"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_may_be_run_again_and_changes_nothing() {
    let world = World::start().await;
    assert!(world.init(&world.settings("a")).await.expect("init").bucket_made);
    assert!(!world.init(&world.settings("a")).await.expect("init").bucket_made);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_key_than_the_buckets_it_does_not_start() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let other = Secrets::generate().expect("secrets");
    let mut settings = world.settings("a");
    settings.keys.identity = other.identity.clone();
    let fault = refused(&world, settings).await;
    assert!(fault.contains("identity-key") && fault.contains("keys.identity"), "{fault}");
    assert!(!fault.contains(&other.identity), "no key is printed");
    let mut settings = world.settings("a");
    settings.keys.encryption = other.encryption;
    let fault = refused(&world, settings).await;
    assert!(fault.contains("encryption-key") && fault.contains("keys.encryption"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_differs_in_what_matters_is_named() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let mut settings = world.settings("a");
    settings.truth.history = 5;
    let fault = refused(&world, settings).await;
    assert!(fault.contains("max_msgs_per_subject") && fault.contains("16"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_wrong_are_named_together() {
    let world = World::start().await;
    let mut settings = world.settings("A!");
    settings.truth.replicas = 2;
    settings.limits.in_flight = 0;
    let fault = refused(&world, settings).await;
    for setting in ["shard.id", "truth.replicas", "limits.in_flight"] {
        assert!(fault.contains(setting), "{setting} is missing in {fault}");
    }
    let mut settings = world.settings("a");
    settings.auth.verdict_keys = "{}".into();
    assert!(refused(&world, settings).await.contains("auth.verdict_keys"));
    let mut settings = world.settings("a");
    settings.nats.password = "wrong".into();
    assert!(refused(&world, settings).await.contains("nats.password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_were_taken_are_answered_before_it_stops() {
    let world = World::start().await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    let counters = worker.counters.clone();
    let before = counters.answered();
    let asked: Vec<_> = (0..300)
        .map(|number| {
            let alice = alice.clone();
            tokio::spawn(async move {
                let body = json!({"kind": "text", "id": format!("n{}", number % 40), "data": {"text": "y"}});
                let subject = "favorites.v1.shard.a.put".to_owned();
                alice.client.request_with_headers(subject, alice.headers(), body.to_string().into()).await
            })
        })
        .collect();
    while counters.answered() < before + 20 {
        tokio::task::yield_now().await;
    }
    worker.stop().await.expect("stopped in order");
    let answered = counters.answered() - before;
    let (mut replies, mut nobody) = (0, 0);
    for one in asked {
        match one.await.expect("no panic") {
            Ok(reply) => {
                assert!(!reply.payload.is_empty());
                replies += 1;
            }
            Err(fault) => {
                assert_eq!(fault.kind(), async_nats::client::RequestErrorKind::NoResponders, "{fault}");
                nobody += 1;
            }
        }
    }
    println!("{replies} replies, {nobody} told that nobody is there, {answered} answered by the worker");
    assert_eq!(replies, answered, "each reply that was sent has arrived");
    assert_eq!(replies + nobody, 300, "no request waits in vain");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_what_a_worker_takes_a_request_is_refused_quickly() {
    let world = World::without_auth(gofavorites::dev::nats::ACCOUNTS_CONF).await;
    let mut settings = world.settings("a");
    settings.limits.in_flight = 4;
    settings.auth.timeout_ms = 3_000;
    let _worker = world.worker_with(settings).await;
    // An auth service that never answers keeps the permits taken.
    let silent = world.connect("auth").await;
    let _questions = silent.queue_subscribe("auth.v1.verify", "auth".into()).await.expect("subscribed");
    silent.flush().await.expect("sent");
    let callers = (0..20).map(|number| async move { number });
    let mut replies = Vec::new();
    for number in futures::future::join_all(callers).await {
        let caller = world.caller(&format!("c{number}")).await;
        replies.push(tokio::spawn(async move { caller.ask("a.list", &json!({})).await }));
    }
    let mut overloaded = 0;
    for reply in replies {
        let reply = reply.await.expect("no panic");
        if reply.body["error"]["code"] == "overloaded" {
            assert!(reply.body["error"]["details"]["retry_after_ms"].is_u64());
            overloaded += 1;
        }
    }
    assert_eq!(overloaded, 16);
}
