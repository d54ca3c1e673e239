//! The session's state machine, without a network.

mod replay;

use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;
use vedette_core::{Clock, Event, Severity, SimulatedClock};

use super::*;
use crate::fixtures::{name, node_status, once, stamp};
use crate::outbox::SqliteOutbox;
use crate::sinks::SinkStatus;
use crate::sinks::mqtt::Expiry;
use crate::sinks::mqtt::rig::{Tape, context};
use crate::wire::{self, NodeStatus, Stamp};

const REFUSED: Refusal = Refusal { reason: "0x87", for_good: false };

struct Bench {
    context: Context,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::speaking(vec![Arc::new(wire::vedette::Vedette)])
    }

    /// Of two dialects that have a message for each event.
    fn bilingual() -> Self {
        let onvif = (wire::dialect("onvif").unwrap().build)(&wire::Settings::default()).unwrap();
        Self::speaking(vec![Arc::new(wire::vedette::Vedette), onvif])
    }

    fn speaking(dialects: Vec<Arc<dyn Dialect>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH));
        let stamp = Stamp { dialects: dialects.clone(), ..stamp() };
        let outbox = SqliteOutbox::open(folder.path(), stamp, &[name("b")], &clock).unwrap();
        let context = Context { replay_per_second: 200, ..context(Arc::new(outbox), dialects) };
        Self { context, _folder: folder }
    }

    fn append(&self, camera: &str) -> u64 {
        self.produce(camera, Severity::Alarm)
    }

    fn produce(&self, camera: &str, severity: Severity) -> u64 {
        let event = Event { severity, ..once(camera, Timestamp::UNIX_EPOCH) };
        self.context.outbox.append(event, Some(Duration::ZERO)).unwrap()
    }

    fn depth(&self) -> usize {
        self.context.outbox.depth(&self.context.id)
    }

    fn status(&self) -> SinkStatus {
        self.context.status.0.lock().unwrap().clone()
    }
}

/// A broker that gives packet ids in a circle, as rumqttc does.
struct Wire {
    tape: Tape,
    pkid: u16,
    circle: u16,
}

impl Default for Wire {
    fn default() -> Self {
        Self { tape: Tape::default(), pkid: 0, circle: PACKET_IDS }
    }
}

impl Wire {
    /// What is handed over now, by packet id and topic.
    fn fill(&mut self, session: &mut Session<'_>, now: Mono) -> Vec<(u16, String)> {
        session.fill(now, &mut self.tape);
        let handed = std::mem::take(&mut self.tape.handed);
        let number = |publish: Publish| {
            if !publish.answered {
                session.sent(0, now);
                return (0, publish.topic);
            }
            self.pkid = if self.pkid == self.circle { 1 } else { self.pkid + 1 };
            assert!(!session.on_wire.contains_key(&self.pkid), "rumqttc would wait for id {}", self.pkid);
            session.sent(self.pkid, now);
            (self.pkid, publish.topic)
        };
        handed.into_iter().map(number).collect()
    }
}

fn session(bench: &Bench) -> Session<'_> {
    Session::new(&bench.context, Limits::default(), Mono::default())
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let bench = Bench::new();
    (0..40).for_each(|_| _ = bench.append("gate"));
    let (mut session, mut wire) = (session(&bench), Wire::default());
    assert_eq!(wire.fill(&mut session, Mono::default()).len(), WINDOW);
    assert!(wire.fill(&mut session, Mono::default()).is_empty());
    session.answered(2, Ok(Taken::Yes), Mono::default());
    session.answered(1, Ok(Taken::Yes), Mono::default());
    assert_eq!((bench.depth(), bench.status().acked), (38, 2));
    assert_eq!(wire.fill(&mut session, Mono::default()).len(), 2);
}

#[test]
fn a_new_session_begins_at_the_first_unacknowledged() {
    let bench = Bench::new();
    let seqs: Vec<_> = (0..5).map(|_| bench.append("gate")).collect();
    let (mut session, mut wire) = (session(&bench), Wire::default());
    wire.fill(&mut session, Mono::default());
    session.answered(2, Ok(Taken::Yes), Mono::default());
    drop(session);
    let mut session = self::session(&bench);
    wire.fill(&mut session, Mono::default());
    let flying: Vec<_> = session.flying.keys().copied().collect();
    assert_eq!(flying, [seqs[0], seqs[2], seqs[3], seqs[4]]);
}

