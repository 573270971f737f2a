//! Attacks: which callers and services the platform does not trust, what they would try, and which
//! defence stops them.
//!
//! Each attack is made twice: against the platform as it is, where it has to fail, and with that
//! one defence removed, where it has to succeed. So no test passes because of a bad attack.

use crate::harness::{Caller, Verifier, World, subscribe, with_user_in};
use async_nats::Client;
use futures::StreamExt as _;
use gofavorites::dev::auth_service::{AuthService, REVOKED_SUBJECT, RevokedTokens};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use gofavorites::dev::tokens::unix_now;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The command that deletes the bucket. The server accepts an empty body for it.
const DELETE: &str = "$JS.API.STREAM.DELETE.KV_favorites";

/// How long an attack may take.
const ATTACK_TIME: Duration = Duration::from_millis(700);

/// Returns the accounts with a user `mallory` in one of them, who may do whatever that account may.
fn with_mallory_in(account: &str) -> String {
    with_user_in(ACCOUNTS_CONF, account, "mallory")
}

async fn mallory(world: &World) -> Client {
    world.connect_added("mallory").await
}

async fn bucket_exists(world: &World) -> bool {
    let operator = world.connect("operator").await;
    let reply = operator
        .request("$JS.API.STREAM.INFO.KV_favorites", "".into())
        .await
        .expect("a reply");
    let info: Value = serde_json::from_slice(&reply.payload).expect("JSON");

    info["error"].is_null()
}

async fn list(caller: &Caller) -> Value {
    caller.ask("a.list", &json!({})).await.body
}

/// Returns the claims of a JWT, as the base64url text and as JSON.
fn claims(token: &str) -> (String, Value) {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let part = token.split('.').nth(1).expect("a JWT");
    let json = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    let claims = serde_json::from_slice(&json).expect("claims");

    (part.to_owned(), claims)
}

mod a_caller_names_a_command_as_the_reply_subject {
    use super::*;

    /// Sends a request whose reply would be the command.
    async fn attack(client: &Client) {
        client
            .publish_with_reply("favorites.v1.version", DELETE, "".into())
            .await
            .expect("sent");
        client.flush().await.expect("sent");

        tokio::time::sleep(ATTACK_TIME).await;
    }

    /// A user for the front of a worker, or of a service in its place.
    const FRONT: &str = "almighty";

    /// Returns accounts with mallory in one of them, and with a front there that may do everything
    /// in that account.
    fn with_mallory_and_front_in(account: &str) -> String {
        with_user_in(&with_mallory_in(account), account, FRONT)
    }

    /// Starts a service that sends a reply to any subject.
    async fn start_naive_service(world: &World) {
        let naive = world.connect_added(FRONT).await;
        let mut requests = naive
            .queue_subscribe("favorites.v1.*", "favorites".into())
            .await
            .expect("subscribed");
        naive.flush().await.expect("sent");

        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let subject = request.reply.expect("a reply subject");
                naive.publish(subject, "".into()).await.expect("sent");
            }
        });
    }

    /// Shows that the worker's own check of reply subjects stops the attack, even if the accounts
    /// do not.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_workers_check_stops_it_in_the_buckets_account() {
        let world = World::with_accounts(&with_mallory_and_front_in("TRUTH")).await;
        let settings = world.settings_with_front("a", FRONT);
        let worker = world.worker_with(settings).await;

        attack(&mallory(&world).await).await;

        assert!(bucket_exists(&world).await);
        assert_eq!(worker.counters.dropped().hostile_reply_subject, 1);
    }

    /// Shows that the attack succeeds in the bucket's account with a service that sends a reply to
    /// any subject.
    #[tokio::test(flavor = "multi_thread")]
    async fn without_the_check_the_bucket_is_deleted() {
        let world = World::with_accounts(&with_mallory_and_front_in("TRUTH")).await;
        world.init(&world.settings("a")).await.expect("init");
        start_naive_service(&world).await;

        attack(&mallory(&world).await).await;

        assert!(!bucket_exists(&world).await);
    }

    /// Shows that the account of the fronts stops the attack, even if nothing checks the subject
    /// and the front may do everything there.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_account_of_the_fronts_stops_it_without_the_check() {
        let world = World::with_accounts(&with_mallory_and_front_in("SERVICE")).await;
        world.init(&world.settings("a")).await.expect("init");
        start_naive_service(&world).await;

        attack(&mallory(&world).await).await;

        assert!(bucket_exists(&world).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_server_rewrites_it_from_another_account() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY")).await;
        let worker = world.worker("a").await;

        attack(&mallory(&world).await).await;

        assert!(bucket_exists(&world).await);
        assert_eq!(
            worker.counters.dropped().hostile_reply_subject,
            0,
            "the worker gets another reply subject"
        );
    }
}

