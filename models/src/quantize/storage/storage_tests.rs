//! Stored networks beside the ones they are made from, with the real runtime where there is one; without it each says
//! why it is skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::onnx::data_type;
use crate::provider::Form;
use crate::quantize::runner::{Feed, Noise, run};
use crate::quantize::{InputElement, InputLayout, NetworkInput, QuantizeOptions, RangeMethod, quantize};
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

fn input() -> NetworkInput {
    let (mean, std) = (Some([128.0; 3]), Some([64.0; 3]));
    let (layout, element) = (InputLayout::Nchw, InputElement::F32);
    NetworkInput { name: "input".to_owned(), layout, element, mean, std, width: SIZE, height: SIZE }
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

fn answers(bytes: &[u8], feed: Feed<'_>, pictures: &[Vec<u8>]) -> Vec<f32> {
    let model = ModelProto::decode(bytes).unwrap();
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    let mut answers = Vec::new();
    run(runtime().unwrap(), &model, feed, &pictures, |_, _, values| answers.extend_from_slice(values))
        .unwrap();
    answers
}

fn snr_db(expected: &[f32], found: &[f32]) -> f64 {
    let mut noise = Noise::default();
    noise.add(expected, found);
    noise.db()
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
    let (int4, report) = store_bytes(&original, &options(WeightStorage::Int4, None)).unwrap();
    assert!(report.layers.iter().all(|l| l.snr_db >= LEAST_SNR_DB), "{report:?}");
    assert!(report.layers.len() == large, "{}", report.layers.len());
    assert_eq!(ops(&int4, "DequantizeLinear"), report.layers.len());
    let ratio = int4.len() as f64 / int8.len() as f64;
    eprintln!("weight-only: fp32 {}, int8 {}, int4 {}: {ratio:.3}", original.len(), int8.len(), int4.len());
    assert!(ratio <= 0.6, "{ratio}");
    assert!(int8.len() as f64 <= 0.3 * original.len() as f64);
}

#[test]
fn what_is_expanded_gives_what_the_runtime_makes_of_the_file() {
    let Some(_) = runtime() else { return };
    let (network, pictures) = (input(), pictures(4));
    for activation in [Activation::Relu6, Activation::Relu, Activation::LeakyRelu, Activation::Silu] {
        let original = MobileNetV2 { activation, batch_norm: false, ..small() }.build().encode_to_vec();
        let exact = answers(&original, Feed::Network(&network), &pictures);
        for (storage, block, least) in [
            (WeightStorage::Int8, None, 20.0),
            (WeightStorage::Int4, None, 3.0),
            (WeightStorage::Int4, Some(64), 3.0),
        ] {
            let (stored, _) = store_bytes(&original, &options(storage, block)).unwrap();
            let expanded = expand_bytes(&stored).unwrap();
            assert_eq!(ops(&expanded, "DequantizeLinear"), 0);
            assert_eq!(types(&expanded), types(&original));
            let found = answers(&expanded, Feed::Network(&network), &pictures);
            // The same weights; kernels for constant ones add in another order.
            let same = snr_db(&answers(&stored, Feed::Network(&network), &pictures), &found);
            assert!(same > 100.0, "{storage:?} {block:?}: {same} dB");
            let db = snr_db(&exact, &found);
            let apart = snr_db(&centred(&exact, 4), &centred(&found, 4));
            eprintln!(
                "{activation:?} {storage:?} block {block:?}: {} bytes, {db:.1} dB, between pictures {apart:.1} dB",
                stored.len()
            );
            assert!(db > least, "{activation:?} {storage:?} {block:?}: {db}");
            assert!(
                matches!(expand_bytes(&expanded).unwrap(), Cow::Borrowed(_)),
                "a second time changes nothing"
            );
        }
    }
}

/// Both int8 forms of the small network by this quantiser, and its fp32 file.
#[expect(clippy::type_complexity, reason = "taken apart where it is called")]
fn quantized() -> Option<(Vec<u8>, Vec<(Form, Vec<u8>, Option<crate::quantize::StemInput>)>)> {
    let fp32 = small().build().encode_to_vec();
    let options = QuantizeOptions { range: RangeMethod::MinMax, ..QuantizeOptions::default() };
    let quantized = quantize(runtime()?, &fp32, &input(), &pictures(8), &options, &mut |_| {}).unwrap();
    for f in &quantized.forms {
        eprintln!(
            "ZZ {} {:?}",
            f.form,
            f.layers
                .iter()
                .map(|l| format!("{} {:.1}", l.node, l.snr_db.unwrap_or(-9.0)))
                .collect::<Vec<_>>()
        );
    }
    let forms = quantized.forms.into_iter().map(|form| (form.form, form.bytes, form.stem));
    Some((fp32, forms.collect()))
}

#[test]
fn an_int8_network_with_int4_weights() {
    let Some((fp32, forms)) = quantized() else { return };
    let (network, pictures) = (input(), pictures(6));
    let exact = answers(&fp32, Feed::Network(&network), &pictures);
    for (form, int8, stem) in forms {
        let feed = stem.as_ref().map_or(Feed::Network(&network), |stem| Feed::Stem(stem, &network));
        let (int4, report) = store_bytes(&int8, &StorageOptions::new(WeightStorage::Int4)).unwrap();
        assert!(report.layers.iter().filter(|l| l.storage == WeightStorage::Int4).count() > 45, "{report:?}");
        let expanded = expand_bytes(&int4).unwrap();
        assert!(!types(&expanded).contains_key(&data_type::INT4));
        assert_eq!(ops(&expanded, "DequantizeLinear"), ops(&int8, "DequantizeLinear"));
        assert!(matches!(expand_bytes(&expanded).unwrap(), Cow::Borrowed(_)));
        assert!(matches!(expand_bytes(&int8).unwrap(), Cow::Borrowed(_)), "nothing to do");
        let found = answers(&expanded, feed, &pictures);
        let stored = answers(&int4, feed, &pictures);
        let eight = answers(&int8, feed, &pictures);
        let db = |found: &[f32]| (snr_db(&exact, found), snr_db(&centred(&exact, 6), &centred(found, 6)));
        let (db8, db4) = (db(&eight), db(&found));
        let ratio = int4.len() as f64 / int8.len() as f64;
        eprintln!(
            "{form}: int8 {} bytes {:.1} dB ({:.1} between pictures), int4 {} bytes {:.1} dB ({:.1}): {ratio:.3}; \
             expanded against not: {:.1} dB",
            int8.len(),
            db8.0,
            db8.1,
            int4.len(),
            db4.0,
            db4.1,
            snr_db(&stored, &found),
        );
        assert!(ratio <= 0.6, "{form}: {ratio}");
    }
}
