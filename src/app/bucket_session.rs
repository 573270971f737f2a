//! What every command on the bucket begins with: the keys, and a connection to the bucket.

use super::connect::Connection;
use super::wait::Wait;
use super::wait_limit::WaitLimit;
use crate::config::{Role, Settings};
use crate::requester::Requester;
use crate::seal::Keyring;
use crate::truth::Bucket;

/// The bucket, connected, and the keys that open its records.
pub(super) struct BucketSession {
    pub keyring: Keyring,
    pub connection: Connection,
    pub requester: Requester,
    pub bucket: Bucket,
    limit: WaitLimit,
}

impl BucketSession {
    /// Checks the settings, and connects as the command `name`. Waits while no server can be
    /// reached, up to `limit`. `barrier` is the name in the key of the bucket's barrier; `None` for a
    /// NATS user that may not publish any.
    pub async fn open(
        settings: &Settings,
        name: &str,
        barrier: Option<&str>,
        limit: WaitLimit,
    ) -> anyhow::Result<Self> {
        settings.check()?;
        let keyring = Keyring::from_base64(&settings.keys.identity, &settings.keys.encryption)?;

        let connection = Connection::wait_for(&settings.nats, Role::Truth, name, limit).await?;
        let requester = Requester::start(connection.client.clone()).await?;
        let truth = settings.truth.clone();
        let bucket = match barrier {
            Some(barrier) => Bucket::new(requester.clone(), truth, barrier),
            None => Bucket::without_barriers(requester.clone(), truth),
        };

        Ok(Self {
            keyring,
            connection,
            requester,
            bucket,
            limit,
        })
    }

    /// Waits for further answers up to the same limit.
    pub fn wait(&self) -> Wait<'_> {
        Wait {
            limit: self.limit,
            events: Some(&self.connection.events),
        }
    }

    /// Waits until the bucket was checked against the keys and the settings.
    pub async fn check_bucket(&self) -> anyhow::Result<()> {
        let check = || self.bucket.check(self.keyring.fingerprints());

        self.wait().until_available("the bucket", check).await
    }
}
