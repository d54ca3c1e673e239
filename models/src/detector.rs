//! A detector: one session, its buffers, and the way from a frame to detections.
//!
//! Owns: the session and the order pre-processing → run → decode → picture coordinates. Does not know: cameras,
//! threads (the daemon gives each detector one), which pictures matter.

use ort::session::Session;
use ort::value::{Tensor, TensorElementType, ValueType};
use vedette_core::{Class, Detection, Frame, View};

use crate::families::{Decoded, InputSize, Keep, Output, ShapeMismatch};
use crate::manifest::{Manifest, ManifestError};
use crate::preprocess::{EmptyView, Preprocessor};
use crate::profile::{Folder, ProfileError, ProviderReport, ProviderShare, RUNS};
use crate::provider::Provider;
use crate::runtime::Runtime;
use crate::session::{self, Opened, Wish};

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
        Self { providers, threads: 1, strict: false, classes: None, min_score: 0.10, nms_iou: 0.6 }
    }
}

/// Why a model does not open or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its file cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// ONNX Runtime refuses the file.
    #[error("model `{model}`: ONNX Runtime does not open {file}: {reason}")]
    Load {
        /// The model.
        model: String,
        /// Its file.
        file: String,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// The network is not the one described.
    #[error(
        "model `{model}`: {what} should be {expected}, is {found}; correct the manifest or fetch the file again"
    )]
    Shape {
        /// The model.
        model: String,
        /// Which input or output.
        what: String,
        /// By the manifest.
        expected: String,
        /// In the file.
        found: String,
    },
    /// A class of the allow-list that the model does not know.
    #[error("model `{model}` knows no class `{class}`; it knows: {known}")]
    UnknownClass {
        /// The model.
        model: String,
        /// The class asked for.
        class: Class,
        /// Those there are.
        known: String,
    },
    /// With `strict`: a provider that cannot be had.
    #[error("model `{model}`: provider {provider} cannot be used: {reason} (inference.strict is on)")]
    Provider {
        /// The model.
        model: String,
        /// The provider.
        provider: Provider,
        /// Why not.
        reason: String,
    },
    /// An inference failed.
    #[error("model `{model}`: {reason}")]
    Run {
        /// The model.
        model: String,
        /// What ONNX Runtime said.
        reason: String,
    },
    /// There is nothing to look at.
    #[error(transparent)]
    View(#[from] EmptyView),
    /// The golden pair does not come out: a broken file, runtime or processor.
    #[error(
        "model `{model}`: mean of `{output}` should be {expected}, is {found}: runtime or file is broken"
    )]
    Golden {
        /// The model.
        model: String,
        /// The output.
        output: String,
        /// By the manifest.
        expected: f64,
        /// On this machine.
        found: f64,
    },
}

/// A network that gives boxes, ready to run. One at a time: give each its own thread.
#[derive(Debug)]
pub struct Detector {
    manifest: Manifest,
    session: Session,
    input: Tensor<u8>,
    preprocessor: Preprocessor,
    keep: Keep,
    sha256: String,
    report: ProviderReport,
}

impl Detector {
    /// Opens `manifest`'s file for the best provider that can be had, checks its shapes, and measures in a throw-away
    /// session who runs it (about ten inferences' time).
    pub fn open(
        runtime: &'static Runtime,
        manifest: &Manifest,
        options: &DetectorOptions,
    ) -> Result<Self, ModelError> {
        let manifest = manifest.clone();
        let classes = allowed(&manifest, options.classes.as_deref())?;
        let (providers, threads, strict) = (options.providers.as_slice(), options.threads, options.strict);
        let wish = Wish { runtime, manifest: &manifest, providers, threads, strict };
        let opened = session::open(wish)?;
        check_input(&manifest, &opened.session)?;
        check_outputs(&manifest, &opened.session)?;
        let spec = manifest.input();
        let mut input = tensor(&manifest)?;
        let shares = measure(wish, &opened, &mut input);
        let report = ProviderReport {
            runtime: runtime.version().to_owned(),
            form: opened.form,
            requested: options.providers.clone(),
            registrations: opened.registrations,
            shares,
        };
        judge(&manifest, &report, &opened.providers, options.strict)?;
        let preprocessor = Preprocessor::new(spec.width, spec.height, spec.color, spec.pad);
        let keep =
            Keep { min_score: options.min_score, classes, nms_iou: options.nms_iou, limit: MOST_BOXES };
        let Opened { session, sha256, .. } = opened;
        Ok(Self { session, input, preprocessor, keep, sha256, report, manifest })
    }

