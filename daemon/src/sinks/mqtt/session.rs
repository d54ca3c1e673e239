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

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vedette_core::{CameraId, Clock, Mono, Name};

use super::conversation::{Context, Conversation, Link, Speaker};
use super::link::{Limits, PACKET_IDS, Publish, Received, Refusal, Taken};
use super::pace::Pace;
use crate::outbox::Stored;
use crate::sinks::backoff::Backoff;
use crate::wire::{Dialect, NodeStatus, Reaction};

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

/// Speaks the dialects whose messages stand for themselves.
pub(super) struct Plain;

impl Speaker for Plain {
    fn will(&mut self, context: &Context, clock: &dyn Clock) -> Option<Publish> {
        last_words(context, clock).into_iter().next()
    }

    fn converse<'a>(
        &'a mut self,
        context: &'a Context,
        clock: &'a dyn Clock,
        limits: Limits,
    ) -> Box<dyn Conversation + 'a> {
        Box::new(Session::new(context, limits, clock.now()))
    }
}

/// What is true of the node once the worker is gone: the first is the will, as MQTT has one a connection; all are said
/// on leaving.
fn last_words(context: &Context, clock: &dyn Clock) -> Vec<Publish> {
    let unknown = || NodeStatus {
        state: "online",
        version: env!("CARGO_PKG_VERSION"),
        since: clock.wall(),
        cameras: 0,
        cameras_up: 0,
        providers: Vec::new(),
        public_key: None,
    };
    let offline = context.latest.node().unwrap_or_else(unknown).offline();
    let word = |d: &Arc<dyn Dialect>| Some(context.publish(&**d, d.will(&context.place, &offline)?));
    context.dialects.iter().filter_map(word).collect()
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
        let waiting =
            self.under_way() < WINDOW && self.context.outbox.next(&self.context.id, self.cursor).is_some();
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

    fn sent(&mut self, pkid: u16, now: Mono) {
        match self.handed.pop_front() {
            // Nobody answers it: it counts as delivered.
            Some(load) if pkid == 0 => self.over(load, Ok(Taken::Yes), now),
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
        for word in self::last_words(self.context, clock) {
            self.hand(word, Load::Update, link);
        }
    }
}

impl Session<'_> {
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
        if !publishes.iter().all(|p| self.limits.bear(p)) {
            self.cursor = stored.seq;
            self.context.give_up(stored.seq, "it is larger than the broker's Maximum Packet Size");
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
            self.context.give_up(seq, "the broker refuses it");
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

#[cfg(test)]
mod tests;
