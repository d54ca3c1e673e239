//! One source of configuration: a file or the environment, with the place of every key in it.
//!
//! Owns: text, parsed table and spans of one layer, and finding the place of a key path over all layers. Does not
//! know: which keys there are.

use std::collections::BTreeMap;
use std::ops::Range;

use config::{Map, Value};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Mask};

/// Keys from the root to a value; positions in lists as decimal numbers.
pub(super) type KeyPath = Vec<String>;

/// Where a layer comes from, in the order in which they are laid over each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// `vedette.toml`, or a text in memory.
    Main,
    /// `conf.d` beside it.
    ConfD,
    /// `conf.d` in the state directory.
    State,
    /// User names and passwords.
    Secrets,
    /// `VEDETTE_SECTION__KEY`.
    Environment,
}

#[derive(Clone)]
struct Place {
    key: Range<usize>,
    value: Range<usize>,
}

/// One source of configuration.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    /// As shown in diagnostics.
    pub(super) file: String,
    /// What it says; erroneous values are taken out as they are reported.
    pub(super) table: toml::Table,
    text: String,
    places: BTreeMap<KeyPath, Place>,
    /// Which variable set a key (environment only).
    variables: BTreeMap<KeyPath, String>,
}

impl std::fmt::Debug for Layer {
    // The text may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Layer({})", self.file)
    }
}

/// Which part of an entry a diagnostic points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

impl Layer {
    /// Parses a file's text. Syntax errors, each on its own line, come as diagnostics; what could be made of the
    /// rest is in the layer all the same.
    pub(super) fn parse(origin: Origin, file: &str, text: &str) -> (Self, Vec<Diagnostic>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut layer = Self {
            origin,
            file: file.to_owned(),
            table: toml::Table::new(),
            text: text.to_owned(),
            places: BTreeMap::new(),
            variables: BTreeMap::new(),
        };
        collect_places(root.get_ref(), &mut Vec::new(), &mut layer.places);
        let mut found: Vec<Diagnostic> =
            errors.iter().map(|e| layer.syntax_error(e.message(), e.span())).collect();
        // Recovery stumbles more than once over one mistake; the first word on a line is the useful one.
        found.sort_by_key(|d| (d.line, d.column));
        found.dedup_by_key(|d| d.line);
        explain_duplicates(&mut found, text);
        match toml::Table::deserialize(toml::Deserializer::from(root)) {
            Ok(table) => layer.table = table,
            Err(e) if found.is_empty() => found.push(layer.syntax_error(e.message(), e.span())),
            Err(_) => {}
        }
        if !found.is_empty() && layer.holds_secrets() && matches!(layer.secret_mask(), Mask::All) {
            // What is a key and what a part of a password of several lines, nobody knows: only the syntax is told.
            (layer.table, layer.places) = (toml::Table::new(), BTreeMap::new());
        }
        (layer, found)
    }

    /// A layer of environment variables; each key path remembers its variable.
    pub(super) fn of_environment(table: toml::Table, variables: BTreeMap<KeyPath, String>) -> Self {
        Self {
            origin: Origin::Environment,
            file: "environment".to_owned(),
            table,
            text: String::new(),
            places: BTreeMap::new(),
            variables,
        }
    }

    fn syntax_error(&self, message: &str, span: Option<Range<usize>>) -> Diagnostic {
        // Where the syntax is broken, nobody knows which line belongs to a password.
        let mask = if self.holds_secrets() { self.secret_mask() } else { Mask::Urls };
        let end = self.text.trim_end().len();
        let span = span.map_or(end..end, |s| s.start.min(end)..s.end);
        Diagnostic::error(&self.file, message.trim()).at(&self.text, &span, mask)
    }

    /// Whether this layer says something at `path`.
    pub(super) fn has(&self, path: &[String]) -> bool {
        self.places.contains_key(path) || self.variables.keys().any(|p| p.starts_with(path))
    }

    /// An error at `path`, or at the nearest entry above it that this layer has.
    pub(super) fn error(&self, path: &[String], part: Part, message: impl Into<String>) -> Diagnostic {
        let message = message.into();
        if self.origin == Origin::Environment {
            let variable = self.variables.iter().find(|(p, _)| p.starts_with(path)).map(|(_, v)| v);
            let message = variable.map_or(message.clone(), |v| format!("{v}: {message}"));
            return Diagnostic::error(&self.file, message);
        }
        for length in (1..=path.len()).rev() {
            let Some(place) = self.places.get(&path[..length]) else { continue };
            let part = if length == path.len() { part } else { Part::Key };
            let span = if part == Part::Key { &place.key } else { &place.value };
            return Diagnostic::error(&self.file, message).at(&self.text, span, self.mask(path, span));
        }
        Diagnostic::error(&self.file, message)
    }

    fn mask(&self, path: &[String], span: &Range<usize>) -> Mask {
        let secret = |path: &[String]| path.last().is_some_and(|key| is_secret(key));
        let line = |at: usize| self.text[..at.min(self.text.len())].matches('\n').count();
        let from_line = line(span.start);
        // A password may share the line, or lie around it, with what the error is about.
        let nearby = self.places.iter().any(|(p, place)| {
            secret(p) && (line(place.key.start)..=line(place.value.end)).contains(&from_line)
        });
        if self.origin == Origin::Secrets || secret(path) || nearby { self.secret_mask() } else { Mask::Urls }
    }

    fn holds_secrets(&self) -> bool {
        self.origin == Origin::Secrets || holds_secret(&self.text)
    }

