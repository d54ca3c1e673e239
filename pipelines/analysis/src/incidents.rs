//! From "this condition holds" to messages: the part of alarming that all rules have in common.
//!
//! Owns: the incidents of one rule with their begin, update and end, arming and schedule, cooldown, cap and the
//! count of what they held back. Does not know: what the conditions are. A rule says at every step which conditions
//! hold ([`Finding`]); what is new begins, what is missing ends.
//!
//! *Cooldown* goes by subject: the same track (in the same direction, where the kind has one) gives no second
//! incident of this rule until so long after the first ended. *The cap* counts begun incidents over the last hour
//! of PTS. A condition that either of them holds back waits: if it outlasts them its incident begins late (with the
//! moment in which it first held), if it ends before, it is counted as suppressed. Momentary ones do not wait.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vedette_core::{
    CameraId, Direction, EndedBy, Event, EvidenceNames, IncidentIds, Moment, Name, ObjectSummary, Phase, Pts,
    Severity, Track, TrackId,
};

use crate::rules::Common;

/// Updates of one incident are at least so far apart, unless its severity rises.
const UPDATE_AFTER: f64 = 5.0;
/// So far an object must move before its place alone is worth an update, in heights of its box.
const UPDATE_MOVED: f32 = 1.0;
/// The window of `max_per_hour`.
const HOUR: Duration = Duration::from_secs(3600);
/// A cap above this caps nothing and is not counted (more than two a second).
const CAP_COUNTED: u32 = 10_000;
/// Cooldowns remembered; the oldest are forgotten first.
const MAX_COOLDOWNS: usize = 1024;

/// What an incident is about; two findings with equal subjects are the same incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The object; none for what concerns the whole scene.
    pub track: Option<TrackId>,
    /// Which way, where the kind has directions.
    pub direction: Option<Direction>,
}

impl Subject {
    /// About one object.
    pub fn track(id: TrackId) -> Self {
        Self { track: Some(id), direction: None }
    }
}

/// A condition that holds, or held for a moment.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// The frame in which it first held.
    pub since: Moment,
    /// The last frame in which it was seen to hold.
    pub last: Moment,
    /// A count or measure and its unit.
    pub value: Option<(f64, &'static str)>,
    /// Severity where it is not the rule's.
    pub severity: Option<Severity>,
    /// One sentence for people, without a full stop.
    pub why: String,
}

/// What the events of one rule have in common.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) camera: CameraId,
    pub(crate) rule: Name,
    pub(crate) kind: &'static str,
    pub(crate) zone: Option<Name>,
    pub(crate) line: Option<Name>,
    pub(crate) severity: Severity,
}

/// What a message said, to know whether there is news.
#[derive(Debug, Clone)]
struct Said {
    at: Pts,
    severity: Severity,
    value: Option<(f64, &'static str)>,
    object: Option<ObjectSummary>,
}

/// One incident; without an id while cooldown or cap hold it back.
#[derive(Debug)]
struct Incident {
    id: Option<uuid::Uuid>,
    finding: Finding,
    object: Option<ObjectSummary>,
    said: Option<Said>,
}

/// The incidents of one rule.
#[derive(Debug)]
pub(crate) struct Incidents {
    origin: Origin,
    cooldown: Duration,
    max_per_hour: u32,
    open: BTreeMap<Subject, Incident>,
    /// Until when a subject rests.
    resting: BTreeMap<Subject, Pts>,
    begun: VecDeque<Pts>,
    suppressed: u32,
    armed_since: Option<Moment>,
}

/// What a rule found in one step.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) held: Vec<Finding>,
    pub(crate) once: Vec<Finding>,
}

/// The step that findings are about.
#[derive(Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) now: Moment,
    /// Width over height of the picture.
    pub(crate) aspect: f32,
    /// All tracks, in order of their ids.
    pub(crate) tracks: &'a [Track],
}

