//! Turns what the appliance says into bytes and topics; the only place that does.
//!
//! Owns: the dialects (wire schemas) and the list of them. Does not know: connections, queues, files. A dialect is
//! one file with one `impl Dialect` and one entry in [`DIALECTS`].

pub mod vedette;

use std::sync::{PoisonError, RwLock};

use uuid::Uuid;
use vedette_core::{Event, Name};

pub use vedette::{
    CameraStats, CameraStatus, ModelStats, NodeStatus, ProviderShare, ShareStats, SinkStats, StateUpdate,
    Stats,
};

/// Every dialect there is; brokers name them in `dialects = […]`.
pub const DIALECTS: &[&dyn Dialect] = &[&vedette::Vedette];

/// Which model an event rests on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ModelStamp {
    /// Its manifest's name.
    pub name: String,
    /// Of its weight file, hexadecimal; events carry the first 8 digits.
    #[serde(serialize_with = "vedette::short_hash")]
    pub sha256: String,
    /// The execution provider that runs most of it.
    pub provider: String,
}

/// What the daemon adds to every event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// This appliance.
    pub node: Name,
    /// The store that numbers events; changes only with a new store. [`crate::outbox::Outbox`] fills it in.
    pub epoch: Uuid,
    /// SHA-256 of the configuration, hexadecimal; events carry the first 8 digits.
    pub config: String,
    /// The model in use.
    pub model: ModelStamp,
}

/// One message of one dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Below `<prefix>/<node>`, without a leading slash.
    pub topic: String,
    /// What is sent, byte for byte.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it as the topic's latest value.
    pub retained: bool,
}

/// What is true at the moment, as opposed to what happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// Of the node.
    Node(NodeStatus),
    /// Of one camera.
    Camera(CameraStatus),
    /// Of one rule.
    State(StateUpdate),
    /// The counters; never retained.
    Stats(Stats),
}

/// A wire schema: which messages tell what, where, and in which bytes. Pure: the same arguments give the same bytes.
pub trait Dialect: Send + Sync {
    /// As in `dialects = […]`.
    fn name(&self) -> &'static str;
    /// The message of an event; none where this dialect has no words for it. `latency_ms` is from capture to stored.
    fn event(&self, stamp: &Stamp, seq: u64, latency_ms: Option<u64>, event: &Event) -> Option<Message>;
    /// The message of an update; none where this dialect has no words for it.
    fn update(&self, update: &Update) -> Option<Message>;
}

impl std::fmt::Debug for dyn Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Finds a dialect by its name.
pub fn dialect(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|d| d.name() == name)
}

/// The whole topic of a message: `<prefix>/<node>/<below>`.
pub fn topic(prefix: &str, node: &Name, below: &str) -> String {
    format!("{prefix}/{node}/{below}")
}

/// Freezes events: once [`Encoder::freeze`] has answered, the bytes of a sequence number never change, whatever is
/// reloaded later. All dialects are frozen at once, so that a store needs no knowledge of the brokers behind it and
/// a broker that is added later can still read what it finds.
#[derive(Debug)]
pub struct Encoder {
    stamp: RwLock<Stamp>,
}

impl Encoder {
    /// An encoder that stamps events with `stamp`, but for the epoch.
    pub fn new(stamp: Stamp) -> Self {
        Self { stamp: RwLock::new(stamp) }
    }

    /// Another configuration or model from here on.
    pub fn restamp(&self, stamp: Stamp) {
        *self.stamp.write().unwrap_or_else(PoisonError::into_inner) = stamp;
    }

    /// The messages of an event, one for each dialect that has words for it, by the dialect's name.
    pub fn freeze(
        &self,
        epoch: Uuid,
        seq: u64,
        latency_ms: Option<u64>,
        event: &Event,
    ) -> Vec<(&'static str, Message)> {
        let mut stamp = self.stamp.read().unwrap_or_else(PoisonError::into_inner).clone();
        stamp.epoch = epoch;
        let message = |d: &&dyn Dialect| Some((d.name(), d.event(&stamp, seq, latency_ms, event)?));
        DIALECTS.iter().filter_map(message).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_are_found_by_name_and_names_are_unique() {
        for (at, one) in DIALECTS.iter().enumerate() {
            assert_eq!(dialect(one.name()).map(Dialect::name), Some(one.name()));
            assert!(DIALECTS[..at].iter().all(|other| other.name() != one.name()), "{}", one.name());
        }
        assert!(dialect("morse").is_none());
    }
}
