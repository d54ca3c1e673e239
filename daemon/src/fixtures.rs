//! Stand-ins for what tests and fuzz targets need around the part that they try. Built for them alone.
//!
//! Owns: an outbox in memory, ordinary events with what an encoder stamps on them, and ordinary updates. A test says what
//! is special about its own: `Event { phase, ..event() }`. Does not know: who tries what.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;
use vedette_core::{
    BBox, Class, ClockSource, Event, Evidence, EvidenceNames, Moment, Name, ObjectSummary, Phase, Pts,
    Severity, SpeedUnit, TrackId,
};

use crate::outbox::{Frozen, Limits, Outbox, OutboxError, Stored};
use crate::wire::{CameraStatus, Encoder, ModelStamp, NodeStatus, Notice, RuleInventory, Stamp, StateUpdate};

/// What must have worked, or the test is wrong.
///
/// # Panics
/// It did not.
pub fn must<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// A name that is one.
///
/// # Panics
/// It is none.
pub fn name(text: &str) -> Name {
    must(Name::new(text))
}

/// When somebody saw something, by a camera's clock that is right.
///
/// # Panics
/// `text` is no time in UTC.
pub fn at(text: &str) -> Moment {
    Moment { pts: Pts::ZERO, wall: must(text.parse()), wall_ok: true, clock: ClockSource::Camera }
}

/// Of the node `box`, with the dialect `vedette` alone.
pub fn stamp() -> Stamp {
    let model = ModelStamp { name: "m".into(), sha256: "0123456789".into(), provider: "cpu".into() };
    Stamp::new(name("box"), "0", model)
}

/// As in the golden files.
pub fn golden_stamp() -> Stamp {
    let (model, sha256) = ("nanodet-g-416".to_owned(), "5f1c2a90cccccccc".to_owned());
    let model = ModelStamp { name: model, sha256, provider: "cpu".to_owned() };
    let epoch = Uuid::from_u128(0x7be2_0000_0000_4000_8000_0000_0000_0001);
    Stamp { epoch, ..Stamp::new(name("plant7-box2"), "b64a11d0ffff", model) }
}

/// The beginning of an intrusion at the camera `gate`, with every field that such an event has.
pub fn event() -> Event {
    let object = ObjectSummary {
        track: TrackId(17),
        class: Class::new("person"),
        score: 0.83,
        bbox: BBox { x0: 0.4, y0: 0.5, x1: 0.5, y1: 0.8 },
        speed: 1.2,
        speed_unit: SpeedUnit::HeightsPerSecond,
    };
    Event {
        id: Uuid::from_u128(1),
        phase: Phase::Begin,
        captured: at("2026-11-24T02:35:42.12Z"),
        decided: at("2026-11-24T02:35:42.12Z"),
        rule: name("night"),
        object: Some(object),
        why: "person \"inside\" yard".to_owned(),
        ..once("gate", Timestamp::UNIX_EPOCH)
    }
}

/// The same in the zone `yard`, as in the golden files.
pub fn golden_event() -> Event {
    let event = event();
    let bbox = BBox { x0: 0.41, y0: 0.52, x1: 0.470_04, y1: 0.78 };
    Event {
        id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
        zone: Some(name("yard")),
        decided: at("2026-11-24T02:35:42.6400001Z"),
        object: event.object.map(|object| ObjectSummary { bbox, ..object }),
        why: "person inside yard for 0.4 s".to_owned(),
        ..event
    }
}

/// Nothing but that something happened at `camera`, by the host's clock.
pub fn once(camera: &str, wall: Timestamp) -> Event {
    let at = Moment { pts: Pts::ZERO, wall, wall_ok: true, clock: ClockSource::Host };
    Event {
        id: Uuid::nil(),
        phase: Phase::Once,
        kind: "intrusion",
        rule: name("r"),
        severity: Severity::Alarm,
        camera: Some(name(camera)),
        zone: None,
        line: None,
        direction: None,
        captured: at,
        decided: at,
        object: None,
        value: None,
        unit: None,
        why: String::new(),
        ended_by: None,
        suppressed: 0,
        evidence: EvidenceNames::default(),
    }
}

/// When every node and camera here began.
fn began() -> Timestamp {
    at("2026-11-24T02:00:00Z").wall
}

/// Of a node that works, whose one camera does.
pub fn node_status() -> NodeStatus {
    NodeStatus {
        state: "online",
        version: "0.1.0",
        since: began(),
        cameras: 1,
        cameras_up: 1,
        providers: Vec::new(),
        public_key: None,
    }
}

