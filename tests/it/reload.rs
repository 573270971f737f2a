//! Workers take up changed settings while they run, and no request is lost or refused by that.

use crate::harness::load::{Load, Outcome};
use crate::harness::{LiveSettings, Worker, World, replace};
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long a worker may take to notice a change.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(15);

/// The users of the three connections.
const USERS: [&str; 3] = ["front", "auth", "worker"];

/// Returns the reasons of a part, in one text.
fn reasons(data: &Value, part: &str) -> String {
    let reasons = data["reasons"].as_array().into_iter().flatten();
    let whys = reasons
        .filter(|reason| reason["part"] == part)
        .filter_map(|reason| reason["why"].as_str());

    whys.collect::<Vec<_>>().join("\n")
}

fn reloads(data: &Value) -> Option<u64> {
    data["settings"]["reloads"].as_u64()
}

/// Waits until the only worker has taken up changed settings that often.
async fn wait_for_reloads(world: &World, count: u64) -> Value {
    let is_reloaded = |data: &Value| reloads(data) == Some(count);

    world
        .wait_for_stats("reloaded", NOTICE_TIMEOUT, is_reloaded)
        .await
}

/// Returns the limit in force.
async fn limit(world: &World, name: &str) -> Option<u64> {
    let caller = world.caller("reader").await;
    let reply = caller.done("a.limits", &json!({})).await;

    reply["limits"][name]["value"].as_u64()
}

/// Returns the definition of a user of `nats/accounts.conf`.
fn definition<'a>(accounts: &'a str, user: &str) -> &'a str {
    let start = accounts
        .find(&format!("      {{ user: {user}, "))
        .expect("a user");
    let end = "\n      } }\n";
    let length = accounts[start..].find(end).expect("its end") + end.len();

    &accounts[start..start + length]
}

/// Returns the accounts in which the user has this password.
fn with_password(accounts: &str, user: &str, password: &str) -> String {
    let old = definition(accounts, user);
    let variable = format!("${}_PASSWORD", user.to_uppercase());
    let new = old.replace(&variable, &format!("\"{password}\""));
    assert_ne!(old, new, "it has a password");

    accounts.replace(old, &new)
}

/// Returns the name of a user who replaces another one. Its password is its name.
fn successor(user: &str) -> String {
    format!("{user}_next")
}

/// Returns the accounts with a successor of each of the workers' users, who may do the same. The
/// former users are there too if `with_former`.
fn with_successors(with_former: bool) -> String {
    let mut accounts = ACCOUNTS_CONF.to_owned();

    for user in USERS {
        let old = definition(ACCOUNTS_CONF, user);
        let new = with_password(old, user, &successor(user)).replace(
            &format!("user: {user},"),
            &format!("user: {},", successor(user)),
        );
        let both = format!("{old}{new}");
        accounts = accounts.replace(old, if with_former { &both } else { &new });
    }

    accounts
}

/// Changes the users of all three connections to their successors.
fn use_successors(settings: &mut Settings) {
    let nats = &mut settings.nats;

    for (user, connection) in
        USERS
            .into_iter()
            .zip([&mut nats.front, &mut nats.auth, &mut nats.truth])
    {
        connection.user = successor(user);
        connection.password = successor(user);
    }
}

/// Returns settings whose three passwords are in files, and the files.
fn with_password_files(world: &World) -> (Settings, [PathBuf; 3]) {
    let mut settings = world.settings("a");
    let nats = &mut settings.nats;
    let connections = [&mut nats.front, &mut nats.auth, &mut nats.truth];
    let files = USERS.map(|user| world.directory.join(format!("{user}.password")));

    for (connection, file) in connections.into_iter().zip(&files) {
        replace(file, &connection.password);
        connection.password = String::new();
        connection.password_file = file.clone();
    }

    (settings, files)
}

/// Starts a worker whose settings can change.
async fn start_live() -> (World, LiveSettings, Worker) {
    let world = World::start().await;
    let (worker, live) = world.live_worker(world.settings("a")).await;

    (world, live, worker)
}

