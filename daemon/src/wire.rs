//! Turns what the appliance says into bytes and topics; the only place that does.
//!
//! Owns: the dialects (wire schemas) and the list of them. Does not know: connections, queues, files. A dialect is
//! one file with one `impl Dialect` and one word in `dialects!` below.

mod settings;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use uuid::Uuid;
use vedette_core::{BBox, CameraId, Class, Event, Evidence, Name, Severity, TrackId};

use crate::signing::Signer;

pub use self::vedette::{
    CameraStats, CameraStatus, ModelStats, NodeStatus, ProviderShare, ShareStats, SinkStats, StateUpdate,
    Stats,
};
pub use settings::{
    CustomSettings, FrigateSettings, HomeAssistantSettings, OnvifSettings, Settings, SparkplugSettings,
};

/// Declares the dialects' modules and the list of them. Each exports `NAME`, `ABOUT` and `build`.
macro_rules! dialects {
    ($($module:ident),+ $(,)?) => {
        $(pub mod $module;)+
        /// Every dialect there is; brokers name them in `dialects = […]`.
        pub const DIALECTS: &[Kind] = &[$(Kind {
            name: $module::NAME,
            about: $module::ABOUT,
            build: $module::build,
        }),+];
    };
}

dialects! { vedette, homeassistant, sparkplug, onvif, frigate, custom, }

/// One entry of [`DIALECTS`].
#[derive(Clone, Copy)]
pub struct Kind {
    /// As in `dialects = […]`.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Makes it for one broker; the reason, with the key that is wrong, where the settings cannot be used.
    pub build: fn(&Settings) -> Result<Arc<dyn Dialect>, String>,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

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
#[derive(Clone, Debug)]
pub struct Stamp {
    /// This appliance.
    pub node: Name,
    /// The store that numbers events; changes only with a new store. [`crate::outbox::Outbox`] fills it in.
    pub epoch: Uuid,
    /// SHA-256 of the configuration, hexadecimal; events carry the first 8 digits.
    pub config: String,
    /// The model in use.
    pub model: ModelStamp,
    /// The dialects that some broker speaks, each [`Dialect::key`] once.
    pub dialects: Vec<Arc<dyn Dialect>>,
    /// Which events each sink gets; one that is not named gets all.
    pub interests: BTreeMap<Name, Interest>,
    /// Signs what the dialect `vedette` freezes; none where messages are not signed.
    pub signer: Option<Arc<Signer>>,
}

impl Stamp {
    /// With the dialect `vedette` alone, for sinks that all get everything.
    pub fn new(node: Name, config: impl Into<String>, model: ModelStamp) -> Self {
        Self {
            node,
            epoch: Uuid::nil(),
            config: config.into(),
            model,
            dialects: vec![Arc::new(vedette::Vedette)],
            interests: BTreeMap::new(),
            signer: None,
        }
    }
}

/// What is produced once and delivered to every sink that takes it.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most are events, and each goes its way in a box of its own")]
pub enum Notice {
    /// Something happened.
    Event(Event),
    /// A picture or clip of it is complete.
    Evidence(Evidence),
}

impl Notice {
    /// The event; none for evidence.
    pub fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Evidence(_) => None,
        }
    }

    /// The camera; none for the health of the node.
    pub fn camera(&self) -> Option<&CameraId> {
        match self {
            Self::Event(event) => event.camera.as_ref(),
            Self::Evidence(evidence) => Some(&evidence.camera),
        }
    }

    /// The kind of the event, or of the event that the evidence is of.
    pub fn event_kind(&self) -> &'static str {
        match self {
            Self::Event(event) => event.kind,
            Self::Evidence(evidence) => evidence.event_kind,
        }
    }

    /// How urgent the incident is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Event(event) => event.severity,
            Self::Evidence(evidence) => evidence.severity,
        }
    }
}

/// Which events a sink gets, and with them the evidence of those; none of a list: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Of these cameras; then none of the node.
    pub cameras: Option<Vec<CameraId>>,
    /// Of these kinds.
    pub kinds: Option<Vec<String>>,
    /// Of these severities.
    pub severities: Option<Vec<Severity>>,
}

impl Interest {
    /// Whether it gets this one.
    pub fn takes(&self, notice: &Notice) -> bool {
        let camera = self.takes_camera(notice.camera());
        camera && self.takes_kind(notice.event_kind()) && self.takes_severity(notice.severity())
    }

    /// Whether it gets events of this camera; none: of the node.
    pub fn takes_camera(&self, camera: Option<&CameraId>) -> bool {
        self.cameras.as_ref().is_none_or(|of| camera.is_some_and(|camera| of.contains(camera)))
    }

