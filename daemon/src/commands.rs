//! What backends may ask of the appliance over MQTT: off by default, allowed verb by verb for each broker.
//!
//! Owns: reading a request, running its verb, the answer. Does not know: MQTT. Bytes of strangers come in here: whatever
//! they are, the answer is JSON that says what was wrong. No verb runs a program, reads a file or changes the
//! configuration; what a verb can reach is [`Site`], and nothing else.
//!
//! A verb is one file with a `Config` (its arguments) that is a [`Verb`], and one word below.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use vedette_core::{CameraId, Clock, IncidentIds, Name};

use crate::arming::Arming;
use crate::camera::Wakes;
use crate::evidence::Evidence;
use crate::outbox::Outbox;

vedette_core::registry! { dyn Verb: arm, disarm, snapshot, status, test_alarm, wake, }

/// Requests longer than this are not read.
const MOST_BYTES: usize = 64 * 1024;

/// A request with its arguments.
pub trait Verb: Send {
    /// Does it, within seconds: requests are answered one behind the other.
    ///
    /// # Errors
    /// Why it was not done, for whoever asked.
    fn run(&self, site: &mut Site) -> Result<Value, String>;
}

/// What verbs can reach.
pub struct Site {
    /// This appliance.
    pub node: Name,
    /// The rules of each camera.
    pub rules: BTreeMap<CameraId, Vec<Name>>,
    /// Who is armed.
    pub arming: Arc<Arming>,
    /// Who is to stay awake.
    pub wakes: Arc<Wakes>,
    /// Where a test alarm goes.
    pub outbox: Arc<dyn Outbox>,
    /// Who takes pictures.
    pub evidence: Evidence,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
    /// For incidents that are asked for.
    pub ids: IncidentIds,
    /// How the node is, as the retained topics say it.
    pub status: Box<dyn Fn() -> Value + Send>,
}

impl Site {
    /// The rule's camera and name as they are in the configuration.
    fn rule(&self, camera: &str, rule: &str) -> Result<(CameraId, Name), String> {
        let (id, rules) = self.camera(camera)?;
        let known = || rules.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        let found = rules.iter().find(|name| name.as_str() == rule);
        found
            .map(|name| (id.clone(), name.clone()))
            .ok_or_else(|| format!("camera {camera} has no rule `{rule}`; there are: {}", known()))
    }

    fn camera(&self, camera: &str) -> Result<(&CameraId, &Vec<Name>), String> {
        let known = || self.rules.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
        let found = self.rules.iter().find(|(id, _)| id.as_str() == camera);
        found.ok_or_else(|| format!("no camera `{camera}`; there are: {}", known()))
    }
}

/// The answer to a request, as JSON: `{"ok":true,"result":…}` or `{"ok":false,"error":"…"}`, with `correlation` where the
/// request had one.
pub fn answer(site: &mut Site, verb: &str, payload: &[u8]) -> Vec<u8> {
    let (correlation, outcome) = run(site, verb, payload);
    let mut answer = match outcome {
        Ok(result) => json!({"ok": true, "result": result}),
        Err(error) => json!({"ok": false, "error": error}),
    };
    if let (Some(correlation), Value::Object(keys)) = (correlation, &mut answer) {
        keys.insert("correlation".to_owned(), correlation);
    }
    answer.to_string().into_bytes()
}

fn run(site: &mut Site, verb: &str, payload: &[u8]) -> (Option<Value>, Result<Value, String>) {
    if payload.len() > MOST_BYTES {
        return (None, Err(format!("{} bytes: a request has {MOST_BYTES} at most", payload.len())));
    }
    let arguments = match payload {
        [] => Ok(Map::new()),
        _ => serde_json::from_slice::<Map<String, Value>>(payload),
    };
    let mut arguments = match arguments {
        Ok(arguments) => arguments,
        Err(error) => return (None, Err(format!("the arguments are no JSON object: {error}"))),
    };
    let correlation = arguments.remove("correlation");
    let parsed = vedette_core::registry::find(ALL, verb).map_err(|e| e.to_string()).and_then(|kind| {
        let arguments = Value::Object(arguments);
        (kind.parse)(&mut <dyn erased_serde::Deserializer<'_>>::erase(arguments)).map_err(|e| e.to_string())
    });
    (correlation, parsed.and_then(|request| request.run(site)))
}

#[cfg(test)]
mod tests;
