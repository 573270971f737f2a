//! Waiting for what a start needs and is only unavailable, such as a server that is down.

use super::connect::ConnectionEvents;
use super::wait_limit::{StillUnavailable, WaitLimit};
use crate::requester::Transient;
use std::error::Error;
use std::fmt::Display;
use std::time::Duration;
use tracing::warn;

/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Waits for the answers that a start needs.
pub(super) struct Wait<'a> {
    pub limit: WaitLimit,
    /// The connection on which the attempts are made, if it is one to NATS.
    pub events: Option<&'a ConnectionEvents>,
}

impl Wait<'_> {
    /// Repeats `attempt` until it succeeds, and returns its result. The log says what the start
    /// waits for.
    ///
    /// # Errors
    /// An error that waiting would not mend, a permission that the connection lacks, or
    /// [`StillUnavailable`] when the limit is reached.
    pub async fn until_available<T, E, F>(
        &self,
        what: &str,
        attempt: impl Fn() -> F,
    ) -> anyhow::Result<T>
    where
        E: Transient + Display + Send + Sync + Error + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let mut attempts: u32 = 0;
        loop {
            let error = match attempt().await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };

            if let Some(refused) = self.events.and_then(ConnectionEvents::missing_right) {
                return Err(anyhow::Error::new(error).context(refused));
            }
            if !error.is_unavailable() {
                return Err(error.into());
            }

            attempts += 1;
            if attempts.is_power_of_two() && !self.limit.is_over() {
                warn!(%error, "waiting for {what}");
            }
            if !self.limit.pause(RETRY_PAUSE).await {
                let over = StillUnavailable(what.to_owned());
                return Err(anyhow::Error::new(error).context(over));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requester::CallError;
    use std::cell::Cell;
    use tokio::time::Instant;

    async fn attempts(limit: WaitLimit) -> (u32, anyhow::Error) {
        let attempts = Cell::new(0);
        let wait = Wait {
            limit,
            events: None,
        };

        let attempt = || {
            attempts.set(attempts.get() + 1);
            async { Err::<(), _>(CallError::NotConnected) }
        };
        let error = wait.until_available("the bucket", attempt).await;

        (attempts.get(), error.expect_err("never available"))
    }

    #[tokio::test(start_paused = true)]
    async fn without_time_there_is_one_attempt() {
        let (attempts, error) = attempts(WaitLimit::from_now(Duration::ZERO)).await;

        assert_eq!(attempts, 1);
        assert!(error.is::<StillUnavailable>());
        assert_eq!(error.root_cause().to_string(), "not connected to NATS");
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_ends_the_wait() {
        let start = Instant::now();

        let (attempts, _) = attempts(WaitLimit::from_now(Duration::from_secs(1))).await;

        assert_eq!(attempts, 5);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}
