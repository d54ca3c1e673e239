//! Classifiers of whole crops, ImageNet's (torchvision, timm) or attributes: logits or probabilities `[1, C]` or
//! `[1, C, 1, 1]` f32.

use vedette_core::Role;

use super::activation::Activation;
use super::{Decoded, Family, Guess, InputSize, Keep, Output, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "one score per label: [1,C] or [1,C,1,1]";

/// The `[family]` table of a manifest with `kind = "classifier"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for the scores; default `output`.
    pub output: String,
    /// What is still to be applied; default `softmax`.
    pub activation: Activation,
}

impl Default for Config {
    fn default() -> Self {
        Self { output: "output".to_owned(), activation: Activation::Softmax }
    }
}

impl Family for Config {
    fn role(&self) -> Role {
        Role::Classifier
    }

    fn outputs(&self) -> Vec<&str> {
        vec![&self.output]
    }

    fn check(
        &self,
        outputs: &[(String, Vec<i64>)],
        labels: usize,
        _: InputSize,
    ) -> Result<(), ShapeMismatch> {
        let labels = labels.to_string();
        let flat = shape::expect(outputs, &self.output, &["1", &labels]);
        flat.or_else(|e| shape::expect(outputs, &self.output, &["1", &labels, "1", "1"]).map_err(|_| e))
            .map(|_| ())
    }

    fn decode(&self, outputs: &[Output<'_>], _: InputSize, _: &Keep) -> Result<Decoded, ShapeMismatch> {
        let output = shape::output(outputs, 0, &self.output)?;
        let (&[1, classes] | &[1, classes, 1, 1]) = output.shape else {
            return Err(shape::mismatch(&self.output, "[1, C] or [1, C, 1, 1]", Some(output.shape)));
        };
        if usize::try_from(classes) != Ok(output.data.len()) {
            let found = format!("{:?} with {} values", output.shape, output.data.len());
            let expected = format!("{classes} values");
            return Err(ShapeMismatch { output: self.output.clone(), expected, found });
        }
        let known = |v: &f32| if v.is_finite() { *v } else { f32::NEG_INFINITY };
        let raw: Vec<f32> = output.data.iter().map(known).collect();
        let mut scores = Vec::new();
        self.activation.apply(&raw, &mut scores);
        // Softmax over nothing but absent values is NaN, and `max` takes the other side of it.
        scores.iter_mut().for_each(|score| *score = if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) });
        Ok(Decoded::Scores(scores))
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], _: InputSize) -> Option<Guess> {
        let [(name, shape)] = outputs else { return None };
        let (&[1 | -1, classes] | &[1 | -1, classes, 1, 1]) = shape.as_slice() else { return None };
        let labels = usize::try_from(classes).ok().filter(|classes| *classes > 0)?;
        let doubt = if labels == 1000 { 1 } else { 4 };
        Some(shape::guess(Role::Classifier, labels, doubt, [("output", name.as_str().into())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::build;

    const INPUT: InputSize = InputSize { width: 224, height: 224 };

    fn scores(activation: &str, shape: &[i64], data: &[f32]) -> Vec<f32> {
        let table = format!("kind = 'classifier'\nactivation = '{activation}'").parse().unwrap();
        let keep = Keep { min_score: 0.0, classes: Vec::new(), nms_iou: 1.0, limit: 0 };
        let outputs = [Output { name: "output", shape, data }];
        match build(table).unwrap().decode(&outputs, INPUT, &keep).unwrap() {
            Decoded::Scores(scores) => scores,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scores_are_as_computed_by_hand() {
        let near =
            |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        let ln3 = 3f32.ln();
        // Weights 1 : 3, the absent one 0.
        assert!(near(&scores("softmax", &[1, 3], &[0.0, ln3, f32::NAN]), &[0.25, 0.75, 0.0]));
        assert!(near(&scores("sigmoid", &[1, 2, 1, 1], &[0.0, ln3]), &[0.5, 0.75]));
        assert!(near(&scores("none", &[1, 3], &[0.3, 1.5, f32::INFINITY]), &[0.3, 1.0, 0.0]));
        assert_eq!(scores("softmax", &[1, 2], &[f32::NAN, f32::NAN]), [0.0, 0.0]);
    }

    #[test]
    fn other_shapes_are_refused_by_name_and_imagenet_is_recognised() {
        let shapes = |axes: &[i64]| [("logits".to_owned(), axes.to_vec())];
        let guess = &crate::families::guess(&shapes(&[1, 1000]), INPUT)[0];
        assert_eq!((guess.role, guess.labels, guess.doubt), (Role::Classifier, 1000, 1));
        let family = build(guess.table.clone()).unwrap();
        assert_eq!(family.check(&shapes(&[1, 1000, 1, 1]), 1000, INPUT), Ok(()));
        let error = family.check(&shapes(&[1, 10]), 1000, INPUT).unwrap_err().to_string();
        assert_eq!(error, "output `logits` should be [1, 1000], is [1, 10]");
    }
}
