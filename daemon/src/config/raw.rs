//! The configuration as users write it: one struct per table, every field with its default and its meaning.
//!
//! Owns: keys, their types and their documentation (which becomes `vedette schema`). Does not know: whether values
//! fit together (`check` does). Every field has a default, since each file may hold any part of the whole; what is
//! needed is demanded after merging.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vedette_core::{Name, Point, Severity, Span};
use vedette_ingest::Transport;

use crate::sinks::Replay;

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

/// Where events go.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Broker")]
pub(super) struct RawBroker {
    /// `mqtt://HOST[:1883]`, `mqtts://HOST[:8883]`, `ws://HOST[:80][/mqtt]`, `wss://HOST[:443][/mqtt]`, or `embedded`:
    /// a small broker inside the daemon, 127.0.0.1:1883, for one box. Needed.
    pub(super) url: Option<String>,
    /// `IP:PORT` of the `embedded` broker. One that others reach (`0.0.0.0:1883`) needs `user` and `password`, which it
    /// then asks all clients for. Default: `127.0.0.1:1883`.
    pub(super) listen: Option<String>,
    /// Wire schemas of the messages.
    pub(super) dialects: Vec<String>,
    /// First levels of every topic.
    pub(super) prefix: String,
    /// User name. Its place is `vedette.secrets`.
    pub(super) user: Option<String>,
    /// Password. Its place is `vedette.secrets`.
    #[serde(skip_serializing)]
    pub(super) password: Option<String>,
    /// Certificates to trust (PEM), for `mqtts` and `wss`; relative to the configuration directory, as the next two are.
    /// Default: the system's.
    pub(super) ca: Option<PathBuf>,
    /// The daemon's own certificate (PEM), for brokers that ask for one; with `client_key`.
    pub(super) client_certificate: Option<PathBuf>,
    /// The key of `client_certificate` (PEM).
    pub(super) client_key: Option<PathBuf>,
    /// MQTT client identifier. Default: `vedette-<node>`.
    pub(super) client_id: Option<String>,
    /// Longest silence before the broker is asked whether it is still there; 5 s to 18 h.
    pub(super) keep_alive: Span,
    /// MQTT version. Default: 5, or 3.1.1 where the broker does not know that; the embedded broker speaks 3.1.1, and so
    /// does the dialect `sparkplug` where nothing is said.
    pub(super) version: Option<MqttVersion>,
    /// 1: the broker acknowledges each event, and nothing is lost. 0: an event counts as delivered when it is written.
    #[schemars(range(max = 1))]
    pub(super) qos: u8,
    /// Events a second at most, 1 to 10000, so that what waited does not flood the broker: Mosquitto keeps 1,000
    /// messages for a slow subscriber and drops the rest.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) replay_per_second: u32,
    /// `alarms-first`: what waited goes by severity, and a camera's events are in order only within a severity.
    pub(super) replay: Replay,
    /// How long an event is of use to a subscriber that is away (MQTT 5's message expiry). Default: for ever.
    pub(super) expiry: Option<Span>,
    /// What its clients may ask for on `command/<verb>`, such as `["arm", "status"]`. Default: nothing.
    pub(super) commands: Vec<String>,
    /// Which events it gets: `[broker.NAME.filter]`.
    pub(super) filter: RawFilter,
    /// Home Assistant's discovery: `[broker.NAME.homeassistant]`.
    pub(super) homeassistant: RawHomeAssistant,
    /// Sparkplug B: `[broker.NAME.sparkplug]`.
    pub(super) sparkplug: RawSparkplug,
    /// Frigate's schema: `[broker.NAME.frigate]`.
    pub(super) frigate: RawFrigate,
    /// Messages of your own: `[broker.NAME.custom]`.
    pub(super) custom: RawCustom,
}

/// Where events are posted to: each as JSON, over HTTPS.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Webhook")]
pub(super) struct RawWebhook {
    /// `https://HOST[:443]/PATH`, without a login. Needed.
    pub(super) url: Option<String>,
    /// Sent as `Authorization: Bearer …`. Its place is `vedette.secrets`.
    #[serde(skip_serializing)]
    pub(super) token: Option<String>,
    /// Certificates to trust (PEM); relative to the configuration directory. Default: the system's.
    pub(super) ca: Option<PathBuf>,
    /// `alarms-first`: what waited goes by severity, and a camera's events are in order only within a severity.
    pub(super) replay: Replay,
    /// Which events it gets: `[webhook.NAME.filter]`.
    pub(super) filter: RawFilter,
}

