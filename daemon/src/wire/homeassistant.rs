//! The dialect `homeassistant`: tells Home Assistant what there is, in its device-based MQTT discovery (2024.11 and
//! newer), so that cameras and rules appear there as devices and entities.
//!
//! Owns: those messages, one for each device. Does not know: states and events. Entities point to the topics of the
//! dialect `vedette`, which every connection that speaks this one gets as well ([`Dialect::needs`]).
//!
//! | topic below the discovery prefix | what it announces | retained |
//! |---|---|---|
//! | `device/vedette_<node>/config` | the appliance: `online`, `problem`, `cameras_up`, `health` | yes |
//! | `device/vedette_<node>_<camera>/config` | a camera: `link`, `health`, and for each rule `<rule>_active` (a lasting rule: binary sensor), `<rule>_value` (a counting one: sensor), `<rule>_event` (event), `<rule>_armed` (switch, where the broker's `commands` have `arm`) | yes |
//! | `status` | listened to: `online` says that Home Assistant began anew, so that everything is told again | |
//!
//! `health` is an event entity too: what is wrong with the appliance or the camera, and test alarms.
//!
//! Names have hyphens and never underscores: parted by underscores, no two devices and no two entities of a broker are
//! one, whatever their names. Identifiers hold node, camera and rule and nothing else: they survive restarts, updates
//! and another prefix, and with them what a user has set up.
//!
//! A rule's state is unavailable while its camera is. Events, switches and the camera's link are so only while the
//! appliance is away: an incident ends because the camera is lost, and an event entity that comes back looks like an
//! event. Home Assistant stamps an event with the time at which it arrives; `captured`, among its attributes, is when it
//! happened.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use vedette_core::{CameraId, Event, Name, Phase, Severity};

use super::settings::check_prefix;
use super::vedette::{self, Vedette};
use super::{
    CameraInventory, Dialect, Interest, Message, NodeStatus, Place, Reaction, RuleInventory, Settings, Stamp,
    Update,
};

/// As in `dialects = […]`.
pub const NAME: &str = "homeassistant";
/// One line for people.
pub const ABOUT: &str = "devices and entities that appear in Home Assistant by themselves; brings `vedette`";

/// The command that a switch gives.
const ARM: &str = "arm";

/// The dialect.
#[derive(Debug)]
pub struct HomeAssistant {
    discovery: String,
    /// Whether rules may be armed over this broker.
    arms: bool,
    /// Which events the broker gets: nothing else is announced.
    interest: Interest,
}

/// Takes `[broker.NAME.homeassistant]`.
pub fn build(settings: &Settings) -> Result<Arc<dyn Dialect>, String> {
    let discovery = settings.homeassistant.discovery.clone();
    check_prefix("discovery", &discovery)?;
    let arms = settings.commands.iter().any(|verb| verb == ARM);
    Ok(Arc::new(HomeAssistant { discovery, arms, interest: settings.filter.clone() }))
}

impl Dialect for HomeAssistant {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [&'static str] {
        &[vedette::NAME]
    }

    fn root(&self, _at: &Place) -> String {
        self.discovery.clone()
    }

    fn event(&self, _: &Stamp, _seq: u64, _latency_ms: Option<u64>, _: &Event) -> Option<Message> {
        None
    }

    fn update(&self, at: &Place, update: &Update) -> Vec<Message> {
        let announcer = Announcer::new(at, self.arms, &self.interest);
        match update {
            Update::Inventory(inventory) if !self.interest.takes_camera(Some(&inventory.camera)) => {
                // It may have been announced under another filter.
                announcer.node_and(self.cleared(at, update))
            }
            // The appliance first: Home Assistant wants to know a device before those that hang on it.
            Update::Inventory(inventory) => announcer.node_and(vec![announcer.camera(inventory)]),
            // Without a camera nobody else announces it.
            Update::Node(status) if status.cameras == 0 => vec![announcer.node()],
            Update::Node(_) | Update::Camera(_) | Update::State(_) | Update::Stats(_) | Update::Scene(_) => {
                Vec::new()
            }
        }
    }

