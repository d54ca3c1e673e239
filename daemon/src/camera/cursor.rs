//! The decoder as a cursor on the ring: which packet it gets next.
//!
//! Owns: the ring, the decoder's place in it, how far that is behind the newest packet and when it jumps. Does not
//! know: decoders, pictures, why somebody wants to go back.

use std::time::Duration;

use vedette_core::{Moment, Pts};
use vedette_ingest::Packet;
use vedette_ingest::ring::{Entry, Ring};

/// The encoded past of a camera: enough to begin decoding anew at the last keyframe of any sane stream.
const RING_SPAN: Duration = Duration::from_secs(10);
/// 10 s of 25 Mbit/s.
const RING_BYTES: usize = 32 << 20;

/// What is to be done with the decoder.
#[derive(Debug)]
pub(crate) enum Step {
    /// Flush it: the next packet is a keyframe from before its last one.
    Flush,
    /// Give it this packet.
    Push(Entry),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cursor {
    ring: Ring,
    /// The place of the packet that comes next.
    next: u64,
    /// The packet before `next` was decoded, so that `next` can be.
    in_step: bool,
    flush: bool,
    /// Set back, and not at the newest packet again yet.
    behind: bool,
    catch_up_max: Duration,
    /// A packet for which the ring has no room; only of use to a decoder that is in step.
    loose: Option<Entry>,
    /// The newest moment.
    head: Pts,
}

impl Cursor {
    /// A cursor that is `catch_up_max` behind jumps.
    pub(super) fn new(catch_up_max: Duration) -> Self {
        Self {
            ring: Ring::new(RING_SPAN, RING_BYTES),
            next: 0,
            in_step: false,
            flush: false,
            behind: false,
            catch_up_max,
            loose: None,
            head: Pts::ZERO,
        }
    }

    /// A packet came.
    pub(super) fn receive(&mut self, packet: &Packet, moment: Moment) {
        self.head = self.head.max(moment.pts);
        let at_head = self.next == self.ring.next_seq();
        if self.ring.push(packet.clone(), moment) {
            return;
        }
        // One GOP that is larger than the ring: who is in step goes on without it.
        self.next = self.ring.next_seq();
        self.in_step &= at_head;
        self.behind &= !at_head;
        self.loose = self.in_step.then(|| Entry { seq: self.next, packet: packet.clone(), moment });
    }

    /// The stream begins anew: nothing decodes across the gap.
    pub(super) fn interrupt(&mut self) {
        self.ring.clear();
        self.await_keyframe();
    }

    /// Goes on at the next keyframe that comes.
    pub(super) fn await_keyframe(&mut self) {
        self.next = self.ring.next_seq();
        (self.in_step, self.flush, self.behind, self.loose) = (false, false, false, None);
    }

    /// Goes back to the newest keyframe at or before `pts`, or to the newest there is; its moment. Nothing is there
    /// where no keyframe came yet.
    pub(super) fn go_back(&mut self, pts: Option<Pts>) -> Option<Pts> {
        let entry = match pts {
            Some(pts) => self.ring.from_keyframe_before(pts).next(),
            None => self.ring.from_last_keyframe().next(),
        };
        let (seq, at) = entry.map(|e| (e.seq, e.moment.pts))?;
        (self.next, self.in_step, self.flush, self.behind) = (seq, false, true, true);
        Some(at)
    }

    /// Whether it is catching up.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Whether a picture is so old that it is decoded for those after it only.
    pub(super) fn is_too_far(&self, at: Pts) -> bool {
        self.behind && self.head.since(at) > self.catch_up_max
    }

    /// The newest moment.
    pub(super) fn head(&self) -> Pts {
        self.head
    }

    /// What the decoder is to do next, and how many packets were jumped over before; `wanted` chooses among packets
    /// that could be decoded, and is asked once for each. A packet left out that is no reference keeps the decoder in
    /// step.
    pub(super) fn next(&mut self, mut wanted: impl FnMut(&Entry) -> bool) -> (Option<Step>, u64) {
        let skipped = self.jump();
        loop {
            let Some(entry) = self.loose.take().or_else(|| self.ring.from_seq(self.next).next().cloned())
            else {
                self.behind = false;
                return (None, skipped);
            };
            // What it should have been may be gone from the ring.
            self.in_step &= entry.seq == self.next;
            if self.flush {
                self.flush = false;
                return (Some(Step::Flush), skipped);
            }
            self.next = self.ring.next_seq().min(entry.seq + 1);
            let decodable = self.in_step || entry.packet.keyframe;
            if decodable && wanted(&entry) {
                self.in_step = true;
                return (Some(Step::Push(entry)), skipped);
            }
            self.in_step &= entry.packet.droppable;
        }
    }

