//! The session's state machine, without a network.

use std::sync::Arc;

use proptest::prelude::*;
use vedette_core::{Event, SimulatedClock};

use super::*;
use crate::fixtures::{camera_status, name, node_status, once, rule, rule_state, stamp};
use crate::outbox::SqliteOutbox;
use crate::sinks::mqtt::rig::{Tape, context};
use crate::sinks::{Latest, SinkStatus};
use crate::wire::sparkplug::Value;
use crate::wire::{CameraInventory, NodeStatus, Stamp, StateUpdate};

struct Bench {
    context: Context,
    clock: Arc<SimulatedClock>,
    dialect: Sparkplug,
    last: LastEvents,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with_host(None)
    }

    fn with_host(host: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimulatedClock::new("2026-11-24T02:00:00Z".parse().unwrap()));
        let dialect = Sparkplug::new("plant", host).unwrap();
        let dialects: Vec<Arc<dyn Dialect>> = vec![Arc::new(dialect.clone())];
        let stamp = Stamp { dialects: dialects.clone(), ..stamp() };
        let timed: Arc<dyn Clock> = Arc::<SimulatedClock>::clone(&clock);
        let outbox = SqliteOutbox::open(folder.path(), stamp, &[name("b")], &timed).unwrap();
        let context = Context { replay_per_second: 10_000, ..context(Arc::new(outbox), dialects) };
        let bench = Self { context, clock, dialect, last: LastEvents::default(), folder };
        bench.node("online");
        bench
    }

    fn latest(&self) -> &Latest {
        &self.context.latest
    }

    fn node(&self, state: &'static str) {
        self.latest().put(&NodeStatus { state, ..node_status() });
    }

    fn camera(&self, id: &str, state: &'static str) {
        self.latest().put(&camera_status(id, state));
    }

    fn rules(&self, camera: &str, rules: &[&str]) {
        let rules = rules.iter().map(|text| rule(text, "intrusion")).collect();
        self.latest().put(&CameraInventory { camera: name(camera), rules, gone: vec![] });
    }

    fn state(&self, camera: &str, rule: &str, active: bool) {
        let changed = self.clock.wall();
        self.latest().put(&StateUpdate { changed, active, ..rule_state(camera, rule) });
    }

    fn append(&self, camera: Option<&str>) -> u64 {
        let event = Event { camera: camera.map(name), ..once("gate", self.clock.wall()) };
        self.context.outbox.append(event, None).unwrap()
    }

    fn depth(&self) -> usize {
        self.context.outbox.depth(&self.context.id)
    }

    fn status(&self) -> SinkStatus {
        self.context.status.0.lock().unwrap().clone()
    }

    fn session(&self) -> Session<'_> {
        Session::new(&self.context, &*self.clock, (&self.dialect, &self.last), 7, Limits::default())
    }
}

/// A message as a host reads it.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    verb: String,
    device: Option<String>,
    payload: Payload,
}

impl Said {
    fn of(publish: &Publish) -> Self {
        let levels: Vec<_> = publish.topic.split('/').collect();
        assert_eq!((levels[0], levels[1], levels[3]), ("spBv1.0", "plant", "box"), "{}", publish.topic);
        let device = levels.get(4).map(|&device| device.to_owned());
        assert_eq!(device.is_some(), levels[2].starts_with('D'), "{}", publish.topic);
        let payload = Payload::decode(publish.payload.clone()).unwrap();
        Self { verb: levels[2].to_owned(), device, payload }
    }

    fn seq(&self) -> u64 {
        self.payload.seq.unwrap()
    }

    fn get(&self, name: &str) -> Option<Value> {
        let metric = self.payload.metrics.iter().find(|m| m.name.as_deref() == Some(name));
        metric.unwrap_or_else(|| panic!("no {name} in {self:?}")).value.clone()
    }

    fn names(&self) -> Vec<&str> {
        self.payload.metrics.iter().map(|m| m.name.as_deref().unwrap()).collect()
    }

    fn event(&self) -> u64 {
        match self.get("Event/Seq") {
            Some(Value::Long(seq)) => seq,
            other => panic!("no event: {other:?}"),
        }
    }
}

/// A broker that reads everything at once and answers subscriptions when it is told to.
type Wire = Tape;

