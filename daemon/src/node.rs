//! The node: everything that runs between start and stop, built from one configuration and stopped in the direction
//! of the data.
//!
//! Owns: the order of building and stopping. Does not know: signals, the command line, systemd. `Node::build` opens
//! what must be there (library, model, store, ports) and starts senders and receivers; it never waits for a camera or
//! a broker. A reload is a stop and a build with the new configuration, between which [`Kept`] waits: no produced
//! event and no retained value is lost by it.

mod duties;
mod error;
mod inventory;
mod kept;
mod translate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use vedette_core::{Clock, EndedBy};
use vedette_ingest::Descriptions;
use vedette_models::{Detector, Manifest, Runtime, Served, Serving};

use crate::arming::Arming;
use crate::camera::{self, CameraDeps, CameraState, RunningCamera};
use crate::config::Config;
use crate::evidence::{self, RunningEvidence};
use crate::infer::{Inference, RunningInference};
use crate::outbox::Outbox;
use crate::share::{Share, onnxruntime_folders};
use crate::signing::Signer;
use crate::sinks::embedded::EmbeddedBroker;
use crate::sinks::{Latest, Sink, SinkDeps};
use crate::time_sync;
use crate::wire::{NodeStatus, Stats};

use duties::Duties;
pub use error::StartError;
pub use kept::Kept;
use translate::{
    detector_options, evidence_deps, model_stats, provider_shares, scenes_every, sink_configs, stamp,
    stats_of,
};

/// The folder of the state in which `model import` puts models.
pub(crate) const OWN_MODELS: &str = "models";

/// Where things are on this host, and the clock.
#[derive(Clone)]
pub struct Host {
    /// Read-only data: descriptions, manifests, weights.
    pub share: Share,
    /// Where state is kept.
    pub state: PathBuf,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
    /// Port of the embedded broker where the configuration names none; 0 picks a free one.
    pub embedded_port: u16,
}

impl Host {
    /// Where manifests are looked for: the user's own models before those that came with the program.
    pub fn models(&self) -> Vec<PathBuf> {
        vec![self.state.join(OWN_MODELS), self.share.manifests()]
    }
}

/// A node at work.
pub struct Node {
    config: Config,
    host: Host,
    cameras: Vec<RunningCamera>,
    evidence: RunningEvidence,
    inference: RunningInference,
    outbox: Arc<dyn Outbox>,
    latest: Arc<Latest>,
    sinks: Vec<Box<dyn Sink>>,
    embedded: Option<EmbeddedBroker>,
    runtime: tokio::runtime::Runtime,
    wall_ok: Arc<AtomicBool>,
    since: jiff::Timestamp,
    model: String,
    serving: Serving,
    served: Served,
    published: (usize, usize),
    signer: Option<Arc<Signer>>,
    arming: Arc<Arming>,
    wakes: Arc<camera::Wakes>,
    duties: Duties,
}

/// Opens the detector that the configuration names, and waits for all that takes minutes: after it, a service starts
/// on what this has built.
///
/// # Errors
/// A missing library, an unknown or damaged model, a provider that `strict` asks for and that is not there.
pub fn open_detector(config: &Config, host: &Host) -> Result<Detector, StartError> {
    open_detector_building(config, host, false)
}

/// As [`open_detector`]; in the `background`, where wished, what takes minutes.
fn open_detector_building(config: &Config, host: &Host, background: bool) -> Result<Detector, StartError> {
    let runtime = Runtime::load(config.inference.library.as_deref(), &runtime_folders())?;
    let manifest = Manifest::load(&host.models(), &config.inference.model)?;
    let mut options = detector_options(config, host, manifest.labels());
    options.tensorrt.background = background;
    Ok(Detector::open(runtime, &manifest, &options)?)
}

/// What [`Node::build`] would refuse of a configuration, as far as it can be told without opening anything: `check`
/// asks it, and a reload before it stops what runs.
///
/// # Errors
/// An unknown model, classes that it does not know, a pipeline that no description has, a key that cannot be used.
pub fn judge(config: &Config, host: &Host) -> Result<(), StartError> {
    let manifest = Manifest::load(&host.models(), &config.inference.model)?;
    let wrong = config.check_labels(manifest.labels());
    if wrong.has_errors() {
        return Err(StartError::Labels(wrong));
    }
    let descriptions = Descriptions::load(&[host.share.descriptions()])?;
    for camera in config.cameras.values() {
        if let Some(name) = &camera.pipeline {
            descriptions.get(name).map_err(|e| StartError::Pipeline(camera.id.clone(), e))?;
        }
        camera.decoder.check(&descriptions).map_err(|fault| StartError::Decoder(camera.id.clone(), fault))?;
    }
    if config.node.sign {
        // A key that cannot be used must not be found out when nothing runs any more.
        Signer::read(&host.state)?;
    }
    Ok(())
}

