//! What networks of a family usually take and name, where the graph does not say it.
//!
//! Owns: these assumptions, with their sources. Does not know: files, sessions. Every assumption can be overruled and
//! is told to the user.

use vedette_core::{Class, Role};

use super::ImportOptions;
use crate::manifest::{ColorOrder, Element, Fit, InputSpec};

/// Mean and deviation of the three channels, in bytes.
type Normalisation = ([f32; 3], [f32; 3]);
/// ImageNet's of R, G and B: what torchvision normalises with.
const IMAGENET: Normalisation = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
/// The same numbers for blue first; NanoDet rounds none of them.
const IMAGENET_BGR: Normalisation = ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395]);
/// 0..1.
const UNIT: Normalisation = ([0.0; 3], [255.0; 3]);
/// Nearly -1..1.
const CENTRED: Normalisation = ([127.0; 3], [128.0; 3]);
/// Bytes as they are.
const BYTES: Normalisation = ([0.0; 3], [1.0; 3]);

/// What networks of a registered kind usually take.
struct Usual(&'static str, ColorOrder, Normalisation, Fit, &'static str);

const USUAL: [Usual; 12] = {
    use ColorOrder::{Bgr, Rgb};
    use Fit::{Letterbox, Stretch};
    const NANODET: &str = "NanoDet: blue first, ImageNet's mean and deviation (its img_norm_cfg)";
    const ULTRALYTICS: &str = "Ultralytics' exports: red first, 0..1";
    const TORCHVISION: &str = "torchvision: red first, ImageNet's mean and deviation";
    // pytorch-ssd, torchvision's SSD and all of DETR resize without padding.
    [
        Usual("nanodet", Bgr, IMAGENET_BGR, Letterbox, NANODET),
        Usual("nanodet_plus", Bgr, IMAGENET_BGR, Letterbox, NANODET),
        Usual("yolox", Bgr, BYTES, Letterbox, "YOLOX: blue first, bytes as they are (Megvii, since 0.2)"),
        Usual("yolo", Rgb, UNIT, Letterbox, ULTRALYTICS),
        Usual("yolo_end2end", Rgb, UNIT, Letterbox, ULTRALYTICS),
        Usual(
            "ssd",
            Rgb,
            CENTRED,
            Stretch,
            "qfgaohao/pytorch-ssd with a MobileNet: red first, mean 127, deviation 128; one of torchvision normalises \
             itself and wants 0..1: --mean 0,0,0 --std 255,255,255",
        ),
        Usual("detr", Rgb, UNIT, Stretch, RT_DETR_OR_OTHER),
        Usual("movenet", Rgb, BYTES, Letterbox, "MoveNet: red first, bytes as they are"),
        Usual("simcc", Rgb, IMAGENET, Letterbox, "RTMPose: red first, ImageNet's mean and deviation"),
        Usual(
            "heatmap",
            Rgb,
            IMAGENET,
            Letterbox,
            "HRNet and mmpose: red first, ImageNet's mean and deviation",
        ),
        Usual("classifier", Rgb, IMAGENET, Letterbox, TORCHVISION),
        Usual("features", Rgb, IMAGENET, Letterbox, TORCHVISION),
    ]
};

const RT_DETR_OR_OTHER: &str = "RT-DETR: red first, 0..1; the outputs do not tell it from DETR, Deformable DETR and \
    RF-DETR, which want ImageNet's: --mean 123.675,116.28,103.53 --std 58.395,57.12,57.375";

