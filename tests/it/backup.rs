//! Backups of the bucket: a complete one is the same history to every shard, one that lacks
//! acknowledged writes is noticed, and a damaged one is refused.

use crate::harness::{Caller, World, with_breaker};
use crate::history::until_noticed;
use crate::maintain::{maintain, settings as maintain_settings};
use crate::shard_tools::verify;
use async_nats::Client;
use gofavorites::app::{BackupSession, WaitLimit};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::maintenance::Backup;
use gofavorites::requester::Requester;
use gofavorites::truth::{Bucket, SetupError};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the workers may take until they serve a restored bucket.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs `backup` with these arguments as that NATS user. Returns its exit code, and all that it
/// printed.
async fn run_as(world: &World, user: &str, arguments: &[&str]) -> (i32, String) {
    let arguments = [&["backup"], arguments].concat();
    let output = world
        .program_as(user, "a", &arguments)
        .env(
            "GOFAVORITES__TRUTH__HISTORY",
            world.truth.history.to_string(),
        )
        .env(
            "GOFAVORITES__TRUTH__REPLICAS",
            world.truth.replicas.to_string(),
        )
        .output()
        .await
        .expect("it starts");

    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    eprintln!("{arguments:?}: {printed}");
    (output.status.code().expect("an exit code"), printed)
}

/// Takes a backup, and returns its directory.
pub async fn back_up(world: &World) -> PathBuf {
    let directory = world.directory.join("backups");
    let (code, printed) = run_as(world, "backup", &["create", &text(&directory)]).await;
    assert_eq!(code, 0, "{printed}");

    let line = printed.lines().find(|line| line.contains(": taken "));
    let (path, _) = line.and_then(|line| line.split_once(": ")).expect("a path");
    PathBuf::from(path)
}

