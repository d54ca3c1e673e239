//! A session of a Sparkplug B edge node: births first, then what changed and what happened, everything numbered as it
//! goes.
//!
//! Owns: `seq` and `bdSeq`, what is due when, when an event counts as delivered. Does not know: metrics (`wire`),
//! sockets, tasks.
//!
//! Delivery: Sparkplug sends at QoS 0, so nobody acknowledges an event. It leaves the outbox when the broker has shown
//! that it read on after it: the answer to a fence, a SUBSCRIBE handed over behind it. Asking once more for our
//! commands changes nothing, every access list allows it, and SUBACK is what every broker answers. (It is no PINGREQ:
//! rumqttc sends those at its own times alone, and takes a second one before the answer for a lost connection. It is no
//! UNSUBSCRIBE from what nobody subscribed to: rumqttd, the embedded broker, does not answer it.) With a primary host it
//! must be online up to that answer. This says that the broker had the event, not that a host did: "nothing is lost" is
//! promised by the dialects at QoS 1. What was appended before the node's birth, or was under way when an earlier
//! connection ended, is told as historical, with its own times and in order: the birth has told what is current.
//!
//! A camera that is lost cannot speak. Its events, such as the one that says so, are then told as the node's, with
//! `Event/Camera` as everywhere.

mod bd_seq;
mod host;
mod last_events;
mod picture;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prost::Message as _;
use vedette_core::{CameraId, Clock, Mono, Name};

use self::bd_seq::BdSeq;
use self::host::{Change, Host};
use self::last_events::LastEvents;
use self::picture::{Picture, Step};
use super::conversation::{Context, Conversation, Link, Speaker};
use super::link::{Limits, Publish, Received, Refusal, Taken};
use super::pace::Pace;
use crate::config::MqttVersion;
use crate::outbox::Stored;
use crate::sinks::order::Cursor;
use crate::wire::sparkplug::{self as spb, Metric, Payload, Sparkplug, Verb};
use crate::wire::{self, Dialect};

/// Events handed over and behind no answered fence, at most: after a disconnect all of them are sent again.
const WINDOW: usize = 100;

/// Messages handed over and not on the wire, at most; the rest of the link's room is for the last word, fences and
/// subscriptions.
const HANDED: usize = 40;

/// A broker that answers pings but no fence for so long is as good as gone.
const ANSWER: Duration = Duration::from_secs(30);

/// The appliance at one broker.
pub(super) struct EdgeNode {
    dialect: Sparkplug,
    bd_seq: BdSeq,
    /// Of the last CONNECT.
    number: u8,
    last: LastEvents,
}

impl EdgeNode {
    /// `state` is the folder that keeps the number of the last CONNECT.
    pub(super) fn new(dialect: Sparkplug, sink: &Name, state: PathBuf) -> Self {
        Self { dialect, bd_seq: BdSeq::new(state, sink), number: 0, last: LastEvents::default() }
    }
}

impl Speaker for EdgeNode {
    /// A DISCONNECT of MQTT 5 would have to carry the reason 0x04 (`…-publisher-disconnect-mqtt50`), which rumqttc
    /// cannot give; and hosts speak 3.1.1.
    fn version(&self) -> MqttVersion {
        MqttVersion::V311
    }

    fn will(&mut self, context: &Context, clock: &dyn Clock) -> Option<Publish> {
        self.number = self.bd_seq.next(clock.wall());
        Some(death(context, &self.dialect, self.number))
    }

    fn not_reached(&mut self) {
        self.bd_seq.spare();
    }

    fn converse<'a>(
        &'a mut self,
        context: &'a Context,
        clock: &'a dyn Clock,
        limits: Limits,
    ) -> Box<dyn Conversation + 'a> {
        Box::new(Session::new(context, clock, (&self.dialect, &self.last), self.number, limits))
    }
}

