//! Small networks into folders with the real runtime; without it each test says why it is skipped.

use std::path::PathBuf;

use prost::Message;

use super::*;
use crate::manifest::Manifest;
use crate::network::{Network, NetworkOptions};
use crate::onnx::{
    DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

fn runtime() -> Option<&'static Runtime> {
    let place = std::env::var_os("VEDETTE_ONNXRUNTIME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?.join("vedette/onnxruntime"))
    })?;
    Runtime::load(Some(&place), &[]).inspect_err(|error| eprintln!("skipped: {error}")).ok()
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let open = |d: i64| (d < 0).then(|| "side".to_owned());
    let dim = |d: &i64| DimensionProto { dim_value: (*d >= 0).then_some(*d), dim_param: open(*d) };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: Some(1), shape });
    let r#type = Some(TypeProto { tensor_type, ..Default::default() });
    ValueInfoProto { name: Some(name.to_owned()), r#type, doc_string: None }
}

/// A pose network: 17 points, each the mean colour times a number of its own.
fn network(input: &[i64], points: i64) -> Vec<u8> {
    let gains: Vec<f32> = (0..points).map(|at| at as f32 / points as f32).collect();
    let graph = GraphProto {
        name: Some("small".to_owned()),
        node: vec![
            NodeProto::new("GlobalAveragePool", "pool", &["image"], &["colour"]),
            NodeProto::new("Transpose", "turn", &["colour"], &["row"]).with_ints("perm", &[0, 2, 3, 1]),
            NodeProto::new("Mul", "spread", &["row", "gains"], &["output_0"]),
        ],
        initializer: vec![TensorProto::from_floats("gains", &[1, 1, points, 1], &gains)],
        input: vec![value("image", input)],
        output: vec![value("output_0", &[1, 1, points, 3])],
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..Default::default() }
        .encode_to_vec()
}

#[test]
fn a_file_and_ten_lines_are_a_model() {
    let Some(runtime) = runtime() else { return };
    let (folder, bytes) = (tempfile::tempdir().unwrap(), network(&[1, 3, 48, 64], 2));
    std::fs::write(folder.path().join("mine.onnx"), &bytes).unwrap();
    let lines = [
        "labels = ['head', 'foot']".to_owned(),
        "family = { kind = 'movenet' }".to_owned(),
        "[input]".to_owned(),
        "layout = 'nchw'".to_owned(),
        "type = 'f32'".to_owned(),
        "width = 64".to_owned(),
        "height = 48".to_owned(),
        "color = 'rgb'".to_owned(),
        "[form.fp32]".to_owned(),
        format!("file = 'mine.onnx'\nsha256 = '{}'", sha256(&bytes)),
    ];
    std::fs::write(folder.path().join("mine.toml"), lines.join("\n")).unwrap();
    let manifest = Manifest::load(&[folder.path().to_owned()], "mine").unwrap();
    let mut network = Network::open(runtime, &manifest, &NetworkOptions::default()).unwrap();
    network.write(&[128; 64 * 48 * 3]);
    network.infer().unwrap();
    assert_eq!(network.sha256(), sha256(&bytes));
}

#[test]
fn an_import_opens_checks_itself_and_is_never_overwritten_silently() {
    let Some(runtime) = runtime() else { return };
    let bytes = network(&[1, 3, 48, 64], 17);
    let imported = import(runtime, "my pose.v2.onnx", &bytes, &ImportOptions::default()).unwrap();
    assert_eq!((imported.draft.name.as_str(), imported.draft.labels.len()), ("my-pose-v2", 17));
    assert!(imported.findings.iter().any(|line| line.contains("movenet")), "{:?}", imported.findings);
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("models");
    let files = [("my-pose-v2.onnx".to_owned(), bytes.clone())];
    let manifest = install(runtime, imported.draft.clone(), &files, &folder, false).unwrap();
    let mut network = Network::open(runtime, &manifest, &NetworkOptions::default()).unwrap();
    assert!(manifest.golden().is_some());
    network.check_golden().unwrap();
    let before = std::fs::read(folder.join("my-pose-v2.toml")).unwrap();
    let again = install(runtime, imported.draft.clone(), &files, &folder, false).unwrap_err().to_string();
    assert!(again.contains("is there already") && again.contains("--force"), "{again}");
    install(runtime, imported.draft, &files, &folder, true).unwrap();
    assert_eq!(std::fs::read(folder.join("my-pose-v2.toml")).unwrap(), before);
    // No stage is left behind.
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
}

