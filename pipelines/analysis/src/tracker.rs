//! Detections in, tracks out: which box of this frame is which object of the last one.
//!
//! Owns: the association in stages by score (ByteTrack, Zhang et al., ECCV 2022) over buffered IoU (C-BIoU, Yang et
//! al., WACV 2023), so that it holds at 2.5 frames a second; birth and death of tracks. Does not know: rules,
//! pictures. Time is seconds of PTS throughout, never frames.

mod assign;
mod kalman;
mod object;

#[cfg(test)]
mod idf1;
#[cfg(test)]
mod mot;

use std::cmp::Ordering;

use vedette_core::{BBox, Class, Detection, Moment, Track, TrackId};

use self::assign::{Costs, assign};
use self::object::{Object, measures};

/// From here a detection may start a track and takes part in the first stage.
const HIGH_SCORE: f32 = 0.40;
/// From here it may still extend one.
const LOW_SCORE: f32 = 0.10;
/// A track that the detector did not find for so long is over, seconds.
const LOST_AFTER: f64 = 2.0;
/// More tracks than this are not kept; a fixed camera that sees more sees a crowd.
const MAX_TRACKS: usize = 256;
/// More detections of one frame are not looked at, best scores first.
const MAX_DETECTIONS: usize = 300;
/// Boxes further outside the picture, in pictures, or smaller than the least side are no objects.
const FAR_OUTSIDE: f32 = 1.0;
const LEAST_SIDE: f32 = 1e-3;
/// Costs (1 - buffered IoU, and the turn) of leaving a track and a detection alone, by stage: no pair costs more.
const LIMIT_HIGH: f64 = 0.75;
const LIMIT_LOW: f64 = 0.50;
/// The buffer of the second look for those not found again: a multiple of the first, and at least.
const FURTHER: f32 = 2.0;
const FURTHER_LEAST: f32 = 0.3;
/// Weight of the angle between where a track was seen to go and where a detection would take it (OC-SORT).
const HEADING_WEIGHT: f64 = 0.2;
/// The cost of a pair that must not be.
const REFUSED: f64 = 10.0;

/// All tracks of one camera.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    objects: Vec<Object>,
    tracks: Vec<Track>,
    last_id: u64,
    /// When the detector last ran.
    last_look: Option<Moment>,
}

impl Tracker {
    /// The gate says that nothing changed since the last step: what is parked is where it was.
    pub(crate) fn stay(&mut self, at: Moment, aspect: f32) {
        for object in &mut self.objects {
            if object.is_parked() {
                object.stayed(at);
            } else {
                object.predict(at, aspect);
            }
        }
        self.tracks.clear();
        self.tracks.extend(self.objects.iter().map(|o| o.track().clone()));
    }

    /// Boxes of what is parked and was there at the last look, and whether there is anything else.
    pub(crate) fn parked(&self) -> (Vec<BBox>, bool) {
        let parked = |o: &&Object| o.is_parked() && o.track().observed;
        let boxes: Vec<BBox> = self.objects.iter().filter(parked).map(|o| o.track().bbox).collect();
        let others = boxes.len() < self.objects.len();
        (boxes, others)
    }

    /// Moves all tracks on to `at` and, where the detector ran, shares its detections out among them.
    pub(crate) fn step(&mut self, at: Moment, aspect: f32, detections: Option<&[Detection]>) {
        for object in &mut self.objects {
            object.predict(at, aspect);
        }
        if let Some(detections) = detections {
            self.look(at, aspect, &usable(detections));
        }
        self.tracks.clear();
        self.tracks.extend(self.objects.iter().map(|o| o.track().clone()));
    }

    /// The tracks alive, in order of their ids.
    pub(crate) fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The time line has a hole: objects may have gone anywhere meanwhile, so none is expected to have moved on.
    pub(crate) fn rest(&mut self) {
        self.objects.iter_mut().for_each(Object::rest);
    }

    /// Forgets all tracks; ids go on counting.
    pub(crate) fn clear(&mut self) {
        self.objects.clear();
        self.tracks.clear();
        self.last_look = None;
    }

