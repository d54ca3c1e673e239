//! What is told on which topic, in the bytes of the golden files.

use vedette_core::EndedBy;

use super::super::topic;
use super::*;
use crate::fixtures::{self, at, golden_event, name, node_status, rule, rule_state, stamp};

fn place() -> Place {
    Place { prefix: "site/vedette".to_owned(), node: name("box") }
}

fn event(kind: &'static str, phase: Phase) -> Event {
    let Event { id, why, .. } = golden_event();
    Event { id, kind, phase, why, ..fixtures::event() }
}

fn state(kind: &'static str, active: bool) -> StateUpdate {
    StateUpdate {
        kind,
        changed: at("2026-11-24T02:36:00Z").wall,
        active,
        since: active.then(|| at("2026-11-24T02:35:42.12Z").wall),
        ..rule_state("gate", "night")
    }
}

fn told(update: &Update) -> Vec<Message> {
    Onvif::default().update(&place(), update)
}

fn happens(event: &Event, seq: u64) -> Message {
    Onvif::default().event(&stamp(), seq, None, event).unwrap()
}

/// Topic below `onvif-ej/`, payload, whether it is retained.
#[track_caller]
fn check(message: &Message, below: &str, payload: &str, retained: bool) {
    assert_eq!(message.topic, format!("onvif-ej/{below}"));
    assert_eq!(String::from_utf8_lossy(&message.payload), payload.trim_end());
    assert_eq!(message.retained, retained);
}

const BOTH: &str = "/&gate/vedette/night";

#[test]
fn topics_begin_with_prefix_and_node() {
    let message = happens(&event("line_crossing", Phase::Once), 1);
    assert_eq!(
        topic(&Onvif::default().root(&place()), &message.topic),
        "site/vedette/box/onvif-ej/RuleEngine/LineDetector/Crossed/&gate/vedette/night"
    );
}

#[test]
fn somebody_inside_is_a_property_and_an_incident() {
    let property = told(&Update::State(state("intrusion", true)));
    let inside = include_str!("../../../../tests/golden/wire/onvif.inside.json");
    check(&property[0], &format!("RuleEngine/FieldDetector/ObjectsInside{BOTH}"), inside, true);
    let incident = happens(&event("intrusion", Phase::Begin), 1042);
    let golden = include_str!("../../../../tests/golden/wire/onvif.incident.json");
    check(&incident, &format!("{INCIDENT}{BOTH}"), golden, false);
    let mut end = event("intrusion", Phase::End);
    end.ended_by = Some(EndedBy::CameraLost);
    let end = happens(&end, 1043);
    assert_eq!(end.topic, incident.topic);
    let payload: serde_json::Value = serde_json::from_slice(&end.payload).unwrap();
    assert_eq!(
        (&payload["Data"]["Phase"], &payload["Data"]["EndedBy"]),
        (&"end".into(), &"camera-lost".into())
    );
}

#[test]
fn a_crossing_has_its_direction_and_the_line_its_counter() {
    let mut crossing = event("line_crossing", Phase::Once);
    (crossing.direction, crossing.value) = (Some(Direction::In), Some(4.0));
    let golden = include_str!("../../../../tests/golden/wire/onvif.crossed.json");
    check(&happens(&crossing, 1043), &format!("RuleEngine/LineDetector/Crossed{BOTH}"), golden, false);
    let counter = told(&Update::State(StateUpdate { value: Some(4.0), ..state("line_crossing", false) }));
    let payload = r#"{"UtcTime":"2026-11-24T02:36:00.000Z","Source":{"VideoSource":"gate","AnalyticsConfiguration":"vedette","Rule":"night"},"Data":{"Count":4}}"#;
    check(&counter[0], &format!("RuleEngine/CountAggregation/Counter{BOTH}"), payload, true);
    assert!(told(&Update::State(state("line_crossing", false))).is_empty(), "without a number there is none");
}

#[test]
fn loitering_exists_while_it_lasts() {
    let below = format!("RuleEngine/LoiteringDetector/ObjectIsLoitering{BOTH}");
    let payload = r#"{"UtcTime":"2026-11-24T02:35:42.120Z","Source":{"VideoSource":"gate","AnalyticsConfiguration":"vedette","Rule":"night"},"Data":{"Since":"2026-11-24T02:35:42.120Z"}}"#;
    check(&told(&Update::State(state("loitering", true)))[0], &below, payload, true);
    check(&told(&Update::State(state("loitering", false)))[0], &below, "", true);
}

