//! What is announced, held against what Home Assistant accepts and what the dialect `vedette` says.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::fixtures::{self, name, node_status, rule_state, stamp};
use crate::wire::{CameraStatus, StateUpdate};

/// What Home Assistant accepts, from its source (`homeassistant/components/mqtt`: `schemas.py`, `config.py` and the file
/// of each platform, read in November 2026) and its documentation (home-assistant.io/integrations, pages `mqtt`,
/// `binary_sensor.mqtt`, `sensor.mqtt`, `event.mqtt` and `switch.mqtt`). One key too many in a message, its device or
/// its origin refuses the whole message; one in a component is dropped in silence.
const MESSAGE: &[&str] = &[
    "availability",
    "availability_mode",
    "availability_template",
    "availability_topic",
    "command_topic",
    "components",
    "device",
    "encoding",
    "origin",
    "payload_available",
    "payload_not_available",
    "qos",
    "state_topic",
];
const DEVICE: &[&str] = &[
    "configuration_url",
    "connections",
    "hw_version",
    "identifiers",
    "manufacturer",
    "model",
    "model_id",
    "name",
    "serial_number",
    "suggested_area",
    "sw_version",
    "via_device",
];
const ORIGIN: &[&str] = &["name", "support_url", "sw_version"];
const AVAILABILITY: &[&str] = &["payload_available", "payload_not_available", "topic", "value_template"];
const ENTITY: &[&str] = &[
    "availability",
    "availability_mode",
    "availability_template",
    "availability_topic",
    "default_entity_id",
    "enabled_by_default",
    "encoding",
    "entity_category",
    "entity_picture",
    "icon",
    "json_attributes_template",
    "json_attributes_topic",
    "name",
    "payload_available",
    "payload_not_available",
    "platform",
    "qos",
    "unique_id",
];

/// Keys of one platform beside [`ENTITY`], those that it cannot do without, and its device classes that are used here.
struct Platform {
    name: &'static str,
    keys: &'static [&'static str],
    needed: &'static [&'static str],
    device_classes: &'static [&'static str],
}

const PLATFORMS: &[Platform] = &[
    Platform {
        name: "binary_sensor",
        keys: &[
            "device_class",
            "expire_after",
            "force_update",
            "off_delay",
            "payload_off",
            "payload_on",
            "state_topic",
            "value_template",
        ],
        needed: &["state_topic"],
        device_classes: &["connectivity", "motion", "occupancy", "problem"],
    },
    Platform {
        name: "sensor",
        keys: &[
            "device_class",
            "expire_after",
            "force_update",
            "last_reset_value_template",
            "options",
            "state_class",
            "state_topic",
            "suggested_display_precision",
            "unit_of_measurement",
            "value_template",
        ],
        needed: &["state_topic"],
        device_classes: &[],
    },
    Platform {
        name: "event",
        keys: &["device_class", "event_types", "state_topic", "value_template"],
        needed: &["state_topic", "event_types"],
        device_classes: &["motion"],
    },
    Platform {
        name: "switch",
        keys: &[
            "command_template",
            "command_topic",
            "device_class",
            "optimistic",
            "payload_off",
            "payload_on",
            "retain",
            "state_off",
            "state_on",
            "state_topic",
            "value_template",
        ],
        needed: &["command_topic"],
        device_classes: &[],
    },
];

fn place() -> Place {
    Place { prefix: "site/a".to_owned(), node: name("box") }
}

fn dialect() -> Arc<dyn Dialect> {
    build(&Settings { commands: vec!["arm".to_owned()], ..Settings::default() }).unwrap()
}

fn rule(text: &str, lasting: bool, counts: bool) -> RuleInventory {
    RuleInventory {
        zone: lasting.then(|| name("yard")),
        line: (!lasting).then(|| name("fence")),
        lasting,
        counts,
        unit: counts.then(|| "persons".to_owned()),
        ..fixtures::rule(text, "intrusion")
    }
}

fn inventory() -> CameraInventory {
    let forgotten = RuleInventory { zone: None, line: None, ..rule("old", true, true) };
    CameraInventory {
        camera: name("gate"),
        rules: vec![rule("crowd", true, true), rule("fence", false, false)],
        gone: vec![forgotten],
    }
}

fn status(cameras: usize) -> NodeStatus {
    NodeStatus { cameras, cameras_up: 0, ..node_status() }
}

fn camera_status(state: &'static str) -> CameraStatus {
    fixtures::camera_status("gate", state)
}

