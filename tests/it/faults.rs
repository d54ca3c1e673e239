//! Cameras that die, freeze, fall silent and send nonsense, watched by a whole node; a second camera of the same node
//! must not notice.
//!
//! Recovery times and memory are printed: they are the figures that the README promises.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]
#![expect(clippy::print_stdout, reason = "measured figures, kept in the report of the run")]

use std::cell::Cell;
use std::time::Duration;

use vedette::camera::CameraState;
use vedette_core::Mono;
use vedette_tests::audit::{Audit, audit, text, time};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::need_detector;
use vedette_tests::site::{Plan, Site, camera_text};
use vedette_tests::subscriber::{Message, Subscriber};
use vedette_tests::testcam::{Options, TestCam};

/// Everything that is not measured happens within this, however busy the machine is.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// The promise: frames again so long after the camera answers.
pub(crate) const RECOVERY: Duration = Duration::from_secs(10);
/// The promise: memory does not grow by more.
const GROWTH: u64 = 5 << 20;
/// Longer than anything is under way: the jitter buffer of 200 ms, sockets of loopback, one decoder.
const SETTLED: Duration = Duration::from_secs(1);

pub(crate) fn camera() -> TestCam {
    let other = Some(small_clip(Kind::Size).unwrap());
    TestCam::start(Options { other, ..Options::new(small_clip(Kind::H264).unwrap()) }).unwrap()
}

/// A node that watches camera `a`, and `b` beside it, and a subscriber of its embedded broker.
struct Rig {
    a: TestCam,
    b: TestCam,
    site: Site,
    watcher: Subscriber,
}

/// Of a camera while nothing is under way to it: units sent less those received, and received less those decoded.
/// Where neither changes over a test, every frame that was sent came through.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing(i64, i64);

/// Holds a camera still for a moment that is too short to count as a stall.
pub(crate) fn settle(site: &mut Site, camera: &TestCam, name: &str) -> Missing {
    camera.command("stall").unwrap();
    let seen = Cell::new((0, Mono::default()));
    site.wait_until(&format!("{name} at rest"), SOON, |site| {
        let (now, count) = (site.clock().now(), site.received(name) + site.decoded(name));
        if seen.get().0 != count {
            seen.set((count, now));
        }
        now.since(seen.get().1) >= SETTLED
    });
    let count = |n: u64| i64::try_from(n).unwrap();
    let sent = camera.stats().unwrap()["units"].as_i64().unwrap();
    let (received, decoded) = (count(site.received(name)), count(site.decoded(name)));
    camera.command("resume").unwrap();
    Missing(sent - received, received - decoded)
}

/// Faults of the link that camera `a` has had.
pub(crate) fn counted(site: &Site) -> u64 {
    faults(site).1
}

impl Rig {
    fn start() -> Self {
        let (a, b) = (camera(), camera());
        // Every frame that is sent is to be decoded here: that is how a lost one shows.
        let cameras = camera_text("a", a.url(), 5.0) + &camera_text("b", b.url(), 2.0);
        let text = "[node]\nid = \"box\"\n[broker.main]\nurl = \"embedded\"\n".to_owned()
            + &cameras.replace("\nfps =", "\nmode = \"always\"\nfps =");
        let mut site = Site::start(&Plan::new(text));
        let watcher = Subscriber::start("watcher", site.embedded_port(), None);
        site.wait_live(&["a", "b"], SOON);
        Self { a, b, site, watcher }
    }

    fn of_a(&self) -> Vec<Message> {
        let all = self.watcher.messages();
        all.into_iter().filter(|m| m.is_event() && text(m, "camera") == "a").collect()
    }

    /// Frames of `a` again within [`RECOVERY`] of this moment; how long it took.
    fn recovers(&mut self, what: &str) -> Duration {
        let took = self.site.wait_frames("a", 1, RECOVERY);
        println!("{what}: frames again {:.2} s after the camera answers", took.as_secs_f64());
        took
    }

