//! Before a worker is ready: what is away is waited for, and what is not right ends the start, with what to do.

use super::connect::ConnectionEvents;
use crate::requester::{CallError, Transient};
use crate::truth::{Bucket, TruthError};
use anyhow::{Context as _, bail};
use async_nats::ServerInfo;
use std::fmt::Display;
use std::time::Duration;
use tokio::time::sleep;
use tracing::warn;

/// Between one try and the next.
const PAUSE: Duration = Duration::from_millis(250);
/// Time for the server's word that something is not allowed, after the answer to a later request.
const AFTERTHOUGHT: Duration = Duration::from_millis(100);
/// The oldest server that this service was tried on: atomic batches and reads of several keys came with 2.11 and 2.12,
/// and their faults went later.
const OLDEST_SERVER: (u64, u64) = (2, 15);

/// Tries until it is there, and says so; fails at once where waiting would not mend it.
pub(super) async fn wait_for<T, E, F>(
    what: &str,
    events: &ConnectionEvents,
    attempt: impl Fn() -> F,
) -> anyhow::Result<T>
where
    E: Transient + Display + Send + Sync + std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut tries: u32 = 0;
    loop {
        let error = match attempt().await {
            Ok(there) => return Ok(there),
            Err(error) => error,
        };
        if let Some(refused) = events.refused() {
            return Err(anyhow::Error::new(error).context(lacking(&refused)));
        }
        if !error.is_unavailable() {
            return Err(error.into());
        }
        tries += 1;
        if tries.is_power_of_two() {
            warn!(%error, "waiting for {what}");
        }
        sleep(PAUSE).await;
    }
}

/// Fails on a server that is too old.
pub(super) fn check_server(server: &ServerInfo) -> anyhow::Result<()> {
    let mut tasks = server
        .version
        .split(['.', '-'])
        .map(|part| part.parse::<u64>().unwrap_or_default());
    let found = (
        tasks.next().unwrap_or_default(),
        tasks.next().unwrap_or_default(),
    );
    if found < OLDEST_SERVER {
        let (major, minor) = OLDEST_SERVER;
        bail!(
            "nats-server {} is too old: run {major}.{minor} or newer on every server of the cluster",
            server.version
        );
    }
    Ok(())
}

/// Uses each right once that a worker will need later, and fails on one that it lacks: it would show as time-outs only.
pub(super) async fn check_rights(bucket: &Bucket, events: &ConnectionEvents) -> anyhow::Result<()> {
    let newest = wait_for("the truth", events, || bucket.position())
        .await?
        .newest;
    for what in ["a write", "a read", "following"] {
        let used = match what {
            "a write" => bucket.publish_barrier().await.map(drop),
            "a read" => bucket.time_of(newest).await.map(drop),
            _ => bucket.follow(newest).await.map(drop),
        };
        if let Err(error) = used
            && !matches!(error, TruthError::Unavailable(CallError::NotConnected))
        {
            // A read of what was never written, and a full bucket, are answers too.
            sleep(AFTERTHOUGHT).await;
            if let Some(refused) = events.refused() {
                bail!("{}", lacking(&refused));
            }
            warn!(%error, "{what} was tried at start, and failed");
        }
    }
    Ok(())
}

/// Fails if the server has refused something since the connection was made.
pub(super) async fn check_refusals(
    bucket: &Bucket,
    events: &ConnectionEvents,
) -> anyhow::Result<()> {
    // The answer to a later request: so the server has taken the subscriptions, which a flush does not tell.
    wait_for("the truth", events, || bucket.position())
        .await
        .context("the subscriptions may not be known to the server")?;
    sleep(AFTERTHOUGHT).await;
    match events.refused() {
        Some(refused) => bail!("{}", lacking(&refused)),
        None => Ok(()),
    }
}

fn lacking(refused: &str) -> String {
    format!("the NATS user lacks a right, see nats/accounts.conf: {refused}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_as_old_as_its_version_says() {
        let server = |version: &str| ServerInfo {
            version: version.into(),
            ..ServerInfo::default()
        };
        assert!(
            check_server(&server("2.15.1")).is_ok() && check_server(&server("3.0.0-RC.1")).is_ok()
        );
        for old in ["2.9.25", "2.14.0", "1.99.0", ""] {
            let error = check_server(&server(old)).expect_err("too old").to_string();
            assert!(error.contains("2.15"), "{error}");
        }
    }
}
