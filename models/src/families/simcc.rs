//! SimCC, as RTMPose exports it (open-mmlab/mmpose, `get_simcc_maximum`; arXiv 2107.03332): `simcc_x [1, K, width ·
//! split] f32` and `simcc_y [1, K, height · split] f32`, one row of bins per key point and axis; the place is that of
//! the highest bin.

use vedette_core::Role;

use super::{Decoded, Family, Guess, InputSize, Keep, Output, RawPoint, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "key points of one person as bins: x [1,K,W*split] and y [1,K,H*split]";

/// How a point's score comes from the highest bins of both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The lower one.
    Min,
    /// Half of their sum.
    Mean,
}

/// The `[family]` table of a manifest with `kind = "simcc"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for the bins from left to right; default `simcc_x`.
    pub x: String,
    /// The graph's name for the bins from top to bottom; default `simcc_y`.
    pub y: String,
    /// Bins per pixel, 0.125 to 64; default 2.
    pub split: f32,
    /// Default `min`.
    pub score: Score,
}

impl Default for Config {
    fn default() -> Self {
        Self { x: "simcc_x".to_owned(), y: "simcc_y".to_owned(), split: 2.0, score: Score::Min }
    }
}

impl Family for Config {
    fn role(&self) -> Role {
        Role::Pose
    }

    fn outputs(&self) -> Vec<&str> {
        vec![&self.x, &self.y]
    }

    fn check(
        &self,
        outputs: &[(String, Vec<i64>)],
        labels: usize,
        input: InputSize,
    ) -> Result<(), ShapeMismatch> {
        shape::within("split", self.split, 0.125..=64.0)?;
        let bins = |side: usize| (side as f32 * self.split).round().to_string();
        let labels = labels.to_string();
        shape::expect(outputs, &self.x, &["1", &labels, &bins(input.width)])?;
        shape::expect(outputs, &self.y, &["1", &labels, &bins(input.height)]).map(|_| ())
    }

    fn decode(&self, outputs: &[Output<'_>], _: InputSize, _: &Keep) -> Result<Decoded, ShapeMismatch> {
        let x = shape::output(outputs, 0, &self.x)?;
        let y = shape::output(outputs, 1, &self.y)?;
        let ((points, columns), (others, rows)) = (shape::matrix(&x)?, shape::matrix(&y)?);
        if points != others {
            return Err(shape::mismatch(&self.y, &format!("[1, {points}, bins]"), Some(y.shape)));
        }
        let rows = y.data.chunks_exact(rows.max(1));
        let point = |(x, y): (&[f32], &[f32])| {
            let ((x, across), (y, down)) = (highest(x), highest(y));
            let score = match self.score {
                Score::Min => across.min(down),
                Score::Mean => across / 2.0 + down / 2.0,
            };
            let (x, y) = (x as f32 / self.split, y as f32 / self.split);
            let there = score > 0.0 && x.is_finite() && y.is_finite();
            let absent = RawPoint { x: 0.0, y: 0.0, score: 0.0 };
            if there { RawPoint { x, y, score: score.min(1.0) } } else { absent }
        };
        Ok(Decoded::Pose(x.data.chunks_exact(columns.max(1)).zip(rows).map(point).collect()))
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], input: InputSize) -> Option<Guess> {
        let [first, second] = outputs else { return None };
        let fits = |(_, shape): &(String, Vec<i64>), side: usize| match *shape.as_slice() {
            [1 | -1, points, bins] if bins > 0 && usize::try_from(bins) == Ok(2 * side) => {
                usize::try_from(points).ok().filter(|points| *points > 0)
            }
            _ => None,
        };
        // Of a square input both orders fit: the first output is x, unless its name says y.
        let straight = fits(first, input.width).filter(|k| fits(second, input.height) == Some(*k));
        let crossed = fits(second, input.width).filter(|k| fits(first, input.height) == Some(*k));
        let (x, y, labels) = match (straight, crossed) {
            (Some(k), None) => (first, second, k),
            (None, Some(k)) => (second, first, k),
            (Some(_), Some(k)) if first.0.ends_with('y') => (second, first, k),
            (Some(k), Some(_)) => (first, second, k),
            (None, None) => return None,
        };
        Some(shape::guess(Role::Pose, labels, 0, [("x", x.0.as_str().into()), ("y", y.0.as_str().into())]))
    }
}

/// Place and value of the first highest bin; values that are no numbers do not count.
fn highest(bins: &[f32]) -> (usize, f32) {
    let finite = bins.iter().copied().enumerate().filter(|(_, v)| v.is_finite());
    finite.fold((0, f32::NEG_INFINITY), |best, bin| if bin.1 > best.1 { bin } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::build;

    #[test]
    fn the_highest_bin_of_each_axis_is_the_place() {
        let input = InputSize { width: 2, height: 3 };
        let keep = Keep { min_score: 0.0, classes: Vec::new(), nms_iou: 1.0, limit: 0 };
        let x = [0.1, 0.2, f32::NAN, 0.8, -1.0, 0.0, -2.0, 0.0];
        let y = [0.0, 0.0, 0.0, 0.0, 0.0, 0.4, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0];
        let outputs = [
            Output { name: "simcc_x", shape: &[1, 2, 4], data: &x },
            Output { name: "simcc_y", shape: &[1, 2, 6], data: &y },
        ];
        for (score, expected) in [("min", 0.4), ("mean", 0.6)] {
            let family = build(format!("kind = 'simcc'\nscore = '{score}'").parse().unwrap()).unwrap();
            let Decoded::Pose(points) = family.decode(&outputs, input, &keep).unwrap() else { panic!() };
            assert!((points[0].score - expected).abs() < 1e-6 && (points[0].x, points[0].y) == (1.5, 2.5));
        }
        let Decoded::Pose(points) = Config::default().decode(&outputs, input, &keep).unwrap() else {
            panic!()
        };
        assert_eq!(points[1], RawPoint { x: 0.0, y: 0.0, score: 0.0 });
    }

    #[test]
    fn rtmpose_is_recognised_and_other_shapes_are_refused_by_name() {
        let input = InputSize { width: 192, height: 256 };
        let shapes = [("simcc_x".to_owned(), vec![1, 17, 384]), ("simcc_y".to_owned(), vec![1, 17, 512])];
        let guess = &crate::families::guess(&shapes, input)[0];
        assert_eq!((guess.table["kind"].as_str(), guess.labels, guess.doubt), (Some("simcc"), 17, 0));
        let family = build(guess.table.clone()).unwrap();
        assert_eq!(family.check(&shapes, 17, input), Ok(()));
        let turned = InputSize { width: 192, height: 192 };
        let error = family.check(&shapes, 17, turned).unwrap_err().to_string();
        assert_eq!(error, "output `simcc_y` should be [1, 17, 384], is [1, 17, 512]");
        let none = build("kind = 'simcc'\nsplit = 0.0".parse().unwrap()).unwrap();
        let error = none.check(&shapes, 17, input).unwrap_err().to_string();
        assert_eq!(error, "output `family.split` should be 0.125 to 64, is 0");
    }
}
