//! A stream of received messages held against a public key: what is valid, what is not, which numbers are missing.
//!
//! Owns: what a line is, the counts. Does not know: where lines come from, how the result is printed. Only a valid
//! message has a say in which numbers there are: anybody can write the others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{PublicKey, Verdict};

/// What a line turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The appliance's own, unchanged.
    Valid,
    /// Not so.
    Invalid,
    /// An event or word of evidence that nobody signed.
    Unsigned,
    /// A message of those that are never signed: status, state, statistics.
    Other,
}

impl Kind {
    /// As in its JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unsigned => "unsigned",
            Self::Other => "other",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its number, from 1.
    pub line: u64,
    /// What it is.
    pub kind: Kind,
    /// What is wrong with it; none where nothing is.
    pub reason: Option<&'static str>,
}

/// The numbers of one store of one appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// The appliance.
    pub node: String,
    /// Its store.
    pub epoch: String,
    /// The lowest number seen.
    pub first: u64,
    /// The highest.
    pub last: u64,
    /// How many different ones.
    pub messages: u64,
    /// Messages that came again, byte-equal.
    pub repeats: u64,
    /// From and to of numbers between `first` and `last` that did not come: filtered, dropped, or taken away.
    pub gaps: Vec<(u64, u64)>,
}

/// What all lines come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Lines of each [`Kind`].
    pub valid: u64,
    /// Likewise.
    pub invalid: u64,
    /// Likewise.
    pub unsigned: u64,
    /// Likewise.
    pub other: u64,
    /// By appliance and store.
    pub epochs: Vec<Numbers>,
}

impl Report {
    /// Whether there was something to verify and all of it is valid.
    pub fn is_good(&self) -> bool {
        self.valid > 0 && self.invalid == 0 && self.unsigned == 0
    }
}

#[derive(Default)]
struct Seen {
    repeats: u64,
    /// Hash of the message by number.
    messages: BTreeMap<u64, [u8; 32]>,
}

/// See the module.
pub struct Audit {
    key: PublicKey,
    lines: u64,
    report: Report,
    seen: BTreeMap<(String, String), Seen>,
}

impl Audit {
    /// Against that key.
    pub fn new(key: PublicKey) -> Self {
        Self { key, lines: 0, report: Report::default(), seen: BTreeMap::new() }
    }

    /// The next line, as `mosquitto_sub` prints it, with its topic before it or without. None for an empty one.
    pub fn take(&mut self, line: &[u8]) -> Option<Line> {
        self.lines += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        let (topic, payload) = parts(line);
        let (kind, reason) = if is_cleared(line) { (Kind::Other, None) } else { self.judge(topic, payload) };
        let count = match kind {
            Kind::Valid => &mut self.report.valid,
            Kind::Invalid => &mut self.report.invalid,
            Kind::Unsigned => &mut self.report.unsigned,
            Kind::Other => &mut self.report.other,
        };
        *count += 1;
        Some(Line { line: self.lines, kind, reason })
    }

    fn judge(&mut self, topic: &[u8], payload: &[u8]) -> (Kind, Option<&'static str>) {
        let Ok(Value::Object(message)) = serde_json::from_slice(payload) else {
            return (Kind::Invalid, Some("no JSON object"));
        };
        match self.key.verify(payload) {
            Verdict::Invalid => (Kind::Invalid, Some("the signature does not match")),
            Verdict::Valid => match self.number(&message, payload) {
                Ok(()) => (Kind::Valid, None),
                Err(reason) => (Kind::Invalid, Some(reason)),
            },
            Verdict::Unsigned if message.contains_key("signature") => {
                (Kind::Invalid, Some("the signature is not the last member, or not of its length"))
            }
            Verdict::Unsigned => {
                let numbered = message.contains_key("seq") || message.contains_key("epoch");
                let produced = is_produced(topic);
                if numbered || produced {
                    (Kind::Unsigned, Some("no signature"))
                } else {
                    (Kind::Other, None)
                }
            }
        }
    }

    fn number(
        &mut self,
        message: &serde_json::Map<String, Value>,
        payload: &[u8],
    ) -> Result<(), &'static str> {
        let text = |key: &str| message.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
        let seq = message.get("seq").and_then(Value::as_u64);
        let (Some(node), Some(epoch), Some(seq)) = (text("node"), text("epoch"), seq) else {
            return Err("signed, but without node, epoch and seq");
        };
        let seen = self.seen.entry((node, epoch)).or_default();
        let hash = Sha256::digest(payload).into();
        match seen.messages.entry(seq) {
            Entry::Vacant(new) => drop(new.insert(hash)),
            Entry::Occupied(before) if *before.get() == hash => seen.repeats += 1,
            // Two appliances with one key, or a store that was copied.
            Entry::Occupied(_) => return Err("signed, but another message has its number"),
        }
        Ok(())
    }

    /// What all lines so far come to.
    pub fn report(self) -> Report {
        let epochs = self.seen.into_iter().filter_map(|((node, epoch), seen)| seen.numbers(node, epoch));
        Report { epochs: epochs.collect(), ..self.report }
    }
}

impl Seen {
    fn numbers(&self, node: String, epoch: String) -> Option<Numbers> {
        let (first, last) = (*self.messages.keys().next()?, *self.messages.keys().next_back()?);
        let pairs = self.messages.keys().zip(self.messages.keys().skip(1));
        let gaps = pairs.filter(|(from, to)| **to - **from > 1).map(|(from, to)| (from + 1, to - 1));
        let (messages, repeats) = (self.messages.len() as u64, self.repeats);
        Some(Numbers { node, epoch, first, last, messages, repeats, gaps: gaps.collect() })
    }
}

/// What `mosquitto_sub -v` prints of a retained topic that is cleared; produced messages are none.
fn is_cleared(line: &[u8]) -> bool {
    let topic = line.strip_suffix(b" (null)").filter(|topic| !topic.is_empty() && topic[0] != b'{');
    topic.is_some_and(|topic| !is_produced(topic))
}

/// Whether what comes on this topic has a number.
fn is_produced(topic: &[u8]) -> bool {
    topic.ends_with(b"/event") || topic.ends_with(b"/evidence")
}

/// Topic, empty where there is none, and payload.
fn parts(line: &[u8]) -> (&[u8], &[u8]) {
    let payload = |at: &usize| line.get(*at..at + 2) == Some(b" {");
    match (0..line.len()).find(payload) {
        Some(at) if line.first() != Some(&b'{') => (&line[..at], &line[at + 1..]),
        _ => (b"", line),
    }
}
