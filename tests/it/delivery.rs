//! A whole day, brokers that come and go, a broker that is dead: against Debian's Mosquitto, what was produced arrives.
//!
//! Tests with a long form run for `VEDETTE_SOAK_SECONDS` where that is set, as `./dev soak` does; then what is measured
//! is judged as well. In `./dev test` it is printed only: a busy machine is no defect.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]
#![expect(clippy::print_stdout, reason = "measured figures, kept in the report of the run")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use vedette::random::Random;
use vedette_core::{Clock, Shutdown, SystemClock};
use vedette_tests::asker::{Answer, Asker};
use vedette_tests::binary::{Vedette, beside_this};
use vedette_tests::child::Child;
use vedette_tests::daemon::{Daemon, Home};
use vedette_tests::ledger::Ledger;
use vedette_tests::mosquitto::{Mosquitto, Options};
use vedette_tests::need_detector;
use vedette_tests::subscriber::Subscriber;

const CAMERAS: usize = 8;
/// Of the daemon, on the day.
const KILLS: usize = 20;
/// Everything that is not measured happens within this, however busy the machine is.
const SOON: Duration = Duration::from_secs(120);

/// How long a test with a long form takes: `usual`, or what `./dev soak` asks for, which the second value tells.
fn length(usual: Duration) -> (Duration, bool) {
    let asked = std::env::var("VEDETTE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    asked.map_or((usual, false), |seconds| (Duration::from_secs(seconds), true))
}

/// Node `box` with cameras `c0`… that nobody answers for, and these brokers.
fn home(brokers: &str) -> Home {
    let home = Home::new();
    let mut text = format!("[node]\nid = \"box\"\n{brokers}");
    for camera in 0..CAMERAS {
        // The port of a service that nobody has run for decades.
        writeln!(text, "[camera.c{camera}]\nurl = \"rtsp://127.0.0.1:1/none\"").unwrap();
    }
    home.write("vedette.toml", &text);
    home
}

/// What the store says of one broker.
#[derive(Debug, PartialEq, Eq)]
struct Store {
    last: u64,
    waiting: u64,
    dropped: u64,
}

/// `vedette outbox status`, whether or not a daemon runs.
fn store(home: &Home, broker: &str) -> Store {
    let state = home.state();
    let arguments = ["outbox", "status", "--json", "--state", state.to_str().unwrap()];
    let told = Vedette::new(&home.config(), arguments).run().expect(0, &[]).json();
    let sinks = told["sinks"].as_array().unwrap().clone();
    let sink = sinks.iter().find(|s| s["sink"] == broker).unwrap_or_else(|| panic!("no {broker} in {told}"));
    let number = |value: &Value| value.as_u64().unwrap();
    Store {
        last: number(&told["last_seq"]),
        waiting: number(&sink["waiting"]),
        dropped: number(&sink["dropped"]),
    }
}

/// The same once nothing waits for the broker any more: its rows have left.
fn emptied(home: &Home, broker: &str) -> Store {
    let (clock, patience) = (SystemClock::new(), Shutdown::new());
    loop {
        let store = store(home, broker);
        if store.waiting == 0 {
            return store;
        }
        assert!(clock.now().0 < SOON, "rows stay: {store:?}");
        clock.pause(Duration::from_millis(100), &patience);
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// A node that produces until it is killed; see `day-writer`.
struct Writer(Child);

impl Writer {
    fn start(home: &Home, per_day: u64, next: &[u64]) -> Self {
        let mut command = Command::new(beside_this("day-writer").unwrap_or_else(|e| panic!("{e}")));
        command.arg(home.config()).arg(home.state()).arg(per_day.to_string());
        Self(Child::start(command.args(next.iter().map(u64::to_string)).stdin(Stdio::null())))
    }

    /// kill -9, and what it still had said.
    fn kill(self, told: &mut Told) {
        let status = self.0.kill(|line| told.take(line));
        assert_eq!(status.code(), None, "it ended by itself: {status}");
    }
}

/// What writers have said, over all of them.
#[derive(Default)]
struct Told {
    /// Camera and count, by number.
    produced: BTreeMap<u64, (String, u64)>,
    /// The last count of each camera.
    counts: BTreeMap<String, u64>,
}

impl Told {
    fn take(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let ["produced", camera, count, seq] = words[..] else { panic!("{line}") };
        let (count, seq): (u64, u64) = (count.parse().unwrap(), seq.parse().unwrap());
        let before = self.produced.insert(seq, (camera.to_owned(), count));
        assert_eq!(before, None, "number {seq} was given twice");
        self.counts.insert(camera.to_owned(), count);
    }

    /// Where each camera goes on: one event more may have been in a commit when it was killed.
    fn next(&self) -> Vec<u64> {
        (0..CAMERAS).map(|c| self.counts.get(&format!("c{c}")).map_or(0, |count| count + 2)).collect()
    }
}

#[test]
fn a_day_without_a_broker_and_with_twenty_kills_arrives_but_for_what_was_counted() {
    const EVENTS: usize = 10_000;
    const BOUND: u64 = 8_000;
    const SEED: u64 = 24;
    need_detector!();
    let mut broker = Mosquitto::start(Options::default());
    broker.kill();
    // Ten times the default: otherwise the replay takes most of the test.
    let home = home(&format!(
        "[outbox]\nmax_events = {BOUND}\n[broker.main]\nurl = \"mqtt://127.0.0.1:{}\"\nreplay_per_second = 2000\n",
        broker.port()
    ));
    let (mut told, mut random) = (Told::default(), Random::seeded(SEED));
    let mut kills: Vec<usize> = (1..KILLS).map(|_| (random.unit() * EVENTS as f64) as usize).collect();
    kills.push(EVENTS);
    kills.sort_unstable();
    for wanted in kills {
        let writer = Writer::start(&home, (EVENTS / CAMERAS) as u64, &told.next());
        loop {
            told.take(&writer.0.line().expect("it goes on"));
            if told.produced.len() >= wanted {
                break;
            }
        }
        writer.kill(&mut told);
    }
    let left = store(&home, "main");
    assert_eq!(left.waiting, BOUND, "the bound was hit: {left:?}");

    broker.restart();
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let mut ledger = Ledger::default();
    let _daemon = Daemon::start(&home);
    ledger.take_until(&subscriber, "what waits", SOON, |l| l.events.len() as u64 >= left.waiting);
    let dropped = store(&home, "main").dropped;
    ledger.take_until(&subscriber, "the last notice of loss", SOON, |l| told_lost(l) == Some(dropped));
    let end = emptied(&home, "main");
    ledger.take_until(&subscriber, "the rest", SOON, |l| l.events.len() as u64 >= end.last - end.dropped);
    check_day(&told, &ledger, &end);
}

/// What the last health event of a loss says.
fn told_lost(ledger: &Ledger) -> Option<u64> {
    let last = ledger.events.values().rfind(|e| e.json["rule"] == "outbox-loss")?;
    last.json["value"].as_f64().map(|dropped| dropped as u64)
}

/// Holds what arrived against what writers said and what the daemon published.
fn check_day(told: &Told, ledger: &Ledger, end: &Store) {
    for (seq, (camera, count)) in &told.produced {
        let Some(entry) = ledger.events.get(seq) else { continue };
        let of = (entry.json["camera"].as_str().unwrap(), entry.json["value"].as_f64().unwrap() as u64);
        assert_eq!(of, (camera.as_str(), *count), "number {seq} is another event");
    }
    let missing: Vec<_> = (1..=end.last).filter(|seq| !ledger.events.contains_key(seq)).collect();
    assert_eq!(
        missing.len() as u64,
        end.dropped,
        "dropped is what the daemon says, and everything else arrived"
    );
    // Every third is of the lowest severity, and of those there were more than enough to give up.
    let urgent = missing.iter().filter_map(|s| told.produced.get(s)).find(|(_, count)| count % 3 != 0);
    assert_eq!(urgent, None, "dropped although less urgent ones were there");
    assert_eq!(told_lost(ledger), Some(end.dropped), "the last notice of loss counts all");
    let counted = |(_, e): &(&u64, &vedette_tests::ledger::Entry)| e.json["kind"] == "occupancy";
    let arrived: Vec<_> = ledger.events.iter().filter(counted).collect();
    let inside = arrived.iter().filter(|(seq, _)| !told.produced.contains_key(seq)).count();
    let unsaid = missing.iter().filter(|seq| !told.produced.contains_key(seq)).count();
    let times = || arrived.iter().map(|(_, e)| e.json["captured"].as_str().unwrap());
    println!(
        "a day from {} to {}: {} produced by {CAMERAS} cameras, {} killed daemons; {} arrived and {} of health, {} \
         dropped and published; {inside} that arrived were inside a commit at a kill, {unsaid} of the dropped; {} came again",
        times().min().unwrap(),
        times().max().unwrap(),
        told.produced.len(),
        KILLS,
        arrived.len(),
        ledger.events.len() - arrived.len(),
        end.dropped,
        ledger.repeated
    );
}

/// Test alarms over a broker that stays, 50 a second; what becomes of each.
struct Load<'a> {
    asker: &'a Asker,
    clock: SystemClock,
    asked: usize,
    produced: Vec<u64>,
    busy: usize,
}

impl<'a> Load<'a> {
    const EACH: Duration = Duration::from_millis(20);

    fn new(asker: &'a Asker) -> Self {
        Self { asker, clock: SystemClock::new(), asked: 0, produced: Vec::new(), busy: 0 }
    }

    fn count(&mut self, answer: Answer) {
        match answer {
            Answer::Produced(seq) => self.produced.push(seq),
            Answer::Busy => self.busy += 1,
        }
    }

    /// Asks until `until` on its clock, in time with it.
    fn run(&mut self, until: Duration) {
        let patience = Shutdown::new();
        while self.clock.now().0 < until {
            let due = Self::EACH * self.asked as u32;
            self.clock.pause(due.saturating_sub(self.clock.now().0), &patience);
            self.asker.ask(&format!("c{}", self.asked % CAMERAS));
            self.asked += 1;
            for answer in self.asker.answered() {
                self.count(answer);
            }
        }
    }

    /// Waits for the answers that are still to come.
    fn settle(&mut self) {
        while self.produced.len() + self.busy < self.asked {
            let answer = self.asker.answer();
            self.count(answer);
        }
    }
}

/// The broker over which alarms are asked for; it gets no events.
fn control(broker: &Mosquitto) -> String {
    format!(
        "[broker.control]\nurl = \"mqtt://127.0.0.1:{}\"\ncommands = [\"test_alarm\"]\n[broker.control.filter]\nkinds = \
         [\"intrusion\"]\n",
        broker.port()
    )
}

/// Kills the broker and starts it again. What it has acknowledged and not handed on yet would die with it, which is no
/// fault of the daemon: so the subscriber is there (`subscribed` counts confirmations up to the last kill), and once the
/// broker stands still everything that it has written is read. Mosquitto writes a message to a subscriber that is there,
/// with fewer than `max_inflight_messages` under way, before it acknowledges it to the publisher; and what waited for the
/// subscriber's session it writes before it confirms a subscription. What it did not acknowledge the daemon sends again.
fn flap(broker: &mut Mosquitto, subscriber: &Subscriber, subscribed: &mut usize) {
    subscriber.subscribed_after(*subscribed);
    broker.freeze();
    let (clock, patience) = (SystemClock::new(), Shutdown::new());
    while !broker.is_read_out() {
        assert!(clock.now().0 < SOON, "a client does not read");
        clock.pause(Duration::from_millis(5), &patience);
    }
    *subscribed = subscriber.subscribed_after(0);
    broker.restart();
}

#[test]
fn a_broker_that_is_killed_every_three_seconds_gets_everything() {
    /// Memory may grow by so much from the first third to the end.
    const GROWTH: u64 = 8 << 20;
    const PERIOD: Duration = Duration::from_secs(3);
    need_detector!();
    let (length, soak) = length(Duration::from_secs(30));
    let stays = Mosquitto::start(Options::default());
    let mut broker = Mosquitto::start(Options { persistent: true, ..Options::default() });
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let home =
        home(&format!("{}[broker.main]\nurl = \"mqtt://127.0.0.1:{}\"\n", control(&stays), broker.port()));
    let daemon = Daemon::start(&home);
    daemon.wait_for_log("both brokers", |log| {
        ["broker control: connected", "broker main: connected"].iter().all(|words| log.contains(words))
    });
    let asker = Asker::start(stays.port(), "box");
    let (mut load, mut ledger, mut kills) = (Load::new(&asker), Ledger::default(), 0);
    let (began, mut warm, mut subscribed) = (daemon.usage().0, 0, 0);
    while load.clock.now().0 < length {
        load.run(load.clock.now().0 + PERIOD);
        flap(&mut broker, &subscriber, &mut subscribed);
        kills += 1;
        ledger.take(&subscriber);
        if load.clock.now().0 <= length / 3 + PERIOD {
            warm = warm.max(daemon.usage().1);
        }
    }
    load.settle();
    // The daemon says `busy` where its disk does not follow, and nothing is lost by that; but some must be there.
    assert!(load.produced.len() > load.asked / 10, "{} of {}", load.produced.len(), load.asked);
    let (flapping, cpu) = (load.clock.now().0, daemon.usage().0 - began);
    let all = |l: &Ledger| load.produced.iter().all(|seq| l.events.contains_key(seq));
    ledger.take_until(&subscriber, "all that was produced", SOON, all);
    let (memory, later) = (daemon.usage().1, load.clock.now().0 - flapping);
    let share = cpu.as_secs_f64() / flapping.as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{kills} flaps in {:.0} s: {} asked for, {} produced, {} busy; all arrived {:.1} s after the last flap, {} came \
         again; {:.1} % of a core; {:.1} MiB resident, {:.1} MiB before",
        flapping.as_secs_f64(),
        load.asked,
        load.produced.len(),
        load.busy,
        later.as_secs_f64(),
        ledger.repeated,
        share * 100.0,
        mib(memory),
        mib(warm)
    );
    assert!(memory.saturating_sub(warm) <= GROWTH, "from {warm} to {memory} bytes");
    assert_eq!(store(&home, "main").dropped, 0);
    if soak {
        assert!(share <= 0.05, "{:.1} % of a core", share * 100.0);
    }
}

/// A daemon with a broker that lives, and these beside it, is asked for so many alarms that a bound of as many is hit,
/// and then for `alarms` one after the other: how long each took from request to arrival.
fn run_beside(others: &str, bound: usize, alarms: usize, check: impl Fn(&Home)) -> Vec<Duration> {
    let (stays, broker) = (Mosquitto::start(Options::default()), Mosquitto::start(Options::default()));
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let home = home(&format!(
        "[outbox]\nmax_events = {bound}\n{}[broker.main]\nurl = \"mqtt://127.0.0.1:{}\"\n{others}",
        control(&stays),
        broker.port()
    ));
    let daemon = Daemon::start(&home);
    daemon.wait_for_log("both brokers", |log| {
        ["broker control: connected", "broker main: connected"].iter().all(|words| log.contains(words))
    });
    let asker = Asker::start(stays.port(), "box");
    let (mut ledger, mut latencies, clock) = (Ledger::default(), Vec::new(), subscriber.clock());
    for count in 0..bound {
        asker.ask(&format!("c{}", count % CAMERAS));
        // As many wait as the daemon takes at once.
        if count >= CAMERAS {
            assert!(matches!(asker.answer(), Answer::Produced(_)));
        }
    }
    (0..CAMERAS).for_each(|_| assert!(matches!(asker.answer(), Answer::Produced(_))));
    for count in 0..alarms {
        let began = clock.now().0;
        asker.ask(&format!("c{}", count % CAMERAS));
        let Answer::Produced(seq) = asker.answer() else { panic!("one at a time, and busy") };
        ledger.take_until(&subscriber, "the alarm", SOON, |l| l.events.contains_key(&seq));
        latencies.push(ledger.events[&seq].came.saturating_sub(began));
    }
    check(&home);
    latencies
}

#[test]
fn a_dead_broker_costs_the_living_one_nothing() {
    const BOUND: usize = 1_000;
    const ALARMS: usize = 200;
    need_detector!();
    let lossless = |home: &Home| assert_eq!(emptied(home, "main").dropped, 0);
    let alone = run_beside("", BOUND, ALARMS, lossless);
    // It takes connections, and never says a word on them.
    let dead = Mosquitto::start(Options::default());
    dead.freeze();
    let other = format!("[broker.dead]\nurl = \"mqtt://127.0.0.1:{}\"\n", dead.port());
    let beside = run_beside(&other, BOUND, ALARMS, |home| {
        lossless(home);
        let Store { last, waiting, dropped } = store(home, "dead");
        assert_eq!(waiting, BOUND as u64);
        assert_eq!(waiting + dropped, last, "the rest was dropped there, and counted");
        assert!(dropped >= ALARMS as u64);
    });
    let [alone, beside] = [alone, beside].map(median);
    println!(
        "{ALARMS} alarms, median from request to arrival: {:.1} ms alone, {:.1} ms beside a dead broker",
        alone.as_secs_f64() * 1e3,
        beside.as_secs_f64() * 1e3
    );
    if std::env::var_os("VEDETTE_SOAK_SECONDS").is_some() {
        assert!(
            beside <= alone.mul_f64(1.5) + Duration::from_millis(2),
            "{alone:?} alone, {beside:?} beside it"
        );
    }
}