/// Whose heir of DETR it is, by its outputs: RF-DETR's export names them `dets` and `labels`; DETR has 100 queries; of
/// COCO, RT-DETR has the 80 classes there are, the others all 91 ids, DETR with "no object" behind them.
fn detr(outputs: &[(String, Vec<i64>)]) -> (Normalisation, &'static str) {
    let named = |wanted: &str| outputs.iter().any(|(name, _)| name == wanted);
    let scores = outputs.iter().map(|(_, shape)| shape.as_slice()).find(|shape| shape.last() != Some(&4));
    match scores {
        _ if named("dets") && named("labels") => {
            (IMAGENET, "RF-DETR, by its outputs' names: red first, ImageNet's mean and deviation")
        }
        Some(&[_, 300, 80]) => (UNIT, "RT-DETR, by its 80 classes: red first, 0..1"),
        Some(&[_, 100, _] | &[_, _, 91 | 92]) => {
            (IMAGENET, "DETR, by its queries and classes: red first, ImageNet's mean and deviation")
        }
        _ => (UNIT, RT_DETR_OR_OTHER),
    }
}

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
    /// Those of a kind with such outputs (names and shapes). A graph that takes integers normalises them itself.
    pub fn of(kind: &str, outputs: &[(String, Vec<i64>)], element: Element) -> Self {
        let most = Usual("", ColorOrder::Rgb, UNIT, Fit::Letterbox, "most exports: red first, 0..1");
        let usual = USUAL.iter().find(|usual| usual.0 == kind).unwrap_or(&most);
        let &Usual(_, color, mut normalisation, fit, mut why) = usual;
        if kind == "detr" {
            (normalisation, why) = detr(outputs);
        }
        if element != Element::F32 {
            (normalisation, why) = (BYTES, "an input of integers: bytes as they are");
        }
        let (mean, std) = normalisation;
        Self { color, mean, std, fit, why }
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
    use crate::families;
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

    const KINDS_OF_BLUE: [&str; 3] = ["nanodet", "nanodet_plus", "yolox"];

    #[test]
    fn habits_are_of_kinds_that_there_are() {
        let mut named: Vec<&str> = USUAL.iter().map(|usual| usual.0).collect();
        for kind in &named {
            assert!(families::ALL.iter().any(|known| known.name == *kind), "{kind}");
        }
        named.sort_unstable();
        named.dedup();
        assert_eq!(named.len(), USUAL.len(), "one of each");
    }

    #[test]
    fn floats_are_normalised_by_their_family_and_integers_never() {
        let cases = [
            ("nanodet", IMAGENET_BGR),
            ("nanodet_plus", IMAGENET_BGR),
            ("yolox", BYTES),
            ("yolo", UNIT),
            ("yolo_end2end", UNIT),
            ("ssd", CENTRED),
            ("movenet", BYTES),
            ("simcc", IMAGENET),
            ("heatmap", IMAGENET),
            ("classifier", IMAGENET),
            ("features", IMAGENET),
        ];
        for (kind, expected) in cases {
            let habits = Habits::of(kind, &[], Element::F32);
            assert_eq!((habits.mean, habits.std), expected, "{kind}");
            assert_eq!(habits.color == ColorOrder::Bgr, KINDS_OF_BLUE.contains(&kind), "{kind}");
            assert_eq!(Habits::of(kind, &[], Element::U8).std, [1.0; 3], "{kind}");
        }
    }

    #[test]
    fn heirs_of_detr_are_told_apart_or_the_doubt_is_said() {
        struct Case([&'static str; 2], [i64; 2], Normalisation, bool);
        let cases = [
            Case(["logits", "pred_boxes"], [300, 80], UNIT, false),
            Case(["logits", "pred_boxes"], [100, 92], IMAGENET, false),
            Case(["logits", "pred_boxes"], [300, 91], IMAGENET, false),
            Case(["labels", "dets"], [300, 5], IMAGENET, false),
            Case(["logits", "pred_boxes"], [300, 5], UNIT, true),
        ];
        for Case([logits, boxes], [queries, classes], expected, doubt) in cases {
            let outputs =
                [(boxes.to_owned(), vec![1, queries, 4]), (logits.to_owned(), vec![1, queries, classes])];
            let habits = Habits::of("detr", &outputs, Element::F32);
            assert_eq!((habits.mean, habits.std), expected, "{queries} {classes}");
            assert_eq!(habits.why.contains("--mean 123.675,116.28,103.53"), doubt, "{}", habits.why);
        }
    }

    #[test]
    fn families_that_learn_from_stretched_pictures_get_them() {
        for kind in families::ALL {
            let stretched = matches!(kind.name, "ssd" | "detr");
            let fit = Habits::of(kind.name, &[], Element::U8).fit;
            assert_eq!(fit == Fit::Stretch, stretched, "{}", kind.name);
        }
    }
}
