//! One monotone time line per camera, for the life of the process.
//!
//! Owns: where a packet lies on it. Whose wall clock labels it is decided beside it (`camera_clock.rs`). Pure: arrival
//! and wall time are parameters. Does not know: pipelines, frames.
//!
//! Pictures that are coded out of order (B-frames) come with `pts` out of order and are placed so; every keyframe
//! lies after everything before it, and a decoder gives its frames in order. So what analysis sees never runs back.

use std::time::Duration;

use vedette_core::{Moment, Mono, Pts};

use crate::Packet;
use crate::camera_clock::{CameraClock, ClockNews, ClockReport};

/// A step of the camera's time that arrival does not confirm: the line is re-based there. Also the longest hole that
/// is no gap.
const JUMP: i128 = 2_000_000_000;

/// How far behind the newest packet one may lie that is coded out of order: 16 pictures at 10 fps (H.264 holds back
/// no more).
const REORDER: i128 = 1_600_000_000;

/// Packets that stay late for so long will not catch up any more.
const LATE_FOR: i128 = 5_000_000_000;

/// The mapping from arrival to the line is the best of the last one to two such spans: longer than network hiccups,
/// short enough to follow clocks that drift (100 ppm: 6 ms).
const WINDOW: i128 = 60_000_000_000;

/// Where a packet was placed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Its moment.
    pub moment: Moment,
    /// Whether the line has a hole of more than 2 s before it, or was re-based: tell the scene.
    pub gap: bool,
}

/// The time line of one camera. All inner times are nanoseconds, in a type that no packet's times can overflow.
#[derive(Clone, Debug, Default)]
pub struct TimeLine {
    /// Line minus stream time of the present connection.
    offset: Option<i128>,
    /// The largest placed point.
    newest: Option<i128>,
    /// Arrival of the last packet.
    arrived: i128,
    /// Line minus arrival of the packet that came with the least delay: of the last full window and the present one.
    lead: Option<i128>,
    window_lead: Option<i128>,
    window_began: i128,
    late_since: Option<i128>,
    reconnected: bool,
    clock: CameraClock,
}

fn nanos(time: Duration) -> i128 {
    // Always fits: a duration has 2^64 seconds at the most.
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / 4)
}

fn pts(line: i128) -> Pts {
    Pts::from_nanos(u64::try_from(line.max(0)).unwrap_or(u64::MAX))
}

impl TimeLine {
    /// A line on which nothing lies yet; its first packet is at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new connection: its stream time has nothing to do with the one before. The next packet is placed by the
    /// time that passed since.
    pub fn reconnected(&mut self) {
        self.offset = None;
        self.late_since = None;
        self.reconnected = self.newest.is_some();
    }

    /// Places the next packet. `wall_now` is this host's clock, `wall_ok` whether it is synchronised.
    pub fn place(&mut self, packet: &Packet, wall_now: jiff::Timestamp, wall_ok: bool) -> Placed {
        let arrival = nanos(packet.arrival.0).max(self.arrived);
        self.arrived = arrival;
        let stream = packet.stream_pts.map(|pts| nanos(Duration::from_nanos(pts)));
        let newest = self.newest;
        let (line, rebased) = self.line_of(stream, arrival, packet.keyframe);
        let hole = newest.is_some_and(|newest| line - newest > JUMP);
        self.newest = Some(newest.map_or(line, |newest| newest.max(line)));
        self.follow_lead(line - arrival, arrival);
        let gap = std::mem::take(&mut self.reconnected) || rebased || hole;
        let late = self.lead.map_or(0, |lead| (arrival + lead - line).max(0));
        let late = Duration::from_nanos(u64::try_from(late).unwrap_or(u64::MAX));
        let (wall, clock) = self.clock.label(packet.reference, wall_now, packet.arrival, late);
        Placed { moment: Moment { pts: pts(line), wall, wall_ok, clock }, gap }
    }

    /// The point of the line that a packet without any delay would have if it came now: for ticks, and for the age
    /// of frames. Absent before the first packet. Frames lie a little behind it; after a network hiccup a later call
    /// may give a slightly earlier point.
    pub fn now(&self, mono: Mono) -> Option<Pts> {
        self.lead.map(|lead| pts(nanos(mono.0) + lead))
    }

    /// What is to be told of the camera's clock, each thing once.
    pub fn clock_news(&mut self) -> Option<ClockNews> {
        self.clock.news()
    }

    /// How the camera's clock is.
    pub fn clock(&self) -> ClockReport {
        self.clock.report()
    }

