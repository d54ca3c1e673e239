//! NanoDet (RangiLyu/nanodet) with the box decoding inside the graph: `boxes [1, N, 4] f32` (left, top, right, bottom
//! in input pixels) and `scores [1, N, C] f32` (0..1). Anchor-free: N points of the strides 8, 16 and 32. What is left
//! to do is a threshold and class-wise suppression (IoU 0.6 in the project's own configuration).

use vedette_core::Role;

use super::candidates::{Candidates, strong};
use super::{Decoded, Family, Guess, InputSize, Keep, Output, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "anchor-free, boxes decoded in the graph: boxes [1,N,4] and scores [1,N,C]";

/// The `[family]` table of a manifest with `kind = "nanodet"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for the boxes; default `boxes`.
    pub boxes: String,
    /// The graph's name for the scores; default `scores`.
    pub scores: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { boxes: "boxes".to_owned(), scores: "scores".to_owned() }
    }
}

impl Family for Config {
    fn role(&self) -> Role {
        Role::Detector
    }

    fn outputs(&self) -> Vec<&str> {
        vec![&self.boxes, &self.scores]
    }

    fn check(
        &self,
        outputs: &[(String, Vec<i64>)],
        labels: usize,
        _: InputSize,
    ) -> Result<(), ShapeMismatch> {
        let boxes = shape::expect(outputs, &self.boxes, &["1", "N", "4"])?;
        let points = boxes[1].to_string();
        let points = if boxes[1] < 0 { "N" } else { points.as_str() };
        shape::expect(outputs, &self.scores, &["1", "N", &labels.to_string()])?;
        shape::expect(outputs, &self.scores, &["1", points, &labels.to_string()]).map(|_| ())
    }

    fn decode(&self, outputs: &[Output<'_>], _: InputSize, keep: &Keep) -> Result<Decoded, ShapeMismatch> {
        let boxes = shape::output(outputs, 0, &self.boxes)?;
        let scores = shape::output(outputs, 1, &self.scores)?;
        let (corners, rest) = boxes.data.as_chunks::<4>();
        let points = corners.len();
        if !rest.is_empty() || (points > 0 && !scores.data.len().is_multiple_of(points)) {
            let expected = format!("as long as `{}`, {points} points", self.boxes);
            return Err(shape::mismatch(&self.scores, &expected, Some(scores.shape)));
        }
        let classes = scores.data.len().checked_div(points).unwrap_or(0);
        let mut found = Candidates::new(keep);
        for (xyxy, row) in corners.iter().zip(scores.data.chunks_exact(classes.max(1))) {
            if strong(row, keep.min_score) {
                found.row(row, *xyxy);
            }
        }
        Ok(found.suppressed())
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], _: InputSize) -> Option<Guess> {
        let [(a, first), (b, second)] = outputs else { return None };
        let pair = |x: &[i64], y: &[i64]| match (x, y) {
            (&[1, n, 4], &[1, m, c]) if n == m && n > 400 && c > 0 => usize::try_from(c).ok(),
            _ => None,
        };
        let named = |boxes: &str| boxes.contains("box");
        let (boxes, scores, labels) = match (pair(first, second), pair(second, first)) {
            (Some(labels), None) => (a, b, labels),
            (None, Some(labels)) => (b, a, labels),
            (Some(labels), Some(_)) if named(a) => (a, b, labels),
            (Some(_), Some(labels)) if named(b) => (b, a, labels),
            _ => return None,
        };
        let names = [("boxes", boxes.as_str().into()), ("scores", scores.as_str().into())];
        Some(shape::guess(Role::Detector, labels, 1, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::RawBox;

    const INPUT: InputSize = InputSize { width: 416, height: 416 };

    const CLASSES: usize = 3;

    fn keep() -> Keep {
        Keep { min_score: 0.1, classes: vec![true; CLASSES], nms_iou: 0.6, limit: 100 }
    }

    fn decode(boxes: &[[f32; 4]], scores: &[[f32; CLASSES]], keep: &Keep) -> Vec<RawBox> {
        let n = boxes.len() as i64;
        let (boxes, scores) = (boxes.as_flattened(), scores.as_flattened());
        let outputs = [
            Output { name: "boxes", shape: &[1, n, 4], data: boxes },
            Output { name: "scores", shape: &[1, n, 3], data: scores },
        ];
        match Config::default().decode(&outputs, INPUT, keep).unwrap() {
            Decoded::Boxes(boxes) => boxes,
            other => panic!("{other:?}"),
        }
    }

    const A: [f32; 4] = [10.0, 10.0, 50.0, 90.0];
    const B: [f32; 4] = [100.0, 10.0, 150.0, 90.0];

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(decode(&[], &[], &keep()), []);
        assert_eq!(decode(&[A], &[[0.0, 0.05, 0.09]], &keep()), []);
    }

    #[test]
    fn thresholds_and_the_allow_list_hold() {
        let scores = [[0.1, 0.05, 0.9], [0.0, 0.8, 0.0]];
        let all = decode(&[A, B], &scores, &keep());
        assert_eq!(
            all.iter().map(|b| (b.class, b.score)).collect::<Vec<_>>(),
            [(2, 0.9), (1, 0.8), (0, 0.1)]
        );
        let some = decode(&[A, B], &scores, &Keep { classes: vec![true, true], ..keep() });
        assert_eq!(some.iter().map(|b| b.class).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn nan_and_empty_boxes_are_no_boxes() {
        let nan = f32::NAN;
        let scores = [[nan, 0.5, nan], [0.9, 0.0, 0.0], [0.9, 0.0, 0.0], [f32::INFINITY, 0.0, 0.0]];
        let boxes = [A, [nan, 0.0, 5.0, 5.0], [5.0, 5.0, 5.0, 9.0], B];
        assert_eq!(decode(&boxes, &scores, &keep()), [RawBox { class: 1, score: 0.5, xyxy: A }]);
    }

    #[test]
    fn ties_give_one_box_and_always_the_same() {
        let near = [11.0, 10.0, 51.0, 90.0];
        let scores = [[0.5, 0.0, 0.0]; 2];
        assert_eq!(decode(&[A, near], &scores, &keep()), decode(&[near, A], &scores, &keep()));
        assert_eq!(decode(&[A, near], &scores, &keep()), [RawBox { class: 0, score: 0.5, xyxy: A }]);
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        let check = |boxes: &[i64], scores: &[i64]| {
            let outputs = [("boxes".to_owned(), boxes.to_vec()), ("scores".to_owned(), scores.to_vec())];
            Config::default().check(&outputs, CLASSES, INPUT).map_err(|e| e.to_string())
        };
        assert_eq!(check(&[1, 7, 4], &[1, 7, 3]), Ok(()));
        let error = check(&[1, 7, 4], &[1, 7, 80]).unwrap_err();
        assert_eq!(error, "output `scores` should be [1, N, 3], is [1, 7, 80]");
        assert!(check(&[1, 7, 4], &[1, 8, 3]).is_err());
        let none = Config::default().check(&[], CLASSES, INPUT).unwrap_err();
        assert_eq!(none.to_string(), "output `boxes` should be [1, N, 4], is absent");
    }
}
