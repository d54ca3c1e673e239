//! Stored networks beside the ones they are made from, with the real runtime where there is one; without it each says
//! why it is skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::manifest::{FormInput, InputSpec};
use crate::onnx::graph::Wiring;
use crate::onnx::{OperatorSetIdProto, TensorTypeProto, TypeProto, data_type};
use crate::provider::Form;
use crate::quantize::plan::is_product;
use crate::quantize::runner::{Noise, run, with_outputs};
use crate::quantize::{QuantizeOptions, RangeMethod, quantize};
use crate::runtime::Runtime;
use crate::testing::mobilenet_v2::{Activation, MobileNetV2};

const SIZE: usize = 96;

fn runtime() -> Option<&'static Runtime> {
    let place = std::env::var_os("VEDETTE_ONNXRUNTIME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?.join("vedette/onnxruntime"))
    })?;
    Runtime::load(Some(&place), &[]).inspect_err(|error| eprintln!("skipped: {error}")).ok()
}

fn small() -> MobileNetV2 {
    MobileNetV2 { width: 0.25, size: SIZE, ..MobileNetV2::default() }
}

fn input() -> InputSpec {
    let text = "name = 'input'\nlayout = 'nchw'\ntype = 'f32'\nwidth = 1\nheight = 1\ncolor = 'rgb'";
    InputSpec { mean: [128.0; 3], std: [64.0; 3], width: SIZE, height: SIZE, ..toml::from_str(text).unwrap() }
}

/// Waves of several lengths, directions and colours.
fn pictures(count: usize) -> Vec<Vec<u8>> {
    let wave = |seed: usize, at: usize| {
        let (x, y, channel) = ((at / 3 % SIZE) as f32, (at / 3 / SIZE) as f32, (at % 3) as f32);
        let sum: f32 = (1..6usize)
            .map(|wave| {
                let turn = (seed * 7 + wave * 3) as f32;
                let phase = (x * turn.cos() + y * turn.sin()) * wave as f32 / 12.0;
                (phase + turn + channel * turn.sin()).sin()
            })
            .sum();
        (128.0 + 40.0 * sum).clamp(0.0, 255.0) as u8
    };
    (0..count).map(|seed| (0..SIZE * SIZE * 3).map(|at| wave(seed, at)).collect()).collect()
}

fn answers(bytes: &[u8], input: &InputSpec, pictures: &[Vec<u8>]) -> Vec<f32> {
    let model = ModelProto::decode(bytes).unwrap();
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    let mut answers = Vec::new();
    run(runtime().unwrap(), &model, input, &pictures, |_, _, values| answers.extend_from_slice(values))
        .unwrap();
    answers
}

fn snr_db(expected: &[f32], found: &[f32]) -> f64 {
    let mut noise = Noise::default();
    noise.add(expected, found);
    noise.db().unwrap()
}

/// What differs between pictures, without the part that all have in common.
fn centred(answers: &[f32], pictures: usize) -> Vec<f32> {
    let classes = answers.len() / pictures;
    let mean = |class: usize| answers.iter().skip(class).step_by(classes).sum::<f32>() / pictures as f32;
    answers.iter().enumerate().map(|(at, v)| v - mean(at % classes)).collect()
}

fn types(bytes: &[u8]) -> BTreeMap<i32, usize> {
    let graph = ModelProto::decode(bytes).unwrap().graph.unwrap();
    let mut types = BTreeMap::new();
    for tensor in &graph.initializer {
        *types.entry(tensor.data_type()).or_default() += 1;
    }
    types
}

fn ops(bytes: &[u8], op: &str) -> usize {
    ModelProto::decode(bytes).unwrap().graph.unwrap().node.iter().filter(|n| n.op_type() == op).count()
}

fn options(storage: WeightStorage, block: Option<usize>) -> StorageOptions {
    StorageOptions { block, ..StorageOptions::new(storage) }
}

