//! What was, over the last minutes, for small charts.

use std::collections::VecDeque;
use std::time::Duration;

/// How long the charts go back.
pub(super) const HISTORY: Duration = Duration::from_secs(300);
/// The shortest time between two points.
const POINT_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// What the charts show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    RequestsPerSecond,
    P99Us,
    Lag,
    BucketBytes,
}

/// The measures at one time, in their order.
pub(super) type Values = [Option<f64>; 4];

/// The measures of a worker, of a shard or of all, over the last minutes.
#[derive(Clone, Debug, Default)]
pub(super) struct History(VecDeque<(Duration, Values)>);

impl History {
    /// Adds what is now. Forgets what is too old.
    pub fn add(&mut self, now: Duration, values: Values) {
        let is_too_soon = |last: &(Duration, Values)| last.0 + POINT_INTERVAL_MIN > now;
        if self.0.back().is_some_and(is_too_soon) {
            return;
        }

        self.0.push_back((now, values));
        while self.0.front().is_some_and(|first| first.0 + HISTORY < now) {
            self.0.pop_front();
        }
    }

    /// The present value.
    pub fn latest(&self, measure: Measure) -> Option<f64> {
        self.0.back()?.1[measure as usize]
    }

    /// Returns the highest value of each of so many equal parts of the last minutes, the oldest
    /// first. The parts begin at fixed times, so that a chart moves by whole cells. The last part is
    /// the present one.
    pub fn chart(&self, measure: Measure, cells: usize, now: Duration) -> Vec<Option<f64>> {
        let mut chart = vec![None; cells];
        let part = HISTORY.as_secs_f64() / cells.max(1) as f64;
        let number = |time: Duration| (time.as_secs_f64() / part) as usize;

        let present = number(now);
        for (at, values) in &self.0 {
            let back = present.saturating_sub(number(*at));
            let value = values[measure as usize];
            if let (Some(value), Some(index)) = (value, cells.checked_sub(back + 1)) {
                chart[index] = Some(chart[index].map_or(value, |other: f64| other.max(value)));
            }
        }
        chart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_chart_ends_with_the_present() {
        let mut history = History::default();
        for (at, rate) in [(600, 1.0), (610, 2.0), (659, 5.0), (660, 3.0)] {
            history.add(seconds(at), [Some(rate), None, None, None]);
        }

        let chart = history.chart(Measure::RequestsPerSecond, 5, seconds(661));

        assert_eq!(chart, [None, None, None, Some(5.0), Some(3.0)]);
        assert_eq!(history.latest(Measure::RequestsPerSecond), Some(3.0));
        assert_eq!(history.chart(Measure::Lag, 3, seconds(661)), [None; 3]);
        assert!(history.chart(Measure::Lag, 0, seconds(661)).is_empty());
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut history = History::default();
        for at in 0..1_000 {
            history.add(seconds(at), [Some(1.0); 4]);
            history.add(seconds(at) + POINT_INTERVAL_MIN / 2, [Some(9.0); 4]);
        }

        assert_eq!(history.0.len(), 301);
        let chart = history.chart(Measure::P99Us, 3, seconds(999));
        assert_eq!(chart, [Some(1.0); 3]);
    }
}
