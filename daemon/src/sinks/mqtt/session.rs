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

mod pace;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vedette_core::{CameraId, Mono, Name};

use self::pace::Pace;
use super::Status;
use super::link::{Limits, PACKET_IDS, Properties, Publish, Received, Refusal, Taken};
use super::requests::Desk;
use crate::outbox::{Frozen, Outbox, Stored};
use crate::sinks::backoff::Backoff;
use crate::sinks::latest::Latest;
use crate::wire::{self, Dialect, Message, Place, Reaction, Update};

/// Publishes handed over and not answered, at most; a broker's Receive Maximum may allow less. Small: after a
/// disconnect all of them are sent again.
const WINDOW: usize = 20;

/// A broker that answers pings but no publish for so long is as good as gone.
const ANSWER: Duration = Duration::from_secs(30);

/// How often an event is offered to a broker that refuses it.
const TRIES: u32 = 3;

/// Bytes of a PUBLISH beside topic, payload and user properties, more than enough.
const OVERHEAD: usize = 128;

/// What does not change from connection to connection.
pub(super) struct Context {
    pub(super) id: Name,
    pub(super) place: Place,
    pub(super) dialects: Vec<Arc<dyn Dialect>>,
    pub(super) acknowledged: bool,
    pub(super) replay_per_second: u32,
    pub(super) event_expiry: Option<Duration>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) latest: Arc<Latest>,
    pub(super) status: Arc<Status>,
    pub(super) desk: Desk,
}

impl Context {
    /// A message of a dialect as it goes to this broker.
    pub(super) fn publish(&self, dialect: &dyn Dialect, message: Message) -> Publish {
        let Message { topic, payload, retained, expiry } = message;
        Publish {
            topic: wire::topic(&dialect.root(&self.place), &topic),
            payload: payload.into(),
            retained,
            answered: self.acknowledged,
            properties: self.properties(dialect, expiry),
        }
    }

    fn properties(&self, dialect: &dyn Dialect, expiry: Option<Duration>) -> Properties {
        Properties {
            content_type: Some(dialect.content_type().to_owned()),
            expiry,
            user: vec![
                ("dialect".to_owned(), dialect.name().to_owned()),
                ("node".to_owned(), self.place.node.to_string()),
            ],
            correlation: None,
        }
    }

    /// The messages of an update in this broker's dialects.
    fn updates(&self, update: &Update, cleared: bool) -> Vec<Publish> {
        let messages = |d: &Arc<dyn Dialect>| match cleared {
            true => d.cleared(&self.place, update),
            false => d.update(&self.place, update),
        };
        let all =
            self.dialects.iter().flat_map(|d| messages(d).into_iter().map(move |m| self.publish(&**d, m)));
        all.collect()
    }

    fn event(&self, dialect: &dyn Dialect, frozen: &Frozen) -> Publish {
        Publish {
            topic: wire::topic(&dialect.root(&self.place), &frozen.topic),
            payload: frozen.payload.clone(),
            retained: false,
            answered: self.acknowledged,
            properties: self.properties(dialect, self.event_expiry),
        }
    }
}

/// What a publish carries.
#[derive(Debug, PartialEq, Eq)]
enum Load {
    Event(u64),
    Update,
}