#[test]
fn kinds_without_a_standard_word_have_ours() {
    let property = &told(&Update::State(state("wrong_way", false)))[0];
    let payload = r#"{"UtcTime":"2026-11-24T02:36:00.000Z","Source":{"VideoSource":"gate","AnalyticsConfiguration":"vedette","Rule":"night"},"Data":{"IsActive":false}}"#;
    check(property, &format!("RuleEngine/vedette:WrongWay{BOTH}"), payload, true);
    assert_eq!(
        happens(&event("tailgating", Phase::Once), 1).topic,
        format!("onvif-ej/RuleEngine/vedette:Tailgating{BOTH}")
    );
}

#[test]
fn nothing_that_happened_is_on_the_topic_of_a_property() {
    let kinds = STANDARD.iter().map(|row| row.kind).chain(["fall"]);
    for kind in kinds {
        let state = StateUpdate { value: Some(1.0), ..state(kind, true) };
        for property in told(&Update::State(state)) {
            for phase in [Phase::Begin, Phase::Update, Phase::End] {
                let message = happens(&event(kind, phase), 1);
                assert_ne!(message.topic, property.topic, "{kind} {phase:?}");
                assert!(!message.retained && property.retained, "{kind}");
            }
        }
    }
}

#[test]
fn what_is_abandoned_begins_with_the_standard_topic_and_ends_as_an_incident() {
    let begin = happens(&event("abandoned", Phase::Begin), 1);
    assert_eq!(begin.topic, format!("onvif-ej/RuleEngine/ObjectAbandoned{BOTH}"));
    assert_eq!(happens(&event("abandoned", Phase::End), 2).topic, format!("onvif-ej/{INCIDENT}{BOTH}"));
    assert!(told(&Update::State(state("abandoned", true))).is_empty());
}

#[test]
fn a_lost_camera_is_a_lost_signal() {
    let status = |state| CameraStatus {
        camera: name("gate"),
        state,
        decode: "watch",
        fps: 5.0,
        gate: None,
        reason: None,
        since: "2026-11-24T02:35:42.12Z".parse().unwrap(),
    };
    let payload =
        r#"{"UtcTime":"2026-11-24T02:35:42.120Z","Source":{"Source":"gate"},"Data":{"State":true}}"#;
    check(&told(&Update::Camera(status("lost")))[0], "VideoSource/SignalLoss/&gate", payload, true);
    assert!(told(&Update::Camera(status("connecting"))).is_empty(), "nobody knows yet");
    let cleared = Onvif::default().cleared(&place(), &Update::Camera(status("connecting")));
    check(&cleared[0], "VideoSource/SignalLoss/&gate", "", true);
}

#[test]
fn events_of_the_node_have_no_camera() {
    let disk = Event { camera: None, object: None, rule: name("disk"), ..event("health", Phase::Begin) };
    assert_eq!(happens(&disk, 1).topic, format!("onvif-ej/{INCIDENT}/&disk"));
}

#[test]
fn properties_of_rules_that_are_gone_are_deleted() {
    let gone = ["intrusion", "fall", "removed"].map(|kind| rule("old", kind)).to_vec();
    let inventory = CameraInventory { camera: name("gate"), rules: vec![rule("old", "loitering")], gone };
    let messages = told(&Update::Inventory(inventory.clone()));
    let below = ["RuleEngine/FieldDetector/ObjectsInside", "RuleEngine/vedette:Fall"];
    assert_eq!(messages.len(), below.len());
    for (message, below) in messages.iter().zip(below) {
        check(message, &format!("{below}/&gate/vedette/old"), "", true);
    }
    assert_eq!(Onvif::default().cleared(&place(), &Update::Inventory(inventory)), messages);
    let cleared = Onvif::default().cleared(&place(), &Update::State(state("intrusion", true)));
    check(&cleared[0], &format!("RuleEngine/FieldDetector/ObjectsInside{BOTH}"), "", true);
}

#[test]
fn the_property_of_a_former_kind_is_deleted_and_not_that_of_another_rule() {
    let former_kinds = ["intrusion", "tamper"].map(str::to_owned).to_vec();
    // Both tell the one property of the picture; the second still does.
    let rules = vec![RuleInventory { former_kinds, ..rule("a", "loitering") }, rule("b", "tamper")];
    let inventory = CameraInventory { camera: name("gate"), rules, gone: vec![] };
    let messages = told(&Update::Inventory(inventory));
    assert_eq!(messages.len(), 1);
    check(&messages[0], "RuleEngine/FieldDetector/ObjectsInside/&gate/vedette/a", "", true);
}

#[test]
fn classes_are_onvifs_where_it_has_one() {
    for (class, expected) in
        [("person", "Human"), ("truck", "Vehicle"), ("dog", "Animal"), ("forklift", "forklift")]
    {
        assert_eq!(class_type(class), expected);
    }
}

#[test]
fn there_is_no_will_and_nothing_of_the_node() {
    let status = node_status().offline();
    assert_eq!(Onvif::default().will(&place(), &status), None);
    assert!(told(&Update::Node(status)).is_empty());
}
