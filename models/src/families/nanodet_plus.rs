//! NanoDet-Plus and NanoDet as their projects export them (RangiLyu/nanodet, `nanodet_plus_head.py`): one output
//! `[1, N, C + 4 (reg_max + 1)] f32`. Of each point the scores of all classes, then for each side of the box a
//! distribution over 0..=reg_max strides, whose mean is the distance (Generalized Focal Loss, arXiv 2006.04388).
//! NanoDet-Plus has four strides and points at the corner of their cell; NanoDet three and points in its middle
//! (`offset = 0.5`, `strides = [8, 16, 32]`).

use vedette_core::Role;

use super::activation::{Activation, expectation};
use super::candidates::{Candidates, strong};
use super::{Decoded, Family, Guess, InputSize, Keep, Output, ShapeMismatch, grid, shape};

/// For help texts.
pub const ABOUT: &str = "anchor-free, boxes as distributions: [1,N,C+4*(reg_max+1)]";

/// The `[family]` table of a manifest with `kind = "nanodet_plus"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for it; default `output`.
    pub output: String,
    /// Input pixels between points, one grid each; default `[8, 16, 32, 64]`.
    pub strides: Vec<usize>,
    /// The largest distance, in strides, 1 to 64; default 7.
    pub reg_max: usize,
    /// Where a point lies in its cell, 0 its corner, 0.5 its middle, at most 1; default 0.
    pub offset: f32,
    /// What has still to be applied to the scores; default `none`: the export did.
    pub activation: Activation,
}

impl Default for Config {
    fn default() -> Self {
        let (output, strides, activation) = ("output".to_owned(), vec![8, 16, 32, 64], Activation::None);
        Self { output, strides, reg_max: 7, offset: 0.0, activation }
    }
}

impl Config {
    fn bounded(&self) -> Result<(), ShapeMismatch> {
        shape::within("reg_max", self.reg_max, 1..=64)?;
        shape::within("offset", self.offset, 0.0..=1.0)
    }

    fn bins(&self) -> usize {
        self.reg_max.saturating_add(1)
    }

    fn columns(&self, labels: usize) -> usize {
        labels.saturating_add(self.bins().saturating_mul(4))
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
        self.bounded()?;
        let points = grid::count(&self.strides, input)?.to_string();
        let axes = ["1", &points, &self.columns(labels).to_string()];
        shape::expect(outputs, &self.output, &axes).map(|_| ())
    }

    fn decode(
        &self,
        outputs: &[Output<'_>],
        input: InputSize,
        keep: &Keep,
    ) -> Result<Decoded, ShapeMismatch> {
        self.bounded()?;
        let output = shape::output(outputs, 0, &self.output)?;
        let (points, columns) = shape::matrix(&output)?;
        let sides = self.bins() * 4;
        let expected = grid::count(&self.strides, input)?;
        if points != expected || columns <= sides {
            let expected = format!("[1, {expected}, more than {sides}]");
            return Err(shape::mismatch(&self.output, &expected, Some(output.shape)));
        }
        let (sieve, mut scores) = (self.activation.sieve(keep.min_score), Vec::new());
        let mut found = Candidates::new(keep);
        for (row, point) in output.data.chunks_exact(columns).zip(grid::points(&self.strides, input)) {
            let (raw, distances) = row.split_at(columns - sides);
            if !strong(raw, sieve) {
                continue;
            }
            self.activation.apply(raw, &mut scores);
            let [left, top, right, bottom] = std::array::from_fn(|side| {
                expectation(&distances[side * self.bins()..][..self.bins()]) * point.stride
            });
            let (x, y) =
                ((point.column + self.offset) * point.stride, (point.row + self.offset) * point.stride);
            found.row(&scores, [x - left, y - top, x + right, y + bottom]);
        }
        Ok(found.suppressed())
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], input: InputSize) -> Option<Guess> {
        self.bounded().ok()?;
        let [(name, shape)] = outputs else { return None };
        let &[1, points, columns] = shape.as_slice() else { return None };
        let points = usize::try_from(points).ok().filter(|p| grid::count(&self.strides, input) == Ok(*p))?;
        let labels = usize::try_from(columns).ok()?.checked_sub(self.bins() * 4).filter(|n| *n > 0)?;
        (points > 0).then(|| shape::guess(Role::Detector, labels, 0, [("output", name.as_str().into())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::RawBox;

    /// Two points of stride 8 in an input of 16 x 8; two classes, distances 0..=1.
    fn config(offset: f32) -> Config {
        Config { strides: vec![8], reg_max: 1, offset, ..Config::default() }
    }

    const INPUT: InputSize = InputSize { width: 16, height: 8 };

    fn keep() -> Keep {
        Keep { min_score: 0.3, classes: vec![true; 2], nms_iou: 0.6, limit: 10 }
    }

    #[test]
    fn a_distribution_s_mean_is_the_distance() {
        // Even odds: half a stride, 4 pixels; all on the second bin: a stride, 8 pixels.
        let even = [0.0, 0.0];
        let far = [-200.0, 0.0];
        let row = [vec![0.2, 0.9], far.to_vec(), even.to_vec(), even.to_vec(), far.to_vec()].concat();
        let data = [vec![0.1; 10], row].concat();
        let outputs = [Output { name: "output", shape: &[1, 2, 10], data: &data }];
        let at = |offset| config(offset).decode(&outputs, INPUT, &keep()).unwrap();
        let found = |xyxy| Decoded::Boxes(vec![RawBox { class: 1, score: 0.9, xyxy }]);
        // The second point: 8, 0; with an offset of a half 12, 4.
        assert_eq!(at(0.0), found([0.0, -4.0, 12.0, 8.0]));
        assert_eq!(at(0.5), found([4.0, 0.0, 16.0, 12.0]));
    }

    #[test]
    fn the_project_s_exports_are_recognised_and_others_refused_by_name() {
        let input = InputSize { width: 416, height: 416 };
        let shapes = [("output".to_owned(), vec![1, 3598, 112])];
        assert_eq!(Config::default().guess(&shapes, input).unwrap().labels, 80);
        assert_eq!(Config::default().check(&shapes, 80, input), Ok(()));
        let error = Config::default().check(&shapes, 3, input).unwrap_err().to_string();
        assert_eq!(error, "output `output` should be [1, 3598, 35], is [1, 3598, 112]");
        let v1 = Config { strides: vec![8, 16, 32], offset: 0.5, ..Config::default() };
        assert_eq!(v1.check(&[("output".to_owned(), vec![1, 3549, 112])], 80, input), Ok(()));
        assert!(Config { strides: vec![0], ..Config::default() }.check(&shapes, 80, input).is_err());
    }
}
