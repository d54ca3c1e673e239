//! The last seconds of a camera, encoded: for evidence, and to decode later what turns out to matter.
//!
//! Owns: packets from a keyframe on, within a span and a size. Does not know: decoders or files. It always begins
//! with a keyframe, and what it holds has no holes but those the stream had.

use std::collections::VecDeque;
use std::time::Duration;

use vedette_core::{Moment, Pts};

use crate::Packet;

/// A packet and when it was captured.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counts all packets that were kept, from 0; a reader's place in the ring.
    pub seq: u64,
    /// The access unit.
    pub packet: Packet,
    /// Its moment on the camera's line.
    pub moment: Moment,
}

/// The last packets of one camera.
#[derive(Debug)]
pub struct Ring {
    span: Duration,
    max_bytes: usize,
    bytes: usize,
    next_seq: u64,
    entries: VecDeque<Entry>,
    dropped: u64,
}

impl Ring {
    /// Keeps at least `span` (up to one GOP more, so that it begins with a keyframe) but never more than `max_bytes`
    /// of access units.
    pub fn new(span: Duration, max_bytes: usize) -> Self {
        Self { span, max_bytes, bytes: 0, next_seq: 0, entries: VecDeque::new(), dropped: 0 }
    }

    /// Adds a packet. Those before the first keyframe, and those of a GOP that alone is larger than the ring, are
    /// not kept but counted. False where this one was not kept.
    pub fn push(&mut self, packet: Packet, moment: Moment) -> bool {
        if self.entries.is_empty() && !packet.keyframe {
            self.dropped += 1;
            return false;
        }
        self.bytes += packet.data.len();
        self.entries.push_back(Entry { seq: self.next_seq, packet, moment });
        self.next_seq += 1;
        while self.bytes > self.max_bytes && !self.entries.is_empty() {
            if self.second_keyframe().is_none() {
                self.dropped += self.entries.len() as u64;
            }
            self.drop_gop();
        }
        while let Some(second) = self.second_keyframe()
            && self.entries.back().is_some_and(|last| last.moment.pts.since(second) >= self.span)
        {
            self.drop_gop();
        }
        !self.entries.is_empty()
    }

    /// When the second GOP begins.
    fn second_keyframe(&self) -> Option<Pts> {
        self.entries.iter().skip(1).find(|e| e.packet.keyframe).map(|e| e.moment.pts)
    }

    fn drop_gop(&mut self) {
        let mut first = true;
        while self.entries.front().is_some_and(|e| first || !e.packet.keyframe) {
            first = false;
            self.bytes -= self.entries.pop_front().map_or(0, |e| e.packet.data.len());
        }
    }

    /// Forgets everything: after a reconnect decoding cannot run across the gap.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// All packets, the oldest first; the first is a keyframe.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// From the newest keyframe on.
    pub fn from_last_keyframe(&self) -> impl Iterator<Item = &Entry> {
        self.from_keyframe_before(Pts::from_nanos(u64::MAX))
    }

    /// From the newest keyframe at or before `pts` on; from the oldest where all are later.
    pub fn from_keyframe_before(&self, pts: Pts) -> impl Iterator<Item = &Entry> {
        let start = self.entries.iter().rposition(|e| e.packet.keyframe && e.moment.pts <= pts).unwrap_or(0);
        self.entries.range(start..)
    }

    /// From place `seq` on; from the oldest where that is gone. Compare the first entry's `seq` to see it.
    pub fn from_seq(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        let first = self.entries.front().map_or(self.next_seq, |e| e.seq);
        let skipped = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
        self.entries.range(skipped.min(self.entries.len())..)
    }

    /// The place of the next packet: behind the newest one.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Bytes of access units.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// From the first moment to the last.
    pub fn length(&self) -> Duration {
        match (self.entries.front(), self.entries.back()) {
            (Some(first), Some(last)) => last.moment.pts.since(first.moment.pts),
            _ => Duration::ZERO,
        }
    }

    /// Packets that could not be kept.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn push(ring: &mut Ring, millis: u64, keyframe: bool, bytes: usize) {
        let at = Duration::from_millis(millis);
        ring.push(testing::packet(at, at, keyframe, bytes), testing::moment(Pts::ZERO + at));
    }

    #[test]
    fn it_keeps_its_span_from_a_keyframe_on() {
        let mut ring = Ring::new(Duration::from_secs(3), usize::MAX);
        (0..100).for_each(|n| push(&mut ring, n * 100, n % 10 == 0, 10));
        let first = ring.iter().next().unwrap();
        assert!(first.packet.keyframe);
        assert_eq!(first.moment.pts, Pts::from_secs_f64(6.0));
        assert_eq!(ring.from_last_keyframe().count(), 10);
        assert_eq!(ring.from_keyframe_before(Pts::from_secs_f64(7.55)).next().unwrap().seq, 70);
        assert_eq!(ring.from_seq(97).count(), 3);
        assert_eq!(ring.from_seq(3).next().unwrap().seq, 60);
    }

    #[test]
    fn a_gop_larger_than_the_ring_is_not_kept_but_counted() {
        let mut ring = Ring::new(Duration::from_secs(60), 100);
        push(&mut ring, 0, true, 90);
        push(&mut ring, 40, false, 20);
        push(&mut ring, 80, false, 20);
        assert_eq!((ring.iter().len(), ring.bytes(), ring.dropped()), (0, 0, 3));
        push(&mut ring, 120, true, 50);
        assert_eq!(ring.iter().len(), 1);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(
            packets in proptest::collection::vec((0_u64..500, any::<bool>(), 0_usize..400), 1..300),
            span in 0_u64..5_000, max_bytes in 0_usize..5_000,
        ) {
            let span = Duration::from_millis(span);
            let mut ring = Ring::new(span, max_bytes);
            let mut now = 0;
            for (step, keyframe, bytes) in packets {
                now += step;
                push(&mut ring, now, keyframe, bytes);
                prop_assert!(ring.bytes() <= max_bytes);
                prop_assert_eq!(ring.bytes(), ring.iter().map(|e| e.packet.data.len()).sum::<usize>());
                prop_assert!(ring.iter().next().is_none_or(|e| e.packet.keyframe));
                prop_assert!(ring.iter().zip(ring.iter().skip(1)).all(|(a, b)| a.seq + 1 == b.seq));
                let second = ring.iter().skip(1).find(|e| e.packet.keyframe).map(|e| e.moment.pts);
                let last = ring.iter().next_back().map(|e| e.moment.pts);
                if let (Some(second), Some(last)) = (second, last) {
                    prop_assert!(last.since(second) < span.max(Duration::from_nanos(1)));
                }
            }
        }
    }
}
