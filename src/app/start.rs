//! The checks before a worker is ready. It waits for what is unavailable. Anything that is wrong
//! ends the start, with a message that says what to do.

use super::connect::{ConnectionEvents, MissingRight};
use super::connections::{Connections, flush};
use super::echo::Echo;
use super::wait::Wait;
use super::wait_limit::WaitLimit;
use crate::config::Role;
use crate::handler::Service;
use crate::requester::CallError;
use crate::truth::{Bucket, TruthError};
use anyhow::bail;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::warn;

/// The pause between two attempts to reach the server of the callers.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How long a message to the worker's own inbox may take until the start looks for a reason.
const ECHO_LIMIT: Duration = Duration::from_secs(5);
/// How long the server's report of a missing permission may take, after its answer to a later
/// request.
const REFUSAL_DELAY_MAX: Duration = Duration::from_millis(100);

/// Uses each right once that a worker needs later, and fails on one that is missing. Later, a
/// missing right would only show as timeouts.
pub(super) async fn check_rights(bucket: &Bucket, events: &ConnectionEvents) -> anyhow::Result<()> {
    let wait = Wait {
        limit: WaitLimit::FOREVER,
        events: Some(events),
    };
    let newest = wait
        .until_available("the bucket", || bucket.position())
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
            if let Some(refused) = events.missing_right() {
                bail!(refused);
            }
            warn!(%error, "cannot check at start whether the worker may {right} the bucket");
        }
    }

    Ok(())
}

/// Fails if a server has refused something since the connections were made, or if the worker's
/// messages do not get through to the callers' server.
pub(super) async fn check_servers(
    connections: &Connections,
    echo: &Echo,
    service: &Service,
    bucket: &Bucket,
) -> anyhow::Result<()> {
    let wait = |events| Wait {
        limit: WaitLimit::FOREVER,
        events: Some(events),
    };
    wait(&connections.auth.events)
        .until_available("the server of the auth service", || service.auth.knock())
        .await?;
    if let Some(reference) = &service.reference {
        wait(&connections.auth.events)
            .until_available("the server of the auth service", || reference.knock())
            .await?;
    }
    wait(&connections.truth.events)
        .until_available("the bucket", || bucket.position())
        .await?;

    check_refusals(connections).await?;
    check_echo(connections, echo).await
}

/// Fails if a server has refused something, such as a subscription, since the connections were
/// made.
pub(super) async fn check_refusals(connections: &Connections) -> anyhow::Result<()> {
    // The server has processed the subscriptions once it answers what was sent after them.
    let events = connections.events();
    while let Err(error) = flush(&connections.front).await {
        if let Some(refused) = events.missing_right() {
            bail!(refused);
        }
        warn!(
            error = format!("{error:#}"),
            "waiting for the server of the callers"
        );
        sleep(RETRY_PAUSE).await;
    }
    sleep(REFUSAL_DELAY_MAX).await;

    match events.missing_right() {
        Some(refused) => bail!(refused),
        None => Ok(()),
    }
}

/// Waits until a message to the worker's own inbox comes back from the callers' server.
///
/// # Errors
/// The server refuses it.
async fn check_echo(connections: &Connections, echo: &Echo) -> anyhow::Result<()> {
    while timeout(ECHO_LIMIT, echo.arrived()).await.is_err() {
        // Replies may have been refused too, because of their subjects.
        if connections.front.counters().refused_replies() > 0 {
            bail!(MissingRight::of(
                Role::Front,
                "a message to its own inbox does not come back"
            ));
        }
        warn!(
            "waiting for the server of the callers: a message to an own inbox does not come back"
        );
    }

    Ok(())
}
