//! What is refused, and that nothing brings the reader down.

use prost::Message;

use super::*;

/// conv -> relu, weights inside.
fn small() -> ModelProto {
    let value = |name: &str, dims: &[i64]| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(crate::onnx::TypeProto {
            tensor_type: Some(crate::onnx::TensorTypeProto {
                elem_type: Some(1),
                shape: Some(crate::onnx::TensorShapeProto {
                    dim: dims
                        .iter()
                        .map(|n| crate::onnx::DimensionProto { dim_value: Some(*n), dim_param: None })
                        .collect(),
                }),
            }),
            ..Default::default()
        }),
        doc_string: None,
    };
    let conv = NodeProto::new("Conv", "stem", &["in", "w"], &["a"]).with_ints("strides", &[2, 2]);
    let graph = GraphProto {
        node: vec![conv, NodeProto::new("Relu", "", &["a"], &["out"])],
        name: Some("small".to_owned()),
        initializer: vec![TensorProto::from_floats("w", &[4, 3, 3, 3], &[0.5; 108])],
        input: vec![value("in", &[1, 3, 9, 9])],
        output: vec![value("out", &[1, 4, 4, 4])],
        ..Default::default()
    };
    let opset = crate::onnx::OperatorSetIdProto { domain: None, version: Some(17) };
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..Default::default() }
}

fn refusal(change: impl FnOnce(&mut ModelProto, &mut GraphProto)) -> String {
    let mut model = small();
    let mut graph = model.graph.take().unwrap();
    change(&mut model, &mut graph);
    model.graph = Some(graph);
    read(&model.encode_to_vec(), "m.onnx").unwrap_err().to_string()
}

#[test]
fn a_good_model_is_read() {
    assert_eq!(read(&small().encode_to_vec(), "m.onnx").unwrap(), small());
}

#[test]
fn refusals_name_file_place_and_remedy() {
    let external = refusal(|_, g| g.initializer[0].data_location = Some(1));
    assert_eq!(external, format!("m.onnx: tensor `w` has its values in another file; {EMBED}"));
    let cases = [
        (refusal(|m, _| m.functions.push(vec![])), "functions"),
        (refusal(|m, _| m.training_info.push(vec![])), "training"),
        (refusal(|m, _| m.ir_version = Some(99)), "IR version 99"),
        (refusal(|m, _| m.opset_import.clear()), "standard operators"),
        (refusal(|_, g| g.sparse_initializer.push(vec![])), "sparse"),
        (refusal(|_, g| g.node[0].attribute[0].g = Some(vec![])), "Conv `stem`"),
        (refusal(|_, g| g.node[1].output[0] = "a".to_owned()), "written before"),
        (refusal(|_, g| g.node[1].input[0] = "b".to_owned()), "reads `b`, which nobody writes"),
        (refusal(|_, g| g.node[0].input[0] = "out".to_owned()), "circle"),
        (refusal(|_, g| g.initializer[0].dims[0] = 1 << 40), "tensor `w` has a negative or too large axis"),
        (refusal(|_, g| g.initializer[0].dims[0] = 5), "should hold 135 values by its axes, holds 108"),
        (refusal(|_, g| g.initializer[0].data_type = Some(77)), "element type 77"),
        (refusal(|_, g| g.initializer.push(g.initializer[0].clone())), "that of another"),
        (refusal(|_, g| g.node[0].attribute[0].ints[0] = 0), "attribute `strides` of node Conv `stem`"),
    ];
    for (message, part) in cases {
        assert!(message.starts_with("m.onnx: ") && message.contains(part), "{message} lacks {part}");
    }
}

/// Byte and field mutations, seeded; each survivor also goes through the shape rules.
#[test]
fn ten_thousand_mutations_end_in_a_model_or_an_error_that_names_the_file() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let (mut read_well, mut refused) = (0, 0);
    for round in 0..10_000 {
        let mut model = small();
        let graph = model.graph.as_mut().unwrap();
        let huge = [0, -1, 1 << 20, 1 << 40, i64::MAX, i64::MIN][random(6)];
        match round % 8 {
            0 => graph.initializer[0].dims[random(4)] = huge,
            1 => graph.node[0].attribute[0].ints[random(2)] = huge,
            2 => graph.node.swap(0, 1),
            3 => graph.node[random(2)].input[0] = ["in", "w", "a", "out", ""][random(5)].to_owned(),
            _ => {}
        }
        let mut bytes = model.encode_to_vec();
        for _ in 0..if round % 8 < 4 { random(2) } else { 1 + random(4) } {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes.insert(at, random(256) as u8),
                2 => drop(bytes.remove(at)),
                3 => bytes.truncate(at.max(1)),
                _ => drop(bytes.splice(at..at, [255; 9])),
            }
        }
        match read(&bytes, "m.onnx") {
            Ok(model) => {
                let inputs = std::collections::HashMap::from([("in".to_owned(), vec![1, 3, 9, 9])]);
                crate::onnx::shapes::infer(&model, &inputs);
                read_well += 1;
            }
            Err(error) => {
                assert!(error.to_string().starts_with("m.onnx: "), "{error}");
                refused += 1;
            }
        }
    }
    assert!(
        read_well > 500 && refused > 500,
        "{read_well} read, {refused} refused: the mutations are one-sided"
    );
}
