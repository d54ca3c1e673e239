//! The dialect `vedette`: JSON as in `etc/schemas/*.schema.json`, keys in the order of the schema.
//!
//! Owns: topics, keys and number formats of that dialect. Does not know: who sends it. Times are RFC 3339 in UTC with
//! exactly three digits of seconds' fraction; boxes have 4 decimals, scores 3, speeds 2; hashes 8 hexadecimal digits.

mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;
use vedette_core::{
    ClockSource, Direction, EndedBy, Event, Evidence, EvidenceKind, EvidenceNames, Name, ObjectSummary,
    Phase, Severity, SpeedUnit, TrackId,
};

use super::{Dialect, Message, ModelStamp, Place, Settings, Stamp, Update};

pub use status::{
    CameraStats, CameraStatus, ModelStats, NodeStatus, ProviderShare, ShareStats, SinkStats, StateUpdate,
    Stats,
};

/// The version of this schema: the `v` of every message.
pub const VERSION: u8 = 1;

/// As in `dialects = […]`.
pub const NAME: &str = "vedette";
/// One line for people.
pub const ABOUT: &str = "the product's own JSON: every fact of every event, with schemas";

/// Statistics that come late are of no use: the next ones are there.
const STATS_EXPIRY: Duration = Duration::from_secs(120);

/// The dialect.
#[derive(Debug)]
pub struct Vedette;

/// The same for every broker.
pub fn build(_settings: &Settings) -> Result<Arc<dyn Dialect>, String> {
    Ok(Arc::new(Vedette))
}

impl Dialect for Vedette {
    fn name(&self) -> &'static str {
        NAME
    }

    fn event(&self, stamp: &Stamp, seq: u64, latency_ms: Option<u64>, what: &Event) -> Option<Message> {
        let topic = what.camera.as_ref().map_or_else(|| "event".to_owned(), |c| format!("{c}/event"));
        Some(Message::passing(topic, signed(stamp, event(stamp, seq, latency_ms, what))))
    }

    fn evidence(&self, stamp: &Stamp, seq: u64, what: &Evidence) -> Option<Message> {
        Some(Message::passing(format!("{}/evidence", what.camera), signed(stamp, evidence(stamp, seq, what))))
    }

    fn update(&self, _at: &Place, update: &Update) -> Vec<Message> {
        let message = match update {
            Update::Node(status) => Message::retained("status", json(status)),
            Update::Camera(status) => Message::retained(format!("{}/status", status.camera), json(status)),
            Update::State(state) => {
                Message::retained(format!("{}/state/{}", state.camera, state.rule), json(state))
            }
            Update::Stats(stats) => {
                Message { expiry: Some(STATS_EXPIRY), ..Message::passing("stats", json(stats)) }
            }
            Update::Inventory(_) | Update::Scene(_) => return Vec::new(),
        };
        vec![message]
    }
}

/// With a signature, where messages are signed.
fn signed(stamp: &Stamp, payload: Vec<u8>) -> Vec<u8> {
    match &stamp.signer {
        Some(signer) => signer.sign(payload),
        None => payload,
    }
}

/// The bytes of one event, as on the topic `<camera>/event`, but for the signature.
pub fn event(stamp: &Stamp, seq: u64, latency_ms: Option<u64>, event: &Event) -> Vec<u8> {
    json(&EventMessage {
        v: VERSION,
        id: event.id,
        epoch: stamp.epoch,
        seq,
        phase: event.phase,
        kind: event.kind,
        rule: &event.rule,
        severity: event.severity,
        node: &stamp.node,
        camera: event.camera.as_ref(),
        zone: event.zone.as_ref(),
        line: event.line.as_ref(),
        direction: event.direction,
        captured: event.captured.wall,
        clock: event.captured.clock,
        clock_synced: event.captured.wall_ok,
        decided: event.decided.wall,
        latency_ms,
        object: event.object.as_ref().map(ObjectMessage::of),
        value: event.value.filter(|v| v.is_finite()),
        unit: event.unit,
        why: &event.why,
        ended_by: event.ended_by,
        evidence: NamesMessage::of(&event.evidence),
        suppressed: event.suppressed,
        model: &stamp.model,
        config: &stamp.config,
    })
}

#[derive(Serialize)]
struct EventMessage<'a> {
    v: u8,
    id: Uuid,
    epoch: Uuid,
    seq: u64,
    phase: Phase,
    kind: &'a str,
    rule: &'a Name,
    severity: Severity,
    node: &'a Name,
    camera: Option<&'a Name>,
    zone: Option<&'a Name>,
    line: Option<&'a Name>,
    direction: Option<Direction>,
    #[serde(serialize_with = "millis")]
    captured: Timestamp,
    clock: ClockSource,
    clock_synced: bool,
    #[serde(serialize_with = "millis")]
    decided: Timestamp,
    latency_ms: Option<u64>,
    object: Option<ObjectMessage<'a>>,
    value: Option<f64>,
    unit: Option<&'a str>,
    why: &'a str,
    ended_by: Option<EndedBy>,
    evidence: NamesMessage<'a>,
    suppressed: u32,
    model: &'a ModelStamp,
    #[serde(serialize_with = "short_hash")]
    config: &'a str,
}

