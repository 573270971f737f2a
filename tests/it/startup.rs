//! Starting and stopping: what a worker refuses to start with, what it waits for, and that it
//! leaves no request without a reply. Also the limits that a worker sets to requests and owners.

use crate::harness::{Caller, Proxy, Reply, World};
use gofavorites::config::{Role, Settings};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use serde_json::{Value, json};
use std::time::Duration;

/// How many requests are sent at once to a worker that then stops.
const BURST_REQUESTS: u64 = 300;

/// Starts a worker with these settings, which has to fail. Returns the error.
async fn start_error(world: &World, settings: Settings) -> String {
    match world.try_worker(settings).await {
        Ok(_) => panic!("it started"),
        Err(error) => format!("{error:#}"),
    }
}

/// Checks that an error names each of these.
#[track_caller]
fn check_names(error: &str, names: &[&str]) {
    for name in names {
        assert!(error.contains(name), "{name} is missing in: {error}");
    }
}

/// Creates an empty database for shard a.
fn create_database(world: &World) {
    world
        .shared
        .postgres
        .create_database(&world.database("a"))
        .expect("a database");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bucket_the_error_names_init() {
    let world = World::start().await;
    create_database(&world);

    let error = start_error(&world, world.settings("a")).await;

    check_names(&error, &["gofavorites init"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_may_be_run_again_and_changes_nothing() {
    let world = World::start().await;
    let settings = world.settings("a");

    let first = world.init(&settings).await.expect("init");
    let second = world.init(&settings).await.expect("init");

    assert!(first.bucket_created);
    assert!(!second.bucket_created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_another_key_than_the_bucket_does_not_start() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let other = Secrets::generate().expect("secrets");

    let mut with_identity = world.settings("a");
    with_identity.keys.identity = other.identity.clone();
    let mut with_encryption = world.settings("a");
    with_encryption.keys.encryption = other.encryption;

    let error = start_error(&world, with_identity).await;
    check_names(&error, &["identity-key", "keys.identity"]);
    assert!(!error.contains(&other.identity), "no key is printed");

    let error = start_error(&world, with_encryption).await;
    check_names(&error, &["encryption-key", "keys.encryption"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_another_history_is_refused() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let mut settings = world.settings("a");
    settings.truth.history = 5;

    let error = start_error(&world, settings).await;

    check_names(&error, &["max_msgs_per_subject", "16"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_wrong_settings_are_named_together() {
    let world = World::start().await;

    let mut with_three_errors = world.settings("A!");
    with_three_errors.truth.replicas = 2;
    with_three_errors.limits.in_flight = 0;
    let mut without_keys = world.settings("a");
    without_keys.auth.verdict_keys = "{}".into();

    let error = start_error(&world, with_three_errors).await;
    check_names(&error, &["shard.id", "truth.replicas", "limits.in_flight"]);

    let error = start_error(&world, without_keys).await;
    check_names(&error, &["auth.verdict_keys"]);

    for role in Role::ALL {
        let mut settings = world.settings("a");
        let nats = &mut settings.nats;
        let user = match role {
            Role::Front => &mut nats.front,
            Role::Auth => &mut nats.auth,
            Role::Truth => &mut nats.truth,
        };
        user.password = "wrong".into();

        let error = start_error(&world, settings).await;
        check_names(&error, &[&format!("nats.{}.password", role.name())]);
    }
}

/// Goal: a worker whose Postgres has another schema names the remedy.
///
/// Method: a shard's database has no schema, or its table of migrations is changed to look older,
/// or like that of another program.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_does_not_fit_is_refused_with_a_remedy() {
    let world = World::start().await;
    world.init(&world.settings("b")).await.expect("init");
    create_database(&world);

    let changes = [
        (
            "delete from _sqlx_migrations where version = 2",
            "older version",
        ),
        (
            "insert into _sqlx_migrations \
             (version, description, success, checksum, execution_time) \
             values (0, 'foreign', true, 'x', 1)",
            "another program",
        ),
        (
            "update _sqlx_migrations set checksum = 'x' where version = 1",
            "another program",
        ),
    ];

    let error = start_error(&world, world.settings("a")).await;
    check_names(&error, &["it has none of ours: run `gofavorites init`"]);

    world.init(&world.settings("a")).await.expect("init");
    for (change, expected) in changes {
        world.query("a", change);
        let error = start_error(&world, world.settings("a")).await;
        check_names(&error, &[expected]);
        world.query("a", "delete from _sqlx_migrations where version = 0");
    }
}

/// Goal: a worker starts on the schema of a later release, and `init` leaves that schema as it is.
///
/// Method: a shard's database gets one more migration. Then `init` runs again, and a worker starts,
/// writes and reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_a_later_release_is_accepted() {
    let world = World::start().await;
    let settings = world.settings("a");
    world.init(&settings).await.expect("init");
    world.migrate_to_next("a");

    let again = world.prepare(&settings).await.expect("init");
    let _worker = world.try_worker(settings).await.expect("a worker");
    let alice = world.caller("alice").await;
    let put = alice.put_text("a", "note", "x").await;
    world.until_projected("a", &put).await;

    assert!(!again.bucket_created);
    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["items"][0], put["item"]);
    let later = world.query("a", "select max(version) from _sqlx_migrations");
    assert_eq!(later, "9999");
    let row = world.query("a", "select count(*), count(next_note) from item");
    assert_eq!(row, "1|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_refused() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let address = world.nats.url().replace("nats://", "");
    // The real server, with another version in its greeting.
    let old = Proxy::rewriting(&address, "\"version\":\"2.15.", "\"version\":\"2.09.").await;
    let mut settings = world.settings("a");
    settings.nats.url = format!("nats://127.0.0.1:{}", old.port());

    let error = start_error(&world, settings).await;

    check_names(&error, &["too old", "2.15"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named() {
    for right in [
        "$JS.API.CONSUMER.CREATE.KV_favorites.>",
        "auth.v1.revoked",
        "favorites.v1.> favorites",
        "auth.v1.verify",
    ] {
        let granted = format!("          \"{right}\"");
        let accounts = ACCOUNTS_CONF.replacen(&granted, "          \"taken.away\"", 1);
        assert_ne!(accounts, ACCOUNTS_CONF);

        let world = World::without_auth(&accounts).await;
        world.init(&world.settings("a")).await.expect("init");

        let error = start_error(&world, world.settings("a")).await;

        let subject = right.split([' ', '>']).next().expect("a part");
        check_names(&error, &["lacks a right"]);
        check_names(&error.to_lowercase(), &[&subject.to_lowercase()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database_is_not_waited_for() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let mut settings = world.settings("a");
    let url = &settings.postgres.url;
    settings.postgres.url = url.replace(&world.database("a"), "nowhere");

    let error = start_error(&world, settings).await;

    check_names(&error, &["nowhere"]);
}

/// Goal: a worker waits at its start for NATS and then for Postgres, if they are unavailable.
///
/// Method: the worker reaches both through proxies that are cut. They are opened one after the
/// other, and the worker must not be ready before both are.
#[tokio::test(flavor = "multi_thread")]
async fn unavailable_servers_are_waited_for_at_start() {
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

    let without_nats = tokio::time::timeout(wait, &mut starting).await;
    assert!(without_nats.is_err(), "NATS is unavailable");

    nats.heal();
    let without_postgres = tokio::time::timeout(wait, &mut starting).await;
    assert!(without_postgres.is_err(), "Postgres is unavailable");

    postgres.heal();
    let started = tokio::time::timeout(Duration::from_secs(5), starting).await;
    let started = started.expect("both are available");
    started.expect("a worker");
}

/// Sends a put of that number, and returns whether it got a reply. Otherwise there must have been
/// no worker.
async fn put_is_answered(alice: Caller, number: u64) -> bool {
    let id = format!("n{}", number % 40);
    let body = json!({"kind": "text", "id": id, "data": {"text": "y"}});
    let subject = "favorites.v1.shard.a.put";

    let result = alice
        .client
        .request_with_headers(subject, alice.headers(), body.to_string().into())
        .await;

    match result {
        Ok(reply) => {
            assert!(!reply.payload.is_empty());
            true
        }
        Err(error) => {
            let expected = async_nats::client::RequestErrorKind::NoResponders;
            assert_eq!(error.kind(), expected, "{error}");
            false
        }
    }
}

/// Goal: a worker that stops answers every request that it has accepted, and the others fail at
/// once.
///
/// Method: one caller sends 300 puts at once, and the worker is told to stop after it has answered
/// twenty of them. The replies are compared with the worker's own count.
#[tokio::test(flavor = "multi_thread")]
async fn accepted_requests_are_answered_before_a_worker_stops() {
    let world = World::start().await;
    let worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    let counters = worker.counters.clone();
    let before = counters.answered();

    let requests: Vec<_> = (0..BURST_REQUESTS)
        .map(|number| tokio::spawn(put_is_answered(alice.clone(), number)))
        .collect();
    while counters.answered() < before + 20 {
        tokio::task::yield_now().await;
    }
    worker.stop().await.expect("stopped in order");

    let answered = counters.answered() - before;
    let mut replies = 0;
    let mut without_worker = 0;
    for request in requests {
        if request.await.expect("no panic") {
            replies += 1;
        } else {
            without_worker += 1;
        }
    }

    println!("{replies} replies, {without_worker} without a worker, {answered} answered by it");
    assert_eq!(replies, answered, "each reply that was sent has arrived");
    assert_eq!(
        replies + without_worker,
        BURST_REQUESTS,
        "no request waits in vain"
    );
}

/// Sends a list in that encoding.
async fn list_in(caller: Caller, encoding: &'static str) -> Reply {
    let mut headers = caller.headers();
    headers.insert("Content-Type", encoding);

    caller.ask_with("a.list", headers, Vec::new()).await
}

/// Goal: a worker refuses requests beyond its limit, in the encoding of the request.
///
/// Method: the auth service never answers, so the four requests that the worker accepts stay
/// there. Twenty callers send a request each, every other one in CBOR.
#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_a_workers_limit_are_refused() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let mut settings = world.settings("a");
    settings.limits.in_flight = 4;
    settings.auth.timeout_ms = 3_000;
    let _worker = world.worker_with(settings).await;
    let silent = world.connect("auth_service").await;
    let _questions = silent
        .queue_subscribe("auth.v1.verify", "auth".into())
        .await
        .expect("subscribed");
    silent.flush().await.expect("sent");

    let mut requests = Vec::new();
    for number in 0..20 {
        let caller = world.caller(&format!("c{number}")).await;
        let encoding = ["application/json", "application/cbor"][number % 2];
        requests.push((encoding, tokio::spawn(list_in(caller, encoding))));
    }

    let mut overloaded = 0;
    for (encoding, request) in requests {
        let reply = request.await.expect("no panic");
        assert_eq!(reply.header("Content-Type"), encoding);

        if reply.header("Nats-Service-Error").starts_with("overloaded") {
            overloaded += 1;
            if encoding == "application/json" {
                let details = &reply.body["error"]["details"];
                assert!(details["retry_after_ms"].is_u64(), "{details}");
            }
        }
    }
    assert_eq!(overloaded, 16);
}

/// Goal: an owner with very many requests is refused, and another owner is served meanwhile.
///
/// Method: a worker accepts four requests of an owner at the same time. One owner sends 400 puts
/// at once, while another writes fifty times.
#[tokio::test(flavor = "multi_thread")]
async fn one_owner_gets_no_more_than_their_share_of_a_worker() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.owner_in_flight = 4;
    settings.truth.call_ms = 8_000;
    let _worker = world.worker_with(settings).await;
    let hot = world.caller("hot").await;
    let calm = world.caller("calm").await;
    hot.put_text("a", "note", "x").await;
    calm.put_text("a", "note", "x").await;

    let flood: Vec<_> = (0..400)
        .map(|number| {
            let hot = hot.clone();
            let text = number.to_string();
            let body = json!({"kind": "text", "id": "note", "data": {"text": text}});
            tokio::spawn(async move { hot.ask("a.put", &body).await.body })
        })
        .collect();
    for _ in 0..50 {
        calm.put_text("a", "note", "y").await;
    }

    let mut overloaded = 0;
    for reply in flood {
        let body = reply.await.expect("no panic");
        match body["error"]["code"].as_str() {
            None => {}
            Some("overloaded") => overloaded += 1,
            Some(other) => panic!("refused as {other}"),
        }
    }
    assert!(overloaded > 100, "{overloaded} of 400 were refused");
}

/// Sends lists until one is refused, at most thirty. Returns how many were answered, and the
/// refusal.
async fn list_until_refused(caller: &Caller) -> (usize, Reply) {
    for number in 0..30 {
        let reply = caller.ask("a.list", &json!({})).await;
        if reply.body["error"].is_object() {
            return (number, reply);
        }
    }

    panic!("thirty requests at once are too many");
}

/// Goal: an owner above the rate limit is refused with the time to wait, and served after it.
/// Another owner is not affected.
///
/// Method: a worker allows five requests a second and a burst of ten. One owner sends up to
/// thirty, waits as long as the refusal says, and sends one more.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_above_the_rate_limit_learns_when_to_retry() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits.rate_per_s = 5;
    settings.limits.rate_burst = 10;
    let _worker = world.worker_with(settings).await;
    let hasty = world.caller("hasty").await;
    let calm = world.caller("calm").await;

    let (answered, refused) = list_until_refused(&hasty).await;
    let details = &refused.refusal("rate_limited")["details"];
    let wait = details["retry_after_ms"].as_u64().expect("a time");
    calm.done("a.list", &json!({})).await;
    tokio::time::sleep(Duration::from_millis(wait + 20)).await;
    hasty.done("a.list", &json!({})).await;

    assert!(answered >= 10, "the burst is let through: {answered}");
    assert_eq!(details["used"], 10);
    assert_eq!(details["limit"], 10);
    assert_eq!(details["rate_per_s"], 5);
    assert!((1..=200).contains(&wait), "{wait}");
}

async fn cache_misses(world: &World) -> u64 {
    let stats = world.stats(1).await;

    stats[0]["data"]["cache"]["misses"]
        .as_u64()
        .expect("a number")
}

/// Goal: the limits also hold for an owner that is too heavy for the cache, and the owner is not
/// loaded again for each request.
///
/// Method: a worker has a cache of 16 KiB and one owner of 64 KB, who sends a hundred puts. The
/// refusals and the cache misses are counted.
#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_an_owner_too_heavy_for_the_cache() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.read.cache_bytes = 16_384;
    settings.limits.owner_in_flight = 4;
    settings.limits.rate_per_s = 1;
    settings.limits.rate_burst = 40;
    let _worker = world.worker_with(settings).await;
    let heavy = world.caller("heavy").await;
    let calm = world.caller("calm").await;
    let text = "x".repeat(8_000);
    for number in 0..8 {
        heavy.put_text("a", &format!("note-{number}"), &text).await;
        calm.put_text("a", "note", "x").await;
    }

    let misses_before = cache_misses(&world).await;
    let mut limited = 0;
    for number in 0..100 {
        let body = json!({"kind": "text", "id": "note-0", "data": {"text": number.to_string()}});
        let reply: Value = heavy.ask("a.put", &body).await.body;
        match reply["error"]["code"].as_str() {
            None => {}
            Some("rate_limited") => limited += 1,
            Some(other) => panic!("refused as {other}"),
        }
    }
    let misses = cache_misses(&world).await - misses_before;

    assert!(limited >= 50, "{limited} of 100 were refused");
    assert!(misses <= 2, "{misses} loads of the owner");
}
