//! Revocation: a revoked token stops working on every worker, and no cached verdict outlives a
//! revocation that a worker missed.

use crate::harness::{Caller, Verifier, World, exclusive};
use async_nats::Client;
use gofavorites::dev::auth_service::{AuthService, REVOKED_SUBJECT, RevokedTokens};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use gofavorites::dev::tokens::{token, unix_now};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The longest time for which a revoked token may still work.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(1);

/// The subjects whose tokens the auth service no longer vouches for.
type RevokedSubjects = Arc<Mutex<HashSet<String>>>;

/// Returns the middle part of a token, which holds the claims.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let part = token.split('.').nth(1).expect("a JWT");
    let json = URL_SAFE_NO_PAD.decode(part).expect("base64url");

    serde_json::from_slice(&json).expect("claims")
}

/// Returns a token of an unknown issuer. The verdict on it is "not active".
fn foreign_token() -> String {
    let secrets = Secrets::generate().expect("secrets");

    token(&secrets, "x", "", REVOCATION_TIMEOUT).expect("a token")
}

/// Starts an auth service that vouches for every subject except the revoked ones.
async fn verifier(world: &World, revoked: &RevokedSubjects) -> Verifier {
    let revoked = revoked.clone();
    let foreign = foreign_token();

    Verifier::start(world, move |service, token| {
        let claims = claims(token);
        let subject = claims["sub"].as_str().unwrap_or_default();
        if revoked.lock().expect("no panic").contains(subject) {
            return Some(negative_verdict(service, token, &foreign));
        }

        service.verdict(token).ok()
    })
    .await
}

/// Returns a signed verdict that the token is not active: the verdict on a foreign token, changed
/// to be about this one.
fn negative_verdict(service: &AuthService, token: &str, foreign: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let hash = gofavorites::seal::sha256(token.as_bytes());
    let mut verdict = claims(&service.verdict(foreign).expect("signed"));
    verdict["token_sha256"] = json!(URL_SAFE_NO_PAD.encode(hash));

    service
        .sign("token-introspection+jwt", &verdict)
        .expect("signed")
}

fn revoke_subject(revoked: &RevokedSubjects, subject: &str) {
    revoked.lock().expect("no panic").insert(subject.into());
}

/// Publishes a message on the revocation subject.
async fn publish(world: &World, message: &str) {
    let auth = world.connect("auth_service").await;

    auth.publish(REVOKED_SUBJECT, message.to_owned().into())
        .await
        .expect("sent");
    auth.flush().await.expect("sent");
}

/// Returns a signed revocation of a subject's tokens, or of a session's.
fn revocation(world: &World, sub: Option<&str>, sid: Option<&str>) -> String {
    let service = AuthService::new(&world.secrets).expect("keys");
    let revoked = RevokedTokens {
        sub: sub.map(str::to_owned),
        sid: sid.map(str::to_owned),
        iat: unix_now(),
    };

    service.revocation(&revoked).expect("signed")
}

async fn is_let_in(caller: &Caller, shard: &str) -> bool {
    let reply = caller.ask(&format!("{shard}.list"), &json!({})).await;

    match reply.body["error"]["code"].as_str() {
        None => true,
        Some("unauthenticated") => false,
        Some(other) => panic!("refused as {other}"),
    }
}

/// Waits until no shard lets the caller in, and returns how long that took since `start`.
async fn time_until_refused(caller: &Caller, start: Instant) -> Duration {
    for shard in ["a", "b"] {
        while is_let_in(caller, shard).await {
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "a revoked token still works"
            );
        }
    }

    start.elapsed()
}