#[derive(Serialize)]
struct ObjectMessage<'a> {
    track: TrackId,
    class: &'a str,
    score: f64,
    #[serde(rename = "box")]
    bbox: [f64; 4],
    speed: f64,
    speed_unit: SpeedUnit,
}

impl<'a> ObjectMessage<'a> {
    fn of(object: &'a ObjectSummary) -> Self {
        Self {
            track: object.track,
            class: object.class.as_str(),
            score: rounded(f64::from(object.score), 3),
            bbox: <[f32; 4]>::from(object.bbox).map(|edge| rounded(f64::from(edge), 4)),
            speed: rounded(f64::from(object.speed), 2),
            speed_unit: object.speed_unit,
        }
    }
}

#[derive(Serialize)]
struct NamesMessage<'a> {
    snapshot: Option<&'a str>,
    clip: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'a str>,
}

impl<'a> NamesMessage<'a> {
    fn of(names: &'a EvidenceNames) -> Self {
        Self {
            snapshot: names.snapshot.as_deref(),
            clip: names.clip.as_deref(),
            missing: names.missing.as_deref(),
        }
    }
}

/// The bytes of word of evidence, as on the topic `<camera>/evidence`.
fn evidence(stamp: &Stamp, seq: u64, of: &Evidence) -> Vec<u8> {
    json(&EvidenceMessage {
        v: VERSION,
        id: of.id,
        epoch: stamp.epoch,
        seq,
        kind: of.kind,
        node: &stamp.node,
        camera: &of.camera,
        file: &of.file,
        bytes: of.bytes,
        sha256: &of.sha256,
        from: of.from,
        to: of.to,
    })
}

#[derive(Serialize)]
struct EvidenceMessage<'a> {
    v: u8,
    id: Uuid,
    epoch: Uuid,
    seq: u64,
    kind: EvidenceKind,
    node: &'a Name,
    camera: &'a Name,
    file: &'a str,
    bytes: u64,
    sha256: &'a str,
    #[serde(serialize_with = "millis")]
    from: Timestamp,
    #[serde(serialize_with = "millis")]
    to: Timestamp,
}

/// Rounds half away from zero; what is not finite becomes 0, since JSON has no word for it.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    let rounded = (value * scale).round() / scale;
    // `+ 0.0` turns a negative zero into zero.
    if rounded.is_finite() { rounded + 0.0 } else { 0.0 }
}

pub(super) fn millis<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

fn some_millis<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => millis(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// Cuts a hexadecimal hash at 8 digits.
pub(super) fn short_hash<S: Serializer>(hash: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(hash.get(..8).unwrap_or(hash))
}

/// The messages are plain structs with text keys, which serde_json cannot fail on; should it, an empty object says so
/// to every consumer's schema.
pub(super) fn json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_else(|error| {
        log::error!("a message could not be written as JSON: {error}");
        b"{}".to_vec()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{golden_event, golden_stamp, name};

    #[test]
    fn an_event_is_exactly_the_documented_json() {
        let text = String::from_utf8(event(&golden_stamp(), 1042, Some(548), &golden_event())).unwrap();
        assert_eq!(text, include_str!("../../../tests/golden/wire/event.begin.json").trim_end());
    }

    #[test]
    fn evidence_is_exactly_the_documented_json() {
        let evidence = Evidence {
            id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
            kind: EvidenceKind::Clip,
            file: "01920000-0000-7000-8000-000000000001.mp4".to_owned(),
            bytes: 1_482_133,
            sha256: "5f1c2a90".repeat(8),
            from: "2026-11-24T02:35:37.12Z".parse().unwrap(),
            to: "2026-11-24T02:35:52.0804Z".parse().unwrap(),
            camera: name("gate"),
            event_kind: "intrusion",
            severity: Severity::Alarm,
        };
        let message = Vedette.evidence(&golden_stamp(), 1043, &evidence).unwrap();
        let text = String::from_utf8(message.payload).unwrap();
        assert_eq!(text, include_str!("../../../tests/golden/wire/evidence.clip.json").trim_end());
        assert_eq!((message.topic.as_str(), message.retained), ("gate/evidence", false));
    }

    #[test]
    fn events_of_the_node_have_their_own_topic() {
        let (stamp, mut event) = (golden_stamp(), golden_event());
        assert_eq!(Vedette.event(&stamp, 1, None, &event).unwrap().topic, "gate/event");
        event.camera = None;
        assert_eq!(Vedette.event(&stamp, 1, None, &event).unwrap().topic, "event");
    }

    #[test]
    fn numbers_are_rounded_and_always_numbers() {
        struct Case(f64, i32, f64);
        let cases = [
            Case(0.830_000_1, 3, 0.83),
            Case(0.999_95, 4, 1.0),
            Case(-0.000_01, 4, 0.0),
            Case(f64::NAN, 3, 0.0),
            Case(f64::INFINITY, 2, 0.0),
        ];
        for Case(value, decimals, expected) in cases {
            assert_eq!(rounded(value, decimals).to_string(), expected.to_string(), "{value}");
        }
    }
}