/// Restores that backup. Returns the exit code, and all that was printed.
pub async fn restore(world: &World, backup: &Path) -> (i32, String) {
    run_as(world, "restore", &["restore", &text(backup)]).await
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Deletes the stream, as an administrator may.
pub async fn delete_stream(breaker: &Client) {
    let deleted = breaker
        .request("$JS.API.STREAM.DELETE.KV_favorites", "".into())
        .await
        .expect("an answer");
    let deleted: Value = serde_json::from_slice(&deleted.payload).expect("JSON");
    assert_eq!(deleted["success"], true, "{deleted}");
}

/// Reads strongly until the shard serves the restored bucket. Returns the list.
async fn until_served(caller: &Caller, shard: &str) -> Value {
    let start = Instant::now();
    loop {
        let list = caller
            .ask(&format!("{shard}.list"), &json!({"consistency": "strong"}))
            .await;
        if list.body["error"].is_null() {
            return list.body;
        }
        assert!(start.elapsed() < RECOVERY_TIMEOUT, "{}", list.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Goal: after a complete backup is restored, all shards go on as if nothing had happened, though
/// the server gives the stream another creation time.
///
/// Method: shard b stops, and later writes supersede every record that it has seen. Then the
/// bucket is deleted under the worker of shard a and restored: from a backup, from the same one
/// again, and from a later one. After each backup a strong read writes a barrier, which is in no
/// backup. Shard b starts after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_backup_is_the_same_history_to_every_shard() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let b = world.worker("b").await;
    let breaker = world.connect_breaker().await;
    let alice = world.caller("alice").await;

    let seen = alice.put_text("b", "note", "x").await;
    world.until_projected("b", &seen).await;
    b.stop().await.expect("stopped in order");
    for number in 0..20 {
        alice.put_text("a", "note", &number.to_string()).await;
    }
    let last = alice.put_text("a", "note", "last").await;
    world.until_projected("a", &last).await;
    let epoch = alice.done("a.changes", &json!({"since": 0})).await["epoch"].clone();
    let mut born = world.query("a", "select created from cursor");

    let first = back_up(&world).await;
    let (code, printed) = restore(&world, &first).await;
    assert_eq!(code, 1, "a bucket that exists is never replaced");
    assert!(printed.contains("the bucket favorites exists"), "{printed}");
    let strong = json!({"consistency": "strong"});
    for round in 0..3 {
        let backup = if round < 2 {
            first.clone()
        } else {
            let put = alice.put_text("a", "more", "x").await;
            world.until_projected("a", &put).await;
            back_up(&world).await
        };
        alice.done("a.list", &strong).await;

        delete_stream(&breaker).await;
        let (code, printed) = restore(&world, &backup).await;
        assert_eq!(code, 0, "{printed}");
        assert!(printed.contains("1 owner, 0 of them"), "{printed}");
        let list = until_served(&alice, "a").await;
        assert!(list["stale"].is_null(), "{list}");
        let is_adopted = format!("select created <> '{born}' from cursor");
        world.until("a", &is_adopted, "t").await;
        born = world.query("a", "select created from cursor");
    }
    let put = alice.put_text("a", "last", "x").await;
    world.until_projected("a", &put).await;

    let _b = world
        .try_worker(world.settings("b"))
        .await
        .expect("a worker");
    let list = until_served(&alice, "b").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3), "{list}");
    let stats = world.stats(2).await;
    assert!(
        stats
            .iter()
            .all(|one| one["data"]["truth"]["history"] != "lost"),
        "{stats:?}"
    );

    let (code, report) = verify(&world, &[]).await;
    assert_eq!(code, 0, "{report}");
    let now = alice.done("b.changes", &json!({"since": 0})).await;
    assert_eq!(now["epoch"], epoch);
}

/// Goal: no worker takes what it knew of the deleted bucket for the restored one, which has other records
/// at the same sequences.
///
/// Method: strong reads write barriers, so shard a's two workers know that alice's set is current up to
/// sequences that the backup does not have. After the restore she writes on shard b, at one of those.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_bucket_is_followed_anew() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _first = world.worker("a").await;
    let _others = (world.worker("a").await, world.worker("b").await);
    let breaker = world.connect_breaker().await;
    let alice = world.caller("alice").await;
    let strong = json!({"kind": "text", "id": "note", "consistency": "strong"});

    let put = alice.put_text("b", "note", "before").await;
    for shard in ["a", "b"] {
        world.until_projected(shard, &put).await;
    }
    let backup = back_up(&world).await;
    for _ in 0..100 {
        alice.done("a.get", &strong).await;
    }
    delete_stream(&breaker).await;
    let (code, printed) = restore(&world, &backup).await;
    assert_eq!(code, 0, "{printed}");
    for shard in ["a", "b"] {
        until_served(&alice, shard).await;
    }

    for round in 0..40 {
        let put = alice.put_text("b", "note", &round.to_string()).await;
        let got = alice.done("a.get", &strong).await;
        assert_eq!(got["item"], put["item"], "round {round}");
    }
}

/// Goal: a restored backup that lacks acknowledged writes is noticed, and the owners who lost
/// something are named; all others are served.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_lacks_acknowledged_writes_is_noticed() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let breaker = world.connect_breaker().await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    alice.put_text("a", "old", "x").await;
    bob.put_text("a", "note", "x").await;

    let backup = back_up(&world).await;
    let acknowledged = alice.put_text("a", "new", "y").await;
    world.until_projected("a", &acknowledged).await;
    delete_stream(&breaker).await;
    let (code, printed) = restore(&world, &backup).await;
    assert_eq!(code, 0, "{printed}");
    until_noticed(&world, 1).await;

    let list = alice.done("a.list", &json!({})).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(list["stale"], true);

    let (code, report) = verify(&world, &[]).await;
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["counts"]["differ"], 1, "{report}");
    let lost = &report["owners"][0]["differences"][0]["what"];
    assert_eq!(lost, "truth_lost", "{report}");
    bob.put_text("a", "note", "y").await;
}

