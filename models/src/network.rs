//! A network of any role: one session, its input, and the way from a frame to decoded outputs.
//!
//! Owns: the session and the order pre-processing → run → decode. Does not know: what the outputs are good for
//! ([`crate::Detector`] and its siblings do), cameras, threads (the daemon gives each network one).

mod golden;
mod signature;

use ort::session::Session;
use vedette_core::{Class, Frame, Role, View};

use crate::families::{Decoded, InputSize, Keep, Output, ShapeMismatch};
use crate::manifest::{InputSpec, Manifest, ManifestError};
use crate::onnx::check::OnnxError;
use crate::preprocess::{EmptyView, Letterbox, Preprocessor};
use crate::profile::{Folder, ProfileError, ProviderReport, ProviderShare, RUNS, Registration};
use crate::provider::{Form, Provider, U8S8_SLOW, u8s8_saturates};
use crate::runtime::Runtime;
use crate::session::{self, Opened, Wish};
use crate::tensor::InputTensor;

pub use self::golden::OutputMean;

use self::golden::{Mismatch, pixels};
use self::signature::{check_input, check_outputs};
use crate::tensorrt::TensorRtOptions;
use crate::upgrade::{Served, Serving, Upgrade};

/// How a network shall be run.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkOptions {
    /// In order of wish; the CPU provider stands behind every list. Default: the CPU provider alone.
    pub providers: Vec<Provider>,
    /// Threads of one inference; default 1: a second one gains nearly nothing.
    pub threads: usize,
    /// Makes a provider that cannot be had, or runs nothing, an error; default off.
    pub strict: bool,
    /// Of TensorRT, where it is wished.
    pub tensorrt: TensorRtOptions,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        let (providers, tensorrt) = (vec![Provider::Cpu], TensorRtOptions::default());
        Self { providers, threads: 1, strict: false, tensorrt }
    }
}

/// Why a model does not open or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its file cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its file is no model, a damaged one, or one that cannot be used here.
    #[error("model `{model}`: {error}")]
    File {
        /// The model.
        model: String,
        /// The file, what is wrong where, and what to do.
        error: OnnxError,
    },
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
    /// A model of another role than wanted.
    #[error("model `{model}` gives {found:?}, not {wanted:?}; name another model")]
    Role {
        /// The model.
        model: String,
        /// What is wanted.
        wanted: Role,
        /// What its family gives.
        found: Role,
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
        "model `{model}`: {figure} of `{output}` should be {expected}, is {found}: runtime or file is broken"
    )]
    Golden {
        /// The model.
        model: String,
        /// The output.
        output: String,
        /// What of its values.
        figure: &'static str,
        /// By the manifest.
        expected: f64,
        /// On this machine.
        found: f64,
    },
}

/// A network, ready to run. One at a time: give each its own thread.
#[derive(Debug)]
pub struct Network {
    manifest: Manifest,
    session: Session,
    spec: InputSpec,
    input: InputTensor,
    preprocessor: Preprocessor,
    sha256: String,
    report: ProviderReport,
    serving: Serving,
    upgrade: Option<Upgrade<Box<Self>>>,
}

impl Network {
    /// Opens `manifest`'s file for the best provider that can be had, checks its shapes, and measures in a throw-away
    /// session who runs it (about ten inferences' time). An engine that is to be built in the background (see
    /// [`TensorRtOptions::background`]) takes over later, between two inferences.
    pub fn open(
        runtime: &'static Runtime,
        manifest: &Manifest,
        options: &NetworkOptions,
    ) -> Result<Self, ModelError> {
        let wish = wish(runtime, manifest, options);
        if !session::is_to_be_built(wish) {
            return Self::open_now(wish);
        }
        let mut meanwhile = Self::open_now(Wish { providers: &options.providers[1..], ..wish })?;
        let (manifest, mut options) = (manifest.clone(), options.clone());
        let name = manifest.name().to_owned();
        log::info!(model = name.as_str(); "{name}: TensorRT's engine is being built; {} serves meanwhile",
            meanwhile.report.provider());
        meanwhile.report.requested.clone_from(&options.providers);
        // What is built must be TensorRT's: everything else serves already.
        (options.strict, options.tensorrt.background) = (true, false);
        let build = move || match Self::open(runtime, &manifest, &options) {
            Ok(network) => Ok(Box::new(network)),
            Err(ModelError::Provider { reason, .. }) => Err(reason),
            Err(error) => Err(error.to_string()),
        };
        let refused = match Upgrade::start("tensorrt-build", build) {
            Ok(upgrade) => {
                meanwhile.upgrade = Some(upgrade);
                "its engine is being built".to_owned()
            }
            Err(error) => format!("its engine cannot be built: {error}"),
        };
        let refused = Registration { provider: Provider::TensorRt, refused: Some(refused) };
        meanwhile.report.registrations.insert(0, refused);
        meanwhile.tell();
        Ok(meanwhile)
    }

