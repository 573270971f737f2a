//! The settings of the bucket, and the subjects that follow from them.

use serde::{Deserialize, Serialize};

/// The call that reads.
pub(super) const DIRECT_GET: &str = "DIRECT.GET";

/// How to reach the truth, and how `init` makes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    /// The JetStream domain in which it is, seen from a leaf; empty where it is in the server's own.
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

    /// Where that call of the stream API is asked.
    pub(super) fn api(&self, call: &str) -> String {
        match self.domain.as_str() {
            "" => format!("$JS.API.{call}.{}", self.stream()),
            domain => format!("$JS.{domain}.API.{call}.{}", self.stream()),
        }
    }

    /// Where a record of that subject is published. In a domain that is below its API; the domain's server takes the
    /// front off again, so everywhere else, in what it stores and what it tells, subjects are as they are.
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
    fn a_domain_is_named_where_something_is_sent() {
        let own = TruthSettings::default();
        assert_eq!(own.api(DIRECT_GET), "$JS.API.DIRECT.GET.KV_favorites");
        assert_eq!(own.published("$KV.favorites.x.y"), "$KV.favorites.x.y");
        let hub = TruthSettings {
            domain: "hub".into(),
            ..own
        };
        assert_eq!(hub.api(DIRECT_GET), "$JS.hub.API.DIRECT.GET.KV_favorites");
        assert_eq!(
            hub.published("$KV.favorites.x.y"),
            "$JS.hub.API.$KV.favorites.x.y"
        );
    }
}
