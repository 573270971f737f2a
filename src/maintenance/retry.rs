//! Retrying what failed because a server is unavailable: a tool runs for a long time, and most
//! outages are short.

use crate::requester::Transient;
use std::fmt::Display;
use std::time::Duration;
use tokio::time::sleep;
use tracing::warn;

/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Calls `attempt` until it succeeds or fails for good, at most `retries_max` more times while a
/// server is unavailable.
pub(super) async fn retry_while_unavailable<T, E, F>(
    retries_max: usize,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Transient + Display,
    F: Future<Output = Result<T, E>>,
{
    let mut retries = 0;
    loop {
        match attempt().await {
            Err(error) if error.is_unavailable() && retries < retries_max => {
                retries += 1;
                if retries.is_power_of_two() {
                    warn!(%error, retries, "a server is unavailable, trying again");
                }
                sleep(RETRY_PAUSE).await;
            }
            ended => return ended,
        }
    }
}
