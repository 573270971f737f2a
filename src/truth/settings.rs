//! The settings of the bucket, and the subjects that follow from them.

use serde::{Deserialize, Serialize};

/// The stream API's call for reads.
pub(super) const DIRECT_GET: &str = "DIRECT.GET";

/// How to reach the truth, and how `init` creates it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TruthSettings {
    /// The bucket's name; its stream is `KV_<name>`.
    pub bucket: String,
    /// Copies of the bucket in the cluster: 1, 3 or 5.
    pub replicas: usize,
    /// Records kept for each key, the current one included: 1 to 64.
    pub history: i64,
    /// How long one call to the truth may take, in milliseconds.
    pub call_ms: u64,
    /// The JetStream domain of the bucket, as seen from a leaf; empty if it is the server's own
    /// domain.
    pub domain: String,
}

impl Default for TruthSettings {
    fn default() -> Self {
        Self {
            bucket: "favorites".into(),
            replicas: 1,
            history: 16,
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
