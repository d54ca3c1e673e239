//! What int8 costs in accuracy: signal-to-noise ratio of outputs and of layers, and which layers to leave in fp32.
//!
//! Owns: the search for mixed precision. Does not know: how int8 is written.

use std::collections::BTreeSet;

use super::calibrate::chunks;
use super::plan::{Fate, is_product, name, plan, relu_limit};
use super::runner::{self, Noise};
use super::write::{Ranges, Written, write};
use super::{LayerReport, Progress, QuantizeError, QuantizeOptions};
use crate::manifest::InputSpec;
use crate::onnx::ModelProto;
use crate::onnx::graph::Wiring;
use crate::provider::Form;
use crate::runtime::Runtime;

/// Layers are compared on so many samples at most.
const LAYER_SAMPLES: usize = 4;
/// A layer stays in fp32 only if the outputs gain so much by it.
const LEAST_GAIN_DB: f64 = 0.05;

/// The fp32 network, samples that were not calibrated on, and its answers to them.
pub(super) struct Reference<'a> {
    pub runtime: &'static Runtime,
    pub origin: &'a ModelProto,
    pub input: &'a InputSpec,
    pub samples: Vec<&'a [u8]>,
    answers: Vec<Vec<Vec<f32>>>,
}

impl<'a> Reference<'a> {
    pub(super) fn new(
        runtime: &'static Runtime,
        origin: &'a ModelProto,
        input: &'a InputSpec,
        samples: Vec<&'a [u8]>,
    ) -> Result<Self, QuantizeError> {
        let answers = answers(runtime, origin, input, &samples)?;
        Ok(Self { runtime, origin, input, samples, answers })
    }

    /// Per output: signal-to-noise ratio of a model against fp32, in dB, on the first `count` samples. Never empty,
    /// never NaN.
    ///
    /// # Errors
    /// [`QuantizeError::NothingCompared`]; a failing runtime.
    pub(super) fn snr(
        &self,
        model: &ModelProto,
        input: &InputSpec,
        count: usize,
    ) -> Result<Vec<(String, f64)>, QuantizeError> {
        let names = model.graph.as_ref().map(|g| g.output.iter().map(|o| o.name().to_owned()));
        let names: Vec<String> = names.into_iter().flatten().collect();
        let mut noise = vec![Noise::default(); names.len()];
        let samples = &self.samples[..count.min(self.samples.len())];
        runner::run(self.runtime, model, input, samples, |sample, output, found| {
            noise[output].add(&self.answers[sample][output], found);
        })?;
        let compared: Vec<_> =
            names.into_iter().zip(noise).filter_map(|(name, noise)| Some((name, noise.db()?))).collect();
        if compared.is_empty() { Err(QuantizeError::NothingCompared) } else { Ok(compared) }
    }

    /// The worst output's.
    pub(super) fn worst(&self, model: &ModelProto, count: usize) -> Result<f64, QuantizeError> {
        Ok(lowest(&self.snr(model, self.input, count)?))
    }
}

pub(super) fn lowest(outputs: &[(String, f64)]) -> f64 {
    // Not `f64::min`: that would drop a NaN, and a ratio that is none must not pass for a good one.
    outputs.iter().map(|(_, db)| *db).fold(200.0, |low, db| if db < low || db.is_nan() { db } else { low })
}

fn answers(
    runtime: &'static Runtime,
    model: &ModelProto,
    input: &InputSpec,
    samples: &[&[u8]],
) -> Result<Vec<Vec<Vec<f32>>>, QuantizeError> {
    let outputs = model.graph.as_ref().map_or(0, |g| g.output.len());
    let mut answers = vec![vec![Vec::new(); outputs]; samples.len()];
    runner::run(runtime, model, input, samples, |sample, output, values| {
        answers[sample][output] = values.to_vec();
    })?;
    Ok(answers)
}

