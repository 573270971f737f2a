//! What the auth service takes back is dead on every worker, and nothing that was missed leaves an old yes.

use crate::harness::{Caller, Verifier, World, exclusive};
use gofavorites::dev::auth_service::{AuthService, REVOKED_SUBJECT, RevokedTokens};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use gofavorites::dev::tokens::unix_now;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The longest time that a revoked token may live.
const AT_MOST: Duration = Duration::from_secs(1);

/// Who is no longer vouched for.
type Gone = Arc<Mutex<HashSet<String>>>;

/// The middle part of a token, which the stand-in's answer is about.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let part = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("claims")
}

/// An auth service that vouches for all but those who are gone.
async fn verifier(world: &World, gone: &Gone) -> Verifier {
    let gone = gone.clone();
    let strangers = Secrets::generate().expect("secrets");
    let nobody = gofavorites::dev::tokens::token(&strangers, "x", "", AT_MOST).expect("a token");
    Verifier::start(world, move |service, token| {
        let subject = claims(token)["sub"].as_str().unwrap_or_default().to_owned();
        if gone.lock().expect("no panic").contains(&subject) {
            // The verdict on a token of strangers is "not active"; here it is about this one.
            return Some(refusal(service, token, &nobody));
        }
        service.verdict(token).ok()
    })
    .await
}

fn refusal(service: &AuthService, token: &str, nobody: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut said = claims(&service.verdict(nobody).expect("signed"));
    said["token_sha256"] =
        json!(URL_SAFE_NO_PAD.encode(gofavorites::seal::sha256(token.as_bytes())));
    service
        .sign("token-introspection+jwt", &said)
        .expect("signed")
}

async fn revoke(world: &World, message: &str) {
    let auth = world.connect("auth_service").await;
    auth.publish(REVOKED_SUBJECT, message.to_owned().into())
        .await
        .expect("sent");
    auth.flush().await.expect("sent");
}

fn revocation(world: &World, sub: Option<&str>, sid: Option<&str>) -> String {
    let service = AuthService::new(&world.secrets).expect("keys");
    let (sub, sid) = (sub.map(str::to_owned), sid.map(str::to_owned));
    service
        .revocation(&RevokedTokens {
            sub,
            sid,
            iat: unix_now(),
        })
        .expect("signed")
}

async fn is_let_in(caller: &Caller, shard: &str) -> bool {
    let reply = caller.ask(&format!("{shard}.list"), &json!({})).await;
    match reply.body["error"]["code"].as_str() {
        None => true,
        Some("unauthenticated") => false,
        Some(other) => panic!("refused as {other}"),
    }
}

