//! Consumers of our own: how they are made, and how they end.
//!
//! A stream has 1,000 consumers at most unless the server is told otherwise, and no user here may delete one. They are in
//! memory and end by themselves when nobody pulls from them; and who needs one no longer tells the server that it may end
//! at once, which is a change of its settings.

use super::api::ApiError;
use super::bucket::{Bucket, TruthError};
use crate::domain::Timestamp;
use crate::requester::Requester;
use async_nats::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// How long one may be unused that is not needed; the server adds up to a second.
const AT_ONCE: Duration = Duration::from_millis(1);
/// How long the server may take to hear of it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Which messages are pulled.
#[derive(Clone)]
pub(super) struct Plan {
    /// What the consumers' names begin with.
    pub name: &'static str,
    pub from: From,
    /// The subjects.
    pub filter: String,
    pub headers_only: bool,
    /// How long a consumer is kept that nobody pulls from.
    pub kept: Duration,
}

/// Where it begins.
#[derive(Clone, Copy)]
pub(super) enum From {
    /// After that sequence.
    Sequence(u64),
    /// With what was taken at that moment.
    Moment(Timestamp),
    /// With the last message of each subject, in the order of their sequences.
    LastOfEach,
}

/// A consumer at the server, told to end when it is dropped.
pub(super) struct Consumer {
    requester: Requester,
    pub name: String,
    /// Messages that were to come when it was made.
    pub pending: u64,
    /// Where it is made, and changed.
    making: String,
    /// What lets it end.
    ending: String,
}

#[derive(Deserialize)]
struct CreateConsumerReply {
    error: Option<ApiError>,
    #[serde(default)]
    num_pending: u64,
}

impl Bucket {
    /// Makes a consumer that begins after what was given.
    pub(super) async fn make_consumer(
        &self,
        plan: &Plan,
        given: u64,
    ) -> Result<Consumer, TruthError> {
        let name = format!("{}-{}", plan.name, uuid::Uuid::now_v7().simple());
        let making = format!(
            "{}.{name}.{}",
            self.api_subject("CONSUMER.CREATE"),
            plan.filter
        );
        let mut config = plan.config(&name, given);
        let wanted = json!({ "stream_name": self.stream(), "action": "create", "config": config });
        let asked = self
            .requester
            .ask(
                making.clone(),
                HeaderMap::new(),
                wanted.to_string().into(),
                self.deadline(),
            )
            .await?;
        let made: CreateConsumerReply = serde_json::from_slice(&asked.payload)
            .map_err(|_| TruthError::Unreadable("an answer about a consumer"))?;
        if let Some(error) = made.error {
            return Err(error.into());
        }
        config["inactive_threshold"] = nanos(AT_ONCE);
        let ending = json!({ "stream_name": self.stream(), "action": "update", "config": config })
            .to_string();
        Ok(Consumer {
            requester: self.requester.clone(),
            name,
            pending: made.num_pending,
            making,
            ending,
        })
    }
}

impl Plan {
    /// Whether a consumer's messages come to an end; otherwise it waits for more.
    pub(super) fn ends(&self) -> bool {
        matches!(self.from, From::LastOfEach)
    }

    fn config(&self, name: &str, given: u64) -> Value {
        let mut config = json!({
            "name": name,
            "filter_subject": self.filter,
            "headers_only": self.headers_only,
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "num_replicas": 1,
            "mem_storage": true,
            "inactive_threshold": nanos(self.kept),
        });
        match self.from {
            From::LastOfEach => config["deliver_policy"] = "last_per_subject".into(),
            From::Moment(moment) if given == 0 => {
                config["deliver_policy"] = "by_start_time".into();
                config["opt_start_time"] = moment.to_rfc3339().into();
            }
            From::Moment(_) => start_after(&mut config, given),
            From::Sequence(sequence) => start_after(&mut config, sequence.max(given)),
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
        // At the end of the program there may be nobody left to send it; then it ends by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (requester, making, ending) = (
            self.requester.clone(),
            std::mem::take(&mut self.making),
            std::mem::take(&mut self.ending),
        );
        runtime.spawn(async move {
            // What the answer is changes nothing.
            let _ = requester
                .ask(
                    making,
                    HeaderMap::new(),
                    ending.into(),
                    Instant::now() + FAREWELL,
                )
                .await;
        });
    }
}

/// As the stream API writes durations.
pub(super) fn nanos(duration: Duration) -> Value {
    Value::from(duration.as_nanos() as u64)
}