    /// What is on the view of a frame: boxes 0..1 of the whole, unturned picture, strongest first, at most 100.
    pub fn detect(&mut self, frame: &Frame, view: View) -> Result<Vec<Detection>, ModelError> {
        let keep = self.keep.clone();
        self.detect_keeping(frame, view, &keep)
    }

    /// The same with every class and another threshold: for evaluation.
    pub(crate) fn detect_all(
        &mut self,
        frame: &Frame,
        min_score: f32,
        limit: usize,
    ) -> Result<Vec<Detection>, ModelError> {
        let classes = vec![true; self.labels().len()];
        let keep = Keep { min_score, classes, limit, nms_iou: self.keep.nms_iou };
        self.detect_keeping(frame, View::WHOLE, &keep)
    }

    fn detect_keeping(
        &mut self,
        frame: &Frame,
        view: View,
        keep: &Keep,
    ) -> Result<Vec<Detection>, ModelError> {
        let letterbox = self.preprocessor.run(frame, view, self.input.extract_tensor_mut().1)?;
        let decode = |manifest: &Manifest, outputs: &[Output<'_>]| {
            manifest.family().decode(outputs, input_size(manifest), keep)
        };
        let Decoded::Boxes(found) = self.run(decode)? else {
            let reason = "its family gives no boxes; name a detector".to_owned();
            return Err(ModelError::Run { model: self.name().to_owned(), reason });
        };
        let labels = self.manifest.labels();
        let detections = found.into_iter().filter_map(|raw| {
            let bbox = letterbox.to_picture(raw.xyxy);
            let class = labels.get(raw.class)?.clone();
            // Wholly in the padding: not in the picture.
            (bbox.area() > 0.0).then_some(Detection { class, score: raw.score, bbox })
        });
        Ok(detections.collect())
    }

    /// Runs the golden input of the manifest and compares what comes out: tells a working file, runtime and
    /// processor from a broken one. Says nothing for other forms than the measured one.
    pub fn check_golden(&mut self) -> Result<(), ModelError> {
        let golden = self.manifest.golden().clone();
        if golden.form != self.report.form {
            return Ok(());
        }
        fill_golden(self.input.extract_tensor_mut().1, golden.multiplier);
        let means = self.run(|_, outputs| {
            Ok(outputs.iter().map(|o| (o.name.to_owned(), mean(o.data))).collect::<Vec<_>>())
        })?;
        for (output, found) in means {
            let expected = golden.means.get(&output).copied().unwrap_or(f64::NAN);
            let near = (found - expected).abs() <= expected.abs() * golden.tolerance;
            if !near {
                let model = self.manifest.name().to_owned();
                return Err(ModelError::Golden { model, output, expected, found });
            }
        }
        Ok(())
    }

