//! The tables of brokers and webhooks, and of what they are told.
//!
//! Owns: their keys and documentation. Does not know: the other tables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vedette_core::{Severity, Span};

use crate::sinks::Replay;

/// Where events go.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Broker")]
pub(in crate::config) struct RawBroker {
    /// `mqtt://HOST[:1883]`, `mqtts://HOST[:8883]`, `ws://HOST[:80][/mqtt]`, `wss://HOST[:443][/mqtt]`, or `embedded`:
    /// a small broker inside the daemon, 127.0.0.1:1883, for one box. Needed.
    pub(in crate::config) url: Option<String>,
    /// `IP:PORT` of the `embedded` broker. One that others reach (`0.0.0.0:1883`) needs `user` and `password`, which it
    /// then asks all clients for. Default: `127.0.0.1:1883`.
    pub(in crate::config) listen: Option<String>,
    /// Wire schemas of the messages.
    pub(in crate::config) dialects: Vec<String>,
    /// First levels of every topic.
    pub(in crate::config) prefix: String,
    /// User name. Its place is `vedette.secrets`.
    pub(in crate::config) user: Option<String>,
    /// Password. Its place is `vedette.secrets`.
    #[serde(skip_serializing)]
    pub(in crate::config) password: Option<String>,
    /// Certificates to trust (PEM), for `mqtts` and `wss`; relative to the configuration directory, as the next two are.
    /// Default: the system's.
    pub(in crate::config) ca: Option<PathBuf>,
    /// The daemon's own certificate (PEM), for brokers that ask for one; with `client_key`.
    pub(in crate::config) client_certificate: Option<PathBuf>,
    /// The key of `client_certificate` (PEM).
    pub(in crate::config) client_key: Option<PathBuf>,
    /// MQTT client identifier. Default: `vedette-<node>`.
    pub(in crate::config) client_id: Option<String>,
    /// Longest silence before the broker is asked whether it is still there; 5 s to 18 h.
    pub(in crate::config) keep_alive: Span,
    /// MQTT version. Default: 5, or 3.1.1 where the broker does not know that; the embedded broker speaks 3.1.1, and so
    /// does the dialect `sparkplug` where nothing is said.
    pub(in crate::config) version: Option<MqttVersion>,
    /// 1: the broker acknowledges each event, and nothing is lost. 0: an event counts as delivered when it is written.
    #[schemars(range(max = 1))]
    pub(in crate::config) qos: u8,
    /// Events a second at most, 1 to 10000, so that what waited does not flood the broker: Mosquitto keeps 1,000
    /// messages for a slow subscriber and drops the rest.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) replay_per_second: u32,
    /// `alarms-first`: what waited goes by severity, and a camera's events are in order only within a severity.
    pub(in crate::config) replay: Replay,
    /// How long an event is of use to a subscriber that is away (MQTT 5's message expiry). Default: for ever.
    pub(in crate::config) expiry: Option<Span>,
    /// The same for single kinds of events, such as `{ line_crossing = "10m" }`.
    pub(in crate::config) expiry_by_kind: BTreeMap<String, Span>,
    /// What its clients may ask for on `command/<verb>`, such as `["arm", "status"]`. Default: nothing.
    pub(in crate::config) commands: Vec<String>,
    /// Which events it gets: `[broker.NAME.filter]`.
    pub(in crate::config) filter: RawFilter,
    /// Home Assistant's discovery: `[broker.NAME.homeassistant]`.
    pub(in crate::config) homeassistant: RawHomeAssistant,
    /// Sparkplug B: `[broker.NAME.sparkplug]`.
    pub(in crate::config) sparkplug: RawSparkplug,
    /// Frigate's schema: `[broker.NAME.frigate]`.
    pub(in crate::config) frigate: RawFrigate,
    /// ONVIF: `[broker.NAME.onvif]`.
    pub(in crate::config) onvif: RawOnvif,
    /// Messages of your own: `[broker.NAME.custom]`.
    pub(in crate::config) custom: RawCustom,
}

/// Where events are posted to: each as JSON, over HTTPS.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Webhook")]
pub(in crate::config) struct RawWebhook {
    /// `https://HOST[:443]/PATH`, without a login. Needed.
    pub(in crate::config) url: Option<String>,
    /// Sent as `Authorization: Bearer …`. Its place is `vedette.secrets`.
    #[serde(skip_serializing)]
    pub(in crate::config) token: Option<String>,
    /// Certificates to trust (PEM); relative to the configuration directory. Default: the system's.
    pub(in crate::config) ca: Option<PathBuf>,
    /// `alarms-first`: what waited goes by severity, and a camera's events are in order only within a severity.
    pub(in crate::config) replay: Replay,
    /// Which events it gets: `[webhook.NAME.filter]`.
    pub(in crate::config) filter: RawFilter,
}

/// Which events a broker or webhook gets; what is not named is not asked for.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Filter")]
pub(in crate::config) struct RawFilter {
    /// Of these cameras. Default: of all, and of the node.
    pub(in crate::config) cameras: Option<Vec<String>>,
    /// Of these kinds, such as `intrusion`. Default: of all.
    pub(in crate::config) kinds: Option<Vec<String>>,
    /// Of these severities. Default: of all.
    pub(in crate::config) severities: Option<Vec<Severity>>,
}

/// Home Assistant's discovery.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "HomeAssistant")]
pub(in crate::config) struct RawHomeAssistant {
    /// Its discovery prefix.
    pub(in crate::config) discovery: String,
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
pub(in crate::config) struct RawSparkplug {
    /// The group of which this appliance is an edge node.
    pub(in crate::config) group: String,
    /// The host that must be online before anything is published. Default: nobody is waited for.
    pub(in crate::config) primary_host: Option<String>,
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
pub(in crate::config) struct RawFrigate {
    /// First levels of its topics.
    pub(in crate::config) prefix: String,
}

impl Default for RawFrigate {
    fn default() -> Self {
        Self { prefix: "frigate".to_owned() }
    }
}

/// ONVIF.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Onvif")]
pub(in crate::config) struct RawOnvif {
    /// Whether to tell beside events where every object is (`onvif-mj`), at QoS 0 and kept by nobody.
    pub(in crate::config) metadata: bool,
    /// The time between two such messages of a camera, 100ms to 1h; brokers that want it less often get it as often.
    pub(in crate::config) metadata_every: Span,
}

impl Default for RawOnvif {
    fn default() -> Self {
        Self { metadata: false, metadata_every: Span::secs(1) }
    }
}

/// Messages of your own.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Custom")]
pub(in crate::config) struct RawCustom {
    /// Template (Jinja) of the whole topic of an event. Needed for the dialect `custom`.
    pub(in crate::config) topic: String,
    /// Template of its payload. Default: the event as JSON.
    pub(in crate::config) payload: String,
    /// What the payload is, for MQTT 5. Default: `application/json`.
    pub(in crate::config) content_type: String,
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
            expiry_by_kind: BTreeMap::new(),
            commands: Vec::new(),
            filter: RawFilter::default(),
            homeassistant: RawHomeAssistant::default(),
            sparkplug: RawSparkplug::default(),
            frigate: RawFrigate::default(),
            onvif: RawOnvif::default(),
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
