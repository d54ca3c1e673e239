//! Behaviour rules: one file each, one word each in the registry below.
//!
//! Owns: what a rule is ([`Rule`]), what it sees and may say ([`Context`]), and the configuration that all have in
//! common (classes, score, schedule, cooldown, cap, severity, arming). Does not know: single rules, incidents and
//! their messages. A rule's configuration is two structs read from one table: [`Common`] and the kind's own `Config`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use vedette_core::{
    Answer, Class, Frame, Moment, Name, Polygon, Polyline, Pts, Role, Severity, Span, Track, TrackId, View,
    WantId,
};

use crate::incidents::{Finding, Findings};
use crate::schedule::Schedule;
use crate::wants::Wants;

vedette_core::registry! { dyn RuleConfig: intrusion, line_crossing, }

/// What a rule's own configuration can say about itself, for checks and for building.
pub trait RuleConfig: Debug + Send + Sync {
    /// The kind: the word in the registry.
    fn kind(&self) -> &'static str;
    /// The rule at work. `place` holds the zone and the line that the configuration names.
    fn build(&self, place: &Place) -> Result<Box<dyn Rule>, Absent>;
    /// The zone it names. `None` where it names none or the kind has no zone.
    fn zone(&self) -> Option<&Name> {
        None
    }
    /// The line it names, likewise.
    fn line(&self) -> Option<&Name> {
        None
    }
    /// What the kind cannot do without and was not given: key and remedy. Empty when complete.
    fn missing(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
    /// Classes where the rule names none.
    fn default_classes(&self) -> &'static [&'static str];
    /// Whether its incidents last (`begin` … `end`), as against `once`.
    fn lasts(&self) -> bool {
        true
    }
    /// Whether its state carries a number.
    fn counts(&self) -> bool {
        false
    }
    /// The unit of that number, such as `persons`.
    fn unit(&self) -> Option<&'static str> {
        None
    }
    /// Severity where the rule names none.
    fn default_severity(&self) -> Severity {
        Severity::Alarm
    }
}

/// Keys that every rule has.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Common {
    /// Which behaviour: one of the registry's names.
    pub kind: String,
    /// Classes that count. Default: those of the kind.
    pub classes: Option<Vec<Class>>,
    /// Lowest mean score of a track that counts, 0..1. Default 0.40.
    pub min_score: f32,
    /// When it is armed, in the node's time zone, such as `mon-fri 20:00-06:00, sat-sun 00:00-24:00`.
    /// Default: always.
    pub schedule: Option<Schedule>,
    /// After an incident of the same object ended, no new one for so long. Default 30 s.
    pub cooldown: Span,
    /// At most so many incidents an hour; further ones are counted as suppressed. Default 20.
    pub max_per_hour: u32,
    /// How urgent its events are. Default: that of the kind (`alarm` for most).
    pub severity: Option<Severity>,
    /// Whether it reports at all. Default true.
    pub armed: bool,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            kind: String::new(),
            classes: None,
            min_score: 0.40,
            schedule: None,
            cooldown: Span::secs(30),
            max_per_hour: 20,
            severity: None,
            armed: true,
        }
    }
}

/// A rule as configured: both halves of its table. Cheap to clone, so that a scene can be built anew.
#[derive(Debug, Clone)]
pub struct RuleSetup {
    /// What all rules have.
    pub common: Common,
    /// What its kind has.
    pub config: Arc<dyn RuleConfig>,
}

impl RuleSetup {
    /// Reads both halves from one table, in any format. Keys that neither half knows are not looked at here: telling
    /// them needs both reads (the daemon does so, with file and line).
    pub fn read<'de, D>(table: D) -> Result<Self, String>
    where
        D: serde::Deserializer<'de> + Clone,
    {
        let common = Common::deserialize(table.clone()).map_err(|e| e.to_string())?;
        let kind = vedette_core::registry::find(ALL, &common.kind).map_err(|e| e.to_string())?;
        let config = (kind.parse)(&mut <dyn erased_serde::Deserializer<'_>>::erase(table))
            .map_err(|e| e.to_string())?;
        Ok(Self { common, config: Arc::from(config) })
    }
}

/// The shapes that a rule named, looked up among the camera's.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Name and corners.
    pub zone: Option<(Name, Polygon)>,
    /// Name and points.
    pub line: Option<(Name, Polyline)>,
}

