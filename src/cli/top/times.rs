//! How long requests took between two answers of workers.

use std::collections::BTreeMap;

/// How many requests took how long: by upper bound in microseconds. What took longer than all bounds
/// is at `u64::MAX`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Times(BTreeMap<u64, u64>);

impl Times {
    /// Returns the requests between two cumulative histograms; `requests` is how many there were in
    /// all.
    pub fn between(before: &[(u64, u64)], now: &[(u64, u64)], requests: u64) -> Self {
        let before: BTreeMap<u64, u64> = before.iter().copied().collect();
        let mut times = BTreeMap::new();

        let mut below = 0;
        for (bound, count) in now {
            let upto = count.saturating_sub(before.get(bound).copied().unwrap_or_default());
            times.insert(*bound, upto.saturating_sub(below));
            below = below.max(upto);
        }
        if !times.is_empty() {
            times.insert(u64::MAX, requests.saturating_sub(below));
        }

        Self(times)
    }

    /// Adds the requests of another worker or operation.
    pub fn add(&mut self, other: &Self) {
        for (bound, count) in &other.0 {
            let sum = self.0.entry(*bound).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// Returns the time, in microseconds, within which this share of the requests was answered.
    /// Within a class, requests count as spread evenly; above all classes, the highest bound is
    /// returned. `None` without requests.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        // In floating point, because a worker may report any number.
        let total: f64 = self.0.values().map(|count| *count as f64).sum();
        if total == 0.0 {
            return None;
        }

        let rank = (share * total).max(1.0);
        let mut below = 0.0;
        let mut lower = 0;
        for (bound, count) in &self.0 {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                let upper = if *bound == u64::MAX { lower } else { *bound };
                let part = (rank - below) / count;
                return Some(lower + ((upper - lower) as f64 * part) as u64);
            }
            below += count;
            lower = *bound;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_is_between_two_answers() {
        let before = [(1_000, 100), (2_000, 100), (4_000, 100)];
        let now = [(1_000, 110), (2_000, 190), (4_000, 200)];

        let times = Times::between(&before, &now, 100);

        assert_eq!(times.quantile(0.1), Some(1_000));
        assert_eq!(times.quantile(0.5), Some(1_500));
        assert_eq!(times.quantile(0.9), Some(2_000));
        assert_eq!(times.quantile(1.0), Some(4_000));
    }

    #[test]
    fn nothing_has_no_quantile() {
        let same = [(1_000, 5)];

        assert_eq!(Times::between(&same, &same, 0).quantile(0.5), None);
        assert_eq!(Times::default().quantile(0.5), None);
    }

    #[test]
    fn what_took_longer_than_all_bounds_counts() {
        let times = Times::between(&[(1_000, 0)], &[(1_000, 1)], 10);

        assert_eq!(times.quantile(0.05), Some(1_000));
        assert_eq!(times.quantile(0.99), Some(1_000));
        assert_eq!(Times::between(&[], &[], 10).quantile(0.5), None);
    }

    #[test]
    fn workers_with_other_bounds_add_up() {
        let mut sum = Times::between(&[], &[(1_000, 10)], 10);

        sum.add(&Times::between(&[], &[(500, 10)], 10));

        assert_eq!(sum.quantile(0.5), Some(500));
        assert_eq!(sum.quantile(1.0), Some(1_000));
    }

    #[test]
    fn counters_that_contradict_each_other_do_no_harm() {
        let times = Times::between(&[(10, 9), (20, 3)], &[(10, 1), (20, 9)], 2);

        assert_eq!(times.quantile(0.5), Some(15));
    }
}
