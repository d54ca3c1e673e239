//! The input stem: where the first product is int8, its input can arrive as int8, and what stands in front of it
//! (casts, mean, scale, transposition) becomes one table per channel in the pre-processor.
//!
//! Owns: recognising and cutting that chain. Does not know: pictures.

use super::write::{Affine, Written, prune};
use super::{InputLayout, NetworkInput, QuantizeError};
use crate::onnx::graph::Wiring;
use crate::onnx::{
    DimensionProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto, data_type,
};

/// An already quantised input: `[1, 3, height, width]`, u8 or i8.
#[derive(Clone, Debug, PartialEq)]
pub struct StemInput {
    /// The graph's name for it, the same as before.
    pub name: String,
    /// i8, else u8.
    pub signed: bool,
    /// Which channel of the pixels each plane is made of.
    pub channels: [usize; 3],
    /// Per plane; `real = (byte - mean) / std`.
    pub mean: [f32; 3],
    /// Per plane; may be negative.
    pub std: [f32; 3],
    /// `real = (value - zero_point) * scale`.
    pub scale: f32,
    /// The value that stands for 0.
    pub zero_point: i32,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

impl StemInput {
    /// Per plane, what each byte becomes.
    pub fn tables(&self) -> [[i32; 256]; 3] {
        let (low, high) = if self.signed { (-128, 127) } else { (0, 255) };
        std::array::from_fn(|c| {
            std::array::from_fn(|byte| {
                let real = (byte as f32 - self.mean[c]) / self.std[c];
                ((real / self.scale).round_ties_even() as i32)
                    .saturating_add(self.zero_point)
                    .clamp(low, high)
            })
        })
    }
}

/// How far the chain has been followed: plane c of the value is `gain[c] * pixel[channels[c]] + offset[c]`.
struct Chain {
    value: String,
    layout: InputLayout,
    channels: [usize; 3],
    gain: [f32; 3],
    offset: [f32; 3],
}

/// Cuts the chain off an int8 model. None, and the model unchanged, where the first int8 value is not behind a chain
/// of steps known here, or somebody else reads a part of it.
pub(super) fn cut(written: &mut Written, input: &NetworkInput) -> Result<Option<StemInput>, QuantizeError> {
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
    let stem = chain.stem(input, *affine, signed);
    if stem.std.iter().chain(&stem.mean).any(|v| !v.is_finite()) {
        return Ok(None);
    }
    for node in &mut graph.node {
        for name in node.input.iter_mut().filter(|name| **name == quantized) {
            name.clone_from(&input.name);
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
    graph.input.retain(|value| value.name() != input.name);
    graph.input.push(described(&stem));
    prune(graph)?;
    Ok(Some(stem))
}

fn described(stem: &StemInput) -> ValueInfoProto {
    let dim = |size: usize| DimensionProto { dim_value: Some(size as i64), dim_param: None };
    let shape = TensorShapeProto { dim: [1, 3, stem.height, stem.width].map(dim).to_vec() };
    let elem_type = Some(if stem.signed { data_type::INT8 } else { data_type::UINT8 });
    let tensor = TensorTypeProto { elem_type, shape: Some(shape) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor), ..Default::default() });
    ValueInfoProto { name: Some(stem.name.clone()), r#type, doc_string: None }
}

/// From the input to the first QuantizeLinear: the chain and that node's output.
fn follow(graph: &GraphProto, input: &NetworkInput) -> Option<(Chain, String)> {
    let wiring = Wiring::new(graph);
    let (mean, std) = input.normalisation();
    let mut chain = Chain {
        value: input.name.clone(),
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
            return (chain.layout == InputLayout::Nchw).then(|| (chain, node.output[0].clone()));
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
            "Transpose" if self.layout == InputLayout::Nhwc && node.ints("perm") == [0, 3, 1, 2] => {
                self.layout = InputLayout::Nchw;
            }
            "Gather" => {
                let axis = node.int("axis").unwrap_or(0).rem_euclid(4);
                let order = wiring.constants.get(node.input.get(1)?.as_str())?.ints().ok()?;
                let order: Vec<usize> = order.into_iter().map(|i| i.rem_euclid(3) as usize).collect();
                let channel_axis = if self.layout == InputLayout::Nhwc { 3 } else { 1 };
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
        let from_the_end = if self.layout == InputLayout::Nhwc { 1 } else { 3 };
        match values.as_slice() {
            [one] => Some([*one; 3]),
            [a, b, c] if tensor.dims.iter().rev().nth(from_the_end - 1) == Some(&3) => Some([*a, *b, *c]),
            _ => None,
        }
    }

    fn stem(&self, input: &NetworkInput, affine: Affine, signed: bool) -> StemInput {
        StemInput {
            name: input.name.clone(),
            signed,
            channels: self.channels,
            mean: std::array::from_fn(|c| -self.offset[c] / self.gain[c]),
            std: self.gain.map(f32::recip),
            scale: affine.scale,
            zero_point: affine.zero,
            width: input.width,
            height: input.height,
        }
    }
}
