//! `gofavorites otp add`: stores the secret of an `otpauth://` URI.

use crate::cli::secret_input::{is_uri, misplaced};
use crate::cli::secret_put::SecretPut;
use clap::Args;
use serde_json::{Value, json};

/// What a prompt and an error call the input.
const URI: &str = "the otpauth:// URI";

/// Store the secret of an otpauth:// URI, as authenticator apps exchange it. The URI is read from
/// the standard input, or from --file.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites otp add bank --tag login < uri.txt
  gofavorites otp add bank --file uri.txt --replace
  zbarimg --quiet --raw qr-code.png | gofavorites otp add")]
pub(super) struct Add {
    #[command(flatten)]
    put: SecretPut,
}

impl Add {
    pub async fn run(self) -> anyhow::Result<()> {
        let body = self.body()?;
        self.put.send(&body).await
    }

    fn body(&self) -> anyhow::Result<Value> {
        if self.put.id.as_deref().is_some_and(is_uri) {
            return Err(misplaced(URI).into());
        }

        let mut body = self.put.body("otp")?;
        let uri = self.put.input.read_line(URI)?;
        body["data"] = json!({"uri": uri.as_str()});

        Ok(body)
    }
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
