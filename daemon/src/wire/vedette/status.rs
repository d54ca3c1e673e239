//! What is true at the moment, in the dialect `vedette`: the retained topics and the counters.
//!
//! Owns: the keys of those messages. Does not know: where the values come from, and when they are sent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use vedette_core::{CameraId, Name, Role};

use crate::signing::PublicKey;

use super::{VERSION, millis, rounded, some_millis};
use crate::histogram::Histogram;

/// Which provider ran which share of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProviderShare {
    /// The model's name.
    pub model: String,
    /// The execution provider.
    pub provider: String,
    /// Its share of the MAC-bearing nodes, 0..1.
    #[serde(serialize_with = "three")]
    pub share: f64,
    /// Its share of the kernels' time, 0..1: beside the other, what it leaves to slower ones.
    #[serde(serialize_with = "three")]
    pub time_share: f64,
}

/// Of the node: topic `status`, retained.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// `online` or `stopping`; the broker says `offline` in the daemon's place.
    pub state: &'static str,
    /// The daemon's.
    pub version: &'static str,
    /// When the daemon started.
    pub since: Timestamp,
    /// Cameras in the configuration.
    pub cameras: usize,
    /// Cameras that give frames.
    pub cameras_up: usize,
    /// What runs the models.
    pub providers: Vec<ProviderShare>,
    /// What verifies this appliance's events; none where they are not signed.
    pub public_key: Option<PublicKey>,
}

impl NodeStatus {
    /// What the broker is to say once the daemon is gone.
    #[must_use]
    pub fn offline(self) -> Self {
        Self { state: "offline", cameras_up: 0, ..self }
    }
}

impl Serialize for NodeStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Keys<'a> {
            v: u8,
            state: &'a str,
            version: &'a str,
            #[serde(serialize_with = "millis")]
            since: Timestamp,
            cameras: usize,
            cameras_up: usize,
            providers: &'a [ProviderShare],
            public_key: Option<String>,
        }
        let Self { state, version, since, cameras, cameras_up, providers, public_key } = self;
        let (since, cameras, cameras_up) = (*since, *cameras, *cameras_up);
        let public_key = public_key.as_ref().map(ToString::to_string);
        Keys { v: VERSION, state, version, since, cameras, cameras_up, providers, public_key }
            .serialize(serializer)
    }
}

/// Of one camera: topic `<camera>/status`, retained.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraStatus {
    /// Which camera; in the topic, not in the payload.
    pub camera: CameraId,
    /// `connecting`, `live`, `lost`, `misconfigured` or `tampered`.
    pub state: &'static str,
    /// `quiet`, `watch` or `busy`.
    pub decode: &'static str,
    /// Analysed frames a second.
    pub fps: f64,
    /// How motion is seen while it is quiet, or why it never is, with what to change in the camera.
    pub gate: Option<String>,
    /// Why it is not live, with the remedy; of a live one what to know.
    pub reason: Option<String>,
    /// When `state` became so.
    pub since: Timestamp,
}

impl Serialize for CameraStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Keys<'a> {
            v: u8,
            state: &'a str,
            decode: &'a str,
            #[serde(serialize_with = "one")]
            fps: f64,
            gate: Option<&'a str>,
            reason: Option<&'a str>,
            #[serde(serialize_with = "millis")]
            since: Timestamp,
        }
        let Self { camera: _, state, decode, fps, gate, reason, since } = self;
        let (gate, reason, fps, since) = (gate.as_deref(), reason.as_deref(), *fps, *since);
        Keys { v: VERSION, state, decode, fps, gate, reason, since }.serialize(serializer)
    }
}

/// Of one rule: topic `<camera>/state/<rule>`, retained.
#[derive(Clone, Debug, PartialEq)]
pub struct StateUpdate {
    /// Which camera; in the topic, not in the payload.
    pub camera: CameraId,
    /// Which rule; in the topic, not in the payload.
    pub rule: Name,
    /// Its kind, such as `intrusion`; not in the payload.
    pub kind: &'static str,
    /// When any of this became so; not in the payload.
    pub changed: Timestamp,
    /// Whether an incident of it is open.
    pub active: bool,
    /// Its count or measure, where the kind has one.
    pub value: Option<f64>,
    /// The unit of `value`.
    pub unit: Option<&'static str>,
    /// When `active` became so; none where it has never been otherwise.
    pub since: Option<Timestamp>,
    /// Whether it may fire.
    pub armed: bool,
}