    fn open_now(wish: Wish<'_>) -> Result<Self, ModelError> {
        let manifest = wish.manifest.clone();
        let opened = session::open(wish)?;
        let spec = manifest.input_of(opened.form);
        check_input(&manifest, &spec, &opened.session)?;
        check_outputs(&manifest, &opened.session)?;
        let failed =
            |e: ort::Error| ModelError::Run { model: manifest.name().to_owned(), reason: e.to_string() };
        let mut input = InputTensor::new(&spec).map_err(failed)?;
        let shares = measure(wish, &opened, &mut input, &spec);
        let report = ProviderReport {
            runtime: wish.runtime.version().to_owned(),
            form: opened.form,
            requested: wish.providers.to_vec(),
            registrations: opened.registrations,
            shares,
        };
        judge(&manifest, &report, &opened.providers, wish.strict)?;
        let preprocessor = Preprocessor::of(&spec);
        let Opened { session, sha256, .. } = opened;
        let serving = Serving::new(Served { sha256: sha256.clone(), report: report.clone() });
        Ok(Self { session, spec, input, preprocessor, sha256, report, manifest, serving, upgrade: None })
    }

    /// Lets what was built meanwhile take over. Only before an input is filled: that of the other has another form.
    fn take_over(&mut self) {
        let Some(built) = self.upgrade.as_mut().and_then(Upgrade::poll) else { return };
        self.upgrade = None;
        let model = self.name();
        match built {
            Ok(better) => {
                log::info!(model = model; "{model}: {} takes over from {}", better.report.provider(),
                    self.report.provider());
                *self = Self { serving: self.serving.clone(), ..*better };
            }
            Err(reason) => {
                log::warn!(model = model; "{model}: provider tensorrt is not used: {reason}");
                let found = self.report.registrations.iter_mut().find(|r| r.provider == Provider::TensorRt);
                if let Some(registration) = found {
                    registration.refused = Some(reason);
                }
            }
        }
        self.tell();
    }

    fn tell(&self) {
        self.serving.set(Served { sha256: self.sha256.clone(), report: self.report.clone() });
    }

    /// Fills the input with a view of a frame, and says where the picture lies in it.
    pub fn look(&mut self, frame: &Frame, view: View) -> Result<Letterbox, ModelError> {
        self.take_over();
        Ok(self.input.look(&mut self.preprocessor, frame, view)?)
    }

    /// Fills the input with a picture letterboxed already: `[height, width, 3]` bytes in the manifest's order.
    pub fn write(&mut self, pixels: &[u8]) {
        self.take_over();
        self.input.write(pixels);
    }

    /// Runs on what the input holds; the outputs are dropped.
    pub fn infer(&mut self) -> Result<(), ModelError> {
        let run = self.session.run(ort::inputs![self.input.value()]);
        run.map(drop).map_err(|e| self.failed(e.to_string()))
    }

    /// Runs on what the input holds, and decodes; boxes and points are in pixels of the input.
    pub fn decode(&mut self, keep: &Keep) -> Result<Decoded, ModelError> {
        let size = InputSize { width: self.spec.width, height: self.spec.height };
        self.run(|manifest, outputs| manifest.family().decode(outputs, size, keep))
    }

    /// Runs the golden input of the manifest and compares what comes out: tells a working file, runtime and
    /// processor from a broken one. Says nothing for other forms than the measured one.
    pub fn check_golden(&mut self) -> Result<(), ModelError> {
        let Some(golden) = self.manifest.golden().cloned().filter(|g| g.form == self.report.form) else {
            return Ok(());
        };
        let Some(mismatch) = golden.mismatch(&self.golden_means(golden.multiplier)?) else { return Ok(()) };
        let Mismatch { output, figure, expected, found } = mismatch;
        Err(ModelError::Golden { model: self.manifest.name().to_owned(), output, figure, expected, found })
    }

