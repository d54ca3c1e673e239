//! The session's state machine, without a network.

use std::sync::Mutex;

use jiff::Timestamp;
use uuid::Uuid;
use vedette_core::{Clock, ClockSource, Event, Moment, Phase, Pts, Severity, SimulatedClock};

use super::*;
use crate::outbox::SqliteOutbox;
use crate::sinks::SinkStatus;
use crate::wire::{ModelStamp, Stamp};

const REFUSED: Refusal = Refusal { reason: "0x87", for_good: false };

struct Bench {
    context: Context,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (id, node) = (Name::new("b").unwrap(), Name::new("box").unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH));
        let model = ModelStamp { name: "m".into(), sha256: "0".into(), provider: "cpu".into() };
        let stamp = Stamp { node: node.clone(), epoch: Uuid::nil(), config: "0".into(), model };
        let outbox = SqliteOutbox::open(folder.path(), stamp, std::slice::from_ref(&id), &clock).unwrap();
        let context = Context {
            id,
            node,
            prefix: "vedette".to_owned(),
            dialects: wire::DIALECTS.to_vec(),
            outbox: Arc::new(outbox),
            latest: Arc::default(),
            status: Arc::new(Status(Mutex::default())),
        };
        Self { context, _folder: folder }
    }

    fn append(&self, camera: &str) -> u64 {
        let at =
            Moment { pts: Pts::ZERO, wall: Timestamp::UNIX_EPOCH, wall_ok: true, clock: ClockSource::Host };
        let event = Event {
            id: Uuid::nil(),
            phase: Phase::Once,
            kind: "intrusion",
            rule: Name::new("r").unwrap(),
            severity: Severity::Alarm,
            camera: Some(Name::new(camera).unwrap()),
            zone: None,
            line: None,
            direction: None,
            captured: at,
            decided: at,
            object: None,
            value: None,
            unit: None,
            why: String::new(),
            ended_by: None,
            suppressed: 0,
        };
        self.context.outbox.append(event, None).unwrap()
    }

    fn depth(&self) -> usize {
        self.context.outbox.depth(&self.context.id)
    }

    fn status(&self) -> SinkStatus {
        self.context.status.0.lock().unwrap().clone()
    }
}

/// A broker that gives packet ids in order; the events handed over, by topic.
#[derive(Default)]
struct Wire {
    pkid: u16,
}

impl Wire {
    fn fill(&mut self, session: &mut Session<'_>, now: Mono) -> Vec<(u16, String)> {
        let mut topics = Vec::new();
        session.fill(now, &mut |p| {
            topics.push(p.topic);
            true
        });
        let number = |topic| {
            self.pkid += 1;
            session.sent(self.pkid);
            (self.pkid, topic)
        };
        topics.into_iter().map(number).collect()
    }
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let bench = Bench::new();
    (0..40).for_each(|_| _ = bench.append("gate"));
    let (mut session, mut wire) = (Session::new(&bench.context, Mono::default()), Wire::default());
    assert_eq!(wire.fill(&mut session, Mono::default()).len(), WINDOW);
    assert!(wire.fill(&mut session, Mono::default()).is_empty());
    session.answered(2, Ok(()), Mono::default());
    session.answered(1, Ok(()), Mono::default());
    assert_eq!((bench.depth(), bench.status().acked), (38, 2));
    assert_eq!(wire.fill(&mut session, Mono::default()).len(), 2);
}

#[test]
fn a_new_session_begins_at_the_first_unacknowledged() {
    let bench = Bench::new();
    let seqs: Vec<_> = (0..5).map(|_| bench.append("gate")).collect();
    let (mut session, mut wire) = (Session::new(&bench.context, Mono::default()), Wire::default());
    wire.fill(&mut session, Mono::default());
    session.answered(2, Ok(()), Mono::default());
    drop(session);
    let mut session = Session::new(&bench.context, Mono::default());
    wire.fill(&mut session, Mono::default());
    let flying: Vec<_> = session.flying.keys().copied().collect();
    assert_eq!(flying, [seqs[0], seqs[2], seqs[3], seqs[4]]);
}

#[test]
fn a_refused_camera_waits_and_comes_back_in_order() {
    let bench = Bench::new();
    let (gate, yard) = ("vedette/box/gate/event", "vedette/box/yard/event");
    ["gate", "yard", "gate"].iter().for_each(|c| _ = bench.append(c));
    let (mut session, mut wire) = (Session::new(&bench.context, Mono::default()), Wire::default());
    let start = Mono::default();
    assert_eq!(wire.fill(&mut session, start).len(), 3);
    session.answered(1, Err(REFUSED), start);
    session.answered(2, Ok(()), start);
    session.answered(3, Err(REFUSED), start);
    bench.append("gate");
    bench.append("yard");
    let topics = |sent: Vec<(u16, String)>| sent.into_iter().map(|(_, t)| t).collect::<Vec<_>>();
    assert_eq!(topics(wire.fill(&mut session, start)), [yard], "the other camera goes on");
    assert_eq!((bench.depth(), bench.status().refused, bench.status().acked), (4, 2, 1));
    let later = start + Duration::from_secs(31);
    assert_eq!(topics(wire.fill(&mut session, later)), [gate, gate, gate]);
    assert_eq!(session.flying.len(), 4, "what is under way is not sent twice");
    for pkid in 4..=7 {
        session.answered(pkid, Ok(()), later);
    }
    assert_eq!((bench.depth(), session.parked.len()), (0, 0));
}

#[test]
fn what_will_never_be_taken_is_given_up() {
    let bench = Bench::new();
    bench.append("gate");
    let (mut session, mut wire) = (Session::new(&bench.context, Mono::default()), Wire::default());
    wire.fill(&mut session, Mono::default());
    session.answered(1, Err(Refusal { reason: "0x90", for_good: true }), Mono::default());
    assert_eq!((bench.depth(), bench.status().refused, bench.status().acked), (0, 1, 0));
}

#[test]
fn silence_with_something_under_way_is_deafness() {
    let bench = Bench::new();
    let (mut session, mut wire) = (Session::new(&bench.context, Mono::default()), Wire::default());
    let late = Mono::default() + ANSWER + Duration::from_secs(1);
    assert!(!session.is_deaf(late), "nothing is owed");
    bench.append("gate");
    wire.fill(&mut session, late);
    assert!(!session.is_deaf(late), "the wait begins when something is handed over");
    assert!(session.is_deaf(late + ANSWER + Duration::from_secs(1)));
}
