//! The rights of every user on the NATS server: each grant of `nats/accounts.conf` is needed, and
//! nothing beyond the grants is allowed.

use crate::harness::{ReferenceService, Verifier, World, isin, shared};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, Subscriber};
use futures::StreamExt as _;
use gofavorites::app::{BackupSession, Maintenance, WaitLimit};
use gofavorites::config::Settings;
use gofavorites::dev::auth_service::{AuthService, REVOKED_SUBJECT, RevokedTokens};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::reference_service::REFERENCE_SUBJECT;
use gofavorites::dev::secrets::inbox_prefix;
use gofavorites::dev::tokens::{ALL_SCOPES, unix_now};
use gofavorites::feed::{self, Feed, FeedError, Keyring, Start};
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a step that is allowed may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);

/// How many configurations are tried at the same time.
const CONCURRENT_TRIES_MAX: usize = 4;

/// The name of a try with all grants.
const ALL_GRANTS: &str = "nothing";

/// One thing that the accounts allow.
#[derive(Debug)]
pub struct Grant {
    pub name: String,
    /// Where it stands in the configuration.
    place: Range<usize>,
    /// What stands there once the grant is removed.
    replacement: String,
}

impl Grant {
    /// Returns the configuration without this grant.
    pub fn removed_from(&self, conf: &str) -> String {
        let before = &conf[..self.place.start];
        let after = &conf[self.place.end..];

        [before, &self.replacement, after].concat()
    }
}

/// Returns each subject of an allow list, each line of exports and imports, and each account of an
/// export to several.
pub fn grants(conf: &str) -> Vec<Grant> {
    let mut grants = Vec::new();
    let mut user = "";
    let mut list = None;
    let mut line_start = 0;

    for line in conf.split_inclusive('\n') {
        // No subject contains a `#`.
        let code = line.split('#').next().unwrap_or_default();

        if let Some((_, rest)) = code.split_once("user: ") {
            user = rest.split(',').next().expect("a name");
        }

        if let Some(start) = code.find("{ service:").or(code.find("{ stream:")) {
            let place = line_start + start..line_start + code.trim_end().len();
            grants.push(Grant {
                name: conf[place.clone()].into(),
                place: place.clone(),
                replacement: String::new(),
            });
            grants.extend(accounts_of_export(conf, place));
        }

        for (index, part) in code.split('"').enumerate() {
            let start = line_start + part.as_ptr() as usize - line.as_ptr() as usize;
            let is_quoted = index % 2 == 1;

            if !is_quoted {
                for right in ["publish", "subscribe"] {
                    if part.contains(&format!("{right}: {{ allow: [")) {
                        list = Some(right);
                    }
                }
                list = list.filter(|_| !part.trim_start().starts_with(']'));
            } else if let Some(right) = list {
                // An empty list would allow everything, so another subject replaces this one.
                grants.push(Grant {
                    name: format!("{user} {right} {part}"),
                    place: start..start + part.len(),
                    replacement: "taken.away".into(),
                });
            }
        }

        line_start += line.len();
    }

    grants
}

/// Returns a grant for each account of an export to several. Its removal leaves the other accounts.
fn accounts_of_export(conf: &str, line: Range<usize>) -> Vec<Grant> {
    let Some((before, _)) = conf[line.clone()].split_once("accounts: [") else {
        return Vec::new();
    };
    let start = line.start + before.len() + "accounts: [".len();
    let length = conf[start..].find(']').expect("an end");
    let place = start..start + length;

    let names: Vec<_> = conf[place.clone()].split(", ").collect();
    if names.len() == 1 {
        return Vec::new();
    }

    let all_except = |name: &str| {
        let others: Vec<_> = names
            .iter()
            .copied()
            .filter(|other| *other != name)
            .collect();
        others.join(", ")
    };

    names
        .iter()
        .map(|name| Grant {
            name: format!("{} without {name}", &conf[line.clone()]),
            place: place.clone(),
            replacement: all_except(name),
        })
        .collect()
}

/// Returns settings with short time limits, because most tries lack something.
fn settings_with_short_limits(world: &World) -> Settings {
    let mut settings = world.settings("a");
    settings.truth.call_ms = 2_000;
    settings.auth.timeout_ms = 2_000;
    settings.write.local_wait_ms = 2_500;
    settings.projection.poll_ms = 20;
    settings.reference.subject = REFERENCE_SUBJECT.into();
    settings.reference.timeout_ms = 2_000;

    settings
}

/// Sends a request, and returns the body of its reply.
///
/// # Errors
///
/// No reply in time, or a reply with an error; the text names the subject.
pub async fn ask(
    client: &Client,
    subject: &str,
    headers: HeaderMap,
    body: &Value,
) -> Result<Value, String> {
    let request = client.request_with_headers(subject.to_owned(), headers, body.to_string().into());
    let reply = timeout(STEP_TIMEOUT, request)
        .await
        .map_err(|_| format!("{subject}: no answer"))?;

    let message = reply.map_err(|error| format!("{subject}: {error}"))?;
    let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();

    if body["error"].is_null() {
        Ok(body)
    } else {
        Err(format!("{subject}: {body}"))
    }
}

