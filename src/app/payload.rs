//! Compares the limits on requests and replies with the `max_payload` of the NATS server that the
//! worker is connected to.

use crate::front::Front;
use crate::handler::{Limits, LimitsInForce};
use tracing::{info, warn};

/// The size of what a record has in addition to its item, in bytes: the clear part, the cipher's
/// overhead and headers.
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
    let max_bytes = limits.record_bytes().saturating_add(RECORD_FRAME_BYTES);
    anyhow::ensure!(
        max_bytes <= max_payload,
        "a record has up to {max_bytes} bytes with these limits, and the max_payload of the \
         bucket's NATS server is {max_payload}: lower limits.request_bytes or limits.batch, or \
         raise max_payload"
    );

    Ok(())
}

/// Keeps the limits in force within the `max_payload` of the server that `front` is connected to.
/// Returns when the connection is closed.
pub(super) async fn watch(front: Front, limits: LimitsInForce) {
    let mut state = front.state();

    loop {
        let max_payload = state.borrow_and_update().info.max_payload;
        apply(max_payload, &limits);

        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Applies the server's `max_payload`, and logs whether the limits fit it if it has changed.
fn apply(max_payload: usize, limits: &LimitsInForce) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_whose_records_do_not_fit_is_refused() {
        let limits = Limits::default();
        let max_bytes = limits.record_bytes() + RECORD_FRAME_BYTES;

        let fitting = check_truth(&limits, max_bytes);
        let error = check_truth(&limits, max_bytes - 1).expect_err("too small");

        assert!(fitting.is_ok());
        assert!(
            error.to_string().contains("limits.request_bytes"),
            "{error}"
        );
    }
}
