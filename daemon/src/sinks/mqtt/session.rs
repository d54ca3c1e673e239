//! What is sent when, over one connection: latest values first, then every event that is not acknowledged, in order.
//!
//! Owns: what is under way, and what an answer means for it. Does not know: sockets, tasks, versions of MQTT. After a
//! disconnect the session is dropped; the next one begins at the first event that is not acknowledged.
//!
//! A refused event stays in the outbox; its camera is parked and tried again later, so that a topic that one broker's
//! access list forbids does not hold up the other cameras. Order within a camera is kept, but for one case: a broker
//! that refuses an event for a quota and takes the next one, already under way.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vedette_core::{CameraId, Mono, Name};

use super::Status;
use super::link::{Publish, Refusal};
use crate::outbox::{Outbox, Stored};
use crate::sinks::backoff::Backoff;
use crate::sinks::latest::Latest;
use crate::wire::{self, Dialect, Update};

/// Publishes handed over and not answered. Small: after a disconnect all of them are sent again.
const WINDOW: usize = 16;

/// A broker that answers pings but no publish for so long is as good as gone.
const ANSWER: Duration = Duration::from_secs(30);

/// What does not change from connection to connection.
pub(super) struct Context {
    pub(super) id: Name,
    pub(super) node: Name,
    pub(super) prefix: String,
    pub(super) dialects: Vec<&'static dyn Dialect>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) latest: Arc<Latest>,
    pub(super) status: Arc<Status>,
}

impl Context {
    fn topic(&self, below: &str) -> String {
        wire::topic(&self.prefix, &self.node, below)
    }

    /// The messages of an update in this broker's dialects.
    pub(super) fn publishes(&self, update: &Update) -> impl Iterator<Item = Publish> {
        let message = |d: &&dyn Dialect| {
            let m = d.update(update)?;
            Some(Publish { topic: self.topic(&m.topic), payload: m.payload.into(), retained: m.retained })
        };
        self.dialects.iter().filter_map(message)
    }
}

/// What a publish carries.
#[derive(Debug, PartialEq, Eq)]
enum Load {
    Event(u64),
    Update,
}

/// An event under way: a message for each dialect.
struct Flying {
    camera: Option<CameraId>,
    unanswered: usize,
    /// To be tried again.
    refused: bool,
    /// Not to be tried again.
    given_up: bool,
}

/// A camera whose event was refused.
#[derive(Default)]
struct Parked {
    until: Option<Mono>,
    backoff: Backoff,
}

pub(super) struct Session<'a> {
    context: &'a Context,
    /// Handed over in this order, not on the wire yet.
    handed: VecDeque<Load>,
    on_wire: HashMap<u16, Load>,
    flying: BTreeMap<u64, Flying>,
    /// Events up to here are under way, answered or parked.
    cursor: u64,
    parked: HashMap<Option<CameraId>, Parked>,
    updates: VecDeque<Publish>,
    /// Version of the latest value that was taken.
    seen: u64,
    /// What is not retained and older than the connection is not told.
    fresh: u64,
    /// When the broker last answered, or the first of what is under way was handed over.
    heard: Mono,
}

impl<'a> Session<'a> {
    pub(super) fn new(context: &'a Context, now: Mono) -> Self {
        Self {
            context,
            handed: VecDeque::new(),
            on_wire: HashMap::new(),
            flying: BTreeMap::new(),
            cursor: 0,
            parked: HashMap::new(),
            updates: VecDeque::new(),
            seen: 0,
            fresh: *context.latest.subscribe().borrow(),
            heard: now,
        }
    }

    fn under_way(&self) -> usize {
        self.handed.len() + self.on_wire.len()
    }

    /// Whether the broker owes an answer for too long.
    pub(super) fn is_deaf(&self, now: Mono) -> bool {
        self.under_way() > 0 && now.since(self.heard) > ANSWER
    }

