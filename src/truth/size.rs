//! How many bytes the bucket's stream may have: all that `init` changes of an existing bucket.

use super::bucket::Bucket;
use super::error::TruthError;
use super::settings::TruthSettings;
use super::setup::{SetupError, StreamReply};
use serde_json::Value;
use tracing::warn;

impl Bucket {
    /// Sets how many bytes the stream may have, unless it may have as many as the settings say.
    pub(super) async fn bound(&self, mut config: Value) -> Result<(), SetupError> {
        let Some(wanted) = self.settings.wanted_bytes_max() else {
            return Ok(());
        };
        if config["max_bytes"] == wanted {
            return Ok(());
        }

        let found = std::mem::replace(&mut config["max_bytes"], wanted.into());
        let error = match self.api("STREAM.UPDATE", &config).await {
            Ok(StreamReply { error: None, .. }) => return Ok(()),
            Ok(StreamReply {
                error: Some(error), ..
            }) => TruthError::from(error),
            // A user that may not do this gets no answer. Nor does one at a leaf.
            Err(error) => error,
        };
        warn!(%error, "cannot change how many bytes the bucket may have");

        Err(SetupError::Differs {
            setting: "max_bytes".to_owned(),
            found: found.to_string(),
            wanted: wanted.to_string(),
            remedy: "run `init` where the bucket is, as a user that may update its stream, or change \
                     it with the nats CLI",
        })
    }

    /// Logs a warning if the stream may have another number of bytes than the settings say.
    pub(super) fn compare_size(&self, config: &Value) {
        // Workers go by what the bucket has. So an operator who makes room in a hurry need not change
        // every worker's settings first.
        let bytes = &config["max_bytes"];
        if let Some(wanted) = self.settings.wanted_bytes_max()
            && *bytes != wanted
        {
            warn!(
                max_bytes = %bytes,
                setting = wanted,
                "the bucket may have another size than truth.max_bytes says: run `gofavorites init`"
            );
        }
    }
}

impl TruthSettings {
    /// The most bytes that the stream has to have; `None` if these settings leave it open.
    pub(super) fn wanted_bytes_max(&self) -> Option<i64> {
        i64::try_from(self.max_bytes).ok().filter(|max| *max > 0)
    }
}
