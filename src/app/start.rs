//! The checks before a worker is ready. It waits for what is unavailable. Anything that is wrong
//! ends the start, with a message that says what to do.

use super::connect::ConnectionEvents;
use super::connections::Connections;
use crate::auth::Authenticator;
use crate::config::Role;
use crate::requester::{CallError, Transient};
use crate::truth::{Bucket, TruthError};
use anyhow::bail;
use async_nats::ServerInfo;
use std::fmt::Display;
use std::time::Duration;
use tokio::time::sleep;
use tracing::warn;

/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How long the server's report of a missing permission may take, after its answer to a later
/// request.
const REFUSAL_DELAY_MAX: Duration = Duration::from_millis(100);
/// The oldest server that this service was tested with. Atomic batches and reads of several keys
/// came with 2.11 and 2.12, and their bugs were fixed later.
const SERVER_VERSION_MIN: (u64, u64) = (2, 15);

/// Repeats `attempt` until it succeeds, and returns its result. The log says what the start waits
/// for.
///
/// # Errors
/// An error that waiting would not mend, or a permission that the connection of `events` lacks.
pub(super) async fn wait_for<T, E, F>(
    what: &str,
    events: &ConnectionEvents,
    attempt: impl Fn() -> F,
) -> anyhow::Result<T>
where
    E: Transient + Display + Send + Sync + std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut attempts: u32 = 0;
    loop {
        let error = match attempt().await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };

        if let Some(refused) = events.refused() {
            return Err(anyhow::Error::new(error).context(missing_right(Role::Truth, &refused)));
        }
        if !error.is_unavailable() {
            return Err(error.into());
        }

        attempts += 1;
        if attempts.is_power_of_two() {
            warn!(%error, "waiting for {what}");
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Fails on a server that is too old.
pub(super) fn check_server(server: &ServerInfo) -> anyhow::Result<()> {
    let mut parts = server
        .version
        .split(['.', '-'])
        .map(|part| part.parse::<u64>().unwrap_or_default());
    let major = parts.next().unwrap_or_default();
    let minor = parts.next().unwrap_or_default();

    if (major, minor) < SERVER_VERSION_MIN {
        let (major, minor) = SERVER_VERSION_MIN;
        bail!(
            "nats-server {} is too old: every server of the cluster needs {major}.{minor} or newer",
            server.version
        );
    }

    Ok(())
}

/// Uses each right once that a worker needs later, and fails on one that is missing. Later, a
/// missing right would only show as timeouts.
pub(super) async fn check_rights(bucket: &Bucket, events: &ConnectionEvents) -> anyhow::Result<()> {
    let newest = wait_for("the bucket", events, || bucket.position())
        .await?
        .newest;

    for right in ["write", "read", "follow"] {
        let used = match right {
            "write" => bucket.publish_barrier().await.map(drop),
            "read" => bucket.time_of(newest).await.map(drop),
            _ => bucket.follow(newest).await.map(drop),
        };

        if let Err(error) = used
            && !matches!(error, TruthError::Unavailable(CallError::NotConnected))
        {
            // Not every error is a missing right: a bucket may also be full, for example.
            sleep(REFUSAL_DELAY_MAX).await;
            if let Some(refused) = events.refused() {
                bail!("{}", missing_right(Role::Truth, &refused));
            }
            warn!(%error, "cannot check at start whether the worker may {right} the bucket");
        }
    }

    Ok(())
}

/// Fails if a server has refused something, such as a subscription, since the connections were
/// made.
pub(super) async fn check_refusals(
    connections: &Connections,
    auth: &Authenticator,
    bucket: &Bucket,
) -> anyhow::Result<()> {
    // The answer to a later request shows that the server has processed the subscriptions. A flush
    // does not show that.
    let front = &connections.front;
    while let Err(error) = front.round_trip().await {
        if let Some(refused) = front.events.refused() {
            bail!("{}", missing_right(Role::Front, &refused));
        }
        warn!(
            error = format!("{error:#}"),
            "waiting for the server of the callers"
        );
        sleep(RETRY_PAUSE).await;
    }
    wait_for(
        "the server of the auth service",
        &connections.auth.events,
        || auth.knock(),
    )
    .await?;
    wait_for("the bucket", &connections.truth.events, || {
        bucket.position()
    })
    .await?;
    sleep(REFUSAL_DELAY_MAX).await;

    match connections.events().refused().first() {
        Some((role, refused)) => bail!("{}", missing_right(*role, refused)),
        None => Ok(()),
    }
}

fn missing_right(role: Role, refused: &str) -> String {
    let role = role.name();
    format!("the NATS user of nats.{role} lacks a right, see nats/accounts.conf: {refused}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused() {
        let server = |version: &str| ServerInfo {
            version: version.into(),
            ..ServerInfo::default()
        };

        for new in ["2.15.1", "3.0.0-RC.1"] {
            assert!(check_server(&server(new)).is_ok(), "{new}");
        }
        for old in ["2.9.25", "2.14.0", "1.99.0", ""] {
            let error = check_server(&server(old)).expect_err("too old").to_string();
            assert!(error.contains("2.15"), "{error}");
        }
    }
}
