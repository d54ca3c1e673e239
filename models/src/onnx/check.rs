//! Reading an ONNX file that somebody else made.
//!
//! Owns: the limits, and the checks of structure that stand before anything else looks at a model. Does not know: what
//! operators compute, ONNX Runtime.
//!
//! Memory: at most 1 GiB for any file up to [`MOST_BYTES`]: 256 MiB of file, 512 MiB decoded (`wire.rs` refuses more
//! before decoding), and the wiring of at most a million names. What it takes to run the model is `bounds.rs`'s.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use prost::Message;

use super::wire::{self, WireError};
use super::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, data_type, graph,
};

/// The largest file that is read.
pub(crate) const MOST_BYTES: u64 = 256 << 20;
/// Newest IR version of `onnx.rs`.
const NEWEST_IR: i64 = 13;
/// Above every opset there is, with years of room; beyond it the number is damage.
const MOST_OPSET: i64 = 64;
/// Strides, dilations, kernels and groups: 1 to this.
const MOST_STEP: i64 = 1 << 16;
/// More axes than any network's tensor has.
const MOST_AXES: usize = 16;

/// A file that is not a model that can be used here: which file, what is wrong where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {fault}")]
pub struct OnnxError {
    file: String,
    fault: Fault,
}

impl OnnxError {
    /// `place` of `file` is `what`; what to do.
    pub(super) fn content(file: &str, place: String, what: String, remedy: &'static str) -> Self {
        Self { file: file.to_owned(), fault: Fault::Content { place, what, remedy } }
    }

    /// The file as it was named.
    pub fn file(&self) -> &str {
        &self.file
    }
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("is larger than {} MiB, the most that is read", MOST_BYTES >> 20)]
    Size,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("is no ONNX file, or a damaged one: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("{place} {what}; {remedy}")]
    Content { place: String, what: String, remedy: &'static str },
}

const DAMAGED: &str = "the file is damaged: fetch or export it again";
const SIMPLIFY: &str =
    "export for inference, with functions and control flow inlined (onnx-simplifier does it)";
const EMBED: &str = "save the model with its weights inside (onnx.save with save_as_external_data=False)";
const EXPORT: &str = "export it again with a current exporter";

fn fault(place: impl Into<String>, what: impl Into<String>, remedy: &'static str) -> Fault {
    Fault::Content { place: place.into(), what: what.into(), remedy }
}

/// The bytes of a file, at most [`MOST_BYTES`].
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, OnnxError> {
    let wrap = |fault| OnnxError { file: path.display().to_string(), fault };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| wrap(e.into()))?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|e| wrap(e.into()))?;
    if bytes.len() as u64 > MOST_BYTES { Err(wrap(Fault::Size)) } else { Ok(bytes) }
}

/// A model out of bytes, its structure checked. `name` stands in front of errors.
pub(crate) fn read(bytes: &[u8], name: &str) -> Result<ModelProto, OnnxError> {
    checked(bytes).map_err(|fault| OnnxError { file: name.to_owned(), fault })
}

fn checked(bytes: &[u8]) -> Result<ModelProto, Fault> {
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Fault::Size);
    }
    wire::cost(bytes)?;
    let model = ModelProto::decode(bytes)?;
    let Some(graph) = &model.graph else {
        return Err(fault("the model", "has no graph", "is this an ONNX file?"));
    };
    versions(&model)?;
    if !model.functions.is_empty() {
        return Err(fault("the model", "has functions of its own", SIMPLIFY));
    }
    if !model.training_info.is_empty() {
        return Err(fault("the model", "is for training", SIMPLIFY));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(fault("the graph", "has sparse weights", "store them dense"));
    }
    graph.initializer.iter().try_for_each(|t| tensor(t, &format!("tensor `{}`", shown(t.name()))))?;
    for (kind, list) in [("input", &graph.input), ("output", &graph.output)] {
        list.iter().try_for_each(|value| boundary(kind, value))?;
    }
    graph.node.iter().try_for_each(node)?;
    names(graph)?;
    graph::sorted(graph).map(|_| ()).map_err(|circle| {
        let first = circle.first().map_or_else(String::new, |at| label(&graph.node[*at]));
        fault(first, "reads what comes out of it: the graph has a circle", DAMAGED)
    })?;
    Ok(model)
}

