//! `gofavorites otp add`: stores the secret of an `otpauth://` URI.

use crate::cli::client::Connection;
use crate::cli::labels::Labels;
use crate::cli::secret_input::{SecretInput, misplaced};
use crate::cli::show::{kept, print, print_json};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// What a prompt and an error call the input.
const URI: &str = "the otpauth:// URI";

/// Store the secret of an otpauth:// URI, as authenticator apps exchange it. The URI is read from
/// the standard input, or from --file.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites otp add bank --tag login < uri.txt
  gofavorites otp add bank --file uri.txt --if-version 0
  zbarimg --quiet --raw qr-code.png | gofavorites otp add")]
pub(super) struct Add {
    #[command(flatten)]
    connection: Connection,
    /// The item's id; the service chooses one if you give none
    id: Option<String>,
    #[command(flatten)]
    input: SecretInput,
    #[command(flatten)]
    labels: Labels,
    /// Only if the item is at this version; 0: only if there is none
    #[arg(long)]
    if_version: Option<u64>,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
}

impl Add {
    pub async fn run(self) -> anyhow::Result<()> {
        let body = self.body()?;
        let reply = self
            .connection
            .open()
            .await?
            .write(Operation::Put, &body, self.request_id.as_deref())
            .await?;

        if self.json {
            return print_json(&reply);
        }
        print(&format!("{}\n", kept(&reply["item"])))
    }

    fn body(&self) -> anyhow::Result<Value> {
        if self.id.as_deref().is_some_and(is_uri) {
            return Err(misplaced(URI).into());
        }

        let mut body = json!({"kind": "otp"});
        if let Some(id) = &self.id {
            body["id"] = json!(id);
        }
        self.labels.fill(&mut body)?;
        if let Some(version) = self.if_version {
            body["if_version"] = json!(version);
        }
        let uri = self.input.read_line(URI)?;
        body["data"] = json!({"uri": uri.as_str()});

        Ok(body)
    }
}

/// Returns whether an id is really the URI, which belongs on the standard input.
fn is_uri(id: &str) -> bool {
    id.trim_start().to_ascii_lowercase().starts_with("otpauth:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        add: Add,
    }

    #[test]
    fn a_uri_in_the_place_of_the_id_is_refused_and_not_repeated() {
        for id in ["otpauth://totp/x?secret=HUSH", " OTPAUTH:hush"] {
            let add = Command::parse_from(["command", id]).add;

            let error = add.body().expect_err("refused").to_string();

            assert!(!error.to_lowercase().contains("hush"), "{error}");
        }
        assert!(!is_uri("bank"));
    }
}
