//! SSD and SSDLite (qfgaohao/pytorch-ssd, `convert_locations_to_boxes`; arXiv 1512.02325): boxes as offsets from anchors,
//! `locations [1, N, 4]`, `scores [1, N, C + 1]` with the background, and the anchors themselves as a third output,
//! `anchors [1, N, 4]` or `[N, 4]`: centre and size, 0..1. Of an anchor's offsets, centre = t v0 size + centre and size
//! = exp(t v1) size.

use vedette_core::Role;

use super::activation::Activation;
use super::candidates::{Candidates, corners};
use super::{Decoded, Family, Guess, InputSize, Keep, Output, ShapeMismatch, shape};

/// For help texts.
pub const ABOUT: &str = "anchors: locations [1,N,4], scores [1,N,C+1] and the anchors [1,N,4] as outputs";

/// The `[family]` table of a manifest with `kind = "ssd"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The graph's name for the offsets; default `locations`.
    pub locations: String,
    /// The graph's name for the scores; default `scores`.
    pub scores: String,
    /// The graph's name for the anchors; default `anchors`. Empty: the locations are boxes already (left, top, right,
    /// bottom, 0..1).
    pub anchors: String,
    /// Scale of centre and size offsets, 0 to 100; default `[0.1, 0.2]`.
    pub variances: [f32; 2],
    /// Which column of the scores is the background; default 0.
    pub background: usize,
    /// What has still to be applied to the scores; default `none`.
    pub activation: Activation,
}

impl Default for Config {
    fn default() -> Self {
        let [locations, scores, anchors] = ["locations", "scores", "anchors"].map(str::to_owned);
        let activation = Activation::None;
        Self { locations, scores, anchors, variances: [0.1, 0.2], background: 0, activation }
    }
}

impl Config {
    /// The box that `offsets` make of `anchor`, 0..1.
    fn place(&self, offsets: [f32; 4], anchor: Option<&[f32; 4]>) -> [f32; 4] {
        let Some(&[x, y, width, height]) = anchor else { return offsets };
        let [center, size] = self.variances;
        let [dx, dy, dw, dh] = offsets;
        corners([
            dx * center * width + x,
            dy * center * height + y,
            (dw * size).exp() * width,
            (dh * size).exp() * height,
        ])
    }
}

impl Family for Config {
    fn role(&self) -> Role {
        Role::Detector
    }

    fn outputs(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec![&self.locations, &self.scores];
        names.extend((!self.anchors.is_empty()).then_some(self.anchors.as_str()));
        names
    }

    fn check(
        &self,
        outputs: &[(String, Vec<i64>)],
        labels: usize,
        _: InputSize,
    ) -> Result<(), ShapeMismatch> {
        for (at, variance) in self.variances.iter().enumerate() {
            shape::within(&format!("variances[{at}]"), *variance, 0.0..=100.0)?;
        }
        let columns = labels.saturating_add(1);
        if self.background >= columns {
            return Err(shape::mismatch("family.background", &format!("below {columns}"), None));
        }
        let count = |found: &[i64]| found.iter().rev().nth(1).filter(|n| **n >= 0).map(ToString::to_string);
        let points = count(shape::expect(outputs, &self.locations, &["1", "N", "4"])?);
        let points = points.unwrap_or_else(|| "N".to_owned());
        shape::expect(outputs, &self.scores, &["1", &points, &columns.to_string()])?;
        if !self.anchors.is_empty() {
            shape::expect(outputs, &self.anchors, &["1", &points, "4"])
                .or_else(|error| shape::expect(outputs, &self.anchors, &[&points, "4"]).map_err(|_| error))?;
        }
        Ok(())
    }