impl Serialize for StateUpdate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Keys<'a> {
            v: u8,
            active: bool,
            value: Option<f64>,
            unit: Option<&'a str>,
            #[serde(serialize_with = "some_millis")]
            since: Option<Timestamp>,
            armed: bool,
        }
        let &Self { camera: _, rule: _, kind: _, changed: _, active, value, unit, since, armed } = self;
        let value = value.filter(|v| v.is_finite());
        Keys { v: VERSION, active, value, unit, since, armed }.serialize(serializer)
    }
}

/// Counters of one camera since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CameraStats {
    /// Encoded access units.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Pictures out of the decoder.
    pub decoded: u64,
    /// Pictures that the detector saw.
    pub analysed: u64,
    /// Packets and pictures that the decoder found damaged.
    pub damaged: u64,
    /// Packets and due pictures that a catch-up passed over.
    pub skipped: u64,
    /// Changes between quiet, watch and busy.
    pub transitions: u64,
    /// Seconds of stream with keyframes only being decoded.
    #[serde(serialize_with = "three")]
    pub quiet_s: f64,
    /// Seconds of stream being watched without anything to track.
    #[serde(serialize_with = "three")]
    pub watch_s: f64,
    /// Seconds of stream with something tracked that is not parked.
    #[serde(serialize_with = "three")]
    pub busy_s: f64,
    /// Due pictures that a newer one replaced before the detector had time.
    pub dropped: u64,
    /// Connections after the first one.
    pub reconnects: u64,
    /// Events produced.
    pub events: u64,
    /// Events that could not be stored.
    pub events_lost: u64,
    /// Pictures and clips that are complete on disk.
    pub evidence: u64,
    /// Pictures and clips that events promised and that could not be made.
    pub evidence_lost: u64,
    /// Time in the detector, mean over analysed pictures, milliseconds.
    #[serde(serialize_with = "three")]
    pub infer_ms: f64,
    /// From arrival to the detector's answer, mean over analysed pictures, milliseconds.
    #[serde(serialize_with = "three")]
    pub delay_ms: f64,
    /// The camera's clock minus this host's at its last RTCP sender report; absent before the first.
    #[serde(serialize_with = "whole")]
    pub clock_offset_ms: Option<f64>,
    /// How much faster than this host's it runs, in millionths; absent in the first minute.
    #[serde(serialize_with = "whole")]
    pub clock_drift_ppm: Option<f64>,
    /// How often it stepped by more than 0.5 s.
    pub clock_steps: u64,
}

/// Counters of one broker since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkStats {
    /// Whether there is a session now.
    pub connected: bool,
    /// Events not acknowledged yet.
    pub queued: usize,
    /// Events acknowledged.
    pub acked: u64,
    /// Messages that the broker refused, each refusal counted.
    pub refused: u64,
    /// Events that were not delivered because the broker refuses them for good.
    pub given_up: u64,
    /// Events that the broker took while nobody subscribed to them.
    pub nobody_listens: u64,
    /// Events dropped since the store began: by its bounds, by hand.
    pub dropped: u64,
    /// From handing an event over to its acknowledgement: PUBLISH to PUBACK, of a webhook POST to 2xx.
    pub answer_ms: Histogram,
    /// From capture to the acknowledgement, of events captured while the connection was there.
    pub capture_ms: Histogram,
}

/// What a model's session did for one camera since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShareStats {
    /// Jobs that it ran.
    pub served: u64,
    /// Frames whose place a newer one took.
    pub replaced: u64,
    /// Wants that were too late, or made room for newer ones.
    pub expired: u64,
    /// Frames of a catch-up that had to wait with their camera.
    pub refused: u64,
    /// Frames taken back, since the camera was lost.
    pub withdrawn: u64,
    /// Jobs that wait now.
    pub waiting: usize,
    /// From hand-over to the start of the inference, running mean, milliseconds.
    #[serde(serialize_with = "three")]
    pub age_ms: f64,
    /// Its largest value, milliseconds.
    #[serde(serialize_with = "three")]
    pub age_max_ms: f64,
}

/// One model's session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelStats {
    /// What it is used for.
    pub role: Role,
    /// The part of the time since the start in which it computed, 0..1.
    #[serde(serialize_with = "three")]
    pub busy: f64,
    /// By camera.
    pub cameras: BTreeMap<CameraId, ShareStats>,
}

/// The counters: topic `stats`, not retained.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Now.
    pub at: Timestamp,
    /// When the daemon started.
    pub since: Timestamp,
    /// Memory of the process, bytes.
    pub rss_bytes: u64,
    /// By camera.
    pub cameras: BTreeMap<CameraId, CameraStats>,
    /// By model.
    pub models: BTreeMap<String, ModelStats>,
    /// By broker.
    pub sinks: BTreeMap<Name, SinkStats>,
}

