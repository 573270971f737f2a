//! Compares the limits on requests and replies with the `max_payload` of the NATS server that the
//! worker is connected to.

use crate::front::Front;
use crate::handler::{Limits, LimitsInForce};
use tracing::{info, warn};

/// What a record has beside its item: the clear part, the cipher's overhead and headers, in bytes.
const RECORD_FRAME_BYTES: usize = 4_096;

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

/// Fails if the server of the bucket does not take the largest record that the limits allow.
pub(super) fn check_truth(limits: &Limits, max_payload: usize) -> anyhow::Result<()> {
    let most = limits.record_bytes().saturating_add(RECORD_FRAME_BYTES);
    anyhow::ensure!(
        most <= max_payload,
        "a record has up to {most} bytes with these limits, and the max_payload of the bucket's \
         NATS server is {max_payload}: lower limits.request_bytes or limits.batch, or raise \
         max_payload"
    );

    Ok(())
}

/// Keeps the limits in force within the `max_payload` of the server that `front` is connected to.
/// Returns when the connection is closed.
pub(super) async fn watch(front: Front, limits: LimitsInForce) {
    let mut state = front.state();
    loop {
        let max_payload = state.borrow_and_update().info.max_payload;
        observe(max_payload, &limits);

        if state.changed().await.is_err() {
            return;
        }
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
