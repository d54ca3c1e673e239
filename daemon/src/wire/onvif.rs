//! The dialect `onvif`: events as ONVIF cameras publish them, `<prefix>/<node>/onvif-ej/<topic>/&<source>` (ONVIF Core
//! Specification 26.06, "Event Broker"; topics and classes of the Analytics Service Specification).
//!
//! Owns: which topic tells what, names of sources and data. Does not know: who sends it.
//!
//! What is told where, so that nothing is lost and nothing told twice:
//! - What *is* so (an object is inside, a count, a lost signal) is a property: retained, the latest value, deleted by an
//!   empty payload. It comes from [`Update`]s and has no object, since it speaks for the whole rule. A property that
//!   changed and changed back while the broker was away is not told, as with any ONVIF device.
//! - What *happened* is not retained and comes from events, through the outbox: every one arrives, also after an outage.
//!   Momentary ones have their standard topic, else `RuleEngine/vedette:<Kind>`. Incidents that last are told, begin
//!   and end, with object and id, on `RuleEngine/vedette:Incident`; their property's topic never carries them.
//! - Where every object *is*, frame by frame, is metadata (`onvif-mj`): only where it is asked for.
//!
//! A camera's status comes again when only its rate has changed: its property is then the same bytes.

mod metadata;
mod notification;

use std::sync::Arc;
use std::time::Duration;

use vedette_core::{CameraId, Direction, Event, Name, ObjectSummary, Phase};

use self::notification::{Datum, Notification};
use super::{CameraInventory, CameraStatus, Dialect, Message, NodeStatus, Place, RuleInventory, Settings};
use super::{Interest, Stamp, StateUpdate, Update};

/// As in `dialects = […]`.
pub const NAME: &str = "onvif";
/// One line for people.
pub const ABOUT: &str = "events as ONVIF cameras publish them over MQTT (onvif-ej)";

/// The token of the one analytics configuration that a camera has.
const ANALYTICS: &str = "vedette";

/// Bounds of `metadata_every`.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// Incidents that last, from begin to end.
const INCIDENT: &str = "RuleEngine/vedette:Incident";

const SIGNAL_LOSS: &str = "VideoSource/SignalLoss";

/// How the state of a rule is told.
#[derive(Clone, Copy)]
enum Property {
    /// Topic and the datum that is true while an incident is open.
    Flag(&'static str, &'static str),
    /// The property exists while an incident is open, and tells since when.
    WhileOpen(&'static str),
    /// The rule's number.
    Count(&'static str),
}

impl Property {
    fn topic(self) -> &'static str {
        let (Self::Flag(topic, _) | Self::WhileOpen(topic) | Self::Count(topic)) = self;
        topic
    }
}

/// The standard words for a kind of rule.
struct Row {
    kind: &'static str,
    /// The topic of what happens at once, or of the beginning of what lasts.
    moment: Option<&'static str>,
    property: Option<Property>,
}

/// What is not here is told on `RuleEngine/vedette:<Kind>`.
const STANDARD: &[Row] = &[
    Row {
        kind: "intrusion",
        moment: None,
        property: Some(Property::Flag("RuleEngine/FieldDetector/ObjectsInside", "IsInside")),
    },
    Row {
        kind: "line_crossing",
        moment: Some("RuleEngine/LineDetector/Crossed"),
        property: Some(Property::Count("RuleEngine/CountAggregation/Counter")),
    },
    Row {
        kind: "loitering",
        moment: None,
        property: Some(Property::WhileOpen("RuleEngine/LoiteringDetector/ObjectIsLoitering")),
    },
    Row {
        kind: "occupancy",
        moment: None,
        property: Some(Property::Count("RuleEngine/CountAggregation/OccupancyCounter")),
    },
    Row { kind: "abandoned", moment: Some("RuleEngine/ObjectAbandoned"), property: None },
    Row { kind: "removed", moment: Some("RuleEngine/ObjectRemoved"), property: None },
    Row {
        kind: "tamper",
        moment: None,
        property: Some(Property::Flag("VideoSource/GlobalSceneChange/AnalyticsService", "State")),
    },
];

fn standard(kind: &str) -> Option<&'static Row> {
    STANDARD.iter().find(|row| row.kind == kind)
}

