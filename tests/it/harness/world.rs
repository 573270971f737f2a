//! The platform of one test, with its workers in this process.

use super::caller::Caller;
use super::serial::{Permit, shared};
use super::servers::{Shared, shared_servers};
use async_nats::{Client, ConnectOptions};
use futures::StreamExt as _;
use gofavorites::app::{self, App, Counters, SettingsStatus};
use gofavorites::config::Settings;
use gofavorites::dev::nats::{ACCOUNTS_CONF, NatsServer};
use gofavorites::dev::role::Role;
use gofavorites::dev::secrets::{Secrets, inbox_prefix};
use gofavorites::dev::{auth_service, tokens};
use gofavorites::truth::TruthSettings;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A NATS server, an auth service and databases of one test.
pub struct World {
    pub nats: NatsServer,
    pub secrets: Secrets,
    pub shared: &'static Shared,
    pub directory: PathBuf,
    /// How workers reach the bucket.
    pub truth: TruthSettings,
    /// Where the workers of a shard connect, if that is not `nats`.
    pub urls: BTreeMap<String, String>,
    /// Where the auth service connects, if that is not `nats`.
    pub auth_url: Option<String>,
    number: usize,
    auth: Option<JoinHandle<()>>,
    _permit: Arc<Permit>,
}

/// Returns the accounts with one more user, who may do anything to the bucket, as an attacker, an
/// accident or an administrator could.
pub fn with_breaker(accounts: &str) -> String {
    with_user_in(accounts, "TRUTH", "breaker")
}

/// Returns the accounts with one more user in one of them, who may do whatever that account may.
/// Its password is its name.
pub fn with_user_in(accounts: &str, account: &str, user: &str) -> String {
    let (before, after) = accounts
        .split_once(&format!("  {account} {{\n"))
        .expect("an account");
    let (head, users) = after.split_once("users: [\n").expect("users");
    let user = format!("      {{ user: {user}, password: {user} }}");

    format!("{before}  {account} {{\n{head}users: [\n{user}\n{users}")
}

