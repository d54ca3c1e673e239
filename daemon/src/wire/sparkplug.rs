//! The dialect `sparkplug`: Sparkplug B 3.0, the appliance an edge node, each camera a device.
//!
//! Owns: topics, metrics and their encoding, what commands and the primary host's state mean. Does not know: sequence
//! numbers, births and deaths in their order: a session of its own sends them (`sinks/mqtt/sparkplug.rs`). Frozen is
//! an event's metrics, without sequence number; sent are the same metrics with one, marked historical where they waited.
//!
//! Data messages carry the data type of every metric. The specification would rather not have it there (a SHOULD:
//! `tck-id-payloads-metric-datatype-not-req`); common decoders cannot read a value without.

mod metrics;
mod payload;

use std::sync::Arc;

use jiff::Timestamp;
use prost::Message as _;
use vedette_core::{CameraId, Event, Name};

use super::{Dialect, Manner, Message, NodeStatus, Place, Settings, Stamp, Update};

pub use metrics::{BD_SEQ, REBIRTH, camera, node};
pub use payload::{DataType, Metric, Payload, Value, millis};

/// As in `dialects = […]`.
pub const NAME: &str = "sparkplug";
/// One line for people.
pub const ABOUT: &str = "Sparkplug B 3.0: the appliance is an edge node, each camera a device";

/// The first level of every topic.
const NAMESPACE: &str = "spBv1.0";

/// The dialect, for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparkplug {
    group: String,
    primary_host: Option<String>,
}

/// For one broker.
///
/// # Errors
/// A group or host that cannot be a level of a topic.
pub fn build(settings: &Settings) -> Result<Arc<dyn Dialect>, String> {
    Ok(Arc::new(Sparkplug::new(&settings.sparkplug.group, settings.sparkplug.primary_host.as_deref())?))
}

/// The message types of an edge node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The node is there, with these metrics.
    NodeBirth,
    /// Metrics of the node.
    NodeData,
    /// The node is gone, and all its cameras.
    NodeDeath,
    /// The camera is there, with these metrics.
    DeviceBirth,
    /// Metrics of the camera.
    DeviceData,
    /// The camera is gone.
    DeviceDeath,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::NodeBirth => "NBIRTH",
            Self::NodeData => "NDATA",
            Self::NodeDeath => "NDEATH",
            Self::DeviceBirth => "DBIRTH",
            Self::DeviceData => "DDATA",
            Self::DeviceDeath => "DDEATH",
        }
    }
}

/// What a primary host says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct HostState {
    /// Whether it is there.
    pub online: bool,
    /// When it began to be so: milliseconds since 1970, UTC.
    pub timestamp: u64,
}

impl Sparkplug {
    /// For the edge nodes of `group`; births wait for `primary_host` where one is named.
    ///
    /// # Errors
    /// What cannot be a level of a topic; the reason names the key.
    pub fn new(group: &str, primary_host: Option<&str>) -> Result<Self, String> {
        level("group", group)?;
        if group == "STATE" {
            return Err("group `STATE` is where hosts tell their state: choose another".to_owned());
        }
        primary_host.map_or(Ok(()), |host| level("primary_host", host))?;
        Ok(Self { group: group.to_owned(), primary_host: primary_host.map(str::to_owned) })
    }

    /// The host that births wait for.
    pub fn primary_host(&self) -> Option<&str> {
        self.primary_host.as_deref()
    }

    /// The topic of a message below [`Dialect::root`]: `<verb>/<node>[/<camera>]`.
    pub fn topic(verb: Verb, node: &Name, camera: Option<&CameraId>) -> String {
        let camera = camera.map(|c| format!("/{c}")).unwrap_or_default();
        format!("{}/{node}{camera}", verb.as_str())
    }

    /// Where hosts write to the node.
    pub fn command_topic(&self, node: &Name) -> String {
        format!("{NAMESPACE}/{}/NCMD/{node}", self.group)
    }

