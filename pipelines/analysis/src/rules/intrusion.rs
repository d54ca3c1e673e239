//! Somebody stands where nobody should.
//!
//! Owns: when an object counts as inside a zone. The ground point enters after [`Config::enter_after`] inside
//! without a break, once it was `ENTER_DEPTH` deep; it leaves after [`Config::leave_after`] outside and
//! `LEAVE_CLEAR` of the border without a break. Between the two, jitter at the border changes nothing. While an object is out of
//! sight nothing changes either, until its track ends.

use schemars::JsonSchema;
use serde::Deserialize;
use vedette_core::{Moment, Name, Polygon, Span, Track};

use super::{Absent, Context, PerTrack, Place, Rule, RuleConfig, passed};
use crate::incidents::{Finding, Subject};

/// So deep inside it must have been, in body heights: more than the jitter of a filtered box.
const ENTER_DEPTH: f32 = 0.05;
/// So far outside it must be to leave: more than the jitter of a poor detector's box.
const LEAVE_CLEAR: f32 = 0.1;
/// So far it must have moved since its birth, in body heights: what never moves is furniture.
const MOVED: f32 = 0.25;

/// For tables and help.
pub const ABOUT: &str = "an object stands inside a zone";

/// Keys of `intrusion` besides the common ones.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// The zone's name. Needed.
    pub zone: Option<Name>,
    /// How long inside before it counts. Default 400 ms.
    pub enter_after: Span,
    /// How long outside before it is over. Default 1 s.
    pub leave_after: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { zone: None, enter_after: Span::millis(400), leave_after: Span::secs(1) }
    }
}

impl RuleConfig for Config {
    fn kind(&self) -> &'static str {
        "intrusion"
    }

    fn build(&self, place: &Place) -> Result<Box<dyn Rule>, Absent> {
        let (name, zone) = place.need_zone()?;
        Ok(Box::new(Intrusion { config: self.clone(), name, zone, visits: PerTrack::default() }))
    }

    fn zone(&self) -> Option<&Name> {
        self.zone.as_ref()
    }

    fn missing(&self) -> Vec<(&'static str, &'static str)> {
        if self.zone.is_none() { vec![("zone", "name one of the camera's zones")] } else { Vec::new() }
    }

    fn default_classes(&self) -> &'static [&'static str] {
        &["person", "bicycle", "car", "motorcycle", "bus", "truck"]
    }
}

#[derive(Debug)]
struct Intrusion {
    config: Config,
    name: Name,
    zone: Polygon,
    visits: PerTrack<Visit>,
}

/// One object and the zone.
#[derive(Debug, Default)]
struct Visit {
    /// The stay inside: first and last frame, and how deep it went, in body heights.
    stay: Option<(Moment, Moment, f32)>,
    /// Whether the stay counts: it ends by `leave_after` then, not by the first frame outside.
    entered: bool,
    /// Since when it is clearly outside.
    outside: Option<Moment>,
}

impl Rule for Intrusion {
    fn step(&mut self, context: &mut Context<'_>) {
        self.visits.retain(context.tracks);
        for track in context.tracks {
            let visit = self.visits.of(track.id);
            if track.observed {
                let height = track.bbox.height().max(f32::EPSILON);
                let depth = self.zone.depth(track.bbox.ground(), context.aspect) / height;
                visit.see(context, track, depth, &self.config);
            }
            if let (true, Some((since, last, _))) = (visit.entered, visit.stay) {
                let inside = last.pts.since(since.pts).as_secs_f64();
                context.hold(Finding {
                    subject: Subject::track(track.id),
                    since,
                    last,
                    value: None,
                    severity: None,
                    why: format!("{} inside {} for {inside:.1} s", track.class, self.name),
                });
            }
        }
    }
}

impl Visit {
    fn see(&mut self, context: &Context<'_>, track: &Track, depth: f32, config: &Config) {
        let now = context.now;
        if depth > 0.0 {
            let (since, _, deepest) = self.stay.unwrap_or((now, now, depth));
            let deepest = deepest.max(depth);
            self.stay = Some((since, now, deepest));
            self.entered |= deepest >= ENTER_DEPTH
                && passed(since, now, config.enter_after.0)
                && context.counts(track, MOVED);
        } else if !self.entered {
            self.stay = None;
        }
        self.outside = if depth <= -LEAVE_CLEAR { self.outside.or(Some(now)) } else { None };
        if self.outside.is_some_and(|since| passed(since, now, config.leave_after.0)) {
            *self = Self { outside: self.outside, ..Self::default() };
        }
    }
}
