//! One model, as `manifests/NAME.toml` describes it. The only file that opens those folders.
//!
//! Owns: the format of manifests, finding model files and refusing changed ones. Does not know: sessions, frames.

mod input;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vedette_core::{Class, Role};

pub use self::input::{ColorOrder, Element, Fit, FormInput, InputSpec, Layout, Tables};
pub use self::write::{Draft, DraftForm};
use crate::families::{self, Family};
use crate::onnx::check::{self, OnnxError};
use crate::provider::{Form, Provider};

/// A model's description. Cheap enough to clone.
#[derive(Clone, Debug)]
pub struct Manifest {
    name: String,
    path: PathBuf,
    folders: Vec<PathBuf>,
    text: Text,
    family: Arc<dyn Family>,
    table: toml::Table,
    only: Option<Form>,
}

/// A model file of one form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormFile {
    /// File name; looked for beside the manifest, in `weights/` beside or above it, in the folders given to
    /// [`Manifest::load`] and their `weights/`, and in `$VEDETTE_DATA/models`.
    pub file: String,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// How it was made: method, operators, calibration frames.
    #[serde(default)]
    pub made: String,
    /// Where it takes something else than `[input]` says: a quantised stem.
    pub input: Option<FormInput>,
}

/// Where a model comes from.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Package and version.
    pub package: String,
    /// The package's licence.
    pub package_licence: String,
    /// The package's files that were used, with the checksums known (a leading part where no more is recorded).
    pub files: BTreeMap<String, String>,
    /// The project that trained it.
    pub project: String,
    /// That project's licence.
    pub project_licence: String,
    /// What was changed on the way here.
    pub changes: String,
}

/// Measured facts of one form of a model, on a named set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// What the accuracy was measured on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub set: String,
    /// Of a detector: person AP at IoU 0.5, 101 points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person_ap50: Option<f64>,
    /// Of a pose network: mean object key point similarity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_oks: Option<f64>,
    /// Signal to quantisation noise of its outputs against fp32, in dB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr_db: Option<f64>,
    /// Who ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// CPU milliseconds (user and system) of one inference on one thread of the machine named in `models/README.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<f64>,
    /// Joules of one inference, where the machine could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
}

/// One input and what must come out of it: tells a broken runtime or file from a working one, on any machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Byte i of the letterboxed picture is the top byte of the 32-bit product i * `multiplier`.
    pub multiplier: u32,
    /// Which form was measured.
    pub form: Form,
    /// Outputs by name: the mean of all values. One that is not finite is not compared.
    pub means: BTreeMap<String, f64>,
    /// The same outputs: the mean of the values' magnitudes; default none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub magnitudes: BTreeMap<String, f64>,
    /// How far both may be off, as a share of the magnitude, without one of the mean, at least of 0.001: kernels of
    /// other CPUs round differently.
    pub tolerance: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    about: String,
    role: Option<Role>,
    #[serde(default)]
    licence: String,
    #[serde(default)]
    labels: Vec<Class>,
    family: toml::Table,
    input: InputSpec,
    form: BTreeMap<Form, FormFile>,
    upstream: Option<Upstream>,
    #[serde(default)]
    card: BTreeMap<Form, Card>,
    golden: Option<Golden>,
}

/// Why a manifest or its model file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No manifest has this name.
    #[error("no model `{name}`; there are: {known} (looked in {folders})")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: String,
        /// Where manifests were looked for.
        folders: String,
    },
    /// A manifest that does not say what it must.
    #[error("{path}: {reason}", path = .path.display())]
    Invalid {
        /// The manifest.
        path: PathBuf,
        /// Key and reason, or line and reason.
        reason: String,
    },
    /// A file that cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A model file that cannot be read, or is larger than any that is.
    #[error(transparent)]
    File(#[from] OnnxError),
    /// A form the manifest does not list.
    #[error("model `{name}` has no form {form}; there are: {known}")]
    NoForm {
        /// The model.
        name: String,
        /// The form asked for.
        form: Form,
        /// Those there are.
        known: String,
    },
    /// A model file that is nowhere.
    #[error("model `{name}`: {file} is missing (looked in {folders}); fetch it again, or name another model")]
    Missing {
        /// The model.
        name: String,
        /// The file.
        file: String,
        /// Where it was looked for.
        folders: String,
    },
    /// A model file that is not the one described.
    #[error(
        "{path} is not the file that the manifest of `{name}` describes: expected SHA-256 {expected}, found {found}; \
         fetch it again"
    )]
    Checksum {
        /// The model.
        name: String,
        /// The file.
        path: PathBuf,
        /// By the manifest.
        expected: String,
        /// Of the file.
        found: String,
    },
}

