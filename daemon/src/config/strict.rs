//! Reading one layer strictly, and on after each mistake: every unknown key and every wrong type of a file at once.
//!
//! Owns: what serde says about a table, as findings with key paths. Does not know: places in files, or whether values
//! make sense together. A faulty entry is taken out of the table and the rest read again, until nothing is wrong;
//! that is why one mistake does not hide the next.

use std::collections::{BTreeMap, BTreeSet};

use erased_serde::Deserializer as Erased;
use serde_path_to_error::{Segment, Track};
use vedette_analysis::rules::{ALL, Common};

use super::layer::{KeyPath, is_secret};
use super::raw::{Raw, RawSecrets};
use super::words::plain;

/// The kind of each rule, by camera and rule: a later file may change a rule without repeating its kind.
pub(super) type Kinds = BTreeMap<(String, String), String>;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing reads this key.
    Unknown(KeyPath),
    /// The value has the wrong type or form.
    Value(KeyPath, String),
}

impl Finding {
    /// Where.
    pub(super) fn path(&self) -> &KeyPath {
        match self {
            Self::Unknown(path) | Self::Value(path, _) => path,
        }
    }
}

type Read<'a> = &'a dyn Fn(&mut dyn Erased<'_>) -> Result<(), erased_serde::Error>;

fn reads<T: serde::de::DeserializeOwned>(
    deserializer: &mut dyn Erased<'_>,
) -> Result<(), erased_serde::Error> {
    erased_serde::deserialize::<T>(deserializer).map(drop)
}

/// Everything wrong with a layer's table; what is wrong is taken out of it.
pub(super) fn read(table: &mut toml::Table, secrets: bool, kinds: &Kinds) -> Vec<Finding> {
    let mut findings = Vec::new();
    let whole: Read<'_> = if secrets { &reads::<RawSecrets> } else { &reads::<Raw> };
    let unknown = settle(table, &[], whole, &mut findings);
    drop_unknown(table, &[], unknown, &mut findings);
    for (camera, rule) in rules_of(table) {
        let base = ["camera", &camera, "rule", &rule].map(str::to_owned);
        let kind = kinds.get(&(camera, rule));
        if let Some(rule) = table_at(table, &base) {
            read_rule(rule, &base, kind.map(String::as_str), &mut findings);
        }
    }
    findings
}

fn read_rule(table: &mut toml::Table, base: &[String], kind: Option<&str>, findings: &mut Vec<Finding>) {
    let common = settle(table, base, &reads::<Common>, findings);
    // Without a known kind nobody can say which keys are unknown; the missing kind itself is reported after merging.
    let Some(kind) = kind.and_then(|name| ALL.iter().find(|k| k.name == name)) else { return };
    let own = settle(table, base, &|d| (kind.parse)(d).map(drop), findings);
    let common: BTreeSet<KeyPath> = common.into_iter().collect();
    let neither = own.into_iter().filter(|path| common.contains(path)).collect();
    drop_unknown(table, base, neither, findings);
}

/// Reads until nothing is wrong, taking out what is; gives the keys that were ignored.
fn settle(
    table: &mut toml::Table,
    base: &[String],
    read: Read<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<KeyPath> {
    loop {
        match attempt(table, read) {
            Ok(ignored) => return ignored,
            Err((path, message)) => {
                let secret = path.iter().any(|key| is_secret(key));
                let path_in_base = joined(base, &path);
                let message = plain(&message, secret, &shown(&path_in_base));
                findings.push(Finding::Value(path_in_base, message));
                if !take_out(table, &path) {
                    return Vec::new();
                }
            }
        }
    }
}

fn attempt(table: &toml::Table, read: Read<'_>) -> Result<Vec<KeyPath>, (KeyPath, String)> {
    let mut ignored = Vec::new();
    let mut track = Track::new();
    let result = {
        let tracked = serde_path_to_error::Deserializer::new(toml::Value::Table(table.clone()), &mut track);
        let mut note = |path: serde_ignored::Path<'_>| ignored.push(keys_of(&path));
        let watched = serde_ignored::Deserializer::new(tracked, &mut note);
        read(&mut <dyn Erased<'_>>::erase(watched))
    };
    let Err(error) = result else { return Ok(ignored) };
    let path = track.path();
    let keys = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    Err((keys.collect(), error.to_string()))
}

/// A key path as users write it.
pub(super) fn shown(path: &[String]) -> String {
    path.join(".")
}

fn keys_of(path: &serde_ignored::Path<'_>) -> KeyPath {
    use serde_ignored::Path;
    match path {
        Path::Root => Vec::new(),
        Path::Seq { parent, index } => joined(&keys_of(parent), &[index.to_string()]),
        Path::Map { parent, key } => joined(&keys_of(parent), std::slice::from_ref(key)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            keys_of(parent)
        }
    }
}

fn drop_unknown(
    table: &mut toml::Table,
    base: &[String],
    unknown: Vec<KeyPath>,
    findings: &mut Vec<Finding>,
) {
    for path in unknown {
        take_out(table, &path);
        findings.push(Finding::Unknown(joined(base, &path)));
    }
}

/// Removes the entry at `path`, or the list that it lies in; false where there is none.
fn take_out(table: &mut toml::Table, path: &[String]) -> bool {
    let Some((key, rest)) = path.split_first() else { return false };
    if let Some(toml::Value::Table(inner)) = table.get_mut(key)
        && !rest.is_empty()
        && take_out(inner, rest)
    {
        return true;
    }
    table.remove(key).is_some()
}

fn rules_of(table: &toml::Table) -> Vec<(String, String)> {
    let cameras = table.get("camera").and_then(toml::Value::as_table).into_iter().flatten();
    cameras
        .flat_map(|(camera, value)| {
            let rules = value.get("rule").and_then(toml::Value::as_table).into_iter().flatten();
            rules.map(|(rule, _)| (camera.clone(), rule.clone()))
        })
        .collect()
}

/// Notes the kinds that a layer gives its rules.
pub(super) fn note_kinds(table: &toml::Table, kinds: &mut Kinds) {
    for (camera, rule) in rules_of(table) {
        let kind = table["camera"][&camera]["rule"][&rule].get("kind").and_then(toml::Value::as_str);
        if let Some(kind) = kind {
            kinds.insert((camera, rule), kind.to_owned());
        }
    }
}

fn table_at<'a>(table: &'a mut toml::Table, path: &[String]) -> Option<&'a mut toml::Table> {
    path.iter().try_fold(table, |table, key| table.get_mut(key).and_then(toml::Value::as_table_mut))
}

fn joined(base: &[String], path: &[String]) -> KeyPath {
    base.iter().chain(path).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_does_not_hide_the_next() {
        let text = r#"
            nodes = 1
            [inference]
            threads = "two"
            strict = 1
            providers = ["cpu", "gpu"]
            [camera.gate]
            fps = "fast"
            ulr = "x"
            [camera.gate.rule.night]
            kind = "intrusion"
            cooldown = 60
            enter_after = 1
            line = "kerb"
        "#;
        let mut table: toml::Table = text.parse().unwrap();
        let mut kinds = Kinds::new();
        note_kinds(&table, &mut kinds);
        let mut found: Vec<String> =
            read(&mut table, false, &kinds).iter().map(|f| f.path().join(".")).collect();
        found.sort();
        assert_eq!(
            found,
            [
                "camera.gate.fps",
                "camera.gate.rule.night.cooldown",
                "camera.gate.rule.night.enter_after",
                "camera.gate.rule.night.line",
                "camera.gate.ulr",
                "inference.providers.1",
                "inference.strict",
                "inference.threads",
                "nodes",
            ]
        );
        assert!(read(&mut table, false, &kinds).is_empty(), "what was wrong is taken out");
    }
}
