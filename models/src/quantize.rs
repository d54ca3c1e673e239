//! Static post-training quantisation: an fp32 ONNX file and sample pictures in, int8 files (QDQ) out.
//!
//! Owns: the order simplify → calibrate → choose ranges → mix precision → write → cut the stem → measure. Does not
//! know: manifests, cameras, where samples come from. Two forms come from one file: U8S8 for the CPU provider and
//! OpenVINO, S8S8 for XNNPACK and TensorRT; the wrong one costs 1.7 to 9 times. Same file, samples and machine: the
//! same bytes.

mod calibrate;
mod measure;
mod plan;
mod range;
pub(crate) mod rectifier;
mod runner;
mod simplify;
mod stem;
pub mod storage;
pub(crate) mod weights;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

pub use self::range::RangeMethod;
pub use self::storage::{StorageOptions, WeightStorage};

use self::measure::{Reference, layers, lowest, mix};
use self::plan::{Fate, operands, plan};
use self::range::Histogram;
use self::write::{Ranges, write};
use crate::manifest::{Element, FormInput, InputSpec};
use crate::onnx::check::OnnxError;
use crate::onnx::{GraphProto, ModelProto, TensorProto};
use crate::provider::Form;
use crate::runtime::Runtime;

/// Every fifth sample is not calibrated on but measured with,
const HELD_OUT_EVERY: usize = 5;
/// so many at most.
const MOST_HELD_OUT: usize = 16;
/// What [`RangeMethod::Auto`] tries.
const METHODS: [RangeMethod; 4] = [
    RangeMethod::MinMax,
    RangeMethod::Percentile(99.999),
    RangeMethod::Percentile(99.99),
    RangeMethod::Entropy,
];

/// How to quantise.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// [`Form::U8s8`], [`Form::S8s8`] or both.
    pub forms: Vec<Form>,
    /// How activations' ranges are chosen.
    pub range: RangeMethod,
    /// Let the pre-processor write the first layer's int8 input where the graph allows it.
    pub stem: bool,
    /// At most so many layers go back to fp32; 0: none.
    pub max_fp32_layers: usize,
    /// Once the worst output has this signal-to-noise ratio, in dB, no more layers go back.
    pub target_snr_db: Option<f64>,
    /// Nodes (by name, or by an output's name) that stay in fp32.
    pub keep_fp32: Vec<String>,
    /// How the int8 layers' weights are kept in the file.
    pub weights: WeightStorage,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            forms: vec![Form::U8s8, Form::S8s8],
            range: RangeMethod::Auto,
            stem: true,
            max_fp32_layers: 0,
            target_snr_db: None,
            keep_fp32: Vec::new(),
            weights: WeightStorage::Int8,
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// Groups of tensors seen.
    Calibrating {
        /// Done.
        done: usize,
        /// Of so many.
        of: usize,
    },
    /// Trying a range method for a form.
    Range(Form, RangeMethod),
    /// Layers measured alone.
    Layer {
        /// Done.
        done: usize,
        /// Of so many.
        of: usize,
    },
    /// Measuring a finished form.
    Measuring(Form),
}

/// One layer (convolution or matrix product).
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReport {
    /// Its name, or its first output's.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// It is not int8.
    pub fp32: bool,
    /// Its output against fp32, in dB, all layers before it being int8 too; none where it stays fp32 or is never
    /// finite.
    pub snr_db: Option<f64>,
    /// The worst output of the network, in dB, with only this layer in int8; measured where layers may go back to fp32.
    pub alone_db: Option<f64>,
}

/// One int8 file.
#[derive(Clone, Debug)]
pub struct QuantizedForm {
    /// U8S8 or S8S8.
    pub form: Form,
    /// The ONNX file.
    pub bytes: Vec<u8>,
    /// The method that its ranges are from; never `Auto`.
    pub range: RangeMethod,
    /// Its input, where it is not that of the fp32 file any more.
    pub stem: Option<FormInput>,
    /// The worst output against fp32, in dB, on samples not calibrated on; values that are not finite in fp32 do not
    /// count. 200: no noise at all; -inf: values missing, or not finite any more.
    pub snr_db: f64,
    /// Each float output's, of those with a finite value.
    pub outputs: Vec<(String, f64)>,
    /// In the order of the graph.
    pub layers: Vec<LayerReport>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// In the order asked for.
    pub forms: Vec<QuantizedForm>,
}

