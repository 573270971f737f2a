//! Discovery: the NATS services protocol (ADR-32), so that every NATS tool can list, describe and measure the workers.
//!
//! Every worker answers each of its subjects, in no queue group. The answers are small and made on the spot, one after
//! the other: a flood of questions takes one task.

use super::health::Health;
use crate::domain::Timestamp;
use crate::wire::{Operation, ReplyWall, Subjects, request_schema};
use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures::StreamExt as _;
use futures::stream::{SelectAll, select_all};
use serde_json::{Value, json};
use std::sync::Arc;
use tracing::warn;

/// Answers the questions of the services protocol.
#[derive(Clone)]
pub(super) struct Discovery {
    pub health: Health,
    pub client: Client,
    pub subjects: Subjects,
    pub wall: Arc<ReplyWall>,
    pub queue_group: String,
    /// The service's name: the prefix of its subjects, with `_` for a dot.
    pub name: String,
    /// This worker's id.
    pub id: String,
    pub started: String,
}

impl Discovery {
    /// Subscribes; the questions are answered while the result runs.
    pub async fn start(self) -> Result<impl Future<Output = ()> + Send + use<>, SubscribeError> {
        let own = format!("$SRV.*.{}", self.name);
        let mut questions = Vec::new();
        for subject in ["$SRV.*".to_owned(), format!("{own}.{}", self.id), own] {
            questions.push(self.client.subscribe(subject).await?);
        }
        Ok(self.answer_all(select_all(questions)))
    }

    async fn answer_all(self, mut questions: SelectAll<Subscriber>) {
        while let Some(question) = questions.next().await {
            let Some(answer) = self.answer(&question) else {
                continue;
            };
            if let Some(reply) = question.reply
                && let Err(error) = self.client.publish(reply, answer.to_string().into()).await
            {
                warn!(%error, "an answer of discovery could not be sent");
            }
        }
    }

    /// The answer; none to a question that is none or whose headers cannot be read, or whose reply subject is not one to
    /// answer to.
    fn answer(&self, question: &Message) -> Option<Value> {
        if question.status.is_some() {
            return None;
        }
        self.wall.admits(question.reply.as_deref()).ok()?;
        let verb = question.subject.split('.').nth(1)?;
        let (kind, more) = match verb {
            "PING" => ("ping", json!({})),
            "INFO" => ("info", self.info()),
            "STATS" => ("stats", self.stats()),
            _ => return None,
        };
        let build = &self.health.service.build;
        let mut answer = json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": self.name, "id": self.id, "version": build.version,
            "metadata": {"shard": self.health.service.shard, "commit": build.commit, "built_at": build.built_at},
        });
        if let (Some(answer), Value::Object(more)) = (answer.as_object_mut(), more) {
            answer.extend(more);
        }
        Some(answer)
    }

    fn info(&self) -> Value {
        let limits = self
            .health
            .service
            .limits
            .described(&self.health.service.owners)
            .to_string();
        let endpoints = Operation::ALL.map(|operation| {
            let mut endpoint = self.endpoint(operation);
            endpoint["metadata"] = json!({
                "scope": operation.scope().map_or("", |scope| scope.as_str()),
                "schema": request_schema(operation).to_string(),
                "limits": limits,
                "shard_subject": self.subjects.request_on_shard(self.subjects.shard(), operation),
            });
            endpoint
        });
        json!({"description": "Favourites: private, versioned, in step on every shard", "endpoints": endpoints})
    }

    fn stats(&self) -> Value {
        let endpoints = Operation::ALL.map(|operation| {
            let mut endpoint = self.endpoint(operation);
            if let (Some(endpoint), Value::Object(counted)) = (
                endpoint.as_object_mut(),
                self.health.counters.endpoint(operation),
            ) {
                endpoint.extend(counted);
            }
            endpoint
        });
        json!({"started": self.started, "endpoints": endpoints, "data": self.health.told()})
    }

    fn endpoint(&self, operation: Operation) -> Value {
        json!({
            "name": operation.name().replace('.', "_"),
            "subject": self.subjects.request(operation),
            "queue_group": self.queue_group,
        })
    }
}

/// Now, as the protocol tells times.
pub(super) fn now() -> String {
    Timestamp::now().to_rfc3339()
}
