//! How far apart the keyframes of a stream are.
//!
//! Owns: the last distances. Does not know: what follows from them.

use std::time::Duration;

use vedette_core::Pts;

/// Distances of keyframes that are remembered.
const GOPS: usize = 4;

/// How far apart keyframes are.
#[derive(Debug, Default)]
pub(super) struct Gop {
    last: Option<Pts>,
    distances: Vec<Duration>,
}

impl Gop {
    /// A keyframe came.
    pub(super) fn keyframe(&mut self, at: Pts) {
        if let Some(last) = self.last.replace(at) {
            if self.distances.len() >= GOPS {
                self.distances.remove(0);
            }
            self.distances.push(at.since(last));
        }
    }

    /// The longest lately, the one that has not ended yet included.
    pub(super) fn longest(&self, now: Pts) -> Option<Duration> {
        let longest = self.distances.iter().max()?;
        Some(self.last.map_or(*longest, |last| now.since(last).max(*longest)))
    }

    /// The stream begins anew: what lies between is no distance.
    pub(super) fn interrupt(&mut self) {
        self.last = None;
    }

    /// Whether a distance is known.
    pub(super) fn is_known(&self) -> bool {
        !self.distances.is_empty()
    }
}
