//! Making a [`Bucket`], with the two probes by which its circuit breakers find out whether it answers.

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
    /// The bucket named in `settings`, over `requester`; `shard` names the key on which this worker's barriers ring.
    pub fn new(requester: Requester, settings: TruthSettings, shard: &str) -> Self {
        let subject = format!("$KV.{}._b.{shard}", settings.bucket);
        let barrier = Arc::new(Barrier::new(subject.clone()));
        // Short, so that a look that got lost does not delay the good news.
        let limit = Duration::from_millis(settings.call_ms / 4);
        let writing = Breaker::new("the truth, for writes,", {
            let (requester, subject) = (requester.clone(), settings.published(&subject));
            move || answers_publishes(requester.clone(), subject.clone(), limit)
        });
        let reading = Breaker::new("the truth, for reads,", {
            let (requester, api, writing) =
                (requester.clone(), settings.api(DIRECT_GET), writing.clone());
            move || {
                let read = answers_reads(requester.clone(), api.clone(), subject.clone(), limit);
                let writing = writing.clone();
                async move {
                    let answers = read.await;
                    // Who answers no reads hardly takes a write: that is found out before one waits.
                    if !answers {
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
        }
    }
}

/// Whether a publish is answered, if only by a refusal of a server that works.
async fn answers_publishes(requester: Requester, subject: String, limit: Duration) -> bool {
    let asked = requester
        .ask(
            subject,
            HeaderMap::new(),
            Bytes::new(),
            Instant::now() + limit,
        )
        .await;
    let Ok(reply) = asked else { return false };
    match serde_json::from_slice::<Ack>(&reply.payload) {
        Ok(Ack {
            error: Some(error), ..
        }) => !error.is_transient(),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Whether a read is answered, whatever the answer is.
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
