//! The program that forgets old deletions. It runs beside the workers with a NATS user of its own,
//! because no worker may purge.

use super::bucket_session::BucketSession;
use super::connect::ConnectionEvents;
use super::rights::{check_rights_to_maintain, within_rights};
use super::wait_limit::WaitLimit;
use crate::config::Settings;
use crate::maintenance::{Maintainer, Round};
use crate::owners::OwnersError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// The name in its barrier's key. It is no shard's name, because workers may not write that key.
const BARRIER_NAME: &str = "maintain";

/// How often the bucket is asked whether it is nearly full, and the pause before the next round if it
/// is.
const PRESSED_PAUSE: Duration = Duration::from_secs(10);
/// The pause before the next round if the last one found nothing to purge in a bucket that is nearly
/// full, or failed: it would be the same again, and a round reads the whole bucket.
const HELPLESS_PAUSE: Duration = Duration::from_secs(300);

/// Maintenance that is ready to run.
pub struct Maintenance {
    maintainer: Maintainer,
    pause: Duration,
    events: Arc<ConnectionEvents>,
    _keeping: AbortOnDropHandle<()>,
}

impl Maintenance {
    /// Connects, and checks the server, the bucket against the keys and the settings, and the rights
    /// of the NATS user. Waits for what is only unavailable, up to `limit`.
    pub async fn build(settings: &Settings, limit: WaitLimit) -> anyhow::Result<Self> {
        let name = "gofavorites maintain";
        let session = BucketSession::open(settings, name, Some(BARRIER_NAME), limit).await?;
        session.check_bucket().await?;
        check_rights_to_maintain(&session.bucket, &session.connection.events).await?;

        let BucketSession {
            keyring,
            connection,
            requester,
            bucket,
            ..
        } = session;
        let rules = settings.maintain.clone();
        let pause = Duration::from_secs(rules.pause_s);
        Ok(Self {
            maintainer: Maintainer::new(keyring, bucket, rules, settings.limits.keys),
            pause,
            events: connection.events.clone(),
            _keeping: AbortOnDropHandle::new(tokio::spawn(connection.opener().keep(requester))),
        })
    }

    /// Runs one round for a command, which ends once the server has refused something.
    pub async fn once_within_rights(&self) -> anyhow::Result<Round> {
        within_rights(&self.events, self.once()).await
    }

    /// Runs one round: goes through the bucket once.
    pub async fn once(&self) -> Result<Round, OwnersError> {
        self.maintainer.round().await
    }

    /// Waits until the next round is due, or the bucket needs room, for which it looks after `pause`.
    async fn until_next(&self, pause: Duration) {
        let pressed = async {
            sleep(pause).await;
            while !self.maintainer.is_pressed().await {
                sleep(PRESSED_PAUSE).await;
            }
        };

        tokio::select! {
            () = sleep(self.pause) => {}
            () = pressed => info!("the bucket is full, or nearly: the next round begins at once"),
        }
    }

    /// Runs one round after the other until `shutdown` ends. A round that fails is followed by the
    /// next.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let rounds = async {
            loop {
                let pause = match self.once().await {
                    Ok(round) if !round.pressed || round.purged + round.dropped > 0 => {
                        PRESSED_PAUSE
                    }
                    Ok(_) => HELPLESS_PAUSE,
                    Err(error) => {
                        warn!(%error, "a round of maintenance failed, the next one follows");
                        HELPLESS_PAUSE
                    }
                };
                self.until_next(pause).await;
            }
        };

        tokio::select! {
            () = rounds => {}
            () = shutdown => info!("stopped"),
        }
    }
}
