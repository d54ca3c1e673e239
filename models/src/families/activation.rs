//! What turns raw scores into 0..1, and distributions into distances. Pure.

use serde::Deserialize;

/// What still has to be applied to a network's scores; `none` where the graph did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// They are 0..1 already.
    None,
    /// Each for itself.
    Sigmoid,
    /// Against the other classes of the same row.
    Softmax,
}

impl Activation {
    /// Replaces `scores` by those of `raw`.
    pub(super) fn apply(self, raw: &[f32], scores: &mut Vec<f32>) {
        scores.clear();
        match self {
            Self::None => scores.extend_from_slice(raw),
            Self::Sigmoid => scores.extend(raw.iter().map(|v| sigmoid(*v))),
            Self::Softmax => {
                let top = raw.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                scores.extend(raw.iter().map(|v| (v - top).exp()));
                let sum: f32 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score /= sum);
            }
        }
    }

    /// A raw value below which no score of a row reaches `min_score`: a cheap first sieve. A little low, because
    /// rounding must not cost a box; softmax has none.
    pub(super) fn sieve(self, min_score: f32) -> f32 {
        match self {
            Self::None => min_score,
            Self::Sigmoid if min_score > 0.0 && min_score < 1.0 => {
                (min_score / (1.0 - min_score)).ln() - 0.01
            }
            Self::Sigmoid if min_score >= 1.0 => 8.0,
            _ => f32::NEG_INFINITY,
        }
    }
}

/// 1 / (1 + e^-x).
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The mean of the distribution over 0, 1, 2 … that `logits` describe (Generalized Focal Loss, arXiv 2006.04388,
/// section 3.2).
pub(super) fn expectation(logits: &[f32]) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0f32, 0.0f32);
    for (at, logit) in (0u16..).zip(logits) {
        let weight = (logit - top).exp();
        sum += weight;
        weighted += weight * f32::from(at);
    }
    weighted / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_come_out_as_computed_by_hand() {
        let mut scores = Vec::new();
        Activation::Sigmoid.apply(&[0.0, 3f32.ln(), -(3f32.ln())], &mut scores);
        assert!(scores.iter().zip([0.5, 0.75, 0.25]).all(|(a, b)| (a - b).abs() < 1e-6), "{scores:?}");
        // e^0 : e^(ln 3) = 1 : 3, far from zero too.
        Activation::Softmax.apply(&[1000.0, 1000.0 + 3f32.ln()], &mut scores);
        assert!((scores[0] - 0.25).abs() < 1e-4 && (scores[1] - 0.75).abs() < 1e-4, "{scores:?}");
    }

    #[test]
    fn expectations_weigh_places() {
        assert_eq!(expectation(&[0.0, 0.0, 0.0]), 1.0);
        // Weights 1, 3: 3 / 4.
        assert!((expectation(&[0.0, 3f32.ln()]) - 0.75).abs() < 1e-6);
        assert!(expectation(&[]).is_nan() && expectation(&[f32::NAN, f32::INFINITY]).is_nan());
    }

    #[test]
    fn the_sieve_lets_every_score_through_that_counts() {
        for score in [0.01f32, 0.1, 0.5, 0.9, 0.99] {
            let raw = (score / (1.0 - score)).ln();
            assert!(raw >= Activation::Sigmoid.sieve(score) && raw - 1.0 < Activation::Sigmoid.sieve(score));
        }
    }
}
