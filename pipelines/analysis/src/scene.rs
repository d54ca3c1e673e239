//! All state of one camera's analysis, driven by moments and observations.
//!
//! Owns: the order of a step (tracks, answers, rules, incidents), the loss of the camera, and the checks before a
//! scene is built. Does not know: single rules, where frames and detections come from, who reads the events.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use vedette_core::{
    Answer, BBox, CameraId, Class, Detection, EndedBy, Event, Frame, IncidentIds, Moment, Name, Polygon,
    Polyline, Pts, Track, Want,
};

use crate::incidents::{Findings, Incidents, Origin, Sight};
use crate::rules::{Absent, Common, Context, Counts, Place, Rule, RuleSetup};
use crate::tracker::Tracker;
use crate::wants::Wants;

/// Without frames for so long, open incidents end with [`EndedBy::CameraLost`].
const CAMERA_LOST_AFTER: Duration = Duration::from_secs(10);

/// What one camera's scene is made of.
#[derive(Debug)]
pub struct SceneConfig {
    /// Named in every event.
    pub camera: CameraId,
    /// Polygons that rules may name.
    pub zones: BTreeMap<Name, Polygon>,
    /// Polylines that rules may name.
    pub lines: BTreeMap<Name, Polyline>,
    /// The rules by name.
    pub rules: BTreeMap<Name, RuleSetup>,
    /// For schedules: the node's.
    pub time_zone: TimeZone,
}

/// Why a scene cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// A rule names a zone or line that the camera does not have.
    #[error("rule `{rule}`: no {shape} `{name}`; {known}")]
    Undefined {
        /// The rule.
        rule: Name,
        /// `zone` or `line`.
        shape: &'static str,
        /// The name it gives.
        name: Name,
        /// Those there are, in words.
        known: String,
    },
    /// A rule lacks a key that its kind needs.
    #[error("rule `{rule}` has no `{key}`: {remedy}")]
    Missing {
        /// The rule.
        rule: Name,
        /// The key.
        key: &'static str,
        /// What to write.
        remedy: &'static str,
    },
    /// A mean score that is none.
    #[error("rule `{rule}`: min_score is {value}, it must lie between 0 and 1")]
    MinScore {
        /// The rule.
        rule: Name,
        /// What it says.
        value: f32,
    },
    /// The kind asked for a shape that its configuration does not name.
    #[error("rule `{rule}` {source}")]
    Absent {
        /// The rule.
        rule: Name,
        /// What it lacks.
        source: Absent,
    },
}

/// What is known about one moment.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The picture, where it was decoded.
    pub frame: Option<&'a Frame>,
    /// Width over height of the picture as it is meant to be seen.
    pub aspect: f32,
    /// What the detector found. `None` where it did not run: with a frame, because nothing has changed since the step
    /// before (what is parked is there still); without one, because only answers came.
    pub detections: Option<&'a [Detection]>,
    /// Answers to earlier wants.
    pub answers: &'a [Answer],
}

/// What comes of a step.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Messages, in the order in which they are to be sent.
    pub events: Vec<Event>,
    /// Requests to run models; their answers belong in a later observation.
    pub wants: Vec<Want>,
}

/// How frames stopped coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The camera gives none; told once, when it is noticed.
    NoFrames,
    /// The time line was re-based over a hole; told before the first frame after it.
    Gap,
}

/// A rule's state for its retained topic.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleState {
    /// Its name in the configuration.
    pub rule: Name,
    /// Its kind.
    pub kind: &'static str,
    /// Whether an incident of it is open.
    pub active: bool,
    /// Its number; for lines the crossings in both directions.
    pub value: Option<f64>,
    /// The unit of `value`.
    pub unit: Option<&'static str>,
    /// Crossings by direction, for lines.
    pub counts: Option<Counts>,
    /// Since when the oldest open incident holds.
    pub since: Option<Moment>,
    /// Whether it would report now: armed and within its schedule.
    pub armed: bool,
}

/// One rule with what belongs to it.
#[derive(Debug)]
struct Post {
    name: Name,
    kind: &'static str,
    common: Common,
    classes: Vec<Class>,
    rule: Box<dyn Rule>,
    incidents: Incidents,
    armed: bool,
    /// What somebody said while the scene ran, instead of the configuration.
    armed_by_command: Option<bool>,
    /// The latest moment at which arming was looked at: ticks run a little ahead of frames, and a frame from before
    /// the end of a schedule must not arm the rule again.
    looked: Pts,
}

