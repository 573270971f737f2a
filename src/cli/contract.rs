//! `gofavorites contract`: the contract for machines, made of the tables that serve requests.

use super::output::{print, print_json};
use crate::wire::{document, yaml};
use clap::{Args, ValueEnum};

/// What the document begins with, for people who open the file.
const HEAD: &str =
    "# The wire contract for machines (AsyncAPI 3.0), written by `make contract`: do not edit it.
# docs/contract.md is the contract for people, with the rules that a schema cannot express.
";

/// Print the wire contract as an AsyncAPI document, from which programs make clients and types.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites contract > asyncapi.yaml
  gofavorites contract --format json")]
pub(super) struct Contract {
    /// The form of the document
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

impl Contract {
    pub fn run(&self) -> anyhow::Result<()> {
        let document = document()?;

        match self.format {
            Format::Yaml => print(&format!("{HEAD}{}", yaml(&document))),
            Format::Json => print_json(&document),
        }
    }
}
