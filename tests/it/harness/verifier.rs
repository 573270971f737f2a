//! An auth service made by hand: it answers what the test wants, and remembers what it was asked.

use super::world::World;
use futures::StreamExt as _;
use gofavorites::dev::auth_service::{AuthService, VERIFY_SUBJECT};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// What is no question.
const KNOCK: &str = "knock";

/// What the service was asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub token: String,
    pub traceparent: Option<String>,
}

/// It answers until it is dropped.
pub struct Verifier {
    asked: Arc<Mutex<Vec<Question>>>,
    answering: JoinHandle<()>,
}

impl Verifier {
    /// Answers each token with what `answer` gives for it; with nothing at all where that is `None`.
    pub async fn start(
        world: &World,
        answer: impl Fn(&AuthService, &str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let service = AuthService::new(&world.secrets).expect("keys");
        let client = world.connect("auth").await;
        let mut questions = client
            .queue_subscribe(VERIFY_SUBJECT, "auth".into())
            .await
            .expect("a subscription");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answering = tokio::spawn({
            let asked = asked.clone();
            async move {
                while let Some(question) = questions.next().await {
                    if question.payload == KNOCK {
                        client
                            .publish(question.reply.expect("a reply subject"), KNOCK.into())
                            .await
                            .expect("sent");
                        continue;
                    }
                    let body: Value =
                        serde_json::from_slice(&question.payload).expect("a question");
                    let token = body["token"].as_str().expect("a token").to_owned();
                    // About no token: a worker looks whether anybody answers.
                    if token.is_empty() {
                        let nobody = service.verdict("").expect("a verdict");
                        client
                            .publish(question.reply.expect("a reply subject"), nobody.into())
                            .await
                            .expect("sent");
                        continue;
                    }
                    let header = |headers: &async_nats::HeaderMap| {
                        Some(headers.get("traceparent")?.to_string())
                    };
                    let traceparent = question.headers.as_ref().and_then(header);
                    asked.lock().expect("no panic").push(Question {
                        token: token.clone(),
                        traceparent,
                    });
                    let (Some(answer), Some(reply)) = (answer(&service, &token), question.reply)
                    else {
                        continue;
                    };
                    client.publish(reply, answer.into()).await.expect("sent");
                }
            }
        });
        // Until it is known to the server, nobody answers; where the accounts are such that it cannot be asked, so be it.
        let worker = world.connect("worker").await;
        let knock = async { while worker.request(VERIFY_SUBJECT, KNOCK.into()).await.is_err() {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), knock).await;
        Self { asked, answering }
    }

    /// One that tells the truth.
    pub async fn honest(world: &World) -> Self {
        Self::start(world, |service, token| service.verdict(token).ok()).await
    }

    /// What it was asked so far.
    pub fn questions(&self) -> Vec<Question> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl Verifier {
    /// Ends it: nothing is answered any more.
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
