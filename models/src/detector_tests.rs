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
fn runtime() -> Option<&'static Runtime> {
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
fn data() -> Option<PathBuf> {
    let named = std::env::var_os("VEDETTE_DATA").map(PathBuf::from);
    let data = named.unwrap_or_else(|| root().join("../../shared/data"));
    if data.join("coco-mini").is_dir() {
        return Some(data);
    }
    eprintln!("skipped: no test data at {}; set VEDETTE_DATA", data.display());
    None
}

fn manifest(name: &str) -> Manifest {
    Manifest::load(&[root().join("manifests")], name).unwrap()
}

fn persons() -> DetectorOptions {
    DetectorOptions { classes: Some(vec![Class::new("person")]), ..DetectorOptions::default() }
}

#[test]
fn print_golden() {
    let Some(runtime) = runtime() else { return };
    for name in ["nanodet-g-416", "nanodet-g-320"] {
        let mut d = Detector::open(runtime, &manifest(name), &persons()).unwrap();
        eprintln!("{name} {:?}", d.check_golden());
        eprintln!("{}", serde_json::to_string(d.report()).unwrap());
    }
}

#[test]
fn print_ap() {
    let (Some(runtime), Some(data)) = (runtime(), data()) else { return };
    let set = CocoSet { images: data.join("coco-mini/unseen/images"), annotations: data.join("coco-mini/unseen/persons.json") };
    for name in ["nanodet-g-416", "nanodet-g-320"] {
        let mut d = Detector::open(runtime, &manifest(name), &persons()).unwrap();
        eprintln!("{:?}", evaluate(&mut d, std::slice::from_ref(&set), &mut |_, _| {}));
    }
}