fn publish(context: &Context, dialect: &Sparkplug, topic: &str, payload: Vec<u8>) -> Publish {
    Publish {
        topic: wire::topic(&dialect.root(&context.place), topic),
        payload: payload.into(),
        retained: false,
        answered: false,
        properties: context.properties(dialect, None),
    }
}

fn death(context: &Context, dialect: &Sparkplug, number: u8) -> Publish {
    let topic = Sparkplug::topic(Verb::NodeDeath, &context.place.node, None);
    Publish { answered: true, ..publish(context, dialect, &topic, spb::death(number)) }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handed {
    Yes,
    NoRoom,
    /// The broker bears no packet of its size.
    TooLarge,
}

/// Over one connection.
struct Session<'a> {
    context: &'a Context,
    clock: &'a dyn Clock,
    dialect: &'a Sparkplug,
    last: &'a LastEvents,
    /// Of this connection.
    bd_seq: u8,
    limits: Limits,
    /// Topic filters that are not asked for yet.
    subscriptions: VecDeque<String>,
    /// How many that were asked for are not answered; those that come after are fences.
    asked: usize,
    host: Host<'a>,
    picture: Picture,
    /// Version of the latest value that was taken.
    seen: u64,
    /// Of the next message.
    seq: u8,
    /// The last event that was appended before the node's birth; none: not born.
    horizon: Option<u64>,
    /// Events up to here are told.
    cursor: Cursor,
    pace: Pace,
    /// Events behind the last fence.
    unfenced: Vec<u64>,
    /// Events before it; none: its answer is here.
    fencing: Option<Vec<u64>>,
    /// Messages that are not on the wire.
    handed: usize,
    /// Deaths that the broker has not taken.
    unanswered: usize,
    /// Since when the broker owes an answer.
    owes: Option<Mono>,
    leaving: Option<String>,
    /// The last word is handed over.
    ended: bool,
}

impl<'a> Session<'a> {
    fn new(
        context: &'a Context,
        clock: &'a dyn Clock,
        (dialect, last): (&'a Sparkplug, &'a LastEvents),
        bd_seq: u8,
        limits: Limits,
    ) -> Self {
        let session = Self {
            context,
            clock,
            dialect,
            last,
            bd_seq,
            limits,
            subscriptions: dialect.subscriptions(&context.place).into(),
            asked: 0,
            host: Host::new(dialect.primary_host()),
            picture: Picture::default(),
            seen: 0,
            seq: 0,
            horizon: None,
            cursor: Cursor::new(context.replay),
            pace: Pace::new(context.replay_per_second, clock.now()),
            unfenced: Vec::new(),
            fencing: None,
            handed: 0,
            unanswered: 0,
            owes: None,
            leaving: None,
            ended: false,
        };
        if let Some(host) = session.host.awaited() {
            session.context.status.change(|s| {
                s.last_error = Some(format!("waits for the primary host {host} to be online"));
            });
        }
        session
    }

    fn says_nothing(&self) -> bool {
        self.host.awaited().is_some() || self.leaving.is_some() || self.ended
    }

    /// Hands a message over, with the next number; births of the node begin at 0.
    fn say(
        &mut self,
        verb: Verb,
        camera: Option<&CameraId>,
        mut metrics: Vec<Metric>,
        link: &mut dyn Link,
    ) -> Handed {
        if self.handed >= HANDED {
            return Handed::NoRoom;
        }
        let seq = if verb == Verb::NodeBirth { 0 } else { self.seq };
        let timestamp = Some(spb::millis(self.clock.wall()));
        metrics.sort_by_key(|metric| metric.timestamp);
        let payload = Payload { timestamp, metrics, seq: Some(u64::from(seq)) };
        let topic = Sparkplug::topic(verb, &self.context.place.node, camera);
        let what = publish(self.context, self.dialect, &topic, payload.encode_to_vec());
        if !self.limits.bear(&what) {
            return Handed::TooLarge;
        }
        if !link.publish(what) {
            return Handed::NoRoom;
        }
        self.handed += 1;
        self.seq = seq.wrapping_add(1);
        Handed::Yes
    }

