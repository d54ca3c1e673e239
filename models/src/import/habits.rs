//! What networks of a family usually take and name, where the graph does not say it.
//!
//! Owns: these assumptions, with their sources. Does not know: files, sessions. Every assumption can be overruled and
//! is told to the user.

use vedette_core::{Class, Role};

use super::ImportOptions;
use crate::manifest::{ColorOrder, Element, Fit, InputSpec};

/// ImageNet's mean and deviation of R, G and B in bytes: what torchvision normalises with.
const IMAGENET: ([f32; 3], [f32; 3]) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
/// 0..1.
const UNIT: ([f32; 3], [f32; 3]) = ([0.0; 3], [255.0; 3]);
/// Bytes as they are.
const BYTES: ([f32; 3], [f32; 3]) = ([0.0; 3], [1.0; 3]);

/// How a family's networks usually want their picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// Order of the channels.
    pub color: ColorOrder,
    /// Subtracted, in that order.
    pub mean: [f32; 3],
    /// Divided by then.
    pub std: [f32; 3],
    /// How the picture is brought to their sides.
    pub fit: Fit,
    /// Whose habit it is.
    pub why: &'static str,
}

impl Habits {
    /// Those of a kind. A graph that takes integers normalises them itself.
    pub fn of(kind: &str, role: Role, element: Element) -> Self {
        let (color, (mean, std), why) = match (kind, role) {
            ("yolox", _) => {
                (ColorOrder::Bgr, BYTES, "YOLOX: blue first, bytes as they are (Megvii, since 0.2)")
            }
            ("nanodet", _) => (
                ColorOrder::Bgr,
                // The same numbers as ImageNet's, for blue first; NanoDet rounds none of them.
                ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395]),
                "NanoDet: blue first, ImageNet's mean and deviation (its img_norm_cfg)",
            ),
            ("movenet", _) => (ColorOrder::Rgb, BYTES, "MoveNet: red first, bytes as they are"),
            ("simcc" | "rtmpose", _) => {
                (ColorOrder::Rgb, IMAGENET, "RTMPose: red first, ImageNet's mean and deviation")
            }
            (detr, _) if detr.starts_with("rt") && detr.contains("detr") => {
                (ColorOrder::Rgb, UNIT, "RT-DETR: red first, 0..1")
            }
            (detr, _) if detr.contains("detr") => {
                (ColorOrder::Rgb, IMAGENET, "DETR: red first, ImageNet's mean and deviation")
            }
            (_, Role::Classifier | Role::Features) => {
                (ColorOrder::Rgb, IMAGENET, "torchvision: red first, ImageNet's mean and deviation")
            }
            _ => (ColorOrder::Rgb, UNIT, "most exports, the YOLO families among them: red first, 0..1"),
        };
        // TensorFlow's fixed_shape_resizer, torchvision's SSD, RT-DETR's and RF-DETR's resize: without padding.
        let fit = if kind == "ssd" || kind.contains("detr") { Fit::Stretch } else { Fit::Letterbox };
        match element {
            Element::F32 => Self { color, mean, std, fit, why },
            _ => {
                let why = "an input of integers: bytes as they are";
                Self { color, mean: [0.0; 3], std: [1.0; 3], fit, why }
            }
        }
    }

    /// Fills what was not asked for, and says so.
    pub(super) fn apply(self, input: &mut InputSpec, options: &ImportOptions, findings: &mut Vec<String>) {
        input.color = options.color.unwrap_or(self.color);
        // Where only the order was asked for, the numbers go with their colours.
        let turned = |values: [f32; 3]| {
            if input.color == self.color { values } else { [values[2], values[1], values[0]] }
        };
        input.mean = options.mean.unwrap_or(turned(self.mean));
        input.std = options.std.unwrap_or(turned(self.std));
        input.fit = options.fit.unwrap_or(self.fit);
        let flags = [
            ("--color", options.color.is_none()),
            ("--mean", options.mean.is_none()),
            ("--std", options.std.is_none()),
        ];
        let assumed: Vec<_> = flags.into_iter().filter(|(_, open)| *open).map(|(flag, _)| flag).collect();
        if !assumed.is_empty() {
            let first = if input.color == ColorOrder::Bgr { "blue" } else { "red" };
            findings.push(format!(
                "pixels: {first} first, mean {:?}, std {:?}; assumed as in {} ({})",
                input.mean,
                input.std,
                self.why,
                assumed.join(", ")
            ));
        }
        if input.fit == Fit::Stretch && options.fit.is_none() {
            findings.push(
                "pictures are stretched to the input's sides, as its family is trained (--fit)".to_owned(),
            );
        }
    }
}

/// The set of names that such networks were usually trained on.
pub(super) fn labels(role: Role, count: usize) -> Option<(&'static str, Vec<Class>)> {
    let (set, names) = match (role, count) {
        (Role::Detector, 80) => ("COCO's classes", COCO),
        (Role::Pose, 17) => ("COCO's key points", KEY_POINTS),
        _ => return None,
    };
    Some((set, names.split(", ").map(Class::new).collect()))
}

/// In the order of their ids, <https://cocodataset.org>.
pub(super) const COCO: &str = "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, \
    fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, \
    backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, \
    baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, \
    apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, \
    dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, \
    refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush";

/// Likewise.
const KEY_POINTS: &str = "nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow, \
    right elbow, left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle, right ankle";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    #[test]
    fn the_shipped_models_name_what_is_assumed_here() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        for (name, role) in [("nanodet-g-416", Role::Detector), ("movenet-lightning", Role::Pose)] {
            let manifest = Manifest::load(std::slice::from_ref(&root), name).unwrap();
            assert_eq!(labels(role, manifest.labels().len()).unwrap().1, manifest.labels());
        }
        assert!(labels(Role::Detector, 1).is_none());
    }

    #[test]
    fn integers_are_never_normalised_and_floats_by_their_family() {
        assert_eq!(Habits::of("yolov8", Role::Detector, Element::F32).std, [255.0; 3]);
        assert_eq!(Habits::of("yolox", Role::Detector, Element::F32).color, ColorOrder::Bgr);
        assert_eq!(Habits::of("yolov8", Role::Detector, Element::U8).std, [1.0; 3]);
    }

    #[test]
    fn families_that_learn_from_stretched_pictures_get_them() {
        for (kind, fit) in [("ssd", Fit::Stretch), ("rtdetr", Fit::Stretch), ("yolox", Fit::Letterbox)] {
            assert_eq!(Habits::of(kind, Role::Detector, Element::U8).fit, fit, "{kind}");
        }
    }
}
