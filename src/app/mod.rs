//! The worker: builds what it needs, answers a bounded number of requests at a time, stops in
//! order.

mod backup;
mod bucket_session;
mod connect;
mod connections;
mod discovery;
mod dispatch;
mod echo;
mod health;
mod maintain;
mod operator;
mod payload;
mod process_use;
mod rights;
mod server;
mod settings_status;
mod settings_watch;
mod since;
mod start;
mod stats;
mod succession;
mod tasks;
mod wait;
mod wait_limit;

pub use backup::BackupSession;
pub use connect::{MissingRight, is_not_authorised};
pub use maintain::Maintenance;
pub use operator::OperatorSession;
pub use settings_status::SettingsStatus;
pub use settings_watch::SettingsWatch;
pub use stats::{Counters, DropCounts};
pub use succession::{Succession, Turn};
pub use wait_limit::{StillUnavailable, WaitLimit};

use crate::auth::Authenticator;
use crate::build::BuildInfo;
use crate::config::{Role, Settings};
use crate::front::Front;
use crate::handler::{Guesses, LimitsInForce, Service, version_body};
use crate::owners::{Owners, OwnersSettings};
use crate::reference::ReferenceClient;
use crate::requester::Requester;
use crate::seal::{Format, Keyring};
use crate::shard::Store;
use crate::truth::Bucket;
use crate::wire::{ReplyWall, Subjects};
use anyhow::Context as _;
use bucket_session::BucketSession;
use connections::{Connections, flush};
use discovery::Discovery;
use dispatch::{Dispatcher, Subscriptions};
use echo::Echo;
use health::Health;
use since::Beginnings;
use start::{check_refusals, check_rights, check_servers};
use std::sync::Arc;
use std::time::Duration;
use tasks::Tasks;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use wait::Wait;

/// The pause between two questions to an auth service that does not answer.
const AUTH_PAUSE: Duration = Duration::from_secs(1);

/// A worker that is ready to run.
pub struct App {
    connections: Connections,
    /// Of the connections to the auth service and to the bucket.
    requesters: (Requester, Requester),
    dispatcher: Arc<Dispatcher>,
    discovery: Discovery,
    echo: Echo,
    bucket: Bucket,
    store: Store,
    settings: Settings,
}

/// What `init` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitReport {
    /// Whether `init` created the bucket. Otherwise it was there, and fits the settings.
    pub bucket_created: bool,
    /// The number of the newest format of records that workers may write.
    pub format: u8,
}

/// Creates the bucket if there is none, permits the `format` of records that is named, and migrates
/// the shard's Postgres to this version's schema. Waits for what is only unavailable, up to `limit`.
pub async fn init(
    settings: &Settings,
    format: Option<Format>,
    limit: WaitLimit,
) -> anyhow::Result<InitReport> {
    let name = "gofavorites init";
    let session = BucketSession::open(settings, name, None, limit).await?;
    let wait = session.wait();
    let fingerprints = session.keyring.fingerprints();
    let outcome = wait
        .until_available("the bucket", || session.bucket.init(fingerprints, format))
        .await?;

    let store = Store::new(&settings.postgres)?;
    wait.until_available("Postgres", || store.migrate(&settings.shard.id))
        .await
        .context("cannot migrate Postgres to this version's schema")?;
    store.close().await;

    Ok(InitReport {
        bucket_created: outcome.created,
        format: outcome.permitted,
    })
}

/// Connects to the shard's Postgres and checks its schema and its shard, for a command that needs
/// nothing else. Waits while it is unavailable, up to `limit`.
pub async fn open_postgres(settings: &Settings, limit: WaitLimit) -> anyhow::Result<Store> {
    let wait = Wait {
        limit,
        events: None,
    };

    let store = Store::new(&settings.postgres)?;
    wait.until_available("Postgres", || store.check(&settings.shard.id))
        .await?;

    Ok(store)
}

fn owners_settings(settings: &Settings) -> OwnersSettings {
    OwnersSettings {
        read: settings.read.clone(),
        write: settings.write.clone(),
        projection: settings.projection.clone(),
        heaviest_bytes: settings.limits.heaviest_owner_bytes(),
        retention: settings.retention.clone(),
    }
}

