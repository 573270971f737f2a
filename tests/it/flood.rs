//! Overload: a worker refuses quickly what is too much, keeps no memory for it, and serves on.

use crate::harness::load::{Load, Outcome};
use crate::harness::{ByHand, Caller, Verifier, World, exclusive};
use async_nats::{HeaderMap, Subscriber};
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use gofavorites::dev::tokens;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Goal: a token that is no token, or signed with an unknown key, is refused by the worker alone.
///
/// Method: one caller sends two thousand of them, while an auth service records its questions.
/// There must be none, and the worker's caches must be empty.
#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_cost_no_question_and_no_memory() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;

    let foreign_keys = Secrets::generate().expect("secrets");
    for number in 0..2_000 {
        let bad = if number % 2 == 0 {
            format!("garbage-{number}")
        } else {
            let subject = number.to_string();
            let ttl = Duration::from_secs(60);
            tokens::token(&foreign_keys, &subject, tokens::ALL_SCOPES, ttl).expect("a token")
        };

        // Nor is a body decoded: this one is no JSON.
        let reply = caller.with_token(&bad).ask("a.list", &json!("{")).await;
        reply.refusal("unauthenticated");
    }

    assert!(
        verifier.questions().is_empty(),
        "the auth service was asked"
    );
    let stats = &world.stats(1).await[0]["data"];
    assert_eq!(stats["auth"]["kept"], 0);
    assert_eq!(stats["cache"]["owners"], 0);
    caller.done("a.list", &json!({})).await;
}

/// Counts the codes of so many replies, `done` for those that are no refusal.
async fn count_codes(replies: &mut Subscriber, count: usize) -> BTreeMap<String, usize> {
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..count {
        let reply = tokio::time::timeout(Duration::from_secs(20), replies.next()).await;
        let reply = reply
            .unwrap_or_else(|_| panic!("requests without a reply: {codes:?}"))
            .expect("an open subscription");

        let body: Value = serde_json::from_slice(&reply.payload).expect("JSON");
        let code = body["error"]["code"].as_str().unwrap_or("done");
        *codes.entry(code.to_owned()).or_default() += 1;
    }

    codes
}

/// Goal: each of ten thousand simultaneous requests gets a reply, `overloaded` at worst.
///
/// Method: one task publishes all requests while the test counts the replies of a worker that
/// handles 256 requests at a time. The worker's own counters must show that nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_ten_thousand_requests_at_once_each_is_answered() {
    const REQUESTS: usize = 10_000;
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.in_flight = 256;
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;

    let client = world.connect("gateway").await;
    let inbox = client.new_inbox();
    let mut replies = client
        .subscribe(format!("{inbox}.*"))
        .await
        .expect("a subscription");

    let start = Instant::now();

    let sending = tokio::spawn({
        let client = client.clone();
        let headers = alice.headers();
        async move {
            for number in 0..REQUESTS {
                let reply = format!("{inbox}.{number}");
                let subject = "favorites.v1.shard.a.list";
                client
                    .publish_with_reply_and_headers(subject, reply, headers.clone(), "{}".into())
                    .await
                    .expect("sent");
            }
        }
    });
    let codes = count_codes(&mut replies, REQUESTS).await;
    sending.await.expect("no panic");
    let took = start.elapsed();

    println!("{REQUESTS} requests at once: {codes:?} in {took:?}");

    assert!(
        codes
            .keys()
            .all(|code| code == "done" || code == "overloaded"),
        "{codes:?}"
    );

    let stats = &world.stats(1).await[0]["data"];
    assert_eq!(stats["requests"]["lost_to_full_queues"], 0);
    assert_eq!(stats["requests"]["in_flight"], 0);
    alice.done("a.list", &json!({})).await;
}

/// A NATS connection by hand, with a subscription to `_INBOX.deaf` from which nothing is read.
async fn connect_without_reading(world: &World) -> TcpStream {
    let address = world.nats.url().replace("nats://", "");
    let mut stream = TcpStream::connect(address).await.expect("a connection");

    let password = world.secrets.nats("gateway");
    let connect = json!({"user": "gateway", "pass": password, "headers": true, "verbose": false});
    let greeting = format!("CONNECT {connect}\r\nSUB _INBOX.deaf 1\r\nPING\r\n");
    stream.write_all(greeting.as_bytes()).await.expect("sent");

    let mut answer = vec![0; 8_192];
    let length = stream.read(&mut answer).await.expect("a greeting");
    assert!(length > 0);

    stream
}

/// The bytes of a list request whose reply goes to `_INBOX.deaf`.
fn list_request(caller: &Caller) -> Vec<u8> {
    let headers = format!("NATS/1.0\r\nAuthorization: Bearer {}\r\n\r\n", caller.token);
    let headers_length = headers.len();
    let length = headers_length + 2;

    format!(
        "HPUB favorites.v1.shard.a.list _INBOX.deaf {headers_length} {length}\r\n{headers}{{}}\r\n"
    )
    .into_bytes()
}

