//! How long requests took: a histogram, its quantiles and its curve.

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::time::Duration;

/// The precision, in significant digits.
const PRECISION_DIGITS: u8 = 3;
/// The quantiles that are reported, and their names in JSON.
pub(super) const QUANTILES: [(f64, &str); 4] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99_9")];

/// Latencies, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    /// Created with the first one.
    histogram: Option<Histogram<u64>>,
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);

        if self.histogram.is_none() {
            self.histogram = Histogram::new(PRECISION_DIGITS).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            // It grows with what it holds, so this cannot fail.
            let _ = histogram.record(micros);
        }
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        match (&mut self.histogram, &other.histogram) {
            (Some(own), Some(other)) => drop(own.add(other)),
            (None, Some(other)) => self.histogram = Some(other.clone()),
            (_, None) => {}
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// Returns the latency that this share of the requests did not exceed; zero if there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let micros = self.histogram.as_ref();

        Duration::from_micros(micros.map_or(0, |all| all.value_at_quantile(share)))
    }

    /// The longest one.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.histogram.as_ref().map_or(0, Histogram::max))
    }

    /// Returns the quantiles, the mean and the longest, in microseconds. Null if there are none.
    pub fn to_json(&self) -> Value {
        let Some(histogram) = &self.histogram else {
            return Value::Null;
        };

        let mut json = json!({"mean": histogram.mean().round(), "max": histogram.max()});
        for (share, name) in QUANTILES {
            json[name] = json!(histogram.value_at_quantile(share));
        }
        json
    }

    /// Returns points of the curve: the share of requests that took longer, and the latency that the
    /// others did not exceed.
    pub fn curve(&self, points: usize) -> Vec<(f64, Duration)> {
        let slowest = 1.0 / self.count().max(2) as f64;
        let step = slowest.powf(1.0 / points.max(1) as f64);
        let shares = (0..=points).map(|at| step.powi(i32::try_from(at).unwrap_or(i32::MAX)));

        shares
            .map(|longer| (longer, self.quantile(1.0 - longer)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(count: u64) -> Latencies {
        let mut latencies = Latencies::default();
        for micros in 1..=count {
            latencies.record(Duration::from_micros(micros));
        }

        latencies
    }

    fn is_near(found: Duration, micros: f64) -> bool {
        (found.as_micros() as f64 / micros - 1.0).abs() < 0.002
    }

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let latencies = up_to(100_000);

        for (share, micros) in [(0.5, 5e4), (0.9, 9e4), (0.99, 9.9e4), (0.999, 9.99e4)] {
            let found = latencies.quantile(share);
            assert!(is_near(found, micros), "{share}: {found:?}");
        }
        assert!(is_near(latencies.max(), 1e5));
        assert_eq!(latencies.count(), 100_000);
    }

    #[test]
    fn one_slow_request_shows_where_it_should() {
        let mut latencies = Latencies::default();
        for _ in 0..999 {
            latencies.record(Duration::from_millis(1));
        }
        latencies.record(Duration::from_secs(3_600));

        assert!(is_near(latencies.quantile(0.99), 1e3));
        assert!(is_near(latencies.quantile(0.9999), 3.6e9));
    }

    #[test]
    fn two_are_added_up() {
        let mut sum = Latencies::default();
        sum.add(&Latencies::default());
        assert_eq!((sum.count(), sum.quantile(0.5)), (0, Duration::ZERO));
        assert_eq!(sum.to_json(), Value::Null);

        sum.add(&up_to(10));
        sum.add(&up_to(30));

        assert_eq!(sum.count(), 40);
        assert_eq!(sum.to_json()["max"], 30);
    }

    #[test]
    fn the_curve_ends_with_the_slowest() {
        let curve = up_to(1_000).curve(10);

        assert_eq!(curve.len(), 11);
        assert!(curve.is_sorted_by_key(|(_, latency)| *latency));
        let (longer, latency) = curve[10];
        assert!((longer - 0.001).abs() < 1e-9 && is_near(latency, 999.0));
    }
}
