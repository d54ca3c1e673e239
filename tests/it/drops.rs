//! A camera that is cut off again and again: the daemon's memory and threads stay what they are, the camera is back
//! each time, and its neighbour does not notice.
//!
//! The long form runs under `./dev soak`: at least 100 drops, and memory is judged to 1 MiB. In `./dev test` it is a few,
//! and memory is printed: pools that fill slowly are no leak.
#![expect(clippy::print_stdout, reason = "measured figures, kept in the report of the run")]

use std::time::Duration;

use vedette_tests::need_detector;
use vedette_tests::site::{Plan, Site};
use vedette_tests::testcam::TestCam;

use crate::faults::{RECOVERY, SOON, camera, counted, settle};

/// The first drops, which fill pools that stay, and those after them.
struct Form(usize, usize);

const SHORT: Form = Form(3, 6);
const LONG: Form = Form(10, 90);
/// What memory may grow by over the long form, bytes.
const GROWTH: u64 = 1 << 20;
/// How often memory is looked at to measure it once.
const LOOKS: usize = 8;
/// Frames between two drops, and between two looks: the decoder, the detector and the jitter buffer are at work again.
const BETWEEN: u64 = 15;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    threads: usize,
}

impl Held {
    /// Measured while both cameras run: the least of some looks, since what comes and goes is not held.
    fn measure(site: &mut Site) -> Self {
        let looks = (0..LOOKS).map(|_| {
            site.wait_frames("a", BETWEEN, SOON);
            Self::now()
        });
        let least = |one: Self, other: Self| Self {
            bytes: one.bytes.min(other.bytes),
            threads: one.threads.min(other.threads),
        };
        looks.reduce(least).expect("there are looks")
    }

    /// What is freed goes back to the system first, so that only what is held counts.
    fn now() -> Self {
        vedette::process_env::give_back();
        let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let held = Self { bytes: vedette::usage::resident_bytes(), threads };
        println!("{:.2} MiB resident, {threads} threads", held.bytes as f64 / f64::from(1 << 20));
        held
    }
}

/// Cuts `a` off; how long it takes until there are frames again.
fn drop_once(site: &mut Site, a: &TestCam) -> Duration {
    let before = counted(site);
    a.command("drop").expect("the camera should obey");
    site.wait_until("the end of the connection", RECOVERY, |site| counted(site) > before);
    site.wait_frames("a", 1, RECOVERY)
}

#[test]
fn a_camera_that_is_cut_off_again_and_again_leaves_nothing_behind() {
    need_detector!();
    let long = vedette_tests::soak_seconds();
    let (a, b) = (camera(), camera());
    // No rules: the store's caches fill with events, which is no matter of drops. Always: whether a camera rests is none
    // either.
    let (main, beside) = (a.url(), b.url());
    let text = format!(
        "[node]\nid = \"box\"\n[broker.main]\nurl = \"embedded\"\n\
         [camera.a]\nurl = \"{main}\"\nmode = \"always\"\n[camera.b]\nurl = \"{beside}\"\nfps = 2\nmode = \"always\"\n"
    );
    let mut site = Site::start(&Plan::new(text));
    site.wait_live(&["a", "b"], SOON);
    let mut times = Vec::new();
    let mut cut = |site: &mut Site| {
        site.wait_frames("a", BETWEEN, SOON);
        times.push(drop_once(site, &a));
    };
    let Form(first, drops) = if long.is_some() { LONG } else { SHORT };
    (0..first).for_each(|_| cut(&mut site));
    let (before, missing) = (Held::measure(&mut site), settle(&mut site, &b, "b"));
    let began = site.clock().now();
    let over = |site: &Site| site.clock().now().since(began) >= long.unwrap_or_default();
    let mut done = 0;
    while done < drops || !over(&site) {
        cut(&mut site);
        done += 1;
        if done % 10 == 0 {
            Held::now();
        }
    }
    let (after, still_missing) = (Held::measure(&mut site), settle(&mut site, &b, "b"));
    times.sort();
    println!(
        "{} drops: back after {:.2} s in the median, {:.2} s at most; b: {} frames received",
        times.len(),
        times[times.len() / 2].as_secs_f64(),
        times[times.len() - 1].as_secs_f64(),
        site.received("b")
    );
    assert_eq!(still_missing, missing, "frames of the other camera were lost");
    let counters = site.camera("b").counters();
    assert_eq!((counters.reconnects.get(), counters.link_faults.get()), (0, 0));
    // Other tests run in this process unless cargo-nextest or `./dev soak` started it.
    if long.is_some() || std::env::var_os("NEXTEST").is_some() {
        assert!(after.threads <= before.threads, "{before:?} and then {after:?}");
    }
    if long.is_some() {
        assert!(after.bytes.saturating_sub(before.bytes) < GROWTH, "{before:?} and then {after:?}");
    }
    assert!(site.stop());
}
