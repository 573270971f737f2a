//! The session of `backup`: a connection to the bucket with a NATS user of its own, and no Postgres.

use super::bucket_session::BucketSession;
use super::connect::Connection;
use super::rights::{REFUSAL_INTERVAL, within_rights};
use super::wait_limit::WaitLimit;
use crate::config::Settings;
use crate::maintenance::Backups;
use anyhow::bail;
use std::error::Error;
use tokio::time::sleep;

/// The tool for backups, connected.
pub struct BackupSession {
    /// The tool.
    pub backups: Backups,
    connection: Connection,
}

impl BackupSession {
    /// Connects. Waits while no server can be reached, or JetStream does not answer, up to `limit`.
    pub async fn open(settings: &Settings, limit: WaitLimit) -> anyhow::Result<Self> {
        let name = "gofavorites backup";
        let session = BucketSession::open(settings, name, None, limit).await?;
        let wait = session.wait();
        wait.until_available("the bucket", || session.bucket.exists())
            .await?;

        Ok(Self {
            backups: Backups::new(session.keyring, session.bucket),
            connection: session.connection,
        })
    }

    /// Waits for a call, and ends it once the server has refused something. A refused call would
    /// wait for an answer that never comes.
    pub async fn within_rights<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T>
    where
        E: Error + Send + Sync + 'static,
    {
        let ended = within_rights(&self.connection.events, call).await?;

        // What was refused last may be reported after the call. A short backup, for example, needs
        // no acknowledgement.
        sleep(REFUSAL_INTERVAL).await;
        match self.connection.events.missing_right() {
            Some(refused) => bail!(refused),
            None => Ok(ended),
        }
    }
}
