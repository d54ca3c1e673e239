//! The configuration as users write it: one struct per table, every field with its default and its meaning.
//!
//! Owns: keys, their types and their documentation (which becomes `vedette schema`). Does not know: whether values
//! fit together (`check` does). Every field has a default, since each file may hold any part of the whole; what is
//! needed is demanded after merging.

pub(super) mod evidence;
mod sinks;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vedette_analysis::gate::Mode;
use vedette_core::{Name, Point, Span};
use vedette_ingest::{LoopFilter, Transport};

pub use sinks::MqttVersion;
pub(super) use sinks::{RawBroker, RawFilter, RawWebhook};

use evidence::{RawCameraEvidence, RawEvidence};

/// A configuration file of Vedette.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "Vedette configuration")]
pub(super) struct Raw {
    /// This appliance.
    pub(super) node: RawNode,
    /// Where and how models run.
    pub(super) inference: RawInference,
    /// How much is kept of what brokers and webhooks have not taken.
    pub(super) outbox: RawOutbox,
    /// Where events go, by name: `[broker.factory]`.
    pub(super) broker: BTreeMap<String, RawBroker>,
    /// Where events are posted to, by name: `[webhook.office]`.
    pub(super) webhook: BTreeMap<String, RawWebhook>,
    /// Pictures and clips of incidents.
    pub(super) evidence: RawEvidence,
    /// Cameras, by name: `[camera.gate]`. The name becomes a topic level.
    pub(super) camera: BTreeMap<String, RawCamera>,
    /// A file of user names and passwords (TOML, mode 0600), relative to the configuration directory. Read where
    /// systemd gives no credential `vedette.secrets`. Default: none.
    pub(super) secrets_file: Option<PathBuf>,
}

/// This appliance.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Node")]
pub(super) struct RawNode {
    /// Its name, a topic level. Default: the host name, lower-cased, other characters to `-`, cut at 32.
    pub(super) id: Option<Name>,
    /// Sign events with a key of this appliance's own, made at the first start: `vedette verify` checks them.
    pub(super) sign: bool,
    /// The IANA time zone of schedules, such as `Europe/Berlin`. Default: the system's.
    pub(super) time_zone: Option<String>,
}

/// Where and how models run.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Inference")]
pub(super) struct RawInference {
    /// Execution providers in order of wish; one that is not there falls to the next.
    pub(super) providers: Vec<Provider>,
    /// Threads of one inference, 1 to 64. More than 1 helps a single camera at the cost of the others.
    #[schemars(range(min = 1, max = 64))]
    pub(super) threads: usize,
    /// Refuse to start (exit 69) where the first provider cannot run the model, instead of falling to the next.
    pub(super) strict: bool,
    /// ONNX Runtime's library. Default: searched in `/usr/lib/vedette`, then on the system.
    pub(super) library: Option<PathBuf>,
    /// The detector: the stem of a file in `models/manifests`.
    pub(super) model: String,
    /// TensorRT, where `providers` begins with it: `[inference.tensorrt]`.
    pub(super) tensorrt: RawTensorRt,
}

impl Default for RawInference {
    fn default() -> Self {
        Self {
            providers: vec![Provider::Cpu],
            threads: 1,
            strict: false,
            library: None,
            model: "nanodet-g-416".to_owned(),
            tensorrt: RawTensorRt::default(),
        }
    }
}

/// How much is kept of what brokers and webhooks have not taken.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Outbox")]
pub(super) struct RawOutbox {
    /// Events kept for each broker or webhook, 1000 to 10000000; beyond, the oldest of the lowest severity is dropped and
    /// counted.
    #[schemars(range(min = 1_000, max = 10_000_000))]
    pub(super) max_events: usize,
    /// Size of the file, for all of them, in MiB, 16 to 65536; beyond, the one for which most waits gives way.
    #[schemars(range(min = 16, max = 65_536))]
    pub(super) max_mib: u32,
}

impl Default for RawOutbox {
    fn default() -> Self {
        Self { max_events: 100_000, max_mib: 256 }
    }
}

/// How TensorRT runs models.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "TensorRt")]
pub(super) struct RawTensorRt {
    /// May compute in 16-bit floats.
    pub(super) fp16: bool,
    /// May compute in int8, which the `s8s8` form needs.
    pub(super) int8: bool,
    /// Keep built engines in the state folder. Without it every start builds them anew, for minutes.
    pub(super) cache: bool,
    /// Scratch memory of a build, in MiB, 1 to 65536. Default: what TensorRT takes, all of the device's.
    #[schemars(range(min = 1, max = 65536))]
    pub(super) workspace_mib: Option<usize>,
}

impl Default for RawTensorRt {
    fn default() -> Self {
        Self { fp16: true, int8: true, cache: true, workspace_mib: None }
    }
}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Provider {
    /// NVIDIA TensorRT.
    Tensorrt,
    /// NVIDIA CUDA.
    Cuda,
    /// XNNPACK: ARM cores.
    Xnnpack,
    /// Intel OpenVINO.
    Openvino,
    /// ONNX Runtime's own kernels.
    Cpu,
}

impl Provider {
    /// As written.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tensorrt => "tensorrt",
            Self::Cuda => "cuda",
            Self::Xnnpack => "xnnpack",
            Self::Openvino => "openvino",
            Self::Cpu => "cpu",
        }
    }
}