/// Starts a platform with these accounts, and does what every user must be able to do.
///
/// # Errors
///
/// The first step that failed.
async fn all_users_can_work(conf: &str) -> Result<(), String> {
    let mut world = World::try_without_auth(conf)
        .await
        .map_err(|_| "the server does not start")?;

    let settings = settings_with_short_limits(&world);
    world
        .init(&settings)
        .await
        .map_err(|error| format!("init: {error:#}"))?;

    let mut bounded = settings.clone();
    bounded.truth.max_bytes = 1 << 30;
    let init = timeout(STEP_TIMEOUT, world.prepare(&bounded)).await;
    init.map_err(|_| "init with other bytes: no end")?
        .map_err(|error| format!("init with other bytes: {error:#}"))?;

    let _auth = Verifier::honest(&world).await;
    let _reference = ReferenceService::start(&world, knows_a_name).await;
    let worker = world
        .try_worker(settings)
        .await
        .map_err(|error| format!("serve: {error:#}"))?;

    for user in ["gateway", "gateway2", "direct"] {
        check_caller(&world, user)
            .await
            .map_err(|error| format!("{user}: {error}"))?;
    }

    if world.query("a", "select count(*) from item where not deleted") != "3" {
        return Err("the projection has not stored all rows".into());
    }

    let gateway = world.connect("gateway").await;
    check_reference(&gateway, headers_of(&world, "names"))
        .await
        .map_err(|error| format!("reference: {error}"))?;

    check_maintenance(&world)
        .await
        .map_err(|error| format!("maintain: {error}"))?;

    fill(&world)
        .await
        .map_err(|error| format!("large items: {error}"))?;

    check_revocations(&world)
        .await
        .map_err(|error| format!("revocation: {error}"))?;

    for user in ["gateway", "gateway2", "direct", "operator"] {
        check_discovery(&world, user)
            .await
            .map_err(|error| format!("discovery by {user}: {error}"))?;
    }

    check_account(&world).await?;
    check_reconnect(&mut world).await?;
    check_operator(&world)
        .await
        .map_err(|error| format!("operator: {error}"))?;

    check_feed(&world)
        .await
        .map_err(|error| format!("feed: {error}"))?;

    worker.crash().await;
    check_backup(&mut world)
        .await
        .map_err(|error| format!("backup: {error:#}"))?;

    Ok(())
}

/// Stores so much that a backup has chunks which are acknowledged.
async fn fill(world: &World) -> Result<(), String> {
    let client = world.connect("gateway").await;
    for number in 0..4 {
        let put = json!({
            "kind": "text", "id": number.to_string(), "data": {"text": "x".repeat(60_000)},
        });
        let headers = headers_of(world, "collector");
        ask(&client, "favorites.v1.put", headers, &put).await?;
    }

    Ok(())
}

/// A feed of all records catches up.
async fn check_feed(world: &World) -> Result<(), String> {
    let secrets = &world.secrets;
    let keyring = Keyring::from_base64(&secrets.identity, &secrets.encryption);
    let keyring = keyring.map_err(|error| error.to_string())?;
    let nats = world.connect("feed").await;

    let caught_up = async {
        let feed = Feed::open(nats, keyring, "favorites").await?;
        let mut following = feed.follow(Start::Beginning).await?;
        let mut changes = 0;
        loop {
            match following.next().await? {
                feed::Event::Change(_) => changes += 1,
                feed::Event::Reached { behind: 0, .. } if changes > 0 => return Ok(()),
                _ => {}
            }
        }
    };
    let caught_up = timeout(STEP_TIMEOUT, caught_up).await;
    let caught_up: Result<(), FeedError> = caught_up.map_err(|_| "no event in time")?;
    caught_up.map_err(|error| error.to_string())
}

/// `backup` saves the bucket and restores it after it was lost.
async fn check_backup(world: &mut World) -> anyhow::Result<()> {
    let open = async |world: &World, user| {
        let mut settings = settings_with_short_limits(world);
        world.connect_all_as(&mut settings, user);
        BackupSession::open(&settings, WaitLimit::FOREVER).await
    };

    let path = world.directory.join("backup");
    let session = open(world, "backup").await?;
    let taken = session.within_rights(session.backups.take(&path, |_, _| {}));
    let backup = timeout(STEP_TIMEOUT, taken).await??;

    world.nats.stop()?;
    std::fs::remove_dir_all(world.directory.join("store"))?;
    world.nats.restart().await?;

    let session = open(world, "restore").await?;
    let restored = session.within_rights(session.backups.restore(&backup, |_, _| {}));
    timeout(STEP_TIMEOUT, restored).await??;
    let audit = session.within_rights(session.backups.audit(|_, _| {}));
    let audit = timeout(STEP_TIMEOUT, audit).await??;
    anyhow::ensure!(audit.owners > 0 && audit.broken == 0, "{audit:?}");

    Ok(())
}

