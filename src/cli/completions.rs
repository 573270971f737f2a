//! `gofavorites completions`: a script with which a shell completes this program's commands.

use super::complete::VARIABLE;
use super::output::print;
use anyhow::Context as _;
use clap::Args;
use clap_complete::Shell;
use clap_complete::env::Shells;

/// Print a script that completes this program's commands, and your own ids and tags.
///
/// The script calls the program, which asks the service, if the environment or a context says where
/// it is.
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
        let shells = Shells::builtins();
        let name = self.shell.to_string();
        let shell = shells.completer(&name).context("no completions for it")?;

        let mut script = Vec::new();
        let program = "gofavorites";
        shell.write_registration(VARIABLE, program, program, program, &mut script)?;

        print(&String::from_utf8_lossy(&script))
    }
}