    /// A camera takes its own device along, and not the appliance.
    fn cleared(&self, at: &Place, update: &Update) -> Vec<Message> {
        match update {
            Update::Inventory(gone) => {
                let device = Announcer::new(at, self.arms, &self.interest).camera_device(&gone.camera);
                vec![Message::retained(config_topic(&device), Vec::new())]
            }
            Update::Node(_) | Update::Camera(_) | Update::State(_) | Update::Stats(_) | Update::Scene(_) => {
                Vec::new()
            }
        }
    }

    /// What is announced stays true while the daemon is away; that it is away is said by `vedette`.
    fn will(&self, _at: &Place, _offline: &NodeStatus) -> Option<Message> {
        None
    }

    fn subscriptions(&self, _at: &Place) -> Vec<String> {
        vec![super::topic(&self.discovery, "status")]
    }

    fn received(&self, _at: &Place, topic: &str, payload: &[u8]) -> Option<Reaction> {
        let born = topic == super::topic(&self.discovery, "status") && payload == b"online";
        born.then_some(Reaction::Republish)
    }
}

/// What Home Assistant asks of an entity beside its identifier: keys and values.
type Entity = Map<String, Value>;

/// Writes the messages of one place.
struct Announcer<'a> {
    node: &'a Name,
    /// Where the topics of the dialect `vedette` begin.
    root: String,
    arms: bool,
    interest: &'a Interest,
}

impl<'a> Announcer<'a> {
    fn new(at: &'a Place, arms: bool, interest: &'a Interest) -> Self {
        Self { node: &at.node, root: Vedette.root(at), arms, interest }
    }

    fn node_and(&self, others: Vec<Message>) -> Vec<Message> {
        std::iter::once(self.node()).chain(others).collect()
    }

    /// The appliance's own events, and test alarms, where the broker gets them.
    fn health(&self, camera: Option<&CameraId>, availability: &Value, components: &mut Components<'_>) {
        let passes = ["health", "test"].iter().any(|kind| self.interest.takes_kind(kind));
        let severities = [Severity::Alarm, Severity::Fault, Severity::Warning];
        let urgent = severities.into_iter().any(|severity| self.interest.takes_severity(severity));
        if passes && urgent && self.interest.takes_camera(camera) {
            let below = camera.map_or("event".to_owned(), |camera| format!("{camera}/event"));
            components.add("health", health(&self.topic(&below), availability));
        } else {
            components.remove("health", "event");
        }
    }

    fn node_device(&self) -> String {
        format!("vedette_{}", self.node)
    }

    fn camera_device(&self, camera: &CameraId) -> String {
        format!("vedette_{}_{camera}", self.node)
    }

    fn topic(&self, below: &str) -> String {
        super::topic(&self.root, below)
    }

    fn node(&self) -> Message {
        let device = self.node_device();
        let status = self.topic("status");
        let up = json!([self.node_is_up()]);
        let mut components = Components::of(&device);
        components.add(
            "online",
            entity(json!({
                "platform": "binary_sensor",
                "name": "online",
                "device_class": "connectivity",
                "entity_category": "diagnostic",
                "state_topic": status,
                "value_template": said("'ON' if value_json.state == 'online' else 'OFF'"),
                "json_attributes_topic": status,
            })),
        );
        components.add(
            "problem",
            entity(json!({
                "platform": "binary_sensor",
                "name": "problem",
                "device_class": "problem",
                "entity_category": "diagnostic",
                "state_topic": status,
                "value_template": said("'ON' if value_json.cameras_up < value_json.cameras else 'OFF'"),
                "availability": up,
            })),
        );
        components.add(
            "cameras_up",
            entity(json!({
                "platform": "sensor",
                "name": "cameras up",
                "entity_category": "diagnostic",
                "state_class": "measurement",
                "state_topic": status,
                "value_template": said("value_json.cameras_up"),
                "availability": up,
            })),
        );
        self.health(None, &up, &mut components);
        let about = json!({
            "identifiers": [device],
            "name": format!("Vedette {}", self.node),
            "manufacturer": "Vedette",
            "model": "appliance",
            "sw_version": env!("CARGO_PKG_VERSION"),
        });
        announcement(&device, &about, &components, None)
    }

