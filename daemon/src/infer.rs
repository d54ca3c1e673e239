//! Inference threads: one session each, batch 1, the newest frame of each camera, fair between cameras.
//!
//! Owns: the queue before a session and the thread that runs it. Does not know: GStreamer, scenes, events. A camera
//! submits a frame and gets the boxes back through the channel it gave; while one of its frames waits, a newer one
//! takes its place (overload means that the newest frame wins), and the drop is counted by who submitted it.

mod queue;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use vedette_core::{AnswerValue, CameraId, Clock, Detection, Frame, Mono, Role, Shutdown, View, WantId};
use vedette_models::Detector;

use queue::FairQueue;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The detections of a whole frame.
    Frame,
    /// A want of the scene.
    Want(WantId),
}

/// One frame (or a part of it) for the detector.
pub struct Job {
    /// Whose frame.
    pub camera: CameraId,
    /// What for.
    pub purpose: Purpose,
    /// The picture.
    pub frame: Frame,
    /// Which part of it, how turned.
    pub view: View,
    /// Where the reply goes; a receiver that is gone is no error.
    pub reply: Sender<Reply>,
}

/// What became of a [`Job`].
pub struct Reply {
    /// As in the job.
    pub purpose: Purpose,
    /// The frame looked at.
    pub frame: Frame,
    /// The boxes, or why there are none, as one line.
    pub result: Result<Vec<Detection>, String>,
    /// How long the job waited for the session.
    pub waited: Duration,
    /// How long the session took.
    pub took: Duration,
}

impl Reply {
    /// The boxes as the answer to a want.
    pub fn into_answer(self) -> AnswerValue {
        self.result.map_or(AnswerValue::Unavailable, AnswerValue::Detections)
    }
}

#[derive(Default)]
struct State {
    queue: FairQueue<(Job, Mono)>,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    clock: Arc<dyn Clock>,
}

/// Hands jobs to one inference thread. Clones share it.
#[derive(Clone)]
pub struct Inference {
    shared: Arc<Shared>,
}

impl Inference {
    /// Starts the thread `infer-<model>` that owns `detector`. It ends when [`RunningInference::stop`] is called.
    pub fn start(detector: Detector, clock: Arc<dyn Clock>) -> std::io::Result<RunningInference> {
        let name = format!("infer-{}", detector.name());
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), clock });
        let handle = Self { shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name(name).spawn(move || serve(&shared, detector))?;
        Ok(RunningInference { handle, thread })
    }

    /// Whether this thread's model serves a role.
    pub fn serves(&self, role: Role) -> bool {
        role == Role::Detector
    }

    /// Queues a job. A waiting frame of the same camera is replaced; true when one was.
    pub fn submit(&self, job: Job) -> bool {
        let now = self.shared.clock.now();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return false;
        }
        let camera = job.camera.clone();
        let replaced = match job.purpose {
            Purpose::Frame => state.queue.replace(camera, (job, now)).is_some(),
            Purpose::Want(_) => {
                state.queue.append(camera, (job, now));
                false
            }
        };
        drop(state);
        self.shared.wake.notify_one();
        replaced
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).queue.len()
    }
}

/// The thread behind an [`Inference`].
pub struct RunningInference {
    handle: Inference,
    thread: JoinHandle<()>,
}

impl RunningInference {
    /// To submit jobs with.
    pub fn handle(&self) -> Inference {
        self.handle.clone()
    }

    /// Lets the running inference finish, drops what waits, and joins the thread; false when a session hangs beyond
    /// `deadline`, its thread is then left behind.
    pub fn stop(self, deadline: Duration) -> bool {
        self.handle.shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.handle.shared.wake.notify_all();
        let (clock, patience) = (Arc::clone(&self.handle.shared.clock), Shutdown::new());
        let began = clock.now();
        while !self.thread.is_finished() {
            if clock.now().since(began) >= deadline {
                log::error!("an inference hangs: its thread is left behind");
                return false;
            }
            clock.pause(Duration::from_millis(10), &patience);
        }
        if self.thread.join().is_err() {
            log::error!("the inference thread ended by an internal error");
        }
        true
    }
}

fn next_job(shared: &Shared) -> Option<(Job, Mono)> {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if state.closed {
            return None;
        }
        if let Some(job) = state.queue.pop() {
            return Some(job);
        }
        state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn serve(shared: &Shared, mut detector: Detector) {
    while let Some((job, queued)) = next_job(shared) {
        let started = shared.clock.now();
        let result = detector.detect(&job.frame, job.view).map_err(|e| e.to_string());
        let reply = Reply {
            purpose: job.purpose,
            frame: job.frame,
            result,
            waited: started.since(queued),
            took: shared.clock.now().since(started),
        };
        // A camera that stopped meanwhile no longer listens; nothing is lost by that.
        let _ = job.reply.send(reply);
    }
}
