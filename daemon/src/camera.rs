//! One camera: its thread, from packets to events.
//!
//! Owns: the thread `cam-<id>`, supervision and back-off, what is decoded and analysed (`adaptive`, `cursor`), and the
//! camera's status. Does not know: GStreamer elements, sessions, topics, bytes. `run` supervises; `session::run_once` is straight-line
//! and the one function to read.

pub(crate) mod adaptive;
mod analyst;
mod clock;
pub(crate) mod cursor;
mod gate_stream;
mod gop;
mod report;
mod sampler;
mod session;
mod wakes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, bounded, select, tick};
use jiff::tz::TimeZone;
use vedette_analysis::SceneConfig;
use vedette_core::{Clock, EndedBy, Shutdown};
use vedette_ingest::{Backoff, Descriptions, Fault, Masks, SourceConfig, Transport, Trust};

use crate::arming::Arming;
use crate::config;
use crate::counters::CameraCounters;
use crate::evidence::{Evidence, MainStream, MainStreamDeps, Recorder};
use crate::infer::Inference;
use crate::outbox::Outbox;
use crate::random::Random;
use crate::sinks::Latest;

use adaptive::Adaptive;
use analyst::Analyst;
use gate_stream::{GateStream, GateView};
use report::Report;
pub use report::{CameraState, Snapshot};
use session::Ending;
pub(crate) use session::{KEYFRAME_WITHIN, decoder_config, source};
pub use wakes::Wakes;

/// What a camera's scene is built of, live and in replay.
pub(crate) fn scene_config(config: &config::Camera, time_zone: &TimeZone) -> SceneConfig {
    SceneConfig {
        camera: config.id.clone(),
        zones: config.zones.clone(),
        lines: config.lines.clone(),
        rules: config.rules.clone(),
        time_zone: time_zone.clone(),
    }
}

/// How often a camera's thread looks up without being woken: ticks of the scene, watchdogs, status.
const TICK: Duration = Duration::from_secs(1);

/// Between a panic and the next attempt.
const PANIC_PAUSE: Duration = Duration::from_secs(5);

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
    /// Where pictures and clips go.
    pub evidence: Evidence,
    /// Where retained topics go.
    pub latest: Arc<Latest>,
    /// Rules that were armed or disarmed by command.
    pub arming: Arc<Arming>,
    /// Cameras that somebody asked to stay awake.
    pub wakes: Arc<Wakes>,
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
    ended_by: Arc<Mutex<EndedBy>>,
    stop: Shutdown,
    main: Option<MainStream>,
    gate: Option<GateStream>,
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
    let ended_by = Arc::new(Mutex::new(EndedBy::Restart));
    let recorder = deps.evidence.recorder(&config, &counters);
    let main = match config.evidence_url() {
        Some(url) => Some(start_main(url, &config, &deps, &recorder)?),
        None => None,
    };
    let analyst = Analyst::new(&config, &deps, Arc::clone(&counters), Arc::clone(&recorder))?;
    let (gate, gate_view) = match &config.gate_url {
        Some(url) => {
            GateStream::start(url, &config, &deps).map(|(stream, view)| (Some(stream), Some(view)))?
        }
        None => (None, None),
    };
    let camera = Camera {
        source: source(&config),
        config: Arc::clone(&config),
        deps,
        counters: Arc::clone(&counters),
        report: Arc::clone(&report),
        recorder,
        analyst,
        adaptive: Adaptive::new(&config, config.mode, Arc::clone(&counters)),
        gate_view,
        masks: Masks::new(config.masks.values().cloned().collect()),
        backoff: Backoff::default(),
        ended_by: Arc::clone(&ended_by),
        stop: inbox_of(&stop),
        ticks: tick(TICK),
    };
    let name = format!("cam-{}", config.id);
    let thread = std::thread::Builder::new().name(name).spawn(move || run(camera))?;
    Ok(RunningCamera { config, counters, report, ended_by, stop, main, gate, thread })
}

