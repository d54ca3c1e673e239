//! Which operators become int8.
//!
//! Owns: the rule per provider. A form's provider must have an int8 kernel for whatever stands between
//! DequantizeLinear and QuantizeLinear: wrapped operators without one run in float with two conversions more, which
//! costs more than int8 gains. Does not know: ranges, how it is written.

use std::collections::BTreeSet;

use crate::onnx::graph::Wiring;
use crate::onnx::{GraphProto, NodeProto, TensorProto};
use crate::provider::Form;

/// A product with fewer weights is cheaper in float than its conversions (the integral of a distribution head).
const FEWEST_WEIGHTS: usize = 256;
/// The same values, moved: in and out have one scale. Each has an int8 kernel or is run on bytes.
const MOVES: [&str; 12] = [
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Flatten",
    "Split",
    "MaxPool",
    "Resize",
    "DepthToSpace",
    "SpaceToDepth",
    "Gather",
];
/// What the CPU provider computes in int8 besides products.
const COMPUTES: [&str; 7] =
    ["Add", "Mul", "LeakyRelu", "Sigmoid", "AveragePool", "GlobalAveragePool", "Concat"];

/// What becomes of each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Stays as it is.
    Float,
    /// Between DequantizeLinear and QuantizeLinear.
    Wrapped,
    /// A ReLU that goes: its producer writes its output, and saturation at the ends of uint8 does what it did.
    Folded,
}

/// A product of a tensor with weights: convolutions and matrix products.
pub(super) fn is_product(node: &NodeProto) -> bool {
    standard(node) && matches!(node.op_type(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul")
}

fn standard(node: &NodeProto) -> bool {
    matches!(node.domain(), "" | "ai.onnx")
}

/// Whether the node hands on values of its first input.
pub(super) fn is_move(node: &NodeProto) -> bool {
    MOVES.contains(&node.op_type())
        || (node.op_type() == "Pad" && node.input.get(2).is_none_or(String::is_empty))
}

/// The inputs that are activations or could be: not shapes, indices, sizes.
pub(super) fn operands(node: &NodeProto) -> &[String] {
    let count = match node.op_type() {
        "Conv" | "ConvTranspose" | "Gemm" => 1,
        "MatMul" | "Add" | "Mul" => 2,
        "Concat" => node.input.len(),
        _ => 1,
    };
    &node.input[..count.min(node.input.len())]
}

/// A node's name in reports, and the one to keep it in fp32 by: its own, else its first output's.
pub(super) fn name(node: &NodeProto) -> &str {
    if node.name().is_empty() { node.output.first().map_or("", String::as_str) } else { node.name() }
}

/// The upper end of a ReLU (infinite) or a Clip from 0 on. Other clips cannot be done by saturation exactly.
pub(super) fn relu_limit(node: &NodeProto, wiring: &Wiring<'_>) -> Option<f32> {
    let constant = |at: usize| -> Option<Option<f32>> {
        match node.input.get(at).filter(|name| !name.is_empty()) {
            Some(name) => Some(wiring.constants.get(name.as_str())?.floats().ok()?.first().copied()),
            None => Some(None),
        }
    };
    match node.op_type() {
        "Relu" => Some(f32::INFINITY),
        "Clip" if constant(1)? == Some(0.0) => {
            Some(constant(2)?.unwrap_or(f32::INFINITY)).filter(|c| *c > 0.0)
        }
        _ => None,
    }
}

pub(super) fn plan(graph: &GraphProto, form: Form, keep_fp32: &BTreeSet<String>) -> Vec<Fate> {
    let wiring = Wiring::new(graph);
    let kept = |node: &NodeProto| {
        keep_fp32.contains(name(node)) || node.output.iter().any(|output| keep_fp32.contains(output))
    };
    let product = |node: &NodeProto| is_product(node) && !kept(node) && has_kernel(node, &wiring, form);
    let wrappable =
        |node: &NodeProto| !kept(node) && standard(node) && may_stand_between(node, &wiring, form);
    let mut before = vec![false; graph.node.len()];
    for (at, node) in graph.node.iter().enumerate() {
        let fed =
            operands(node).iter().any(|input| wiring.writer.get(input.as_str()).is_some_and(|w| before[*w]));
        before[at] = product(node) || (fed && wrappable(node));
    }
    let mut fates = vec![Fate::Float; graph.node.len()];
    let mut after = vec![false; graph.node.len()];
    for (at, node) in graph.node.iter().enumerate().rev() {
        let readers = node.output.iter().filter_map(|output| wiring.readers.get(output.as_str())).flatten();
        let feeds = readers.copied().any(|reader| {
            let reads = |input: &String| operands(&graph.node[reader]).contains(input);
            after[reader] && node.output.iter().any(reads)
        });
        after[at] = product(node) || (feeds && wrappable(node));
        if before[at] && after[at] {
            fates[at] = Fate::Wrapped;
        }
    }
    fold(graph, &wiring, form, &kept, &mut fates);
    if form == Form::S8s8 {
        spare_linear_resize(graph, &wiring, &mut fates);
    }
    fates
}

/// Saturation does a ReLU's work where the type's lowest value is 0, so in uint8. Symmetric int8 keeps negative values:
/// there the ReLU stays, as an operator of its own behind the product that the provider takes.
fn fold(
    graph: &GraphProto,
    wiring: &Wiring<'_>,
    form: Form,
    kept: &impl Fn(&NodeProto) -> bool,
    fates: &mut [Fate],
) {
    for (at, node) in graph.node.iter().enumerate() {
        let Some(input) = node.input.first().filter(|_| relu_limit(node, wiring).is_some() && !kept(node))
        else {
            continue;
        };
        let Some(&writer) = wiring.writer.get(input.as_str()) else { continue };
        let output = graph.output.iter().any(|o| o.name() == input);
        if fates[writer] != Fate::Wrapped || output || wiring.reader_count(input) != 1 {
            continue;
        }
        // Moved values share the scale of where they come from, which may be negative.
        if form == Form::U8s8 && !is_move(&graph.node[writer]) {
            fates[at] = Fate::Folded;
        } else if is_product(&graph.node[writer]) {
            fates[at] = Fate::Wrapped;
        }
    }
}

/// A linear Resize between DequantizeLinear and QuantizeLinear is claimed by XNNPACK, which then fails to build the
/// session. So it reads dequantised values, and whoever reads it runs in float up to the next product's input.
fn spare_linear_resize(graph: &GraphProto, wiring: &Wiring<'_>, fates: &mut [Fate]) {
    let mut bare = BTreeSet::new();
    for (at, node) in graph.node.iter().enumerate() {
        let linear = node.op_type() == "Resize" && node.text("mode").unwrap_or("nearest") != "nearest";
        let reads = operands(node).iter().any(|input| bare.contains(input.as_str()));
        let from_resize = |input: &String| {
            wiring.writer.get(input.as_str()).is_some_and(|w| graph.node[*w].op_type() == "Resize")
        };
        if linear {
            fates[at] = Fate::Float;
            bare.extend(node.output.iter().map(String::as_str));
        } else if reads && (!is_product(node) || operands(node).iter().any(from_resize)) {
            // One step behind the Resize there is a float operator between; from there on int8 may begin again.
            fates[at] = Fate::Float;
            if is_move(node) {
                bare.extend(node.output.iter().map(String::as_str));
            }
        }
    }
}

fn weights<'a>(node: &NodeProto, wiring: &Wiring<'a>) -> Option<&'a TensorProto> {
    wiring.constants.get(node.input.get(1)?.as_str()).copied()
}

