//! Small networks the whole way with the real runtime; without it each says why it is skipped. The network is
//! `image u8 NHWC → cast, mean, scale, transpose → conv → relu → two convs → concat → conv → add → output`.

use std::path::PathBuf;

use super::*;
use crate::onnx::graph::Wiring;
use crate::onnx::{
    AttributeProto, DimensionProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};

const SIZE: usize = 16;

fn runtime() -> Option<&'static Runtime> {
    let place = std::env::var_os("VEDETTE_ONNXRUNTIME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?.join("vedette/onnxruntime"))
    })?;
    Runtime::load(Some(&place), &[]).inspect_err(|error| eprintln!("skipped: {error}")).ok()
}

fn value(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = |d: &i64| DimensionProto { dim_value: Some(*d), dim_param: None };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: Some(elem_type), shape });
    let r#type = Some(TypeProto { tensor_type, ..Default::default() });
    ValueInfoProto { name: Some(name.to_owned()), r#type, doc_string: None }
}

/// Even enough, the same everywhere, -0.5..0.5.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn conv(name: &str, inputs: &[&str], output: &str, group: i64) -> NodeProto {
    NodeProto::new("Conv", name, inputs, &[output]).with_ints("pads", &[1, 1, 1, 1]).with_int("group", group)
}

fn network() -> ModelProto {
    let size = SIZE as i64;
    let graph = GraphProto {
        name: Some("small".to_owned()),
        node: vec![
            NodeProto::new("Cast", "cast", &["image"], &["real"]).with_int("to", 1),
            NodeProto::new("Sub", "sub", &["real", "mean"], &["centred"]),
            NodeProto::new("Mul", "mul", &["centred", "gain"], &["scaled"]),
            NodeProto::new("Transpose", "planes", &["scaled"], &["x"]).with_ints("perm", &[0, 3, 1, 2]),
            conv("first", &["x", "w1", "b1"], "a", 1),
            NodeProto::new("Relu", "relu", &["a"], &["r"]),
            conv("left", &["r", "w2", "b1"], "l", 1),
            conv("right", &["l", "w2", "b1"], "m", 1),
            NodeProto::new("Concat", "both", &["l", "m"], &["c"]).with_int("axis", 1),
            conv("deep", &["c", "w3"], "d", 16),
            conv("last", &["d", "w4"], "e", 1),
            NodeProto::new("Add", "add", &["e", "offset"], &["y"]),
        ],
        initializer: vec![
            TensorProto::from_floats("mean", &[3], &[128.0, 120.0, 112.0]),
            TensorProto::from_floats("gain", &[], &[1.0 / 64.0]),
            TensorProto::from_floats("w1", &[8, 3, 3, 3], &noise(216, 1)),
            TensorProto::from_floats("b1", &[8], &noise(8, 2)),
            TensorProto::from_floats("w2", &[8, 8, 3, 3], &noise(576, 3)),
            TensorProto::from_floats("w3", &[16, 1, 3, 3], &noise(144, 4)),
            TensorProto::from_floats("w4", &[4, 16, 3, 3], &noise(576, 5)),
            TensorProto::from_floats("offset", &[1], &[0.25]),
        ],
        input: vec![value("image", data_type::UINT8, &[1, size, size, 3])],
        output: vec![value("y", data_type::FLOAT, &[1, 4, size, size])],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..Default::default() }
}

fn input() -> InputSpec {
    let text = "name = 'image'\nlayout = 'nhwc'\ntype = 'u8'\nwidth = 1\nheight = 1\ncolor = 'bgr'";
    InputSpec { width: SIZE, height: SIZE, ..toml::from_str(text).unwrap() }
}

fn pictures() -> Vec<Vec<u8>> {
    let bytes = |seed| noise(SIZE * SIZE * 3, seed).iter().map(|v| ((v + 0.5) * 255.0) as u8).collect();
    (10..20).map(bytes).collect()
}

fn options(stem: bool) -> QuantizeOptions {
    QuantizeOptions { range: RangeMethod::MinMax, stem, ..QuantizeOptions::default() }
}

fn run(options: &QuantizeOptions, model: &ModelProto) -> Option<Result<Quantized, QuantizeError>> {
    Some(quantize(runtime()?, &model.encode_to_vec(), &input(), &pictures(), options, &mut |_| {}))
}

