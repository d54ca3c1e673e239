//! The int8 graph: QuantizeLinear and DequantizeLinear round every wrapped node, weights and biases as integers.
//!
//! Owns: scales and zero points of all values, names of what is added. Does not know: where ranges come from. The same
//! plan and ranges give the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::QuantizeError;
use super::plan::{Fate, is_move, is_product, operands, relu_limit};
use super::weights::{least_scale, quantize_bias, quantize_weights};
use crate::onnx::graph::{Wiring, sorted};
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::provider::Form;

/// Lowest and highest value of each activation.
pub(super) type Ranges = BTreeMap<String, (f32, f32)>;

/// `real = (int8 - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine {
    pub scale: f32,
    pub zero: i32,
}

impl Affine {
    /// uint8 over the whole range, 0 always exact; int8 symmetric with zero point 0.
    pub(super) fn new(form: Form, (low, high): (f32, f32)) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = if form == Form::S8s8 { high.max(-low) / 127.0 } else { (high - low) / 255.0 };
        // Nothing but zeros (or nearly): any scale will do.
        let scale = if scale.is_finite() && scale > f32::MIN_POSITIVE * 256.0 { scale } else { 1.0 };
        let zero =
            if form == Form::S8s8 { 0 } else { ((-low / scale).round_ties_even() as i32).clamp(0, 255) };
        Self { scale, zero }
    }

    fn apply(self, form: Form, value: f32) -> i32 {
        let (low, high) = if form == Form::S8s8 { (-128, 127) } else { (0, 255) };
        ((value / self.scale).round_ties_even() as i32).saturating_add(self.zero).clamp(low, high)
    }
}

/// An int8 model, and where its activations are found again.
pub(super) struct Written {
    pub model: ModelProto,
    /// Float value of the origin -> the dequantised value here.
    pub dequantized: BTreeMap<String, String>,
    /// Float value of the origin -> the integer value here and how it is to be read.
    pub quantized: BTreeMap<String, (String, Affine)>,
}

pub(super) fn write(
    origin: &ModelProto,
    fates: &[Fate],
    ranges: &Ranges,
    form: Form,
) -> Result<Written, QuantizeError> {
    let graph = origin.graph.clone().unwrap_or_default();
    let wiring = Wiring::new(&graph);
    let mut writer = Writer::new(&graph, &wiring, fates, ranges, form);
    for (at, node) in graph.node.iter().enumerate() {
        match fates[at] {
            Fate::Folded => {}
            Fate::Float => {
                let node = writer.reading_dequantized(node);
                writer.nodes.push(node);
            }
            Fate::Wrapped => writer.wrap(node)?,
        }
    }
    let Writer { nodes, constants, dequantized, quantized, .. } = writer;
    let mut model = origin.clone();
    let target = model.graph.get_or_insert_default();
    target.node = nodes;
    target.initializer.extend(constants);
    // Shapes of values that may be gone; the runtime infers them anew.
    target.value_info.clear();
    prune(target)?;
    Ok(Written { model, dequantized, quantized })
}

/// Puts nodes in order and drops constants that nobody reads any more.
pub(super) fn prune(graph: &mut GraphProto) -> Result<(), QuantizeError> {
    let order = sorted(graph).map_err(|circle| {
        let node = circle.first().map_or_else(String::new, |at| graph.node[*at].label());
        QuantizeError::Refused { node, what: "is part of a circle" }
    })?;
    graph.node = order.into_iter().map(|at| std::mem::take(&mut graph.node[at])).collect();
    let read: BTreeSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    let outputs: Vec<_> = graph.output.iter().map(ValueInfoProto::name).collect();
    graph
        .initializer
        .retain(|t| t.name.as_ref().is_some_and(|n| read.contains(n)) || outputs.contains(&t.name()));
    Ok(())
}

struct Writer<'a> {
    graph: &'a GraphProto,
    wiring: &'a Wiring<'a>,
    fates: &'a [Fate],
    ranges: &'a Ranges,
    form: Form,
    names: BTreeSet<String>,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    dequantized: BTreeMap<String, String>,
    quantized: BTreeMap<String, (String, Affine)>,
    /// Weights by name, axis and the bits of their scales -> the dequantised value: shared ones are written once.
    weights: BTreeMap<(String, usize, Vec<u32>), String>,
}

