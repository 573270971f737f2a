//! An auth service that answers as the test wants, and records the questions.

use super::world::World;
use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures::StreamExt as _;
use gofavorites::dev::auth_service::{AuthService, VERIFY_SUBJECT};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The payload with which the start checks that the server has the subscription. It is not a
/// question.
const KNOCK: &str = "knock";

/// A question to the service.
#[derive(Clone, Debug)]
pub struct Question {
    pub token: String,
    pub traceparent: Option<String>,
}

/// An auth service that answers until it is dropped.
pub struct Verifier {
    questions: Arc<Mutex<Vec<Question>>>,
    answering: JoinHandle<()>,
}

impl Verifier {
    /// Starts the service. It answers each token with what `answer` returns, and does not answer
    /// at all if that is `None`.
    pub async fn start(
        world: &World,
        answer: impl Fn(&AuthService, &str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let service = AuthService::new(&world.secrets).expect("keys");
        let client = world.connect("auth_service").await;
        let subscription = client
            .queue_subscribe(VERIFY_SUBJECT, "auth".into())
            .await
            .expect("a subscription");

        let questions = Arc::new(Mutex::new(Vec::new()));
        let answering = tokio::spawn({
            let questions = questions.clone();
            async move { answer_all(&client, subscription, &service, &questions, answer).await }
        });

        // Nobody answers until the server has the subscription. Some tests have accounts in which
        // the worker cannot ask at all, so the wait ends in any case.
        let worker = world.connect("auth").await;
        let knock = async { while worker.request(VERIFY_SUBJECT, KNOCK.into()).await.is_err() {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), knock).await;

        Self {
            questions,
            answering,
        }
    }

    /// Starts a service that answers every question with the true verdict.
    pub async fn honest(world: &World) -> Self {
        Self::start(world, |service, token| service.verdict(token).ok()).await
    }

    /// Returns the questions so far.
    pub fn questions(&self) -> Vec<Question> {
        self.questions.lock().expect("no panic").clone()
    }
}

async fn answer_all(
    client: &Client,
    mut subscription: Subscriber,
    service: &AuthService,
    questions: &Mutex<Vec<Question>>,
    answer: impl Fn(&AuthService, &str) -> Option<String>,
) {
    while let Some(question) = subscription.next().await {
        if question.payload == KNOCK {
            reply(client, question, KNOCK.into()).await;
            continue;
        }

        let body: Value = serde_json::from_slice(&question.payload).expect("a question");
        let token = body["token"].as_str().expect("a token").to_owned();
        // A question without a token is a worker's probe of whether the service answers.
        if token.is_empty() {
            let verdict = service.verdict("").expect("a verdict");
            reply(client, question, verdict).await;
            continue;
        }

        let traceparent = question.headers.as_ref().and_then(traceparent);
        questions.lock().expect("no panic").push(Question {
            token: token.clone(),
            traceparent,
        });

        if let Some(verdict) = answer(service, &token)
            && question.reply.is_some()
        {
            reply(client, question, verdict).await;
        }
    }
}

fn traceparent(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("traceparent")?.to_string())
}

async fn reply(client: &Client, question: Message, body: String) {
    let subject = question.reply.expect("a reply subject");

    client.publish(subject, body.into()).await.expect("sent");
}

impl Verifier {
    /// Ends the service: no question is answered any more.
    pub async fn stop(mut self) {
        self.answering.abort();
        let _ = (&mut self.answering).await;
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.answering.abort();
    }
}
