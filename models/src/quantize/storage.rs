//! Weights as int8 or int4 in the file, whatever the arithmetic: smaller files, fp32 or int8 speed.
//!
//! Owns: what [`store_bytes`] writes (standard ONNX, which other runtimes read too) and [`expand_bytes`] undoes before
//! a session opens. Does not know: samples, activations, sessions. Nothing is calibrated: only weights change.
//!
//! ONNX Runtime's CPU provider dequantises at each inference and has no kernel of int4 weights beside int8
//! activations; expanded, a file runs at the speed of what it was made from and gives the same values.

mod expand;
mod fit;
mod float;
mod granularity;
mod int8;
mod opset;

use std::borrow::Cow;
use std::collections::BTreeSet;

use prost::Message;

pub(super) use self::expand::may_have_integers;
use super::QuantizeError;
use super::simplify::parse;
use crate::onnx::tensor::TensorError;
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// How weights are kept in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightStorage {
    /// A byte a weight.
    #[default]
    Int8,
    /// Two weights a byte; opset 21.
    Int4,
}

impl WeightStorage {
    /// Bits of a weight.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Int8 => 8,
            Self::Int4 => 4,
        }
    }

    /// Lowest and highest value. int8 leaves out -128, as TensorFlow Lite's quantisation specification has it: the range
    /// is the same on both sides of zero, and two products with int8 activations fit int16 (2 · 127 · 128 = 32512). It is
    /// no help to U8S8 on processors without VNNI, whose pairs can reach 2 · 255 · 127 = 64770 and saturate. int4 is
    /// widened to int8 before it is multiplied, and has no value to spare.
    const fn range(self) -> (f32, f32) {
        match self {
            Self::Int8 => (-127.0, 127.0),
            Self::Int4 => (-8.0, 7.0),
        }
    }

    fn tensor(self, name: &str, dims: &[i64], values: &[i8]) -> TensorProto {
        match self {
            Self::Int8 => TensorProto::from_i8(name, dims, values),
            Self::Int4 => TensorProto::from_i4(name, dims, values),
        }
    }
}

/// How to store weights.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageOptions {
    /// int8 or int4.
    pub storage: WeightStorage,
    /// int4 weights of a float model: one scale for so many inputs of a channel instead of one a channel. Costs 32 /
    /// block bits a weight. Weights of int8 layers always have one scale a channel: their kernels know no other.
    pub block: Option<usize>,
    /// Weights whose signal-to-noise ratio in int4 is less, in dB, are stored as int8. `None`: 16.5 for float models in
    /// blocks, else 15.5.
    pub least_snr_db: Option<f64>,
}

/// Of 32, 64 inputs and whole channels, what has the most accuracy at 0.6 times the bytes of int8.
const BLOCK: usize = 64;
/// The floors that keep most of NanoDet-g's accuracy on pictures for calibration at 0.6 times the bytes of int8: a higher
/// one leaves more layers in int8. Gaussian weights have 20 dB in int4 with one scale for all, 22 in small blocks; what has
/// much less has outliers.
const LEAST_BLOCKED_DB: f64 = 16.5;
const LEAST_CHANNEL_DB: f64 = 15.5;

impl StorageOptions {
    /// int8: one scale a channel. int4: blocks of 64 where that can be.
    pub const fn new(storage: WeightStorage) -> Self {
        Self { storage, block: Some(BLOCK), least_snr_db: None }
    }

    fn least_snr_db(&self, blocked: bool) -> f64 {
        self.least_snr_db.unwrap_or(if blocked { LEAST_BLOCKED_DB } else { LEAST_CHANNEL_DB })
    }
}

/// The weights of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerWeights {
    /// The first node that reads them: its name, or its first output's.
    pub node: String,
    /// How many weights.
    pub count: usize,
    /// As they are stored now.
    pub storage: WeightStorage,
    /// Signal to noise of the weights against those before, in dB; infinite where they were left as they are.
    pub snr_db: f64,
}

/// What became smaller.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageReport {
    /// Size of the file before.
    pub bytes_before: usize,
    /// Size of the file after.
    pub bytes_after: usize,
    /// In the order of the graph's constants.
    pub layers: Vec<LayerWeights>,
}