    /// Whether everything is told and answered; what is parked does not count.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way() == 0 && self.updates.is_empty()
    }

    /// Hands over as much as the window allows.
    pub(super) fn fill(&mut self, now: Mono, publish: &mut dyn FnMut(Publish) -> bool) {
        self.unpark(now);
        if self.under_way() == 0 {
            self.heard = now;
        }
        self.take_updates();
        while self.under_way() < WINDOW {
            let sent = match self.updates.pop_front() {
                Some(update) => self.hand(update, Load::Update, publish),
                None => match self.context.outbox.next(&self.context.id, self.cursor) {
                    Some(stored) => self.offer(&stored, publish),
                    None => return,
                },
            };
            if !sent {
                return;
            }
        }
    }

    /// One more publish, outside the window: the last word.
    pub(super) fn last_word(&mut self, word: Publish, publish: &mut dyn FnMut(Publish) -> bool) {
        self.hand(word, Load::Update, publish);
    }

    fn hand(&mut self, what: Publish, load: Load, publish: &mut dyn FnMut(Publish) -> bool) -> bool {
        let handed = publish(what);
        if handed {
            self.handed.push_back(load);
        }
        handed
    }

    fn take_updates(&mut self) {
        if !self.updates.is_empty() {
            return;
        }
        for entry in self.context.latest.since(self.seen) {
            self.seen = entry.version;
            for mut publish in self.context.publishes(&entry.update) {
                if entry.cleared {
                    publish.payload = Bytes::new();
                }
                if publish.retained || entry.version > self.fresh {
                    self.updates.push_back(publish);
                }
            }
        }
    }

    fn offer(&mut self, stored: &Stored, publish: &mut dyn FnMut(Publish) -> bool) -> bool {
        let waits = self.parked.get(&stored.camera).is_some_and(|p| p.until.is_some());
        if waits || self.flying.contains_key(&stored.seq) {
            self.cursor = stored.seq;
            return true;
        }
        let spoken = |dialect| self.context.dialects.iter().any(|d| d.name() == dialect);
        let messages: Vec<_> = stored.messages.iter().filter(|m| spoken(m.dialect)).collect();
        if messages.is_empty() {
            self.context.outbox.ack(&self.context.id, stored.seq);
        }
        for (at, message) in messages.iter().enumerate() {
            let topic = self.context.topic(&message.topic);
            let what = Publish { topic, payload: message.payload.clone(), retained: false };
            if !self.hand(what, Load::Event(stored.seq), publish) {
                // The window keeps the queue from filling; should it, the rest of this event waits for the next try.
                if at > 0 {
                    self.fly(stored, at, true);
                }
                return false;
            }
        }
        if !messages.is_empty() {
            self.fly(stored, messages.len(), false);
        }
        self.cursor = stored.seq;
        true
    }

    fn fly(&mut self, stored: &Stored, unanswered: usize, refused: bool) {
        self.flying.insert(
            stored.seq,
            Flying { camera: stored.camera.clone(), unanswered, refused, given_up: false },
        );
    }

    /// The next publish in the order of handing over is on the wire.
    pub(super) fn sent(&mut self, pkid: u16) {
        if let Some(load) = self.handed.pop_front() {
            self.on_wire.insert(pkid, load);
        }
    }

    /// The broker has taken or refused a publish.
    pub(super) fn answered(&mut self, pkid: u16, answer: Result<(), Refusal>, now: Mono) {
        self.heard = now;
        let Some(load) = self.on_wire.remove(&pkid) else { return };
        if let Err(refusal) = &answer {
            let reason = refusal.reason;
            let error = format!("refused a message: {reason}");
            self.context.status.change(|s| {
                s.refused += 1;
                s.last_error = Some(error);
            });
        }
        let seq = match load {
            Load::Event(seq) => seq,
            Load::Update => {
                if let Err(refusal) = answer {
                    let id = &self.context.id;
                    log::warn!(broker = id.as_str(); "broker {id}: refused a status message: {}", refusal.reason);
                }
                return;
            }
        };
        let Some(flying) = self.flying.get_mut(&seq) else { return };
        flying.unanswered -= 1;
        let camera = flying.camera.clone();
        match answer {
            Err(refusal) if refusal.for_good => {
                flying.given_up = true;
                let id = &self.context.id;
                log::error!(broker = id.as_str(), seq; "broker {id}: event {seq} is given up: {}", refusal.reason);
            }
            Err(refusal) => {
                flying.refused = true;
                self.park(camera, seq, &refusal, now);
            }
            Ok(()) => {}
        }
        self.land(seq);
    }

    /// When the last message of an event is answered, it leaves the outbox, unless one was refused.
    fn land(&mut self, seq: u64) {
        if self.flying.get(&seq).is_none_or(|f| f.unanswered > 0) {
            return;
        }
        let Some(flying) = self.flying.remove(&seq) else { return };
        if flying.refused {
            return;
        }
        self.context.outbox.ack(&self.context.id, seq);
        if !flying.given_up {
            self.context.status.change(|s| s.acked += 1);
        }
        if self.parked.get(&flying.camera).is_some_and(|p| p.until.is_none()) {
            self.parked.remove(&flying.camera);
        }
    }

    fn park(&mut self, camera: Option<CameraId>, seq: u64, refusal: &Refusal, now: Mono) {
        let known = self.parked.contains_key(&camera);
        let id = &self.context.id;
        if !known {
            let whose = camera.as_ref().map_or("node", Name::as_str);
            log::error!(
                broker = id.as_str(), camera = whose, seq;
                "broker {id}: refused event {seq} of {whose}: {}; it is kept and tried again", refusal.reason
            );
        }
        let parked = self.parked.entry(camera).or_default();
        if parked.until.is_none() {
            parked.until = Some(now + parked.backoff.next());
        }
    }

    /// Cameras whose wait is over and that have nothing under way begin again at their first event.
    fn unpark(&mut self, now: Mono) {
        for (camera, parked) in &mut self.parked {
            let over = parked.until.is_some_and(|until| now >= until);
            if over && self.flying.values().all(|f| f.camera != *camera) {
                parked.until = None;
                self.cursor = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
