//! Consumers: how this module creates them, and how they end.
//!
//! A stream has at most 1,000 consumers unless the server is configured otherwise, and no NATS user
//! here may delete one. So consumers are in memory, and the server ends those that are not pulled
//! from. A reader that no longer needs its consumer updates the consumer's settings, so that the
//! server ends it at once.

use super::api::ApiError;
use super::bucket::Bucket;
use super::error::TruthError;
use crate::domain::Timestamp;
use crate::requester::{CallError, Requester};
use async_nats::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The inactivity threshold of a consumer that is no longer needed; the server adds up to a second.
const ENDING_INACTIVE_THRESHOLD: Duration = Duration::from_millis(1);
/// How long the server may take to create a consumer of all messages: it counts them first.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request that may take so long checks whether its connection is still the same.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long the request that ends a consumer may take.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Which messages are pulled.
#[derive(Clone)]
pub(super) struct Plan {
    /// The prefix of the consumers' names.
    pub name: &'static str,
    pub start: StartAt,
    /// The subjects; `None` for all. With a filter that most messages of the bucket pass, the server
    /// looks at every subject first, and meanwhile stores no write.
    pub filter: Option<String>,
    pub headers_only: bool,
    /// Whether the messages come to an end; otherwise the consumer waits for more.
    pub ends: bool,
    /// How long the server keeps a consumer that is not pulled from.
    pub inactive_threshold: Duration,
}

/// The message with which a consumer begins.
#[derive(Clone, Copy)]
pub(super) enum StartAt {
    /// The first one after that sequence.
    Sequence(u64),
    /// The first one stored at that time or later.
    Time(Timestamp),
}

/// A consumer on the server. It is told to end when this is dropped.
pub(super) struct Consumer {
    requester: Requester,
    pub name: String,
    /// Messages that were still to be delivered when it was created.
    pub pending: u64,
    /// The subject to which it is created and updated.
    create_subject: String,
    /// The request that makes it end.
    end_request: String,
}

#[derive(Deserialize)]
struct CreateConsumerReply {
    error: Option<ApiError>,
    #[serde(default)]
    num_pending: u64,
}

impl Bucket {
    /// Creates a consumer that begins after the sequence `delivered`; 0 if nothing was delivered.
    pub(super) async fn create_consumer(
        &self,
        plan: &Plan,
        delivered: u64,
    ) -> Result<Consumer, TruthError> {
        let name = format!("{}-{}", plan.name, uuid::Uuid::now_v7().simple());
        let mut create_subject = format!("{}.{name}", self.api_subject("CONSUMER.CREATE"));
        if let Some(filter) = &plan.filter {
            create_subject = format!("{create_subject}.{filter}");
        }
        let mut config = plan.config(&name, delivered);
        let request = json!({ "stream_name": self.stream(), "action": "create", "config": config });

        let reply = self.requester.ask(
            create_subject.clone(),
            HeaderMap::new(),
            request.to_string().into(),
            self.deadline_to_create(plan),
        );
        let reply = tokio::select! {
            reply = reply => reply?,
            // The answer went to the connection before.
            () = reconnected(&self.requester) => return Err(CallError::NotConnected.into()),
        };
        let created: CreateConsumerReply = serde_json::from_slice(&reply.payload)
            .map_err(|_| TruthError::Unreadable("an answer about a consumer"))?;
        if let Some(error) = created.error {
            return Err(error.into());
        }

        config["inactive_threshold"] = nanos(ENDING_INACTIVE_THRESHOLD);
        let end_request =
            json!({ "stream_name": self.stream(), "action": "update", "config": config })
                .to_string();

        Ok(Consumer {
            requester: self.requester.clone(),
            name,
            pending: created.num_pending,
            create_subject,
            end_request,
        })
    }

    fn deadline_to_create(&self, plan: &Plan) -> Instant {
        let usual = self.deadline();

        if plan.ends {
            usual.max(Instant::now() + LIST_TIMEOUT)
        } else {
            usual
        }
    }
}

impl Plan {
    fn config(&self, name: &str, delivered: u64) -> Value {
        let mut config = json!({
            "name": name,
            "headers_only": self.headers_only,
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "num_replicas": 1,
            "mem_storage": true,
            "inactive_threshold": nanos(self.inactive_threshold),
        });

        if let Some(filter) = &self.filter {
            config["filter_subject"] = filter.as_str().into();
        }
        match self.start {
            StartAt::Time(time) if delivered == 0 => {
                config["deliver_policy"] = "by_start_time".into();
                config["opt_start_time"] = time.to_rfc3339().into();
            }
            StartAt::Time(_) => start_after(&mut config, delivered),
            StartAt::Sequence(sequence) => start_after(&mut config, sequence.max(delivered)),
        }

        config
    }
}

fn start_after(config: &mut Value, sequence: u64) {
    config["deliver_policy"] = "by_start_sequence".into();
    config["opt_start_seq"] = (sequence + 1).into();
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // At the end of the program there may be no runtime to send with. The server then ends the
        // consumer after its inactivity threshold.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };

        let requester = self.requester.clone();
        let create_subject = std::mem::take(&mut self.create_subject);
        let end_request = std::mem::take(&mut self.end_request);
        runtime.spawn(async move {
            // No reply would change what happens here.
            let _ = requester
                .ask(
                    create_subject,
                    HeaderMap::new(),
                    end_request.into(),
                    Instant::now() + END_TIMEOUT,
                )
                .await;
        });
    }
}

/// How many connections the client has made so far.
pub(super) fn connects(requester: &Requester) -> u64 {
    requester
        .client()
        .statistics()
        .connects
        .load(Ordering::Relaxed)
}

/// Returns once the client has made another connection.
async fn reconnected(requester: &Requester) {
    let before = connects(requester);
    while connects(requester) == before {
        sleep(POLL_INTERVAL).await;
    }
}

/// A duration in the form of the stream API.
pub(super) fn nanos(duration: Duration) -> Value {
    Value::from(duration.as_nanos() as u64)
}
