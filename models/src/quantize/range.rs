//! The range of values that a tensor is given in int8: histograms of what was seen, and where to cut them.
//!
//! Owns: histogram, percentile, entropy. Does not know: graphs, sessions.

/// At most so many bins; never less than half of it once the range has two values.
const BINS: usize = 4096;
/// Levels that a magnitude can take in int8.
const LEVELS: usize = 128;
/// Candidates for the entropy method's threshold are this many bins apart.
const STRIDE: usize = 16;

/// How the range is chosen from the values seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RangeMethod {
    /// Everything seen.
    MinMax,
    /// The middle so many per cent of the values, such as 99.999; the rest is cut in equal parts from both ends.
    Percentile(f64),
    /// The magnitude at which the int8 distribution loses least information (Kullback-Leibler divergence; Migacz,
    /// "8-bit inference with TensorRT", GTC 2017).
    Entropy,
    /// The one of the others that has the best signal-to-noise ratio on samples that are not calibrated on.
    Auto,
}

/// Values of one tensor. Bins are `2^exponent` wide and lie on multiples of that, so that the result does not depend
/// on the order of the samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    exponent: i32,
    first: i64,
    counts: Vec<u64>,
    min: f32,
    max: f32,
}

impl Histogram {
    /// Adds values; those that are not finite are left out, their number is returned.
    pub(crate) fn add(&mut self, values: &[f32]) -> usize {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let (low, high) = finite().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return values.len();
        }
        self.cover(low, high);
        let scale = f64::from(self.exponent).exp2().recip();
        let mut bad = 0;
        for &v in values {
            if v.is_finite() {
                let bin = (f64::from(v) * scale).floor() as i64 - self.first;
                self.counts[usize::try_from(bin).unwrap_or(0)] += 1;
            } else {
                bad += 1;
            }
        }
        bad
    }

    /// Lowest and highest value seen; none without a value.
    pub(crate) fn extremes(&self) -> Option<(f32, f32)> {
        (!self.counts.is_empty()).then_some((self.min, self.max))
    }

    fn cover(&mut self, low: f32, high: f32) {
        let new = self.counts.is_empty();
        self.min = if new { low } else { self.min.min(low) };
        self.max = if new { high } else { self.max.max(high) };
        let wanted = Self::exponent_for(self.min, self.max);
        let bin = |v: f32| (f64::from(v) / f64::from(wanted).exp2()).floor() as i64;
        let (first, last) = (bin(self.min), bin(self.max));
        let mut counts = vec![0; usize::try_from(last - first).unwrap_or(0) + 1];
        let shift = u32::try_from(wanted - self.exponent).unwrap_or(0).min(62);
        for (at, count) in self.counts.iter().enumerate() {
            let to = ((self.first + at as i64) >> shift) - first;
            counts[usize::try_from(to).unwrap_or(0)] += count;
        }
        (self.exponent, self.first, self.counts) = (wanted, first, counts);
    }

    /// The finest power of two at which the range fits into the bins. Grows with the range, never shrinks.
    fn exponent_for(min: f32, max: f32) -> i32 {
        // Below this a float of that magnitude cannot tell bins apart.
        let magnitude = f64::from(min.abs().max(max.abs()).max(f32::MIN_POSITIVE));
        let span = (f64::from(max) - f64::from(min)).max(magnitude * 1e-6);
        let mut exponent = (span / BINS as f64).log2().floor() as i32;
        let bins = |e: i32| {
            let width = f64::from(e).exp2();
            (f64::from(max) / width).floor() - (f64::from(min) / width).floor() + 1.0
        };
        while bins(exponent) > BINS as f64 {
            exponent += 1;
        }
        exponent
    }

    /// The range by a method; [`RangeMethod::Auto`] is decided elsewhere and here the same as `MinMax`.
    pub(crate) fn range(&self, method: RangeMethod) -> Option<(f32, f32)> {
        let (min, max) = self.extremes()?;
        Some(match method {
            RangeMethod::MinMax | RangeMethod::Auto => (min, max),
            RangeMethod::Percentile(percent) => self.percentile(percent),
            RangeMethod::Entropy => {
                let threshold = self.threshold();
                (min.max(-threshold), max.min(threshold))
            }
        })
    }

    fn percentile(&self, percent: f64) -> (f32, f32) {
        let total: u64 = self.counts.iter().sum();
        let tail = (total as f64 * (1.0 - percent / 100.0) / 2.0) as u64;
        let width = f64::from(self.exponent).exp2();
        let mut passed = 0;
        let mut beyond = move |count: &u64| {
            passed += *count;
            passed > tail
        };
        let mut beyond_high = beyond;
        let edge = |at: usize, add: i64| ((self.first + at as i64 + add) as f64 * width) as f32;
        let low = self.counts.iter().position(&mut beyond).map_or(self.min, |at| edge(at, 0));
        let high = self.counts.iter().rposition(&mut beyond_high).map_or(self.max, |at| edge(at, 1));
        (low.max(self.min), high.min(self.max))
    }

    /// The magnitude to cut at.
    fn threshold(&self) -> f32 {
        let bins = self.first.unsigned_abs().max((self.first + self.counts.len() as i64).unsigned_abs());
        let highest = self.min.abs().max(self.max.abs());
        // Far from zero the grid would have more bins than values: nothing to gain there.
        if bins > 2 * BINS as u64 {
            return highest;
        }
        let mut magnitudes = vec![0.0; bins as usize + 1];
        for (at, &count) in self.counts.iter().enumerate() {
            let bin = self.first + at as i64;
            let magnitude = if bin < 0 { -bin - 1 } else { bin };
            magnitudes[magnitude as usize] += count as f64;
        }
        while magnitudes.last() == Some(&0.0) {
            magnitudes.pop();
        }
        let width = f64::from(self.exponent).exp2();
        let mut best = (f64::INFINITY, magnitudes.len());
        let shorter = (LEVELS..magnitudes.len()).step_by(STRIDE);
        for length in shorter.chain([magnitudes.len()]) {
            let loss = divergence(&magnitudes, length);
            if loss < best.0 {
                best = (loss, length);
            }
        }
        ((best.1 as f64 * width) as f32).min(highest)
    }
}