/// Returns the headers of a request of that subject.
fn headers_of(world: &World, subject: &str) -> HeaderMap {
    let token = world.token(subject, ALL_SCOPES, Duration::from_secs(600));
    let mut headers = HeaderMap::new();
    headers.insert("Authorization", format!("Bearer {token}"));

    headers
}

/// A caller writes, reads by both kinds of subject, and receives a change notification.
async fn check_caller(world: &World, user: &str) -> Result<(), String> {
    let client = world.connect(user).await;
    let headers = headers_of(world, user);
    let item = json!({"kind": "instrument", "data": {"isin": isin(1), "type": "stock"}});

    let put = ask(&client, "favorites.v1.put", headers.clone(), &item).await?;
    if put["local"] == "pending" {
        return Err("the shard has not stored the row in time".into());
    }

    let list = ask(&client, "favorites.v1.list", headers.clone(), &json!({})).await?;
    let read = json!({"kind": "instrument", "id": isin(1), "consistency": "strong"});
    let got = ask(&client, "favorites.v1.shard.a.get", headers.clone(), &read).await?;

    if list["items"][0] != put["item"] || got["item"] != put["item"] {
        return Err("another item".into());
    }

    check_notification(&client, headers, &item).await
}

/// A caller who subscribes to an owner's changes is notified of one.
async fn check_notification(
    client: &Client,
    headers: HeaderMap,
    item: &Value,
) -> Result<(), String> {
    let since_start = json!({"since": 0});
    let changes = ask(
        client,
        "favorites.v1.changes",
        headers.clone(),
        &since_start,
    )
    .await?;

    let subject = changes["notify"].as_str().ok_or("no subject")?.to_owned();
    let mut notifications = client
        .subscribe(subject)
        .await
        .map_err(|error| error.to_string())?;
    client.flush().await.map_err(|error| error.to_string())?;

    ask(client, "favorites.v1.put", headers, item).await?;

    timeout(STEP_TIMEOUT, notifications.next())
        .await
        .map(|_| ())
        .map_err(|_| "no change notification".into())
}

/// Answers as a reference service that knows every instrument by the same name.
pub fn knows_a_name(_: &Value) -> Option<String> {
    Some(json!({"found": true, "name": "known"}).to_string())
}

