//! The scale at which few bits hold weights best.
//!
//! Owns: the search for the least squared error. Does not know: tensors, how scales are shared.

use super::WeightStorage;
use crate::quantize::runner::Noise;

/// Scales tried between a third of the one that clips nothing and that one: beyond it the error only grows, and below
/// a third even Laplacian weights in int4 lose more to clipping than they gain.
const STEPS: usize = 40;
const NARROWEST: f32 = 0.3;
/// Least-squares steps behind the search; it is at rest after three or four.
const MOST_REFITS: usize = 6;

/// The scale with the least squared error, `None` where all values are 0 (or so small that their scale has no inverse).
/// A search over clipping ranges, then in turns: values for the scale, the least-squares scale for the values.
pub(super) fn fit(values: &[f32], storage: WeightStorage) -> Option<f32> {
    let peak = values.iter().fold(0f32, |peak, v| peak.max(v.abs()));
    let widest = peak / storage.range().1;
    if !widest.is_finite() || widest < f32::MIN_POSITIVE * 256.0 {
        return None;
    }
    let tried = (0..=STEPS).map(|at| widest * (NARROWEST + (1.0 - NARROWEST) * at as f32 / STEPS as f32));
    let first = (f64::INFINITY, widest);
    let mut best = tried
        .map(|scale| (error(values, scale, storage), scale))
        .fold(first, |best, next| if next.0 < best.0 { next } else { best });
    for _ in 0..MOST_REFITS {
        let scale = refit(values, best.1, storage);
        let next = (error(values, scale, storage), scale);
        if next.0.partial_cmp(&best.0) != Some(std::cmp::Ordering::Less) {
            break;
        }
        best = next;
    }
    Some(best.1)
}

/// The value as it is stored.
pub(super) fn round(value: f32, scale: f32, storage: WeightStorage) -> f32 {
    let (low, high) = storage.range();
    (value / scale).round_ties_even().clamp(low, high)
}

fn error(values: &[f32], scale: f32, storage: WeightStorage) -> f64 {
    values.iter().map(|v| f64::from(v - round(*v, scale, storage) * scale).powi(2)).sum()
}

fn refit(values: &[f32], scale: f32, storage: WeightStorage) -> f32 {
    let rounded = values.iter().map(|v| (f64::from(*v), f64::from(round(*v, scale, storage))));
    let (product, square) = rounded.fold((0.0, 0.0), |(p, s), (v, q)| (p + v * q, s + q * q));
    (product / square) as f32
}

/// Signal to noise of weights stored so, in dB; 200 of none at all.
pub(super) fn snr_db(values: &[f32], stored: &[i8], scale_of: impl Fn(usize) -> f32) -> f64 {
    let mut noise = Noise::default();
    let found: Vec<f32> = stored.iter().enumerate().map(|(at, q)| f32::from(*q) * scale_of(at)).collect();
    noise.add(values, &found);
    noise.db().unwrap_or(200.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_on_a_grid_comes_back() {
        let values: Vec<f32> = (-8..8i8).map(|v| f32::from(v) * 0.25).collect();
        let scale = fit(&values, WeightStorage::Int4).unwrap();
        assert!((scale - 0.25).abs() < 1e-6, "{scale}");
        assert_eq!(fit(&[0.0; 4], WeightStorage::Int8), None);
        assert_eq!(fit(&[1e-40], WeightStorage::Int8), None);
        assert_eq!(fit(&[f32::INFINITY, 1.0], WeightStorage::Int4), None);
    }

    #[test]
    fn an_outlier_is_clipped_for_the_many() {
        let mut values: Vec<f32> = (0..256i16).map(|i| f32::from(i * 37 % 201 - 100) / 100.0).collect();
        values.push(2.0);
        let scale = fit(&values, WeightStorage::Int4).unwrap();
        assert!(scale < 0.9 * 2.0 / 7.0, "{scale}");
    }

    proptest! {
        #[test]
        fn it_is_never_worse_than_clipping_nothing(values in prop::collection::vec(-10f32..10.0, 1..64)) {
            for storage in [WeightStorage::Int8, WeightStorage::Int4] {
                let peak = values.iter().fold(0f32, |p, v| p.max(v.abs()));
                let Some(scale) = fit(&values, storage) else { continue };
                let plain = error(&values, peak / storage.range().1, storage);
                prop_assert!(error(&values, scale, storage) <= plain);
            }
        }
    }
}
