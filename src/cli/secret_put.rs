//! What `otp add` and `codes new` share: the put of an item with a secret.

use super::client::Connection;
use super::failed::{CommandError, refusal};
use super::labels::Labels;
use super::output::Output;
use super::secret_input::SecretInput;
use crate::wire::{Code, Operation};
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
    /// Put it in the place of the item of that id, if there is one
    #[arg(long)]
    replace: bool,
    /// Only if the item is at this version
    #[arg(long, conflicts_with = "replace")]
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
        // A secret that is overwritten by mistake may be the only way into an account.
        let version = match self.if_version {
            None if self.id.is_some() && !self.replace => Some(0),
            version => version,
        };
        if let Some(version) = version {
            body["if_version"] = json!(version);
        }

        Ok(body)
    }

    /// Sends the put, and prints its reply.
    pub async fn send(self, body: &Value) -> anyhow::Result<()> {
        let request_id = self.request_id.as_deref();
        let reply = self
            .connection
            .write(Operation::Put, body, request_id)
            .await;

        let reply = reply.map_err(|error| match refusal(&error) {
            Some(refused) if refused.is(Code::VersionConflict) && body["if_version"] == 0 => {
                let message = "there is an item of this id already: --replace puts the new one in \
                               its place";
                CommandError::refused_saying(refused, message).into()
            }
            _ => error,
        })?;
        self.output.print_kept(&reply)
    }
}