impl Node {
    /// Opens and starts everything. Receivers start before senders.
    ///
    /// # Errors
    /// The first thing that must be there and is not; nothing is left running then.
    pub fn build(config: Config, host: Host) -> Result<Self, StartError> {
        let mut kept = None;
        let built = Self::rebuild(config, host, &mut kept);
        if let Some(kept) = kept {
            kept.close();
        }
        built
    }

    /// As [`Node::build`], with what another node left behind. On success `kept` is taken.
    ///
    /// # Errors
    /// As [`Node::build`]; `kept` then holds what the next attempt needs.
    pub fn rebuild(config: Config, host: Host, kept: &mut Option<Kept>) -> Result<Self, StartError> {
        vedette_ingest::init()?;
        judge(&config, &host)?;
        let descriptions = Arc::new(Descriptions::load(&[host.share.descriptions()])?);
        let detector = open_detector_building(&config, &host, true)?;
        let (model, serving) = (detector.name().to_owned(), detector.serving());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("sockets")
            .enable_all()
            .build()?;
        let signer = config.node.sign.then(|| Signer::open(&host.state)).transpose()?.map(Arc::new);
        let stamp = stamp(&config, &model, &serving.now(), signer.as_ref());
        match kept {
            Some(kept) => kept.adapt(&config, &host, stamp)?,
            None => *kept = Some(Kept::open(&config, &host, stamp)?),
        }
        // A core each for as many sessions as the machine has, whatever their number: more would only make all late.
        let workers =
            std::thread::available_parallelism().map_or(1, usize::from) / config.inference.threads.max(1);
        let inference = Inference::start(vec![Box::new(detector)], workers, Arc::clone(&host.clock))?;
        let Some(Kept { outbox, latest, embedded, since, .. }) = kept.take() else {
            return Err(StartError::Stopped);
        };
        let arming = Arc::new(Arming::open(&host.state, host.clock.wall()).map_err(state_failed(&host))?);
        let duties = Duties::new(&host).map_err(state_failed(&host))?;
        let evidence = evidence::start(&config.evidence, &evidence_deps(&host, &outbox, &descriptions))?;
        let mut node = Self {
            since,
            config,
            host,
            cameras: Vec::new(),
            evidence,
            inference,
            outbox,
            latest,
            sinks: Vec::new(),
            embedded,
            runtime,
            wall_ok: Arc::new(AtomicBool::new(time_sync::is_synchronised())),
            model,
            served: serving.now(),
            serving,
            published: (0, 0),
            signer,
            arming,
            wakes: Arc::default(),
            duties,
        };
        if let Err(error) = node.start_all(descriptions) {
            *kept = Some(node.stop_keeping(EndedBy::Restart, Duration::from_secs(5)).0);
            return Err(error);
        }
        Ok(node)
    }

