//! Who may do what on the NATS server: every grant of `nats/accounts.conf` is needed, and nothing else is granted.

use crate::harness::{Verifier, World, isin, shared};
use async_nats::{Client, ConnectOptions, Event, HeaderMap};
use futures::StreamExt as _;
use gofavorites::app::Maintenance;
use gofavorites::config::Settings;
use gofavorites::dev::auth_service::{AuthService, REVOKED_SUBJECT, RevokedTokens};
use gofavorites::dev::nats::ACCOUNTS_CONF;
use gofavorites::dev::tokens::{ALL_SCOPES, unix_now};
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a step that is allowed may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// One thing that the accounts allow, and how the text reads without it.
#[derive(Debug)]
pub struct Grant {
    pub name: String,
    place: Range<usize>,
    instead: String,
}

impl Grant {
    /// The text without it.
    pub fn taken_from(&self, conf: &str) -> String {
        [
            &conf[..self.place.start],
            &self.instead,
            &conf[self.place.end..],
        ]
        .concat()
    }
}

/// Each subject of an allow list, each line of exports and imports, and each account of an export to several.
pub fn grants(conf: &str) -> Vec<Grant> {
    let (mut grants, mut user, mut list, mut at) = (Vec::new(), "", None, 0);
    for line in conf.split_inclusive('\n') {
        // No subject holds a `#`.
        let code = line.split('#').next().unwrap_or_default();
        if let Some((_, rest)) = code.split_once("user: ") {
            user = rest.split(',').next().expect("a name");
        }
        if let Some(start) = code.find("{ service:").or(code.find("{ stream:")) {
            let start = at + start;
            let end = at + code.trim_end().len();
            grants.push(Grant {
                name: conf[start..end].into(),
                place: start..end,
                instead: String::new(),
            });
            grants.extend(accounts_of_export(conf, start..end));
        }
        for (step, part) in code.split('"').enumerate() {
            let start = at + part.as_ptr() as usize - line.as_ptr() as usize;
            if step % 2 == 0 {
                for right in ["publish", "subscribe"] {
                    if part.contains(&format!("{right}: {{ allow: [")) {
                        list = Some(right);
                    }
                }
                list = list.filter(|_| !part.trim_start().starts_with(']'));
            } else if let Some(right) = list {
                // An empty list would allow everything, so another subject takes its place.
                grants.push(Grant {
                    name: format!("{user} {right} {part}"),
                    place: start..start + part.len(),
                    instead: "taken.away".into(),
                });
            }
        }
        at += line.len();
    }
    grants
}