    fn camera(&self, inventory: &CameraInventory) -> Message {
        let CameraInventory { camera, rules, gone } = inventory;
        let device = self.camera_device(camera);
        let status = self.topic(&format!("{camera}/status"));
        let node_up = json!([self.node_is_up()]);
        let mut components = Components::of(&device);
        components.add(
            "link",
            entity(json!({
                "platform": "binary_sensor",
                "name": "link",
                "device_class": "connectivity",
                "entity_category": "diagnostic",
                "state_topic": status,
                "value_template": said(&format!("'ON' if {SEES} else 'OFF'")),
                "json_attributes_topic": status,
                "json_attributes_template": said(LINK_ATTRIBUTES),
                "availability": node_up,
            })),
        );
        self.health(Some(camera), &node_up, &mut components);
        let passes = |rule: &&RuleInventory| {
            self.interest.takes_kind(&rule.kind) && self.interest.takes_severity(rule.severity)
        };
        let (told, kept): (Vec<_>, Vec<_>) = rules.iter().partition(passes);
        for rule in told {
            self.rule(camera, rule, &node_up, &mut components);
        }
        for rule in kept.into_iter().chain(gone) {
            components.remove(&format!("{}_active", rule.rule), "binary_sensor");
            components.remove(&format!("{}_value", rule.rule), "sensor");
            components.remove(&format!("{}_event", rule.rule), "event");
            components.remove(&format!("{}_armed", rule.rule), "switch");
        }
        let about = json!({
            "identifiers": [device],
            "name": camera,
            "manufacturer": "Vedette",
            "model": "camera",
            "via_device": self.node_device(),
        });
        let sees = format!("'online' if {SEES} else 'offline'");
        let camera_is_up = json!({ "topic": status, "value_template": said(&sees) });
        announcement(&device, &about, &components, Some(json!([self.node_is_up(), camera_is_up])))
    }

    /// The entities of a rule. Those that its kind does not have may be there from an earlier configuration.
    fn rule(
        &self,
        camera: &CameraId,
        rule: &RuleInventory,
        node_up: &Value,
        components: &mut Components<'_>,
    ) {
        let RuleInventory { rule: name, lasting, counts, unit, .. } = rule;
        let state = self.topic(&format!("{camera}/state/{name}"));
        let active = format!("{name}_active");
        if *lasting {
            components.add(
                &active,
                entity(json!({
                    "platform": "binary_sensor",
                    "name": name,
                    "device_class": device_class(rule),
                    "state_topic": state,
                    "value_template": said("'ON' if value_json.active else 'OFF'"),
                    "json_attributes_topic": state,
                })),
            );
        } else {
            components.remove(&active, "binary_sensor");
        }
        let value = format!("{name}_value");
        if *counts {
            let mut sensor = entity(json!({
                "platform": "sensor",
                "name": format!("{name} count"),
                "state_class": "measurement",
                "state_topic": state,
                "value_template": said("value_json.value"),
                "json_attributes_topic": state,
            }));
            sensor.extend(unit.iter().map(|unit| ("unit_of_measurement".to_owned(), json!(unit))));
            components.add(&value, sensor);
        } else {
            components.remove(&value, "sensor");
        }
        let phases: &[Phase] =
            if *lasting { &[Phase::Begin, Phase::Update, Phase::End] } else { &[Phase::Once] };
        let test = format!("value_json.rule == '{name}' and value_json.kind not in {APPLIANCE}");
        let topic = self.topic(&format!("{camera}/event"));
        let event = event_entity(&format!("{name} event"), &topic, &test, phases, node_up);
        components.add(&format!("{name}_event"), event);
        let armed = format!("{name}_armed");
        if self.arms {
            components.add(&armed, self.arm_switch(camera, name, &state, node_up));
        } else {
            components.remove(&armed, "switch");
        }
    }

