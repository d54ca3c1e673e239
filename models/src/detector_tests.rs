//! The whole way with the real library and files. Without them each prints why it is skipped.

use std::path::{Path, PathBuf};

use vedette_core::{BBox, Rotation};

use super::*;
use crate::evaluate::{CocoSet, evaluate, read_picture};
use crate::provider::Form;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// `VEDETTE_ONNXRUNTIME` (a folder or file), else the cache folder that `./dev` fills.
pub(crate) fn runtime() -> Option<&'static Runtime> {
    let place = std::env::var_os("VEDETTE_ONNXRUNTIME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?;
        Some(cache.join("vedette/onnxruntime"))
    })?;
    match Runtime::load(Some(&place), &[]) {
        Ok(runtime) => Some(runtime),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// The test data, or a reason on the screen.
pub(crate) fn data() -> Option<PathBuf> {
    let named = std::env::var_os("VEDETTE_DATA").map(PathBuf::from);
    let data = named.unwrap_or_else(|| root().join("../../shared/data"));
    if data.join("coco-mini").is_dir() {
        return Some(data);
    }
    eprintln!("skipped: no test data at {}; set VEDETTE_DATA", data.display());
    None
}

pub(crate) fn manifest(name: &str) -> Manifest {
    // The fp32 file lies with the test data, where there is any.
    let folders = [Some(root().join("manifests")), data().map(|data| data.join("models"))];
    Manifest::load(&folders.into_iter().flatten().collect::<Vec<_>>(), name).unwrap()
}

fn persons() -> DetectorOptions {
    DetectorOptions { classes: Some(vec![Class::new("person")]), ..DetectorOptions::default() }
}

#[test]
fn a_detector_can_be_given_to_a_thread() {
    fn sendable<T: Send>() {}
    sendable::<Detector>();
}

/// Person AP50 of a form on pictures the model has not seen.
fn person_ap50(name: &str, form: Form) -> Option<f64> {
    let (runtime, data) = (runtime()?, data()?);
    let manifest = manifest(name).only(form).unwrap();
    if !manifest.forms().any(|(f, file)| f == form && manifest.has(file)) {
        eprintln!("skipped: {name} {form}: no such file; set VEDETTE_DATA");
        return None;
    }
    let unseen = data.join("coco-mini/unseen");
    let set = CocoSet { images: unseen.join("images"), annotations: unseen.join("persons.json") };
    let mut detector = Detector::open(runtime, &manifest, &persons()).unwrap();
    let mut last = (0, 0);
    let found = evaluate(&mut detector, &[set], &mut |done, all| last = (done, all)).unwrap();
    assert_eq!((found.images, found.boxes, last, found.form), (62, 146, (62, 62), form));
    eprintln!("{name} {form}: person AP50 {:.3}, AP {:.3}", found.ap50, found.ap);
    let card = detector.network.manifest().card(form).unwrap().person_ap50.unwrap();
    assert!((card - found.ap50).abs() < 0.01, "the card says {card}");
    Some(found.ap50)
}

#[test]
fn int8_finds_the_persons_that_it_should() {
    if let Some(ap50) = person_ap50("nanodet-g-416", Form::U8s8) {
        assert!(ap50 >= 0.585, "{ap50}");
    }
}

#[test]
fn the_small_model_finds_what_its_card_says() {
    person_ap50("nanodet-g-320", Form::U8s8);
}

#[test]
fn fp32_finds_what_its_card_says() {
    person_ap50("nanodet-g-416", Form::Fp32);
}

#[test]
fn evaluation_sees_all_boxes_and_cameras_a_hundred() {
    let (Some(runtime), Some(data)) = (runtime(), data()) else { return };
    let mut detector =
        Detector::open(runtime, &manifest("nanodet-g-416"), &DetectorOptions::default()).unwrap();
    let mut most = 0;
    for entry in std::fs::read_dir(data.join("coco-mini/unseen/images")).unwrap().take(8) {
        let frame = read_picture(&entry.unwrap().path()).unwrap();
        most = most.max(detector.detect_all(&frame, 0.01).unwrap().len());
        assert!(detector.detect(&frame, View::WHOLE).unwrap().len() <= MOST_BOXES);
    }
    assert!(most > MOST_BOXES, "{most}");
}

/// Pairs of one class with an IoU of at least 0.5, strongest first.
fn matches(a: &[Detection], b: &[Detection]) -> usize {
    let mut free: Vec<_> = b.iter().collect();
    let mut pairs = 0;
    for one in a {
        let fits = |other: &&Detection| other.class == one.class && other.bbox.iou(&one.bbox) >= 0.5;
        if let Some(index) = free.iter().position(fits) {
            free.remove(index);
            pairs += 1;
        }
    }
    pairs
}

#[test]
fn int8_boxes_are_those_of_fp32() {
    let (Some(runtime), Some(data)) = (runtime(), data()) else { return };
    let fp32 = manifest("nanodet-g-416").only(Form::Fp32).unwrap();
    if !fp32.forms().any(|(form, file)| form == Form::Fp32 && fp32.has(file)) {
        eprintln!("skipped: the fp32 file is not there; set VEDETTE_DATA");
        return;
    }
    let options = DetectorOptions { min_score: 0.4, ..DetectorOptions::default() };
    let mut reference = Detector::open(runtime, &fp32, &options).unwrap();
    let mut detector = Detector::open(runtime, &manifest("nanodet-g-416"), &options).unwrap();
    let (mut both, mut all) = (0, 0);
    for entry in std::fs::read_dir(data.join("coco-mini/unseen/images")).unwrap() {
        let frame = read_picture(&entry.unwrap().path()).unwrap();
        let (a, b) =
            (detector.detect(&frame, View::WHOLE).unwrap(), reference.detect(&frame, View::WHOLE).unwrap());
        both += 2 * matches(&a, &b);
        all += a.len() + b.len();
    }
    let f1 = both as f64 / all as f64;
    eprintln!("int8 against fp32: F1 {f1:.3} over {all} boxes");
    assert!(all > 200 && f1 >= 0.90, "F1 {f1} over {all} boxes");
}

#[test]
fn the_golden_pairs_come_out_and_the_report_says_who_ran() {
    let Some(runtime) = runtime() else { return };
    for name in ["nanodet-g-416", "nanodet-g-320"] {
        let mut detector = Detector::open(runtime, &manifest(name), &persons()).unwrap();
        detector.check_golden().unwrap();
        let report = detector.report();
        assert_eq!((report.provider(), report.share(), report.form), ("cpu", 1.0, Form::U8s8));
        assert!(report.shares[0].nodes > 50, "{report:?}");
        assert_eq!(detector.sha256(), manifest(name).sha256());
    }
}

/// A turned picture shows its objects where the upright one does.
#[test]
fn turned_views_answer_in_coordinates_of_the_unturned_picture() {
    let (Some(runtime), Some(data)) = (runtime(), data()) else { return };
    let mut detector = Detector::open(runtime, &manifest("nanodet-g-416"), &persons()).unwrap();
    let picture = data.join("coco-mini/unseen/images");
    let mut compared = 0;
    for entry in std::fs::read_dir(picture).unwrap().take(12) {
        let frame = read_picture(&entry.unwrap().path()).unwrap();
        let upright = detector.detect(&frame, View::WHOLE).unwrap();
        let Some(best) = upright.first().filter(|d| d.score > 0.6) else { continue };
        // Seen alone, a little off its middle: the box must come back to the same place.
        let region = best.bbox.buffered(0.4).clipped();
        let alone = detector.detect(&frame, View { region, rotation: Rotation::None }).unwrap();
        let again = alone.iter().map(|d| d.bbox.iou(&best.bbox)).fold(0.0, f32::max);
        assert!(again > 0.6, "{:?}: {again}", best.bbox);
        for rotation in [Rotation::Half, Rotation::Clockwise90, Rotation::CounterClockwise90] {
            let turned = detector.detect(&frame, View { region: BBox::FULL, rotation }).unwrap();
            assert!(turned.is_sorted_by(|a, b| a.score >= b.score));
            compared += usize::from(turned.iter().any(|d| d.bbox.iou(&best.bbox) > 0.5));
        }
    }
    // Not every person is recognised upside down, but where one is, it lies where it stands.
    assert!(compared >= 3, "{compared}");
}

#[test]
fn a_class_that_the_model_lacks_is_named() {
    let Some(runtime) = runtime() else { return };
    let options =
        DetectorOptions { classes: Some(vec![Class::new("forklift")]), ..DetectorOptions::default() };
    let error = Detector::open(runtime, &manifest("nanodet-g-416"), &options).unwrap_err().to_string();
    assert!(
        error.starts_with("model `nanodet-g-416` knows no class `forklift`; it knows: person, bicycle"),
        "{error}"
    );
}

#[test]
fn an_absent_provider_falls_to_the_next_unless_strict() {
    let Some(runtime) = runtime() else { return };
    let providers =
        vec![Provider::TensorRt, Provider::Xnnpack, Provider::Cuda, Provider::OpenVino, Provider::Cpu];
    let options = DetectorOptions { providers: providers.clone(), ..persons() };
    let detector = Detector::open(runtime, &manifest("nanodet-g-416"), &options).unwrap();
    let report = detector.report();
    if report.provider() != "cpu" {
        eprintln!("skipped: this machine has {}", report.provider());
        return;
    }
    assert_eq!(report.requested, providers);
    let refused: Vec<_> =
        report.registrations.iter().filter(|r| r.refused.is_some()).map(|r| r.provider).collect();
    assert_eq!(refused, providers[..4]);
    let error =
        Detector::open(runtime, &manifest("nanodet-g-416"), &DetectorOptions { strict: true, ..options });
    let error = error.unwrap_err();
    assert!(matches!(error, ModelError::Provider { provider: Provider::TensorRt, .. }), "{error}");
}

/// The 416 manifest beside a file with these bytes, described truly.
fn with_file(bytes: &[u8], change: impl Fn(String) -> String) -> (tempfile::TempDir, Manifest) {
    use sha2::{Digest, Sha256};
    let folder = tempfile::tempdir().unwrap();
    let true_manifest = manifest("nanodet-g-416");
    let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = std::fs::read_to_string(true_manifest.path()).unwrap().replace(true_manifest.sha256(), &sum);
    std::fs::write(folder.path().join("mine.toml"), change(text)).unwrap();
    std::fs::write(folder.path().join("nanodet-g-416.u8s8.onnx"), bytes).unwrap();
    let loaded = Manifest::load(&[folder.path().to_owned()], "mine").unwrap();
    (folder, loaded)
}

#[test]
fn files_that_are_no_model_and_models_that_are_another_are_told_apart() {
    let Some(runtime) = runtime() else { return };
    let good = std::fs::read(root().join("weights/nanodet-g-416.u8s8.onnx")).unwrap();
    let small = std::fs::read(root().join("weights/nanodet-g-320.u8s8.onnx")).unwrap();
    struct Case<'a>(&'static str, &'a [u8], (&'static str, &'static str), &'static str);
    let same = ("", "");
    let cases = [
        Case(
            "corrupt",
            b"this is no model",
            same,
            "model `mine`: nanodet-g-416.u8s8.onnx: is no ONNX file, or a damaged one: byte ",
        ),
        Case("truncated", &good[..good.len() / 2], same, "a part that reaches beyond its message"),
        Case("empty", b"", same, "model `mine`: nanodet-g-416.u8s8.onnx: the model has no graph; is this"),
        Case(
            "another size",
            &small,
            same,
            "the input should be one tensor `image` of u8 [1, 3, 416, 416], is `image` of",
        ),
        Case(
            "fewer labels",
            &good,
            ("\"person\", ", ""),
            "output `scores` should be [1, N, 79], is [1, 3549, 80]",
        ),
        Case(
            "another output",
            &good,
            ("kind = \"nanodet\"", "kind = \"nanodet\"\nboxes = \"b\""),
            "output `b` should be",
        ),
    ];
    for Case(what, bytes, (from, to), message) in cases {
        let (_folder, manifest) =
            with_file(bytes, |text| if from.is_empty() { text } else { text.replacen(from, to, 1) });
        let error = Detector::open(runtime, &manifest, &DetectorOptions::default()).unwrap_err().to_string();
        assert!(error.contains(message), "{what}: {error}");
    }
}