/// Goal: a client that reads none of its replies does not slow down other callers.
///
/// Method: one client sends up to two thousand requests for 60 KB and reads nothing from its
/// socket. After every hundred of them another caller's request is timed.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_does_not_delay_others() {
    let _permit = exclusive().await;
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;

    alice.put_text("a", "note", &"x".repeat(60_000)).await;
    let mut deaf = connect_without_reading(&world).await;
    let request = list_request(&alice);

    let mut sent = 0;
    let mut slowest = Duration::ZERO;
    for _ in 0..2_000 {
        let sending = deaf.write_all(&request);
        match tokio::time::timeout(Duration::from_millis(200), sending).await {
            Ok(Ok(())) => sent += 1,
            // The server may close a connection that is not read.
            _ => break,
        }

        if sent % 100 == 0 {
            let start = Instant::now();
            let get = json!({"kind": "text", "id": "none"});
            bob.ask("a.get", &get).await.refusal("not_found");
            slowest = slowest.max(start.elapsed());
        }
    }

    println!("{sent} requests with unread replies; another caller waited {slowest:?} at most");

    assert!(sent >= 500, "only {sent} requests were sent");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    bob.done("a.list", &json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_headers_and_subjects_are_answered_or_rejected() {
    let world = World::start().await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;

    let mut unknown_header: HeaderMap = alice.headers();
    unknown_header.insert("X-Long", "x".repeat(60_000));
    let reply = alice
        .ask_with("a.list", unknown_header, b"{}".to_vec())
        .await;

    assert!(
        reply.body["items"].is_array(),
        "an unknown header is ignored: {}",
        reply.body
    );

    let mut long_token = alice.headers();
    long_token.insert("Authorization", format!("Bearer {}", "x".repeat(60_000)));
    alice.ask_with("a.list", long_token, b"{}".to_vec()).await;

    let mut long_id = alice.headers();
    long_id.insert("Nats-Msg-Id", "x".repeat(60_000));
    let reply = alice.ask_with("a.put", long_id, b"{}".to_vec()).await;
    let details = &reply.refusal("bad_request")["details"];
    assert_eq!(details["field"], "Nats-Msg-Id");

    // The worker refuses an operation of 3,000 bytes; the server rejects a subject of 4,096.
    let long = "x".repeat(3_000);
    let reply = alice.ask(&format!("a.{long}"), &json!({})).await;
    assert!(
        reply.refusal("bad_request").to_string().len() < 2_000,
        "the refusal does not repeat the complete name"
    );

    let bob = world.caller("bob").await;
    let subject = format!("favorites.v1.{}", "x".repeat(4_096));
    let request = bob.client.request(subject, "{}".into());
    let result = tokio::time::timeout(Duration::from_secs(1), request).await;
    assert!(!matches!(result, Ok(Ok(_))));

    alice.done("a.list", &json!({})).await;
    assert_eq!(worker.counters.dropped().hostile_reply_subject, 0);
}

/// Goal: a caller who sends unreadable messages as fast as they can disturbs no other caller.
///
/// Method: a client by hand sends a thousand of them a second to requests and to discovery, for ten
/// seconds. Meanwhile eight callers write and read through two workers. All their requests must be
/// answered normally at the first try, and no connection may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_unreadable_messages_disturbs_nobody() {
    const STORM: Duration = Duration::from_secs(10);
    let _permit = exclusive().await;
    let world = World::start().await;
    let _first = world.worker("a").await;
    let _second = world.worker("a").await;
    let load = Load::start(&world, &["a"], 8, false).await;
    load.progress(400).await;
    let before = Instant::now();
    load.progress(2_000).await;

    let start = Instant::now();
    let sent = send_unreadable(&world, STORM).await;
    let end = Instant::now();
    let mut report = load.stop().await;

    let quantiles = |from, to| [0.5, 0.99].map(|share| report.read_quantile(share, from, to));
    println!(
        "{sent} unreadable messages in {:?}: p50 and p99 of reads {:?}, before {:?}",
        end - start,
        quantiles(start, end),
        quantiles(before, start)
    );
    assert!(sent >= 9_000, "a storm: {sent}");
    report.only(&[], &[Outcome::Pending]);
    for worker in world.stats(2).await {
        let nats = &worker["data"]["nats"];
        assert_eq!(nats["connections"], 1, "{nats}");
        assert_eq!(nats["truth"]["connections"], 1, "{nats}");
        assert_eq!(nats["auth"]["connections"], 1, "{nats}");
    }
    report.verify(&["a"]).await;
    report.is_clean();
}

/// Sends a thousand unreadable messages a second, and returns how many were sent.
async fn send_unreadable(world: &World, time: Duration) -> usize {
    let mut stranger = ByHand::connect(world, "gateway").await;
    let headers: [&[u8]; 3] = [
        b"NATS/1.0\r\nX: a\rb\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"\0\r\r\xff",
    ];
    let subjects: [&[u8]; 3] = [b"favorites.v1.get", b"$SRV.PING", b"favorites.v1.\xff"];
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let start = Instant::now();
    let mut sent = 0;

    while start.elapsed() < time {
        ticks.tick().await;
        for _ in 0..10 {
            let subject = subjects[sent % subjects.len()];
            let headers = headers[sent / subjects.len() % headers.len()];
            stranger
                .publish(subject, b"_INBOX.nobody", headers, b"{}")
                .await;
            sent += 1;
        }
    }

    sent
}
