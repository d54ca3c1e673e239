//! Inference: one session a thread, the newest frame of each camera (or all of them, in order, for a catch-up), fair
//! between cameras, the more urgent model first.
//!
//! Owns: the queue before a session, the thread that runs it, and what is counted of both. Does not know: GStreamer,
//! scenes, events. A camera submits a frame and gets what the model said through the channel it gave. What was not
//! served is never silent: a replaced frame and a full lane are told by [`Inference::submit`], a want that expired or
//! was shed is answered with an error.

mod model;
mod overload;
mod queue;
mod session;
mod turnstile;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use vedette_core::{AnswerValue, CameraId, Clock, Detection, Frame, Role, Shutdown, View, WantId};

pub use model::{Batch, Model, Request};
pub use queue::Lane;
use session::Session;
pub use session::{LaneStats, SessionStats};
use turnstile::Turnstile;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The detections of a whole frame.
    Frame,
    /// A want of the scene.
    Want(WantId),
}

/// One frame (or a part of it) for a model.
pub struct Job {
    /// Whose frame.
    pub camera: CameraId,
    /// Which model.
    pub role: Role,
    /// What for.
    pub purpose: Purpose,
    /// How it queues.
    pub lane: Lane,
    /// The picture.
    pub frame: Frame,
    /// Which part of it, how turned.
    pub view: View,
    /// Where the reply goes; a receiver that is gone is no error.
    pub reply: Sender<Reply>,
}

/// What became of a job that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It waits, and a reply will come.
    Queued,
    /// It waits in the place of an older frame, for which no reply will come.
    Replaced,
    /// It was not taken: `waiting` frames of this catch-up wait already. Try again after the next reply.
    Full {
        /// Frames of the camera's catch-up that wait.
        waiting: usize,
    },
    /// It was not taken: no model serves the role, or the daemon stops.
    Unavailable,
}

/// What became of a [`Job`].
pub struct Reply {
    /// As in the job.
    pub purpose: Purpose,
    /// The frame looked at.
    pub frame: Frame,
    /// What the model said, or why it said nothing, as one line.
    pub result: Result<AnswerValue, String>,
    /// From hand-over to the start of the inference.
    pub waited: Duration,
    /// How long the inference took; the mean of a batch.
    pub took: Duration,
}

impl Reply {
    /// As the answer to a want.
    pub fn into_answer(self) -> AnswerValue {
        self.result.unwrap_or(AnswerValue::Unavailable)
    }

    /// The boxes of a detector.
    ///
    /// # Errors
    /// The model failed, or is no detector.
    pub fn detections(self) -> Result<Vec<Detection>, String> {
        match self.result? {
            AnswerValue::Detections(boxes) => Ok(boxes),
            _ => Err("the model gave no boxes".to_owned()),
        }
    }
}

/// Hands jobs to the sessions. Clones share them.
#[derive(Clone)]
pub struct Inference {
    sessions: Arc<[Arc<Session>]>,
}

impl Inference {
    /// Starts a thread `infer-<model>` for each model. Of them `workers` compute at once: as many as there are cores
    /// for inference. The threads end when [`RunningInference::stop`] is called.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        models: Vec<Box<dyn Model>>,
        workers: usize,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<RunningInference> {
        let turnstile = Arc::new(Turnstile::new(workers));
        let describe = |model: &dyn Model| {
            Arc::new(Session::new(model.role(), model.name(), model.batch(), Arc::clone(&clock)))
        };
        let sessions: Arc<[_]> = models.iter().map(|model| describe(&**model)).collect();
        let mut running =
            RunningInference { handle: Self { sessions: Arc::clone(&sessions) }, threads: Vec::new(), clock };
        for (mut model, session) in models.into_iter().zip(sessions.iter().map(Arc::clone)) {
            let turnstile = Arc::clone(&turnstile);
            let thread = std::thread::Builder::new()
                .name(format!("infer-{}", model.name()))
                .spawn(move || session.serve(&mut *model, &turnstile));
            match thread {
                Ok(thread) => running.threads.push(thread),
                Err(error) => {
                    running.stop(Duration::from_secs(1));
                    return Err(error);
                }
            }
        }
        Ok(running)
    }

    fn session(&self, role: Role) -> Option<&Arc<Session>> {
        self.sessions.iter().find(|session| session.role() == role)
    }

    /// Whether a model serves a role.
    pub fn serves(&self, role: Role) -> bool {
        self.session(role).is_some()
    }

    /// Hands a job to the model of its role.
    pub fn submit(&self, job: Job) -> Submitted {
        self.session(job.role).map_or(Submitted::Unavailable, |session| session.submit(job))
    }

    /// Takes back the frames of a camera that wait; how many. No reply comes for them.
    pub fn withdraw_frames(&self, camera: &CameraId) -> usize {
        self.sessions.iter().map(|session| session.withdraw_frames(camera)).sum()
    }

    /// Why this camera's frames are not all looked at ("inference serves 2.1 of 5.0 fps"); none while they are.
    pub fn overload(&self, camera: &CameraId) -> Option<String> {
        self.session(Role::Detector)?.overload(camera)
    }

    /// What each session has done so far.
    pub fn stats(&self) -> Vec<SessionStats> {
        self.sessions.iter().map(|session| session.stats()).collect()
    }
}

/// The threads behind an [`Inference`].
pub struct RunningInference {
    handle: Inference,
    threads: Vec<JoinHandle<()>>,
    clock: Arc<dyn Clock>,
}

impl RunningInference {
    /// To submit jobs with.
    pub fn handle(&self) -> Inference {
        self.handle.clone()
    }

    /// Lets the running inferences finish, answers the wants that wait, and joins the threads; false when a session
    /// hangs beyond `deadline`, its thread is then left behind.
    pub fn stop(self, deadline: Duration) -> bool {
        for session in self.handle.sessions.iter() {
            session.close();
        }
        let patience = Shutdown::new();
        let began = self.clock.now();
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if self.clock.now().since(began) >= deadline {
                log::error!("an inference hangs: its thread is left behind");
                return false;
            }
            self.clock.pause(Duration::from_millis(10), &patience);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("the inference thread ended by an internal error");
            }
        }
        true
    }
}

#[cfg(test)]
#[path = "infer/simulation_tests.rs"]
mod simulation_tests;
