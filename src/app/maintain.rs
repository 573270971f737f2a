//! The program that forgets old deletions. It runs beside the workers with a NATS user of its own,
//! because no worker may purge.

use super::connect::Connection;
use super::wait::Wait;
use super::wait_limit::WaitLimit;
use crate::config::{Role, Settings};
use crate::maintenance::{Maintainer, Round};
use crate::owners::OwnersError;
use crate::requester::Requester;
use crate::seal::Keyring;
use crate::truth::Bucket;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// The name in its barrier's key. It is no shard's name, because workers may not write that key.
const BARRIER_NAME: &str = "maintain";

/// Maintenance that is ready to run.
pub struct Maintenance {
    maintainer: Maintainer,
    pause: Duration,
    _keeping: AbortOnDropHandle<()>,
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
        Ok(Self {
            maintainer: Maintainer::new(keyring, bucket, rules, settings.limits.keys),
            pause,
            _keeping: AbortOnDropHandle::new(tokio::spawn(connection.opener().keep(requester))),
        })
    }

    /// Runs one round: goes through the bucket once.
    pub async fn once(&self) -> Result<Round, OwnersError> {
        self.maintainer.round().await
    }

    /// Runs one round after the other until `shutdown` ends. A round that fails is followed by the
    /// next.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let rounds = async {
            loop {
                if let Err(error) = self.once().await {
                    warn!(%error, "a round of maintenance failed, the next one follows");
                }
                sleep(self.pause).await;
            }
        };

        tokio::select! {
            () = rounds => {}
            () = shutdown => info!("stopped"),
        }
    }
}
