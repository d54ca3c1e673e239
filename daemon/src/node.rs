//! The node: everything that runs between start and stop, built from one configuration and stopped in the direction
//! of the data.
//!
//! Owns: the order of building and stopping. Does not know: signals, the command line, systemd. `Node::build` opens
//! what must be there (library, model, store, ports) and starts senders and receivers; it never waits for a camera or
//! a broker. A reload is a stop and a build with the new configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use vedette_core::{CameraId, Clock};
use vedette_ingest::{DescriptionError, Descriptions, Fault};
use vedette_models::{
    Detector, DetectorOptions, Manifest, ManifestError, ModelError, Provider, Runtime, RuntimeError,
};

use crate::camera::{self, CameraDeps, CameraState, RunningCamera};
use crate::config::{self, Config};
use crate::counters::CameraCounters;
use crate::exit::{Exit, Failure};
use crate::infer::{Inference, RunningInference};
use crate::outbox::{MemoryOutbox, Outbox, OutboxError};
use crate::share::{Share, onnxruntime_folders};
use crate::sinks::embedded::{EmbeddedBroker, EmbeddedError};
use crate::sinks::{Address, Latest, MqttConfig, RunningSink, SinkDeps, SinkError, Version};
use crate::time_sync;
use crate::wire::{CameraStats, ModelStamp, NodeStatus, ProviderShare, Stamp, Stats};

