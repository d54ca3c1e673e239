//! What tests of sinks have around them: what an outbox stamps, what is appended to it, and waiting for a sink.
//!
//! Owns: the ordinary case; a test says what is special about its own. Does not know: brokers, receivers.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use vedette::sinks::{RunningSink, SinkStatus};
use vedette::wire::{ModelStamp, Stamp};
use vedette_core::{
    Clock, ClockSource, Event, EvidenceNames, Moment, Name, Phase, Pts, Severity, Shutdown, SystemClock,
};

fn name(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|e| panic!("{e}"))
}

/// Of the node `box`, with the dialect `vedette` alone.
pub fn stamp() -> Stamp {
    let model = ModelStamp { name: "m".into(), sha256: "0123456789".into(), provider: "cpu".into() };
    Stamp::new(name("box"), "0123456789", model)
}

/// Somebody crosses the line `kerb` of the camera, by the host's clock.
///
/// # Panics
/// `camera` is no name.
pub fn crossing(camera: &str, wall: Timestamp) -> Event {
    let at = Moment { pts: Pts::ZERO, wall, wall_ok: true, clock: ClockSource::Host };
    Event {
        id: Uuid::new_v4(),
        phase: Phase::Once,
        kind: "line_crossing",
        rule: name("count"),
        severity: Severity::Alarm,
        camera: Some(name(camera)),
        zone: None,
        line: Some(name("kerb")),
        direction: None,
        captured: at,
        decided: at,
        object: None,
        value: None,
        unit: None,
        why: "it was a test".to_owned(),
        ended_by: None,
        suppressed: 0,
        evidence: EvidenceNames::default(),
    }
}

/// So many persons are counted at the camera, by the host's clock.
///
/// # Panics
/// `camera` is no name.
pub fn count(camera: &str, wall: Timestamp, severity: Severity, persons: u64) -> Event {
    Event {
        kind: "occupancy",
        severity,
        line: None,
        value: Some(persons as f64),
        unit: Some("persons"),
        why: "it was counted".to_owned(),
        ..crossing(camera, wall)
    }
}

/// Waits until `done` says yes to the sink's status, and gives it.
///
/// # Panics
/// It does not within 30 s.
pub fn wait_for(sink: &RunningSink, what: &str, done: impl Fn(&SinkStatus) -> bool) -> SinkStatus {
    let clock = SystemClock::new();
    loop {
        let status = sink.status();
        if done(&status) {
            return status;
        }
        assert!(clock.now().0 < Duration::from_secs(30), "waited 30 s for {what}: {status:?}");
        clock.pause(Duration::from_millis(5), &Shutdown::new());
    }
}
