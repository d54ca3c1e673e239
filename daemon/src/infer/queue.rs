//! The order in which cameras get the session: round robin over those that wait. Pure.

use std::collections::{BTreeMap, VecDeque};

use vedette_core::CameraId;

/// At most so many extra jobs (wants) wait for one camera; the oldest is dropped.
const EXTRA_MAX: usize = 8;

struct Lane<J> {
    newest: Option<J>,
    extra: VecDeque<J>,
}

impl<J> Default for Lane<J> {
    fn default() -> Self {
        Self { newest: None, extra: VecDeque::new() }
    }
}

/// One replaceable job and a few extra ones for each camera, served in turn.
pub(super) struct FairQueue<J> {
    lanes: BTreeMap<CameraId, Lane<J>>,
    turn: VecDeque<CameraId>,
}

impl<J> Default for FairQueue<J> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), turn: VecDeque::new() }
    }
}

impl<J> FairQueue<J> {
    /// Queues `job` in place of the camera's waiting one, which is returned.
    pub(super) fn replace(&mut self, camera: CameraId, job: J) -> Option<J> {
        self.lane(camera).newest.replace(job)
    }

    /// Queues `job` behind the camera's extra ones.
    pub(super) fn append(&mut self, camera: CameraId, job: J) {
        let extra = &mut self.lane(camera).extra;
        if extra.len() == EXTRA_MAX {
            extra.pop_front();
        }
        extra.push_back(job);
    }

    fn lane(&mut self, camera: CameraId) -> &mut Lane<J> {
        if !self.turn.contains(&camera) {
            self.turn.push_back(camera.clone());
        }
        self.lanes.entry(camera).or_default()
    }

    /// The next job of the camera whose turn it is; a frame goes before the extra jobs it may cause.
    pub(super) fn pop(&mut self) -> Option<J> {
        let camera = self.turn.pop_front()?;
        let lane = self.lanes.get_mut(&camera)?;
        let job = lane.newest.take().or_else(|| lane.extra.pop_front());
        if lane.newest.is_some() || !lane.extra.is_empty() {
            self.turn.push_back(camera);
        } else {
            self.lanes.remove(&camera);
        }
        job
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.values().map(|l| usize::from(l.newest.is_some()) + l.extra.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> CameraId {
        CameraId::new(name).unwrap()
    }

    #[test]
    fn a_busy_camera_does_not_starve_a_calm_one() {
        let mut queue = FairQueue::default();
        for n in 0..3 {
            queue.append(id("busy"), format!("busy {n}"));
        }
        queue.replace(id("calm"), "calm".to_owned());
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["busy 0", "calm", "busy 1", "busy 2"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn the_newest_frame_wins_and_keeps_its_place() {
        let mut queue = FairQueue::default();
        assert_eq!(queue.replace(id("a"), 1), None);
        assert_eq!(queue.replace(id("b"), 2), None);
        assert_eq!(queue.replace(id("a"), 3), Some(1));
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(3), Some(2), None));
    }

    #[test]
    fn extra_jobs_are_bounded() {
        let mut queue = FairQueue::default();
        for n in 0..100 {
            queue.append(id("a"), n);
        }
        assert_eq!(queue.len(), EXTRA_MAX);
        assert_eq!(queue.pop(), Some(100 - EXTRA_MAX));
    }
}
