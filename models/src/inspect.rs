//! What an ONNX file is: its inputs and outputs, its size, what it costs to run, and how it is quantised.
//!
//! Owns: counting. Does not know: ONNX Runtime, manifests, how families decode. Nothing is run.
//!
//! Multiply-accumulates (MACs) are those of convolutions and matrix products, as the field counts them. Activation
//! memory is what the file says, every node's outputs held until their last reader ran; a runtime that fuses nodes
//! needs less.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::families::{self, InputSize};
use crate::onnx::bounds::{closed, rows};
use crate::onnx::check::{self, OnnxError};
use crate::onnx::graph::{self, Wiring};
use crate::onnx::shapes::{self, Shapes, Value};
use crate::onnx::{GraphProto, ModelProto, NodeProto, ValueInfoProto, data_type};

/// What [`inspect`] is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct InspectOptions {
    /// Width and height that open spatial axes of inputs take; an open batch is 1.
    pub size: Option<(usize, usize)>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The graph's name for it.
    pub name: String,
    /// Element type in ONNX's words: `float32`, `uint8`.
    pub r#type: &'static str,
    /// Its axes; those that stay open have the file's name or `?`.
    pub shape: Vec<String>,
}

/// Everything that [`inspect`] finds.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Of the file, lower-case hex.
    pub sha256: String,
    /// Of the file.
    pub bytes: usize,
    /// Format version of the file.
    pub ir: i64,
    /// Version of the standard operators.
    pub opset: i64,
    /// Who wrote it; may be empty.
    pub producer: String,
    /// In the order of the file.
    pub inputs: Vec<Port>,
    /// In the order of the file.
    pub outputs: Vec<Port>,
    /// `fp32`, `u8s8` (activations, weights), `s8s8`, `u8u8`, `weight-only int8`, `weight-only int4` or `mixed`.
    pub form: &'static str,
    /// The kind of family that the outputs look like most; none where they look like no kind, the size is open, or
    /// the input is no single picture.
    pub family: Option<String>,
    /// How often each operator stands in the graph.
    pub ops: BTreeMap<String, usize>,
    /// Values of weights and biases; scales and zero points are none.
    pub parameters: u64,
    /// Bytes of constants by element type.
    pub weight_bytes: BTreeMap<&'static str, u64>,
    /// Multiply-accumulates of one run; none where a layer's shape is unknown.
    pub macs: Option<u64>,
    /// 0..1: of the MACs those of layers whose activations and weights are both quantised.
    pub quantised_share: Option<f64>,
    /// Bytes of values alive at once, at most; none where a shape is unknown.
    pub peak_activation_bytes: Option<u64>,
    /// Bytes of all values together.
    pub total_activation_bytes: Option<u64>,
    /// Operators on activations that the CPU provider has no fused int8 kernel for.
    pub without_int8_kernel: Vec<String>,
    /// Operators whose shapes are not known here.
    pub unknown_ops: Vec<String>,
}

/// Reads and counts a file of at most 256 MiB, in at most 1 GiB of memory.
///
/// # Errors
/// The file cannot be read, or is no model for inference that stands on its own.
pub fn inspect(path: &Path, options: InspectOptions) -> Result<Inspection, OnnxError> {
    inspect_bytes(&check::bytes(path)?, &path.display().to_string(), options)
}

/// [`inspect`] of bytes; `name` stands in front of errors.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_bytes(bytes: &[u8], name: &str, options: InspectOptions) -> Result<Inspection, OnnxError> {
    let model = check::read(bytes, name)?;
    let empty = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&empty);
    let constants: HashSet<&str> = graph.initializer.iter().map(super::onnx::TensorProto::name).collect();
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !constants.contains(i.name())).collect();
    let given = inputs.iter().filter_map(|i| Some((i.name().to_owned(), closed(i, options.size)?))).collect();
    let shapes = shapes::infer(&model, &given);
    let survey = Survey { graph, wiring: Wiring::new(graph), shapes };
    let port = |value: &&ValueInfoProto| survey.port(value);
    let (macs, quantised) = survey.macs();
    let (peak, total) = survey.memory().unzip();
    Ok(Inspection {
        sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        bytes: bytes.len(),
        ir: model.ir_version(),
        opset: model.opset(),
        producer: producer(&model),
        inputs: inputs.iter().map(port).collect(),
        outputs: graph.output.iter().map(|o| port(&o)).collect(),
        form: survey.form(),
        family: survey.family(&inputs),
        ops: survey.ops(),
        parameters: survey.parameters(),
        weight_bytes: survey.weight_bytes(),
        macs,
        quantised_share: macs.filter(|n| *n > 0).map(|n| quantised as f64 / n as f64),
        peak_activation_bytes: peak,
        total_activation_bytes: total,
        without_int8_kernel: survey.without_int8_kernel(),
        unknown_ops: survey.shapes.unknown_ops.iter().cloned().collect(),
    })
}

fn producer(model: &ModelProto) -> String {
    format!("{} {}", model.producer_name(), model.producer_version()).trim().to_owned()
}