impl Manifest {
    /// Reads the manifest `name` from the first of `folders` that has it (or whose `manifests/` has it). Model files
    /// are opened by [`crate::Detector::open`], not here.
    pub fn load(folders: &[PathBuf], name: &str) -> Result<Self, ManifestError> {
        let listed = Self::list(folders);
        let found = listed.iter().find(|(n, _)| n == name);
        let (_, path) = found.ok_or_else(|| ManifestError::Unknown {
            name: name.to_owned(),
            known: listed.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", "),
            folders: display(folders),
        })?;
        Self::read(path, folders)
    }

    /// The names there are, sorted, each with its file; of two with one name the earlier folder's.
    pub fn list(folders: &[PathBuf]) -> Vec<(String, PathBuf)> {
        let mut found = BTreeMap::new();
        for folder in folders.iter().flat_map(|f| [f.clone(), f.join("manifests")]) {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                if path.extension().is_some_and(|e| e == "toml")
                    && let Some(stem) = path.file_stem().and_then(|s| s.to_str())
                {
                    found.entry(stem.to_owned()).or_insert(path);
                }
            }
        }
        found.into_iter().collect()
    }

    fn read(path: &Path, more: &[PathBuf]) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path, more)
    }

    /// A manifest out of its text. `path`: where it stands, which names the model; files are looked for beside it and
    /// in the folders `more`.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with the place in the text.
    pub fn parse(text: &str, path: &Path, more: &[PathBuf]) -> Result<Self, ManifestError> {
        let invalid = |reason: String| ManifestError::Invalid { path: path.to_owned(), reason };
        // `toml` ends its messages with a newline.
        let mut text: Text = toml::from_str(text).map_err(|e| invalid(e.to_string().trim().to_owned()))?;
        let table = std::mem::take(&mut text.family);
        let family = families::build(table.clone()).map_err(|e| invalid(e.to_string()))?;
        text.check(&*family).map_err(invalid)?;
        let parent = path.parent().unwrap_or(Path::new("."));
        let mut folders = vec![parent.to_owned(), parent.join("weights")];
        folders.extend(parent.parent().map(|above| above.join("weights")));
        folders.extend(more.iter().flat_map(|folder| [folder.clone(), folder.join("weights")]));
        folders.extend(std::env::var_os("VEDETTE_DATA").map(|data| PathBuf::from(data).join("models")));
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, path: path.to_owned(), folders, text, family: family.into(), table, only: None })
    }

    /// The name in the configuration: the manifest's file stem.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The manifest's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One line for people.
    pub fn about(&self) -> &str {
        &self.text.about
    }

    /// What the model is used for.
    pub fn role(&self) -> Role {
        self.text.role.unwrap_or_else(|| self.family.role())
    }

    /// SPDX expression of the model's licence.
    pub fn licence(&self) -> &str {
        &self.text.licence
    }

    /// Class labels in the order of the network's outputs.
    pub fn labels(&self) -> &[Class] {
        &self.text.labels
    }

    /// What the network takes, unless a form says otherwise.
    pub fn input(&self) -> &InputSpec {
        &self.text.input
    }

    /// What the network takes in this form.
    pub fn input_of(&self, form: Form) -> InputSpec {
        let other = self.text.form.get(&form).and_then(|file| file.input.as_ref());
        other.map_or_else(|| self.text.input.clone(), |other| self.text.input.with(other))
    }

    /// Where it comes from; a user's own model need not say.
    pub fn upstream(&self) -> Option<&Upstream> {
        self.text.upstream.as_ref()
    }

    /// Measured facts of a form.
    pub fn card(&self, form: Form) -> Option<&Card> {
        self.text.card.get(&form)
    }

    /// The golden pair; a user's own model need not have one.
    pub fn golden(&self) -> Option<&Golden> {
        self.text.golden.as_ref()
    }

    /// The forms that the manifest lists; their files need not be there.
    pub fn forms(&self) -> impl Iterator<Item = (Form, &FormFile)> {
        self.text.form.iter().map(|(form, file)| (*form, file))
    }

    /// SHA-256 of the file that the CPU provider runs, lower-case hex; what ran is [`crate::Detector::sha256`].
    pub fn sha256(&self) -> &str {
        self.form(Provider::Cpu).map_or("", |(_, file)| file.sha256.as_str())
    }

    /// The form that `provider` runs best of those whose file is there; else of those listed. None: it would be slow
    /// in every one of them.
    pub fn form(&self, provider: Provider) -> Option<(Form, &FormFile)> {
        if let Some(form) = self.only {
            return self.text.form.get(&form).map(|file| (form, file));
        }
        let listed = || provider.forms().iter().filter_map(|form| Some((*form, self.text.form.get(form)?)));
        listed().find(|(_, file)| self.find(&file.file).is_some()).or_else(|| listed().next())
    }

    /// The form that `provider` would run if every listed file were there.
    pub(crate) fn best_listed(&self, provider: Provider) -> Option<Form> {
        let listed = |form: &Form| self.text.form.contains_key(form);
        self.only.or_else(|| provider.forms().iter().copied().find(listed))
    }

    /// The same model with this form alone, which every provider then runs whether it is fast in it or not: for
    /// comparing forms.
    pub fn only(mut self, form: Form) -> Result<Self, ManifestError> {
        if !self.text.form.contains_key(&form) {
            let known = self.forms().map(|(f, _)| f.name()).collect::<Vec<_>>().join(", ");
            return Err(ManifestError::NoForm { name: self.name, form, known });
        }
        self.only = Some(form);
        Ok(self)
    }

    pub(crate) fn family(&self) -> &dyn Family {
        &*self.family
    }

    /// Reads a form's file and compares its checksum.
    pub(crate) fn bytes(&self, file: &FormFile) -> Result<Vec<u8>, ManifestError> {
        let path = self.find(&file.file).ok_or_else(|| ManifestError::Missing {
            name: self.name.clone(),
            file: file.file.clone(),
            folders: display(&self.folders),
        })?;
        let bytes = check::bytes(&path)?;
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if found != file.sha256 {
            let (name, expected) = (self.name.clone(), file.sha256.clone());
            return Err(ManifestError::Checksum { name, path, expected, found });
        }
        Ok(bytes)
    }

    /// Whether a form's file is there.
    pub fn has(&self, file: &FormFile) -> bool {
        self.find(&file.file).is_some()
    }

    /// A form's file, checked against its checksum.
    ///
    /// # Errors
    /// A form that is not listed, a file that is nowhere or another one.
    pub fn read_form(&self, form: Form) -> Result<Vec<u8>, ManifestError> {
        let file = self.text.form.get(&form).ok_or_else(|| {
            let known = self.forms().map(|(f, _)| f.name()).collect::<Vec<_>>().join(", ");
            ManifestError::NoForm { name: self.name.clone(), form, known }
        })?;
        self.bytes(file)
    }

    fn find(&self, file: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(file)).find(|path| path.is_file())
    }
}

