//! The program that forgets old deletions, beside the workers: with a user of its own, for no worker may purge.

use super::connect::Connection;
use super::start::{check_server, wait_for};
use crate::config::Settings;
use crate::maintenance::{Maintainer, Round};
use crate::owners::OwnersError;
use crate::requester::Requester;
use crate::seal::Keyring;
use crate::truth::Bucket;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};

/// The name in its barrier's key; no shard's, since workers may not write there.
const BARRIER: &str = "maintain";

/// Maintenance that is ready to run.
pub struct Maintenance {
    maintainer: Maintainer,
    pause: Duration,
    _connection: Connection,
}

impl Maintenance {
    /// Connects, and checks the server, and the bucket against the keys and the settings. Waits for what is only away.
    pub async fn build(settings: &Settings) -> anyhow::Result<Self> {
        settings.check()?;
        let keyring = Keyring::from_base64(&settings.keys.identity, &settings.keys.encryption)?;
        let connection = Connection::wait_for(&settings.nats, "gofavorites maintain").await?;
        check_server(&connection.client.server_info())?;
        let requester = Requester::start(connection.client.clone()).await?;
        let bucket = Bucket::new(requester, settings.truth.clone(), BARRIER);
        wait_for("the bucket", &connection.events, || {
            bucket.check(keyring.fingerprints())
        })
        .await?;
        let (how, keys) = (settings.maintain.clone(), settings.limits.keys);
        let pause = Duration::from_secs(how.pause_s);
        Ok(Self {
            maintainer: Maintainer::new(keyring, bucket, how, keys),
            pause,
            _connection: connection,
        })
    }

    /// Goes through the bucket once.
    pub async fn once(&self) -> Result<Round, OwnersError> {
        self.maintainer.round().await
    }

    /// One round after the other, until `shutdown` ends. One that fails is followed by the next.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let rounds = async {
            loop {
                if let Err(error) = self.once().await {
                    warn!(%error, "a round of maintenance could not be finished");
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
