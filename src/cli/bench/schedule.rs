//! When the requests of a run begin.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// By how much a timer may be late without the service being at fault.
const TIMER_TOLERANCE: Duration = Duration::from_millis(3);

/// Hands out the requests of one round to the callers.
///
/// In a closed loop a caller sends its next request as soon as the last one is answered. So a service
/// that stalls gets fewer requests, and hides its stall. In an open loop the requests have their moments
/// from the beginning, whatever becomes of those before them.
#[derive(Debug)]
pub(super) struct Schedule {
    rate_per_s: Option<f64>,
    length: Option<Duration>,
    count: Option<u64>,
    next: AtomicU64,
}

/// When a request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// At once: a closed loop.
    Now,
    /// At that time after the beginning of the round: an open loop.
    At(Duration),
}

impl Schedule {
    /// Creates the schedule of a round that ends after that time, or that number of requests, or
    /// whichever comes first. With a rate it is an open loop.
    pub fn new(rate_per_s: Option<f64>, length: Option<Duration>, count: Option<u64>) -> Self {
        Self {
            rate_per_s,
            length,
            count,
            next: AtomicU64::new(0),
        }
    }

    /// Returns when the next request begins, `elapsed` after the beginning of the round; `None` if
    /// there is no further one.
    pub fn next(&self, elapsed: Duration) -> Option<Begin> {
        if self.rate_per_s.is_none() && self.length.is_some_and(|length| elapsed >= length) {
            return None;
        }

        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.count.is_some_and(|count| number >= count) {
            return None;
        }
        let Some(rate) = self.rate_per_s else {
            return Some(Begin::Now);
        };
        let at = Duration::from_secs_f64(number as f64 / rate);
        if self.length.is_some_and(|length| at >= length) {
            return None;
        }
        Some(Begin::At(at))
    }
}

/// Returns the moment from which the latency of a request counts.
///
/// A request of an open loop counts from its moment in the schedule, however late a caller is free to
/// send it. Only where a caller waited for that moment, and its timer was a little late, the request
/// counts from when it was sent.
pub(super) fn counted_from(planned: Duration, free_at: Duration, sent_at: Duration) -> Duration {
    let timer_late = sent_at.saturating_sub(planned);

    if free_at <= planned && timer_late <= TIMER_TOLERANCE {
        sent_at
    } else {
        planned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn an_open_loop_has_its_moments_whatever_the_time_is() {
        let schedule = Schedule::new(Some(100.0), Some(ms(50)), None);

        // Two seconds were lost: the moments are those of the plan.
        let begins: Vec<_> = std::iter::from_fn(|| schedule.next(ms(2_000))).collect();

        let planned = [0, 10, 20, 30, 40].map(|at| Begin::At(ms(at)));
        assert_eq!(begins, planned);
    }

    #[test]
    fn a_closed_loop_ends_with_its_time() {
        let schedule = Schedule::new(None, Some(ms(50)), None);

        assert_eq!(schedule.next(ms(0)), Some(Begin::Now));
        assert_eq!(schedule.next(ms(49)), Some(Begin::Now));
        assert_eq!(schedule.next(ms(50)), None);
    }

    #[test]
    fn a_number_of_requests_ends_both() {
        for rate in [None, Some(1_000.0)] {
            let schedule = Schedule::new(rate, None, Some(3));

            let begins = std::iter::from_fn(|| schedule.next(ms(0))).count();

            assert_eq!(begins, 3);
        }
    }

    #[test]
    fn a_request_that_had_to_wait_counts_from_its_moment() {
        // The caller was busy until long after.
        assert_eq!(counted_from(ms(10), ms(900), ms(900)), ms(10));
        // The caller was free, and the timer a millisecond late.
        assert_eq!(counted_from(ms(10), ms(5), ms(11)), ms(11));
        // The whole process stood still.
        assert_eq!(counted_from(ms(10), ms(5), ms(500)), ms(10));
    }
}