/// Every int8 product's output in the int8 model against the same value in fp32: noise of all layers up to it.
pub(super) fn layers(
    reference: &Reference<'_>,
    written: &Written,
    fates: &[Fate],
) -> Result<Vec<LayerReport>, QuantizeError> {
    let graph = reference.origin.graph.clone().unwrap_or_default();
    let wiring = Wiring::new(&graph);
    let mut reports = Vec::new();
    let mut compared = Vec::new();
    for (at, node) in graph.node.iter().enumerate().filter(|(_, node)| is_product(node)) {
        // In front of a ReLU int8 keeps only what that lets through: the layer ends behind it.
        let relu = graph.node.iter().enumerate().find(|(reader, next)| {
            let rectifies = fates[*reader] != Fate::Float && relu_limit(next, &wiring).is_some();
            rectifies && next.input[0] == node.output[0] && wiring.reader_count(&node.output[0]) == 1
        });
        let value = relu.map_or(&node.output[0], |(_, next)| &next.output[0]).clone();
        let fp32 = fates[at] != Fate::Wrapped;
        if !fp32 {
            compared.push(value.clone());
        }
        let (node, op) = (name(node).to_owned(), node.op_type().to_owned());
        reports.push((value, LayerReport { node, op, fp32, snr_db: None, alone_db: None }));
    }
    let samples = &reference.samples[..LAYER_SAMPLES.min(reference.samples.len())];
    for chunk in chunks(&graph, &compared) {
        let expected = answers(
            reference.runtime,
            &runner::with_outputs(reference.origin, &chunk),
            reference.input,
            samples,
        )?;
        let names: Vec<String> =
            chunk.iter().map(|v| written.dequantized.get(v).unwrap_or(v).clone()).collect();
        let mut noise = vec![Noise::default(); chunk.len()];
        let model = runner::with_outputs(&written.model, &names);
        runner::run(reference.runtime, &model, reference.input, samples, |sample, output, found| {
            noise[output].add(&expected[sample][output], found);
        })?;
        for (value, noise) in chunk.iter().zip(noise) {
            for (_, report) in reports.iter_mut().filter(|(of, _)| of == value) {
                report.snr_db = noise.db();
            }
        }
    }
    Ok(reports.into_iter().map(|(_, report)| report).collect())
}

/// The layers to leave in fp32, with each layer's effect alone (worst output's dB with only that layer in int8).
pub(super) struct Mixed {
    pub keep_fp32: BTreeSet<String>,
    pub alone: Vec<(String, f64)>,
}

/// Takes layers back to fp32, the most harmful alone first, while the outputs gain by it, until the target is met or
/// the budget is spent.
pub(super) fn mix(
    reference: &Reference<'_>,
    ranges: &Ranges,
    form: Form,
    keep_fp32: &BTreeSet<String>,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Mixed, QuantizeError> {
    let graph = reference.origin.graph.clone().unwrap_or_default();
    let int8 = |keep: &BTreeSet<String>| write(reference.origin, &plan(&graph, form, keep), ranges, form);
    let mut mixed = Mixed { keep_fp32: keep_fp32.clone(), alone: Vec::new() };
    let target = options.target_snr_db.unwrap_or(f64::INFINITY);
    let mut now = reference.worst(&int8(keep_fp32)?.model, usize::MAX)?;
    if options.max_fp32_layers == 0 || now >= target {
        return Ok(mixed);
    }
    let fates = plan(&graph, form, keep_fp32);
    let products =
        graph.node.iter().zip(&fates).filter(|(node, fate)| is_product(node) && **fate == Fate::Wrapped);
    let products: Vec<String> = products.map(|(node, _)| name(node).to_owned()).collect();
    for (at, product) in products.iter().enumerate() {
        progress(Progress::Layer { done: at, of: products.len() });
        let others = products.iter().filter(|other| *other != product).cloned();
        let keep = keep_fp32.iter().cloned().chain(others).collect();
        mixed.alone.push((product.clone(), reference.worst(&int8(&keep)?.model, LAYER_SAMPLES)?));
    }
    let mut order: Vec<&(String, f64)> = mixed.alone.iter().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut left = options.max_fp32_layers;
    for (product, _) in order {
        if left == 0 || now >= target {
            break;
        }
        let mut keep = mixed.keep_fp32.clone();
        keep.insert(product.clone());
        let then = reference.worst(&int8(&keep)?.model, usize::MAX)?;
        // From -inf, -inf is no gain.
        if then > now && then >= now + LEAST_GAIN_DB {
            (now, left) = (then, left - 1);
            mixed.keep_fp32 = keep;
        }
    }
    Ok(mixed)
}
