//! `gofavorites config`: the settings in force, and what is wrong with them.

use crate::config::Settings;

pub(super) fn run(settings: &Settings) -> anyhow::Result<()> {
    print!("{}", settings.shown()?);
    // After them, so that what is wrong can be looked up.
    Ok(settings.check()?)
}
