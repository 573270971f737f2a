//! The rights of the links between a hub and its leaves: each grant is needed.

use crate::accounts::{Grant, ask, check_reference, grants, knows_a_name, unneeded_grants};
use crate::harness::{Caller, Leaves, ReferenceService, World};
use async_nats::{Client, HeaderMap};
use futures::StreamExt as _;
use gofavorites::config::Settings;
use gofavorites::dev::auth_service::{AuthService, REVOKED_SUBJECT, RevokedTokens};
use gofavorites::dev::reference_service::REFERENCE_SUBJECT;
use gofavorites::dev::role::{ACCOUNTS_CONF, LEAF_ACCOUNTS_CONF};
use gofavorites::dev::tokens::unix_now;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// How long one try may take, also on a busy machine.
const TRY_TIMEOUT: Duration = Duration::from_secs(40);

/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// Returns settings with short time limits, because most tries lack something.
fn settings_with_short_limits(world: &World, shard: &str) -> Settings {
    let mut settings = world.settings(shard);
    settings.truth.call_ms = 2_000;
    settings.auth.timeout_ms = 2_000;
    settings.write.local_wait_ms = 2_500;
    settings.projection.poll_ms = 20;
    settings.reference.subject = REFERENCE_SUBJECT.into();
    settings.reference.timeout_ms = 2_000;

    settings
}

/// Starts a hub with these accounts and two leaves, and uses everything that the links must carry.
///
/// # Errors
///
/// The first step that failed.
async fn links_carry_everything(conf: &str) -> Result<(), String> {
    let (mut world, leaves) = World::with_leaves_and_accounts(conf, LEAF_ACCOUNTS_CONF).await;
    let mut workers = Vec::new();

    for shard in ["a", "b"] {
        let settings = settings_with_short_limits(&world, shard);
        timeout(Duration::from_secs(5), world.init(&settings))
            .await
            .map_err(|_| "init: no answer")?
            .map_err(|error| format!("init: {error:#}"))?;

        let worker = world.try_worker(settings).await;
        workers.push(worker.map_err(|error| format!("serve: {error:#}"))?);
    }

    check_callers(&world, &leaves)
        .await
        .map_err(|error| format!("callers: {error}"))?;

    check_operators(&world, &leaves)
        .await
        .map_err(|error| format!("operator: {error}"))?;

    check_revocations(&world, &leaves)
        .await
        .map_err(|error| format!("revocation: {error}"))?;

    // An auth service may be connected at a leaf too.
    world.stop_auth().await;
    world.auth_url = Some(leaves.b.url());
    world.start_auth().await;
    let carol = world.caller("carol").await;
    request(&carol, "a.list", &json!({}))
        .await
        .map_err(|error| format!("auth at a leaf: {error}"))?;

    // So may a reference service, which a worker at the other leaf asks.
    let _reference = ReferenceService::start_at(&world, &leaves.b.url(), knows_a_name).await;
    check_reference(&carol.client, carol.headers())
        .await
        .map_err(|error| format!("reference at a leaf: {error}"))?;

    Ok(())
}

/// Sends a request as a caller, on `<shard>.<operation>` or to the nearest worker.
async fn request(caller: &Caller, what: &str, body: &Value) -> Result<Value, String> {
    let subject = match what.split_once('.') {
        Some((shard, operation)) => format!("favorites.v1.shard.{shard}.{operation}"),
        None => format!("favorites.v1.{what}"),
    };

    ask(&caller.client, &subject, caller.headers(), body).await
}

/// A caller at one leaf writes; callers at both leaves read on both shards, and the one at the
/// other leaf receives a change notification.
async fn check_callers(world: &World, leaves: &Leaves) -> Result<(), String> {
    let at_a = world.caller("alice").await;
    let at_b = world.caller_at(&leaves.b.url(), "alice").await;
    let put = json!({"kind": "text", "id": "note", "data": {"text": "x"}});
    let put_again = json!({"kind": "text", "id": "note", "data": {"text": "y"}});
    let get = json!({"kind": "text", "id": "note", "consistency": "strong"});
    let mut notifications = at_b
        .client
        .subscribe("favorites.changed.>")
        .await
        .map_err(|error| error.to_string())?;
    at_b.client
        .flush()
        .await
        .map_err(|error| error.to_string())?;

    let put = request(&at_a, "put", &put).await?;
    if put["local"] == "pending" {
        return Err("the shard has not stored the row in time".into());
    }

    for (caller, what) in [(&at_b, "get"), (&at_a, "b.get"), (&at_b, "a.get")] {
        let got = request(caller, what, &get).await?;
        if got["item"] != put["item"] {
            return Err(format!("{what}: another item"));
        }
    }

    // The reply to a caller in the workers' account crosses the links as it is.
    let token = at_a.token.to_string();
    let direct = Caller::new(world.connect("direct").await, token);
    let got = request(&direct, "b.get", &get).await?;
    if got["item"] != put["item"] {
        return Err("a direct caller: another item".into());
    }

    for _ in 0..10 {
        request(&at_a, "put", &put_again).await?;

        let notification = timeout(Duration::from_millis(300), notifications.next()).await;
        if matches!(notification, Ok(Some(_))) {
            return Ok(());
        }
    }

    Err("no change notification".into())
}

