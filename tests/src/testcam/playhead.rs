//! Where in the clip the camera is, and at what media time each unit is due.
//!
//! Owns: looping, new media, freezing and switching clips, on one monotone time line. Does not know: clocks,
//! GStreamer pipelines.

use std::sync::Arc;

use super::clip::{Clip, Unit};

/// A unit with its place on the media time line, nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) unit: Unit,
    pub(crate) dts: u64,
    pub(crate) pts: u64,
}

/// A position in one of several clips. Decoding times of what it yields never run backwards within a medium.
#[derive(Debug)]
pub(crate) struct Playhead {
    clips: Vec<Arc<Clip>>,
    clip: usize,
    next: usize,
    /// Media time minus clip time; negative where a medium began in the middle of a clip.
    shift: i64,
}

impl Playhead {
    /// At the beginning of the first clip; `first` is what plays, `others` what [`Playhead::switch`] turns to.
    pub(crate) fn new(first: Arc<Clip>, others: impl IntoIterator<Item = Arc<Clip>>) -> Self {
        let clips = std::iter::once(first).chain(others).collect();
        Self { clips, clip: 0, next: 0, shift: 0 }
    }

    pub(crate) fn clip(&self) -> &Clip {
        &self.clips[self.clip]
    }

    /// Media time at which the next unit is due.
    pub(crate) fn due(&self) -> u64 {
        self.at(self.clip().units[self.next].dts)
    }

    fn at(&self, clip_time: u64) -> u64 {
        u64::try_from(self.shift.saturating_add_unsigned(clip_time)).unwrap_or(0)
    }

    /// Begins a new medium at time 0, with the keyframe at or before the present position: without clients the
    /// clip stands still, so that nobody misses a part of it.
    pub(crate) fn restart(&mut self) {
        self.back_to_keyframe(0);
    }

    /// Goes on at the keyframe at or before the present position, at media time `due`.
    fn back_to_keyframe(&mut self, due: u64) {
        self.next = self.clip().keyframe_before(self.next);
        self.place(due);
    }

    fn place(&mut self, due: u64) {
        let dts = self.clip().units[self.next].dts;
        self.shift = i64::try_from(due).unwrap_or(i64::MAX).saturating_sub_unsigned(dts);
    }

    /// Everything from here on comes `by` nanoseconds later.
    pub(crate) fn delay(&mut self, by: u64) {
        self.shift = self.shift.saturating_add_unsigned(by);
    }

    /// The next unit; loops at the end of the clip.
    pub(crate) fn take(&mut self) -> Due {
        let unit = self.clip().units[self.next].clone();
        let due = Due { dts: self.at(unit.dts), pts: self.at(unit.pts), unit };
        self.next += 1;
        if self.next == self.clip().units.len() {
            self.next = 0;
            let length = self.clip().length;
            self.delay(length);
        }
        due
    }

    /// The last keyframe once more, in place of the next unit; the position stands still.
    pub(crate) fn take_frozen(&mut self) -> Due {
        let key = self.clip().keyframe_before(self.next);
        let unit = self.clip().units[key].clone();
        let dts = self.due();
        let pts = dts + unit.pts.saturating_sub(unit.dts);
        let frame = self.clip().frame();
        self.delay(frame);
        Due { unit, dts, pts }
    }

    /// Plays on after a freeze, from a keyframe: nothing else decodes after repeated keyframes.
    pub(crate) fn thaw(&mut self) {
        self.back_to_keyframe(self.due());
    }

    /// Turns to the next clip, from its beginning and without a gap.
    pub(crate) fn switch(&mut self) {
        let due = self.due();
        self.clip = (self.clip + 1) % self.clips.len();
        self.next = 0;
        self.place(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testcam::Codec;

    const FRAME: u64 = 40_000_000;

    /// `frames` units with a keyframe every `gop`, each shown one frame after it is decoded.
    fn clip(frames: u64, gop: u64) -> Arc<Clip> {
        gstreamer::init().unwrap();
        let unit = |i: u64| Unit {
            buffer: gstreamer::Buffer::new(),
            dts: 7 * FRAME + i * FRAME,
            pts: 8 * FRAME + i * FRAME,
            key: i.is_multiple_of(gop),
        };
        Arc::new(Clip::new(Codec::H264, (0..frames).map(unit).collect()).unwrap())
    }

    /// Takes `count` units and checks that they are one frame apart, beginning at `from`.
    fn steady(head: &mut Playhead, from: u64, count: u64) -> Vec<bool> {
        (0..count)
            .map(|i| {
                let due = head.take();
                assert_eq!((due.dts, due.pts), (from + i * FRAME, from + (i + 1) * FRAME), "unit {i}");
                due.unit.key
            })
            .collect()
    }

    #[test]
    fn loops_are_seamless() {
        let mut head = Playhead::new(clip(10, 5), []);
        let keys = steady(&mut head, 0, 25);
        assert_eq!(keys.iter().filter(|k| **k).count(), 5);
    }

    #[test]
    fn a_new_medium_begins_at_zero_with_a_keyframe() {
        let mut head = Playhead::new(clip(10, 5), []);
        steady(&mut head, 0, 18);
        head.restart();
        assert_eq!(steady(&mut head, 0, 6), [true, false, false, false, false, true]);
    }

    #[test]
    fn a_freeze_repeats_the_keyframe_and_then_plays_on() {
        let mut head = Playhead::new(clip(10, 5), []);
        steady(&mut head, 0, 3);
        for i in 3..6 {
            let due = head.take_frozen();
            assert_eq!((due.dts, due.unit.key), (i * FRAME, true));
        }
        head.thaw();
        assert_eq!(steady(&mut head, 6 * FRAME, 2), [true, false]);
    }

    #[test]
    fn switching_keeps_the_time_line() {
        let mut head = Playhead::new(clip(10, 5), [clip(4, 2)]);
        steady(&mut head, 0, 3);
        head.switch();
        assert_eq!(steady(&mut head, 3 * FRAME, 5), [true, false, true, false, true]);
        head.switch();
        assert_eq!(steady(&mut head, 8 * FRAME, 2), [true, false]);
    }

    #[test]
    fn a_delay_moves_what_follows() {
        let mut head = Playhead::new(clip(10, 5), []);
        steady(&mut head, 0, 2);
        head.delay(1_000);
        steady(&mut head, 2 * FRAME + 1_000, 9);
    }
}