    /// Whether it gets events of this kind.
    pub fn takes_kind(&self, kind: &str) -> bool {
        self.kinds.as_ref().is_none_or(|of| of.iter().any(|taken| taken == kind))
    }

    /// Whether it gets events so urgent.
    pub fn takes_severity(&self, severity: Severity) -> bool {
        self.severities.as_ref().is_none_or(|of| of.contains(&severity))
    }
}

/// One message of one dialect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Below the dialect's [`Dialect::root`], without a leading slash.
    pub topic: String,
    /// What is sent, byte for byte.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it as the topic's latest value.
    pub retained: bool,
    /// How long it is of use (MQTT 5's message expiry); none: for ever.
    pub expiry: Option<Duration>,
}

impl Message {
    /// The latest value of a topic.
    pub fn retained(topic: impl Into<String>, payload: Vec<u8>) -> Self {
        Self { topic: topic.into(), payload, retained: true, expiry: None }
    }

    /// Said once, kept by nobody.
    pub fn passing(topic: impl Into<String>, payload: Vec<u8>) -> Self {
        Self { topic: topic.into(), payload, retained: false, expiry: None }
    }
}

/// Where a broker's topics begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// First levels of every topic of our own: the broker's `prefix`.
    pub prefix: String,
    /// This appliance.
    pub node: Name,
}

/// What a camera is set up to report: what consumers that want to be told of entities in advance are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraInventory {
    /// Which camera.
    pub camera: CameraId,
    /// Its rules, in the order of their names.
    pub rules: Vec<RuleInventory>,
    /// Rules that there were and that are gone, since the state folder was new: their entities are to be removed.
    pub gone: Vec<RuleInventory>,
}

/// A rule of a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInventory {
    /// Its name in the configuration.
    pub rule: Name,
    /// Its kind, such as `intrusion`.
    pub kind: String,
    /// How urgent its events are.
    pub severity: Severity,
    /// Where it looks.
    pub zone: Option<Name>,
    /// Likewise.
    pub line: Option<Name>,
    /// Whether its incidents last (`begin` … `end`), as against `once`.
    pub lasting: bool,
    /// Whether its state carries a number.
    pub counts: bool,
    /// The unit of that number, such as `persons`.
    pub unit: Option<String>,
    /// Kinds that it was of under earlier configurations: what only these told is to be forgotten.
    pub former_kinds: Vec<String>,
}

/// Where a camera sees what, in one analysed frame. Told only where somebody asked for it, to those who are there.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneUpdate {
    /// Which camera.
    pub camera: CameraId,
    /// When the frame was captured, UTC.
    pub at: jiff::Timestamp,
    /// Confirmed objects that were detected in it.
    pub objects: Vec<SceneObject>,
}

/// An object of a scene.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneObject {
    /// The same in every frame.
    pub track: TrackId,
    /// What it is.
    pub class: Class,
    /// 0..1.
    pub score: f32,
    /// Where it is, 0..1 of the picture.
    pub bbox: BBox,
}

/// What is true at the moment, as opposed to what happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// Of the node.
    Node(NodeStatus),
    /// Of one camera: what it may report at all.
    Inventory(CameraInventory),
    /// Of one camera.
    Camera(CameraStatus),
    /// Of one rule.
    State(StateUpdate),
    /// The counters; never retained.
    Stats(Stats),
    /// Of one frame; never retained, never acknowledged.
    Scene(SceneUpdate),
}

/// What a dialect makes of a message that came on one of its subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// All updates are to be told again: whoever keeps them began anew.
    Republish,
}

/// How a dialect is spoken over a connection.
#[derive(Clone, Copy, Debug)]
pub enum Manner<'a> {
    /// Each message for itself, in its final bytes.
    Plain,
    /// In Sparkplug's sessions: births first, everything numbered when it is sent.
    Sparkplug(&'a sparkplug::Sparkplug),
}

/// A wire schema as one broker gets it: which messages tell what, where, and in which bytes. Pure: the same arguments
/// give the same bytes.
pub trait Dialect: Send + Sync {
    /// As in `dialects = […]`.
    fn name(&self) -> &'static str;

    /// Under what its frozen events are stored: its name, unless a broker's own settings are in their bytes.
    fn key(&self) -> &str {
        self.name()
    }

    /// The levels before every topic of its messages.
    fn root(&self, at: &Place) -> String {
        format!("{}/{}", at.prefix, at.node)
    }

