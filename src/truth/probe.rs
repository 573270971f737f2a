//! Creating a [`Bucket`], with the two probes that tell its circuit breakers whether it answers.

use super::api::Ack;
use super::bucket::{Barrier, Bucket};
use super::settings::{DIRECT_GET, TruthSettings};
use crate::breaker::Breaker;
use crate::requester::Requester;
use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl Bucket {
    /// The bucket named in `settings`, over `requester`. `shard` names the key to which this worker
    /// publishes its barriers.
    pub fn new(requester: Requester, settings: TruthSettings, shard: &str) -> Self {
        Self::with_probes(requester, settings, shard, true)
    }

    /// As [`new`](Self::new), for a NATS user that may not publish barriers: a bucket that answers no
    /// reads is not asked whether it accepts writes.
    pub fn without_barriers(requester: Requester, settings: TruthSettings) -> Self {
        Self::with_probes(requester, settings, "none", false)
    }

    fn with_probes(
        requester: Requester,
        settings: TruthSettings,
        shard: &str,
        has_barriers: bool,
    ) -> Self {
        let subject = format!("$KV.{}._b.{shard}", settings.bucket);
        let barrier = Arc::new(Barrier::new(subject.clone()));
        // Short, so that a lost probe does not delay the discovery that the bucket answers again.
        let limit = Duration::from_millis(settings.call_ms / 4);

        let writing = Breaker::new("the truth (for writes)", {
            let requester = requester.clone();
            let subject = settings.published(&subject);
            move || answers_publishes(requester.clone(), subject.clone(), limit)
        });
        let reading = Breaker::new("the truth (for reads)", {
            let requester = requester.clone();
            let api = settings.api(DIRECT_GET);
            let writing = writing.clone();
            move || {
                let probe = answers_reads(requester.clone(), api.clone(), subject.clone(), limit);
                let writing = writing.clone();
                async move {
                    let answers = probe.await;
                    // A bucket that answers no reads probably accepts no writes either. The other
                    // probe finds that out before a write has to wait.
                    if !answers && has_barriers {
                        writing.doubt();
                    }
                    answers
                }
            }
        });

        Self {
            requester,
            settings,
            barrier,
            reading,
            writing,
            marks: Arc::default(),
        }
    }
}

/// Returns whether a publish is answered. A refusal counts as an answer, unless it says that the
/// stream is not ready.
async fn answers_publishes(requester: Requester, subject: String, limit: Duration) -> bool {
    let result = requester
        .ask(
            subject,
            HeaderMap::new(),
            Bytes::new(),
            Instant::now() + limit,
        )
        .await;

    let Ok(reply) = result else { return false };
    match serde_json::from_slice::<Ack>(&reply.payload) {
        Ok(Ack {
            error: Some(error), ..
        }) => !error.is_transient(),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Returns whether a read is answered, whatever the answer is.
async fn answers_reads(
    requester: Requester,
    api: String,
    subject: String,
    limit: Duration,
) -> bool {
    let query = json!({ "last_by_subj": subject }).to_string().into();

    requester
        .ask(api, HeaderMap::new(), query, Instant::now() + limit)
        .await
        .is_ok()
}
