//! The golden messages are what the schemas promise, and the schemas refuse what is wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use vedette_tests::schemas;

/// The topic that a golden file's name stands for.
fn topic(stem: &str) -> String {
    let kind = stem.split('.').next().unwrap_or(stem);
    let below = match kind {
        "event" => "gate/event",
        "evidence" => "gate/evidence",
        "node-event" => "event",
        "camera-status" => "gate/status",
        "state" => "gate/state/night",
        other => other,
    };
    format!("vedette/plant7-box2/{below}")
}

/// Those of the dialect `vedette`; another dialect's begin with its name.
fn golden() -> Vec<(String, Value)> {
    let is_ours = |path: &std::path::PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        vedette::wire::dialect(name.split('.').next().unwrap_or_default()).is_none()
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/wire");
    let files = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path());
    let mut golden: Vec<_> = files
        .filter(is_ours)
        .map(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (topic(&stem), serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
        })
        .collect();
    golden.sort_by(|a, b| a.0.cmp(&b.0));
    golden
}

#[test]
fn golden_messages_are_valid() {
    let golden = golden();
    assert!(golden.len() >= 6, "one for each schema at least: {}", golden.len());
    for (topic, message) in golden {
        schemas::validate(&topic, message.to_string().as_bytes()).unwrap();
    }
}

#[test]
fn every_key_is_needed_and_no_other_is_known() {
    for (topic, message) in golden() {
        let Value::Object(message) = message else { panic!("{topic}: not an object") };
        for key in message.keys() {
            let mut less = message.clone();
            less.remove(key);
            let less = Value::Object(less).to_string();
            assert!(schemas::validate(&topic, less.as_bytes()).is_err(), "{topic} without {key}");
        }
        let mut more = message.clone();
        more.insert("surprise".to_owned(), Value::Null);
        let more = Value::Object(more).to_string();
        assert!(schemas::validate(&topic, more.as_bytes()).is_err(), "{topic} with a key more");
    }
}

#[test]
fn wrong_values_are_refused() {
    struct Case(&'static str, &'static str, Value);
    let cases = [
        Case("event", "captured", "2026-11-24T02:35:42Z".into()),
        Case("event", "captured", "2026-11-24T02:35:42.120+01:00".into()),
        Case("event", "seq", 0.into()),
        Case("event", "severity", "urgent".into()),
        Case("event", "ended_by", "rule".into()),
        Case("event", "config", "b64a11d0ffff".into()),
        Case("camera-status", "state", "asleep".into()),
        Case("state", "active", "yes".into()),
    ];
    for Case(kind, key, value) in cases {
        let topic = topic(kind);
        let (_, mut message) = golden().into_iter().find(|(t, _)| *t == topic).unwrap();
        message[key] = value;
        assert!(
            schemas::validate(&topic, message.to_string().as_bytes()).is_err(),
            "{kind}.{key}: {message}"
        );
    }
}