/// Why a model was not quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The file is no model, a damaged one, or one that cannot be used here.
    #[error(transparent)]
    File(#[from] OnnxError),
    /// A constant cannot be read.
    #[error("this is no ONNX file that can be read: {0}")]
    NotOnnx(String),
    /// A part of the model that cannot be handled.
    #[error("{node} {what}")]
    Refused {
        /// The node or part.
        node: String,
        /// What is wrong with it and what to do.
        what: &'static str,
    },
    /// The description of the input is not the model's.
    #[error("the model's input: {0}")]
    Input(String),
    /// No samples, or of a wrong size.
    #[error("samples: {0}")]
    Samples(String),
    /// Nothing to gain.
    #[error(
        "no layer can be int8 in form {0}: the model has no convolution or matrix product with enough constant weights, or all are kept in fp32"
    )]
    NoLayer(Form),
    /// A node to be kept in fp32 that is not there.
    #[error("`{0}` is to stay in fp32, but no node or output has that name")]
    Unknown(String),
    /// A value without finite numbers in all samples.
    #[error("`{0}` had no finite value in any sample; keep its node in fp32")]
    NoRange(String),
    /// No float output, or none with a finite value.
    #[error(
        "no output of the network had a finite number on the samples it is measured with: what int8 costs cannot be measured; give other samples, or export the network with its float outputs"
    )]
    NothingCompared,
    /// ONNX Runtime said no.
    #[error("ONNX Runtime: {0}")]
    Session(String),
}

/// One line.
fn reason(error: impl std::fmt::Display) -> String {
    error.to_string().trim().replace('\n', " ")
}

/// Quantises. `pixels`: samples, each `[height, width, 3] u8` in the model's colour order, letterboxed as in service;
/// 50 to 100 of them from where it shall work. Takes about (tensors / 20) inferences of each sample, and keeps at most
/// 64 MB of activations at a time (four times that while layers are compared; one larger tensor goes alone).
pub fn quantize(
    runtime: &'static Runtime,
    fp32: &[u8],
    input: &InputSpec,
    pixels: &[Vec<u8>],
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Quantized, QuantizeError> {
    check(input, pixels, options)?;
    let (origin, plans) = planned(runtime, fp32, input, options)?;
    let graph = origin.graph.clone().unwrap_or_default();
    let (calibration, held_out) = split(pixels);
    let keep: BTreeSet<String> = options.keep_fp32.iter().cloned().collect();
    let values = activations(&graph, &plans);
    let seen = calibrate::calibrate(runtime, &origin, input, &calibration, &values, progress)?;
    let reference = Reference::new(runtime, &origin, input, held_out)?;
    let keep = keep.into_iter().chain(beside_nothing(&graph, &seen)).collect();
    let work = Work { reference: &reference, graph: &graph, seen: &seen, input, options };
    let forms = options.forms.iter().map(|form| work.form(*form, &keep, progress));
    Ok(Quantized { forms: forms.collect::<Result<_, _>>()? })
}

/// Whether [`quantize`] would take this network: for those who gather samples for a long time first.
///
/// # Errors
/// As [`quantize`], but for what lies in the samples.
pub fn check_network(
    runtime: &'static Runtime,
    fp32: &[u8],
    input: &InputSpec,
    options: &QuantizeOptions,
) -> Result<(), QuantizeError> {
    described(input)?;
    planned(runtime, fp32, input, options).map(drop)
}

/// The simplified model, and for each form what becomes of each node.
fn planned(
    runtime: &'static Runtime,
    fp32: &[u8],
    input: &InputSpec,
    options: &QuantizeOptions,
) -> Result<(ModelProto, Vec<Vec<Fate>>), QuantizeError> {
    let origin = simplify::simplify(runtime, fp32, input)?;
    let graph = origin.graph.clone().unwrap_or_default();
    let keep: BTreeSet<String> = options.keep_fp32.iter().cloned().collect();
    let original = simplify::parse(fp32)?.graph.unwrap_or_default();
    let nodes = || graph.node.iter().chain(&original.node);
    let known = |name: &&String| nodes().any(|node| plan::name(node) == *name || node.output.contains(name));
    if let Some(unknown) = keep.iter().find(|name| !known(name)) {
        return Err(QuantizeError::Unknown(unknown.clone()));
    }
    let plans: Vec<_> = options.forms.iter().map(|form| plan(&graph, *form, &keep)).collect();
    match plans.iter().position(|fates| !fates.contains(&Fate::Wrapped)) {
        Some(at) => Err(QuantizeError::NoLayer(options.forms[at])),
        None => Ok((origin, plans)),
    }
}

fn check(input: &InputSpec, pixels: &[Vec<u8>], options: &QuantizeOptions) -> Result<(), QuantizeError> {
    described(input)?;
    let size = input.len();
    if pixels.is_empty() || size == 0 {
        return Err(QuantizeError::Samples("there are none; give at least one picture".to_owned()));
    }
    if let Some(at) = pixels.iter().position(|p| p.len() != size) {
        let found = pixels[at].len();
        return Err(QuantizeError::Samples(format!("number {at} should have {size} bytes, has {found}")));
    }
    match options.range {
        RangeMethod::Percentile(p) if !(50.0..=100.0).contains(&p) => {
            return Err(QuantizeError::Samples(format!("percentile {p} is not within 50 to 100")));
        }
        _ => {}
    }
    match options.forms.iter().find(|form| **form == Form::Fp32) {
        Some(form) => Err(QuantizeError::NoLayer(*form)),
        None => Ok(()),
    }
}

/// Whether this is the input of a network in fp32.
fn described(input: &InputSpec) -> Result<(), QuantizeError> {
    let plain = (input.mean, input.std) == ([0.0; 3], [1.0; 3]);
    let fault = match (&input.name, input.element, input.scale) {
        (None, ..) => "has no name in the manifest: add `name` under [input]",
        (_, Element::I8, _) | (.., Some(_)) => "is quantised already",
        (_, Element::U8 | Element::I32, _) if !plain => "mean and std are for inputs of type f32",
        _ => return Ok(()),
    };
    Err(QuantizeError::Input(fault.to_owned()))
}

/// Samples to calibrate on and samples to measure with; the same where there are few.
fn split(pixels: &[Vec<u8>]) -> (Vec<&[u8]>, Vec<&[u8]>) {
    let all = || pixels.iter().map(Vec::as_slice);
    if pixels.len() < HELD_OUT_EVERY {
        return (all().collect(), all().collect());
    }
    let held = |at: usize| at % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 && at / HELD_OUT_EVERY < MOST_HELD_OUT;
    let part = |wanted: bool| all().enumerate().filter(move |(at, _)| held(*at) == wanted).map(|(_, p)| p);
    (part(false).collect(), part(true).collect())
}

/// Values that some form needs a range of, in the order of the graph.
fn activations(graph: &GraphProto, plans: &[Vec<Fate>]) -> Vec<String> {
    let constants: BTreeSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    let (mut seen, mut values) = (BTreeSet::new(), Vec::new());
    for (at, node) in graph.node.iter().enumerate() {
        if plans.iter().all(|fates| fates[at] == Fate::Float) {
            continue;
        }
        for value in operands(node).iter().chain(&node.output) {
            if !value.is_empty() && !constants.contains(value.as_str()) && seen.insert(value) {
                values.push(value.clone());
            }
        }
    }
    values
}

/// Nodes beside a value that was never finite: they stay in fp32.
fn beside_nothing(graph: &GraphProto, seen: &BTreeMap<String, Histogram>) -> Vec<String> {
    let bad = |value: &String| seen.get(value).is_some_and(|h| h.extremes().is_none());
    let beside = graph.node.iter().filter(|node| node.input.iter().chain(&node.output).any(bad));
    beside.map(|node| plan::name(node).to_owned()).collect()
}

struct Work<'a> {
    reference: &'a Reference<'a>,
    graph: &'a GraphProto,
    seen: &'a BTreeMap<String, Histogram>,
    input: &'a InputSpec,
    options: &'a QuantizeOptions,
}

