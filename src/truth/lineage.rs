//! The lineage of a restored bucket: the buckets that it continues.
//!
//! The server gives a restored stream another creation time. So a restore writes into the stream's
//! metadata of which bucket the backup was taken, and up to which sequence it is complete. From
//! that, a shard which knows an earlier bucket learns whether the restored one has all that the
//! shard has seen.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The field of the stream's metadata.
const FIELD: &str = "gofavorites-restored";
/// The most earlier buckets that are kept, so that the metadata stay small.
const EARLIER_MAX: usize = 64;

/// The earlier buckets that a bucket continues, the oldest first; none if it was never restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage(Vec<Earlier>);

/// An earlier bucket, and how much of it is in the backup that was restored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Earlier {
    /// When it was created, in the server's words.
    created: String,
    /// The sequence up to which the backup has every current record; 0 if it may lack some.
    complete_to: u64,
    /// The backup's newest stream sequence.
    newest: u64,
}

impl Lineage {
    /// Reads the lineage from a stream's configuration. A configuration without one, or with an
    /// unreadable one, has no earlier buckets.
    pub(super) fn of(config: &Value) -> Self {
        let earlier = config["metadata"][FIELD]
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok());

        Self(earlier.unwrap_or_default())
    }

    /// Writes into a backup's configuration that the restored bucket continues the one that was
    /// created at `created`, whose newest sequence in the backup is `newest`.
    pub(super) fn extend(config: &mut Value, created: &str, complete_to: u64, newest: u64) {
        let Self(mut earlier) = Self::of(config);
        earlier.push(Earlier {
            created: created.to_owned(),
            complete_to,
            newest,
        });
        let surplus = earlier.len().saturating_sub(EARLIER_MAX);
        earlier.drain(..surplus);

        config["metadata"][FIELD] = json!(earlier).to_string().into();
    }

    /// The newest sequence of the backup that was restored last; 0 if there was none. A bucket that
    /// has not come so far is part of a restore that was interrupted.
    pub(super) fn restored_to(&self) -> u64 {
        self.0.last().map_or(0, |last| last.newest)
    }

    /// Returns the sequence up to which the bucket has every current record of the earlier bucket,
    /// if that reaches `seen`.
    pub fn continues(&self, created: &str, seen: u64) -> Option<u64> {
        let mut earlier = self.0.iter();
        let found =
            earlier.find(|earlier| earlier.created == created && seen <= earlier.complete_to);

        found.map(|earlier| earlier.complete_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_bucket_continues_the_earlier_ones_up_to_their_backups() {
        let mut config = json!({"name": "KV_favorites", "metadata": {"other": "kept"}});
        Lineage::extend(&mut config, "first", 100, 100);
        Lineage::extend(&mut config, "second", 0, 120);
        Lineage::extend(&mut config, "third", 150, 150);

        let lineage = Lineage::of(&config);
        assert_eq!(lineage.continues("first", 99), Some(100));
        assert_eq!(lineage.continues("first", 101), None, "lost by a restore");
        assert_eq!(lineage.continues("second", 1), None, "not complete");
        assert_eq!(lineage.continues("third", 150), Some(150));
        assert_eq!(lineage.continues("another", 1), None);
        assert_eq!(lineage.restored_to(), 150);
        assert_eq!(config["metadata"]["other"], "kept");
    }

    #[test]
    fn a_bucket_that_was_never_restored_continues_none() {
        for config in [
            json!({}),
            json!({"metadata": {}}),
            json!({"metadata": {FIELD: "unreadable"}}),
        ] {
            assert_eq!(Lineage::of(&config), Lineage::default());
        }
    }

    #[test]
    fn the_oldest_of_many_buckets_are_dropped() {
        let mut config = json!({});
        for number in 0..=EARLIER_MAX {
            Lineage::extend(&mut config, &number.to_string(), 1, 1);
        }

        let lineage = Lineage::of(&config);
        assert_eq!(lineage.continues("0", 1), None);
        assert_eq!(lineage.continues("1", 1), Some(1));
    }
}
