//! Programs take up changed settings while they run, and no request is lost or refused by that.

use crate::harness::load::{Load, Outcome};
use crate::harness::{Process, Proxy, World, replace};
use gofavorites::config::Settings;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long a worker may take to notice a change.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(20);

/// The users of the three connections.
const USERS: [&str; 3] = ["front", "auth", "worker"];

/// Returns the reasons of the settings, in one text.
fn reasons(data: &Value) -> String {
    let reasons = data["reasons"].as_array().into_iter().flatten();
    let whys = reasons
        .filter(|reason| reason["part"] == "settings")
        .filter_map(|reason| reason["why"].as_str());

    whys.collect::<Vec<_>>().join("\n")
}

/// Waits until the worker in service has taken up changed settings that often, and is healthy.
async fn wait_for_reloads(world: &World, count: u64) -> Value {
    let is_reloaded =
        |data: &Value| data["settings"]["reloads"] == count && data["state"] == "healthy";

    world
        .wait_for_stats("reloaded", NOTICE_TIMEOUT, is_reloaded)
        .await
}

/// Waits until the worker says why the settings cannot be used.
async fn wait_for_refusal(world: &World, part: &str) -> Value {
    let is_refused = |data: &Value| reasons(data).contains(part);
    let data = world.wait_for_stats(part, NOTICE_TIMEOUT, is_refused).await;
    assert_eq!(data["state"], "degraded");

    data
}

/// Returns the limit in force.
async fn limit(world: &World, name: &str) -> Option<u64> {
    let caller = world.caller("reader").await;
    let reply = caller.done("a.limits", &json!({})).await;

    reply["limits"][name]["value"].as_u64()
}

/// Starts a worker process of the shard `a`.
async fn start() -> (World, Process) {
    let world = World::start().await;
    let settings = world.settings("a");
    let worker = serve(&world, settings).await;

    (world, worker)
}

/// Starts a worker process of the shard `a` with these settings, after `init`.
async fn serve(world: &World, settings: Settings) -> Process {
    world.init(&world.settings("a")).await.expect("init");
    let mut worker = world.serve(settings);
    worker.is_ready().await;

    worker
}

