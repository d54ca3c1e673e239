//! What is wrong with the appliance itself, as incidents of kind `health`: they begin, they end, and they go through the
//! same outbox as everything else.
//!
//! Owns: which trouble is open, and the events of its beginning and end. Does not know: how trouble is found; `probes`
//! does, and `losses` for events that are gone; the node asks them once a second.

pub mod losses;
pub mod probes;

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;
use vedette_core::{CameraId, EndedBy, Event, IncidentIds, Moment, Mono, Name, Phase, Severity};

/// One thing that may be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which camera; none: the node.
    pub camera: Option<CameraId>,
    /// What, as in the event's `rule`: `camera-lost`, `disk`, `clock`, …
    pub what: &'static str,
    /// How urgent.
    pub severity: Severity,
    /// One sentence with the remedy.
    pub why: String,
    /// How long it must last before it is said.
    pub patience: Duration,
}

type Key = (Option<CameraId>, &'static str);

/// Trouble that is there.
struct Open {
    since: (Mono, Moment),
    /// Its incident, once said.
    id: Option<Uuid>,
    trouble: Trouble,
}

/// See the module.
pub struct Health {
    ids: IncidentIds,
    open: BTreeMap<Key, Open>,
}

impl Health {
    /// With nothing wrong yet.
    pub fn new(ids: IncidentIds) -> Self {
        Self { ids, open: BTreeMap::new() }
    }

    /// All that is wrong now; the events that follow from what has changed.
    pub fn judge(&mut self, now: (Mono, Moment), found: Vec<Trouble>) -> Vec<Event> {
        let mut events = Vec::new();
        let keys: Vec<Key> = found.iter().map(|t| (t.camera.clone(), t.what)).collect();
        let over: Vec<Key> = self.open.keys().filter(|key| !keys.contains(key)).cloned().collect();
        for key in over {
            if let Some(open) = self.open.remove(&key) {
                events.extend(ended(&open, now.1, EndedBy::Rule));
            }
        }
        for trouble in found {
            let key = (trouble.camera.clone(), trouble.what);
            let fresh = Open { since: now, id: None, trouble: trouble.clone() };
            let open = self.open.entry(key).or_insert(fresh);
            // While it waits, the newest reason is the best one; once said, the sentence stays.
            if open.id.is_none() {
                open.trouble = trouble;
                if now.0.since(open.since.0) >= open.trouble.patience {
                    let id = self.ids.next(open.since.1);
                    open.id = Some(id);
                    events.extend(event(&open.trouble, id, Phase::Begin, open.since.1, now.1));
                }
            }
        }
        events
    }

    /// Something that happened, and lasts no time.
    pub fn once(&mut self, now: Moment, trouble: &Trouble) -> Option<Event> {
        event(trouble, self.ids.next(now), Phase::Once, now, now)
    }

    /// Ends all that is open: the daemon stops, or is configured anew.
    pub fn close(&mut self, now: Moment, by: EndedBy) -> Vec<Event> {
        std::mem::take(&mut self.open).into_values().filter_map(|open| ended(&open, now, by)).collect()
    }
}

fn ended(open: &Open, now: Moment, by: EndedBy) -> Option<Event> {
    let mut event = event(&open.trouble, open.id?, Phase::End, now, now)?;
    event.ended_by = Some(by);
    event.why = format!("over: {}", event.why);
    Some(event)
}

fn event(trouble: &Trouble, id: Uuid, phase: Phase, captured: Moment, decided: Moment) -> Option<Event> {
    Some(Event {
        id,
        phase,
        kind: "health",
        rule: Name::new(trouble.what).ok()?,
        severity: trouble.severity,
        camera: trouble.camera.clone(),
        zone: None,
        line: None,
        direction: None,
        captured,
        decided,
        object: None,
        value: None,
        unit: None,
        why: trouble.why.clone(),
        ended_by: None,
        suppressed: 0,
        evidence: Default::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vedette_core::{ClockSource, Pts};

    fn at(seconds: u64) -> (Mono, Moment) {
        let wall = jiff::Timestamp::from_second(seconds as i64).unwrap();
        let moment = Moment { pts: Pts::ZERO, wall, wall_ok: true, clock: ClockSource::Host };
        (Mono(Duration::from_secs(seconds)), moment)
    }

    fn lost(why: &str) -> Trouble {
        Trouble {
            camera: Some(Name::new("gate").unwrap()),
            what: "camera-lost",
            severity: Severity::Fault,
            why: why.to_owned(),
            patience: Duration::from_secs(10),
        }
    }

    #[test]
    fn trouble_begins_after_its_patience_and_ends_with_the_same_id() {
        let mut health = Health::new(IncidentIds::seeded([1; 32]));
        assert!(health.judge(at(0), vec![lost("a")]).is_empty());
        assert!(health.judge(at(9), vec![lost("b")]).is_empty());
        let begun = health.judge(at(10), vec![lost("c")]);
        assert_eq!((begun.len(), begun[0].phase, begun[0].why.as_str()), (1, Phase::Begin, "c"));
        assert_eq!(begun[0].captured.wall, at(0).1.wall, "it holds since the first look");
        assert!(health.judge(at(60), vec![lost("d")]).is_empty(), "said once");
        let over = health.judge(at(61), Vec::new());
        assert_eq!((over.len(), over[0].phase, over[0].ended_by), (1, Phase::End, Some(EndedBy::Rule)));
        assert_eq!(over[0].id, begun[0].id);
        assert!(health.judge(at(62), Vec::new()).is_empty());
    }

    #[test]
    fn what_passes_in_time_is_never_said() {
        let mut health = Health::new(IncidentIds::seeded([1; 32]));
        health.judge(at(0), vec![lost("a")]);
        assert!(health.judge(at(5), Vec::new()).is_empty());
        health.judge(at(6), vec![lost("a")]);
        assert!(health.judge(at(15), vec![lost("a")]).is_empty(), "patience begins anew");
    }

    #[test]
    fn what_is_open_ends_when_the_daemon_stops() {
        let mut health = Health::new(IncidentIds::seeded([1; 32]));
        health.judge(at(0), vec![lost("a")]);
        let begun = health.judge(at(20), vec![lost("a")]);
        let ended = health.close(at(21).1, EndedBy::Restart);
        assert_eq!((ended.len(), ended[0].id, ended[0].ended_by), (1, begun[0].id, Some(EndedBy::Restart)));
        assert!(health.close(at(22).1, EndedBy::Restart).is_empty());
    }
}
