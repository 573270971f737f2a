//! Compares the limits on requests and replies with the `max_payload` of the NATS server that the
//! worker is connected to.

use crate::handler::LimitsInForce;
use async_nats::Client;
use std::time::Duration;
use tracing::{info, warn};

/// How often the server's `max_payload` is looked at: it changes with a new connection, and the
/// event of that comes before the client has the new server's information.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Fails if the limits do not fit the server's `max_payload`.
pub(super) fn check(limits: &LimitsInForce) -> anyhow::Result<()> {
    let problems = limits.payload_problems();
    anyhow::ensure!(
        problems.is_empty(),
        "the limits do not fit the NATS server:\n  {}",
        problems.join("\n  ")
    );

    Ok(())
}

/// Keeps the limits in force within the `max_payload` of the server that `client` is connected to.
/// Never returns.
pub(super) async fn watch(client: Client, limits: LimitsInForce) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        observe(client.server_info().max_payload, &limits);
    }
}

/// Takes the server's `max_payload`, and logs what it means if it is another than before.
fn observe(max_payload: usize, limits: &LimitsInForce) {
    if !limits.set_max_payload(max_payload) {
        return;
    }

    let problems = limits.payload_problems();
    if problems.is_empty() {
        info!(max_payload, "the limits fit the NATS server's max_payload");
    }
    for problem in problems {
        warn!(
            max_payload,
            "the limits do not fit the NATS server: {problem}"
        );
    }
}