impl<'a> Writer<'a> {
    fn new(
        graph: &'a GraphProto,
        wiring: &'a Wiring<'a>,
        fates: &'a [Fate],
        ranges: &'a Ranges,
        form: Form,
    ) -> Self {
        let values = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)).cloned();
        let constants = graph.initializer.iter().map(|t| t.name().to_owned());
        let names = values.chain(constants).chain(graph.node.iter().map(|n| n.name().to_owned())).collect();
        Self {
            graph,
            wiring,
            fates,
            ranges,
            form,
            names,
            nodes: Vec::new(),
            constants: Vec::new(),
            dequantized: BTreeMap::new(),
            quantized: BTreeMap::new(),
            weights: BTreeMap::new(),
        }
    }

    fn fresh(&mut self, of: &str, what: &str) -> String {
        let mut name = format!("{of}_{what}");
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    fn fate_of_writer(&self, value: &str) -> Option<(&'a NodeProto, Fate)> {
        self.wiring.writer.get(value).map(|at| (&self.graph.node[*at], self.fates[*at]))
    }

    /// The one reader of a value, where it is a wrapped ReLU.
    fn relu_behind(&self, value: &str) -> Option<&'a NodeProto> {
        let [reader] = self.wiring.readers.get(value)?.as_slice() else { return None };
        let relu = relu_limit(&self.graph.node[*reader], self.wiring).is_some();
        (relu && self.fates[*reader] == Fate::Wrapped).then(|| &self.graph.node[*reader])
    }

    /// Moved values have the scale of where they come from. In front of a ReLU only what it lets through needs one.
    fn affine(&self, value: &str) -> Result<Affine, QuantizeError> {
        match self.fate_of_writer(value) {
            Some((node, Fate::Wrapped)) if is_move(node) => return self.affine(&node.input[0]),
            Some((node, Fate::Wrapped)) if self.form == Form::S8s8 && is_product(node) => {
                if let Some(relu) = self.relu_behind(value) {
                    return self.affine(&relu.output[0]);
                }
            }
            _ => {}
        }
        let range = self.ranges.get(value).copied();
        range
            .map(|range| Affine::new(self.form, range))
            .ok_or_else(|| QuantizeError::NoRange(value.to_owned()))
    }

    fn integer(&self, name: &str, values: &[i32]) -> TensorProto {
        let dims = if values.len() == 1 { vec![] } else { vec![values.len() as i64] };
        self.integers(name, &dims, values)
    }

    fn integers(&self, name: &str, dims: &[i64], values: &[i32]) -> TensorProto {
        if self.form == Form::S8s8 {
            TensorProto::from_i8(name, dims, &values.iter().map(|v| *v as i8).collect::<Vec<_>>())
        } else {
            TensorProto::from_u8(name, dims, &values.iter().map(|v| *v as u8).collect::<Vec<_>>())
        }
    }

    fn parameters(&mut self, of: &str, affine: Affine) -> (String, String) {
        let (scale, zero) = (self.fresh(of, "scale"), self.fresh(of, "zero_point"));
        self.constants.push(TensorProto::from_floats(&scale, &[], &[affine.scale]));
        self.constants.push(self.integer(&zero, &[affine.zero]));
        (scale, zero)
    }

    /// The dequantised form of a value that stands in the new graph under the name `from`; made once. It is called
    /// `to` where that is given.
    fn pair(&mut self, value: &str, from: &str, to: Option<&str>) -> Result<String, QuantizeError> {
        if let Some(name) = self.dequantized.get(value) {
            return Ok(name.clone());
        }
        let affine = self.affine(value)?;
        let (scale, zero) = self.parameters(value, affine);
        let quantized = self.fresh(value, "quantized");
        let dequantized = to.map_or_else(|| self.fresh(value, "dequantized"), str::to_owned);
        let (q, dq) = (self.fresh(value, "QuantizeLinear"), self.fresh(value, "DequantizeLinear"));
        self.nodes.push(NodeProto::new("QuantizeLinear", &q, &[from, &scale, &zero], &[&quantized]));
        self.nodes.push(NodeProto::new(
            "DequantizeLinear",
            &dq,
            &[&quantized, &scale, &zero],
            &[&dequantized],
        ));
        self.dequantized.insert(value.to_owned(), dequantized.clone());
        self.quantized.insert(value.to_owned(), (quantized, affine));
        Ok(dequantized)
    }

    /// Float nodes read what an int8 node wrote; what a float node wrote they read as it is.
    fn reading_dequantized(&self, node: &NodeProto) -> NodeProto {
        let mut node = node.clone();
        for input in &mut node.input {
            let float = matches!(self.fate_of_writer(input), None | Some((_, Fate::Float)));
            if let Some(name) = self.dequantized.get(input).filter(|_| !float) {
                input.clone_from(name);
            }
        }
        node
    }

    fn wrap(&mut self, node: &NodeProto) -> Result<(), QuantizeError> {
        let mut wrapped = node.clone();
        for at in 0..operands(node).len() {
            let input = &node.input[at];
            wrapped.input[at] = match self.wiring.constants.get(input.as_str()) {
                Some(tensor) if is_product(node) => self.matrix(node, tensor, at)?,
                Some(tensor) => self.constant(tensor)?,
                None => self.pair(input, input, None)?,
            };
        }
        if is_product(node) {
            self.weigh(node, &mut wrapped)?;
        }
        let outputs: Vec<String> = node.output.iter().map(|output| self.target(output)).collect();
        for (at, output) in outputs.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
            let public = self.graph.output.iter().any(|o| o.name() == output);
            // The graph's own name goes to the last value, the dequantised one.
            let raw = if public { self.fresh(output, "float") } else { output.clone() };
            wrapped.output[at].clone_from(&raw);
            self.pair(output, &raw, public.then_some(output))?;
        }
        self.nodes.push(wrapped);
        Ok(())
    }

    /// What a node writes: where a folded ReLU is behind it, that one's output.
    fn target(&self, output: &str) -> String {
        let Some([reader]) = self.wiring.readers.get(output).map(Vec::as_slice) else {
            return output.to_owned();
        };
        match self.fates[*reader] {
            Fate::Folded => self.target(&self.graph.node[*reader].output[0]),
            _ => output.to_owned(),
        }
    }

    /// A constant operand of Add, Mul, Concat: one scale.
    fn constant(&mut self, tensor: &TensorProto) -> Result<String, QuantizeError> {
        if let Some(name) = self.dequantized.get(tensor.name()) {
            return Ok(name.clone());
        }
        let values = self.floats(tensor)?;
        let range = values.iter().fold((0f32, 0f32), |(l, h), v| (l.min(*v), h.max(*v)));
        let affine = Affine::new(self.form, range);
        let integers: Vec<i32> = values.iter().map(|v| affine.apply(self.form, *v)).collect();
        let (scale, zero) = self.parameters(tensor.name(), affine);
        let quantized = self.fresh(tensor.name(), "quantized");
        self.constants.push(self.integers(&quantized, &tensor.dims, &integers));
        let dequantized = self.dequantize(tensor.name(), &[&quantized, &scale, &zero], None);
        self.dequantized.insert(tensor.name().to_owned(), dequantized.clone());
        Ok(dequantized)
    }

    fn dequantize(&mut self, of: &str, inputs: &[&str], axis: Option<usize>) -> String {
        let (name, output) = (self.fresh(of, "DequantizeLinear"), self.fresh(of, "dequantized"));
        let node = NodeProto::new("DequantizeLinear", &name, inputs, &[&output]);
        self.nodes.push(match axis {
            Some(axis) => node.with_int("axis", axis as i64),
            None => node,
        });
        output
    }

    fn floats(&self, tensor: &TensorProto) -> Result<Vec<f32>, QuantizeError> {
        tensor.floats().map_err(|e| QuantizeError::NotOnnx(format!("constant `{}` {e}", tensor.name())))
    }

    /// The constant operand of a product that is not its weights: a MatMul whose first operand is constant.
    fn matrix(&mut self, node: &NodeProto, tensor: &TensorProto, at: usize) -> Result<String, QuantizeError> {
        // Weights are written by `weigh`, which knows the bias.
        if at == 1 { Ok(node.input[1].clone()) } else { self.constant(tensor) }
    }

    /// Weights per channel and bias of a product.
    fn weigh(&mut self, node: &NodeProto, wrapped: &mut NodeProto) -> Result<(), QuantizeError> {
        let Some(tensor) = self.wiring.constants.get(node.input[1].as_str()) else { return Ok(()) };
        let axis = match node.op_type() {
            "Conv" => 0,
            "ConvTranspose" | "MatMul" => 1,
            _ => usize::from(node.int("transB").unwrap_or(0) == 0),
        };
        let activation = self.affine(&node.input[0])?.scale;
        let bias = node.input.get(2).filter(|name| !name.is_empty());
        let bias = bias.and_then(|name| self.wiring.constants.get(name.as_str())).copied();
        let shifts = bias.map(|bias| self.floats(bias)).transpose()?.unwrap_or_default();
        let least = |channel: usize| shifts.get(channel).map_or(0.0, |b| least_scale(*b, activation));
        let (int8, scales) = quantize_weights(&self.floats(tensor)?, &tensor.dims, axis, least);
        let bits = scales.iter().map(|s| s.to_bits()).collect();
        let key = (tensor.name().to_owned(), axis, bits);
        wrapped.input[1] = match self.weights.get(&key) {
            Some(name) => name.clone(),
            None => {
                let name = self.per_channel(tensor.name(), axis, &scales, |name| {
                    TensorProto::from_i8(name, &tensor.dims, &int8)
                });
                self.weights.insert(key, name.clone());
                name
            }
        };
        if bias.is_some() {
            let scales: Vec<f32> = scales.iter().map(|s| s * activation).collect();
            let int32 = quantize_bias(&shifts, &scales);
            let of = super::plan::name(node);
            let of = format!("{of}_bias");
            wrapped.input[2] = self.per_channel(&of, 0, &scales, |name| {
                TensorProto::from_i32(name, &[int32.len() as i64], &int32)
            });
        }
        Ok(())
    }

    fn per_channel(
        &mut self,
        of: &str,
        axis: usize,
        scales: &[f32],
        tensor: impl Fn(&str) -> TensorProto,
    ) -> String {
        let (quantized, scale) = (self.fresh(of, "quantized"), self.fresh(of, "scale"));
        let zero = self.fresh(of, "zero_point");
        let channels = [scales.len() as i64];
        let tensor = tensor(&quantized);
        let zeros = if tensor.data_type() == crate::onnx::data_type::INT32 {
            TensorProto::from_i32(&zero, &channels, &vec![0; scales.len()])
        } else {
            TensorProto::from_i8(&zero, &channels, &vec![0; scales.len()])
        };
        self.constants.extend([tensor, TensorProto::from_floats(&scale, &channels, scales), zeros]);
        self.dequantize(of, &[&quantized, &scale, &zero], Some(axis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn zero_is_exact_and_nothing_in_range_moves_by_more_than_a_step(
            low in -100f32..50.0, span in 0f32..100.0, part in 0f32..1.0,
        ) {
            for form in [Form::U8s8, Form::S8s8] {
                let affine = Affine::new(form, (low, low + span));
                prop_assert_eq!(affine.apply(form, 0.0), affine.zero);
                let value = low + span * part;
                let back = (affine.apply(form, value) - affine.zero) as f32 * affine.scale;
                prop_assert!((back - value).abs() <= affine.scale * 1.001, "{value} {back} {affine:?}");
            }
        }
    }

    #[test]
    fn a_range_from_zero_ends_exactly_at_its_ends() {
        let affine = Affine::new(Form::U8s8, (0.0, 6.0));
        assert_eq!((affine.zero, affine.apply(Form::U8s8, -3.0), affine.apply(Form::U8s8, 9.0)), (0, 0, 255));
        assert!((255.0 * affine.scale - 6.0).abs() < 1e-6);
        assert_eq!(Affine::new(Form::S8s8, (0.0, 0.0)), Affine { scale: 1.0, zero: 0 });
    }
}
