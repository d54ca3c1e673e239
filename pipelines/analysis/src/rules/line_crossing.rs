//! Somebody walks across a line; counts per direction.
//!
//! Owns: when a path counts as a crossing. The ground point must come from at least `BAND` on one side, pass the
//! polyline, and stay at least `BAND` beyond it for `STAYS`; what happens within the band is jitter. "Comes from"
//! does not grow stale while the object is followed: who walks slowly or waits at the line still crosses it; a
//! track that was out of sight for more than 2 s is another track. A track born within the band (it came into view
//! at the line) comes from where it was born if the rest of its path makes up for what it lacks of the band there.

use schemars::JsonSchema;
use serde::Deserialize;
use vedette_core::geometry::{distance_to_segment, side};
use vedette_core::{Direction, Moment, Name, Point, Polyline, Track};

use super::{Absent, Context, Counts, PerTrack, Place, Reading, Rule, RuleConfig, passed};
use crate::incidents::{Finding, Subject};

/// Half the width of the band round the line in which nothing counts, in body heights.
const BAND: f32 = 0.2;
/// So long it must stay beyond the band.
const STAYS: std::time::Duration = std::time::Duration::from_millis(300);
/// A track born closer to the line than this comes from nowhere: its side is a matter of jitter.
const BORN_CLEAR: f32 = 0.05;
/// So far it must have moved since its birth, in body heights.
const MOVED: f32 = 0.25;
/// Closer to the line than this a point has no side; in picture heights.
const ON_LINE: f32 = 1e-6;
/// The unit of counts.
const UNIT: &str = "crossings";

/// For tables and help.
pub const ABOUT: &str = "an object crosses a line, counted in and out";

/// Keys of `line_crossing` besides the common ones.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// The line's name. Needed.
    pub line: Option<Name>,
    /// Only this direction. Default: both.
    pub direction: Option<Direction>,
}

impl RuleConfig for Config {
    fn kind(&self) -> &'static str {
        "line_crossing"
    }

    fn build(&self, place: &Place) -> Result<Box<dyn Rule>, Absent> {
        let (name, line) = place.need_line()?;
        let counts = Counts::default();
        Ok(Box::new(LineCrossing {
            direction: self.direction,
            name,
            line,
            paths: PerTrack::default(),
            counts,
        }))
    }

    fn lasts(&self) -> bool {
        false
    }

    fn line(&self) -> Option<&Name> {
        self.line.as_ref()
    }

    fn missing(&self) -> Vec<(&'static str, &'static str)> {
        if self.line.is_none() { vec![("line", "name one of the camera's lines")] } else { Vec::new() }
    }

    fn default_classes(&self) -> &'static [&'static str] {
        &["person", "bicycle", "car", "motorcycle", "bus", "truck"]
    }
}

#[derive(Debug)]
struct LineCrossing {
    direction: Option<Direction>,
    name: Name,
    line: Polyline,
    paths: PerTrack<Path>,
    counts: Counts,
}

/// One object and the line.
#[derive(Debug, Default)]
struct Path {
    /// The last point that was clearly on one side of the line or the other.
    at: Option<Point>,
    /// How far on its side the path is known to come from, in body heights; at most `BAND`.
    from: f32,
    /// Crossings since then: positive from left to right, negative back.
    net: i32,
    /// The frame of the last crossing.
    crossed: Option<Moment>,
    /// Frames seen beyond the line since, and since when it is beyond the band.
    beyond: u32,
    stays: Option<Moment>,
}