    fn run<T>(
        &mut self,
        use_outputs: impl FnOnce(&Manifest, &[Output<'_>]) -> Result<T, ShapeMismatch>,
    ) -> Result<T, ModelError> {
        let manifest = &self.manifest;
        let failed = |reason: String| ModelError::Run { model: manifest.name().to_owned(), reason };
        let outputs = self.session.run(ort::inputs![&self.input]).map_err(|e| failed(e.to_string()))?;
        let mut views = Vec::new();
        for name in manifest.family().outputs() {
            let value = outputs.get(name).ok_or_else(|| failed(format!("gave no output `{name}`")))?;
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(|e| failed(e.to_string()))?;
            views.push(Output { name, shape, data });
        }
        use_outputs(manifest, &views).map_err(|e| failed(e.to_string()))
    }

    /// Every class the model knows, in the order of its outputs.
    pub fn labels(&self) -> &[Class] {
        self.manifest.labels()
    }

    /// The model's name in the configuration.
    pub fn name(&self) -> &str {
        self.manifest.name()
    }

    /// SHA-256 of the file that runs, lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Who runs it: wished, registered, measured.
    pub fn report(&self) -> &ProviderReport {
        &self.report
    }
}

fn input_size(manifest: &Manifest) -> InputSize {
    let spec = manifest.input();
    InputSize { width: spec.width, height: spec.height }
}

fn mean(data: &[f32]) -> f64 {
    data.iter().map(|v| f64::from(*v)).sum::<f64>() / data.len().max(1) as f64
}

/// Byte i is the top byte of i · `multiplier` (wrapping at 32 bits).
fn fill_golden(bytes: &mut [u8], multiplier: u32) {
    for (i, byte) in (0u32..).zip(bytes) {
        *byte = (i.wrapping_mul(multiplier) >> 24) as u8;
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

fn check_input(manifest: &Manifest, session: &Session) -> Result<(), ModelError> {
    let spec = manifest.input();
    let wanted = [1, spec.height as i64, spec.width as i64, 3];
    let expected = format!("one tensor `{}` of u8 {wanted:?}", spec.name);
    let found = match session.inputs() {
        [only] => match only.dtype() {
            ValueType::Tensor { ty: TensorElementType::Uint8, shape, .. }
                if only.name() == spec.name
                    && shape.len() == wanted.len()
                    && shape.iter().zip(wanted).all(|(found, w)| *found == w || *found == -1) =>
            {
                return Ok(());
            }
            other => format!("`{}` of {other}", only.name()),
        },
        several => format!("{} inputs", several.len()),
    };
    Err(ModelError::Shape {
        model: manifest.name().to_owned(),
        what: "the input".to_owned(),
        expected,
        found,
    })
}

fn check_outputs(manifest: &Manifest, session: &Session) -> Result<(), ModelError> {
    let shapes: Vec<(String, Vec<i64>)> = session
        .outputs()
        .iter()
        .filter(|outlet| outlet.dtype().tensor_type() == Some(TensorElementType::Float32))
        .filter_map(|outlet| Some((outlet.name().to_owned(), outlet.dtype().tensor_shape()?.to_vec())))
        .collect();
    let check = manifest.family().check(&shapes, manifest.labels().len(), input_size(manifest));
    check.map_err(|mismatch| ModelError::Shape {
        model: manifest.name().to_owned(),
        what: format!("output `{}`", mismatch.output),
        expected: mismatch.expected,
        found: mismatch.found,
    })
}

/// The input of a network, filled with its padding.
fn tensor(manifest: &Manifest) -> Result<Tensor<u8>, ModelError> {
    let spec = manifest.input();
    let bytes = vec![spec.pad; spec.width * spec.height * 3];
    Tensor::from_array(([1, spec.height, spec.width, 3], bytes))
        .map_err(|e| ModelError::Run { model: manifest.name().to_owned(), reason: e.to_string() })
}

/// Who runs what; empty, with a line in the log, where it cannot be measured (no folder for temporary files).
fn measure(wish: Wish<'_>, opened: &Opened, input: &mut Tensor<u8>) -> Vec<ProviderShare> {
    fill_golden(input.extract_tensor_mut().1, 2_654_435_761);
    let profile = || -> Result<_, ProfileError> {
        let folder = Folder::create()?;
        let failed = |e: ort::Error| ProfileError::Session(e.to_string());
        let mut session = session::profiled(wish, opened, &folder.prefix()).map_err(ProfileError::Session)?;
        for _ in 0..RUNS {
            session.run(ort::inputs![&*input]).map_err(failed)?;
        }
        Folder::read(&session.end_profiling().map_err(failed)?)
    };
    profile().unwrap_or_else(|error| {
        log::warn!(model = wish.manifest.name();
            "{}: cannot measure which provider runs it: {error}", wish.manifest.name());
        Vec::new()
    })
}

/// One clear line about who runs the model; with `strict` a first provider that runs nothing is an error.
fn judge(
    manifest: &Manifest,
    report: &ProviderReport,
    used: &[Provider],
    strict: bool,
) -> Result<(), ModelError> {
    let (model, form) = (manifest.name(), report.form);
    for share in &report.shares {
        log::info!(model = model, provider = share.provider.as_str();
            "{model} ({form}): {} runs {:.0} % of the multiplying nodes, {:.0} % of the time",
            share.provider, 100.0 * share.mac_share, 100.0 * share.time_share);
    }
    let Some(&first) = used.first() else { return Ok(()) };
    if let Some(best) = manifest.best_listed(first).filter(|best| *best != form) {
        log::warn!(model = model; "{model}: the {best} file, which {first} runs best, is missing: {form} runs instead");
    }
    if report.share_of(first) != Some(0.0) {
        return Ok(());
    }
    let reason = format!("it registered but runs no multiplying node of the {form} file");
    if strict {
        return Err(ModelError::Provider { model: model.to_owned(), provider: first, reason });
    }
    log::warn!(model = model, provider = first.name(); "{model}: provider {first}: {reason}");
    Ok(())
}

#[cfg(test)]
#[path = "detector_tests.rs"]
mod tests;