/// The stream that evidence is of.
fn start_main(
    url: &str,
    config: &config::Camera,
    deps: &CameraDeps,
    recorder: &Arc<Recorder>,
) -> Result<MainStream, StartError> {
    let source = vedette_ingest::SourceConfig { url: url.to_owned(), ..session::source(config) };
    let deps = MainStreamDeps {
        clock: Arc::clone(&deps.clock),
        descriptions: Arc::clone(&deps.descriptions),
        wall_ok: Arc::clone(&deps.wall_ok),
    };
    Ok(MainStream::start(source, deps, Arc::clone(recorder))?)
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

    /// Asks it to stop and says what ends its open incidents; [`RunningCamera::join`] waits for it.
    pub fn request_stop(&self, by: EndedBy) {
        *self.ended_by.lock().unwrap_or_else(PoisonError::into_inner) = by;
        self.stop.request();
        self.main.iter().for_each(MainStream::request_stop);
        self.gate.iter().for_each(GateStream::request_stop);
    }

    /// Waits until the thread has ended its incidents and closed its stream; false when `deadline` passed before,
    /// the thread is then left behind.
    pub fn join(self, clock: &dyn Clock, deadline: Duration) -> bool {
        let patience = Shutdown::new();
        let began = clock.now();
        let running = || {
            !self.thread.is_finished()
                || self.main.as_ref().is_some_and(|m| !m.is_finished())
                || self.gate.as_ref().is_some_and(|g| !g.is_finished())
        };
        while running() {
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
    source: SourceConfig,
    deps: CameraDeps,
    counters: Arc<CameraCounters>,
    report: Arc<Report>,
    recorder: Arc<Recorder>,
    analyst: Analyst,
    adaptive: Adaptive,
    gate_view: Option<GateView>,
    masks: Masks,
    backoff: Backoff,
    ended_by: Arc<Mutex<EndedBy>>,
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

/// Connects, follows the stream until it ends, backs off, and again, until asked to stop. Neither a fault nor a
/// panic of this camera ever leaves this function.
fn run(mut camera: Camera) {
    let mut random = Random::from_system();
    loop {
        let turn = catch_unwind(AssertUnwindSafe(|| match session::run_once(&mut camera) {
            Ending::Stopped => true,
            Ending::Fault(fault) => camera.back_off(&fault, &mut random),
        }));
        if turn.unwrap_or_else(|_| camera.recover()) {
            break;
        }
        camera.counters.reconnects.one();
    }
    camera.end_incidents();
}

impl Camera {
    /// The daemon stops, or its configuration has changed. Once ended, there is nothing to end a second time.
    fn end_incidents(&mut self) {
        let by = *self.ended_by.lock().unwrap_or_else(PoisonError::into_inner);
        self.analyst.close(by);
        // The next node speaks for the camera after a change of the configuration.
        if by == EndedBy::Restart {
            self.report.set(CameraState::Stopped, Some("the daemon stops".to_owned()));
        }
        self.report.mute();
    }

    /// True when asked to stop meanwhile.
    fn back_off(&mut self, fault: &Fault, random: &mut Random) -> bool {
        let wait = self.backoff.failed(fault.class, random.unit());
        self.note_fault(fault, wait);
        self.pause(wait)
    }

    /// After a panic (a defect; the hook has logged where): its incidents end, and the stream begins anew with a new
    /// scene. True when asked to stop.
    fn recover(&mut self) -> bool {
        let (counters, recorder) = (Arc::clone(&self.counters), Arc::clone(&self.recorder));
        match Analyst::new(&self.config, &self.deps, counters, recorder) {
            Ok(fresh) => {
                self.adaptive = Adaptive::new(&self.config, self.config.mode, Arc::clone(&self.counters));
                let mut broken = std::mem::replace(&mut self.analyst, fresh);
                // What broke once may break again.
                if catch_unwind(AssertUnwindSafe(|| broken.close(EndedBy::Restart))).is_err() {
                    log::error!(camera = self.config.id.as_str(); "open incidents could not be ended");
                }
                self.analyst.take_over(broken);
            }
            Err(error) => log::error!(camera = self.config.id.as_str(); "cannot rebuild the scene: {error}"),
        }
        let why = "an internal error ended the camera's work; please report the line before".to_owned();
        self.report.set(CameraState::Lost, Some(why));
        self.stop.recv_timeout(PANIC_PAUSE).is_ok()
    }

    fn note_fault(&mut self, fault: &Fault, wait: Duration) {
        let id = self.config.id.as_str();
        let (counter, state) = if fault.is_configuration() {
            (&self.counters.configuration_faults, CameraState::Misconfigured)
        } else {
            (&self.counters.link_faults, CameraState::Lost)
        };
        counter.one();
        self.analyst.lost(vedette_analysis::Lost::NoFrames);
        if self.report.set(state, Some(fault.to_string())) {
            log::warn!(camera = id; "{fault}; next attempt in {:.1} s", wait.as_secs_f64());
        }
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
                recv(self.analyst.replies()) -> reply => if let Ok(reply) = reply { self.on_reply(reply) },
            }
        }
    }

    fn on_reply(&mut self, reply: crate::infer::Reply) {
        if let Some(at) = self.analyst.on_reply(reply) {
            self.adaptive.looked(at, self.analyst.scene());
        }
    }

    /// What is to know of a camera that is live.
    fn remarks(&self) -> Option<String> {
        let insecure = self.config.trust == Trust::Insecure;
        let fallen_back = self.source.route.worked() == Some(Transport::Udp);
        let all = [
            self.deps.inference.overload(&self.config.id),
            self.analyst.clock_trouble(),
            insecure.then(|| "its certificate is not checked (`tls = \"insecure\"`)".to_owned()),
            fallen_back.then(|| "received over UDP, since TCP is refused".to_owned()),
        ];
        let all: Vec<String> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// What another stream shows of this one, and whether it is needed.
    fn look_beside(&mut self) {
        let Some(view) = &self.gate_view else { return };
        let (standing, moved) = view.take();
        self.adaptive.beside(standing, moved);
        view.ask(self.adaptive.needs_beside(), self.adaptive.parked());
    }

    fn tick(&mut self) {
        self.analyst.tick();
        self.look_beside();
        if let Some(length) = self.deps.wakes.take(&self.config.id) {
            self.adaptive.wake(length);
        }
        if self.report.is_live() {
            self.report.set(CameraState::Live, self.remarks());
        }
        self.report.refresh(self.adaptive.gate());
        // While an inference is under way only its answer counts as progress: a session that hangs is what the
        // watchdog is for. Frames that do not come are this camera's own trouble, not the daemon's.
        if !self.report.is_live() || !self.analyst.is_waiting() {
            self.counters.note_idle();
        }
    }
}
