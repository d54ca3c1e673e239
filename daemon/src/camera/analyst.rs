//! What a camera's thread does with decoded frames: which go to the detector, what the scene says, where its events
//! go.
//!
//! Owns: the scene, the time line, how many frames the detector has. Does not know: packets' bytes, the
//! decoder, topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, Sender, unbounded};
use vedette_analysis::{Lost, Observation, Outcome, RuleState, Scene};
use vedette_core::{
    Answer, AnswerValue, ClockSource, EndedBy, Frame, IncidentIds, Moment, Mono, Name, Pts, Role, View, Want,
};
use vedette_ingest::{Packet, TimeLine};

use super::{CameraDeps, StartError, clock, scene_config};
use crate::config;
use crate::counters::CameraCounters;
use crate::infer::{Job, Lane, Purpose, Reply, Submitted};
use crate::pacer::Pacer;
use crate::random::system_seed;
use crate::wire::StateUpdate;

pub(super) struct Analyst {
    config: Arc<config::Camera>,
    deps: CameraDeps,
    counters: Arc<CameraCounters>,
    scene: Scene,
    line: TimeLine,
    /// The moment of the newest packet: what ticks and endings without frames count from.
    last: Option<Moment>,
    pacer: Pacer,
    /// Frames for which the detector owes a reply: one that it looks at and one that waits, at most.
    in_flight: usize,
    answers: Vec<Answer>,
    /// Which version of what was armed by command the scene has.
    arming_seen: u64,
    /// The rules' states as they were last told to the brokers.
    told: Vec<RuleState>,
    reply_to: Sender<Reply>,
    replies: Inbox<Reply>,
    /// When each rule's state became what it is.
    changed: BTreeMap<Name, jiff::Timestamp>,
}

impl Analyst {
    pub(super) fn new(
        config: &Arc<config::Camera>,
        deps: &CameraDeps,
        counters: Arc<CameraCounters>,
    ) -> Result<Self, StartError> {
        let scene = Scene::build(scene_config(config, &deps.time_zone), IncidentIds::seeded(system_seed()?))?;
        let (reply_to, replies) = unbounded();
        let mut analyst = Self {
            config: Arc::clone(config),
            deps: deps.clone(),
            counters,
            scene,
            line: TimeLine::default(),
            last: None,
            pacer: Pacer::new(config.fps),
            in_flight: 0,
            answers: Vec::new(),
            arming_seen: 0,
            told: Vec::new(),
            reply_to,
            replies,
            changed: BTreeMap::new(),
        };
        // Also while no packet comes: what a crash left behind at the broker is not true any more.
        analyst.tick();
        Ok(analyst)
    }

    /// Continues the time line of an analyst that broke.
    pub(super) fn take_over(&mut self, broken: Self) {
        (self.line, self.last) = (broken.line, broken.last);
    }

