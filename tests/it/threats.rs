//! Whom we do not trust, what they would try, and which wall keeps them out.
//!
//! Each attack is made twice: against the platform as it is, where it has to fail, and with that one wall taken down,
//! where it has to succeed. So none of these tests passes because the attack was made badly.

use crate::harness::{Caller, Verifier, World};
use async_nats::{Client, ConnectOptions};
use futures::StreamExt as _;
use gofavorites::dev::auth_service::{AuthService, REVOKED_SUBJECT, RevokedTokens};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use gofavorites::dev::tokens::unix_now;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// What would destroy everything: the server takes an empty body for it.
const DELETE: &str = "$JS.API.STREAM.DELETE.KV_favorites";
/// How long an attack is given.
const A_WHILE: Duration = Duration::from_millis(700);

/// The accounts, with a user `mallory` in one of them who may do whatever that account may.
fn with_mallory_in(account: &str) -> String {
    let (before, after) = ACCOUNTS_CONF
        .split_once(&format!("  {account} {{"))
        .expect("an account");
    let (head, users) = after.split_once("users: [\n").expect("users");
    format!(
        "{before}  {account} {{{head}users: [\n      {{ user: mallory, password: mallory }}\n{users}"
    )
}

async fn mallory(world: &World) -> Client {
    let options = ConnectOptions::with_user_and_password("mallory".into(), "mallory".into());
    options
        .skip_subject_validation(true)
        .connect(world.nats.url())
        .await
        .expect("a connection")
}

async fn bucket_is_there(world: &World) -> bool {
    let operator = world.connect("operator").await;
    let told = operator
        .request("$JS.API.STREAM.INFO.KV_favorites", "".into())
        .await
        .expect("an answer");
    serde_json::from_slice::<Value>(&told.payload).expect("JSON")["error"].is_null()
}

async fn list(caller: &Caller) -> Value {
    caller.ask("a.list", &json!({})).await.body
}

mod a_caller_names_a_command_as_their_reply_subject {
    use super::*;

    /// Sends the request whose answer would be the command.
    async fn attack(client: &Client, subject: &str) {
        client
            .publish_with_reply(subject.to_owned(), DELETE, "".into())
            .await
            .expect("sent");
        client.flush().await.expect("sent");
        tokio::time::sleep(A_WHILE).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_workers_wall_keeps_them_out_even_from_within() {
        // From within the workers' own account, and with a worker who may do everything there.
        let accounts = with_mallory_in("TRUTH").replacen("\"$KV.favorites.>\" ", "\">\" ", 1);
        let world = World::with_accounts(&accounts).await;
        let worker = world.worker("a").await;
        attack(&mallory(&world).await, "favorites.v1.version").await;
        assert!(bucket_is_there(&world).await);
        assert_eq!(worker.counters.dropped().hostile_reply_subject, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_it_the_bucket_is_gone() {
        let accounts = with_mallory_in("TRUTH").replacen("\"$KV.favorites.>\" ", "\">\" ", 1);
        let world = World::with_accounts(&accounts).await;
        world.init(&world.settings("a")).await.expect("init");
        // A service that answers wherever it is told.
        let naive = world.connect("worker").await;
        let mut requests = naive
            .queue_subscribe("favorites.v1.*", "favorites".into())
            .await
            .expect("subscribed");
        naive.flush().await.expect("sent");
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                naive
                    .publish(request.reply.expect("named"), "".into())
                    .await
                    .expect("sent");
            }
        });
        attack(&mallory(&world).await, "favorites.v1.version").await;
        assert!(!bucket_is_there(&world).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn from_another_account_the_server_rewrites_it() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY")).await;
        let worker = world.worker("a").await;
        attack(&mallory(&world).await, "favorites.v1.version").await;
        assert!(bucket_is_there(&world).await);
        assert_eq!(
            worker.counters.dropped().hostile_reply_subject,
            0,
            "it never arrives as such"
        );
    }
}

mod a_caller_gives_the_command_themselves {
    use super::*;