/// Runs a load on the shard `a` while `change` runs, and fails if a request was lost or refused.
async fn under_load(world: &World, change: impl AsyncFnOnce()) {
    let load = Load::start(world, &["a"], 4, false).await;
    load.progress(50).await;

    change().await;

    load.progress(100).await;
    let report = load.stop().await;
    report.is_clean();
    report.only(&[], &[Outcome::Pending]);
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

/// Goal: changed limits count within seconds, also when they change again before they count, and no
/// request is lost or refused by that.
#[tokio::test(flavor = "multi_thread")]
async fn changed_limits_count_while_requests_run() {
    let (world, mut worker) = start().await;
    let alice = world.caller("alice").await;
    for id in ["one", "two"] {
        alice.put_text("a", id, "text").await;
    }

    under_load(&world, async || {
        worker.change(|settings| settings.limits.item.id_bytes = 40);
        wait_for_reloads(&world, 1).await;
        for items in [9, 8, 7] {
            worker.change(|settings| settings.limits.items = items);
            worker.signal(Signal::SIGHUP);
        }
        let is_seven = async || limit(&world, "items").await == Some(7);
        while !is_seven().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;

    // The load's owners have six items each, so the lowest number for all is enough for them.
    for number in 2..7 {
        alice.put_text("a", &format!("more-{number}"), "text").await;
    }
    let eighth = json!({"kind": "text", "id": "eighth", "data": {"text": "t"}});
    alice.ask("a.put", &eighth).await.refusal("quota_exceeded");
    let long = json!({"kind": "text", "id": "x".repeat(41), "data": {"text": "t"}});
    let refused = alice.ask("a.put", &long).await.body;
    assert!(refused["error"].is_object(), "{refused}");

    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
}

/// Goal: SIGHUP makes a worker read its settings at once, the log says what has changed, and not to
/// what. The filter of the log changes without another worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_takes_up_its_settings_on_sighup() {
    let (world, mut worker) = start().await;

    worker.signal(Signal::SIGHUP);
    worker.says("the settings are those in force").await;

    assert!(!worker.log().contains("\"level\":\"DEBUG\""));
    worker.change(|settings| settings.log.filter = "info,async_nats=debug".into());
    worker.signal(Signal::SIGHUP);
    worker.says("\"settings\":\"log.filter\"").await;
    wait_for_reloads(&world, 1).await;
    assert_eq!(worker.log().matches("\"ready\"").count(), 1);

    worker.change(|settings| {
        settings.log.filter = "info,async_nats=debug,sqlx=warn".into();
        settings.read.cache_bytes = 123_456_789;
    });
    worker.signal(Signal::SIGHUP);
    worker
        .says("\"settings\":\"log.filter, read.cache_bytes\"")
        .await;
    wait_for_reloads(&world, 2).await;
    worker.says("\"level\":\"DEBUG\"").await;
    worker.says_times("\"ready\"", 2).await;
    assert!(!worker.log().contains("123456789"));

    worker.change(|settings| settings.log.format = gofavorites::config::LogFormat::Human);
    worker.says("log.format has changed").await;
}

/// Goal: settings that cannot be used change nothing, are reported with all mistakes, and no longer
/// are once they are right, or are as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_keeps_the_former_settings() {
    let (world, mut worker) = start().await;

    worker.change(|settings| {
        settings.limits.keys = 2_000;
        settings.limits.page = 0;
        settings.limits.items = 3;
    });
    let data = wait_for_refusal(&world, "limits.keys").await;
    assert!(reasons(&data).contains("limits.page"), "{data}");
    assert_eq!(limit(&world, "items").await, Some(500));

    for (text, part) in [
        ("[keys]\nidentity = \"hush\n", ".toml:2: "),
        ("[limits]\nnmae = 1\n", "nmae"),
        ("[nats.truth]\npassword = [\"hush\"]\n", "password"),
        ("postgres.url_file = \"/nowhere\"\n", "/nowhere"),
    ] {
        worker.write(text);
        let data = wait_for_refusal(&world, part).await;
        assert!(!data.to_string().contains("hush"), "{data}");
    }
    assert!(!worker.log().contains("hush"));

    worker.change(|settings| {
        settings.limits.keys = 1_000;
        settings.limits.page = 100;
        settings.log.filter = "gofavorites=loud".into();
    });
    wait_for_refusal(&world, "log.filter").await;

    worker.change(|settings| {
        settings.log.filter = "info".into();
        settings.limits.reply_bytes = 1 << 20;
    });
    wait_for_refusal(&world, "limits.reply_bytes").await;
    assert_eq!(limit(&world, "items").await, Some(500));

    worker.change(|settings| settings.limits.reply_bytes = 786_432);
    wait_for_reloads(&world, 1).await;
    assert_eq!(limit(&world, "items").await, Some(3));
}

/// Goal: all three connections change to other users, and no request is lost or refused.
///
/// Method: the servers know both users of each connection. Under a load, the settings name the
/// other ones. Then the servers forget the former users.
#[tokio::test(flavor = "multi_thread")]
async fn users_are_replaced_without_a_lost_request() {
    let mut world = World::with_accounts(&with_successors(true)).await;
    let settings = world.settings("a");
    let mut worker = serve(&world, settings).await;
    let load = Load::start(&world, &["a"], 4, false).await;
    load.progress(50).await;

    worker.change(use_successors);
    wait_for_reloads(&world, 1).await;
    worker.says("\"stopped\"").await;
    load.progress(50).await;
    let report = load.stop().await;
    report.is_clean();
    report.only(&[], &[Outcome::Pending]);

    world.reload_accounts(&with_successors(false)).await;
    let load = Load::start(&world, &["a"], 4, false).await;
    load.progress(150).await;
    let report = load.stop().await;
    report.is_clean();
    report.only(&[], &[Outcome::Pending]);
    wait_for_reloads(&world, 1).await;
}

/// Goal: a user that lacks a right does not take over, and takes no request while that is found out.
///
/// Method: each of the three successors lacks a grant that a worker needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_a_right_does_not_take_over() {
    let accounts = with_successors(true);
    let mut lacking = accounts.clone();
    for (user, grant) in [
        ("front", "\"favorites.v1.> favorites\""),
        ("auth", "\"auth.v1.verify\""),
        ("worker", "\"$KV.favorites.>\""),
    ] {
        let old = definition(&accounts, &successor(user)).to_owned();
        assert!(old.contains(grant), "{old}");
        let new = old.replace(grant, "\"nothing.of.use\"");
        lacking = lacking.replace(&old, &new);
    }
    let mut world = World::with_accounts(&lacking).await;
    let settings = world.settings("a");
    let mut worker = serve(&world, settings.clone()).await;

    let connections = ["nats.front", "nats.auth", "nats.truth"];
    for (number, connection) in connections.into_iter().enumerate() {
        under_load(&world, async || {
            let mut changed = settings.clone();
            use_successors(&mut changed);
            worker.change(|settings| {
                let (from, to) = (&changed.nats, &mut settings.nats);
                match number {
                    0 => to.front = from.front.clone(),
                    1 => to.auth = from.auth.clone(),
                    _ => to.truth = from.truth.clone(),
                }
            });
            wait_for_refusal(&world, "lacks a right").await;
            let former = settings.nats.clone();
            worker.change(|settings| settings.nats = former);
            worker.signal(Signal::SIGHUP);
            wait_for_reloads(&world, 0).await;
        })
        .await;
        worker.says(connection).await;
    }

    // With the grants, the same settings are taken up without another change.
    worker.change(use_successors);
    wait_for_refusal(&world, "lacks a right").await;
    world.reload_accounts(&accounts).await;
    wait_for_reloads(&world, 1).await;
}

