//! Messages of strangers against both kinds of session, without a network.
//!
//! Owns: what must hold whatever a broker's clients publish. Does not know: sockets, where bytes come from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;
use serde_json::{Value, json};
use vedette_core::{Clock as _, IncidentIds, Severity, SimulatedClock};

use super::conversation::{Context, Conversation, Link, Speaker};
use super::link::{Limits, PACKET_IDS, Publish, Received, Taken};
use super::requests::{Asked, Desk};
use super::{Expiry, plain, sparkplug};
use crate::arming::Arming;
use crate::commands::{self, Site};
use crate::fixtures::{MemoryOutbox, event, must, name, stamp};
use crate::outbox::Outbox as _;
use crate::sinks::{Latest, Replay};
use crate::wire::sparkplug::{Payload, Sparkplug};
use crate::wire::{CameraInventory, CameraStatus, Dialect, NodeStatus, Place, RuleInventory, Settings};
use crate::wire::{StateUpdate, dialect};

/// Verbs that may be asked for: all.
const ALLOWED: [&str; 4] = ["arm", "disarm", "status", "test_alarm"];

/// Messages of one connection, at most: what follows in the bytes is left alone.
const MESSAGES: usize = 64;

/// The broker's side: takes everything.
#[derive(Default)]
struct Wire {
    handed: Vec<Publish>,
    subscribed: usize,
    pkid: u16,
}

impl Link for Wire {
    fn publish(&mut self, publish: Publish) -> bool {
        self.handed.push(publish);
        true
    }

    fn subscribe(&mut self, _filter: &str) -> bool {
        self.subscribed += 1;
        true
    }
}

impl Wire {
    /// Lets the session say all it has to say, and answers it.
    fn settle(&mut self, session: &mut dyn Conversation, clock: &SimulatedClock) -> Vec<Publish> {
        let mut said = Vec::new();
        loop {
            session.fill(clock.now(), self);
            if self.handed.is_empty() {
                return said;
            }
            for publish in std::mem::take(&mut self.handed) {
                if publish.answered {
                    self.pkid = if self.pkid == PACKET_IDS { 1 } else { self.pkid + 1 };
                    session.sent(self.pkid, clock.now());
                    session.answered(self.pkid, Ok(Taken::Yes), clock.now());
                } else {
                    session.sent(0, clock.now());
                }
                said.push(publish);
            }
        }
    }
}

/// A node with the camera `gate` and its rule `night`.
struct Rig {
    context: Context,
    outbox: Arc<MemoryOutbox>,
    clock: SimulatedClock,
    asked: crossbeam_channel::Receiver<Asked>,
    answered: tokio::sync::mpsc::UnboundedReceiver<Publish>,
}

fn rig(dialects: Vec<Arc<dyn Dialect>>) -> Rig {
    let outbox = Arc::new(MemoryOutbox::new(crate::wire::Stamp { dialects: dialects.clone(), ..stamp() }));
    let (to, asked) = crossbeam_channel::bounded(1);
    let (answers, answered) = tokio::sync::mpsc::unbounded_channel();
    let desk = Desk {
        broker: name("factory"),
        root: "vedette/box".to_owned(),
        allowed: ALLOWED.map(str::to_owned).to_vec(),
        to: Some(to),
        answers,
    };
    let context = Context {
        id: name("factory"),
        place: Place { prefix: "vedette".to_owned(), node: name("box") },
        dialects,
        acknowledged: true,
        replay: Replay::default(),
        replay_per_second: 1_000_000,
        expiry: Expiry::default(),
        outbox: Arc::<MemoryOutbox>::clone(&outbox),
        latest: Arc::new(latest()),
        status: Arc::default(),
        taken: AtomicU64::new(0),
        desk,
    };
    Rig { context, outbox, clock: SimulatedClock::new(Timestamp::UNIX_EPOCH), asked, answered }
}

fn latest() -> Latest {
    let (latest, since, camera) = (Latest::default(), Timestamp::UNIX_EPOCH, name("gate"));
    let (version, providers) = ("1", Vec::new());
    let (cameras, public_key) = (1, None);
    latest.put(&NodeStatus {
        state: "online",
        version,
        since,
        cameras,
        cameras_up: 1,
        providers,
        public_key,
    });
    let rule = RuleInventory {
        rule: name("night"),
        kind: "intrusion".to_owned(),
        severity: Severity::Alarm,
        zone: None,
        line: None,
        lasting: true,
        counts: false,
        unit: None,
        former_kinds: Vec::new(),
    };
    latest.put(&CameraInventory { camera: camera.clone(), rules: vec![rule], gone: vec![] });
    let (state, decode, reason) = ("live", "watch", None);
    latest.put(&CameraStatus { camera: camera.clone(), state, decode, fps: 5.0, reason, since });
    let (rule, kind, value, unit) = (name("night"), "intrusion", None, None);
    let (changed, since, active, armed) = (since, None, false, true);
    latest.put(&StateUpdate { camera, rule, kind, changed, active, value, unit, since, armed });
    latest
}

