//! YOLO with suppression inside the network or needless (YOLOv10, Ultralytics' end-to-end exports): `[1, N, 6] f32`,
//! each row left, top, right, bottom in input pixels, score 0..1, class.

use vedette_core::Role;

use super::candidates::Candidates;
use super::{Decoded, Family, Guess, InputSize, Keep, Output, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "one row per object, no suppression left: [1,N,6], each x1, y1, x2, y2, score, class";

/// The shape does not tell the number of classes; COCO's is what such exports mostly have.
const COCO_CLASSES: usize = 80;

/// The `[family]` table of a manifest with `kind = "yolo_end2end"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for the rows; default `output0`.
    pub output: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { output: "output0".to_owned() }
    }
}

impl Family for Config {
    fn role(&self) -> Role {
        Role::Detector
    }

    fn outputs(&self) -> Vec<&str> {
        vec![&self.output]
    }

    fn check(&self, outputs: &[(String, Vec<i64>)], _: usize, _: InputSize) -> Result<(), ShapeMismatch> {
        shape::expect(outputs, &self.output, &["1", "N", "6"]).map(|_| ())
    }

    fn decode(&self, outputs: &[Output<'_>], _: InputSize, keep: &Keep) -> Result<Decoded, ShapeMismatch> {
        let output = shape::output(outputs, 0, &self.output)?;
        let (_, 6) = shape::matrix(&output)? else {
            return Err(shape::mismatch(&self.output, "[1, N, 6]", Some(output.shape)));
        };
        let mut found = Candidates::new(keep);
        for &[left, top, right, bottom, score, class] in output.data.as_chunks::<6>().0 {
            // A cast would make class 0 of NaN and of -1.
            if class >= 0.0 && class.is_finite() {
                found.push(class.round() as usize, score, [left, top, right, bottom]);
            }
        }
        Ok(found.ranked())
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], _: InputSize) -> Option<Guess> {
        let [(name, shape)] = outputs else { return None };
        let &[1, 1..=1000, 6] = shape.as_slice() else { return None };
        Some(shape::guess(Role::Detector, COCO_CLASSES, 1, [("output", name.as_str().into())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::RawBox;

    const INPUT: InputSize = InputSize { width: 640, height: 640 };

    #[test]
    fn rows_are_boxes_and_none_suppresses_another() {
        let keep = Keep { min_score: 0.1, classes: vec![true, true, false], nms_iou: 0.5, limit: 10 };
        let rows = [
            [1.0, 2.0, 11.0, 22.0, 0.5, 1.0],
            [1.0, 2.0, 11.0, 22.0, 0.75, 1.0],
            [1.0, 2.0, 11.0, 22.0, 0.9, 2.0],
            [1.0, 2.0, 11.0, 22.0, 0.9, f32::NAN],
            [1.0, 2.0, 11.0, 22.0, 0.9, -1.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ];
        let outputs = [Output { name: "output0", shape: &[1, 6, 6], data: rows.as_flattened() }];
        let found = Config::default().decode(&outputs, INPUT, &keep).unwrap();
        let boxed = |score| RawBox { class: 1, score, xyxy: [1.0, 2.0, 11.0, 22.0] };
        assert_eq!(found, Decoded::Boxes(vec![boxed(0.75), boxed(0.5)]));
    }

    #[test]
    fn shapes_are_guessed_and_refused_by_name() {
        let shapes = [("rows".to_owned(), vec![1, 300, 6])];
        let guess = &crate::families::guess(&shapes, INPUT)[0];
        let family = crate::families::build(guess.table.clone()).unwrap();
        assert_eq!((guess.labels, guess.doubt, family.check(&shapes, 80, INPUT)), (80, 1, Ok(())));
        let error = family.check(&[("rows".to_owned(), vec![1, 300, 7])], 80, INPUT).unwrap_err().to_string();
        assert_eq!(error, "output `rows` should be [1, N, 6], is [1, 300, 7]");
    }
}