    /// What a birth says of the last event that was told, with its own time.
    fn last_event(&self, camera: Option<&CameraId>) -> Vec<Metric> {
        self.last.of(camera).unwrap_or_else(|| spb::at(spb::no_event(), self.clock.wall()))
    }

    /// False where it has to be tried again.
    fn take(&mut self, step: &Step, link: &mut dyn Link) -> bool {
        let now = self.clock.wall();
        let handed = match step {
            Step::NodeBirth(facts) => {
                let mut metrics = self.last_event(None);
                let own = [spb::bd_seq(self.bd_seq), spb::rebirth()];
                metrics.extend(spb::at(own.into_iter().chain(facts.clone()).collect(), now));
                self.say(Verb::NodeBirth, None, metrics, link)
            }
            Step::DeviceBirth(camera, facts) => {
                let mut metrics = self.last_event(Some(camera));
                metrics.extend(spb::at(facts.clone(), now));
                self.say(Verb::DeviceBirth, Some(camera), metrics, link)
            }
            Step::DeviceDeath(camera) => self.say(Verb::DeviceDeath, Some(camera), Vec::new(), link),
            Step::NodeData(facts) => self.say(Verb::NodeData, None, spb::at(facts.clone(), now), link),
            Step::DeviceData(camera, facts) => {
                self.say(Verb::DeviceData, Some(camera), spb::at(facts.clone(), now), link)
            }
        };
        match handed {
            Handed::Yes => self.picture.told(step),
            Handed::NoRoom => {}
            // Without a birth nothing else may be said.
            Handed::TooLarge => {
                let of =
                    if let Step::DeviceBirth(camera, _) = step { camera } else { &self.context.place.node };
                self.leaving =
                    Some(format!("the birth of {of} is larger than the Maximum Packet Size of the broker"));
            }
        }
        handed == Handed::Yes
    }

    fn under_way(&self) -> usize {
        self.unfenced.len() + self.fencing.as_ref().map_or(0, Vec::len)
    }

    /// Hands over an event; false where there is no room.
    fn tell(&mut self, stored: &Stored, horizon: u64, now: Mono, link: &mut dyn Link) -> bool {
        let (outbox, id) = (&self.context.outbox, &self.context.id);
        let Some(frozen) = stored.messages.iter().find(|m| m.dialect == self.dialect.key()) else {
            outbox.ack(id, stored.seq);
            self.cursor.pass(stored);
            return true;
        };
        let historical = stored.seq <= horizon;
        let Some(metrics) = spb::thaw(&frozen.payload, historical) else {
            self.cursor.pass(stored);
            self.context.give_up(stored.seq, "its stored bytes are no Sparkplug payload");
            return true;
        };
        let speaker = stored.camera.as_ref().filter(|camera| self.picture.is_born(camera));
        let verb = if speaker.is_some() { Verb::DeviceData } else { Verb::NodeData };
        match self.say(verb, speaker, metrics.clone(), link) {
            Handed::NoRoom => return false,
            Handed::TooLarge => {
                self.context.give_up(stored.seq, "it is larger than the broker's Maximum Packet Size");
            }
            Handed::Yes => {
                self.unfenced.push(stored.seq);
                self.pace.take(now);
                // The last one, once it is told, however long it waited.
                self.last.told(speaker, stored.seq, metrics);
            }
        }
        self.cursor.pass(stored);
        true
    }

    fn tell_events(&mut self, horizon: u64, now: Mono, link: &mut dyn Link) {
        while self.under_way() < WINDOW && self.pace.wait(now).is_none() {
            let Some(stored) = self.cursor.next(&*self.context.outbox, &self.context.id) else { return };
            if !self.tell(&stored, horizon, now, link) {
                return;
            }
        }
    }

    /// One fence at a time: what comes meanwhile waits for the next.
    fn fence(&mut self, now: Mono, link: &mut dyn Link) {
        if self.unfenced.is_empty() || self.fencing.is_some() {
            return;
        }
        if link.subscribe(&self.dialect.command_topic(&self.context.place.node)) {
            self.fencing = Some(std::mem::take(&mut self.unfenced));
            self.owes.get_or_insert(now);
        }
    }

