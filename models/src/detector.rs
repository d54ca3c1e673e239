//! A detector: a network whose outputs are boxes, and what of them is kept.
//!
//! Owns: the allow-list of classes and the way to picture coordinates. Does not know: cameras, threads, which pictures
//! matter.

use vedette_core::{Class, Detection, Frame, Role, View};

use crate::families::{Decoded, Keep};
use crate::manifest::Manifest;
use crate::network::{ModelError, Network, NetworkOptions, expect_role};
use crate::profile::ProviderReport;
use crate::provider::Provider;
use crate::runtime::Runtime;
use crate::tensorrt::TensorRtOptions;
use crate::upgrade::Serving;

/// At most so many boxes a frame: as COCO counts, and more than any scene needs.
const MOST_BOXES: usize = 100;

/// How a model shall be run and what of its answers shall be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorOptions {
    /// In order of wish; the CPU provider stands behind every list. Default: the CPU provider alone.
    pub providers: Vec<Provider>,
    /// Threads of one inference; default 1: a second one gains nearly nothing.
    pub threads: usize,
    /// Makes a provider that cannot be had, or runs nothing, an error; default off.
    pub strict: bool,
    /// Of TensorRT, where it is wished.
    pub tensorrt: TensorRtOptions,
    /// Which classes are reported; default all.
    pub classes: Option<Vec<Class>>,
    /// Scores from here on are reported; default 0.10.
    pub min_score: f32,
    /// Of two boxes of one class that overlap by more than this (IoU), the weaker one goes; default 0.6.
    pub nms_iou: f32,
}

impl Default for DetectorOptions {
    fn default() -> Self {
        let providers = vec![Provider::Cpu];
        let tensorrt = TensorRtOptions::default();
        Self { providers, threads: 1, strict: false, tensorrt, classes: None, min_score: 0.10, nms_iou: 0.6 }
    }
}

/// A network that gives boxes, ready to run. One at a time: give each its own thread.
#[derive(Debug)]
pub struct Detector {
    network: Network,
    keep: Keep,
}

impl Detector {
    /// Opens `manifest`'s file for the best provider that can be had, checks its shapes, and measures in a throw-away
    /// session who runs it (about ten inferences' time).
    pub fn open(
        runtime: &'static Runtime,
        manifest: &Manifest,
        options: &DetectorOptions,
    ) -> Result<Self, ModelError> {
        expect_role(manifest, Role::Detector)?;
        let classes = allowed(manifest, options.classes.as_deref())?;
        let DetectorOptions { providers, threads, strict, tensorrt, min_score, nms_iou, .. } =
            options.clone();
        let options = NetworkOptions { providers, threads, strict, tensorrt };
        let network = Network::open(runtime, manifest, &options)?;
        Ok(Self { network, keep: Keep { min_score, classes, nms_iou, limit: MOST_BOXES } })
    }

    /// What is on the view of a frame: boxes 0..1 of the whole, unturned picture, strongest first, at most 100.
    pub fn detect(&mut self, frame: &Frame, view: View) -> Result<Vec<Detection>, ModelError> {
        let keep = self.keep.clone();
        self.detect_keeping(frame, view, &keep)
    }

    /// The same with every class, another threshold and no limit: for evaluation, which counts by class.
    pub(crate) fn detect_all(&mut self, frame: &Frame, min_score: f32) -> Result<Vec<Detection>, ModelError> {
        let classes = vec![true; self.labels().len()];
        let keep = Keep { min_score, classes, limit: usize::MAX, nms_iou: self.keep.nms_iou };
        self.detect_keeping(frame, View::WHOLE, &keep)
    }

    fn detect_keeping(
        &mut self,
        frame: &Frame,
        view: View,
        keep: &Keep,
    ) -> Result<Vec<Detection>, ModelError> {
        let letterbox = self.network.look(frame, view)?;
        let Decoded::Boxes(found) = self.network.decode(keep)? else {
            return Err(self.network.failed("its family gives no boxes".to_owned()));
        };
        let labels = self.network.manifest().labels();
        let detections = found.into_iter().filter_map(|raw| {
            let bbox = letterbox.to_picture(raw.xyxy);
            let class = labels.get(raw.class)?.clone();
            // Wholly in the padding: not in the picture.
            (bbox.area() > 0.0).then_some(Detection { class, score: raw.score, bbox })
        });
        Ok(detections.collect())
    }

    /// As [`Network::check_golden`].
    pub fn check_golden(&mut self) -> Result<(), ModelError> {
        self.network.check_golden()
    }

    /// Every class the model knows, in the order of its outputs.
    pub fn labels(&self) -> &[Class] {
        self.network.manifest().labels()
    }

    /// The model's name in the configuration.
    pub fn name(&self) -> &str {
        self.network.name()
    }

    /// SHA-256 of the file that runs, lower-case hex.
    pub fn sha256(&self) -> &str {
        self.network.sha256()
    }

    /// Who runs it: wished, registered, measured.
    pub fn report(&self) -> &ProviderReport {
        self.network.report()
    }

    /// Tells the same also while another thread runs it.
    pub fn serving(&self) -> Serving {
        self.network.serving()
    }

    /// The network behind it.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }
}

fn allowed(manifest: &Manifest, classes: Option<&[Class]>) -> Result<Vec<bool>, ModelError> {
    let labels = manifest.labels();
    let Some(classes) = classes else { return Ok(vec![true; labels.len()]) };
    if let Some(class) = classes.iter().find(|class| !labels.contains(class)) {
        let known = labels.iter().map(Class::as_str).collect::<Vec<_>>().join(", ");
        return Err(ModelError::UnknownClass {
            model: manifest.name().to_owned(),
            class: class.clone(),
            known,
        });
    }
    Ok(labels.iter().map(|label| classes.contains(label)).collect())
}

#[cfg(test)]
#[path = "detector_tests.rs"]
pub(crate) mod tests;