    fn secret_mask(&self) -> Mask {
        let multi_line = self.text.contains("\"\"\"") || self.text.contains("'''");
        if multi_line { Mask::All } else { Mask::Values }
    }

    /// `file:line:col` of a key, for "first defined at …".
    pub(super) fn place(&self, path: &[String]) -> String {
        let at = self.error(path, Part::Key, "");
        match (at.line, at.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", self.file),
            _ => self.file.clone(),
        }
    }

    /// Line and column order of diagnostics within this layer.
    pub(super) fn names(&self, diagnostic: &Diagnostic) -> bool {
        self.file == diagnostic.file
    }
}

/// Says what to do about what stands twice. The keys of a table that stands twice are not said one by one.
fn explain_duplicates(found: &mut Vec<Diagnostic>, text: &str) {
    const DUPLICATE: &str = "duplicate key";
    let lines: Vec<&str> = text.lines().collect();
    let is_header = |line: usize| lines.get(line - 1).is_some_and(|l| l.trim_start().starts_with('['));
    let mut twice = None;
    found.retain_mut(|d| {
        let Some(line) = d.line.filter(|_| d.message == DUPLICATE) else { return true };
        if twice.is_some_and(|header| !(header + 1..=line).any(is_header)) {
            return false;
        }
        let header = is_header(line);
        twice = header.then_some(line);
        let advice = if header {
            "this table stands further up already; give it another name, or make one of both"
        } else {
            "it stands further up already; take one away"
        };
        d.message = format!("{DUPLICATE}: {advice}");
        true
    });
}

/// Keys whose values never appear in a message: `password`, `token`, and what somebody may write instead of it.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let meant = ["pass", "pwd", "secret", "token"].iter().any(|part| key.contains(part));
    let short = key.split(['-', '_']).any(|word| ["pw", "kennwort"].contains(&word));
    let misspelt = strsim::osa_distance(&key, "password") <= 2 || strsim::osa_distance(&key, "token") == 1;
    (meant && key != "secrets_file") || short || misspelt
}

/// Whether some key of a text is secret, also where its syntax is broken. Comments do not count.
fn holds_secret(text: &str) -> bool {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let keys = |line: &str| {
        let before_equals = line.rsplit('=').skip(1);
        before_equals
            .filter_map(|part| part.trim_end().rsplit(|c| !is_bare(c)).find(|w| !w.is_empty()))
            .any(is_secret)
    };
    text.lines().filter(|line| !line.trim_start().starts_with('#')).any(keys)
}

fn collect_places(table: &DeTable<'_>, path: &mut KeyPath, places: &mut BTreeMap<KeyPath, Place>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        places.insert(path.clone(), Place { key: key.span(), value: value.span() });
        collect_value(value, path, places);
        path.pop();
    }
}

fn collect_value(value: &Spanned<DeValue<'_>>, path: &mut KeyPath, places: &mut BTreeMap<KeyPath, Place>) {
    match value.get_ref() {
        DeValue::Table(table) => collect_places(table, path, places),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                places.insert(path.clone(), Place { key: item.span(), value: item.span() });
                collect_value(item, path, places);
                path.pop();
            }
        }
        _ => {}
    }
}

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.table.iter().map(|(key, value)| (key.clone(), to_config(value))).collect())
    }
}

fn to_config(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(v) => Value::new(None, v.clone()),
        toml::Value::Integer(v) => Value::new(None, *v),
        toml::Value::Float(v) => Value::new(None, *v),
        toml::Value::Boolean(v) => Value::new(None, *v),
        toml::Value::Datetime(v) => Value::new(None, v.to_string()),
        toml::Value::Array(items) => Value::new(None, items.iter().map(to_config).collect::<Vec<_>>()),
        toml::Value::Table(table) => {
            let map: Map<String, Value> = table.iter().map(|(k, v)| (k.clone(), to_config(v))).collect();
            Value::new(None, map)
        }
    }
}

/// All layers, the later ones winning: finds the place to blame for a key path.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources(pub(super) Vec<Layer>);

impl Sources {
    /// An error at `path` in the last layer that has it.
    pub(super) fn error(&self, path: &[String], part: Part, message: impl Into<String>) -> Diagnostic {
        for length in (1..=path.len()).rev() {
            let layer = self.0.iter().rev().find(|l| l.has(&path[..length]));
            if let Some(layer) = layer {
                let part = if length == path.len() { part } else { Part::Key };
                return layer.error(&path[..length], part, message);
            }
        }
        Diagnostic::error(self.0.first().map_or("configuration", |l| &l.file), message)
    }

    /// Puts diagnostics into the order of files and lines, and each said once.
    pub(super) fn sort(&self, diagnostics: &mut Vec<Diagnostic>) {
        let rank = |d: &Diagnostic| self.0.iter().position(|l| l.names(d)).unwrap_or(self.0.len());
        diagnostics.sort_by(|a, b| {
            (rank(a), a.line, a.column)
                .cmp(&(rank(b), b.line, b.column))
                .then_with(|| a.message.cmp(&b.message))
        });
        diagnostics.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_hold_secrets_are_known() {
        for key in ["password", "pasword", "Passwort", "passwd", "pwd", "api_token", "paswsord", "tokn"] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["user", "url", "secrets_file", "fps", "zone", "topic"] {
            assert!(!is_secret(key), "{key}");
        }
        assert!(holds_secret("[camera.gate]\n\"password\" = hunter2"));
        assert!(holds_secret("gate = { url = \"x\", password = hunter2"));
        assert!(!holds_secret("# password = x\nurl = \"rtsp://a/?password\"\n"));
    }
}