/// `RuleEngine/vedette:WrongWay` for `wrong_way`.
fn own_topic(kind: &str) -> String {
    let words = kind.split(['_', '-']).map(|word| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    });
    format!("RuleEngine/vedette:{}", words.collect::<String>())
}

/// ONVIF's word for a class, else the model's own.
fn class_type(class: &str) -> &str {
    match class {
        "person" => "Human",
        "face" => "HumanFace",
        "bicycle" => "Bicycle",
        "car" | "truck" | "bus" | "motorcycle" | "train" | "boat" | "airplane" => "Vehicle",
        "bird" | "cat" | "dog" | "horse" | "sheep" | "cow" | "elephant" | "bear" | "zebra" | "giraffe" => {
            "Animal"
        }
        "license-plate" | "license plate" => "LicensePlate",
        other => other,
    }
}

/// Who speaks: a rule of a camera, or the camera's picture itself.
fn source(topic: &str, camera: Option<&CameraId>, rule: &Name) -> Vec<(&'static str, String)> {
    let camera = camera.map(ToString::to_string);
    if topic.starts_with("VideoSource/") {
        return camera.map(|camera| ("Source", camera)).into_iter().collect();
    }
    let of_camera = camera.map(|c| [("VideoSource", c), ("AnalyticsConfiguration", ANALYTICS.to_owned())]);
    of_camera.into_iter().flatten().chain([("Rule", rule.to_string())]).collect()
}

/// The dialect.
#[derive(Debug, Default)]
struct Onvif {
    /// Whether metadata is told, and of which cameras.
    metadata: bool,
    interest: Interest,
}

/// Takes `[broker.NAME.onvif]`. Events are the same for every broker.
///
/// # Errors
/// Metadata too often or too seldom.
pub fn build(settings: &Settings) -> Result<Arc<dyn Dialect>, String> {
    let every = settings.onvif.metadata_every;
    if !EVERY.contains(&every.0) {
        return Err(format!("`metadata_every`: {every} is not within 100ms to 1h"));
    }
    Ok(Arc::new(Onvif { metadata: settings.onvif.metadata, interest: settings.filter.clone() }))
}

impl Dialect for Onvif {
    fn name(&self) -> &'static str {
        NAME
    }

    fn event(&self, _stamp: &Stamp, seq: u64, _latency_ms: Option<u64>, event: &Event) -> Option<Message> {
        Some(happened(seq, event).passing())
    }

    fn update(&self, _at: &Place, update: &Update) -> Vec<Message> {
        match update {
            Update::State(state) => rule_state(state).into_iter().collect(),
            Update::Camera(status) => signal_loss(status).into_iter().collect(),
            Update::Inventory(inventory) => deleted(inventory),
            Update::Scene(scene) if self.metadata && self.interest.takes_camera(Some(&scene.camera)) => {
                vec![metadata::message(scene)]
            }
            Update::Node(_) | Update::Stats(_) | Update::Scene(_) => Vec::new(),
        }
    }

    fn cleared(&self, at: &Place, update: &Update) -> Vec<Message> {
        if let Update::Camera(status) = update {
            return vec![video_source(&status.camera).deleted()];
        }
        let retained = self.update(at, update).into_iter().filter(|message| message.retained);
        retained.map(|message| Message { payload: Vec::new(), ..message }).collect()
    }

    /// ONVIF knows no such topic: the connection's other dialects tell it.
    fn will(&self, _at: &Place, _offline: &NodeStatus) -> Option<Message> {
        None
    }
}

/// An event, on the topic of its kind or as an incident.
fn happened(seq: u64, event: &Event) -> Notification {
    let row = standard(event.kind);
    let moment = row.and_then(|row| row.moment).map(str::to_owned);
    let topic = match event.phase {
        Phase::Once => moment.or_else(|| Some(own_topic(event.kind))),
        Phase::Begin => moment,
        Phase::Update | Phase::End => None,
    };
    let incident = topic.is_none();
    let topic = topic.unwrap_or_else(|| INCIDENT.to_owned());
    let mut data = event.object.as_ref().map(object).unwrap_or_default();
    if let Some(direction) = event.direction {
        // As seen by someone who walks from the line's first to its last point.
        let towards = if direction == Direction::In { "Right" } else { "Left" };
        data.push(("Direction", Datum::text(towards)));
    }
    if incident {
        data.extend([
            ("Kind", Datum::text(event.kind)),
            ("Phase", Datum::json(&event.phase)),
            ("Severity", Datum::json(&event.severity)),
        ]);
    }
    data.extend(event.value.map(|value| ("Count", Datum::Number(value))));
    data.extend(event.ended_by.map(|by| ("EndedBy", Datum::json(&by))));
    // By these a consumer knows a re-sent message again.
    data.extend([("IncidentId", Datum::text(&event.id)), ("Sequence", Datum::text(&seq))]);
    let source = source(&topic, event.camera.as_ref(), &event.rule);
    Notification { topic, source, at: event.captured.wall, data }
}