/// The worker of shard a asks the reference service, and fills in a name.
pub async fn check_reference(client: &Client, headers: HeaderMap) -> Result<(), String> {
    let item = json!({"kind": "instrument", "data": {"isin": isin(2), "type": "stock"}});

    let since = Instant::now();
    while since.elapsed() < STEP_TIMEOUT {
        let put = ask(client, "favorites.v1.shard.a.put", headers.clone(), &item).await?;
        if put["item"]["data"]["name"] == "known" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    Err("no answer has filled in a name".into())
}

/// `maintain` raises the floor of an owner who deleted an item, and purges the deletion.
async fn check_maintenance(world: &World) -> Result<(), String> {
    let client = world.connect("gateway").await;
    let headers = headers_of(world, "tidy");
    let put = json!({"kind": "text", "id": "x", "data": {"text": "x"}});
    let delete = json!({"kind": "text", "id": "x"});
    ask(&client, "favorites.v1.put", headers.clone(), &put).await?;
    ask(&client, "favorites.v1.delete", headers, &delete).await?;

    let mut settings = settings_with_short_limits(world);
    world.connect_all_as(&mut settings, "maintain");
    settings.maintain.deletions_d = 0;

    let round = async {
        Maintenance::build(&settings, WaitLimit::FOREVER)
            .await?
            .once()
            .await
            .map_err(anyhow::Error::from)
    };

    let round = timeout(STEP_TIMEOUT * 3, round)
        .await
        .map_err(|_| "no round")?
        .map_err(|error| format!("{error:#}"))?;

    if round.purged == 1 && round.failed == 0 {
        Ok(())
    } else {
        Err(format!("{round:?}"))
    }
}

/// The worker counts a revocation that the auth service publishes.
async fn check_revocations(world: &World) -> Result<(), String> {
    let service = AuthService::new(&world.secrets).map_err(|error| error.to_string())?;
    let auth = world.connect("auth_service").await;
    let revoked = RevokedTokens {
        sub: Some("gateway".into()),
        sid: None,
        iat: unix_now(),
    };
    let message = service
        .revocation(&revoked)
        .map_err(|error| error.to_string())?;

    auth.publish(REVOKED_SUBJECT, message.into())
        .await
        .map_err(|error| error.to_string())?;

    let since = Instant::now();
    while since.elapsed() < STEP_TIMEOUT {
        let stats = discover(world, "operator", "$SRV.STATS.favorites").await?;
        if stats["data"]["auth"]["revocations"] == 1 {
            return Ok(());
        }
    }

    Err("the worker has not received it".into())
}

async fn discover(world: &World, user: &str, subject: &str) -> Result<Value, String> {
    let client = world.connect(user).await;

    ask(&client, subject, HeaderMap::new(), &json!({})).await
}

/// The worker replies to each of the three forms of a discovery request.
async fn check_discovery(world: &World, user: &str) -> Result<(), String> {
    let ping = discover(world, user, "$SRV.PING").await?;
    let name = ping["name"].as_str().unwrap_or_default();
    let id = ping["id"].as_str().unwrap_or_default();

    discover(world, user, &format!("$SRV.INFO.{name}")).await?;
    discover(world, user, &format!("$SRV.STATS.{name}.{id}")).await?;

    Ok(())
}

/// The worker sees how much its account may store.
async fn check_account(world: &World) -> Result<(), String> {
    let since = Instant::now();
    loop {
        let stats = discover(world, "operator", "$SRV.STATS.favorites").await?;
        if stats["data"]["truth"]["account_bytes"].is_u64() {
            return Ok(());
        }

        if since.elapsed() > STEP_TIMEOUT {
            return Err("the worker knows nothing of its account".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// After a reconnect the server refuses nothing: the NATS client itself subscribes again.
async fn check_reconnect(world: &mut World) -> Result<(), String> {
    world
        .nats
        .process()
        .kill9()
        .map_err(|error| error.to_string())?;

    world
        .nats
        .restart()
        .await
        .map_err(|error| error.to_string())?;

    let since = Instant::now();
    loop {
        let stats = discover(world, "operator", "$SRV.STATS.favorites")
            .await
            .unwrap_or_default();
        let data = &stats["data"];

        if data["projection"]["here"] == true && data["truth"]["writes"]["state"] == "closed" {
            let lacks_rights = data["reasons"]
                .as_array()
                .is_some_and(|reasons| reasons.iter().any(|reason| reason["part"] == "rights"));

            return if lacks_rights {
                Err(format!("after a reconnect: {}", data["reasons"]))
            } else {
                Ok(())
            };
        }

        if since.elapsed() > STEP_TIMEOUT * 3 {
            return Err("the worker has not recovered from the server's restart".into());
        }

        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An operator reads the bucket with the nats CLI's requests, and asks the service about itself.
async fn check_operator(world: &World) -> Result<(), String> {
    let client = world.connect("operator").await;
    let request =
        async |subject: &str, body: Value| ask(&client, subject, HeaderMap::new(), &body).await;

    request("$JS.API.INFO", json!({})).await?;
    request("$JS.API.STREAM.NAMES", json!({})).await?;
    request("$JS.API.STREAM.LIST", json!({})).await?;

    let key_records = json!({"subjects_filter": "$KV.favorites.*.key"});
    let info = request("$JS.API.STREAM.INFO.KV_favorites", key_records).await?;
    let keys = info["state"]["subjects"].as_object().ok_or("no keys")?;
    let key = keys.keys().next().ok_or("no key")?;
    let last_of_key = json!({"last_by_subj": key});
    request("$JS.API.STREAM.MSG.GET.KV_favorites", last_of_key).await?;

    let direct = client.request(format!("$JS.API.DIRECT.GET.KV_favorites.{key}"), "".into());
    let direct = timeout(STEP_TIMEOUT, direct)
        .await
        .map_err(|_| "direct get")?
        .map_err(|error| error.to_string())?;

    if direct.status.is_some() || direct.payload.is_empty() {
        return Err(format!("direct get: {:?}", direct.status));
    }

    request("favorites.v1.version", json!({})).await?;
    request("favorites.v1.limits", json!({})).await?;

    Ok(())
}

/// Tries the accounts without each of these grants, and that often with all of them, which has to
/// succeed. Returns the names of the grants without which the try succeeds too.
pub async fn unneeded_grants<F>(
    grants: &[Grant],
    tries_with_all: usize,
    try_accounts: impl Fn(String) -> F,
) -> Vec<String>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let with_all = (0..tries_with_all).map(|_| (ALL_GRANTS.to_owned(), ACCOUNTS_CONF.to_owned()));
    let without_one = grants
        .iter()
        .map(|grant| (grant.name.clone(), grant.removed_from(ACCOUNTS_CONF)));

    let permits = Arc::new(Semaphore::new(CONCURRENT_TRIES_MAX));
    let mut tries = JoinSet::new();
    for (name, conf) in with_all.chain(without_one) {
        let permits = permits.clone();
        let attempt = try_accounts(conf);
        tries.spawn(async move {
            let _permit = permits.acquire().await.expect("open");

            (name, attempt.await)
        });
    }

    let mut unneeded = Vec::new();
    for (name, outcome) in tries.join_all().await {
        if name == ALL_GRANTS {
            outcome.expect("with all grants every user can work");
            continue;
        }

        match outcome {
            Ok(()) => unneeded.push(name),
            Err(error) => {
                let first_line = error.lines().next().unwrap_or_default();
                println!("without {name}\n    {first_line}");
            }
        }
    }

    println!("{} grants were removed, one at a time", grants.len());
    unneeded
}

/// Goal: no grant of `nats/accounts.conf` is superfluous.
///
/// Method: for each grant, a platform runs with accounts that lack it. Callers, the worker, `init`,
/// `maintain`, the auth service, the reference service and the operator do their work there; one of
/// them must fail. A few tries with all grants run among the others, so that no failure comes from a
/// busy machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_grant_of_the_accounts_is_needed() {
    let _permit = shared().await;
    let mut grants = grants(ACCOUNTS_CONF);
    // A single server has no links to leaves. links.rs checks the grants of links.
    grants.retain(|grant| !grant.name.starts_with("leaf"));
    let unneeded = unneeded_grants(
        &grants,
        4,
        |conf| async move { all_users_can_work(&conf).await },
    );
    let names = unneeded.await.join("\n");
    assert!(names.is_empty(), "no user needs:\n{names}");

    assert!(
        grants.len() > 30,
        "the grants are read from the configuration: {grants:#?}"
    );
}

#[test]
fn the_list_of_grants_is_complete() {
    let grants = grants(ACCOUNTS_CONF);
    let count = |part: &str| {
        grants
            .iter()
            .filter(|grant| grant.name.contains(part))
            .count()
    };

    let quoted_subjects: usize = ACCOUNTS_CONF
        .lines()
        .filter_map(|line| line.split('#').next())
        .map(|line| line.replace("allowed_connection_types: [\"LEAFNODE\"]", ""))
        .map(|line| line.matches('"').count() / 2)
        .sum();

    let lines = count("{ service:") + count("{ stream:") - count(" without ");
    assert_eq!(
        count(" publish ") + count(" subscribe ") + lines,
        quoted_subjects,
        "each quoted subject is a grant"
    );

    let inbox_of_init = grants
        .iter()
        .find(|grant| grant.name == "init subscribe _INBOX_init.>")
        .expect("listed");
    let without_inbox = inbox_of_init.removed_from(ACCOUNTS_CONF);
    assert!(without_inbox.contains(r#"subscribe: { allow: ["taken.away"] }"#));
}

/// A connection that records what the server refuses.
struct Prober {
    client: Client,
    refusals: mpsc::UnboundedReceiver<String>,
}

impl Prober {
    async fn new(world: &World, user: &str) -> Self {
        let (sender, refusals) = mpsc::unbounded_channel();
        let client =
            ConnectOptions::with_user_and_password(user.into(), world.secrets.nats(user).into())
                .custom_inbox_prefix(inbox_prefix(user))
                .event_callback(move |event| {
                    if let Event::ServerError(error) = event {
                        // The test may have ended.
                        let _ = sender.send(error.to_string());
                    }
                    async {}
                })
                .connect(world.nats.url())
                .await
                .expect("a connection");

        Self { client, refusals }
    }

    /// Asserts that the server refuses to publish there.
    async fn assert_publish_refused(&mut self, subject: &str, body: &str) {
        let reply = self.client.new_inbox();

        self.client
            .publish_with_reply(subject.to_owned(), reply, body.to_owned().into())
            .await
            .expect("sent");

        self.assert_refusal("publish", subject).await;
    }

    /// Asserts that the server refuses to subscribe there, alone and in a queue group.
    async fn assert_subscribe_refused(&mut self, subject: &str) {
        let _alone = self
            .client
            .subscribe(subject.to_owned())
            .await
            .expect("sent");
        self.assert_refusal("subscription", subject).await;

        let _in_group = self
            .client
            .queue_subscribe(subject.to_owned(), "another".into())
            .await
            .expect("sent");
        self.assert_refusal("subscription", subject).await;
    }

    async fn assert_refusal(&mut self, what: &str, subject: &str) {
        let refusal = timeout(STEP_TIMEOUT, self.refusals.recv())
            .await
            .unwrap_or_else(|_| panic!("a {what} to {subject} is allowed"))
            .expect("open")
            .to_lowercase();

        let quoted_subject = format!("\"{}\"", subject.to_lowercase());
        assert!(
            refusal.contains("permissions violation"),
            "{subject}: {refusal}"
        );
        assert!(refusal.contains(what), "{subject}: {refusal}");
        assert!(refusal.contains(&quoted_subject), "{subject}: {refusal}");
    }

    /// Asserts that nothing was refused except what was expected.
    async fn end(mut self) {
        self.assert_publish_refused("the.end", "").await;

        assert_eq!(self.refusals.try_recv().ok(), None);
    }
}

/// Requests that change the bucket or create another one.
const CHANGES: [&str; 9] = [
    "$JS.API.STREAM.DELETE.KV_favorites",
    "$JS.API.STREAM.PURGE.KV_favorites",
    "$JS.API.STREAM.UPDATE.KV_favorites",
    "$JS.API.STREAM.MSG.DELETE.KV_favorites",
    "$JS.API.STREAM.SNAPSHOT.KV_favorites",
    "$JS.API.STREAM.RESTORE.KV_favorites",
    "$JS.API.STREAM.CREATE.KV_other",
    "$JS.API.STREAM.LEADER.STEPDOWN.KV_favorites",
    "$JS.API.CONSUMER.DELETE.KV_favorites.x",
];

/// Requests that read the bucket.
const READS: [&str; 5] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.KV_favorites",
    "$JS.API.STREAM.MSG.GET.KV_favorites",
    "$JS.API.DIRECT.GET.KV_favorites",
    "$JS.API.CONSUMER.CREATE.KV_favorites.x",
];

/// Subjects of the server, of other services, and of no service.
const ELSEWHERE: [&str; 6] = [
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.USER.INFO",
    "auth.v1.x",
    "other.v1.x",
    "x",
    "_R_x",
];

/// Subscriptions that no user may have.
const SUBSCRIPTIONS: [&str; 8] = [
    "favorites.v1.>",
    "favorites.>",
    "auth.v1.verify",
    REFERENCE_SUBJECT,
    "$KV.favorites.>",
    "$JS.>",
    "$SYS.>",
    ">",
];

/// The inboxes of `init` and of workers, and the replies between accounts.
const OTHERS_INBOXES: [&str; 5] = [
    "_INBOX_worker.>",
    "_INBOX_front.>",
    "_INBOX_auth.>",
    "_INBOX_init.>",
    "_R_.>",
];

/// A record of the bucket.
const RECORD: &str = "$KV.favorites.AAAAAAAAAAAAAAAAAAAAAA.BBBBBBBBBBBBBBBBBBBBBB";

const REVOKED: &str = "auth.v1.revoked";
const PING: &str = "$SRV.PING";

/// The subjects that one user may not use.
struct Forbidden {
    user: &'static str,
    publish: Vec<&'static str>,
    subscribe: Vec<&'static str>,
}

impl Forbidden {
    fn new(user: &'static str, publish: &[&[&'static str]], subscribe: &[&[&'static str]]) -> Self {
        Self {
            user,
            publish: publish.concat(),
            subscribe: subscribe.concat(),
        }
    }

    fn for_caller(user: &'static str) -> Self {
        let others = ["auth.v1.verify", REFERENCE_SUBJECT, REVOKED];

        Self::new(
            user,
            &[&CHANGES, &READS, &ELSEWHERE, &[RECORD], &others],
            &[&SUBSCRIPTIONS, &OTHERS_INBOXES, &[REVOKED, PING]],
        )
    }

    /// A calling service in the workers' account, where nothing but its permissions keeps it from
    /// what others receive.
    fn for_direct_caller() -> Self {
        let others = [
            "auth.v1.verify",
            REFERENCE_SUBJECT,
            REVOKED,
            "_R_.x",
            "_INBOX.x",
        ];
        let inboxes = ["_INBOX.>", "_INBOX.another.>", "_INBOX.*.>", "_INBOX.*.x"];

        Self::new(
            "direct",
            &[&CHANGES, &READS, &ELSEWHERE, &[RECORD], &others],
            &[&SUBSCRIPTIONS, &OTHERS_INBOXES, &inboxes, &[REVOKED, PING]],
        )
    }

    /// The connections of a worker: to the bucket, to callers, and to the auth service.
    fn for_worker() -> [Self; 3] {
        let others = [
            "$JS.API.STREAM.MSG.GET.KV_favorites",
            "favorites.v1.put",
            "favorites.changed.x.y",
            "auth.v1.verify",
            REFERENCE_SUBJECT,
            REVOKED,
            PING,
            "_R_.x",
            "_INBOX.x",
        ];
        let inboxes = ["_INBOX.>", "_INBOX_init.>", "_R_.>"];
        let truth = Self::new(
            "worker",
            &[&CHANGES, &ELSEWHERE, &others],
            &[&SUBSCRIPTIONS, &inboxes, &[REVOKED, PING]],
        );

        let others = [
            RECORD,
            "favorites.v1.put",
            "favorites.changed.x.y",
            "auth.v1.verify",
            REFERENCE_SUBJECT,
            REVOKED,
            PING,
            "_INBOX_worker.x",
        ];
        let front = Self::new(
            "front",
            &[&CHANGES, &READS, &ELSEWHERE, &others],
            &[&SUBSCRIPTIONS, &inboxes, &["_INBOX_worker.>", REVOKED]],
        );

        let others = [RECORD, "favorites.v1.put", REVOKED, PING, "_INBOX_auth.x"];
        let auth = Self::new(
            "auth",
            &[&CHANGES, &READS, &ELSEWHERE, &others],
            &[&SUBSCRIPTIONS, &inboxes, &["_INBOX_worker.>", PING]],
        );

        [truth, front, auth]
    }

    fn for_operator() -> Self {
        let others = [
            RECORD,
            "favorites.v1.put",
            "favorites.v1.list",
            "auth.v1.verify",
            REFERENCE_SUBJECT,
            REVOKED,
        ];

        Self::new(
            "operator",
            &[&CHANGES, &ELSEWHERE, &others],
            &[&SUBSCRIPTIONS, &OTHERS_INBOXES, &[REVOKED, PING]],
        )
    }

    fn for_auth_service() -> Self {
        let others = [
            RECORD,
            "favorites.v1.put",
            "auth.v1.verify",
            REFERENCE_SUBJECT,
            "_INBOX_worker.x",
            PING,
        ];

        Self::new(
            "auth_service",
            &[&CHANGES, &READS, &ELSEWHERE, &others],
            &[&SUBSCRIPTIONS, &OTHERS_INBOXES, &[REVOKED, PING]],
        )
    }

    fn for_reference_service() -> Self {
        let others = [
            RECORD,
            "favorites.v1.put",
            "auth.v1.verify",
            REFERENCE_SUBJECT,
            REVOKED,
            "_INBOX_worker.x",
            PING,
        ];

        Self::new(
            "reference_service",
            &[&CHANGES, &READS, &ELSEWHERE, &others],
            &[&SUBSCRIPTIONS, &OTHERS_INBOXES, &[REVOKED, PING]],
        )
    }

    fn for_init() -> Self {
        let changes_except_update: Vec<_> = CHANGES
            .into_iter()
            .filter(|change| !change.contains("UPDATE"))
            .collect();
        let reads = [READS[2], READS[4]];
        let others = [
            RECORD,
            "favorites.v1.put",
            "auth.v1.verify",
            REFERENCE_SUBJECT,
            REVOKED,
            PING,
        ];

        Self::new(
            "init",
            &[&changes_except_update, &ELSEWHERE, &reads, &others],
            &[
                &SUBSCRIPTIONS,
                &["_INBOX.>", "_INBOX_worker.>", REVOKED, PING],
            ],
        )
    }

    fn for_maintenance() -> Self {
        let changes_except_purge: Vec<_> = CHANGES
            .into_iter()
            .filter(|change| !change.contains("PURGE"))
            .collect();
        let others = [
            "$JS.API.INFO",
            RECORD,
            "$KV.favorites._b.a",
            "favorites.v1.put",
            "auth.v1.verify",
            REFERENCE_SUBJECT,
            REVOKED,
            PING,
        ];

        Self::new(
            "maintain",
            &[&changes_except_purge, &ELSEWHERE, &others],
            &[
                &SUBSCRIPTIONS,
                &["_INBOX.>", "_INBOX_worker.>", REVOKED, PING],
            ],
        )
    }
}

/// Goal: the server refuses every user what is not part of its work.
///
/// Method: each user publishes to the subjects that are not its own, with and without a body, and
/// subscribes to them, alone and in a queue group. Each attempt must be refused, and the bucket
/// must be unchanged in the end.
#[tokio::test(flavor = "multi_thread")]
async fn each_user_is_refused_everything_beyond_its_work() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    world.caller("alice").await.put_text("a", "x", "y").await;
    let before = world.records().await;

    let mut tried = 0;
    let others = [
        Forbidden::for_caller("gateway"),
        Forbidden::for_caller("gateway2"),
        Forbidden::for_direct_caller(),
        Forbidden::for_operator(),
        Forbidden::for_auth_service(),
        Forbidden::for_reference_service(),
        Forbidden::for_init(),
        Forbidden::for_maintenance(),
    ];
    for forbidden in Forbidden::for_worker().into_iter().chain(others) {
        let mut prober = Prober::new(&world, forbidden.user).await;

        for subject in &forbidden.publish {
            prober.assert_publish_refused(subject, "").await;
            prober.assert_publish_refused(subject, "{}").await;
        }

        for subject in &forbidden.subscribe {
            prober.assert_subscribe_refused(subject).await;
        }

        prober.end().await;
        tried += forbidden.publish.len() + forbidden.subscribe.len();
    }

    println!("{tried} forbidden subjects were tried");

    assert_eq!(world.records().await, before, "the bucket is unchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_creates_the_bucket_once() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    world.caller("alice").await.put_text("a", "x", "y").await;
    let before = world.records().await;
    let client = world.connect("init").await;
    let other_settings = json!({
        "name": "KV_favorites",
        "subjects": ["$KV.favorites.>"],
        "max_msgs": 1,
        "storage": "file",
    });

    let created = ask(
        &client,
        "$JS.API.STREAM.CREATE.KV_favorites",
        HeaderMap::new(),
        &other_settings,
    )
    .await;

    let error = created.expect_err("the bucket exists");
    assert!(error.contains("10058"), "the name is in use");
    assert_eq!(world.records().await, before);
}

/// Returns the accounts without the permissions of callers: only the accounts themselves limit
/// what callers can do.
fn accounts_without_permissions_of_callers() -> String {
    let (truth, callers) = ACCOUNTS_CONF
        .split_once("  GATEWAY {")
        .expect("the callers' accounts");

    let free = callers
        .replace(r#"["favorites.v1.>", "$SRV.>"]"#, r#"[">"]"#)
        .replace(r#"["_INBOX.>", "favorites.changed.>"]"#, r#"[">"]"#);

    assert_eq!(free.matches(r#"[">"]"#).count(), 4);

    format!("{truth}  GATEWAY {{{free}")
}

/// Asserts that a request has no responder, or that the server refuses it.
async fn assert_no_service_responds(client: &Client, subject: &str, body: &'static str) {
    let reply = timeout(
        STEP_TIMEOUT,
        client.request(subject.to_owned(), body.into()),
    )
    .await
    .expect("in time");

    // The caller's own account has no JetStream, and the server replies with that error.
    let is_refused = reply.as_ref().is_ok_and(|reply| {
        let body: Value = serde_json::from_slice(&reply.payload).unwrap_or_default();
        body["error"].is_object()
    });

    let has_no_responder = reply
        .as_ref()
        .is_err_and(|error| error.kind() == async_nats::RequestErrorKind::NoResponders);

    assert!(has_no_responder || is_refused, "{subject}: {reply:?}");
}

/// Returns the next message that is no change notification. Every account may receive the
/// notifications of all owners, because they have no content.
async fn next_except_notifications(messages: &mut Subscriber) -> Message {
    loop {
        let message = messages.next().await.expect("a message");

        if !message.subject.starts_with("favorites.changed.") {
            return message;
        }

        assert!(message.payload.is_empty());
    }
}

/// Goal: even without permissions, its account keeps a caller from the bucket and from the requests
/// and replies of another caller.
///
/// Method: alice, in one account, sends every request that could reach the bucket or the auth
/// service, and publishes a record. A client in the other account subscribes to everything; it
/// must receive its own request and reply, and notifications without content.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_alone_keep_callers_apart_and_off_the_bucket() {
    let world = World::with_accounts(&accounts_without_permissions_of_callers()).await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let other = world.connect("gateway2").await;
    let mut messages = other.subscribe(">").await.expect("a subscription");
    other.publish("the.start", "".into()).await.expect("sent");
    let start = messages.next().await.expect("a message");
    assert_eq!(start.subject.as_str(), "the.start");

    alice.put_text("a", "x", "y").await;
    let before = world.records().await;
    let elsewhere = [
        "auth.v1.verify",
        REFERENCE_SUBJECT,
        REVOKED,
        "$SYS.REQ.SERVER.PING",
    ];

    for subject in [&CHANGES[..], &READS, &elsewhere].concat() {
        assert_no_service_responds(&alice.client, subject, "").await;
        assert_no_service_responds(&alice.client, subject, "{}").await;
    }

    alice
        .client
        .publish(RECORD, "x".into())
        .await
        .expect("sent");

    // Their replies go to alice's inbox, and must go nowhere else.
    for _ in 0..20 {
        alice.done("list", &json!({})).await;
    }

    assert_eq!(world.records().await, before, "the bucket is unchanged");

    let reply = other
        .request("favorites.v1.version", "".into())
        .await
        .expect("an answer");
    let first = next_except_notifications(&mut messages).await;
    let second = next_except_notifications(&mut messages).await;

    assert_eq!(
        first.subject.as_str(),
        "favorites.v1.version",
        "the first message is the client's own request"
    );
    assert_eq!(second.payload, reply.payload, "and the second its reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_receives_only_replies_to_its_own_account() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let other = world.connect("gateway2").await;
    let mut messages = other.subscribe("_INBOX.>").await.expect("a subscription");

    let reply = other
        .request("favorites.v1.version", "".into())
        .await
        .expect("an answer");
    let message = messages.next().await.expect("a message");

    assert_eq!(message.payload, reply.payload, "its own reply arrives");

    for id in 0..20 {
        alice.put_text("a", &id.to_string(), "y").await;
    }

    let reply = other
        .request("favorites.v1.version", "".into())
        .await
        .expect("an answer");
    let message = messages.next().await.expect("a message");

    assert_eq!(
        message.payload, reply.payload,
        "no other reply arrived before its own"
    );
}
