//! A model into a folder: files and manifest together, tried before anybody can name them.
//!
//! Owns: staging, the trial, the golden pair, moving into place. Does not know: what is in the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ImportError;
use crate::manifest::{Draft, Golden, Manifest};
use crate::network::{Network, NetworkOptions};
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

/// Puts a model into `folder` (made where it is not there). Its files and manifest are first written into a folder
/// beside it, loaded from there, each form of `files` opened and run on the CPU provider, and what comes out written
/// down as the golden pair; only then are they moved, the manifest last. `files`: name and bytes of those to write;
/// the draft's other forms must be found where [`Manifest::load`] looks.
///
/// # Errors
/// Anything of that name that is there already and not to be replaced, a manifest that is none, a model that does not
/// open, shapes that are not the family's, a folder that cannot be written. The folder is then as before.
pub fn install(
    runtime: &'static Runtime,
    mut draft: Draft,
    files: &[(String, Vec<u8>)],
    folder: &Path,
    replace: bool,
) -> Result<Manifest, ImportError> {
    let manifest_file = format!("{}.toml", draft.name);
    let names = || files.iter().map(|(name, _)| name).chain([&manifest_file]);
    if let Some(there) = names().map(|name| folder.join(name)).find(|path| path.exists() && !replace) {
        return Err(ImportError::Exists(there.display().to_string()));
    }
    let stage = Stage::create(folder, &draft.name)?;
    for (name, bytes) in files {
        stage.write(name, bytes)?;
    }
    let fresh = |file: &str| files.iter().any(|(name, _)| name == file);
    let forms: Vec<Form> = draft.forms.iter().filter(|f| fresh(&f.file)).map(|f| f.form).collect();
    draft.golden = None;
    stage.write(&manifest_file, draft.to_toml()?.as_bytes())?;
    let manifest = stage.load(&draft.name, folder)?;
    let preferred = manifest.form(Provider::Cpu).map(|(form, _)| form);
    for form in forms {
        let mut network = Network::open(runtime, &manifest.clone().only(form)?, &NetworkOptions::default())?;
        let means: BTreeMap<_, _> = network.golden_means(MULTIPLIER)?.into_iter().collect();
        if Some(form) == preferred || draft.golden.is_none() {
            let tolerance = if form == Form::Fp32 { TOLERANCE.0 } else { TOLERANCE.1 };
            draft.golden = Some(Golden { multiplier: MULTIPLIER, form, means, tolerance });
        }
    }
    stage.write(&manifest_file, draft.to_toml()?.as_bytes())?;
    for name in names() {
        let (from, to) = (stage.0.join(name), folder.join(name));
        std::fs::rename(from, &to).map_err(|source| failed(&to, source))?;
    }
    Ok(Manifest::load(&[folder.to_owned()], &draft.name)?)
}

/// A folder inside the target, so that moving is one step; gone when dropped.
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

    fn load(&self, name: &str, beside: &Path) -> Result<Manifest, ImportError> {
        Ok(Manifest::load(&[self.0.clone(), beside.to_owned()], name)?)
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
