//! The worker of one broker: connects, serves the connection until it ends, waits, connects again.
//!
//! Owns: the loop, its waits and its end. Does not know: what is sent (a `conversation`), how (`link`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use vedette_core::{Clock, Mono};

use super::conversation::{Context, Conversation, Link, Speaker};
use super::link::{self, Happened, LinkError, Poller, Publish, Sender};
use super::plain::Plain;
use super::requests::Desk;
use super::sparkplug::EdgeNode;
use super::{Address, MqttConfig, Status};
use crate::config::MqttVersion;
use crate::sinks::SinkDeps;
use crate::sinks::backoff::Backoff;
use crate::sinks::running::within_deadline;
use crate::wire::{Manner, Place};

/// A connection that lasted so long was a good one: the next failure is a new story.
const GOOD: Duration = Duration::from_secs(10);

/// So was one on which the broker took events, if it lasted so long: who hangs up at once is not asked every second.
const GOOD_WITH_EVENTS: Duration = Duration::from_secs(1);

/// How often timeouts and parked cameras are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How long the broker gets to close its side after our farewell.
const LINGER: Duration = Duration::from_millis(500);

pub(super) struct Worker {
    config: MqttConfig,
    context: Context,
    speaker: Box<dyn Speaker>,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<Option<Duration>>,
    appended: watch::Receiver<u64>,
    changed: watch::Receiver<u64>,
    /// When to stop delivering and say goodbye.
    drain_until: Option<Mono>,
    complaint: Option<String>,
    /// What is spoken to a broker whose configuration leaves it open.
    version: MqttVersion,
    /// Answers to requests.
    answered: mpsc::UnboundedReceiver<Publish>,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// `offline` is handed over.
    LastWord,
    /// DISCONNECT is handed over.
    Farewell,
}

impl Worker {
    pub(super) fn new(
        config: MqttConfig,
        deps: SinkDeps,
        status: Arc<Status>,
        stop: watch::Receiver<Option<Duration>>,
    ) -> Self {
        let SinkDeps { node, outbox, clock, runtime: _, latest, state, commands } = deps;
        let (answers, answered) = mpsc::unbounded_channel();
        let desk = Desk {
            broker: config.id.clone(),
            root: format!("{}/{node}", config.prefix),
            allowed: config.commands.clone(),
            to: commands,
            answers,
        };
        let (appended, changed) = (outbox.subscribe(), latest.subscribe());
        let context = Context {
            id: config.id.clone(),
            place: Place { prefix: config.prefix.clone(), node },
            dialects: config.dialects.clone(),
            acknowledged: config.acknowledged,
            replay_per_second: config.replay_per_second,
            replay: config.replay,
            expiry: config.expiry.clone(),
            outbox,
            latest,
            status,
            taken: AtomicU64::new(0),
            desk,
        };
        let manner = config.dialects.first().map_or(Manner::Plain, |dialect| dialect.manner());
        let speaker: Box<dyn Speaker> = match manner {
            Manner::Plain => Box::new(Plain),
            Manner::Sparkplug(dialect) => Box::new(EdgeNode::new(dialect.clone(), &config.id, state)),
        };
        let version = config.version.unwrap_or_else(|| speaker.version());
        Self {
            config,
            context,
            speaker,
            clock,
            stop,
            appended,
            changed,
            drain_until: None,
            complaint: None,
            version,
            answered,
        }
    }

    /// Serves until asked to stop; true when nothing was left to deliver.
    pub(super) async fn run(mut self) -> bool {
        let stop = self.stop.clone();
        // On the heap: the connection of either version is large, and there is one of these a broker.
        within_deadline(stop, Box::pin(self.serve())).await;
        self.context.status.change(|s| s.connected = false);
        self.context.outbox.depth(&self.context.id) == 0
    }