    fn start_all(&mut self, descriptions: Arc<Descriptions>) -> Result<(), StartError> {
        self.publish_status("online");
        self.latest.want_scenes(scenes_every(&self.config));
        inventory::publish(&self.config, &self.host.state, self.host.clock.wall(), &self.latest)
            .map_err(state_failed(&self.host))?;
        let commands = self.listen()?;
        let at = self.embedded.as_ref().map(EmbeddedBroker::address);
        for sink in sink_configs(&self.config, at) {
            let deps = SinkDeps {
                node: self.config.node.id.clone(),
                outbox: Arc::clone(&self.outbox),
                clock: Arc::clone(&self.host.clock),
                runtime: self.runtime.handle().clone(),
                latest: Arc::clone(&self.latest),
                state: self.host.state.clone(),
                commands: Some(commands.clone()),
            };
            self.sinks.push(sink?.start(deps)?);
        }
        let deps = CameraDeps {
            clock: Arc::clone(&self.host.clock),
            descriptions,
            inference: self.inference.handle(),
            outbox: Arc::clone(&self.outbox),
            evidence: self.evidence.handle(),
            latest: Arc::clone(&self.latest),
            arming: Arc::clone(&self.arming),
            wakes: Arc::clone(&self.wakes),
            time_zone: self.config.node.time_zone.clone(),
            wall_ok: Arc::clone(&self.wall_ok),
        };
        for (id, camera) in &self.config.cameras {
            let running = camera::start(Arc::clone(camera), deps.clone());
            self.cameras.push(running.map_err(|e| StartError::Camera(id.clone(), e))?);
        }
        Ok(())
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The cameras, in the order of their names.
    pub fn cameras(&self) -> &[RunningCamera] {
        &self.cameras
    }

    /// The port of the embedded broker, where one runs.
    pub fn embedded_port(&self) -> Option<u16> {
        self.embedded.as_ref().map(EmbeddedBroker::port)
    }

    /// One number a camera, each growing while that camera makes progress: the watchdog's food.
    pub fn progress(&self) -> Vec<u64> {
        self.cameras.iter().map(|c| c.counters().progress()).collect()
    }

    fn cameras_up(&self) -> usize {
        self.cameras.iter().filter(|c| c.snapshot().state == CameraState::Live).count()
    }

    /// Once a second: what is retained about the node, what events say of the model, and whether the wall clock is
    /// good.
    pub fn tick(&mut self) {
        self.wall_ok.store(self.duties.time.is_synchronised(self.host.clock.now()), Relaxed);
        let (served, now) = (self.serving.now(), (self.cameras.len(), self.cameras_up()));
        let changed = served != self.served;
        if changed {
            self.outbox.restamp(stamp(&self.config, &self.model, &served, self.signer.as_ref()));
            self.served = served;
        }
        if changed || now != self.published {
            self.publish_status("online");
        }
        self.check_health();
    }

    /// The counters, for the topic `stats`.
    pub fn publish_stats(&self) {
        let cameras: BTreeMap<_, _> =
            self.cameras.iter().map(|c| (c.config().id.clone(), stats_of(c.counters()))).collect();
        let sinks = self.sinks.iter().map(|s| (s.id().clone(), s.status().into())).collect();
        let stats = Stats {
            at: self.host.clock.wall(),
            since: self.since,
            rss_bytes: crate::usage::resident_bytes(),
            cameras,
            models: self.inference.handle().stats().into_iter().map(model_stats).collect(),
            sinks,
        };
        self.latest.send(&stats);
    }

    fn publish_status(&mut self, state: &'static str) {
        let (cameras, cameras_up) = (self.config.cameras.len(), self.cameras_up());
        self.published = (cameras, cameras_up);
        self.latest.put(&NodeStatus {
            state,
            version: env!("CARGO_PKG_VERSION"),
            since: self.since,
            cameras,
            cameras_up,
            providers: provider_shares(&self.model, &self.served),
            public_key: self.signer.as_ref().map(|signer| signer.public()),
        });
    }

    /// The line for `systemctl status`: "3/4 cameras, 12.1 fps, 0 queued, broker up".
    pub fn status_line(&self) -> String {
        if self.cameras.is_empty() {
            return "no camera configured: add one as a file in conf.d and reload".to_owned();
        }
        let fps: f64 = self.cameras.iter().map(|c| c.snapshot().fps).sum();
        let down: Vec<_> =
            self.sinks.iter().filter(|s| !s.status().connected).map(|s| s.id().as_str().to_owned()).collect();
        let queued: usize = self.sinks.iter().map(|s| s.status().queued).sum();
        let brokers = match (self.sinks.len(), down.len()) {
            (0, _) => "no broker".to_owned(),
            (_, 0) => "broker up".to_owned(),
            _ => format!("broker down: {}", down.join(", ")),
        };
        format!(
            "{}/{} cameras, {fps:.1} fps, {queued} queued, {brokers}",
            self.cameras_up(),
            self.cameras.len()
        )
    }

    /// Stops in the direction of the data: cameras (their incidents end), inference, brokers (drained), sockets.
    /// True when all of it ended within `deadline`. Events that a broker did not take in time are logged.
    pub fn stop(self, deadline: Duration) -> bool {
        let (kept, clean) = self.stop_keeping(EndedBy::Restart, deadline);
        kept.close();
        clean
    }

    /// As [`Node::stop`], for a reload: what the next node goes on with is given back. `by` ends open incidents.
    pub fn stop_keeping(mut self, by: EndedBy, deadline: Duration) -> (Kept, bool) {
        let clock = Arc::clone(&self.host.clock);
        let began = clock.now();
        let left = |share: f64| deadline.mul_f64(share).saturating_sub(clock.now().since(began));
        for camera in &self.cameras {
            camera.request_stop(by);
        }
        let mut clean = true;
        for camera in std::mem::take(&mut self.cameras) {
            clean &= camera.join(&*clock, left(0.6));
        }
        // Word of what is complete is still delivered.
        clean &= self.evidence.stop(left(0.75));
        self.close_health(by);
        self.publish_status("stopping");
        // All at once: one that does not answer takes no time from the others.
        for sink in &self.sinks {
            sink.begin_stop(left(0.9));
        }
        for sink in std::mem::take(&mut self.sinks) {
            sink.stop(left(0.9));
        }
        clean &= self.inference.stop(left(1.0).max(Duration::from_millis(500)));
        self.runtime.shutdown_timeout(left(1.0).max(Duration::from_millis(100)));
        let Self { outbox, latest, embedded, since, config, .. } = self;
        (Kept { outbox, latest, embedded, since, config }, clean)
    }
}

fn state_failed(host: &Host) -> impl Fn(std::io::Error) -> StartError {
    let path = host.state.clone();
    move |source| StartError::State { path: path.clone(), source }
}

/// Folders in which ONNX Runtime's library is looked for before the system's.
pub fn runtime_folders() -> Vec<PathBuf> {
    onnxruntime_folders(|name| std::env::var_os(name))
}