fn state(active: bool, value: Option<f64>, armed: bool) -> StateUpdate {
    StateUpdate { active, value, armed, ..rule_state("gate", "crowd") }
}

fn event(rule: &str, kind: &'static str, phase: Phase) -> Event {
    let why = "it's <5> & \"more\"".to_owned();
    Event { rule: name(rule), kind, phase, object: None, why, ..fixtures::event() }
}

fn json(message: &Message) -> Value {
    assert!(message.retained, "{}", message.topic);
    serde_json::from_slice(&message.payload).unwrap()
}

/// The devices of a camera: the appliance's and its own.
fn announced() -> (Value, Value) {
    let messages = dialect().update(&place(), &Update::Inventory(inventory()));
    let topics: Vec<_> = messages.iter().map(|m| m.topic.as_str()).collect();
    assert_eq!(topics, ["device/vedette_box/config", "device/vedette_box_gate/config"]);
    (json(&messages[0]), json(&messages[1]))
}

fn component<'a>(device: &'a Value, key: &str) -> &'a Value {
    let found = &device["components"][key];
    assert!(found.is_object(), "no component {key} in {device}");
    found
}

fn check_keys(what: &str, object: &Value, allowed: &[&[&str]]) {
    for key in object.as_object().unwrap().keys() {
        assert!(allowed.iter().any(|keys| keys.contains(&key.as_str())), "{what}: no key {key}");
    }
}

fn check_availability(what: &str, of: &Value) {
    for one in of["availability"].as_array().into_iter().flatten() {
        check_keys(what, one, &[AVAILABILITY]);
        assert!(one["topic"].is_string(), "{what}");
    }
    let mode = of.get("availability_mode").and_then(Value::as_str).unwrap_or("latest");
    assert!(["all", "any", "latest"].contains(&mode), "{what}");
}

/// As Home Assistant does; gives the components' unique identifiers.
fn check_message(message: &Message) -> Vec<String> {
    let level = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let levels: Vec<_> = message.topic.split('/').collect();
    assert!(matches!(levels[..], ["device", device, "config"] if level(device)), "{}", message.topic);
    let content = json(message);
    check_keys("message", &content, &[MESSAGE]);
    check_keys("device", &content["device"], &[DEVICE]);
    check_keys("origin", &content["origin"], &[ORIGIN]);
    check_availability("message", &content);
    assert!(content["origin"]["name"].is_string());
    assert_eq!(content["device"]["identifiers"], json!([levels[1]]));
    let components = content["components"].as_object().unwrap();
    components.iter().filter_map(|(key, component)| check_component(key, component)).collect()
}

fn check_component(key: &str, component: &Value) -> Option<String> {
    let platform = component["platform"].as_str().unwrap();
    let known = PLATFORMS.iter().find(|p| p.name == platform).unwrap();
    check_keys(key, component, &[ENTITY, known.keys]);
    if component.as_object().unwrap().len() == 1 {
        return None;
    }
    for needed in known.needed {
        assert!(component.get(needed).is_some(), "{key} lacks {needed}");
    }
    if let Some(class) = component["device_class"].as_str() {
        assert!(known.device_classes.contains(&class), "{key}: {class}");
    }
    if let Some(category) = component["entity_category"].as_str() {
        assert!(["config", "diagnostic"].contains(&category), "{key}: {category}");
    }
    check_availability(key, component);
    Some(component["unique_id"].as_str().expect("entities have a unique_id").to_owned())
}

/// What Home Assistant makes of a payload: nothing where it is no JSON.
fn render(template: &Value, payload: &[u8]) -> String {
    let template = template.as_str().unwrap();
    let value = serde_json::from_slice::<minijinja::Value>(payload).ok();
    let context = minijinja::Value::from_pairs(value.map(|value| ("value_json", value)));
    minijinja::Environment::new().render_str(template, context).unwrap()
}

fn said_by_vedette(update: impl Into<Update>) -> Message {
    Vedette.update(&place(), &update.into()).remove(0)
}