/// Returns the client of the reference service, if the settings name one. It asks over the
/// connection to the auth service.
fn reference_client(settings: &Settings, requester: Requester) -> Option<ReferenceClient> {
    let limits = settings.limits.item.clone();

    ReferenceClient::new(requester, settings.reference.clone(), limits)
}

fn reply_wall(settings: &Settings) -> ReplyWall {
    ReplyWall {
        prefixes: settings.worker.reply_prefixes.clone(),
        max_bytes: settings.worker.reply_subject_bytes,
        own_prefixes: Role::ALL
            .map(|role| settings.nats.user(role).inbox_prefix.clone())
            .into(),
    }
}

fn health(
    settings: &Settings,
    dispatcher: &Dispatcher,
    connections: &Connections,
    echo: Echo,
    status: SettingsStatus,
) -> Health {
    Health {
        prefix: settings.worker.prefix.clone(),
        echo,
        service: dispatcher.service.clone(),
        counters: dispatcher.counters.clone(),
        events: connections.events(),
        permits: dispatcher.permits.clone(),
        settings: status,
        beginnings: Beginnings::default(),
    }
}

/// Checks that requests, replies and records fit the servers' `max_payload`, and returns the limits
/// in force.
fn check_payloads(settings: &Settings, connections: &Connections) -> anyhow::Result<LimitsInForce> {
    let max_payload = connections.front.info().max_payload;
    let limits = LimitsInForce::new(settings.limits.clone(), max_payload);
    payload::check(&limits)?;

    let max_payload = connections.truth.client.server_info().max_payload;
    payload::check_truth(&settings.limits, max_payload)?;

    Ok(limits)
}

/// Returns the worker's discovery, which also reports its health.
fn discovery(
    settings: &Settings,
    subjects: Subjects,
    wall: Arc<ReplyWall>,
    front: Front,
    health: Health,
) -> Discovery {
    Discovery {
        health,
        front,
        subjects,
        wall,
        queue_group: settings.worker.queue_group.clone(),
        name: settings.worker.prefix.replace('.', "_"),
        id: settings.worker.id(),
        started: discovery::now(),
    }
}

/// Connects to the shard's Postgres, checks its schema and its shard, and begins its cursor at the
/// bucket's newest record if it has none.
async fn open_store(
    settings: &Settings,
    bucket: &Bucket,
    wait: &Wait<'_>,
) -> anyhow::Result<Store> {
    let store = Store::new(&settings.postgres)?;
    wait.until_available("Postgres", || store.check(&settings.shard.id))
        .await?;

    let position = wait
        .until_available("the bucket", || bucket.position())
        .await?;
    wait.until_available("Postgres", || {
        store.begin_cursor(bucket.name(), &position.created, position.newest)
    })
    .await?;

    Ok(store)
}

impl App {
    /// Connects, and checks the server, the bucket against the keys and the settings, the worker's
    /// rights, and the schema of Postgres. Waits for what is only unavailable. The worker's health
    /// reports `status`.
    ///
    /// # Errors
    /// Something is wrong that waiting would not mend. The message says what to do.
    pub async fn build(settings: Settings, status: SettingsStatus) -> anyhow::Result<Self> {
        settings.check()?;
        let keyring = Keyring::from_base64(&settings.keys.identity, &settings.keys.encryption)?;

        let connections = Connections::wait_for(&settings.nats, "gofavorites worker").await?;
        let events = &*connections.truth.events;
        let wait = Wait {
            limit: WaitLimit::FOREVER,
            events: Some(events),
        };
        let limits = check_payloads(&settings, &connections)?;

        let auth_requester = Requester::start(connections.auth.client.clone()).await?;
        let auth = Authenticator::new(auth_requester.clone(), settings.auth.clone())?;
        let truth_requester = Requester::start(connections.truth.client.clone()).await?;
        let bucket = Bucket::new(
            truth_requester.clone(),
            settings.truth.clone(),
            &settings.shard.id,
        );
        wait.until_available("the bucket", || bucket.check(keyring.fingerprints()))
            .await?;
        check_rights(&bucket, events).await?;
        let store = open_store(&settings, &bucket, &wait).await?;

        let shard = settings.shard.id.clone();
        let owners = Owners::new(
            keyring,
            bucket.clone(),
            store.clone(),
            owners_settings(&settings),
            shard.clone(),
        );
        let build = BuildInfo::of_this_program();
        let service = Service {
            owners,
            auth,
            reference: reference_client(&settings, auth_requester.clone()),
            limits,
            guesses: Guesses::default(),
            version: Arc::new(version_body(&build, &shard)),
            build,
            shard: shard.clone(),
        };

        let subjects = Subjects::new(&settings.worker.prefix, &shard)?;
        let wall = Arc::new(reply_wall(&settings));
        let front = connections.front.clone();
        let dispatcher = Dispatcher::new(service, subjects.clone(), wall.clone(), front.clone());
        let echo = Echo::default();
        let health = health(&settings, &dispatcher, &connections, echo.clone(), status);
        let discovery = discovery(&settings, subjects, wall, front, health);

        Ok(Self {
            connections,
            requesters: (auth_requester, truth_requester),
            dispatcher: Arc::new(dispatcher),
            discovery,
            echo,
            bucket,
            store,
            settings,
        })
    }