/// Taking one account off an export leaves the others.
fn accounts_of_export(conf: &str, line: Range<usize>) -> Vec<Grant> {
    let Some((before, list)) = conf[line.clone()].split_once("accounts: [") else {
        return Vec::new();
    };
    let start = line.start + before.len() + "accounts: [".len();
    let list = &conf[start..start + list.find(']').expect("an end")];
    let names: Vec<_> = list.split(", ").collect();
    let others = |name: &str| {
        names
            .iter()
            .copied()
            .filter(|other| *other != name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let several = names.iter().filter(|_| names.len() > 1);
    several
        .map(|name| Grant {
            name: format!("{} without {name}", &conf[line.clone()]),
            place: start..start + list.len(),
            instead: others(name),
        })
        .collect()
}

/// Settings that do not wait long for what is not allowed.
fn impatient(world: &World) -> Settings {
    let mut settings = world.settings("a");
    settings.truth.call_ms = 2_000;
    settings.auth.timeout_ms = 2_000;
    settings.write.local_wait_ms = 2_500;
    settings.projection.poll_ms = 20;
    settings
}

pub async fn ask(
    client: &Client,
    subject: &str,
    headers: HeaderMap,
    body: &Value,
) -> Result<Value, String> {
    let asked = client.request_with_headers(subject.to_owned(), headers, body.to_string().into());
    let answered = timeout(PATIENCE, asked)
        .await
        .map_err(|_| format!("{subject}: no answer"))?;
    let message = answered.map_err(|error| format!("{subject}: {error}"))?;
    let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
    if body["error"].is_null() {
        Ok(body)
    } else {
        Err(format!("{subject}: {body}"))
    }
}

/// What every user has to be able to do; or the first of it that fails.
async fn everybody_does_their_work(conf: &str) -> Result<(), String> {
    let mut world = World::try_without_auth(conf)
        .await
        .map_err(|_| "the server does not start")?;
    let settings = impatient(&world);
    world
        .init(&settings)
        .await
        .map_err(|error| format!("init: {error:#}"))?;
    let _auth = Verifier::honest(&world).await;
    let worker = world
        .try_worker(settings)
        .await
        .map_err(|error| format!("serve: {error:#}"))?;
    for user in ["gateway", "gateway2"] {
        callers_are_served(&world, user)
            .await
            .map_err(|error| format!("{user}: {error}"))?;
    }
    if world.query("a", "select count(*) from item where not deleted") != "2" {
        return Err("the projection has no row".into());
    }
    deletions_are_forgotten(&world)
        .await
        .map_err(|error| format!("maintain: {error}"))?;
    revocations_are_heard(&world)
        .await
        .map_err(|error| format!("revocation: {error}"))?;
    for user in ["gateway", "gateway2", "operator"] {
        everything_is_found(&world, user)
            .await
            .map_err(|error| format!("discovery by {user}: {error}"))?;
    }
    nothing_is_refused_after_a_reconnect(&mut world).await?;
    operators_look(&world)
        .await
        .map_err(|error| format!("operator: {error}"))?;
    worker.crash().await;
    Ok(())
}

async fn callers_are_served(world: &World, user: &str) -> Result<(), String> {
    let client = world.connect(user).await;
    let mut headers = HeaderMap::new();
    let token = world.token(user, ALL_SCOPES, Duration::from_secs(600));
    headers.insert("Authorization", format!("Bearer {token}"));
    let item = json!({"kind": "instrument", "data": {"isin": isin(1), "type": "stock"}});
    let put = ask(&client, "favorites.v1.put", headers.clone(), &item).await?;
    if put["local"] == "pending" {
        return Err("the row does not come".into());
    }
    let list = ask(&client, "favorites.v1.list", headers.clone(), &json!({})).await?;
    let read = json!({"kind": "instrument", "id": isin(1), "consistency": "strong"});
    let got = ask(&client, "favorites.v1.shard.a.get", headers.clone(), &read).await?;
    let fine = list["items"][0] == put["item"] && got["item"] == put["item"];
    fine.then_some(()).ok_or("another item")?;
    the_bell_rings(&client, headers, &item).await
}

/// Who waits for an owner's changes hears of one.
async fn the_bell_rings(client: &Client, headers: HeaderMap, item: &Value) -> Result<(), String> {
    let changes = ask(
        client,
        "favorites.v1.changes",
        headers.clone(),
        &json!({"since": 0}),
    )
    .await?;
    let subject = changes["notify"].as_str().ok_or("no subject")?.to_owned();
    let mut bell = client
        .subscribe(subject)
        .await
        .map_err(|error| error.to_string())?;
    client.flush().await.map_err(|error| error.to_string())?;
    ask(client, "favorites.v1.put", headers, item).await?;
    timeout(PATIENCE, bell.next())
        .await
        .map(|_| ())
        .map_err(|_| "the bell does not ring".into())
}

/// `maintain` raises the floor of an owner who deleted something, and purges that.
async fn deletions_are_forgotten(world: &World) -> Result<(), String> {
    let client = world.connect("gateway").await;
    let mut headers = HeaderMap::new();
    headers.insert(
        "Authorization",
        format!(
            "Bearer {}",
            world.token("tidy", ALL_SCOPES, Duration::from_secs(600))
        ),
    );
    let item = json!({"kind": "text", "id": "x", "data": {"text": "x"}});
    ask(&client, "favorites.v1.put", headers.clone(), &item).await?;
    ask(
        &client,
        "favorites.v1.delete",
        headers,
        &json!({"kind": "text", "id": "x"}),
    )
    .await?;
    let mut settings = impatient(world);
    settings.nats.user = "maintain".into();
    settings.nats.password = world.secrets.nats("maintain").into();
    settings.nats.inbox_prefix = "_INBOX_maintain".into();
    settings.maintain.deletions_d = 0;
    let round = async {
        Maintenance::build(&settings)
            .await?
            .once()
            .await
            .map_err(anyhow::Error::from)
    };
    let round = timeout(PATIENCE * 3, round)
        .await
        .map_err(|_| "no round")?
        .map_err(|error| format!("{error:#}"))?;
    if round.purged == 1 && round.failed == 0 {
        Ok(())
    } else {
        Err(format!("{round:?}"))
    }
}

/// Told that everybody is revoked, the worker asks about a caller anew.
async fn revocations_are_heard(world: &World) -> Result<(), String> {
    let service = AuthService::new(&world.secrets).map_err(|error| error.to_string())?;
    let revoked = RevokedTokens {
        sub: Some("gateway".into()),
        sid: None,
        iat: unix_now(),
    };
    let message = service
        .revocation(&revoked)
        .map_err(|error| error.to_string())?;
    let auth = world.connect("auth").await;
    auth.publish(REVOKED_SUBJECT, message.into())
        .await
        .map_err(|error| error.to_string())?;
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if statistics(world, "operator", "$SRV.STATS.favorites").await?["data"]["auth"]["revocations"]
            == 1
        {
            return Ok(());
        }
    }
    Err("not heard".into())
}

async fn statistics(world: &World, user: &str, subject: &str) -> Result<Value, String> {
    ask(
        &world.connect(user).await,
        subject,
        HeaderMap::new(),
        &json!({}),
    )
    .await
}

/// Each of the three forms of a question of discovery is answered.
async fn everything_is_found(world: &World, user: &str) -> Result<(), String> {
    let told = statistics(world, user, "$SRV.PING").await?;
    let (name, id) = (
        told["name"].as_str().unwrap_or_default(),
        told["id"].as_str().unwrap_or_default(),
    );
    statistics(world, user, &format!("$SRV.INFO.{name}")).await?;
    statistics(world, user, &format!("$SRV.STATS.{name}.{id}"))
        .await
        .map(|_| ())
}

/// The client looks around by itself when it is back.
async fn nothing_is_refused_after_a_reconnect(world: &mut World) -> Result<(), String> {
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
        let told = statistics(world, "operator", "$SRV.STATS.favorites")
            .await
            .unwrap_or_default();
        let data = &told["data"];
        if data["projection"]["here"] == true && data["truth"]["writes"]["state"] == "closed" {
            let refused = data["reasons"]
                .as_array()
                .is_some_and(|r| r.iter().any(|one| one["part"] == "rights"));
            return if refused {
                Err(format!("after a reconnect: {}", data["reasons"]))
            } else {
                Ok(())
            };
        }
        if since.elapsed() > PATIENCE * 3 {
            return Err("the worker does not come back".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn operators_look(world: &World) -> Result<(), String> {
    let client = world.connect("operator").await;
    let look =
        async |subject: &str, body: Value| ask(&client, subject, HeaderMap::new(), &body).await;
    look("$JS.API.INFO", json!({})).await?;
    look("$JS.API.STREAM.NAMES", json!({})).await?;
    look("$JS.API.STREAM.LIST", json!({})).await?;
    let info = look(
        "$JS.API.STREAM.INFO.KV_favorites",
        json!({"subjects_filter": "$KV.favorites.*.key"}),
    )
    .await?;
    let keys = info["state"]["subjects"].as_object().ok_or("no keys")?;
    let key = keys.keys().next().ok_or("no key")?;
    look(
        "$JS.API.STREAM.MSG.GET.KV_favorites",
        json!({"last_by_subj": key}),
    )
    .await?;
    let direct = client.request(format!("$JS.API.DIRECT.GET.KV_favorites.{key}"), "".into());
    let direct = timeout(PATIENCE, direct)
        .await
        .map_err(|_| "direct get")?
        .map_err(|error| error.to_string())?;
    if direct.status.is_some() || direct.payload.is_empty() {
        return Err(format!("direct get: {:?}", direct.status));
    }
    look("favorites.v1.version", json!({})).await?;
    look("favorites.v1.limits", json!({})).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_grant_is_needed_by_somebody() {
    let _permit = shared().await;
    let mut grants = grants(ACCOUNTS_CONF);
    // A server alone has no links to leaves; what those may carry is tried in links.rs.
    grants.retain(|grant| !grant.name.starts_with("leaf"));
    let confs = grants
        .iter()
        .map(|grant| (grant.name.clone(), grant.taken_from(ACCOUNTS_CONF)));
    // All grants, tried among the others: so no failure comes of the machine being busy.
    let whole = (0..4).map(|_| ("nothing".to_owned(), ACCOUNTS_CONF.to_owned()));
    let (places, mut tries) = (Arc::new(Semaphore::new(4)), JoinSet::new());
    for (name, conf) in whole.chain(confs) {
        let places = places.clone();
        tries.spawn(async move {
            let _place = places.acquire().await.expect("open");
            (name, everybody_does_their_work(&conf).await)
        });
    }
    let mut unneeded = Vec::new();
    for (name, ended) in tries.join_all().await {
        match (name.as_str(), ended) {
            ("nothing", ended) => ended.expect("with all grants everybody does their work"),
            (_, Ok(())) => unneeded.push(name),
            (_, Err(error)) => println!(
                "without {name}\n    {}",
                error.lines().next().unwrap_or_default()
            ),
        }
    }
    println!("{} grants were taken away, each by itself", grants.len());
    assert!(
        unneeded.is_empty(),
        "nobody needs:\n{}",
        unneeded.join("\n")
    );
    assert!(
        grants.len() > 30,
        "the list of grants is read from the text: {grants:#?}"
    );
}

#[test]
fn the_list_of_grants_is_whole() {
    let quoted = ACCOUNTS_CONF
        .lines()
        .filter_map(|line| line.split('#').next());
    let quoted = quoted.map(|line| line.replace("allowed_connection_types: [\"LEAFNODE\"]", ""));
    let quoted: usize = quoted.map(|line| line.matches('"').count() / 2).sum();
    let grants = grants(ACCOUNTS_CONF);
    let count = |part: &str| {
        grants
            .iter()
            .filter(|grant| grant.name.contains(part))
            .count()
    };
    let lines = count("{ service:") + count("{ stream:") - count(" without ");
    assert_eq!(
        count(" publish ") + count(" subscribe ") + lines,
        quoted,
        "each quoted subject is a grant"
    );
    let without = grants
        .iter()
        .find(|grant| grant.name == "init subscribe _INBOX_init.>")
        .expect("listed");
    assert!(
        without
            .taken_from(ACCOUNTS_CONF)
            .contains(r#"subscribe: { allow: ["taken.away"] }"#)
    );
}

/// A connection that hears what the server refuses.
struct Prober {
    client: Client,
    refusals: mpsc::UnboundedReceiver<String>,
}

impl Prober {
    async fn new(world: &World, user: &str) -> Self {
        let (refused, refusals) = mpsc::unbounded_channel();
        let prefix = if ["worker", "init", "maintain"].contains(&user) {
            format!("_INBOX_{user}")
        } else {
            "_INBOX".into()
        };
        let client =
            ConnectOptions::with_user_and_password(user.into(), world.secrets.nats(user).into())
                .custom_inbox_prefix(prefix)
                .event_callback(move |event| {
                    if let Event::ServerError(error) = event {
                        // The test may have ended.
                        let _ = refused.send(error.to_string());
                    }
                    async {}
                })
                .connect(world.nats.url());
        Self {
            client: client.await.expect("a connection"),
            refusals,
        }
    }

    /// Publishing there has to be refused, with and without a body.
    async fn must_not_publish(&mut self, subject: &str, body: &str) {
        let reply = self.client.new_inbox();
        self.client
            .publish_with_reply(subject.to_owned(), reply, body.to_owned().into())
            .await
            .expect("sent");
        self.must_be_told("publish", subject).await;
    }

    /// Subscribing there has to be refused, alone and in a queue group.
    async fn must_not_subscribe(&mut self, subject: &str) {
        let _alone = self
            .client
            .subscribe(subject.to_owned())
            .await
            .expect("sent");
        self.must_be_told("subscription", subject).await;
        let _group = self
            .client
            .queue_subscribe(subject.to_owned(), "another".into())
            .await
            .expect("sent");
        self.must_be_told("subscription", subject).await;
    }

    async fn must_be_told(&mut self, what: &str, subject: &str) {
        let told = timeout(PATIENCE, self.refusals.recv()).await;
        let told = told
            .unwrap_or_else(|_| panic!("a {what} to {subject} is allowed"))
            .expect("open")
            .to_lowercase();
        let as_expected = told.contains("permissions violation") && told.contains(what);
        assert!(
            as_expected && told.contains(&format!("\"{}\"", subject.to_lowercase())),
            "{subject}: {told}"
        );
    }

    /// Nothing was refused that was not expected to be.
    async fn end(mut self) {
        self.must_not_publish("the.end", "").await;
        assert_eq!(self.refusals.try_recv().ok(), None);
    }
}

/// What changes the bucket, or makes another.
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

/// What reads it.
const LOOKS: [&str; 5] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.KV_favorites",
    "$JS.API.STREAM.MSG.GET.KV_favorites",
    "$JS.API.DIRECT.GET.KV_favorites",
    "$JS.API.CONSUMER.CREATE.KV_favorites.x",
];

/// Subjects of the server, of other services, and of nobody.
const ELSEWHERE: [&str; 6] = [
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.USER.INFO",
    "auth.v1.x",
    "other.v1.x",
    "x",
    "_R_x",
];

const RECORD: &str = "$KV.favorites.AAAAAAAAAAAAAAAAAAAAAA.BBBBBBBBBBBBBBBBBBBBBB";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_may_do_more_than_their_work() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    world.caller("alice").await.put_text("a", "x", "y").await;
    let before = world.records().await;
    let told = ["auth.v1.revoked", "$SRV.PING"];
    let subscriptions = [
        "favorites.v1.>",
        "favorites.>",
        "auth.v1.verify",
        "$KV.favorites.>",
        "$JS.>",
        "$SYS.>",
        ">",
    ];
    let inboxes = ["_INBOX_worker.>", "_INBOX_init.>", "_R_.>"];
    let all = [&CHANGES[..], &LOOKS, &ELSEWHERE, &[RECORD]];
    let table: [(&str, Vec<&str>, Vec<&str>); 7] = [
        (
            "gateway",
            [&all.concat()[..], &["auth.v1.verify", told[0]]].concat(),
            [&subscriptions[..], &inboxes, &told].concat(),
        ),
        (
            "gateway2",
            [&all.concat()[..], &["auth.v1.verify", told[0]]].concat(),
            [&subscriptions[..], &inboxes, &told].concat(),
        ),
        (
            "worker",
            [
                &CHANGES[..],
                &ELSEWHERE,
                &[
                    "$JS.API.INFO",
                    "$JS.API.STREAM.MSG.GET.KV_favorites",
                    "favorites.v1.put",
                    told[0],
                ],
            ]
            .concat(),
            [&subscriptions[..], &["_INBOX.>", "_INBOX_init.>", "_R_.>"]].concat(),
        ),
        (
            "operator",
            [
                &CHANGES[..],
                &ELSEWHERE,
                &[
                    RECORD,
                    "favorites.v1.put",
                    "favorites.v1.list",
                    "auth.v1.verify",
                    told[0],
                ],
            ]
            .concat(),
            [&subscriptions[..], &inboxes, &told].concat(),
        ),
        (
            "auth",
            [&all.concat()[..], &["favorites.v1.put", told[1]]].concat(),
            [&subscriptions[..], &["_INBOX_worker.>"], &told].concat(),
        ),
        (
            "init",
            [
                &CHANGES[..],
                &ELSEWHERE,
                &LOOKS[2..],
                &[RECORD, "favorites.v1.put", "auth.v1.verify"],
                &told,
            ]
            .concat(),
            [&subscriptions[..], &["_INBOX.>", "_INBOX_worker.>"], &told].concat(),
        ),
        (
            "maintain",
            [
                &CHANGES
                    .iter()
                    .copied()
                    .filter(|change| !change.contains("PURGE"))
                    .collect::<Vec<_>>()[..],
                &ELSEWHERE,
                &[
                    "$JS.API.INFO",
                    RECORD,
                    "$KV.favorites._b.a",
                    "favorites.v1.put",
                    "auth.v1.verify",
                ],
                &told,
            ]
            .concat(),
            [&subscriptions[..], &["_INBOX.>", "_INBOX_worker.>"], &told].concat(),
        ),
    ];
    let mut tried = 0;
    for (user, subjects, listened) in table {
        let mut prober = Prober::new(&world, user).await;
        for subject in &subjects {
            prober.must_not_publish(subject, "").await;
            prober.must_not_publish(subject, "{}").await;
        }
        for subject in &listened {
            prober.must_not_subscribe(subject).await;
        }
        prober.end().await;
        tried += subjects.len() + listened.len();
    }
    println!("{tried} forbidden subjects were tried");
    assert_eq!(world.records().await, before, "the bucket is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_makes_the_bucket_once_and_cannot_change_it() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    world.caller("alice").await.put_text("a", "x", "y").await;
    let before = world.records().await;
    let other = json!({"name": "KV_favorites", "subjects": ["$KV.favorites.>"], "max_msgs": 1, "storage": "file"});
    let client = world.connect("init").await;
    let refused = ask(
        &client,
        "$JS.API.STREAM.CREATE.KV_favorites",
        HeaderMap::new(),
        &other,
    )
    .await;
    assert!(
        refused.expect_err("it is there").contains("10058"),
        "the name is in use"
    );
    assert_eq!(world.records().await, before);
}

/// The accounts, with callers who may do whatever their own accounts let them.
fn callers_without_permissions() -> String {
    let (truth, callers) = ACCOUNTS_CONF
        .split_once("  GATEWAY {")
        .expect("the callers' accounts");
    let free = callers
        .replace(r#"["favorites.v1.>", "$SRV.>"]"#, r#"[">"]"#)
        .replace(r#"["_INBOX.>", "favorites.changed.>"]"#, r#"[">"]"#);
    assert_eq!(free.matches(r#"[">"]"#).count(), 4);
    format!("{truth}  GATEWAY {{{free}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_alone_keep_callers_from_the_bucket_and_from_each_other() {
    let world = World::with_accounts(&callers_without_permissions()).await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let other = world.connect("gateway2").await;
    let mut heard = other.subscribe(">").await.expect("a subscription");
    other.publish("the.start", "".into()).await.expect("sent");
    assert_eq!(
        heard.next().await.expect("heard").subject.as_str(),
        "the.start"
    );
    alice.put_text("a", "x", "y").await;
    let before = world.records().await;
    for subject in [
        &CHANGES[..],
        &LOOKS,
        &["auth.v1.verify", "auth.v1.revoked", "$SYS.REQ.SERVER.PING"],
    ]
    .concat()
    {
        for body in ["", "{}"] {
            let answer = timeout(PATIENCE, alice.client.request(subject, body.into()))
                .await
                .expect("in time");
            let nobody = answer.as_ref().err().map(|error| error.kind());
            let body = answer
                .as_ref()
                .map(|reply| serde_json::from_slice::<Value>(&reply.payload).unwrap_or_default());
            // Their own account has no JetStream, and the server says so.
            let refused = body.is_ok_and(|body| body["error"].is_object());
            let none = nobody == Some(async_nats::RequestErrorKind::NoResponders);
            assert!(none || refused, "{subject}: {answer:?}");
        }
    }
    alice
        .client
        .publish(RECORD, "x".into())
        .await
        .expect("sent");
    // Requests that end at another caller's inbox end nowhere else.
    for _ in 0..20 {
        alice.done("list", &json!({})).await;
    }
    assert_eq!(world.records().await, before, "the bucket is as it was");
    let reply = other
        .request("favorites.v1.version", "".into())
        .await
        .expect("an answer");
    let mut next = async || {
        loop {
            let message = heard.next().await.expect("heard");
            // That somebody's items changed is for everybody to hear; what, is not.
            if !message.subject.starts_with("favorites.changed.") {
                return message;
            }
            assert!(message.payload.is_empty());
        }
    };
    let (first, second) = (next().await, next().await);
    assert_eq!(
        first.subject.as_str(),
        "favorites.v1.version",
        "the first that it hears is its own request"
    );
    assert_eq!(second.payload, reply.payload, "and then the answer to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_hears_only_the_replies_to_its_own_account() {
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let alice = world.caller("alice").await;
    let other = world.connect("gateway2").await;
    let mut heard = other.subscribe("_INBOX.>").await.expect("a subscription");
    let reply = other
        .request("favorites.v1.version", "".into())
        .await
        .expect("an answer");
    assert_eq!(
        heard.next().await.expect("heard").payload,
        reply.payload,
        "its own is heard"
    );
    for id in 0..20 {
        alice.put_text("a", &id.to_string(), "y").await;
    }
    let reply = other
        .request("favorites.v1.version", "".into())
        .await
        .expect("an answer");
    assert_eq!(
        heard.next().await.expect("heard").payload,
        reply.payload,
        "nothing came before its own answer"
    );
}
