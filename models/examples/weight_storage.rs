//! What stored weights cost in accuracy and save in bytes: `cargo run -p vedette-models --example weight_storage -- MODEL
//! IMAGES_DIR:ANNOTATIONS.json FOLDER...` stores the weights of the fp32 and U8S8 files of a detector in each way and
//! evaluates each file on the set. FOLDER...: those with manifests and model files. The library is found as the tests
//! find it (`VEDETTE_ONNXRUNTIME`).
#![expect(clippy::print_stdout, reason = "prints its measurement")]

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use vedette_core::Class;
use vedette_models::quantize::storage::{StorageOptions, WeightStorage, expand_bytes, store_bytes};
use vedette_models::{CocoSet, Detector, DetectorOptions, Form, Manifest, Runtime, evaluate};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [model, set, folders @ ..] = words.as_slice() else {
        return Err("usage: weight_storage MODEL IMAGES_DIR:ANNOTATIONS.json FOLDER...".into());
    };
    let library = std::env::var_os("VEDETTE_ONNXRUNTIME").map(PathBuf::from);
    let runtime = Runtime::load(library.as_deref(), &[])?;
    let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    let manifest = Manifest::load(&folders, model)?;
    let bench = Bench { runtime, manifest, folders, set: set.parse()? };
    println!("| form | weights | bytes | of the form's own | weights, dB (worst layer) | person AP50 |");
    println!("|---|---|---|---|---|---|");
    let int8 = StorageOptions::new(WeightStorage::Int8);
    let int4 = StorageOptions::new(WeightStorage::Int4);
    let channels = StorageOptions { block: None, ..int4.clone() };
    let ways = [("int8", &int8), ("int4, a scale a channel", &channels), ("int4", &int4)];
    let fp32 = bench.read(Form::Fp32)?;
    bench.row(Form::Fp32, "fp32", &fp32, &fp32, "")?;
    for (name, options) in ways {
        bench.stored(Form::Fp32, name, &fp32, options)?;
    }
    let u8s8 = bench.read(Form::U8s8)?;
    bench.row(Form::U8s8, "int8", &u8s8, &u8s8, "")?;
    bench.stored(Form::U8s8, "int4", &u8s8, &int4)
}

struct Bench {
    runtime: &'static Runtime,
    manifest: Manifest,
    folders: Vec<PathBuf>,
    set: CocoSet,
}

impl Bench {
    fn read(&self, form: Form) -> Result<Vec<u8>, Failure> {
        let file =
            self.manifest.forms().find(|(f, _)| *f == form).ok_or("the manifest lists no such form")?.1;
        let found = self.folders.iter().map(|folder| folder.join(&file.file)).find(|path| path.is_file());
        Ok(std::fs::read(found.ok_or_else(|| format!("no {} in the folders", file.file))?)?)
    }

    fn stored(&self, form: Form, name: &str, bytes: &[u8], options: &StorageOptions) -> Result<(), Failure> {
        let (stored, report) = store_bytes(bytes, options)?;
        let count: usize = report.layers.iter().map(|l| l.count).sum();
        let noise = report.layers.iter().map(|l| l.count as f64 * 10f64.powf(-l.snr_db / 10.0)).sum::<f64>();
        let worst = report.layers.iter().map(|l| l.snr_db).fold(f64::INFINITY, f64::min);
        let mixed = report.layers.iter().filter(|l| l.storage != options.storage).count();
        let mean = -10.0 * (noise / count as f64).log10();
        let stayed = if mixed == 0 { String::new() } else { format!(", {mixed} layers int8") };
        self.row(form, name, bytes, &stored, &format!("{mean:.1} ({worst:.1}){stayed}"))
    }

    fn row(&self, form: Form, name: &str, before: &[u8], stored: &[u8], snr: &str) -> Result<(), Failure> {
        let ap50 = self.person_ap50(form, &expand_bytes(stored)?)?;
        let share = stored.len() as f64 / before.len() as f64;
        println!("| {form} | {name} | {} | {share:.3} | {snr} | {ap50:.3} |", stored.len());
        Ok(())
    }

    /// Of these bytes in the place of the form's file.
    fn person_ap50(&self, form: Form, bytes: &[u8]) -> Result<f64, Failure> {
        let folder = tempfile::tempdir()?;
        let path = describe(&self.manifest, form, bytes, folder.path())?;
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let manifest = Manifest::load(&[folder.path().to_owned()], name)?.only(form)?;
        let classes = Some(vec![Class::new("person")]);
        let options = DetectorOptions { classes, ..DetectorOptions::default() };
        let mut detector = Detector::open(self.runtime, &manifest, &options)?;
        Ok(evaluate(&mut detector, std::slice::from_ref(&self.set), &mut |_, _| {})?.ap50)
    }
}

/// The manifest with these bytes as the form's file, both in `folder`.
fn describe(manifest: &Manifest, form: Form, bytes: &[u8], folder: &Path) -> Result<PathBuf, Failure> {
    let mut table: toml::Table = std::fs::read_to_string(manifest.path())?.parse()?;
    // The golden pair is that of the file that ships.
    table.remove("golden");
    let part = table.get_mut("form").and_then(|forms| forms.get_mut(form.name()));
    let part = part.and_then(toml::Value::as_table_mut).ok_or("the manifest lists no such form")?;
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    part.insert("file".to_owned(), "stored.onnx".into());
    part.insert("sha256".to_owned(), hash.into());
    std::fs::write(folder.join("stored.onnx"), bytes)?;
    let path = folder.join(format!("{}.toml", manifest.name()));
    std::fs::write(&path, toml::to_string(&table)?)?;
    Ok(path)
}