/// An operator reads the bucket from a leaf, and discovers the workers from each server.
async fn check_operators(world: &World, leaves: &Leaves) -> Result<(), String> {
    let client = world.connect("operator").await;
    let request =
        async |subject: &str, body: Value| ask(&client, subject, HeaderMap::new(), &body).await;

    for call in [
        "INFO",
        "STREAM.NAMES",
        "STREAM.LIST",
        "STREAM.INFO.KV_favorites",
    ] {
        request(&format!("$JS.hub.API.{call}"), json!({})).await?;
    }

    let key_records = json!({"subjects_filter": "$KV.favorites.*.key"});
    let info = request("$JS.hub.API.STREAM.INFO.KV_favorites", key_records).await?;
    let keys = info["state"]["subjects"].as_object().ok_or("no keys")?;
    let key = keys.keys().next().ok_or("no key")?;
    let last_of_key = json!({"last_by_subj": key});
    request("$JS.hub.API.STREAM.MSG.GET.KV_favorites", last_of_key).await?;

    let direct_get = format!("$JS.hub.API.DIRECT.GET.KV_favorites.{key}");
    let direct = timeout(REPLY_TIMEOUT, client.request(direct_get, "".into()))
        .await
        .map_err(|_| "direct get")?
        .map_err(|error| error.to_string())?;
    if direct.payload.is_empty() {
        return Err("direct get".into());
    }

    for url in [world.nats.url(), leaves.b.url(), leaves.hub.url()] {
        let client = world.connect_at(&url, "operator").await;
        let headers = HeaderMap::new();
        ask(&client, "favorites.v1.version", headers, &json!({})).await?;

        discover_both_workers(&client).await?;
    }

    Ok(())
}

async fn discover_both_workers(client: &Client) -> Result<(), String> {
    let inbox = client.new_inbox();
    let mut replies = client
        .subscribe(inbox.clone())
        .await
        .map_err(|error| error.to_string())?;

    client
        .publish_with_reply("$SRV.PING.favorites", inbox, "".into())
        .await
        .map_err(|error| error.to_string())?;

    for number in 0..2 {
        match timeout(REPLY_TIMEOUT, replies.next()).await {
            Ok(Some(reply)) if reply.status.is_none() => {}
            _ => return Err(format!("{number} workers are found")),
        }
    }

    Ok(())
}

/// A revocation that is published at either leaf or at the hub reaches both workers.
async fn check_revocations(world: &World, leaves: &Leaves) -> Result<(), String> {
    let service = AuthService::new(&world.secrets).map_err(|error| error.to_string())?;
    let urls = [world.nats.url(), leaves.b.url(), leaves.hub.url()];

    for (number, url) in (1..).zip(urls) {
        let revoked = RevokedTokens {
            sub: Some(format!("somebody-{number}")),
            sid: None,
            iat: unix_now(),
        };
        let message = service
            .revocation(&revoked)
            .map_err(|error| error.to_string())?;
        let auth = world.connect_at(&url, "auth_service").await;

        auth.publish(REVOKED_SUBJECT, message.into())
            .await
            .map_err(|error| error.to_string())?;
        auth.flush().await.map_err(|error| error.to_string())?;

        wait_for_revocations(world, number).await?;
    }

    Ok(())
}

/// Waits until both workers have received so many revocations.
async fn wait_for_revocations(world: &World, count: u64) -> Result<(), String> {
    let received = async || -> Vec<u64> {
        let workers = world.stats(2).await;
        workers
            .iter()
            .map(|worker| &worker["data"]["auth"]["revocations"])
            .map(|revocations| revocations.as_u64().unwrap_or_default())
            .collect()
    };

    let mut polls = 0;
    while received().await != [count, count] {
        polls += 1;
        if polls > 60 {
            let received = received().await;
            return Err(format!("the workers received {received:?} of {count}"));
        }

        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    Ok(())
}

/// Tries a configuration.
///
/// # Errors
///
/// The step that failed. Without some grants, already the start of the platform panics.
async fn try_configuration(conf: String) -> Result<(), String> {
    let attempt =
        tokio::spawn(async move { timeout(TRY_TIMEOUT, links_carry_everything(&conf)).await });

    attempt
        .await
        .map_err(|_| "the platform does not start".to_owned())?
        .map_err(|_| "not in time".to_owned())?
}

/// Goal: no grant of a link between the hub and a leaf is superfluous.
///
/// Method: for each such grant, a hub and two leaves run with accounts that lack it. Callers,
/// workers, `init`, the auth service, a reference service and an operator use the links; one of them
/// must fail. Two tries with all grants run among the others, so that no failure comes from a busy
/// machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_grant_of_a_link_is_needed() {
    let grants: Vec<Grant> = grants(ACCOUNTS_CONF)
        .into_iter()
        .filter(|grant| grant.name.starts_with("leaf"))
        .collect();
    let unneeded = unneeded_grants(&grants, 2, try_configuration);
    let names = unneeded.await.join("\n");
    assert!(names.is_empty(), "no user needs:\n{names}");
    assert!(
        grants.len() > 20,
        "the grants are read from the configuration: {grants:#?}"
    );
}