/// Goal: a revocation of a subject or a session takes effect on every worker within a second, and
/// touches no other caller.
///
/// Method: three callers are let in on two shards. The auth service revokes alice's tokens, then
/// the first of bob's two sessions. Bob's second session and carol have to stay let in without a
/// new question, because the service would refuse bob.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_everywhere_within_a_second() {
    let _permit = exclusive().await;
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let revoked = RevokedSubjects::default();
    let _verifier = verifier(&world, &revoked).await;
    let _a = world.worker("a").await;
    let _b = world.worker("b").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    let carol = world.caller("carol").await;

    for caller in [&alice, &bob, &carol] {
        assert!(is_let_in(caller, "a").await);
        assert!(is_let_in(caller, "b").await);
    }

    revoke_subject(&revoked, "alice");
    assert!(
        is_let_in(&alice, "a").await,
        "a cached verdict counts until the revocation is published"
    );

    let start = Instant::now();
    publish(&world, &revocation(&world, Some("alice"), None)).await;
    let by_subject = time_until_refused(&alice, start).await;

    let claims = claims(&bob.token);
    let session = claims["sid"].as_str().expect("a session");
    let other_session = world.caller("bob").await;
    assert!(is_let_in(&other_session, "a").await);

    revoke_subject(&revoked, "bob");
    let start = Instant::now();
    publish(&world, &revocation(&world, None, Some(session))).await;
    let by_session = time_until_refused(&bob, start).await;

    assert!(
        is_let_in(&other_session, "a").await,
        "the verdict on another session stays"
    );
    for shard in ["a", "b"] {
        assert!(is_let_in(&carol, shard).await, "another caller stays");
    }

    println!("refused everywhere after {by_subject:?} by subject, {by_session:?} by session");
    assert!(by_subject < REVOCATION_TIMEOUT);
    assert!(by_session < REVOCATION_TIMEOUT);
}

/// Goal: a verdict that was signed before a revocation, and arrives after it, is not used.
///
/// Method: the auth service signs its first verdict while the token is good, and holds it back
/// until the worker has received the revocation. The worker has to ask again.
#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_signed_before_the_revocation_is_not_used() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let question_received = Arc::new(Semaphore::new(0));
    let go_on = Arc::new(AtomicBool::new(false));
    let questions = Arc::new(AtomicUsize::new(0));
    let is_revoked = Arc::new(AtomicBool::new(false));
    let foreign = foreign_token();

    let _verifier = Verifier::start(&world, {
        let question_received = question_received.clone();
        let go_on = go_on.clone();
        let questions = questions.clone();
        let is_revoked = is_revoked.clone();
        move |service, token| {
            let verdict = if is_revoked.load(Ordering::SeqCst) {
                negative_verdict(service, token, &foreign)
            } else {
                service.verdict(token).expect("signed")
            };

            if questions.fetch_add(1, Ordering::SeqCst) == 0 {
                question_received.add_permits(1);
                wait_for(&go_on);
            }

            Some(verdict)
        }
    })
    .await;
    let mut settings = world.settings("a");
    settings.auth.timeout_ms = 20_000;
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;

    let request = tokio::spawn({
        let alice = alice.clone();
        async move { is_let_in(&alice, "a").await }
    });
    question_received.acquire().await.expect("open").forget();

    is_revoked.store(true, Ordering::SeqCst);
    publish(&world, &revocation(&world, Some("alice"), None)).await;
    while world.stats(1).await[0]["data"]["auth"]["revocations"] != 1 {}
    go_on.store(true, Ordering::SeqCst);

    let let_in = request.await.expect("no panic");
    assert!(!let_in, "the worker asked again");
    assert!(!is_let_in(&alice, "a").await, "no verdict was cached");
    assert!(questions.load(Ordering::SeqCst) >= 2);
}

