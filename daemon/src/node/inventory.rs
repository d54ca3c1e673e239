//! What consumers that are told of entities in advance are told: the cameras and rules there are, and those that there
//! were.
//!
//! Owns: the list of rules that are gone, over restarts too, so that their entities can be removed. Does not know:
//! dialects, brokers.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vedette_analysis::rules::ALL;
use vedette_core::{CameraId, Name, Severity};

use crate::config::{Camera, Config};
use crate::sinks::Latest;
use crate::state_file;
use crate::wire::{CameraInventory, CameraStatus, RuleInventory, StateUpdate, Update};

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
        let told = inventory(id, camera, rules);
        told.gone.iter().for_each(|rule| clear_state(latest, id, rule, now));
        latest.put(&told);
    }
    for (id, rules) in known.iter().filter(|(id, _)| !config.cameras.contains_key(*id)) {
        let gone: Vec<_> = rules.iter().map(|(rule, what)| forgotten(rule, what)).collect();
        gone.iter().for_each(|rule| clear_state(latest, id, rule, now));
        latest.clear(Update::Camera(CameraStatus {
            camera: id.clone(),
            state: "lost",
            decode: "watch",
            fps: 0.0,
            gate: None,
            reason: None,
            since: now,
        }));
        latest.clear(Update::Inventory(CameraInventory { camera: id.clone(), rules: Vec::new(), gone }));
    }
    if next != known {
        state_file::replace(state, FILE, &next)?;
    }
    Ok(())
}

/// Brokers forget the state of a rule that is gone; of the message only its topic is told.
fn clear_state(latest: &Latest, camera: &CameraId, gone: &RuleInventory, now: jiff::Timestamp) {
    // A kind that this program does not know has no state in any dialect but `vedette`, which does not name it.
    let kind = ALL.iter().find(|kind| kind.name == gone.kind).map_or("", |kind| kind.name);
    latest.clear(Update::State(StateUpdate {
        camera: camera.clone(),
        rule: gone.rule.clone(),
        kind,
        changed: now,
        active: false,
        value: None,
        unit: None,
        since: None,
        armed: false,
    }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Options};

    /// The configuration of a camera `gate` with these rules, which look at one zone.
    fn config(folder: &Path, rules: &[&str]) -> Config {
        let mut text = "[node]\nid = 'box'\n[camera.gate]\nurl = 'rtsp://127.0.0.1/x'\n\
            zone.yard = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]\n"
            .to_owned();
        for rule in rules {
            text += &format!("[camera.gate.rule.{rule}]\nkind = 'intrusion'\nzone = 'yard'\n");
        }
        std::fs::write(folder.join("vedette.toml"), text).unwrap();
        config::load(&Options { config_dir: folder.to_owned(), ..Options::default() }).unwrap()
    }

    /// Topics of the dialect `vedette` that are to be forgotten, and rules that are gone.
    fn cleared(folder: &Path, state: &Path, rules: &[&str]) -> (Vec<String>, Vec<String>) {
        use crate::wire::{Dialect, Place, vedette::Vedette};
        let latest = Latest::default();
        publish(&config(folder, rules), state, jiff::Timestamp::UNIX_EPOCH, &latest).unwrap();
        let at = Place { prefix: "vedette".to_owned(), node: Name::new("box").unwrap() };
        let topics =
            latest.cleared().into_iter().flat_map(|update| Vedette.cleared(&at, &update)).map(|m| m.topic);
        let gone = latest.values().into_iter().filter_map(|update| match update {
            Update::Inventory(inventory) => Some(inventory.gone),
            _ => None,
        });
        (topics.collect(), gone.flatten().map(|rule| rule.rule.to_string()).collect())
    }

    #[test]
    fn rules_that_are_gone_are_remembered_over_restarts_and_their_topics_cleared() {
        let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cleared = |rules: &[&str]| cleared(folder.path(), state.path(), rules);
        assert_eq!(cleared(&["day", "night"]), (vec![], vec![]));
        let night = (vec!["gate/state/night".to_owned()], vec!["night".to_owned()]);
        assert_eq!(cleared(&["day"]), night);
        assert_eq!(cleared(&["day"]), night, "also at the next start");
        assert_eq!(cleared(&["day", "night"]), (vec![], vec![]), "it came back");
    }
}
