//! Discovery: the NATS services protocol (ADR-32), with which every NATS tool can list, describe
//! and measure the workers.
//!
//! Every worker answers each of its subjects, in no queue group. The answers are small, and one
//! task makes them one after the other, so a flood of requests takes no more than that task.

use super::health::Health;
use crate::domain::Timestamp;
use crate::front::{Front, HeaderBlock, InvalidSubject, Message, RawSubject, Subscription};
use crate::wire::{Operation, ReplyWall, Subjects, request_schema};
use futures::StreamExt as _;
use futures::stream::{SelectAll, select_all};
use serde_json::{Value, json};
use std::sync::Arc;
use tracing::warn;

/// Answers the requests of the services protocol.
#[derive(Clone)]
pub(super) struct Discovery {
    pub health: Health,
    pub front: Front,
    pub subjects: Subjects,
    pub wall: Arc<ReplyWall>,
    pub queue_group: String,
    /// The service's name: the prefix of its subjects, with `_` for a dot.
    pub name: String,
    /// This worker's id.
    pub id: String,
    /// When the worker started, in RFC 3339.
    pub started: String,
}

impl Discovery {
    /// Subscribes. The returned future answers requests for as long as it is polled.
    pub fn start(self) -> Result<impl Future<Output = ()> + Send + use<>, InvalidSubject> {
        let own = format!("$SRV.*.{}", self.name);
        let mut requests = Vec::new();
        for subject in ["$SRV.*".to_owned(), format!("{own}.{}", self.id), own] {
            requests.push(self.front.subscribe(&subject, None)?);
        }

        Ok(self.answer_all(select_all(requests)))
    }

    async fn answer_all(self, mut requests: SelectAll<Subscription>) {
        let headers = HeaderBlock::new();
        while let Some(request) = requests.next().await {
            let reply = request.reply.as_ref().map(RawSubject::to_string_lossy);
            let reply = reply.as_deref();
            let Some((reply, answer)) = reply.zip(self.answer(&request, reply)) else {
                continue;
            };

            let body = answer.to_string();
            if let Err(error) = self.front.publish(reply, &headers, body.as_bytes()).await {
                warn!(%error, "cannot send a reply of the services protocol");
            }
        }
    }

    /// The answer. `None` if the verb is unknown, the headers cannot be read, or the reply subject
    /// is not admitted.
    fn answer(&self, request: &Message, reply: Option<&str>) -> Option<Value> {
        let headers = request.headers.as_ref().ok()?;
        // Only servers write a status.
        if headers.status().is_some() {
            return None;
        }
        self.wall.admits(reply).ok()?;

        let verb = request.subject.as_str().ok()?.split('.').nth(1)?;
        let (kind, fields) = match verb {
            "PING" => ("ping", json!({})),
            "INFO" => ("info", self.info()),
            "STATS" => ("stats", self.stats()),
            _ => return None,
        };

        let build = &self.health.service.build;
        let mut answer = json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": self.name,
            "id": self.id,
            "version": build.version,
            "metadata": {
                "shard": self.health.service.shard,
                "commit": build.commit,
                "built_at": build.built_at,
            },
        });
        if let (Some(answer), Value::Object(fields)) = (answer.as_object_mut(), fields) {
            answer.extend(fields);
        }

        Some(answer)
    }

    fn info(&self) -> Value {
        let limits = self
            .health
            .service
            .limits
            .current()
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

        json!({
            "description": "Favourites: private, versioned, in step on every shard",
            "endpoints": endpoints,
        })
    }

    fn stats(&self) -> Value {
        let endpoints = Operation::ALL.map(|operation| {
            let mut endpoint = self.endpoint(operation);
            if let (Some(endpoint), Value::Object(statistics)) = (
                endpoint.as_object_mut(),
                self.health.counters.endpoint(operation),
            ) {
                endpoint.extend(statistics);
            }
            endpoint
        });

        json!({"started": self.started, "endpoints": endpoints, "data": self.health.to_json()})
    }

    fn endpoint(&self, operation: Operation) -> Value {
        json!({
            "name": operation.name().replace('.', "-"),
            "subject": self.subjects.request(operation),
            "queue_group": self.queue_group,
        })
    }
}

/// The present time as the protocol writes it, in RFC 3339.
pub(super) fn now() -> String {
    Timestamp::now().to_rfc3339()
}
