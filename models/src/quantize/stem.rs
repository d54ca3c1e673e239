//! The input stem: where the first product is int8, its input can arrive as int8, and what stands in front of it
//! (casts, mean, scale, transposition) becomes one table per channel in the pre-processor.
//!
//! Owns: recognising and cutting that chain. Does not know: pictures.

use super::QuantizeError;
use super::write::{Affine, Written, prune};
use crate::manifest::{ColorOrder, Element, FormInput, InputSpec, Layout};
use crate::onnx::graph::Wiring;
use crate::onnx::{
    DimensionProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto, data_type,
};

/// How far the chain has been followed: plane c of the value is `gain[c] * pixel[channels[c]] + offset[c]`.
struct Chain {
    value: String,
    layout: Layout,
    channels: [usize; 3],
    gain: [f32; 3],
    offset: [f32; 3],
}

/// Cuts the chain off an int8 model. None, and the model unchanged, where the first int8 value is not behind a chain
/// of steps known here, somebody else reads a part of it, or a pre-processor could not write what comes out of it.
pub(super) fn cut(written: &mut Written, input: &InputSpec) -> Result<Option<FormInput>, QuantizeError> {
    let graph = written.model.graph.get_or_insert_default();
    let Some((chain, quantized)) = follow(graph, input) else { return Ok(None) };
    let Some((_, affine)) = written.quantized.values().find(|(name, _)| *name == quantized) else {
        return Ok(None);
    };
    let signed = graph.initializer.iter().any(|t| {
        let q = graph.node.iter().find(|n| n.output.first() == Some(&quantized));
        q.and_then(|n| n.input.get(2)).is_some_and(|zero| t.name() == zero)
            && t.data_type() == data_type::INT8
    });
    let Some(stem) = chain.stem(input.color, *affine, signed) else { return Ok(None) };
    let name = input.name.clone().unwrap_or_default();
    for node in &mut graph.node {
        for value in node.input.iter_mut().filter(|value| **value == quantized) {
            value.clone_from(&name);
        }
    }
    // Backwards from the QuantizeLinear: each node there has lost its only reader.
    graph.node.retain(|node| node.output.first() != Some(&quantized));
    loop {
        let read: Vec<String> = graph.node.iter().flat_map(|node| node.input.iter().cloned()).collect();
        let public = |name: &String| graph.output.iter().any(|o| o.name() == name);
        let used = |node: &NodeProto| node.output.iter().any(|name| read.contains(name) || public(name));
        let Some(dead) = graph.node.iter().position(|node| !used(node)) else { break };
        graph.node.remove(dead);
    }
    graph.input.retain(|value| value.name() != name);
    graph.input.push(described(name, &input.with(&stem)));
    prune(graph)?;
    Ok(Some(stem))
}

fn described(name: String, input: &InputSpec) -> ValueInfoProto {
    let dim = |size: i64| DimensionProto { dim_value: Some(size), dim_param: None };
    let shape = TensorShapeProto { dim: input.shape().map(dim).to_vec() };
    let signed = input.element == Element::I8;
    let elem_type = Some(if signed { data_type::INT8 } else { data_type::UINT8 });
    let tensor = TensorTypeProto { elem_type, shape: Some(shape) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor), ..Default::default() });
    ValueInfoProto { name: Some(name), r#type, doc_string: None }
}

/// From the input to the first QuantizeLinear: the chain and that node's output.
fn follow(graph: &GraphProto, input: &InputSpec) -> Option<(Chain, String)> {
    let wiring = Wiring::new(graph);
    let (mean, std) = (input.mean, input.std);
    let mut chain = Chain {
        value: input.name.clone()?,
        layout: input.layout,
        channels: [0, 1, 2],
        gain: std.map(f32::recip),
        offset: std::array::from_fn(|c| -mean[c] / std[c]),
    };
    loop {
        let [reader] = wiring.readers.get(chain.value.as_str())?.as_slice() else { return None };
        let node = &graph.node[*reader];
        if graph.output.iter().any(|o| o.name() == chain.value) || node.output.len() != 1 {
            return None;
        }
        if node.op_type() == "QuantizeLinear" {
            return (chain.layout == Layout::Nchw).then(|| (chain, node.output[0].clone()));
        }
        chain.step(node, &wiring)?;
        chain.value.clone_from(&node.output[0]);
    }
}