mod a_caller_sends_the_command {
    use super::*;

    async fn attack(world: &World) {
        let mallory = mallory(world).await;

        // The reply, if any, is that nobody is there.
        let _ = timeout(ATTACK_TIME, mallory.request(DELETE, "".into())).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_receives_it_in_the_callers_accounts() {
        for account in ["GATEWAY", "SERVICE"] {
            let world = World::with_accounts(&with_mallory_in(account)).await;
            world.init(&world.settings("a")).await.expect("init");

            attack(&world).await;

            assert!(bucket_exists(&world).await, "from {account}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn in_the_buckets_account_the_bucket_is_deleted() {
        let world = World::with_accounts(&with_mallory_in("TRUTH")).await;
        world.init(&world.settings("a")).await.expect("init");

        attack(&world).await;

        assert!(!bucket_exists(&world).await);
    }
}

mod a_caller_listens_for_the_replies_to_others {
    use super::*;

    /// Returns whether mallory receives a text that alice puts.
    async fn is_overheard(world: &World) -> bool {
        let mallory = mallory(world).await;
        let mut everything = subscribe(&mallory, ">").await;
        let alice = world.caller("alice").await;

        for _ in 0..3 {
            alice.put_text("a", "note", "a secret of alice's").await;
        }

        while let Ok(Some(message)) = timeout(ATTACK_TIME, everything.next()).await {
            if message.payload.windows(8).any(|part| part == b"a secret") {
                return true;
            }
        }
        false
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_service_receives_nothing() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY2")).await;
        let _worker = world.worker("a").await;

        assert!(!is_overheard(&world).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn in_the_same_account_they_receive_everything() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY")).await;
        let _worker = world.worker("a").await;

        assert!(is_overheard(&world).await);
    }
}

mod a_caller_answers_as_the_auth_service {
    use super::*;

    /// Returns whether mallory receives a question about alice, and with it her token.
    async fn gets_the_token(world: &World) -> bool {
        let mallory = mallory(world).await;
        let mut questions = subscribe(&mallory, "auth.v1.verify").await;
        let alice = world.caller("alice").await;
        let token = alice.token.as_bytes();

        list(&alice).await;

        let receive_token = async {
            while let Some(question) = questions.next().await {
                let mut parts = question.payload.windows(token.len());
                if parts.any(|part| part == token) {
                    return true;
                }
            }
            false
        };
        timeout(ATTACK_TIME, receive_token).await.unwrap_or(false)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_asks_them_in_their_own_account() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY")).await;
        let _worker = world.worker("a").await;

        assert!(!gets_the_token(&world).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn in_the_auth_services_account_they_get_the_token() {
        let world = World::with_accounts(&with_mallory_in("AUTH")).await;
        let _worker = world.worker("a").await;

        assert!(gets_the_token(&world).await);
    }
}

mod an_impostor_signs_verdicts {
    use super::*;

    /// Starts an impostor in the place of the auth service, which vouches for every token with its
    /// own keys. Returns those keys too.
    async fn impostor(world: &World) -> (Verifier, Secrets) {
        let secrets = Secrets::generate().expect("secrets");
        let forger = AuthService::new(&secrets).expect("keys");

        let verifier = Verifier::start(world, move |honest, token| {
            let verdict = honest.verdict(token).expect("a verdict");
            let (_, claims) = claims(&verdict);
            forger.sign("token-introspection+jwt", &claims).ok()
        })
        .await;

        (verifier, secrets)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_verdict_with_another_key_lets_nobody_in() {
        let world = World::without_auth(ACCOUNTS_CONF).await;
        let _impostor = impostor(&world).await;
        let _worker = world.worker("a").await;
        let alice = world.caller("alice").await;

        let reply = list(&alice).await;

        assert_eq!(reply["error"]["code"], "auth_unavailable");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_that_trusts_the_key_lets_everybody_in() {
        let world = World::without_auth(ACCOUNTS_CONF).await;
        let (_impostor, secrets) = impostor(&world).await;
        let mut settings = world.settings("a");
        settings.auth.verdict_keys = secrets.verdict_jwks().expect("a key set");
        let _worker = world.worker_with(settings).await;
        let alice = world.caller("alice").await;

        let reply = list(&alice).await;

        assert!(reply["items"].is_array());
    }
}

mod an_impostor_revokes_tokens {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    fn revocation_of_alice() -> RevokedTokens {
        RevokedTokens {
            sub: Some("alice".into()),
            sid: None,
            iat: unix_now(),
        }
    }

    /// Returns messages that would end sessions if a worker accepted them.
    fn forgeries(secrets: &Secrets) -> Vec<String> {
        let honest = AuthService::new(secrets).expect("keys");
        let other_secrets = Secrets::generate().expect("secrets");
        let forger = AuthService::new(&other_secrets).expect("keys");
        let revoked = revocation_of_alice();

        let good = honest.revocation(&revoked).expect("signed");
        let (encoded, claims) = claims(&good);
        let unsigned_header = json!({"alg": "none", "typ": "secevent+jwt"}).to_string();
        let unsigned_header = URL_SAFE_NO_PAD.encode(unsigned_header);
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            honest.sign("secevent+jwt", &claims).expect("signed")
        };

        vec![
            forger.revocation(&revoked).expect("signed"),
            format!("{unsigned_header}.{encoded}."),
            honest
                .sign("token-introspection+jwt", &claims)
                .expect("signed"),
            with("aud", json!("another service")),
            with("iss", json!("another issuer")),
            with("iat", json!(unix_now() + 3_600)),
            with("events", json!({})),
            with("sub", Value::Null),
            good[..good.len() - 4].to_owned(),
            String::new(),
            "{\"sub\": \"alice\"}".to_owned(),
        ]
    }

    /// Publishes a message on the revocation subject, as the auth service does.
    async fn publish(world: &World, message: &str) {
        let auth = world.connect("auth_service").await;

        auth.publish(REVOKED_SUBJECT, message.to_owned().into())
            .await
            .expect("sent");
        auth.flush().await.expect("sent");
    }

    async fn auth_stats(world: &World) -> Value {
        world.stats(1).await[0]["data"]["auth"].clone()
    }

    /// Goal: a worker ignores a revocation that the auth service did not sign, and counts it.
    ///
    /// Method: a verdict on alice is cached. Eleven forged messages are published, and alice must
    /// still be let in without a new question.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_forged_revocation_changes_nothing_and_is_counted() {
        let world = World::without_auth(ACCOUNTS_CONF).await;
        let verifier = Verifier::honest(&world).await;
        let _worker = world.worker("a").await;
        let alice = world.caller("alice").await;
        assert!(list(&alice).await["items"].is_array());
        let questions = verifier.questions().len();
        let forgeries = forgeries(&world.secrets);

        for forgery in &forgeries {
            publish(&world, forgery).await;
        }
        let start = Instant::now();
        while auth_stats(&world).await["forged_revocations"] != forgeries.len() {
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "not all of them are counted"
            );
        }

        assert!(list(&alice).await["items"].is_array());
        assert_eq!(
            verifier.questions().len(),
            questions,
            "the verdict is still cached"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_genuine_revocation_removes_the_cached_verdict() {
        let world = World::without_auth(ACCOUNTS_CONF).await;
        let verifier = Verifier::honest(&world).await;
        let _worker = world.worker("a").await;
        let alice = world.caller("alice").await;
        assert!(list(&alice).await["items"].is_array());
        let questions = verifier.questions().len();
        let service = AuthService::new(&world.secrets).expect("keys");
        let revocation = service.revocation(&revocation_of_alice()).expect("signed");

        publish(&world, &revocation).await;
        while auth_stats(&world).await["revocations"] != 1 {}
        list(&alice).await;

        assert_eq!(
            verifier.questions().len(),
            questions + 1,
            "the worker asks about her again"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_caller_cannot_publish_a_revocation() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY")).await;
        let _worker = world.worker("a").await;
        let mallory = mallory(&world).await;

        mallory
            .publish(REVOKED_SUBJECT, "x".into())
            .await
            .expect("sent");
        mallory.flush().await.expect("sent");
        tokio::time::sleep(ATTACK_TIME).await;

        assert_eq!(auth_stats(&world).await["forged_revocations"], 0);
    }
}