    /// Memory once `a` has run for a while.
    fn memory(&mut self) -> u64 {
        self.site.wait_frames("a", 150, SOON);
        // The test's own schemas and messages are there from the first measurement on.
        audit(&self.of_a());
        vedette::usage::resident_bytes()
    }

    /// Closes the connections of `a`; frames of before are not taken for those after.
    fn drop_a(&mut self) {
        let before = faults(&self.site).1;
        self.a.command("drop").unwrap();
        self.site.wait_until("the end of the connection", RECOVERY, |s| faults(s).1 > before);
        self.recovers("connection dropped");
    }

    /// The first losses fill pools that stay; memory and `b` are compared with what is after them.
    fn warm_up(&mut self) -> (u64, Missing) {
        for _ in 0..4 {
            self.site.wait_frames("a", 50, SOON);
            self.drop_a();
        }
        (self.memory(), self.settle("b"))
    }

    fn check_memory(&mut self, what: &str, before: u64) {
        let after = self.memory();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!("{what}: {:.1} MiB resident, {:.1} MiB before", mib(after), mib(before));
        // cargo-nextest gives each test a process of its own; else memory is also that of its neighbours.
        if std::env::var_os("NEXTEST").is_none() {
            println!("not compared: other tests run in this process");
            return;
        }
        assert!(after.saturating_sub(before) <= GROWTH, "{what}: from {before} to {after} bytes");
    }

    fn settle(&mut self, name: &str) -> Missing {
        let camera = if name == "a" { &self.a } else { &self.b };
        settle(&mut self.site, camera, name)
    }

    /// The neighbour had no part in any of it.
    fn check_b(&mut self, before: &Missing) {
        let after = self.settle("b");
        println!("b: {} frames received, missing {after:?}, before {before:?}", self.site.received("b"));
        assert_eq!(after, *before, "frames of the other camera were lost");
        let counters = self.site.camera("b").counters();
        assert_eq!((counters.reconnects.get(), counters.link_faults.get()), (0, 0));
    }

    /// Waits until somebody has just come in at `a`: an incident that is open for a while.
    fn somebody_comes_in(&self) {
        let fresh = |m: &[Message]| {
            let last = m.iter().rfind(|m| m.is_event() && text(m, "camera") == "a");
            last.is_some_and(|e| text(e, "phase") == "begin")
        };
        self.watcher.wait_for("an incident at a", fresh);
    }

    /// What is open there: after a loss of less than 10 s, what was open when the camera went.
    fn open_at_a(&self) -> Audit {
        audit(&self.of_a())
    }

    /// All of `gone` ended since, about 10 s after `lost`.
    fn check_lost(&self, gone: &Audit, lost: jiff::Timestamp) {
        assert!(!gone.open.is_empty(), "nobody was there");
        let all = self.of_a();
        let now = audit(&all);
        for id in &gone.open {
            assert_eq!(now.ended.get(id).map(String::as_str), Some("camera-lost"), "{now:?}");
            let end = all.iter().find(|e| text(e, "id") == *id && text(e, "phase") == "end").unwrap();
            let after = time(end, "decided").duration_since(lost).as_secs_f64();
            println!("incident ended by camera-lost {after:.1} s after the loss");
            assert!((9.0..14.0).contains(&after), "{after} s");
        }
    }

    fn finish(self) {
        let Self { a, b, site, watcher } = self;
        assert!(site.stop());
        // What the embedded broker delivered before it stopped.
        for name in ["a", "b"] {
            let events = watcher.messages();
            let of: Vec<_> =
                events.into_iter().filter(|m| m.is_event() && text(m, "camera") == name).collect();
            assert!(!of.is_empty(), "{name}");
            audit(&of);
        }
        drop((a, b));
    }
}

#[test]
fn a_killed_camera_comes_back() {
    need_detector!();
    let mut rig = Rig::start();
    let (memory, missing) = rig.warm_up();
    for seconds in [5, 20] {
        let what = format!("killed for {seconds} s");
        rig.somebody_comes_in();
        rig.a.kill().unwrap();
        let lost = rig.site.clock().wall();
        rig.site.wait_until("the loss", RECOVERY, |s| s.state("a") == CameraState::Lost);
        let gone = rig.open_at_a();
        rig.site.pause(Duration::from_secs(seconds));
        rig.a.start_again().unwrap();
        rig.recovers(&what);
        if seconds > 10 {
            rig.check_lost(&gone, lost);
        }
        rig.check_memory(&what, memory);
    }
    rig.check_b(&missing);
    rig.finish();
}

