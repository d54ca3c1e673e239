//! Whether a message is what `etc/schemas` promises; the schema is picked by the topic.
//!
//! Owns: that choice. Does not know: where messages come from. Every test that receives messages asks here.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// Schema of each kind of topic, by file stem.
const NAMES: [&str; 6] = ["event", "evidence", "status", "camera-status", "state", "stats"];

fn validators() -> &'static BTreeMap<&'static str, Validator> {
    static VALIDATORS: OnceLock<BTreeMap<&'static str, Validator>> = OnceLock::new();
    VALIDATORS.get_or_init(|| NAMES.iter().map(|name| (*name, load(name))).collect())
}

fn load(name: &str) -> Validator {
    let path = format!("{}/../etc/schemas/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let schema: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
    jsonschema::draft202012::new(&schema).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Which schema a topic below `<prefix>/<node>` has.
fn schema_of(topic: &str) -> Option<&'static str> {
    let levels: Vec<_> = topic.split('/').collect();
    match levels[..] {
        [.., "state", _] => Some("state"),
        [.., "event"] => Some("event"),
        [.., "evidence"] => Some("evidence"),
        [.., "stats"] => Some("stats"),
        // `<prefix>/<node>/status` or `<prefix>/<node>/<camera>/status`, the prefix having one level.
        [_, _, "status"] => Some("status"),
        [_, _, _, "status"] => Some("camera-status"),
        _ => None,
    }
}

/// Checks a message of the dialect `vedette` under a prefix of one level. An empty payload clears a retained topic
/// and is valid everywhere.
///
/// # Errors
/// What is wrong, with the place in the message; also a topic that no schema is for.
pub fn validate(topic: &str, payload: &[u8]) -> Result<(), String> {
    if payload.is_empty() {
        return Ok(());
    }
    let name = schema_of(topic).ok_or_else(|| format!("{topic}: no schema is for this topic"))?;
    let message: Value = serde_json::from_slice(payload).map_err(|e| format!("{topic}: not JSON: {e}"))?;
    let wrong: Vec<_> =
        validators()[name].iter_errors(&message).map(|e| format!("{}: {e}", e.instance_path())).collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("{topic}: {}", wrong.join("; "))) }
}