/// Which events a broker or webhook gets; what is not named is not asked for.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Filter")]
pub(super) struct RawFilter {
    /// Of these cameras. Default: of all, and of the node.
    pub(super) cameras: Option<Vec<String>>,
    /// Of these kinds, such as `intrusion`. Default: of all.
    pub(super) kinds: Option<Vec<String>>,
    /// Of these severities. Default: of all.
    pub(super) severities: Option<Vec<Severity>>,
}

/// Home Assistant's discovery.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "HomeAssistant")]
pub(super) struct RawHomeAssistant {
    /// Its discovery prefix.
    pub(super) discovery: String,
}

impl Default for RawHomeAssistant {
    fn default() -> Self {
        Self { discovery: "homeassistant".to_owned() }
    }
}

/// Sparkplug B.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Sparkplug")]
pub(super) struct RawSparkplug {
    /// The group of which this appliance is an edge node.
    pub(super) group: String,
    /// The host that must be online before anything is published. Default: nobody is waited for.
    pub(super) primary_host: Option<String>,
}

impl Default for RawSparkplug {
    fn default() -> Self {
        Self { group: "vedette".to_owned(), primary_host: None }
    }
}

/// Frigate's schema.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Frigate")]
pub(super) struct RawFrigate {
    /// First levels of its topics.
    pub(super) prefix: String,
}

impl Default for RawFrigate {
    fn default() -> Self {
        Self { prefix: "frigate".to_owned() }
    }
}

/// Messages of your own.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Custom")]
pub(super) struct RawCustom {
    /// Template (Jinja) of the whole topic of an event. Needed for the dialect `custom`.
    pub(super) topic: String,
    /// Template of its payload. Default: the event as JSON.
    pub(super) payload: String,
    /// What the payload is, for MQTT 5. Default: `application/json`.
    pub(super) content_type: String,
}

impl Default for RawBroker {
    fn default() -> Self {
        Self {
            url: None,
            listen: None,
            dialects: vec!["vedette".to_owned()],
            prefix: "vedette".to_owned(),
            user: None,
            password: None,
            ca: None,
            client_certificate: None,
            client_key: None,
            client_id: None,
            keep_alive: Span::secs(30),
            version: None,
            qos: 1,
            replay_per_second: 200,
            replay: Replay::InOrder,
            expiry: None,
            commands: Vec::new(),
            filter: RawFilter::default(),
            homeassistant: RawHomeAssistant::default(),
            sparkplug: RawSparkplug::default(),
            frigate: RawFrigate::default(),
            custom: RawCustom::default(),
        }
    }
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
pub enum MqttVersion {
    /// MQTT 5.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
}

impl std::fmt::Display for MqttVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        })
    }
}

/// One camera.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Camera")]
pub(super) struct RawCamera {
    /// `rtsp://HOST[:554]/PATH` or `rtsps://…`: the stream that is analysed. Needed.
    pub(super) url: Option<String>,
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
    /// The receive pipeline: the stem of a file in `pipelines/descriptions`. Default: chosen by URL and codec.
    pub(super) pipeline: Option<String>,
    /// Privacy: polygons that are black before anything else sees the picture; `[x, y]`, 0..1, y down.
    pub(super) mask: BTreeMap<String, Vec<Point>>,
    /// Polygons that rules name: three or more `[x, y]`, 0..1 of the picture, y down.
    pub(super) zone: BTreeMap<String, Vec<Point>>,
    /// Lines that rules name: two or more `[x, y]`. Direction `in` is from the left to the right of someone who
    /// walks from the first to the last point.
    pub(super) line: BTreeMap<String, Vec<Point>>,
    /// Behaviours to report, by name: `[camera.gate.rule.night]`.
    pub(super) rule: BTreeMap<String, RuleTable>,
}

impl Default for RawCamera {
    fn default() -> Self {
        Self {
            url: None,
            user: None,
            password: None,
            transport: Transport::Auto,
            ca: None,
            pin: None,
            tls: Tls::Verify,
            fps: 5.0,
            pipeline: None,
            mask: BTreeMap::new(),
            zone: BTreeMap::new(),
            line: BTreeMap::new(),
            rule: BTreeMap::new(),
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