/// A name of the file in a message: cut, and without what would disturb a terminal.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

pub(super) fn label(node: &NodeProto) -> String {
    format!("node {}", shown(&node.label()))
}

fn versions(model: &ModelProto) -> Result<(), Fault> {
    let ir = model.ir_version();
    if !(3..=NEWEST_IR).contains(&ir) {
        return Err(fault("the model", format!("has IR version {ir}, not 3 to {NEWEST_IR}"), EXPORT));
    }
    let mut domains = HashSet::new();
    for import in &model.opset_import {
        let domain = if import.domain() == "ai.onnx" { "" } else { import.domain() };
        if !domains.insert(domain) {
            return Err(fault(format!("opset `{}`", shown(domain)), "is imported twice", DAMAGED));
        }
    }
    let opset = model.opset();
    if !(1..=MOST_OPSET).contains(&opset) {
        return Err(fault("the model", format!("imports version {opset} of the standard operators"), EXPORT));
    }
    Ok(())
}

fn boundary(kind: &str, value: &ValueInfoProto) -> Result<(), Fault> {
    let place = format!("{kind} `{}`", shown(value.name()));
    let Some(tensor) = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
        return Err(fault(place, "is no tensor", EXPORT));
    };
    if bits(tensor.elem_type()).is_none() && tensor.elem_type() != STRING {
        return Err(fault(place, format!("has the invalid element type {}", tensor.elem_type()), DAMAGED));
    }
    let dims = tensor.shape.as_ref().map_or(&[][..], |s| &s.dim);
    let product = dims
        .iter()
        .map(|d| d.dim_value.unwrap_or(1))
        .try_fold(1i64, |product, dim| product.checked_mul(dim).filter(|n| dim >= 0 && *n <= 1 << 29));
    if dims.len() > MOST_AXES || product.is_none() {
        return Err(fault(place, "has axes that no tensor can have", DAMAGED));
    }
    Ok(())
}

fn node(node: &NodeProto) -> Result<(), Fault> {
    if node.op_type().is_empty() {
        return Err(fault(label(node), "has no operator", DAMAGED));
    }
    if node.output.iter().all(String::is_empty) {
        return Err(fault(label(node), "writes nothing", DAMAGED));
    }
    let mut seen = HashSet::new();
    for attribute in &node.attribute {
        let name = attribute.name();
        let place = || format!("attribute `{}` of {}", shown(name), label(node));
        if name.is_empty() || !seen.insert(name) {
            return Err(fault(place(), "has no name, or that of another", DAMAGED));
        }
        if attribute.g.is_some() || !attribute.graphs.is_empty() {
            return Err(fault(place(), "is a graph of its own (control flow)", SIMPLIFY));
        }
        if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
            return Err(fault(place(), "is sparse", "store it dense"));
        }
        if !attribute.ref_attr_name().is_empty() {
            return Err(fault(place(), "refers to a function's attribute", SIMPLIFY));
        }
        attribute.t.iter().chain(&attribute.tensors).try_for_each(|t| tensor(t, &place()))?;
        steps(attribute, place)?;
    }
    Ok(())
}

/// A stride of zero is a division by zero in whoever runs the graph.
fn steps(attribute: &AttributeProto, place: impl Fn() -> String) -> Result<(), Fault> {
    let good = match attribute.name() {
        "strides" | "dilations" | "kernel_shape" => {
            attribute.ints.len() <= MOST_AXES && attribute.ints.iter().all(|n| (1..=MOST_STEP).contains(n))
        }
        "pads" | "output_padding" => attribute.ints.iter().all(|n| (-MOST_STEP..=MOST_STEP).contains(n)),
        "group" | "blocksize" => attribute.i.is_none_or(|n| (1..=MOST_STEP).contains(&n)),
        _ => true,
    };
    if good { Ok(()) } else { Err(fault(place(), "has a value that no layer can have", DAMAGED)) }
}

