//! Accuracy of detectors and pose networks on COCO-style sets, through the product's own pre-processing: a JPEG becomes planes of luma
//! and chroma as a decoder would leave them, then takes the way of every frame.
//!
//! Owns: what `vedette model eval` measures. Does not know: the command line.

mod average_precision;
mod coco;
mod keypoints;
mod picture;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use self::average_precision::{Found, Scorer};
use crate::detector::Detector;
use crate::network::ModelError;
use crate::provider::Form;

pub use self::keypoints::{PoseEvaluation, evaluate_pose};
pub use self::picture::{frame_from_rgb, read_picture};

/// Detections below this are not counted.
const MIN_SCORE: f32 = 0.01;

/// Images with their boxes; on the command line `IMAGES_DIR:ANNOTATIONS.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CocoSet {
    /// Folder of the images.
    pub images: PathBuf,
    /// COCO JSON: `images`, `annotations`, `categories`.
    pub annotations: PathBuf,
}

impl FromStr for CocoSet {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once(':') {
            Some((images, annotations)) if !images.is_empty() && !annotations.is_empty() => {
                Ok(Self { images: images.into(), annotations: annotations.into() })
            }
            _ => Err(format!("`{text}` is no set: write IMAGES_DIR:ANNOTATIONS.json")),
        }
    }
}

/// How accurate a model is. Average precision: 101 recall points, at most 100 boxes of a class an image, scores from 0.01, crowds
/// ignored, mean over the classes that have a box in the set; all sets pooled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The model.
    pub model: String,
    /// The form that ran.
    pub form: Form,
    /// Images looked at.
    pub images: usize,
    /// Boxes there are, crowds left out.
    pub boxes: usize,
    /// Mean over the IoU thresholds 0.50, 0.55, … 0.95.
    pub ap: f64,
    /// At IoU 0.5.
    pub ap50: f64,
    /// The same by class.
    pub ap50_by_class: BTreeMap<String, f64>,
}

/// Why a set cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file that cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Annotations that are not COCO's.
    #[error("{path}: {source}", path = .path.display())]
    Annotations {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// An image that is none.
    #[error("{path}: {reason}", path = .path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There is nothing to measure against.
    #[error("the sets have no box of a class that model `{model}` knows")]
    NoTruth {
        /// The model.
        model: String,
    },
    /// A pose network has nothing to be measured against.
    #[error(
        "the sets have no person with key points to measure model `{model}` by; give COCO's person_keypoints"
    )]
    NoPersons {
        /// The model.
        model: String,
    },
    /// A pose network of other points than COCO's.
    #[error("model `{model}` has no label `{point}`: only COCO's 17 key points can be evaluated")]
    NoPoint {
        /// The model.
        model: String,
        /// The first that is missing.
        point: &'static str,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Runs `detector` over every image of `sets`; `progress` is told (done, all) after each.
pub fn evaluate(
    detector: &mut Detector,
    sets: &[CocoSet],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation, EvalError> {
    let mut pictures = Vec::new();
    for set in sets {
        pictures.extend(coco::read(set)?);
    }
    let mut scorer = Scorer::default();
    for (done, picture) in pictures.iter().enumerate() {
        let frame = read_picture(&picture.path)?;
        let size = (frame.width() as f32, frame.height() as f32);
        let found = detector.detect_all(&frame, MIN_SCORE)?;
        let found = found.iter().map(|d| Found { class: d.class.as_str(), score: d.score, bbox: d.bbox });
        scorer.add(found, &picture.truths(size));
        progress(done + 1, pictures.len());
    }
    let scores = scorer.finish(|class| detector.labels().iter().any(|label| label.as_str() == class));
    let Some(mean) = scores.mean() else {
        return Err(EvalError::NoTruth { model: detector.name().to_owned() });
    };
    Ok(Evaluation {
        model: detector.name().to_owned(),
        form: detector.report().form,
        images: pictures.len(),
        boxes: scores.boxes(),
        ap: mean.ap,
        ap50: mean.ap50,
        ap50_by_class: scores.ap50_by_class(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_two_paths() {
        let set: CocoSet = "data/images:data/persons.json".parse().unwrap();
        assert_eq!(set.annotations, PathBuf::from("data/persons.json"));
        assert!("data/images".parse::<CocoSet>().is_err() && ":x.json".parse::<CocoSet>().is_err());
    }
}
