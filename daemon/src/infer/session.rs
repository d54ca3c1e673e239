//! One session: its queue, the loop that serves it, and what is counted of both.
//!
//! Owns: the lock around queue and counters. Does not know: what a model computes, who the cameras are.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vedette_core::{CameraId, Clock, Mono, Role};

use super::model::{Batch, Model};
use super::overload::Overload;
use super::queue::{Entry, FairQueue, Lane, Pushed};
use super::turnstile::Turnstile;
use super::{Job, Purpose, Reply, Submitted};

/// Weight of the newest value in running means.
const NEWEST: f64 = 0.1;
/// A model that panicked so often in a row is not asked again.
const MOST_PANICS: u32 = 3;
const STOPS: &str = "the daemon stops";

/// What one session has done for one camera since it started; only `waiting` and `age_mean` ever shrink.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LaneStats {
    /// Jobs that the model ran.
    pub served: u64,
    /// Frames whose place a newer one took.
    pub replaced: u64,
    /// Wants that were too late, or made room for newer ones.
    pub expired: u64,
    /// Frames of a catch-up that had to wait with their submitter.
    pub refused: u64,
    /// Frames taken back, since the camera was lost.
    pub withdrawn: u64,
    /// Jobs that wait now.
    pub waiting: usize,
    /// From hand-over to the start of the inference, running mean, seconds.
    pub age_mean: f64,
    /// Its largest value, seconds.
    pub age_max: f64,
}

/// What one session has done.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionStats {
    /// The model.
    pub model: String,
    /// What it is used for.
    pub role: Role,
    /// The part of the time since the start in which it computed, 0..1.
    pub busy: f64,
    /// By camera.
    pub cameras: BTreeMap<CameraId, LaneStats>,
}

#[derive(Default)]
struct State {
    queue: FairQueue<Job>,
    stats: BTreeMap<CameraId, LaneStats>,
    overload: BTreeMap<CameraId, Overload>,
    busy: Duration,
    closed: bool,
    /// Since the last run that ended.
    panics: u32,
}

/// A queue with one thread behind it.
pub(super) struct Session {
    role: Role,
    name: String,
    batch: Batch,
    clock: Arc<dyn Clock>,
    began: Mono,
    state: Mutex<State>,
    wake: Condvar,
}