    async fn serve(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let (mut connected, taken) = (None, self.context.taken.load(Relaxed));
            let Err(error) = self.connection(&mut connected).await else { return };
            self.context.status.change(|s| {
                s.connected = false;
                s.last_error = Some(error.to_string());
            });
            let stopping = self.stop.borrow().is_some();
            if stopping && self.context.outbox.next(&self.context.id, 0).is_none() {
                return;
            }
            // A broker that flaps but takes events in between is served whenever it is there.
            let took_events = self.context.taken.load(Relaxed) > taken;
            if connected.is_some_and(|since| was_good(self.clock.now().since(since), took_events)) {
                backoff.reset();
            }
            if connected.is_none() && self.config.version.is_none() && error.may_be_version() {
                self.try_other_version();
            }
            if matches!(error, LinkError::NotReached(_)) {
                self.speaker.not_reached();
            }
            self.complain(&error);
            let wait = backoff.next().max(error.patience());
            let wait = if stopping { wait.min(Duration::from_secs(1)) } else { wait };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.stop.changed() => {}
            }
        }
    }

    /// Old brokers hang up on a CONNECT of MQTT 5, or refuse it in words of their own.
    fn try_other_version(&mut self) {
        self.version = match self.version {
            MqttVersion::V5 => MqttVersion::V311,
            MqttVersion::V311 => MqttVersion::V5,
        };
        let (id, version) = (&self.context.id, self.version);
        log::debug!(broker = id.as_str(); "broker {id}: MQTT {version} is tried next");
    }

    /// The same trouble is said once, not at every attempt.
    fn complain(&mut self, error: &LinkError) {
        let (id, text) = (&self.context.id, error.to_string());
        if self.complaint.as_ref() == Some(&text) {
            log::debug!(broker = id.as_str(); "broker {id}: still: {text}");
            return;
        }
        if error.passes() {
            log::warn!(broker = id.as_str(); "broker {id}: {text}; events are kept, trying again");
        } else {
            log::error!(broker = id.as_str(); "broker {id}: {text}");
        }
        self.complaint = Some(text);
    }

    /// One connection, from opening to its end. `Ok` when it ended because the worker stops.
    async fn connection(&mut self, connected: &mut Option<Mono>) -> Result<(), LinkError> {
        let will = self.speaker.will(&self.context, &*self.clock);
        let (sender, mut poller) = link::open(&self.config, self.version, will)?;
        let (context, clock) = (&self.context, &*self.clock);
        let mut speaker = Some(&mut self.speaker);
        let mut live: Option<Live<'_>> = None;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let happened = {
                // Not dropped before it is done: see `Poller`.
                let poll = poller.poll();
                tokio::pin!(poll);
                loop {
                    let wakes =
                        live.as_ref().and_then(|live| live.session.wakes(clock.now())).unwrap_or(TICK);
                    tokio::select! {
                        happened = &mut poll => break happened?,
                        _ = self.appended.changed() => {}
                        _ = self.changed.changed() => {}
                        Some(answer) = self.answered.recv() => if let Some(live) = &mut live {
                            live.session.answer(answer);
                        },
                        _ = self.stop.changed() => {}
                        _ = tick.tick() => {}
                        () = tokio::time::sleep(wakes) => {}
                    }
                    if let Some(live) = &mut live {
                        live.turn(clock.now(), *self.stop.borrow(), &mut self.drain_until)?;
                    }
                }
            };
            match (happened, &mut live) {
                (Happened::Connected(limits), _) => {
                    let (id, Address { host, port, .. }) = (&context.id, &self.config.address);
                    log::info!(broker = id.as_str(); "broker {id}: connected to {host}:{port}, MQTT {}", self.version);
                    context.replay.announce("broker", id, context.outbox.depth(id));
                    self.complaint = None;
                    context.status.change(|s| (s.connected, s.last_error) = (true, None));
                    *connected = Some(clock.now());
                    // A link is for one connection, so this happens once.
                    live = speaker.take().map(|speaker| {
                        let session = speaker.converse(context, clock, limits);
                        Live::new(context, clock, &sender, session)
                    });
                }
                (Happened::Farewell, live) => {
                    linger(&mut poller).await;
                    let why = live.as_mut().and_then(|live| live.why.take());
                    return why.map_or(Ok(()), |why| Err(LinkError::Left(why)));
                }
                (happened, Some(live)) => live.hear(happened),
                (_, None) => {}
            }
            if let Some(live) = &mut live {
                live.turn(clock.now(), *self.stop.borrow(), &mut self.drain_until)?;
            }
        }
    }
}