fn answers(bytes: &[u8], input: &InputSpec, pictures: &[Vec<u8>]) -> Vec<Vec<f32>> {
    let model = ModelProto::decode(bytes).unwrap();
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    let mut answers = Vec::new();
    runner::run(runtime().unwrap(), &model, input, &pictures, |_, _, values| answers.push(values.to_vec()))
        .unwrap();
    answers
}

fn ops(bytes: &[u8], op: &str) -> usize {
    ModelProto::decode(bytes).unwrap().graph.unwrap().node.iter().filter(|n| n.op_type() == op).count()
}

#[test]
fn both_forms_are_close_to_fp32_and_report_each_layer() {
    let Some(quantized) = run(&options(true), &network()) else { return };
    let quantized = quantized.unwrap();
    assert_eq!(quantized.forms.iter().map(|f| f.form).collect::<Vec<_>>(), [Form::U8s8, Form::S8s8]);
    for form in &quantized.forms {
        assert!((25.0..100.0).contains(&form.snr_db), "{}: {} dB", form.form, form.snr_db);
        assert_eq!(form.outputs.len(), 1);
        let layers: Vec<_> = form.layers.iter().map(|layer| layer.node.as_str()).collect();
        assert_eq!(layers, ["first", "left", "right", "deep", "last"]);
        assert!(
            form.layers.iter().all(|l| !l.fp32 && l.snr_db.is_some_and(|db| db > 25.0)),
            "{:?}",
            form.layers
        );
    }
    let [u8s8, s8s8] = quantized.forms.as_slice() else { panic!("two forms") };
    assert_eq!((ops(&u8s8.bytes, "Relu"), ops(&s8s8.bytes, "Relu")), (0, 1));
    assert_eq!(ops(&u8s8.bytes, "Transpose") + ops(&u8s8.bytes, "Cast"), 0, "the stem is cut");
    // Nothing int8 comes after the last convolution.
    assert_eq!(ops(&u8s8.bytes, "Add"), 1);
}

#[test]
fn the_stem_gives_the_same_answers_as_the_whole_graph() {
    let (Some(with), Some(without)) = (run(&options(true), &network()), run(&options(false), &network()))
    else {
        return;
    };
    for (with, without) in with.unwrap().forms.iter().zip(&without.unwrap().forms) {
        let stem = with.stem.as_ref().unwrap();
        assert_eq!(
            (stem.mean, stem.std, stem.element == Element::I8),
            ([128.0, 120.0, 112.0], [64.0; 3], with.form == Form::S8s8)
        );
        assert!(without.stem.is_none());
        let network = input();
        let cut = answers(&with.bytes, &network.with(stem), &pictures());
        assert_eq!(cut, answers(&without.bytes, &network, &pictures()), "{}", with.form);
    }
}

#[test]
fn the_same_file_and_samples_give_the_same_bytes() {
    let (Some(one), Some(two)) = (run(&options(true), &network()), run(&options(true), &network())) else {
        return;
    };
    for (one, two) in one.unwrap().forms.iter().zip(&two.unwrap().forms) {
        assert!(one.bytes == two.bytes, "{}", one.form);
    }
}

#[test]
fn shared_weights_are_written_once_and_each_bias_at_its_own_scale() {
    let Some(quantized) = run(&options(false), &network()) else { return };
    for form in &quantized.unwrap().forms {
        let graph = ModelProto::decode(form.bytes.as_slice()).unwrap().graph.unwrap();
        let wiring = Wiring::new(&graph);
        let node = |name: &str| graph.node.iter().find(|n| n.name() == name).unwrap();
        assert_eq!(node("left").input[1], node("right").input[1]);
        assert_ne!(node("left").input[2], node("right").input[2]);
        let source = |value: &str| &graph.node[wiring.writer[value]];
        let scales = |value: &str| wiring.constants[source(value).input[1].as_str()].floats().unwrap();
        for (name, channels) in [("first", 8), ("left", 8), ("right", 8), ("deep", 16), ("last", 4)] {
            let conv = node(name);
            let weights = scales(&conv.input[1]);
            assert_eq!((weights.len(), source(&conv.input[1]).int("axis")), (channels, Some(0)), "{name}");
            let Some(bias) = conv.input.get(2) else { continue };
            let activation = scales(&conv.input[0])[0];
            let products: Vec<f32> = weights.iter().map(|w| w * activation).collect();
            assert_eq!(scales(bias), products, "{name}");
        }
    }
}