/// All state of one camera's analysis.
#[derive(Debug)]
pub struct Scene {
    posts: Vec<Post>,
    tracker: Tracker,
    wants: Wants,
    ids: IncidentIds,
    time_zone: TimeZone,
    /// The latest step: the time line never runs backwards.
    last_step: Pts,
    /// Frames stopped coming, until they come again or the loss was dealt with.
    silence: Option<Silence>,
}

/// A camera that gives no frames.
#[derive(Debug, Clone, Copy)]
struct Silence {
    /// The last step before it: what the patience with it counts from.
    since: Pts,
    /// When it was noticed. Answers that were under way then are older, and no sign of life.
    noticed: Pts,
}

impl Scene {
    /// Checks what the rules name and builds them; the first fault found is the error.
    pub fn build(config: SceneConfig, ids: IncidentIds) -> Result<Self, BuildError> {
        let SceneConfig { camera, zones, lines, rules, time_zone } = config;
        let posts = rules
            .into_iter()
            .map(|(name, setup)| Post::build(name, setup, &camera, &zones, &lines))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            posts,
            tracker: Tracker::default(),
            wants: Wants::default(),
            ids,
            time_zone,
            last_step: Pts::ZERO,
            silence: None,
        })
    }

    /// One frame, or a moment in which the detector or another model answered. Moments that run backwards count as
    /// the latest one.
    pub fn step(&mut self, at: Moment, observation: &Observation<'_>) -> Outcome {
        let at = self.forward(at);
        self.last_step = at.pts;
        let mut events = Vec::new();
        self.check_silence(at, &mut events);
        if self.silence.is_some_and(|s| at.pts > s.noticed) {
            self.silence = None;
        }
        let aspect =
            if observation.aspect.is_finite() && observation.aspect > 0.0 { observation.aspect } else { 1.0 };
        match (observation.frame, observation.detections) {
            (Some(_), None) => self.tracker.stay(at, aspect),
            (_, detections) => self.tracker.step(at, aspect, detections),
        }
        let mut answers = self.wants.route(at.pts, observation.answers);
        let tracks = self.tracker.tracks();
        let sight = Sight { now: at, aspect, tracks };
        for (index, post) in self.posts.iter_mut().enumerate() {
            post.arm(at, &self.time_zone, &mut events);
            let mut findings = Findings::default();
            let counted: Vec<&Track> = tracks.iter().filter(|t| post.classes.contains(&t.class)).collect();
            post.rule.step(&mut Context {
                now: at,
                aspect,
                frame: observation.frame,
                tracks: &counted,
                answers: &answers.remove(&index).unwrap_or_default(),
                armed: post.armed,
                min_score: post.common.min_score,
                rule: index,
                findings: &mut findings,
                wants: &mut self.wants,
            });
            post.incidents.settle(&sight, findings, &mut self.ids, &mut events);
        }
        Outcome { events, wants: self.wants.take() }
    }

    /// Once a second, also when no frames come: schedules end, and so does the patience with a silent camera.
    pub fn tick(&mut self, at: Moment) -> Outcome {
        let at = self.forward(at);
        let mut events = Vec::new();
        for post in &mut self.posts {
            post.arm(at, &self.time_zone, &mut events);
        }
        self.check_silence(at, &mut events);
        Outcome { events, wants: Vec::new() }
    }

    /// Frames stopped coming, or the time line has a hole.
    pub fn lost(&mut self, at: Moment, reason: Lost) -> Outcome {
        let at = self.forward(at);
        match reason {
            Lost::NoFrames => {
                self.silence.get_or_insert(Silence { since: self.last_step, noticed: at.pts });
            }
            Lost::Gap => self.tracker.rest(),
        }
        Outcome::default()
    }

    /// Ends every open incident and forgets all tracks: the scene is about to go, or its rules are.
    pub fn close(&mut self, at: Moment, by: EndedBy) -> Outcome {
        let at = self.forward(at);
        let mut events = Vec::new();
        self.end_all(at, by, &mut events);
        Outcome { events, wants: Vec::new() }
    }

    /// Arms or disarms a rule against its configuration, from the next step or tick on; `None`: as configured. False
    /// where there is no such rule.
    pub fn set_armed(&mut self, rule: &Name, armed: Option<bool>) -> bool {
        let post = self.posts.iter_mut().find(|post| post.name == *rule);
        post.map(|post| post.armed_by_command = armed).is_some()
    }

    /// The tracks alive after the last step, in order of their ids.
    pub fn tracks(&self) -> &[Track] {
        self.tracker.tracks()
    }

    /// Boxes of the tracks that are parked (they have not moved 0.1 of their height for 10 s, and were there at the
    /// last look), 0..1 of the picture; and whether any other track is alive.
    pub fn parked(&self) -> (Vec<BBox>, bool) {
        self.tracker.parked()
    }

    /// The rules' states, in order of their names.
    pub fn states(&self) -> Vec<RuleState> {
        self.posts.iter().map(Post::state).collect()
    }

    /// Never before the latest step.
    fn forward(&self, at: Moment) -> Moment {
        Moment { pts: at.pts.max(self.last_step), ..at }
    }

    fn check_silence(&mut self, at: Moment, events: &mut Vec<Event>) {
        let silent = self.silence.is_some_and(|s| at.pts.since(s.since) >= CAMERA_LOST_AFTER);
        if silent {
            self.silence = None;
            self.end_all(at, EndedBy::CameraLost, events);
        }
    }

    fn end_all(&mut self, at: Moment, by: EndedBy, events: &mut Vec<Event>) {
        for post in &mut self.posts {
            post.incidents.end_all(at, by, events);
        }
        self.tracker.clear();
        self.wants.clear();
    }
}

