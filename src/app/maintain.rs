//! The program that forgets old deletions. It runs beside the workers with a NATS user of its own,
//! because no worker may purge.

use super::connect::{Connection, Opener};
use super::reload::{NewSettings, Reloader, Reloading, Target};
use super::reload_status::ReloadStatus;
use super::reload_worker::with_fixed;
use super::wait::Wait;
use super::wait_limit::WaitLimit;
use crate::auth::Keys;
use crate::config::{NatsSettings, Role, Settings, Uptake};
use crate::maintenance::{Maintainer, Round};
use crate::owners::OwnersError;
use crate::requester::Requester;
use crate::seal::Keyring;
use crate::truth::Bucket;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// The name in its barrier's key. It is no shard's name, because workers may not write that key.
const BARRIER_NAME: &str = "maintain";

/// Maintenance that is ready to run.
pub struct Maintenance {
    rules: watch::Sender<Rules>,
    opener: Opener,
    nats: NatsSettings,
    _keeping: AbortOnDropHandle<()>,
}

/// How the rounds are done.
#[derive(Clone)]
struct Rules {
    maintainer: Maintainer,
    /// From the end of one round to the start of the next.
    pause: Duration,
}

impl Maintenance {
    /// Connects, and checks the server, and the bucket against the keys and the settings. Waits for
    /// what is only unavailable, up to `limit`.
    pub async fn build(settings: &Settings, limit: WaitLimit) -> anyhow::Result<Self> {
        settings.check()?;
        let keyring = Keyring::from_base64(&settings.keys.identity, &settings.keys.encryption)?;

        let name = "gofavorites maintain";
        let connection = Connection::wait_for(&settings.nats, Role::Truth, name, limit).await?;

        let requester = Requester::start(connection.client.clone()).await?;
        let bucket = Bucket::new(requester.clone(), settings.truth.clone(), BARRIER_NAME);
        let wait = Wait {
            limit,
            events: Some(&connection.events),
        };
        wait.until_available("the bucket", || bucket.check(keyring.fingerprints()))
            .await?;

        let rules = settings.maintain.clone();
        let pause = Duration::from_secs(rules.pause_s);
        let opener = connection.opener();
        Ok(Self {
            rules: watch::Sender::new(Rules {
                maintainer: Maintainer::new(keyring, bucket, rules, settings.limits.keys),
                pause,
            }),
            _keeping: AbortOnDropHandle::new(tokio::spawn(opener.clone().keep(requester))),
            opener,
            nats: settings.nats.clone(),
        })
    }

    /// Runs one round: goes through the bucket once.
    pub async fn once(&self) -> Result<Round, OwnersError> {
        let maintainer = self.rules.borrow().maintainer.clone();
        maintainer.round().await
    }

    /// Runs one round after the other until `shutdown` ends. A round that fails is followed by the
    /// next. It takes up changed settings with `reloading`.
    pub async fn run(&self, reloading: Reloading, shutdown: impl Future<Output = ()>) {
        let target = MaintenanceTarget {
            rules: self.rules.clone(),
            opener: self.opener.clone(),
            started: self.nats.clone(),
        };
        let reloader = Reloader::new(reloading, target, Arc::new(ReloadStatus::default()));
        let rounds = async {
            loop {
                if let Err(error) = self.once().await {
                    warn!(%error, "a round of maintenance failed, the next one follows");
                }
                self.pause().await;
            }
        };

        tokio::select! {
            () = rounds => {}
            () = reloader.run() => {}
            () = shutdown => info!("stopped"),
        }
    }

    /// Waits for the next round. A pause that was made shorter counts at once.
    async fn pause(&self) {
        let began = Instant::now();
        let mut rules = self.rules.subscribe();

        loop {
            let pause = rules.borrow_and_update().pause;
            let left = pause.saturating_sub(began.elapsed());
            if timeout(left, rules.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// The parts of maintenance that take up changed settings.
struct MaintenanceTarget {
    rules: watch::Sender<Rules>,
    opener: Opener,
    /// The settings of the connections at start.
    started: NatsSettings,
}

impl Target for MaintenanceTarget {
    fn uses(&self, name: &str, uptake: Uptake) -> bool {
        match uptake {
            Uptake::LogFilter | Uptake::Servers | Uptake::Connections | Uptake::Maintain => true,
            Uptake::Connection(role) => role == Role::Truth,
            Uptake::Limits => name == "limits.keys",
            Uptake::AuthKeys | Uptake::Postgres => false,
            Uptake::Restart => {
                let sections = [
                    "keys.",
                    "truth.",
                    "log.",
                    "nats.truth.",
                    "nats.queue_messages",
                ];
                sections.iter().any(|section| name.starts_with(section))
            }
        }
    }

    fn needs_restart(&self, uptake: Uptake, _: &Settings) -> bool {
        uptake == Uptake::Restart
    }

    fn problems(&self, _: &NewSettings<'_>) -> Vec<String> {
        Vec::new()
    }

    fn apply(&mut self, new: &NewSettings<'_>, _: Option<Keys>) {
        let NewSettings {
            settings,
            former,
            changes,
        } = new;

        let rules = settings.maintain.clone();
        self.rules.send_modify(|current| {
            current.pause = Duration::from_secs(rules.pause_s);
            current.maintainer.set_rules(rules, settings.limits.keys);
        });
        if changes.concern_connection(Role::Truth, former, settings) {
            let nats = with_fixed(&settings.nats, &self.started);
            self.opener.renew_with(nats);
        }
    }

    async fn catch_up(&mut self) -> Option<String> {
        None
    }
}
