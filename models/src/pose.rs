//! Key points of one person: a network on a square crop round the person's box.
//!
//! Owns: the crop and the way back to picture coordinates. Does not know: who found the person.

use vedette_core::{BBox, Frame, Role, Rotation, View};

use crate::families::Decoded;
use crate::manifest::Manifest;
use crate::network::{ModelError, Network, NetworkOptions, everything, expect_role};
use crate::runtime::Runtime;

/// Side of the crop, in longer sides of the box.
const MARGIN: f32 = 1.25;

/// One key point of a person.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct KeyPoint {
    /// 0..1 of the picture's width; a little outside where the network guesses beyond the border.
    pub x: f32,
    /// 0..1 of the picture's height.
    pub y: f32,
    /// 0..1.
    pub score: f32,
}

/// A pose network, ready to run. The key points stand in the order of the manifest's labels.
#[derive(Debug)]
pub struct PoseEstimator {
    network: Network,
}

impl PoseEstimator {
    /// As [`Network::open`]; refuses a model of another role.
    pub fn open(
        runtime: &'static Runtime,
        manifest: &Manifest,
        options: &NetworkOptions,
    ) -> Result<Self, ModelError> {
        expect_role(manifest, Role::Pose)?;
        Ok(Self { network: Network::open(runtime, manifest, options)? })
    }

    /// The key points of the person in the box (0..1 of the picture).
    pub fn estimate(&mut self, frame: &Frame, person: BBox) -> Result<Vec<KeyPoint>, ModelError> {
        let aspect = frame.pixel_aspect();
        let size = (frame.width() as f32 * aspect, frame.height() as f32);
        self.look(frame, View { region: crop(person, size), rotation: Rotation::None })
    }

    /// The key points of the person that the view shows.
    pub fn look(&mut self, frame: &Frame, view: View) -> Result<Vec<KeyPoint>, ModelError> {
        let letterbox = self.network.look(frame, view)?;
        let Decoded::Pose(points) = self.network.decode(&everything())? else {
            return Err(self.network.failed("its family gives no key points".to_owned()));
        };
        let back = points.into_iter().map(|point| {
            let (x, y) = letterbox.point_to_picture(point.x, point.y);
            KeyPoint { x, y, score: point.score }
        });
        Ok(back.collect())
    }

    /// The model's name in the configuration.
    pub fn name(&self) -> &str {
        self.network.name()
    }

    /// The network behind it.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }
}

/// A square round the middle of the box, in shares of a picture of `size`. It may reach beyond the picture: the person
/// stays in its middle, as in the crops the network was trained on, and the letterbox pads what lies outside.
fn crop(person: BBox, (width, height): (f32, f32)) -> BBox {
    let (w, h) = ((person.x1 - person.x0) * width, (person.y1 - person.y0) * height);
    let half = MARGIN * w.max(h) / 2.0;
    let (x, y) = ((person.x0 + person.x1) / 2.0, (person.y0 + person.y1) / 2.0);
    BBox { x0: x - half / width, y0: y - half / height, x1: x + half / width, y1: y + half / height }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crop_is_a_square_of_pixels_round_the_box() {
        let crop = crop(BBox { x0: 0.45, y0: 0.3, x1: 0.55, y1: 0.7 }, (1000.0, 500.0));
        // 100 x 200 pixels; 250 x 250 round its middle.
        let expected = [0.375, 0.25, 0.625, 0.75];
        for (found, expected) in <[f32; 4]>::from(crop).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{crop:?}");
        }
    }

    #[test]
    fn a_person_at_the_border_stays_in_the_middle() {
        let crop = crop(BBox { x0: 0.0, y0: 0.0, x1: 0.2, y1: 0.4 }, (100.0, 100.0));
        let expected = [-0.15, -0.05, 0.35, 0.45];
        for (found, expected) in <[f32; 4]>::from(crop).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{crop:?}");
        }
    }
}
