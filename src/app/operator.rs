//! The connections that the operators' tools use: those of a worker to the bucket and to Postgres.

use super::bucket_session::BucketSession;
use super::connect::Connection;
use super::rights::within_rights;
use super::wait_limit::WaitLimit;
use super::{open_store, owners_settings};
use crate::config::Settings;
use crate::maintenance::Operator;
use crate::owners::Owners;
use tokio_util::task::AbortOnDropHandle;

/// An operator's tools, connected to the bucket and to the shard's Postgres.
pub struct OperatorSession {
    /// The tools.
    pub operator: Operator,
    connection: Connection,
    _cursor_listener: AbortOnDropHandle<()>,
}

impl OperatorSession {
    /// Connects as a worker does, and checks the bucket against the keys and the settings, and the
    /// schema of Postgres. Waits for what is only unavailable, up to `limit`.
    pub async fn open(settings: &Settings, name: &str, limit: WaitLimit) -> anyhow::Result<Self> {
        let session = BucketSession::open(settings, name, Some(&settings.shard.id), limit).await?;
        session.check_bucket().await?;
        let store = open_store(settings, &session.bucket, &session.wait()).await?;

        let BucketSession {
            keyring,
            connection,
            bucket,
            ..
        } = session;

        let owners = Owners::new(
            keyring.clone(),
            bucket.clone(),
            store.clone(),
            owners_settings(settings),
            settings.shard.id.clone(),
        );
        let cursor_listener = AbortOnDropHandle::new(tokio::spawn({
            let owners = owners.clone();
            async move { owners.listen().await }
        }));

        Ok(Self {
            operator: Operator {
                owners,
                bucket,
                store,
                keyring,
            },
            connection,
            _cursor_listener: cursor_listener,
        })
    }

    /// Waits for a call, and ends it once the server has refused something.
    pub async fn within_rights<T>(
        &self,
        call: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        within_rights(&self.connection.events, call).await
    }
}
