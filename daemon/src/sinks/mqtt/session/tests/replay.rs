//! Both orders of replay: what comes first, and that nothing is lost or sent twice, whatever a broker answers.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::sinks::Replay;

const SEVERITIES: [Severity; 5] =
    [Severity::Info, Severity::Review, Severity::Warning, Severity::Fault, Severity::Alarm];

/// What was handed over just now, by packet id and number.
fn sent(wire: &mut Wire, session: &mut Session<'_>, now: Mono) -> Vec<(u16, u64)> {
    let ids = wire.fill(session, now).into_iter().map(|(pkid, _)| pkid);
    let number = |pkid: u16| match session.on_wire[&pkid] {
        Load::Event(seq) => (pkid, seq),
        Load::Update => panic!("nothing but events is told here"),
    };
    ids.map(number).collect()
}

#[test]
fn a_live_alarm_overtakes_a_backlog() {
    let mut bench = Bench::new();
    bench.context.replay = Replay::AlarmsFirst;
    let infos: Vec<_> = (0..30).map(|_| bench.produce("gate", Severity::Info)).collect();
    let alarms = [bench.append("gate"), bench.append("yard")];
    let (mut session, mut wire, now) = (session(&bench), Wire::default(), Mono::default());
    let first = sent(&mut wire, &mut session, now);
    let numbers = |sent: &[(u16, u64)]| sent.iter().map(|(_, seq)| *seq).collect::<Vec<_>>();
    assert_eq!(numbers(&first), [&alarms[..], &infos[..18]].concat());
    let live = bench.append("gate");
    session.answered(first[0].0, Ok(Taken::Yes), now);
    assert_eq!(numbers(&sent(&mut wire, &mut session, now)), [live]);
}

#[test]
fn an_alarm_is_given_up_although_an_older_event_of_its_camera_was_refused() {
    let mut bench = Bench::new();
    bench.context.replay = Replay::AlarmsFirst;
    bench.produce("gate", Severity::Info);
    let (mut session, mut wire, mut now) = (session(&bench), Wire::default(), Mono::default());
    let [(pkid, _)] = sent(&mut wire, &mut session, now)[..] else { panic!("one event is there") };
    session.answered(pkid, Err(REFUSED), now);
    // More than fits under way, so that the older one does not come to its turn.
    (0..WINDOW).for_each(|_| _ = bench.append("gate"));
    for _ in 0..TRIES {
        now = now + Duration::from_secs(61);
        for (pkid, _) in sent(&mut wire, &mut session, now) {
            session.answered(pkid, Err(REFUSED), now);
        }
    }
    assert_eq!((bench.status().given_up, bench.depth()), (1, WINDOW));
}

#[test]
fn a_refused_event_is_given_up_although_alarms_of_its_camera_are_taken_in_between() {
    let mut bench = Bench::new();
    bench.context.replay = Replay::AlarmsFirst;
    let info = bench.produce("gate", Severity::Info);
    let (mut session, mut wire, mut now) = (session(&bench), Wire::default(), Mono::default());
    for times in 1..=TRIES {
        assert_eq!((bench.status().given_up, bench.depth()), (0, 1), "before try {times}");
        let alarm = bench.append("gate");
        let sent = sent(&mut wire, &mut session, now);
        assert_eq!(sent.iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), [alarm, info]);
        session.answered(sent[0].0, Ok(Taken::Yes), now);
        session.answered(sent[1].0, Err(REFUSED), now);
        now = now + Duration::from_secs(61);
    }
    assert_eq!((bench.status().given_up, bench.depth(), session.parked.len()), (1, 0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    /// The camera, the severity.
    Append(usize, usize),
    Fill,
    /// Which of those under way; whether it is taken.
    Answer(usize, bool),
    Reconnect,
    /// Parked cameras are let go on.
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3usize, 0..SEVERITIES.len()).prop_map(|(camera, severity)| Step::Append(camera, severity)),
        4 => Just(Step::Fill),
        8 => (0..WINDOW, prop::bool::weighted(0.8)).prop_map(|(which, taken)| Step::Answer(which, taken)),
        1 => Just(Step::Reconnect),
        2 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 1..120)
}