/// Goal: a worker lives through the change of the passwords of its users, if the files get the new
/// ones before the servers do.
///
/// Method: under a load, the files get the new passwords. The servers refuse them, so the present
/// connections stay in use, and no request fails. Then the servers get them too, and end the
/// connections. The worker connects again by itself, and no acknowledged write is lost.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_change_in_files_and_servers() {
    let mut world = World::start().await;
    let (settings, files) = with_password_files(&world);
    let mut worker = serve(&world, settings).await;

    under_load(&world, async || {
        for (user, file) in USERS.into_iter().zip(&files) {
            replace(file, &successor(user));
        }
        wait_for_refusal(&world, "password").await;
    })
    .await;

    let load = Load::start(&world, &["a"], 3, true).await;
    load.progress(50).await;
    let mut accounts = ACCOUNTS_CONF.to_owned();
    for user in USERS {
        accounts = with_password(&accounts, user, &successor(user));
    }
    world.reload_accounts(&accounts).await;
    wait_for_reloads(&world, 1).await;
    load.progress(50).await;
    load.stop().await.is_clean();

    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
}

/// Executes a statement as the superuser, in no shard's database.
fn query(world: &World, statement: &str) {
    let run = || world.shared.postgres.query("postgres", statement);

    tokio::task::block_in_place(run).expect("a statement");
}

/// Goal: another password of the Postgres user counts as soon as Postgres accepts it. A user without
/// rights, and a database that does not exist, are not taken up.
#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_postgres_changes() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    let role = format!("{}_worker", world.database("a"));
    let url = settings.postgres.url.clone();
    let (_, address) = url.split_once('@').expect("a user in the URL");
    let url_with = |role: &str, password: &str| format!("postgres://{role}:{password}@{address}");
    let create = |role: &str, kind: &str| {
        query(
            &world,
            &format!("create role {role} {kind} login password 'one'"),
        );
    };
    create(&role, "superuser");
    let poor = format!("{role}_poor");
    create(&poor, "");
    settings.postgres.url = url_with(&role, "one");
    let mut worker = serve(&world, settings).await;

    under_load(&world, async || {
        for (url, part) in [
            (url_with(&role, "two"), "password authentication failed"),
            (url_with(&poor, "one"), "permission denied"),
            (
                format!("{}_other", url_with(&role, "one")),
                "does not exist",
            ),
        ] {
            worker.change(|settings| settings.postgres.url = url);
            worker.signal(Signal::SIGHUP);
            wait_for_refusal(&world, part).await;
            worker.change(|settings| settings.postgres.url = url_with(&role, "one"));
            worker.signal(Signal::SIGHUP);
            wait_for_reloads(&world, 0).await;
        }

        worker.change(|settings| settings.postgres.url = url_with(&role, "two"));
        worker.signal(Signal::SIGHUP);
        query(&world, &format!("alter role {role} password 'two'"));
        wait_for_reloads(&world, 1).await;
    })
    .await;
}

/// Goal: a stop is not held up by a worker with changed settings that cannot start.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_worker_that_waits() {
    let (world, mut worker) = start().await;

    worker.change(|settings| settings.nats.url = "nats://127.0.0.1:1".into());
    worker.says("waiting for NATS").await;
    wait_for_refusal(&world, "is not ready after").await;
    under_load(&world, async || ()).await;

    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
}

