//! Counts the requests under way in a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The permits of the requests under way. Unlike a semaphore, it takes the limit with each request,
/// because the limit may change while the worker runs. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Permits(Arc<AtomicUsize>);

/// The permit of one request, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<AtomicUsize>);

impl Permits {
    /// Takes a permit; `None` if `limit` requests or more are under way.
    pub fn take(&self, limit: usize) -> Option<Permit> {
        let more = |count| (count < limit).then_some(count + 1);
        let taken = self.0.try_update(Ordering::AcqRel, Ordering::Acquire, more);

        taken.is_ok().then(|| Permit(self.0.clone()))
    }

    /// Returns how many requests are under way.
    pub fn in_use(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_limit_counts_for_the_next_request() {
        let permits = Permits::default();
        let first = permits.take(2).expect("free");
        let second = permits.take(2).expect("free");
        assert!(permits.take(2).is_none());
        assert_eq!(permits.in_use(), 2);

        let third = permits.take(3).expect("the limit is higher now");
        drop((first, second));
        assert!(permits.take(1).is_none(), "the limit is lower now");

        drop(third);
        assert!(permits.take(1).is_some());
        assert_eq!(permits.in_use(), 0);
    }
}
