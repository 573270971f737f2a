//! One test's own platform, with its workers in this process.

use super::caller::Caller;
use super::serial::{Permit, shared};
use super::servers::{Shared, shared_servers};
use async_nats::{Client, ConnectOptions};
use futures::StreamExt as _;
use gofavorites::app::{self, App, Counters};
use gofavorites::config::Settings;
use gofavorites::dev::nats::{ACCOUNTS_CONF, NatsServer};
use gofavorites::dev::role::Role;
use gofavorites::dev::secrets::Secrets;
use gofavorites::dev::{auth_service, tokens};
use gofavorites::truth::TruthSettings;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A NATS server, an auth service and databases, all of one test.
pub struct World {
    pub nats: NatsServer,
    pub secrets: Secrets,
    pub shared: &'static Shared,
    pub directory: PathBuf,
    /// How workers reach the truth.
    pub truth: TruthSettings,
    /// Where the workers of a shard connect, where that is not `nats`.
    pub urls: BTreeMap<String, String>,
    /// Where the auth service connects, where that is not `nats`.
    pub auth_url: Option<String>,
    number: usize,
    auth: Option<JoinHandle<()>>,
    _permit: Arc<Permit>,
}

/// Accounts with one more user who may do anything to the bucket: what an attacker, a mishap or an administrator could.
pub fn with_breaker(accounts: &str) -> String {
    accounts.replacen(
        "    users: [\n",
        "    users: [\n      { user: breaker, password: breaker }\n",
        1,
    )
}