/// Stores the weights of an ONNX file. Float weights of Conv, ConvTranspose, Gemm and MatMul get a DequantizeLinear in
/// front, which bears the weights' name; int8 weights of an int8 model (U8S8 or S8S8) become int4 with new scales, and
/// so do the biases that share them. What an int8 model keeps in float was kept for accuracy, and stays.
///
/// Errors: no ONNX file; a part that cannot be handled (by name); an operator that would mean something else in opset
/// 21, which int4 needs; nothing to store.
pub fn store_bytes(
    bytes: &[u8],
    options: &StorageOptions,
) -> Result<(Vec<u8>, StorageReport), QuantizeError> {
    let (model, mut report) = store_weights(&parse(bytes)?, options)?;
    let stored = model.encode_to_vec();
    (report.bytes_before, report.bytes_after) = (bytes.len(), stored.len());
    Ok((stored, report))
}

pub(crate) fn store_weights(
    model: &ModelProto,
    options: &StorageOptions,
) -> Result<(ModelProto, StorageReport), QuantizeError> {
    let mut stored = model.clone();
    let graph = stored.graph.get_or_insert_default();
    let quantizes = |n: &NodeProto| standard(n) && n.op_type() == "QuantizeLinear";
    let quantized = graph.node.iter().any(quantizes);
    let layers = match (quantized, options.storage) {
        (false, _) => float::store(graph, options)?,
        (true, WeightStorage::Int4) => int8::store(graph, options)?,
        (true, WeightStorage::Int8) => Vec::new(),
    };
    if layers.is_empty() {
        return Err(QuantizeError::Refused {
            node: "the model".to_owned(),
            what: "has no weights to be stored smaller: no convolution or matrix product with enough constant \
                   weights, or all are as small already",
        });
    }
    if layers.iter().any(|layer| layer.storage == WeightStorage::Int4) {
        opset::raise_for_int4(&mut stored)?;
    }
    let (bytes_before, bytes_after) = (model.encoded_len(), stored.encoded_len());
    Ok((stored, StorageReport { bytes_before, bytes_after, layers }))
}

/// The file as a session should get it: int4 weights of int8 layers as int8 with the same scale, weights of float
/// layers as float. Values are those that the standard's DequantizeLinear gives, bit for bit. Where there is nothing to
/// do, or the file cannot be read here (ONNX Runtime says best why), the same bytes come back.
///
/// Errors: a constant whose values do not fit its shape.
pub fn expand_bytes(bytes: &[u8]) -> Result<Cow<'_, [u8]>, QuantizeError> {
    if !may_have_integers(bytes) {
        return Ok(Cow::Borrowed(bytes));
    }
    let Ok(mut model) = ModelProto::decode(bytes) else { return Ok(Cow::Borrowed(bytes)) };
    let changed = expand::expand(&mut model)?;
    Ok(if changed { Cow::Owned(model.encode_to_vec()) } else { Cow::Borrowed(bytes) })
}

/// As a session should get it, before it is written.
pub(super) fn expanded(model: &ModelProto) -> Result<ModelProto, QuantizeError> {
    let mut model = model.clone();
    expand::expand(&mut model)?;
    Ok(model)
}

pub(super) fn standard(node: &NodeProto) -> bool {
    matches!(node.domain(), "" | "ai.onnx")
}

fn broken(tensor: &TensorProto) -> impl Fn(TensorError) -> QuantizeError {
    let name = tensor.name().to_owned();
    move |error| QuantizeError::NotOnnx(format!("constant `{name}` {error}"))
}

/// Names of a graph, so that new ones are new.
pub(super) struct Names(BTreeSet<String>);

impl Names {
    pub(super) fn of(graph: &GraphProto) -> Self {
        let values = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output).chain(&n.name));
        let ends = graph.input.iter().chain(&graph.output).filter_map(|value| value.name.as_ref());
        let constants = graph.initializer.iter().filter_map(|tensor| tensor.name.as_ref());
        Self(values.chain(ends).chain(constants).cloned().collect())
    }

    pub(super) fn fresh(&mut self, of: &str, what: &str) -> String {
        let mut name = format!("{of}_{what}");
        while !self.0.insert(name.clone()) {
            name.push('_');
        }
        name
    }
}

/// Drops constants that nobody reads.
pub(super) fn drop_unread(graph: &mut GraphProto) {
    let read: BTreeSet<&str> = graph.node.iter().flat_map(|n| &n.input).map(String::as_str).collect();
    let public: BTreeSet<&str> = graph.output.iter().map(ValueInfoProto::name).collect();
    graph.initializer.retain(|t| read.contains(t.name()) || public.contains(t.name()));
}

#[cfg(test)]
#[path = "storage/storage_tests.rs"]
mod tests;
