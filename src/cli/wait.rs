//! `--wait`: how long an operator's command waits for an unavailable dependency.

use super::duration::duration_or_zero;
use super::failed::CommandError;
use crate::app::{StillUnavailable, WaitLimit, is_not_authorised};
use crate::config::SettingsError;
use crate::shard::ShardError;
use crate::telemetry::error_chain;
use clap::Args;
use std::time::Duration;

/// How long a command waits before it starts.
#[derive(Args, Clone, Copy)]
pub(super) struct Wait {
    /// How long to wait while NATS, the bucket or Postgres is unavailable, as in 30s; 0 fails at
    /// once [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero)]
    wait: Option<Duration>,
}

impl Wait {
    /// Returns the limit, counted from now on.
    pub fn limit(self) -> WaitLimit {
        self.wait.map_or(WaitLimit::FOREVER, WaitLimit::from_now)
    }
}

/// Returns the error of a start with its exit code: a dependency was not available in time, the NATS
/// user may not do this, or the settings are wrong.
pub(super) fn with_exit_code(error: anyhow::Error) -> anyhow::Error {
    let is_of_settings = error.is::<SettingsError>()
        || matches!(
            error.downcast_ref::<ShardError>(),
            Some(ShardError::OtherShard { .. })
        );

    if error.is::<StillUnavailable>() {
        CommandError::unavailable(error_chain(&error)).into()
    } else if is_not_authorised(&error) {
        CommandError::not_authorised(error_chain(&error)).into()
    } else if is_of_settings {
        CommandError::usage(error_chain(&error)).into()
    } else {
        error
    }
}