/// An event under way: a message for each dialect.
#[derive(Default)]
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
    /// Which event, and how often it was refused.
    refused: (u64, u32),
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
    /// Events up to here are under way, answered or parked.
    cursor: u64,
    parked: HashMap<Option<CameraId>, Parked>,
    updates: VecDeque<Publish>,
    pace: Pace,
    /// Version of the latest value that was taken.
    seen: u64,
    /// What is not retained and older than the connection is not told.
    fresh: u64,
    /// When the broker last answered, or the first of what is under way was handed over.
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
            cursor: 0,
            parked: HashMap::new(),
            updates: VecDeque::new(),
            pace: Pace::new(context.replay_per_second, now),
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

    /// When [`Session::fill`] could do more although nothing happens until then.
    pub(super) fn wakes(&self, now: Mono) -> Option<Duration> {
        let waiting =
            self.under_way() < WINDOW && self.context.outbox.next(&self.context.id, self.cursor).is_some();
        waiting.then(|| self.pace.wait(now)).flatten()
    }

    /// Hands over as much as the window allows.
    pub(super) fn fill(&mut self, now: Mono, link: &mut dyn Link) {
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
            let sent = match self.updates.front().cloned() {
                Some(update) => self.offer_update(update, link),
                None if self.pace.wait(now).is_some() => return,
                None => match self.context.outbox.next(&self.context.id, self.cursor) {
                    Some(stored) => self.offer(&stored, now, link),
                    None => return,
                },
            };
            if !sent {
                return;
            }
        }
    }

    /// One more publish, outside the window: the last word.
    pub(super) fn last_word(&mut self, word: Publish, link: &mut dyn Link) {
        self.hand(word, Load::Update, link);
    }

    /// The answer to a request goes out with the updates, before them.
    pub(super) fn answer(&mut self, answer: Publish) {
        self.updates.push_front(answer);
    }

    /// A message on one of the subscriptions.
    pub(super) fn received(&mut self, message: &Received) {
        if self.context.desk.take(message) {
            return;
        }
        let Received { topic, payload, .. } = message;
        let reaction =
            self.context.dialects.iter().find_map(|d| d.received(&self.context.place, topic, payload));
        match reaction {
            // What is not retained is not told again.
            Some(Reaction::Republish) => {
                (self.seen, self.fresh) = (0, *self.context.latest.subscribe().borrow())
            }
            None => {}
        }
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

    /// Whether a broker that bears packets of a limited size would hang up on this one.
    fn is_too_large(&self, what: &Publish) -> bool {
        let user = what.properties.user.iter().map(|(key, value)| key.len() + value.len() + 5);
        let bytes = what.topic.len() + what.payload.len() + user.sum::<usize>() + OVERHEAD;
        self.limits.packet.is_some_and(|limit| bytes > limit as usize)
    }

    fn offer_update(&mut self, update: Publish, link: &mut dyn Link) -> bool {
        if self.is_too_large(&update) {
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
                if publish.retained || entry.version > self.fresh {
                    self.updates.push_back(publish);
                }
            }
        }
    }

    /// Hands over an event, all of its messages or none; false where there is no room for them.
    fn offer(&mut self, stored: &Stored, now: Mono, link: &mut dyn Link) -> bool {
        let waits = self.parked.get(&stored.camera).is_some_and(|p| p.until.is_some());
        if waits || self.flying.contains_key(&stored.seq) {
            self.cursor = stored.seq;
            return true;
        }
        let message = |d: &Arc<dyn Dialect>| {
            let frozen = stored.messages.iter().find(|m| m.dialect == d.key())?;
            Some(self.context.event(&**d, frozen))
        };
        let publishes: Vec<_> = self.context.dialects.iter().filter_map(message).collect();
        if publishes.is_empty() {
            self.context.outbox.ack(&self.context.id, stored.seq);
            self.cursor = stored.seq;
            return true;
        }
        if publishes.iter().any(|p| self.is_too_large(p)) {
            self.cursor = stored.seq;
            self.give_up(stored.seq, "it is larger than the broker's Maximum Packet Size");
            return true;
        }
        let mut flying = Flying { camera: stored.camera.clone(), ..Flying::default() };
        for publish in publishes {
            if !self.hand(publish, Load::Event(stored.seq), link) {
                // The rest waits for the next try; consumers know the first messages again by their bytes.
                flying.refused = flying.unanswered > 0;
                break;
            }
            flying.unanswered += 1;
        }
        if flying.unanswered == 0 {
            return false;
        }
        let whole = !flying.refused;
        if !whole {
            let parked = self.parked.entry(stored.camera.clone()).or_default();
            parked.until.get_or_insert(now);
        }
        self.flying.insert(stored.seq, flying);
        self.pace.take(now);
        self.cursor = stored.seq;
        whole
    }

    /// The next publish in the order of handing over is on the wire.
    pub(super) fn sent(&mut self, pkid: u16, now: Mono) {
        match self.handed.pop_front() {
            // Nobody answers it: it counts as delivered.
            Some(load) if pkid == 0 => self.over(load, Ok(Taken::Yes), now),
            Some(load) => _ = self.on_wire.insert(pkid, load),
            None => {}
        }
    }

    /// The broker has taken or refused a publish.
    pub(super) fn answered(&mut self, pkid: u16, answer: Result<Taken, Refusal>, now: Mono) {
        self.heard = now;
        if let Some(load) = self.on_wire.remove(&pkid) {
            self.over(load, answer, now);
        }
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
            Ok(Taken::Yes) => {}
            Ok(Taken::NobodyListens) => self.context.status.change(|s| s.nobody_listens += 1),
            Err(refusal) => {
                let tries = self.park(camera, seq, &refusal, now);
                if let Some(flying) = self.flying.get_mut(&seq) {
                    flying.refused = true;
                    flying.given_up |= refusal.for_good || tries >= TRIES;
                }
            }
        }
        self.land(seq);
    }

    /// The event stays undelivered at this broker, and is counted.
    fn give_up(&self, seq: u64, reason: &str) {
        let id = &self.context.id;
        log::error!(broker = id.as_str(), seq; "broker {id}: event {seq} is given up: {reason}");
        self.context.outbox.ack(id, seq);
        self.context.status.change(|s| {
            s.given_up += 1;
            s.last_error = Some(format!("event {seq} is given up: {reason}"));
        });
    }

    /// When the last message of an event is answered, it leaves the outbox, unless one was refused.
    fn land(&mut self, seq: u64) {
        if self.flying.get(&seq).is_none_or(|f| f.unanswered > 0) {
            return;
        }
        let Some(flying) = self.flying.remove(&seq) else { return };
        if flying.refused && !flying.given_up {
            return;
        }
        if flying.given_up {
            self.give_up(seq, "the broker refuses it");
        } else {
            self.context.outbox.ack(&self.context.id, seq);
            self.context.status.change(|s| s.acked += 1);
        }
        // The camera's next event is a new story.
        let mine = |p: &Parked| (flying.given_up && p.refused.0 == seq) || p.until.is_none();
        if self.parked.get(&flying.camera).is_some_and(mine) {
            self.parked.remove(&flying.camera);
            if flying.given_up {
                self.cursor = self.cursor.min(seq);
            }
        }
    }

    /// Lets the camera wait; how often this event of it was refused.
    fn park(&mut self, camera: Option<CameraId>, seq: u64, refusal: &Refusal, now: Mono) -> u32 {
        let known = self.parked.contains_key(&camera);
        let id = &self.context.id;
        if !known {
            let whose = camera.as_ref().map_or("node", Name::as_str);
            log::error!(
                broker = id.as_str(), camera = whose, seq;
                "broker {id}: refused event {seq} of {whose}: {}; it is tried {TRIES} times", refusal.reason
            );
        }
        let parked = self.parked.entry(camera).or_default();
        if parked.until.is_none() {
            parked.until = Some(now + parked.backoff.next());
        }
        // Those behind the first refused one were under way already: their count begins when they are the first.
        match &mut parked.refused {
            (of, times) if *of == seq => *times += 1,
            (of, _) if *of != 0 && *of < seq => return 0,
            refused => *refused = (seq, 1),
        }
        parked.refused.1
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

/// Where publishes go: the connection, or a test's record.
pub(super) trait Link {
    /// False where there is no room.
    fn publish(&mut self, publish: Publish) -> bool;
    /// False where there is no room.
    fn subscribe(&mut self, filter: &str) -> bool;
}

#[cfg(test)]
mod tests;