impl Sight<'_> {
    fn object(&self, id: TrackId) -> Option<ObjectSummary> {
        let place = self.tracks.binary_search_by_key(&id, |t| t.id).ok()?;
        Some(ObjectSummary::of(&self.tracks[place]))
    }
}

impl Incidents {
    pub(crate) fn new(origin: Origin, common: &Common) -> Self {
        Self {
            origin,
            cooldown: common.cooldown.0,
            max_per_hour: common.max_per_hour,
            open: BTreeMap::new(),
            resting: BTreeMap::new(),
            begun: VecDeque::new(),
            suppressed: 0,
            armed_since: None,
        }
    }

    /// Since when the oldest incident that was reported holds.
    pub(crate) fn active_since(&self) -> Option<Moment> {
        let begun = self.open.values().filter(|i| i.id.is_some());
        begun.map(|i| i.finding.since).min_by_key(|m| m.pts)
    }

    /// Arms or disarms; what is open when the schedule ends, ends with it.
    pub(crate) fn arm(&mut self, now: Moment, armed: bool, events: &mut Vec<Event>) {
        if armed {
            self.armed_since.get_or_insert(now);
        } else if self.armed_since.take().is_some() {
            self.end_all(now, EndedBy::Rule, events);
        }
    }

    /// Compares what holds now with what held before. Does nothing while disarmed.
    pub(crate) fn settle(
        &mut self,
        sight: &Sight<'_>,
        mut findings: Findings,
        ids: &mut IncidentIds,
        events: &mut Vec<Event>,
    ) {
        let now = sight.now;
        self.forget(now.pts);
        let Some(armed_since) = self.armed_since else { return };
        let still = |s: &Subject| findings.held.iter().any(|f| f.subject == *s);
        let over: Vec<Subject> = self.open.keys().filter(|s| !still(s)).copied().collect();
        for subject in over {
            self.end(subject, now, EndedBy::Rule, events);
        }
        findings.held.sort_by_key(|f| f.subject);
        for mut finding in findings.held {
            // What held before the rule was armed begins with the arming.
            if finding.since.pts < armed_since.pts {
                finding.since = armed_since;
            }
            self.hold(sight, finding, ids, events);
        }
        for finding in findings.once {
            let object = finding.subject.track.and_then(|id| sight.object(id));
            self.momentary(now, &finding, object, ids, events);
        }
    }

    /// Ends every incident, reported or waiting.
    pub(crate) fn end_all(&mut self, now: Moment, by: EndedBy, events: &mut Vec<Event>) {
        let subjects: Vec<Subject> = self.open.keys().copied().collect();
        for subject in subjects {
            self.end(subject, now, by, events);
        }
    }

    fn hold(&mut self, sight: &Sight<'_>, finding: Finding, ids: &mut IncidentIds, events: &mut Vec<Event>) {
        let (now, subject) = (sight.now, finding.subject);
        let seen = subject.track.and_then(|id| sight.object(id));
        let mut incident = match self.open.remove(&subject) {
            // The first moment stays; so does the object's last sight.
            Some(known) => Incident {
                finding: Finding { since: known.finding.since, ..finding },
                object: seen.or(known.object),
                ..known
            },
            None => Incident { id: None, finding, object: seen, said: None },
        };
        let severity = incident.finding.severity.unwrap_or(self.origin.severity);
        let phase = match &incident.said {
            None if self.may_begin(subject, now.pts) => {
                self.count(now.pts);
                incident.id = Some(ids.next(incident.finding.since));
                Some(Phase::Begin)
            }
            None => None,
            Some(said) => news(said, sight, severity, &incident).then_some(Phase::Update),
        };
        if let (Some(phase), Some(id)) = (phase, incident.id) {
            let captured = if phase == Phase::Begin { incident.finding.since } else { incident.finding.last };
            let object = incident.object.clone();
            incident.said =
                Some(Said { at: now.pts, severity, value: incident.finding.value, object: object.clone() });
            events.push(self.event(id, phase, captured, now, &incident.finding, object));
        }
        self.open.insert(subject, incident);
    }

