//! Stopping: at any moment, in order, with an exit code that says how it went.

use crate::harness::{Proxy, World};
use gofavorites::app::App;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::Duration;
use tokio::sync::oneshot;

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_by_either_signal_it_ends_with_0() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let alice = world.caller("alice").await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut worker = world.serve(world.settings("a"));
        worker.is_ready().await;
        let reply = alice
            .ask(
                "a.put",
                &json!({"kind": "text", "id": "note", "data": {"text": "x"}}),
            )
            .await;
        let refused = alice
            .ask("a.get", &json!({"kind": "text", "id": "none"}))
            .await;
        for (reply, code) in [(reply, "ok"), (refused, "not_found")] {
            let (log, id) = (worker.log(), reply.header("Request-Id").to_owned());
            let line = log
                .lines()
                .find(|line| line.contains(&format!("request {id} was answered")));
            let line = line.unwrap_or_else(|| panic!("the log does not have {id}: {log}"));
            assert!(
                line.contains(code) && line.contains("took_us") && line.contains("\"operation\""),
                "{line}"
            );
        }
        worker.signal(signal);
        assert_eq!(
            worker.ended().await.code(),
            Some(0),
            "{signal}: {}",
            worker.log()
        );
        assert!(worker.log().contains(signal.as_str()), "{}", worker.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_ends_in_order_when_it_is_told_to() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let nats = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    let mut settings = world.settings("a");
    settings.nats.url = format!("nats://127.0.0.1:{}", nats.port());
    nats.cut();
    let mut worker = world.serve(settings);
    worker.says("waiting for NATS").await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
    let mut settings = world.settings("a");
    let (start, rest) = settings.postgres.url.split_once('@').expect("a user");
    let (target, database) = rest.split_once('/').expect("a database");
    let postgres = Proxy::start(target).await;
    settings.postgres.url = format!("{start}@127.0.0.1:{}/{database}", postgres.port());
    postgres.cut();
    let mut worker = world.serve(settings);
    worker.says("waiting for Postgres").await;
    worker.signal(Signal::SIGINT);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_outlive_the_grace_period_show_in_the_exit_code() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    world.init(&world.settings("a")).await.expect("init");
    // An auth service that never answers keeps a request under way.
    let silent = world.connect("auth_service").await;
    let _questions = silent
        .queue_subscribe("auth.v1.verify", "auth".into())
        .await
        .expect("subscribed");
    silent.flush().await.expect("sent");
    let mut settings = world.settings("a");
    settings.auth.timeout_ms = 60_000;
    settings.limits.deadline_ms = 30_000;
    settings.worker.grace_ms = 300;
    let mut worker = world.serve(settings);
    worker.is_ready().await;
    let alice = world.caller("alice").await;
    let asked = alice
        .client
        .subscribe("_INBOX.never")
        .await
        .expect("subscribed");
    let headers = alice.headers();
    let publish = alice.client.publish_with_reply_and_headers(
        "favorites.v1.list",
        "_INBOX.never",
        headers,
        "".into(),
    );
    publish.await.expect("sent");
    // Answered after it was taken, since both came the same way.
    alice.done("version", &json!({})).await;
    worker.signal(Signal::SIGTERM);
    let code = worker.ended().await.code().expect("no signal");
    assert!(
        code != 0
            && worker
                .log()
                .contains("1 requests were not finished in time"),
        "{code}: {}",
        worker.log()
    );
    drop(asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_stop_while_it_looks_round_finishes_what_it_took() {
    let (world, mut hub) = World::behind_a_hub().await;
    let settings = world.settings("a");
    world.init(&settings).await.expect("init");
    let app = App::build(settings).await.expect("built");
    let counters = app.counters();
    // The last look before it is ready asks the truth, which does not answer now.
    hub.server
        .process()
        .signal(Signal::SIGSTOP)
        .expect("stopped");
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async {
        let _ = stopped.await;
    }));
    world.wait_for_worker("a").await;
    let before = counters.answered();
    let alice = world.caller("alice").await;
    let mut headers = alice.headers();
    headers.insert("Request-Timeout-Ms", "1000");
    let asked = tokio::spawn({
        let alice = alice.clone();
        async move { alice.ask_with("a.list", headers, b"{}".to_vec()).await }
    });
    alice.done("a.version", &json!({})).await;
    assert_eq!(counters.answered(), before + 1, "the request is under way");
    stop.send(()).expect("running");
    let reply = tokio::time::timeout(Duration::from_secs(3), asked)
        .await
        .expect("in time")
        .expect("a reply");
    assert!(
        reply.body["error"]["status"].as_u64() >= Some(503),
        "{}",
        reply.body
    );
    let ended = tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .expect("it ends")
        .expect("no panic");
    ended.expect("stopped in order");
    hub.server
        .process()
        .signal(Signal::SIGCONT)
        .expect("continued");
}