/// One message at the session that brokers mostly get: `topic`, the topic for an answer and the payload, a line each,
/// the payload with all lines that follow. `folder` is for what verbs save.
pub fn message(folder: &Path, bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |&byte| byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (topic, response, payload) = (text(line()), text(line()), line());
    for retained in [false, true] {
        one_message(folder, &topic, &response, payload, retained);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn one_message(folder: &Path, topic: &str, response: &str, payload: &[u8], retained: bool) {
    let names = ["vedette", "homeassistant", "onvif"];
    let dialects = names.iter().filter_map(|name| dialect(name));
    let mut rig = rig(dialects.map(|kind| must((kind.build)(&Settings::default()))).collect());
    let mut site = site(folder, &rig.outbox);
    let (mut speaker, mut wire) = (plain::Plain, Wire::default());
    let mut session = speaker.converse(&rig.context, &rig.clock, Limits::default());
    let first = wire.settle(&mut *session, &rig.clock);
    session.received(&Received {
        topic: topic.to_owned(),
        payload: Bytes::copy_from_slice(payload),
        retained,
        response: Some(response.to_owned()),
        correlation: Some(Bytes::from_static(b"7")),
    });
    let verb = topic.strip_prefix("vedette/box/command/");
    for asked in rig.asked.try_iter() {
        assert!(!retained && verb == Some(asked.verb.as_str()), "{topic}");
        let answer = commands::answer(&mut site, &asked.verb, &asked.payload);
        let parsed: Value = must(serde_json::from_slice(&answer));
        assert!(parsed["ok"].is_boolean() && parsed["ok"] == parsed["error"].is_null(), "{parsed}");
        asked.answer(answer);
    }
    let mut answers = 0;
    while let Ok(answer) = rig.answered.try_recv() {
        assert!(verb.is_some() && answer.topic == response && !answer.retained, "{answer:?}");
        let ours = response == "vedette/box" || response.starts_with("vedette/box/");
        assert!(!ours && !response.contains(['+', '#', '\0']), "{response}");
        answers += 1;
        session.answer(answer);
    }
    assert!(answers <= 1);
    let produced = rig.outbox.produced();
    assert!(produced.len() <= 1 && produced.iter().all(|event| event.kind == "test"));
    assert!(produced.is_empty() || verb == Some("test_alarm"));
    // At most everything once more, the answer, and the event that was asked for in every dialect.
    let said = wire.settle(&mut *session, &rig.clock);
    let most = if (topic, payload) == ("homeassistant/status", b"online") { first.len() } else { 0 };
    assert!(said.len() <= most + answers + names.len() * produced.len(), "{} publishes", said.len());
    assert!(session.is_idle() && session.wants_to_leave().is_none());
}

fn site(folder: &Path, outbox: &Arc<MemoryOutbox>) -> Site {
    Site {
        node: name("box"),
        rules: BTreeMap::from([(name("gate"), vec![name("night")])]),
        arming: Arc::new(must(Arming::open(folder, Timestamp::UNIX_EPOCH))),
        outbox: Arc::<MemoryOutbox>::clone(outbox),
        clock: Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH)),
        ids: IncidentIds::seeded([3; 32]),
        status: Box::new(|| json!({"state": "online"})),
    }
}

/// What happens to an edge node of Sparkplug that waits for its primary host. Each step is a byte that says what, and
/// for a message a byte with its length and the bytes themselves: 0 a command, 1 the host's state, 2 a command that the
/// broker kept, 3 one on another topic; 4 an event is appended, 5 the broker answers a subscription.
pub fn edge_node(mut script: &[u8]) {
    let dialect = must(Sparkplug::new("plant", Some("scada")));
    let rig = rig(vec![Arc::new(dialect.clone())]);
    let node = &rig.context.place.node;
    let (commands, host) = (dialect.command_topic(node), dialect.host_topic().unwrap_or_default());
    let mut speaker = sparkplug::EdgeNode::new(dialect, &rig.context.id, std::path::PathBuf::new());
    let mut session = speaker.converse(&rig.context, &rig.clock, Limits::default());
    let (mut wire, mut watcher) = (Wire::default(), Watcher::default());
    watcher.read(&wire.settle(&mut *session, &rig.clock));
    for _ in 0..MESSAGES {
        let Some((&what, rest)) = script.split_first() else { break };
        script = rest;
        let left = session.wants_to_leave().is_some();
        match what {
            4 => _ = must(rig.outbox.append(event(), None)),
            5 if wire.subscribed > 0 => {
                wire.subscribed -= 1;
                session.subscribed(None);
            }
            5 => {}
            _ => {
                let length = script.first().map_or(0, |&length| usize::from(length).min(script.len() - 1));
                let payload = script.get(1..=length).unwrap_or_default();
                script = script.get(1 + length..).unwrap_or_default();
                let topic = match what {
                    1 => host.clone(),
                    3 => format!("{commands}/gate"),
                    _ => commands.clone(),
                };
                let payload = Bytes::copy_from_slice(payload);
                session.received(&Received { topic, payload, retained: what == 2, ..Received::default() });
            }
        }
        let said = wire.settle(&mut *session, &rig.clock);
        assert!(!left || said.is_empty(), "the host is gone: nobody reads it");
        watcher.read(&said);
        assert!(rig.outbox.produced().len() - rig.outbox.depth(&rig.context.id) <= watcher.events);
    }
    session.last_words(&rig.clock, &mut wire);
    assert_eq!(wire.handed.len(), 1, "an NDEATH, whatever was before");
}

/// Reads along as a host does.
#[derive(Default)]
struct Watcher {
    /// Of the last message; none: not born.
    seq: Option<u64>,
    events: usize,
}

impl Watcher {
    fn read(&mut self, said: &[Publish]) {
        for publish in said {
            let payload = must(Payload::decode(publish.payload.clone()));
            let birth = publish.topic == "spBv1.0/plant/NBIRTH/box";
            let expected = self.seq.filter(|_| !birth).map_or(0, |seq| (seq + 1) % 256);
            assert!(birth || self.seq.is_some(), "{} before the birth", publish.topic);
            assert_eq!(payload.seq, Some(expected), "{}", publish.topic);
            self.seq = payload.seq;
            let of_event = |m: &crate::wire::sparkplug::Metric| m.name.as_deref() == Some("Event/Seq");
            self.events +=
                usize::from(publish.topic.contains("DATA") && payload.metrics.iter().any(of_event));
        }
    }
}
