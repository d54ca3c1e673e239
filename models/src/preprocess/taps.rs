//! Which source samples an output sample is made of, and with what weights, along one axis.
//!
//! Shrinking: the exact area average of the interval an output sample covers (a box filter, so that nothing aliases
//! at 1080 to 234 lines). Growing: linear between the two nearest sample centres, the border sample repeated.

/// Weights of one output sample add up to this.
pub(super) const ONE: i32 = 1 << 14;

/// What one output sample is made of: a first and a last sample with weights of their own, and between them samples
/// of equal weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap {
    /// Index of the first sample.
    pub first: usize,
    /// Its weight, 0..1.
    pub first_weight: f64,
    /// How many samples of equal weight follow it.
    pub inner: usize,
    /// The weight of each of those, 0..1.
    pub inner_weight: f64,
    /// Index of the last sample.
    pub last: usize,
    /// Its weight, 0..1.
    pub last_weight: f64,
}

/// The taps of all output samples along one axis, in two shapes: as intervals for rows, as dot products for columns.
#[derive(Debug)]
pub(super) struct Taps {
    taps: Vec<Tap>,
    /// The source samples that are needed: from, to (exclusive).
    range: (usize, usize),
    /// Length of each dot product.
    width: usize,
    starts: Vec<usize>,
    weights: Vec<i16>,
}

impl Taps {
    /// `count` output samples over the interval `[from, to)` of a line of `samples` (unit: samples; sample i covers
    /// i..i+1).
    pub(super) fn new([from, to]: [f64; 2], count: usize, samples: usize) -> Self {
        let step = (to - from) / count as f64;
        let last = samples.saturating_sub(1);
        let taps: Vec<Tap> = (0..count)
            .map(|i| {
                let start = from + i as f64 * step;
                if step > 1.0 { area(start, start + step, last) } else { linear(start + step / 2.0, last) }
            })
            .collect();
        let low = taps.iter().map(|t| t.first).min().unwrap_or(0);
        let high = taps.iter().map(|t| t.last + 1).max().unwrap_or(0);
        let longest = taps.iter().map(|t| t.inner + 2).max().unwrap_or(2);
        // Lengths for which the row loops are unrolled; see rows.rs.
        let width = [2, 4, 8, 16].into_iter().find(|w| *w >= longest).unwrap_or(longest);
        let mut weights = vec![0; width * count];
        for (tap, row) in taps.iter().zip(weights.chunks_exact_mut(width)) {
            tap.dot_product(row);
        }
        let starts = taps.iter().map(|t| t.first - low).collect();
        Self { taps, range: (low, high), width, starts, weights }
    }

    /// What one output sample is made of.
    pub(super) fn get(&self, index: usize) -> Option<&Tap> {
        self.taps.get(index)
    }

    pub(super) fn range(&self) -> (usize, usize) {
        self.range
    }

    /// Length of each dot product: a line must be so much longer than its range.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// For each output sample: where it starts, counted from the range's start, and its `width` weights; `N` is
    /// `width`.
    pub(super) fn dot_products<const N: usize>(&self) -> (&[usize], &[[i16; N]]) {
        (&self.starts, self.weights.as_chunks::<N>().0)
    }

    /// The same one by one, for lengths that are not unrolled.
    pub(super) fn long_dot_products(&self) -> impl Iterator<Item = (usize, &[i16])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.width))
    }
}

fn area(start: f64, end: f64, last: usize) -> Tap {
    let limit = (last + 1) as f64;
    let (start, end) = (start.clamp(0.0, limit), end.clamp(0.0, limit));
    // A rounding error at the far border must not open another sample.
    let first = (start as usize).min(last);
    let end_index = ((end - 1e-9).max(start) as usize).clamp(first, last);
    let length = (end - start).max(1e-9);
    if end_index == first {
        return Tap { first, first_weight: 1.0, inner: 0, inner_weight: 0.0, last: first, last_weight: 0.0 };
    }
    Tap {
        first,
        first_weight: ((first + 1) as f64 - start) / length,
        inner: end_index - first - 1,
        inner_weight: 1.0 / length,
        last: end_index,
        last_weight: (end - end_index as f64) / length,
    }
}

fn linear(center: f64, last: usize) -> Tap {
    let at = (center - 0.5).clamp(0.0, last as f64);
    let first = (at as usize).min(last);
    let next = (first + 1).min(last);
    let share = at - first as f64;
    Tap { first, first_weight: 1.0 - share, inner: 0, inner_weight: 0.0, last: next, last_weight: share }
}

impl Tap {
    /// Weights of consecutive samples from `first` on, in units of 1 / [`ONE`]; the rounding error goes to the largest,
    /// so that a grey picture stays exactly as grey.
    fn dot_product(&self, weights: &mut [i16]) {
        let unit = |weight: f64| (weight * f64::from(ONE)).round() as i16;
        weights[0] = unit(self.first_weight);
        weights[1..=self.inner].fill(unit(self.inner_weight));
        // Where the border sample is repeated, first and last are one.
        weights[self.last - self.first] += unit(self.last_weight);
        let missing = ONE - weights.iter().map(|w| i32::from(*w)).sum::<i32>();
        if let Some(largest) = weights.iter_mut().max_by_key(|w| **w) {
            *largest += missing as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shrinking_takes_exactly_the_interval() {
        let taps = Taps::new([0.0, 10.0], 4, 10);
        let tap = taps.get(1).unwrap();
        // 2.5..5.0: half of sample 2, all of 3 and 4.
        assert_eq!((tap.first, tap.inner, tap.last), (2, 1, 4));
        assert!((tap.first_weight - 0.2).abs() < 1e-9 && (tap.last_weight - 0.4).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn weights_add_up_and_stay_inside(
            samples in 1usize..6000, from in 0f64..0.9, length in 0.001f64..1.0, count in 1usize..700
        ) {
            let to = (from + length).min(1.0);
            let taps = Taps::new([from * samples as f64, to * samples as f64], count, samples);
            prop_assert!(taps.range().1 <= samples);
            for (index, (start, weights)) in taps.long_dot_products().enumerate() {
                let sum: i32 = weights.iter().map(|w| i32::from(*w)).sum();
                prop_assert_eq!(sum, ONE);
                let tap = taps.get(index).unwrap();
                prop_assert!(tap.last < samples && start + taps.range().0 == tap.first);
                let total = tap.first_weight + tap.inner as f64 * tap.inner_weight + tap.last_weight;
                prop_assert!((total - 1.0).abs() < 1e-6, "{tap:?}");
            }
        }
    }
}
