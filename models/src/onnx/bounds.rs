//! How large the values of a checked model become, before anybody makes them.
//!
//! Owns: the limit, and which values are known from constants alone. Does not know: shapes of operators (`shapes.rs`),
//! ONNX Runtime. It folds constants when a session opens: a file of 300 bytes can ask for gigabytes there.

use std::collections::HashSet;

use super::check::{self, OnnxError, label, shown};
use super::shapes::{self, Shapes, Value};
use super::{GraphProto, ModelProto, NodeProto, ValueInfoProto, graph};

/// What one node reads and writes, and all that is made of constants, at most: beside the file that is 1 GiB.
const MOST_BYTES: u64 = 512 << 20;

const SMALLER: &str = "export the network for a smaller picture, or name another one";
const FOLD: &str = "export it with its constants folded (onnx-simplifier does it)";

/// Operators whose output can be larger than all that they read: by which of their inputs (attributes apart).
fn sized_by(op: &str) -> Option<std::ops::Range<usize>> {
    Some(match op {
        "ConstantOfShape" => 0..1,
        "Expand" | "Tile" | "Pad" | "OneHot" => 1..2,
        "Range" => 0..3,
        "Upsample" => 1..2,
        "Resize" => 1..4,
        // Where no rule tells their size: whatever they read.
        "Einsum" | "EyeLike" | "RandomNormal" | "RandomUniform" | "MaxUnpool" | "Col2Im"
        | "CenterCropPad" | "AffineGrid" | "HannWindow" | "HammingWindow" | "BlackmanWindow"
        | "MelWeightMatrix" => 0..0,
        _ => return None,
    })
}

/// That no node of a checked model reads and writes more than 512 MiB, and constants make no more than that, with
/// inputs of the shapes that the graph states; open axes are closed as in [`closed`]. `name` stands in front of errors.
///
/// # Errors
/// The node, and its size or that it cannot be told.
pub(crate) fn check(model: &ModelProto, name: &str, size: Option<(usize, usize)>) -> Result<(), OnnxError> {
    let Some(graph) = &model.graph else { return Ok(()) };
    let inputs = graph.input.iter().filter_map(|i| Some((i.name().to_owned(), closed(i, size)?)));
    let shapes = shapes::infer(model, &inputs.collect());
    let refuse =
        |node: &NodeProto, what: String, remedy| Err(OnnxError::content(name, label(node), what, remedy));
    let mut constants: HashSet<&str> = graph.initializer.iter().map(super::TensorProto::name).collect();
    let mut made = 0_u64;
    for node in graph::sorted(graph).unwrap_or_default().into_iter().map(|at| &graph.node[at]) {
        if let Some(unknown) = untold(node, &shapes, &constants) {
            let what = format!("makes `{}`, whose size cannot be told", shown(unknown));
            return refuse(node, what, FOLD);
        }
        let names: HashSet<&str> = node.input.iter().chain(&node.output).map(String::as_str).collect();
        let all = names.into_iter().fold(0_u64, |sum, name| sum.saturating_add(bytes(&shapes, name)));
        if all > MOST_BYTES {
            return refuse(node, format!("works on {}", mebibytes(all)), SMALLER);
        }
        if is_constant(node, &shapes, &constants) {
            constants.extend(node.output.iter().map(String::as_str));
            made = node.output.iter().fold(made, |sum, name| sum.saturating_add(bytes(&shapes, name)));
        }
        if made > MOST_BYTES {
            return refuse(node, format!("and those before it make constants of {}", mebibytes(made)), FOLD);
        }
    }
    boundary(graph, name, &shapes)
}

/// An input or output that no node touches.
fn boundary(graph: &GraphProto, name: &str, shapes: &Shapes<'_>) -> Result<(), OnnxError> {
    match graph.input.iter().find(|input| bytes(shapes, input.name()) > MOST_BYTES) {
        Some(input) => {
            let what = format!("has {}", mebibytes(bytes(shapes, input.name())));
            Err(OnnxError::content(name, format!("input `{}`", shown(input.name())), what, SMALLER))
        }
        None => Ok(()),
    }
}

/// The output of unknown size of a node that is sized by constants; of one that only computes it is no larger than
/// what it reads.
fn untold<'a>(node: &'a NodeProto, shapes: &Shapes<'_>, constants: &HashSet<&str>) -> Option<&'a str> {
    let sizes = sized_by(node.op_type())?;
    let known = |name: &str| shapes.values.get(name).is_some_and(|value| value.dims.is_some());
    let unknown = node.output.iter().find(|name| !name.is_empty() && !known(name))?;
    let inputs = || node.input.iter().map(String::as_str).enumerate().filter(|(_, name)| !name.is_empty());
    let by_constants =
        inputs().filter(|(at, _)| sizes.contains(at)).all(|(_, name)| constants.contains(name));
    // What reads an unknown value is not to blame.
    let known_inputs = inputs().all(|(_, name)| constants.contains(name) || known(name));
    (by_constants && known_inputs).then_some(unknown.as_str())
}

/// Whether ONNX Runtime can compute the node when it opens the file.
fn is_constant(node: &NodeProto, shapes: &Shapes<'_>, constants: &HashSet<&str>) -> bool {
    let shape_is_known = || {
        let input = node.input.first().and_then(|name| shapes.values.get(name.as_str()));
        input.is_some_and(|value| value.dims.is_some())
    };
    (matches!(node.op_type(), "Shape" | "Size") && shape_is_known())
        || node.input.iter().all(|name| name.is_empty() || constants.contains(name.as_str()))
}

/// 0 where it is unknown.
fn bytes(shapes: &Shapes<'_>, name: &str) -> u64 {
    let Some(value @ Value { dims: Some(_), .. }) = shapes.values.get(name) else { return 0 };
    let bits = check::bits(value.kind).unwrap_or(64) as u64;
    value.count().and_then(|n| n.checked_mul(bits)).map_or(u64::MAX, |bits| bits.div_ceil(8))
}

fn mebibytes(bytes: u64) -> String {
    let most = MOST_BYTES >> 20;
    match bytes {
        u64::MAX => format!("more values than can be counted, not at most {most} MiB"),
        _ => format!("{} MiB, not at most {most} MiB", bytes.div_ceil(1 << 20)),
    }
}

/// The axes of an input with open ones closed: the first is 1, those of rows and columns are `size` (width, height).
pub(crate) fn closed(input: &ValueInfoProto, size: Option<(usize, usize)>) -> Option<Vec<i64>> {
    let dims = &input.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?.dim;
    let rows = rows(&dims.iter().map(|d| d.dim_value.unwrap_or(-1)).collect::<Vec<_>>());
    let axis = |(at, dim): (usize, &super::DimensionProto)| match (dim.dim_value, size) {
        (Some(n), _) => Some(n),
        (None, _) if at == 0 => Some(1),
        (None, Some((_, height))) if dims.len() == 4 && at == rows => i64::try_from(height).ok(),
        (None, Some((width, _))) if dims.len() == 4 && at == rows + 1 => i64::try_from(width).ok(),
        _ => None,
    };
    dims.iter().enumerate().map(axis).collect()
}

/// Which of four axes are the rows; columns follow. NHWC where only the last axis can be channels.
pub(crate) fn rows(dims: &[i64]) -> usize {
    let channels = |at: usize| dims.get(at).is_some_and(|n| *n == 1 || *n == 3);
    if channels(3) && !channels(1) { 1 } else { 2 }
}

#[cfg(test)]
#[path = "bounds_tests.rs"]
mod tests;