#[test]
fn a_refused_camera_waits_and_comes_back_in_order() {
    let bench = Bench::new();
    let (gate, yard) = ("vedette/box/gate/event", "vedette/box/yard/event");
    ["gate", "yard", "gate"].iter().for_each(|c| _ = bench.append(c));
    let (mut session, mut wire) = (session(&bench), Wire::default());
    let start = Mono::default();
    assert_eq!(wire.fill(&mut session, start).len(), 3);
    session.answered(1, Err(REFUSED), start);
    session.answered(2, Ok(Taken::Yes), start);
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
        session.answered(pkid, Ok(Taken::Yes), later);
    }
    assert_eq!((bench.depth(), session.parked.len()), (0, 0));
}

#[test]
fn what_will_never_be_taken_is_given_up() {
    let bench = Bench::new();
    bench.append("gate");
    let (mut session, mut wire) = (session(&bench), Wire::default());
    wire.fill(&mut session, Mono::default());
    session.answered(1, Err(Refusal { reason: "0x90", for_good: true }), Mono::default());
    assert_eq!((bench.depth(), bench.status().refused, bench.status().acked), (0, 1, 0));
}

#[test]
fn silence_with_something_under_way_is_deafness() {
    let bench = Bench::new();
    let (mut session, mut wire) = (session(&bench), Wire::default());
    let late = Mono::default() + ANSWER + Duration::from_secs(1);
    assert!(!session.is_deaf(late), "nothing is owed");
    bench.append("gate");
    wire.fill(&mut session, late);
    assert!(!session.is_deaf(late), "the wait begins when something is handed over");
    assert!(session.is_deaf(late + ANSWER + Duration::from_secs(1)));
}

#[test]
fn a_broker_that_bears_little_gets_little() {
    let bench = Bench::new();
    (0..40).for_each(|_| _ = bench.append("gate"));
    let limits = Limits { receive_maximum: 3, packet: None };
    let mut session = Session::new(&bench.context, limits, Mono::default());
    let mut wire = Wire { circle: 3, ..Wire::default() };
    assert_eq!(wire.fill(&mut session, Mono::default()).len(), 3);
    // Ids 1 and 2 are free, 3 is not answered: the next id is 1.
    session.answered(2, Ok(Taken::Yes), Mono::default());
    assert!(wire.fill(&mut session, Mono::default()).is_empty(), "id 1 is not answered yet");
    session.answered(1, Ok(Taken::Yes), Mono::default());
    assert_eq!(wire.fill(&mut session, Mono::default()).len(), 2);
}

#[test]
fn a_broker_that_bears_one_publish_gets_every_message_of_an_event_once() {
    let bench = Bench::bilingual();
    (0..2).for_each(|_| _ = bench.append("gate"));
    let limits = Limits { receive_maximum: 1, packet: None };
    let mut session = Session::new(&bench.context, limits, Mono::default());
    let (mut wire, mut topics) = (Wire { circle: 1, ..Wire::default() }, Vec::new());
    for _ in 0..4 {
        let sent = wire.fill(&mut session, Mono::default());
        assert_eq!(sent.len(), 1, "after {topics:?}");
        topics.extend(sent.into_iter().map(|(_, topic)| topic));
        session.answered(1, Ok(Taken::Yes), Mono::default());
    }
    assert!(topics[0] != topics[1] && topics[..2] == topics[2..], "{topics:?}");
    assert_eq!((bench.depth(), bench.status().acked), (0, 2));
    assert!(session.is_idle());
}

#[test]
fn what_is_larger_than_the_broker_takes_is_given_up_and_the_rest_goes_on() {
    let bench = Bench::new();
    let seq = bench.append("gate");
    let large = bench.context.outbox.next(&bench.context.id, 0).unwrap().messages[0].payload.len();
    let limits = Limits { packet: Some(large as u32), ..Limits::default() };
    let (mut session, mut wire) = (Session::new(&bench.context, limits, Mono::default()), Wire::default());
    assert!(wire.fill(&mut session, Mono::default()).is_empty());
    assert_eq!((bench.depth(), bench.status().given_up), (0, 1));
    let error = bench.status().last_error.unwrap();
    assert!(error.contains(&format!("event {seq} is given up")), "{error}");
}

#[test]
fn an_event_refused_three_times_is_given_up_and_the_next_ones_are_not() {
    let bench = Bench::new();
    let first = bench.append("gate");
    let (mut session, mut wire) = (session(&bench), Wire::default());
    let mut now = Mono::default();
    for times in 1..=TRIES {
        let sent = wire.fill(&mut session, now);
        assert_eq!(sent.len(), 1, "try {times}");
        session.answered(sent[0].0, Err(REFUSED), now);
        now = now + Duration::from_secs(61);
    }
    assert_eq!((bench.depth(), bench.status().given_up, bench.status().refused), (0, 1, 3));
    assert!(bench.append("gate") > first);
    let sent = wire.fill(&mut session, now);
    session.answered(sent[0].0, Ok(Taken::NobodyListens), now);
    let status = bench.status();
    assert_eq!((bench.depth(), status.given_up, status.acked, status.nobody_listens), (0, 1, 1, 1));
    assert_eq!(bench.context.taken.load(Relaxed), 1, "what it refused is not taken");
}

