//! What the worker of a broker drives: one connection after another, and what is said over each.
//!
//! Owns: the seam between worker and sessions, and what all sessions need. Does not know: what is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use vedette_core::{Clock, Mono, Name};

use super::link::{Limits, Properties, Publish, Received, Refusal, Taken};
use super::requests::Desk;
use super::{Expiry, Status};
use crate::config::MqttVersion;
use crate::outbox::{Frozen, Outbox};
use crate::sinks::Replay;
use crate::sinks::latest::Latest;
use crate::wire::{self, Dialect, Message, Place, Update};

/// Who speaks to a broker; outlives connections.
pub(super) trait Speaker: Send {
    /// Which MQTT is tried first where the configuration leaves it open.
    fn version(&self) -> MqttVersion {
        MqttVersion::default()
    }

    /// A connection is about to be opened: what the broker is to publish when it ends without farewell.
    fn will(&mut self, context: &Context, clock: &dyn Clock) -> Option<Publish>;

    /// The last attempt did not get as far as the broker.
    fn not_reached(&mut self) {}

    /// The broker has accepted the connection.
    fn converse<'a>(
        &'a mut self,
        context: &'a Context,
        clock: &'a dyn Clock,
        limits: Limits,
    ) -> Box<dyn Conversation + 'a>;
}

/// What is said over one connection. Dropped with it.
pub(super) trait Conversation: Send {
    /// Whether the broker owes an answer for too long.
    fn is_deaf(&self, now: Mono) -> bool;

    /// Whether everything that can be told now is told, and answered where that is asked for.
    fn is_idle(&self) -> bool;

    /// When [`Conversation::fill`] could do more although nothing happens until then.
    fn wakes(&self, now: Mono) -> Option<Duration>;

    /// Hands over as much as may be under way.
    fn fill(&mut self, now: Mono, link: &mut dyn Link);

    /// The next publish in the order of handing over is on the wire; `pkid` 0: it is not answered.
    fn sent(&mut self, pkid: u16, now: Mono);

    /// The broker has taken or refused a publish.
    fn answered(&mut self, pkid: u16, answer: Result<Taken, Refusal>, now: Mono);

    /// The broker answered the next subscription in the order of asking; with its reason where it refuses.
    fn subscribed(&mut self, refused: Option<&str>);

    /// Hands over the answer to a request; those that listen to none have none.
    fn answer(&mut self, _answer: Publish) {}

    /// A message on one of the subscriptions.
    fn received(&mut self, message: &Received);

    /// Why the connection is to end, with last words and farewell, although the daemon goes on.
    fn wants_to_leave(&self) -> Option<String> {
        None
    }

    /// Hands over what is true once this worker is gone; [`Conversation::fill`] is not asked any more.
    fn last_words(&mut self, clock: &dyn Clock, link: &mut dyn Link);
}

/// Where publishes go: the connection, or a test's record.
pub(super) trait Link {
    /// False where there is no room.
    fn publish(&mut self, publish: Publish) -> bool;
    /// False where there is no room.
    fn subscribe(&mut self, filter: &str) -> bool;
}

/// What does not change from connection to connection.
pub(super) struct Context {
    pub(super) id: Name,
    pub(super) place: Place,
    pub(super) dialects: Vec<Arc<dyn Dialect>>,
    pub(super) acknowledged: bool,
    pub(super) replay_per_second: u32,
    pub(super) replay: Replay,
    pub(super) expiry: Expiry,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) latest: Arc<Latest>,
    pub(super) status: Arc<Status>,
    /// Events that the broker has answered for, over all connections: that one was written proves nothing.
    pub(super) taken: AtomicU64,
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

    pub(super) fn properties(&self, dialect: &dyn Dialect, expiry: Option<Duration>) -> Properties {
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
    pub(super) fn updates(&self, update: &Update, cleared: bool) -> Vec<Publish> {
        let messages = |d: &Arc<dyn Dialect>| match cleared {
            true => d.cleared(&self.place, update),
            false => d.update(&self.place, update),
        };
        // The next frame comes soon.
        let answered = self.acknowledged && !matches!(update, Update::Scene(_));
        let publish = |d: &Arc<dyn Dialect>, message| Publish { answered, ..self.publish(&**d, message) };
        let all = self
            .dialects
            .iter()
            .flat_map(|d| messages(d).into_iter().map(move |message| publish(d, message)));
        all.collect()
    }

    pub(super) fn event(&self, dialect: &dyn Dialect, kind: &str, frozen: &Frozen) -> Publish {
        Publish {
            topic: wire::topic(&dialect.root(&self.place), &frozen.topic),
            payload: frozen.payload.clone(),
            retained: false,
            answered: self.acknowledged,
            properties: self.properties(dialect, self.expiry.of(kind)),
        }
    }

    /// The event leaves the outbox: acknowledged `now`, where that is asked for. `captured` is of live events.
    pub(super) fn delivered(&self, seq: u64, now: Mono, handed: Mono, captured: Option<Mono>) {
        self.outbox.ack(&self.id, seq);
        self.taken.fetch_add(u64::from(self.acknowledged), Relaxed);
        self.status.change(|s| {
            s.acked += 1;
            if self.acknowledged {
                s.answer.note(now.since(handed));
                captured.into_iter().for_each(|at| s.capture.note(now.since(at)));
            }
        });
    }

    /// The event stays undelivered at this broker, and is counted.
    pub(super) fn give_up(&self, seq: u64, reason: &str) {
        let id = &self.id;
        log::error!(broker = id.as_str(), seq; "broker {id}: event {seq} is given up: {reason}");
        self.outbox.ack(id, seq);
        self.status.change(|s| {
            s.given_up += 1;
            s.last_error = Some(format!("event {seq} is given up: {reason}"));
        });
    }

    /// A subscription was refused, which nothing can be done about from here.
    pub(super) fn warn_of_refused_subscription(&self, reason: &str) {
        let id = &self.id;
        log::warn!(broker = id.as_str(); "broker {id}: refused a subscription: {reason}");
    }
}
