//! The order in which cameras get a session: deficit round robin over those that wait. Pure.
//!
//! Owns: who waits, who is next, what is replaced, refused or expired. Does not know: threads, models, pictures. Every
//! job that is pushed comes out exactly once: popped, replaced, refused, shed, expired, withdrawn or drained.

use std::collections::{BTreeMap, VecDeque};

use vedette_core::{CameraId, Mono};

/// At most so many wants wait for one camera: the oldest is shed for a new one.
pub(super) const WANTS_MAX: usize = 8;

/// At most so many frames of a catch-up wait for one camera: its cursor waits then. One is enough to keep the session
/// busy; the second bridges the camera thread's own delay.
pub(super) const IN_ORDER_MAX: usize = 2;

/// How a job queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The newest frame: takes the place of the camera's waiting one.
    Latest,
    /// A frame of a catch-up: never replaced; refused while two wait.
    InOrder,
    /// A want of the scene: of no use after `by`.
    Want {
        /// On the host's monotonic clock.
        by: Mono,
    },
}

/// A job with what the queue needs to know of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<J> {
    pub(super) job: J,
    /// When it was handed over: its age counts from here.
    pub(super) queued: Mono,
    /// What it takes of the session, in inferences; at least 1.
    pub(super) cost: u64,
}

/// What became of a push, with the job that came out by it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed<J> {
    /// It waits.
    Queued,
    /// It waits in the place of an older frame.
    Replaced(J),
    /// It waits; the camera's oldest want made room.
    Shed(J),
    /// It does not wait: so many of the camera's do.
    Full(J, usize),
}

/// What waits of one camera.
struct Waiting<J> {
    latest: Option<Entry<J>>,
    in_order: VecDeque<Entry<J>>,
    wants: VecDeque<(Mono, Entry<J>)>,
    /// Service it may take before the turn passes on, in inferences.
    deficit: u64,
    /// It has got its quantum in this visit.
    granted: bool,
    /// The last one served was a frame: a want goes next, so that overload starves neither.
    frame_served: bool,
}

impl<J> Default for Waiting<J> {
    fn default() -> Self {
        let (in_order, wants) = (VecDeque::new(), VecDeque::new());
        Self { latest: None, in_order, wants, deficit: 0, granted: false, frame_served: false }
    }
}

impl<J> Waiting<J> {
    fn len(&self) -> usize {
        usize::from(self.latest.is_some()) + self.in_order.len() + self.wants.len()
    }

    fn want_next(&self) -> bool {
        let frame = self.latest.is_some() || !self.in_order.is_empty();
        !self.wants.is_empty() && (self.frame_served || !frame)
    }

    /// A catch-up's frames are older than the newest one: they go first.
    fn head(&self) -> Option<&Entry<J>> {
        if self.want_next() {
            return self.wants.front().map(|(_, entry)| entry);
        }
        self.in_order.front().or(self.latest.as_ref())
    }

    fn take(&mut self) -> Option<Entry<J>> {
        if self.want_next() {
            self.frame_served = false;
            return self.wants.pop_front().map(|(_, entry)| entry);
        }
        self.frame_served = true;
        self.in_order.pop_front().or_else(|| self.latest.take())
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<J>> {
        self.in_order.iter().chain(self.latest.iter()).chain(self.wants.iter().map(|(_, entry)| entry))
    }
}

/// The jobs of all cameras before one session.
pub(super) struct FairQueue<J> {
    cameras: BTreeMap<CameraId, Waiting<J>>,
    /// Whose turn it is, first at the front: exactly the cameras with something waiting, least recently served first.
    /// A camera's only frame leaves it with nothing until the next one comes; were it to queue up anew behind all
    /// others then, shares would depend on when frames happen to come.
    turn: VecDeque<CameraId>,
    /// How many jobs had been popped when each camera got its last one.
    served: BTreeMap<CameraId, u64>,
    popped: u64,
    /// The largest cost so far: what a visit grants. It never shrinks, so that all cameras get the same of a round.
    quantum: u64,
}

impl<J> Default for FairQueue<J> {
    fn default() -> Self {
        Self {
            cameras: BTreeMap::new(),
            turn: VecDeque::new(),
            served: BTreeMap::new(),
            popped: 0,
            quantum: 1,
        }
    }
}

impl<J> FairQueue<J> {
    /// Queues a job, or says why not.
    pub(super) fn push(&mut self, camera: &CameraId, lane: Lane, entry: Entry<J>) -> Pushed<J> {
        self.quantum = self.quantum.max(entry.cost);
        if self.waiting_of(camera) == 0 {
            self.queue_up(camera);
        }
        let waiting = self.cameras.entry(camera.clone()).or_default();
        match lane {
            Lane::Latest => match waiting.latest.replace(entry) {
                Some(older) => Pushed::Replaced(older.job),
                None => Pushed::Queued,
            },
            Lane::InOrder if waiting.in_order.len() >= IN_ORDER_MAX => {
                Pushed::Full(entry.job, waiting.in_order.len())
            }
            Lane::InOrder => {
                waiting.in_order.push_back(entry);
                Pushed::Queued
            }
            Lane::Want { by } => {
                let full = waiting.wants.len() >= WANTS_MAX;
                let shed = if full { waiting.wants.pop_front() } else { None };
                waiting.wants.push_back((by, entry));
                shed.map_or(Pushed::Queued, |(_, oldest)| Pushed::Shed(oldest.job))
            }
        }
    }

