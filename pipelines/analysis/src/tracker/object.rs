//! One tracked object: its filter, what it has been taken for, and the summary that rules see.
//!
//! Owns: the state of a single track over time. Does not know: other tracks and how detections are shared out.

use vedette_core::{BBox, Class, Detection, Moment, Point, Track, TrackId};

use super::kalman::Filter;

/// Two hits no further apart confirm a track.
const CONFIRM_WITHIN: f64 = 1.0;
/// Mean score that a confirmed track needs.
const CONFIRM_SCORE: f32 = 0.40;
/// Prediction goes no further than this at once: beyond it a guess is worth nothing.
const LONGEST_STEP: f64 = 2.0;
/// An observed direction is measured over at least so long, seconds.
const HEADING_OVER: f64 = 1.0;
/// What has not moved by this part of its height ...
const PARKED_WITHIN: f64 = 0.1;
/// ... for so long is parked, seconds.
const PARKED_AFTER: f64 = 10.0;
/// Classes that one object may be taken for besides its own.
const MAX_CLASSES: usize = 8;

/// A box in picture heights: [cx, cy, w, h].
pub(crate) type Measures = [f64; 4];

/// [cx, cy, w, h] in picture heights of a box in 0..1 of the picture.
pub(crate) fn measures(bbox: &BBox, aspect: f32) -> Measures {
    let (aspect, centre) = (f64::from(aspect), bbox.center());
    [
        f64::from(centre.x) * aspect,
        f64::from(centre.y),
        f64::from(bbox.width()) * aspect,
        f64::from(bbox.height()),
    ]
}

fn to_bbox([cx, cy, w, h]: Measures, aspect: f32) -> BBox {
    let aspect = f64::from(aspect);
    BBox::from_center((cx / aspect) as f32, cy as f32, (w / aspect) as f32, h as f32)
}

/// Where something was seen.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    at: Moment,
    measured: Measures,
}

/// One live track.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    filter: Filter,
    /// Sightings of the last moments, oldest first: the direction it was seen to take.
    recent: Vec<Sighting>,
    votes: Vec<(Class, f32)>,
    score_sum: f32,
    predicted_to: Moment,
    birth_ground: Point,
    seen_box: BBox,
    /// Where it has been since when, within [`PARKED_WITHIN`].
    anchor: Sighting,
    /// Since when it counts as lost, see [`Object::lost_since`].
    missed: Option<Moment>,
    track: Track,
}

impl Object {
    /// A track of one sighting.
    pub(crate) fn born(id: TrackId, detection: &Detection, aspect: f32, at: Moment) -> Self {
        let measured = measures(&detection.bbox, aspect);
        Self {
            filter: Filter::born(measured),
            recent: vec![Sighting { at, measured }],
            votes: vec![(detection.class.clone(), detection.score)],
            score_sum: detection.score,
            predicted_to: at,
            birth_ground: detection.bbox.ground(),
            seen_box: detection.bbox,
            anchor: Sighting { at, measured },
            missed: None,
            track: Track {
                id,
                class: detection.class.clone(),
                score: detection.score,
                mean_score: detection.score,
                bbox: detection.bbox,
                velocity: [0.0, 0.0],
                born: at,
                seen: at,
                hits: 1,
                observed: true,
                confirmed: false,
                displacement: 0.0,
            },
        }
    }

    /// What rules see.
    pub(crate) fn track(&self) -> &Track {
        &self.track
    }

    /// Where it is expected, 0..1 of the picture.
    pub(crate) fn expected_box(&self) -> BBox {
        self.track.bbox
    }

    /// Where it was last seen, 0..1 of the picture.
    pub(crate) fn seen_box(&self) -> BBox {
        self.seen_box
    }

    /// Whether it has stood still for long.
    pub(crate) fn is_parked(&self) -> bool {
        self.track.confirmed && self.predicted_to.pts.secs_since(self.anchor.at.pts) >= PARKED_AFTER
    }

    /// The gate says that nothing changed where it is parked: it is there.
    pub(crate) fn stayed(&mut self, at: Moment) {
        self.rest();
        self.predicted_to = at;
        (self.track.seen, self.track.observed) = (at, true);
        self.missed = None;
    }

