//! Limits on one owner's requests in one worker, so that a busy owner does not starve the others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The limits on one owner's requests in one worker.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The most requests under way at a time.
    pub in_flight: usize,
    /// The most requests a second; 0 sets no limit.
    pub per_s: u64,
    /// The most requests that may come at once after a pause.
    pub burst: u64,
}

/// Why an owner's request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The owner has as many requests under way as permitted.
    TooMany,
    /// The owner sends requests faster than permitted.
    TooFast {
        /// The time until the next request is admitted.
        wait: Duration,
        /// How much of the burst is used, in requests.
        used: u64,
    },
}

/// The counts of an owner's requests in this worker.
#[derive(Default)]
pub(super) struct Traffic {
    under_way: AtomicUsize,
    /// When the owner has the full burst again, in microseconds since the worker began: the
    /// theoretical arrival time of the generic cell rate algorithm (ITU-T I.371).
    even_at_us: AtomicU64,
}

impl Traffic {
    /// Counts one more request under way, or returns why it is not admitted.
    pub(super) fn enter(&self, pace: &Pace, began: Instant) -> Result<(), Denied> {
        self.spend(pace, began)?;

        // The request is counted before the check: of two that come at once, only one can take the
        // last place.
        if self.under_way.fetch_add(1, Ordering::AcqRel) >= pace.in_flight {
            self.leave();
            return Err(Denied::TooMany);
        }

        Ok(())
    }

    /// Counts one request less under way.
    pub(super) fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes one request from the owner's rate, if it permits one now.
    fn spend(&self, pace: &Pace, began: Instant) -> Result<(), Denied> {
        if pace.per_s == 0 {
            return Ok(());
        }

        let now = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let each = 1_000_000 / pace.per_s;
        let limit = each * pace.burst.max(1);
        let spent = self
            .even_at_us
            .try_update(Ordering::AcqRel, Ordering::Acquire, |even_at| {
                let next = even_at.max(now) + each;
                (next <= now + limit).then_some(next)
            });

        let wait = |even_at: u64| {
            Duration::from_micros((even_at.max(now) + each).saturating_sub(now + limit))
        };
        let used = |even_at: u64| even_at.saturating_sub(now).div_ceil(each);
        spent.map(|_| ()).map_err(|even_at| Denied::TooFast {
            wait: wait(even_at),
            used: used(even_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_the_rate_holds() {
        let traffic = Traffic::default();
        let pace = Pace {
            in_flight: 1,
            per_s: 10,
            burst: 3,
        };
        let began = Instant::now();

        let admitted = (0..10)
            .filter(|_| traffic.spend(&pace, began).is_ok())
            .count();
        assert_eq!(admitted, 3);

        let Err(Denied::TooFast { wait, used }) = traffic.spend(&pace, began) else {
            panic!("too fast")
        };
        assert_eq!(used, 3);
        assert!(
            wait > Duration::ZERO && wait <= Duration::from_millis(100),
            "{wait:?}"
        );

        // Two tenths of a second later, two more requests are permitted.
        let earlier = began
            .checked_sub(Duration::from_millis(200))
            .expect("the machine runs longer than that");
        let admitted = (0..10)
            .filter(|_| traffic.spend(&pace, earlier).is_ok())
            .count();
        assert_eq!(admitted, 2);
    }

    #[test]
    fn no_rate_is_no_bound() {
        let traffic = Traffic::default();
        let pace = Pace {
            in_flight: 1,
            per_s: 0,
            burst: 0,
        };

        assert!((0..1_000).all(|_| traffic.spend(&pace, Instant::now()).is_ok()));
    }
}