/// Goal: a backup of the bucket and the two keys bring everything back after every server is lost.
///
/// Method: the runbook of docs/operations.md, with the commands of a first installation.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_the_keys_restore_an_installation() {
    let mut world = World::start().await;
    let a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let bob = world.caller("bob").await;
    for number in 0..5 {
        alice.put_text("a", "note", &number.to_string()).await;
        bob.put_text("a", &format!("note-{number}"), "x").await;
    }
    let before = alice.done("a.list", &json!({})).await;
    let backup = back_up(&world).await;

    a.stop().await.expect("stopped in order");
    world.lose_store().await;
    world.query("a", "drop schema public cascade");
    world.query("a", "create schema public");

    let (code, printed) = restore(&world, &backup).await;
    assert_eq!(code, 0, "{printed}");
    let report = world.prepare(&world.settings("a")).await.expect("init");
    assert!(!report.bucket_created, "the restored bucket is there");
    let (code, _) = world.run("a", &["replay", "--everyone"]).await;
    assert_eq!(code, 0);

    let _a = world
        .try_worker(world.settings("a"))
        .await
        .expect("a worker");
    assert_eq!(world.query("a", "select count(*) from owner"), "2");
    let after = alice.done("a.list", &json!({})).await;
    assert_eq!(after["items"], before["items"]);
    let note = json!({"kind": "text", "id": "note"});
    let history = alice.done("a.history", &note).await;
    assert_eq!(history["versions"].as_array().map(Vec::len), Some(5));
    alice.put_text("a", "note", "goes on").await;
}

/// Goal: no backup that is damaged, incomplete or of other keys is restored, not even in part.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_right_is_refused() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    let backup = back_up(&world).await;
    delete_stream(&world.connect_breaker().await).await;

    let damage = |name: &str, change: &dyn Fn(&Path)| {
        let copy = world.directory.join(name);
        crate::harness::copy(&backup, &copy);
        change(&copy);
        copy
    };
    let archive = "stream.tar.s2";
    let flipped = damage("flipped", &|copy| {
        let mut bytes = fs::read(copy.join(archive)).expect("an archive");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(copy.join(archive), bytes).expect("written");
    });
    let cut = damage("cut", &|copy| {
        let bytes = fs::read(copy.join(archive)).expect("an archive");
        fs::write(copy.join(archive), &bytes[..bytes.len() - 1]).expect("written");
    });
    let unfinished = damage("unfinished", &|copy| {
        fs::remove_file(copy.join("backup.json")).expect("removed");
    });
    let of_other_keys = damage("of-other-keys", &|copy| {
        let text = fs::read_to_string(copy.join("backup.json")).expect("a description");
        let mut description: Value = serde_json::from_str(&text).expect("JSON");
        description["config"]["metadata"]["gofavorites-identity-key"] = "another".into();
        fs::write(copy.join("backup.json"), description.to_string()).expect("written");
    });

    let of_nats = damage("of-nats", &|copy| {
        let text = fs::read_to_string(copy.join("backup.json")).expect("a description");
        let mut description: Value = serde_json::from_str(&text).expect("JSON");
        description
            .as_object_mut()
            .expect("an object")
            .remove("gofavorites");
        fs::write(copy.join("backup.json"), description.to_string()).expect("written");
        fs::rename(copy.join(archive), copy.join("stream.arc.s2")).expect("renamed");
    });
    let (code, printed) = run_as(&world, "restore", &["verify", &text(&of_nats)]).await;
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("may lack records"), "{printed}");

    for (copy, message) in [
        (&flipped, "SHA-256"),
        (&cut, "its size"),
        (&unfinished, "no finished backup"),
        (&of_other_keys, "gofavorites-identity-key"),
    ] {
        for arguments in [&["verify"][..], &["restore", "--dry-run"], &["restore"]] {
            let path = text(copy);
            let arguments = [arguments, &[&path]].concat();
            let (code, printed) = run_as(&world, "restore", &arguments).await;
            assert_eq!(code, 1, "{printed}");
            assert!(printed.contains(message), "{printed}");
        }
    }

    let dry_run = ["restore", "--dry-run", &text(&backup)];
    let (code, printed) = run_as(&world, "restore", &dry_run).await;
    assert_eq!(code, 0, "nothing was restored before: {printed}");
    let (code, printed) = restore(&world, &backup).await;
    assert_eq!(code, 0, "{printed}");
}

