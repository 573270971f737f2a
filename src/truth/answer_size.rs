//! How much the bucket is asked for at once: so little that one answer holds up the others on the
//! link only briefly, however slow the link is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long one answer may keep the link busy.
const BUSY_MAX: Duration = Duration::from_millis(250);
/// Without a limit the server sends as much at once as it buffers for a connection, and then closes
/// the connection.
const BYTES_MAX: u64 = 2 << 20;
/// Less would cost more questions than it spares waiting.
const BYTES_MIN: u64 = 64 << 10;
/// Before anything is known about the link.
const BYTES_FIRST: u64 = 128 << 10;
/// An answer of less tells nothing about the link.
const MEASURED_BYTES_MIN: u64 = 16 << 10;

/// The bytes to ask for. They follow how fast the answers come.
pub(super) struct AnswerSize(AtomicU64);

/// Measures how fast an answer comes, from its first message to its last: how long somebody waited
/// for it, and not how long it waited for somebody.
#[derive(Default)]
pub(super) struct Meter {
    has_begun: bool,
    bytes: u64,
    waited: Duration,
}

impl Default for AnswerSize {
    fn default() -> Self {
        Self(BYTES_FIRST.into())
    }
}

impl AnswerSize {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns from an answer that was as large as it could be.
    pub(super) fn learn(&self, meter: &Meter) {
        if meter.bytes < MEASURED_BYTES_MIN {
            return;
        }

        let a_second = meter.bytes as f64 / meter.waited.as_secs_f64().max(1e-6);
        let fitting = (a_second * BUSY_MAX.as_secs_f64()) as u64;
        let now = fitting.min(self.bytes() * 2).clamp(BYTES_MIN, BYTES_MAX);
        self.0.store(now, Ordering::Relaxed);
    }
}

impl Meter {
    /// Counts a message that was waited for so long. The first one only begins.
    pub(super) fn count(&mut self, bytes: usize, waited: Duration) {
        if self.has_begun {
            self.bytes += bytes as u64;
            self.waited += waited;
        }
        self.has_begun = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    /// Receives an answer of the size that is asked for, in eight messages, over a link of that many
    /// bytes a second.
    fn receive(size: &AnswerSize, a_second: u64) {
        let message = size.bytes() / 8;
        let waited = Duration::from_secs_f64(message as f64 / a_second as f64);
        let mut meter = Meter::default();
        for _ in 0..8 {
            meter.count(message as usize, waited);
        }

        size.learn(&meter);
    }

    #[test]
    fn a_slow_link_gets_small_answers_and_a_fast_one_large() {
        let size = AnswerSize::default();
        assert_eq!(size.bytes(), BYTES_FIRST);

        for _ in 0..5 {
            receive(&size, 100_000_000);
        }
        assert_eq!(size.bytes(), BYTES_MAX);

        receive(&size, 1_000_000);
        let after_one = size.bytes();
        assert!((240_000..260_000).contains(&after_one), "{after_one}");

        receive(&size, 125_000);
        assert_eq!(size.bytes(), BYTES_MIN);
    }

    #[test]
    fn a_small_answer_tells_nothing() {
        let size = AnswerSize::default();
        let mut meter = Meter::default();
        meter.count(100_000, Duration::from_secs(1));
        meter.count(1_000, Duration::from_secs(1));

        size.learn(&meter);

        assert_eq!(size.bytes(), BYTES_FIRST);
    }
}
