//! Headers and subjects that nobody's client would send, and that the server passes on: each is answered, and the worker
//! neither ends nor loses its connection over it.

use crate::harness::{ByHand, World};
use serde_json::json;

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

/// Whether the worker answers others, and has had one connection all the time.
async fn assert_unharmed(world: &World) {
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    let told = &world.stats(1).await[0]["data"];
    assert_eq!(
        told["nats"]["connections"], 1,
        "it has not lost its connection"
    );
    assert_eq!(told["requests"]["in_flight"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_cannot_be_read_are_refused_and_harm_nobody() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let mut stranger = ByHand::connect(&world, "gateway").await;
    for subject in [
        &b"favorites.v1.get"[..],
        b"favorites.v1.shard.a.put",
        b"favorites.v1.version",
        b"favorites.v1.\xff",
    ] {
        for headers in UNREADABLE {
            let case = format!("{} {}", subject.escape_ascii(), headers.escape_ascii());
            stranger
                .publish(subject, ByHand::INBOX.as_bytes(), headers, b"{}")
                .await;
            let refusal = stranger
                .refusal()
                .await
                .unwrap_or_else(|| panic!("no reply: {case}"));
            assert_eq!(refusal["code"], "bad_request", "{case}: {refusal}");
            assert_eq!(refusal["message"], "the headers cannot be read", "{case}");
        }
    }
    assert_unharmed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_question_of_discovery_ends_a_worker() {
    let world = World::start().await;
    let _workers = (world.worker("a").await, world.worker("b").await);
    let mut stranger = ByHand::connect(&world, "gateway").await;
    for subject in ["$SRV.PING", "$SRV.INFO.favorites", "$SRV.STATS"] {
        for headers in UNREADABLE {
            stranger
                .publish(subject.as_bytes(), ByHand::INBOX.as_bytes(), headers, b"")
                .await;
        }
    }
    stranger.send(b"PING\r\n").await;
    for told in world.stats(2).await {
        assert_eq!(told["data"]["nats"]["connections"], 1);
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
    let inbox = ByHand::INBOX;
    for subject in [
        &b"favorites.v1.\xff"[..],
        b"favorites.v1.g\xc2\xa0et",
        b"favorites.v1.shard.a.\xe2\x80\x83",
    ] {
        // With headers and without them, which are two forms of a message on its way to the worker.
        stranger
            .publish(
                subject,
                inbox.as_bytes(),
                b"NATS/1.0\r\nX: y\r\n\r\n",
                b"{}",
            )
            .await;
        let case = subject.escape_ascii();
        let refusal = stranger
            .refusal()
            .await
            .unwrap_or_else(|| panic!("no reply: {case}"));
        assert_eq!(refusal["code"], "bad_request", "{case}: {refusal}");
        stranger
            .send(&[b"PUB ", subject, b" ", inbox.as_bytes(), b" 2\r\n{}\r\n"].concat())
            .await;
        let refusal = stranger
            .refusal()
            .await
            .unwrap_or_else(|| panic!("no reply: {case}"));
        assert_eq!(refusal["code"], "bad_request", "{case}: {refusal}");
    }
    // The server makes a reply subject of its own of a caller's, whatever that is; one of the worker's own account
    // arrives as it was written.
    for reply in [&b"_INBOX.by_hand.\xff"[..], b"_INBOX.by_hand.\xc2\xa0"] {
        stranger
            .publish(b"favorites.v1.get", reply, b"NATS/1.0\r\n\r\n", b"{}")
            .await;
        let refusal = stranger.refusal().await.expect("a reply");
        assert_eq!(refusal["code"], "unauthenticated", "{refusal}");
    }
    assert_unharmed(&world).await;
}
