//! int8 weights of an int8 model as int4: new scales, and new biases that fit them.
//!
//! Owns: which int8 layers can be stored so. Kernels of int8 layers add the bias to the integer products: its scale must
//! be that of the activation times that of the weights, so it is rounded anew. Does not know: opsets, float layers.

use super::float::{Stored, only_weights, quantize};
use super::granularity::Granularity;
use super::{LayerWeights, Names, StorageOptions, WeightStorage, broken, drop_unread, standard};
use crate::onnx::graph::Wiring;
use crate::onnx::{GraphProto, NodeProto, TensorProto, ValueInfoProto, data_type};
use crate::quantize::QuantizeError;
use crate::quantize::plan::name;
use crate::quantize::weights::{least_scale, quantize_bias};

/// int8 weights with their scales, and what must change with them.
struct Layer<'a> {
    /// The DequantizeLinear of the weights.
    dequantize: usize,
    tensor: &'a TensorProto,
    granularity: Granularity,
    scales: Vec<f32>,
    has_zero_point: bool,
    readers: Vec<usize>,
    biases: Vec<Bias>,
}

/// A bias in int32.
struct Bias {
    /// Its DequantizeLinear.
    dequantize: usize,
    name: String,
    values: Vec<f32>,
    /// Scale of the activation that the weights are multiplied with.
    activation: f32,
}

/// The new constants of one DequantizeLinear.
struct Change {
    dequantize: usize,
    constants: Vec<TensorProto>,
}

pub(super) fn store(
    graph: &mut GraphProto,
    options: &StorageOptions,
) -> Result<Vec<LayerWeights>, QuantizeError> {
    let (mut names, mut layers, mut changes) = (Names::of(graph), Vec::new(), Vec::new());
    let wiring = Wiring::new(graph);
    for at in 0..graph.node.len() {
        let Some(layer) = layer(graph, &wiring, at)? else { continue };
        let node = name(&graph.node[layer.readers[0]]).to_owned();
        let integers = layer.tensor.floats().map_err(broken(layer.tensor))?;
        let count = integers.len();
        let weights: Vec<f32> = integers
            .iter()
            .enumerate()
            .map(|(at, q)| q * layer.scales[layer.granularity.scale_of(at)])
            .collect();
        let least = |group: usize| {
            let needs = |bias: &Bias| {
                let all =
                    if layer.scales.len() == 1 { &bias.values[..] } else { &bias.values[group..=group] };
                all.iter().map(|b| least_scale(*b, bias.activation)).fold(0.0, f32::max)
            };
            layer.biases.iter().map(needs).fold(0.0, f32::max)
        };
        let int4 = quantize(&weights, &layer.granularity, WeightStorage::Int4, |at| layer.scales[at], least);
        let (storage, snr_db) = if int4.snr_db >= options.least_snr_db(false) {
            let snr_db = int4.snr_db;
            changes.extend(layer.rewritten(&mut names, &int4));
            (WeightStorage::Int4, snr_db)
        } else {
            (WeightStorage::Int8, f64::INFINITY)
        };
        layers.push(LayerWeights { node, count, storage, snr_db });
    }
    for Change { dequantize, constants } in changes {
        let node = &mut graph.node[dequantize];
        node.input = constants.iter().map(|tensor| tensor.name().to_owned()).collect();
        graph.initializer.extend(constants);
    }
    drop_unread(graph);
    Ok(layers)
}

/// The layer whose weights the node at `at` dequantises, where int4 can take their place: symmetric int8, read by
/// products only, each bias in int32 for itself beside an activation of known scale.
fn layer<'a>(graph: &GraphProto, wiring: &Wiring<'a>, at: usize) -> Result<Option<Layer<'a>>, QuantizeError> {
    let node = &graph.node[at];
    let Some((tensor, granularity, scales)) = constant(graph, wiring, node, data_type::INT8)? else {
        return Ok(None);
    };
    if !only_weights(graph, wiring, &node.output[0]) {
        return Ok(None);
    }
    let readers = wiring.readers[node.output[0].as_str()].clone();
    let mut biases = Vec::new();
    for reader in &readers {
        let product = &graph.node[*reader];
        let Some(value) = product.input.get(2).filter(|value| !value.is_empty()) else { continue };
        match bias(graph, wiring, product, value)? {
            Some(bias) if scales.len() == 1 || bias.values.len() == scales.len() => biases.push(bias),
            _ => return Ok(None),
        }
    }
    let has_zero_point = node.input.len() > 2;
    Ok(Some(Layer { dequantize: at, tensor, granularity, scales, has_zero_point, readers, biases }))
}

/// Constant, granularity and scales of a DequantizeLinear of symmetric integers of this type.
type Constant<'a> = (&'a TensorProto, Granularity, Vec<f32>);

