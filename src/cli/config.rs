//! `gofavorites config`: prints the settings in force, then checks them.

use crate::config::Settings;

pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    print!("{}", settings.shown()?);

    // The check comes last, so that the reader can look up the setting that it names.
    Ok(settings.check()?)
}