impl Wire {
    /// What is said now; every message must be as the specification wants all of them.
    fn fill(&mut self, session: &mut Session<'_>) -> Vec<Said> {
        let mut said = Vec::new();
        loop {
            let now = session.clock.now();
            session.fill(now, self);
            if self.handed.is_empty() {
                return said;
            }
            for publish in std::mem::take(&mut self.handed) {
                assert!(!publish.answered && !publish.retained, "{}", publish.topic);
                session.sent(0, now);
                said.push(Said::of(&publish));
            }
        }
    }

    /// … and the initial subscriptions are answered.
    fn begin(&mut self, session: &mut Session<'_>) -> Vec<Said> {
        let said = self.fill(session);
        for _ in 0..session.asked {
            session.subscribed(None);
        }
        said
    }
}

fn verbs(said: &[Said]) -> Vec<(&str, Option<&str>, u64)> {
    said.iter().map(|s| (s.verb.as_str(), s.device.as_deref(), s.seq())).collect()
}

fn command(payload: Vec<u8>) -> Received {
    Received { topic: "spBv1.0/plant/NCMD/box".to_owned(), payload: payload.into(), ..Received::default() }
}

fn rebirth_request() -> Received {
    let metrics = vec![Metric::flag(spb::REBIRTH, Some(true))];
    command(Payload { timestamp: Some(1), metrics, seq: None }.encode_to_vec())
}

fn host_says(host: &str, online: bool, timestamp: u64) -> Received {
    let payload = format!("{{\"online\":{online},\"timestamp\":{timestamp}}}");
    Received {
        topic: format!("spBv1.0/STATE/{host}"),
        payload: payload.into(),
        retained: true,
        ..Received::default()
    }
}

#[test]
fn births_come_first_and_say_everything() {
    let bench = Bench::new();
    bench.rules("gate", &["night"]);
    bench.camera("gate", "live");
    bench.state("gate", "night", true);
    bench.camera("yard", "connecting");
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let said = wire.begin(&mut session);
    assert_eq!(wire.subscribed, ["spBv1.0/plant/NCMD/box"], "before the first birth");
    assert_eq!(verbs(&said), [("NBIRTH", None, 0), ("DBIRTH", Some("gate"), 1)]);
    let now = Some(spb::millis(bench.clock.wall()));
    for birth in &said {
        assert_eq!(birth.payload.timestamp, now);
        let mut last = 0;
        for metric in &birth.payload.metrics {
            let time = metric.timestamp.unwrap();
            assert!(last <= time, "in the order of their times: {metric:?}");
            last = time;
            assert!(metric.name.is_some() && metric.datatype.is_some(), "{metric:?}");
            assert_eq!(metric.value.is_none(), metric.is_null == Some(true), "{metric:?}");
        }
    }
    let (node, gate) = (&said[0], &said[1]);
    assert_eq!(node.get("bdSeq"), Some(Value::Long(7)));
    assert_eq!(node.get("Node Control/Rebirth"), Some(Value::Boolean(false)));
    assert_eq!(node.get("Node/State"), Some(Value::String("online".to_owned())));
    assert_eq!(gate.get("Rule/night/Active"), Some(Value::Boolean(true)));
    assert_eq!(gate.get("Event/Id"), None, "there was none yet");
    assert!(session.is_idle());
}

#[test]
fn only_what_changed_is_told() {
    let bench = Bench::new();
    bench.rules("gate", &["night"]);
    bench.camera("gate", "live");
    let (mut session, mut wire) = (bench.session(), Wire::default());
    wire.begin(&mut session);
    assert!(wire.fill(&mut session).is_empty());
    bench.clock.advance(Duration::from_secs(3));
    bench.state("gate", "night", true);
    bench.node("stopping");
    let said = wire.fill(&mut session);
    assert_eq!(verbs(&said), [("NDATA", None, 2), ("DDATA", Some("gate"), 3)]);
    assert_eq!(said[0].names(), ["Node/State"]);
    assert_eq!(said[1].names(), ["Rule/night/Active", "Rule/night/Armed"]);
    let now = Some(spb::millis(bench.clock.wall()));
    assert_eq!((said[1].payload.timestamp, said[1].payload.metrics[0].timestamp), (now, now));
    bench.state("gate", "night", true);
    assert!(wire.fill(&mut session).is_empty(), "the same is no news");
}

#[test]
fn sequence_numbers_go_round() {
    let bench = Bench::new();
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let mut seqs: Vec<_> = wire.begin(&mut session).iter().map(Said::seq).collect();
    for _ in 0..60 {
        (0..10).for_each(|_| _ = bench.append(None));
        seqs.extend(wire.fill(&mut session).iter().map(Said::seq));
        session.subscribed(None);
        bench.clock.advance(Duration::from_secs(1));
    }
    let expected: Vec<_> = (0..=600).map(|n| n % 256).collect();
    assert_eq!(seqs, expected);
}

