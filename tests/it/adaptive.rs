//! Cameras that rest while nothing moves: what they decode then, and that nothing gets past them.
//!
//! The tables that the tests print are the figures of the README.
#![expect(clippy::print_stdout, reason = "measured figures, kept in the report of the run")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use vedette_core::{CameraId, SystemClock};
use vedette_ingest::{Descriptions, Receiver, SourceConfig, Transport, Trust};
use vedette_tests::binary::{Ran, Vedette};
use vedette_tests::clips::ClipMakerError;
use vedette_tests::composed::{
    CROSSINGS, Rate, crossings, pieces, spans, yard, yard_of_two_streams, yard_with_b_frames,
};
use vedette_tests::need_detector;
use vedette_tests::site::{Plan, Site, camera_text};
use vedette_tests::skipped;
use vedette_tests::testcam::{Options, TestCam};

use crate::cli::{folder, root, write};

/// Every composed clip has a keyframe every 2 s.
const GOP: f64 = 2.0;
/// However busy the machine is.
const SOON: Duration = Duration::from_secs(90);

/// A clip, or none where the footage is not installed.
fn clip<T>(made: Result<T, ClipMakerError>) -> Option<T> {
    match made {
        Ok(clip) => Some(clip),
        Err(error @ ClipMakerError::NoFootage) => {
            skipped(error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A folder whose configuration has one rule: a person anywhere in the picture.
fn yard_with_a_rule() -> TempDir {
    let folder = folder();
    let text = r#"
[camera.yard]
url = "rtsp://127.0.0.1/never-opened"
[camera.yard.zone]
all = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
[camera.yard.rule.inside]
kind = "intrusion"
zone = "all"
classes = ["person"]
cooldown = "1s"
max_per_hour = 1000
"#;
    write(folder.path(), "config/vedette.toml", text);
    folder
}

pub(crate) fn replay(folder: &TempDir, clip: &Path, mode: &str) -> Ran {
    let words = ["--config", "config", "replay", "--mode", mode];
    let ran =
        Vedette::new(folder.path(), words.iter().map(Into::into).chain([clip.as_os_str().to_owned()])).run();
    ran.expect(0, &[]);
    ran
}

/// Seconds of the file at which incidents begin.
fn begins(ran: &Ran) -> Vec<f64> {
    let events = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let begin = events.filter(|event| event["phase"] == "begin");
    let captured = begin.map(|e| e["captured"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()));
    captured.map(|t| t.expect("a time").as_millisecond() as f64 / 1e3).collect()
}

/// When the decoder did what, as told on standard error.
pub(crate) fn states(ran: &Ran) -> Vec<(f64, String)> {
    let changes = ran.err.lines().filter_map(|line| line.split_once("; gate: ")?.0.rsplit_once(" s: "));
    let parsed = changes.filter_map(|(at, state)| {
        let at = at.rsplit(' ').next()?.parse().ok()?;
        Some((at, state.to_owned()))
    });
    parsed.collect()
}

fn state_at(states: &[(f64, String)], at: f64) -> &str {
    states.iter().rev().find(|(since, _)| *since <= at).map_or("watch", |(_, state)| state)
}

/// Begin times of `always` without one of `adaptive` within a GOP; each of those is used once.
fn missed(always: &[f64], adaptive: &[f64]) -> Vec<f64> {
    let mut left = adaptive.to_vec();
    let mut missed = Vec::new();
    for &begin in always {
        let near = left.iter().position(|other| (other - begin).abs() <= GOP);
        if near.map(|at| left.remove(at)).is_none() {
            missed.push(begin);
        }
    }
    missed
}

/// The last line of a replay's summary.
fn summary(ran: &Ran) -> &str {
    ran.err.lines().rev().find(|line| line.contains("packets decoded")).unwrap_or_default()
}

fn compare(rate: Rate) {
    let Some(clip) = clip(pieces(rate)) else { return };
    let folder = yard_with_a_rule();
    let (always, adaptive) = (replay(&folder, &clip, "always"), replay(&folder, &clip, "adaptive"));
    let (all, found, states) = (begins(&always), begins(&adaptive), states(&adaptive));
    println!(
        "{}: {} incidents always, {} adaptive; {}",
        rate.as_str(),
        all.len(),
        found.len(),
        summary(&adaptive)
    );
    println!("  always {all:.1?}\n  adaptive {found:.1?}\n  states {states:.1?}");
    for (begin, _) in spans() {
        let before = state_at(&states, begin - 0.2);
        assert_eq!(before, "quiet", "{} before {begin} s: {states:?}", rate.as_str());
    }
    assert!(all.len() >= 20, "{}: {all:?}", rate.as_str());
    let (lost, invented) = (missed(&all, &found), missed(&found, &all));
    assert!(
        lost.is_empty() && invented.is_empty(),
        "{}: lost {lost:?}, invented {invented:?}",
        rate.as_str()
    );
}

#[test]
fn a_resting_camera_reports_what_one_that_never_rests_does() {
    compare(Rate::Variable);
}

#[test]
fn a_resting_camera_with_constant_bit_rate_reports_the_same_too() {
    compare(Rate::Constant);
}

/// A line of the table of what was missed, and how many of the crossings woke the camera.
fn cross(rate: Rate) -> usize {
    let Some(clip) = clip(crossings(rate)) else { return CROSSINGS.len() };
    let folder = yard_with_a_rule();
    let adaptive = replay(&folder, &clip, "adaptive");
    let states = states(&adaptive);
    let woke = |at: &f64| {
        let woke =
            |(since, state): &(f64, String)| state != "quiet" && (*at..*at + GOP + 1.0).contains(since);
        states.iter().any(woke)
    };
    let woken = CROSSINGS.iter().filter(|at| woke(at)).count();
    println!("| rate | crossings | woke the camera | missed |");
    println!("| {} | {} | {woken} | {} |", rate.as_str(), CROSSINGS.len(), CROSSINGS.len() - woken);
    println!("  states {states:.1?}\n  {}", summary(&adaptive));
    for at in CROSSINGS {
        assert_eq!(state_at(&states, at - 0.2), "quiet", "{} before {at} s: {states:?}", rate.as_str());
    }
    assert!(replay(&folder, &clip, "adaptive").out == adaptive.out, "two adaptive replays differ");
    woken
}

#[test]
fn a_small_figure_that_is_gone_after_a_second_makes_packets_larger() {
    // 24 pixels of 768: one of five may come at a moment when it hardly makes packets larger.
    assert!(cross(Rate::Variable) + 1 >= CROSSINGS.len());
}

#[test]
fn with_constant_bit_rate_a_small_figure_wakes_where_a_keyframe_shows_it() {
    // Three of the five are in the picture at a keyframe; the others begin and end between two.
    let at_keyframes = CROSSINGS.iter().filter(|&at| (at / GOP).ceil() * GOP <= at + 1.0).count();
    assert!(cross(Rate::Constant) >= at_keyframes, "at least {at_keyframes}");
}

#[test]
fn a_live_camera_rests_wakes_and_rests_again() {
    live("VBR", yard(Rate::Variable));
}

#[test]
fn so_does_one_with_constant_bit_rate() {
    live("CBR", yard(Rate::Constant));
}

/// A decoder would hold back the keyframes of such a stream for the packets after them; in quiet there are none.
#[test]
fn so_does_one_with_b_frames() {
    live("B-frames", yard_with_b_frames());
}

/// After quiet it is decoded from the last keyframe on, and what leads to a movement is not lost.
#[test]
fn with_b_frames_nothing_is_lost_between_quiet_and_watch() {
    let Some(clip) = clip(yard_with_b_frames()) else { return };
    let folder = yard_with_a_rule();
    let (always, adaptive) = (replay(&folder, &clip, "always"), replay(&folder, &clip, "adaptive"));
    let states = states(&adaptive);
    println!("B-frames: {}\n  states {states:.1?}\n  begins {:.1?}", summary(&adaptive), begins(&always));
    assert_eq!(state_at(&states, 15.8), "quiet", "before the people come: {states:?}");
    assert!(!begins(&always).is_empty());
    assert_eq!(begins(&always), begins(&adaptive));
}

fn live(name: &str, made: Result<PathBuf, ClipMakerError>) {
    need_detector!();
    let Some(clip) = clip(made) else { return };
    let camera = TestCam::start(Options::new(clip)).unwrap_or_else(|e| panic!("{e}"));
    // No line: what must not be missed between two keyframes would hold a camera with constant bit rate in watch.
    let text = camera_text("yard", camera.url(), 5.0);
    let text = text.split("[camera.yard.rule.kerb]").next().unwrap_or_default();
    let text = text.replace("\nfps =", "\nquiet_after = \"2s\"\nfps =");
    let mut site = Site::start(&Plan::new(format!("[node]\nid = \"box\"\n{text}")));
    let is =
        |state: &'static str| move |site: &Site| site.camera("yard").counters().decode().as_str() == state;
    // From here on it is still for more than 20 s.
    site.wait_until("people are seen", SOON, is("busy"));
    site.wait_until("it rests", SOON, is("quiet"));
    // From within quiet to within quiet: a keyframe every 50 packets and nothing else.
    let counted = |site: &Site| (site.received("yard"), site.decoded("yard"));
    // What a decoder held back before comes out with the first keyframe.
    let (received, _) = counted(&site);
    site.wait_until("a GOP in quiet", SOON, |site| site.received("yard") >= received + 55);
    let (received, decoded) = counted(&site);
    site.wait_until("three GOPs in quiet", SOON, |site| {
        assert_eq!(site.camera("yard").counters().decode().as_str(), "quiet", "{name}: woken by nothing");
        site.received("yard") >= received + 150
    });
    let (received, decoded) = (site.received("yard") - received, site.decoded("yard") - decoded);
    assert!((received / 50).abs_diff(decoded) <= 1, "{decoded} of {received} packets in quiet");
    site.wait_until("people wake it", SOON, is("busy"));
    site.wait_until("it rests again", SOON, is("quiet"));
    let snapshot = site.camera("yard").snapshot();
    let [quiet, watch, busy] = site.camera("yard").counters().state_seconds();
    println!("{name}: {decoded} of {received} packets decoded in quiet; {}", snapshot.gate);
    println!("  quiet {quiet:.1} s, watch {watch:.1} s, busy {busy:.1} s");
    assert!(snapshot.gate.contains("keyframes every 2.0 s"), "{}", snapshot.gate);
    assert!(site.camera("yard").counters().events.get() > 0, "the people were reported");
    assert!(site.stop());
}

/// Packets between two keyframes of the large stream of [`yard_of_two_streams`].
const LONG_GOP: u64 = 7 * 25;

/// A client that takes nothing, and whom nobody waits for: a clip begins with its first client.
fn client(camera: &TestCam) -> Receiver {
    vedette_ingest::init().expect("GStreamer");
    let descriptions = Descriptions::load(&[root().join("pipelines/descriptions")]).expect("descriptions");
    let source = SourceConfig {
        camera: CameraId::from_host("client"),
        url: camera.url().to_owned(),
        user: None,
        password: None,
        transport: Transport::Tcp,
        route: Arc::default(),
        trust: Trust::System,
        pipeline: None,
    };
    let receiver = Receiver::open(&source, &descriptions, Arc::new(SystemClock::new()));
    receiver.unwrap_or_else(|fault| panic!("{fault}"))
}

/// Neither its packets nor its keyframes, of which none shows anybody, would wake it.
#[test]
fn a_camera_that_is_blind_by_itself_rests_while_a_small_stream_of_it_is_looked_at() {
    need_detector!();
    let Some([large, small]) = clip(yard_of_two_streams()) else { return };
    let start = |clip| TestCam::start(Options::new(clip)).unwrap_or_else(|e| panic!("{e}"));
    let (camera, beside) = (start(large), start(small));
    // Both play from now on, and show the same.
    let _clients = [client(&camera), client(&beside)];
    let text = camera_text("yard", camera.url(), 5.0);
    let text = text.split("[camera.yard.rule.kerb]").next().unwrap_or_default();
    let keys = format!("\ngate_url = \"{}\"\nquiet_after = \"2s\"\nfps =", beside.url());
    let mut site =
        Site::start(&Plan::new(format!("[node]\nid = \"box\"\n{}", text.replace("\nfps =", &keys))));
    let decode = |site: &Site| site.camera("yard").counters().decode().as_str();
    let gate = |site: &Site| site.camera("yard").snapshot().gate;
    // A GOP and some more of nothing but quiet: where it is woken at the seam of the clip, the next one.
    let counted = |site: &Site| {
        let counters = site.camera("yard").counters();
        (counters.transitions.get(), site.received("yard"), site.decoded("yard"))
    };
    let from = Cell::new((0, 0, 0));
    site.wait_until("a GOP in quiet", SOON, |site| {
        let (transitions, received, _) = counted(site);
        if decode(site) != "quiet" || transitions != from.get().0 {
            from.set(counted(site));
        }
        decode(site) == "quiet" && received >= from.get().1 + LONG_GOP + 50
    });
    let (received, decoded) = (site.received("yard") - from.get().1, site.decoded("yard") - from.get().2);
    println!("{decoded} of {received} packets decoded in quiet; {}", gate(&site));
    assert!((1..=2).contains(&decoded), "{decoded} of {received} packets in quiet");
    assert!(gate(&site).starts_with("pictures of gate_url"), "{}", gate(&site));
    let events = site.camera("yard").counters().events.get();
    site.wait_until("people wake it", SOON, |site| decode(site) == "busy");
    site.wait_until("they are reported", SOON, |site| site.camera("yard").counters().events.get() > events);
    site.wait_until("it rests again", SOON, |site| decode(site) == "quiet");

    beside.command("refuse on").unwrap_or_else(|e| panic!("{e}"));
    site.wait_until("it is awake without the small stream", SOON, |site| decode(site) != "quiet");
    site.wait_until("it says why", SOON, |site| gate(site).contains("gate_url: "));
    let received = site.received("yard");
    site.wait_until("10 s without the small stream", SOON, |site| {
        assert_ne!(decode(site), "quiet", "nothing shows motion: {}", gate(site));
        site.received("yard") >= received + 250
    });
    println!("without the small stream: {}", gate(&site));
    beside.command("refuse off").unwrap_or_else(|e| panic!("{e}"));
    site.wait_until("it rests once the small stream is back", SOON, |site| decode(site) == "quiet");
    let [quiet, watch, busy] = site.camera("yard").counters().state_seconds();
    println!("quiet {quiet:.1} s, watch {watch:.1} s, busy {busy:.1} s");
    assert!(site.stop());
}

/// Masks may be those of the other picture, and what is not in both cannot be looked at in one for the other.
#[test]
fn a_small_stream_of_another_shape_is_not_looked_at() {
    need_detector!();
    let Some([large, _]) = clip(yard_of_two_streams()) else { return };
    let Some(other) = clip(pieces(Rate::Variable)) else { return };
    let start = |clip| TestCam::start(Options::new(clip)).unwrap_or_else(|e| panic!("{e}"));
    let (camera, beside) = (start(large), start(other));
    let text = camera_text("yard", camera.url(), 5.0);
    let text = text.split("[camera.yard.rule.kerb]").next().unwrap_or_default();
    let keys = format!("\ngate_url = \"{}\"\nfps =", beside.url());
    let mut site =
        Site::start(&Plan::new(format!("[node]\nid = \"box\"\n{}", text.replace("\nfps =", &keys))));
    let gate = |site: &Site| site.camera("yard").snapshot().gate;
    site.wait_until("it says why", SOON, |site| gate(site).contains("gate_url: "));
    assert!(
        gate(&site).contains("(1.33:1) and that of url (1.78:1) are not of one shape"),
        "{}",
        gate(&site)
    );
    assert!(site.stop());
}