impl Post {
    fn build(
        name: Name,
        setup: RuleSetup,
        camera: &CameraId,
        zones: &BTreeMap<Name, Polygon>,
        lines: &BTreeMap<Name, Polyline>,
    ) -> Result<Self, BuildError> {
        let RuleSetup { common, config } = setup;
        if let Some(&(key, remedy)) = config.missing().first() {
            return Err(BuildError::Missing { rule: name, key, remedy });
        }
        if !(0.0..=1.0).contains(&common.min_score) {
            return Err(BuildError::MinScore { rule: name, value: common.min_score });
        }
        let place = Place {
            zone: look_up(&name, "zone", config.zone(), zones)?,
            line: look_up(&name, "line", config.line(), lines)?,
        };
        let rule =
            config.build(&place).map_err(|source| BuildError::Absent { rule: name.clone(), source })?;
        let classes = common
            .classes
            .clone()
            .unwrap_or_else(|| config.default_classes().iter().map(|label| Class::new(label)).collect());
        let origin = Origin {
            camera: camera.clone(),
            rule: name.clone(),
            kind: config.kind(),
            zone: place.zone.map(|z| z.0),
            line: place.line.map(|l| l.0),
            severity: common.severity.unwrap_or_else(|| config.default_severity()),
        };
        let incidents = Incidents::new(origin, &common);
        Ok(Self {
            name,
            kind: config.kind(),
            common,
            classes,
            rule,
            incidents,
            armed: false,
            armed_by_command: None,
            looked: Pts::ZERO,
        })
    }

    fn arm(&mut self, at: Moment, zone: &TimeZone, events: &mut Vec<Event>) {
        if at.pts < self.looked {
            return;
        }
        self.looked = at.pts;
        let armed = self.armed_by_command.unwrap_or(self.common.armed);
        self.armed = armed && self.common.schedule.as_ref().is_none_or(|s| s.contains(at.wall, zone));
        self.incidents.arm(at, self.armed, events);
    }

    fn state(&self) -> RuleState {
        let (reading, since) = (self.rule.reading(), self.incidents.active_since());
        RuleState {
            rule: self.name.clone(),
            kind: self.kind,
            active: since.is_some(),
            value: reading.value.map(|v| v.0),
            unit: reading.value.map(|v| v.1),
            counts: reading.counts,
            since,
            armed: self.armed,
        }
    }
}

/// The shape that a rule names, with its name.
fn look_up<T: Clone>(
    rule: &Name,
    shape: &'static str,
    name: Option<&Name>,
    all: &BTreeMap<Name, T>,
) -> Result<Option<(Name, T)>, BuildError> {
    let Some(name) = name else { return Ok(None) };
    if let Some(found) = all.get(name) {
        return Ok(Some((name.clone(), found.clone())));
    }
    let list = all.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
    let known =
        if all.is_empty() { format!("the camera has no {shape}s") } else { format!("there are: {list}") };
    Err(BuildError::Undefined { rule: rule.clone(), shape, name: name.clone(), known })
}