#[test]
fn an_event_leaves_the_outbox_when_the_broker_has_read_on() {
    let bench = Bench::new();
    bench.camera("gate", "live");
    let (mut session, mut wire) = (bench.session(), Wire::default());
    wire.begin(&mut session);
    let first = bench.append(Some("gate"));
    let said = wire.fill(&mut session);
    assert_eq!((said[0].verb.as_str(), said[0].event()), ("DDATA", first));
    assert_eq!(bench.depth(), 1, "being written is not enough");
    assert_eq!(wire.subscribed, ["spBv1.0/plant/NCMD/box"; 2], "the second is a fence");
    bench.append(Some("gate"));
    wire.fill(&mut session);
    assert_eq!(wire.subscribed.len(), 2, "one fence at a time");
    session.subscribed(None);
    assert_eq!((bench.depth(), bench.status().acked), (1, 1), "the second came behind the fence");
    wire.fill(&mut session);
    session.subscribed(Some("refused, but read"));
    assert_eq!((bench.depth(), bench.status().acked), (0, 2));
    assert_eq!(bench.context.taken.load(Relaxed), 2, "a fence is an answer");
}

#[test]
fn what_waited_is_historical_in_order_and_with_its_times() {
    let bench = Bench::new();
    bench.camera("gate", "live");
    let mut waited = Vec::new();
    for _ in 0..3 {
        waited.push((bench.append(Some("gate")), spb::millis(bench.clock.wall())));
        bench.clock.advance(Duration::from_secs(60));
    }
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let said = wire.begin(&mut session);
    assert_eq!((said[0].verb.as_str(), said[1].verb.as_str()), ("NBIRTH", "DBIRTH"));
    let replayed: Vec<_> =
        said[2..].iter().map(|s| (s.event(), s.payload.metrics[0].timestamp.unwrap())).collect();
    assert_eq!(replayed, waited);
    let historical = |said: &Said| said.payload.metrics.iter().all(|m| m.is_historical == Some(true));
    assert!(said[2..].iter().all(historical));
    let published = Some(spb::millis(bench.clock.wall()));
    assert!(said.iter().all(|s| s.payload.timestamp == published), "the payload's time is that of sending");
    let news = bench.append(Some("gate"));
    let said = wire.fill(&mut session);
    assert_eq!((said[0].event(), said[0].payload.metrics[0].is_historical), (news, None));
    // The connection is lost before the fence is answered.
    drop(session);
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let said = wire.begin(&mut session);
    let all: Vec<_> = said[2..].iter().map(Said::event).collect();
    assert_eq!(all.len(), 4, "nothing was acknowledged: {all:?}");
    assert!(said[2..].iter().all(historical));
}

#[test]
fn a_rebirth_repeats_all_births_and_data_goes_on_behind_them() {
    let bench = Bench::new();
    bench.camera("gate", "live");
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let births = wire.begin(&mut session);
    let last = bench.append(Some("gate"));
    wire.fill(&mut session);
    let next = bench.append(Some("gate"));
    bench.state("gate", "night", true);
    session.received(&rebirth_request());
    session.received(&rebirth_request());
    let said = wire.fill(&mut session);
    assert_eq!(
        verbs(&said),
        [("NBIRTH", None, 0), ("DBIRTH", Some("gate"), 1), ("DDATA", Some("gate"), 2)],
        "no data before the births, and two requests at once are one"
    );
    assert_eq!(said[0].get("bdSeq"), births[0].get("bdSeq"));
    assert_eq!(said[1].event(), last, "the birth says what is current");
    assert_eq!((said[2].event(), said[2].payload.metrics[0].is_historical), (next, None));
}