#[test]
fn a_frozen_camera_comes_back() {
    need_detector!();
    let mut rig = Rig::start();
    let (memory, missing) = rig.warm_up();
    rig.a.stop_signal().unwrap();
    let noticed = rig.site.wait_until("the stall", RECOVERY, |s| s.state("a") == CameraState::Lost);
    println!("frozen: noticed after {:.2} s", noticed.as_secs_f64());
    rig.site.pause(Duration::from_secs(20).saturating_sub(noticed));
    rig.a.continue_signal().unwrap();
    rig.recovers("frozen for 20 s");
    rig.check_memory("frozen for 20 s", memory);
    rig.check_b(&missing);
    rig.finish();
}

#[test]
fn links_that_fail_are_told_apart_and_mended() {
    need_detector!();
    let mut rig = Rig::start();
    let missing = rig.settle("b");
    // A network that holds back a second's worth loses nothing.
    let before = rig.settle("a");
    rig.a.command("burst 25").unwrap();
    rig.site.wait_frames("a", 50, SOON);
    assert_eq!(rig.settle("a"), before, "frames of a burst were lost");

    let lost = |rig: &mut Rig, word: &'static str| {
        rig.site.wait_until(word, RECOVERY, |s| {
            let now = s.camera("a").snapshot();
            now.state == CameraState::Lost && now.reason.is_some_and(|r| r.starts_with(word))
        })
    };
    rig.a.command("stall").unwrap();
    let noticed = lost(&mut rig, "stalled");
    println!("stall: noticed after {:.2} s", noticed.as_secs_f64());
    rig.a.command("resume").unwrap();
    rig.recovers("stall");
    rig.drop_a();
    rig.a.command("refuse on").unwrap();
    lost(&mut rig, "refused");
    rig.a.command("refuse off").unwrap();
    rig.recovers("refuse");
    rig.a.command("eos").unwrap();
    lost(&mut rig, "ended");
    rig.recovers("eos");
    rig.check_b(&missing);
    rig.finish();
}

#[test]
fn nonsense_from_the_camera_is_survived() {
    need_detector!();
    let mut rig = Rig::start();
    let missing = rig.settle("b");
    rig.a.command("corrupt 200").unwrap();
    let until = rig.site.received("a") + 200;
    rig.site.wait_until("200 units", SOON, |s| s.received("a") >= until);
    rig.recovers("corrupt 200");

    rig.site.wait_frames("a", 25, SOON);
    let before = faults(&rig.site);
    for _ in 0..2 {
        rig.a.command("size").unwrap();
        let wanted = rig.site.camera("a").counters().analysed.get() + 10;
        let analysed = |s: &Site| s.camera("a").counters().analysed.get() >= wanted;
        rig.site.wait_until("analysis of another size", SOON, analysed);
    }
    assert_eq!(faults(&rig.site), before, "another size is no fault");

    // A stream that is decoded already keeps the parameter sets that it knows; one that begins so cannot be decoded.
    rig.a.command("badsps on").unwrap();
    rig.site.wait_frames("a", 150, SOON);
    rig.a.command("drop").unwrap();
    // The fault after that of the drop.
    let blind = rig.site.wait_until("blindness", SOON, |s| faults(s).1 > before.1 + 1);
    println!("badsps: noticed after {:.2} s: {:?}", blind.as_secs_f64(), rig.site.camera("a").snapshot());
    rig.a.command("badsps off").unwrap();
    rig.recovers("badsps");
    rig.check_b(&missing);
    rig.finish();
}

fn faults(site: &Site) -> (u64, u64) {
    let counters = site.camera("a").counters();
    (counters.reconnects.get(), counters.link_faults.get())
}
