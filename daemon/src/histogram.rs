//! How long something takes, in buckets of fixed bounds: for statistics now, for any renderer of cumulative buckets.
//!
//! Owns: the bounds, counting, estimates of quantiles. Does not know: what is measured, and who locks.

use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Upper bounds of the buckets, milliseconds, each included; what is longer lies in one bucket more.
pub const BOUNDS_MS: [u64; 15] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// Durations since the start. Nothing here ever shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum_micros: u64,
}

impl Histogram {
    /// Notes one duration.
    pub fn note(&mut self, took: Duration) {
        let at = BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < took);
        self.counts[at] += 1;
        self.sum_micros = self.sum_micros.saturating_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }

    /// Each bucket's upper bound in milliseconds, the last has none, and how many took no longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = BOUNDS_MS.into_iter().map(Some).chain([None]);
        let counts = self.counts.into_iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        bounds.zip(counts)
    }

    /// An estimate of the duration that the part `q` (0..1) of all did not exceed, in milliseconds: linear within its
    /// bucket, at most the last bound. None of nothing.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * all as f64;
        let (mut lower, mut below) = (0, 0);
        for (bound, up_to) in self.cumulative() {
            let Some(bound) = bound else { break };
            if up_to > below && up_to as f64 >= rank {
                let share = (rank - below as f64) / (up_to - below) as f64;
                return Some(lower as f64 + (bound - lower) as f64 * share.max(0.0));
            }
            (lower, below) = (bound, up_to);
        }
        Some(lower as f64)
    }
}

impl Serialize for Histogram {
    /// Milliseconds throughout; `buckets` are cumulative, one for each of [`BOUNDS_MS`], then all.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tenths = |ms: f64| (ms * 10.0).round() / 10.0;
        let quantile = |q| self.quantile_ms(q).map(tenths);
        let mut map = serializer.serialize_struct("Histogram", 6)?;
        map.serialize_field("count", &self.count())?;
        map.serialize_field("sum", &tenths(self.sum_micros as f64 / 1e3))?;
        map.serialize_field("p50", &quantile(0.5))?;
        map.serialize_field("p95", &quantile(0.95))?;
        map.serialize_field("p99", &quantile(0.99))?;
        map.serialize_field("buckets", &self.cumulative().map(|(_, up_to)| up_to).collect::<Vec<_>>())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        millis.into_iter().for_each(|ms| histogram.note(Duration::from_millis(ms)));
        histogram
    }

    #[test]
    fn bounds_are_included_and_the_last_bucket_has_none() {
        let histogram = of(BOUNDS_MS.into_iter().chain([60_001, u64::MAX / 2]));
        let up_to: Vec<_> = histogram.cumulative().collect();
        let expected: Vec<_> = BOUNDS_MS.into_iter().map(Some).zip(1..).chain([(None, 17)]).collect();
        assert_eq!(up_to, expected);
        assert_eq!(of([]).cumulative().last(), Some((None, 0)));
        let mut sub = Histogram::default();
        sub.note(Duration::from_micros(1_001));
        assert_eq!(sub.cumulative().nth(1), Some((Some(2), 1)), "just over 1 ms is not up to 1 ms");
        assert_eq!(sub.cumulative().next(), Some((Some(1), 0)));
    }

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_rank() {
        let histogram = of((1..=100).map(|ms| ms * 10));
        // True: 500, 950, 990 ms.
        let estimate = |q| histogram.quantile_ms(q).unwrap();
        assert!((estimate(0.5) - 500.0).abs() < 1e-9, "{}", estimate(0.5));
        assert!((estimate(0.95) - 950.0).abs() < 1e-9, "{}", estimate(0.95));
        assert!((estimate(0.99) - 990.0).abs() < 1e-9, "{}", estimate(0.99));
        assert_eq!(of([]).quantile_ms(0.5), None);
        assert_eq!(of([90_000]).quantile_ms(0.5), Some(60_000.0), "beyond the last bound nothing is known");
        assert_eq!(of([7]).quantile_ms(1.0), Some(10.0));
        assert_eq!(of([7]).quantile_ms(0.0), Some(5.0));
    }

    #[test]
    fn it_is_told_in_milliseconds() {
        let text = serde_json::to_string(&of([1, 3, 3])).unwrap();
        assert_eq!(
            text,
            r#"{"count":3,"sum":7.0,"p50":2.8,"p95":4.8,"p99":5.0,"buckets":[1,1,3,3,3,3,3,3,3,3,3,3,3,3,3,3]}"#
        );
        assert!(serde_json::to_string(&of([])).unwrap().contains(r#""p50":null"#));
    }
}