/// Operators that ONNX Runtime's CPU provider runs on int8 without going back to float, or folds into such, and
/// those that only move values.
const INT8_KERNELS: &[&str] = &[
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "Clip",
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "AveragePool",
    "GlobalAveragePool",
    "Concat",
    "MaxPool",
    "Resize",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Split",
    "Gather",
    "Pad",
    "DepthToSpace",
    "SpaceToDepth",
    "Identity",
    "Expand",
    "QuantizeLinear",
    "DequantizeLinear",
    "Constant",
    "Shape",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
];

struct Survey<'a> {
    graph: &'a GraphProto,
    wiring: Wiring<'a>,
    shapes: Shapes<'a>,
}

impl Survey<'_> {
    fn value(&self, name: &str) -> Option<&Value> {
        self.shapes.values.get(name)
    }

    fn port(&self, port: &ValueInfoProto) -> Port {
        let tensor = port.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let declared = tensor.and_then(|t| t.shape.as_ref()).map_or(&[][..], |s| &s.dim);
        let open = |dim: &crate::onnx::DimensionProto| match (dim.dim_value, dim.dim_param()) {
            (Some(n), _) => n.to_string(),
            (None, "") => "?".to_owned(),
            (None, name) => name.to_owned(),
        };
        let shape = match self.value(port.name()).and_then(|v| v.dims.as_ref()) {
            Some(dims) => dims.iter().map(i64::to_string).collect(),
            None => declared.iter().map(open).collect(),
        };
        Port {
            name: port.name().to_owned(),
            r#type: type_name(tensor.map_or(0, super::onnx::TensorTypeProto::elem_type)),
            shape,
        }
    }

    fn family(&self, inputs: &[&ValueInfoProto]) -> Option<String> {
        let [only] = inputs else { return None };
        let dims = self.value(only.name())?.dims.as_deref().filter(|dims| dims.len() == 4)?;
        let rows = rows(dims);
        let side = |at: usize| usize::try_from(*dims.get(at)?).ok().filter(|n| *n > 0);
        let size = InputSize { width: side(rows + 1)?, height: side(rows)? };
        let output = |port: &ValueInfoProto| {
            let dims = self.value(port.name())?.dims.clone()?;
            Some((port.name().to_owned(), dims))
        };
        let outputs: Vec<_> = self.graph.output.iter().map(output).collect::<Option<_>>()?;
        let guesses = families::guess(&outputs, size);
        guesses.first()?.table.get("kind")?.as_str().map(str::to_owned)
    }

    fn ops(&self) -> BTreeMap<String, usize> {
        let mut ops = BTreeMap::new();
        for node in &self.graph.node {
            *ops.entry(node.op_type().to_owned()).or_default() += 1;
        }
        ops
    }

    fn parameters(&self) -> u64 {
        // Scales and zero points of Q and DQ, and integers that are shapes.
        let quantising = |node: &&NodeProto| matches!(node.op_type(), "QuantizeLinear" | "DequantizeLinear");
        let mut scales: HashSet<&str> = HashSet::new();
        for node in self.graph.node.iter().filter(quantising) {
            scales.extend(node.input.iter().skip(1).map(String::as_str));
        }
        let weights = self
            .graph
            .initializer
            .iter()
            .filter(|t| t.data_type() != data_type::INT64 && !scales.contains(t.name()));
        weights.filter_map(|t| t.count().ok()).map(|n| n as u64).sum()
    }

    fn weight_bytes(&self) -> BTreeMap<&'static str, u64> {
        let mut bytes = BTreeMap::new();
        for tensor in &self.graph.initializer {
            let bits = check::bits(tensor.data_type()).unwrap_or(0) as u64;
            let size = (tensor.count().unwrap_or(0) as u64 * bits).div_ceil(8);
            *bytes.entry(type_name(tensor.data_type())).or_default() += size;
        }
        bytes
    }

    /// MACs of a layer, `None` where its shapes are unknown; 0 for what is no layer.
    fn layer_macs(&self, node: &NodeProto) -> Option<u64> {
        let input = |at: usize| node.input.get(at).and_then(|name| self.value(name));
        let output = || node.output.first().and_then(|name| self.value(name))?.count();
        let weight = |at: usize| input(at)?.dims.as_deref();
        let rest =
            |dims: &[i64]| dims.get(1..)?.iter().try_fold(1u64, |n, d| n.checked_mul(d.unsigned_abs()));
        match node.op_type() {
            op @ ("Conv" | "ConvInteger" | "QLinearConv") => {
                output()?.checked_mul(rest(weight(if op == "QLinearConv" { 3 } else { 1 })?)?)
            }
            "ConvTranspose" => input(0)?.count()?.checked_mul(rest(weight(1)?)?),
            "Gemm" => {
                let (a, turned) = (weight(0)?, node.int("transA").unwrap_or(0) != 0);
                output()?.checked_mul(a.get(usize::from(!turned))?.unsigned_abs())
            }
            "MatMul" | "MatMulInteger" | "QLinearMatMul" => {
                output()?.checked_mul(weight(0)?.last()?.unsigned_abs())
            }
            _ => Some(0),
        }
    }

    /// All, and those of quantised layers.
    fn macs(&self) -> (Option<u64>, u64) {
        let mut all = Some(0u64);
        let mut quantised = 0u64;
        for node in &self.graph.node {
            let macs = self.layer_macs(node);
            all = all.zip(macs).and_then(|(a, b)| a.checked_add(b));
            if let (Some(_), Some(_)) = self.quantised(node) {
                quantised = quantised.saturating_add(macs.unwrap_or(0));
            }
        }
        (all, quantised)
    }

    /// The element type that a value was dequantised from.
    fn dequantised(&self, name: Option<&String>) -> Option<i32> {
        let node = &self.graph.node[*self.wiring.writer.get(name?.as_str())?];
        let source = node.input.first().filter(|_| node.op_type() == "DequantizeLinear")?;
        self.value(source).map(|value| value.kind)
    }

    /// The quantised types of a layer's activations and weights.
    fn quantised(&self, node: &NodeProto) -> (Option<i32>, Option<i32>) {
        let kind = |at: usize| node.input.get(at).and_then(|name| self.value(name)).map(|v| v.kind);
        match node.op_type() {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" => {
                (self.dequantised(node.input.first()), self.dequantised(node.input.get(1)))
            }
            "ConvInteger" | "MatMulInteger" => (kind(0), kind(1)),
            "QLinearConv" | "QLinearMatMul" => (kind(0), kind(3)),
            _ => (None, None),
        }
    }

    fn form(&self) -> &'static str {
        let pairs: BTreeSet<_> =
            self.graph.node.iter().map(|n| self.quantised(n)).filter(|p| p.1.is_some()).collect();
        let mut pairs = pairs.into_iter();
        match (pairs.next(), pairs.next()) {
            (None, _) => "fp32",
            (Some((Some(data_type::UINT8), Some(data_type::INT8))), None) => "u8s8",
            (Some((Some(data_type::INT8), Some(data_type::INT8))), None) => "s8s8",
            (Some((Some(data_type::UINT8), Some(data_type::UINT8))), None) => "u8u8",
            (Some((None, Some(data_type::INT8))), None) => "weight-only int8",
            (Some((None, Some(data_type::INT4))), None) => "weight-only int4",
            _ => "mixed",
        }
    }

    /// Bytes of one value.
    fn size(&self, name: &str) -> Option<u64> {
        let value = self.value(name)?;
        Some(value.count()?.checked_mul(check::bits(value.kind)? as u64)?.div_ceil(8))
    }

    /// Most at once, and all together.
    fn memory(&self) -> Option<(u64, u64)> {
        let order = graph::sorted(self.graph).ok()?;
        let mut last: HashMap<&str, usize> = HashMap::new();
        for (time, at) in order.iter().enumerate() {
            last.extend(self.graph.node[*at].input.iter().map(|name| (name.as_str(), time)));
        }
        last.extend(self.graph.output.iter().map(|o| (o.name(), usize::MAX)));
        let constant = |name: &str| self.wiring.constants.contains_key(name);
        let inputs =
            self.graph.input.iter().map(super::onnx::ValueInfoProto::name).filter(|name| !constant(name));
        let mut live = inputs.map(|name| self.size(name)).sum::<Option<u64>>()?;
        let (mut peak, mut total) = (live, live);
        for (time, at) in order.iter().enumerate() {
            let node = &self.graph.node[*at];
            let outputs = node.output.iter().filter(|name| !name.is_empty());
            let made = outputs.clone().map(|name| self.size(name)).sum::<Option<u64>>()?;
            live = live.checked_add(made)?;
            total = total.checked_add(made)?;
            peak = peak.max(live);
            let read: BTreeSet<&str> =
                node.input.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
            let done = read.into_iter().filter(|name| !constant(name) && last.get(name) == Some(&time));
            let unread = outputs.map(String::as_str).filter(|name| !last.contains_key(name));
            let freed = done.chain(unread).map(|name| self.size(name)).sum::<Option<u64>>()?;
            live = live.saturating_sub(freed);
        }
        Some((peak, total))
    }

    fn without_int8_kernel(&self) -> Vec<String> {
        let constant = |name: &String| name.is_empty() || self.wiring.constants.contains_key(name.as_str());
        let on_activations = self.graph.node.iter().filter(|node| !node.input.iter().all(constant));
        let ops: BTreeSet<&str> = on_activations.map(NodeProto::op_type).collect();
        ops.into_iter()
            .filter(|op| !INT8_KERNELS.contains(op) && !op.starts_with("QLinear"))
            .map(str::to_owned)
            .collect()
    }
}

/// ONNX's word for an element type.
fn type_name(kind: i32) -> &'static str {
    match kind {
        1 => "float32",
        2 => "uint8",
        3 => "int8",
        4 => "uint16",
        5 => "int16",
        6 => "int32",
        7 => "int64",
        8 => "string",
        9 => "bool",
        10 => "float16",
        11 => "float64",
        12 => "uint32",
        13 => "uint64",
        16 => "bfloat16",
        17..=20 => "float8",
        21 => "uint4",
        22 => "int4",
        _ => "unknown",
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
