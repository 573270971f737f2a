//! An operator's commands: which database they accept, what they may do, what they log, and how
//! they say what is wrong.

use crate::harness::{World, replace};
use gofavorites::config::Settings;
use serde_json::Value;
use std::process::Output;
use tokio::process::Command;

/// Runs the program, and returns its exit code, what it printed and what it logged. Fails if it
/// prints the password of Postgres.
async fn run(mut program: Command, world: &World) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program.output().await.expect("it starts");
    let [text, log] = [stdout, stderr].map(|text| String::from_utf8(text).expect("UTF-8"));

    let url = world.settings("a").postgres.url;
    let user = url.split(['/', '@']).nth(2).expect("a user");
    if let Some((_, password)) = user.split_once(':') {
        assert!(!text.contains(password) && !log.contains(password), "{log}");
    }
    eprintln!("{text}{log}");
    (status.code().expect("an exit code"), text, log)
}

/// The settings of shard a with the database of shard b, as a copied file has them.
fn copied(world: &World) -> Settings {
    let mut settings = world.settings("a");
    settings.postgres.url = world.settings("b").postgres.url;

    settings
}

#[track_caller]
fn check_names_both_shards(error: &str, world: &World) {
    let database = world.database("b");

    for part in [
        "belongs to shard b",
        "shard.id names shard a",
        "postgres.url",
        &format!("/{database} "),
        "127.0.0.1:",
    ] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

/// Goal: nothing of a shard uses the database of another shard.
///
/// Method: a worker and each command get the settings of shard a with the database of shard b.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_shard_is_refused() {
    let (world, _a, _b) = World::with_two_shards().await;

    let error = world.try_worker(copied(&world)).await.err();
    check_names_both_shards(&format!("{:#}", error.expect("refused")), &world);
    let error = world.prepare(&copied(&world)).await.expect_err("refused");
    check_names_both_shards(&format!("{error:#}"), &world);

    for arguments in [
        &["verify"][..],
        &["replay"],
        &["shard", "evict", "--unseen-for", "90d", "--dry-run"],
        &["serve"],
    ] {
        let mut program = world.program("a", arguments);
        program.env("GOFAVORITES__POSTGRES__URL", copied(&world).postgres.url);
        let (code, _, log) = run(program, &world).await;

        assert_eq!(code, 2, "{arguments:?}: {log}");
        check_names_both_shards(&log, &world);
        assert_eq!(log.matches("belongs to shard b").count(), 1, "{log}");
    }

    let (code, text, log) = run(world.program("a", &["verify"]), &world).await;
    let place = format!("/{}): 0 owners compared: 0 equal", world.database("a"));
    assert_eq!(code, 0, "{log}");
    assert!(text.starts_with("shard a (127.0.0.1:"), "{text}");
    assert!(text.contains(&place), "{text}");
}

/// Goal: the first `init` after an upgrade writes the shard's id into a database that exists.
///
/// Method: a database is put back to the release before. A worker names `init`; then `init` runs.
#[tokio::test(flavor = "multi_thread")]
async fn init_writes_the_shard_into_an_older_database() {
    let world = World::start().await;
    let settings = world.settings("a");
    world.init(&settings).await.expect("init");
    world.query("a", "drop table shard");
    world.query("a", "delete from _sqlx_migrations where version = 7");

    let error = world.try_worker(settings.clone()).await.err();
    let error = format!("{:#}", error.expect("refused"));
    assert!(error.contains("run `gofavorites init`"), "{error}");

    world.prepare(&settings).await.expect("init");
    assert_eq!(world.query("a", "select id from shard"), "a");
    world.prepare(&settings).await.expect("init again");
    world.try_worker(settings).await.expect("a worker");
}

/// Goal: `maintain` with the NATS user of a worker ends before it changes anything, and names the
/// missing right once.
///
/// Method: an owner has a deletion that is due. `maintain` runs as the user of workers.
#[tokio::test(flavor = "multi_thread")]
async fn maintain_checks_its_rights_before_it_changes_anything() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    crate::maintain::delete(&alice, "a", "note").await;
    let before = world.records().await.len();

    for user in ["worker", "backup"] {
        for once in [&["--once"][..], &[]] {
            let arguments = [&["maintain"], once].concat();
            let mut program = world.program_as(user, "a", &arguments);
            program.env("GOFAVORITES__MAINTAIN__DELETIONS_D", "0");

            let (code, _, log) = run(program, &world).await;

            assert_eq!(code, 6, "{user}: {log}");
            assert_eq!(log.matches("lacks a right").count(), 1, "{log}");
            assert!(
                log.to_lowercase().contains("permissions violation"),
                "{log}"
            );
            let is_logged = log.contains("the NATS server reports an error");
            assert_eq!(is_logged, once.is_empty(), "{log}");
        }
    }
    assert_eq!(world.records().await.len(), before);

    let mut program = world.program_as("maintain", "a", &["maintain", "--once"]);
    program.env("GOFAVORITES__MAINTAIN__DELETIONS_D", "0");
    let (code, text, log) = run(program, &world).await;
    assert_eq!(code, 0, "{log}");
    let expected = "1 owner: purged 1 deletion of 1 owner; 0 owners could not be purged\n";
    assert_eq!(text, expected);
    assert_eq!(log, "");
}