    fn look(&mut self, at: Moment, aspect: f32, detections: &[&Detection]) {
        let gap = self.last_look.map_or(0.0, |last| at.pts.secs_since(last.pts));
        let buffer = buffer_for(gap);
        let last_look = self.last_look.replace(at);
        let fresh = |o: &Object| last_look.is_some_and(|last| o.track().seen.pts >= last.pts);
        let (high, low): (Vec<usize>, Vec<usize>) =
            (0..detections.len()).partition(|&d| detections[d].score >= HIGH_SCORE);

        let mut given: Vec<Option<usize>> = vec![None; self.objects.len()];
        let mut taken = vec![false; detections.len()];
        // Known objects choose first, then newcomers seen once. Who was there a moment ago and was not found where
        // it was expected is looked for further afield round the place where it was seen: somebody breaks into a
        // run, or runs at a speed not known yet (OC-SORT's recovery). Only who was there a moment ago is extended by
        // detections too weak to stand for themselves.
        let further = (FURTHER * buffer).max(FURTHER_LEAST);
        type Stage<'a> = (&'a dyn Fn(&Object) -> bool, &'a [usize], fn(&Object) -> BBox, f32, f64);
        let stages: [Stage<'_>; 4] = [
            (&|o| o.track().confirmed, &high, Object::expected_box, buffer, LIMIT_HIGH),
            (&|o| !o.track().confirmed, &high, Object::expected_box, buffer, LIMIT_HIGH),
            (&fresh, &high, Object::seen_box, further, LIMIT_HIGH),
            (&fresh, &low, Object::expected_box, buffer, LIMIT_LOW),
        ];
        for (takes_part, candidates, place, buffer, limit) in stages {
            let rows: Vec<usize> =
                (0..given.len()).filter(|&o| given[o].is_none() && takes_part(&self.objects[o])).collect();
            let columns: Vec<usize> = candidates.iter().copied().filter(|&d| !taken[d]).collect();
            let costs = self.costs(&rows, &columns, detections, (place, buffer, aspect));
            for (row, column) in assign(&costs, limit) {
                given[rows[row]] = Some(columns[column]);
                taken[columns[column]] = true;
            }
        }
        for (object, detection) in self.objects.iter_mut().zip(given) {
            if let Some(detection) = detection {
                object.saw(detections[detection], aspect, at);
            }
        }
        self.objects.retain_mut(|o| {
            o.track().observed || at.pts.secs_since(o.lost_since(at, LOST_AFTER).pts) <= LOST_AFTER
        });
        for detection in high.into_iter().filter(|&d| !taken[d]) {
            if self.objects.len() < MAX_TRACKS {
                self.last_id += 1;
                self.objects.push(Object::born(TrackId(self.last_id), detections[detection], aspect, at));
            }
        }
    }

    fn costs(
        &self,
        rows: &[usize],
        columns: &[usize],
        detections: &[&Detection],
        (place, buffer, aspect): (fn(&Object) -> BBox, f32, f32),
    ) -> Costs {
        let mut costs = Costs::filled(rows.len(), columns.len(), REFUSED);
        for (r, &row) in rows.iter().enumerate() {
            let object = &self.objects[row];
            let (expected, heading) = (place(object).buffered(buffer), object.heading());
            for (c, &column) in columns.iter().enumerate() {
                let detection = detections[column];
                let overlap = expected.iou(&detection.bbox.buffered(buffer));
                if overlap <= 0.0 || !same_group(&object.track().class, &detection.class) {
                    continue;
                }
                let turn = match (heading, object.heading_to(measures(&detection.bbox, aspect))) {
                    (Some([ax, ay]), Some([bx, by])) => {
                        (ax * bx + ay * by).clamp(-1.0, 1.0).acos() / std::f64::consts::PI
                    }
                    _ => 0.0,
                };
                costs.set(r, c, 1.0 - f64::from(overlap) + HEADING_WEIGHT * turn);
            }
        }
        costs
    }
}

/// The share of a side by which boxes are grown before they are compared: what moves its own width between two
/// looks must still overlap itself. Measured in facts on MOT15 at 12.5, 5 and 2.5 fps.
fn buffer_for(gap: f64) -> f32 {
    let between = |x: f64, (x0, y0): (f64, f64), (x1, y1): (f64, f64)| y0 + (x - x0) / (x1 - x0) * (y1 - y0);
    let share = match gap {
        g if g <= 0.08 => 0.0,
        g if g <= 0.2 => between(g, (0.08, 0.0), (0.2, 0.3)),
        g if g <= 0.4 => between(g, (0.2, 0.3), (0.4, 0.5)),
        _ => 0.5,
    };
    share as f32
}