/// One camera.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Camera")]
pub(super) struct RawCamera {
    /// `rtsp://HOST[:554]/PATH` or `rtsps://…`: the stream that is analysed; or `file:///PATH`, `v4l2:///dev/video0`,
    /// `test://`. Needed.
    pub(super) url: Option<String>,
    /// The camera's stream of high resolution: pictures and clips are of this one, with the same login. Received only
    /// where evidence is on, and decoded only for a picture. Default: evidence is of `url`.
    pub(super) main_url: Option<String>,
    /// A small stream of the camera with a keyframe every 1 to 2 s, with the same login. Received only while `url` cannot
    /// show by itself that something moves (constant bit rate and keyframes more than 2 s apart): about one picture a
    /// second of it is decoded, and compared with the one before. Default: such a camera does not rest.
    pub(super) gate_url: Option<String>,
    /// User name. Its place is `vedette.secrets`.
    pub(super) user: Option<String>,
    /// Password. Its place is `vedette.secrets`.
    #[serde(skip_serializing)]
    pub(super) password: Option<String>,
    /// How RTP comes from the camera: `auto` is TCP, and UDP where that is refused.
    pub(super) transport: Transport,
    /// With `rtsps`: certificates to trust (PEM); relative to the configuration directory. Default: the system's.
    pub(super) ca: Option<PathBuf>,
    /// With `rtsps`: the one certificate to trust, as `vedette probe` prints it: `sha256:…`.
    pub(super) pin: Option<String>,
    /// With `rtsps`: `insecure` trusts whoever answers.
    pub(super) tls: Tls,
    /// Frames per second that are analysed, 0.2 to 30.
    #[schemars(range(min = 0.2, max = 30.0))]
    pub(super) fps: f32,
    /// Whether the camera rests while nothing moves, decoding keyframes only: `adaptive` (where the stream lets motion be
    /// seen), `always` (it never rests) or `force` (it rests also where a short movement can be missed).
    pub(super) mode: Mode,
    /// Without motion for so long it rests, 1 s to 1 h.
    pub(super) quiet_after: Span,
    /// A catch-up further behind than this passes over what it must, 1 to 10 s.
    pub(super) catch_up_max: Span,
    /// The receive pipeline: the stem of a file in `pipelines/descriptions`. Default: chosen by URL and codec.
    pub(super) pipeline: Option<String>,
    /// What decodes: `auto` (the first that works: hardware, `libav`, GStreamer's software), `libav`, or the stem of a
    /// file in `pipelines/descriptions`.
    pub(super) decoder: String,
    /// Of the decoder `libav`: `skip` costs a quarter less CPU than `full`, at 43 to 44 dB of difference.
    pub(super) loop_filter: LoopFilter,
    /// Privacy: polygons that are black before anything else sees the picture; `[x, y]`, 0..1, y down.
    pub(super) mask: BTreeMap<String, Vec<Point>>,
    /// The same on the picture of `main_url`, needed with `mask` and `main_url`. Write the same polygons where both
    /// streams show the same; evidence is withheld where those are of another shape.
    pub(super) main_mask: BTreeMap<String, Vec<Point>>,
    /// The same on the picture of `gate_url`, needed with `mask` and `gate_url`.
    pub(super) gate_mask: BTreeMap<String, Vec<Point>>,
    /// Polygons that rules name: three or more `[x, y]`, 0..1 of the picture, y down.
    pub(super) zone: BTreeMap<String, Vec<Point>>,
    /// Lines that rules name: two or more `[x, y]`. Direction `in` is from the left to the right of someone who
    /// walks from the first to the last point.
    pub(super) line: BTreeMap<String, Vec<Point>>,
    /// Behaviours to report, by name: `[camera.gate.rule.night]`.
    pub(super) rule: BTreeMap<String, RuleTable>,
    /// What of `[evidence]` is otherwise here: `[camera.NAME.evidence]`.
    pub(super) evidence: RawCameraEvidence,
}

impl Default for RawCamera {
    fn default() -> Self {
        Self {
            url: None,
            main_url: None,
            gate_url: None,
            user: None,
            password: None,
            transport: Transport::Auto,
            ca: None,
            pin: None,
            tls: Tls::Verify,
            fps: 5.0,
            mode: Mode::Adaptive,
            quiet_after: Span::secs(10),
            catch_up_max: Span::secs(4),
            pipeline: None,
            decoder: "auto".to_owned(),
            loop_filter: LoopFilter::Skip,
            mask: BTreeMap::new(),
            main_mask: BTreeMap::new(),
            gate_mask: BTreeMap::new(),
            zone: BTreeMap::new(),
            line: BTreeMap::new(),
            rule: BTreeMap::new(),
            evidence: RawCameraEvidence::default(),
        }
    }
}

/// Whether a camera's certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tls {
    /// It must be good. The default.
    #[default]
    Verify,
    /// Any is taken: whoever is between can watch.
    Insecure,
}

/// A rule's table, read twice: what all rules have in common, and what its kind has of its own.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct RuleTable(pub(super) toml::Table);

impl JsonSchema for RuleTable {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rule".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        super::schema::rule(generator)
    }
}

/// What a secrets file may hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "Vedette secrets")]
pub(super) struct RawSecrets {
    /// Logins of cameras, by name.
    pub(super) camera: BTreeMap<String, RawLogin>,
    /// Logins of brokers, by name.
    pub(super) broker: BTreeMap<String, RawLogin>,
    /// Tokens of webhooks, by name.
    pub(super) webhook: BTreeMap<String, RawToken>,
}

/// What a webhook asks for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Token")]
pub(super) struct RawToken {
    /// Sent as `Authorization: Bearer …`.
    pub(super) token: Option<String>,
}

/// A login.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Login")]
pub(super) struct RawLogin {
    /// User name.
    pub(super) user: Option<String>,
    /// Password.
    pub(super) password: Option<String>,
}