/// Goal: a command that ends by itself logs nothing if all is well, and what it does with `-v`. An
/// error stands there once.
#[tokio::test(flavor = "multi_thread")]
async fn commands_log_only_what_a_person_needs() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");

    let (code, _, log) = run(world.program("a", &["verify"]), &world).await;
    assert_eq!((code, log.as_str()), (0, ""));

    let mut wrong = world.program("a", &["verify"]);
    wrong.env("GOFAVORITES__NATS__TRUTH__PASSWORD", "wrong");
    let (code, _, log) = run(wrong, &world).await;
    assert_eq!((code, log.lines().count()), (6, 1), "{log}");

    let (code, _, log) = run(world.program("a", &["verify", "-v"]), &world).await;
    assert_eq!(code, 0);
    assert!(log.contains("connected to NATS"), "{log}");

    let mut human = world.program("a", &["verify", "-v"]);
    human.env("GOFAVORITES__LOG__FORMAT", "human");
    let (_, _, log) = run(human, &world).await;
    assert!(log.contains("connected to NATS"), "{log}");
    assert!(!log.contains('\x1b'), "colour in a pipe: {log:?}");
}

/// Goal: a Postgres that cannot be used is named with its place and the cause, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_not_there_is_named() {
    let world = World::start().await;
    world.init(&world.settings("a")).await.expect("init");
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nowhere.local_addr().expect("an address").port();
    drop(nowhere);
    let url = world.settings("a").postgres.url;

    for arguments in [&["verify", "--wait", "0"][..], &["init", "--wait", "0"]] {
        let user = ["worker", "init"][usize::from(arguments[0] == "init")];
        let mut program = world.program_as(user, "a", arguments);
        let gone = format!("postgres://u:hush@127.0.0.1:{port}/d");
        program.env("GOFAVORITES__POSTGRES__URL", gone);
        let (code, _, log) = run(program, &world).await;

        assert_eq!(code, 8, "{log}");
        let cause = format!("127.0.0.1:{port}/d: connection refused");
        assert_eq!(log.matches(&cause).count(), 1, "{log}");
        assert!(!log.contains("hush") && !log.contains("pool"), "{log}");

        let mut program = world.program_as(user, "a", arguments);
        let missing = url.replace(&world.database("a"), "shard_x");
        program.env("GOFAVORITES__POSTGRES__URL", missing);
        let (_, _, log) = run(program, &world).await;

        assert!(log.contains("/shard_x: database \"shard_x\""), "{log}");
        assert!(!log.contains("at line"), "{log}");
    }
}

/// Goal: an operator who knows a user finds the owner, and learns nothing that the owner wrote.
///
/// Method: alice has two items, one of them deleted. `owner` names her by subject and by token, while
/// she is hosted, evicted and erased. Nobody has the last subject.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_the_owner_of_a_user() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice-of-the-test").await;
    alice.put_text("a", "first-note", "a-favourite-text").await;
    let put = alice.put_text("a", "note", "a-favourite-text").await;
    let version = crate::maintain::delete(&alice, "a", "note").await;
    assert!(version > put["owner_version"].as_u64().expect("a version"));
    let row = format!(
        "select version from owner where owner_key = {}",
        world.key_of("alice-of-the-test")
    );
    world.until("a", &row, &version.to_string()).await;
    let token = world.directory.join("alice.token");
    replace(&token, &alice.token);

    let name = world.owner("alice-of-the-test").to_string();
    let by_subject = ["owner", "--sub", "alice-of-the-test"];
    let file = token.to_str().expect("UTF-8");
    let mut printed = Vec::new();
    for arguments in [&by_subject[..], &["owner", "--token-file", file]] {
        let (code, text, log) = run(world.program("a", arguments), &world).await;
        assert_eq!((code, log.as_str()), (0, ""));
        printed.push(text);
    }
    assert_eq!(printed[0], printed[1]);
    let text = &printed[0];
    for part in [
        &format!("owner {name}\n"),
        &format!("bucket: version {version}, last written 20"),
        "1 item of 500, 2 keys of 1000 with deleted ones",
        &format!("at version {version}, as in the bucket; last seen 20"),
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    for secret in ["alice-of", "note", "favourite", &alice.token] {
        assert!(!text.contains(secret), "{secret} is in: {text}");
    }

    let json = [&by_subject[..], &["--json"]].concat();
    let (_, json, _) = run(world.program("a", &json), &world).await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["owner"], name);
    assert_eq!(json["bucket"]["version"], version);
    assert_eq!(json["copy"]["complete"], true);

    for (change, expected) in [
        ("update owner set erased_at = now()", "): erased 20"),
        ("delete from owner", "): not hosted: "),
    ] {
        world.query("a", change);
        let (code, text, _) = run(world.program("a", &by_subject), &world).await;
        assert_eq!(code, 0);
        assert!(text.contains(expected), "{text}");
    }

    let nobody = ["owner", "--sub", "nobody-of-this-test"];
    let (code, text, log) = run(world.program("a", &nobody), &world).await;
    assert_eq!(code, 3, "{log}");
    assert!(!text.contains("nobody-of") && !log.contains("nobody-of"));
}
