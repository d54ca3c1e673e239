//! From files and environment to a checked configuration, in four steps: each layer strictly by itself, secrets and
//! environment, merging, checks over the whole. What went wrong in one step does not hide what is wrong in the next.
//!
//! Owns: which files there are, their order, and the steps. Does not know: single keys, but for `secrets_file`.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use vedette_core::Class;

use super::check::{self, Check};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::layer::{KeyPath, Layer, Origin, Part, Sources};
use super::raw::Raw;
use super::schema::Keys;
use super::strict::{self, Finding, Kinds};
use super::words::nearest;
use super::{Config, Options, environment};

/// The name of the secrets in systemd's credentials directory.
const SECRETS: &str = "vedette.secrets";

/// Reads the configuration directory, the state directory, secrets and environment.
///
/// # Errors
/// Everything that is wrong with it, warnings included.
pub fn load(options: &Options) -> Result<Config, Diagnostics> {
    let mut loader = Loader::new(options);
    loader.file(Origin::Main, &options.config_dir.join("vedette.toml"));
    loader.folder(Origin::ConfD, &options.config_dir.join("conf.d"));
    if let Some(state) = &options.state_dir {
        loader.folder(Origin::State, &state.join("conf.d"));
    }
    if loader.sources.0.is_empty() && loader.diagnostics.is_empty() && !loader.environment_speaks() {
        let message =
            "holds neither `vedette.toml` nor `conf.d/*.toml`: name the configuration with `--config DIR`";
        loader.diagnostics.push(Diagnostic::error(options.config_dir.display().to_string(), message));
        return Err(Diagnostics(loader.diagnostics));
    }
    loader.secrets();
    loader.warn_of_readable_passwords();
    loader.finish()
}

/// The same for one text in memory, shown as `name` in diagnostics; of `options`, directories are not looked at.
///
/// # Errors
/// Everything that is wrong with it, warnings included.
pub fn from_text(name: &str, text: &str, options: &Options) -> Result<Config, Diagnostics> {
    let mut loader = Loader::new(options);
    loader.text(Origin::Main, name, text);
    loader.finish()
}

/// See [`Config::check_labels`].
pub(super) fn check_labels(config: &Config, labels: &[Class]) -> Diagnostics {
    let nothing = BTreeSet::new();
    let mut check = Check::new(&config.sources, &nothing);
    check::camera::classes(&mut check, config, labels);
    let mut diagnostics = check.diagnostics;
    config.sources.sort(&mut diagnostics);
    Diagnostics(diagnostics)
}

struct Loader<'a> {
    options: &'a Options,
    sources: Sources,
    diagnostics: Vec<Diagnostic>,
    syntax_is_broken: bool,
}