/// A worker in this process.
pub struct Worker {
    pub counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl World {
    /// Servers with the accounts of `nats/`, and the stand-in auth service; no worker yet.
    pub async fn start() -> Self {
        Self::with_accounts(ACCOUNTS_CONF).await
    }

    /// As [`start`](Self::start), with other accounts.
    pub async fn with_accounts(accounts: &str) -> Self {
        let mut world = Self::without_auth(accounts).await;
        world.start_auth().await;
        world
    }

    /// As [`with_accounts`](Self::with_accounts), and nobody on the auth subject.
    pub async fn without_auth(accounts: &str) -> Self {
        Self::try_without_auth(accounts)
            .await
            .expect("a NATS server")
    }

    /// As [`without_auth`](Self::without_auth), or why the server does not take the accounts.
    pub async fn try_without_auth(accounts: &str) -> anyhow::Result<Self> {
        let permit = shared().await;
        let shared = shared_servers().await;
        let (number, directory) = shared.place();
        let secrets = Secrets::generate()?;
        let nats = NatsServer::start_with(
            &shared.servers.nats_server,
            &directory,
            None,
            &secrets,
            &Role::Single,
            accounts,
        )
        .await?;
        Ok(Self::of(nats, secrets, shared, directory, number, permit))
    }

    pub(super) fn of(
        nats: NatsServer,
        secrets: Secrets,
        shared: &'static Shared,
        directory: PathBuf,
        number: usize,
        permit: Arc<Permit>,
    ) -> Self {
        let (truth, urls, auth_url) = (TruthSettings::default(), BTreeMap::new(), None);
        Self {
            nats,
            secrets,
            shared,
            directory,
            truth,
            urls,
            auth_url,
            number,
            auth: None,
            _permit: permit,
        }
    }

    /// Ends the stand-in auth service.
    pub async fn stop_auth(&mut self) {
        if let Some(auth) = self.auth.take() {
            auth.abort();
            let _ = auth.await;
        }
    }

    /// Two shards, `a` and `b`, with a worker each: what most tests are about.
    pub async fn with_two_shards() -> (Self, Worker, Worker) {
        let world = Self::start().await;
        let (a, b) = (world.worker("a").await, world.worker("b").await);
        (world, a, b)
    }

    /// As [`start_auth`](Self::start_auth), with a way of its own to the server.
    pub async fn start_auth_at(&mut self, url: &str) {
        self.auth_url = Some(url.to_owned());
        self.start_auth().await;
    }

    /// Starts the stand-in auth service, and waits until it answers.
    pub async fn start_auth(&mut self) {
        let url = self.auth_url.clone().unwrap_or_else(|| self.nats.url());
        let secrets = self.secrets.clone();
        self.auth = Some(tokio::spawn(async move {
            auth_service::run(&url, &secrets, None, std::future::pending())
                .await
                .expect("the auth service");
        }));
        let worker = self.connect("worker").await;
        for _ in 0..200 {
            let asked = worker
                .request(auth_service::VERIFY_SUBJECT, "{\"token\":\"x\"}".into())
                .await;
            if asked.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the auth service does not answer");
    }

    /// The settings of a worker of that shard.
    pub fn settings(&self, shard: &str) -> Settings {
        let mut settings = Settings::default();
        settings.nats.url = self.url(shard);
        settings.truth = self.truth.clone();
        self.connect_all_as(&mut settings, "worker");
        settings.shard.id = shard.into();
        settings.postgres.url = self.shared.postgres.url(&self.database(shard));
        settings.postgres.connections = 4;
        settings.keys.identity = self.secrets.identity.clone();
        settings.keys.encryption = self.secrets.encryption.clone();
        settings.auth.issuer = tokens::ISSUER.into();
        settings.auth.audience = tokens::AUDIENCE.into();
        settings.auth.verdict_keys = self.secrets.verdict_jwks().expect("a key set");
        settings.auth.token_keys = self.secrets.token_jwks().expect("a key set");
        settings
    }

    /// Makes all three connections of these settings those of one user of `nats/accounts.conf`.
    pub fn connect_all_as(&self, settings: &mut Settings, user: &str) {
        let nats = &mut settings.nats;
        for section in [&mut nats.front, &mut nats.auth, &mut nats.truth] {
            section.user = user.into();
            section.password = self.secrets.nats(user).into();
            section.inbox_prefix = format!("_INBOX_{user}");
        }
    }

    /// Where the shard's workers connect, and its callers.
    pub fn url(&self, shard: &str) -> String {
        self.urls
            .get(shard)
            .cloned()
            .unwrap_or_else(|| self.nats.url())
    }

    /// What the subjects of the stream API begin with, where `nats` is.
    pub fn api(&self) -> String {
        match self.truth.domain.as_str() {
            "" => "$JS.API".into(),
            domain => format!("$JS.{domain}.API"),
        }
    }

    /// The shard's database.
    pub fn database(&self, shard: &str) -> String {
        format!("it_{}_{shard}", self.number)
    }

    /// What a statement gives in the shard's database, a line each row.
    pub fn query(&self, shard: &str, statement: &str) -> String {
        // What else is to run on this thread must not wait for it: it may hold what the statement waits for.
        let ask = || {
            self.shared
                .postgres
                .query(&self.database(shard), statement)
                .expect("a statement")
        };
        tokio::task::block_in_place(ask)
    }

    /// Makes the bucket and the shard's database, as `init` does.
    pub async fn init(&self, settings: &Settings) -> anyhow::Result<app::InitReport> {
        self.shared
            .postgres
            .create_database(&self.database(&settings.shard.id))
            .expect("a database");
        self.prepare(settings).await
    }

    /// As [`init`](Self::init), with a database that is there.
    pub async fn prepare(&self, settings: &Settings) -> anyhow::Result<app::InitReport> {
        let mut settings = settings.clone();
        self.connect_all_as(&mut settings, "init");
        app::init(&settings, app::WaitLimit::FOREVER).await
    }

    /// A worker of that shard, ready.
    pub async fn worker(&self, shard: &str) -> Worker {
        self.worker_with(self.settings(shard)).await
    }

    /// A worker with these settings, ready.
    pub async fn worker_with(&self, settings: Settings) -> Worker {
        self.init(&settings).await.expect("init");
        self.try_worker(settings).await.expect("a worker")
    }

    /// A worker with these settings, ready, or why it does not start; without `init`.
    pub async fn try_worker(&self, mut settings: Settings) -> anyhow::Result<Worker> {
        let ready = self
            .directory
            .join(format!("ready-{}", uuid::Uuid::now_v7()));
        settings.worker.ready_file = ready.clone();
        let app = App::build(settings).await?;
        let counters = app.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async {
            let _ = stopped.await;
        }));
        while !ready.exists() && !running.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if !ready.exists() {
            running.await.expect("no panic")?;
            anyhow::bail!("the worker ended before it was ready");
        }
        Ok(Worker {
            counters,
            stop: Some(stop),
            running,
        })
    }

    /// A connection as one of the users of `nats/accounts.conf`.
    pub async fn connect(&self, user: &str) -> Client {
        self.connect_at(&self.nats.url(), user).await
    }

    /// As [`connect`](Self::connect), to another server.
    pub async fn connect_at(&self, url: &str, user: &str) -> Client {
        let prefix = match user {
            "worker" => "_INBOX_worker",
            "init" => "_INBOX_init",
            "maintain" => "_INBOX_maintain",
            _ => "_INBOX",
        };
        ConnectOptions::with_user_and_password(user.into(), self.secrets.nats(user).into())
            .custom_inbox_prefix(prefix)
            .request_timeout(Some(Duration::from_secs(8)))
            .connect(url)
            .await
            .expect("a connection")
    }

