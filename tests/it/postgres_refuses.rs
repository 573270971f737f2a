//! A Postgres that answers and refuses: it is read-only, lets nobody in, or is not the database that
//! it was. Requests go on, health says what it is and since when, and all mends itself.

use crate::harness::{Caller, Pooler, World, dump, restore};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::domain::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a worker may take to report a fault, and to be healthy after it is mended.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends every session of the shard's database but that of the statement itself.
const END_SESSIONS: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                            where datname = current_database() and pid <> pg_backend_pid()";

/// Executes a statement in the database that every server has.
fn manage(world: &World, statement: &str) {
    let postgres = &world.shared.postgres;
    postgres.query("postgres", statement).expect("a statement");
}

/// Returns the statement that ends every session of that database, and waits until it has.
fn end_sessions(name: &str) -> String {
    format!("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}'")
}

/// Lets new sessions of the shard's database only read, or read and write again.
fn set_read_only(world: &World, is_read_only: bool) {
    let name = world.database("a");
    world.query(
        "a",
        &format!(
            "begin read write; \
             alter database {name} set default_transaction_read_only = {is_read_only}; commit"
        ),
    );
}

fn is_healthy(data: &Value) -> bool {
    data["state"] == "healthy"
}

/// Waits until the only worker names that part and that reason, and checks since when.
async fn wait_for_reason(world: &World, part: &str, why: &str) {
    let begin = Timestamp::now();
    let is_it = |reason: &Value| {
        reason["part"] == part
            && reason["why"]
                .as_str()
                .is_some_and(|text| text.contains(why))
    };
    let reasons = |data: &Value| data["reasons"].as_array().cloned().unwrap_or_default();

    let data = world
        .wait_for_stats(why, REPORT_TIMEOUT, |data| reasons(data).iter().any(is_it))
        .await;
    assert_eq!(data["state"], "degraded");

    let reason = reasons(&data).into_iter().find(is_it).expect("the reason");
    let since = reason["since"].as_str().and_then(Timestamp::parse_rfc3339);
    let age_ms = since.expect("a time").millis() - begin.millis();
    assert!((-2_000..10_000).contains(&age_ms), "{reason}");
}

/// Checks that a caller without a row in Postgres writes and reads.
async fn is_served(caller: &Caller) {
    let put = caller.put_text("a", "note", "x").await;
    let list = caller.done("a.list", &json!({})).await;

    assert_eq!(put["local"], "pending");
    assert!(list["stale"].is_null(), "{list}");
}

/// Waits until the worker is healthy, and until the rows of the callers have come.
async fn is_mended(world: &World, newcomer: &Caller, rows: &str) {
    world
        .wait_for_stats("healthy again", REPORT_TIMEOUT, is_healthy)
        .await;

    // The next request hosts an owner that could not be hosted before.
    newcomer.done("a.list", &json!({})).await;
    world.until("a", "select count(*) from item", rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_by_themselves_after_postgres_was_read_only() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let newcomer = world.caller("newcomer").await;
    alice.put_text("a", "one", "x").await;
    world.until("a", "select count(*) from item", "1").await;

    set_read_only(&world, true);
    world.query("a", END_SESSIONS);
    wait_for_reason(&world, "postgres", "Postgres is read-only").await;
    is_served(&newcomer).await;
    let put = alice.put_text("a", "two", "x").await;
    assert_eq!(put["local"], "pending");

    // The sessions of the worker stay read-only.
    set_read_only(&world, false);
    is_mended(&world, &newcomer, "3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_database_is_named_and_used_again() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let newcomer = world.caller("newcomer").await;
    let name = world.database("a");

    manage(
        &world,
        &format!("alter database {name} with allow_connections false"),
    );
    manage(&world, &end_sessions(&name));
    manage(
        &world,
        &format!("alter database {name} rename to {name}_moved"),
    );
    wait_for_reason(&world, "postgres", "no database of the name").await;
    is_served(&newcomer).await;

    manage(
        &world,
        &format!("alter database {name}_moved rename to {name}"),
    );
    manage(
        &world,
        &format!("alter database {name} with allow_connections true"),
    );
    is_mended(&world, &newcomer, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_is_named_until_it_is_back() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    world.init(&settings).await.expect("init");
    let role = format!("{}_worker", world.database("a"));
    world.query(
        "a",
        &format!("create role {role} superuser login password 'before'"),
    );
    let (_, rest) = settings.postgres.url.split_once('@').expect("a user");
    settings.postgres.url = format!("postgres://{role}:before@{rest}");
    let _worker = world.try_worker(settings).await.expect("a worker");
    let newcomer = world.caller("newcomer").await;

    world.query("a", &format!("alter role {role} password 'after'"));
    world.query("a", END_SESSIONS);
    wait_for_reason(&world, "postgres", "does not accept the user").await;
    is_served(&newcomer).await;

    world.query("a", &format!("alter role {role} password 'before'"));
    is_mended(&world, &newcomer, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_ends_the_start() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    world.init(&settings).await.expect("init");
    let url = settings.postgres.url.clone();
    let (user, rest) = url.split_once('@').expect("a user");
    let (target, database) = rest.split_once('/').expect("a database");
    let pooler = Pooler::start(target).await;
    settings.postgres.url = format!("{user}@127.0.0.1:{}/{database}", pooler.port());

    let Err(error) = world.try_worker(settings.clone()).await else {
        panic!("the worker starts");
    };
    let error = format!("{error:#}");
    assert!(error.contains("a pooler that shares sessions"), "{error}");
    assert!(error.contains("pool_mode = session"), "{error}");

    let pooler = Pooler::start(target).await;
    settings.postgres.url = format!("{user}@127.0.0.1:{}/{database}", pooler.port());
    let prepared = world.prepare(&settings).await;
    let error = format!("{:#}", prepared.expect_err("the same for init"));
    assert!(error.contains("a pooler that shares sessions"), "{error}");
}

/// Goal: a shard goes on where its database was moved by dump and restore, as for a new release of
/// Postgres, though the bucket has moved on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_dump_of_the_database_is_caught_up() {
    let world = World::start().await;
    let worker = world.worker("a").await;
    let _other = world.worker("b").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "one", "x").await;
    world.until("a", "select count(*) from item", "1").await;
    worker.stop().await.expect("stopped in order");

    let settings = world.settings("a");
    let bin = &world.shared.servers.postgres_bin;
    let copy = dump(bin, &settings.postgres.url);
    alice.put_text("b", "two", "x").await;
    let name = world.database("a");
    manage(&world, &end_sessions(&name));
    manage(
        &world,
        &format!("alter database {name} rename to {name}_old"),
    );
    world.shared.postgres.create_database(&name).expect("new");
    restore(bin, &copy, &settings.postgres.url);

    let _worker = world.try_worker(settings).await.expect("a worker");
    world.until("a", "select count(*) from item", "2").await;
    alice.put_text("a", "three", "x").await;
    world.until("a", "select count(*) from item", "3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auth_service_that_never_answered_is_reported() {
    let mut world = World::without_auth(ACCOUNTS_CONF).await;
    let _worker = world.worker("a").await;
    wait_for_reason(&world, "auth", "the auth service does not answer").await;

    world.start_auth().await;

    world
        .wait_for_stats("healthy", REPORT_TIMEOUT, is_healthy)
        .await;
}