/// Finite boxes of some size in or near the picture with a score that counts, best first, not too many.
fn usable(detections: &[Detection]) -> Vec<&Detection> {
    let fits = |d: &&Detection| {
        let sides = [d.bbox.x0, d.bbox.y0, d.bbox.x1, d.bbox.y1];
        sides.iter().all(|v| (-FAR_OUTSIDE..=1.0 + FAR_OUTSIDE).contains(v))
            && d.bbox.width() >= LEAST_SIDE
            && d.bbox.height() >= LEAST_SIDE
            && (LOW_SCORE..=1.0).contains(&d.score)
    };
    let mut kept: Vec<&Detection> = detections.iter().filter(fits).collect();
    // Stable: equal scores stay in the detector's order.
    kept.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
    kept.truncate(MAX_DETECTIONS);
    kept
}

/// Whether a detector may call one object now this and now that: kinds of vehicles, kinds of cycles.
fn same_group(a: &Class, b: &Class) -> bool {
    const GROUPS: [&[&str]; 2] = [&["car", "bus", "truck", "train"], &["bicycle", "motorcycle"]];
    a == b || GROUPS.iter().any(|g| g.contains(&a.as_str()) && g.contains(&b.as_str()))
}

#[cfg(test)]
mod tests {
    use vedette_core::Pts;

    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::from_secs_f64(seconds))
    }

    fn seen(class: &str, score: f32, x: f32) -> Detection {
        Detection { class: Class::new(class), score, bbox: BBox::from_center(x, 0.5, 0.05, 0.2) }
    }

    fn ids(tracker: &Tracker) -> Vec<u64> {
        tracker.tracks().iter().map(|t| t.id.0).collect()
    }

    #[test]
    fn a_weak_detection_extends_but_never_starts() {
        let mut tracker = Tracker::default();
        tracker.step(at(0.0), 1.5, Some(&[seen("person", 0.39, 0.5)]));
        assert!(tracker.tracks().is_empty());
        tracker.step(at(0.2), 1.5, Some(&[seen("person", 0.40, 0.5)]));
        tracker.step(at(0.4), 1.5, Some(&[seen("person", 0.11, 0.5)]));
        let track = &tracker.tracks()[0];
        assert!(track.observed && !track.confirmed && track.hits == 2, "{track:?}");
        tracker.step(at(0.6), 1.5, Some(&[seen("person", 0.80, 0.5)]));
        assert!(tracker.tracks()[0].confirmed);
    }

    #[test]
    fn a_lost_track_lives_two_seconds_of_looking() {
        let mut tracker = Tracker::default();
        for step in 0..5 {
            tracker.step(at(0.2 * f64::from(step)), 1.5, Some(&[seen("person", 0.9, 0.5)]));
        }
        tracker.step(at(2.7), 1.5, Some(&[]));
        assert_eq!(ids(&tracker), [1]);
        tracker.step(at(5.0), 1.5, None);
        assert_eq!(ids(&tracker), [1], "the detector did not look");
        tracker.step(at(5.2), 1.5, Some(&[]));
        assert!(tracker.tracks().is_empty());
        tracker.step(at(5.4), 1.5, Some(&[seen("person", 0.9, 0.5)]));
        assert_eq!(ids(&tracker), [2], "ids are never given twice");
    }

    /// A person at `x` looked at five times a second from `from` to `to`.
    fn watch(tracker: &mut Tracker, from: f64, to: f64, x: f32) {
        for step in 0..((to - from) * 5.0) as u32 {
            tracker.step(at(from + f64::from(step) / 5.0), 1.5, Some(&[seen("person", 0.9, x)]));
        }
    }

    #[test]
    fn who_stands_for_ten_seconds_is_parked_and_stays_while_nobody_looks() {
        let mut tracker = Tracker::default();
        watch(&mut tracker, 0.0, 9.8, 0.5);
        assert_eq!(tracker.parked(), (Vec::new(), true));
        watch(&mut tracker, 9.8, 11.0, 0.51);
        let (boxes, others) = tracker.parked();
        assert_eq!((boxes.len(), others), (1, false));
        for second in 12..60 {
            tracker.stay(at(f64::from(second)), 1.5);
            let track = &tracker.tracks()[0];
            assert!(track.observed && track.seen == at(f64::from(second)), "{track:?}");
            assert!((track.bbox.center().x - 0.51).abs() < 0.01, "a parked track does not drift: {track:?}");
        }
        tracker.step(at(70.0), 1.5, Some(&[]));
        assert_eq!(
            (ids(&tracker), tracker.parked().1),
            (vec![1], true),
            "one look that missed it is no proof"
        );
        tracker.step(at(71.9), 1.5, Some(&[seen("person", 0.9, 0.51)]));
        assert_eq!((ids(&tracker), tracker.parked().0.len()), (vec![1], 1), "it was only hidden");
        watch(&mut tracker, 72.0, 73.0, 0.56);
        assert_eq!(tracker.parked(), (Vec::new(), true), "it goes on");
    }

    #[test]
    fn who_left_while_nobody_looked_is_lost_two_seconds_after_the_first_look() {
        let mut tracker = Tracker::default();
        watch(&mut tracker, 0.0, 12.0, 0.5);
        tracker.stay(at(30.0), 1.5);
        for step in 0..=10 {
            tracker.step(at(40.0 + 0.2 * f64::from(step)), 1.5, Some(&[]));
            assert_eq!(ids(&tracker), [1], "step {step}");
        }
        tracker.step(at(42.2), 1.5, Some(&[]));
        assert!(tracker.tracks().is_empty());
    }

    #[test]
    fn classes_keep_apart_unless_detectors_confuse_them() {
        let mut tracker = Tracker::default();
        for (step, class) in ["car", "truck", "car", "person"].into_iter().enumerate() {
            tracker.step(at(0.2 * step as f64), 1.5, Some(&[seen(class, 0.9, 0.5)]));
        }
        assert_eq!(ids(&tracker), [1, 2]);
        assert_eq!(tracker.tracks()[0].class.as_str(), "car");
    }

    #[test]
    fn odd_detections_are_not_looked_at() {
        let odd = [
            [f32::NAN, 0.1, 0.2, 0.3],
            [0.1, 0.1, f32::INFINITY, 0.3],
            [0.3, 0.1, 0.1, 0.3],
            [0.1, 0.1, 0.1, 0.1],
            [5.0, 5.0, 6.0, 6.0],
        ];
        let mut detections: Vec<Detection> =
            odd.map(|b| Detection { class: Class::new("person"), score: 0.9, bbox: b.into() }).to_vec();
        detections.push(seen("person", f32::NAN, 0.5));
        let mut tracker = Tracker::default();
        tracker.step(at(0.0), 1.5, Some(&detections));
        assert!(tracker.tracks().is_empty());
        let crowd: Vec<Detection> = (0..2000).map(|i| seen("person", 0.9, i as f32 / 2000.0)).collect();
        tracker.step(at(0.2), 1.5, Some(&crowd));
        assert_eq!(tracker.tracks().len(), MAX_TRACKS);
    }

    #[test]
    fn velocity_is_in_heights_with_equal_units() {
        let mut tracker = Tracker::default();
        for step in 0..20 {
            let t = 0.2 * step as f32;
            tracker.step(at(f64::from(t)), 2.0, Some(&[seen("person", 0.9, 0.1 + 0.1 * t)]));
        }
        // 0.1 pictures wide a second is 0.2 picture heights, of which a box of 0.2 is one.
        assert!((tracker.tracks()[0].speed() - 1.0).abs() < 0.05, "{:?}", tracker.tracks()[0]);
        assert!((tracker.tracks()[0].displacement - 3.8).abs() < 0.2);
    }

    #[test]
    fn a_runner_is_one_track_from_the_first_step() {
        // A box of 0.08 by 0.2 at two heights a second; standing for a second first, or seen running at once.
        for (fps, standing) in [(5.0, 0.0), (5.0, 1.0), (12.5, 0.0), (12.5, 1.0)] {
            let mut tracker = Tracker::default();
            for frame in 0..=(fps * (standing + 2.0)) as u32 {
                let t = f64::from(frame) / fps;
                let x = 0.1 + 0.4 * (t - standing).max(0.0) as f32;
                let bbox = BBox::from_center(x, 0.5, 0.08, 0.2);
                let detection = Detection { class: Class::new("person"), score: 0.9, bbox };
                tracker.step(at(t), 1.0, Some(&[detection]));
            }
            assert_eq!(ids(&tracker), [1], "{fps} fps after {standing} s");
        }
    }

    #[test]
    fn the_buffer_follows_the_gap() {
        for (gap, share) in
            [(0.0, 0.0), (0.08, 0.0), (0.14, 0.15), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (9.0, 0.5)]
        {
            assert!((buffer_for(gap) - share).abs() < 1e-6, "{gap}");
        }
    }
}