    /// Whether the detector has a frame of this camera.
    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight > 0
    }

    pub(super) fn replies(&self) -> &Inbox<Reply> {
        &self.replies
    }

    /// The stream begins anew: the time line goes on by the arrival gap.
    pub(super) fn reconnected(&mut self) {
        self.line.reconnected();
    }

    /// Puts a packet on the time line; a jump is told to the scene.
    pub(super) fn place(&mut self, packet: &Packet, wall_ok: bool) -> Moment {
        // The wall clock at arrival: this thread may have been busy since.
        let waited = self.deps.clock.now().since(packet.arrival);
        let wall = self.deps.clock.wall();
        let placed = self.line.place(packet, wall.checked_sub(waited).unwrap_or(wall), wall_ok);
        self.last = Some(placed.moment);
        clock::tell(&self.config.id, &mut self.line);
        if placed.gap {
            let outcome = self.scene.lost(placed.moment, Lost::Gap);
            self.deliver(outcome);
        }
        placed.moment
    }

    /// Hands a decoded frame to the detector if it is due; one that still waits there gives it its place.
    pub(super) fn on_frame(&mut self, frame: Frame) {
        if !self.pacer.take(frame.moment().pts) {
            return;
        }
        let job = Job {
            camera: self.config.id.clone(),
            role: Role::Detector,
            purpose: Purpose::Frame,
            lane: Lane::Latest,
            frame,
            view: View::WHOLE,
            reply: self.reply_to.clone(),
        };
        match self.deps.inference.submit(job) {
            Submitted::Queued => self.in_flight += 1,
            Submitted::Replaced | Submitted::Full { .. } => self.counters.dropped_busy.one(),
            Submitted::Unavailable => self.counters.dropped_failed.one(),
        }
    }

    /// Steps the scene with what the detector said of a frame, or keeps the answer to a want for the next step.
    pub(super) fn on_reply(&mut self, reply: Reply) {
        if let Purpose::Want(id) = reply.purpose {
            let pts = reply.frame.moment().pts;
            self.answers.push(Answer { id, pts, value: reply.into_answer() });
            return;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        let (frame, took) = (reply.frame.clone(), reply.took);
        match reply.detections() {
            Ok(detections) => {
                let answers = std::mem::take(&mut self.answers);
                let outcome = self.scene.step(
                    frame.moment(),
                    &Observation {
                        frame: Some(&frame),
                        aspect: frame.aspect(),
                        detections: Some(&detections),
                        answers: &answers,
                    },
                );
                self.note_step(&frame, took);
                self.ask(&outcome, &frame);
                self.deliver(outcome);
            }
            Err(error) => {
                self.counters.dropped_failed.one();
                log::error!(camera = self.config.id.as_str(); "detector failed: {error}");
            }
        }
    }

    fn note_step(&self, frame: &Frame, took: Duration) {
        let delay = self.age_of(frame.moment()).unwrap_or_default();
        self.counters.note_analysed(took, delay, self.scene.tracks().len());
    }

    /// Seconds from capture (on the time line) to now.
    fn age_of(&self, moment: Moment) -> Option<Duration> {
        Some(self.line.now(self.deps.clock.now())?.since(moment.pts))
    }

    /// Hands the scene's wants to the models that serve them.
    fn ask(&mut self, outcome: &Outcome, frame: &Frame) {
        for want in &outcome.wants {
            let job = Job {
                camera: self.config.id.clone(),
                role: want.role,
                purpose: Purpose::Want(want.id),
                lane: Lane::Want { by: self.deadline(want) },
                frame: frame.clone(),
                view: want.view,
                reply: self.reply_to.clone(),
            };
            if self.deps.inference.submit(job) == Submitted::Unavailable {
                let pts = frame.moment().pts;
                self.answers.push(Answer { id: want.id, pts, value: AnswerValue::Unavailable });
            }
        }
    }

    /// A want's deadline on the host's monotonic clock.
    fn deadline(&self, want: &Want) -> Mono {
        let now = self.deps.clock.now();
        let left = self.line.now(now).map_or(Duration::ZERO, |line| want.by.since(line));
        Mono(now.0 + left)
    }

    /// Now on the time line, also while no packets come; before the first one, its beginning at the host's time.
    fn now(&self) -> Moment {
        let line = self.line.now(self.deps.clock.now());
        match self.last {
            Some(last) => last.shifted_to(line.map_or(last.pts, |now| now.max(last.pts))),
            None => Moment {
                pts: Pts::ZERO,
                wall: self.deps.clock.wall(),
                wall_ok: self.deps.wall_ok.load(Relaxed),
                clock: ClockSource::Host,
            },
        }
    }

    /// What is wrong with the camera's clock.
    pub(super) fn clock_trouble(&self) -> Option<String> {
        clock::trouble(&self.line)
    }

    pub(super) fn tick(&mut self) {
        self.counters.note_clock(self.line.clock());
        if let Some(overrides) = self.deps.arming.since(&mut self.arming_seen, &self.config.id) {
            for rule in self.config.rules.keys() {
                self.scene.set_armed(rule, overrides.get(rule).copied());
            }
        }
        let outcome = self.scene.tick(self.now());
        self.deliver(outcome);
    }

    pub(super) fn lost(&mut self, reason: Lost) {
        // No reply comes for what is taken back.
        let gone = self.deps.inference.withdraw_frames(&self.config.id);
        self.in_flight = self.in_flight.saturating_sub(gone);
        self.counters.clear_tracks();
        let outcome = self.scene.lost(self.now(), reason);
        self.deliver(outcome);
    }

    /// Ends every open incident.
    pub(super) fn close(&mut self, by: EndedBy) {
        let outcome = self.scene.close(self.now(), by);
        self.deliver(outcome);
    }

    fn deliver(&mut self, outcome: Outcome) {
        for event in outcome.events {
            let latency = self.age_of(event.captured);
            let id = event.id;
            match self.deps.outbox.append(event, latency) {
                Ok(_) => self.counters.events.one(),
                Err(error) => {
                    self.counters.events_lost.one();
                    log::error!(camera = self.config.id.as_str(), event_id:% = id; "event lost: {error}");
                }
            }
        }
        self.tell_states();
    }

    /// The rules' retained topics, also of rules to which nothing has happened: whether they are armed is news too.
    fn tell_states(&mut self) {
        let states = self.scene.states();
        if states == self.told {
            return;
        }
        let now = self.deps.clock.wall();
        for state in &states {
            if !self.told.contains(state) {
                self.changed.insert(state.rule.clone(), now);
            }
            self.deps.latest.put(&StateUpdate {
                camera: self.config.id.clone(),
                rule: state.rule.clone(),
                kind: state.kind,
                changed: self.changed.get(&state.rule).copied().unwrap_or(now),
                active: state.active,
                value: state.value,
                unit: state.unit,
                since: state.since.map(|m| m.wall),
                armed: state.armed,
            });
        }
        self.told = states;
    }
}