#[test]
fn over_another_connection_births_still_say_the_last_event() {
    let bench = Bench::new();
    bench.camera("gate", "live");
    let (mut session, mut wire) = (bench.session(), Wire::default());
    wire.begin(&mut session);
    let (told, at) = (bench.append(Some("gate")), spb::millis(bench.clock.wall()));
    wire.fill(&mut session);
    session.subscribed(None);
    drop(session);
    bench.clock.advance(Duration::from_secs(60));
    let waited = bench.append(Some("gate"));
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let said = wire.begin(&mut session);
    assert_eq!(verbs(&said)[1..], [("DBIRTH", Some("gate"), 1), ("DDATA", Some("gate"), 2)]);
    assert_eq!((said[1].event(), said[2].event()), (told, waited));
    let first = &said[1].payload.metrics[0];
    assert_eq!((first.timestamp, first.is_historical), (Some(at), None), "with its own time");
    // What waited is the last one from now on.
    drop(session);
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let said = wire.begin(&mut session);
    assert_eq!((said[1].event(), said[1].payload.metrics[0].is_historical), (waited, None));
    assert_eq!(said[0].get("Event/Id"), None, "the node told none");
    // It is not acknowledged: it comes once more, and changes nothing.
    assert_eq!((said[2].event(), said[2].payload.metrics[0].is_historical), (waited, Some(true)));
}

#[test]
fn the_state_of_a_rule_carries_the_time_of_its_change() {
    let bench = Bench::new();
    bench.rules("gate", &["night"]);
    bench.camera("gate", "live");
    bench.state("gate", "night", true);
    let changed = spb::millis(bench.clock.wall());
    bench.clock.advance(Duration::from_secs(60));
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let said = wire.begin(&mut session);
    let time = |said: &Said, name: &str| {
        said.payload.metrics.iter().find(|m| m.name.as_deref() == Some(name)).unwrap().timestamp.unwrap()
    };
    assert_eq!(time(&said[1], "Rule/night/Active"), changed);
    assert_eq!(time(&said[1], "Camera/State"), spb::millis(bench.clock.wall()));
    bench.state("gate", "night", true);
    assert!(wire.fill(&mut session).is_empty(), "another time alone is no news");
    bench.state("gate", "night", false);
    let said = wire.fill(&mut session);
    assert_eq!(said[0].names(), ["Rule/night/Active"]);
}

#[test]
fn a_kept_or_foreign_or_unreadable_command_does_nothing() {
    let bench = Bench::new();
    let (mut session, mut wire) = (bench.session(), Wire::default());
    wire.begin(&mut session);
    let elsewhere = |topic: &str| Received { topic: topic.to_owned(), ..rebirth_request() };
    let metrics = vec![Metric::flag("Node Control/Reboot", Some(true))];
    for received in [
        Received { retained: true, ..rebirth_request() },
        elsewhere("spBv1.0/plant/NCMD/box2"),
        elsewhere("spBv1.0/plant/DCMD/box/gate"),
        command(b"\x12\xff".to_vec()),
        command(Payload { timestamp: None, metrics, seq: None }.encode_to_vec()),
    ] {
        session.received(&received);
        assert!(wire.fill(&mut session).is_empty(), "{received:?}");
    }
}

#[test]
fn a_lost_camera_dies_and_the_node_speaks_for_it() {
    let bench = Bench::new();
    bench.camera("gate", "live");
    let (mut session, mut wire) = (bench.session(), Wire::default());
    wire.begin(&mut session);
    bench.clock.advance(Duration::from_secs(5));
    bench.camera("gate", "lost");
    let event = bench.append(Some("gate"));
    let said = wire.fill(&mut session);
    assert_eq!(verbs(&said), [("DDEATH", Some("gate"), 2), ("NDATA", None, 3)]);
    assert_eq!(said[0].payload.timestamp, Some(spb::millis(bench.clock.wall())));
    assert!(said[0].payload.metrics.is_empty());
    assert_eq!(said[1].event(), event);
    assert_eq!(said[1].get("Event/Camera"), Some(Value::String("gate".to_owned())));
    bench.camera("gate", "connecting");
    bench.state("gate", "night", true);
    assert!(wire.fill(&mut session).is_empty(), "the dead say nothing");
    bench.camera("gate", "live");
    assert_eq!(verbs(&wire.fill(&mut session)), [("DBIRTH", Some("gate"), 4)]);
}

#[test]
fn a_camera_that_leaves_the_configuration_dies_and_is_forgotten() {
    let bench = Bench::new();
    bench.rules("gate", &["night"]);
    bench.camera("gate", "live");
    bench.state("gate", "night", false);
    let (mut session, mut wire) = (bench.session(), Wire::default());
    wire.begin(&mut session);
    bench.latest().forget(&name("gate"), |_| false);
    let gone = CameraInventory { camera: name("gate"), rules: vec![], gone: vec![] };
    bench.latest().clear(gone.into());
    assert_eq!(verbs(&wire.fill(&mut session)), [("DDEATH", Some("gate"), 2)]);
    session.received(&rebirth_request());
    assert_eq!(verbs(&wire.fill(&mut session)), [("NBIRTH", None, 0)]);
}

