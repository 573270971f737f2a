//! Stopping: a worker stops at any moment and in order, and its exit code says how it went.

use crate::harness::{Process, Proxy, Reply, World};
use async_nats::RequestErrorKind;
use gofavorites::app::{App, SettingsStatus};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::Duration;
use tokio::sync::oneshot;

/// Checks that the log has a line on the request of this reply, with that code.
async fn check_logged(worker: &mut Process, reply: &Reply, code: &str) {
    let id = reply.header("Request-Id");
    let message = "\"message\":\"a request was answered\"";

    let line = worker.line_with([id, message]).await;

    for part in [code, "took_us", "\"operation\""] {
        assert!(line.contains(part), "{part} is missing in: {line}");
    }
}

/// Goal: a worker stops in order on either signal, with exit code 0, and logs every request.
///
/// Method: for each signal, a worker runs as a process. A caller gets one reply and one refusal,
/// and the worker gets the signal.
#[tokio::test(flavor = "multi_thread")]
async fn either_signal_stops_a_worker_with_exit_code_0() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let alice = world.caller("alice").await;
    let note = json!({"kind": "text", "id": "note", "data": {"text": "x"}});
    let none = json!({"kind": "text", "id": "none"});

    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut worker = world.serve(world.settings("a"));
        worker.is_ready().await;

        let put = alice.ask("a.put", &note).await;
        let not_found = alice.ask("a.get", &none).await;
        check_logged(&mut worker, &put, "ok").await;
        check_logged(&mut worker, &not_found, "not_found").await;

        worker.signal(signal);
        let status = worker.ended().await;
        let log = worker.log();
        assert_eq!(status.code(), Some(0), "{signal}: {log}");
        assert!(log.contains(signal.as_str()), "{log}");
    }
}

/// Goal: a worker that waits for a server at its start stops in order on a signal.
///
/// Method: one worker process waits for NATS, and another one for Postgres, behind proxies that are
/// cut. Each gets a signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_at_its_start_stops_in_order() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");

    let nats = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    let mut without_nats = world.settings("a");
    without_nats.nats.url = format!("nats://127.0.0.1:{}", nats.port());
    nats.cut();

    let mut without_postgres = world.settings("a");
    let url = without_postgres.postgres.url.clone();
    let (start, rest) = url.split_once('@').expect("a user");
    let (target, database) = rest.split_once('/').expect("a database");
    let postgres = Proxy::start(target).await;
    without_postgres.postgres.url = format!("{start}@127.0.0.1:{}/{database}", postgres.port());
    postgres.cut();

    let mut worker = world.serve(without_nats);
    worker.says("waiting for NATS").await;
    worker.signal(Signal::SIGTERM);
    let status = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{}", worker.log());

    let mut worker = world.serve(without_postgres);
    worker.says("waiting for Postgres").await;
    worker.signal(Signal::SIGINT);
    let status = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{}", worker.log());
}

/// Goal: if a request is not finished within the grace period, the exit code is not 0.
///
/// Method: the auth service never answers, so a request stays under way. A second request, which
/// needs no token, shows that the worker has accepted the first one. Then the worker gets a signal.
#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_request_shows_in_the_exit_code() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    world.init(&world.settings("a")).await.expect("init");
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
    let inbox = "_INBOX.never";
    let _replies = alice.client.subscribe(inbox).await.expect("subscribed");

    alice
        .client
        .publish_with_reply_and_headers("favorites.v1.list", inbox, alice.headers(), "".into())
        .await
        .expect("sent");
    // Both come over the same connection, so the worker accepts this one later.
    alice.done("version", &json!({})).await;

    worker.signal(Signal::SIGTERM);

    let status = worker.ended().await;
    let log = worker.log();
    let code = status.code().expect("not ended by a signal");
    assert_ne!(code, 0, "{log}");
    assert!(
        log.contains("1 requests were not finished in time"),
        "{log}"
    );
}

/// Goal: a worker that is stopped during its last checks ends in order, and takes no request before
/// they have succeeded.
///
/// Method: the hub with the bucket is paused, so the checks do not end.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stopped_during_its_checks_takes_no_request() {
    let (world, mut hub) = World::behind_a_hub().await;
    let settings = world.settings("a");
    world.init(&settings).await.expect("init");
    let app = App::build(settings, SettingsStatus::default())
        .await
        .expect("built");
    let counters = app.counters();
    let gateway = world.connect("gateway").await;

    hub.pause();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await;
    };
    let running = tokio::spawn(app.run(stopped, || ()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let request = gateway.request("favorites.v1.shard.a.version", "".into());
    let error = request.await.expect_err("nobody subscribes");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    stop.send(()).expect("running");

    let ended = tokio::time::timeout(Duration::from_secs(2), running).await;
    let ended = ended.expect("it ends").expect("no panic");
    ended.expect("stopped in order");
    assert_eq!(counters.answered(), 0);
    hub.resume();
}
