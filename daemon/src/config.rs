//! The configuration: files and environment in, one checked [`Config`] out, or everything that is wrong at once.
//!
//! Owns: layers and their order (DESIGN 6), [`Config`] and what it is made of. Does not know: who runs by it. `run`,
//! `check`, reload, `demo` and `replay` all load through here. A refused configuration is [`Diagnostics`]; the caller
//! prints them and exits with 78.

mod check;
mod diagnostic;
mod environment;
mod layer;
mod load;
mod raw;
mod schema;
mod strict;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vedette_analysis::gate::Mode;
use vedette_analysis::rules::RuleSetup;
use vedette_core::{CameraId, Class, Name, Polygon, Polyline, Secret, Severity, Span};
use vedette_ingest::{DecoderChoice, LoopFilter, Transport, Trust};

pub use self::diagnostic::{Diagnostic, Diagnostics, Level, Snippet};
pub use self::load::{from_text, load};
pub use self::raw::MqttVersion;
pub use self::schema::json_schema;

/// The [`Broker::url`] of the broker inside the daemon.
pub const EMBEDDED: &str = "embedded";

/// The exit code of a refused configuration (`EX_CONFIG` of sysexits; systemd does not restart on it).
pub const EXIT_CONFIG: u8 = 78;

/// Where the configuration comes from. All of it is a parameter, so that tests need no process state.
#[derive(Debug, Clone)]
pub struct Options {
    /// Holds `vedette.toml` and `conf.d/*.toml`; relative paths in them begin here. Default `/etc/vedette`.
    pub config_dir: PathBuf,
    /// Its `conf.d/*.toml` is laid over the files of `config_dir`. Default: none.
    pub state_dir: Option<PathBuf>,
    /// Name and value of variables; only `VEDETTE_SECTION__KEY` are looked at. Default: none.
    pub environment: Vec<(String, String)>,
    /// Becomes the node's id where none is configured.
    pub host_name: String,
    /// `$CREDENTIALS_DIRECTORY`: its `vedette.secrets` wins over `secrets_file`. Default: none.
    pub credentials_dir: Option<PathBuf>,
    /// Wire schemas that brokers may name. Default: all of [`crate::wire::DIALECTS`].
    pub dialects: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config_dir: PathBuf::from("/etc/vedette"),
            state_dir: None,
            environment: Vec::new(),
            host_name: String::new(),
            credentials_dir: None,
            dialects: crate::wire::DIALECTS.iter().map(|kind| kind.name.to_owned()).collect(),
        }
    }
}

impl Options {
    /// Of this process: `--config` and `--state` where given, else `/etc/vedette` and `$STATE_DIRECTORY` or
    /// `./vedette-state`; environment, credentials and host name as they are.
    pub fn of_process(config_dir: Option<PathBuf>, state_dir: Option<PathBuf>) -> Self {
        let defaults = Self::default();
        // systemd gives several folders with colons between them.
        let folder = |name: &str| std::env::split_paths(&std::env::var_os(name)?).next();
        let state_dir = state_dir.or_else(|| folder("STATE_DIRECTORY"));
        let text = |text: std::ffi::OsString| text.into_string().ok();
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            config_dir: config_dir.unwrap_or(defaults.config_dir),
            state_dir: Some(state_dir.unwrap_or_else(|| PathBuf::from("vedette-state"))),
            environment: std::env::vars_os().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect(),
            host_name: host_name.trim().to_owned(),
            credentials_dir: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            dialects: defaults.dialects,
        }
    }
}

/// What the daemon runs by. Checked: every reference in it holds.
#[derive(Debug, Clone)]
pub struct Config {
    /// This appliance.
    pub node: Node,
    /// Where and how models run.
    pub inference: Inference,
    /// How much is kept of what is not delivered.
    pub outbox: Outbox,
    /// Where events go.
    pub brokers: BTreeMap<Name, Broker>,
    /// Where events are posted to. No name is a broker's.
    pub webhooks: BTreeMap<Name, Webhook>,
    /// How much evidence is kept, and how long.
    pub evidence: Evidence,
    /// Cameras.
    pub cameras: BTreeMap<CameraId, Arc<Camera>>,
    /// The first 8 hexadecimal digits of the SHA-256 over the merged configuration without logins: an event's
    /// `config`.
    pub hash: String,
    /// What is odd about it, but no reason to refuse it.
    pub warnings: Diagnostics,
    sources: layer::Sources,
}