/// Of a camera in the state `state` that is watched, without a reason.
pub fn camera_status(camera: &str, state: &'static str) -> CameraStatus {
    let (camera, since) = (name(camera), began());
    CameraStatus { camera, state, decode: "watch", fps: 5.0, gate: None, reason: None, since }
}

/// A rule whose incidents last, that alarms and does not count.
pub fn rule(rule: &str, kind: &str) -> RuleInventory {
    RuleInventory {
        rule: name(rule),
        kind: kind.to_owned(),
        severity: Severity::Alarm,
        zone: None,
        line: None,
        lasting: true,
        counts: false,
        unit: None,
        former_kinds: Vec::new(),
    }
}

/// Of a rule that looks for intruders, is armed and sees none.
pub fn rule_state(camera: &str, rule: &str) -> StateUpdate {
    StateUpdate {
        camera: name(camera),
        rule: name(rule),
        kind: "intrusion",
        changed: began(),
        active: false,
        value: None,
        unit: None,
        since: None,
        armed: true,
    }
}

/// Keeps every message until the one sink that there is has acknowledged it.
#[derive(Debug)]
pub struct MemoryOutbox {
    encoder: Encoder,
    waiting: Mutex<BTreeMap<u64, Arc<Stored>>>,
    produced: Mutex<Vec<Notice>>,
    appended: watch::Sender<u64>,
}

impl MemoryOutbox {
    /// Freezes events with `stamp`.
    pub fn new(stamp: Stamp) -> Self {
        let (waiting, produced) = (Mutex::default(), Mutex::default());
        Self { encoder: Encoder::new(stamp), waiting, produced, appended: watch::Sender::new(0) }
    }

    /// Every event that was appended.
    pub fn produced(&self) -> Vec<Event> {
        held(&self.produced).iter().filter_map(Notice::event).cloned().collect()
    }

    fn produce(&self, notice: Notice, latency: Option<Duration>) -> u64 {
        let mut produced = held(&self.produced);
        let seq = produced.len() as u64 + 1;
        let latency = latency.and_then(|l| u64::try_from(l.as_millis()).ok());
        let frozen = self.encoder.freeze(self.epoch(), seq, latency, &notice).into_iter();
        let messages = frozen
            .map(|(dialect, message)| Frozen {
                dialect,
                topic: message.topic,
                payload: message.payload.into(),
            })
            .collect();
        let (camera, severity) = (notice.camera().cloned(), notice.severity());
        let kind = notice.event_kind().to_owned();
        let stored = Stored { seq, camera, severity, kind, messages, captured: None };
        held(&self.waiting).insert(seq, Arc::new(stored));
        produced.push(notice);
        self.appended.send_replace(seq);
        seq
    }
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox for MemoryOutbox {
    fn append(&self, event: Event, latency: Option<Duration>) -> Result<u64, OutboxError> {
        Ok(self.produce(Notice::Event(event), latency))
    }

    fn append_evidence(&self, evidence: Evidence) -> Result<u64, OutboxError> {
        Ok(self.produce(Notice::Evidence(evidence), None))
    }

    fn attach(&self, _: &Name) {}

    fn detach(&self, _: &Name) {}

    fn next(&self, _: &Name, after: u64) -> Option<Arc<Stored>> {
        held(&self.waiting).range(after + 1..).next().map(|(_, stored)| Arc::clone(stored))
    }

    fn next_of(&self, _: &Name, severity: Severity, after: u64) -> Option<Arc<Stored>> {
        held(&self.waiting).range(after + 1..).map(|(_, s)| s).find(|s| s.severity == severity).cloned()
    }

    fn ack(&self, _: &Name, seq: u64) {
        held(&self.waiting).remove(&seq);
    }

    fn depth(&self, _: &Name) -> usize {
        held(&self.waiting).len()
    }

    fn dropped(&self, _: &Name) -> u64 {
        0
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    fn is_strained(&self) -> bool {
        false
    }

    fn waiting_since(&self) -> Option<Timestamp> {
        None
    }

    fn epoch(&self) -> Uuid {
        Uuid::nil()
    }

    fn restamp(&self, stamp: Stamp) {
        self.encoder.restamp(stamp);
    }

    fn limit(&self, _: Limits) {}

    fn close(&self) {}
}
