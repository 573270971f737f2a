//! The auth service's keys come from files that workers read again while they run.

use crate::harness::{Caller, Verifier, World};
use gofavorites::config::Settings;
use gofavorites::dev::auth_service::AuthService;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a worker may take to notice a changed file.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes the public verdict keys of these secrets into a file, in one step.
fn write_keys(file: &Path, secrets: &[&Secrets]) {
    let keys: Vec<Value> = secrets
        .iter()
        .map(|secrets| secrets.verdict_jwk().expect("a key"))
        .collect();
    let unfinished = file.with_extension("unfinished");

    fs::write(&unfinished, json!({ "keys": keys }).to_string()).expect("written");
    fs::rename(&unfinished, file).expect("renamed");
}

/// Returns settings with both key sets in files, and without a cache: each request is verified.
fn settings_with_files(world: &World, shard: &str) -> (Settings, PathBuf) {
    let verdict_keys = world.directory.join("verdict-keys.json");
    let token_keys = world.directory.join("token-keys.json");
    write_keys(&verdict_keys, &[&world.secrets]);
    fs::write(&token_keys, world.secrets.token_jwks().expect("a key set")).expect("written");

    let mut settings = world.settings(shard);
    settings.auth.verdict_keys = String::new();
    settings.auth.verdict_keys_file = verdict_keys.clone();
    settings.auth.token_keys = String::new();
    settings.auth.token_keys_file = token_keys;
    settings.auth.cache_ttl_ms = 0;
    (settings, verdict_keys)
}

/// Waits until `is_so` of what the one worker reports about itself.
async fn wait_until(world: &World, what: &str, is_so: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    loop {
        let stats = world.stats(1).await;
        if is_so(&stats[0]["data"]) {
            return;
        }
        assert!(begun.elapsed() < NOTICE_TIMEOUT, "{what}: {}", stats[0]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends requests without a pause until `stop`, and counts them. Each must be answered.
async fn send_requests(caller: Caller, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        caller.done("a.list", &json!({})).await;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Goal: the auth service takes another key, and no request fails.
///
/// Method: callers send requests all the time, each of which is verified. The new key is added to
/// the file; the auth service signs with it; the old key is removed; in between the file is broken.
#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_without_a_failed_request() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    let old = world.secrets.clone();
    let new = old.with_new_verdict_key().expect("secrets");
    let service = AuthService::new(&new).expect("keys");
    let signs_with_new = Arc::new(AtomicBool::new(false));
    let switch = signs_with_new.clone();
    let _verifier = Verifier::start(&world, move |old, token| {
        let signer = if switch.load(Ordering::Relaxed) {
            &service
        } else {
            old
        };
        signer.verdict(token).ok()
    })
    .await;
    let (settings, file) = settings_with_files(&world, "a");
    let _worker = world.worker_with(settings).await;

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut callers = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let caller = world.caller(name).await;
        callers.push(tokio::spawn(send_requests(
            caller,
            stop.clone(),
            done.clone(),
        )));
    }
    let hundred_more = async || {
        let enough = done.load(Ordering::Relaxed) + 100;
        while done.load(Ordering::Relaxed) < enough {
            assert!(
                callers.iter().all(|caller| !caller.is_finished()),
                "one failed"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reloads = |count: u64| move |data: &Value| data["auth"]["key_reloads"] == count;
    hundred_more().await;

    write_keys(&file, &[&old, &new]);
    wait_until(&world, "both keys", reloads(1)).await;
    hundred_more().await;

    signs_with_new.store(true, Ordering::Relaxed);
    hundred_more().await;

    fs::write(&file, "{\"keys\": [").expect("written");
    let is_degraded = |data: &Value| data["reasons"][0]["part"] == "auth";
    wait_until(&world, "a broken file", is_degraded).await;
    hundred_more().await;

    write_keys(&file, &[&new]);
    let is_mended = |data: &Value| reloads(2)(data) && data["state"] == "healthy";
    wait_until(&world, "the new key", is_mended).await;
    hundred_more().await;

    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no request failed");
    }

    signs_with_new.store(false, Ordering::Relaxed);
    let refused = world.caller("dave").await.ask("a.list", &json!({})).await;
    refused.refusal("auth_unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_the_cached_verdicts_that_it_may_have_signed() {
    let world = World::start().await;
    let (mut settings, file) = settings_with_files(&world, "a");
    settings.auth.cache_ttl_ms = 600_000;
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    alice.done("a.list", &json!({})).await;
    alice.done("a.list", &json!({})).await;

    let new = world.secrets.with_new_verdict_key().expect("secrets");
    write_keys(&file, &[&new]);
    wait_until(&world, "another key", |data| {
        data["auth"]["key_reloads"] == 1
    })
    .await;

    let refused = alice.ask("a.list", &json!({})).await;
    refused.refusal("auth_unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_keys_that_cannot_be_used_is_refused_at_start() {
    let world = World::start().await;
    let (settings, file) = settings_with_files(&world, "a");
    world.init(&settings).await.expect("init");
    let encryption = json!({"keys": [{"kty": "RSA", "use": "enc", "n": "AAAA", "e": "AQAB"}]});

    for text in ["", "{}", "{\"keys\": []}", &encryption.to_string()] {
        fs::write(&file, text).expect("written");
        let refused = world.try_worker(settings.clone()).await.err();
        let error = format!("{:#}", refused.expect("refused"));
        assert!(error.contains("auth.verdict_keys_file"), "{error}");
    }

    fs::remove_file(&file).expect("removed");
    let refused = world.try_worker(settings.clone()).await.err();
    let error = format!("{:#}", refused.expect("refused"));
    assert!(error.contains("auth.verdict_keys_file"), "{error}");
}