impl Config {
    /// Whether every class that a rule names is one that the model has; located as all diagnostics are. Apart from
    /// [`load()`], since labels are known only once the model's manifest was read.
    pub fn check_labels(&self, labels: &[Class]) -> Diagnostics {
        load::check_labels(self, labels)
    }
}

/// This appliance.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name: a topic level.
    pub id: Name,
    /// Whether events are signed. Default false.
    pub sign: bool,
    /// Of schedules.
    pub time_zone: jiff::tz::TimeZone,
    /// Its IANA name.
    pub time_zone_name: String,
}

/// Where and how models run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inference {
    /// `tensorrt`, `cuda`, `xnnpack`, `openvino`, `cpu`, in order of wish; not empty.
    pub providers: Vec<String>,
    /// Threads of one inference, 1..=64. Default 1.
    pub threads: usize,
    /// Refuse to start where the first provider cannot run. Default false.
    pub strict: bool,
    /// ONNX Runtime's library. Default: searched.
    pub library: Option<PathBuf>,
    /// The detector's manifest. Default `nanodet-g-416`.
    pub model: String,
    /// How TensorRT runs models.
    pub tensorrt: TensorRt,
}

/// How much is kept of what is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbox {
    /// Events for each broker or webhook, 1000..=10000000. Default 100,000, ten days of eight busy cameras.
    pub max_events: usize,
    /// Of the file, in MiB, 16..=65536. Default 256.
    pub max_mib: u32,
}

/// How TensorRT runs models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRt {
    /// May compute in 16-bit floats. Default true.
    pub fp16: bool,
    /// May compute in int8. Default true.
    pub int8: bool,
    /// Keep built engines in the state folder. Default true.
    pub cache: bool,
    /// Scratch memory of a build, in MiB, 1..=65536. Default: what TensorRT takes.
    pub workspace_mib: Option<usize>,
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its name.
    pub id: Name,
    /// [`EMBEDDED`], or an `mqtt`, `mqtts`, `ws` or `wss` URL without login.
    pub url: String,
    /// Where the embedded broker listens; with `user` and `password` where that is not a loopback address. Default: the
    /// host's choice on 127.0.0.1.
    pub listen: Option<std::net::SocketAddr>,
    /// Wire schemas; not empty. Default `vedette`.
    pub dialects: Vec<String>,
    /// First levels of every topic. Default `vedette`.
    pub prefix: String,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Certificates to trust, PEM; only with `mqtts` and `wss`. Default: the system's.
    pub ca: Option<PathBuf>,
    /// The daemon's own certificate, PEM; given exactly when `client_key` is.
    pub client_certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub client_key: Option<PathBuf>,
    /// Default `vedette-<node>`.
    pub client_id: String,
    /// 5 s to 18 h. Default 30 s.
    pub keep_alive: Span,
    /// Default: 5, or 3.1.1 where the broker does not know that; the embedded broker and the dialect `sparkplug`: 3.1.1.
    pub version: Option<MqttVersion>,
    /// Whether events are sent at QoS 1, as against 0. Default true.
    pub acknowledged: bool,
    /// Events a second at most, 1..=10000. Default 200.
    pub replay_per_second: u32,
    /// In which order what waits is sent. Default: as it was produced.
    pub replay: crate::sinks::Replay,
    /// How long an event is of use. Default: for ever.
    pub expiry: Option<Span>,
    /// The same for single kinds of events. Default: none.
    pub expiry_by_kind: BTreeMap<String, Span>,
    /// Verbs of [`crate::commands`] that its clients may ask for. Default: none.
    pub commands: Vec<String>,
    /// Which events it gets. Default: all.
    pub filter: crate::wire::Interest,
    /// Of its dialects.
    pub settings: crate::wire::Settings,
}