#[test]
fn devices_are_exactly_the_golden_json() {
    let (node, camera) = announced();
    let golden = |text: &str| {
        let text = text.replace("VERSION", env!("CARGO_PKG_VERSION"));
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(node, golden(include_str!("../../../../tests/golden/wire/homeassistant.node.json")));
    assert_eq!(camera, golden(include_str!("../../../../tests/golden/wire/homeassistant.camera.json")));
}

#[test]
fn messages_have_only_keys_that_home_assistant_knows() {
    let messages = dialect().update(&place(), &Update::Inventory(inventory()));
    let entities: Vec<_> = messages.iter().flat_map(check_message).collect();
    assert_eq!(entities.len(), 4 + 2 + 4 + 2, "{entities:?}");
}

#[test]
fn entities_look_at_topics_that_vedette_tells() {
    let mut told: BTreeSet<_> = [
        said_by_vedette(status(1)),
        said_by_vedette(camera_status("live")),
        said_by_vedette(state(true, None, true)),
        said_by_vedette(StateUpdate { rule: name("fence"), ..state(true, None, true) }),
        Vedette.event(&stamp(), 1, None, &event("fence", "line_crossing", Phase::Once)).unwrap(),
        Vedette
            .event(&stamp(), 1, None, &Event { camera: None, ..event("disk", "health", Phase::Begin) })
            .unwrap(),
    ]
    .into_iter()
    .map(|message| format!("site/a/box/{}", message.topic))
    .collect();
    told.insert("site/a/box/command/arm".to_owned());
    let mut looked_at = BTreeSet::new();
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            if key.ends_with("topic") {
                found.insert(value.as_str().unwrap().to_owned());
            }
            collect(value, found);
        }
        value.as_array().into_iter().flatten().for_each(|value| collect(value, found));
    }
    let (node, camera) = announced();
    collect(&node, &mut looked_at);
    collect(&camera, &mut looked_at);
    assert_eq!(looked_at, told);
}

#[test]
fn templates_read_what_vedette_says() {
    let (node, camera) = announced();
    let active = &component(&camera, "crowd_active")["value_template"];
    let value = &component(&camera, "crowd_value")["value_template"];
    let armed = &component(&camera, "crowd_armed")["value_template"];
    let link = &component(&camera, "link")["value_template"];
    let about = &component(&camera, "link")["json_attributes_template"];
    let seen = &camera["availability"][1]["value_template"];
    let online = &component(&node, "online")["value_template"];
    let problem = &component(&node, "problem")["value_template"];
    let up = &component(&node, "cameras_up")["value_template"];
    let there = &camera["availability"][0]["value_template"];
    struct Case<'a>(&'a Value, Message, &'a str);
    let cases = [
        Case(active, said_by_vedette(state(true, None, true)), "ON"),
        Case(active, said_by_vedette(state(false, None, true)), "OFF"),
        Case(value, said_by_vedette(state(true, Some(4.0), true)), "4.0"),
        Case(armed, said_by_vedette(state(true, None, true)), "ON"),
        Case(armed, said_by_vedette(state(true, None, false)), "OFF"),
        Case(link, said_by_vedette(camera_status("live")), "ON"),
        Case(link, said_by_vedette(camera_status("tampered")), "ON"),
        Case(link, said_by_vedette(camera_status("lost")), "OFF"),
        Case(seen, said_by_vedette(camera_status("live")), "online"),
        Case(seen, said_by_vedette(camera_status("connecting")), "offline"),
        Case(online, said_by_vedette(status(2)), "ON"),
        Case(online, said_by_vedette(status(2).offline()), "OFF"),
        Case(there, said_by_vedette(status(2)), "online"),
        Case(there, said_by_vedette(NodeStatus { state: "stopping", ..status(2) }), "offline"),
        Case(problem, said_by_vedette(status(2)), "ON"),
        Case(problem, said_by_vedette(NodeStatus { cameras_up: 2, ..status(2) }), "OFF"),
        Case(up, said_by_vedette(NodeStatus { cameras_up: 2, ..status(2) }), "2"),
    ];
    for Case(template, message, expected) in cases {
        assert_eq!(render(template, &message.payload), expected, "{template} of {message:?}");
        assert_eq!(render(template, b""), "", "{template} of a topic that was cleared");
    }
    let attributes: Value =
        serde_json::from_str(&render(about, &said_by_vedette(camera_status("live")).payload)).unwrap();
    assert_eq!(attributes, json!({ "state": "live", "reason": null, "since": "2026-11-24T02:00:00.000Z" }));
}