    /// A connection as the user of [`with_breaker`].
    pub async fn connect_breaker(&self) -> Client {
        let options = ConnectOptions::with_user_and_password("breaker".into(), "breaker".into());
        options
            .connect(self.nats.url())
            .await
            .expect("a connection")
    }

    /// Waits until a worker of that shard answers and has its other two connections: after an outage of NATS each
    /// connection comes back in its own time.
    pub async fn wait_for_worker(&self, shard: &str) {
        let client = self.connect("gateway").await;
        let subject = format!("favorites.v1.shard.{shard}.version");
        let is_connected = |told: &Value| {
            let nats = &told["data"]["nats"];
            told["data"]["shard"] == shard
                && nats["auth"]["connected"] == true
                && nats["truth"]["connected"] == true
        };
        for _ in 0..500 {
            let answers = client.request(subject.clone(), "".into()).await.is_ok();
            if answers
                && self
                    .try_stats("gateway", usize::MAX)
                    .await
                    .iter()
                    .any(is_connected)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no worker of the shard comes back");
    }

    /// What every worker tells of itself (`$SRV.STATS`), by shard; waits until each of `workers` has answered.
    pub async fn stats(&self, workers: usize) -> Vec<Value> {
        // One that has lost its connection comes back in its own time, and is asked again.
        for _ in 0..40 {
            let told = self.try_stats("operator", workers).await;
            if told.len() == workers {
                return told;
            }
        }
        panic!("not every worker answers");
    }

    /// What workers tell of themselves to that user: those that answer soon, and so many at most.
    async fn try_stats(&self, user: &str, workers: usize) -> Vec<Value> {
        let operator = self.connect(user).await;
        let inbox = operator.new_inbox();
        let mut answers = operator
            .subscribe(inbox.clone())
            .await
            .expect("a subscription");
        operator
            .publish_with_reply("$SRV.STATS.favorites", inbox, "".into())
            .await
            .expect("sent");

        let mut told: Vec<Value> = Vec::new();
        while told.len() < workers {
            match tokio::time::timeout(Duration::from_millis(300), answers.next()).await {
                Ok(Some(answer)) if answer.status.is_none() => {
                    told.push(serde_json::from_slice(&answer.payload).expect("JSON"));
                }
                _ => break,
            }
        }
        told.sort_by_key(|one| one["data"]["shard"].as_str().map(str::to_owned));
        told
    }

    /// The records of the bucket: each key but the barriers', with how many messages it keeps.
    pub async fn records(&self) -> BTreeMap<String, u64> {
        let operator = self.connect("operator").await;
        let all = json!({"subjects_filter": "$KV.favorites.>"}).to_string();
        let answer = operator
            .request(
                format!("{}.STREAM.INFO.KV_favorites", self.api()),
                all.into(),
            )
            .await;
        let answer = answer.expect("an answer");
        let info: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert!(info["error"].is_null(), "{info}");
        let subjects = info["state"]["subjects"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let records = subjects
            .into_iter()
            .filter(|(subject, _)| !subject.starts_with("$KV.favorites._b."));
        records
            .map(|(subject, count)| (subject, count.as_u64().expect("a count")))
            .collect()
    }

    /// The bytes that the bucket holds.
    pub async fn bucket_bytes(&self) -> u64 {
        let operator = self.connect("operator").await;
        let answer = operator
            .request(
                format!("{}.STREAM.INFO.KV_favorites", self.api()),
                "".into(),
            )
            .await;
        let info: Value =
            serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON");
        info["state"]["bytes"].as_u64().expect("a number")
    }

    /// A token of the stand-in auth service.
    pub fn token(&self, subject: &str, scope: &str, ttl: Duration) -> String {
        tokens::token(&self.secrets, subject, scope, ttl).expect("a token")
    }

    /// Somebody with all scopes, calling through the gateway.
    pub async fn caller(&self, subject: &str) -> Caller {
        self.caller_at(&self.nats.url(), subject).await
    }

    /// As [`caller`](Self::caller), connected to another server.
    pub async fn caller_at(&self, url: &str, subject: &str) -> Caller {
        let token = self.token(subject, tokens::ALL_SCOPES, Duration::from_secs(600));
        Caller::new(self.connect_at(url, "gateway").await, token)
    }
}

impl Worker {
    /// Stops it in order, and gives how it ended.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let _ = self.stop.take().expect("stopped once").send(());
        self.running.await.expect("no panic")
    }

    /// Ends it at once, without order: nothing of it runs on.
    pub async fn crash(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}
