//! An alarm that says that it is a test: to see it arrive where alarms must arrive.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use vedette_core::{ClockSource, Event, Moment, Name, Phase, Pts, Severity};

use super::{Site, Verb};

/// One line for people.
pub const ABOUT: &str = "produce an event of kind `test`, severity alarm";

/// Arguments of `test_alarm`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// On whose topic. Default: the node's own.
    #[serde(default)]
    pub camera: Option<String>,
}

impl Verb for Config {
    fn run(&self, site: &mut Site) -> Result<Value, String> {
        let camera = match &self.camera {
            Some(camera) => Some(site.camera(camera)?.0.clone()),
            None => None,
        };
        let rule = Name::new("test").map_err(|e| e.to_string())?;
        let now = Moment {
            pts: Pts::ZERO,
            wall: site.clock.wall(),
            wall_ok: crate::time_sync::is_synchronised(),
            clock: ClockSource::Host,
        };
        let id = site.ids.next(now);
        let event = Event {
            id,
            phase: Phase::Once,
            kind: "test",
            rule,
            severity: Severity::Alarm,
            camera,
            zone: None,
            line: None,
            direction: None,
            captured: now,
            decided: now,
            object: None,
            value: None,
            unit: None,
            why: "a test, asked for by command".to_owned(),
            ended_by: None,
            suppressed: 0,
            evidence: Default::default(),
        };
        let seq = site.outbox.append(event, None).map_err(|e| e.to_string())?;
        Ok(json!({"id": id, "seq": seq, "epoch": site.outbox.epoch()}))
    }
}