/// Where events are posted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name.
    pub id: Name,
    /// An `https` URL without login; its path may be secret.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    /// Certificates to trust, PEM. Default: the system's.
    pub ca: Option<PathBuf>,
    /// In which order what waits is sent. Default: as it was produced.
    pub replay: crate::sinks::Replay,
    /// Which events it gets. Default: all.
    pub filter: crate::wire::Interest,
}

/// One camera.
#[derive(Debug, Clone)]
pub struct Camera {
    /// Its name: a topic level.
    pub id: CameraId,
    /// An `rtsp` or `rtsps` URL without login.
    pub url: String,
    /// Likewise; of the stream that evidence is of. Default: `url`.
    pub main_url: Option<String>,
    /// Likewise; of a small stream that shows whether something moves where `url` does not. Default: none.
    pub gate_url: Option<String>,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// How RTP comes. Default: TCP, and UDP where that is refused.
    pub transport: Transport,
    /// Which certificate of an `rtsps` camera is good. Default: what the system trusts.
    pub trust: Trust,
    /// Analysed frames per second, 0.2..=30. Default 5.
    pub fps: f32,
    /// Whether it rests while nothing moves. Default adaptive.
    pub mode: Mode,
    /// Without motion for so long it rests, 1 s..=1 h. Default 10 s.
    pub quiet_after: Duration,
    /// How far behind a catch-up may be, 1..=10 s. Default 4 s.
    pub catch_up_max: Duration,
    /// The receive description. Default: chosen by URL and codec.
    pub pipeline: Option<String>,
    /// What decodes. Default `auto`.
    pub decoder: DecoderChoice,
    /// Of the decoder `libav`. Default: skipped.
    pub loop_filter: LoopFilter,
    /// Black before anything else sees the picture.
    pub masks: BTreeMap<Name, Polygon>,
    /// The same on the main stream; not empty where `masks` is not and there is a `main_url`.
    pub main_masks: BTreeMap<Name, Polygon>,
    /// The same on the stream of `gate_url`; not empty where `masks` is not and there is one.
    pub gate_masks: BTreeMap<Name, Polygon>,
    /// Areas that rules name.
    pub zones: BTreeMap<Name, Polygon>,
    /// Lines that rules name.
    pub lines: BTreeMap<Name, Polyline>,
    /// Behaviours to report; the zones and lines that they name are defined.
    pub rules: BTreeMap<Name, RuleSetup>,
    /// What is kept of its incidents.
    pub evidence: CameraEvidence,
}

impl Camera {
    /// The main stream, where it is worth receiving.
    pub fn evidence_url(&self) -> Option<&str> {
        self.main_url.as_deref().filter(|_| self.evidence.snapshot || self.evidence.clip)
    }
}

/// How much evidence is kept, of all cameras together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Deleted after so many days, 1..=3650. Default 14.
    pub days: u32,
    /// All of it. Default 10 GiB.
    pub max_bytes: u64,
    /// Left free on the disk. Default 1 GiB.
    pub min_free_bytes: u64,
    /// The part of `max_bytes` that one camera may fill, 0.01..=1. Default 0.5.
    pub camera_share: f32,
}

/// What is kept of a camera's incidents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CameraEvidence {
    /// A picture of each. Default false.
    pub snapshot: bool,
    /// A clip of each. Default false.
    pub clip: bool,
    /// How long before the event a clip begins, 0..=30 s. Default 5 s.
    pub pre: Span,
    /// How long behind the event it ends, 0..=5 min. Default 10 s.
    pub post: Span,
    /// Whether the object's box is drawn into the picture. Default true.
    pub draw_box: bool,
    /// The least severity with evidence. Default `review`.
    pub severity: Severity,
    /// Of a camera with masks.
    pub mask_clips: MaskClips,
}

/// What becomes of the clips of a camera with masks: what it sent has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaskClips {
    /// No clip; the event says why.
    #[default]
    Withhold,
    /// Decoded, masked and coded anew, one at a time, at a tenth of a core: it comes minutes later.
    Reencode,
}
