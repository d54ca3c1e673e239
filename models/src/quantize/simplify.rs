//! From a model file to the graph that is quantised: checked, its sizes bound, constants and batch normalisation
//! folded by ONNX Runtime, nodes in order.
//!
//! Owns: what is refused. Does not know: int8.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use prost::Message;
use rustix::fs::{MemfdFlags, memfd_create};

use super::{QuantizeError, reason};
use crate::manifest::InputSpec;
use crate::onnx::{DimensionProto, GraphProto, ModelProto, bounds, check, graph};
use crate::runtime::Runtime;

/// DequantizeLinear knows scales per channel from here on.
const OLDEST_OPSET: i64 = 13;
/// What it is called in errors.
const FILE: &str = "the fp32 file";

pub(super) fn simplify(
    runtime: &'static Runtime,
    fp32: &[u8],
    input: &InputSpec,
) -> Result<ModelProto, QuantizeError> {
    let mut model = parse(fp32)?;
    bind(model.graph.get_or_insert_default(), input)?;
    bounds::check(&model, FILE, None)?;
    // The runtime writes to a path only: one into memory leaves nothing behind, however this ends.
    let memory = memfd_create("simplified.onnx", MemfdFlags::CLOEXEC)
        .map_err(|e| QuantizeError::Session(reason(e)))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    let session = |bytes: &[u8]| -> ort::Result<Session> {
        // Level 1 stays within the standard's operators; the ones above make nodes that only this provider has.
        Session::builder(runtime.environment())?
            .with_intra_threads(1)?
            .with_optimization_level(GraphOptimizationLevel::Level1)?
            .with_optimized_model_path(&path)?
            .commit_from_memory(bytes)
    };
    let bytes = model.encode_to_vec();
    runtime.first_session(|| session(&bytes)).map_err(|e| QuantizeError::Session(reason(e)))?;
    let bytes = std::fs::read(&path).map_err(|e| QuantizeError::Session(reason(e)))?;
    let mut model = parse(&bytes)?;
    let graph = model.graph.get_or_insert_default();
    let order = graph::sorted(graph).map_err(|circle| {
        let node = circle.first().map_or_else(String::new, |at| graph.node[*at].label());
        QuantizeError::Refused { node, what: "is part of a circle" }
    })?;
    graph.node = order.into_iter().map(|at| std::mem::take(&mut graph.node[at])).collect();
    // The runtime lists every domain it knows.
    let used =
        |domain: &str| matches!(domain, "" | "ai.onnx") || graph.node.iter().any(|n| n.domain() == domain);
    model.opset_import.retain(|import| used(import.domain()));
    Ok(model)
}

/// Reads and checks a file; what is beyond this reader or older than int8 is refused by name.
pub(super) fn parse(bytes: &[u8]) -> Result<ModelProto, QuantizeError> {
    let model = check::read(bytes, FILE)?;
    if model.opset() < OLDEST_OPSET {
        return Err(QuantizeError::Refused {
            node: format!("opset {}", model.opset()),
            what: "is older than 13, which int8 needs; convert it (onnx.version_converter)",
        });
    }
    Ok(model)
}

/// Gives the input's free axes their sizes, so that the runtime can tell every tensor's.
fn bind(graph: &mut GraphProto, input: &InputSpec) -> Result<(), QuantizeError> {
    let own = input.name.as_deref().unwrap_or_default();
    let names: Vec<_> = graph.input.iter().map(|i| i.name().to_owned()).collect();
    let missing = || QuantizeError::Input(format!("no input `{}`; there are: {}", own, names.join(", ")));
    let constants: Vec<_> = graph.initializer.iter().map(|t| t.name().to_owned()).collect();
    let other = names.iter().find(|name| *name != own && !constants.contains(name));
    if let Some(other) = other {
        return Err(QuantizeError::Input(format!("`{other}` is a second input; one is supported")));
    }
    let value = graph.input.iter_mut().find(|i| i.name() == own).ok_or_else(missing)?;
    let shape = value.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()).and_then(|t| t.shape.as_mut());
    let shape = shape.ok_or_else(|| QuantizeError::Input(format!("`{own}` has no shape")))?;
    let wanted = input.shape();
    let fits = |(dim, wanted): (&DimensionProto, &i64)| dim.dim_value.is_none_or(|d| d == *wanted || d < 1);
    if shape.dim.len() != 4 || !shape.dim.iter().zip(&wanted).all(fits) {
        let found: Vec<_> = shape.dim.iter().map(|d| d.dim_value.unwrap_or(-1)).collect();
        return Err(QuantizeError::Input(format!("`{own}` should be {wanted:?}, is {found:?}")));
    }
    for (dim, wanted) in shape.dim.iter_mut().zip(wanted) {
        *dim = DimensionProto { dim_value: Some(wanted), dim_param: None };
    }
    Ok(())
}
