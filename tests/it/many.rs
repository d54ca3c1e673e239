//! Sixteen cameras of one small box: each gets its share, and memory stays what it is.
//!
//! The long form runs under `./dev soak` (ten minutes: `./dev soak 600`) and judges memory; in `./dev test` it is half a
//! minute, and memory is printed: pools that fill slowly are no leak.

use std::time::Duration;

use vedette_tests::clips::{self, ClipMakerError, Kind};
use vedette_tests::need_detector;
use vedette_tests::site::{Plan, Site, camera_text};
use vedette_tests::testcam::{Options, TestCam};
use vedette_tests::{skipped, soak_seconds};

/// Cameras.
const COUNT: usize = 16;
/// Frames a second that each wants analysed.
const FPS: f32 = 2.0;
/// How long the short form lasts.
const SHORT: Duration = Duration::from_secs(20);
/// Queues, pools and the model's buffers are full by then.
const SETTLE: Duration = Duration::from_secs(10);
/// The long form's memory is compared from here on: the allocator's pools and SQLite's cache have filled.
const WARM: Duration = Duration::from_secs(60);
/// However busy the machine is.
const SOON: Duration = Duration::from_secs(90);
/// The camera with the fewest analysed frames against the one with the most.
const FAIR: f64 = 0.9;
/// What memory may grow by over the long form, bytes.
const GROWTH: u64 = 2 << 20;
/// How often memory is looked at to measure it once, a second apart.
const LOOKS: usize = 5;

/// Memory that is held: the least of some looks, after what is free went back to the system.
fn held(site: &mut Site) -> u64 {
    let looks = (0..LOOKS).map(|_| {
        site.pause(Duration::from_secs(1));
        vedette::process_env::give_back();
        vedette::usage::resident_bytes()
    });
    looks.min().unwrap_or(0)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[test]
fn sixteen_cameras_share_the_machine() {
    need_detector!();
    let clip = match clips::cached(Kind::Demo360) {
        Ok(clip) => clip,
        Err(error @ ClipMakerError::NoFootage) => return skipped(error),
        Err(error) => panic!("{error}"),
    };
    let long = soak_seconds();
    let camera =
        TestCam::start(Options { count: COUNT, ..Options::new(clip) }).unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<String> = (0..COUNT).map(|n| format!("c{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cameras = names.iter().zip(camera.urls()).map(|(name, url)| camera_text(name, url, FPS));
    let text =
        "[node]\nid = \"box\"\n[broker.main]\nurl = \"embedded\"\n".to_owned() + &cameras.collect::<String>();
    let mut site = Site::start(&Plan::new(text));
    site.wait_live(&names, SOON);
    site.pause(if long.is_some() { WARM } else { SETTLE });
    let analysed = |site: &Site| names.iter().map(|name| site.analysed(name)).collect::<Vec<_>>();
    let (before, memory) = (analysed(&site), held(&mut site));
    let began = site.clock().now();
    site.pause(long.unwrap_or(SHORT));
    let seconds = site.clock().now().since(began).as_secs_f64();
    let (after, memory_after) = (analysed(&site), held(&mut site));
    let counts: Vec<u64> = before.iter().zip(&after).map(|(b, a)| a - b).collect();
    let (least, most) = (*counts.iter().min().expect("cameras"), *counts.iter().max().expect("cameras"));
    println!(
        "{COUNT} cameras for {seconds:.0} s: {least} to {most} analysed ({:.2} to {:.2} a second), min/max {:.3}; {:.1} MiB and \
         then {:.1} MiB",
        least as f64 / seconds,
        most as f64 / seconds,
        least as f64 / most as f64,
        mib(memory),
        mib(memory_after)
    );
    assert!(least > 0 && least as f64 >= FAIR * most as f64, "{counts:?}");
    for name in &names {
        let counters = site.camera(name).counters();
        assert_eq!((counters.reconnects.get(), counters.link_faults.get()), (0, 0), "{name}");
    }
    if long.is_some() {
        assert!(memory_after.saturating_sub(memory) < GROWTH, "{memory} and then {memory_after} bytes");
    }
    assert!(site.stop());
}