    /// Waits until the auth service answers. A worker begins without a verdict in its memory, so it
    /// must not take over from one that still lets callers in while the service is silent.
    ///
    /// # Errors
    /// The worker has no right to ask.
    pub async fn wait_for_auth(&self) -> anyhow::Result<()> {
        let auth = &self.dispatcher.service.auth;
        let mut attempts: u32 = 0;

        while !auth.is_answering().await {
            if let Some(refused) = self.connections.auth.events.missing_right() {
                anyhow::bail!(refused);
            }
            attempts += 1;
            if attempts.is_power_of_two() {
                warn!("waiting for the auth service");
            }
            sleep(AUTH_PAUSE).await;
        }
        Ok(())
    }

    /// The counters of this worker.
    pub fn counters(&self) -> Arc<Counters> {
        self.dispatcher.counters.clone()
    }

    /// Answers requests until `shutdown` ends, then stops in order. Calls `on_ready` once the worker
    /// has been accepted by all servers.
    ///
    /// # Errors
    /// A task or a subscription ended that should not, the worker could not become ready, or
    /// requests were not finished in time.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        on_ready: impl FnOnce(),
    ) -> anyhow::Result<()> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut tasks = self.start_tasks().await?;

        // A worker that lacks a right would take requests that it cannot answer.
        let service = &self.dispatcher.service;
        let checks = check_servers(&self.connections, &self.echo, service, &self.bucket);
        tokio::select! {
            checked = checks => checked?,
            error = tasks.ended() => return Err(error),
            () = &mut shutdown => {
                info!("stopped before any request was taken");
                return Ok(());
            }
        }

        let discovery = tasks.start("discovery", self.discovery.clone().start()?)?;
        let handlers = TaskTracker::new();
        let mut subscriptions = self
            .dispatcher
            .subscribe(&self.settings.worker.queue_group, &handlers)?;

        // Requests come in from here on. However this ends, those that were taken are finished.
        let ended = tokio::select! {
            () = &mut shutdown => Ok(()),
            error = subscriptions.ended() => Err(error),
            error = tasks.ended() => Err(error),
            error = self.be_ready(on_ready) => Err(error),
        };
        if let Err(error) = &ended {
            error!(
                error = format!("{error:#}"),
                "the worker stops because of an error"
            );
        }

        // A worker that stops no longer shows in discovery.
        discovery.abort();
        let stopped = self.stop(subscriptions, handlers, tasks).await;
        ended.and(stopped)?;
        info!("stopped");
        Ok(())
    }

    /// Takes no more requests, finishes those that were taken, and closes the connections.
    ///
    /// # Errors
    /// Requests were not finished in time, or the last replies could not be flushed.
    async fn stop(
        self,
        subscriptions: Subscriptions,
        handlers: TaskTracker,
        tasks: Tasks,
    ) -> anyhow::Result<()> {
        info!(
            under_way = handlers.len(),
            "stopping: no more requests are taken"
        );
        let grace = Duration::from_millis(self.settings.worker.grace_ms);
        let finish = async {
            subscriptions.stop().await;
            handlers.close();
            handlers.wait().await;
        };
        let finished = timeout(grace, finish).await.is_ok();

        let flushed = flush(&self.connections.front).await;

        drop(tasks);
        // Hosting may be under way. The stop does not wait for its end.
        let _ = timeout(grace, self.store.close()).await;

        if !finished {
            anyhow::bail!("{} requests were not finished in time", handlers.len());
        }
        flushed.context("the last replies may not have been sent")
    }

    /// Starts the background tasks.
    async fn start_tasks(&self) -> anyhow::Result<Tasks> {
        let owners = &self.dispatcher.service.owners;
        let mut tasks = Tasks::default();

        // The first request needs the name of the bucket's history. The check of the bucket has
        // read it.
        if let Err(error) = owners.follow_epoch().await {
            warn!(%error, "cannot follow the bucket's history yet, will retry");
        }

        tasks.start("projection", {
            let owners = owners.clone();
            let reconnects = self.connections.truth.reconnects.clone();
            async move { owners.project(reconnects).await }
        })?;
        tasks.start("follower", {
            let owners = owners.clone();
            let reconnects = self.connections.truth.reconnects.clone();
            async move { owners.follow_newest(reconnects).await }
        })?;
        tasks.start("cursor_listener", {
            let owners = owners.clone();
            async move { owners.listen().await }
        })?;
        tasks.start("continuity_watch", {
            let owners = owners.clone();
            async move { owners.watch_continuity().await }
        })?;
        tasks.start("account_watch", {
            let bucket = owners.truth().clone();
            async move { bucket.watch_account().await }
        })?;
        tasks.start("marks", {
            let owners = owners.clone();
            async move { owners.watch_marks().await }
        })?;
        tasks.start("housekeeping", {
            let owners = owners.clone();
            async move { owners.run_housekeeping().await }
        })?;
        tasks.start("doubts", {
            let owners = owners.clone();
            async move { owners.settle_doubts().await }
        })?;

        let auth = &self.dispatcher.service.auth;
        let gaps = self.connections.auth.gaps.clone();
        tasks.start("revocations", auth.hear_revocations(gaps).await?)?;
        tasks.start("key_reload", auth.clone().reload_keys())?;
        tasks.start("auth_watch", auth.clone().watch_for_service())?;
        tasks.start("health_watch", self.discovery.health.clone().watch())?;
        self.start_connection_tasks(&mut tasks)?;

        Ok(tasks)
    }

    /// Starts the tasks that look after the three connections.
    fn start_connection_tasks(&self, tasks: &mut Tasks) -> anyhow::Result<()> {
        let front = self.connections.front.clone();
        let limits = self.dispatcher.service.limits.clone();
        tasks.start("payload_watch", payload::watch(front.clone(), limits))?;
        let prefix = &self.settings.nats.front.inbox_prefix;
        tasks.start("front_echo", self.echo.clone().start(front, prefix)?)?;

        let (auth, truth) = &self.requesters;
        let opener = self.connections.auth.opener();
        tasks.start("auth_connection", opener.keep(auth.clone()))?;
        let opener = self.connections.truth.opener();
        tasks.start("truth_connection", opener.keep(truth.clone()))?;

        Ok(())
    }

    /// Checks that the server has accepted the subscriptions, and reports that the worker is ready.
    /// Returns only if one of the two fails.
    async fn be_ready(&self, on_ready: impl FnOnce()) -> anyhow::Error {
        let checked = check_refusals(&self.connections).await;
        match checked.and_then(|()| self.report_ready()) {
            Ok(()) => {
                on_ready();
                std::future::pending().await
            }
            Err(error) => error,
        }
    }

    /// Reports that the worker answers requests, in the log and in `worker.ready_file`.
    fn report_ready(&self) -> anyhow::Result<()> {
        let file = &self.settings.worker.ready_file;
        if !file.as_os_str().is_empty() {
            std::fs::write(file, std::process::id().to_string()).with_context(|| {
                format!("worker.ready_file {} cannot be written", file.display())
            })?;
        }
        info!(shard = %self.settings.shard.id, "ready");

        let prefixes = &self.settings.worker.reply_prefixes;
        if prefixes.iter().any(|prefix| prefix.starts_with('$')) {
            warn!("worker.reply_prefixes admits reply subjects that are commands to the server");
        }
        Ok(())
    }
}