impl Work<'_> {
    fn ranges(&self, method: RangeMethod) -> Ranges {
        self.seen.iter().filter_map(|(name, h)| Some((name.clone(), h.range(method)?))).collect()
    }

    /// The method whose worst output is best.
    fn choose(
        &self,
        form: Form,
        keep: &BTreeSet<String>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<RangeMethod, QuantizeError> {
        if self.options.range != RangeMethod::Auto {
            return Ok(self.options.range);
        }
        let fates = plan(self.graph, form, keep);
        let mut best = (f64::NEG_INFINITY, RangeMethod::MinMax);
        for method in METHODS {
            progress(Progress::Range(form, method));
            let written = write(self.reference.origin, &fates, &self.ranges(method), form)?;
            let snr = self.reference.worst(&written.model, usize::MAX)?;
            if snr > best.0 {
                best = (snr, method);
            }
        }
        Ok(best.1)
    }

    fn form(
        &self,
        form: Form,
        keep: &BTreeSet<String>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<QuantizedForm, QuantizeError> {
        let range = self.choose(form, keep, progress)?;
        let ranges = self.ranges(range);
        let mixed = mix(self.reference, &ranges, form, keep, self.options, progress)?;
        let fates = plan(self.graph, form, &mixed.keep_fp32);
        if !fates.contains(&Fate::Wrapped) {
            return Err(QuantizeError::NoLayer(form));
        }
        progress(Progress::Measuring(form));
        let mut written = write(self.reference.origin, &fates, &ranges, form)?;
        let mut layers = layers(self.reference, &written, &fates)?;
        for layer in &mut layers {
            layer.alone_db = mixed.alone.iter().find(|(node, _)| *node == layer.node).map(|(_, db)| *db);
        }
        let stem = if self.options.stem { stem::cut(&mut written, self.input)? } else { None };
        let input = stem.as_ref().map_or_else(|| self.input.clone(), |stem| self.input.with(stem));
        let model = match self.options.weights {
            WeightStorage::Int8 => written.model,
            storage => storage::store_weights(&written.model, &StorageOptions::new(storage))?.0,
        };
        let outputs = self.reference.snr(&storage::expanded(&model)?, &input, usize::MAX)?;
        let bytes = finish(model, form).encode_to_vec();
        Ok(QuantizedForm { form, bytes, range, stem, snr_db: lowest(&outputs), outputs, layers })
    }
}

fn finish(mut model: ModelProto, form: Form) -> ModelProto {
    model.producer_name = Some("vedette".to_owned());
    model.producer_version = Some(env!("CARGO_PKG_VERSION").to_owned());
    model.doc_string = Some(format!("quantised, form {form}"));
    model
}

#[cfg(test)]
#[path = "quantize/quantize_tests.rs"]
mod tests;