    fn momentary(
        &mut self,
        now: Moment,
        finding: &Finding,
        object: Option<ObjectSummary>,
        ids: &mut IncidentIds,
        events: &mut Vec<Event>,
    ) {
        if !self.may_begin(finding.subject, now.pts) {
            self.suppressed = self.suppressed.saturating_add(1);
            return;
        }
        self.count(now.pts);
        self.rest(finding.subject, now.pts);
        let id = ids.next(finding.since);
        events.push(self.event(id, Phase::Once, finding.since, now, finding, object));
    }

    fn end(&mut self, subject: Subject, now: Moment, by: EndedBy, events: &mut Vec<Event>) {
        let Some(Incident { id, finding, object, said }) = self.open.remove(&subject) else { return };
        let Some(id) = id else {
            self.suppressed = self.suppressed.saturating_add(1);
            return;
        };
        self.rest(subject, now.pts);
        let mut event = self.event(id, Phase::End, finding.last, now, &finding, object);
        // An incident does not end milder than it was last reported.
        event.severity = said.map_or(event.severity, |s| s.severity);
        event.ended_by = Some(by);
        let reason = match by {
            EndedBy::Rule => "over",
            EndedBy::CameraLost => "the camera gives no frames",
            EndedBy::Restart => "the service stops",
            EndedBy::Config => "the rule was changed",
        };
        event.why = format!("{reason}: {}", finding.why);
        events.push(event);
    }

    fn event(
        &mut self,
        id: uuid::Uuid,
        phase: Phase,
        captured: Moment,
        decided: Moment,
        finding: &Finding,
        object: Option<ObjectSummary>,
    ) -> Event {
        let origin = &self.origin;
        Event {
            id,
            phase,
            kind: origin.kind,
            rule: origin.rule.clone(),
            severity: finding.severity.unwrap_or(origin.severity),
            camera: Some(origin.camera.clone()),
            zone: origin.zone.clone(),
            line: origin.line.clone(),
            direction: finding.subject.direction,
            captured,
            decided,
            object,
            value: finding.value.map(|v| v.0),
            unit: finding.value.map(|v| v.1),
            why: finding.why.clone(),
            ended_by: None,
            suppressed: std::mem::take(&mut self.suppressed),
            evidence: EvidenceNames::default(),
        }
    }

    fn may_begin(&self, subject: Subject, now: Pts) -> bool {
        let capped = self.max_per_hour <= CAP_COUNTED && self.begun.len() >= self.max_per_hour as usize;
        !capped && self.resting.get(&subject).is_none_or(|until| *until <= now)
    }

    fn count(&mut self, now: Pts) {
        if self.max_per_hour <= CAP_COUNTED {
            self.begun.push_back(now);
        }
    }

    fn rest(&mut self, subject: Subject, now: Pts) {
        self.resting.insert(subject, now + self.cooldown);
        if self.resting.len() > MAX_COOLDOWNS {
            // Ids count up: the first is the oldest track.
            self.resting.pop_first();
        }
    }

    fn forget(&mut self, now: Pts) {
        self.resting.retain(|_, until| *until > now);
        while self.begun.front().is_some_and(|at| now.since(*at) >= HOUR) {
            self.begun.pop_front();
        }
    }
}

/// Whether an incident differs enough from what was last said about it.
fn news(said: &Said, sight: &Sight<'_>, severity: Severity, incident: &Incident) -> bool {
    if severity > said.severity {
        return true;
    }
    if sight.now.pts.secs_since(said.at) < UPDATE_AFTER {
        return false;
    }
    let moved = match (&said.object, &incident.object) {
        (Some(before), Some(after)) => {
            let (a, b) = (before.bbox.ground(), after.bbox.ground());
            let far = ((a.x - b.x) * sight.aspect).hypot(a.y - b.y)
                >= UPDATE_MOVED * after.bbox.height().max(f32::EPSILON);
            far || before.class != after.class
        }
        (before, after) => before.is_some() != after.is_some(),
    };
    moved || said.value != incident.finding.value || said.severity != severity
}