#[test]
fn an_event_reaches_its_rules_entity_and_no_other() {
    let (_, camera) = announced();
    let said = |event: &Event| Vedette.event(&stamp(), 7, None, event).unwrap().payload;
    struct Case(Event, &'static str);
    let cases = [
        Case(event("crowd", "intrusion", Phase::Begin), "crowd_event"),
        Case(event("crowd", "intrusion", Phase::Update), "crowd_event"),
        Case(event("crowd", "intrusion", Phase::End), "crowd_event"),
        Case(event("fence", "line_crossing", Phase::Once), "fence_event"),
        Case(event("camera-lost", "health", Phase::Begin), "health"),
        Case(event("crowd", "health", Phase::Begin), "health"),
        Case(event("test", "test", Phase::Once), "health"),
    ];
    for Case(event, owner) in &cases {
        let payload = said(event);
        for key in ["crowd_event", "fence_event", "health"] {
            let entity = component(&camera, key);
            let text = render(&entity["value_template"], &payload);
            if key != *owner {
                assert_eq!(text, "", "{key} took an event of {owner}");
                continue;
            }
            let mut found: Value = serde_json::from_str(&text).unwrap();
            let kind = found.as_object_mut().unwrap().remove("event_type").unwrap();
            assert!(entity["event_types"].as_array().unwrap().contains(&kind), "{key}: {kind}");
            assert_eq!(found, serde_json::from_slice::<Value>(&payload).unwrap());
        }
    }
}

#[test]
fn a_switch_sends_what_the_command_arm_takes() {
    let (_, camera) = announced();
    let armed = component(&camera, "crowd_armed");
    for (key, wish) in [("payload_on", true), ("payload_off", false)] {
        let sent: Value = serde_json::from_str(armed[key].as_str().unwrap()).unwrap();
        assert_eq!(sent, json!({ "camera": "gate", "rule": "crowd", "armed": wish }));
        let taken: crate::commands::arm::Config = serde_json::from_value(sent).unwrap();
        assert_eq!(taken.armed, wish);
    }
}

#[test]
fn without_the_command_arm_there_are_no_switches() {
    let silent = build(&Settings { commands: vec!["status".to_owned()], ..Settings::default() }).unwrap();
    let camera = json(&silent.update(&place(), &Update::Inventory(inventory()))[1]);
    for key in ["crowd_armed", "fence_armed"] {
        assert_eq!(component(&camera, key), &json!({ "platform": "switch" }), "{key}");
    }
}

#[test]
fn what_a_rule_has_no_more_is_removed() {
    let (_, camera) = announced();
    struct Case(&'static str, &'static str);
    let cases = [
        Case("old_active", "binary_sensor"),
        Case("old_value", "sensor"),
        Case("old_event", "event"),
        Case("old_armed", "switch"),
        Case("fence_active", "binary_sensor"),
        Case("fence_value", "sensor"),
    ];
    for Case(key, platform) in cases {
        assert_eq!(component(&camera, key), &json!({ "platform": platform }), "{key}");
    }
}

#[test]
fn a_camera_that_is_gone_takes_its_device_along() {
    let gone = CameraInventory { rules: Vec::new(), ..inventory() };
    let messages = dialect().cleared(&place(), &Update::Inventory(gone));
    assert_eq!(messages, [Message::retained("device/vedette_box_gate/config", Vec::new())]);
    for update in [Update::Node(status(0)), Update::Camera(camera_status("live"))] {
        assert_eq!(dialect().cleared(&place(), &update), []);
    }
}

#[test]
fn a_node_is_announced_with_its_cameras_or_alone() {
    let tell = |cameras| dialect().update(&place(), &Update::Node(status(cameras)));
    assert_eq!(tell(2), []);
    let alone = tell(0);
    assert_eq!(json(&alone[0]), announced().0);
    assert_eq!(dialect().update(&place(), &Update::State(state(true, None, true))), []);
}

#[test]
fn it_shares_a_connection_and_tells_everything_anew_when_home_assistant_begins() {
    let settings = Settings {
        homeassistant: crate::wire::HomeAssistantSettings { discovery: "ha/b".to_owned() },
        ..Settings::default()
    };
    let dialect = build(&settings).unwrap();
    let at = place();
    assert_eq!((dialect.root(&at).as_str(), dialect.own_connection()), ("ha/b", false));
    assert_eq!(dialect.will(&at, &status(1).offline()), None);
    assert_eq!(dialect.subscriptions(&at), ["ha/b/status"]);
    struct Case(&'static str, &'static [u8], Option<Reaction>);
    let cases = [
        Case("ha/b/status", b"online", Some(Reaction::Republish)),
        Case("ha/b/status", b"offline", None),
        Case("ha/b/status", b"\xff", None),
        Case("homeassistant/status", b"online", None),
    ];
    for Case(topic, payload, expected) in cases {
        assert_eq!(dialect.received(&at, topic, payload), expected, "{topic} {payload:?}");
    }
}

#[test]
fn a_discovery_prefix_that_is_no_topic_is_refused() {
    let homeassistant = crate::wire::HomeAssistantSettings { discovery: "home/#".to_owned() };
    let refused = build(&Settings { homeassistant, ..Settings::default() }).unwrap_err();
    assert!(refused.starts_with("`discovery`: `home/#` is no topic prefix"), "{refused}");
}

#[test]
fn what_the_filter_keeps_back_is_not_announced() {
    let with = |filter: Interest| {
        let filtered = build(&Settings { filter, ..Settings::default() }).unwrap();
        filtered.update(&place(), &Update::Inventory(inventory()))
    };
    let platforms = |message: &Message, key: &str| {
        let component = serde_json::from_slice::<Value>(&message.payload).unwrap()["components"][key].clone();
        (component["platform"].clone(), component["unique_id"].is_string())
    };
    let node_alone = with(Interest { cameras: Some(vec![name("yard")]), ..Interest::default() });
    assert_eq!(node_alone.len(), 2);
    assert_eq!(platforms(&node_alone[0], "health"), (json!("event"), false), "the node's events do not pass");
    let gone = Message::retained("device/vedette_box_gate/config", Vec::new());
    assert_eq!(node_alone[1], gone, "also where it was announced before");
    let by_kind = |kinds: &[&str]| {
        with(Interest { kinds: Some(kinds.iter().map(|k| (*k).to_owned()).collect()), ..Interest::default() })
    };
    let intrusions = by_kind(&["intrusion"]);
    assert_eq!(platforms(&intrusions[1], "crowd_event"), (json!("event"), true));
    assert_eq!(platforms(&intrusions[1], "health"), (json!("event"), false));
    let health = by_kind(&["health"]);
    assert_eq!(platforms(&health[1], "health"), (json!("event"), true));
    for (key, platform) in
        [("crowd_event", "event"), ("crowd_active", "binary_sensor"), ("crowd_value", "sensor")]
    {
        assert_eq!(platforms(&health[1], key), (json!(platform), false), "{key}");
    }
    let alarms = with(Interest { severities: Some(vec![Severity::Info]), ..Interest::default() });
    assert_eq!(platforms(&alarms[1], "fence_event"), (json!("event"), false));
}

#[test]
fn a_number_has_its_unit() {
    let messages = dialect().update(&place(), &Update::Inventory(inventory()));
    let components = &serde_json::from_slice::<Value>(&messages[1].payload).unwrap()["components"];
    let value = &components["crowd_value"];
    assert_eq!(
        (&value["unit_of_measurement"], &value["state_class"]),
        (&json!("persons"), &json!("measurement"))
    );
}

fn any_name() -> impl Strategy<Value = Name> {
    // Mostly those that meet once they are joined by a hyphen, or that look like a part of an identifier.
    let text = prop_oneof![
        4 => "a(-a){0,2}",
        1 => "[a-z0-9-]{1,32}",
        1 => "(event|active|value|armed|link|health|online)",
    ];
    text.prop_map(|text| name(&text))
}

fn any_rules() -> impl Strategy<Value = Vec<RuleInventory>> {
    let rule_of = |(name, lasting, counts): (Name, bool, bool)| rule(name.as_str(), lasting, counts);
    let all = prop::collection::btree_map(any_name(), any::<(bool, bool)>(), 0..6);
    all.prop_map(move |rules| rules.into_iter().map(|(n, (l, c))| rule_of((n, l, c))).collect())
}

proptest! {
    #[test]
    fn no_two_entities_and_no_two_devices_are_one(
        nodes in prop::collection::btree_map(
            any_name(),
            prop::collection::btree_map(any_name(), (any_rules(), any_rules()), 0..4),
            1..4,
        )
    ) {
        let (mut ids, mut devices) = (BTreeSet::new(), BTreeSet::new());
        for (node, cameras) in nodes {
            let at = Place { prefix: "vedette".to_owned(), node };
            let mut messages = dialect().update(&at, &Update::Node(status(0)));
            for (camera, (rules, gone)) in cameras {
                let names: BTreeSet<_> = rules.iter().map(|r| r.rule.clone()).collect();
                let gone = gone.into_iter().filter(|r| !names.contains(&r.rule)).collect();
                let inventory = CameraInventory { camera, rules, gone };
                messages.push(dialect().update(&at, &Update::Inventory(inventory)).remove(1));
            }
            for message in messages {
                prop_assert!(devices.insert(message.topic.clone()), "twice: {}", message.topic);
                for id in check_message(&message) {
                    prop_assert!(ids.insert(id.clone()), "twice: {id}");
                }
            }
        }
    }
}