/// Goal: changed limits count within seconds, and no request is lost or refused by the change.
///
/// Method: a load runs. The limits change several times, up and down, and a caller of its own finds
/// the change in what it may do.
#[tokio::test(flavor = "multi_thread")]
async fn changed_limits_count_while_requests_run() {
    let world = World::start().await;
    let (_worker, mut live) = world.live_worker(world.settings("a")).await;
    let alice = world.caller("alice").await;
    let load = Load::start(&world, &["", "a"], 4, false).await;
    for id in ["one", "two"] {
        alice.put_text("a", id, "text").await;
    }
    load.progress(100).await;

    live.change(|settings| {
        settings.limits.items = 10;
        settings.limits.keys = 12;
        settings.limits.in_flight = 100;
        settings.limits.item.id_bytes = 40;
    });
    wait_for_reloads(&world, 1).await;
    load.progress(100).await;

    assert_eq!(limit(&world, "items").await, Some(10));
    assert_eq!(limit(&world, "in_flight").await, Some(100));
    let long = json!({"kind": "text", "id": "x".repeat(41), "data": {"text": "t"}});
    let refused = alice.ask("a.put", &long).await.body;
    assert!(refused["error"].is_object(), "{refused}");

    // The load's owners have six items each, so the lowest number for all is enough for them.
    live.change(|settings| settings.limits.items = 7);
    wait_for_reloads(&world, 2).await;
    for number in 2..7 {
        alice.put_text("a", &format!("more-{number}"), "text").await;
    }
    let eighth = json!({"kind": "text", "id": "eighth", "data": {"text": "t"}});
    alice.ask("a.put", &eighth).await.refusal("quota_exceeded");

    live.change(|settings| settings.limits.items = 8);
    wait_for_reloads(&world, 3).await;
    alice.done("a.put", &eighth).await;

    load.progress(100).await;
    let report = load.stop().await;
    report.is_clean();
    report.only(&[], &[Outcome::Pending]);
}

/// Goal: SIGHUP makes a worker process read its settings again, and the log shows what it did.
///
/// Method: the file of a process changes and the process gets SIGHUP, under a load: limits, the
/// filter of the log, and settings that need a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_takes_up_its_settings_on_sighup() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.worker.id = "first-id".into();
    world.init(&settings).await.expect("init");
    let mut worker = world.serve(settings);
    worker.is_ready().await;
    let load = Load::start(&world, &["a"], 2, false).await;
    load.progress(20).await;

    worker.signal(Signal::SIGHUP);
    worker.says("the settings are as before").await;
    assert!(!worker.log().contains("settings reloaded"));

    worker.change_settings(|settings| settings.limits.batch = 17);
    worker.signal(Signal::SIGHUP);
    worker.says("settings reloaded: limits.batch").await;
    assert_eq!(limit(&world, "batch").await, Some(17));

    assert!(!worker.log().contains("\"level\":\"DEBUG\""));
    worker.change_settings(|settings| settings.log.filter = "info,async_nats=debug".into());
    worker.signal(Signal::SIGHUP);
    worker.says("settings reloaded: log.filter").await;
    worker.says("\"level\":\"DEBUG\"").await;

    worker.change_settings(|settings| {
        settings.log.filter = "info".into();
        settings.worker.id = "second-id".into();
        settings.read.cache_bytes = 123_456_789;
    });
    worker.signal(Signal::SIGHUP);
    worker
        .says("settings changed that need a restart: read.cache_bytes, worker.id")
        .await;
    let named = json!(["read.cache_bytes", "worker.id"]);
    let data = wait_for_reloads(&world, 3).await;
    assert_eq!(data["settings"]["restart_needed"], named);
    assert_eq!(data["state"], "healthy", "{data}");
    let log = worker.log();
    assert!(!log.contains("second-id") && !log.contains("123456789"));

    load.progress(20).await;
    let report = load.stop().await;
    report.is_clean();
    report.only(&[], &[Outcome::Pending]);
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
}

