//! `gofavorites otp verify`: checks a code.

use crate::cli::client::Connection;
use crate::cli::failed::CommandError;
use crate::cli::output::{Output, plain};
use crate::cli::secret_input::SecretInput;
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Check a code, which is read from the standard input or from --file. A code is accepted once.
///
/// Prints `valid`, `wrong` or `already used`. The exit code is 0 only for a valid code, and 1 for
/// any other.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites otp verify bank < code.txt
  gofavorites otp verify bank --file code.txt --json")]
pub(super) struct Verify {
    /// The item's id
    id: String,
    #[command(flatten)]
    input: SecretInput,
    /// The request id: a code is checked once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Verify {
    pub async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let line = self.input.read_line("the code")?;
        // Apps show codes in groups.
        let code: Zeroizing<String> = Zeroizing::new(line.split_whitespace().collect());
        let body = json!({"id": self.id, "code": code.as_str()});
        let reply = self
            .connection
            .write(Operation::OtpVerify, &body, self.request_id.as_deref())
            .await?;

        self.output
            .print(&reply, |_| format!("{}\n", verdict(&reply)))?;

        if reply["valid"] == true {
            Ok(())
        } else {
            Err(CommandError::differs("the code was not accepted").into())
        }
    }
}

/// Returns the verdict of a reply in words.
fn verdict(reply: &Value) -> String {
    match (&reply["valid"], reply["reason"].as_str()) {
        (Value::Bool(true), _) => "valid".to_owned(),
        (_, Some("already_used")) => "already used".to_owned(),
        _ => plain(&reply["reason"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reply_has_its_verdict() {
        for (reply, expected) in [
            (json!({"valid": true}), "valid"),
            (json!({"valid": false, "reason": "wrong"}), "wrong"),
            (
                json!({"valid": false, "reason": "already_used"}),
                "already used",
            ),
        ] {
            assert_eq!(verdict(&reply), expected);
        }
    }
}
