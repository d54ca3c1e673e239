//! One object over time.

use crate::{BBox, Class, Moment, Pts};

/// Counts up from 1 in each scene; never given twice by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct TrackId(pub u64);

/// One object as rules see it after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Its id.
    pub id: TrackId,
    /// What it is: the class of most of its score so far.
    pub class: Class,
    /// The score of the last detection, 0..1.
    pub score: f32,
    /// The mean score of all its detections, 0..1.
    pub mean_score: f32,
    /// Where it is now: filtered where it was detected in this step, else predicted.
    pub bbox: BBox,
    /// Velocity of the ground point in body heights per second, x and y with equal units.
    pub velocity: [f32; 2],
    /// When it was first detected.
    pub born: Moment,
    /// When it was last detected.
    pub seen: Moment,
    /// How often it was detected.
    pub hits: u32,
    /// Whether it was detected in this step.
    pub observed: bool,
    /// Whether it had two hits within 1 s with a mean score of at least 0.40 (the common rule of confirmation).
    pub confirmed: bool,
    /// The largest distance of its ground point from where it was born, in body heights.
    pub displacement: f32,
}

impl Track {
    /// Speed of the ground point in body heights per second.
    pub fn speed(&self) -> f32 {
        self.velocity[0].hypot(self.velocity[1])
    }

    /// Seconds since its birth at `now`.
    pub fn age_secs(&self, now: Pts) -> f64 {
        now.secs_since(self.born.pts)
    }
}
