//! Headers and subjects that no client library sends but the NATS server passes on: each request
//! is answered, and the worker neither ends nor loses its connection.

use crate::harness::{ByHand, World};
use serde_json::{Value, json};

/// Header blocks that cannot be read.
const UNREADABLE: [&[u8]; 11] = [
    b"NATS/1.0\r\nX: a\rb\r\n\r\n",
    b"NATS/1.0\r\nAuthorization: Bearer a\rb\r\n\r\n",
    b"NATS/1.0\r\nX: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\n\xff: x\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0\r\na name: x\r\n\r\n",
    b"NATS/2.0\r\n\r\n",
    b"NATS/1.0 99999\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"\r\n\r\n",
    b"\0\r\r\xff",
];

/// Asserts that the worker serves other callers, and has had one connection all the time.
async fn assert_unharmed(world: &World) {
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;

    let stats = &world.stats(1).await[0]["data"];
    assert_eq!(
        stats["nats"]["connections"], 1,
        "the worker never lost its connection"
    );
    assert_eq!(stats["requests"]["in_flight"], 0);
}

/// The refusal that comes next.
async fn next_refusal(stranger: &mut ByHand, request: &str) -> Value {
    stranger
        .refusal()
        .await
        .unwrap_or_else(|| panic!("no reply: {request}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_headers_are_refused_and_harm_no_caller() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let mut stranger = ByHand::connect(&world, "gateway").await;
    let inbox = ByHand::INBOX.as_bytes();

    for subject in [
        &b"favorites.v1.get"[..],
        b"favorites.v1.shard.a.put",
        b"favorites.v1.version",
        b"favorites.v1.\xff",
    ] {
        for headers in UNREADABLE {
            let request = format!("{} {}", subject.escape_ascii(), headers.escape_ascii());
            stranger.publish(subject, inbox, headers, b"{}").await;
            let refusal = next_refusal(&mut stranger, &request).await;

            assert_eq!(refusal["code"], "bad_request", "{request}: {refusal}");
            assert_eq!(
                refusal["message"], "the headers cannot be read",
                "{request}"
            );
        }
    }

    assert_unharmed(&world).await;
}

/// Goal: discovery requests with unreadable headers disconnect no worker of any shard.
///
/// Method: a client by hand sends them to the subjects of discovery; then the workers of two
/// shards are asked for their count of connections, and a caller is served by both.
#[tokio::test(flavor = "multi_thread")]
async fn no_discovery_request_ends_a_worker() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let _b = world.worker("b").await;
    let mut stranger = ByHand::connect(&world, "gateway").await;
    let inbox = ByHand::INBOX.as_bytes();

    for subject in ["$SRV.PING", "$SRV.INFO.favorites", "$SRV.STATS"] {
        for headers in UNREADABLE {
            stranger
                .publish(subject.as_bytes(), inbox, headers, b"")
                .await;
        }
    }

    stranger.send(b"PING\r\n").await;

    for stats in world.stats(2).await {
        assert_eq!(stats["data"]["nats"]["connections"], 1);
    }

    let alice = world.caller("alice").await;
    alice.done("a.list", &json!({})).await;
    alice.done("b.list", &json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_that_are_no_text_are_unknown_operations() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let mut stranger = ByHand::connect(&world, "gateway").await;
    let inbox = ByHand::INBOX.as_bytes();

    let valid_headers = b"NATS/1.0\r\nX: y\r\n\r\n";

    // The server sends a message with headers and one without in different forms.
    for subject in [
        &b"favorites.v1.\xff"[..],
        b"favorites.v1.g\xc2\xa0et",
        b"favorites.v1.shard.a.\xe2\x80\x83",
    ] {
        let request = subject.escape_ascii().to_string();
        let without_headers = [b"PUB ", subject, b" ", inbox, b" 2\r\n{}\r\n"].concat();

        stranger.publish(subject, inbox, valid_headers, b"{}").await;
        let refusal = next_refusal(&mut stranger, &request).await;
        assert_eq!(refusal["code"], "bad_request", "{request}: {refusal}");

        stranger.send(&without_headers).await;
        let refusal = next_refusal(&mut stranger, &request).await;
        assert_eq!(refusal["code"], "bad_request", "{request}: {refusal}");
    }

    // Between accounts the server replaces the reply subject, so any is answered; within the
    // worker's own account it arrives as it was sent.
    for reply in [&b"_INBOX.by_hand.\xff"[..], b"_INBOX.by_hand.\xc2\xa0"] {
        stranger
            .publish(b"favorites.v1.get", reply, b"NATS/1.0\r\n\r\n", b"{}")
            .await;
        let refusal = stranger.refusal().await.expect("a reply");

        assert_eq!(refusal["code"], "unauthenticated", "{refusal}");
    }

    assert_unharmed(&world).await;
}
