//! Metrics, their bytes, and what strangers' bytes mean.

use std::collections::BTreeSet;

use proptest::prelude::*;
use vedette_core::{BBox, Direction, EndedBy, ObjectSummary, Severity};

use super::*;
use crate::fixtures::{camera_status, golden_event, golden_stamp as stamp, name, rule, rule_state};
use crate::wire::{CameraInventory, CameraStatus, RuleInventory, StateUpdate};

/// With numbers that a float is exactly: the golden bytes were made with them.
fn sample() -> Event {
    let event = golden_event();
    let (bbox, direction) = (BBox { x0: 0.25, y0: 0.5, x1: 0.375, y1: 0.625 }, Some(Direction::In));
    let exact = |object| ObjectSummary { score: 0.75, bbox, speed: 1.25, ..object };
    Event { direction, object: event.object.map(exact), ..event }
}

fn dialect() -> Sparkplug {
    Sparkplug::new("vedette", None).unwrap()
}

fn names(metrics: &[Metric]) -> Vec<&str> {
    metrics.iter().map(|m| m.name.as_deref().unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The golden file holds these bytes, and beside them what the decoder of Eclipse Tahu (Python, `tahu` 0.1.2) made of
/// them: read and compared with the event by a person.
#[test]
fn an_event_is_exactly_the_bytes_that_tahu_has_read() {
    let message = dialect().event(&stamp(), 1042, Some(548), &sample()).unwrap();
    let golden = include_str!("../../../../tests/golden/wire/sparkplug.event.json");
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    assert_eq!(message.topic, golden["topic"].as_str().unwrap());
    assert_eq!(hex(&message.payload), golden["payload"].as_str().unwrap());
    assert!(!message.retained);
}

#[test]
fn every_metric_of_an_event_is_in_the_birth_with_its_type() {
    let event = metrics::event(Some(metrics::Stamped {
        stamp: &stamp(),
        seq: 1,
        latency_ms: None,
        event: &Event {
            ended_by: Some(EndedBy::CameraLost),
            value: Some(3.0),
            unit: Some("persons"),
            ..sample()
        },
    }));
    let (shape, born) = (no_event(), |m: &Metric| (m.name.clone(), m.datatype));
    assert_eq!(event.iter().map(born).collect::<Vec<_>>(), shape.iter().map(born).collect::<Vec<_>>());
    for metric in &shape {
        assert_eq!((metric.is_null, &metric.value), (Some(true), &None), "{metric:?}");
    }
    for metric in event.iter().filter(|m| m.is_null == Some(true)) {
        let empty = ["Event/Line", "Event/LatencyMs"];
        assert!(empty.contains(&metric.name.as_deref().unwrap()), "{metric:?}");
    }
}

#[test]
fn events_of_the_node_are_the_nodes_data() {
    let event = Event { camera: None, ..sample() };
    assert_eq!(dialect().event(&stamp(), 1, None, &event).unwrap().topic, "NDATA/plant7-box2");
}

#[test]
fn what_waited_is_marked_and_keeps_its_times() {
    let message = dialect().event(&stamp(), 1, None, &sample()).unwrap();
    let (fresh, old) = (thaw(&message.payload, false).unwrap(), thaw(&message.payload, true).unwrap());
    let decided = millis(sample().decided.wall);
    for (fresh, old) in fresh.iter().zip(&old) {
        assert_eq!((fresh.is_historical, old.is_historical), (None, Some(true)));
        assert_eq!((fresh.timestamp, old.timestamp), (Some(decided), Some(decided)));
    }
    assert_eq!(thaw(b"\xff\xff", false), None);
}

#[test]
fn a_camera_tells_of_its_rules_and_numbers_only_where_they_count() {
    let status = CameraStatus { decode: "busy", fps: 4.987, ..camera_status("gate", "live") };
    let rule = |text, counts| {
        let severity = Severity::Info;
        RuleInventory { severity, counts, ..rule(text, "occupancy") }
    };
    let inventory = CameraInventory {
        camera: name("gate"),
        rules: vec![rule("people", true), rule("night", false)],
        gone: vec![],
    };
    let state = StateUpdate {
        kind: "occupancy",
        active: true,
        value: Some(3.0),
        unit: Some("persons"),
        ..rule_state("gate", "people")
    };
    let metrics = camera(&status, Some(&inventory), &[(name("people"), state)].into());
    let expected = [
        "Camera/State",
        "Camera/Decode",
        "Camera/Fps",
        "Camera/Reason",
        "Camera/Since",
        "Rule/night/Active",
        "Rule/night/Armed",
        "Rule/night/Since",
        "Rule/people/Active",
        "Rule/people/Armed",
        "Rule/people/Since",
        "Rule/people/Value",
        "Rule/people/Unit",
    ];
    assert_eq!(names(&metrics), expected);
    assert_eq!(metrics[2].value, Some(Value::Double(5.0)));
    assert_eq!(metrics[5].is_null, Some(true), "nothing is known of it yet");
    assert_eq!(metrics[8].value, Some(Value::Boolean(true)));
    assert_eq!(metrics[11].value, Some(Value::Double(3.0)));
}

/// `tck-id-case-sensitivity-metric-names`.
#[test]
fn metric_names_differ_in_more_than_case() {
    let own = [bd_seq(0), rebirth()];
    let all: Vec<_> = no_event().into_iter().chain(node(None)).chain(own).collect();
    let lower: BTreeSet<_> = names(&all).into_iter().map(str::to_lowercase).collect();
    assert_eq!(lower.len(), all.len());
}

#[test]
fn a_death_holds_its_number_alone() {
    // timestamp and seq have no field; metric: name bdSeq, datatype Int64, long value 7.
    assert_eq!(hex(&death(7)), "120b0a056264536571200458".to_owned() + "07");
}

/// `tck-id-topic-structure-namespace-valid-group-id` and what follows from it for a host.
#[test]
fn groups_and_hosts_are_one_level_of_a_topic() {
    for wrong in ["", "a/b", "a+", "#", "a\0b", "STATE"] {
        let reason = Sparkplug::new(wrong, None).unwrap_err();
        assert!(reason.starts_with(&format!("group `{wrong}`")), "{reason}");
    }
    let reason = Sparkplug::new("plant", Some("a/b")).unwrap_err();
    assert!(reason.starts_with("primary_host `a/b`"), "{reason}");
    let dialect = Sparkplug::new("Plant 7:α", Some("scada")).unwrap();
    assert_eq!(dialect.host_topic().unwrap(), "spBv1.0/STATE/scada");
    let place = Place { prefix: "ignored".to_owned(), node: name("box") };
    assert_eq!(dialect.root(&place), "spBv1.0/Plant 7:α");
    assert_eq!(dialect.subscriptions(&place), ["spBv1.0/Plant 7:α/NCMD/box", "spBv1.0/STATE/scada"]);
}

#[test]
fn only_the_request_asks_for_births() {
    let command = |metrics| Payload { timestamp: Some(1), metrics, seq: None }.encode_to_vec();
    let flag = |name: &str, value| Metric::flag(name, value);
    assert!(asks_for_rebirth(&command(vec![
        flag("Node Control/Reboot", Some(true)),
        flag(REBIRTH, Some(true))
    ])));
    for metrics in [
        vec![],
        vec![flag(REBIRTH, Some(false))],
        vec![flag(REBIRTH, None)],
        vec![flag("Node Control/Reboot", Some(true))],
        vec![Metric::whole(REBIRTH, Some(1))],
    ] {
        assert!(!asks_for_rebirth(&command(metrics.clone())), "{metrics:?}");
    }
}

#[test]
fn a_hosts_state_is_read_or_it_is_nothing() {
    let online = host_state(br#"{"online":true,"timestamp":1700000000000}"#);
    assert_eq!(online, Some(HostState { online: true, timestamp: 1_700_000_000_000 }));
    for wrong in
        [&b"ONLINE"[..], b"", b"{\"online\":true}", b"{\"online\":1,\"timestamp\":1}", b"[1]", b"\xff"]
    {
        assert_eq!(host_state(wrong), None);
    }
}

proptest! {
    /// Bytes of strangers: whatever comes, no panic.
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = (asks_for_rebirth(&bytes), host_state(&bytes), thaw(&bytes, true));
    }

    /// Nor is a real command that was damaged on its way, or nested without end.
    #[test]
    fn no_damage_is_too_strange(at in 0_usize..100, with in any::<u8>(), depth in 0_usize..500) {
        let mut bytes = Payload { timestamp: Some(1), metrics: vec![rebirth()], seq: None }.encode_to_vec();
        let place = at % bytes.len();
        bytes[place] = with;
        let _ = asks_for_rebirth(&bytes);
        // A template (field 18) in a template's metric (field 2), and so on.
        let nested = (0..depth).fold(Vec::new(), |inner: Vec<u8>, level| {
            let mut outer = if level % 2 == 0 { vec![0x12] } else { vec![0x92, 0x01] };
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend(inner);
            outer
        });
        let _ = asks_for_rebirth(&nested);
    }
}