/// A session, and what its broker has seen.
struct Run<'a> {
    bench: &'a Bench,
    session: Session<'a>,
    wire: Wire,
    now: Mono,
    /// Sent over this connection and not answered, by packet id.
    open: BTreeMap<u16, u64>,
    acked: BTreeSet<u64>,
    produced: BTreeMap<u64, Severity>,
    refused: bool,
}

impl<'a> Run<'a> {
    fn new(bench: &'a Bench) -> Self {
        let (session, wire) = (session(bench), Wire::default());
        let (open, acked, produced) = Default::default();
        Self { bench, session, wire, now: Mono::default(), open, acked, produced, refused: false }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append(camera, severity) => {
                let severity = SEVERITIES[severity];
                let seq = self.bench.produce(["gate", "yard", "dock"][camera], severity);
                self.produced.insert(seq, severity);
            }
            Step::Fill => self.fill(),
            Step::Answer(which, taken) => {
                let Some((&pkid, &seq)) = self.open.iter().nth(which) else { return };
                self.open.remove(&pkid);
                self.refused |= !taken;
                if taken {
                    self.acked.insert(seq);
                }
                self.session.answered(pkid, if taken { Ok(Taken::Yes) } else { Err(REFUSED) }, self.now);
            }
            Step::Reconnect => {
                self.session = session(self.bench);
                (self.wire, self.open, self.refused) = (Wire::default(), BTreeMap::new(), false);
            }
            Step::Wait => self.now = self.now + Duration::from_secs(61),
        }
    }

    fn fill(&mut self) {
        self.now = self.now + Duration::from_secs(1);
        let sent = sent(&mut self.wire, &mut self.session, self.now);
        for (pkid, seq) in &sent {
            assert!(!self.acked.contains(seq), "{seq} was taken, and is sent again");
            assert!(self.open.values().all(|open| open != seq), "{seq} is under way, and is sent again");
            self.open.insert(*pkid, *seq);
        }
        if self.refused {
            return;
        }
        let rank = |seq: &u64| match self.bench.context.replay {
            Replay::InOrder => (std::cmp::Reverse(Severity::Info), *seq),
            Replay::AlarmsFirst => (std::cmp::Reverse(self.produced[seq]), *seq),
        };
        assert!(sent.iter().map(|(_, seq)| rank(seq)).is_sorted(), "{sent:?} of {:?}", self.produced);
        let under_way: BTreeSet<_> = self.open.values().collect();
        let waits = self.produced.keys().filter(|seq| !self.acked.contains(*seq) && !under_way.contains(seq));
        let next = waits.map(rank).min();
        let last = sent.last().map(|(_, seq)| rank(seq));
        assert!(next.is_none() || last < next, "{next:?} waits behind {last:?}");
    }

    /// The broker takes everything from here on.
    fn finish(&mut self) {
        for _ in 0..=self.produced.len() {
            self.step(&Step::Wait);
            self.fill();
            while !self.open.is_empty() {
                self.step(&Step::Answer(0, true));
            }
        }
        let given_up = usize::try_from(self.bench.status().given_up).unwrap();
        assert_eq!((self.bench.depth(), self.acked.len() + given_up), (0, self.produced.len()));
        assert!(given_up == 0 || self.bench.status().refused >= 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_is_lost_or_sent_twice(steps in steps(), alarms_first in any::<bool>()) {
        let mut bench = Bench::new();
        bench.context.replay = if alarms_first { Replay::AlarmsFirst } else { Replay::InOrder };
        let mut run = Run::new(&bench);
        steps.iter().for_each(|step| run.step(step));
        run.finish();
    }
}