#[test]
fn a_model_that_does_not_open_leaves_the_folder_empty() {
    let Some(runtime) = runtime() else { return };
    let bytes = network(&[1, 3, 48, 64], 17);
    let mut draft = import(runtime, "a.onnx", &bytes, &ImportOptions::default()).unwrap().draft;
    draft.input.width = 32;
    let folder = tempfile::tempdir().unwrap();
    let error = install(runtime, draft, &[("a.onnx".to_owned(), bytes)], folder.path(), false).unwrap_err();
    assert!(error.to_string().contains("the input should be"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_open_batch_is_one_picture() {
    let Some(runtime) = runtime() else { return };
    let mut model = ModelProto::decode(network(&[-1, 3, 48, 64], 17).as_slice()).unwrap();
    model.graph.as_mut().unwrap().output = vec![value("output_0", &[-1, 1, 17, 3])];
    let bytes = model.encode_to_vec();
    let imported = import(runtime, "batch.onnx", &bytes, &ImportOptions::default()).unwrap();
    assert!(imported.findings.iter().any(|line| line.contains("[-1, 1, 17, 3]")), "{:?}", imported.findings);
    // As it was, it would be anybody's features.
    assert_eq!(imported.draft.role, Role::Pose);
    let detector = [("output0".to_owned(), vec![-1, 84, 840])];
    let guess =
        family("a.onnx", &detector, InputSize { width: 224, height: 160 }, None, &mut vec![]).unwrap();
    assert_eq!((guess.table["kind"].as_str(), guess.labels), (Some("yolo"), 80));
    let (folder, files) = (tempfile::tempdir().unwrap(), [("batch.onnx".to_owned(), bytes)]);
    let manifest = install(runtime, imported.draft, &files, folder.path(), false).unwrap();
    let mut network = Network::open(runtime, &manifest, &NetworkOptions::default()).unwrap();
    network.check_golden().unwrap();
}

#[test]
fn a_mean_that_is_not_finite_is_left_out_of_the_golden_pair() {
    let Some(runtime) = runtime() else { return };
    let mut model = ModelProto::decode(network(&[1, 3, 48, 64], 2).as_slice()).unwrap();
    let gains = TensorProto::from_floats("gains", &[1, 1, 2, 1], &[1.0, f32::NEG_INFINITY]);
    model.graph.as_mut().unwrap().initializer = vec![gains];
    let bytes = model.encode_to_vec();
    let labels = Some(["head", "foot"].map(Class::new).to_vec());
    let options = ImportOptions { labels, ..Default::default() };
    let imported = import(runtime, "masked.onnx", &bytes, &options).unwrap();
    let (folder, files) = (tempfile::tempdir().unwrap(), [("masked.onnx".to_owned(), bytes)]);
    let manifest = install(runtime, imported.draft, &files, folder.path(), false).unwrap();
    assert!(manifest.golden().is_none(), "{:?}", manifest.golden());
    let mut network = Network::open(runtime, &manifest, &NetworkOptions::default()).unwrap();
    network.check_golden().unwrap();
}

#[test]
fn what_the_graph_leaves_open_is_asked_for() {
    let Some(runtime) = runtime() else { return };
    let bytes = network(&[1, 3, -1, -1], 17);
    let ask = |bytes: &[u8], options: &ImportOptions| import(runtime, "a.onnx", bytes, options);
    let error = ask(&bytes, &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("--size WIDTHxHEIGHT"), "{error}");
    let sized = ImportOptions { size: Some((64, 48)), ..Default::default() };
    let input = ask(&bytes, &sized).unwrap().draft.input;
    assert_eq!((input.width, input.height), (64, 48));
    let error =
        ask(&network(&[1, 3, 48, 64], 17), &ImportOptions { size: Some((64, 64)), ..Default::default() });
    assert!(error.unwrap_err().to_string().contains("not 64x64"));
    let error = ask(&network(&[1, 3, 48, 64], 5), &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("--labels FILE"), "{error}");
    let other = ImportOptions { family: Some("nanodet".to_owned()), ..Default::default() };
    let error = ask(&network(&[1, 3, 48, 64], 17), &other).unwrap_err().to_string();
    assert!(error.contains("output_0 [1, 1, 17, 3]") && error.contains("`nanodet` was asked for"), "{error}");
    let error = ask(b"no onnx", &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with("a.onnx: is no ONNX file"), "{error}");
    let named = ImportOptions { name: "../up".to_owned(), ..Default::default() };
    assert!(ask(&bytes, &named).unwrap_err().to_string().contains("cannot be a model's name"));
}

#[test]
fn a_file_beyond_the_limit_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.onnx");
    std::fs::File::create(&path).unwrap().set_len(check::MOST_BYTES + 1).unwrap();
    let error = read_model(&path).unwrap_err().to_string();
    assert!(error.ends_with("x.onnx: is larger than 256 MiB, the most that is read"), "{error}");
}
