//! `gofavorites otp`: stores one-time-password secrets, prints their codes, and checks codes.

mod add;
mod code;
mod verify;
mod watch;

use clap::{Args, Subcommand};

/// Store one-time-password secrets, print their codes, and check codes.
///
/// `gofavorites get otp ID` prints what is stored of an item, and its secret with --reveal.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites otp add bank < uri.txt
  gofavorites otp code bank
  gofavorites otp verify bank < code.txt")]
pub(super) struct Otp {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Store the secret of an otpauth:// URI
    Add(add::Add),
    /// Print an item's present code
    Code(code::Code),
    /// Check a code; it is accepted once
    Verify(verify::Verify),
}

impl Otp {
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Add(add) => add.run().await,
            Command::Code(code) => code.run().await,
            Command::Verify(verify) => verify.run().await,
        }
    }
}
