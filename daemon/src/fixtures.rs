//! Stand-ins for what tests and fuzz targets need around the part that they try. Built for them alone.
//!
//! Owns: an outbox in memory, ordinary events and what an encoder stamps on them. Does not know: who tries what.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;
use vedette_core::{
    BBox, Class, ClockSource, Event, Evidence, Moment, Name, ObjectSummary, Phase, Pts, Severity, SpeedUnit,
    TrackId,
};

use crate::outbox::{Frozen, Limits, Outbox, OutboxError, Stored};
use crate::wire::{Encoder, ModelStamp, Notice, Stamp};

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

/// Of the node `box`, with the dialect `vedette` alone.
pub fn stamp() -> Stamp {
    let model = ModelStamp { name: "m".into(), sha256: "0123456789".into(), provider: "cpu".into() };
    Stamp::new(name("box"), "0", model)
}

/// The beginning of an intrusion at the camera `gate`, with every field that such an event has.
pub fn event() -> Event {
    let at = Moment {
        pts: Pts::ZERO,
        wall: Timestamp::UNIX_EPOCH + Duration::from_secs(1_795_487_742),
        wall_ok: true,
        clock: ClockSource::Camera,
    };
    Event {
        id: Uuid::from_u128(1),
        phase: Phase::Begin,
        kind: "intrusion",
        rule: name("night"),
        severity: Severity::Alarm,
        camera: Some(name("gate")),
        zone: None,
        line: None,
        direction: None,
        captured: at,
        decided: at,
        object: Some(ObjectSummary {
            track: TrackId(17),
            class: Class::new("person"),
            score: 0.83,
            bbox: BBox { x0: 0.4, y0: 0.5, x1: 0.5, y1: 0.8 },
            speed: 1.2,
            speed_unit: SpeedUnit::HeightsPerSecond,
        }),
        value: None,
        unit: None,
        why: "person \"inside\" yard".to_owned(),
        ended_by: None,
        suppressed: 0,
        evidence: Default::default(),
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