/// Waits for the next second, for a backup of another name.
async fn next_second() {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
}

/// Goal: a user without the right is told so at once, and leaves no directory that looks like a
/// backup. `--keep` deletes the oldest backups, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn backups_are_kept_up_to_a_number() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    world.caller("alice").await.put_text("a", "note", "x").await;
    let directory = world.directory.join("backups");

    let create = ["create", &text(&directory)];
    let (code, printed) = run_as(&world, "restore", &create).await;
    assert_eq!(code, 6, "{printed}");
    assert!(printed.contains("lacks a right"), "{printed}");
    assert_eq!(fs::read_dir(&directory).expect("a directory").count(), 0);

    let first = back_up(&world).await;
    let neighbours = ["favorites-eu-20261101T000000Z", "favorites-before-upgrade"];
    for neighbour in neighbours {
        crate::harness::copy(&first, &directory.join(neighbour));
    }
    next_second().await;
    let second = back_up(&world).await;
    next_second().await;
    let create = ["create", &text(&directory), "--keep", "2"];
    let (code, printed) = run_as(&world, "backup", &create).await;
    assert_eq!(code, 0, "{printed}");

    assert!(!first.exists(), "the oldest one is deleted");
    assert!(Backup::open(&second).is_ok());
    for neighbour in neighbours {
        assert!(directory.join(neighbour).exists(), "{neighbour}");
    }

    // A clock that went back does not cost the new backup.
    next_second().await;
    let create = ["create", &text(&directory), "--keep", "1"];
    let of_tomorrow = directory.join("favorites-29991231T235959Z");
    crate::harness::copy(&second, &of_tomorrow);
    let (code, printed) = run_as(&world, "backup", &create).await;
    assert_eq!(code, 0, "{printed}");
    let new = printed.split(": taken").next().expect("a line");
    let new = new.lines().last().expect("a path");
    assert!(Backup::open(Path::new(new)).is_ok(), "{printed}");
}

/// Goal: a snapshot that may lack a current record is known as incomplete.
///
/// Method: the snapshot ends at the bucket's newest record. After that, keys are written to as often
/// as their history is long, and less often; a deletion is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn writers_that_outrun_a_backup_are_noticed() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "x").await;
    alice.put_text("a", "gone", "x").await;
    let gone = json!({"kind": "text", "id": "gone"});
    alice.done("a.delete", &gone).await;
    let bucket = world.bucket("a").await;
    let newest = async || bucket.position().await.expect("a position").newest;

    let history = world.truth.history;
    let end = newest().await;
    for number in 1..history {
        alice.put_text("a", "note", &number.to_string()).await;
        let strong = json!({"consistency": "strong"});
        alice.done("a.list", &strong).await;
    }
    let is_complete = bucket.is_complete(end).await.expect("read");
    assert!(is_complete, "the record is still kept");
    alice.put_text("a", "note", "once more").await;
    let is_complete = bucket.is_complete(end).await.expect("read");
    assert!(!is_complete, "the record is dropped");

    let end = newest().await;
    assert!(bucket.is_complete(end).await.expect("read"));
    maintain(&maintain_settings(&world)).await;
    let is_complete = bucket.is_complete(end).await.expect("read");
    assert!(!is_complete, "the deletion is forgotten");
}

