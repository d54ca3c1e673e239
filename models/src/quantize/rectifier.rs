//! ReLUs of symmetric int8 files, done on the integers.
//!
//! Form S8S8 has zero point 0, as TensorRT wants it, so that saturation does not end at zero and each ReLU stands between
//! a DequantizeLinear and a QuantizeLinear of one scale. Beside XNNPACK's convolutions these three run in float, one after
//! the other, and cost more than the convolution. One Clip of int8 gives the same integers: 24 % less for MobileNetV2.
//!
//! Owns: recognising and replacing the three. Does not know: which providers like it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use prost::Message;

use super::plan::relu_limit;
use super::storage::{Names, drop_unread, may_have_integers, standard};
use crate::onnx::graph::Wiring;
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, data_type};

/// From here on Clip takes int8, and its bounds are inputs.
const OLDEST_OPSET: i64 = 12;

/// The file with its ReLUs on the integers; the same bytes where there are none, or the file cannot be read here.
pub(crate) fn on_integers(bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if !may_have_integers(&bytes) {
        return bytes;
    }
    let Ok(mut model) = ModelProto::decode(&*bytes) else { return bytes };
    let known = model.opset() >= OLDEST_OPSET;
    let changed = model.graph.as_mut().is_some_and(|graph| known && rewrite(graph));
    if changed { Cow::Owned(model.encode_to_vec()) } else { bytes }
}

/// DequantizeLinear, ReLU, QuantizeLinear, by their places in the graph.
struct Rectifier {
    nodes: [usize; 3],
    /// The integer that its upper end is; 127 where saturation comes first.
    highest: i8,
}

fn rewrite(graph: &mut GraphProto) -> bool {
    // Subgraphs read values of the graph round them by name, unseen.
    if graph.node.iter().any(|n| n.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty())) {
        return false;
    }
    let wiring = Wiring::new(graph);
    let ends: BTreeSet<&str> = graph.input.iter().chain(&graph.output).map(ValueInfoProto::name).collect();
    let found: Vec<Rectifier> =
        (0..graph.node.len()).filter_map(|at| Rectifier::at(graph, &wiring, &ends, at)).collect();
    let mut names = Names::of(graph);
    let mut gone = BTreeSet::new();
    for Rectifier { nodes: [dequantize, relu, quantize], highest } in &found {
        let (from, to) = (graph.node[*dequantize].input[0].clone(), graph.node[*quantize].output[0].clone());
        let (low, high) = (names.fresh(&to, "lowest"), names.fresh(&to, "highest"));
        graph.initializer.push(TensorProto::from_i8(&low, &[], &[0]));
        graph.initializer.push(TensorProto::from_i8(&high, &[], &[*highest]));
        let name = names.fresh(&to, "Clip");
        graph.node[*relu] = NodeProto::new("Clip", &name, &[&from, &low, &high], &[&to]);
        gone.extend([*dequantize, *quantize]);
    }
    let nodes = std::mem::take(&mut graph.node).into_iter().enumerate();
    graph.node = nodes.filter(|(at, _)| !gone.contains(at)).map(|(_, node)| node).collect();
    if !found.is_empty() {
        drop_unread(graph);
    }
    !found.is_empty()
}

impl Rectifier {
    /// That whose DequantizeLinear is the node `at`.
    fn at(graph: &GraphProto, wiring: &Wiring<'_>, ends: &BTreeSet<&str>, at: usize) -> Option<Self> {
        let is = |at: usize, op: &str| standard(&graph.node[at]) && graph.node[at].op_type() == op;
        let only_reader = |of: usize| {
            let [output] = graph.node[of].output.as_slice() else { return None };
            let [reader] = wiring.readers.get(output.as_str())?.as_slice() else { return None };
            (!ends.contains(output.as_str())).then_some(*reader)
        };
        let scale = |at: usize| symmetric(&graph.node[at], wiring, ends);
        if !is(at, "DequantizeLinear") {
            return None;
        }
        let relu = only_reader(at)?;
        let limit = relu_limit(&graph.node[relu], wiring).filter(|_| standard(&graph.node[relu]))?;
        let quantize = only_reader(relu).filter(|reader| is(*reader, "QuantizeLinear"))?;
        let first = graph.node[quantize].input.first() == graph.node[relu].output.first();
        let scale = scale(at).filter(|own| first && scale(quantize) == Some(*own))?;
        let [_] = graph.node[quantize].output.as_slice() else { return None };
        Some(Self { nodes: [at, relu, quantize], highest: quantized(limit, scale) })
    }
}

/// As QuantizeLinear does it with zero point 0.
fn quantized(value: f32, scale: f32) -> i8 {
    (value / scale).round_ties_even().clamp(-128.0, 127.0) as i8
}

