//! Starting and stopping: what a worker refuses to start with, and that it leaves no request behind.

use crate::harness::{Proxy, World};
use gofavorites::config::Role;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use serde_json::json;
use std::time::Duration;

/// Why a worker with these settings does not start.
async fn refused(world: &World, settings: gofavorites::config::Settings) -> String {
    match world.try_worker(settings).await {
        Ok(_) => panic!("it started"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bucket_it_says_what_to_run() {
    let world = World::start().await;
    world
        .shared
        .postgres
        .create_database(&world.database("a"))
        .expect("a database");
    let error = refused(&world, world.settings("a")).await;
    assert!(error.contains("gofavorites init"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_may_be_run_again_and_changes_nothing() {
    let world = World::start().await;
    assert!(
        world
            .init(&world.settings("a"))
            .await
            .expect("init")
            .bucket_created
    );
    assert!(
        !world
            .init(&world.settings("a"))
            .await
            .expect("init")
            .bucket_created
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_key_than_the_buckets_it_does_not_start() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let other = Secrets::generate().expect("secrets");
    let mut settings = world.settings("a");
    settings.keys.identity = other.identity.clone();
    let error = refused(&world, settings).await;
    assert!(
        error.contains("identity-key") && error.contains("keys.identity"),
        "{error}"
    );
    assert!(!error.contains(&other.identity), "no key is printed");
    let mut settings = world.settings("a");
    settings.keys.encryption = other.encryption;
    let error = refused(&world, settings).await;
    assert!(
        error.contains("encryption-key") && error.contains("keys.encryption"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_differs_in_what_matters_is_named() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let mut settings = world.settings("a");
    settings.truth.history = 5;
    let error = refused(&world, settings).await;
    assert!(
        error.contains("max_msgs_per_subject") && error.contains("16"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_wrong_are_named_together() {
    let world = World::start().await;
    let mut settings = world.settings("A!");
    settings.truth.replicas = 2;
    settings.limits.in_flight = 0;
    let error = refused(&world, settings).await;
    for setting in ["shard.id", "truth.replicas", "limits.in_flight"] {
        assert!(error.contains(setting), "{setting} is missing in {error}");
    }
    let mut settings = world.settings("a");
    settings.auth.verdict_keys = "{}".into();
    assert!(
        refused(&world, settings)
            .await
            .contains("auth.verdict_keys")
    );
    for role in Role::ALL {
        let mut settings = world.settings("a");
        let nats = &mut settings.nats;
        let user = match role {
            Role::Front => &mut nats.front,
            Role::Auth => &mut nats.auth,
            Role::Truth => &mut nats.truth,
        };
        user.password = "wrong".into();

        let error = refused(&world, settings).await;

        let setting = format!("nats.{}.password", role.name());
        assert!(error.contains(&setting), "{setting} is not in: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_this_versions_is_named_with_what_to_do() {
    let world = World::start().await;
    world.init(&world.settings("b")).await.expect("init");
    world
        .shared
        .postgres
        .create_database(&world.database("a"))
        .expect("a database");
    let error = refused(&world, world.settings("a")).await;
    assert!(
        error.contains("it has none of ours: run `gofavorites init`"),
        "{error}"
    );
    world.init(&world.settings("a")).await.expect("init");
    let table = [
        (
            "delete from _sqlx_migrations where version = 2",
            "older version",
        ),
        (
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             values (9999, 'later', true, 'x', 1)",
            "newer version",
        ),
        (
            "update _sqlx_migrations set checksum = 'x' where version = 1",
            "another program",
        ),
    ];
    for (change, said) in table {
        world.query("a", change);
        let error = refused(&world, world.settings("a")).await;
        assert!(error.contains(said), "{error}");
        world.query("a", "delete from _sqlx_migrations where version = 9999");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_refused() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let address = world.nats.url().replace("nats://", "");
    // The real server, which says that it is an old one.
    let old = Proxy::rewriting(&address, "\"version\":\"2.15.", "\"version\":\"2.09.").await;
    let mut settings = world.settings("a");
    settings.nats.url = format!("nats://127.0.0.1:{}", old.port());
    let error = refused(&world, settings).await;
    assert!(
        error.contains("too old") && error.contains("2.15"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_lacking_is_named() {
    for right in [
        "$JS.API.CONSUMER.CREATE.KV_favorites.>",
        "auth.v1.revoked",
        "favorites.v1.> favorites",
        "auth.v1.verify",
    ] {
        let accounts = ACCOUNTS_CONF.replacen(
            &format!("          \"{right}\""),
            "          \"taken.away\"",
            1,
        );
        assert_ne!(accounts, ACCOUNTS_CONF);
        let world = World::without_auth(&accounts).await;
        world.init(&world.settings("a")).await.expect("init");
        let error = refused(&world, world.settings("a")).await;
        let subject = right
            .split([' ', '>'])
            .next()
            .expect("a part")
            .to_lowercase();
        assert!(
            error.contains("lacks a right") && error.to_lowercase().contains(&subject),
            "{right}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_or_a_database_that_is_wrong_is_not_waited_for() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let mut settings = world.settings("a");
    settings.postgres.url = settings
        .postgres
        .url
        .replace(&world.database("a"), "nowhere");
    let error = refused(&world, settings).await;
    assert!(error.contains("nowhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_away_at_start_is_waited_for() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let mut settings = world.settings("a");
    let nats = Proxy::start(&world.nats.url().replace("nats://", "")).await;
    settings.nats.url = format!("nats://127.0.0.1:{}", nats.port());
    let (start, rest) = settings.postgres.url.split_once('@').expect("a user");
    let (target, database) = rest.split_once('/').expect("a database");
    let postgres = Proxy::start(target).await;
    settings.postgres.url = format!("{start}@127.0.0.1:{}/{database}", postgres.port());
    nats.cut();
    postgres.cut();
    let starting = world.try_worker(settings);
    tokio::pin!(starting);
    let wait = Duration::from_millis(700);
    assert!(
        tokio::time::timeout(wait, &mut starting).await.is_err(),
        "NATS is away"
    );
    nats.heal();
    assert!(
        tokio::time::timeout(wait, &mut starting).await.is_err(),
        "Postgres is away"
    );
    postgres.heal();
    let started = tokio::time::timeout(Duration::from_secs(5), starting)
        .await
        .expect("both are there");
    started.expect("a worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_were_taken_are_answered_before_it_stops() {
    let world = World::start().await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    let counters = worker.counters.clone();
    let before = counters.answered();
    let asked: Vec<_> = (0..300)
        .map(|number| {
            let alice = alice.clone();
            tokio::spawn(async move {
                let body = json!({"kind": "text", "id": format!("n{}", number % 40), "data": {"text": "y"}});
                let subject = "favorites.v1.shard.a.put".to_owned();
                alice.client.request_with_headers(subject, alice.headers(), body.to_string().into()).await
            })
        })
        .collect();
    while counters.answered() < before + 20 {
        tokio::task::yield_now().await;
    }
    worker.stop().await.expect("stopped in order");
    let answered = counters.answered() - before;
    let (mut replies, mut nobody) = (0, 0);
    for one in asked {
        match one.await.expect("no panic") {
            Ok(reply) => {
                assert!(!reply.payload.is_empty());
                replies += 1;
            }
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    async_nats::client::RequestErrorKind::NoResponders,
                    "{error}"
                );
                nobody += 1;
            }
        }
    }
    println!(
        "{replies} replies, {nobody} told that nobody is there, {answered} answered by the worker"
    );
    assert_eq!(replies, answered, "each reply that was sent has arrived");
    assert_eq!(replies + nobody, 300, "no request waits in vain");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_what_a_worker_takes_a_request_is_refused_quickly() {
    let world = World::without_auth(gofavorites::dev::nats::ACCOUNTS_CONF).await;
    let mut settings = world.settings("a");
    settings.limits.in_flight = 4;
    settings.auth.timeout_ms = 3_000;
    let _worker = world.worker_with(settings).await;
    // An auth service that never answers keeps the permits taken.
    let silent = world.connect("auth_service").await;
    let _questions = silent
        .queue_subscribe("auth.v1.verify", "auth".into())
        .await
        .expect("subscribed");
    silent.flush().await.expect("sent");
    let callers = (0..20).map(|number| async move { number });
    let mut replies = Vec::new();
    for number in futures::future::join_all(callers).await {
        let caller = world.caller(&format!("c{number}")).await;
        // Every other one in another encoding, in which it is answered also at the door.
        let encoding = ["application/json", "application/cbor"][number % 2];
        replies.push(tokio::spawn(async move {
            let mut headers = caller.headers();
            headers.insert("Content-Type", encoding);
            (
                encoding,
                caller.ask_with("a.list", headers, Vec::new()).await,
            )
        }));
    }
    let mut overloaded = 0;
    for reply in replies {
        let (encoding, reply) = reply.await.expect("no panic");
        assert_eq!(reply.header("Content-Type"), encoding);
        if reply.header("Nats-Service-Error").starts_with("overloaded") {
            let details = &reply.body["error"]["details"];
            assert!(encoding == "application/cbor" || details["retry_after_ms"].is_u64());
            overloaded += 1;
        }
    }
    assert_eq!(overloaded, 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_owner_takes_no_more_than_their_share_of_a_worker() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.owner_in_flight = 4;
    settings.truth.call_ms = 8_000;
    let _worker = world.worker_with(settings).await;
    let (hot, calm) = (world.caller("hot").await, world.caller("calm").await);
    hot.put_text("a", "note", "x").await;
    calm.put_text("a", "note", "x").await;
    let flood = (0..400).map(|number| {
        let hot = hot.clone();
        tokio::spawn(async move {
            let body = json!({"kind": "text", "id": "note", "data": {"text": number.to_string()}});
            hot.ask("a.put", &body).await.body["error"]["code"]
                .as_str()
                .map(str::to_owned)
        })
    });
    let flood: Vec<_> = flood.collect();
    for _ in 0..50 {
        calm.put_text("a", "note", "y").await;
    }
    let mut overloaded = 0;
    for reply in flood {
        match reply.await.expect("no panic").as_deref() {
            None => {}
            Some("overloaded") => overloaded += 1,
            Some(other) => panic!("refused as {other}"),
        }
    }
    assert!(overloaded > 100, "{overloaded} of 400 were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_asks_too_often_is_told_when_to_come_back() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    (settings.limits.rate_per_s, settings.limits.rate_burst) = (5, 10);
    let _worker = world.worker_with(settings).await;
    let (hasty, calm) = (world.caller("hasty").await, world.caller("calm").await);
    let mut refused = None;
    for asked in 0..30 {
        let reply = hasty.ask("a.list", &json!({})).await;
        if reply.body["error"].is_object() {
            assert!(asked >= 10, "the burst is let through");
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("thirty at once are too many");
    let details = &refused.refusal("rate_limited")["details"];
    assert_eq!(
        (&details["used"], &details["limit"], &details["rate_per_s"]),
        (&json!(10), &json!(10), &json!(5))
    );
    let wait = details["retry_after_ms"].as_u64().expect("a time");
    assert!((1..=200).contains(&wait), "{wait}");
    calm.done("a.list", &json!({})).await;
    tokio::time::sleep(Duration::from_millis(wait + 20)).await;
    hasty.done("a.list", &json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_too_heavy_for_the_cache_is_one_owner_all_the_same() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.read.cache_bytes = 16_384;
    (
        settings.limits.owner_in_flight,
        settings.limits.rate_per_s,
        settings.limits.rate_burst,
    ) = (4, 1, 40);
    let _worker = world.worker_with(settings).await;
    let (heavy, calm) = (world.caller("heavy").await, world.caller("calm").await);
    for number in 0..8 {
        heavy
            .put_text("a", &format!("note-{number}"), &"x".repeat(8_000))
            .await;
        calm.put_text("a", "note", "x").await;
    }
    let cache = async || {
        world.stats(1).await[0]["data"]["cache"]["misses"]
            .as_u64()
            .expect("a number")
    };
    let (before, mut limited) = (cache().await, 0);
    for number in 0..100 {
        let body = json!({"kind": "text", "id": "note-0", "data": {"text": number.to_string()}});
        match heavy.ask("a.put", &body).await.body["error"]["code"].as_str() {
            None => {}
            Some("rate_limited") => limited += 1,
            Some(other) => panic!("refused as {other}"),
        }
    }
    assert!(
        limited >= 50,
        "the pace holds: {limited} of 100 were refused"
    );
    assert!(
        cache().await <= before + 2,
        "and it is not read anew for each request"
    );
}
