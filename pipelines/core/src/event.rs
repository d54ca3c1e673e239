//! What a rule reports. Events leave `analysis` in this form; the daemon adds what only it knows (node, epoch,
//! sequence number, latency, model, configuration) and turns them into bytes.

use uuid::Uuid;

use crate::{BBox, CameraId, Class, Moment, Name, TrackId};

/// Where in its incident a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The condition began to hold.
    Begin,
    /// It still holds and something about it changed.
    Update,
    /// It holds no more.
    End,
    /// A momentary incident, begun and ended at once.
    Once,
}

/// How urgent an event is; ordered.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Counts and other facts.
    Info,
    /// Somebody should look when there is time.
    Review,
    /// May become an alarm.
    Warning,
    /// The appliance or a camera does not work as it should.
    Fault,
    /// Somebody must look now.
    Alarm,
}

/// Across a line: `In` = from the left to the right of someone walking from its first to its last point.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Left to right.
    In,
    /// Right to left.
    Out,
}

/// Why an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// Its condition no longer held.
    Rule,
    /// The camera gave no frames for 10 s.
    CameraLost,
    /// The daemon stopped.
    Restart,
    /// The rule was changed or removed.
    Config,
}

/// The unit of [`ObjectSummary::speed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SpeedUnit {
    /// Body heights per second.
    #[serde(rename = "heights/s")]
    HeightsPerSecond,
    /// Metres per second; needs a calibrated scene.
    #[serde(rename = "m/s")]
    MetresPerSecond,
}

/// The object that an event is about.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ObjectSummary {
    /// Its track.
    pub track: TrackId,
    /// What it is.
    pub class: Class,
    /// The detector's last score, 0..1.
    pub score: f32,
    /// Where it is, 0..1 of the picture.
    #[serde(rename = "box")]
    pub bbox: BBox,
    /// How fast it moves.
    pub speed: f32,
    /// The unit of `speed`.
    pub speed_unit: SpeedUnit,
}

impl ObjectSummary {
    /// Of a track, with speed in body heights per second.
    pub fn of(track: &crate::Track) -> Self {
        Self {
            track: track.id,
            class: track.class.clone(),
            score: track.score,
            bbox: track.bbox.clipped(),
            speed: track.speed(),
            speed_unit: SpeedUnit::HeightsPerSecond,
        }
    }
}

/// The files that show an incident, by name, once they are complete: each is announced apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvidenceNames {
    /// A picture.
    pub snapshot: Option<String>,
    /// A clip.
    pub clip: Option<String>,
    /// Why something is missing that is switched on.
    pub missing: Option<String>,
}

/// One message of one incident. One incident has one `id` and goes begin → (update) → end, or once.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The incident: UUIDv7.
    pub id: Uuid,
    /// Where in the incident this message stands.
    pub phase: Phase,
    /// The rule's kind, such as `intrusion`.
    pub kind: &'static str,
    /// The rule's name in the configuration.
    pub rule: Name,
    /// How urgent it is.
    pub severity: Severity,
    /// The camera; none for the health of the node.
    pub camera: Option<CameraId>,
    /// The zone, where the rule has one.
    pub zone: Option<Name>,
    /// The line, where the rule has one.
    pub line: Option<Name>,
    /// Which way, where the kind has directions.
    pub direction: Option<Direction>,
    /// The frame in which the condition first held (for `end`: last held).
    pub captured: Moment,
    /// The frame or tick at which the rule fired.
    pub decided: Moment,
    /// The object; none for scene-wide kinds.
    pub object: Option<ObjectSummary>,
    /// A count or measure, where the kind has one.
    pub value: Option<f64>,
    /// The unit of `value`.
    pub unit: Option<&'static str>,
    /// One sentence for people.
    pub why: String,
    /// Set in `end` only.
    pub ended_by: Option<EndedBy>,
    /// How many further incidents cooldown and rate cap have held back since the last event of this rule.
    pub suppressed: u32,
    /// What will show it; the same in all messages of an incident.
    pub evidence: EvidenceNames,
}
