//! YOLOX (Megvii-BaseDetection/YOLOX, `yolo_head.py` and `demo_utils.py`): one output `[1, N, 5 + C] f32`. Of each
//! point centre, size, objectness and class scores; a box's score is the product of the last two. The project's own
//! export leaves the grid to the reader: centre = (xy + cell) stride, size = exp(wh) stride.

use vedette_core::Role;

use super::activation::Activation;
use super::candidates::{Candidates, corners};
use super::{Decoded, Family, Guess, InputSize, Keep, Output, ShapeMismatch, grid, shape};

/// For help texts.
pub const ABOUT: &str = "anchor-free with objectness: [1,N,5+C]";

/// The `[family]` table of a manifest with `kind = "yolox"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for it; default `output`.
    pub output: String,
    /// Input pixels between points, one grid each; default `[8, 16, 32]`.
    pub strides: Vec<usize>,
    /// Centre and size are in input pixels already (`--decode_in_inference`); default false.
    pub decoded: bool,
    /// What has still to be applied to objectness and scores, `none` or `sigmoid`; default `none`: the export did.
    pub activation: Activation,
}

impl Default for Config {
    fn default() -> Self {
        let (output, strides) = ("output".to_owned(), vec![8, 16, 32]);
        Self { output, strides, decoded: false, activation: Activation::None }
    }
}

impl Family for Config {
    fn role(&self) -> Role {
        Role::Detector
    }

    fn outputs(&self) -> Vec<&str> {
        vec![&self.output]
    }

    fn check(
        &self,
        outputs: &[(String, Vec<i64>)],
        labels: usize,
        input: InputSize,
    ) -> Result<(), ShapeMismatch> {
        if self.activation == Activation::Softmax {
            return Err(shape::mismatch("family.activation", "none or sigmoid", None));
        }
        let points = grid::count(&self.strides, input)?.to_string();
        shape::expect(outputs, &self.output, &["1", &points, &(labels.saturating_add(5)).to_string()])
            .map(|_| ())
    }

    fn decode(
        &self,
        outputs: &[Output<'_>],
        input: InputSize,
        keep: &Keep,
    ) -> Result<Decoded, ShapeMismatch> {
        let output = shape::output(outputs, 0, &self.output)?;
        let (points, columns) = shape::matrix(&output)?;
        let expected = grid::count(&self.strides, input)?;
        if points != expected || columns <= 5 {
            let expected = format!("[1, {expected}, 5 + C]");
            return Err(shape::mismatch(&self.output, &expected, Some(output.shape)));
        }
        let sieve = self.activation.sieve(keep.min_score);
        let (mut scores, mut objectness) = (Vec::new(), Vec::new());
        let mut found = Candidates::new(keep);
        for (row, point) in output.data.chunks_exact(columns).zip(grid::points(&self.strides, input)) {
            // A product is no larger than its objectness: most points end here.
            if row[4].is_nan() || row[4] < sieve {
                continue;
            }
            self.activation.apply(&row[5..], &mut scores);
            self.activation.apply(&row[4..5], &mut objectness);
            scores.iter_mut().for_each(|score| *score *= objectness[0]);
            let [x, y, width, height] = [row[0], row[1], row[2], row[3]];
            let middle = if self.decoded {
                [x, y, width, height]
            } else {
                let stride = point.stride;
                let center = [(x + point.column) * stride, (y + point.row) * stride];
                [center[0], center[1], width.exp() * stride, height.exp() * stride]
            };
            found.row(&scores, corners(middle));
        }
        Ok(found.suppressed())
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], input: InputSize) -> Option<Guess> {
        let [(name, shape)] = outputs else { return None };
        let &[1, points, columns] = shape.as_slice() else { return None };
        usize::try_from(points).ok().filter(|p| *p > 0 && grid::count(&self.strides, input) == Ok(*p))?;
        let labels = usize::try_from(columns).ok()?.checked_sub(5).filter(|n| *n > 0)?;
        // A transposed YOLOv8 output has as many points, and one column less a class.
        Some(shape::guess(Role::Detector, labels, 1, [("output", name.as_str().into())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::RawBox;

    const INPUT: InputSize = InputSize { width: 16, height: 8 };

    fn keep() -> Keep {
        Keep { min_score: 0.3, classes: vec![true; 2], nms_iou: 0.6, limit: 10 }
    }

    #[test]
    fn the_grid_is_applied_unless_the_export_did() {
        // Cell (1, 0) of stride 8: centre (12, 4), size 8 e^0 by 8 e^0.6931.
        let ln2 = std::f32::consts::LN_2;
        let data = [[0.0, 0.0, 0.0, 0.0, 0.1, 0.9, 0.9], [0.5, 0.5, 0.0, ln2, 0.5, 0.8, 0.5]].concat();
        let outputs = [Output { name: "output", shape: &[1, 2, 7], data: &data }];
        let config = Config { strides: vec![8], ..Config::default() };
        let found = config.decode(&outputs, INPUT, &keep()).unwrap();
        let Decoded::Boxes(boxes) = found else { panic!() };
        let [RawBox { class: 0, score, xyxy }] = boxes[..] else { panic!("{boxes:?}") };
        assert!((score - 0.4).abs() < 1e-6);
        for (found, expected) in xyxy.into_iter().zip([8.0, -4.0, 16.0, 12.0]) {
            assert!((found - expected).abs() < 1e-4, "{xyxy:?}");
        }
        let pixels = [[0.0; 7], [12.0, 4.0, 8.0, 16.0, 0.5, 0.8, 0.5]].concat();
        let outputs = [Output { name: "output", shape: &[1, 2, 7], data: &pixels }];
        let decoded = Config { strides: vec![8], decoded: true, ..Config::default() };
        let found = decoded.decode(&outputs, INPUT, &keep()).unwrap();
        assert_eq!(
            found,
            Decoded::Boxes(vec![RawBox { class: 0, score: 0.4, xyxy: [8.0, -4.0, 16.0, 12.0] }])
        );
    }

    #[test]
    fn logits_are_squeezed_where_the_manifest_says_so() {
        // sigmoid(0) = 0.5 for objectness and the first class, and nearly 0 for the second.
        let data = [[0.0, 0.0, 0.0, 0.0, -20.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 20.0, -20.0]].concat();
        let outputs = [Output { name: "output", shape: &[1, 2, 7], data: &data }];
        let config = Config { strides: vec![8], activation: Activation::Sigmoid, ..Config::default() };
        let Decoded::Boxes(boxes) = config.decode(&outputs, INPUT, &keep()).unwrap() else { panic!() };
        assert_eq!((boxes.len(), boxes[0].class), (1, 0));
        assert!((boxes[0].score - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_project_s_exports_are_recognised_and_others_refused_by_name() {
        let input = InputSize { width: 640, height: 640 };
        let shapes = [("output".to_owned(), vec![1, 8400, 85])];
        assert_eq!(Config::default().guess(&shapes, input).unwrap().labels, 80);
        assert_eq!(Config::default().check(&shapes, 80, input), Ok(()));
        let error = Config::default().check(&shapes, 79, input).unwrap_err().to_string();
        assert_eq!(error, "output `output` should be [1, 8400, 84], is [1, 8400, 85]");
        let softmax = Config { activation: Activation::Softmax, ..Config::default() };
        assert!(softmax.check(&shapes, 80, input).is_err());
    }
}
