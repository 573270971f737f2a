//! `gofavorites codes`: stores lists of one-time codes, and takes codes from them.

use super::client::Connection;
use super::output::{Output, note, output_secret, print};
use super::secret_input::SecretInput;
use super::secret_put::SecretPut;
use crate::wire::Operation;
use clap::{Args, Subcommand};
use serde_json::json;

/// What a prompt and an error call the input.
const CODES: &str = "the codes";

/// Store lists of one-time codes, such as recovery codes, and take codes from them.
///
/// `gofavorites get codes ID` prints how many are left, and the codes with --reveal.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites codes new recovery < codes.txt
  gofavorites codes take recovery
  gofavorites codes add recovery --file more.txt")]
pub(super) struct Codes {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Store a list of codes; with --replace in place of the present one
    New(New),
    /// Add codes at the end of a list
    Add(Add),
    /// Take the next code of a list
    Take(Take),
}

/// Store a list of codes, which are read one a line from the standard input or from --file.
///
/// Empty lines, and spaces around a code, are dropped. Codes that were taken from the present list
/// stay taken.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites codes new recovery --tag login < codes.txt
  gofavorites codes new recovery --file codes.txt --replace")]
struct New {
    #[command(flatten)]
    put: SecretPut,
}

/// Add codes at the end of a list. They are read one a line from the standard input or from --file.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites codes add recovery < more.txt")]
struct Add {
    /// The item's id
    id: String,
    #[command(flatten)]
    input: SecretInput,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Take the next code of a list: print it, and on the standard error stream how many are left. No
/// code is given out twice.
#[derive(Args)]
#[command(after_help = "Example:
  code=$(gofavorites codes take recovery)")]
struct Take {
    /// The item's id
    id: String,
    /// The request id: the same id returns the same code, however often it is sent
    #[arg(long)]
    request_id: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

impl Codes {
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::New(new) => new.run().await,
            Command::Add(add) => add.run().await,
            Command::Take(take) => take.run().await,
        }
    }
}

impl New {
    async fn run(self) -> anyhow::Result<()> {
        let mut body = self.put.body("codes")?;
        let codes = self.put.input.read_lines(CODES)?;
        body["data"] = json!({"codes": codes.as_slice()});

        self.put.send(&body).await
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let codes = self.input.read_lines(CODES)?;
        let body = json!({"id": self.id, "codes": codes.as_slice()});
        let reply = self
            .connection
            .write(Operation::CodesAdd, &body, self.request_id.as_deref())
            .await?;

        self.output.print_kept(&reply)
    }
}

impl Take {
    async fn run(self) -> anyhow::Result<()> {
        self.output.refuse_ids()?;
        let body = json!({"id": self.id});
        let reply = self
            .connection
            .write(Operation::CodesTake, &body, self.request_id.as_deref())
            .await?;

        if !self.output.is_text() {
            return self.output.print(&reply, |_| String::new());
        }
        print(&output_secret(&reply["code"]))?;
        print("\n")?;
        // The standard output has the code alone, so that a program can read it.
        note(&format!("{} left", reply["remaining"]));
        Ok(())
    }
}