impl Serialize for Stats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Keys<'a> {
            v: u8,
            #[serde(serialize_with = "millis")]
            at: Timestamp,
            #[serde(serialize_with = "millis")]
            since: Timestamp,
            rss_bytes: u64,
            cameras: &'a BTreeMap<CameraId, CameraStats>,
            models: &'a BTreeMap<String, ModelStats>,
            brokers: &'a BTreeMap<Name, SinkStats>,
        }
        let Self { at, since, rss_bytes, cameras, models, sinks } = self;
        let (at, since, rss_bytes) = (*at, *since, *rss_bytes);
        Keys { v: VERSION, at, since, rss_bytes, cameras, models, brokers: sinks }.serialize(serializer)
    }
}

fn one<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(*value, 1))
}

fn whole<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| rounded(value, 0)).serialize(serializer)
}

fn three<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(*value, 3))
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, Place, Update, Vedette};
    use super::*;
    use crate::fixtures::{camera_status, name, node_status, rule_state};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn samples() -> Vec<(&'static str, Update, &'static str)> {
        let (gate, start) = (name("gate"), at("2026-11-24T02:00:00Z"));
        let share = ProviderShare {
            model: "nanodet-g-416".into(),
            provider: "xnnpack".into(),
            share: 0.9714,
            time_share: 0.62,
        };
        let node = NodeStatus {
            cameras: 2,
            providers: vec![share],
            public_key: "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".parse().ok(),
            ..node_status()
        };
        let since = at("2026-11-24T02:00:01.25Z");
        let camera = CameraStatus {
            decode: "busy",
            fps: 4.987,
            gate: Some("keyframes every 2.0 s".to_owned()),
            since,
            ..camera_status("gate", "live")
        };
        let state = StateUpdate {
            changed: at("2026-11-24T02:35:42.64Z"),
            active: true,
            value: Some(f64::NAN),
            since: Some(at("2026-11-24T02:35:42.12Z")),
            ..rule_state("gate", "night")
        };
        let counters = CameraStats {
            received: 90_000,
            received_bytes: 80_000_000,
            decoded: 90_000,
            analysed: 18_000,
            damaged: 2,
            skipped: 40,
            transitions: 17,
            quiet_s: 3_000.5,
            watch_s: 420.0,
            busy_s: 179.52,
            dropped: 3,
            reconnects: 1,
            events: 12,
            events_lost: 0,
            evidence: 22,
            evidence_lost: 0,
            infer_ms: 15.100_04,
            delay_ms: 31.4,
            clock_offset_ms: Some(-112.4),
            clock_drift_ppm: None,
            clock_steps: 1,
        };
        let mut answer = Histogram::default();
        (0..12).for_each(|_| answer.note(std::time::Duration::from_millis(4)));
        let sink = SinkStats { connected: true, acked: 12, answer_ms: answer, ..SinkStats::default() };
        let share = ShareStats {
            served: 18_000,
            replaced: 3,
            age_ms: 1.25,
            age_max_ms: 40.0,
            ..ShareStats::default()
        };
        let model =
            ModelStats { role: Role::Detector, busy: 0.0756, cameras: [(gate.clone(), share)].into() };
        let stats = Stats {
            at: at("2026-11-24T03:00:00Z"),
            since: start,
            rss_bytes: 128 << 20,
            cameras: [(gate.clone(), counters)].into(),
            models: [("nanodet-g-416".to_owned(), model)].into(),
            sinks: [(Name::new("factory").unwrap(), sink)].into(),
        };
        vec![
            ("status", Update::Node(node), include_str!("../../../../tests/golden/wire/status.json")),
            (
                "gate/status",
                Update::Camera(camera),
                include_str!("../../../../tests/golden/wire/camera-status.json"),
            ),
            (
                "gate/state/night",
                Update::State(state),
                include_str!("../../../../tests/golden/wire/state.json"),
            ),
            ("stats", Update::Stats(stats), include_str!("../../../../tests/golden/wire/stats.json")),
        ]
    }

    #[test]
    fn updates_are_exactly_the_golden_json() {
        let at = Place { prefix: "vedette".to_owned(), node: Name::new("box").unwrap() };
        for (topic, update, golden) in samples() {
            let message = Vedette.update(&at, &update).remove(0);
            assert_eq!((message.topic.as_str(), message.retained), (topic, topic != "stats"));
            assert_eq!(String::from_utf8(message.payload).unwrap(), golden.trim_end(), "{topic}");
        }
    }
}