#[test]
fn a_folded_relu_lets_nothing_below_zero_through() {
    let mut model = network();
    let graph = model.graph.as_mut().unwrap();
    graph.node.truncate(6);
    graph.output = vec![value("r", data_type::FLOAT, &[1, 8, SIZE as i64, SIZE as i64])];
    let Some(quantized) = run(&options(false), &model) else { return };
    let network = input();
    // Pictures that were not calibrated on may reach beyond the range, and saturate.
    let pictures = pictures();
    let calibrated: Vec<Vec<u8>> = split(&pictures).0.into_iter().map(<[u8]>::to_vec).collect();
    let exact = answers(&model.encode_to_vec(), &network, &calibrated).concat();
    for form in &quantized.unwrap().forms {
        let found = answers(&form.bytes, &network, &calibrated).concat();
        let step = exact.iter().copied().fold(0.0, f32::max) / 127.0;
        for (e, f) in exact.iter().zip(&found) {
            assert!(*f >= 0.0 && (e - f).abs() < 4.0 * step, "{}: {f} for {e}", form.form);
        }
        assert!(found.contains(&0.0) && exact.contains(&0.0));
    }
}

#[test]
fn layers_go_back_to_fp32_only_within_the_budget_and_for_a_gain() {
    let wish = QuantizeOptions { max_fp32_layers: 2, ..options(true) };
    let (Some(plain), Some(mixed)) = (run(&options(true), &network()), run(&wish, &network())) else {
        return;
    };
    for (plain, mixed) in plain.unwrap().forms.iter().zip(&mixed.unwrap().forms) {
        let back = mixed.layers.iter().filter(|layer| layer.fp32).count();
        assert!((1..=2).contains(&back), "{back}");
        assert!(mixed.snr_db > plain.snr_db, "{} {}", mixed.snr_db, plain.snr_db);
        assert!(mixed.layers.iter().all(|layer| layer.alone_db.is_some()));
    }
    let met = QuantizeOptions { target_snr_db: Some(1.0), ..wish };
    let Some(quantized) = run(&met, &network()) else { return };
    assert!(quantized.unwrap().forms.iter().all(|f| f.layers.iter().all(|layer| !layer.fp32)));
}

#[test]
fn auto_is_as_good_as_the_best_method() {
    let auto = QuantizeOptions { range: RangeMethod::Auto, ..options(false) };
    let Some(quantized) = run(&auto, &network()) else { return };
    let quantized = quantized.unwrap();
    for method in METHODS {
        let one = QuantizeOptions { range: method, ..options(false) };
        for (best, one) in quantized.forms.iter().zip(&run(&one, &network()).unwrap().unwrap().forms) {
            assert!(best.snr_db >= one.snr_db, "{method:?}: {} < {}", best.snr_db, one.snr_db);
        }
    }
}

/// The network with this added to its four output channels, place by place.
fn masked(mask: [f32; 4]) -> ModelProto {
    let mut model = network();
    let graph = model.graph.as_mut().unwrap();
    let all: Vec<f32> = mask.iter().flat_map(|v| vec![*v; SIZE * SIZE]).collect();
    let offset = graph.initializer.iter_mut().find(|tensor| tensor.name() == "offset").unwrap();
    // One value a place: one a channel would become the convolution's bias.
    *offset = TensorProto::from_floats("offset", &[4, SIZE as i64, SIZE as i64], &all);
    model
}

