//! Where frames wait for whoever takes them: four, of which the oldest goes when another comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use vedette_core::Frame;

/// Frames that wait behind a decoder: one, and what a reordering stream gives at once.
pub(crate) const WAITING_FRAMES: usize = 4;

/// The way out of a decoder; stays the same when another decoder takes over. Clones are the same outlet.
#[derive(Clone)]
pub(crate) struct Outlet {
    sender: Sender<Frame>,
    taken: Receiver<Frame>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    dropped: AtomicU64,
    decoded: AtomicU64,
    damaged: AtomicU64,
    /// Nanoseconds of PTS before which nothing is let out.
    earliest: AtomicU64,
    /// Nanoseconds of PTS behind the last frame that was let out.
    reached: AtomicU64,
}

impl Outlet {
    pub(crate) fn new() -> Self {
        let (sender, taken) = bounded(WAITING_FRAMES);
        Self { sender, taken, counts: Arc::default() }
    }

    pub(crate) fn send(&self, frame: Frame) {
        self.counts.decoded.fetch_add(1, Ordering::Relaxed);
        let pts = frame.moment().pts.nanos();
        if pts < self.counts.earliest.load(Ordering::Relaxed) {
            return;
        }
        self.counts.reached.store(pts.saturating_add(1), Ordering::Relaxed);
        let mut waiting = frame;
        while let Err(error) = self.sender.try_send(waiting) {
            waiting = error.into_inner();
            if self.taken.try_recv().is_ok() {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn frames(&self) -> &Receiver<Frame> {
        &self.taken
    }

    /// Empties it, and lets any time come next.
    pub(crate) fn clear(&self) {
        while self.taken.try_recv().is_ok() {}
        self.counts.earliest.store(0, Ordering::Relaxed);
        self.counts.reached.store(0, Ordering::Relaxed);
    }

    /// What has come out already does not come once more, from a decoder that begins before it.
    pub(crate) fn only_later(&self) {
        self.counts.earliest.store(self.counts.reached.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// One more packet that gave no picture, or picture that is partly guessed.
    pub(crate) fn damage(&self) {
        self.counts.damaged.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn damaged(&self) -> u64 {
        self.counts.damaged.load(Ordering::Relaxed)
    }

    /// Frames that decoders gave, let out or not.
    pub(crate) fn decoded(&self) -> u64 {
        self.counts.decoded.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use vedette_core::Pts;

    use super::*;
    use crate::testing::moment;

    fn frame(pts: u64) -> Frame {
        Frame::packed_i420(moment(Pts::from_nanos(pts)), (2, 2), vec![0; 6]).unwrap()
    }

    #[test]
    fn a_decoder_that_begins_again_does_not_repeat_frames() {
        let outlet = Outlet::new();
        [1, 2, 3].into_iter().for_each(|pts| outlet.send(frame(pts)));
        outlet.only_later();
        [1, 2, 3, 4].into_iter().for_each(|pts| outlet.send(frame(pts)));
        let out: Vec<u64> = outlet.frames().try_iter().map(|f| f.moment().pts.nanos()).collect();
        assert_eq!((out, outlet.dropped(), outlet.decoded()), (vec![1, 2, 3, 4], 0, 7));
        outlet.clear();
        outlet.send(frame(1));
        assert_eq!(outlet.frames().try_iter().count(), 1, "after a flush an earlier one may come");
    }
}
