//! Pose by heat maps (leoxiaobin/deep-high-resolution-net, `get_final_preds`; mmpose's heat-map heads): one output
//! `[1, K, H, W] f32`. A point is the maximum of its map, moved a quarter of a cell towards the higher neighbour.

use vedette_core::Role;

use super::{Decoded, Family, Guess, InputSize, Keep, Output, RawPoint, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "key points of one person as maps: [1,K,H,W]";

/// The `[family]` table of a manifest with `kind = "heatmap"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for the maps; default `output`.
    pub output: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { output: "output".to_owned() }
    }
}

/// The place of the maximum, as a part of the map, and its value; a map without a positive one has no point.
fn point(map: &[f32], rows: usize, columns: usize) -> Option<(f32, f32, f32)> {
    let (mut best, mut top) = (None, 0.0);
    for (at, &value) in map.iter().enumerate() {
        // NaN is above nothing.
        if value > top && value.is_finite() {
            (best, top) = (Some(at), value);
        }
    }
    let at = best?;
    let (x, y) = (at % columns, at / columns);
    let towards = |before: f32, after: f32| match after.partial_cmp(&before) {
        Some(std::cmp::Ordering::Greater) => 0.25,
        Some(std::cmp::Ordering::Less) => -0.25,
        _ => 0.0,
    };
    let inside = |place: usize, length: usize| place > 1 && place + 1 < length;
    let (mut dx, mut dy) = (0.0, 0.0);
    if inside(x, columns) && inside(y, rows) {
        dx = towards(map[at - 1], map[at + 1]);
        dy = towards(map[at - columns], map[at + columns]);
    }
    Some(((x as f32 + dx) / columns as f32, (y as f32 + dy) / rows as f32, top))
}

impl Family for Config {
    fn role(&self) -> Role {
        Role::Pose
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
        shape::expect(outputs, &self.output, &["1", &labels.to_string(), "H", "W"]).map(|_| ())
    }

    fn decode(&self, outputs: &[Output<'_>], input: InputSize, _: &Keep) -> Result<Decoded, ShapeMismatch> {
        let output = shape::output(outputs, 0, &self.output)?;
        let wrong = || shape::mismatch(&self.output, "[1, K, H, W]", Some(output.shape));
        let &[1, points, rows, columns] = output.shape else { return Err(wrong()) };
        let size = |axis: i64| usize::try_from(axis).ok().filter(|n| *n > 0).ok_or_else(wrong);
        let (points, rows, columns) = (size(points)?, size(rows)?, size(columns)?);
        let cells = rows.checked_mul(columns).ok_or_else(wrong)?;
        if points.checked_mul(cells) != Some(output.data.len()) {
            return Err(wrong());
        }
        let absent = RawPoint { x: 0.0, y: 0.0, score: 0.0 };
        let found = output.data.chunks_exact(cells).map(|map| {
            point(map, rows, columns).map_or(absent, |(x, y, score)| RawPoint {
                x: x * input.width as f32,
                y: y * input.height as f32,
                score: score.min(1.0),
            })
        });
        Ok(Decoded::Pose(found.collect()))
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], input: InputSize) -> Option<Guess> {
        let [(name, shape)] = outputs else { return None };
        let &[1, points, rows, columns] = shape.as_slice() else { return None };
        // Maps are a quarter of the input in nearly all of them.
        let quarter = |map: i64, side: usize| usize::try_from(map).is_ok_and(|n| n > 1 && n * 4 == side);
        let labels = usize::try_from(points).ok().filter(|n| (1..=300).contains(n))?;
        (quarter(rows, input.height) && quarter(columns, input.width))
            .then(|| shape::guess(Role::Pose, labels, 3, [("output", name.as_str().into())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_its_map_s_maximum_and_leans_to_the_higher_neighbour() {
        let (rows, columns) = (4, 5);
        let mut maps = vec![0.0f32; 2 * rows * columns];
        maps[2 * columns + 2] = 0.8;
        maps[2 * columns + 3] = 0.5;
        maps[columns + 2] = 0.4;
        maps[rows * columns] = f32::NAN;
        let keep = Keep { min_score: 0.0, classes: Vec::new(), nms_iou: 1.0, limit: 1 };
        let outputs = [Output { name: "output", shape: &[1, 2, 4, 5], data: &maps }];
        let input = InputSize { width: 20, height: 16 };
        let found = Config::default().decode(&outputs, input, &keep).unwrap();
        // Column 2 + 0.25 and row 2 - 0.25, four pixels each; the other map has no point.
        let absent = RawPoint { x: 0.0, y: 0.0, score: 0.0 };
        assert_eq!(found, Decoded::Pose(vec![RawPoint { x: 9.0, y: 7.0, score: 0.8 }, absent]));
    }

    #[test]
    fn exports_are_recognised_and_others_refused_by_name() {
        let input = InputSize { width: 192, height: 256 };
        let shapes = [("output".to_owned(), vec![1, 17, 64, 48])];
        assert_eq!(Config::default().guess(&shapes, input).unwrap().labels, 17);
        let error = Config::default().check(&shapes, 16, input).unwrap_err().to_string();
        assert_eq!(error, "output `output` should be [1, 16, H, W], is [1, 17, 64, 48]");
    }
}
