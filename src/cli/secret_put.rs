//! What `otp add` and `codes new` share: the put of an item with a secret.

use super::client::Connection;
use super::labels::Labels;
use super::output::Output;
use super::secret_input::SecretInput;
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// The put of an item, and the input with its secret.
#[derive(Args)]
pub(super) struct SecretPut {
    /// The item's id; the service chooses one if you give none
    pub id: Option<String>,
    #[command(flatten)]
    pub input: SecretInput,
    #[command(flatten)]
    labels: Labels,
    /// Only if the item is at this version; 0: only if there is none
    #[arg(long)]
    if_version: Option<u64>,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl SecretPut {
    /// Returns the body of the put of an item of that kind, without its data.
    pub fn body(&self, kind: &str) -> anyhow::Result<Value> {
        let mut body = json!({"kind": kind});
        if let Some(id) = &self.id {
            body["id"] = json!(id);
        }
        self.labels.fill(&mut body)?;
        if let Some(version) = self.if_version {
            body["if_version"] = json!(version);
        }

        Ok(body)
    }

    /// Sends the put, and prints its reply.
    pub async fn send(self, body: &Value) -> anyhow::Result<()> {
        let reply = self
            .connection
            .write(Operation::Put, body, self.request_id.as_deref())
            .await?;

        self.output.print_kept(&reply)
    }
}