impl Text {
    /// What types cannot say.
    fn check(&self, family: &dyn Family) -> Result<(), String> {
        if let Some(role) = self.role.filter(|role| *role != family.role()) {
            return Err(format!("role: is {role:?}, but the family gives {:?}", family.role()));
        }
        if self.labels.is_empty() && family.role() != Role::Features {
            return Err("labels: lists none; name what each output stands for".to_owned());
        }
        for (at, label) in self.labels.iter().enumerate() {
            if self.labels[..at].contains(label) {
                return Err(format!("labels: `{label}` stands there twice"));
            }
        }
        if self.form.is_empty() {
            return Err("form: lists no file".to_owned());
        }
        self.input.check().map_err(|reason| format!("input: {reason}"))?;
        for (form, file) in &self.form {
            if let Some(other) = &file.input {
                let check = self.input.with(other).check();
                check.map_err(|reason| format!("form.{form}.input: {reason}"))?;
            }
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if file.sha256.len() != 64 || !file.sha256.bytes().all(hex) {
                return Err(format!("form.{form}.sha256: must be 64 lower-case hex digits"));
            }
            if Path::new(&file.file).file_name().is_none_or(|name| name != file.file.as_str()) {
                return Err(format!("form.{form}.file: must be a file name without folders"));
            }
        }
        Ok(())
    }
}

fn display(folders: &[PathBuf]) -> String {
    folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
