//! The worker: builds what it needs, answers requests under permits, stops in order.

mod connect;
mod discovery;
mod dispatch;
mod health;
mod maintain;
mod parts;
mod start;
mod stats;
mod tools;

pub use maintain::Maintenance;
pub use stats::{Counters, Dropped};
pub use tools::Tools;

use crate::auth::Authenticator;
use crate::build::BuildInfo;
use crate::config::Settings;
use crate::exchange::Exchange;
use crate::handler::Service;
use crate::owners::{Owners, OwnersSettings};
use crate::seal::Keyring;
use crate::shard::Store;
use crate::truth::Bucket;
use crate::wire::{ReplyWall, Subjects};
use anyhow::Context as _;
use connect::Connection;
use discovery::Discovery;
use dispatch::Dispatcher;
use health::Health;
use parts::Parts;
use start::{check_refusals, check_rights, check_server, wait_for};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// A worker that is ready to run.
pub struct App {
    connection: Connection,
    dispatcher: Arc<Dispatcher>,
    discovery: Discovery,
    bucket: Bucket,
    store: Store,
    settings: Settings,
}

/// What `init` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Whether the bucket was made now; otherwise it was there, and fits.
    pub bucket_made: bool,
}

/// Makes the bucket where there is none and brings the shard's Postgres to this version's schema.
pub async fn init(settings: &Settings) -> anyhow::Result<Prepared> {
    settings.check()?;
    let keyring = Keyring::from_base64(&settings.keys.identity, &settings.keys.encryption)?;
    let connection = Connection::open(&settings.nats, "gofavorites init").await?;
    check_server(&connection.client.server_info())?;
    let exchange = Exchange::start(connection.client.clone()).await?;
    let bucket = Bucket::new(exchange, settings.truth.clone(), &settings.shard.id);
    let bucket_made = bucket.init(keyring.fingerprints()).await?;
    let store = Store::new(&settings.postgres)?;
    store
        .migrate()
        .await
        .context("Postgres cannot be brought to this version's schema")?;
    store.close().await;
    Ok(Prepared { bucket_made })
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

impl App {
    /// Connects, and checks the server, the bucket against the keys and the settings, Postgres' schema, and its own
    /// rights. Waits for what is only away; fails on what is not right.
    pub async fn build(settings: Settings) -> anyhow::Result<Self> {
        settings.check()?;
        let keyring = Keyring::from_base64(&settings.keys.identity, &settings.keys.encryption)?;
        let connection = Connection::wait_for(&settings.nats, "gofavorites worker").await?;
        check_server(&connection.client.server_info())?;
        let exchange = Exchange::start(connection.client.clone()).await?;
        let auth = Authenticator::new(exchange.clone(), settings.auth.clone())?;
        let bucket = Bucket::new(exchange, settings.truth.clone(), &settings.shard.id);
        let noted = &*connection.noted;
        wait_for("the bucket", noted, || bucket.check(keyring.fingerprints())).await?;
        check_rights(&bucket, noted).await?;
        let store = Store::new(&settings.postgres)?;
        wait_for("Postgres", noted, || store.check_schema()).await?;
        let position = wait_for("the bucket", noted, || bucket.position()).await?;
        wait_for("Postgres", noted, || {
            store.begin_cursor(bucket.name(), &position.created, position.newest)
        })
        .await?;
        let shard = settings.shard.id.clone();
        let owners = Owners::new(
            keyring,
            bucket.clone(),
            store.clone(),
            owners_settings(&settings),
            shard.clone(),
        );
        let limits = settings.limits.clone();
        let service = Service {
            owners,
            auth,
            limits,
            build: BuildInfo::of_this_program(),
            shard: shard.clone(),
        };
        let subjects = Subjects::new(&settings.worker.prefix, &shard)?;
        let wall = Arc::new(ReplyWall {
            prefixes: settings.worker.reply_prefixes.clone(),
            max_bytes: settings.worker.reply_subject_bytes,
            own_prefix: settings.nats.inbox_prefix.clone(),
        });
        let dispatcher = Dispatcher::new(
            service,
            subjects.clone(),
            wall.clone(),
            connection.client.clone(),
        );
        let discovery = Discovery {
            health: Health {
                service: dispatcher.service.clone(),
                counters: dispatcher.counters.clone(),
                noted: connection.noted.clone(),
                permits: dispatcher.permits.clone(),
            },
            client: connection.client.clone(),
            subjects,
            wall,
            queue_group: settings.worker.queue_group.clone(),
            name: settings.worker.prefix.replace('.', "_"),
            id: settings.worker.id(),
            started: discovery::now(),
        };
        Ok(Self {
            connection,
            dispatcher: Arc::new(dispatcher),
            discovery,
            bucket,
            store,
            settings,
        })
    }

    /// What this worker has counted so far.
    pub fn counters(&self) -> Arc<Counters> {
        self.dispatcher.counters.clone()
    }

    /// Answers requests until `shutdown` ends, then stops in order: takes no more, finishes what it took, says so.
    /// Fails when a part of it ended that should not, or requests were left unfinished.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut parts = self.begin_parts().await?;
        let discovering = parts.begin("discovery", self.discovery.clone().start().await?);
        let handlers = TaskTracker::new();
        let mut subscriptions = self
            .dispatcher
            .subscribe(&self.settings.worker.queue_group, &handlers)
            .await?;
        // Requests come in from here on. However this ends, those that were taken are finished.
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            fault = subscriptions.ended() => Err(fault),
            fault = parts.ended() => Err(fault),
            fault = self.be_ready() => Err(fault),
        };
        if let Err(fault) = &ended {
            error!(fault = format!("{fault:#}"), "the worker cannot go on");
        }
        // Who is going away is not found any more.
        discovering.abort();
        info!(
            under_way = handlers.len(),
            "stopping: no more requests are taken"
        );
        subscriptions.stop().await;
        handlers.close();
        let grace = Duration::from_millis(self.settings.worker.grace_ms);
        let finished = tokio::time::timeout(grace, handlers.wait()).await.is_ok();
        let flushed = self.connection.flush().await;
        // The answer to a later request: so the server has taken the replies. It is not owed where the truth is away.
        let _ = self.bucket.position().await;
        drop(parts);
        // Hosting may be under way, which nobody waits for.
        let _ = tokio::time::timeout(grace, self.store.close()).await;
        match (ended, finished, flushed) {
            (Err(fault), ..) => Err(fault),
            (_, false, _) => anyhow::bail!("{} requests were not finished in time", handlers.len()),
            (.., Err(fault)) => Err(fault.context("the last replies may not have left")),
            _ => {
                info!("stopped");
                Ok(())
            }
        }
    }

    /// Begins what goes on beside the requests.
    async fn begin_parts(&self) -> anyhow::Result<Parts> {
        let mut parts = Parts::default();
        let owners = &self.dispatcher.service.owners;
        let reconnects = self.connection.reconnects.clone();
        parts.begin("the projection", {
            let owners = owners.clone();
            async move { owners.project(reconnects).await }
        });
        parts.begin("the watch over the truth's history", {
            let owners = owners.clone();
            async move { owners.watch_history().await }
        });
        parts.begin("the upkeep of the shard", {
            let owners = owners.clone();
            async move { owners.keep_house().await }
        });
        parts.begin("the hearing of the projection's steps", {
            let owners = owners.clone();
            async move { owners.listen().await }
        });
        parts.begin("the shard's upkeep", {
            let owners = owners.clone();
            async move { owners.keep_house().await }
        });
        let (revocations, hearing) = self
            .dispatcher
            .service
            .auth
            .hear(self.connection.gaps.clone())
            .await?;
        self.connection
            .noted
            .heeded
            .store(revocations, Ordering::Relaxed);
        parts.begin("the hearing of revocations", hearing);
        Ok(parts)
    }

    /// Looks whether the server has taken the subscriptions, and says that it is ready; ends only if it is not.
    async fn be_ready(&self) -> anyhow::Error {
        self.dispatcher.service.auth.knock().await;
        let ready = match check_refusals(&self.bucket, &self.connection.noted).await {
            Ok(()) => self.tell_ready(),
            Err(fault) => Err(fault),
        };
        match ready {
            Ok(()) => std::future::pending().await,
            Err(fault) => fault,
        }
    }

    /// Says that it answers: in the log, and in the file that the settings name.
    fn tell_ready(&self) -> anyhow::Result<()> {
        let file = &self.settings.worker.ready_file;
        if !file.as_os_str().is_empty() {
            std::fs::write(file, std::process::id().to_string()).with_context(|| {
                format!("worker.ready_file {} cannot be written", file.display())
            })?;
        }
        info!(shard = %self.settings.shard.id, "ready");
        if self
            .settings
            .worker
            .reply_prefixes
            .iter()
            .any(|prefix| prefix.starts_with('$'))
        {
            warn!(
                "worker.reply_prefixes lets callers name subjects that are commands to the server"
            );
        }
        Ok(())
    }
}
