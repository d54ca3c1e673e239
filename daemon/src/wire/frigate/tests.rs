//! Every message, held against the keys and types of Frigate's documentation.

use serde_json::{Value, json};
use vedette_core::{Direction, EndedBy, ObjectSummary};

use super::*;
use crate::fixtures::{
    at, camera_status, golden_event, golden_stamp as stamp, name, node_status, rule_state,
};
use crate::wire::{CameraInventory, CameraStatus, FrigateSettings, NodeStatus, StateUpdate, Stats};

/// Keys and types of `before` and `after`: from the example in Frigate's documentation (docs.frigate.video, page "MQTT",
/// version 0.17, read in November 2026), and behind it those that `TrackedObject.to_dict` of its source has beyond.
const SIDE: &[(&str, Type)] = &[
    ("id", Type::Text),
    ("camera", Type::Text),
    ("frame_time", Type::Number),
    ("snapshot", Type::Object),
    ("label", Type::Text),
    ("sub_label", Type::NullOrPair),
    ("top_score", Type::Number),
    ("false_positive", Type::Flag),
    ("start_time", Type::Number),
    ("end_time", Type::NullOrNumber),
    ("score", Type::Number),
    ("box", Type::Pixels),
    ("area", Type::Integer),
    ("ratio", Type::Number),
    ("region", Type::Pixels),
    ("current_zones", Type::Texts),
    ("entered_zones", Type::Texts),
    ("thumbnail", Type::NullOrText),
    ("has_snapshot", Type::Flag),
    ("has_clip", Type::Flag),
    ("active", Type::Flag),
    ("stationary", Type::Flag),
    ("motionless_count", Type::Integer),
    ("position_changes", Type::Integer),
    ("attributes", Type::Object),
    ("current_attributes", Type::List),
    ("current_estimated_speed", Type::Number),
    ("average_estimated_speed", Type::Number),
    ("velocity_angle", Type::Number),
    ("recognized_license_plate", Type::NullOrText),
    ("recognized_license_plate_score", Type::NullOrNumber),
    ("pending_loitering", Type::Flag),
    ("max_severity", Type::Text),
    ("path_data", Type::List),
];

/// Keys and types of `snapshot`, likewise.
const SNAPSHOT: &[(&str, Type)] = &[
    ("frame_time", Type::Number),
    ("box", Type::Pixels),
    ("area", Type::Integer),
    ("region", Type::Pixels),
    ("score", Type::Number),
    ("attributes", Type::List),
];

#[derive(Clone, Copy, Debug)]
enum Type {
    Flag,
    Integer,
    List,
    NullOrNumber,
    NullOrPair,
    NullOrText,
    Number,
    Object,
    Pixels,
    Text,
    Texts,
}

impl Type {
    fn fits(self, value: &Value) -> bool {
        let list = value.as_array();
        match self {
            Self::Flag => value.is_boolean(),
            Self::Integer => value.is_u64(),
            Self::List => value.is_array(),
            Self::NullOrNumber => value.is_null() || value.is_number(),
            Self::NullOrPair => value.is_null() || list.is_some_and(|l| l.len() == 2),
            Self::NullOrText => value.is_null() || value.is_string(),
            Self::Number => value.is_number(),
            Self::Object => value.is_object(),
            Self::Pixels => list.is_some_and(|l| l.len() == 4 && l.iter().all(Value::is_u64)),
            Self::Text => value.is_string(),
            Self::Texts => list.is_some_and(|l| l.iter().all(Value::is_string)),
        }
    }
}

fn place() -> Place {
    Place { prefix: "vedette".to_owned(), node: name("plant7-box2") }
}

fn dialect() -> Arc<dyn Dialect> {
    build(&Settings::default()).unwrap()
}

/// An incident that began at 02:35:42.120 (1795487742.120 s).
fn event(phase: Phase) -> Event {
    let ms = u128::try_from(at("2026-11-24T02:35:42.12Z").wall.as_millisecond()).unwrap();
    let (captured, decided) = match phase {
        Phase::Begin | Phase::Once => ("2026-11-24T02:35:42.12Z", "2026-11-24T02:35:42.64Z"),
        Phase::Update => ("2026-11-24T02:35:50Z", "2026-11-24T02:35:50Z"),
        Phase::End => ("2026-11-24T02:36:01.5Z", "2026-11-24T02:36:03Z"),
    };
    Event {
        id: Uuid::from_u128(ms << 80 | 0x7000_8000_0000_0000_0123),
        phase,
        captured: at(captured),
        decided: at(decided),
        ended_by: (phase == Phase::End).then_some(EndedBy::Rule),
        ..golden_event()
    }
}

fn said(event: &Event) -> Value {
    let message = dialect().event(&stamp(), 1042, Some(548), event).unwrap();
    assert_eq!((message.topic.as_str(), message.retained), ("events", false));
    serde_json::from_slice(&message.payload).unwrap()
}