impl Session {
    pub(super) fn new(role: Role, name: &str, batch: Batch, clock: Arc<dyn Clock>) -> Self {
        let began = clock.now();
        Self {
            role,
            name: name.to_owned(),
            batch,
            clock,
            began,
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn submit(&self, job: Job) -> Submitted {
        let now = self.clock.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return Submitted::Unavailable;
        }
        let (camera, lane) = (job.camera.clone(), job.lane);
        // A session's input has one size: whatever it looks at, an inference costs the same. Measured costs would only
        // bring their noise into the shares.
        let entry = Entry { job, queued: now, cost: 1 };
        let stats = state.stats.entry(camera.clone()).or_default();
        let mut shed = None;
        let submitted = match state.queue.push(&camera, lane, entry) {
            Pushed::Queued => Submitted::Queued,
            Pushed::Replaced(_) => {
                stats.replaced += 1;
                Submitted::Replaced
            }
            Pushed::Shed(oldest) => {
                stats.expired += 1;
                shed = Some(oldest);
                Submitted::Queued
            }
            Pushed::Full(_, waiting) => {
                stats.refused += 1;
                Submitted::Full { waiting }
            }
        };
        if lane == Lane::Latest {
            let overload = state.overload.entry(camera.clone()).or_insert_with(|| Overload::new(now));
            if overload.offered(now) {
                match overload.reason() {
                    Some(reason) => log::warn!(camera = camera.as_str(); "{reason}"),
                    None => log::info!(camera = camera.as_str(); "inference keeps up again"),
                }
            }
        }
        drop(guard);
        if let Some(oldest) = shed {
            unserved(oldest, "newer requests took its place");
        }
        self.wake.notify_one();
        submitted
    }

    pub(super) fn withdraw_frames(&self, camera: &CameraId) -> usize {
        let mut state = self.lock();
        let gone = state.queue.withdraw_frames(camera).len();
        if let Some(stats) = state.stats.get_mut(camera) {
            stats.withdrawn += gone as u64;
        }
        gone
    }

    /// Why it serves nobody any more; also shown where cameras would be told of overload.
    fn broken(&self, state: &State) -> Option<String> {
        let often = state.panics >= MOST_PANICS;
        often.then(|| format!("model `{}` panicked too often: nothing is looked at", self.name))
    }

    pub(super) fn overload(&self, camera: &CameraId) -> Option<String> {
        let state = self.lock();
        if let Some(reason) = self.broken(&state) {
            return Some(reason);
        }
        state.overload.get(camera)?.reason().map(str::to_owned)
    }

    pub(super) fn stats(&self) -> SessionStats {
        let state = self.lock();
        let up = self.clock.now().since(self.began).as_secs_f64();
        let with_waiting = |(camera, stats): (&CameraId, &LaneStats)| {
            (camera.clone(), LaneStats { waiting: state.queue.waiting_of(camera), ..*stats })
        };
        SessionStats {
            model: self.name.clone(),
            role: self.role,
            busy: if up > 0.0 { (state.busy.as_secs_f64() / up).min(1.0) } else { 0.0 },
            cameras: state.stats.iter().map(with_waiting).collect(),
        }
    }

    /// Serves until closed.
    pub(super) fn serve(&self, model: &mut dyn Model, turnstile: &Turnstile) {
        while self.wait() {
            let _permit = turnstile.enter(self.role, self.clock.now());
            // Only now: what came while others computed is newer.
            self.serve_next(model);
        }
    }

    /// Until something is due; false when closed.
    fn wait(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.closed {
                return false;
            }
            state = match due_in(self.batch, &state.queue, self.clock.now()) {
                Some(Duration::ZERO) => return true,
                Some(rest) => self.wake.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Runs the model once on what is next; false when nothing is.
    pub(super) fn serve_next(&self, model: &mut dyn Model) -> bool {
        let started = self.clock.now();
        let batch = self.take(started);
        if batch.is_empty() {
            return false;
        }
        let requests: Vec<_> = batch.iter().map(|entry| (&entry.job.frame, entry.job.view)).collect();
        // What a panic leaves in a network is its own: the next look begins anew.
        let run = catch_unwind(AssertUnwindSafe(|| model.run(&requests)));
        let took = self.clock.now().since(started);
        let each = took / u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.lock().busy += took;
        let failed = self.judge(run.is_err());
        let mut results = run.unwrap_or_default().into_iter();
        let missing = if failed { "the model panicked" } else { "the model gave fewer answers than asked" };
        for Entry { job, queued, .. } in batch {
            let result = results.next().unwrap_or_else(|| Err(missing.to_owned()));
            let (purpose, frame, waited) = (job.purpose, job.frame, started.since(queued));
            // A camera that stopped meanwhile no longer listens; nothing is lost by that.
            let _ = job.reply.send(Reply { purpose, frame, result, waited, took: each });
        }
        true
    }

    /// Counts panics in a row, says the first, and closes after [`MOST_PANICS`]; hands `panicked` back.
    fn judge(&self, panicked: bool) -> bool {
        let mut state = self.lock();
        state.panics = if panicked { state.panics + 1 } else { 0 };
        let panics = state.panics;
        drop(state);
        let name = &self.name;
        if panics == 1 {
            log::error!(model = name.as_str(); "model `{name}` panicked: its frames are not looked at");
        }
        if panics == MOST_PANICS {
            log::error!(model = name.as_str();
                "model `{name}` panicked {panics} times in a row: it is not asked again until the daemon starts anew; \
                 name another model, or report this");
            self.end("the model panicked too often");
        }
        panicked
    }

    fn take(&self, now: Mono) -> Vec<Entry<Job>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let late = state.queue.expire(now);
        for entry in &late {
            state.stats.entry(entry.job.camera.clone()).or_default().expired += 1;
        }
        let pops = std::iter::from_fn(|| state.queue.pop());
        let batch: Vec<_> = pops.take(self.batch.max.max(1)).collect();
        for entry in &batch {
            let stats = state.stats.entry(entry.job.camera.clone()).or_default();
            let age = now.since(entry.queued).as_secs_f64();
            stats.age_mean =
                if stats.served == 0 { age } else { stats.age_mean + NEWEST * (age - stats.age_mean) };
            stats.age_max = stats.age_max.max(age);
            stats.served += 1;
            if let (Lane::Latest, Some(overload)) =
                (entry.job.lane, state.overload.get_mut(&entry.job.camera))
            {
                overload.served();
            }
        }
        drop(guard);
        for entry in late {
            unserved(entry.job, "it was too late");
        }
        batch
    }

    /// Nothing is taken any more; wants that wait are answered.
    pub(super) fn close(&self) {
        self.end(STOPS);
    }

    fn end(&self, why: &str) {
        let mut state = self.lock();
        state.closed = true;
        let rest = state.queue.drain();
        drop(state);
        for entry in rest {
            unserved(entry.job, why);
        }
        self.wake.notify_all();
    }
}

/// When the queue is due: at once for a full batch, else when its oldest job has waited long enough; none while empty.
fn due_in<J>(batch: Batch, queue: &FairQueue<J>, now: Mono) -> Option<Duration> {
    let oldest = queue.oldest()?;
    let full = queue.len() >= batch.max;
    Some(if full { Duration::ZERO } else { batch.wait.saturating_sub(now.since(oldest)) })
}

/// A want is always answered; a frame that nobody waits for is not.
fn unserved(job: Job, why: &str) {
    if let Purpose::Want(_) = job.purpose {
        let (purpose, frame, result) = (job.purpose, job.frame, Err(why.to_owned()));
        let _ =
            job.reply.send(Reply { purpose, frame, result, waited: Duration::ZERO, took: Duration::ZERO });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_due_when_full_or_when_its_oldest_has_waited() {
        let at = |ms| Mono(Duration::from_millis(ms));
        let batch = Batch { max: 2, wait: Duration::from_millis(8) };
        let mut queue = FairQueue::default();
        assert_eq!(due_in(batch, &queue, at(0)), None);
        let push = |queue: &mut FairQueue<()>, camera: &str, ms| {
            queue.push(
                &CameraId::new(camera).unwrap(),
                Lane::Latest,
                Entry { job: (), queued: at(ms), cost: 1 },
            );
        };
        push(&mut queue, "a", 10);
        assert_eq!(due_in(Batch::ONE, &queue, at(10)), Some(Duration::ZERO));
        assert_eq!(due_in(batch, &queue, at(13)), Some(Duration::from_millis(5)));
        assert_eq!(due_in(batch, &queue, at(18)), Some(Duration::ZERO));
        push(&mut queue, "b", 13);
        assert_eq!(due_in(batch, &queue, at(13)), Some(Duration::ZERO));
    }
}
