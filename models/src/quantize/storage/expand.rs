//! From stored weights to those that the runtime is fast with.
//!
//! Owns: which DequantizeLinear is done once here instead of at each inference. Does not know: how weights were stored;
//! what others' tools wrote is expanded too. A second time changes nothing.

use std::collections::BTreeSet;

use prost::Message;

use super::float::only_weights;
use super::granularity::Granularity;
use super::{broken, drop_unread, standard};
use crate::onnx::graph::Wiring;
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, data_type};
use crate::quantize::QuantizeError;

/// As much of an ONNX file as tells the types of its constants; the rest is skipped, not copied.
#[derive(Clone, PartialEq, Message)]
struct ModelTypes {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphTypes>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphTypes {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, optional, tag = "2")]
    data_type: Option<i32>,
}

/// Whether a file has constants of int4 or int8. `false` where it cannot be read.
pub(in crate::quantize) fn may_have_integers(bytes: &[u8]) -> bool {
    let integers = |tensor: &TensorType| matches!(tensor.data_type(), data_type::INT4 | data_type::INT8);
    ModelTypes::decode(bytes).is_ok_and(|m| m.graph.is_some_and(|g| g.initializer.iter().any(integers)))
}

/// Expands what can be; whether there was anything.
pub(super) fn expand(model: &mut ModelProto) -> Result<bool, QuantizeError> {
    let Some(graph) = &mut model.graph else { return Ok(false) };
    // Subgraphs read values of the graph round them by name, unseen.
    let inner = |n: &NodeProto| n.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    if graph.node.iter().any(inner) {
        return Ok(false);
    }
    let folded = fold(graph)?;
    Ok(widen(graph)? || folded)
}

/// A DequantizeLinear of constants whose output is nothing but weights.
struct Weights<'a> {
    integers: &'a TensorProto,
    scale: &'a TensorProto,
    zero_point: Option<&'a TensorProto>,
}

impl<'a> Weights<'a> {
    fn of(graph: &GraphProto, wiring: &Wiring<'a>, ends: &BTreeSet<&str>, at: usize) -> Option<Self> {
        let node = &graph.node[at];
        let [output] = node.output.as_slice() else { return None };
        if !is_dequantize(node)
            || wiring.writer.get(output.as_str()) != Some(&at)
            || ends.contains(output.as_str())
            || !only_weights(graph, wiring, output)
        {
            return None;
        }
        let constant = |name: &String| {
            let overridable = ends.contains(name.as_str());
            wiring.constants.get(name.as_str()).copied().filter(|_| !overridable)
        };
        let zero_point = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => Some(constant(name)?),
            None => None,
        };
        Some(Self {
            integers: constant(node.input.first()?)?,
            scale: constant(node.input.get(1)?)?,
            zero_point,
        })
    }

    /// `(integer - zero point) * scale`, in the standard's order of operations; `None` where the shapes mean nothing.
    fn dequantized(&self, node: &NodeProto, name: &str) -> Result<Option<TensorProto>, QuantizeError> {
        let Some(granularity) = Granularity::of(node, &self.integers.dims, &self.scale.dims) else {
            return Ok(None);
        };
        let integers = self.integers.floats().map_err(broken(self.integers))?;
        let scales = self.scale.floats().map_err(broken(self.scale))?;
        let zero_points = match self.zero_point {
            Some(tensor) => tensor.floats().map_err(broken(tensor))?,
            None => vec![0.0; scales.len()],
        };
        if zero_points.len() != scales.len() {
            return Ok(None);
        }
        let real = |(at, integer): (usize, &f32)| {
            let group = granularity.scale_of(at);
            (integer - zero_points[group]) * scales[group]
        };
        let values: Vec<f32> = integers.iter().enumerate().map(real).collect();
        Ok(Some(TensorProto::from_floats(name, &self.integers.dims, &values)))
    }
}

fn is_dequantize(node: &NodeProto) -> bool {
    node.op_type() == "DequantizeLinear" && standard(node)
}

fn ends(graph: &GraphProto) -> BTreeSet<&str> {
    graph.input.iter().chain(&graph.output).map(ValueInfoProto::name).collect()
}

/// Weights of float layers become float.
fn fold(graph: &mut GraphProto) -> Result<bool, QuantizeError> {
    let (wiring, ends) = (Wiring::new(graph), ends(graph));
    let mut folded = Vec::new();
    for (at, node) in graph.node.iter().enumerate() {
        let Some(weights) = Weights::of(graph, &wiring, &ends, at) else { continue };
        let types = [data_type::INT4, data_type::INT8].contains(&weights.integers.data_type())
            && weights.scale.data_type() == data_type::FLOAT;
        // Several nodes that dequantise one constant would multiply its size.
        let alone = wiring.reader_count(weights.integers.name()) == 1;
        let output = node.output[0].as_str();
        if types && alone && !wiring.readers[output].iter().any(|r| is_int8(graph, &wiring, *r)) {
            folded.extend(weights.dequantized(node, output)?.map(|tensor| (at, tensor)));
        }
    }
    let nodes: BTreeSet<usize> = folded.iter().map(|(at, _)| *at).collect();
    let all = std::mem::take(&mut graph.node).into_iter().enumerate();
    graph.node = all.filter(|(at, _)| !nodes.contains(at)).map(|(_, node)| node).collect();
    graph.initializer.extend(folded.into_iter().map(|(_, tensor)| tensor));
    if !nodes.is_empty() {
        drop_unread(graph);
    }
    Ok(!nodes.is_empty())
}

/// Whether a product's activations are integers before: its kernel multiplies integers.
fn is_int8(graph: &GraphProto, wiring: &Wiring<'_>, product: usize) -> bool {
    let activation = graph.node[product].input.first().and_then(|input| wiring.writer.get(input.as_str()));
    let dequantize = activation.map(|at| &graph.node[*at]).filter(|node| is_dequantize(node));
    dequantize.is_some_and(|n| n.input.first().is_some_and(|x| !wiring.constants.contains_key(x.as_str())))
}

/// int4 weights of int8 layers become int8: the same values, the same scales.
fn widen(graph: &mut GraphProto) -> Result<bool, QuantizeError> {
    let (wiring, ends) = (Wiring::new(graph), ends(graph));
    let mut widened = BTreeSet::new();
    for at in 0..graph.node.len() {
        let Some(weights) = Weights::of(graph, &wiring, &ends, at) else { continue };
        // The standard wants integers and zero points of one type, for all their readers at once.
        let tensors = || std::iter::once(weights.integers).chain(weights.zero_point);
        let alone = |t: &TensorProto| t.data_type() == data_type::INT4 && wiring.reader_count(t.name()) == 1;
        if tensors().all(alone) {
            widened.extend(tensors().map(|tensor| tensor.name().to_owned()));
        }
    }
    for tensor in graph.initializer.iter_mut().filter(|t| widened.contains(t.name())) {
        let values: Vec<i8> = tensor.ints().map_err(broken(tensor))?.into_iter().map(|v| v as i8).collect();
        *tensor = TensorProto::from_i8(tensor.name(), &tensor.dims, &values);
    }
    graph.value_info.retain(|value| !widened.contains(value.name()));
    Ok(!widened.is_empty())
}
