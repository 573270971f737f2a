//! Workers read the files with the auth service's keys again while they run.

use crate::harness::{Verifier, World};
use gofavorites::config::Settings;
use gofavorites::dev::auth_service::AuthService;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::secrets::Secrets;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

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

/// Returns settings with both key sets in files, and the file of the verdict keys. There is no
/// cache, so each request is verified.
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

/// Callers that send requests without a pause. No request may fail.
struct Traffic {
    is_stopped: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    callers: Vec<JoinHandle<()>>,
}

impl Traffic {
    async fn start(world: &World) -> Self {
        let mut traffic = Self {
            is_stopped: Arc::default(),
            done: Arc::default(),
            callers: Vec::new(),
        };

        for name in ["alice", "bob", "carol"] {
            let caller = world.caller(name).await;
            let is_stopped = traffic.is_stopped.clone();
            let done = traffic.done.clone();
            traffic.callers.push(tokio::spawn(async move {
                while !is_stopped.load(Ordering::Relaxed) {
                    caller.done("a.list", &json!({})).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }

        traffic
    }

    /// Waits until a hundred more requests have succeeded.
    async fn hundred_more(&self) {
        let enough = self.done.load(Ordering::Relaxed) + 100;

        while self.done.load(Ordering::Relaxed) < enough {
            let has_failed = self.callers.iter().any(JoinHandle::is_finished);
            assert!(!has_failed, "a request failed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) {
        self.is_stopped.store(true, Ordering::Relaxed);

        for caller in self.callers {
            caller.await.expect("no request failed");
        }
    }
}

/// Goal: the auth service changes to another key, and no request fails.
///
/// Method: callers send requests all the time, and each request is verified. The new key is added
/// to the file, and the auth service signs with it. Then the file is broken, and at last it has
/// only the new key.
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
    let traffic = Traffic::start(&world).await;
    let reloads = |count: u64| move |data: &Value| data["auth"]["key_reloads"] == count;
    traffic.hundred_more().await;

    write_keys(&file, &[&old, &new]);
    world
        .wait_for_stats("both keys", NOTICE_TIMEOUT, reloads(1))
        .await;
    traffic.hundred_more().await;

    signs_with_new.store(true, Ordering::Relaxed);
    traffic.hundred_more().await;

    fs::write(&file, "{\"keys\": [").expect("written");
    let is_degraded = |data: &Value| data["reasons"][0]["part"] == "auth";
    world
        .wait_for_stats("a broken file", NOTICE_TIMEOUT, is_degraded)
        .await;
    traffic.hundred_more().await;

    write_keys(&file, &[&new]);
    let is_repaired = |data: &Value| reloads(2)(data) && data["state"] == "healthy";
    world
        .wait_for_stats("the new key", NOTICE_TIMEOUT, is_repaired)
        .await;
    traffic.hundred_more().await;

    traffic.stop().await;

    signs_with_new.store(false, Ordering::Relaxed);
    let refused = world.caller("dave").await.ask("a.list", &json!({})).await;
    refused.refusal("auth_unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_key_ends_the_verdicts_that_it_may_have_signed() {
    let world = World::start().await;
    let (mut settings, file) = settings_with_files(&world, "a");
    settings.auth.cache_ttl_ms = 600_000;
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    alice.done("a.list", &json!({})).await;
    alice.done("a.list", &json!({})).await;

    let new = world.secrets.with_new_verdict_key().expect("secrets");
    write_keys(&file, &[&new]);
    world
        .wait_for_stats("another key", NOTICE_TIMEOUT, |data| {
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