fn check(what: &str, object: &Value, keys: &[(&str, Type)]) {
    for (key, kind) in keys {
        let value = object.get(key).unwrap_or_else(|| panic!("{what} lacks {key}"));
        assert!(kind.fits(value), "{what}.{key} is no {kind:?}: {value}");
    }
    for key in object.as_object().unwrap().keys() {
        assert!(keys.iter().any(|(known, _)| known == key), "{what}: Frigate has no key {key}");
    }
}

#[test]
fn every_message_has_every_key_of_frigate_with_its_type() {
    for phase in [Phase::Begin, Phase::Update, Phase::End, Phase::Once] {
        for object in [true, false] {
            let mut event = event(phase);
            event.object = event.object.filter(|_| object);
            let message = said(&event);
            let keys: Vec<_> = message.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["type", "before", "after", "vedette"]);
            for side in ["before", "after"] {
                check(side, &message[side], SIDE);
                check("snapshot", &message[side]["snapshot"], SNAPSHOT);
            }
        }
    }
}

#[test]
fn the_beginning_and_the_end_are_exactly_the_golden_json() {
    let golden = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let new = golden(include_str!("../../../../tests/golden/wire/frigate.new.json"));
    assert_eq!(said(&event(Phase::Begin)), new);
    let end = golden(include_str!("../../../../tests/golden/wire/frigate.end.json"));
    assert_eq!(said(&event(Phase::End)), end);
}

