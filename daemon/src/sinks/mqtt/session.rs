//! What is sent when, over one connection: subscriptions, then latest values, then every event that is not
//! acknowledged, in order.
//!
//! Owns: what is under way, and what an answer means for it. Does not know: sockets, tasks, versions of MQTT. After a
//! disconnect the session is dropped; the next one begins at the first event that is not acknowledged.
//!
//! A refused event stays in the outbox; its camera is parked and tried again later, so that a topic that one broker's
//! access list forbids does not hold up the other cameras. After [`TRIES`] refusals the event is given up and counted.
//! Order within a camera is kept, but for one case: a broker that refuses an event for a quota and takes the next one,
//! already under way.

mod parked;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vedette_core::{CameraId, Clock, Mono, Name};

use super::conversation::{Context, Conversation, Link};
use super::link::{Limits, PACKET_IDS, Publish, Received, Refusal, Taken};
use super::pace::Pace;
use super::plain;
use crate::outbox::Stored;
use crate::sinks::order::{Cursor, Rank};
use crate::wire::{Dialect, Reaction};
use parked::Parked;

/// Publishes handed over and not answered, at most; a broker's Receive Maximum may allow less. Small: after a
/// disconnect all of them are sent again.
const WINDOW: usize = 20;

/// A broker that answers pings but no publish for so long is as good as gone.
const ANSWER: Duration = Duration::from_secs(30);

/// How often an event is offered to a broker that refuses it.
const TRIES: u32 = 3;

/// What a publish carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Event(u64),
    Update,
}

/// An event under way: a message for each dialect.
#[derive(Default)]
struct Flying {
    camera: Option<CameraId>,
    rank: Rank,
    unanswered: usize,
    /// Whether somebody subscribes to one of its messages, as far as the broker tells.
    heard: bool,
    /// When it was offered, and when it was captured, where that is known.
    times: (Mono, Option<Mono>),
    /// To be tried again.
    refused: bool,
    /// Not to be tried again.
    given_up: bool,
}

pub(super) struct Session<'a> {
    context: &'a Context,
    limits: Limits,
    /// Topic filters that are not asked for yet.
    subscriptions: VecDeque<String>,
    /// Handed over in this order, not on the wire yet.
    handed: VecDeque<Load>,
    on_wire: HashMap<u16, Load>,
    /// The last packet id of what was handed over: rumqttc gives them in a circle.
    last_id: u16,
    flying: BTreeMap<u64, Flying>,
    /// Messages of the last event under way for which there was no room yet.
    rest: VecDeque<(u64, Publish)>,
    /// Events up to here are under way, answered or parked.
    cursor: Cursor,
    parked: HashMap<Option<CameraId>, Parked>,
    updates: VecDeque<Publish>,
    /// What was told over this connection and stays at the broker, by topic.
    told: HashMap<String, Bytes>,
    pace: Pace,
    /// Version of the latest value that was taken.
    seen: u64,
    /// What is not retained and older than the connection is not told.
    fresh: u64,
    began: Mono,
    /// When the broker last answered, or took what it need not answer while it owed nothing, or when the first of what
    /// is under way was handed over.
    heard: Mono,
}

impl<'a> Session<'a> {
    pub(super) fn new(context: &'a Context, limits: Limits, now: Mono) -> Self {
        let of_dialects = context.dialects.iter().flat_map(|d| d.subscriptions(&context.place));
        let subscriptions = context.desk.filter().into_iter().chain(of_dialects).collect();
        Self {
            context,
            limits,
            subscriptions,
            handed: VecDeque::new(),
            on_wire: HashMap::new(),
            last_id: 0,
            flying: BTreeMap::new(),
            rest: VecDeque::new(),
            cursor: Cursor::new(context.replay),
            parked: HashMap::new(),
            updates: VecDeque::new(),
            told: HashMap::new(),
            pace: Pace::new(context.replay_per_second, now),
            seen: 0,
            fresh: *context.latest.subscribe().borrow(),
            began: now,
            heard: now,
        }
    }

    fn under_way(&self) -> usize {
        self.handed.len() + self.on_wire.len()
    }
}

