//! Too much at once: a quick refusal, no memory kept, and the worker goes on.

use crate::harness::{Verifier, World, exclusive};
use async_nats::HeaderMap;
use futures::StreamExt as _;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use gofavorites::dev::tokens;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_tokens_costs_no_round_trip_and_keeps_no_memory() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let verifier = Verifier::honest(&world).await;
    let _worker = world.worker("a").await;
    let caller = world.caller("alice").await;
    let strangers = Secrets::generate().expect("secrets");
    for number in 0..2_000 {
        let bad = match number % 2 {
            0 => format!("garbage-{number}"),
            _ => tokens::token(
                &strangers,
                &number.to_string(),
                tokens::ALL_SCOPES,
                Duration::from_secs(60),
            )
            .expect("a token"),
        };
        caller
            .with_token(&bad)
            .ask("a.list", &json!({}))
            .await
            .refusal("unauthenticated");
    }
    assert!(verifier.questions().is_empty(), "nobody was asked");
    let told = &world.stats(1).await[0]["data"];
    assert_eq!(
        (&told["auth"]["kept"], &told["cache"]["owners"]),
        (&json!(0), &json!(0))
    );
    caller.done("a.list", &json!({})).await;
}

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
    let began = Instant::now();
    let sending = {
        let (client, headers) = (client.clone(), alice.headers());
        tokio::spawn(async move {
            for number in 0..REQUESTS {
                let reply = format!("{inbox}.{number}");
                let subject = "favorites.v1.shard.a.list";
                client
                    .publish_with_reply_and_headers(subject, reply, headers.clone(), "{}".into())
                    .await
                    .expect("sent");
            }
        })
    };
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..REQUESTS {
        let reply = tokio::time::timeout(Duration::from_secs(20), replies.next()).await;
        let reply = reply
            .unwrap_or_else(|_| panic!("some are not answered: {codes:?}"))
            .expect("open");
        let body: Value = serde_json::from_slice(&reply.payload).expect("JSON");
        *codes
            .entry(body["error"]["code"].as_str().unwrap_or("done").to_owned())
            .or_default() += 1;
    }
    sending.await.expect("no panic");
    println!(
        "{REQUESTS} requests at once: {codes:?} in {:?}",
        began.elapsed()
    );
    assert!(
        codes
            .keys()
            .all(|code| code == "done" || code == "overloaded"),
        "{codes:?}"
    );
    let told = &world.stats(1).await[0]["data"];
    assert_eq!(told["requests"]["lost_to_full_queues"], 0);
    assert_eq!(told["requests"]["in_flight"], 0);
    alice.done("a.list", &json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_its_replies_holds_up_nobody() {
    let _permit = exclusive().await;
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let big = "x".repeat(60_000);
    alice.put_text("a", "note", &big).await;
    // Spoken by hand: it asks and asks, and takes nothing from its socket.
    let address = world.nats.url().replace("nats://", "");
    let mut deaf = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    let connect = json!({"user": "gateway", "pass": world.secrets.nats("gateway"), "headers": true, "verbose": false});
    deaf.write_all(format!("CONNECT {connect}\r\nSUB _INBOX.deaf 1\r\nPING\r\n").as_bytes())
        .await
        .expect("sent");
    let mut greeting = vec![0; 8_192];
    let read = deaf.read(&mut greeting).await.expect("a greeting");
    assert!(read > 0);
    let headers = format!("NATS/1.0\r\nAuthorization: Bearer {}\r\n\r\n", alice.token);
    let length = headers.len();
    let ask = format!(
        "HPUB favorites.v1.shard.a.list _INBOX.deaf {length} {}\r\n{headers}{{}}\r\n",
        length + 2
    );
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    for _ in 0..2_000 {
        // The server may end the connection of one who does not read.
        match tokio::time::timeout(Duration::from_millis(200), deaf.write_all(ask.as_bytes())).await
        {
            Ok(Ok(())) => asked += 1,
            _ => break,
        }
        if asked % 100 == 0 {
            let began = Instant::now();
            bob.ask("a.get", &json!({"kind": "text", "id": "none"}))
                .await
                .refusal("not_found");
            slowest = slowest.max(began.elapsed());
        }
    }
    println!(
        "{asked} requests whose replies nobody read; another caller waited {slowest:?} at most"
    );
    assert!(asked >= 500 && slowest < Duration::from_secs(2));
    bob.done("a.list", &json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_headers_and_long_subjects_are_answered_or_refused_by_the_server() {
    let world = World::start().await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let mut headers: HeaderMap = alice.headers();
    headers.insert("X-Long", "x".repeat(60_000));
    let reply = alice.ask_with("a.list", headers, b"{}".to_vec()).await;
    assert!(
        reply.body["items"].is_array(),
        "a header that we do not know is nothing to us: {}",
        reply.body
    );
    let mut headers = alice.headers();
    headers.insert("Authorization", format!("Bearer {}", "x".repeat(60_000)));
    alice.ask_with("a.list", headers, b"{}".to_vec()).await;
    let mut headers = alice.headers();
    headers.insert("Nats-Msg-Id", "x".repeat(60_000));
    let refused = alice.ask_with("a.put", headers, b"{}".to_vec()).await;
    assert_eq!(
        refused.refusal("bad_request")["details"]["field"],
        "Nats-Msg-Id"
    );
    // A name of three thousand bytes is no operation; a subject of four thousand never passes the server.
    let long = "x".repeat(3_000);
    let refused = alice.ask(&format!("a.{long}"), &json!({})).await;
    assert!(
        refused.refusal("bad_request").to_string().len() < 2_000,
        "it is not repeated whole"
    );
    let other = world.caller("bob").await;
    let subject = format!("favorites.v1.{}", "x".repeat(4_096));
    let asked = other.client.request(subject, "{}".into());
    assert!(!matches!(
        tokio::time::timeout(Duration::from_secs(1), asked).await,
        Ok(Ok(_))
    ));
    alice.done("a.list", &json!({})).await;
    assert_eq!(worker.counters.dropped().hostile_reply_subject, 0);
}