#[test]
fn a_float_network_in_each_storage() {
    let original = small().build().encode_to_vec();
    let large = small().build().graph.unwrap().initializer;
    let large = large.iter().filter(|t| t.name().ends_with("weight") && t.count().unwrap() >= 256).count();
    let (int8, report) = store_bytes(&original, &options(WeightStorage::Int8, None)).unwrap();
    assert_eq!((report.bytes_before, report.bytes_after), (original.len(), int8.len()));
    assert!(report.layers.iter().all(|l| l.storage == WeightStorage::Int8 && l.snr_db > 35.0), "{report:?}");
    let (int4, report) = store_bytes(&original, &StorageOptions::new(WeightStorage::Int4)).unwrap();
    assert!(report.layers.iter().all(|l| l.snr_db >= LEAST_BLOCKED_DB), "{report:?}");
    assert!(report.layers.len() == large, "{}", report.layers.len());
    assert_eq!(ops(&int4, "DequantizeLinear"), report.layers.len());
    let ratio = int4.len() as f64 / int8.len() as f64;
    eprintln!("weight-only: fp32 {}, int8 {}, int4 {}: {ratio:.3}", original.len(), int8.len(), int4.len());
    assert!(ratio <= 0.6, "{ratio}");
    assert!(int8.len() as f64 <= 0.3 * original.len() as f64);
}

/// What the runtime makes of each constant behind a DequantizeLinear.
fn dequantized(bytes: &[u8], network: &InputSpec) -> BTreeMap<String, Vec<u32>> {
    let model = ModelProto::decode(bytes).unwrap();
    let graph = model.graph.as_ref().unwrap();
    let constant = |name: &String| graph.initializer.iter().any(|t| t.name() == name);
    let nodes = graph.node.iter().filter(|n| n.op_type() == "DequantizeLinear" && constant(&n.input[0]));
    let names: Vec<String> = nodes.map(|n| n.output[0].clone()).collect();
    let mut found = BTreeMap::new();
    if !names.is_empty() {
        let (model, picture) = (with_outputs(&model, &names), pictures(1));
        let each = |_: usize, at: usize, values: &[f32]| {
            found.insert(names[at].clone(), values.iter().map(|v| v.to_bits()).collect());
        };
        run(runtime().unwrap(), &model, network, &[&picture[0]], each).unwrap();
    }
    found
}

#[test]
fn what_is_expanded_is_what_the_runtime_makes_of_the_file() {
    let Some(_) = runtime() else { return };
    let (network, pictures) = (input(), pictures(4));
    for activation in [Activation::Relu6, Activation::Relu, Activation::LeakyRelu, Activation::Silu] {
        let original = MobileNetV2 { activation, batch_norm: false, ..small() }.build().encode_to_vec();
        let exact = answers(&original, &network, &pictures);
        for (storage, block) in
            [(WeightStorage::Int8, None), (WeightStorage::Int4, None), (WeightStorage::Int4, Some(64))]
        {
            let what = format!("{activation:?} {storage:?} block {block:?}");
            let (stored, report) = store_bytes(&original, &options(storage, block)).unwrap();
            let expanded = expand_bytes(&stored).unwrap();
            assert_eq!(
                (ops(&expanded, "DequantizeLinear"), types(&expanded)),
                (0, types(&original)),
                "{what}"
            );
            let by_runtime = dequantized(&stored, &network);
            assert_eq!(by_runtime.len(), report.layers.len());
            let graph = ModelProto::decode(&*expanded).unwrap().graph.unwrap();
            for (name, expected) in by_runtime {
                let tensor = graph.initializer.iter().find(|t| t.name() == name).unwrap();
                let found: Vec<u32> = tensor.floats().unwrap().iter().map(|v| v.to_bits()).collect();
                assert!(expected == found, "{what}: {name}");
            }
            assert!(
                matches!(expand_bytes(&expanded).unwrap(), Cow::Borrowed(_)),
                "a second time changes nothing"
            );
            let found = answers(&expanded, &network, &pictures);
            // The runtime sums in another order where weights are constants.
            assert!(snr_db(&answers(&stored, &network, &pictures), &found) > 100.0, "{what}");
            let db = snr_db(&exact, &found);
            let apart = snr_db(&centred(&exact, 4), &centred(&found, 4));
            eprintln!("{what}: {} bytes, {db:.1} dB, between pictures {apart:.1} dB", stored.len());
            assert!(db > if storage == WeightStorage::Int8 { 20.0 } else { 3.0 }, "{what}: {db}");
        }
    }
}

