//! `gofavorites completions`: what a shell needs to complete our commands.

use super::Cli;
use super::show::print;
use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

/// Print a script that completes this program's commands.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites completions bash > ~/.local/share/bash-completion/completions/gofavorites
  gofavorites completions zsh > ~/.zfunc/_gofavorites")]
pub(super) struct Completions {
    /// For which shell
    shell: Shell,
}

impl Completions {
    pub fn run(&self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "gofavorites", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
