//! One camera: its thread, from packets to events.
//!
//! Owns: the thread `cam-<id>`, supervision and back-off, which frames are analysed, and the camera's status. Does
//! not know: GStreamer elements, sessions, topics, bytes. `run` supervises; `session::run_once` is straight-line
//! and the one function to read.

mod analyst;
mod report;
mod session;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, bounded, select, tick};
use jiff::tz::TimeZone;
use vedette_core::{Clock, EndedBy, Shutdown};
use vedette_ingest::{Backoff, Descriptions, Fault, FaultClass, Masks};

use crate::config;
use crate::counters::CameraCounters;
use crate::infer::Inference;
use crate::outbox::Outbox;
use crate::random::Random;
use crate::sinks::Latest;

use analyst::Analyst;
use report::Report;
pub use report::{CameraState, Snapshot};
use session::Ending;

/// How often a camera's thread looks up without being woken: ticks of the scene, watchdogs, status.
const TICK: Duration = Duration::from_secs(1);

/// What a camera needs of the node.
#[derive(Clone)]
pub struct CameraDeps {
    /// Drives supervision.
    pub clock: Arc<dyn Clock>,
    /// The ingest pipelines there are.
    pub descriptions: Arc<Descriptions>,
    /// The detector's thread.
    pub inference: Inference,
    /// Where events go.
    pub outbox: Arc<dyn Outbox>,
    /// Where retained topics go.
    pub latest: Arc<Latest>,
    /// For schedules.
    pub time_zone: TimeZone,
    /// Whether the host's clock is synchronised; refreshed by the node.
    pub wall_ok: Arc<AtomicBool>,
}

/// A camera at work.
pub struct RunningCamera {
    config: Arc<config::Camera>,
    counters: Arc<CameraCounters>,
    report: Arc<Report>,
    stop: Shutdown,
    thread: JoinHandle<()>,
}

/// Starts the camera's thread.
///
/// # Errors
/// A scene that cannot be built (a rule that names an undefined zone: the configuration's check says so before), or
/// a thread that the system refuses.
pub fn start(config: Arc<config::Camera>, deps: CameraDeps) -> Result<RunningCamera, StartError> {
    let counters = Arc::new(CameraCounters::default());
    let report = Arc::new(Report::new(config.id.clone(), Arc::clone(&counters), &deps));
    let stop = Shutdown::new();
    let analyst = Analyst::new(&config, &deps, Arc::clone(&counters))?;
    let camera = Camera {
        config: Arc::clone(&config),
        deps,
        counters: Arc::clone(&counters),
        report: Arc::clone(&report),
        analyst,
        masks: Masks::new(config.masks.values().cloned().collect()),
        backoff: Backoff::default(),
        stop: inbox_of(&stop),
        ticks: tick(TICK),
    };
    let name = format!("cam-{}", config.id);
    let thread = std::thread::Builder::new().name(name).spawn(move || run(camera))?;
    Ok(RunningCamera { config, counters, report, stop, thread })
}

/// Why a camera did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its scene could not be built.
    #[error(transparent)]
    Scene(#[from] vedette_analysis::BuildError),
    /// The system gave no thread or no random numbers.
    #[error("the system refuses what the camera needs: {0}")]
    System(#[from] std::io::Error),
}

impl RunningCamera {
    /// Its configuration.
    pub fn config(&self) -> &config::Camera {
        &self.config
    }

    /// What it counts.
    pub fn counters(&self) -> &Arc<CameraCounters> {
        &self.counters
    }

    /// How it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.report.snapshot()
    }

    /// Asks it to stop; [`RunningCamera::join`] waits for it.
    pub fn request_stop(&self) {
        self.stop.request();
    }

    /// Waits until the thread has ended its incidents and closed its stream; false when `deadline` passed before,
    /// the thread is then left behind.
    pub fn join(self, clock: &dyn Clock, deadline: Duration) -> bool {
        let patience = Shutdown::new();
        let began = clock.now();
        while !self.thread.is_finished() {
            if clock.now().since(began) >= deadline {
                log::warn!(camera = self.config.id.as_str(); "did not stop within {deadline:?}; left behind");
                return false;
            }
            clock.pause(Duration::from_millis(10), &patience);
        }
        // `run` catches panics of its own; a panic here is one of the reporting around it.
        self.thread.join().is_ok()
    }
}

/// All that the camera's thread owns.
struct Camera {
    config: Arc<config::Camera>,
    deps: CameraDeps,
    counters: Arc<CameraCounters>,
    report: Arc<Report>,
    analyst: Analyst,
    masks: Masks,
    backoff: Backoff,
    stop: Inbox<()>,
    ticks: Inbox<std::time::Instant>,
}

/// A channel that speaks when the latch is pulled.
fn inbox_of(stop: &Shutdown) -> Inbox<()> {
    let (tx, rx) = bounded(1);
    stop.on_request(move || {
        let _ = tx.send(());
    });
    rx
}

/// Connects, follows the stream until it ends, backs off, and again, until asked to stop. A fault of this camera
/// never leaves this function.
fn run(mut camera: Camera) {
    let mut random = Random::from_system();
    loop {
        let ending = catch_unwind(AssertUnwindSafe(|| session::run_once(&mut camera)));
        let fault = match ending {
            Ok(Ending::Stopped) => break,
            Ok(Ending::Fault(fault)) => fault,
            Err(_) => camera.recover(),
        };
        let wait = camera.backoff.failed(fault.class, random.unit());
        camera.note_fault(&fault, wait);
        if camera.pause(wait) {
            break;
        }
        camera.counters.reconnects.one();
    }
    camera.analyst.close(EndedBy::Restart);
    camera.report.set(CameraState::Stopped, Some("the daemon stops".to_owned()));
}

impl Camera {
    /// After a panic (a defect; the hook has logged where): a new scene, and the stream from its beginning.
    fn recover(&mut self) -> Fault {
        match Analyst::new(&self.config, &self.deps, Arc::clone(&self.counters)) {
            Ok(fresh) => {
                let mut broken = std::mem::replace(&mut self.analyst, fresh);
                self.analyst.take_over(&mut broken);
            }
            Err(error) => log::error!(camera = self.config.id.as_str(); "cannot rebuild the scene: {error}"),
        }
        Fault::new(
            FaultClass::Read,
            "an internal error ended the camera's work",
            "please report the line before",
        )
    }

    fn note_fault(&mut self, fault: &Fault, wait: Duration) {
        let id = self.config.id.as_str();
        let (counter, state) = if fault.is_configuration() {
            (&self.counters.configuration_faults, CameraState::Misconfigured)
        } else {
            (&self.counters.link_faults, CameraState::Lost)
        };
        counter.one();
        if self.report.set(state, Some(fault.to_string())) {
            log::warn!(camera = id; "{fault}; next attempt in {:.1} s", wait.as_secs_f64());
        }
        self.analyst.lost(vedette_analysis::Lost::NoFrames);
    }

    /// Waits while the scene still ticks (its incidents end 10 s after the stream); true when asked to stop.
    fn pause(&mut self, wait: Duration) -> bool {
        let over = crossbeam_channel::after(wait);
        loop {
            select! {
                recv(self.stop) -> _ => return true,
                recv(over) -> _ => return false,
                recv(self.ticks) -> _ => self.tick(),
                // An inference that was under way when the stream ended.
                recv(self.analyst.replies()) -> reply => if let Ok(reply) = reply { self.analyst.on_reply(reply) },
            }
        }
    }

    fn tick(&mut self) {
        self.analyst.tick();
        self.report.refresh();
        if !self.report.is_live() {
            self.counters.note_idle();
        }
    }
}
