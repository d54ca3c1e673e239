//! What is refused, and that nothing brings the reader down.

use prost::Message;

use super::*;
use crate::onnx::mutations::{Mutations, small};

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
    let (mut read_well, mut refused) = (0, 0);
    for seed in 0..10_000 {
        let bytes = Mutations::new(seed).damage(small());
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
