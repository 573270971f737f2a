//! A reference service that answers as the test wants, and records the questions.

use super::world::World;
use async_nats::{Client, HeaderMap, Subscriber};
use futures::StreamExt as _;
use gofavorites::dev::reference_service::{REFERENCE_GROUP, REFERENCE_SUBJECT};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long the start waits until the service can be asked. Some tests have accounts in which that
/// never happens.
const START_TIMEOUT: Duration = Duration::from_millis(500);

/// A question to the service.
#[derive(Clone, Debug)]
pub struct ReferenceQuestion {
    pub body: Value,
    pub traceparent: Option<String>,
}

/// A reference service that answers until it is dropped.
pub struct ReferenceService {
    questions: Arc<Mutex<Vec<ReferenceQuestion>>>,
    answering: JoinHandle<()>,
}

impl ReferenceService {
    /// Starts the service. It answers each question with what `answer` returns, and does not answer
    /// at all if that is `None`.
    pub async fn start(
        world: &World,
        answer: impl Fn(&Value) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(world, &world.nats.url(), answer).await
    }

    /// Does the same as [`start`](Self::start), connected to another server. Waits until the
    /// service can be asked from the world's own server.
    pub async fn start_at(
        world: &World,
        url: &str,
        answer: impl Fn(&Value) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let client = world.connect_at(url, "reference_service").await;
        let subscription = client
            .queue_subscribe(REFERENCE_SUBJECT, REFERENCE_GROUP.into())
            .await
            .expect("a subscription");

        let questions = Arc::new(Mutex::new(Vec::new()));
        let answering = tokio::spawn({
            let questions = questions.clone();
            async move { answer_all(&client, subscription, &questions, answer).await }
        });

        let worker = world.connect("auth").await;
        let probe = json!({"isin": ""}).to_string();
        let probed = async {
            while worker
                .request(REFERENCE_SUBJECT, probe.clone().into())
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(START_TIMEOUT, probed).await;

        Self {
            questions,
            answering,
        }
    }

    /// Returns the questions so far, without those that only probe whether the service answers.
    pub fn questions(&self) -> Vec<ReferenceQuestion> {
        self.questions.lock().expect("no panic").clone()
    }

    /// Returns how often the service was asked about that ISIN.
    pub fn count_of(&self, isin: &str) -> usize {
        let questions = self.questions();

        questions
            .iter()
            .filter(|question| question.body["isin"] == isin)
            .count()
    }
}

impl Drop for ReferenceService {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn answer_all(
    client: &Client,
    mut subscription: Subscriber,
    questions: &Mutex<Vec<ReferenceQuestion>>,
    answer: impl Fn(&Value) -> Option<String>,
) {
    while let Some(message) = subscription.next().await {
        let reply = message.reply.expect("a reply subject");
        let body: Value = serde_json::from_slice(&message.payload).expect("a question");
        if body["isin"] == "" {
            let unknown = json!({"found": false}).to_string();
            client.publish(reply, unknown.into()).await.expect("sent");
            continue;
        }

        let traceparent = message.headers.as_ref().and_then(traceparent);
        let answer = answer(&body);
        questions
            .lock()
            .expect("no panic")
            .push(ReferenceQuestion { body, traceparent });

        if let Some(answer) = answer {
            client.publish(reply, answer.into()).await.expect("sent");
        }
    }
}

fn traceparent(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("traceparent")?.to_string())
}
