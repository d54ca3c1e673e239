//! The outbox against plain lists, over stops, crashes and changes of the configuration.

use proptest::prelude::*;

use super::*;

const CAPACITY: usize = 10;
const SINKS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Evidence(usize),
    /// The sink; which of those that wait for it, or, behind them, a number that does not.
    Ack(usize, usize),
    Attach(usize),
    Detach(usize),
    Crash,
    Stop,
    /// Started again without that sink.
    Without(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sink = 0..SINKS.len();
    let step = prop_oneof![
        12 => (0..SEVERITIES.len()).prop_map(Step::Append),
        4 => (0..SEVERITIES.len()).prop_map(Step::Evidence),
        10 => (sink.clone(), 0..CAPACITY + 2).prop_map(|(sink, at)| Step::Ack(sink, at)),
        1 => sink.clone().prop_map(Step::Attach),
        1 => sink.clone().prop_map(Step::Detach),
        1 => Just(Step::Crash),
        1 => Just(Step::Stop),
        1 => sink.prop_map(Step::Without),
    ];
    proptest::collection::vec(step, 1..100)
}

/// What the outbox should hold for one sink.
#[derive(Clone, Debug, Default)]
struct Expected {
    attached: bool,
    waiting: Vec<(Severity, u64)>,
    dropped: u64,
    /// Acknowledged since the process began: a crash may bring them back.
    acked: Vec<(Severity, u64)>,
}

impl Expected {
    fn append(&mut self, severity: Severity, seq: u64) {
        if !self.attached {
            return;
        }
        self.waiting.push((severity, seq));
        while self.waiting.len() > CAPACITY {
            let victim = self.waiting.iter().copied().min().unwrap();
            self.waiting.retain(|e| *e != victim);
            self.dropped += 1;
        }
    }

    fn detach(&mut self) {
        if self.attached {
            self.dropped += self.waiting.len() as u64;
            (self.attached, self.waiting, self.acked) = (false, Vec::new(), Vec::new());
        }
    }
}

/// The outbox, what it should be, and the bytes of everything seen.
struct Pair {
    folder: tempfile::TempDir,
    outbox: Option<SqliteOutbox>,
    expected: [Expected; SINKS.len()],
    seen: BTreeMap<u64, Arc<Stored>>,
    last: u64,
    epoch: Uuid,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Self::open(&folder, &SINKS);
        let epoch = outbox.epoch();
        let expected = std::array::from_fn(|_| Expected { attached: true, ..Expected::default() });
        Self { folder, outbox: Some(outbox), expected, seen: BTreeMap::new(), last: 0, epoch }
    }

    fn open(folder: &tempfile::TempDir, sinks: &[&str]) -> SqliteOutbox {
        limited(folder.path(), sinks, Limits { events: CAPACITY, pages: 10_000 })
    }

    fn outbox(&self) -> &SqliteOutbox {
        self.outbox.as_ref().unwrap()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append(severity) => self.append(SEVERITIES[*severity], append),
            Step::Evidence(severity) => self.append(SEVERITIES[*severity], append_evidence),
            Step::Ack(sink, at) => self.ack(*sink, *at),
            Step::Attach(sink) => {
                self.outbox().attach(&name(SINKS[*sink]));
                self.expected[*sink].attached = true;
            }
            Step::Detach(sink) => {
                self.outbox().detach(&name(SINKS[*sink]));
                self.expected[*sink].detach();
            }
            Step::Crash => self.restart(&SINKS),
            Step::Stop => {
                self.outbox().close();
                self.expected.iter_mut().for_each(|e| e.acked.clear());
                self.restart(&SINKS);
            }
            Step::Without(gone) => {
                let left: Vec<_> = SINKS.iter().copied().filter(|s| *s != SINKS[*gone]).collect();
                self.outbox().close();
                self.expected.iter_mut().for_each(|e| e.acked.clear());
                self.expected[*gone].detach();
                self.restart(&left);
                self.expected[*gone].attached = false;
            }
        }
    }

    fn append(&mut self, severity: Severity, produce: fn(&SqliteOutbox, Severity) -> u64) {
        let seq = produce(self.outbox(), severity);
        assert!(seq > self.last, "{seq} after {}", self.last);
        self.last = seq;
        self.expected.iter_mut().for_each(|e| e.append(severity, seq));
    }

    fn ack(&mut self, sink: usize, at: usize) {
        let expected = &mut self.expected[sink];
        let seq = match expected.waiting.get(at).copied() {
            Some(one) if expected.attached => {
                expected.waiting.remove(at);
                expected.acked.push(one);
                one.1
            }
            // Never given, or long gone.
            _ => self.last.saturating_sub(50) + at as u64 * 10,
        };
        if expected.waiting.iter().any(|(_, waiting)| *waiting == seq) {
            return;
        }
        // Twice: the second time is none of its business.
        self.outbox().ack(&name(SINKS[sink]), seq);
        self.outbox().ack(&name(SINKS[sink]), seq);
    }

    /// Opened again, with what a crash brought back.
    fn restart(&mut self, sinks: &[&str]) {
        drop(self.outbox.take());
        self.outbox = Some(Self::open(&self.folder, sinks));
        for (sink, expected) in SINKS.iter().zip(&mut self.expected) {
            expected.attached = true;
            let found = waiting(self.outbox.as_ref().unwrap(), sink);
            let found: Vec<_> = found.iter().map(|s| (s.severity, s.seq)).collect();
            let lost: Vec<_> = expected.waiting.iter().filter(|e| !found.contains(e)).collect();
            assert!(lost.is_empty(), "{sink}: {lost:?} of {expected:?} are not in {found:?}");
            let back = |e: &&(Severity, u64)| !expected.waiting.contains(e);
            assert!(found.iter().filter(back).all(|e| expected.acked.contains(e)), "{found:?}, {expected:?}");
            expected.waiting = found;
            expected.acked.clear();
        }
    }

    fn compare(&mut self) {
        assert_eq!(self.outbox().epoch(), self.epoch);
        for (sink, expected) in SINKS.iter().zip(self.expected.clone()) {
            let found = waiting(self.outbox(), sink);
            let mut wanted = expected.waiting;
            wanted.sort_unstable_by_key(|(_, seq)| *seq);
            assert_eq!(found.iter().map(|s| (s.severity, s.seq)).collect::<Vec<_>>(), wanted, "{sink}");
            let counts = (self.outbox().depth(&name(sink)), self.outbox().dropped(&name(sink)));
            assert_eq!(counts, (wanted.len(), expected.dropped), "{sink}");
            for stored in found {
                let first = self.seen.entry(stored.seq).or_insert_with(|| Arc::clone(&stored));
                assert_eq!(*first, stored, "{sink}: not the same bytes as at first");
            }
            let middle = wanted.get(wanted.len() / 2).map_or(0, |(_, seq)| *seq);
            let next = self.outbox().next(&name(sink), middle).map(|s| s.seq);
            assert_eq!(next, wanted.get(wanted.len() / 2 + 1).map(|(_, seq)| *seq), "{sink} after {middle}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn behaves_like_lists(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(&step);
            pair.compare();
        }
    }
}
