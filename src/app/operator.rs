//! The connections that the operators' tools use: those of a worker to the bucket and to Postgres.

use super::connect::Connection;
use super::wait::Wait;
use super::wait_limit::WaitLimit;
use super::{open_store, owners_settings};
use crate::config::{Role, Settings};
use crate::maintenance::Operator;
use crate::owners::Owners;
use crate::requester::Requester;
use crate::seal::Keyring;
use crate::truth::Bucket;
use tokio_util::task::AbortOnDropHandle;

/// An operator's tools, connected to the bucket and to the shard's Postgres.
pub struct OperatorSession {
    /// The tools.
    pub operator: Operator,
    _connection: Connection,
    _cursor_listener: AbortOnDropHandle<()>,
}

impl OperatorSession {
    /// Connects as a worker does, and checks the bucket against the keys and the settings, and the
    /// schema of Postgres. Waits for what is only unavailable, up to `limit`.
    pub async fn open(settings: &Settings, name: &str, limit: WaitLimit) -> anyhow::Result<Self> {
        settings.check()?;
        let keyring = Keyring::from_base64(&settings.keys.identity, &settings.keys.encryption)?;

        let connection = Connection::wait_for(&settings.nats, Role::Truth, name, limit).await?;

        let requester = Requester::start(connection.client.clone()).await?;
        let bucket = Bucket::new(requester, settings.truth.clone(), &settings.shard.id);
        let wait = Wait {
            limit,
            events: Some(&connection.events),
        };
        wait.until_available("the bucket", || bucket.check(keyring.fingerprints()))
            .await?;
        let store = open_store(settings, &bucket, &wait).await?;

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
            _connection: connection,
            _cursor_listener: cursor_listener,
        })
    }
}