    /// Whether the camera tells a time that is too far from ours to be believed.
    pub fn clock_is_refused(&self) -> bool {
        self.clock.is_refused()
    }

    /// The point of a packet, and whether the line was re-based for it.
    fn line_of(&mut self, stream: Option<i128>, arrival: i128, keyframe: bool) -> (i128, bool) {
        let Some(newest) = self.newest else {
            self.offset = stream.map(|s| -s);
            return (0, false);
        };
        // By arrival: where a packet without delay lies now, after everything before it.
        let by_arrival = self.lead.map_or(newest, |lead| arrival + lead).max(newest.saturating_add(1));
        let Some(stream) = stream else { return (by_arrival, false) };
        let Some(offset) = self.offset else {
            self.offset = Some(by_arrival - stream);
            return (by_arrival, false);
        };
        let line = stream + offset;
        let jumped = line - by_arrival > JUMP || newest - line > JUMP;
        if jumped || self.stays_late(by_arrival - line, arrival) {
            self.offset = Some(by_arrival - stream);
            self.late_since = None;
            return (by_arrival, true);
        }
        // A small step back heals at once at a keyframe: nothing before it may be shown after it.
        let earliest = if keyframe { newest + 1 } else { (newest - REORDER).max(0) };
        // Two access units of one time are two frames; a decoder tells them apart by it.
        if line < earliest || line == newest {
            self.offset = Some(newest + 1 - stream);
            return (newest + 1, false);
        }
        (line, false)
    }

    /// A burst after a hiccup catches up; a stream whose clock stood still never does.
    fn stays_late(&mut self, late: i128, arrival: i128) -> bool {
        if late <= JUMP {
            self.late_since = None;
            return false;
        }
        arrival - *self.late_since.get_or_insert(arrival) > LATE_FOR
    }

