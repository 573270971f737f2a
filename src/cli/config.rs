//! `gofavorites config`: prints the settings in force and where they come from, then checks them.

use super::Settings;
use super::output::print;
use super::wait::with_exit_code;
use clap::Args;

/// Show the settings in force, secrets hidden, and whether a worker can start with them.
///
/// Each value has a comment with where it comes from: the line of the file, the variable of the
/// environment, or the default. No server is asked.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites config --config shard-a.toml
  gofavorites config --config shard-a.toml --changed")]
pub(super) struct Config {
    #[command(flatten)]
    settings: Settings,
    /// Only print settings that differ from the defaults
    #[arg(long)]
    changed: bool,
}

impl Config {
    pub fn run(self) -> anyhow::Result<()> {
        let (settings, sources) = self.settings.load_unchecked()?;
        print(&settings.shown_with_sources(&sources, self.changed)?)?;

        // The check comes last, so that the reader can look up the setting that it names.
        settings
            .check_all(&sources)
            .map_err(|error| with_exit_code(error.into()))?;
        print("# A worker can start with these settings. No server was asked.\n")
    }
}
