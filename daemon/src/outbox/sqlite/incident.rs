//! An open incident as it is kept on disk: all that its `end` needs, should the daemon not live to send it.
//!
//! Owns: that file format. Does not know: when it is written.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vedette_core::{
    BBox, Class, Clock, ClockSource, Direction, EndedBy, Event, Moment, Name, ObjectSummary, Phase, Pts,
    Severity, SpeedUnit, TrackId,
};

/// The last message of an incident that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenIncident {
    pub(super) id: Uuid,
    kind: String,
    rule: Name,
    severity: Severity,
    camera: Option<Name>,
    zone: Option<Name>,
    line: Option<Name>,
    direction: Option<Direction>,
    captured: Timestamp,
    clock: ClockSource,
    clock_synced: bool,
    object: Option<OpenObject>,
    value: Option<f64>,
    unit: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OpenObject {
    track: u64,
    class: Class,
    score: f32,
    #[serde(rename = "box")]
    bbox: BBox,
    speed: f32,
    speed_unit: SpeedUnit,
}

impl OpenIncident {
    /// What is to be kept of a `begin` or `update`.
    pub(super) fn of(event: &Event) -> Self {
        let object = |o: &ObjectSummary| OpenObject {
            track: o.track.0,
            class: o.class.clone(),
            score: o.score,
            bbox: o.bbox,
            speed: o.speed,
            speed_unit: o.speed_unit,
        };
        Self {
            id: event.id,
            kind: event.kind.to_owned(),
            rule: event.rule.clone(),
            severity: event.severity,
            camera: event.camera.clone(),
            zone: event.zone.clone(),
            line: event.line.clone(),
            direction: event.direction,
            captured: event.captured.wall,
            clock: event.captured.clock,
            clock_synced: event.captured.wall_ok,
            object: event.object.as_ref().map(object),
            value: event.value,
            unit: event.unit.map(ToOwned::to_owned),
        }
    }

    /// Its end. `captured` stays the last time that is known of it.
    pub(super) fn ended_by_restart(self, clock: &dyn Clock) -> Event {
        let object = |o: OpenObject| ObjectSummary {
            track: TrackId(o.track),
            class: o.class,
            score: o.score,
            bbox: o.bbox,
            speed: o.speed,
            speed_unit: o.speed_unit,
        };
        let wall_ok = self.clock_synced;
        let captured = Moment { pts: Pts::ZERO, wall: self.captured, wall_ok, clock: self.clock };
        let decided = Moment { wall: clock.wall(), clock: ClockSource::Host, ..captured };
        Event {
            id: self.id,
            phase: Phase::End,
            kind: forever(self.kind),
            rule: self.rule,
            severity: self.severity,
            camera: self.camera,
            zone: self.zone,
            line: self.line,
            direction: self.direction,
            captured,
            decided,
            object: self.object.map(object),
            value: self.value,
            unit: self.unit.map(forever),
            why: "the service restarted while this was going on".to_owned(),
            ended_by: Some(EndedBy::Restart),
            suppressed: 0,
            evidence: Default::default(),
        }
    }
}

/// Kinds and units are names in the code, but the code that gave this one may be another version's. Given up for the
/// life of the process: once a start, at most two words for each incident that a crash left open.
fn forever(word: String) -> &'static str {
    word.leak()
}