/// A shape that a kind cannot work without was not named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("needs a {0}")]
pub struct Absent(pub &'static str);

impl Place {
    /// The zone, for kinds that need one.
    pub fn need_zone(&self) -> Result<(Name, Polygon), Absent> {
        self.zone.clone().ok_or(Absent("zone"))
    }

    /// The line, for kinds that need one.
    pub fn need_line(&self) -> Result<(Name, Polyline), Absent> {
        self.line.clone().ok_or(Absent("line"))
    }
}

/// A state machine on tracks. It is fed and says what holds; it calls nothing, waits for nothing, and what becomes
/// of its findings (messages, cooldown, cap) is none of its business.
pub trait Rule: Debug + Send {
    /// One step of the scene. A condition that holds is said anew in every step; left out, it is over.
    fn step(&mut self, context: &mut Context<'_>);

    /// The rule's number, where it has one.
    fn reading(&self) -> Reading {
        Reading::default()
    }
}

/// The number of a rule beside its incidents.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Its value and unit.
    pub value: Option<(f64, &'static str)>,
    /// Crossings since the scene began, where the kind counts by direction.
    pub counts: Option<Counts>,
}

/// Crossings by direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// From the left to the right of someone walking from the line's first to its last point.
    pub r#in: u64,
    /// The other way.
    pub out: u64,
}

/// What a rule sees in one step, and where it says what it found.
#[derive(Debug)]
pub struct Context<'a> {
    /// Now.
    pub now: Moment,
    /// Width over height of the picture.
    pub aspect: f32,
    /// The picture, where there is one.
    pub frame: Option<&'a Frame>,
    /// The tracks of the rule's classes, in order of their ids, unconfirmed and lost ones included.
    pub tracks: &'a [&'a Track],
    /// Answers to this rule's own wants; each want gets exactly one.
    pub answers: &'a [Answer],
    /// Whether findings are reported at all now: schedule and arming. Rules that count do so only then.
    pub armed: bool,
    pub(crate) min_score: f32,
    pub(crate) rule: usize,
    pub(crate) findings: &'a mut Findings,
    pub(crate) wants: &'a mut Wants,
}

impl Context<'_> {
    /// Whether a track may begin an incident: confirmed, sure enough on average, and moved by `displacement` body
    /// heights since its birth (what never moved is furniture). Asked at the beginning only: who is in stays in.
    pub fn counts(&self, track: &Track, displacement: f32) -> bool {
        track.confirmed && track.mean_score >= self.min_score && track.displacement >= displacement
    }

    /// Says that a condition holds.
    pub fn hold(&mut self, finding: Finding) {
        self.findings.held.push(finding);
    }

    /// Reports what happens in a moment.
    pub fn once(&mut self, finding: Finding) {
        self.findings.once.push(finding);
    }

    /// Asks for a model to be run on a part of the picture before `by`; the answer is among [`Context::answers`]
    /// of a later step. `None` where too much is asked already.
    pub fn want(&mut self, role: Role, view: View, by: Pts) -> Option<WantId> {
        self.wants.ask(self.rule, role, view, by)
    }
}

/// State of a rule for each track; what is kept for tracks that are gone goes with them.
#[derive(Debug, Default)]
pub struct PerTrack<T>(BTreeMap<TrackId, T>);

impl<T: Default> PerTrack<T> {
    /// Drops the state of tracks that are not there any more.
    pub fn retain(&mut self, tracks: &[&Track]) {
        self.0.retain(|id, _| tracks.binary_search_by_key(id, |t| t.id).is_ok());
    }

    /// The state of one track, new where there is none.
    pub fn of(&mut self, id: TrackId) -> &mut T {
        self.0.entry(id).or_default()
    }
}

/// Whether `length` has passed from `since` to `now`, give or take 10 ms: time stamps are rounded to the stream's
/// clock, and a rule should not wait a whole frame for a rounding error.
pub fn passed(since: Moment, now: Moment, length: Duration) -> bool {
    const ROUNDING: Duration = Duration::from_millis(10);
    now.pts.since(since.pts) + ROUNDING >= length
}
