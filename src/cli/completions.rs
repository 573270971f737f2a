//! `gofavorites completions`: a script with which a shell completes this program's commands.

use super::Cli;
use super::output::print;
use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

/// Print a script that completes this program's commands.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites completions bash > ~/.local/share/bash-completion/completions/gofavorites
  gofavorites completions zsh > ~/.zfunc/_gofavorites")]
pub(super) struct Completions {
    /// The shell that the script is for
    shell: Shell,
}

impl Completions {
    pub fn run(&self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "gofavorites", &mut script);

        print(&String::from_utf8_lossy(&script))
    }
}