impl Rule for LineCrossing {
    fn step(&mut self, context: &mut Context<'_>) {
        self.paths.retain(context.tracks);
        for track in context.tracks {
            let path = self.paths.of(track.id);
            if track.observed {
                path.see(&self.line, context.aspect, context.now, track);
            }
            let Some((direction, crossed)) = path.across(context.now, track.observed) else { continue };
            if !context.counts(track, MOVED) {
                continue;
            }
            path.arrive();
            if !context.armed || self.direction.is_some_and(|only| only != direction) {
                continue;
            }
            let (count, word) = match direction {
                Direction::In => (&mut self.counts.r#in, "in"),
                Direction::Out => (&mut self.counts.out, "out"),
            };
            *count += 1;
            context.once(Finding {
                subject: Subject { track: Some(track.id), direction: Some(direction) },
                since: crossed,
                last: crossed,
                value: Some((*count as f64, UNIT)),
                severity: None,
                why: format!(
                    "{} crossed {} ({word}), number {count} in this direction",
                    track.class, self.name
                ),
            });
        }
    }

    fn reading(&self) -> Reading {
        let all = self.counts.r#in + self.counts.out;
        Reading { value: Some((all as f64, UNIT)), counts: Some(self.counts) }
    }
}

impl Path {
    /// Takes in where the object stands now.
    fn see(&mut self, line: &Polyline, aspect: f32, now: Moment, track: &Track) {
        let ground = track.bbox.ground();
        let away = line.segments().map(|(a, b)| distance_to_segment(ground, a, b, aspect));
        let away = away.fold(f32::INFINITY, f32::min);
        if away <= ON_LINE {
            return;
        }
        let heights = away / track.bbox.height().max(f32::EPSILON);
        let Some(before) = self.at.replace(ground) else {
            self.from = if heights >= BORN_CLEAR { heights.min(BAND) } else { 0.0 };
            return;
        };
        let steps = crossings(line, before, ground);
        if steps != 0 {
            self.net += steps;
            (self.crossed, self.beyond) = (Some(now), 0);
        }
        if self.net == 0 {
            // On the side it came from, perhaps clearer than before.
            self.from = if heights >= BORN_CLEAR { self.from.max(heights.min(BAND)) } else { self.from };
            self.stays = None;
            return;
        }
        self.beyond += 1;
        // What is lacking before the line must be walked after it.
        let clear = self.from > 0.0 && heights >= 2.0 * BAND - self.from;
        self.stays = if clear { self.stays.or(Some(now)) } else { None };
        if self.from == 0.0 && heights >= BAND {
            // It came from nowhere, and now it is somewhere.
            self.arrive();
        }
    }

    /// The direction and frame of a crossing that counts. An object that is out of sight after two frames beyond
    /// the line has gone on, out of the picture as a rule.
    fn across(&self, now: Moment, observed: bool) -> Option<(Direction, Moment)> {
        let (stays, crossed) = (self.stays?, self.crossed?);
        let direction = if self.net > 0 { Direction::In } else { Direction::Out };
        (passed(stays, now, STAYS) && (observed || self.beyond >= 2)).then_some((direction, crossed))
    }

    /// From here on the side it is on is where it comes from.
    fn arrive(&mut self) {
        *self = Self { at: self.at, from: BAND, ..Self::default() };
    }
}

/// How often the path a → b passes the line, from left to right less from right to left. A point exactly abreast of
/// an end of a segment belongs to one side only, so that passing over a corner of the line counts once.
fn crossings(line: &Polyline, a: Point, b: Point) -> i32 {
    let right_of = |from: Point, to: Point, p: Point| side(from, to, p) >= 0.0;
    line.segments()
        .map(|(from, to)| {
            let (was, is) = (right_of(from, to, a), right_of(from, to, b));
            let between = right_of(a, b, from) != right_of(a, b, to);
            if was == is || !between {
                0
            } else if is {
                1
            } else {
                -1
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zigzag() -> Polyline {
        let points = [[0.0, 0.5], [0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [1.0, 0.5]];
        Polyline::new(points.map(Point::from).to_vec()).unwrap()
    }

    #[test]
    fn over_a_corner_is_once_and_round_the_end_is_never() {
        let line = Polyline::new([[0.2, 0.4], [0.5, 0.6], [0.8, 0.4]].map(Point::from).to_vec()).unwrap();
        let cases = [
            // Straight over the corner, down and up again.
            ([0.5, 0.2], [0.5, 0.9], 1),
            ([0.5, 0.9], [0.5, 0.2], -1),
            // Touching the corner from below.
            ([0.3, 0.6], [0.7, 0.6], 0),
            // In at one leg, out at the other.
            ([0.1, 0.5], [0.9, 0.5], 0),
            // Past the ends.
            ([0.1, 0.2], [0.1, 0.9], 0),
            ([0.9, 0.2], [0.9, 0.9], 0),
        ];
        for (a, b, expected) in cases {
            assert_eq!(crossings(&line, a.into(), b.into()), expected, "{a:?} to {b:?}");
        }
    }

    proptest! {
        /// On a coarse grid, so that paths meet corners exactly.
        #[test]
        fn who_comes_back_has_crossed_nothing(path in proptest::collection::vec((1u8..16, 0u8..=16), 1..9)) {
            let line = zigzag();
            let at = |&(x, y): &(u8, u8)| Point::new(f32::from(x) / 16.0, f32::from(y) / 16.0);
            let clear = |p: &Point| line.segments().all(|(a, b)| distance_to_segment(*p, a, b, 1.0) > ON_LINE);
            let path: Vec<Point> = path.iter().map(at).filter(clear).collect();
            prop_assume!(!path.is_empty());
            let round = path.iter().zip(path.iter().cycle().skip(1));
            prop_assert_eq!(round.map(|(a, b)| crossings(&line, *a, *b)).sum::<i32>(), 0);
        }
    }
}
