//! What an import asks the service for: its limits, the items that are there, and writes.

use crate::cli::client::{Client, Connection};
use crate::cli::failed::{is_refused_with, refusal};
use crate::client::Refused;
use crate::domain::ItemLimits;
use crate::wire::{Code, Operation};
use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::Instant;

/// What a request has beside the operations of its batch, in bytes.
const ENVELOPE_BYTES: usize = 256;
/// What a request has beside its body at most, in bytes: the token and other headers.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// A connection to the service, and its limits.
pub(super) struct Service {
    client: Client,
    pub limits: ItemLimits,
    /// The most operations of a batch, and the most items of a look-up.
    pub batch: usize,
    /// The most bytes that the operations of a batch take.
    pub batch_bytes: usize,
}

impl Service {
    /// Connects, and asks for the limits.
    pub async fn open(connection: &Connection) -> anyhow::Result<Self> {
        let client = connection.open().await?;
        let reply = client.ask(Operation::Limits, &json!({})).await?;
        let limits = &reply["limits"];
        let limit = |name: &str| {
            let value = limits[name]["value"].as_u64().map(usize::try_from);
            value
                .and_then(Result::ok)
                .with_context(|| format!("the service does not tell its limit {name}"))
        };

        let payload = client.nats().server_info().max_payload;
        let request_bytes = limit("request_bytes")?.min(payload.saturating_sub(HEADERS_BYTES_MAX));
        Ok(Self {
            limits: item_limits(limits)?,
            batch: limit("batch")?.max(1),
            batch_bytes: request_bytes.saturating_sub(ENVELOPE_BYTES),
            client,
        })
    }

    /// Returns the items with these keys, each `{kind, id}`, or null where there is none.
    pub async fn look_up(&mut self, keys: &[Value]) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::with_capacity(keys.len());
        let mut at = 0;
        let mut count = keys.len();
        while at < keys.len() {
            count = count.min(keys.len() - at);
            let body = json!({"items": &keys[at..at + count], "consistency": "strong"});

            match self.ask(Operation::Lookup, &body).await {
                Ok(mut reply) => {
                    let Value::Array(found) = reply["items"].take() else {
                        anyhow::bail!("the reply has no items");
                    };
                    items.extend(found);
                    at += count;
                }
                // The reply would not fit.
                Err(error) if count > 1 && is_refused_with(&error, Code::TooLarge) => {
                    count /= 2;
                }
                Err(error) => return Err(error),
            }
        }

        Ok(items)
    }

    /// Returns an item with its secret, or null if it is no longer there.
    pub async fn reveal(&mut self, key: &Value) -> anyhow::Result<Value> {
        let mut body = key.clone();
        body["reveal"] = true.into();
        body["consistency"] = "strong".into();

        revealed(self.ask(Operation::Get, &body).await)
    }

    /// Executes those operations that can be executed, and returns what became of each.
    pub async fn write(&mut self, operations: &[&Value]) -> anyhow::Result<Vec<Value>> {
        let body = json!({"mode": "each", "ops": operations});

        self.client.restart_timeout();
        loop {
            // A write in doubt is sent again under its request id by the client. Here it is known
            // that nothing was written.
            let error = match self.client.write(Operation::Batch, &body, None).await {
                Ok(mut reply) => return results(reply["results"].take()),
                Err(error) => error,
            };
            self.pause_or_fail(error).await?;
        }
    }

    async fn ask(&mut self, operation: Operation, body: &Value) -> anyhow::Result<Value> {
        self.client.restart_timeout();
        loop {
            let error = match self.client.ask(operation, body).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            self.pause_or_fail(error).await?;
        }
    }

    /// Waits as long as the service asks to before a retry. Fails with the error if it does not
    /// ask, or if that is beyond the timeout.
    async fn pause_or_fail(&self, error: anyhow::Error) -> anyhow::Result<()> {
        match refusal(&error).and_then(Refused::retry_after) {
            Some(pause) if Instant::now() + pause < self.client.deadline() => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// Returns the item of a reply. One that was deleted after it was looked up is null.
fn revealed(reply: anyhow::Result<Value>) -> anyhow::Result<Value> {
    match reply {
        Ok(mut reply) => Ok(reply["item"].take()),
        Err(error) if is_refused_with(&error, Code::NotFound) => Ok(Value::Null),
        Err(error) => Err(error),
    }
}

fn results(results: Value) -> anyhow::Result<Vec<Value>> {
    match results {
        Value::Array(results) => Ok(results),
        _ => anyhow::bail!("the reply has no results"),
    }
}

/// Returns the limits on one item. One that the service does not tell has its default.
fn item_limits(limits: &Value) -> anyhow::Result<ItemLimits> {
    let mut known = serde_json::to_value(ItemLimits::default())?;
    for (name, value) in known.as_object_mut().into_iter().flatten() {
        if let Some(limit) = limits[name]["value"].as_u64() {
            *value = limit.into();
        }
    }

    Ok(serde_json::from_value(known)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failed::CommandError;

    #[test]
    fn an_item_that_was_deleted_meanwhile_is_not_there() {
        let refused = |code: &str| -> anyhow::Error {
            let error = json!({"code": code, "status": 404, "message": "no", "details": {}});
            let refused = serde_json::from_value(error).expect("a refusal");
            CommandError::refused(&refused).into()
        };

        let item = revealed(Ok(json!({"item": {"id": "a"}})));
        let deleted = revealed(Err(refused("not_found")));
        let forbidden = revealed(Err(refused("forbidden")));

        assert_eq!(item.expect("an item"), json!({"id": "a"}));
        assert_eq!(deleted.expect("none"), Value::Null);
        assert!(forbidden.is_err());
    }

    #[test]
    fn the_limits_are_those_of_the_service() {
        let reply = json!({
            "tags": {"value": 3, "unit": "tags"},
            "batch": {"value": 7, "unit": "operations"},
        });

        let limits = item_limits(&reply).expect("limits");

        assert_eq!(
            limits,
            ItemLimits {
                tags: 3,
                ..ItemLimits::default()
            }
        );
    }
}