#[test]
fn an_event_that_the_bound_dropped_while_it_was_refused_takes_its_count_with_it() {
    let bench = Bench::new();
    bench.append("gate");
    let (mut session, mut wire) = (session(&bench), Wire::default());
    let mut now = Mono::default();
    let mut refuse = |session: &mut Session<'_>| {
        let sent = wire.fill(session, now);
        assert_eq!(sent.len(), 1);
        session.answered(sent[0].0, Err(REFUSED), now);
        now = now + Duration::from_secs(61);
    };
    refuse(&mut session);
    bench.context.outbox.limit(crate::outbox::Limits { events: 1, ..crate::outbox::Limits::default() });
    bench.append("gate");
    assert_eq!((bench.depth(), bench.context.outbox.dropped(&bench.context.id)), (1, 1));
    for times in 1..=TRIES {
        assert_eq!(bench.status().given_up, 0, "before try {times}");
        refuse(&mut session);
    }
    assert_eq!((bench.depth(), bench.status().given_up, session.parked.len()), (0, 1, 0));
}

#[test]
fn refused_messages_of_one_event_are_one_try() {
    let bench = Bench::bilingual();
    bench.append("gate");
    let (mut session, mut wire) = (session(&bench), Wire::default());
    let mut now = Mono::default();
    for times in 1..=TRIES {
        assert_eq!((bench.depth(), bench.status().given_up), (1, 0), "before try {times}");
        let sent = wire.fill(&mut session, now);
        assert_eq!(sent.len(), 2, "try {times}");
        sent.iter().for_each(|(pkid, _)| session.answered(*pkid, Err(REFUSED), now));
        now = now + Duration::from_secs(61);
    }
    assert_eq!((bench.depth(), bench.status().given_up), (0, 1));
}

#[test]
fn an_event_that_one_of_two_dialects_is_listened_to_for_is_heard() {
    let bench = Bench::bilingual();
    (0..2).for_each(|_| _ = bench.append("gate"));
    let (mut session, mut wire, now) = (session(&bench), Wire::default(), Mono::default());
    let sent = wire.fill(&mut session, now);
    assert_eq!(sent.len(), 4);
    for (index, (pkid, _)) in sent.into_iter().enumerate() {
        let taken = if index == 1 { Taken::Yes } else { Taken::NobodyListens };
        session.answered(pkid, Ok(taken), now);
    }
    assert_eq!((bench.status().acked, bench.status().nobody_listens), (2, 1));
}

#[test]
fn a_broker_that_takes_what_it_need_not_answer_is_not_deaf() {
    let mut bench = Bench::new();
    bench.context.acknowledged = false;
    (0..3).for_each(|_| _ = bench.append("gate"));
    let (mut session, mut link) = (session(&bench), Tape::default());
    let after = |answers: u32| Mono::default() + ANSWER * answers;
    session.fill(after(0), &mut link);
    // Each time there is one more to write.
    for times in 1..=2 {
        session.sent(0, after(times));
        session.fill(after(times), &mut link);
        assert!(!session.is_deaf(after(times) + Duration::from_secs(1)), "{times}");
    }
    assert_eq!(link.handed.len(), 3);
    assert!(session.is_deaf(after(4)), "nothing is written any more");
}

#[test]
fn without_acknowledgement_an_event_is_delivered_when_it_is_written() {
    let mut bench = Bench::new();
    bench.context.acknowledged = false;
    bench.append("gate");
    let (mut session, mut wire) = (session(&bench), Wire::default());
    assert_eq!(wire.fill(&mut session, Mono::default()), [(0, "vedette/box/gate/event".to_owned())]);
    assert_eq!((bench.depth(), bench.status().acked), (0, 1));
    assert_eq!(bench.context.taken.load(Relaxed), 0, "nobody answered for it");
}

