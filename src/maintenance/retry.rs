//! Retrying what failed because a server is unavailable, or for another reason that may pass: a tool
//! runs for a long time, and most outages are short.

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
    attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Transient + Display,
    F: Future<Output = Result<T, E>>,
{
    retry_while(retries_max, E::is_unavailable, attempt).await
}

/// Calls `attempt` until it succeeds, at most `retries_max` more times while its error
/// `may_pass`.
pub(super) async fn retry_while<T, E, F>(
    retries_max: usize,
    may_pass: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut retries = 0;
    loop {
        match attempt().await {
            Err(error) if may_pass(&error) && retries < retries_max => {
                retries += 1;
                if retries.is_power_of_two() {
                    warn!(%error, retries, "trying again");
                }
                sleep(RETRY_PAUSE).await;
            }
            ended => return ended,
        }
    }
}