impl<'a> Loader<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, sources: Sources::default(), diagnostics: Vec::new(), syntax_is_broken: false }
    }

    fn environment_speaks(&self) -> bool {
        let (layer, errors) = environment::layer(&self.options.environment, &Keys::new(), &mut Kinds::new());
        !layer.table.is_empty() || !errors.is_empty()
    }

    /// A file that need not be there.
    fn file(&mut self, origin: Origin, path: &Path) {
        let shown = path.display().to_string();
        match std::fs::read(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => self.text(origin, &shown, &text),
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    let line = error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
                    let message = format!("is not UTF-8 text (line {line}): save it as UTF-8");
                    self.diagnostics.push(Diagnostic::error(shown, message));
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let message = format!("cannot be read: {error}");
                self.diagnostics.push(Diagnostic::error(shown, message));
            }
        }
    }

    /// Every `*.toml` of a folder that need not be there, by name.
    fn folder(&mut self, origin: Origin, folder: &Path) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                let message = format!("cannot be read: {error}");
                self.diagnostics.push(Diagnostic::error(folder.display().to_string(), message));
                return;
            }
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "toml"))
            .collect();
        files.sort();
        for file in files {
            self.file(origin, &file);
        }
    }

    fn text(&mut self, origin: Origin, name: &str, text: &str) {
        let (layer, errors) = Layer::parse(origin, name, text);
        self.syntax_is_broken |= !errors.is_empty();
        self.diagnostics.extend(errors);
        self.sources.0.push(layer);
    }

    /// systemd's credential, else the file that `secrets_file` names.
    fn secrets(&mut self) {
        let credential = self.options.credentials_dir.as_ref().map(|dir| dir.join(SECRETS));
        if let Some(credential) = credential.filter(|path| path.exists()) {
            return self.file(Origin::Secrets, &credential);
        }
        let key: KeyPath = vec!["secrets_file".to_owned()];
        let named = self.sources.0.iter().rev().find_map(|l| l.table.get("secrets_file")?.as_str());
        let Some(path) = named.map(|name| self.options.config_dir.join(name)) else { return };
        match std::fs::metadata(&path) {
            Ok(metadata) => {
                let mode = metadata.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    let path = path.display();
                    let message = format!("others may read it (mode {mode:04o}): chmod 0600 {path}");
                    self.diagnostics.push(Diagnostic::error(path.to_string(), message).as_warning());
                }
                self.file(Origin::Secrets, &path);
            }
            Err(error) => {
                let message = format!("`secrets_file`: {} cannot be read: {error}", path.display());
                self.diagnostics.push(self.sources.error(&key, Part::Value, message));
            }
        }
    }

    fn finish(mut self) -> Result<Config, Diagnostics> {
        let keys = Keys::new();
        let mut kinds = Kinds::new();
        self.sources.0.iter().for_each(|layer| strict::note_kinds(&layer.table, &mut kinds));
        let (environment, errors) = environment::layer(&self.options.environment, &keys, &mut kinds);
        self.diagnostics.extend(errors);
        let mut reported = BTreeSet::new();
        for layer in &mut self.sources.0 {
            let secrets = layer.origin == Origin::Secrets;
            for finding in strict::read(&mut layer.table, secrets, &kinds) {
                let at = describe(layer, &finding, &keys, &kinds, &mut reported);
                self.diagnostics.push(at);
            }
        }
        self.sources.0.push(environment);
        let merged = match merge(&self.sources) {
            Ok(merged) => merged,
            Err(message) => {
                self.diagnostics.push(Diagnostic::error("configuration", message));
                return Err(self.sorted());
            }
        };
        let hash = hash(&merged);
        if self.syntax_is_broken {
            // Half a file says nothing about what belongs together.
            return Err(self.sorted());
        }
        let raw = match Raw::deserialize(toml::Value::Table(merged)) {
            Ok(raw) => raw,
            Err(error) => {
                self.diagnostics.push(Diagnostic::error("configuration", error.message()));
                return Err(self.sorted());
            }
        };
        let mut check = Check::new(&self.sources, &reported);
        let check::Checked { node, inference, outbox, brokers, webhooks, evidence, cameras } =
            check::run(&mut check, raw, self.options);
        let found = check.diagnostics;
        self.diagnostics.extend(found);
        let diagnostics = self.sorted();
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        // `check_labels` has no need of them.
        self.sources.0.retain(|layer| layer.origin != Origin::Secrets);
        Ok(Config {
            node,
            inference,
            outbox,
            brokers,
            webhooks,
            evidence,
            cameras,
            hash,
            warnings: diagnostics,
            sources: self.sources,
        })
    }

    fn sorted(&mut self) -> Diagnostics {
        let mut diagnostics = std::mem::take(&mut self.diagnostics);
        self.sources.sort(&mut diagnostics);
        Diagnostics(diagnostics)
    }

    fn warn_of_readable_passwords(&mut self) {
        let mut warnings = Vec::new();
        for layer in self.sources.0.iter().filter(|l| matches!(l.origin, Origin::Main | Origin::ConfD)) {
            let others_may_read =
                std::fs::metadata(&layer.file).is_ok_and(|m| m.permissions().mode() & 0o007 != 0);
            for path in passwords(&layer.table).filter(|_| others_may_read) {
                let what = path.last().map_or("secret", String::as_str);
                let message =
                    format!("a {what} that everybody on this machine can read: move it to `vedette.secrets`");
                warnings.push(layer.error(&path, Part::Key, message).as_warning());
            }
        }
        self.diagnostics.extend(warnings);
    }
}