/// Whether the end of a connection that `lasted` so long is a new story.
fn was_good(lasted: Duration, took_events: bool) -> bool {
    lasted > GOOD || (took_events && lasted >= GOOD_WITH_EVENTS)
}

/// Closing first, with answers unread, could take back what the broker has not read yet.
async fn linger(poller: &mut Poller) {
    let _ = tokio::time::timeout(LINGER, async { while poller.poll().await.is_ok() {} }).await;
}

impl Link for &Sender {
    fn publish(&mut self, publish: Publish) -> bool {
        Sender::publish(self, publish)
    }

    fn subscribe(&mut self, filter: &str) -> bool {
        Sender::subscribe(self, filter)
    }
}

/// A connection that the broker has accepted.
struct Live<'a> {
    context: &'a Context,
    clock: &'a dyn Clock,
    sender: &'a Sender,
    session: Box<dyn Conversation + 'a>,
    leaving: Leaving,
    /// Why it ends although the daemon goes on.
    why: Option<String>,
}

impl<'a> Live<'a> {
    fn new(
        context: &'a Context,
        clock: &'a dyn Clock,
        sender: &'a Sender,
        session: Box<dyn Conversation + 'a>,
    ) -> Self {
        Self { context, clock, sender, session, leaving: Leaving::No, why: None }
    }

    fn hear(&mut self, happened: Happened) {
        let now = self.clock.now();
        match happened {
            Happened::Sent(pkid) => self.session.sent(pkid, now),
            Happened::Answered(pkid, answer) => self.session.answered(pkid, answer, now),
            Happened::Received(message) => self.session.received(&message),
            Happened::Subscribed(refused) => self.session.subscribed(refused.as_deref()),
            Happened::Connected(_)
            | Happened::Pinged
            | Happened::Ponged
            | Happened::Farewell
            | Happened::Nothing => {}
        }
    }

    /// Hands over what may go, and takes the next step of leaving when it is time. `wish` is how long the worker has
    /// for stopping; four fifths of it are for delivering.
    fn turn(&mut self, now: Mono, wish: Option<Duration>, until: &mut Option<Mono>) -> Result<(), LinkError> {
        if self.session.is_deaf(now) {
            return Err(LinkError::Lost("it answers no publish any more".to_owned()));
        }
        let mut link = self.sender;
        match self.leaving {
            Leaving::No => {
                self.session.fill(now, &mut link);
                self.why = self.session.wants_to_leave();
                if self.why.is_some() {
                    self.session.last_words(self.clock, &mut link);
                    self.leaving = Leaving::LastWord;
                    return self.turn(now, wish, until);
                }
                let Some(wish) = wish else { return Ok(()) };
                let until = *until.get_or_insert(now + wish.mul_f64(0.8));
                let delivered = || self.context.outbox.next(&self.context.id, 0).is_none();
                if now >= until || (self.session.is_idle() && delivered()) {
                    self.session.last_words(self.clock, &mut link);
                    self.leaving = Leaving::LastWord;
                    return self.turn(now, Some(wish), &mut Some(until));
                }
            }
            Leaving::LastWord => {
                let late = until.is_some_and(|until| now >= until + wish.unwrap_or_default().mul_f64(0.1));
                if (self.session.is_idle() || late) && self.sender.farewell() {
                    self.leaving = Leaving::Farewell;
                }
            }
            Leaving::Farewell => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_hangs_up_at_each_publish_is_waited_for_longer_and_longer() {
        for (lasted_ms, took_events, good) in [
            (5, false, false),
            // It was written, not taken; or one was taken, and the next one made it hang up.
            (5, true, false),
            (999, true, false),
            // One that flaps every 3 s, at work and not.
            (3_000, true, true),
            (3_000, false, false),
            (10_001, false, true),
        ] {
            let lasted = Duration::from_millis(lasted_ms);
            assert_eq!(was_good(lasted, took_events), good, "{lasted_ms} ms, {took_events}");
        }
    }
}