#[test]
fn a_new_rule_is_born_before_it_is_told_of() {
    let bench = Bench::new();
    bench.rules("gate", &["night"]);
    bench.camera("gate", "live");
    let (mut session, mut wire) = (bench.session(), Wire::default());
    wire.begin(&mut session);
    bench.rules("gate", &["day", "night"]);
    bench.state("gate", "day", true);
    let said = wire.fill(&mut session);
    assert_eq!(verbs(&said), [("DBIRTH", Some("gate"), 2)]);
    assert_eq!(said[0].get("Rule/day/Active"), Some(Value::Boolean(true)));
}

#[test]
fn births_wait_for_the_primary_host() {
    let bench = Bench::with_host(Some("scada"));
    bench.append(None);
    let (mut session, mut wire) = (bench.session(), Wire::default());
    assert!(wire.begin(&mut session).is_empty());
    assert_eq!(wire.subscribed, ["spBv1.0/plant/NCMD/box", "spBv1.0/STATE/scada"]);
    assert!(bench.status().last_error.unwrap().contains("waits for the primary host scada"));
    assert_eq!((session.is_idle(), session.wakes(bench.clock.now())), (true, None));
    for received in
        [host_says("scada", false, 100), host_says("other", true, 200), host_says("scada", true, 99)]
    {
        session.received(&received);
        assert!(wire.fill(&mut session).is_empty(), "{received:?}");
        assert_eq!(session.wants_to_leave(), None);
    }
    session.received(&host_says("scada", true, 100));
    let said = wire.fill(&mut session);
    assert_eq!(verbs(&said), [("NBIRTH", None, 0), ("NDATA", None, 1)]);
    assert_eq!(said[1].payload.metrics[0].is_historical, Some(true));
    assert_eq!(bench.status().last_error, None);
}

#[test]
fn a_host_that_goes_away_ends_the_session_and_nothing_is_taken_for_delivered() {
    let bench = Bench::with_host(Some("scada"));
    let (mut session, mut wire) = (bench.session(), Wire::default());
    wire.begin(&mut session);
    session.received(&host_says("scada", true, 100));
    bench.append(None);
    wire.fill(&mut session);
    session.received(&host_says("scada", false, 99));
    assert_eq!(session.wants_to_leave(), None, "a will that comes late");
    session.received(&host_says("scada", false, 100));
    assert_eq!(session.wants_to_leave().unwrap(), "the primary host scada is offline");
    session.subscribed(None);
    assert_eq!(bench.depth(), 1, "the host may not have had it");
    bench.append(None);
    assert!(wire.fill(&mut session).is_empty());
    session.last_words(&*bench.clock, &mut wire);
    let death = wire.handed.pop().unwrap();
    assert_eq!(
        (death.topic.as_str(), death.answered, death.retained),
        ("spBv1.0/plant/NDEATH/box", true, false)
    );
    let payload = Payload::decode(death.payload).unwrap();
    assert_eq!(payload, Payload { timestamp: None, metrics: vec![spb::bd_seq(7)], seq: None });
    assert!(!session.is_idle());
    session.sent(2, bench.clock.now());
    assert!(!session.is_idle(), "the broker has not taken it");
    session.answered(2, Ok(Taken::Yes), bench.clock.now());
    assert!(session.is_idle());
}

#[test]
fn a_fence_without_an_answer_is_deafness() {
    let bench = Bench::new();
    let (mut session, mut wire) = (bench.session(), Wire::default());
    wire.begin(&mut session);
    let late = ANSWER + Duration::from_secs(1);
    bench.clock.advance(late);
    assert!(!session.is_deaf(bench.clock.now()), "nothing is owed");
    bench.append(None);
    wire.fill(&mut session);
    assert!(!session.is_deaf(bench.clock.now()));
    bench.clock.advance(late);
    assert!(session.is_deaf(bench.clock.now()));
    session.subscribed(None);
    assert!(!session.is_deaf(bench.clock.now()));
}

