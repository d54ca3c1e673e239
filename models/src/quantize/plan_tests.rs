//! Plans of small graphs.

use super::*;
use crate::onnx::ValueInfoProto;

fn conv(name: &str, from: &str, to: &str) -> NodeProto {
    NodeProto::new("Conv", name, &[from, "w"], &[to])
}

fn graph(nodes: Vec<NodeProto>, output: &str) -> GraphProto {
    let scales = TensorProto::from_floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let value = |name: &str| ValueInfoProto { name: Some(name.to_owned()), ..Default::default() };
    GraphProto {
        node: nodes,
        initializer: vec![
            TensorProto::from_floats("w", &[8, 8, 3, 3], &[0.1; 576]),
            TensorProto::from_floats("zero", &[], &[0.0]),
            TensorProto::from_floats("six", &[], &[6.0]),
            scales,
        ],
        input: vec![value("x")],
        output: vec![value(output)],
        ..Default::default()
    }
}

fn fates(graph: &GraphProto, form: Form) -> Vec<Fate> {
    plan(graph, form, &BTreeSet::new())
}

#[test]
fn what_is_not_between_products_stays_float() {
    let node = |op: &str, from: &str, to: &str| NodeProto::new(op, op, &[from], &[to]);
    let chain = graph(
        vec![
            node("Sigmoid", "x", "a"),
            conv("one", "a", "b"),
            node("MaxPool", "b", "c"),
            conv("two", "c", "d"),
            node("Reshape", "d", "e"),
            node("Softmax", "e", "y"),
        ],
        "y",
    );
    use Fate::{Float, Wrapped};
    assert_eq!(fates(&chain, Form::U8s8), [Float, Wrapped, Wrapped, Wrapped, Float, Float]);
    let kept = plan(&chain, Form::U8s8, &BTreeSet::from(["two".to_owned()]));
    assert_eq!(kept, [Float, Wrapped, Float, Float, Float, Float]);
}

#[test]
fn a_relu_folds_only_where_saturation_is_the_same() {
    let relu = |inputs: &[&str]| {
        NodeProto::new(if inputs.len() == 1 { "Relu" } else { "Clip" }, "r", inputs, &["r"])
    };
    let fate = |inputs: &[&str], form| fates(&graph(vec![conv("c", "x", "a"), relu(inputs)], "r"), form)[1];
    assert_eq!(fate(&["a"], Form::U8s8), Fate::Folded);
    assert_eq!(fate(&["a", "zero", "six"], Form::U8s8), Fate::Folded);
    assert_eq!(fate(&["a", "six", "six"], Form::U8s8), Fate::Float, "a floor above 0");
    assert_eq!(fate(&["a"], Form::S8s8), Fate::Wrapped, "symmetric int8 keeps negative values");
    let twice =
        graph(vec![conv("c", "x", "a"), relu(&["a"]), NodeProto::new("Add", "s", &["a", "r"], &["y"])], "y");
    assert_ne!(fates(&twice, Form::U8s8)[1], Fate::Folded, "somebody reads what is below 0");
    let public = graph(vec![conv("c", "x", "a"), relu(&["a"])], "a");
    assert_ne!(fates(&public, Form::U8s8)[1], Fate::Folded, "the graph's output is below 0");
}

#[test]
fn xnnpack_never_sees_a_linear_resize_between_conversions() {
    let resize = |mode: &str| {
        let mut node = NodeProto::new("Resize", "r", &["a", "", "scales"], &["b"]);
        let (name, s) = (Some("mode".to_owned()), Some(mode.as_bytes().to_vec()));
        node.attribute.push(crate::onnx::AttributeProto { name, s, r#type: Some(3), ..Default::default() });
        let sum = NodeProto::new("Add", "s", &["b", "a"], &["d"]);
        graph(vec![conv("c", "x", "a"), node, sum, conv("e", "d", "y")], "y")
    };
    use Fate::{Float, Wrapped};
    assert_eq!(fates(&resize("linear"), Form::S8s8), [Wrapped, Float, Float, Wrapped]);
    assert_eq!(fates(&resize("nearest"), Form::S8s8), [Wrapped; 4]);
    assert_eq!(fates(&resize("linear"), Form::U8s8), [Wrapped; 4]);
}