    /// The detector looked and did not find it. Since when it counts as lost: since it was seen, or, where the detector
    /// had not looked for longer than `patience` seconds, since this first look.
    pub(crate) fn lost_since(&mut self, at: Moment, patience: f64) -> Moment {
        let seen = self.track.seen;
        let since = if at.pts.secs_since(seen.pts) > patience { at } else { seen };
        *self.missed.get_or_insert(since)
    }

    /// Moves the box on to `at`; it counts as unseen until [`Object::saw`].
    pub(crate) fn predict(&mut self, at: Moment, aspect: f32) {
        let dt = at.pts.secs_since(self.predicted_to.pts).clamp(0.0, LONGEST_STEP);
        if !self.track.observed {
            self.filter.freeze_sides();
        }
        self.filter.predict(dt);
        self.predicted_to = at;
        self.track.observed = false;
        self.summarise(aspect);
    }

    /// Takes in the detection that was given to it.
    pub(crate) fn saw(&mut self, detection: &Detection, aspect: f32, at: Moment) {
        let measured = measures(&detection.bbox, aspect);
        self.filter.update(measured);
        self.seen_box = detection.bbox;
        self.missed = None;
        let close = at.pts.secs_since(self.track.seen.pts) <= CONFIRM_WITHIN;
        self.recent.push(Sighting { at, measured });
        // One older than the window stays, so that there is always something to measure from.
        while self.recent.get(1).is_some_and(|s| at.pts.secs_since(s.at.pts) >= HEADING_OVER) {
            self.recent.remove(0);
        }
        self.score_sum += detection.score;
        self.vote(detection);
        let track = &mut self.track;
        track.hits = track.hits.saturating_add(1);
        track.score = detection.score;
        track.mean_score = self.score_sum / track.hits as f32;
        (track.seen, track.observed) = (at, true);
        self.park(at);
        let track = &mut self.track;
        track.confirmed |= close && track.mean_score >= CONFIRM_SCORE;
        self.summarise(aspect);
    }

    fn park(&mut self, at: Moment) {
        let [cx, cy, _, height] = self.filter.measures();
        let [ax, ay, ..] = self.anchor.measured;
        if (cx - ax).hypot(cy - ay) > PARKED_WITHIN * height {
            self.anchor = Sighting { at, measured: self.filter.measures() };
        }
    }

    /// Forgets where it was going: nobody saw it for a while.
    pub(crate) fn rest(&mut self) {
        self.filter.rest();
        self.recent.clear();
    }

    /// The unit vector of its observed motion; none where it was hardly seen to move.
    pub(crate) fn heading(&self) -> Option<[f64; 2]> {
        let (first, last) = (self.recent.first()?, self.recent.last()?);
        direction(first.measured, last.measured)
    }

    /// The unit vector from the last sighting to a detection.
    pub(crate) fn heading_to(&self, measured: Measures) -> Option<[f64; 2]> {
        direction(self.recent.last()?.measured, measured)
    }

    fn vote(&mut self, detection: &Detection) {
        if let Some(vote) = self.votes.iter_mut().find(|v| v.0 == detection.class) {
            vote.1 += detection.score;
        } else if self.votes.len() < MAX_CLASSES {
            self.votes.push((detection.class.clone(), detection.score));
        }
        // The first of equals stays, so that a tie never flips the class.
        if let Some(best) = self.votes.iter().reduce(|best, v| if v.1 > best.1 { v } else { best }) {
            self.track.class = best.0.clone();
        }
    }

    fn summarise(&mut self, aspect: f32) {
        let measured = self.filter.measures();
        self.track.bbox = to_bbox(measured, aspect);
        let height = measured[3].max(f64::EPSILON);
        self.track.velocity = self.filter.ground_velocity().map(|v| (v / height) as f32);
        if self.track.observed {
            let ground = self.track.bbox.ground();
            let moved = ((ground.x - self.birth_ground.x) * aspect).hypot(ground.y - self.birth_ground.y)
                / height as f32;
            self.track.displacement = self.track.displacement.max(moved);
        }
    }
}

fn direction(from: Measures, to: Measures) -> Option<[f64; 2]> {
    let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
    let length = dx.hypot(dy);
    // Less than a tenth of its height is jitter.
    (length > 0.1 * to[3].max(from[3])).then(|| [dx / length, dy / length])
}
