//! From the merged configuration to the one the daemon runs by: required keys, ranges, and what must fit together.
//!
//! Owns: the checks of node, inference and outbox, names, and the tools that all checks share. Does not know: files (it
//! blames key paths; `layer` finds the place).

mod broker;
pub(super) mod camera;
mod evidence;
mod url;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use vedette_core::{Name, NameError};

use super::diagnostic::Diagnostic;
use super::layer::{KeyPath, Origin, Part, Sources};
use super::raw::{Raw, RawInference, RawNode, RawOutbox, RawTensorRt};
use super::words::{hint, nearest};
use super::{Broker, Camera, Evidence, Inference, Node, Options, Outbox, TensorRt, Webhook};

/// What the checks make of the merged configuration. Incomplete where `Check` holds errors.
pub(super) struct Checked {
    pub(super) node: Node,
    pub(super) inference: Inference,
    pub(super) outbox: Outbox,
    pub(super) brokers: BTreeMap<Name, Broker>,
    pub(super) webhooks: BTreeMap<Name, Webhook>,
    pub(super) evidence: Evidence,
    pub(super) cameras: BTreeMap<Name, Arc<Camera>>,
}

/// Collects what the checks find.
pub(super) struct Check<'a> {
    sources: &'a Sources,
    /// Entries that were already reported: what follows from them is not said again.
    reported: &'a BTreeSet<KeyPath>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    pub(super) fn new(sources: &'a Sources, reported: &'a BTreeSet<KeyPath>) -> Self {
        Self { sources, reported, diagnostics: Vec::new() }
    }

    fn path(keys: &[&str]) -> KeyPath {
        keys.iter().map(|&k| k.to_owned()).collect()
    }

    fn was_reported(&self, keys: &[&str]) -> bool {
        let path = Self::path(keys);
        (1..=path.len()).any(|length| self.reported.contains(&path[..length]))
    }

    fn value_error(&mut self, keys: &[&str], message: impl Display) {
        let text = format!("`{}`: {message}", keys.join("."));
        self.diagnostics.push(self.sources.error(&Self::path(keys), Part::Value, text));
    }

    /// Blames one item of a list; `keys` ends in its position.
    fn item_error(&mut self, keys: &[&str], message: impl Display) {
        let list = keys.split_last().map_or(keys, |(_, list)| list);
        let text = format!("`{}`: {message}", list.join("."));
        self.diagnostics.push(self.sources.error(&Self::path(keys), Part::Value, text));
    }

    fn key_error(&mut self, keys: &[&str], message: impl Display) {
        self.diagnostics.push(self.sources.error(&Self::path(keys), Part::Key, message.to_string()));
    }

    fn warning(&mut self, keys: &[&str], message: impl Display) {
        let at = self.sources.error(&Self::path(keys), Part::Key, message.to_string());
        self.diagnostics.push(at.as_warning());
    }

    /// Something is needed at `keys` and nowhere given: blames the table that lacks it.
    fn missing(&mut self, keys: &[&str], remedy: impl Display) {
        if let Some((key, table)) = keys.split_last()
            && !self.was_reported(keys)
        {
            self.key_error(table, format!("`{}` has no `{key}`: {remedy}", table.join(".")));
        }
    }

    /// Checks a name that users gave; blames its key.
    fn name(&mut self, keys: &[&str], make: fn(&str) -> Result<Name, NameError>) -> Option<Name> {
        let result = make(keys.last().copied().unwrap_or_default());
        result.map_err(|error| self.key_error(keys, error)).ok()
    }

    /// Whether something is given at `keys`.
    fn has(&self, keys: &[&str]) -> bool {
        let path = Self::path(keys);
        self.sources.0.iter().any(|layer| layer.has(&path))
    }
}

/// Checks everything.
pub(super) fn run(check: &mut Check<'_>, raw: Raw, options: &Options) -> Checked {
    let Raw { node, inference, outbox, broker, webhook, evidence, camera, secrets_file: _ } = raw;
    let node = self::node(check, node, options);
    let inference = self::inference(check, inference, options);
    let outbox = self::outbox(check, &outbox);
    let broker_strangers = check_logins(check, broker.keys(), "broker");
    let webhook_strangers = check_logins(check, webhook.keys(), "webhook");
    let camera_strangers = check_logins(check, camera.keys(), "camera");
    let mut brokers = BTreeMap::new();
    for (id, raw) in broker.into_iter().filter(|(id, _)| !broker_strangers.contains(id)) {
        if let Some(broker) = broker::build(check, &id, raw, &node.id, options) {
            brokers.insert(broker.id.clone(), broker);
        }
    }
    broker::check_pairs(check, &brokers);
    let mut webhooks = BTreeMap::new();
    for (id, raw) in webhook.into_iter().filter(|(id, _)| !webhook_strangers.contains(id)) {
        if let Some(webhook) = webhook::build(check, &id, raw, &brokers, options) {
            webhooks.insert(webhook.id.clone(), webhook);
        }
    }
    let (evidence, every) = evidence::build(check, &evidence);
    let mut cameras = BTreeMap::new();
    for (id, raw) in camera.into_iter().filter(|(id, _)| !camera_strangers.contains(id)) {
        if let Some(camera) = camera::build(check, &id, raw, (&every, &options.config_dir)) {
            cameras.insert(camera.id.clone(), Arc::new(camera));
        }
    }
    Checked { node, inference, outbox, brokers, webhooks, evidence, cameras }
}