#[test]
fn a_backlog_goes_no_faster_than_the_pace() {
    let mut bench = Bench::new();
    bench.context.replay_per_second = 8;
    (0..40).for_each(|_| _ = bench.append("gate"));
    let (mut session, mut wire) = (session(&bench), Wire::default());
    let mut now = Mono::default();
    let mut sent = 0;
    let mut steps = 0;
    while sent < 40 {
        for (pkid, _) in wire.fill(&mut session, now) {
            session.answered(pkid, Ok(Taken::Yes), now);
            sent += 1;
        }
        now = now + session.wakes(now).unwrap_or_default();
        steps += 1;
        assert!(steps < 100, "{sent} after {now:?}");
    }
    // Two at once, then one each eighth of a second.
    assert!((4.6..4.9).contains(&now.0.as_secs_f64()), "{now:?}");
}

#[test]
fn what_the_broker_keeps_already_is_told_once_a_connection() {
    let bench = Bench::new();
    let status = |cameras_up| NodeStatus { cameras_up, ..node_status() };
    let latest = &bench.context.latest;
    let (mut session, mut wire, now) = (session(&bench), Wire::default(), Mono::default());
    latest.put(&status(0));
    let first = wire.fill(&mut session, now);
    assert_eq!(first.len(), 1);
    latest.put(&status(1));
    latest.put(&status(0));
    assert!(wire.fill(&mut session, now).is_empty(), "it is back to what was told");
    latest.put(&status(1));
    let changed = wire.fill(&mut session, now);
    assert_eq!(changed.len(), 1);
    session.answered(first[0].0, Ok(Taken::Yes), now);
    session.answered(changed[0].0, Err(REFUSED), now);
    latest.put(&status(0));
    latest.put(&status(1));
    assert_eq!(wire.fill(&mut session, now).len(), 1, "what was refused was not told");
    let mut next = self::session(&bench);
    assert_eq!(Wire::default().fill(&mut next, now).len(), 1, "another connection knows nothing");
}

#[test]
fn answers_are_timed_and_captures_of_live_events_alone() {
    let bench = Bench::new();
    let after = |ms| Mono::default() + Duration::from_millis(ms);
    let (mut session, mut wire) = (session(&bench), Wire::default());
    assert!(wire.fill(&mut session, after(0)).is_empty());
    (0..2).for_each(|_| _ = bench.append("gate"));
    wire.fill(&mut session, after(40));
    session.answered(1, Ok(Taken::Yes), after(47));
    drop(session);
    let status = bench.status();
    let sums = |status: &SinkStatus| [status.answer.sum(), status.capture.sum()].map(|sum| sum.as_millis());
    assert_eq!(sums(&status), [7, 47]);

    let mut session = Session::new(&bench.context, Limits::default(), after(100));
    let sent = Wire::default().fill(&mut session, after(100));
    session.answered(sent[0].0, Ok(Taken::Yes), after(103));
    let status = bench.status();
    assert_eq!((status.answer.count(), status.capture.count()), (2, 1), "the second is a replay");
    assert_eq!(sums(&status), [10, 47]);
}

#[test]
fn scenes_are_for_those_who_are_there_and_nobody_answers_them() {
    let mut bench = Bench::new();
    let onvif = wire::OnvifSettings { metadata: true, ..wire::OnvifSettings::default() };
    let settings = wire::Settings { onvif, ..wire::Settings::default() };
    bench.context.dialects = vec![(wire::dialect("onvif").unwrap().build)(&settings).unwrap()];
    let scene = |seconds| {
        let at = Timestamp::from_second(seconds).unwrap();
        let camera = Name::new("gate").unwrap();
        bench.context.latest.send_scene(wire::SceneUpdate { camera, at, objects: vec![] });
    };
    scene(1);
    let mut session = Session::new(&bench.context, Limits::default(), Mono::default());
    let mut wire = Wire::default();
    assert!(wire.fill(&mut session, Mono::default()).is_empty(), "it was before the connection");
    scene(2);
    scene(3);
    let topic = "vedette/box/onvif-mj/VideoAnalytics/gate/vedette".to_owned();
    assert_eq!(wire.fill(&mut session, Mono::default()), [(0, topic)], "the last one, at QoS 0");
    assert!(session.is_idle());
}

#[test]
fn events_expire_as_their_kind_says() {
    let mut bench = Bench::new();
    let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
    bench.context.expiry = Expiry { every: Some(hour), by_kind: [("intrusion".to_owned(), minute)].into() };
    bench.append("gate");
    let stored = bench.context.outbox.next(&bench.context.id, 0).unwrap();
    let dialect = &*bench.context.dialects[0];
    let expiry = |kind| bench.context.event(dialect, kind, &stored.messages[0]).properties.expiry;
    assert_eq!((expiry(&stored.kind), expiry("health")), (Some(minute), Some(hour)));
}