impl Conversation for Session<'_> {
    fn is_deaf(&self, now: Mono) -> bool {
        self.under_way() > 0 && now.since(self.heard) > ANSWER
    }

    /// What is parked does not count.
    fn is_idle(&self) -> bool {
        self.under_way() == 0 && self.updates.is_empty()
    }

    fn wakes(&self, now: Mono) -> Option<Duration> {
        let waiting = self.under_way() < WINDOW && self.next().is_some();
        waiting.then(|| self.pace.wait(now)).flatten()
    }

    fn fill(&mut self, now: Mono, link: &mut dyn Link) {
        while let Some(filter) = self.subscriptions.front() {
            if !self.has_id() || !link.subscribe(filter) {
                return;
            }
            self.last_id = self.next_id();
            self.subscriptions.pop_front();
        }
        self.unpark(now);
        if self.under_way() == 0 {
            self.heard = now;
        }
        self.take_updates();
        let window = WINDOW.min(usize::from(self.limits.receive_maximum));
        while self.under_way() < window {
            if let Some((seq, publish)) = self.rest.front().cloned() {
                if !self.hand(publish, Load::Event(seq), link) {
                    return;
                }
                self.rest.pop_front();
            } else if let Some(update) = self.updates.front().cloned() {
                if !self.offer_update(update, link) {
                    return;
                }
            } else {
                if self.pace.wait(now).is_some() {
                    return;
                }
                let Some(stored) = self.next() else { return };
                self.offer(&stored, now);
            }
        }
    }

    fn sent(&mut self, pkid: u16, now: Mono) {
        match self.handed.pop_front() {
            // Nobody answers it: it counts as delivered.
            Some(load) if pkid == 0 => {
                if self.on_wire.is_empty() {
                    self.heard = now;
                }
                self.over(load, Ok(Taken::Yes), now);
            }
            Some(load) => _ = self.on_wire.insert(pkid, load),
            None => {}
        }
    }

    fn answered(&mut self, pkid: u16, answer: Result<Taken, Refusal>, now: Mono) {
        self.heard = now;
        if let Some(load) = self.on_wire.remove(&pkid) {
            self.over(load, answer, now);
        }
    }

    /// It goes out with the updates, before them.
    fn answer(&mut self, answer: Publish) {
        self.updates.push_front(answer);
    }

    fn received(&mut self, message: &Received) {
        if self.context.desk.take(message) {
            return;
        }
        let Received { topic, payload, .. } = message;
        let reaction =
            self.context.dialects.iter().find_map(|d| d.received(&self.context.place, topic, payload));
        match reaction {
            // What is not retained is not told again.
            Some(Reaction::Republish) => {
                (self.seen, self.fresh) = (0, *self.context.latest.subscribe().borrow());
                self.told.clear();
            }
            None => {}
        }
    }

    fn subscribed(&mut self, refused: Option<&str>) {
        if let Some(reason) = refused {
            self.context.warn_of_refused_subscription(reason);
        }
    }

    /// Outside the window.
    fn last_words(&mut self, clock: &dyn Clock, link: &mut dyn Link) {
        for word in plain::last_words(self.context, clock) {
            self.hand(word, Load::Update, link);
        }
    }
}

