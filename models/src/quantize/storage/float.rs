//! Weights of a float model: integers with a DequantizeLinear in front.
//!
//! Owns: which constants are weights. Does not know: activations, opsets.

use std::collections::BTreeSet;

use super::fit::{fit, round, snr_db};
use super::granularity::Granularity;
use super::{LayerWeights, Names, StorageOptions, WeightStorage, broken};
use crate::onnx::graph::Wiring;
use crate::onnx::{GraphProto, NodeProto, TensorProto, ValueInfoProto, data_type};
use crate::quantize::QuantizeError;
use crate::quantize::plan::{is_product, name};

/// A tensor of fewer weights saves less than its new node and scales cost.
const FEWEST_WEIGHTS: usize = 256;
/// A block must divide its channel at least so often to be worth its scales.
const FEWEST_BLOCKS: usize = 2;

/// Index of the outputs' axis in the weights of a product, and of the inputs' axis.
pub(super) fn axes(node: &NodeProto, rank: usize) -> Option<(usize, usize)> {
    let transposed = node.int("transB").unwrap_or(0) != 0;
    let (outputs, inputs) = match node.op_type() {
        "Conv" => (0, 1),
        "ConvTranspose" => (1, 0),
        "Gemm" if transposed => (0, 1),
        "Gemm" => (1, 0),
        _ => (rank.checked_sub(1)?, rank.checked_sub(2)?),
    };
    (outputs < rank && inputs < rank).then_some((outputs, inputs))
}

/// Whether all that reads the value is a product that takes it as its weights.
pub(super) fn only_weights(graph: &GraphProto, wiring: &Wiring<'_>, value: &str) -> bool {
    let takes = |node: &NodeProto| {
        let places = || node.input.iter().enumerate().filter(|(_, input)| *input == value);
        is_product(node) && places().all(|(at, _)| at == 1)
    };
    let readers = wiring.readers.get(value).map_or(&[][..], Vec::as_slice);
    !readers.is_empty() && readers.iter().all(|at| takes(&graph.node[*at]))
}

/// Integers with their scales.
pub(super) struct Stored {
    pub storage: WeightStorage,
    pub values: Vec<i8>,
    pub scales: Vec<f32>,
    pub snr_db: f64,
}

/// Weights in so many bits; where a group of them holds nothing its scale is `otherwise(group)`, and no scale is less
/// than `least(group)`.
pub(super) fn quantize(
    weights: &[f32],
    granularity: &Granularity,
    storage: WeightStorage,
    otherwise: impl Fn(usize) -> f32,
    least: impl Fn(usize) -> f32,
) -> Stored {
    let scale = |(at, group): (usize, &Vec<f32>)| {
        fit(group, storage).map_or_else(|| otherwise(at), |s| s.max(least(at)))
    };
    let scales: Vec<f32> = granularity.groups(weights).iter().enumerate().map(scale).collect();
    let of = |at: usize| scales[granularity.scale_of(at)];
    let values: Vec<i8> =
        weights.iter().enumerate().map(|(at, w)| round(*w, of(at), storage) as i8).collect();
    let snr_db = snr_db(weights, &values, of);
    Stored { storage, values, scales, snr_db }
}

pub(super) fn store(
    graph: &mut GraphProto,
    options: &StorageOptions,
) -> Result<Vec<LayerWeights>, QuantizeError> {
    let (mut names, mut layers, mut nodes) = (Names::of(graph), Vec::new(), Vec::new());
    let mut constants = Vec::with_capacity(graph.initializer.len());
    let wiring = Wiring::new(graph);
    let ends: BTreeSet<&str> = graph.input.iter().chain(&graph.output).map(ValueInfoProto::name).collect();
    for tensor in &graph.initializer {
        let reader = Some(tensor)
            .filter(|t| t.data_type() == data_type::FLOAT && !ends.contains(t.name()))
            .filter(|t| only_weights(graph, &wiring, t.name()))
            .map(|t| &graph.node[wiring.readers[t.name()][0]]);
        let found = match reader {
            Some(node) => weights(tensor, node, options)?,
            None => None,
        };
        let (Some((granularity, stored)), Some(node)) = (found, reader) else {
            constants.push(tensor.clone());
            continue;
        };
        let (integers, scale) =
            (names.fresh(tensor.name(), "quantized"), names.fresh(tensor.name(), "scale"));
        let label = names.fresh(tensor.name(), "DequantizeLinear");
        // Named like the weights: whoever reads them need not change, and expanding leads back to the same graph.
        let dequantize = NodeProto::new("DequantizeLinear", &label, &[&integers, &scale], &[tensor.name()]);
        nodes.push(granularity.attributes(dequantize));
        constants.push(stored.storage.tensor(&integers, &tensor.dims, &stored.values));
        constants.push(TensorProto::from_floats(&scale, &granularity.scale_dims(), &stored.scales));
        let (node, count) = (name(node).to_owned(), stored.values.len());
        layers.push(LayerWeights { node, count, storage: stored.storage, snr_db: stored.snr_db });
    }
    nodes.append(&mut graph.node);
    (graph.node, graph.initializer) = (nodes, constants);
    Ok(layers)
}

/// The weights of a product in fewer bits, where that can be done and is worth it.
fn weights(
    tensor: &TensorProto,
    node: &NodeProto,
    options: &StorageOptions,
) -> Result<Option<(Granularity, Stored)>, QuantizeError> {
    let Some((outputs, inputs)) = axes(node, tensor.dims.len()) else { return Ok(None) };
    let Some(plain) = Granularity::per_axis(&tensor.dims, outputs) else { return Ok(None) };
    let weights = tensor.floats().map_err(broken(tensor))?;
    if weights.len() < FEWEST_WEIGHTS || !weights.iter().all(|w| w.is_finite()) {
        return Ok(None);
    }
    let stored =
        |granularity: &Granularity, storage| quantize(&weights, granularity, storage, |_| 1.0, |_| 0.0);
    if options.storage == WeightStorage::Int4 {
        let long = |size: &usize| tensor.dims[inputs] as usize >= FEWEST_BLOCKS * size;
        let blocked =
            options.block.filter(long).and_then(|size| Granularity::blocked(&tensor.dims, inputs, size));
        let granularity = blocked.unwrap_or_else(|| plain.clone());
        let int4 = stored(&granularity, WeightStorage::Int4);
        if int4.snr_db >= options.least_snr_db(options.block.is_some()) {
            return Ok(Some((granularity, int4)));
        }
    }
    let int8 = stored(&plain, WeightStorage::Int8);
    Ok(Some((plain, int8)))
}
