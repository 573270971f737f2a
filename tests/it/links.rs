//! What the links between a hub and its leaves may carry: every grant of theirs is needed by somebody.

use crate::accounts::{ask, grants};
use crate::harness::{Caller, Leaves, World};
use async_nats::HeaderMap;
use futures::StreamExt as _;
use gofavorites::config::Settings;
use gofavorites::dev::auth_service::{AuthService, REVOKED_SUBJECT, RevokedTokens};
use gofavorites::dev::role::{ACCOUNTS_CONF, LEAF_ACCOUNTS_CONF};
use gofavorites::dev::tokens::unix_now;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one try may take, a machine that is busy included.
const PATIENCE: Duration = Duration::from_secs(40);

/// Settings that do not wait long for what is not allowed.
fn impatient(world: &World, shard: &str) -> Settings {
    let mut settings = world.settings(shard);
    settings.truth.call_ms = 2_000;
    settings.auth.timeout_ms = 2_000;
    settings.write.local_wait_ms = 2_500;
    settings.projection.poll_ms = 20;
    settings
}

/// What has to pass the links; or the first of it that fails.
async fn everything_passes(conf: &str) -> Result<(), String> {
    let (mut world, leaves) = World::with_leaves_and_accounts(conf, LEAF_ACCOUNTS_CONF).await;
    let mut workers = Vec::new();
    for shard in ["a", "b"] {
        let settings = impatient(&world, shard);
        let made = timeout(Duration::from_secs(5), world.init(&settings))
            .await
            .map_err(|_| "init: no answer")?;
        made.map_err(|error| format!("init: {error:#}"))?;
        workers.push(
            world
                .try_worker(settings)
                .await
                .map_err(|error| format!("serve: {error:#}"))?,
        );
    }
    callers_are_served(&world, &leaves)
        .await
        .map_err(|error| format!("callers: {error}"))?;
    operators_look(&world, &leaves)
        .await
        .map_err(|error| format!("operator: {error}"))?;
    revocations_are_heard(&world, &leaves)
        .await
        .map_err(|error| format!("revocation: {error}"))?;
    // An auth service may be at a leaf too.
    world.stop_auth().await;
    world.auth_url = Some(leaves.b.url());
    world.start_auth().await;
    let carol = world.caller("carol").await;
    served(&carol, "a.list", &json!({}))
        .await
        .map(drop)
        .map_err(|error| format!("auth at a leaf: {error}"))
}

async fn served(caller: &Caller, what: &str, body: &Value) -> Result<Value, String> {
    let subject = match what.split_once('.') {
        Some((shard, operation)) => format!("favorites.v1.shard.{shard}.{operation}"),
        None => format!("favorites.v1.{what}"),
    };
    ask(&caller.client, &subject, caller.headers(), body).await
}

async fn callers_are_served(world: &World, leaves: &Leaves) -> Result<(), String> {
    let (here, there) = (
        world.caller("alice").await,
        world.caller_at(&leaves.b.url(), "alice").await,
    );
    let note = json!({"kind": "text", "id": "note", "consistency": "strong"});
    let mut bell = there
        .client
        .subscribe("favorites.changed.>")
        .await
        .map_err(|error| error.to_string())?;
    there
        .client
        .flush()
        .await
        .map_err(|error| error.to_string())?;
    let put = served(
        &here,
        "put",
        &json!({"kind": "text", "id": "note", "data": {"text": "x"}}),
    )
    .await?;
    if put["local"] == "pending" {
        return Err("the row does not come".into());
    }
    for (caller, what) in [(&there, "get"), (&here, "b.get"), (&there, "a.get")] {
        if served(caller, what, &note).await?["item"] != put["item"] {
            return Err(format!("{what}: another item"));
        }
    }
    for _ in 0..10 {
        served(
            &here,
            "put",
            &json!({"kind": "text", "id": "note", "data": {"text": "y"}}),
        )
        .await?;
        if matches!(
            timeout(Duration::from_millis(300), bell.next()).await,
            Ok(Some(_))
        ) {
            return Ok(());
        }
    }
    Err("the bell is not heard".into())
}

