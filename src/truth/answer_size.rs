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
pub(super) struct AnswerSize {
    bytes: AtomicU64,
    /// The shortest time to the first message of an answer so far, in microseconds: what the way there and
    /// back takes, however large the answer is.
    round_trip_us: AtomicU64,
}

/// Measures how fast an answer comes: how long somebody waited for its messages, and not how long they
/// waited for somebody.
///
/// The wait for the first message counts too. Behind a leaf link, which nats-server compresses if the way is
/// long, the messages of one answer come all at once, when the last one has come.
#[derive(Default)]
pub(super) struct Meter {
    bytes: u64,
    waited: Duration,
}

impl Default for AnswerSize {
    fn default() -> Self {
        Self {
            bytes: BYTES_FIRST.into(),
            round_trip_us: u64::MAX.into(),
        }
    }
}

impl AnswerSize {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Learns from the time between a question and the first message of the answer.
    pub(super) fn learn_round_trip(&self, waited: Duration) {
        let waited = waited.as_micros().try_into().unwrap_or(u64::MAX);
        self.round_trip_us.fetch_min(waited, Ordering::Relaxed);
    }

    /// Learns from an answer.
    pub(super) fn learn(&self, meter: &Meter) {
        if meter.bytes < MEASURED_BYTES_MIN {
            return;
        }

        let round_trip = match self.round_trip_us.load(Ordering::Relaxed) {
            // A reader that only pulls never learns it.
            u64::MAX => Duration::ZERO,
            micros => Duration::from_micros(micros),
        };
        let took = meter.waited.saturating_sub(round_trip);
        let a_second = meter.bytes as f64 / took.as_secs_f64().max(1e-6);
        let fitting = (a_second * BUSY_MAX.as_secs_f64()) as u64;
        let now = fitting.min(self.bytes() * 2).clamp(BYTES_MIN, BYTES_MAX);
        self.bytes.store(now, Ordering::Relaxed);
    }
}

impl Meter {
    /// Counts a message that was waited for so long.
    pub(super) fn count(&mut self, bytes: usize, waited: Duration) {
        self.bytes += bytes as u64;
        self.waited += waited;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(400);

    /// Receives an answer of the size that is asked for, over a link of that many bytes a second. Its eight
    /// messages come one by one, or all at once.
    fn receive(size: &AnswerSize, a_second: u64, all_at_once: bool) {
        let message = size.bytes() / 8;
        let each = Duration::from_secs_f64(message as f64 / a_second as f64);
        let mut waits = [each; 8];
        if all_at_once {
            waits = [Duration::ZERO; 8];
            waits[0] = each * 8;
        }
        waits[0] += ROUND_TRIP;

        let mut meter = Meter::default();
        for waited in waits {
            meter.count(message as usize, waited);
        }
        size.learn(&meter);
    }

    #[test]
    fn a_slow_link_gets_small_answers_and_a_fast_one_large() {
        for all_at_once in [false, true] {
            let size = AnswerSize::default();
            assert_eq!(size.bytes(), BYTES_FIRST);
            size.learn_round_trip(ROUND_TRIP);

            for _ in 0..5 {
                receive(&size, 100_000_000, all_at_once);
            }
            assert_eq!(size.bytes(), BYTES_MAX);

            receive(&size, 1_000_000, all_at_once);
            let after_one = size.bytes();
            assert!((240_000..260_000).contains(&after_one), "{after_one}");

            receive(&size, 125_000, all_at_once);
            assert_eq!(size.bytes(), BYTES_MIN);
        }
    }

    #[test]
    fn without_a_known_round_trip_all_of_the_wait_counts() {
        let size = AnswerSize::default();

        receive(&size, 125_000, true);

        assert_eq!(size.bytes(), BYTES_MIN);
    }

    #[test]
    fn a_small_answer_tells_nothing() {
        let size = AnswerSize::default();
        let mut meter = Meter::default();
        meter.count(1_000, Duration::from_secs(1));

        size.learn(&meter);

        assert_eq!(size.bytes(), BYTES_FIRST);
    }
}