/// Kullback-Leibler divergence of the distribution cut at `length` from the same in [`LEVELS`] levels.
fn divergence(counts: &[f64], length: usize) -> f64 {
    let outliers: f64 = counts[length..].iter().sum();
    let total: f64 = counts.iter().sum();
    let levels = LEVELS.min(length);
    let mut loss = 0.0;
    let inside: f64 = total - outliers;
    if inside <= 0.0 {
        return f64::INFINITY;
    }
    for level in 0..levels {
        let (from, to) = (level * length / levels, (level + 1) * length / levels);
        let group = &counts[from..to];
        let used = group.iter().filter(|count| **count > 0.0).count();
        let mean = group.iter().sum::<f64>() / used.max(1) as f64 / inside;
        for (at, &count) in group.iter().enumerate() {
            let cut = if from + at + 1 == length { outliers } else { 0.0 };
            let p = (count + cut) / total;
            if p > 0.0 {
                // A bin that only the outliers fill: as unlikely as one value in all.
                let q = if count > 0.0 { mean } else { total.recip() };
                loss += p * (p / q).ln();
            }
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.add(values);
        histogram
    }

    #[test]
    fn the_percentile_cuts_the_tails_and_entropy_a_lone_outlier() {
        let mut values: Vec<f32> = (0..10_000).map(|at| at as f32 / 100.0).collect();
        let (low, high) = of(&values).range(RangeMethod::Percentile(90.0)).unwrap();
        assert!((low - 5.0).abs() < 0.1 && (high - 95.0).abs() < 0.1, "{low} {high}");
        assert_eq!(of(&values).range(RangeMethod::MinMax), Some((0.0, 99.99)));
        let (_, even) = of(&values).range(RangeMethod::Entropy).unwrap();
        assert!(even > 95.0, "an even distribution loses nothing by int8: {even}");
        for (at, v) in values.iter_mut().enumerate() {
            let u = (at as f32 + 0.5) / 10_000.0;
            *v = -u.ln();
        }
        values.push(1000.0);
        let (_, cut) = of(&values).range(RangeMethod::Entropy).unwrap();
        assert!(cut < 200.0, "{cut}");
    }

    #[test]
    fn what_is_not_a_number_is_left_out() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.add(&[f32::NAN, f32::INFINITY]), 2);
        assert_eq!(histogram.range(RangeMethod::MinMax), None);
        assert_eq!(histogram.add(&[1.0, f32::NAN]), 1);
        assert_eq!(histogram.range(RangeMethod::Entropy), Some((1.0, 1.0)));
        assert_eq!(of(&[0.0; 9]).range(RangeMethod::Entropy), Some((0.0, 0.0)));
    }

    proptest! {
        #[test]
        fn the_order_of_samples_does_not_matter_and_no_value_is_lost(
            a in prop::collection::vec(-1e6f32..1e6, 1..50),
            b in prop::collection::vec(-1e-3f32..1e-3, 1..50),
            percent in 50.0f64..100.0,
        ) {
            let (mut one, mut two) = (of(&a), of(&b));
            one.add(&b);
            two.add(&a);
            prop_assert_eq!(&one.counts, &two.counts);
            prop_assert_eq!(one.counts.iter().sum::<u64>() as usize, a.len() + b.len());
            prop_assert!(one.counts.len() <= BINS);
            let (min, max) = one.extremes().unwrap();
            for method in [RangeMethod::Percentile(percent), RangeMethod::Entropy] {
                let (low, high) = one.range(method).unwrap();
                prop_assert!(min <= low && low <= high && high <= max, "{method:?} {low} {high}");
            }
        }
    }
}