#[test]
fn a_masked_value_hides_no_noise() {
    let ruined = QuantizeOptions { range: RangeMethod::Percentile(50.0), ..options(true) };
    let good = options(true);
    let masks = [[0.0, 0.0, 0.0, 0.0], [0.0, f32::NEG_INFINITY, 0.0, 0.0]];
    for (wish, expected) in [(&ruined, 0.0..15.0), (&good, 25.0..100.0)] {
        for mask in masks {
            let Some(quantized) = run(wish, &masked(mask)) else { return };
            for form in &quantized.unwrap().forms {
                assert!(expected.contains(&form.snr_db), "{mask:?} {}: {} dB", form.form, form.snr_db);
            }
        }
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let mut counted = network();
    let graph = counted.graph.as_mut().unwrap();
    graph.node.push(NodeProto::new("ArgMax", "best", &["y"], &["class"]).with_int("axis", 1));
    graph.output = vec![value("class", data_type::INT64, &[1, 1, SIZE as i64, SIZE as i64])];
    for model in [masked([f32::NEG_INFINITY; 4]), counted] {
        let Some(quantized) = run(&options(true), &model) else { return };
        assert!(matches!(quantized, Err(QuantizeError::NothingCompared)), "{quantized:?}");
    }
}

#[test]
fn a_ratio_that_is_none_is_the_worst() {
    let lowest = |values: &[f64]| lowest(&values.iter().map(|db| (String::new(), *db)).collect::<Vec<_>>());
    assert_eq!(lowest(&[30.0, 20.0, 40.0]), 20.0);
    assert_eq!(lowest(&[30.0, f64::NEG_INFINITY]), f64::NEG_INFINITY);
    assert!(lowest(&[30.0, f64::NAN, 20.0]).is_nan() && lowest(&[f64::NAN]).is_nan());
}

#[test]
fn what_cannot_be_handled_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = network();
        change(&mut model);
        simplify::parse(&model.encode_to_vec()).unwrap_err().to_string()
    };
    let branch =
        AttributeProto { name: Some("then_branch".to_owned()), g: Some(vec![0]), ..Default::default() };
    let error = refused(&|m| m.graph.as_mut().unwrap().node[6].attribute.push(branch.clone()));
    assert!(error.contains("attribute `then_branch` of node Conv `left` is a graph of its own"), "{error}");
    let error = refused(&|m| m.graph.as_mut().unwrap().initializer[2].data_location = Some(1));
    assert!(error.starts_with("the fp32 file: tensor `w1` has its values in another file"), "{error}");
    assert!(refused(&|m| m.functions.push(vec![0])).contains("functions"));
    assert!(refused(&|m| m.training_info.push(vec![0])).contains("training"));
    assert!(refused(&|m| m.graph.as_mut().unwrap().sparse_initializer.push(vec![0])).contains("sparse"));
    assert!(refused(&|m| m.opset_import[0].version = Some(12)).contains("opset 12 is older than 13"));
    assert!(matches!(simplify::parse(b"nonsense"), Err(QuantizeError::File(_))));
}

#[test]
fn wrong_samples_and_inputs_are_told() {
    let Some(runtime) = runtime() else { return };
    let model = network().encode_to_vec();
    let tried = |input: &InputSpec, pixels: &[Vec<u8>], keep: &[&str]| {
        let keep_fp32 = keep.iter().map(|k| (*k).to_owned()).collect();
        let options = QuantizeOptions { keep_fp32, ..options(true) };
        quantize(runtime, &model, input, pixels, &options, &mut |_| {}).unwrap_err().to_string()
    };
    assert!(tried(&input(), &[], &[]).contains("at least one"));
    assert!(tried(&input(), &[vec![0; 5]], &[]).contains("number 0 should have 768 bytes, has 5"));
    let other = InputSpec { name: Some("x".to_owned()), ..input() };
    assert!(tried(&other, &pictures(), &[]).contains("`image` is a second input"));
    let tall = InputSpec { height: 32, width: 8, ..input() };
    assert!(tried(&tall, &pictures(), &[]).contains("should be [1, 32, 8, 3]"));
    let int8 = InputSpec { scale: Some(0.5), ..input() };
    assert!(tried(&int8, &pictures(), &[]).contains("is quantised already"));
    let scaled = InputSpec { mean: [1.0; 3], ..input() };
    assert!(tried(&scaled, &pictures(), &[]).contains("mean and std are for inputs of type f32"));
    assert!(tried(&input(), &pictures(), &["frist"]).contains("`frist` is to stay in fp32"));
    let all = ["first", "left", "right", "deep", "last"];
    assert!(tried(&input(), &pictures(), &all).contains("no layer can be int8"));
}
