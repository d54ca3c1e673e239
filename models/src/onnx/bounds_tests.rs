//! Small files that ask for much: refused by the name of the node, before anybody makes their values.

use super::super::mutations::{grown, small};
use super::super::{AttributeProto, DimensionProto, TensorProto, data_type};
use super::*;

fn node(op: &str, inputs: &[&str]) -> NodeProto {
    NodeProto::new(op, "it", inputs, &["x"])
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        dims: vec![values.len() as i64],
        data_type: Some(data_type::INT64),
        name: Some(name.to_owned()),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// The small network with these nodes beside it, which read `one` (a float) and `n`.
fn with(nodes: Vec<NodeProto>, n: &[i64]) -> ModelProto {
    let mut model = small();
    let graph = model.graph.as_mut().unwrap();
    graph.initializer.extend([TensorProto::from_floats("one", &[1], &[1.0]), ints("n", n)]);
    graph.node.extend(nodes);
    model
}

fn refusal(model: &ModelProto) -> String {
    check(model, "m.onnx", None).unwrap_err().to_string()
}

#[test]
fn what_constants_ask_for_is_refused_by_the_node_s_name() {
    let scalar = |name: &str, n: i64| TensorProto { dims: vec![], ..ints(name, &[n]) };
    let mut range = with(vec![node("Range", &["zero", "limit", "step"])], &[]);
    range.graph.as_mut().unwrap().initializer.extend([
        scalar("zero", 0),
        scalar("limit", 100_000_000),
        scalar("step", 1),
    ]);
    let sides = &[20_000, 20_000];
    let cases = [
        (with(vec![node("ConstantOfShape", &["n"])], sides), "1526 MiB"),
        (with(vec![node("Expand", &["one", "n"])], sides), "1526 MiB"),
        (with(vec![node("Tile", &["one", "n"])], &[400_000_000]), "1526 MiB"),
        (with(vec![node("ConstantOfShape", &["n"])], &[1 << 40, 1 << 40]), "more values than can be counted"),
        (range, "763 MiB"),
    ];
    for (model, size) in cases {
        let message = refusal(&model);
        assert!(message.starts_with("m.onnx: node ") && message.contains("`it`"), "{message}");
        assert!(message.contains(size) && message.contains("not at most 512 MiB"), "{message}");
    }
}

#[test]
fn a_size_that_cannot_be_told_is_refused_too() {
    let hidden = |op: &str, inputs: &[&str]| {
        let pow = NodeProto::new("Pow", "", &["n", "n"], &["sizes"]);
        refusal(&with(vec![pow, node(op, inputs)], &[100]))
    };
    for (op, inputs) in [
        ("ConstantOfShape", &["sizes"][..]),
        ("Expand", &["one", "sizes"]),
        ("Tile", &["one", "sizes"]),
        ("Pad", &["in", "sizes"]),
        ("Resize", &["in", "", "", "sizes"]),
        ("RandomNormal", &[]),
    ] {
        let message = hidden(op, inputs);
        assert!(
            message.contains(op) && message.contains("makes `x`, whose size cannot be told"),
            "{message}"
        );
    }
}

#[test]
fn pads_and_products_that_make_activations_large_are_refused() {
    let conv = NodeProto::new("Conv", "it", &["in", "w"], &["x"]).with_ints("pads", &[9000; 4]);
    let message = refusal(&with(vec![conv], &[]));
    assert!(message.contains("Conv `it` works on 4948 MiB"), "{message}");
    // [300, 1, 300, 1] by [1, 300, 1, 300]: both batches are filled up.
    let mut model = with(vec![node("MatMul", &["left", "right"])], &[]);
    let zeros = vec![0.0; 90_000];
    model.graph.as_mut().unwrap().initializer.extend([
        TensorProto::from_floats("left", &[300, 1, 300, 1], &zeros),
        TensorProto::from_floats("right", &[1, 300, 1, 300], &zeros),
    ]);
    assert!(refusal(&model).contains("30900 MiB"), "{}", refusal(&model));
}

#[test]
fn constants_that_are_small_each_are_added_up() {
    let one = |at: usize| NodeProto::new("ConstantOfShape", "", &["n"], &[&format!("x{at}")]);
    let message = refusal(&with((0..4).map(one).collect(), &[40_000_000]));
    assert!(message.contains("and those before it make constants of 611 MiB"), "{message}");
}

#[test]
fn sizes_that_old_exporters_compute_in_floats_are_followed() {
    let cast =
        |from: &str, to: &str, kind: i64| NodeProto::new("Cast", "", &[from], &[to]).with_int("to", kind);
    let graph = |side: f32| {
        let nodes = vec![
            NodeProto::new("Shape", "", &["in"], &["s"]),
            cast("s", "f", 1),
            NodeProto::new("Mul", "", &["f", "factor"], &["g"]),
            NodeProto::new("Floor", "", &["g"], &["h"]),
            cast("h", "sizes", 7),
            node("Resize", &["in", "", "", "sizes"]),
        ];
        let mut model = with(nodes, &[]);
        let factors = TensorProto::from_floats("factor", &[4], &[1.0, 1.0, side, side]);
        model.graph.as_mut().unwrap().initializer.push(factors);
        model
    };
    assert!(check(&graph(2.5), "m.onnx", None).is_ok());
    assert!(refusal(&graph(2500.0)).contains("Resize `it` works on"), "{}", refusal(&graph(2500.0)));
}

#[test]
fn open_axes_are_what_the_manifest_says() {
    let mut model = small();
    let graph = model.graph.as_mut().unwrap();
    let shape = graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
    for at in [0, 2, 3] {
        shape.dim[at] = DimensionProto { dim_value: None, dim_param: Some("n".to_owned()) };
    }
    assert!(check(&model, "m.onnx", None).is_ok());
    assert!(check(&model, "m.onnx", Some((416, 416))).is_ok());
    let message = check(&model, "m.onnx", Some((16_384, 16_384))).unwrap_err().to_string();
    assert!(message.contains("Conv `stem` works on 4096 MiB"), "{message}");
}

#[test]
fn the_seeds_that_make_shapes_pass_as_they_are() {
    let model = grown();
    assert!(check(&model, "m.onnx", None).is_ok());
    let fill = |a: &&AttributeProto| a.name() == "value";
    assert!(model.graph.unwrap().node.iter().any(|n| n.attribute.iter().any(|a| fill(&a))));
}

/// Every file that is here: the shipped weights, and those of the data folder.
#[test]
fn models_that_are_in_use_pass() {
    let mut folders = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("weights")];
    folders
        .extend(std::env::var_os("VEDETTE_DATA").map(|data| std::path::PathBuf::from(data).join("models")));
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let files: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "onnx"))
        .collect();
    assert!(!files.is_empty());
    for file in files {
        let (bytes, name) = (check::bytes(&file).unwrap(), file.display().to_string());
        let model = check::read(&bytes, &name).unwrap();
        if let Err(error) = check(&model, &name, Some((640, 640))) {
            panic!("{error}");
        }
    }
}