impl Chain {
    fn step(&mut self, node: &NodeProto, wiring: &Wiring<'_>) -> Option<()> {
        match node.op_type() {
            "Cast" if node.int("to") == Some(i64::from(data_type::FLOAT)) => {}
            "Identity" => {}
            "Transpose" if self.layout == Layout::Nhwc && node.ints("perm") == [0, 3, 1, 2] => {
                self.layout = Layout::Nchw;
            }
            "Gather" => {
                let axis = node.int("axis").unwrap_or(0).rem_euclid(4);
                let order = wiring.constants.get(node.input.get(1)?.as_str())?.ints().ok()?;
                let order: Vec<usize> = order.into_iter().map(|i| i.rem_euclid(3) as usize).collect();
                let channel_axis = if self.layout == Layout::Nhwc { 3 } else { 1 };
                if axis != channel_axis || order.len() != 3 {
                    return None;
                }
                let old = (self.channels, self.gain, self.offset);
                self.channels = std::array::from_fn(|c| old.0[order[c]]);
                self.gain = std::array::from_fn(|c| old.1[order[c]]);
                self.offset = std::array::from_fn(|c| old.2[order[c]]);
            }
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node, wiring)?,
            _ => return None,
        }
        Some(())
    }

    fn arithmetic(&mut self, node: &NodeProto, wiring: &Wiring<'_>) -> Option<()> {
        let [left, right] = node.input.as_slice() else { return None };
        let turned = *right == self.value;
        let tensor = wiring.constants.get(if turned { left } else { right }.as_str())?;
        let by = self.per_channel(tensor)?;
        for ((gain, offset), by) in self.gain.iter_mut().zip(&mut self.offset).zip(by) {
            match (node.op_type(), turned) {
                ("Add", _) => *offset += by,
                ("Sub", false) => *offset -= by,
                ("Sub", true) => (*gain, *offset) = (-*gain, by - *offset),
                ("Mul", _) => (*gain, *offset) = (*gain * by, *offset * by),
                ("Div", false) => (*gain, *offset) = (*gain / by, *offset / by),
                _ => return None,
            }
        }
        Some(())
    }

    /// A constant that is one value, or one for each channel.
    fn per_channel(&self, tensor: &TensorProto) -> Option<[f32; 3]> {
        let values = tensor.floats().ok()?;
        let from_the_end = if self.layout == Layout::Nhwc { 1 } else { 3 };
        match values.as_slice() {
            [one] => Some([*one; 3]),
            [a, b, c] if tensor.dims.iter().rev().nth(from_the_end - 1) == Some(&3) => Some([*a, *b, *c]),
            _ => None,
        }
    }

    /// What the manifest says of this form. None where the planes are neither in the order of the pixels nor in the
    /// opposite one, or a channel has no scale.
    fn stem(&self, color: ColorOrder, affine: Affine, signed: bool) -> Option<FormInput> {
        let opposite = match color {
            ColorOrder::Bgr => ColorOrder::Rgb,
            ColorOrder::Rgb => ColorOrder::Bgr,
        };
        let color = match self.channels {
            [0, 1, 2] => None,
            [2, 1, 0] => Some(opposite),
            _ => return None,
        };
        let mean: [f32; 3] = std::array::from_fn(|c| -self.offset[c] / self.gain[c]);
        let std = self.gain.map(f32::recip);
        std.iter().chain(&mean).all(|v| v.is_finite()).then_some(FormInput {
            layout: Layout::Nchw,
            element: if signed { Element::I8 } else { Element::U8 },
            color,
            mean,
            std,
            scale: Some(affine.scale),
            zero_point: affine.zero,
        })
    }
}