/// The one scale of a node that reads or writes int8 with zero point 0.
fn symmetric(node: &NodeProto, wiring: &Wiring<'_>, ends: &BTreeSet<&str>) -> Option<f32> {
    let constant = |at: usize| {
        let name = node.input.get(at)?.as_str();
        wiring.constants.get(name).copied().filter(|_| !ends.contains(name))
    };
    let (scales, zeros) = (constant(1)?.floats().ok()?, constant(2)?);
    let symmetric = zeros.data_type() == data_type::INT8 && zeros.ints().ok()? == [0];
    let &[scale] = scales.as_slice() else { return None };
    (symmetric && scale.is_normal() && scale > 0.0).then_some(scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::onnx::OperatorSetIdProto;

    proptest! {
        #[test]
        fn integers_are_those_of_the_three_nodes(scale in 1e-6f32..1e3, steps in 0.01f32..300.0, infinite: bool) {
            let limit = if infinite { f32::INFINITY } else { scale * steps };
            for integer in i8::MIN..=i8::MAX {
                let rectified = (f32::from(integer) * scale).max(0.0).min(limit);
                prop_assert_eq!(integer.clamp(0, quantized(limit, scale)), quantized(rectified, scale));
            }
        }
    }

    fn model(relu: NodeProto, zero: i8) -> ModelProto {
        let of = |name: &str| ValueInfoProto { name: Some(name.to_owned()), ..ValueInfoProto::default() };
        let node = |op: &str, inputs: &[&str], output: &str| NodeProto::new(op, "", inputs, &[output]);
        let graph = GraphProto {
            node: vec![
                node("QuantizeLinear", &["x", "scale", "zero"], "q"),
                node("DequantizeLinear", &["q", "scale", "zero"], "d"),
                relu,
                node("QuantizeLinear", &["r", "same", "zero"], "p"),
                node("DequantizeLinear", &["p", "same", "zero"], "y"),
            ],
            initializer: vec![
                TensorProto::from_floats("scale", &[], &[0.5]),
                TensorProto::from_floats("same", &[], &[0.5]),
                TensorProto::from_floats("other", &[], &[0.25]),
                TensorProto::from_floats("zero_point_zero", &[], &[0.0]),
                TensorProto::from_floats("six", &[], &[6.0]),
                TensorProto::from_i8("zero", &[], &[zero]),
            ],
            input: vec![of("x")],
            output: vec![of("y")],
            ..GraphProto::default()
        };
        let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(17) }];
        ModelProto { ir_version: Some(8), graph: Some(graph), opset_import, ..ModelProto::default() }
    }

    fn relu() -> NodeProto {
        NodeProto::new("Relu", "relu", &["d"], &["r"])
    }

    fn rewritten(model: &ModelProto) -> Option<GraphProto> {
        match on_integers(Cow::Borrowed(&model.encode_to_vec())) {
            Cow::Borrowed(_) => None,
            Cow::Owned(bytes) => ModelProto::decode(bytes.as_slice()).unwrap().graph,
        }
    }

    #[test]
    fn a_relu_between_equal_scales_becomes_a_clip_of_integers() {
        let six = NodeProto::new("Clip", "clip", &["d", "zero_point_zero", "six"], &["r"]);
        for (relu, highest) in [(relu(), 127), (six, 12)] {
            let graph = rewritten(&model(relu, 0)).unwrap();
            let ops: Vec<_> = graph.node.iter().map(NodeProto::op_type).collect();
            assert_eq!(ops, ["QuantizeLinear", "Clip", "DequantizeLinear"]);
            let clip = &graph.node[1];
            assert_eq!((clip.input[0].as_str(), clip.output[0].as_str()), ("q", "p"));
            let wiring = Wiring::new(&graph);
            let bound = |at: usize| wiring.constants[clip.input[at].as_str()].ints().unwrap();
            assert_eq!((bound(1), bound(2)), (vec![0], vec![highest]));
            assert!(!wiring.constants.contains_key("six"));
        }
    }

    #[test]
    fn anything_else_stays() {
        let stays = |change: &dyn Fn(&mut ModelProto)| {
            let mut model = model(relu(), 0);
            change(&mut model);
            rewritten(&model).is_none()
        };
        let node = |model: &mut ModelProto, at: usize, input: usize, name: &str| {
            model.graph.as_mut().unwrap().node[at].input[input] = name.to_owned();
        };
        assert!(!stays(&|_| {}));
        assert!(stays(&|model| node(model, 3, 1, "other")), "another scale");
        assert!(stays(&|model| node(model, 4, 0, "d")), "what was dequantised is read elsewhere");
        assert!(rewritten(&model(relu(), 1)).is_none(), "not symmetric");
        assert!(stays(&|model| model.opset_import[0].version = Some(11)));
        assert!(stays(&|model| model.graph.as_mut().unwrap().node[2].op_type = Some("Tanh".to_owned())));
        let second = NodeProto::new("Neg", "", &["r"], &["z"]);
        assert!(stays(&|model| model.graph.as_mut().unwrap().node.push(second.clone())), "read elsewhere");
        assert!(stays(&|model| model.graph.as_mut().unwrap().output[0].name = Some("r".to_owned())));
        assert!(matches!(on_integers(Cow::Borrowed(b"nonsense")), Cow::Borrowed(b"nonsense")));
    }
}
