//! `--wait`: how long an operator's command waits for an unavailable dependency.

use super::duration::duration_or_zero;
use super::failed::CommandError;
use crate::app::{StillUnavailable, WaitLimit};
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

/// Returns the error with the exit code for an unavailable dependency, if the wait ended before the
/// dependency was available.
pub(super) fn unavailable(error: anyhow::Error) -> anyhow::Error {
    if error.is::<StillUnavailable>() {
        return CommandError::unavailable(error_chain(&error)).into();
    }

    error
}