    fn follow_lead(&mut self, lead: i128, arrival: i128) {
        if arrival - self.window_began > WINDOW {
            self.lead = self.window_lead.take();
            self.window_began = arrival;
        }
        self.window_lead = Some(self.window_lead.map_or(lead, |best| best.max(lead)));
        self.lead = Some(self.lead.map_or(lead, |best| best.max(lead)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;
    use vedette_core::ClockSource;

    /// Places packets of (stream time, arrival) in ms; gives points in ms and gaps.
    fn placed(line: &mut TimeLine, packets: &[(u64, u64)]) -> Vec<(u64, bool)> {
        let place = |&(stream, arrival): &(u64, u64)| {
            let (stream, arrival) = (Duration::from_millis(stream), Duration::from_millis(arrival));
            let packet = testing::packet(stream, arrival, false, 1);
            let placed = line.place(&packet, jiff::Timestamp::UNIX_EPOCH, true);
            ((placed.moment.pts.nanos() + 500_000) / 1_000_000, placed.gap)
        };
        packets.iter().map(place).collect()
    }

    fn points(packets: &[(u64, u64)]) -> Vec<(u64, bool)> {
        placed(&mut TimeLine::new(), packets)
    }

    #[test]
    fn a_steady_stream_keeps_its_own_spacing() {
        let got = points(&[(700, 100), (740, 160), (780, 170), (820, 230)]);
        assert_eq!(got, [(0, false), (40, false), (80, false), (120, false)]);
    }

    #[test]
    fn a_reconnect_continues_by_the_time_that_passed() {
        let mut line = TimeLine::new();
        placed(&mut line, &[(0, 1000), (40, 1040)]);
        line.reconnected();
        assert_eq!(placed(&mut line, &[(9000, 4040), (9040, 4080)]), [(3040, true), (3080, false)]);
    }

    #[test]
    fn jumps_are_taken_out_and_holes_are_kept() {
        assert_eq!(points(&[(0, 0), (60_000, 40), (60_040, 80)]), [(0, false), (40, true), (80, false)]);
        assert_eq!(points(&[(10_000, 0), (0, 40), (40, 80)]), [(0, false), (40, true), (80, false)]);
        assert_eq!(points(&[(0, 0), (5_000, 5_000)]), [(0, false), (5_000, true)]);
    }

    #[test]
    fn a_burst_after_a_hiccup_keeps_the_stream_s_time() {
        let burst: Vec<(u64, u64)> = (1..=75).map(|n| (n * 40, 3_000)).collect();
        let mut packets = vec![(0, 0)];
        packets.extend(burst);
        packets.push((3_040, 3_040));
        let got = points(&packets);
        assert!(got.iter().all(|(_, gap)| !gap));
        assert_eq!(got.last(), Some(&(3_040, false)));
    }

    #[test]
    fn a_clock_that_stood_still_is_given_up_after_five_seconds() {
        let mut packets = vec![(0, 0)];
        packets.extend((1..=200).map(|n| (n * 40, 4_000 + n * 40)));
        let got = points(&packets);
        let gaps: Vec<usize> = (0..got.len()).filter(|&n| got[n].1).collect();
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(got.last().unwrap().0, 4_000 + 8_000);
    }

    #[test]
    fn access_units_of_the_same_time_lie_apart() {
        let mut line = TimeLine::new();
        let packet = testing::packet(Duration::ZERO, Duration::ZERO, false, 1);
        let mut place = || line.place(&packet, jiff::Timestamp::UNIX_EPOCH, true).moment.pts;
        assert!(place() < place());
    }

    #[test]
    fn reordered_pictures_keep_their_own_time() {
        let got = points(&[(0, 0), (120, 40), (40, 80), (80, 120), (240, 160)]);
        assert_eq!(got.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 120, 40, 80, 240]);
    }

    #[test]
    fn the_camera_s_wall_clock_counts_within_two_seconds() {
        struct Case(i64, ClockSource);
        for Case(off, expected) in [
            Case(1_900, ClockSource::Camera),
            Case(-1_900, ClockSource::Camera),
            Case(2_100, ClockSource::Host),
        ] {
            let now = jiff::Timestamp::from_second(1_790_000_000).unwrap();
            let camera = now + jiff::SignedDuration::from_millis(off);
            let packet = Packet {
                reference: Some(camera),
                ..testing::packet(Duration::ZERO, Duration::ZERO, true, 1)
            };
            let moment = TimeLine::new().place(&packet, now, true).moment;
            assert_eq!(moment.clock, expected, "{off} ms");
            assert_eq!(moment.wall, if expected == ClockSource::Camera { camera } else { now }, "{off} ms");
        }
    }

    #[test]
    fn now_is_never_before_a_frame_and_runs_on_without_any() {
        let mut line = TimeLine::new();
        assert_eq!(line.now(Mono(Duration::ZERO)), None);
        placed(&mut line, &[(0, 1_000), (40, 1_500), (80, 1_090)]);
        assert_eq!(line.now(Mono(Duration::from_millis(1_500))), Some(Pts::from_secs_f64(0.5)));
        assert_eq!(line.now(Mono(Duration::from_millis(9_000))), Some(Pts::from_secs_f64(8.0)));
    }

    proptest! {
        #[test]
        fn keyframes_never_run_back_and_nothing_leaves_the_line(
            steps in proptest::collection::vec(
                (proptest::option::of(any::<u64>()), 0_u64..1 << 60, any::<bool>(), 0_u8..20), 1..200,
            ),
        ) {
            let mut line = TimeLine::new();
            let mut newest: Option<Pts> = None;
            for (stream, arrival, keyframe, reconnect) in steps {
                if reconnect == 0 {
                    line.reconnected();
                }
                let packet = Packet {
                    stream_pts: stream,
                    ..testing::packet(Duration::ZERO, Duration::from_nanos(arrival), keyframe, 1)
                };
                let placed = line.place(&packet, jiff::Timestamp::UNIX_EPOCH, true);
                let at = placed.moment.pts;
                if let Some(newest) = newest {
                    prop_assert!(at > newest || !(keyframe || placed.gap));
                    prop_assert!(at + Duration::from_nanos(REORDER as u64) >= newest);
                }
                prop_assert!(line.now(packet.arrival).is_some());
                newest = newest.max(Some(at));
            }
        }

        #[test]
        fn a_stream_in_order_is_strictly_monotone(
            steps in proptest::collection::vec((1_u64..10_000, 0_u64..10_000), 1..200), start in 0_u64..1 << 40,
        ) {
            let mut line = TimeLine::new();
            let (mut stream, mut arrival, mut before) = (start, 0, None);
            for (step, delay) in steps {
                stream += step;
                arrival += delay;
                let (at, came) = (Duration::from_millis(stream), Duration::from_millis(arrival));
                let packet = testing::packet(at, came, false, 1);
                let at = line.place(&packet, jiff::Timestamp::UNIX_EPOCH, true).moment.pts;
                prop_assert!(before.is_none_or(|before| at > before));
                before = Some(at);
            }
        }
    }
}