/// An int8 form of the small network.
type Int8 = (Form, Vec<u8>, Option<FormInput>);

/// Both int8 forms of the small network by this quantiser, and its fp32 file. The first layer stays in fp32.
fn quantized() -> Option<(Vec<u8>, Vec<Int8>)> {
    let fp32 = small().build().encode_to_vec();
    let keep_fp32 = vec!["stem.Conv".to_owned()];
    let options = QuantizeOptions { range: RangeMethod::MinMax, keep_fp32, ..QuantizeOptions::default() };
    let quantized = quantize(runtime()?, &fp32, &input(), &pictures(8), &options, &mut |_| {}).unwrap();
    let forms = quantized.forms.into_iter().map(|form| (form.form, form.bytes, form.stem));
    Some((fp32, forms.collect()))
}

#[test]
fn an_int8_network_with_int4_weights() {
    let Some((fp32, forms)) = quantized() else { return };
    let (network, pictures) = (input(), pictures(6));
    let exact = answers(&fp32, &network, &pictures);
    for (form, int8, stem) in forms {
        let feed = stem.as_ref().map_or_else(|| network.clone(), |stem| network.with(stem));
        let (int4, report) = store_bytes(&int8, &StorageOptions::new(WeightStorage::Int4)).unwrap();
        let layers = |storage| report.layers.iter().filter(|l| l.storage == storage).count();
        assert!(layers(WeightStorage::Int4) > 45, "{report:?}");
        let expanded = expand_bytes(&int4).unwrap();
        // Only types are changed: all the nodes that make a fused int8 kernel are there.
        assert!(
            types(&int4).contains_key(&data_type::INT4) && !types(&expanded).contains_key(&data_type::INT4)
        );
        let nodes = |bytes: &[u8]| ModelProto::decode(bytes).unwrap().graph.unwrap().node;
        assert!(nodes(&int4) == nodes(&expanded));
        assert!(dequantized(&int4, &feed) == dequantized(&expanded, &feed), "the same values");
        assert!(
            matches!(expand_bytes(&expanded).unwrap(), Cow::Borrowed(_)),
            "a second time changes nothing"
        );
        assert!(matches!(expand_bytes(&int8).unwrap(), Cow::Borrowed(_)), "nothing to do");
        let float = |bytes: &[u8]| types(bytes)[&data_type::FLOAT];
        assert_eq!(float(&int4), float(&int8), "what was left in fp32 stays");
        let db = |bytes: &[u8]| {
            let found = answers(bytes, &feed, &pictures);
            (snr_db(&exact, &found), snr_db(&centred(&exact, 6), &centred(&found, 6)))
        };
        let (db8, db4) = (db(&int8), db(&expanded));
        let ratio = int4.len() as f64 / int8.len() as f64;
        eprintln!("{form}: int8 {} bytes, {:.1} dB, between pictures {:.1} dB", int8.len(), db8.0, db8.1);
        eprintln!("{form}: int4 {} bytes, {:.1} dB, between pictures {:.1} dB", int4.len(), db4.0, db4.1);
        assert!(ratio <= 0.6, "{form}: {ratio}");
        assert!(db8.0 > db4.0 && db4.0 > 3.0, "{form}: {db8:?} {db4:?}");
    }
}

/// The small network as exporters write one: pixels come in as they are, the graph casts, normalises and transposes.
fn of_raw_pixels() -> (Vec<u8>, InputSpec) {
    let mut model = small().build();
    let graph = model.graph.as_mut().unwrap();
    let mut front = vec![
        NodeProto::new("Cast", "cast", &["image"], &["real"]).with_int("to", i64::from(data_type::FLOAT)),
        NodeProto::new("Sub", "sub", &["real", "mean"], &["centred"]),
        NodeProto::new("Mul", "mul", &["centred", "gain"], &["scaled"]),
        NodeProto::new("Transpose", "planes", &["scaled"], &["input"]).with_ints("perm", &[0, 3, 1, 2]),
    ];
    front.append(&mut graph.node);
    graph.node = front;
    graph.initializer.push(TensorProto::from_floats("mean", &[3], &[128.0, 120.0, 112.0]));
    graph.initializer.push(TensorProto::from_floats("gain", &[], &[1.0 / 64.0]));
    let tensor = graph.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    tensor.elem_type = Some(data_type::UINT8);
    tensor.shape.as_mut().unwrap().dim[1..].rotate_left(1);
    graph.input[0].name = Some("image".to_owned());
    let text = "name = 'image'\nlayout = 'nhwc'\ntype = 'u8'\nwidth = 1\nheight = 1\ncolor = 'rgb'";
    let network = InputSpec { width: SIZE, height: SIZE, ..toml::from_str(text).unwrap() };
    (model.encode_to_vec(), network)
}