    /// Where the primary host tells its state.
    pub fn host_topic(&self) -> Option<String> {
        Some(format!("{NAMESPACE}/STATE/{}", self.primary_host.as_ref()?))
    }
}

fn level(key: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains(['+', '#', '/', '\0']) {
        return Err(format!("{key} `{text}` cannot be a level of a topic: use one word without + # and /"));
    }
    Ok(())
}

/// The metrics of an event that never was: what a birth says before the first one.
pub fn no_event() -> Vec<Metric> {
    metrics::event(None)
}

/// The metric that pairs an NBIRTH with its NDEATH.
pub fn bd_seq(number: u8) -> Metric {
    Metric::whole(BD_SEQ, Some(u64::from(number)))
}

/// The metric that a birth offers for asking for another.
pub fn rebirth() -> Metric {
    Metric::flag(REBIRTH, Some(false))
}

/// The bytes of an NDEATH: the number alone, since nobody knows when it will be published.
pub fn death(number: u8) -> Vec<u8> {
    Payload { timestamp: None, metrics: vec![bd_seq(number)], seq: None }.encode_to_vec()
}

/// Whether an NCMD asks for births. Bytes of strangers: what cannot be read asks for nothing, as do metrics that no
/// birth has.
pub fn asks_for_rebirth(payload: &[u8]) -> bool {
    let asks = |m: &Metric| m.name.as_deref() == Some(REBIRTH) && m.value == Some(Value::Boolean(true));
    Payload::decode(payload).is_ok_and(|payload| payload.metrics.iter().any(asks))
}

/// What a primary host says of itself; none where it cannot be read.
pub fn host_state(payload: &[u8]) -> Option<HostState> {
    serde_json::from_slice(payload).ok()
}

/// A frozen event as it is sent: with number and time, and marked where it is not news any more. None where the bytes
/// are not ours.
pub fn thaw(frozen: &[u8], historical: bool) -> Option<Vec<Metric>> {
    let mut metrics = Payload::decode(frozen).ok()?.metrics;
    if historical {
        metrics.iter_mut().for_each(|metric| metric.is_historical = Some(true));
    }
    Some(metrics)
}

/// Metrics that became so at `time`, but for those whose time is known.
pub fn at(metrics: Vec<Metric>, time: Timestamp) -> Vec<Metric> {
    let timed = |metric: Metric| if metric.timestamp.is_some() { metric } else { metric.at(time) };
    metrics.into_iter().map(timed).collect()
}

impl Dialect for Sparkplug {
    fn name(&self) -> &'static str {
        NAME
    }

    fn root(&self, _at: &Place) -> String {
        format!("{NAMESPACE}/{}", self.group)
    }

    fn event(&self, stamp: &Stamp, seq: u64, latency_ms: Option<u64>, event: &Event) -> Option<Message> {
        let verb = if event.camera.is_some() { Verb::DeviceData } else { Verb::NodeData };
        let facts = metrics::event(Some(metrics::Stamped { stamp, seq, latency_ms, event }));
        let payload = Payload { timestamp: None, metrics: at(facts, event.decided.wall), seq: None };
        let topic = Self::topic(verb, &stamp.node, event.camera.as_ref());
        Some(Message::passing(topic, payload.encode_to_vec()))
    }

    /// Its session makes them: they carry sequence numbers.
    fn update(&self, _at: &Place, _update: &Update) -> Vec<Message> {
        Vec::new()
    }

    fn will(&self, _at: &Place, _offline: &NodeStatus) -> Option<Message> {
        None
    }

    fn own_connection(&self) -> bool {
        true
    }

    fn manner(&self) -> Manner<'_> {
        Manner::Sparkplug(self)
    }

    fn content_type(&self) -> &'static str {
        "application/x-protobuf"
    }

    fn subscriptions(&self, at: &Place) -> Vec<String> {
        std::iter::once(self.command_topic(&at.node)).chain(self.host_topic()).collect()
    }
}

#[cfg(test)]
mod tests;