fn wait_for(flag: &AtomicBool) {
    tokio::task::block_in_place(|| {
        while !flag.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Goal: a worker that lost its connection does not use the verdicts from before, because it may
/// have missed a revocation.
///
/// Method: alice is let in. While the NATS server is down, the auth service stops vouching for
/// her; no revocation is published. After the restart the worker has to ask about her again, and
/// must never let her in.
#[tokio::test(flavor = "multi_thread")]
async fn no_cached_verdict_counts_after_a_lost_connection() {
    let mut world = World::without_auth(ACCOUNTS_CONF).await;
    let revoked = RevokedSubjects::default();
    let verifier = verifier(&world, &revoked).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;

    assert!(is_let_in(&alice, "a").await);
    assert!(is_let_in(&alice, "a").await);
    let before = verifier.questions().len();

    world.nats.process().kill9().expect("killed");
    revoke_subject(&revoked, "alice");
    world.nats.restart().await.expect("started again");

    let start = Instant::now();
    loop {
        let subject = "favorites.v1.shard.a.list";
        let reply = alice
            .client
            .request_with_headers(subject, alice.headers(), "{}".into())
            .await;
        let body: Value = reply
            .map(|reply| serde_json::from_slice(&reply.payload).expect("JSON"))
            .unwrap_or_default();

        assert!(body["items"].is_null(), "a cached verdict was used");
        if body["error"]["code"] == "unauthenticated" {
            break;
        }

        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the worker does not answer again: {body}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(verifier.questions().len() > before);
}

/// Returns how many messages the worker lost because the queue of a subscription was full.
async fn lost_requests(world: &World) -> u64 {
    let stats = world.stats(1).await;

    stats[0]["data"]["requests"]["lost_to_full_queues"]
        .as_u64()
        .expect("a number")
}

async fn lost_revocations(world: &World) -> u64 {
    let stats = world.stats(1).await;

    stats[0]["data"]["nats"]["auth"]["lost_to_full_queues"]
        .as_u64()
        .expect("a number")
}

/// Sends many requests in a row, with a reply subject on which nobody listens.
async fn flood_with_requests(gateway: &Client) {
    for _ in 0..5_000 {
        gateway
            .publish_with_reply("favorites.v1.version", "_INBOX.nobody", "".into())
            .await
            .expect("sent");
    }

    gateway.flush().await.expect("sent");
}

/// Publishes the same revocation many times in a row.
async fn flood_with_revocations(auth: &Client, revocation: &str) {
    for _ in 0..2_000 {
        auth.publish(REVOKED_SUBJECT, revocation.to_owned().into())
            .await
            .expect("sent");
    }

    auth.flush().await.expect("sent");
}

/// Waits until the worker loses no more requests.
async fn wait_until_no_more_are_lost(world: &World) {
    let mut before = 0;

    while before != lost_requests(world).await {
        before = lost_requests(world).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Lists the caller's items, and repeats that while the worker is overloaded.
async fn list_when_possible(caller: &Caller) -> Value {
    loop {
        let reply = caller.ask("a.list", &json!({})).await;
        if reply.body["error"]["code"] != "overloaded" {
            return reply.body;
        }
    }
}

/// Goal: a worker that lost revocations to a full queue uses no verdict from before. Lost requests
/// do not have this effect.
///
/// Method: a worker with short queues caches a verdict on alice. A flood of requests fills a
/// queue, and the verdict has to stay. Then a flood of revocations fills the other queue, and the
/// worker has to ask about alice again. Her own revocation is not even among them.
#[tokio::test(flavor = "multi_thread")]
async fn no_cached_verdict_counts_after_lost_revocations() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let revoked = RevokedSubjects::default();
    let verifier = verifier(&world, &revoked).await;
    let mut settings = world.settings("a");
    settings.nats.queue_messages = 16;
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    assert!(is_let_in(&alice, "a").await);

    let gateway = world.connect("gateway").await;
    let auth = world.connect("auth_service").await;
    let other = revocation(&world, Some("somebody"), None);

    while lost_requests(&world).await == 0 {
        flood_with_requests(&gateway).await;
    }
    wait_until_no_more_are_lost(&world).await;
    assert_eq!(lost_revocations(&world).await, 0);

    let questions = verifier.questions().len();
    let list = list_when_possible(&alice).await;
    assert!(list["items"].is_array(), "{list}");
    assert_eq!(
        verifier.questions().len(),
        questions,
        "the verdict is still cached"
    );

    revoke_subject(&revoked, "alice");
    while lost_revocations(&world).await == 0 {
        flood_with_revocations(&auth, &other).await;
    }

    let list = list_when_possible(&alice).await;
    assert_eq!(
        list["error"]["code"], "unauthenticated",
        "a cached verdict was used"
    );
    assert!(verifier.questions().len() > questions);
}

/// Goal: a caller with a revoked token causes at most one question a second. The caller is let in
/// soon after the auth service vouches for the token again.
///
/// Method: one caller sends 200 requests with a revoked token, then tries until it is let in.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_causes_one_question_a_second() {
    let _permit = exclusive().await;
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let revoked = RevokedSubjects::default();
    let verifier = verifier(&world, &revoked).await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    revoke_subject(&revoked, "alice");

    let start = Instant::now();
    for _ in 0..200 {
        assert!(!is_let_in(&alice, "a").await);
    }
    let questions = verifier.questions().len();
    let took = start.elapsed();

    let questions_max = 1 + took.as_secs() as usize;
    assert!(
        questions <= questions_max,
        "{questions} questions in {took:?}"
    );

    revoked.lock().expect("no panic").clear();

    let start = Instant::now();
    while !is_let_in(&alice, "a").await {
        assert!(
            start.elapsed() < Duration::from_millis(1_200),
            "it is refused for longer than a second"
        );
    }
}