    /// Too far behind: on to the newest keyframe, where one is ahead.
    fn jump(&mut self) -> u64 {
        let place = self.ring.from_seq(self.next).next().map(|entry| (entry.seq, entry.moment.pts));
        let Some((seq, _)) = place.filter(|&(_, at)| self.is_too_far(at)) else { return 0 };
        let Some(keyframe) = self.ring.from_last_keyframe().next().map(|e| e.seq).filter(|&k| k > seq) else {
            return 0;
        };
        (self.next, self.in_step) = (keyframe, false);
        keyframe - seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use vedette_core::{ClockSource, Mono};
    use vedette_ingest::{Codec, StreamInfo};

    fn packet(keyframe: bool, droppable: bool, bytes: usize) -> Packet {
        let caps = "video/x-h264".to_owned();
        let stream = StreamInfo { codec: Codec::H264, profile: None, width: 64, height: 48, fps: None, caps };
        Packet {
            data: vec![0; bytes].into(),
            stream_pts: None,
            reference: None,
            arrival: Mono::default(),
            keyframe,
            droppable,
            stream: Arc::new(stream),
        }
    }

    fn moment(tenths: u64) -> Moment {
        let pts = Pts::from_nanos(tenths * 100_000_000);
        Moment { pts, wall: jiff::Timestamp::UNIX_EPOCH, wall_ok: true, clock: ClockSource::Host }
    }

    /// Ten packets a second, each tenth or so a keyframe.
    fn fed(cursor: &mut Cursor, from: u64, to: u64, gop: u64) {
        (from..to).for_each(|n| cursor.receive(&packet(n % gop == 0, false, 10), moment(n)));
    }

    /// All that is decoded now: tenths of seconds, `None` for a flush.
    fn run(cursor: &mut Cursor, keyframes: bool) -> (Vec<Option<u64>>, u64) {
        let (mut steps, mut skipped) = (Vec::new(), 0);
        loop {
            let (step, jumped) = cursor.next(|e| !keyframes || e.packet.keyframe);
            skipped += jumped;
            match step {
                None => return (steps, skipped),
                Some(Step::Flush) => steps.push(None),
                Some(Step::Push(entry)) => steps.push(Some(entry.moment.pts.nanos() / 100_000_000)),
            }
        }
    }

    fn all(from: u64, to: u64) -> Vec<Option<u64>> {
        (from..to).map(Some).collect()
    }

    #[test]
    fn live_quiet_and_back_to_the_keyframe_before() {
        let mut cursor = Cursor::new(Duration::from_secs(4));
        fed(&mut cursor, 0, 15, 10);
        assert_eq!(run(&mut cursor, false).0, all(0, 15));
        fed(&mut cursor, 15, 45, 10);
        assert_eq!(run(&mut cursor, true).0, [Some(20), Some(30), Some(40)]);
        assert_eq!(cursor.go_back(Some(moment(30).pts)), Some(moment(30).pts));
        assert!(cursor.is_behind());
        assert_eq!(run(&mut cursor, false).0, [vec![None], all(30, 45)].concat());
        assert!(!cursor.is_behind());
        fed(&mut cursor, 45, 47, 10);
        assert_eq!(run(&mut cursor, false).0, all(45, 47));
    }

    #[test]
    fn after_quiet_only_a_keyframe_can_be_decoded() {
        let mut cursor = Cursor::new(Duration::from_secs(4));
        fed(&mut cursor, 0, 14, 10);
        assert_eq!(run(&mut cursor, true).0, [Some(0), Some(10)]);
        fed(&mut cursor, 14, 25, 10);
        assert_eq!(run(&mut cursor, false).0, all(20, 25), "11 to 13 were left out");
    }

    #[test]
    fn too_far_behind_it_jumps_to_the_newest_keyframe_and_counts() {
        let mut cursor = Cursor::new(Duration::from_secs(4));
        fed(&mut cursor, 0, 75, 20);
        run(&mut cursor, true);
        cursor.go_back(Some(moment(20).pts));
        assert_eq!(run(&mut cursor, false), ([vec![None], all(60, 75)].concat(), 40));
        // No keyframe is ahead: it decodes on, and what is too old is not looked at.
        let mut cursor = Cursor::new(Duration::from_secs(4));
        fed(&mut cursor, 0, 75, 100);
        run(&mut cursor, true);
        cursor.go_back(None);
        assert!(cursor.is_too_far(moment(33).pts) && !cursor.is_too_far(moment(34).pts));
        assert_eq!(run(&mut cursor, false), ([vec![None], all(0, 75)].concat(), 0));
    }

    #[test]
    fn pictures_that_no_other_needs_may_be_left_out() {
        let mut cursor = Cursor::new(Duration::from_secs(4));
        (0..9).for_each(|n| cursor.receive(&packet(n == 0, n % 2 == 1, 10), moment(n)));
        let mut decoded = Vec::new();
        while let (Some(Step::Push(entry)), _) = cursor.next(|e| !e.packet.droppable) {
            decoded.push(entry.moment.pts.nanos() / 100_000_000);
        }
        assert_eq!(decoded, [0, 2, 4, 6, 8]);
    }

    #[test]
    fn a_gop_larger_than_the_ring_is_decoded_live_all_the_same() {
        let mut cursor = Cursor::new(Duration::from_secs(4));
        let mut decoded = Vec::new();
        for n in 0..20 {
            cursor.receive(&packet(n == 0, false, RING_BYTES / 8), moment(n));
            decoded.extend(run(&mut cursor, false).0);
        }
        assert_eq!(decoded, all(0, 20));
        assert_eq!(cursor.go_back(None), None, "nothing to go back to");
    }

    #[test]
    fn after_an_interruption_it_waits_for_a_keyframe() {
        let mut cursor = Cursor::new(Duration::from_secs(4));
        fed(&mut cursor, 0, 15, 10);
        run(&mut cursor, false);
        cursor.interrupt();
        fed(&mut cursor, 16, 22, 10);
        assert_eq!(run(&mut cursor, false).0, all(20, 22));
        cursor.await_keyframe();
        fed(&mut cursor, 22, 31, 10);
        assert_eq!(run(&mut cursor, false).0, all(30, 31));
    }
}