    fn arm_switch(&self, camera: &CameraId, rule: &Name, state: &str, node_up: &Value) -> Entity {
        let arm = |armed: bool| json!({ "camera": camera, "rule": rule, "armed": armed }).to_string();
        entity(json!({
            "platform": "switch",
            "name": format!("{rule} armed"),
            "state_topic": state,
            "value_template": said("'ON' if value_json.armed else 'OFF'"),
            "state_on": "ON",
            "state_off": "OFF",
            "command_topic": self.topic(&format!("command/{ARM}")),
            "payload_on": arm(true),
            "payload_off": arm(false),
            "availability": node_up,
        }))
    }

    fn node_is_up(&self) -> Value {
        let online = said("'online' if value_json.state == 'online' else 'offline'");
        json!({ "topic": self.topic("status"), "value_template": online })
    }
}

/// Whether the camera of a status gives frames, as a Jinja expression.
const SEES: &str = "value_json.state in ['live', 'tampered']";

/// Kinds that are not of a rule, whatever it is called, as a Jinja expression.
const APPLIANCE: &str = "['health', 'test']";

/// What a link tells beside its state. Not the frame rate: Home Assistant would store every change of it.
const LINK_ATTRIBUTES: &str =
    "dict(state=value_json.state, reason=value_json.reason, since=value_json.since) | tojson";

/// The entities of a device; for each a key.
struct Components<'a> {
    device: &'a str,
    all: Map<String, Value>,
}

impl<'a> Components<'a> {
    fn of(device: &'a str) -> Self {
        Self { device, all: Map::new() }
    }

    fn add(&mut self, key: &str, mut entity: Entity) {
        entity.insert("unique_id".to_owned(), format!("{}_{key}", self.device).into());
        self.all.insert(key.to_owned(), entity.into());
    }

    /// Home Assistant removes a component of which only the platform is said, and not one of which nothing is.
    fn remove(&mut self, key: &str, platform: &str) {
        self.all.insert(key.to_owned(), json!({ "platform": platform }));
    }
}

fn entity(keys: Value) -> Entity {
    match keys {
        Value::Object(keys) => keys,
        _ => Map::new(),
    }
}

/// The appliance's own events, and test alarms.
fn health(topic: &str, availability: &Value) -> Entity {
    let phases = [Phase::Begin, Phase::Update, Phase::End, Phase::Once];
    event_entity("health", topic, &format!("value_json.kind in {APPLIANCE}"), &phases, availability)
}

/// Events of a topic for which `test`, a Jinja expression, holds. All of an event's keys become attributes.
fn event_entity(name: &str, topic: &str, test: &str, phases: &[Phase], availability: &Value) -> Entity {
    let template = format!(
        "{{% if value_json is defined and {test} %}}\
         {{{{ dict(value_json, event_type=value_json.phase) | tojson }}}}{{% endif %}}"
    );
    entity(json!({
        "platform": "event",
        "name": name,
        "event_types": phases,
        "state_topic": topic,
        "value_template": template,
        "availability": availability,
    }))
}

/// A template of `expression`; of nothing, which changes nothing, where a topic was cleared.
fn said(expression: &str) -> String {
    format!("{{% if value_json is defined %}}{{{{ {expression} }}}}{{% endif %}}")
}

/// Somebody is where the rule looks, or something moves.
fn device_class(rule: &RuleInventory) -> &'static str {
    if rule.zone.is_some() || rule.counts { "occupancy" } else { "motion" }
}

fn config_topic(device: &str) -> String {
    format!("device/{device}/config")
}

/// The message of a device; `availability` is that of all entities without their own.
fn announcement(
    device: &str,
    about: &Value,
    components: &Components<'_>,
    availability: Option<Value>,
) -> Message {
    let mut message = entity(json!({
        "device": about,
        "origin": { "name": "Vedette", "sw_version": env!("CARGO_PKG_VERSION") },
        "components": components.all,
        "qos": 1,
    }));
    if let Some(availability) = availability {
        message.insert("availability".to_owned(), availability);
        message.insert("availability_mode".to_owned(), "all".into());
    }
    Message::retained(config_topic(device), Value::Object(message).to_string().into_bytes())
}

#[cfg(test)]
mod tests;
