//! What consumers that are told of entities in advance are told: the cameras and rules there are, and those that there
//! were.
//!
//! Owns: the list of rules that are gone, over restarts too, so that their entities can be removed. Does not know:
//! dialects, brokers.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vedette_core::{CameraId, Name, Severity};

use crate::config::{Camera, Config};
use crate::sinks::Latest;
use crate::state_file;
use crate::wire::{CameraInventory, RuleInventory, Update};

/// The file in the state folder.
const FILE: &str = "inventory.json";

/// A rule as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    kind: String,
    severity: Severity,
    lasting: bool,
    counts: bool,
}

type Rules = BTreeMap<Name, Remembered>;

/// Every rule that there was since the state folder was new.
type Known = BTreeMap<CameraId, Rules>;

/// Tells what `config` has, clears what only earlier configurations had, and remembers both.
///
/// # Errors
/// The state folder cannot be read or written.
pub(super) fn publish(
    config: &Config,
    state: &Path,
    now: jiff::Timestamp,
    latest: &Latest,
) -> io::Result<()> {
    let known: Known = state_file::read(state, FILE, now)?.unwrap_or_default();
    let mut next = known.clone();
    for (id, camera) in &config.cameras {
        let rules = next.entry(id.clone()).or_default();
        rules.extend(remembered(camera));
        latest.put(&inventory(id, camera, rules));
    }
    for (id, rules) in known.iter().filter(|(id, _)| !config.cameras.contains_key(*id)) {
        let gone = rules.iter().map(|(rule, what)| forgotten(rule, what)).collect();
        latest.clear(Update::Inventory(CameraInventory { camera: id.clone(), rules: Vec::new(), gone }));
    }
    if next != known {
        state_file::replace(state, FILE, &next)?;
    }
    Ok(())
}

fn remembered(camera: &Camera) -> Rules {
    let rule = |(name, setup): (&Name, &vedette_analysis::rules::RuleSetup)| {
        let what = Remembered {
            kind: setup.config.kind().to_owned(),
            severity: setup.common.severity.unwrap_or_else(|| setup.config.default_severity()),
            lasting: setup.config.lasts(),
            counts: setup.config.counts(),
        };
        (name.clone(), what)
    };
    camera.rules.iter().map(rule).collect()
}

fn inventory(id: &CameraId, camera: &Camera, known: &Rules) -> CameraInventory {
    let rules = remembered(camera).into_iter().map(|(rule, what)| {
        let setup = camera.rules.get(&rule);
        RuleInventory {
            zone: setup.and_then(|s| s.config.zone().cloned()),
            line: setup.and_then(|s| s.config.line().cloned()),
            ..forgotten(&rule, &what)
        }
    });
    let gone = known.iter().filter(|(rule, _)| !camera.rules.contains_key(*rule));
    CameraInventory {
        camera: id.clone(),
        rules: rules.collect(),
        gone: gone.map(|(rule, what)| forgotten(rule, what)).collect(),
    }
}

/// A rule without the places that its camera has no more.
fn forgotten(rule: &Name, what: &Remembered) -> RuleInventory {
    let Remembered { kind, severity, lasting, counts } = what.clone();
    RuleInventory { rule: rule.clone(), kind, severity, zone: None, line: None, lasting, counts }
}
