//! Evidence: a picture and a clip of each incident, on this box's disk.
//!
//! Owns: the thread `evidence` that writes files, `reencode` where a camera's clips are masked, and the recorders that
//! cameras' threads talk to. Does not know: rules, topics, connections. A camera never waits for a disk: what is to be
//! written goes through a queue that is bounded in bytes; what it refuses is counted, and its event says that it has no
//! evidence and why. An event never waits for its evidence either: it names what will come, and word of a file goes
//! into the outbox once the file is complete and synced.
//!
//! Packets that are not on disk are in memory alone: the process leaves no core dump (`process_env`).

mod desk;
mod files;
mod main_stream;
mod maker;
mod recorder;
mod reencode;
mod retention;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::bounded;
use vedette_core::{CameraId, Clock, Shutdown};
use vedette_ingest::Descriptions;

use crate::config;
use crate::counters::CameraCounters;
use crate::outbox::Outbox;

use desk::Desk;
pub use main_stream::{MainStream, MainStreamDeps};
use maker::Maker;
pub use recorder::{Order, Recorder};
use writer::Writer;

/// What the room needs of the node.
#[derive(Clone)]
pub struct EvidenceDeps {
    /// Its folder `evidence` holds the files.
    pub state: PathBuf,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
    /// Where word of complete files goes.
    pub outbox: Arc<dyn Outbox>,
    /// How files are written.
    pub descriptions: Arc<Descriptions>,
}

/// The threads that make evidence.
pub struct RunningEvidence {
    evidence: Evidence,
    stop: Shutdown,
    threads: Vec<JoinHandle<()>>,
    clock: Arc<dyn Clock>,
}

/// Hands out recorders, and finds them again. Cheap to clone.
#[derive(Clone)]
pub struct Evidence {
    desk: Desk,
    recorders: Arc<Mutex<BTreeMap<CameraId, Arc<Recorder>>>>,
}

/// Starts the threads. What a crash left unfinished is completed first.
///
/// # Errors
/// A thread that the system refuses.
pub fn start(config: &config::Evidence, deps: &EvidenceDeps) -> std::io::Result<RunningEvidence> {
    let (desk, jobs, tasks) = Desk::new();
    let stop = Shutdown::new();
    let maker = Arc::new(Maker::new(deps, desk.clone()));
    let writer = Writer::new(Arc::clone(&maker), config, Arc::clone(&deps.clock));
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.to_owned()).spawn(work)
    };
    let latch = stop.clone();
    let threads = vec![
        spawn("evidence", Box::new(move || writer.run(&jobs)))?,
        spawn("reencode", Box::new(move || reencode::run(&tasks, &maker, &latch)))?,
    ];
    let evidence = Evidence { desk, recorders: Arc::default() };
    Ok(RunningEvidence { evidence, stop, threads, clock: Arc::clone(&deps.clock) })
}

impl RunningEvidence {
    /// What cameras and commands are given.
    pub fn handle(&self) -> Evidence {
        self.evidence.clone()
    }

    /// Completes what was begun, once all cameras have stopped; what is still to be coded anew is given up. False when
    /// `deadline` passed before; the threads are then left behind.
    pub fn stop(&mut self, deadline: Duration) -> bool {
        self.stop.request();
        self.evidence.desk.close();
        let (threads, clock) = (std::mem::take(&mut self.threads), &self.clock);
        let (patience, began) = (Shutdown::new(), clock.now());
        while !threads.iter().all(JoinHandle::is_finished) {
            if clock.now().since(began) >= deadline {
                log::warn!("evidence was not written within {deadline:?}; left behind");
                return false;
            }
            clock.pause(Duration::from_millis(10), &patience);
        }
        // A panic there was said when it happened.
        threads.into_iter().all(|thread| thread.join().is_ok())
    }
}

impl Evidence {
    /// Without anybody who writes.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn idle() -> Self {
        Self { desk: Desk::new().0, recorders: Arc::default() }
    }

    /// The recorder of a camera, which takes the place of an earlier one.
    pub fn recorder(&self, camera: &Arc<config::Camera>, counters: &Arc<CameraCounters>) -> Arc<Recorder> {
        let recorder = Arc::new(Recorder::new(camera, counters, self.desk.clone()));
        let mut recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        recorders.insert(camera.id.clone(), Arc::clone(&recorder));
        recorder
    }

    /// A picture of what a camera sees now; waits until it is on disk, at most `patience`. The name of its file.
    ///
    /// # Errors
    /// Why there is none, for whoever asked.
    pub fn snapshot(&self, camera: &CameraId, patience: Duration) -> Result<String, String> {
        let recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        let recorder = recorders.get(camera).cloned();
        drop(recorders);
        let recorder = recorder.ok_or_else(|| format!("camera {camera} has not started"))?;
        let (reply, answer) = bounded(1);
        recorder.snapshot(reply)?;
        answer.recv_timeout(patience).unwrap_or_else(|_| Err(format!("not done within {patience:?}")))
    }
}