    /// The next job: of the camera whose turn it is, as long as its deficit pays for it.
    pub(super) fn pop(&mut self) -> Option<Entry<J>> {
        // As large as the largest cost: every visit serves something, so a turn takes one round at most.
        let quantum = self.quantum;
        for _ in 0..=self.turn.len() {
            let camera = self.turn.front()?.clone();
            let waiting = self.cameras.get_mut(&camera)?;
            let cost = waiting.head()?.cost;
            if waiting.deficit < cost {
                // A visit begins with the quantum; a camera that has used it up goes to the end first.
                if std::mem::take(&mut waiting.granted) {
                    self.turn.rotate_left(1);
                    continue;
                }
                waiting.deficit += quantum;
                waiting.granted = true;
            }
            waiting.deficit -= cost;
            let entry = waiting.take();
            self.popped += 1;
            self.served.insert(camera.clone(), self.popped);
            self.forget_if_empty(&camera);
            return entry;
        }
        None
    }

    /// Takes out the wants that are of no use any more.
    pub(super) fn expire(&mut self, now: Mono) -> Vec<Entry<J>> {
        let mut expired = Vec::new();
        for waiting in self.cameras.values_mut() {
            for (by, entry) in std::mem::take(&mut waiting.wants) {
                if by < now {
                    expired.push(entry);
                } else {
                    waiting.wants.push_back((by, entry));
                }
            }
        }
        self.forget_empty();
        expired
    }

    /// Takes out a camera's frames: it is lost, and what waits of it is of no use.
    pub(super) fn withdraw_frames(&mut self, camera: &CameraId) -> Vec<Entry<J>> {
        let Some(waiting) = self.cameras.get_mut(camera) else { return Vec::new() };
        let frames = waiting.in_order.drain(..).chain(waiting.latest.take()).collect();
        self.forget_if_empty(camera);
        frames
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> Vec<Entry<J>> {
        self.turn.clear();
        let all = std::mem::take(&mut self.cameras).into_values();
        all.flat_map(|w| w.in_order.into_iter().chain(w.latest).chain(w.wants.into_iter().map(|(_, e)| e)))
            .collect()
    }

    /// Jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.cameras.values().map(Waiting::len).sum()
    }

    /// Jobs of one camera that wait.
    pub(super) fn waiting_of(&self, camera: &CameraId) -> usize {
        self.cameras.get(camera).map_or(0, Waiting::len)
    }

    /// When the one that waits longest was handed over.
    pub(super) fn oldest(&self) -> Option<Mono> {
        self.cameras.values().flat_map(Waiting::entries).map(|entry| entry.queued).min()
    }

    /// Before all that were served later, but for the one whose visit has begun.
    fn queue_up(&mut self, camera: &CameraId) {
        let last = |of: &CameraId| self.served.get(of).copied().unwrap_or(0);
        let visited = self.turn.front().and_then(|front| self.cameras.get(front)).is_some_and(|w| w.granted);
        let mine = last(camera);
        let later = self.turn.iter().skip(usize::from(visited)).position(|other| last(other) > mine);
        let at = later.map_or(self.turn.len(), |at| at + usize::from(visited));
        self.turn.insert(at, camera.clone());
    }

    fn forget_if_empty(&mut self, camera: &CameraId) {
        if self.cameras.get(camera).is_some_and(|waiting| waiting.len() == 0) {
            self.cameras.remove(camera);
            self.turn.retain(|other| other != camera);
        }
    }

    fn forget_empty(&mut self) {
        self.cameras.retain(|_, waiting| waiting.len() > 0);
        self.turn.retain(|camera| self.cameras.contains_key(camera));
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
