//! The records of all owners, opened and checked, for a service that holds the installation's keys:
//! a search index, an archive, a copy in another store. It reads the bucket itself, and needs
//! neither a worker nor Postgres. Build the library with `default-features = false,
//! features = ["feed"]`.
//!
//! The program connects to NATS with the user `feed` of `nats/accounts.conf`, and gives the
//! connection to [`Feed::open`]. [`Feed::follow`] then begins where the program says.
//!
//! - **Opened.** A [`Change`] is an item as replies show it, and whose it is. What replies hide,
//!   secrets and codes, stays sealed.
//! - **Checked.** Each record is authentic, and belongs to an owner whose records in the bucket are
//!   complete. What cannot be used is named ([`Event::Unusable`]), and the feed goes on.
//! - **In order and without a gap**, across lost connections and restarts: each [`Position`] can be
//!   stored, and continued from. A bucket that is no longer the one of the position is noticed
//!   ([`FeedError::OtherHistory`]), and so are deletions that were forgotten meanwhile
//!   ([`Event::Resync`]).
//!
//! The bucket keeps `truth.history` records of each item. So a feed from the beginning shows the
//! last states of each item, and ends with the present one. It takes about 50 bytes of memory for
//! each owner that it has shown.
//!
//! `examples/rust/feed.rs` prints what there is, and follows.

mod event;
mod following;
mod ledger;
mod position;

pub use crate::domain::Timestamp;
pub use crate::seal::{Keyring, KeyringError, UserId};
pub use event::{Change, Event, Unusable};
pub use following::Following;
pub use position::{Position, Start};

use crate::requester::{CallError, Requester, Transient};
use crate::truth::{Bucket, SetupError, TruthError, TruthSettings};

/// Why a feed cannot be opened, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The bucket is missing, was created with other keys, or has records of a format that this
    /// version cannot read.
    #[error(transparent)]
    Bucket(#[from] SetupError),
    /// The bucket does not answer, or refuses.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// The bucket's history is not the one of the position: it was created again, or restored from a
    /// backup that lacks something. Drop everything that the feed has shown, and follow
    /// the bucket from the beginning.
    #[error("the bucket has another history than the one that was followed: {0}")]
    OtherHistory(String),
}

impl Transient for FeedError {
    fn is_unavailable(&self) -> bool {
        match self {
            Self::Bucket(error) => error.is_unavailable(),
            Self::Truth(error) => error.is_unavailable(),
            Self::OtherHistory(_) => false,
        }
    }
}

/// The bucket of one installation, to be followed.
pub struct Feed {
    bucket: Bucket,
    keyring: Keyring,
}

impl Feed {
    /// Opens the bucket of that name (the setting `truth.bucket`) in the account of this connection.
    ///
    /// # Errors
    ///
    /// Fails if the bucket does not answer within two seconds, is not there, or was created with
    /// other keys.
    pub async fn open(
        nats: async_nats::Client,
        keyring: Keyring,
        bucket: &str,
    ) -> Result<Self, FeedError> {
        let settings = TruthSettings {
            bucket: bucket.to_owned(),
            ..TruthSettings::default()
        };
        let requester = Requester::start(nats).await;
        let requester = requester.map_err(|_| TruthError::from(CallError::NotConnected))?;
        let bucket = Bucket::without_barriers(requester, settings);
        bucket.check_keys(keyring.fingerprints()).await?;

        Ok(Self { bucket, keyring })
    }

    /// Follows the bucket from there on.
    ///
    /// # Errors
    ///
    /// [`FeedError::OtherHistory`] if the bucket does not continue the position.
    pub async fn follow(&self, start: Start) -> Result<Following, FeedError> {
        Following::begin(self.bucket.clone(), self.keyring.clone(), start).await
    }
}
