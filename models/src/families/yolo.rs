//! YOLOv8 and its kin (Ultralytics' exports without suppression): one output `[1, 4 + C, N] f32`, or transposed
//! `[1, N, 4 + C]`. Of each point centre and size in input pixels, then class scores 0..1; there is no objectness.

use vedette_core::Role;

use super::candidates::{Candidates, corners};
use super::{Decoded, Family, Guess, InputSize, Keep, Output, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "anchor-free without objectness, one tensor: [1,4+C,N] or [1,N,4+C]";

/// The `[family]` table of a manifest with `kind = "yolo"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for it; default `output0`.
    pub output: String,
    /// The points are rows, `[1, N, 4 + C]`; default false.
    pub transposed: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { output: "output0".to_owned(), transposed: false }
    }
}

impl Config {
    /// Boxes where each point's values lie together.
    fn rows(data: &[f32], columns: usize, found: &mut Candidates<'_>) {
        for row in data.chunks_exact(columns) {
            let (middle, scores) = row.split_at(4);
            found.row(scores, corners([middle[0], middle[1], middle[2], middle[3]]));
        }
    }

    /// Boxes where each value of all points lies together: the scores are scanned as they lie.
    fn planes(data: &[f32], points: usize, min_score: f32, found: &mut Candidates<'_>) {
        let plane = |at: usize| &data[at * points..][..points];
        let [x, y, width, height] = std::array::from_fn(plane);
        for (class, scores) in data[4 * points..].chunks_exact(points).enumerate() {
            for (at, &score) in scores.iter().enumerate() {
                if score >= min_score {
                    found.push(class, score, corners([x[at], y[at], width[at], height[at]]));
                }
            }
        }
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
        _: InputSize,
    ) -> Result<(), ShapeMismatch> {
        let values = labels.saturating_add(4).to_string();
        let axes = if self.transposed { ["1", "N", &values] } else { ["1", &values, "N"] };
        shape::expect(outputs, &self.output, &axes).map(|_| ())
    }

    fn decode(&self, outputs: &[Output<'_>], _: InputSize, keep: &Keep) -> Result<Decoded, ShapeMismatch> {
        let output = shape::output(outputs, 0, &self.output)?;
        let (rows, columns) = shape::matrix(&output)?;
        let values = if self.transposed { columns } else { rows };
        if values <= 4 {
            let expected = if self.transposed { "[1, N, 4 + C]" } else { "[1, 4 + C, N]" };
            return Err(shape::mismatch(&self.output, expected, Some(output.shape)));
        }
        let mut found = Candidates::new(keep);
        if self.transposed {
            Self::rows(output.data, columns, &mut found);
        } else if columns > 0 {
            Self::planes(output.data, columns, keep.min_score, &mut found);
        }
        Ok(found.suppressed())
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], _: InputSize) -> Option<Guess> {
        let [(name, shape)] = outputs else { return None };
        let &[1, a, b] = shape.as_slice() else { return None };
        // There are always more points than values of a point.
        let (values, transposed) = if a < b { (a, false) } else { (b, true) };
        let labels = usize::try_from(values).ok()?.checked_sub(4).filter(|n| *n > 0)?;
        (a.max(b) > 400).then(|| {
            let keys = [("output", name.as_str().into()), ("transposed", transposed.into())];
            shape::guess(Role::Detector, labels, if transposed { 2 } else { 0 }, keys)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::RawBox;

    const INPUT: InputSize = InputSize { width: 64, height: 64 };

    #[test]
    fn both_orders_of_axes_give_the_same_boxes() {
        let keep = Keep { min_score: 0.3, classes: vec![true; 2], nms_iou: 0.6, limit: 10 };
        let rows = [[10.0, 20.0, 4.0, 8.0, 0.1, 0.9], [30.0, 30.0, 2.0, 2.0, 0.5, 0.2], [0.0; 6]];
        let planes: Vec<f32> = (0..6).flat_map(|v| rows.map(|row| row[v])).collect();
        let expected = Decoded::Boxes(vec![
            RawBox { class: 1, score: 0.9, xyxy: [8.0, 16.0, 12.0, 24.0] },
            RawBox { class: 0, score: 0.5, xyxy: [29.0, 29.0, 31.0, 31.0] },
        ]);
        let outputs = [Output { name: "output0", shape: &[1, 6, 3], data: &planes }];
        assert_eq!(Config::default().decode(&outputs, INPUT, &keep).unwrap(), expected);
        let outputs = [Output { name: "output0", shape: &[1, 3, 6], data: rows.as_flattened() }];
        let transposed = Config { transposed: true, ..Config::default() };
        assert_eq!(transposed.decode(&outputs, INPUT, &keep).unwrap(), expected);
    }

    #[test]
    fn exports_are_recognised_and_others_refused_by_name() {
        let input = InputSize { width: 640, height: 640 };
        let shapes = [("output0".to_owned(), vec![1, 84, 8400])];
        let guess = Config::default().guess(&shapes, input).unwrap();
        assert_eq!((guess.labels, guess.table["transposed"].as_bool()), (80, Some(false)));
        let error = Config::default().check(&shapes, 79, input).unwrap_err().to_string();
        assert_eq!(error, "output `output0` should be [1, 83, N], is [1, 84, 8400]");
    }
}