#[test]
fn what_is_under_way_is_bounded_and_the_last_word_has_room() {
    let bench = Bench::new();
    (0..500).for_each(|_| _ = bench.append(None));
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let now = bench.clock.now();
    session.fill(now, &mut wire);
    assert_eq!(wire.handed.len(), HANDED);
    for _ in 0..HANDED {
        session.sent(0, now);
    }
    wire.handed.clear();
    let more = wire.begin(&mut session).len();
    assert_eq!(1 + WINDOW, HANDED + more, "a birth and a window of events");
    session.subscribed(None);
    assert!(!wire.fill(&mut session).is_empty());
}

#[test]
fn a_full_link_loses_no_number() {
    let bench = Bench::new();
    ["a", "b", "c"].iter().for_each(|camera| bench.camera(camera, "live"));
    let (mut session, mut wire) = (bench.session(), Wire { room: Some(2), ..Wire::default() });
    let said = wire.begin(&mut session);
    assert_eq!(said.iter().map(Said::seq).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn a_backlog_goes_no_faster_than_the_pace() {
    let mut bench = Bench::new();
    bench.context.replay_per_second = 8;
    (0..20).for_each(|_| _ = bench.append(None));
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let (start, mut told) = (bench.clock.now(), wire.begin(&mut session).len() - 1);
    while told < 20 {
        let wait = session.wakes(bench.clock.now()).unwrap();
        bench.clock.advance(wait);
        let more = wire.fill(&mut session).len();
        assert!(more > 0, "woken for nothing");
        told += more;
        session.subscribed(None);
    }
    let took = bench.clock.now().since(start).as_secs_f64();
    // Two at once, then one each eighth of a second.
    assert!((2.2..2.3).contains(&took), "{took}");
}

#[test]
fn what_is_larger_than_the_broker_takes_is_given_up_or_said_aloud() {
    let bench = Bench::new();
    bench.camera("gate", "live");
    let (mut session, mut wire) = (bench.session(), Wire::default());
    let births = wire.begin(&mut session);
    let largest = births.iter().map(|said| said.payload.encoded_len()).max().unwrap();
    session.limits = Limits { packet: Some(500), ..Limits::default() };
    bench.append(Some("gate"));
    assert!(wire.fill(&mut session).is_empty());
    assert_eq!((bench.depth(), bench.status().given_up), (0, 1));
    assert_eq!(session.wants_to_leave(), None);
    let limits = Limits { packet: Some(largest as u32), ..Limits::default() };
    let mut session = Session::new(&bench.context, &*bench.clock, (&bench.dialect, &bench.last), 7, limits);
    Wire::default().fill(&mut session);
    let why = session.wants_to_leave().unwrap();
    assert!(why.ends_with("is larger than the Maximum Packet Size of the broker"), "{why}");
}

#[test]
fn every_connect_has_another_number_in_will_and_birth() {
    let bench = Bench::new();
    let mut node = EdgeNode::new(bench.dialect.clone(), &bench.context.id, bench.folder.path().to_owned());
    for number in [0, 1, 2] {
        let will = node.will(&bench.context, &*bench.clock).unwrap();
        assert_eq!(
            (will.topic.as_str(), will.answered, will.retained),
            ("spBv1.0/plant/NDEATH/box", true, false)
        );
        let death = Payload::decode(will.payload).unwrap();
        assert_eq!((death.metrics, death.seq), (vec![spb::bd_seq(number)], None));
        let mut wire = Wire::default();
        node.converse(&bench.context, &*bench.clock, Limits::default()).fill(bench.clock.now(), &mut wire);
        let birth = Said::of(&wire.handed[0]);
        assert_eq!((birth.verb.as_str(), birth.seq()), ("NBIRTH", 0));
        assert_eq!(birth.get("bdSeq"), Some(Value::Long(u64::from(number))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Bytes of strangers on every topic that we listen on: no panic, and the session goes on.
    #[test]
    fn no_command_is_too_strange(payloads in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..80), 1..20,
    )) {
        let bench = Bench::with_host(Some("scada"));
        let (mut session, mut wire) = (bench.session(), Wire::default());
        wire.begin(&mut session);
        session.received(&host_says("scada", true, 1));
        wire.fill(&mut session);
        for payload in payloads {
            for topic in ["spBv1.0/plant/NCMD/box", "spBv1.0/STATE/scada", "spBv1.0/plant/DCMD/box/gate", ""] {
                let payload = payload.clone().into();
                session.received(&Received { topic: topic.to_owned(), payload, ..Received::default() });
            }
        }
        prop_assert_eq!(session.wants_to_leave(), None);
        let event = bench.append(None);
        prop_assert_eq!(wire.fill(&mut session).last().map(Said::event), Some(event));
    }
}