    fn host_says(&mut self, payload: &[u8]) {
        let host = self.dialect.primary_host().unwrap_or_default();
        match self.host.says(payload) {
            Some(Change::Came) => {
                self.context.status.change(|s| s.last_error = None);
                let id = &self.context.id;
                log::info!(broker = id.as_str(); "broker {id}: the primary host {host} is online");
            }
            Some(Change::Left) => self.leaving = Some(format!("the primary host {host} is offline")),
            None => {}
        }
    }
}

impl Conversation for Session<'_> {
    fn is_deaf(&self, now: Mono) -> bool {
        self.owes.is_some_and(|since| now.since(since) > ANSWER)
    }

    fn is_idle(&self) -> bool {
        let settled = self.handed == 0 && self.unanswered == 0;
        settled && (self.says_nothing() || self.picture.due().is_none())
    }

    fn wakes(&self, now: Mono) -> Option<Duration> {
        let may = !self.says_nothing() && self.horizon.is_some() && self.under_way() < WINDOW;
        let waiting = may && self.cursor.next(&*self.context.outbox, &self.context.id).is_some();
        waiting.then(|| self.pace.wait(now)).flatten()
    }

    fn fill(&mut self, now: Mono, link: &mut dyn Link) {
        while let Some(filter) = self.subscriptions.front() {
            if !link.subscribe(filter) {
                return;
            }
            self.asked += 1;
            self.subscriptions.pop_front();
        }
        for entry in self.context.latest.since(self.seen) {
            self.seen = entry.version;
            self.picture.learn(entry);
        }
        if self.says_nothing() {
            return;
        }
        let appended = || *self.context.outbox.subscribe().borrow();
        let horizon = *self.horizon.get_or_insert_with(appended);
        while let Some(step) = self.picture.due() {
            if !self.take(&step, link) {
                return;
            }
        }
        self.tell_events(horizon, now, link);
        self.fence(now, link);
    }

    fn sent(&mut self, pkid: u16, _now: Mono) {
        self.handed = self.handed.saturating_sub(1);
        self.unanswered += usize::from(pkid != 0);
    }

    fn answered(&mut self, _pkid: u16, _answer: Result<Taken, Refusal>, _now: Mono) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.owes = None;
    }

    fn subscribed(&mut self, refused: Option<&str>) {
        if self.asked > 0 {
            self.asked -= 1;
            if let Some(reason) = refused {
                self.context.warn_of_refused_subscription(reason);
            }
            return;
        }
        // Refused or not: it was read.
        self.owes = None;
        // A host that went away meanwhile may not have had them: they are kept for the next session.
        if self.host.awaited().is_some() || self.leaving.is_some() {
            return;
        }
        let read = self.fencing.take().unwrap_or_default();
        read.iter().for_each(|&seq| self.context.outbox.ack(&self.context.id, seq));
        self.context.taken.fetch_add(read.len() as u64, Relaxed);
        self.context.status.change(|s| s.acked += read.len() as u64);
    }

    fn received(&mut self, message: &Received) {
        if Some(&message.topic) == self.dialect.host_topic().as_ref() {
            self.host_says(&message.payload);
            return;
        }
        // A kept command is an old one; a fence would bring it again and again.
        let is_command = message.topic == self.dialect.command_topic(&self.context.place.node);
        if is_command && !message.retained && spb::asks_for_rebirth(&message.payload) {
            self.picture.forget();
        }
    }

    fn wants_to_leave(&self) -> Option<String> {
        self.leaving.clone()
    }

    fn last_words(&mut self, clock: &dyn Clock, link: &mut dyn Link) {
        self.ended = true;
        if link.publish(death(self.context, self.dialect, self.bd_seq)) {
            self.handed += 1;
            self.owes = Some(clock.now());
        }
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