fn node(check: &mut Check<'_>, raw: RawNode, options: &Options) -> Node {
    let RawNode { id, sign, time_zone } = raw;
    let id = id.unwrap_or_else(|| Name::from_host(&options.host_name));
    let system = || {
        let zone = jiff::tz::TimeZone::system();
        let name = zone.iana_name().unwrap_or("UTC").to_owned();
        (zone, name)
    };
    let (time_zone, time_zone_name) = match time_zone {
        None => system(),
        Some(name) => match jiff::tz::TimeZone::get(&name) {
            Ok(zone) => (zone, name),
            Err(_) => {
                let known: Vec<String> = jiff::tz::db().available().map(|n| n.as_str().to_owned()).collect();
                let guess = nearest(&name, known.iter().map(String::as_str))
                    .map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
                let message = format!("no time zone `{name}`{guess} (IANA names, such as `Europe/Berlin`)");
                check.value_error(&["node", "time_zone"], message);
                system()
            }
        },
    };
    Node { id, sign, time_zone, time_zone_name }
}

fn inference(check: &mut Check<'_>, raw: RawInference, options: &Options) -> Inference {
    let RawInference { providers, threads, strict, library, model, tensorrt } = raw;
    if providers.is_empty() {
        check.value_error(&["inference", "providers"], "is empty: name at least `cpu`");
    }
    if !(1..=64).contains(&threads) {
        check.value_error(&["inference", "threads"], format!("{threads} is not within 1 to 64"));
    }
    if model.is_empty() {
        check.value_error(&["inference", "model"], "is empty: name a model, such as `nanodet-g-416`");
    }
    let library = library.map(|path| options.config_dir.join(path));
    let providers = providers.into_iter().map(|p| p.name().to_owned()).collect();
    let RawTensorRt { fp16, int8, cache, workspace_mib } = tensorrt;
    if let Some(mib) = workspace_mib.filter(|mib| !(1..=65_536).contains(mib)) {
        let path = ["inference", "tensorrt", "workspace_mib"];
        check.value_error(&path, format!("{mib} is not within 1 to 65536"));
    }
    let tensorrt = TensorRt { fp16, int8, cache, workspace_mib };
    Inference { providers, threads, strict, library, model, tensorrt }
}

fn outbox(check: &mut Check<'_>, raw: &RawOutbox) -> Outbox {
    let RawOutbox { max_events, max_mib } = *raw;
    if !(1_000..=10_000_000).contains(&max_events) {
        let message = format!("{max_events} is not within 1000 to 10000000");
        check.value_error(&["outbox", "max_events"], message);
    }
    if !(16..=65_536).contains(&max_mib) {
        check.value_error(&["outbox", "max_mib"], format!("{max_mib} is not within 16 to 65536"));
    }
    Outbox { max_events, max_mib }
}

/// A login for something that no other file defines is a mistake, not a new camera; gives those.
fn check_logins<'a>(
    check: &mut Check<'_>,
    merged: impl Iterator<Item = &'a String>,
    table: &str,
) -> BTreeSet<String> {
    let sources = check.sources;
    let defined = |id: &&String| {
        let path = Check::path(&[table, id.as_str()]);
        sources.0.iter().any(|layer| layer.origin != Origin::Secrets && layer.has(&path))
    };
    let (known, strangers): (Vec<&String>, Vec<&String>) = merged.partition(defined);
    for id in &strangers {
        let hint = if known.is_empty() {
            format!(" (no {table} is defined)")
        } else {
            hint(id, known.iter().map(|k| k.as_str()))
        };
        check.key_error(
            &[table, id.as_str()],
            format!("secrets for {table} `{id}`, which no file defines{hint}"),
        );
    }
    strangers.into_iter().cloned().collect()
}
