//! What the node does besides building and stopping: it answers requests and watches its own health.
//!
//! Owns: the thread that runs verbs; what health is asked of. Does not know: MQTT, thresholds.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Map, Value};
use vedette_core::{ClockSource, EndedBy, Event, IncidentIds, Moment, Name, Pts};

use super::{Host, Node};
use crate::commands::{self, Site};
use crate::health::losses::{Losses, Notice};
use crate::health::{Health, Trouble, probes};
use crate::outbox::Outbox;
use crate::random::system_seed;
use crate::sinks::mqtt::Asked;
use crate::sinks::{Latest, SinkStatus};
use crate::time_sync::Watch;
use crate::wire::{Dialect, Place, Update, vedette::Vedette};

/// Requests that wait, at most; more are answered with `busy`.
const WAITING: usize = 16;

/// The health of the node, and what it was compared with last.
pub(super) struct Duties {
    health: Health,
    losses: Losses,
    sinks: BTreeMap<Name, SinkStatus>,
    unheard: BTreeMap<Name, bool>,
    /// Whether the host's clock is synchronised.
    pub(super) time: Watch,
}

impl Duties {
    pub(super) fn new(host: &Host) -> std::io::Result<Self> {
        let health = Health::new(IncidentIds::seeded(system_seed()?));
        let losses = Losses::open(&host.state, host.clock.wall())?;
        let (sinks, unheard) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { health, losses, sinks, unheard, time: Watch::default() })
    }

    fn loss(&mut self, moment: Moment, notice: &Notice) -> Option<Event> {
        let mut event = self.health.once(moment, &notice.trouble)?;
        (event.value, event.unit) = (Some(notice.dropped as f64), Some("events"));
        Some(event)
    }
}

impl Node {
    /// Starts the thread that runs verbs; it ends when the last broker's connection has ended.
    pub(super) fn listen(&self) -> std::io::Result<Sender<Asked>> {
        let (to, asked) = bounded(WAITING);
        let latest = Arc::clone(&self.latest);
        let at = Place { prefix: String::new(), node: self.config.node.id.clone() };
        let rules = |(id, camera): (&Name, &Arc<crate::config::Camera>)| {
            (id.clone(), camera.rules.keys().cloned().collect())
        };
        let site = Site {
            node: self.config.node.id.clone(),
            rules: self.config.cameras.iter().map(rules).collect(),
            arming: Arc::clone(&self.arming),
            wakes: Arc::clone(&self.wakes),
            outbox: Arc::clone(&self.outbox),
            evidence: self.evidence.handle(),
            clock: Arc::clone(&self.host.clock),
            ids: IncidentIds::seeded(system_seed()?),
            status: Box::new(move || status(&latest, &at)),
        };
        std::thread::Builder::new().name("commands".to_owned()).spawn(move || serve(site, &asked))?;
        Ok(to)
    }

    /// Where its events go: whatever produces some beside the cameras asks here.
    pub fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::clone(&self.outbox)
    }

    fn now(&self) -> Moment {
        let wall_ok = self.wall_ok.load(std::sync::atomic::Ordering::Relaxed);
        Moment { pts: Pts::ZERO, wall: self.host.clock.wall(), wall_ok, clock: ClockSource::Host }
    }

    /// Once a second: what is wrong, and what is over.
    pub(super) fn check_health(&mut self) {
        let (now, moment) = (self.host.clock.now(), self.now());
        let found = self.troubles();
        let mut events = self.duties.health.judge((now, moment), found);
        let ended = self.embedded.as_ref().and_then(|broker| probes::embedded(broker.news_of_ends()));
        events.extend(ended.and_then(|ended| self.duties.health.once(moment, &ended)));
        self.produce(events);
        for (id, status) in self.sinks.iter().map(|s| (s.id().clone(), s.status())) {
            let notice = self.duties.losses.due(now, &id, &status);
            self.duties.sinks.insert(id, status);
            let Some(notice) = notice else { continue };
            let Some(event) = self.duties.loss(moment, &notice) else { continue };
            let (what, why) = (event.rule.clone(), event.why.clone());
            match self.outbox.append(event, None) {
                Ok(seq) => {
                    log::info!(seq; "health, {what}: {why}");
                    self.duties.losses.told(now, &notice);
                }
                Err(error) => {
                    if self.duties.losses.failed(now, &notice) {
                        log::error!("health, {what}: {why}; it is told once it can be: {error}");
                    }
                }
            }
        }
    }

    fn troubles(&mut self) -> Vec<Trouble> {
        let cameras = self.cameras.iter().filter_map(|c| probes::camera(&c.config().id, &c.snapshot()));
        let mut found: Vec<_> = cameras.collect();
        found.extend(probes::disk(&self.host.state));
        found.extend(probes::disk_full(self.outbox.is_strained(), &self.host.state));
        found.extend(probes::clock(self.wall_ok.load(std::sync::atomic::Ordering::Relaxed)));
        if let Some(wished) = self.config.inference.providers.first() {
            found.extend(probes::provider(wished, self.served.report.provider()));
        }
        // One incident for the node, whichever broker it is first said of.
        let duties = &mut self.duties;
        let unheard = self.sinks.iter().filter_map(|sink| {
            let (id, now) = (sink.id(), sink.status());
            let before = duties.sinks.get(id).cloned().unwrap_or_default();
            let was = duties.unheard.get(id).copied().unwrap_or_default();
            let trouble = probes::nobody_listens(id, &now, &before, was);
            duties.unheard.insert(id.clone(), trouble.is_some());
            trouble
        });
        let unheard: Vec<_> = unheard.collect();
        found.extend(unheard.into_iter().next());
        found
    }

    /// Whether all of them are.
    fn produce(&self, events: Vec<Event>) -> bool {
        let mut all = true;
        for event in events {
            let (what, why) = (event.rule.clone(), event.why.clone());
            match self.outbox.append(event, None) {
                Ok(seq) => log::info!(seq; "health, {what}: {why}"),
                Err(error) => {
                    all = false;
                    log::error!("health, {what}: {why}; the event is lost: {error}");
                }
            }
        }
        all
    }

    /// Before brokers are drained: no trouble stays open and no loss untold behind a daemon that is gone.
    pub(super) fn close_health(&mut self, by: EndedBy) {
        let (now, moment) = (self.host.clock.now(), self.now());
        let events = self.duties.health.close(moment, by);
        self.produce(events);
        for (id, status) in self.sinks.iter().map(|s| (s.id().clone(), s.status())) {
            let Some(notice) = self.duties.losses.owed(&id, &status) else { continue };
            let event = self.duties.loss(moment, &notice);
            if event.is_some_and(|event| self.produce(vec![event])) {
                self.duties.losses.told(now, &notice);
            }
        }
    }
}

fn serve(mut site: Site, asked: &Receiver<Asked>) {
    while let Ok(request) = asked.recv() {
        let answer = commands::answer(&mut site, &request.verb, &request.payload);
        log::info!(broker = request.broker.as_str(); "request `{}` of broker {} answered", request.verb, request.broker);
        request.answer(answer);
    }
}

/// The retained topics of the dialect `vedette`, by topic below the node's.
fn status(latest: &Latest, at: &Place) -> Value {
    let told =
        latest.values().into_iter().filter(|update| !matches!(update, Update::Stats(_) | Update::Scene(_)));
    let messages = told.flat_map(|update| Vedette.update(at, &update));
    let entry = |m: crate::wire::Message| Some((m.topic, serde_json::from_slice(&m.payload).ok()?));
    Value::Object(messages.filter_map(entry).collect::<Map<_, _>>())
}