    /// The mean of each output on the golden input of this `multiplier`: what a manifest's `[golden]` states.
    pub fn golden_means(&mut self, multiplier: u32) -> Result<Vec<OutputMean>, ModelError> {
        self.write(&pixels(&self.spec, multiplier));
        self.run(|_, outputs| Ok(outputs.iter().map(|o| OutputMean::of(o.name, o.data)).collect()))
    }

    /// Runs on what the input holds and hands over the outputs that the family names.
    pub(crate) fn run<T>(
        &mut self,
        use_outputs: impl FnOnce(&Manifest, &[Output<'_>]) -> Result<T, ShapeMismatch>,
    ) -> Result<T, ModelError> {
        let manifest = &self.manifest;
        let failed = |reason: String| ModelError::Run { model: manifest.name().to_owned(), reason };
        let outputs =
            self.session.run(ort::inputs![self.input.value()]).map_err(|e| failed(e.to_string()))?;
        let mut views = Vec::new();
        for name in manifest.family().outputs() {
            let value = outputs.get(name).ok_or_else(|| failed(format!("gave no output `{name}`")))?;
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(|e| failed(e.to_string()))?;
            views.push(Output { name, shape, data });
        }
        use_outputs(manifest, &views).map_err(|e| failed(e.to_string()))
    }

    pub(crate) fn failed(&self, reason: String) -> ModelError {
        ModelError::Run { model: self.manifest.name().to_owned(), reason }
    }

    /// What it was opened by.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The model's name in the configuration.
    pub fn name(&self) -> &str {
        self.manifest.name()
    }

    /// What the form that runs takes.
    pub fn input(&self) -> &InputSpec {
        &self.spec
    }

    /// SHA-256 of the file that runs, lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Who runs it: wished, registered, measured.
    pub fn report(&self) -> &ProviderReport {
        &self.report
    }

    /// Tells the same also while another thread runs it.
    pub fn serving(&self) -> Serving {
        self.serving.clone()
    }
}

fn wish<'a>(runtime: &'static Runtime, manifest: &'a Manifest, options: &'a NetworkOptions) -> Wish<'a> {
    let NetworkOptions { providers, threads, strict, tensorrt } = options;
    Wish { runtime, manifest, providers, threads: *threads, strict: *strict, tensorrt }
}

/// For families that know no boxes.
pub(crate) const fn everything() -> Keep {
    Keep { min_score: 0.0, classes: Vec::new(), nms_iou: 1.0, limit: usize::MAX }
}

/// A manifest of this role, or an error that says which it is.
pub(crate) fn expect_role(manifest: &Manifest, wanted: Role) -> Result<(), ModelError> {
    match manifest.role() {
        found if found == wanted => Ok(()),
        found => Err(ModelError::Role { model: manifest.name().to_owned(), wanted, found }),
    }
}

/// Who runs what; empty, with a line in the log, where it cannot be measured (no folder for temporary files).
fn measure(wish: Wish<'_>, opened: &Opened, input: &mut InputTensor, spec: &InputSpec) -> Vec<ProviderShare> {
    input.write(&pixels(spec, 2_654_435_761));
    let profile = || -> Result<_, ProfileError> {
        let folder = Folder::create()?;
        let failed = |e: ort::Error| ProfileError::Session(e.to_string());
        let mut session = session::profiled(wish, opened, &folder.prefix()).map_err(ProfileError::Session)?;
        for _ in 0..RUNS {
            session.run(ort::inputs![input.value()]).map_err(failed)?;
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
    if form == Form::U8s8 && u8s8_saturates() {
        log::info!(model = model; "{model}: {U8S8_SLOW}");
    }
    let Some(&first) = used.first() else { return Ok(()) };
    if let Some(best) = manifest.best_listed(first).filter(|best| *best != form) {
        log::warn!(model = model; "{model}: the {best} file, which {first} runs best, is missing: {form} runs instead");
    }
    let reason = match report.share_of(first) {
        Some(0.0) => format!("it registered but runs no multiplying node of the {form} file"),
        // The log says why.
        None if strict => {
            "what it runs could not be measured; is the folder for temporary files writable?".to_owned()
        }
        _ => return Ok(()),
    };
    if strict {
        return Err(ModelError::Provider { model: model.to_owned(), provider: first, reason });
    }
    log::warn!(model = model, provider = first.name(); "{model}: provider {first}: {reason}");
    Ok(())
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
