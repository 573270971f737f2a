//! The settings of the bucket, and the subjects that follow from them.

use serde::{Deserialize, Serialize};

/// The stream API's call for reads.
pub(super) const DIRECT_GET: &str = "DIRECT.GET";

/// How to reach the truth, and how `init` creates it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TruthSettings {
    /// The bucket's name; its stream is `KV_<name>`. `nats/accounts.conf` has it too.
    pub bucket: String,
    /// Replicas in the cluster: 1, 3 or 5. `init` creates the bucket with this number; `serve` does
    /// not check it.
    #[cfg_attr(test, schemars(extend("x-unit" = "copies")))]
    pub replicas: usize,
    /// Records kept for each key, the current one included: 1 to 64. `serve` does not start if the
    /// bucket keeps another number.
    #[cfg_attr(test, schemars(extend("x-unit" = "records")))]
    pub history: i64,
    /// The most bytes that the bucket's stream may have; its replicas have as many each. `init` sets
    /// it, also on a bucket that is there. 0: `init` sets none, and leaves the one that is there.
    pub max_bytes: u64,
    /// How long one call to the bucket may take.
    pub call_ms: u64,
    /// The JetStream domain of the bucket, if the worker connects to a leaf node: `hub` with
    /// `nats/leaf.conf`. Empty: the server's own JetStream.
    pub domain: String,
}

impl Default for TruthSettings {
    fn default() -> Self {
        Self {
            bucket: "favorites".into(),
            replicas: 1,
            history: 16,
            max_bytes: 0,
            call_ms: 2_000,
            domain: String::new(),
        }
    }
}

impl TruthSettings {
    pub(super) fn stream(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    /// All subjects of the bucket.
    pub(super) fn all_subjects(&self) -> String {
        format!("$KV.{}.>", self.bucket)
    }

    /// The subject to which that call of the stream API is sent.
    pub(super) fn api(&self, call: &str) -> String {
        match self.domain.as_str() {
            "" => format!("$JS.API.{call}.{}", self.stream()),
            domain => format!("$JS.{domain}.API.{call}.{}", self.stream()),
        }
    }

    /// The subject that asks for the account's use of JetStream.
    pub(super) fn account_api(&self) -> String {
        match self.domain.as_str() {
            "" => "$JS.API.INFO".to_owned(),
            domain => format!("$JS.{domain}.API.INFO"),
        }
    }

    /// The subject to which a record of `subject` is published.
    ///
    /// With a domain, the domain's API prefix comes first. The domain's server removes the prefix,
    /// so stored records, and replies that name a subject, have the plain subject.
    pub(super) fn published(&self, subject: &str) -> String {
        match self.domain.as_str() {
            "" => subject.to_owned(),
            domain => format!("$JS.{domain}.API.{subject}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_names_the_domain() {
        let own = TruthSettings::default();
        let hub = TruthSettings {
            domain: "hub".into(),
            ..own.clone()
        };

        assert_eq!(own.api(DIRECT_GET), "$JS.API.DIRECT.GET.KV_favorites");
        assert_eq!(own.published("$KV.favorites.x.y"), "$KV.favorites.x.y");
        assert_eq!(hub.api(DIRECT_GET), "$JS.hub.API.DIRECT.GET.KV_favorites");
        assert_eq!(
            hub.published("$KV.favorites.x.y"),
            "$JS.hub.API.$KV.favorites.x.y"
        );
    }
}