fn passwords(table: &toml::Table) -> impl Iterator<Item = KeyPath> {
    let named = |kind: &'static str| {
        let things = table.get(kind).and_then(toml::Value::as_table).into_iter().flatten();
        things.flat_map(move |(id, thing)| {
            let secret = |key: &&String| matches!(key.as_str(), "password" | "token");
            let keys = thing.as_table().into_iter().flatten().map(|(key, _)| key).filter(secret);
            keys.map(move |key| vec![kind.to_owned(), id.clone(), key.clone()])
        })
    };
    named("camera").chain(named("broker")).chain(named("webhook"))
}

/// A finding as a diagnostic; notes what needs no second word.
fn describe(
    layer: &Layer,
    finding: &Finding,
    keys: &Keys,
    kinds: &Kinds,
    reported: &mut BTreeSet<KeyPath>,
) -> Diagnostic {
    let path = finding.path();
    let secrets = layer.origin == Origin::Secrets;
    reported.insert(path.clone());
    match finding {
        Finding::Value(_, message) => {
            // The value is taken out with all of its list.
            for length in (1..path.len()).rev() {
                if path[length].parse::<usize>().is_err() {
                    break;
                }
                reported.insert(path[..length].to_vec());
            }
            let remedy = match path.as_slice() {
                [table] if matches!(table.as_str(), "camera" | "broker" | "webhook") => {
                    format!(": write `[{table}.NAME]`")
                }
                _ => String::new(),
            };
            layer.error(path, Part::Value, format!("{message}{remedy}"))
        }
        Finding::Unknown(_) => {
            let Some((key, parent)) = path.split_last() else {
                return layer.error(path, Part::Key, "unknown");
            };
            let kind = match parent {
                [_, camera, _, rule] => kinds.get(&(camera.clone(), rule.clone())).map(String::as_str),
                _ => None,
            };
            let known = keys.at(secrets, parent, kind);
            let near = nearest(key, known.iter().map(String::as_str));
            let hint = near.map_or_else(
                || format!("; there are: {}", known.join(", ")),
                |guess| format!("; did you mean `{guess}`?"),
            );
            if let Some(guess) = near {
                let mut meant = parent.to_vec();
                meant.push(guess.to_owned());
                reported.insert(meant);
            }
            let only = if secrets { " in a file of secrets" } else { "" };
            layer.error(path, Part::Key, format!("unknown key `{}`{only}{hint}", strict::shown(path)))
        }
    }
}

fn merge(sources: &Sources) -> Result<toml::Table, String> {
    let mut builder = config::Config::builder();
    for layer in &sources.0 {
        builder = builder.add_source(layer.clone());
    }
    let merged = builder.build().and_then(config::Config::try_deserialize::<toml::Table>);
    merged.map_err(|error| format!("the files could not be merged: {error}"))
}

/// The first 8 hexadecimal digits over all keys and values in order, logins left out.
fn hash(merged: &toml::Table) -> String {
    let mut hasher = Sha256::new();
    for (key, value) in sorted(merged) {
        if key != "secrets_file" {
            hash_value(&mut hasher, key, value);
        }
    }
    hasher.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn hash_value(hasher: &mut Sha256, key: &str, value: &toml::Value) {
    // A zone may be called so too.
    if value.is_str() && matches!(key, "password" | "user" | "token") {
        return;
    }
    hasher.update(key.as_bytes());
    match value {
        toml::Value::Table(table) => {
            hasher.update(b"{");
            sorted(table).into_iter().for_each(|(key, value)| hash_value(hasher, key, value));
            hasher.update(b"}");
        }
        other => {
            let text = other.to_string();
            // A login in a URL is none of the hash's business either.
            let text = text.split_once("://").and_then(|(scheme, rest)| {
                let (_, host) = rest.rsplit_once('@')?;
                Some(format!("{scheme}://{host}"))
            });
            hasher.update(b"=");
            hasher.update(text.unwrap_or_else(|| other.to_string()).as_bytes());
            hasher.update(b"\n");
        }
    }
}

fn sorted(table: &toml::Table) -> Vec<(&String, &toml::Value)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.as_str());
    entries
}
