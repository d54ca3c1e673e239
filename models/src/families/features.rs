//! Feature trunks: any outputs of `[1, C, H, W]`, `[1, D]` or `[1, D, 1, 1]` f32 as they are, cut out of a network (for
//! instance EfficientNet-Lite of the TensorFlow TPU models) or the vectors of a re-identification network.

use toml::Value;
use vedette_core::Role;

use super::{Decoded, Family, FeatureMap, Guess, InputSize, Keep, Output, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "feature maps [1,C,H,W] or vectors [1,D], as they are";

/// The `[family]` table of a manifest with `kind = "features"`.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's names for the maps, in the order in which they are handed on; default none, which no model passes.
    pub outputs: Vec<String>,
}

impl Family for Config {
    fn role(&self) -> Role {
        Role::Features
    }

    fn outputs(&self) -> Vec<&str> {
        self.outputs.iter().map(String::as_str).collect()
    }

    fn check(&self, outputs: &[(String, Vec<i64>)], _: usize, _: InputSize) -> Result<(), ShapeMismatch> {
        if self.outputs.is_empty() {
            let expected = "a list of the graph's feature outputs".to_owned();
            return Err(ShapeMismatch {
                output: "family.outputs".to_owned(),
                expected,
                found: "empty".to_owned(),
            });
        }
        for name in &self.outputs {
            let found = outputs.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.as_slice());
            match found {
                Some([batch, _] | [batch, _, _, _]) if *batch == 1 || *batch < 0 => {}
                _ => return Err(shape::mismatch(name, "[1, C, H, W] or [1, D]", found)),
            }
        }
        Ok(())
    }

    fn decode(&self, outputs: &[Output<'_>], _: InputSize, _: &Keep) -> Result<Decoded, ShapeMismatch> {
        let map = |(at, name): (usize, &String)| {
            let output = shape::output(outputs, at, name)?;
            let wrong = || {
                let found = format!("{:?} with {} values", output.shape, output.data.len());
                ShapeMismatch { output: name.clone(), expected: "[1, C, H, W] or [1, D]".to_owned(), found }
            };
            let (channels, rows, columns) = match *output.shape {
                [1, channels] => (channels, 1, 1),
                [1, channels, rows, columns] => (channels, rows, columns),
                _ => return Err(wrong()),
            };
            let size = |axis: i64| usize::try_from(axis).map_err(|_| wrong());
            let (channels, rows, columns) = (size(channels)?, size(rows)?, size(columns)?);
            let length = channels.checked_mul(rows).and_then(|places| places.checked_mul(columns));
            if length != Some(output.data.len()) {
                return Err(wrong());
            }
            let data = output.data.iter().map(|v| if v.is_finite() { *v } else { 0.0 }).collect();
            Ok(FeatureMap { name: name.clone(), channels, rows, columns, data })
        };
        self.outputs.iter().enumerate().map(map).collect::<Result<_, _>>().map(Decoded::Features)
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], _: InputSize) -> Option<Guess> {
        // Nearly anything is a map to somebody: only where no other kind says more.
        let maps = outputs.iter().filter(|(_, shape)| matches!(shape.as_slice(), [1 | -1, _, _, _]));
        let names: Vec<Value> = maps.map(|(name, _)| name.as_str().into()).collect();
        (!names.is_empty()).then(|| shape::guess(Role::Features, 0, 9, [("outputs", Value::Array(names))]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::build;

    const INPUT: InputSize = InputSize { width: 32, height: 32 };

    #[test]
    fn maps_and_vectors_come_through_without_what_is_no_number() {
        let family = build("kind = 'features'\noutputs = ['map', 'vector']".parse().unwrap()).unwrap();
        let keep = Keep { min_score: 0.0, classes: Vec::new(), nms_iou: 1.0, limit: 0 };
        let outputs = [
            Output { name: "map", shape: &[1, 2, 1, 2], data: &[1.0, f32::NAN, -3.0, f32::INFINITY] },
            Output { name: "vector", shape: &[1, 3], data: &[4.0, 5.0, 6.0] },
        ];
        let map = |name: &str, (channels, rows, columns), data: &[f32]| FeatureMap {
            name: name.to_owned(),
            channels,
            rows,
            columns,
            data: data.to_vec(),
        };
        let expected =
            [map("map", (2, 1, 2), &[1.0, 0.0, -3.0, 0.0]), map("vector", (3, 1, 1), &[4.0, 5.0, 6.0])];
        assert_eq!(family.decode(&outputs, INPUT, &keep), Ok(Decoded::Features(expected.to_vec())));
        let error = family.decode(&outputs[..1], INPUT, &keep).unwrap_err().to_string();
        assert_eq!(error, "output `vector` should be there, is absent");
    }

    #[test]
    fn an_empty_list_and_other_shapes_are_refused_by_name() {
        let shapes = [("a".to_owned(), vec![1, 8, 4, 4]), ("b".to_owned(), vec![1, 8, 4])];
        let check = |outputs: &str| {
            let family = build(format!("kind = 'features'\noutputs = {outputs}").parse().unwrap()).unwrap();
            family.check(&shapes, 0, INPUT).map_err(|e| e.to_string())
        };
        assert_eq!(check("['a']"), Ok(()));
        let empty = "output `family.outputs` should be a list of the graph's feature outputs, is empty";
        assert_eq!(check("[]").unwrap_err(), empty);
        assert_eq!(
            check("['a', 'b']").unwrap_err(),
            "output `b` should be [1, C, H, W] or [1, D], is [1, 8, 4]"
        );
        assert!(check("['c']").unwrap_err().ends_with("is absent"));
        let guess = Config::default().guess(&shapes, INPUT).unwrap();
        assert_eq!((guess.table["outputs"].to_string(), guess.doubt), ("[\"a\"]".to_owned(), 9));
    }
}