const STRING: i32 = 8;

/// Bits of one element; none for strings, complex numbers and unknown types.
pub(crate) fn bits(data_type: i32) -> Option<usize> {
    Some(match data_type {
        2 | 3 | 9 | 17..=20 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 => 64,
        21..=23 => 4,
        _ => return None,
    })
}

fn tensor(tensor: &TensorProto, place: &str) -> Result<(), Fault> {
    if tensor.data_location() != 0 || !tensor.external_data.is_empty() {
        return Err(fault(place, "has its values in another file", EMBED));
    }
    if tensor.dims.len() > MOST_AXES {
        return Err(fault(place, format!("has {} axes", tensor.dims.len()), DAMAGED));
    }
    let count = tensor.count().map_err(|error| fault(place, error.to_string(), DAMAGED))?;
    let kind = tensor.data_type();
    if kind == STRING {
        let found = tensor.string_data.len();
        let good = found == count && tensor.raw_data.is_none();
        return if good { Ok(()) } else { Err(length(place, count, found)) };
    }
    let Some(bits) = bits(kind) else {
        return Err(fault(place, format!("has the invalid element type {kind}"), DAMAGED));
    };
    let typed = [
        tensor.float_data.len(),
        tensor.int32_data.len(),
        tensor.int64_data.len(),
        tensor.double_data.len(),
        tensor.uint64_data.len(),
        tensor.string_data.len(),
    ];
    if let Some(raw) = &tensor.raw_data {
        if typed.iter().any(|n| *n > 0) {
            return Err(fault(place, "has its values twice", DAMAGED));
        }
        let good = raw.len() == (count * bits).div_ceil(8);
        return if good { Ok(()) } else { Err(length(place, count, raw.len() * 8 / bits)) };
    }
    let own = match kind {
        data_type::FLOAT => 0,
        data_type::INT64 => 2,
        data_type::DOUBLE => 3,
        12 | 13 => 4,
        _ => 1,
    };
    let expected = if bits == 4 { count.div_ceil(2) } else { count };
    if typed.iter().enumerate().any(|(at, n)| *n != if at == own { expected } else { 0 }) {
        return Err(length(place, expected, typed[own]));
    }
    Ok(())
}

fn length(place: &str, expected: usize, found: usize) -> Fault {
    fault(place, format!("should hold {expected} values by its axes, holds {found}"), DAMAGED)
}

/// Every value is written once and known where it is read.
fn names(graph: &GraphProto) -> Result<(), Fault> {
    let mut constants = HashSet::new();
    for tensor in &graph.initializer {
        if tensor.name().is_empty() || !constants.insert(tensor.name()) {
            return Err(fault(
                format!("tensor `{}`", shown(tensor.name())),
                "has no name, or that of another",
                DAMAGED,
            ));
        }
    }
    let mut inputs = HashSet::new();
    for input in &graph.input {
        if input.name().is_empty() || !inputs.insert(input.name()) {
            return Err(fault(
                format!("input `{}`", shown(input.name())),
                "has no name, or that of another",
                DAMAGED,
            ));
        }
    }
    let mut known: HashSet<&str> = constants.union(&inputs).copied().collect();
    for node in &graph.node {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if !known.insert(output) {
                return Err(fault(
                    label(node),
                    format!("writes `{}`, which is written before", shown(output)),
                    DAMAGED,
                ));
            }
        }
    }
    for node in &graph.node {
        if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !known.contains(name.as_str()))
        {
            return Err(fault(label(node), format!("reads `{}`, which nobody writes", shown(name)), DAMAGED));
        }
    }
    if graph.output.is_empty() {
        return Err(fault("the graph", "has no output", DAMAGED));
    }
    let mut outputs = HashSet::new();
    for output in &graph.output {
        if !known.contains(output.name()) || !outputs.insert(output.name()) {
            return Err(fault(
                format!("output `{}`", shown(output.name())),
                "is written by nobody, or named twice",
                DAMAGED,
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