#[test]
fn phases_are_told_in_frigates_words() {
    struct Case {
        phase: Phase,
        r#type: &'static str,
        /// Entered zones, current zones, and whether there is an end: before and after.
        before: (usize, usize, bool),
        after: (usize, usize, bool),
    }
    let cases = [
        Case { phase: Phase::Begin, r#type: "new", before: (0, 0, false), after: (1, 1, false) },
        Case { phase: Phase::Update, r#type: "update", before: (1, 1, false), after: (1, 1, false) },
        Case { phase: Phase::End, r#type: "end", before: (1, 1, false), after: (1, 0, true) },
        Case { phase: Phase::Once, r#type: "new", before: (0, 0, false), after: (1, 1, true) },
    ];
    for Case { phase, r#type, before, after } in cases {
        let message = said(&event(phase));
        assert_eq!(message["type"], r#type, "{phase:?}");
        for (side, expected) in [("before", before), ("after", after)] {
            let zones = |key: &str| message[side][key].as_array().unwrap().len();
            let found =
                (zones("entered_zones"), zones("current_zones"), !message[side]["end_time"].is_null());
            assert_eq!(found, expected, "{side} of {phase:?}");
        }
    }
}

#[test]
fn all_messages_of_an_incident_have_its_id_and_start() {
    let all = [Phase::Begin, Phase::Update, Phase::End].map(|phase| said(&event(phase))["after"].clone());
    let id = all[0]["id"].as_str().unwrap();
    let (time, tail) = id.split_once('-').unwrap();
    assert_eq!(time, "1795487742.120000");
    assert!(tail.len() == 6 && tail.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{id}");
    for side in &all {
        assert_eq!((&side["id"], &side["start_time"]), (&json!(id), &json!(1_795_487_742.12)));
    }
    let other = Event { id: Uuid::from_u128(event(Phase::Begin).id.as_u128() + 1), ..event(Phase::Begin) };
    assert_ne!(said(&other)["after"]["id"], id);
}

#[test]
fn a_line_is_entered_and_nobody_stands_in_it() {
    let crossing =
        Event { zone: None, line: Some(name("fence")), direction: Some(Direction::In), ..event(Phase::Once) };
    let after = &said(&crossing)["after"];
    assert_eq!((&after["entered_zones"], &after["current_zones"]), (&json!(["fence"]), &json!([])));
    assert_eq!(after["end_time"], after["start_time"]);
}

#[test]
fn an_event_does_not_end_before_it_began() {
    let mut early = event(Phase::End);
    early.captured = at("2026-11-24T02:35:41Z");
    let after = &said(&early)["after"];
    assert_eq!(after["end_time"], after["start_time"]);
}

#[test]
fn boxes_are_pixels_of_frigates_default_picture() {
    struct Case([f32; 4], [u32; 4]);
    let cases = [
        Case([0.0, 0.0, 1.0, 1.0], [0, 0, 1280, 720]),
        Case([0.5, 0.25, 0.75, 0.5], [640, 180, 960, 360]),
        Case([-0.2, f32::NAN, 1.2, 0.5], [0, 0, 1280, 360]),
        Case([0.6, 0.6, 0.5, 0.5], [640, 360, 768, 432]),
    ];
    for Case([x0, y0, x1, y1], expected) in cases {
        assert_eq!(pixels(BBox { x0, y0, x1, y1 }), expected, "{:?}", [x0, y0, x1, y1]);
    }
}

#[test]
fn what_has_no_object_is_the_whole_picture() {
    let after = &said(&Event { object: None, ..event(Phase::Begin) })["after"];
    assert_eq!((&after["label"], &after["score"]), (&json!("intrusion"), &json!(1.0)));
    assert_eq!((&after["box"], &after["area"]), (&json!([0, 0, 1280, 720]), &json!(1280 * 720)));
}

#[test]
fn speed_is_told_where_it_is_known() {
    let mut fast = event(Phase::Begin);
    assert_eq!(said(&fast)["after"]["current_estimated_speed"], 0.0);
    fast.object =
        fast.object.map(|o| ObjectSummary { speed: 2.5, speed_unit: SpeedUnit::MetresPerSecond, ..o });
    let after = &said(&fast)["after"];
    assert_eq!(
        (&after["current_estimated_speed"], &after["average_estimated_speed"]),
        (&json!(9.0), &json!(9.0))
    );
}

#[test]
fn severities_are_alerts_or_detections() {
    for (severity, expected) in [(Severity::Alarm, "alert"), (Severity::Warning, "detection")] {
        assert_eq!(said(&Event { severity, ..event(Phase::Begin) })["after"]["max_severity"], expected);
    }
}

#[test]
fn health_and_the_node_have_no_event() {
    for silent in
        [Event { camera: None, ..event(Phase::Begin) }, Event { kind: "health", ..event(Phase::Begin) }]
    {
        assert_eq!(dialect().event(&stamp(), 1, None, &silent), None);
    }
}

fn status(state: &'static str) -> NodeStatus {
    NodeStatus { state, ..node_status() }
}

fn camera(state: &'static str) -> Update {
    CameraStatus { decode: "busy", ..camera_status("gate", state) }.into()
}

fn state(rule: &str, active: bool, value: Option<f64>) -> Update {
    StateUpdate { active, value, ..rule_state("gate", rule) }.into()
}

#[test]
fn updates_are_frigates_topics() {
    struct Case(Update, &'static str, &'static str);
    let cases = [
        Case(status("online").into(), "available", "online"),
        Case(status("stopping").into(), "available", "stopped"),
        Case(status("online").offline().into(), "available", "offline"),
        Case(camera("live"), "gate/status/detect", "online"),
        Case(camera("tampered"), "gate/status/detect", "online"),
        Case(camera("connecting"), "gate/status/detect", "offline"),
        Case(camera("lost"), "gate/status/detect", "offline"),
        Case(camera("misconfigured"), "gate/status/detect", "offline"),
        Case(state("night", true, None), "gate/night", "1"),
        Case(state("night", false, None), "gate/night", "0"),
        Case(state("queue", true, Some(3.6)), "gate/queue", "4"),
        Case(state("queue", false, Some(0.0)), "gate/queue", "0"),
        Case(state("queue", false, Some(-2.0)), "gate/queue", "0"),
        Case(state("queue", true, Some(f64::NAN)), "gate/queue", "1"),
    ];
    for Case(update, topic, text) in cases {
        let told = dialect().update(&place(), &update);
        assert_eq!(told, [Message::retained(topic, text.as_bytes().to_vec())], "{update:?}");
        let cleared = dialect().cleared(&place(), &update);
        assert_eq!(cleared, [Message::retained(topic, Vec::new())], "{update:?}");
    }
}

#[test]
fn what_frigate_means_otherwise_is_not_told() {
    let inventory = CameraInventory { camera: name("gate"), rules: Vec::new(), gone: Vec::new() };
    let now = "2026-11-24T03:00:00Z".parse().unwrap();
    let stats =
        Stats { at: now, since: now, rss_bytes: 0, cameras: [].into(), models: [].into(), sinks: [].into() };
    for update in [state("motion", true, Some(2.0)), inventory.into(), Update::Stats(stats)] {
        assert_eq!(dialect().update(&place(), &update), [], "{update:?}");
    }
}

#[test]
fn it_has_its_own_connection_with_frigates_will() {
    let frigate = FrigateSettings { prefix: "site/frigate".to_owned() };
    let dialect = build(&Settings { frigate, ..Settings::default() }).unwrap();
    let at = place();
    assert!(dialect.own_connection());
    assert_eq!(dialect.root(&at), "site/frigate");
    assert_eq!(dialect.needs(), [""; 0]);
    assert_eq!(dialect.subscriptions(&at), [""; 0]);
    let will = dialect.will(&at, &status("online").offline());
    assert_eq!(will, Some(Message::retained("available", b"offline".to_vec())));
}

#[test]
fn a_prefix_that_is_no_topic_is_refused() {
    let frigate = FrigateSettings { prefix: "frigate/".to_owned() };
    let refused = build(&Settings { frigate, ..Settings::default() }).unwrap_err();
    assert!(refused.starts_with("`prefix`: `frigate/` is no topic prefix"), "{refused}");
}
