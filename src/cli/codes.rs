//! `gofavorites codes`: stores lists of one-time codes, and takes codes from them.

use super::client::Connection;
use super::labels::Labels;
use super::secret_input::SecretInput;
use super::show::{kept, output_secret, print, print_json};
use crate::wire::Operation;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

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
    /// Store a list of codes, new or in place of the present one
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
  gofavorites codes new recovery --file codes.txt --if-version 0")]
struct New {
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

/// Add codes at the end of a list. They are read one a line from the standard input or from --file.
#[derive(Args)]
#[command(after_help = "Example:
  gofavorites codes add recovery < more.txt")]
struct Add {
    #[command(flatten)]
    connection: Connection,
    /// The item's id
    id: String,
    #[command(flatten)]
    input: SecretInput,
    /// The request id: a write is executed once, however often it is sent with the same id
    #[arg(long)]
    request_id: Option<String>,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
}

/// Take the next code of a list: print it, and on the standard error stream how many are left. No
/// code is given out twice.
#[derive(Args)]
#[command(after_help = "Example:
  code=$(gofavorites codes take recovery)")]
struct Take {
    #[command(flatten)]
    connection: Connection,
    /// The item's id
    id: String,
    /// The request id: the same id returns the same code, however often it is sent
    #[arg(long)]
    request_id: Option<String>,
    /// Print the reply as JSON
    #[arg(long)]
    json: bool,
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
        let body = self.body()?;
        let reply = self
            .connection
            .open()
            .await?
            .write(Operation::Put, &body, self.request_id.as_deref())
            .await?;

        print_kept(&reply, self.json)
    }

    fn body(&self) -> anyhow::Result<Value> {
        let mut body = json!({"kind": "codes"});
        if let Some(id) = &self.id {
            body["id"] = json!(id);
        }
        self.labels.fill(&mut body)?;
        if let Some(version) = self.if_version {
            body["if_version"] = json!(version);
        }
        let codes = self.input.read_lines(CODES)?;
        body["data"] = json!({"codes": codes.as_slice()});

        Ok(body)
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let codes = self.input.read_lines(CODES)?;
        let body = json!({"id": self.id, "codes": codes.as_slice()});
        let reply = self
            .connection
            .open()
            .await?
            .write(Operation::CodesAdd, &body, self.request_id.as_deref())
            .await?;

        print_kept(&reply, self.json)
    }
}

impl Take {
    async fn run(self) -> anyhow::Result<()> {
        let body = json!({"id": self.id});
        let reply = self
            .connection
            .open()
            .await?
            .write(Operation::CodesTake, &body, self.request_id.as_deref())
            .await?;

        if self.json {
            return print_json(&reply);
        }
        print(&output_secret(&reply["code"]))?;
        print("\n")?;
        // Not beside the code, so that a program can read the code.
        eprintln!("{} left", reply["remaining"]);
        Ok(())
    }
}

/// Prints the reply to a put, as JSON or for people.
fn print_kept(reply: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_json(reply);
    }

    print(&format!("{}\n", kept(&reply["item"])))
}