/// Goal: settings that cannot be used change nothing, are reported with all mistakes, and no longer
/// are once they are right.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_keeps_the_former_settings() {
    let (world, mut live, _worker) = start_live().await;
    let is_wrong = |data: &Value| !reasons(data, "settings").is_empty();
    let before = live.settings.clone();

    live.change(|settings| {
        settings.limits.keys = 2_000;
        settings.limits.page = 0;
        settings.limits.items = 3;
        settings.log.filter = "gofavorites=loud".into();
    });
    let data = world
        .wait_for_stats("wrong", NOTICE_TIMEOUT, is_wrong)
        .await;
    let why = reasons(&data, "settings");
    assert!(why.contains("limits.keys") && why.contains("limits.page"));
    assert_eq!(data["state"], "degraded");
    assert_eq!(data["settings"]["failed"], 1);
    assert_eq!(limit(&world, "items").await, Some(500));

    for (text, part) in [
        ("not = [TOML", "not TOML"),
        ("[limits]\nnmae = 1\n", "nmae"),
    ] {
        live.write_text(text);
        live.ask();
        let is_this = |data: &Value| reasons(data, "settings").contains(part);
        world.wait_for_stats(part, NOTICE_TIMEOUT, is_this).await;
    }

    live.change(|settings| {
        *settings = before;
        settings.log.filter = "gofavorites=loud".into();
    });
    let is_filter = |data: &Value| reasons(data, "settings").contains("log.filter");
    world
        .wait_for_stats("the filter", NOTICE_TIMEOUT, is_filter)
        .await;

    live.change(|settings| {
        settings.log.filter = "info".into();
        settings.limits.items = 4;
    });
    let is_healthy = |data: &Value| data["state"] == "healthy";
    let data = world
        .wait_for_stats("right", NOTICE_TIMEOUT, is_healthy)
        .await;
    assert_eq!(reloads(&data), Some(1));
    assert_eq!(limit(&world, "items").await, Some(4));
}

/// Goal: limits that the NATS server's `max_payload` is too small for are refused, as at start.
#[tokio::test(flavor = "multi_thread")]
async fn limits_that_do_not_fit_the_server_are_refused() {
    let (world, mut live, _worker) = start_live().await;
    let whole = 1 << 20;

    live.change(|settings| settings.limits.reply_bytes = whole);
    live.ask();
    let is_refused = |data: &Value| reasons(data, "settings").contains("limits.reply_bytes");
    let data = world
        .wait_for_stats("refused", NOTICE_TIMEOUT, is_refused)
        .await;

    assert_eq!(reloads(&data), Some(0));
    assert_eq!(limit(&world, "reply_bytes").await, Some(786_432));
}

/// Goal: all three connections change to other users, and no request is lost or refused.
///
/// Method: the servers know both users of each connection. Under a load, the settings name the
/// other ones. Then the servers forget the former users.
#[tokio::test(flavor = "multi_thread")]
async fn users_are_replaced_without_a_lost_request() {
    let mut world = World::with_accounts(&with_successors(true)).await;
    let (_worker, mut live) = world.live_worker(world.settings("a")).await;
    let load = Load::start(&world, &["", "a"], 4, false).await;
    load.progress(100).await;

    live.change(use_successors);
    let has_changed = |data: &Value| {
        let nats = &data["nats"];
        let connections = [
            &nats["connections"],
            &nats["auth"]["connections"],
            &nats["truth"]["connections"],
        ];
        connections.iter().all(|count| **count == 2)
    };
    let data = world
        .wait_for_stats("other users", NOTICE_TIMEOUT, has_changed)
        .await;
    assert_eq!(data["settings"]["restart_needed"], json!([]));
    load.progress(300).await;

    // What is left of the former connections is closed after a moment.
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.reload_accounts(&with_successors(false));
    load.progress(300).await;
    let report = load.stop().await;
    report.is_clean();
    report.only(&[], &[Outcome::Pending]);

    let data = world
        .wait_for_stats("still connected", NOTICE_TIMEOUT, |data| {
            data["state"] == "healthy"
        })
        .await;
    assert!(has_changed(&data), "{data}");
}

