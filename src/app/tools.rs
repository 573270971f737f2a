//! What an operator's tools work with: all that a worker has to look at the truth and its shard, and nothing that answers
//! callers.

use super::connect::Connection;
use super::owners_settings;
use super::start::check_server;
use crate::config::Settings;
use crate::exchange::Exchange;
use crate::owners::Owners;
use crate::seal::Keyring;
use crate::shard::Store;
use crate::truth::Bucket;
use tokio_util::task::AbortOnDropHandle;

/// Connections to the truth and to the shard's Postgres.
pub struct Tools {
    /// The owners, as the shard has them.
    pub owners: Owners,
    /// The shard's Postgres.
    pub store: Store,
    _connection: Connection,
    _listening: AbortOnDropHandle<()>,
}

impl Tools {
    /// Connects as a worker does, and checks the bucket against the keys and the settings, and Postgres' schema. Waits for
    /// nothing.
    pub async fn open(settings: &Settings, name: &str) -> anyhow::Result<Self> {
        settings.check()?;
        let keyring = Keyring::from_base64(&settings.keys.identity, &settings.keys.encryption)?;
        let connection = Connection::open(&settings.nats, name).await?;
        check_server(&connection.client.server_info())?;
        let exchange = Exchange::start(connection.client.clone()).await?;
        let bucket = Bucket::new(exchange, settings.truth.clone(), &settings.shard.id);
        bucket.check(keyring.fingerprints()).await?;
        let store = Store::new(&settings.postgres)?;
        store.check_schema().await?;
        let position = bucket.position().await?;
        store
            .begin_cursor(bucket.name(), &position.created, position.newest)
            .await?;
        let shard = settings.shard.id.clone();
        let owners = Owners::new(
            keyring,
            bucket,
            store.clone(),
            owners_settings(settings),
            shard,
        );
        let listening = AbortOnDropHandle::new(tokio::spawn({
            let owners = owners.clone();
            async move { owners.listen().await }
        }));
        Ok(Self {
            owners,
            store,
            _connection: connection,
            _listening: listening,
        })
    }
}