/// How long a NATS server may take to load its accounts.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// A worker in this process.
pub struct Worker {
    pub counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl World {
    /// Starts servers with the accounts of `nats/`, and the stand-in auth service. There is no
    /// worker yet.
    pub async fn start() -> Self {
        Self::with_accounts(ACCOUNTS_CONF).await
    }

    /// Does the same as [`start`](Self::start), with other accounts.
    pub async fn with_accounts(accounts: &str) -> Self {
        let mut world = Self::without_auth(accounts).await;
        world.start_auth().await;

        world
    }

    /// Does the same as [`with_accounts`](Self::with_accounts), without an auth service.
    pub async fn without_auth(accounts: &str) -> Self {
        Self::try_without_auth(accounts)
            .await
            .expect("a NATS server")
    }

    /// Does the same as [`without_auth`](Self::without_auth).
    ///
    /// # Errors
    ///
    /// The server does not accept the accounts.
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
        Self {
            nats,
            secrets,
            shared,
            directory,
            truth: TruthSettings::default(),
            urls: BTreeMap::new(),
            auth_url: None,
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

    /// Starts two shards, `a` and `b`, with one worker each, which is what most tests need.
    pub async fn with_two_shards() -> (Self, Worker, Worker) {
        let world = Self::start().await;
        let a = world.worker("a").await;
        let b = world.worker("b").await;

        (world, a, b)
    }

    /// Does the same as [`start_auth`](Self::start_auth), with another URL for the auth service.
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

        let worker = self.connect("auth").await;
        for _ in 0..200 {
            let reply = worker
                .request(auth_service::VERIFY_SUBJECT, "{\"token\":\"x\"}".into())
                .await;
            if reply.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        panic!("the auth service does not answer");
    }

    /// Returns the settings of a worker of that shard.
    pub fn settings(&self, shard: &str) -> Settings {
        let mut settings = Settings::default();
        settings.shard.id = shard.into();
        settings.truth = self.truth.clone();

        settings.nats.url = self.url(shard);
        self.connect_as(&mut settings, ["front", "auth", "worker"]);

        settings.postgres.url = self.shared.postgres.url(&self.database(shard));
        settings.postgres.connections = 4;

        settings.keys.identity = self.secrets.identity.clone();
        settings.keys.encryption = self.secrets.encryption.clone();

        settings.auth.issuer = tokens::ISSUER.into();
        settings.auth.audience = tokens::AUDIENCE.into();
        settings.auth.verdict_keys = self.secrets.verdict_jwks().expect("a key set");
        settings.auth.token_keys = self.secrets.token_jwks().expect("a key set");

        // Only tests about an owner's share set these.
        settings.limits.owner_bytes = usize::MAX >> 1;
        settings.limits.rate_per_s = 0;

        settings
    }

    /// Makes all three connections of these settings those of one user of `nats/accounts.conf`.
    pub fn connect_all_as(&self, settings: &mut Settings, user: &str) {
        self.connect_as(settings, [user; 3]);
    }

    /// Sets the users of the connections to callers, to the auth service and to the bucket.
    fn connect_as(&self, settings: &mut Settings, users: [&str; 3]) {
        let nats = &mut settings.nats;
        let connections = [&mut nats.front, &mut nats.auth, &mut nats.truth];

        for (connection, user) in std::iter::zip(connections, users) {
            connection.user = user.into();
            connection.password = self.secrets.nats(user).into();
            connection.inbox_prefix = inbox_prefix(user);
        }
    }

    /// Returns the URL to which the shard's workers and callers connect.
    pub fn url(&self, shard: &str) -> String {
        self.urls
            .get(shard)
            .cloned()
            .unwrap_or_else(|| self.nats.url())
    }

    /// Returns the beginning of the subjects of the JetStream API at `nats`.
    pub fn api(&self) -> String {
        match self.truth.domain.as_str() {
            "" => "$JS.API".into(),
            domain => format!("$JS.{domain}.API"),
        }
    }

    /// Returns the name of the shard's database.
    pub fn database(&self, shard: &str) -> String {
        format!("it_{}_{shard}", self.number)
    }

    /// Returns the result of a statement in the shard's database, one line for each row.
    pub fn query(&self, shard: &str, statement: &str) -> String {
        let run = || {
            self.shared
                .postgres
                .query(&self.database(shard), statement)
                .expect("a statement")
        };

        // Other tasks of this thread have to go on, because the statement may wait for a lock that
        // one of them holds.
        tokio::task::block_in_place(run)
    }

    /// Creates the shard's database, and runs `init`, which creates the bucket and the schema.
    pub async fn init(&self, settings: &Settings) -> anyhow::Result<app::InitReport> {
        self.shared
            .postgres
            .create_database(&self.database(&settings.shard.id))
            .expect("a database");

        self.prepare(settings).await
    }

    /// Does the same as [`init`](Self::init), with a database that exists.
    pub async fn prepare(&self, settings: &Settings) -> anyhow::Result<app::InitReport> {
        let mut settings = settings.clone();
        self.connect_all_as(&mut settings, "init");

        app::init(&settings, None, app::WaitLimit::FOREVER).await
    }

    /// Starts a worker of that shard, after `init`, and waits until it is ready.
    pub async fn worker(&self, shard: &str) -> Worker {
        self.worker_with(self.settings(shard)).await
    }

    /// Starts a worker with these settings, after `init`, and waits until it is ready.
    pub async fn worker_with(&self, settings: Settings) -> Worker {
        self.init(&settings).await.expect("init");

        self.try_worker(settings).await.expect("a worker")
    }

    /// Starts a worker with these settings, without `init`, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// The worker does not start.
    pub async fn try_worker(&self, mut settings: Settings) -> anyhow::Result<Worker> {
        let name = format!("ready-{}", uuid::Uuid::now_v7());
        let ready = self.directory.join(name);
        settings.worker.ready_file = ready.clone();

        let app = App::build(settings, SettingsStatus::default()).await?;
        let counters = app.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(app.run(stopped, || ()));

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

    /// Connects as one of the users of `nats/accounts.conf`.
    pub async fn connect(&self, user: &str) -> Client {
        self.connect_at(&self.nats.url(), user).await
    }

    /// Does the same as [`connect`](Self::connect), to another server.
    pub async fn connect_at(&self, url: &str, user: &str) -> Client {
        ConnectOptions::with_user_and_password(user.into(), self.secrets.nats(user).into())
            .custom_inbox_prefix(inbox_prefix(user))
            .request_timeout(Some(Duration::from_secs(8)))
            .connect(url)
            .await
            .expect("a connection")
    }

    /// Connects as a user of [`with_user_in`], who may send also what the client library would
    /// refuse.
    pub async fn connect_added(&self, user: &str) -> Client {
        ConnectOptions::with_user_and_password(user.into(), user.into())
            .skip_subject_validation(true)
            .connect(self.nats.url())
            .await
            .expect("a connection")
    }

    /// Returns the settings of a worker that answers callers as a user of [`with_user_in`].
    pub fn settings_with_front(&self, shard: &str, user: &str) -> Settings {
        let mut settings = self.settings(shard);
        settings.nats.front.user = user.into();
        settings.nats.front.password = user.into();

        settings
    }

    /// Connects as the user of [`with_breaker`].
    pub async fn connect_breaker(&self) -> Client {
        let options = ConnectOptions::with_user_and_password("breaker".into(), "breaker".into());

        options
            .connect(self.nats.url())
            .await
            .expect("a connection")
    }

    /// Waits until a worker of that shard answers and has its other two connections. After an
    /// outage of NATS, each connection is made again in its own time.
    pub async fn wait_for_worker(&self, shard: &str) {
        let client = self.connect("gateway").await;
        let subject = format!("favorites.v1.shard.{shard}.version");
        let is_connected = |statistics: &Value| {
            let nats = &statistics["data"]["nats"];
            statistics["data"]["shard"] == shard
                && nats["auth"]["connected"] == true
                && nats["truth"]["connected"] == true
        };

        for _ in 0..500 {
            if client.request(subject.clone(), "".into()).await.is_ok() {
                let statistics = ask_for_statistics(&client, usize::MAX).await;
                if statistics.iter().any(is_connected) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        panic!("no worker of the shard answers");
    }

    /// Returns the statistics of every worker (`$SRV.STATS`), sorted by shard. Waits until
    /// `workers` of them answer.
    pub async fn stats(&self, workers: usize) -> Vec<Value> {
        let operator = self.connect("operator").await;

        wait_for_statistics(&operator, workers).await
    }

    /// Restarts the NATS server with an empty store, so that there is no bucket any more.
    pub async fn lose_store(&mut self) {
        self.nats.stop().expect("stopped");
        std::fs::remove_dir_all(self.directory.join("store")).expect("removed");
        self.nats.restart().await.expect("started again");
    }

    /// Makes the NATS server load this configuration of its accounts, as [`reload`](Self::reload)
    /// does.
    pub async fn reload_accounts(&mut self, accounts: &str) {
        std::fs::write(self.directory.join("accounts.conf"), accounts).expect("written");
        self.reload().await;
    }

    /// Makes the NATS server load its configuration again, and waits until it has. While it does, it
    /// refuses a client that connects, and a request between two accounts may find no responders.
    pub async fn reload(&mut self) {
        let log = self.directory.join("nats.log");
        let count_reloads = || {
            let log = std::fs::read_to_string(&log).expect("a log");
            log.matches("Reloaded server configuration").count()
        };
        let before = count_reloads();

        let process = self.nats.process();
        process.signal(Signal::SIGHUP).expect("sent");

        let start = Instant::now();
        while count_reloads() == before {
            assert!(start.elapsed() < RELOAD_TIMEOUT, "it is not loaded");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until what the only worker reports about itself is as expected, at most for `limit`,
    /// and returns it. `event` says in a failure what was waited for.
    pub async fn wait_for_stats(
        &self,
        event: &str,
        limit: Duration,
        is_expected: impl Fn(&Value) -> bool,
    ) -> Value {
        let operator = self.connect("operator").await;
        let start = Instant::now();

        loop {
            let data = wait_for_statistics(&operator, 1).await[0]["data"].clone();
            if is_expected(&data) {
                return data;
            }

            assert!(start.elapsed() < limit, "{event}: {data}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the keys of the bucket's records, without barriers and marks, and how many messages
    /// the bucket keeps of each.
    pub async fn records(&self) -> BTreeMap<String, u64> {
        let filter = json!({"subjects_filter": "$KV.favorites.>"});
        let info = self.stream_info(&filter.to_string()).await;
        assert!(info["error"].is_null(), "{info}");

        let subjects = info["state"]["subjects"]
            .as_object()
            .cloned()
            .unwrap_or_default();

        subjects
            .into_iter()
            .filter(|(subject, _)| is_record(subject))
            .map(|(subject, count)| (subject, count.as_u64().expect("a count")))
            .collect()
    }

    /// Returns how many bytes the bucket stores.
    pub async fn bucket_bytes(&self) -> u64 {
        let info = self.stream_info("").await;

        info["state"]["bytes"].as_u64().expect("a number")
    }

    /// Returns what the stream API reports of the bucket.
    pub(super) async fn stream_info(&self, request: &str) -> Value {
        let operator = self.connect("operator").await;
        let subject = format!("{}.STREAM.INFO.KV_favorites", self.api());

        let reply = operator.request(subject, request.to_owned().into()).await;
        let reply = reply.expect("a reply");

        serde_json::from_slice(&reply.payload).expect("JSON")
    }

    /// Returns a token of the stand-in auth service.
    pub fn token(&self, subject: &str, scope: &str, ttl: Duration) -> String {
        tokens::token(&self.secrets, subject, scope, ttl).expect("a token")
    }

    /// Returns a caller with all scopes, connected as the gateway.
    pub async fn caller(&self, subject: &str) -> Caller {
        self.caller_at(&self.nats.url(), subject).await
    }

    /// Does the same as [`caller`](Self::caller), connected to another server.
    pub async fn caller_at(&self, url: &str, subject: &str) -> Caller {
        let token = self.token(subject, tokens::ALL_SCOPES, Duration::from_secs(600));
        let client = self.connect_at(url, "gateway").await;

        Caller::new(client, token)
    }
}

/// Returns the statistics of every worker, sorted by shard. Waits until `workers` of them answer: one
/// that lost its connection reconnects in its own time.
async fn wait_for_statistics(operator: &Client, workers: usize) -> Vec<Value> {
    for _ in 0..40 {
        let mut statistics = ask_for_statistics(operator, workers).await;
        if statistics.len() == workers {
            statistics.sort_by_key(|one| one["data"]["shard"].as_str().map(str::to_owned));
            return statistics;
        }

        // Without a worker, the server says so at once.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    panic!("not every worker answers");
}

/// Returns the replies of the workers that answer at once, at most `workers` of them.
async fn ask_for_statistics(operator: &Client, workers: usize) -> Vec<Value> {
    let inbox = operator.new_inbox();
    let mut replies = operator
        .subscribe(inbox.clone())
        .await
        .expect("a subscription");
    operator
        .publish_with_reply("$SRV.STATS.favorites", inbox, "".into())
        .await
        .expect("sent");

    let mut statistics = Vec::new();
    while statistics.len() < workers {
        match tokio::time::timeout(Duration::from_millis(300), replies.next()).await {
            Ok(Some(reply)) if reply.status.is_none() => {
                statistics.push(serde_json::from_slice(&reply.payload).expect("JSON"));
            }
            _ => break,
        }
    }

    statistics
}

impl Worker {
    /// Stops the worker in order.
    ///
    /// # Errors
    ///
    /// The worker ended with an error.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let _ = self.stop.take().expect("stopped once").send(());

        self.running.await.expect("no panic")
    }

    /// Ends the worker at once, as a crash does.
    pub async fn crash(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}

/// Returns whether a subject of the bucket is that of a record: neither a barrier nor a mark.
pub fn is_record(subject: &str) -> bool {
    let key = subject.trim_start_matches("$KV.favorites.");
    key.contains('.') && !key.starts_with("_b.")
}