/// Goal: a worker lives through the change of the passwords of its users, in whichever order files
/// and servers get the new ones.
///
/// Method: under a load, the files get the new passwords. The servers refuse them, so the present
/// connections stay in use, and no request fails. Then the servers get them too, and end the
/// connections. The worker connects again by itself, and no acknowledged write is lost.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_change_in_files_and_servers() {
    let mut world = World::start().await;
    let (settings, files) = with_password_files(&world);
    let (_worker, _live) = world.live_worker(settings).await;
    let load = Load::start(&world, &["a"], 3, false).await;
    load.progress(50).await;

    for (user, file) in USERS.into_iter().zip(&files) {
        replace(file, &successor(user));
    }
    let waits = |data: &Value| {
        let why = reasons(data, "settings");
        let names = ["nats.front", "nats.auth", "nats.truth"];
        names.iter().all(|name| why.contains(name))
    };
    let data = world
        .wait_for_stats("refused passwords", NOTICE_TIMEOUT, waits)
        .await;
    assert_eq!(data["nats"]["connected"], true);
    load.progress(50).await;
    let report = load.stop().await;
    report.is_clean();
    report.only(&[], &[Outcome::Pending]);

    let load = Load::start(&world, &["a"], 3, true).await;
    load.progress(50).await;
    let mut accounts = ACCOUNTS_CONF.to_owned();
    for user in USERS {
        accounts = with_password(&accounts, user, &successor(user));
    }
    world.reload_accounts(&accounts);
    world
        .wait_for_stats("new passwords", NOTICE_TIMEOUT, |data| {
            data["state"] == "healthy" && data["nats"]["connections"].as_u64() >= Some(2)
        })
        .await;
    load.progress(50).await;
    load.stop().await.is_clean();
}

/// Goal: keys of the auth service that stand in the settings themselves can be replaced.
#[tokio::test(flavor = "multi_thread")]
async fn inline_keys_are_replaced() {
    let (world, mut live, _worker) = start_live().await;
    let alice = world.caller("alice").await;
    alice.done("a.list", &json!({})).await;
    let right = live.settings.auth.verdict_keys.clone();
    let other = world.secrets.with_new_verdict_key().expect("secrets");

    live.change(|settings| settings.auth.verdict_keys = "{".into());
    let is_wrong = |data: &Value| reasons(data, "settings").contains("auth.verdict_keys");
    world
        .wait_for_stats("no key set", NOTICE_TIMEOUT, is_wrong)
        .await;
    alice.done("a.list", &json!({})).await;

    live.change(|settings| {
        settings.auth.verdict_keys = other.verdict_jwks().expect("a key set");
    });
    wait_for_reloads(&world, 1).await;
    let refused = alice.ask("a.list", &json!({})).await;
    refused.refusal("auth_unavailable");

    live.change(|settings| settings.auth.verdict_keys = right);
    wait_for_reloads(&world, 2).await;
    alice.done("a.list", &json!({})).await;
}

/// Executes a statement as the superuser, in no shard's database.
fn query(world: &World, statement: &str) {
    let run = || world.shared.postgres.query("postgres", statement);

    tokio::task::block_in_place(run).expect("a statement");
}

/// Goal: another password of the Postgres user counts for new connections, and another database
/// needs a restart.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_postgres_changes() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    let role = format!("{}_worker", world.database("a"));
    let url = settings.postgres.url.clone();
    let (_, address) = url.split_once('@').expect("a user in the URL");
    let url_with = |password: &str| format!("postgres://{role}:{password}@{address}");
    let set_password = |how: &str, password: &str| {
        query(
            &world,
            &format!("{how} role {role} superuser login password '{password}'"),
        );
    };
    set_password("create", "one");
    settings.postgres.url = url_with("one");
    let (_worker, mut live) = world.live_worker(settings).await;
    let load = Load::start(&world, &["a"], 2, false).await;
    load.progress(30).await;

    live.change(|settings| settings.postgres.url = url_with("two"));
    let waits = |data: &Value| reasons(data, "settings").contains("postgres.url");
    world
        .wait_for_stats("a refused password", NOTICE_TIMEOUT, waits)
        .await;
    load.progress(30).await;

    set_password("alter", "two");
    let is_healthy = |data: &Value| data["state"] == "healthy";
    let data = world
        .wait_for_stats("the new password", NOTICE_TIMEOUT, is_healthy)
        .await;
    assert_eq!(reloads(&data), Some(1));
    load.progress(30).await;
    let report = load.stop().await;
    report.is_clean();
    report.only(&[], &[Outcome::Pending]);

    let ended = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '{role}'"
    );
    query(&world, &ended);
    world
        .wait_for_stats("new connections", NOTICE_TIMEOUT, is_healthy)
        .await;

    live.change(|settings| settings.postgres.url = format!("{}_other", settings.postgres.url));
    let needs_restart =
        |data: &Value| data["settings"]["restart_needed"] == json!(["postgres.url"]);
    world
        .wait_for_stats("another database", NOTICE_TIMEOUT, needs_restart)
        .await;
}