    fn decode(
        &self,
        outputs: &[Output<'_>],
        input: InputSize,
        keep: &Keep,
    ) -> Result<Decoded, ShapeMismatch> {
        let locations = shape::output(outputs, 0, &self.locations)?;
        let scores = shape::output(outputs, 1, &self.scores)?;
        let (points, _) = shape::matrix(&locations)?;
        let (rows, columns) = shape::matrix(&scores)?;
        let (offsets, rest) = locations.data.as_chunks::<4>();
        if !rest.is_empty() || offsets.len() != points || rows != points || columns <= self.background {
            return Err(shape::mismatch(&self.scores, &format!("[1, {points}, C + 1]"), Some(scores.shape)));
        }
        let anchors = match self.anchors.as_str() {
            "" => None,
            name => {
                let output = shape::output(outputs, 2, name)?;
                let anchors = output.data.as_chunks::<4>().0;
                let fits = anchors.len() == points && output.data.len() == 4 * points;
                Some(anchors)
                    .filter(|_| fits)
                    .ok_or_else(|| shape::mismatch(name, &format!("[1, {points}, 4]"), Some(output.shape)))
                    .map(Some)?
            }
        };
        let (mut activated, mut found) = (Vec::new(), Candidates::new(keep));
        for (at, (raw, offsets)) in scores.data.chunks_exact(columns.max(1)).zip(offsets).enumerate() {
            self.activation.apply(raw, &mut activated);
            activated.remove(self.background);
            if !activated.iter().any(|score| *score >= keep.min_score) {
                continue;
            }
            let [x0, y0, x1, y1] = self.place(*offsets, anchors.map(|all| &all[at]));
            let (width, height) = (input.width as f32, input.height as f32);
            found.row(&activated, [x0 * width, y0 * height, x1 * width, y1 * height]);
        }
        Ok(found.suppressed())
    }

    fn guess(&self, outputs: &[(String, Vec<i64>)], _: InputSize) -> Option<Guess> {
        let of = |width: i64| {
            let fits = move |shape: &[i64]| matches!(shape, [1, n, w] if *n > 400 && *w == width);
            outputs.iter().filter(move |(_, shape)| fits(shape)).map(|(name, _)| name)
        };
        let (classes, points) = outputs.iter().find_map(|(name, shape)| match shape.as_slice() {
            &[1, n, width] if n > 400 && width > 4 => Some(((name, width), n)),
            _ => None,
        })?;
        let boxes: Vec<&String> = of(4).collect();
        let same = |name: &String| outputs.iter().any(|(n, shape)| n == name && shape[1] == points);
        let [locations, anchors] = boxes[..] else { return None };
        if outputs.len() != 3 || !same(locations) || !same(anchors) {
            return None;
        }
        let labels = usize::try_from(classes.1).ok()?.checked_sub(1)?;
        let keys = [
            ("locations", locations.as_str().into()),
            ("scores", classes.0.as_str().into()),
            ("anchors", anchors.as_str().into()),
        ];
        Some(shape::guess(Role::Detector, labels, 1, keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::RawBox;

    const INPUT: InputSize = InputSize { width: 100, height: 200 };

    fn keep() -> Keep {
        Keep { min_score: 0.3, classes: vec![true; 2], nms_iou: 0.6, limit: 10 }
    }

    #[test]
    fn offsets_move_and_stretch_their_anchor() {
        // Centre 0.5 + 1 * 0.1 * 0.2 = 0.52; width 0.2 e^(0.2 * 5 ln 2) = 0.4.
        let stretch = 5.0 * std::f32::consts::LN_2;
        let locations = [1.0, 0.0, stretch, 0.0];
        let outputs = [
            Output { name: "locations", shape: &[1, 1, 4], data: &locations },
            Output { name: "scores", shape: &[1, 1, 3], data: &[0.9, 0.1, 0.6] },
            Output { name: "anchors", shape: &[1, 4], data: &[0.5, 0.5, 0.2, 0.4] },
        ];
        let Decoded::Boxes(boxes) = Config::default().decode(&outputs, INPUT, &keep()).unwrap() else {
            panic!()
        };
        let [RawBox { class: 1, score: 0.6, xyxy }] = boxes[..] else { panic!("{boxes:?}") };
        for (found, expected) in xyxy.into_iter().zip([32.0, 60.0, 72.0, 140.0]) {
            assert!((found - expected).abs() < 1e-3, "{xyxy:?}");
        }
    }

    #[test]
    fn without_anchors_locations_are_boxes() {
        let outputs = [
            Output { name: "locations", shape: &[1, 1, 4], data: &[0.1, 0.2, 0.3, 0.4] },
            Output { name: "scores", shape: &[1, 1, 3], data: &[0.1, 0.8, 0.1] },
        ];
        let config = Config { anchors: String::new(), ..Config::default() };
        let Decoded::Boxes(boxes) = config.decode(&outputs, INPUT, &keep()).unwrap() else { panic!() };
        assert_eq!((boxes.len(), boxes[0].class, boxes[0].xyxy[1]), (1, 0, 40.0));
    }

    #[test]
    fn exports_are_recognised_and_others_refused_by_name() {
        let named = |name: &str, shape: [i64; 3]| (name.to_owned(), shape.to_vec());
        let shapes = [
            named("scores", [1, 3000, 21]),
            named("locations", [1, 3000, 4]),
            named("anchors", [1, 3000, 4]),
        ];
        let guess = Config::default().guess(&shapes, INPUT).unwrap();
        assert_eq!((guess.labels, Config::default().check(&shapes, 20, INPUT)), (20, Ok(())));
        let error = Config::default().check(&shapes, 80, INPUT).unwrap_err().to_string();
        assert_eq!(error, "output `scores` should be [1, 3000, 81], is [1, 3000, 21]");
        let error = Config { background: 30, ..Config::default() }.check(&shapes, 20, INPUT).unwrap_err();
        assert!(error.to_string().contains("family.background"), "{error}");
    }
}