impl Session<'_> {
    fn next(&self) -> Option<Arc<Stored>> {
        self.cursor.next(&*self.context.outbox, &self.context.id)
    }

    fn circle(&self) -> u16 {
        PACKET_IDS.min(self.limits.receive_maximum)
    }

    fn next_id(&self) -> u16 {
        if self.last_id >= self.circle() { 1 } else { self.last_id + 1 }
    }

    /// Whether the next packet id is free: rumqttc would wait for the answer to the publish that has it, and for ever
    /// where that is a refusal.
    fn has_id(&self) -> bool {
        !self.on_wire.contains_key(&self.next_id()) && self.handed.len() < usize::from(self.circle())
    }

    fn hand(&mut self, what: Publish, load: Load, link: &mut dyn Link) -> bool {
        let answered = what.answered;
        if answered && !self.has_id() {
            return false;
        }
        let handed = link.publish(what);
        if handed {
            self.handed.push_back(load);
            if answered {
                self.last_id = self.next_id();
            }
        }
        handed
    }

    fn offer_update(&mut self, update: Publish, link: &mut dyn Link) -> bool {
        if !self.limits.bear(&update) {
            let id = &self.context.id;
            log::warn!(broker = id.as_str(); "broker {id}: {} is larger than it takes: not told", update.topic);
            self.updates.pop_front();
            return true;
        }
        let handed = self.hand(update, Load::Update, link);
        if handed {
            self.updates.pop_front();
        }
        handed
    }

    fn take_updates(&mut self) {
        if !self.updates.is_empty() {
            return;
        }
        for entry in self.context.latest.since(self.seen) {
            self.seen = entry.version;
            for publish in self.context.updates(&entry.update, entry.cleared) {
                if publish.retained {
                    // Many dialects show only a part of what has changed.
                    let before = self.told.insert(publish.topic.clone(), publish.payload.clone());
                    if before.as_ref() != Some(&publish.payload) {
                        self.updates.push_back(publish);
                    }
                } else if entry.version > self.fresh {
                    self.updates.push_back(publish);
                }
            }
        }
    }

    /// The messages of an event are handed over next, unless it has to wait or has none.
    fn offer(&mut self, stored: &Stored, now: Mono) {
        let rank = self.cursor.rank(stored);
        let parked = self.parked.get_mut(&stored.camera).filter(|parked| parked.waits());
        let waits = parked.map(|parked| parked.put_off(rank)).is_some();
        if waits || self.flying.contains_key(&stored.seq) {
            self.cursor.pass(stored);
            return;
        }
        let message = |d: &Arc<dyn Dialect>| {
            let frozen = stored.messages.iter().find(|m| m.dialect == d.key())?;
            Some(self.context.event(&**d, &stored.kind, frozen))
        };
        let publishes: Vec<_> = self.context.dialects.iter().filter_map(message).collect();
        if publishes.is_empty() {
            self.context.outbox.ack(&self.context.id, stored.seq);
            self.cursor.pass(stored);
            return;
        }
        if !publishes.iter().all(|p| self.limits.bear(p)) {
            self.cursor.pass(stored);
            self.context.give_up(stored.seq, "it is larger than the broker's Maximum Packet Size");
            return;
        }
        let (camera, times) = (stored.camera.clone(), (now, stored.captured));
        let unanswered = publishes.len();
        self.rest.extend(publishes.into_iter().map(|publish| (stored.seq, publish)));
        self.flying.insert(stored.seq, Flying { camera, rank, unanswered, times, ..Flying::default() });
        self.pace.take(now);
        self.cursor.pass(stored);
    }

    fn over(&mut self, load: Load, answer: Result<Taken, Refusal>, now: Mono) {
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
                    // Whichever it was: it is told again when it is put again.
                    self.told.clear();
                    let id = &self.context.id;
                    log::warn!(broker = id.as_str(); "broker {id}: refused a status message: {}", refusal.reason);
                }
                return;
            }
        };
        let Some(flying) = self.flying.get_mut(&seq) else { return };
        flying.unanswered -= 1;
        let (camera, rank) = (flying.camera.clone(), flying.rank);
        match answer {
            Ok(Taken::Yes) => flying.heard = true,
            Ok(Taken::NobodyListens) => {}
            Err(refusal) => {
                let tries = self.park(&camera, (seq, rank), &refusal, now);
                if let Some(flying) = self.flying.get_mut(&seq) {
                    flying.refused = true;
                    flying.given_up |= refusal.for_good || tries >= TRIES;
                }
            }
        }
        self.land(seq, now);
    }

    /// When the last message of an event is answered, it leaves the outbox, unless one was refused.
    fn land(&mut self, seq: u64, now: Mono) {
        if self.flying.get(&seq).is_none_or(|f| f.unanswered > 0) {
            return;
        }
        let Some(flying) = self.flying.remove(&seq) else { return };
        if flying.refused && !flying.given_up {
            return;
        }
        if flying.given_up {
            self.context.give_up(seq, "the broker refuses it");
        } else {
            let (handed, captured) = flying.times;
            self.context.delivered(seq, now, handed, captured.filter(|at| *at >= self.began));
            if !flying.heard {
                self.context.status.change(|s| s.nobody_listens += 1);
            }
        }
        let Some(parked) = self.parked.get_mut(&flying.camera) else { return };
        if let Some(put_off) = parked.settle(flying.rank) {
            self.cursor.back_to(put_off);
        }
        if parked.is_empty() {
            self.parked.remove(&flying.camera);
        }
    }

    /// Lets the camera wait; how often this event of it was refused.
    fn park(&mut self, camera: &Option<CameraId>, event: (u64, Rank), refusal: &Refusal, now: Mono) -> u32 {
        let (seq, rank) = event;
        let (outbox, id) = (&*self.context.outbox, &self.context.id);
        let parked = self.parked.entry(camera.clone()).or_default();
        // The bound may have dropped some.
        parked.forget(|rank| rank.waits(outbox, id));
        if parked.is_empty() {
            let whose = camera.as_ref().map_or("node", Name::as_str);
            log::error!(
                broker = id.as_str(), camera = whose, seq;
                "broker {id}: refused event {seq} of {whose}: {}; it is tried {TRIES} times", refusal.reason
            );
        }
        parked.refuse(rank, now)
    }

    /// Cameras whose wait is over and that have nothing under way begin again at their first event.
    fn unpark(&mut self, now: Mono) {
        for (camera, parked) in &mut self.parked {
            if parked.is_over(now) && self.flying.values().all(|f| f.camera != *camera) {
                self.cursor.back_to(parked.go_on());
            }
        }
    }
}

#[cfg(test)]
mod tests;
