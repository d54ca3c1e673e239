//! MoveNet single pose (TensorFlow Hub, `google/movenet/singlepose`): `[1, 1, K, 3] f32`, each point y, x (0..1 of the
//! input) and score.

use vedette_core::Role;

use super::{Decoded, Family, Guess, InputSize, Keep, Output, RawPoint, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "key points of one person: [1,1,K,3], each y, x and score";

/// The `[family]` table of a manifest with `kind = "movenet"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for the points; default `output_0`.
    pub output: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { output: "output_0".to_owned() }
    }
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
        shape::expect(outputs, &self.output, &["1", "1", &labels.to_string(), "3"]).map(|_| ())
    }

    fn decode(&self, outputs: &[Output<'_>], input: InputSize, _: &Keep) -> Result<Decoded, ShapeMismatch> {
        let output = shape::output(outputs, 0, &self.output)?;
        let (_, 3) = shape::matrix(&output)? else {
            return Err(shape::mismatch(&self.output, "[1, 1, K, 3]", Some(output.shape)));
        };
        let point = |&[y, x, score]: &[f32; 3]| {
            let (x, y) = (x * input.width as f32, y * input.height as f32);
            let sound = x.is_finite() && y.is_finite() && score.is_finite();
            let absent = RawPoint { x: 0.0, y: 0.0, score: 0.0 };
            if sound { RawPoint { x, y, score: score.clamp(0.0, 1.0) } } else { absent }
        };
        Ok(Decoded::Pose(output.data.as_chunks::<3>().0.iter().map(point).collect()))
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], _: InputSize) -> Option<Guess> {
        let [(name, shape)] = outputs else { return None };
        let &[1, 1, points, 3] = shape.as_slice() else { return None };
        let labels = usize::try_from(points).ok().filter(|points| *points > 0)?;
        Some(shape::guess(Role::Pose, labels, 0, [("output", name.as_str().into())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_y_first_and_shares_of_the_input() {
        let input = InputSize { width: 200, height: 100 };
        let keep = Keep { min_score: 0.1, classes: Vec::new(), nms_iou: 0.5, limit: 1 };
        let data = [0.5, 0.25, 0.9, f32::NAN, 0.5, 0.9];
        let outputs = [Output { name: "output_0", shape: &[1, 1, 2, 3], data: &data }];
        let points = Config::default().decode(&outputs, input, &keep).unwrap();
        let expected = [RawPoint { x: 50.0, y: 50.0, score: 0.9 }, RawPoint { x: 0.0, y: 0.0, score: 0.0 }];
        assert_eq!(points, Decoded::Pose(expected.to_vec()));
        let shapes = [("p".to_owned(), vec![1, 1, 17, 3])];
        let guess = &crate::families::guess(&shapes, input)[0];
        let family = crate::families::build(guess.table.clone()).unwrap();
        assert_eq!((guess.labels, family.check(&shapes, 17, input)), (17, Ok(())));
        let error = family.check(&shapes, 5, input).unwrap_err().to_string();
        assert_eq!(error, "output `p` should be [1, 1, 5, 3], is [1, 1, 17, 3]");
    }
}
