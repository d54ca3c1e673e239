//! A model into a folder: files and manifest together, tried before anybody can name them.
//!
//! Owns: staging, the trial, the golden pair, moving into place. Does not know: what is in the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ImportError;
use crate::manifest::{Draft, Golden, Manifest};
use crate::network::{Network, NetworkOptions, OutputMean};
use crate::provider::{Form, Provider};
use crate::runtime::Runtime;

/// Makes bytes that look like noise: 2^32 divided by the golden ratio.
const MULTIPLIER: u32 = 2_654_435_761;
/// How far means of an fp32 file may be off on another machine, and of an int8 one, whose roundings differ more.
const TOLERANCE: (f64, f64) = (0.02, 0.15);

/// SHA-256, lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A model that was tried and is not yet in its place: its files lie in a folder inside the target, which goes with
/// this value.
#[derive(Debug)]
pub struct Staged {
    stage: Stage,
    folder: PathBuf,
    files: Vec<String>,
    manifest: Manifest,
    means: BTreeMap<Form, Vec<OutputMean>>,
}

impl Staged {
    /// Writes files (name and bytes) and manifest into a folder of their own inside `folder` (made where it is not
    /// there), loads them from there, opens each form of theirs and runs it once on the CPU provider.
    ///
    /// # Errors
    /// A manifest that is none, a model that does not open, shapes that are not the family's, a folder that cannot be
    /// written.
    pub fn new(
        runtime: &'static Runtime,
        draft: &Draft,
        files: &[(String, Vec<u8>)],
        folder: &Path,
    ) -> Result<Self, ImportError> {
        let stage = Stage::create(folder, &draft.name)?;
        for (name, bytes) in files {
            stage.write(name, bytes)?;
        }
        let untried = Draft { golden: None, ..draft.clone() };
        stage.write(&manifest_file(draft), untried.to_toml()?.as_bytes())?;
        let manifest = Manifest::load(&[stage.0.clone(), folder.to_owned()], &draft.name)?;
        let mut means = BTreeMap::new();
        for form in &draft.forms {
            if !files.iter().any(|(name, _)| *name == form.file) {
                continue;
            }
            let only = manifest.clone().only(form.form)?;
            let mut network = Network::open(runtime, &only, &NetworkOptions::default())?;
            means.insert(form.form, network.golden_means(MULTIPLIER)?);
        }
        let files = files.iter().map(|(name, _)| name.clone()).collect();
        Ok(Self { stage, folder: folder.to_owned(), files, manifest, means })
    }

    /// The model where it lies now.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Moves it into its place, the manifest last. `draft` is that of [`Staged::new`] with what was measured since, or
    /// without some of the forms, whose files are then left out. The golden pair is of the form that the CPU provider
    /// prefers.
    ///
    /// # Errors
    /// Anything of that name that is there already and not to be replaced; a folder that cannot be written.
    pub fn commit(self, mut draft: Draft, replace: bool) -> Result<Manifest, ImportError> {
        let listed = |file: &String| draft.forms.iter().any(|form| form.file == *file);
        let last = manifest_file(&draft);
        let names: Vec<&String> = self.files.iter().filter(|file| listed(file)).chain([&last]).collect();
        if let Some(there) = names.iter().map(|name| self.folder.join(name)).find(|p| p.exists() && !replace)
        {
            return Err(ImportError::Exists(there.display().to_string()));
        }
        let tried =
            |form: &Form| draft.forms.iter().any(|f| f.form == *form) && self.means.contains_key(form);
        let form = Provider::Cpu.forms().iter().chain(&Form::ALL).find(|form| tried(form));
        draft.golden = form.and_then(|form| golden(*form, self.means.get(form)?));
        self.stage.write(&last, draft.to_toml()?.as_bytes())?;
        for name in names {
            let (from, to) = (self.stage.0.join(name), self.folder.join(name));
            std::fs::rename(from, &to).map_err(|source| failed(&to, source))?;
        }
        Ok(Manifest::load(std::slice::from_ref(&self.folder), &draft.name)?)
    }
}

/// [`Staged::new`] and [`Staged::commit`] in one; the folder is as before where either fails.
///
/// # Errors
/// As both.
pub fn install(
    runtime: &'static Runtime,
    draft: Draft,
    files: &[(String, Vec<u8>)],
    folder: &Path,
    replace: bool,
) -> Result<Manifest, ImportError> {
    Staged::new(runtime, &draft, files, folder)?.commit(draft, replace)
}

/// None where no output has a finite mean.
fn golden(form: Form, outputs: &[OutputMean]) -> Option<Golden> {
    let tolerance = if form == Form::Fp32 { TOLERANCE.0 } else { TOLERANCE.1 };
    let (means, magnitudes) = (BTreeMap::new(), BTreeMap::new());
    let mut golden = Golden { multiplier: MULTIPLIER, form, means, magnitudes, tolerance };
    golden.set_means(outputs);
    (!golden.means.is_empty()).then_some(golden)
}

fn manifest_file(draft: &Draft) -> String {
    format!("{}.toml", draft.name)
}

/// A folder inside the target, so that moving is one step; gone when dropped.
#[derive(Debug)]
struct Stage(PathBuf);

impl Stage {
    fn create(folder: &Path, name: &str) -> Result<Self, ImportError> {
        let path = folder.join(format!(".{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|source| failed(&path, source))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ImportError> {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).map_err(|source| failed(&path, source))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is left is only rubbish of ours.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn failed(path: &Path, source: std::io::Error) -> ImportError {
    ImportError::Write { path: path.display().to_string(), source }
}