/// Goal: a restore that was interrupted leaves nothing that passes for the bucket.
///
/// Method: the server gets half of the archive, and nothing more. It serves what it has got.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_restore_is_no_bucket() {
    let world = World::with_accounts(&with_breaker(ACCOUNTS_CONF)).await;
    let _a = world.worker("a").await;
    let breaker = world.connect_breaker().await;
    let alice = world.caller("alice").await;
    // The server packs a megabyte at a time.
    for number in 0..60 {
        let long = "x".repeat(60_000);
        alice.put_text("a", &number.to_string(), &long).await;
    }
    let backup = back_up(&world).await;
    delete_stream(&breaker).await;

    let requester = Requester::start(world.connect("restore").await).await;
    let requester = requester.expect("an inbox");
    let bucket = Bucket::new(requester, world.truth.clone(), "backup");
    let stored = Backup::open(&backup).expect("a backup").stored;
    let half = bucket.restore(&stored, true).await.expect("begun");
    let archive = fs::read(backup.join("stream.tar.s2")).expect("an archive");
    for chunk in archive[..archive.len() / 2].chunks(100_000) {
        half.send(chunk.to_vec().into()).await.expect("sent");
    }
    drop(half);
    let start = Instant::now();
    while !matches!(bucket.stored().await, Err(SetupError::HalfRestored(_))) {
        assert!(start.elapsed() < RECOVERY_TIMEOUT, "the restore goes on");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let refused = world.init(&world.settings("b")).await;
    let refused = refused.expect_err("no shard begins");
    assert!(
        format!("{refused:#}").contains("interrupted"),
        "{refused:#}"
    );
    let (code, printed) = restore(&world, &backup).await;
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("interrupted restore"), "{printed}");

    delete_stream(&breaker).await;
    let (code, printed) = restore(&world, &backup).await;
    assert_eq!(code, 0, "{printed}");
    until_served(&alice, "a").await;
    let stats = world.stats(1).await;
    assert_ne!(stats[0]["data"]["truth"]["history"], "lost", "{stats:?}");
}

/// Goal: a backup of three servers that is taken during writes has each atomic batch completely or
/// not at all.
///
/// Method: alice writes batches of ten without a pause. The restored bucket is audited, and every
/// batch in it is complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_during_writes_has_only_complete_batches() {
    let (world, _cluster) = World::cluster_with(&with_breaker(ACCOUNTS_CONF), 64).await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let puts: Vec<_> = (0..10)
                    .map(|number| {
                        let text = round.to_string();
                        json!({"op": "put", "kind": "text", "id": format!("note-{number}"), "data": {"text": text}})
                    })
                    .collect();
                // On a busy machine three servers may refuse one in time: it is not written.
                alice
                    .ask("a.batch", &json!({"mode": "atomic", "ops": puts}))
                    .await;
            }
            (alice, round)
        }
    });

    tokio::time::sleep(Duration::from_millis(500)).await;
    let backup = back_up(&world).await;
    stop.store(true, Ordering::Relaxed);
    let (alice, rounds) = writing.await.expect("no panic");

    delete_stream(&world.connect_breaker().await).await;
    let (code, printed) = restore(&world, &backup).await;
    assert_eq!(code, 0, "{printed}");

    let mut settings = world.settings("a");
    world.connect_all_as(&mut settings, "restore");
    let session = BackupSession::open(&settings, WaitLimit::FOREVER)
        .await
        .expect("connected");
    let audit = session.backups.audit(|_, _| {}).await.expect("read");
    assert_eq!((audit.owners, audit.broken), (1, 0));

    // Shard b hosts alice from the restored bucket.
    let _b = world.worker("b").await;
    let list = until_served(&alice, "b").await;
    let texts: Vec<_> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["data"]["text"].clone())
        .collect();
    assert_eq!(texts.len(), 10);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    println!("{rounds} batches were written, the backup has {}", texts[0]);
}
