//! The golden pair: one input that any machine can make, and what a network's outputs are like on it.
//!
//! Owns: that input, the sums over outputs, what is near enough. Does not know: sessions, who stores the figures.

use std::collections::BTreeMap;

use crate::manifest::{Golden, InputSpec};

/// Kernels' roundings do not shrink with a mean: one nearer to 0 than this is compared as if it were this.
const LEAST_SCALE: f64 = 1e-3;

/// What all values of one output come to.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputMean {
    /// The graph's name for it.
    pub name: String,
    /// Of the values; not finite where one of them is not.
    pub mean: f64,
    /// Mean of their absolute values.
    pub magnitude: f64,
}

impl OutputMean {
    pub(super) fn of(name: &str, data: &[f32]) -> Self {
        let mean = |value: fn(f32) -> f32| {
            data.iter().map(|v| f64::from(value(*v))).sum::<f64>() / data.len().max(1) as f64
        };
        Self { name: name.to_owned(), mean: mean(|v| v), magnitude: mean(f32::abs) }
    }
}

impl Golden {
    /// Of these outputs, those that can be compared: a mean of infinite values or of none would match nothing.
    pub(crate) fn set_means(&mut self, outputs: &[OutputMean]) {
        let finite = || outputs.iter().filter(|output| output.mean.is_finite());
        self.means = finite().map(|output| (output.name.clone(), output.mean)).collect();
        self.magnitudes = finite().map(|output| (output.name.clone(), output.magnitude)).collect();
    }

    /// The first figure that is not as stated.
    pub(super) fn mismatch(&self, outputs: &[OutputMean]) -> Option<Mismatch> {
        let found = |name: &str| outputs.iter().find(|output| output.name == name);
        let stated = |figures: &BTreeMap<String, f64>, name: &str| {
            figures.get(name).copied().filter(|figure| figure.is_finite())
        };
        self.means.keys().find_map(|name| {
            let mean = stated(&self.means, name)?;
            let magnitude = stated(&self.magnitudes, name);
            let reach = self.tolerance * mean.abs().max(magnitude.unwrap_or(0.0)).max(LEAST_SCALE);
            let far = |figure, expected: f64, found: Option<f64>| {
                let found = found.unwrap_or(f64::NAN);
                let near = (found - expected).abs() <= reach;
                (!near).then(|| Mismatch { output: name.clone(), figure, expected, found })
            };
            far("mean", mean, found(name).map(|output| output.mean))
                .or_else(|| far("mean magnitude", magnitude?, found(name).map(|output| output.magnitude)))
        })
    }
}

/// A figure of an output that is not as the manifest states it.
#[derive(Debug, PartialEq)]
pub(super) struct Mismatch {
    pub output: String,
    pub figure: &'static str,
    pub expected: f64,
    /// NaN where there is no such output.
    pub found: f64,
}

/// Byte i is the top byte of i · `multiplier` (wrapping at 32 bits).
pub(super) fn pixels(spec: &InputSpec, multiplier: u32) -> Vec<u8> {
    (0..spec.len() as u32).map(|i| (i.wrapping_mul(multiplier) >> 24) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Form;

    fn golden(outputs: &[OutputMean]) -> Golden {
        let (form, none) = (Form::U8s8, BTreeMap::new());
        let mut golden =
            Golden { multiplier: 1, form, means: none.clone(), magnitudes: none, tolerance: 0.1 };
        golden.set_means(outputs);
        golden
    }

    #[test]
    fn a_mean_near_zero_is_compared_by_the_size_of_the_values() {
        let golden = golden(&[OutputMean::of("logits", &[-5.0, 5.001, -5.0, 5.001])]);
        let off = |data: &[f32]| golden.mismatch(&[OutputMean::of("logits", data)]).map(|m| m.figure);
        assert_eq!(off(&[-5.02, 4.99, -4.97, 5.0]), None, "a rounding");
        assert_eq!(off(&[-4.0, 6.0, -4.0, 6.0]), Some("mean"));
        assert_eq!(off(&[0.0; 4]), Some("mean magnitude"), "a runtime that gives nothing");
        assert_eq!(off(&[f32::NAN; 4]), Some("mean"));
    }

    #[test]
    fn means_alone_have_a_least_scale() {
        let mut golden = golden(&[OutputMean::of("scores", &[1e-6])]);
        golden.magnitudes.clear();
        assert_eq!(golden.mismatch(&[OutputMean::of("scores", &[5e-5])]), None);
        let found = golden.mismatch(&[OutputMean::of("scores", &[0.5])]).unwrap();
        assert_eq!((found.output.as_str(), found.figure), ("scores", "mean"));
        assert!(golden.mismatch(&[OutputMean::of("other", &[1e-6])]).unwrap().found.is_nan());
    }

    #[test]
    fn what_is_not_finite_is_neither_stated_nor_compared() {
        let outputs = [
            OutputMean::of("masked", &[f32::NEG_INFINITY, 1.0]),
            OutputMean::of("mixed", &[f32::NEG_INFINITY, f32::INFINITY]),
            OutputMean::of("good", &[2.0]),
        ];
        let mut golden = golden(&outputs);
        assert_eq!(golden.means, BTreeMap::from([("good".to_owned(), 2.0)]));
        // As manifests were written before.
        golden.means.insert("masked".to_owned(), f64::NEG_INFINITY);
        golden.means.insert("mixed".to_owned(), f64::NAN);
        assert_eq!(golden.mismatch(&outputs), None);
        let broken = [OutputMean::of("good", &[f32::INFINITY])];
        assert_eq!(golden.mismatch(&broken).unwrap().output, "good");
    }
}