/// Goal: a mounted Secret or ConfigMap counts. Kubernetes replaces the symbolic link of its
/// directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_symbolic_link_counts() {
    use std::os::unix::fs::symlink;

    let world = World::start().await;
    let mut settings = world.settings("a");
    let mount = world.directory.join("mount");
    for (version, password) in [
        ("v1", &settings.nats.truth.password),
        ("v2", &successor("worker")),
    ] {
        std::fs::create_dir_all(mount.join(version)).expect("a directory");
        replace(&mount.join(version).join("password"), password);
    }
    symlink("v1", mount.join("data")).expect("a link");
    settings.nats.truth.password = String::new();
    settings.nats.truth.password_file = mount.join("data/password");
    let mut worker = serve(&world, settings).await;

    symlink("v2", mount.join("next")).expect("a link");
    std::fs::rename(mount.join("next"), mount.join("data")).expect("replaced");

    worker
        .says("\"settings\":\"nats.truth.password_file\"")
        .await;
    wait_for_refusal(&world, "nats.truth.password").await;
}

/// Goal: nothing of a former worker, and of one that was refused, stays connected or keeps running.
#[tokio::test(flavor = "multi_thread")]
async fn former_workers_leave_nothing_behind() {
    let (world, mut worker) = start().await;
    let before = worker.open_files();
    let tasks = |data: &Value| data["tasks"].as_u64().expect("a number");
    let tasks_before = tasks(&wait_for_reloads(&world, 0).await);

    for reload in 1..=4 {
        worker.change(|settings| settings.limits.items = 100 + reload);
        worker.signal(Signal::SIGHUP);
        wait_for_reloads(&world, reload as u64).await;
    }
    let url = world.settings("a").postgres.url;
    worker.change(|settings| settings.postgres.url = format!("{url}_other"));
    worker.signal(Signal::SIGHUP);
    wait_for_refusal(&world, "does not exist").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    worker.change(|settings| settings.postgres.url = url);
    worker.signal(Signal::SIGHUP);
    worker.says("the settings are those in force").await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    // A pool may have a connection more or less.
    let after = worker.open_files();
    assert!(after <= before + 3, "{before} {after}");
    let tasks_after = tasks(&wait_for_reloads(&world, 4).await);
    assert!(
        tasks_after <= tasks_before + 5,
        "{tasks_before} {tasks_after}"
    );
}

/// Goal: what was wanted before a mistake does not come into force after it, and what is reported is
/// about the settings as they are.
///
/// Method: a worker with changed settings waits for NATS when the file becomes unreadable. Then the
/// server that it waits for is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_ends_the_start_before_it() {
    let (world, mut worker) = start().await;
    let url = world.settings("a").nats.url;
    let address = url.trim_start_matches("nats://");
    let proxy = Proxy::start(address).await;
    proxy.cut();

    worker.change(|settings| settings.nats.url = format!("nats://127.0.0.1:{}", proxy.port()));
    worker.says("waiting for NATS").await;
    worker.write("[limits]\nnmae = 1\n");
    worker.signal(Signal::SIGHUP);
    wait_for_refusal(&world, "nmae").await;
    proxy.heal();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        wait_for_refusal(&world, "nmae").await["settings"]["reloads"],
        0
    );

    worker.signal(Signal::SIGHUP);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refusals = worker.log().matches("the settings cannot be used").count();
    assert_eq!(refusals, 2, "each SIGHUP is answered");
}

/// Goal: while the auth service is silent, a worker without its verdicts does not take over.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_because_of_a_change_while_auth_is_silent() {
    let (mut world, mut worker) = start().await;
    let alice = world.caller("alice").await;
    alice.done("a.list", &json!({})).await;
    world.stop_auth().await;

    worker.change(|settings| settings.limits.items = 77);
    worker.signal(Signal::SIGHUP);
    worker.says("waiting for the auth service").await;
    for _ in 0..20 {
        alice.done("a.list", &json!({})).await;
    }

    world.start_auth().await;
    wait_for_reloads(&world, 1).await;
    alice.done("a.list", &json!({})).await;
}

/// Goal: `maintain` takes up changed settings too, and stops in order afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn maintain_takes_up_its_settings() {
    let world = World::start().await;
    let settings = world.settings("a");
    world.init(&settings).await.expect("init");
    let mut maintain = world.maintain(settings);
    maintain.says("connected to NATS").await;

    maintain.change(|settings| settings.maintain.pause_s = 0);
    maintain.says("maintain.pause_s: at least 1 second").await;
    maintain.change(|settings| settings.maintain.pause_s = 60);
    maintain.signal(Signal::SIGHUP);
    maintain.says("the changed settings are in force").await;

    maintain.signal(Signal::SIGTERM);
    assert_eq!(maintain.ended().await.code(), Some(0), "{}", maintain.log());
}