/// Whether a product can be one in int8: constant weights (MatMul: or none), plain Gemm.
fn has_kernel(node: &NodeProto, wiring: &Wiring<'_>, form: Form) -> bool {
    let weights = weights(node, wiring);
    let enough = |axes: std::ops::RangeInclusive<usize>| {
        let readable = |t: &&TensorProto| t.floats().is_ok_and(|v| v.iter().all(|v| v.is_finite()));
        let fits =
            |t: &&TensorProto| t.count().is_ok_and(|n| n >= FEWEST_WEIGHTS) && axes.contains(&t.dims.len());
        weights.filter(fits).filter(readable).is_some()
    };
    let bias_is_constant = || match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => wiring.constants.get(name.as_str()).is_some_and(|t| t.floats().is_ok()),
        None => true,
    };
    match node.op_type() {
        // Depthwise ones have few weights and much work: no lower bound.
        "Conv" => weights.is_some_and(|t| t.dims.len() >= 3 && t.floats().is_ok()) && bias_is_constant(),
        // ONNX Runtime's own kernels know no quantised transposed convolution.
        "ConvTranspose" => {
            form == Form::S8s8 && enough(3..=4) && node.int("group").unwrap_or(1) == 1 && bias_is_constant()
        }
        "Gemm" => {
            let plain = node.float("alpha").unwrap_or(1.0) == 1.0 && node.float("beta").unwrap_or(1.0) == 1.0;
            let axis = usize::from(node.int("transB").unwrap_or(0) == 0);
            let bias = node.input.get(2).and_then(|name| wiring.constants.get(name.as_str()));
            let columns = weights.and_then(|t| t.dims.get(axis).copied());
            let fits = bias.is_none_or(|t| t.count().ok().map(|n| n as i64) == columns);
            plain && node.int("transA").unwrap_or(0) == 0 && enough(2..=2) && fits && bias_is_constant()
        }
        "MatMul" => match weights {
            Some(_) => enough(2..=2),
            None => node.input.iter().all(|input| wiring.writer.contains_key(input.as_str())),
        },
        _ => false,
    }
}

fn may_stand_between(node: &NodeProto, wiring: &Wiring<'_>, form: Form) -> bool {
    if is_move(node) {
        // Indices as a second output are no values.
        return node.op_type() != "MaxPool" || node.output.len() == 1;
    }
    let constants_are_floats = || {
        let constant = |input: &String| wiring.constants.get(input.as_str());
        operands(node).iter().filter_map(constant).all(|t| {
            t.data_type() == crate::onnx::data_type::FLOAT
                && t.floats().is_ok_and(|v| !v.is_empty() && v.iter().all(|v| v.is_finite()))
        })
    };
    let relu = relu_limit(node, wiring).is_some();
    // Sigmoid has no signed kernel besides the table of the CPU provider; three float passes are dearer than one.
    let computes = COMPUTES.contains(&node.op_type()) && !(form == Form::S8s8 && node.op_type() == "Sigmoid");
    (computes || relu) && constants_are_floats()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
