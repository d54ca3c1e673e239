//! What a camera's thread does with the frames that are to be analysed: they go to the detector, the scene says what
//! it makes of them, its events go to the outbox.
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
    Answer, AnswerValue, ClockSource, EndedBy, Frame, IncidentIds, Moment, Mono, Name, Pts, Role, Track,
    View, Want,
};
use vedette_ingest::{Packet, TimeLine};

use super::{CameraDeps, StartError, clock, scene_config};
use crate::config;
use crate::counters::CameraCounters;
use crate::evidence::Recorder;
use crate::infer::{Job, Lane, Purpose, Reply, Submitted};
use crate::random::system_seed;
use crate::wire::{SceneObject, SceneUpdate, StateUpdate};

pub(super) struct Analyst {
    config: Arc<config::Camera>,
    deps: CameraDeps,
    counters: Arc<CameraCounters>,
    recorder: Arc<Recorder>,
    scene: Scene,
    line: TimeLine,
    /// The moment of the newest packet: what ticks and endings without frames count from.
    last: Option<Moment>,
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
    /// When the scene was last told to brokers that want it.
    scene_told: Option<Mono>,
}

impl Analyst {
    pub(super) fn new(
        config: &Arc<config::Camera>,
        deps: &CameraDeps,
        counters: Arc<CameraCounters>,
        recorder: Arc<Recorder>,
    ) -> Result<Self, StartError> {
        let scene = Scene::build(scene_config(config, &deps.time_zone), IncidentIds::seeded(system_seed()?))?;
        let (reply_to, replies) = unbounded();
        let mut analyst = Self {
            config: Arc::clone(config),
            deps: deps.clone(),
            counters,
            recorder,
            scene,
            line: TimeLine::default(),
            last: None,
            in_flight: 0,
            answers: Vec::new(),
            arming_seen: 0,
            told: Vec::new(),
            reply_to,
            replies,
            changed: BTreeMap::new(),
            scene_told: None,
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

    /// Hands a decoded frame to the detector. `in_order`: it waits behind those before it; else one that still waits
    /// there gives it its place.
    pub(super) fn look(&mut self, frame: Frame, in_order: bool) {
        let job = Job {
            camera: self.config.id.clone(),
            role: Role::Detector,
            purpose: Purpose::Frame,
            lane: if in_order { Lane::InOrder } else { Lane::Latest },
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

    /// Tells the scene that nothing has changed up to this frame.
    pub(super) fn still(&mut self, frame: &Frame) {
        let answers = std::mem::take(&mut self.answers);
        let (aspect, detections) = (frame.aspect(), None);
        let observation = Observation { frame: Some(frame), aspect, detections, answers: &answers };
        let outcome = self.scene.step(frame.moment(), &observation);
        self.ask(&outcome, frame);
        self.deliver(outcome);
    }

    /// The scene as it is.
    pub(super) fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Steps the scene with what the detector said of a frame, and gives the frame's moment; or keeps the answer to a
    /// want for the next step.
    pub(super) fn on_reply(&mut self, reply: Reply) -> Option<Pts> {
        if let Purpose::Want(id) = reply.purpose {
            let pts = reply.frame.moment().pts;
            self.answers.push(Answer { id, pts, value: reply.into_answer() });
            return None;
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
                self.tell_scene(frame.moment());
                self.recorder.frame(&frame);
                self.ask(&outcome, &frame);
                self.deliver(outcome);
                Some(frame.moment().pts)
            }
            Err(error) => {
                self.counters.dropped_failed.one();
                log::error!(camera = self.config.id.as_str(); "detector failed: {error}");
                None
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
    pub(super) fn now(&self) -> Moment {
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
        for mut event in outcome.events {
            let latency = self.age_of(event.captured);
            let id = event.id;
            let order = self.recorder.promise(&mut event);
            match self.deps.outbox.append(event, latency) {
                Ok(_) => {
                    self.counters.events.one();
                    order.into_iter().for_each(|order| self.recorder.begin(order));
                }
                Err(error) => {
                    self.counters.events_lost.one();
                    log::error!(camera = self.config.id.as_str(), event_id:% = id; "event lost: {error}");
                }
            }
        }
        self.tell_states();
    }

    /// Where everything is, for brokers that asked for it.
    fn tell_scene(&mut self, moment: Moment) {
        let Some(every) = self.deps.latest.scenes_every() else { return };
        let now = self.deps.clock.now();
        if self.scene_told.is_some_and(|told| now.since(told) < every) {
            return;
        }
        self.scene_told = Some(now);
        let seen = self.scene.tracks().iter().filter(|track| track.confirmed && track.observed);
        let object = |track: &Track| SceneObject {
            track: track.id,
            class: track.class.clone(),
            score: track.score,
            bbox: track.bbox,
        };
        let objects = seen.map(object).collect();
        self.deps.latest.send_scene(SceneUpdate { camera: self.config.id.clone(), at: moment.wall, objects });
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