/// How long it takes until no shard lets the caller in.
async fn time_until_dead(caller: &Caller, since: Instant) -> Duration {
    for shard in ["a", "b"] {
        while is_let_in(caller, shard).await {
            assert!(
                since.elapsed() < Duration::from_secs(5),
                "a revoked token still lives"
            );
        }
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_dies_on_every_worker_within_a_second() {
    let _permit = exclusive().await;
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let gone = Gone::default();
    let _verifier = verifier(&world, &gone).await;
    let (_a, _b) = (world.worker("a").await, world.worker("b").await);
    let (alice, bob, carol) = (
        world.caller("alice").await,
        world.caller("bob").await,
        world.caller("carol").await,
    );
    for caller in [&alice, &bob, &carol] {
        assert!(is_let_in(caller, "a").await && is_let_in(caller, "b").await);
    }
    gone.lock().expect("no panic").insert("alice".into());
    assert!(
        is_let_in(&alice, "a").await,
        "until it is told, a kept verdict counts"
    );
    let since = Instant::now();
    revoke(&world, &revocation(&world, Some("alice"), None)).await;
    let by_subject = time_until_dead(&alice, since).await;
    // One session of bob's ends; another goes on.
    let session = claims(&bob.token)["sid"]
        .as_str()
        .expect("a session")
        .to_owned();
    let other = world.caller("bob").await;
    assert!(is_let_in(&other, "a").await);
    gone.lock().expect("no panic").insert("bob".into());
    let since = Instant::now();
    revoke(&world, &revocation(&world, None, Some(&session))).await;
    let by_session = time_until_dead(&bob, since).await;
    assert!(
        is_let_in(&other, "a").await,
        "another session is not asked about again"
    );
    assert!(
        is_let_in(&carol, "a").await && is_let_in(&carol, "b").await,
        "somebody else is not touched"
    );
    println!(
        "dead on both shards after {by_subject:?} by subject, after {by_session:?} by session"
    );
    assert!(by_subject < AT_MOST && by_session < AT_MOST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_was_under_way_is_not_kept() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let (asked, go_on) = (
        Arc::new(Semaphore::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let times = Arc::new(AtomicUsize::new(0));
    let gone = Arc::new(AtomicBool::new(false));
    let strangers = Secrets::generate().expect("secrets");
    let nobody = gofavorites::dev::tokens::token(&strangers, "x", "", AT_MOST).expect("a token");
    let _verifier = Verifier::start(&world, {
        let (asked, go_on, times, gone) =
            (asked.clone(), go_on.clone(), times.clone(), gone.clone());
        move |service, token| {
            // Signed while the token was good; sent after it was taken back.
            let verdict = match gone.load(Ordering::SeqCst) {
                true => refusal(service, token, &nobody),
                false => service.verdict(token).expect("signed"),
            };
            if times.fetch_add(1, Ordering::SeqCst) == 0 {
                asked.add_permits(1);
                tokio::task::block_in_place(|| {
                    while !go_on.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
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
    asked.acquire().await.expect("open").forget();
    gone.store(true, Ordering::SeqCst);
    revoke(&world, &revocation(&world, Some("alice"), None)).await;
    while world.stats(1).await[0]["data"]["auth"]["revocations"] != 1 {}
    go_on.store(true, Ordering::SeqCst);
    assert!(
        !request.await.expect("no panic"),
        "it was asked about again"
    );
    assert!(!is_let_in(&alice, "a").await, "and nothing was kept");
    assert!(times.load(Ordering::SeqCst) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_connection_nothing_that_was_kept_is_believed() {
    let mut world = World::without_auth(ACCOUNTS_CONF).await;
    let gone = Gone::default();
    let verifier = verifier(&world, &gone).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    assert!(is_let_in(&alice, "a").await && is_let_in(&alice, "a").await);
    let questions = verifier.questions().len();
    // The revocation is told while the worker is not there to hear it.
    world.nats.process().kill9().expect("killed");
    gone.lock().expect("no panic").insert("alice".into());
    world.nats.restart().await.expect("started again");
    let since = Instant::now();
    loop {
        let asked = alice
            .client
            .request_with_headers("favorites.v1.shard.a.list", alice.headers(), "{}".into())
            .await;
        let body: Value = asked
            .map(|reply| serde_json::from_slice(&reply.payload).expect("JSON"))
            .unwrap_or_default();
        assert!(body["items"].is_null(), "an old yes was believed");
        if body["error"]["code"] == "unauthenticated" {
            break;
        }
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "the worker does not come back: {body}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(verifier.questions().len() > questions);
}

/// How many questions the service was asked by the time that it is counted.
fn questions(verifier: &Verifier) -> usize {
    verifier.questions().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_that_a_full_queue_lost_leave_no_old_yes() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let gone = Gone::default();
    let verifier = verifier(&world, &gone).await;
    let mut settings = world.settings("a");
    settings.nats.queue_messages = 16;
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    assert!(is_let_in(&alice, "a").await);
    // Requests that a full queue lost say nothing of revocations.
    let flood = world.connect("gateway").await;
    let lost_of = async |connection: &str| {
        let data = &world.stats(1).await[0]["data"];
        let connection = match connection {
            "front" => &data["requests"],
            other => &data["nats"][other],
        };
        connection["lost_to_full_queues"]
            .as_u64()
            .expect("a number")
    };
    while lost_of("front").await == 0 {
        for _ in 0..5_000 {
            flood
                .publish_with_reply("favorites.v1.version", "_INBOX.nobody", "".into())
                .await
                .expect("sent");
        }
        flood.flush().await.expect("sent");
    }
    let mut before = 0;
    while before != lost_of("front").await {
        before = lost_of("front").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(lost_of("auth").await, 0);
    let asked = questions(&verifier);
    let listed = async || {
        let mut reply = alice.ask("a.list", &json!({})).await;
        while reply.body["error"]["code"] == "overloaded" {
            reply = alice.ask("a.list", &json!({})).await;
        }
        reply.body
    };
    assert!(listed().await["items"].is_array());
    assert_eq!(questions(&verifier), asked, "the verdict is still kept");
    // Hers is among what is lost; it is not even sent.
    gone.lock().expect("no panic").insert("alice".into());
    let other = revocation(&world, Some("somebody"), None);
    let auth = world.connect("auth_service").await;
    while lost_of("auth").await == 0 {
        for _ in 0..2_000 {
            auth.publish(REVOKED_SUBJECT, other.clone().into())
                .await
                .expect("sent");
        }
        auth.flush().await.expect("sent");
    }
    assert_eq!(
        listed().await["error"]["code"],
        "unauthenticated",
        "an old yes was believed"
    );
    assert!(questions(&verifier) > asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_that_is_tried_again_and_again_is_asked_about_now_and_then() {
    let _permit = exclusive().await;
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let gone = Gone::default();
    let verifier = verifier(&world, &gone).await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    gone.lock().expect("no panic").insert("alice".into());
    let since = Instant::now();
    for _ in 0..200 {
        assert!(!is_let_in(&alice, "a").await);
    }
    let (asked, seconds) = (questions(&verifier), since.elapsed().as_secs() as usize);
    assert!(
        asked <= 1 + seconds,
        "{asked} questions in {:?}",
        since.elapsed()
    );
    // The service comes to know the token: what it said before is soon forgotten.
    gone.lock().expect("no panic").clear();
    let since = Instant::now();
    while !is_let_in(&alice, "a").await {
        assert!(
            since.elapsed() < Duration::from_millis(1_200),
            "it is refused for longer than a second"
        );
    }
}