    async fn attack(world: &World) {
        // The answer, if any, is "nobody is there".
        let _ = timeout(A_WHILE, mallory(world).await.request(DELETE, "".into())).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn in_their_own_account_there_is_nobody_who_heeds_it() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY")).await;
        world.init(&world.settings("a")).await.expect("init");
        attack(&world).await;
        assert!(bucket_is_there(&world).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn in_the_buckets_account_it_is_gone() {
        let world = World::with_accounts(&with_mallory_in("TRUTH")).await;
        world.init(&world.settings("a")).await.expect("init");
        attack(&world).await;
        assert!(!bucket_is_there(&world).await);
    }
}

mod a_caller_listens_for_the_replies_to_others {
    use super::*;

    /// Whether mallory hears what alice keeps.
    async fn is_overheard(world: &World) -> bool {
        let mut heard = mallory(world)
            .await
            .subscribe(">")
            .await
            .expect("subscribed");
        let alice = world.caller("alice").await;
        for _ in 0..3 {
            alice.put_text("a", "note", "a secret of alice's").await;
        }
        while let Ok(Some(message)) = timeout(A_WHILE, heard.next()).await {
            if message.payload.windows(8).any(|part| part == b"a secret") {
                return true;
            }
        }
        false
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_service_hears_nothing() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY2")).await;
        let _worker = world.worker("a").await;
        assert!(!is_overheard(&world).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn in_the_same_account_they_hear_everything() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY")).await;
        let _worker = world.worker("a").await;
        assert!(is_overheard(&world).await);
    }
}

mod a_caller_plays_the_auth_service {
    use super::*;

    /// Whether mallory is asked about alice, and so gets her token.
    async fn is_asked(world: &World) -> bool {
        let mut questions = mallory(world)
            .await
            .subscribe("auth.v1.verify")
            .await
            .expect("subscribed");
        let alice = world.caller("alice").await;
        list(&alice).await;
        timeout(A_WHILE, async {
            while let Some(question) = questions.next().await {
                if question
                    .payload
                    .windows(alice.token.len())
                    .any(|part| part == alice.token.as_bytes())
                {
                    return true;
                }
            }
            false
        })
        .await
        .unwrap_or(false)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn in_their_own_account_nobody_asks_them() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY")).await;
        let _worker = world.worker("a").await;
        assert!(!is_asked(&world).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn in_the_auth_services_account_they_get_the_token() {
        let world = World::with_accounts(&with_mallory_in("AUTH")).await;
        let _worker = world.worker("a").await;
        assert!(is_asked(&world).await);
    }
}

mod somebody_signs_verdicts_who_is_not_the_auth_service {
    use super::*;

    /// An impostor who answers in its place, and vouches for everybody with keys of their own.
    async fn impostor(world: &World) -> (Verifier, Secrets) {
        let secrets = Secrets::generate().expect("secrets");
        let forger = AuthService::new(&secrets).expect("keys");
        let verifier = Verifier::start(world, move |honest, token| {
            let verdict = honest.verdict(token).expect("a verdict");
            let claims = verdict.split('.').nth(1).expect("a JWT").to_owned();
            use base64::Engine as _;
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(claims)
                .expect("base64url");
            let claims: Value = serde_json::from_slice(&claims).expect("claims");
            forger.sign("token-introspection+jwt", &claims).ok()
        });
        (verifier.await, secrets)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_verdict_of_anothers_key_lets_nobody_in() {
        let world = World::without_auth(ACCOUNTS_CONF).await;
        let _impostor = impostor(&world).await;
        let _worker = world.worker("a").await;
        assert_eq!(
            list(&world.caller("alice").await).await["error"]["code"],
            "auth_unavailable"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn where_that_key_is_trusted_it_does() {
        let world = World::without_auth(ACCOUNTS_CONF).await;
        let (_impostor, secrets) = impostor(&world).await;
        let mut settings = world.settings("a");
        settings.auth.verdict_keys = secrets.verdict_jwks().expect("a key set");
        let _worker = world.worker_with(settings).await;
        assert!(list(&world.caller("alice").await).await["items"].is_array());
    }
}

mod somebody_takes_back_what_is_not_theirs {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    /// Messages that would end everybody's session if they were believed.
    fn forgeries(secrets: &Secrets) -> Vec<String> {
        let (honest, forger) = (
            AuthService::new(secrets).expect("keys"),
            Secrets::generate().expect("secrets"),
        );
        let forger = AuthService::new(&forger).expect("keys");
        let revoked = RevokedTokens {
            sub: Some("alice".into()),
            sid: None,
            iat: unix_now(),
        };
        let good = honest.revocation(&revoked).expect("signed");
        let claims = good.split('.').nth(1).expect("a JWT").to_owned();
        let said: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&claims).expect("base64url"))
                .expect("claims");
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let with = |name: &str, value: Value| {
            let mut said = said.clone();
            said[name] = value;
            honest.sign("secevent+jwt", &said).expect("signed")
        };
        vec![
            forger.revocation(&revoked).expect("signed"),
            format!(
                "{}.{claims}.",
                part(json!({"alg": "none", "typ": "secevent+jwt"}))
            ),
            honest
                .sign("token-introspection+jwt", &said)
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

    async fn tell(world: &World, message: &str) {
        let auth = world.connect("auth_service").await;
        auth.publish(REVOKED_SUBJECT, message.to_owned().into())
            .await
            .expect("sent");
        auth.flush().await.expect("sent");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_forged_revocation_changes_nothing_and_is_counted() {
        let world = World::without_auth(ACCOUNTS_CONF).await;
        let verifier = Verifier::honest(&world).await;
        let _worker = world.worker("a").await;
        let alice = world.caller("alice").await;
        assert!(list(&alice).await["items"].is_array());
        let (asked, forgeries) = (verifier.questions().len(), forgeries(&world.secrets));
        for forgery in &forgeries {
            tell(&world, forgery).await;
        }
        let since = Instant::now();
        while world.stats(1).await[0]["data"]["auth"]["forged_revocations"] != forgeries.len() {
            assert!(
                since.elapsed() < Duration::from_secs(5),
                "not all of them are counted"
            );
        }
        assert!(list(&alice).await["items"].is_array());
        assert_eq!(
            verifier.questions().len(),
            asked,
            "what was kept is still believed"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_true_one_does() {
        let world = World::without_auth(ACCOUNTS_CONF).await;
        let verifier = Verifier::honest(&world).await;
        let _worker = world.worker("a").await;
        let alice = world.caller("alice").await;
        assert!(list(&alice).await["items"].is_array());
        let asked = verifier.questions().len();
        let revoked = RevokedTokens {
            sub: Some("alice".into()),
            sid: None,
            iat: unix_now(),
        };
        tell(
            &world,
            &AuthService::new(&world.secrets)
                .expect("keys")
                .revocation(&revoked)
                .expect("signed"),
        )
        .await;
        while world.stats(1).await[0]["data"]["auth"]["revocations"] != 1 {}
        list(&alice).await;
        assert_eq!(
            verifier.questions().len(),
            asked + 1,
            "she is asked about again"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_caller_cannot_even_say_it() {
        let world = World::with_accounts(&with_mallory_in("GATEWAY")).await;
        let _worker = world.worker("a").await;
        let mallory = mallory(&world).await;
        mallory
            .publish(REVOKED_SUBJECT, "x".into())
            .await
            .expect("sent");
        mallory.flush().await.expect("sent");
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(
            world.stats(1).await[0]["data"]["auth"]["forged_revocations"],
            0
        );
    }
}
