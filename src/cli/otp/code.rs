//! `gofavorites otp code`: prints the present code of an item.

use super::watch::watch;
use crate::cli::client::Connection;
use crate::cli::freshness::Freshness;
use crate::cli::output::{Output, note, output_secret, print, warn_if_stale};
use crate::wire::Operation;
use clap::Args;
use serde_json::{Value, json};

/// Print an item's present code, and on the standard error stream for how long it is valid.
///
/// If the item's codes follow a counter (HOTP), each call uses the counter up and is a write.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites otp code bank
  gofavorites otp code bank --watch")]
pub(super) struct Code {
    /// The item's id
    id: String,
    /// Print each new code until you press Ctrl-C; not for codes that follow a counter
    #[arg(long, conflicts_with = "request_id")]
    watch: bool,
    #[command(flatten)]
    freshness: Freshness,
    /// The request id: the same id returns the same code of a counter, however often it is sent
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Code {
    pub async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let mut body = json!({"id": self.id});
        self.freshness.fill(&mut body);

        let client = self.connection.open().await?;
        if self.watch {
            return watch(client, &self.id, &body, &self.output).await;
        }
        let reply = client
            .write(Operation::OtpCode, &body, self.request_id.as_deref())
            .await?;

        warn_if_stale(&reply);
        if !self.output.is_text() {
            return self.output.print(&reply, |_| String::new());
        }
        print(&output_secret(&reply["code"]))?;
        print("\n")?;
        // The standard output has the code alone, so that a program can read it.
        note(&validity(&reply));
        Ok(())
    }
}

/// Returns for how long a code is valid, or of which counter it is.
fn validity(reply: &Value) -> String {
    match &reply["valid_for_s"] {
        Value::Null => format!("the code of counter {}", reply["counter"]),
        seconds => format!("valid for {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_valid_for_a_time_or_belongs_to_a_counter() {
        let by_time = json!({"code": "1", "valid_for_s": 12, "period_s": 30});
        let by_counter = json!({"code": "1", "counter": 0, "version": 7});

        assert_eq!(validity(&by_time), "valid for 12 s");
        assert_eq!(validity(&by_counter), "the code of counter 0");
    }
}