fn object(object: &ObjectSummary) -> Vec<(&'static str, Datum)> {
    vec![
        ("ObjectId", Datum::text(&object.track.0)),
        ("ClassTypes", Datum::text(class_type(object.class.as_str()))),
    ]
}

/// The property of a rule; none for kinds that have none.
fn rule_state(state: &StateUpdate) -> Option<Message> {
    let own = own_topic(state.kind);
    let (topic, data) = match standard(state.kind).map(|row| row.property) {
        Some(None) => return None,
        None => (own.as_str(), vec![("IsActive", Datum::Flag(state.active))]),
        Some(Some(property)) => (property.topic(), datum(property, state)?),
    };
    let source = source(topic, Some(&state.camera), &state.rule);
    let at = state.since.filter(|_| state.active).unwrap_or(state.changed);
    let notification = Notification { topic: topic.to_owned(), source, at, data };
    let exists = !notification.data.is_empty();
    Some(if exists { notification.property() } else { notification.deleted() })
}

/// The data of a rule's property: none where it has nothing to say, empty where the property does not exist now.
fn datum(property: Property, state: &StateUpdate) -> Option<Vec<(&'static str, Datum)>> {
    match property {
        Property::Flag(_, name) => Some(vec![(name, Datum::Flag(state.active))]),
        Property::WhileOpen(_) => {
            let since = state.since.unwrap_or(state.changed);
            Some(state.active.then_some(("Since", Datum::Time(since))).into_iter().collect())
        }
        Property::Count(_) => Some(vec![("Count", Datum::Number(state.value?))]),
    }
}

fn video_source(camera: &CameraId) -> Notification {
    let source = vec![("Source", camera.to_string())];
    let at = jiff::Timestamp::UNIX_EPOCH;
    Notification { topic: SIGNAL_LOSS.to_owned(), source, at, data: Vec::new() }
}

/// None until it is known.
fn signal_loss(status: &CameraStatus) -> Option<Message> {
    let lost = match status.state {
        "live" | "tampered" => false,
        "lost" | "misconfigured" => true,
        _ => return None,
    };
    let data = vec![("State", Datum::Flag(lost))];
    Some(Notification { at: status.since, data, ..video_source(&status.camera) }.property())
}

/// Deletes the properties of rules that are gone or were of another kind, also those that an earlier run told; not one
/// that a rule still tells.
fn deleted(inventory: &CameraInventory) -> Vec<Message> {
    let of_rules = |rules: &[RuleInventory]| -> Vec<Message> {
        rules.iter().filter_map(|rule| absent(&inventory.camera, rule, &rule.kind)).collect()
    };
    let told = of_rules(&inventory.rules);
    let former =
        inventory.rules.iter().chain(&inventory.gone).flat_map(|rule| {
            rule.former_kinds.iter().filter_map(|kind| absent(&inventory.camera, rule, kind))
        });
    let gone = of_rules(&inventory.gone).into_iter().chain(former);
    gone.filter(|message| !told.contains(message)).collect()
}

/// Deletes the property of a rule of `kind`; none for kinds that have none.
fn absent(camera: &CameraId, rule: &RuleInventory, kind: &str) -> Option<Message> {
    let topic = match standard(kind) {
        None => own_topic(kind),
        Some(row) => row.property?.topic().to_owned(),
    };
    let source = source(&topic, Some(camera), &rule.rule);
    let at = jiff::Timestamp::UNIX_EPOCH;
    Some(Notification { topic, source, at, data: Vec::new() }.deleted())
}

#[cfg(test)]
mod tests;