    /// The message of an event; none where this dialect has no words for it. `latency_ms` is from capture to stored.
    fn event(&self, stamp: &Stamp, seq: u64, latency_ms: Option<u64>, event: &Event) -> Option<Message>;

    /// The message that evidence is complete; none where this dialect has no words for it.
    fn evidence(&self, _stamp: &Stamp, _seq: u64, _evidence: &Evidence) -> Option<Message> {
        None
    }

    /// The messages of an update; none where this dialect has no words for it.
    fn update(&self, at: &Place, update: &Update) -> Vec<Message>;

    /// The messages of an update whose subject is gone: where the retained values are to be forgotten, an empty payload.
    fn cleared(&self, at: &Place, update: &Update) -> Vec<Message> {
        let retained = self.update(at, update).into_iter().filter(|message| message.retained);
        retained.map(|message| Message { payload: Vec::new(), ..message }).collect()
    }

    /// What the broker says once the daemon is gone, and the daemon says when it goes; `offline` is the node's status
    /// then. None for dialects that leave this to the one they share a connection with.
    fn will(&self, at: &Place, offline: &NodeStatus) -> Option<Message> {
        self.update(at, &Update::Node(offline.clone())).into_iter().next()
    }

    /// Whether it needs a connection of its own, as MQTT has one will for each.
    fn own_connection(&self) -> bool {
        false
    }

    /// How it is spoken; other than plainly only on a connection of its own.
    fn manner(&self) -> Manner<'_> {
        Manner::Plain
    }

    /// Dialects to whose topics its messages point: a connection that speaks this one speaks them as well, named in the
    /// configuration or not.
    fn needs(&self) -> &'static [&'static str] {
        &[]
    }

    /// MQTT 5's content type of its messages.
    fn content_type(&self) -> &str {
        "application/json"
    }

    /// Whole topic filters that it listens on.
    fn subscriptions(&self, _at: &Place) -> Vec<String> {
        Vec::new()
    }

    /// A message on one of them; none where it means nothing. Bytes of strangers: whatever comes, no panic.
    fn received(&self, _at: &Place, _topic: &str, _payload: &[u8]) -> Option<Reaction> {
        None
    }
}

impl std::fmt::Debug for dyn Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Finds a dialect by its name.
pub fn dialect(name: &str) -> Option<&'static Kind> {
    DIALECTS.iter().find(|kind| kind.name == name)
}

/// The whole topic of a message: `<root>/<below>`.
pub fn topic(root: &str, below: &str) -> String {
    if root.is_empty() { below.to_owned() } else { format!("{root}/{below}") }
}

/// Freezes notices: once [`Encoder::freeze`] has answered, the bytes of a sequence number never change, whatever is
/// reloaded later. All dialects that some broker speaks are frozen at once, so that a store needs no knowledge of the
/// brokers behind it.
#[derive(Debug)]
pub struct Encoder {
    stamp: RwLock<Stamp>,
}

impl Encoder {
    /// The sinks that do not get this one.
    pub fn uninterested(&self, notice: &Notice) -> Vec<Name> {
        let stamp = self.stamp.read().unwrap_or_else(PoisonError::into_inner);
        let without = stamp.interests.iter().filter(|(_, interest)| !interest.takes(notice));
        without.map(|(sink, _)| sink.clone()).collect()
    }

    /// An encoder that stamps events with `stamp`, but for the epoch.
    pub fn new(stamp: Stamp) -> Self {
        Self { stamp: RwLock::new(stamp) }
    }

    /// Another configuration or model from here on.
    pub fn restamp(&self, stamp: Stamp) {
        *self.stamp.write().unwrap_or_else(PoisonError::into_inner) = stamp;
    }

    /// The messages of a notice, one for each dialect that has words for it, by [`Dialect::key`]. `latency_ms` is of
    /// events only.
    pub fn freeze(
        &self,
        epoch: Uuid,
        seq: u64,
        latency_ms: Option<u64>,
        notice: &Notice,
    ) -> Vec<(String, Message)> {
        let mut stamp = self.stamp.read().unwrap_or_else(PoisonError::into_inner).clone();
        stamp.epoch = epoch;
        let message = |d: &Arc<dyn Dialect>| {
            let message = match notice {
                Notice::Event(event) => d.event(&stamp, seq, latency_ms, event),
                Notice::Evidence(evidence) => d.evidence(&stamp, seq, evidence),
            };
            Some((d.key().to_owned(), message?))
        };
        stamp.dialects.iter().filter_map(message).collect()
    }
}

#[cfg(test)]
mod tests;
