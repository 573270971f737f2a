//! The auth service's keys rotate, and no request fails.

use super::runbook::Runbook;
use super::{CALLERS, MORE, OWNERS, desk_of, fill, finish, start_workers};
use crate::harness::load::{Load, Outcome};
use crate::harness::{Verifier, World};
use gofavorites::dev::auth_service::AuthService;
use gofavorites::dev::nats::ACCOUNTS_CONF;
use serde_json::json;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Method: no verdict is cached, so each request is verified.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make runbooks"]
async fn runbook_rotate_the_auth_services_keys() {
    let world = World::without_auth(ACCOUNTS_CONF).await;
    world.init(&world.settings("a")).await.expect("init");
    let new = world.secrets.with_new_verdict_key().expect("secrets");
    let service = AuthService::new(&new).expect("keys");
    let signs_with_new = Arc::new(AtomicBool::new(false));
    let switch = signs_with_new.clone();
    let _verifier = Verifier::start(&world, move |old, token| {
        let is_new = switch.load(Ordering::Relaxed);
        let signer = if is_new { &service } else { old };
        signer.verdict(token).ok()
    })
    .await;
    let mut desk = desk_of(world);
    let settings = desk.place("etc/shard-a.toml");
    let text = fs::read_to_string(&settings).expect("settings");
    fs::write(&settings, text + "cache_ttl_ms = 0\n").expect("written");
    let keys = json!({"keys": [new.verdict_jwk().expect("a key")]});
    fs::write(desk.place("etc/verdict-keys.new.json"), keys.to_string()).expect("written");
    start_workers(&mut desk, "a").await;
    fill(desk.world(), "a", OWNERS).await;
    let load = Load::start(desk.world(), &["a"], CALLERS, false).await;
    load.progress(MORE).await;

    let mut runbook = Runbook::open("Rotate the auth service's keys", "");
    runbook.next(&mut desk).await;
    load.progress(MORE).await;
    signs_with_new.store(true, Ordering::Relaxed);
    load.progress(MORE).await;
    runbook.next(&mut desk).await;
    runbook.end(OWNERS);

    finish(load, &["a"], &[], &[Outcome::Pending]).await;
    signs_with_new.store(false, Ordering::Relaxed);
    let stranger = desk.world().caller("stranger").await;
    let refused = stranger.ask("a.list", &json!({})).await;
    refused.refusal("auth_unavailable");
}