/// Where things are on this host, and the clock.
#[derive(Clone)]
pub struct Host {
    /// Read-only data: descriptions, manifests, weights.
    pub share: Share,
    /// Where state is kept.
    pub state: PathBuf,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
    /// Port of the embedded broker on 127.0.0.1; 0 picks a free one.
    pub embedded_port: u16,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// GStreamer does not start, or a plugin is missing.
    #[error("{0}")]
    Ingest(#[from] Fault),
    /// A pipeline description is wrong.
    #[error("{0}")]
    Description(#[from] DescriptionError),
    /// ONNX Runtime cannot be loaded.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// A manifest or weight file is wrong.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// The session cannot be opened.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The state directory cannot be used.
    #[error("{0}")]
    Outbox(#[from] OutboxError),
    /// The embedded broker's port is taken.
    #[error("{0}")]
    Embedded(#[from] EmbeddedError),
    /// A camera's scene or thread.
    #[error("camera {0}: {1}")]
    Camera(CameraId, camera::StartError),
    /// A broker's settings.
    #[error("{0}")]
    Sink(#[from] SinkError),
    /// Threads or sockets that the system refuses.
    #[error("the system refuses what the daemon needs: {0}")]
    System(#[from] std::io::Error),
    /// The configuration names classes that the model does not know.
    #[error("{0}")]
    Labels(config::Diagnostics),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Labels(wrong) => return wrong.clone().into(),
            StartError::Camera(_, camera::StartError::Scene(_)) | StartError::Sink(_) => Exit::Config,
            StartError::Ingest(_)
            | StartError::Runtime(_)
            | StartError::Model(_)
            | StartError::Manifest(_) => Exit::Unavailable,
            StartError::Embedded(_) => Exit::Unavailable,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// A node at work.
pub struct Node {
    config: Config,
    host: Host,
    cameras: Vec<RunningCamera>,
    inference: RunningInference,
    outbox: Arc<dyn Outbox>,
    latest: Arc<Latest>,
    sinks: Vec<RunningSink>,
    embedded: Option<EmbeddedBroker>,
    runtime: tokio::runtime::Runtime,
    wall_ok: Arc<AtomicBool>,
    since: jiff::Timestamp,
    providers: Vec<ProviderShare>,
    published: (usize, usize),
}

/// Opens the detector that the configuration names.
///
/// # Errors
/// A missing library, an unknown or damaged model, a provider that `strict` asks for and that is not there.
pub fn open_detector(config: &config::Inference, host: &Host) -> Result<Detector, StartError> {
    let runtime = Runtime::load(config.library.as_deref(), &runtime_folders())?;
    let manifest = Manifest::load(&[host.share.manifests()], &config.model)?;
    let providers: Vec<Provider> = config.providers.iter().filter_map(|p| p.parse().ok()).collect();
    let options = DetectorOptions {
        providers,
        threads: config.threads,
        strict: config.strict,
        ..DetectorOptions::default()
    };
    Ok(Detector::open(runtime, &manifest, &options)?)
}

/// What [`Node::build`] would refuse of a configuration, as far as it can be told without opening anything: a reload
/// asks before it stops what runs.
///
/// # Errors
/// An unknown model, or classes that it does not know.
pub fn judge(config: &Config, host: &Host) -> Result<(), StartError> {
    let manifest = Manifest::load(&[host.share.manifests()], &config.inference.model)?;
    let wrong = config.check_labels(manifest.labels());
    if wrong.has_errors() { Err(StartError::Labels(wrong)) } else { Ok(()) }
}

/// Which provider ran which share of the model, for the status topic.
fn provider_shares(detector: &Detector) -> Vec<ProviderShare> {
    let model = detector.name();
    let shares = detector.report().shares.iter();
    shares
        .map(|s| ProviderShare { model: model.to_owned(), provider: s.provider.clone(), share: s.mac_share })
        .collect()
}

impl Node {
    /// Opens and starts everything. Receivers start before senders.
    ///
    /// # Errors
    /// The first thing that must be there and is not; nothing is left running then.
    pub fn build(config: Config, host: Host) -> Result<Self, StartError> {
        vedette_ingest::init()?;
        let descriptions = Arc::new(Descriptions::load(&[host.share.descriptions()])?);
        let detector = open_detector(&config.inference, &host)?;
        let wrong = config.check_labels(detector.labels());
        if wrong.has_errors() {
            return Err(StartError::Labels(wrong));
        }
        let providers = provider_shares(&detector);
        let stamp = stamp(&config, &detector);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("sockets")
            .enable_all()
            .build()?;
        let embedded = match config.brokers.values().any(|b| b.url == config::EMBEDDED) {
            true => Some(EmbeddedBroker::start(host.embedded_port)?),
            false => None,
        };
        let sink_names = config.brokers.keys().cloned().collect::<Vec<_>>();
        let outbox: Arc<dyn Outbox> =
            Arc::new(MemoryOutbox::open(&host.state, stamp, &sink_names, &*host.clock)?);
        let latest = Arc::new(Latest::default());
        let inference = Inference::start(detector, Arc::clone(&host.clock))?;
        let mut node = Self {
            since: host.clock.wall(),
            config,
            host,
            cameras: Vec::new(),
            inference,
            outbox,
            latest,
            sinks: Vec::new(),
            embedded,
            runtime,
            wall_ok: Arc::new(AtomicBool::new(time_sync::is_synchronised())),
            providers,
            published: (0, 0),
        };
        if let Err(error) = node.start_all(descriptions) {
            node.stop(Duration::from_secs(5));
            return Err(error);
        }
        Ok(node)
    }

    fn start_all(&mut self, descriptions: Arc<Descriptions>) -> Result<(), StartError> {
        self.publish_status("online");
        for broker in self.config.brokers.values() {
            let deps = SinkDeps {
                node: self.config.node.id.clone(),
                outbox: Arc::clone(&self.outbox),
                clock: Arc::clone(&self.host.clock),
                runtime: self.runtime.handle().clone(),
                latest: Arc::clone(&self.latest),
            };
            let port = self.embedded.as_ref().map(EmbeddedBroker::port);
            self.sinks.push(mqtt_config(broker, port)?.build(deps)?);
        }
        let deps = CameraDeps {
            clock: Arc::clone(&self.host.clock),
            descriptions,
            inference: self.inference.handle(),
            outbox: Arc::clone(&self.outbox),
            latest: Arc::clone(&self.latest),
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

    /// Once a second: what is retained about the node, and whether the wall clock is good.
    pub fn tick(&mut self) {
        self.wall_ok.store(time_sync::is_synchronised(), Relaxed);
        let now = (self.cameras.len(), self.cameras_up());
        if now != self.published {
            self.publish_status("online");
        }
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
            providers: self.providers.clone(),
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
    /// True when all of it ended within `deadline`.
    pub fn stop(mut self, deadline: Duration) -> bool {
        let clock = Arc::clone(&self.host.clock);
        let began = clock.now();
        let left = |share: f64| deadline.mul_f64(share).saturating_sub(clock.now().since(began));
        for camera in &self.cameras {
            camera.request_stop();
        }
        let mut clean = true;
        for camera in std::mem::take(&mut self.cameras) {
            clean &= camera.join(&*clock, left(0.6));
        }
        self.publish_status("stopping");
        for sink in std::mem::take(&mut self.sinks) {
            clean &= sink.stop(left(0.9));
        }
        self.inference.stop();
        if let Some(embedded) = self.embedded.take() {
            embedded.stop();
        }
        self.outbox.close();
        self.runtime.shutdown_timeout(left(1.0).max(Duration::from_millis(100)));
        clean
    }
}

/// A broker as the worker wants it. `embedded` is the port of the broker in this process.
fn mqtt_config(broker: &config::Broker, embedded: Option<u16>) -> Result<MqttConfig, SinkError> {
    let address = match embedded {
        Some(port) if broker.url == config::EMBEDDED => Address::embedded(port),
        _ => Address::parse(&broker.url)?,
    };
    Ok(MqttConfig {
        id: broker.id.clone(),
        address,
        version: match broker.version {
            config::MqttVersion::V5 => Version::V5,
            config::MqttVersion::V311 => Version::V3,
        },
        prefix: broker.prefix.clone(),
        dialects: broker.dialects.clone(),
        user: broker.user.clone(),
        password: broker.password.clone(),
        ca: broker.ca.clone(),
        client_certificate: broker.client_certificate.clone(),
        client_key: broker.client_key.clone(),
        client_id: broker.client_id.clone(),
        keep_alive: broker.keep_alive,
    })
}

/// Folders in which ONNX Runtime's library is looked for before the system's.
pub fn runtime_folders() -> Vec<PathBuf> {
    onnxruntime_folders(|name| std::env::var_os(name))
}

fn stats_of(counters: &CameraCounters) -> CameraStats {
    let (infer, delay) = counters.means();
    CameraStats {
        received: counters.received.get(),
        received_bytes: counters.received_bytes.get(),
        decoded: counters.decoded.get(),
        analysed: counters.analysed.get(),
        dropped: counters.dropped_busy.get()
            + counters.dropped_failed.get()
            + counters.dropped_receiving.get(),
        reconnects: counters.reconnects.get(),
        events: counters.events.get(),
        events_lost: counters.events_lost.get(),
        infer_ms: infer * 1e3,
        delay_ms: delay * 1e3,
    }
}

fn stamp(config: &Config, detector: &Detector) -> Stamp {
    let provider = detector.report().provider().to_owned();
    let model =
        ModelStamp { name: detector.name().to_owned(), sha256: detector.sha256().to_owned(), provider };
    Stamp { node: config.node.id.clone(), epoch: uuid::Uuid::nil(), config: config.hash.clone(), model }
}