/// At a leaf as at the hub.
async fn operators_look(world: &World, leaves: &Leaves) -> Result<(), String> {
    let client = world.connect("operator").await;
    let look =
        async |subject: &str, body: Value| ask(&client, subject, HeaderMap::new(), &body).await;
    for call in [
        "INFO",
        "STREAM.NAMES",
        "STREAM.LIST",
        "STREAM.INFO.KV_favorites",
    ] {
        look(&format!("$JS.hub.API.{call}"), json!({})).await?;
    }
    let info = json!({"subjects_filter": "$KV.favorites.*.key"});
    let info = look("$JS.hub.API.STREAM.INFO.KV_favorites", info).await?;
    let keys = info["state"]["subjects"].as_object().ok_or("no keys")?;
    let key = keys.keys().next().ok_or("no key")?;
    look(
        "$JS.hub.API.STREAM.MSG.GET.KV_favorites",
        json!({"last_by_subj": key}),
    )
    .await?;
    let direct = client.request(
        format!("$JS.hub.API.DIRECT.GET.KV_favorites.{key}"),
        "".into(),
    );
    let direct = timeout(Duration::from_secs(3), direct)
        .await
        .map_err(|_| "direct get")?;
    if direct
        .map_err(|error| error.to_string())?
        .payload
        .is_empty()
    {
        return Err("direct get".into());
    }
    for url in [world.nats.url(), leaves.b.url(), leaves.hub.url()] {
        let client = world.connect_at(&url, "operator").await;
        ask(
            &client,
            "favorites.v1.version",
            HeaderMap::new(),
            &json!({}),
        )
        .await?;
        all_workers_are_found(&client).await?;
    }
    Ok(())
}

async fn all_workers_are_found(client: &async_nats::Client) -> Result<(), String> {
    let inbox = client.new_inbox();
    let mut answers = client
        .subscribe(inbox.clone())
        .await
        .map_err(|error| error.to_string())?;
    client
        .publish_with_reply("$SRV.PING.favorites", inbox, "".into())
        .await
        .map_err(|error| error.to_string())?;
    for number in 0..2 {
        match timeout(Duration::from_secs(3), answers.next()).await {
            Ok(Some(answer)) if answer.status.is_none() => {}
            _ => return Err(format!("{number} workers are found")),
        }
    }
    Ok(())
}

/// Told at one leaf, at the other one, and at the hub, both workers hear it.
async fn revocations_are_heard(world: &World, leaves: &Leaves) -> Result<(), String> {
    let service = AuthService::new(&world.secrets).map_err(|error| error.to_string())?;
    for (number, url) in (1..).zip([world.nats.url(), leaves.b.url(), leaves.hub.url()]) {
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
        let heard = async || {
            let told = world.stats(2).await;
            told.iter()
                .map(|one| {
                    one["data"]["auth"]["revocations"]
                        .as_u64()
                        .unwrap_or_default()
                })
                .collect::<Vec<_>>()
        };
        let mut tries = 0;
        while heard().await != [number, number] {
            tries += 1;
            if tries > 60 {
                return Err(format!(
                    "the one told at {number} is heard so often: {:?}",
                    heard().await
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_grant_of_a_link_is_needed_by_somebody() {
    let all: Vec<_> = grants(ACCOUNTS_CONF)
        .into_iter()
        .filter(|grant| grant.name.starts_with("leaf"))
        .collect();
    let confs = all
        .iter()
        .map(|grant| (grant.name.clone(), grant.removed_from(ACCOUNTS_CONF)));
    let whole = (0..2).map(|_| ("nothing".to_owned(), ACCOUNTS_CONF.to_owned()));
    let (places, mut tries) = (Arc::new(Semaphore::new(4)), JoinSet::new());
    for (name, conf) in whole.chain(confs) {
        let places = places.clone();
        tries.spawn(async move {
            let _place = places.acquire().await.expect("open");
            // Without some of them, what a test stands on fails already.
            let tried =
                tokio::spawn(async move { timeout(PATIENCE, everything_passes(&conf)).await });
            let ended = tried
                .await
                .map_err(|_| "the platform does not start".to_owned());
            (
                name,
                ended
                    .and_then(|ended| ended.map_err(|_| "not in time".to_owned()))
                    .flatten(),
            )
        });
    }
    let mut unneeded = Vec::new();
    for (name, ended) in tries.join_all().await {
        match (name.as_str(), ended) {
            ("nothing", ended) => ended.expect("with all grants everything passes"),
            (_, Ok(())) => unneeded.push(name),
            (_, Err(error)) => println!(
                "without {name}\n    {}",
                error.lines().next().unwrap_or_default()
            ),
        }
    }
    println!("{} grants were taken away, each by itself", all.len());
    assert!(
        unneeded.is_empty(),
        "nobody needs:\n{}",
        unneeded.join("\n")
    );
    assert!(
        all.len() > 20,
        "the list of grants is read from the text: {all:#?}"
    );
}
