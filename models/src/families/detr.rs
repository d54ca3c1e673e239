//! DETR and its heirs (facebookresearch/detr, lyuwenyu/RT-DETR, RF-DETR): `logits [1, Q, C] f32` and `boxes
//! [1, Q, 4] f32` (centre, width, height; 0..1 of the input). One query per object, hence no suppression. The original
//! takes softmax over the classes and a last "no object"; RT-DETR and RF-DETR a sigmoid of each class.

use vedette_core::Role;

use super::activation::Activation;
use super::candidates::{Candidates, corners};
use super::{Decoded, Family, Guess, InputSize, Keep, Output, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "one query per object: logits [1,Q,C] or [1,Q,C+1] and boxes [1,Q,4], no suppression";

/// The `[family]` table of a manifest with `kind = "detr"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for the scores; default `logits`.
    pub logits: String,
    /// The graph's name for the boxes; default `pred_boxes`.
    pub boxes: String,
    /// What the scores still need; default `sigmoid`.
    pub activation: Activation,
    /// Whether a column "no object" stands behind the labels; default false.
    pub no_object: bool,
}

impl Default for Config {
    fn default() -> Self {
        let (logits, boxes) = ("logits".to_owned(), "pred_boxes".to_owned());
        Self { logits, boxes, activation: Activation::Sigmoid, no_object: false }
    }
}

impl Family for Config {
    fn role(&self) -> Role {
        Role::Detector
    }

    fn outputs(&self) -> Vec<&str> {
        vec![&self.logits, &self.boxes]
    }

    fn check(
        &self,
        outputs: &[(String, Vec<i64>)],
        labels: usize,
        _: InputSize,
    ) -> Result<(), ShapeMismatch> {
        let boxes = shape::expect(outputs, &self.boxes, &["1", "Q", "4"])?;
        let queries = if boxes[1] < 0 { "Q".to_owned() } else { boxes[1].to_string() };
        let columns = labels.saturating_add(usize::from(self.no_object)).to_string();
        shape::expect(outputs, &self.logits, &["1", &queries, &columns]).map(|_| ())
    }

    fn decode(
        &self,
        outputs: &[Output<'_>],
        input: InputSize,
        keep: &Keep,
    ) -> Result<Decoded, ShapeMismatch> {
        let logits = shape::output(outputs, 0, &self.logits)?;
        let boxes = shape::output(outputs, 1, &self.boxes)?;
        let (queries, columns) = shape::matrix(&logits)?;
        if shape::matrix(&boxes)? != (queries, 4) {
            return Err(shape::mismatch(&self.boxes, &format!("[1, {queries}, 4]"), Some(boxes.shape)));
        }
        let labels = columns.saturating_sub(usize::from(self.no_object));
        let (width, height) = (input.width as f32, input.height as f32);
        let (mut found, mut scores) = (Candidates::new(keep), Vec::new());
        for (row, &[x, y, w, h]) in
            logits.data.chunks_exact(columns.max(1)).zip(boxes.data.as_chunks::<4>().0)
        {
            self.activation.apply(row, &mut scores);
            scores.truncate(labels);
            found.row(&scores, corners([x * width, y * height, w * width, h * height]));
        }
        Ok(found.ranked())
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], _: InputSize) -> Option<Guess> {
        let [first, second] = outputs else { return None };
        let pair = |logits: &[i64], boxes: &[i64]| match (logits, boxes) {
            (&[1 | -1, n, c], &[1 | -1, m, 4]) if n == m && (50..=1000).contains(&n) && c > 0 && c != 4 => {
                usize::try_from(c).ok()
            }
            _ => None,
        };
        let (logits, boxes, labels) = match (pair(&first.1, &second.1), pair(&second.1, &first.1)) {
            (Some(labels), _) => (&first.0, &second.0, labels),
            (_, Some(labels)) => (&second.0, &first.0, labels),
            _ => return None,
        };
        let names = [("logits", logits.as_str().into()), ("boxes", boxes.as_str().into())];
        let doubt = if logits.contains("logits") { 0 } else { 2 };
        Some(shape::guess(Role::Detector, labels, doubt, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::{RawBox, build};

    const INPUT: InputSize = InputSize { width: 200, height: 100 };

    fn decode(keys: &str, logits: &[f32], boxes: &[f32]) -> Vec<RawBox> {
        let family = build(format!("kind = 'detr'\n{keys}").parse().unwrap()).unwrap();
        let keep = Keep { min_score: 0.3, classes: vec![true; 2], nms_iou: 0.5, limit: 10 };
        let queries = boxes.len() as i64 / 4;
        let outputs = [
            Output { name: "logits", shape: &[1, queries, logits.len() as i64 / queries], data: logits },
            Output { name: "pred_boxes", shape: &[1, queries, 4], data: boxes },
        ];
        match family.decode(&outputs, INPUT, &keep).unwrap() {
            Decoded::Boxes(boxes) => boxes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn boxes_are_shares_around_a_centre_and_equal_ones_both_stay() {
        let place = [0.5, 0.5, 0.25, 0.5];
        let found = decode("", &[9.0, -9.0, 0.0, -9.0, f32::NAN, -9.0], &[place, place, place].concat());
        assert_eq!(found.iter().map(|b| b.xyxy).collect::<Vec<_>>(), [[75.0, 25.0, 125.0, 75.0]; 2]);
        assert!(found[0].score > 0.999 && found[1].score == 0.5, "{found:?}");
    }

    #[test]
    fn no_object_takes_its_share_of_the_softmax() {
        // Weights 3 : 1 : 4, the last one nothing's.
        let logits = [3f32.ln(), 0.0, 4f32.ln()];
        let found = decode("activation = 'softmax'\nno_object = true", &logits, &[0.5, 0.5, 0.5, 0.5]);
        assert!(matches!(found[..], [b] if b.class == 0 && (b.score - 0.375).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn rt_detr_is_recognised_and_other_shapes_are_refused_by_name() {
        let shapes = |c| [("pred_boxes".to_owned(), vec![1, 300, 4]), ("logits".to_owned(), vec![1, 300, c])];
        let guess = &crate::families::guess(&shapes(80), INPUT)[0];
        assert_eq!((guess.table["kind"].as_str(), guess.labels, guess.doubt), (Some("detr"), 80, 0));
        let family = build(guess.table.clone()).unwrap();
        assert_eq!(family.check(&shapes(80), 80, INPUT), Ok(()));
        let error = family.check(&shapes(91), 80, INPUT).unwrap_err().to_string();
        assert_eq!(error, "output `logits` should be [1, 300, 80], is [1, 300, 91]");
    }
}
