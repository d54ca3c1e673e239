//! Shape rules against what the operators' documentation says.

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn dims(node: NodeProto, inputs: &[Value]) -> Option<Vec<i64>> {
    let call = Call { node: &node, inputs: inputs.iter().map(Some).collect(), opset: 17 };
    call.outputs().unwrap()[0].dims.clone()
}

fn of(dims: &[i64]) -> Value {
    Value::shaped(data_type::FLOAT, Some(dims.to_vec()))
}

fn ints(values: &[i64]) -> Value {
    Value { ints: Some(values.to_vec()), ..Value::shaped(data_type::INT64, Some(vec![values.len() as i64])) }
}

fn op(name: &str) -> NodeProto {
    NodeProto::new(name, "", &[], &["out"])
}

#[test]
fn windows_slide() {
    let conv = op("Conv").with_ints("strides", &[2, 2]).with_ints("pads", &[1, 1, 1, 1]);
    assert_eq!(dims(conv, &[of(&[1, 3, 224, 225]), of(&[32, 3, 3, 3])]), Some(vec![1, 32, 112, 113]));
    let pool =
        op("MaxPool").with_ints("strides", &[2]).with_ints("kernel_shape", &[3]).with_int("ceil_mode", 1);
    assert_eq!(dims(pool, &[of(&[1, 8, 8])]), Some(vec![1, 8, 4]));
    let up = op("ConvTranspose").with_ints("strides", &[2, 2]);
    assert_eq!(dims(up, &[of(&[1, 8, 10, 10]), of(&[8, 4, 2, 2])]), Some(vec![1, 4, 20, 20]));
}

#[test]
fn values_move() {
    assert_eq!(dims(op("Reshape"), &[of(&[2, 3, 4]), ints(&[0, -1])]), Some(vec![2, 12]));
    assert_eq!(dims(op("Reshape"), &[of(&[2, 3, 4]), ints(&[5, -1])]), None);
    let every_second = [of(&[1, 10]), ints(&[1]), ints(&[i64::MAX]), ints(&[1]), ints(&[2])];
    assert_eq!(dims(op("Slice"), &every_second), Some(vec![1, 5]));
    assert_eq!(dims(op("Add"), &[of(&[4, 1, 3]), of(&[5, 1])]), Some(vec![4, 5, 3]));
    assert_eq!(dims(op("Add"), &[of(&[4]), of(&[5])]), None);
    assert_eq!(dims(op("Gather"), &[of(&[7, 8]), ints(&[0, 1, 2])]), Some(vec![3, 8]));
    assert_eq!(dims(op("Unsqueeze"), &[of(&[7]), ints(&[0, -1])]), Some(vec![1, 7, 1]));
}

proptest::proptest! {
    #[test]
    fn no_numbers_bring_a_rule_down(
        which in 0usize..20, a: Vec<i64>, b in proptest::collection::vec(-2i64..9, 0..6), c: Vec<i64>, axis: i64,
    ) {
        let names = ["Conv", "ConvTranspose", "MaxPool", "Resize", "Gemm", "MatMul", "Concat", "Slice", "Reshape",
            "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Pad", "Split", "Gather", "GatherND", "Expand",
            "DepthToSpace", "ReduceMean"];
        let node = op(names[which]).with_int("axis", axis).with_int("blocksize", axis).with_ints("strides", &b)
            .with_ints("perm", &c).with_int("batch_dims", axis).with_ints("kernel_shape", &a);
        let both = |v: &[i64]| Value { ints: Some(v.to_vec()), ..Value::shaped(1, Some(b.clone())) };
        let inputs = [both(&a), both(&b), both(&c), both(&a), both(&c)];
        for most in 0..=inputs.len() {
            let call = Call { node: &node, inputs: inputs[..most].iter().map(Some).collect(), opset: 17 };
            for value in call.outputs().unwrap() {
                // Too many values stay known as too many; each axis is one that can be counted with.
                let dims = value.dims.iter().flatten();
                proptest::prop_assert!(dims.into_iter().all(|dim| (0..=MOST_VALUES).contains(dim)), "{value:?}");
            }
        }
    }
}
