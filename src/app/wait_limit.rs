//! Until when a start waits for what is unavailable.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Until when a start waits for what is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitLimit(Option<Instant>);

/// The time to wait was over. It stands in the chain of an error, above the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is unavailable, and the time to wait is over")]
pub struct StillUnavailable(pub(super) String);

impl WaitLimit {
    /// Waits for as long as it takes, as a worker does.
    pub const FOREVER: Self = Self(None);

    /// Waits for at most `limit` from now on. An attempt that is under way then is finished; zero
    /// allows one attempt.
    pub fn from_now(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// Returns whether there is no time left for another attempt.
    pub(super) fn is_over(self) -> bool {
        self.0.is_some_and(|until| until <= Instant::now())
    }

    /// Waits before the next attempt, and returns whether there is time for it.
    pub(super) async fn pause(self, pause: Duration) -> bool {
        let Some(until) = self.0 else {
            sleep(pause).await;
            return true;
        };

        let left = until.saturating_duration_since(Instant::now());
        sleep(pause.min(left)).await;
        !left.is_zero()
    }
}