#[test]
fn int4_weights_and_a_quantised_stem_in_one_file() {
    let Some(runtime) = runtime() else { return };
    let ((fp32, network), pictures) = (of_raw_pixels(), pictures(8));
    let quantized = |stem: bool| {
        let (range, weights) = (RangeMethod::MinMax, WeightStorage::Int4);
        let options = QuantizeOptions { range, stem, weights, ..QuantizeOptions::default() };
        quantize(runtime, &fp32, &network, &pictures, &options, &mut |_| {}).unwrap().forms
    };
    let exact = answers(&fp32, &network, &pictures);
    for (cut, whole) in quantized(true).iter().zip(&quantized(false)) {
        let stem = cut.stem.as_ref().unwrap();
        assert_eq!((stem.mean, stem.std), ([128.0, 120.0, 112.0], [64.0; 3]), "{}", cut.form);
        let feed = network.with(stem);
        let graph = ModelProto::decode(cut.bytes.as_slice()).unwrap().graph.unwrap();
        let tensor = graph.input[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        let element = if cut.form == Form::S8s8 { data_type::INT8 } else { data_type::UINT8 };
        assert_eq!((graph.input.len(), tensor.elem_type), (1, Some(element)), "{}", cut.form);
        for op in ["Cast", "Sub", "Mul", "Transpose"] {
            assert_eq!((ops(&cut.bytes, op), ops(&whole.bytes, op)), (0, 1), "{} {op}", cut.form);
        }
        let quantizes = |bytes: &[u8]| ops(bytes, "QuantizeLinear");
        assert_eq!(quantizes(&cut.bytes) + 1, quantizes(&whole.bytes), "{}", cut.form);
        // The first layer, which reads the input, has its weights in int4 like the others.
        let wiring = Wiring::new(&graph);
        let first = graph.node.iter().find(|n| n.name() == "stem.Conv").unwrap();
        let read = |at: usize| &graph.node[wiring.writer[first.input[at].as_str()]].input[0];
        assert_eq!(*read(0), "image");
        assert_eq!(wiring.constants[read(1).as_str()].data_type(), data_type::INT4);
        let expanded = expand_bytes(&cut.bytes).unwrap();
        assert!(!types(&expanded).contains_key(&data_type::INT4));
        assert!(dequantized(&cut.bytes, &feed) == dequantized(&expanded, &feed), "the same values");
        let found = answers(&expanded, &feed, &pictures);
        let expanded = expand_bytes(&whole.bytes).unwrap();
        assert!(found == answers(&expanded, &network, &pictures), "{}: table and graph agree", cut.form);
        let db = snr_db(&exact, &found);
        eprintln!("{}: int4 and stem, {} bytes, {db:.1} dB", cut.form, cut.bytes.len());
        assert!(db > 3.0, "{}: {db}", cut.form);
    }
}

#[test]
fn a_bias_has_the_scale_of_its_products() {
    let Some((_, forms)) = quantized() else { return };
    for (form, int8, _) in forms {
        let (int4, _) = store_bytes(&int8, &StorageOptions::new(WeightStorage::Int4)).unwrap();
        let graph = ModelProto::decode(int4.as_slice()).unwrap().graph.unwrap();
        let wiring = Wiring::new(&graph);
        let source = |value: &str| &graph.node[wiring.writer[value]];
        let constant = |value: &str, at: usize| wiring.constants[source(value).input[at].as_str()];
        let mut seen = 0;
        for node in
            graph.node.iter().filter(|n| is_product(n) && wiring.writer.contains_key(n.input[1].as_str()))
        {
            if constant(&node.input[1], 0).data_type() != data_type::INT4 {
                continue;
            }
            let scales = |at: usize| constant(&node.input[at], 1).floats().unwrap();
            let (activation, weights, bias) = (scales(0)[0], scales(1), scales(2));
            let products: Vec<f32> = weights.iter().map(|w| w * activation).collect();
            assert_eq!(bias, products, "{form} {}", node.name());
            seen += 1;
        }
        assert!(seen > 45, "{seen}");
    }
}

fn named(name: &str) -> ValueInfoProto {
    let tensor_type = Some(TensorTypeProto { elem_type: Some(data_type::FLOAT), shape: None });
    let r#type = Some(TypeProto { tensor_type, ..TypeProto::default() });
    ValueInfoProto { name: Some(name.to_owned()), r#type, ..ValueInfoProto::default() }
}

/// A product of each kind with weights of its own, opset 17.
fn products() -> ModelProto {
    let noise =
        |count: usize| (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect::<Vec<_>>();
    let constant = |name: &str, dims: &[i64]| {
        TensorProto::from_floats(name, dims, &noise(dims.iter().product::<i64>() as usize))
    };
    let node =
        |op: &str, name: &str, inputs: &[&str]| NodeProto::new(op, name, inputs, &[&format!("{name}_out")]);
    let graph = GraphProto {
        node: vec![
            node("Conv", "conv", &["x", "w_conv"]),
            node("ConvTranspose", "up", &["x", "w_up"]),
            node("Gemm", "gemm", &["a", "w_gemm"]),
            node("Gemm", "gemm_t", &["a", "w_gemm_t"]).with_int("transB", 1),
            node("MatMul", "matmul", &["a", "w_matmul"]),
            node("Conv", "again", &["x", "w_conv"]),
            node("Conv", "few", &["x", "w_few"]),
            node("MatMul", "other", &["a", "w_other"]),
            node("Add", "add", &["b", "w_other"]),
        ],
        initializer: vec![
            constant("w_conv", &[8, 4, 3, 3]),
            constant("w_up", &[4, 8, 3, 3]),
            constant("w_gemm", &[20, 16]),
            constant("w_gemm_t", &[16, 20]),
            constant("w_matmul", &[20, 16]),
            constant("w_few", &[4, 4, 1, 1]),
            constant("w_other", &[20, 20]),
        ],
        input: ["x", "a", "b"].map(named).to_vec(),
        output: vec![named("few_out")],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(17) }];
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import, ..ModelProto::default() }
}

#[test]
fn each_product_has_scales_along_its_outputs() {
    let (stored, report) = store_weights(&products(), &options(WeightStorage::Int8, None)).unwrap();
    let layers: Vec<_> = report.layers.iter().map(|l| l.node.as_str()).collect();
    assert_eq!(
        layers,
        ["conv", "up", "gemm", "gemm_t", "matmul"],
        "neither few weights nor what Add reads too"
    );
    assert_eq!((stored.opset(), stored.ir_version()), (17, 8), "int8 needs nothing newer");
    let graph = stored.graph.unwrap();
    let wiring = Wiring::new(&graph);
    for (weights, axis, channels) in
        [("w_conv", 0, 8), ("w_up", 1, 8), ("w_gemm", 1, 16), ("w_gemm_t", 0, 16), ("w_matmul", 1, 16)]
    {
        let node = &graph.node[wiring.writer[weights]];
        assert_eq!(node.int("axis"), Some(axis), "{weights}");
        assert_eq!(wiring.constants[node.input[1].as_str()].dims, [channels], "{weights}");
    }
    assert_eq!(wiring.reader_count("w_conv"), 2, "shared weights are stored once");
    assert!(wiring.constants.contains_key("w_few") && wiring.constants.contains_key("w_other"));
    let (stored, _) = store_weights(&products(), &options(WeightStorage::Int4, Some(8))).unwrap();
    assert_eq!((stored.opset(), stored.ir_version()), (21, 10));
    let graph = stored.graph.unwrap();
    let wiring = Wiring::new(&graph);
    for (weights, axis, dims) in
        [("w_gemm", 0, vec![3, 16]), ("w_gemm_t", 1, vec![16, 3]), ("w_conv", 0, vec![8])]
    {
        let node = &graph.node[wiring.writer[weights]];
        assert_eq!((node.int("axis"), node.int("block_size")), (Some(axis), (dims.len() > 1).then_some(8)));
        assert_eq!(wiring.constants[node.input[1].as_str()].dims, dims, "{weights}");
    }
}

#[test]
fn weights_that_int4_cannot_hold_stay_int8() {
    let mut model = products();
    let graph = model.graph.as_mut().unwrap();
    // One giant in each channel, and the others half a step of its scale: zero or twice what they are.
    let spikes: Vec<f32> = (0..288).map(|i| if i % 36 == 0 { 1.0 } else { 0.07 }).collect();
    graph.initializer[0] = TensorProto::from_floats("w_conv", &[8, 4, 3, 3], &spikes);
    graph.initializer[1].raw_data.as_mut().unwrap()[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let (_, report) = store_weights(&model, &options(WeightStorage::Int4, None)).unwrap();
    let found: Vec<_> = report.layers.iter().map(|l| (l.node.as_str(), l.storage)).collect();
    let int4 = |node| (node, WeightStorage::Int4);
    assert_eq!(found, [("conv", WeightStorage::Int8), int4("gemm"), int4("gemm_t"), int4("matmul")]);
}

#[test]
fn what_cannot_be_stored_is_told() {
    let told =
        |bytes: &[u8]| store_bytes(bytes, &StorageOptions::new(WeightStorage::Int4)).unwrap_err().to_string();
    assert!(told(b"nonsense").contains("no ONNX file"));
    let mut model = products();
    model.opset_import[0].version = Some(12);
    assert!(told(&model.encode_to_vec()).contains("older than 13"));
    let mut model = products();
    let split = NodeProto::new("Split", "halves", &["x"], &["left", "right"]);
    model.graph.as_mut().unwrap().node.push(split);
    assert!(told(&model.encode_to_vec()).starts_with("Split `halves` means something else in opset 21"));
    let mut model = products();
    model.graph.as_mut().unwrap().node.retain(|node| node.name() == "few");
    assert!(told(&model.encode_to_vec()).starts_with("the model has no weights"));
    let int8 = store_bytes(&products().encode_to_vec(), &StorageOptions::new(WeightStorage::Int8)).unwrap().0;
    assert!(told(&int8).starts_with("the model has no weights"));
}

#[test]
fn what_is_not_ours_to_change_stays() {
    let (stored, _) = store_weights(&products(), &options(WeightStorage::Int4, None)).unwrap();
    let expanded = |change: &dyn Fn(&mut GraphProto)| {
        let mut model = stored.clone();
        change(model.graph.as_mut().unwrap());
        let bytes = model.encode_to_vec();
        matches!(expand_bytes(&bytes).unwrap(), Cow::Owned(_))
    };
    assert!(expanded(&|_| {}));
    // A subgraph may read the constants by name.
    assert!(!expanded(&|graph| graph.node[0].attribute[0].g = Some(Vec::new())));
    // Nothing is read wrongly: a constant that is too short is named, a foreign one left to the runtime.
    let mut model = stored.clone();
    model.graph.as_mut().unwrap().initializer[0].raw_data = Some(vec![0; 5]);
    let error = expand_bytes(&model.encode_to_vec()).unwrap_err().to_string();
    assert!(error.contains("constant `w_conv_quantized` should hold 288 values"), "{error}");
    assert!(matches!(expand_bytes(b"nonsense").unwrap(), Cow::Borrowed(b"nonsense")));
    let fp32 = products().encode_to_vec();
    assert!(matches!(expand_bytes(&fp32).unwrap(), Cow::Borrowed(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_bytes_make_it_panic(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), block in 1usize..40) {
        let options = options(WeightStorage::Int4, Some(block));
        let mut stored = store_bytes(&products().encode_to_vec(), &options).unwrap().0;
        for (at, byte) in places {
            let at = at.index(stored.len());
            stored[at] = byte;
        }
        let _ = expand_bytes(&stored);
        let _ = store_bytes(&stored, &options);
    }
}