fn constant<'a>(
    graph: &GraphProto,
    wiring: &Wiring<'a>,
    node: &NodeProto,
    data_type: i32,
) -> Result<Option<Constant<'a>>, QuantizeError> {
    let tensor =
        |at: usize| node.input.get(at).and_then(|input| wiring.constants.get(input.as_str())).copied();
    let public = graph.output.iter().map(ValueInfoProto::name).any(|o| node.output.iter().any(|n| n == o));
    if node.op_type() != "DequantizeLinear" || !standard(node) || public || node.output.len() != 1 {
        return Ok(None);
    }
    let (Some(values), Some(scale)) = (tensor(0), tensor(1)) else { return Ok(None) };
    if values.data_type() != data_type || scale.data_type() != data_type::FLOAT {
        return Ok(None);
    }
    if node.input.get(2).is_some_and(|zero| !zero.is_empty()) {
        let Some(zero) = tensor(2) else { return Ok(None) };
        if zero.ints().map_err(broken(zero))?.iter().any(|z| *z != 0) {
            return Ok(None);
        }
    }
    let granularity = Granularity::of(node, &values.dims, &scale.dims);
    let scales = scale.floats().map_err(broken(scale))?;
    let one_for_each_channel = |g: &Granularity| g.scale_dims().len() < 2 && g.scales() == scales.len();
    Ok(granularity.filter(one_for_each_channel).map(|granularity| (values, granularity, scales)))
}

fn bias(
    graph: &GraphProto,
    wiring: &Wiring<'_>,
    product: &NodeProto,
    value: &str,
) -> Result<Option<Bias>, QuantizeError> {
    let writer = |value: &str| wiring.writer.get(value).copied();
    let Some(dequantize) = writer(value).filter(|_| wiring.reader_count(value) == 1) else { return Ok(None) };
    let node = &graph.node[dequantize];
    let Some((tensor, granularity, scales)) = constant(graph, wiring, node, data_type::INT32)? else {
        return Ok(None);
    };
    let activation = writer(&product.input[0]).map(|at| &graph.node[at]);
    let activation = activation.filter(|n| n.op_type() == "DequantizeLinear" && standard(n));
    let scale = activation.and_then(|n| wiring.constants.get(n.input.get(1)?.as_str()));
    let scale = scale.map(|tensor| tensor.floats().map_err(broken(tensor))).transpose()?;
    let Some(&[activation]) = scale.as_deref() else { return Ok(None) };
    // As integers: floats cannot hold all of int32.
    let integers = tensor.ints().map_err(broken(tensor))?;
    let real = |(at, q): (usize, &i64)| (*q as f64 * f64::from(scales[granularity.scale_of(at)])) as f32;
    let values = integers.iter().enumerate().map(real).collect();
    Ok(Some(Bias { dequantize, name: tensor.name().to_owned(), values, activation }))
}

impl Layer<'_> {
    fn rewritten(&self, names: &mut Names, int4: &Stored) -> Vec<Change> {
        let of = self.tensor.name();
        let dims = self.granularity.scale_dims();
        let mut constants = vec![
            int4.storage.tensor(&names.fresh(of, "int4"), &self.tensor.dims, &int4.values),
            TensorProto::from_floats(&names.fresh(of, "int4_scale"), &dims, &int4.scales),
        ];
        if self.has_zero_point {
            let zeros = vec![0; int4.scales.len()];
            constants.push(int4.storage.tensor(&names.fresh(of, "int4_zero_point"), &dims, &zeros));
        }
        let weights = Change { dequantize: self.dequantize, constants };
        let biases = self.biases.iter().map(|bias| bias.rewritten(names, &int4.scales));
        std::iter::once(weights).chain(biases).collect()
    }
}

impl Bias {
    fn rewritten(&self, names: &mut Names, weights: &[f32]) -> Change {
        let scales: Vec<f32> = weights.iter().map(|scale| scale * self.activation).collect();
        let (count, each) =
            (self.values.len() as i64, |at: usize| scales[if scales.len() == 1 { 0 } else { at }]);
        let int32 = quantize_bias(&self.values, &(0..self.values.len()).map(each).collect::<Vec<_>>());
        let dims: &[i64] = if scales.len() == 1 { &[] } else { &[count] };
        let constants = vec![
            TensorProto::from_i32(&names.fresh(&self.name, "int4"), &[count], &int32),
            TensorProto::from_floats(&names.fresh(&self.name, "int4_scale"), dims, &scales),
            TensorProto::from_i32(&names.fresh(&self.name, "int4_zero_point"), dims, &vec![0; scales.len()]),
        ];
        Change { dequantize: self.dequantize, constants }
    }
}
