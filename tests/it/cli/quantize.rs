//! `model quantize` on live cameras: what is made, what is not written, what a person is told, and how it ends early.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use vedette_core::{Clock, Shutdown, SystemClock};
use vedette_tests::binary::Vedette;
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::network::convolutions;
use vedette_tests::testcam::{Options, TestCam};

use super::{folder, vedette, write};

/// From a signal to the end: what is under way is small, the machine may be busy.
const PROMPT: Duration = Duration::from_secs(30);
const OFF: &str = "[camera.off]\nurl = \"rtsp://127.0.0.1:1/main\"\n";

/// Every file and folder below.
fn below(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut found = BTreeSet::new();
    for path in entries {
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.insert(path);
    }
    found
}

/// A folder with a configuration of these cameras, a network `small.onnx`, and a place for temporary files.
fn prepared(cameras: &str, network: &[u8]) -> TempDir {
    let folder = folder();
    write(folder.path(), "etc/vedette.toml", cameras);
    write(folder.path(), "small.onnx", network);
    std::fs::create_dir(folder.path().join("tmp")).expect("a folder");
    folder
}

/// `vedette model quantize small.onnx WORDS`, the model into `made`.
fn quantize(folder: &TempDir, words: &str) -> Vedette {
    let words = format!("model quantize small.onnx --into made --config etc --state state {words}");
    vedette(folder, &words).env("TMPDIR", folder.path().join("tmp"))
}

fn two_cameras() -> (TestCam, String) {
    let clip = small_clip(Kind::H264).expect("ffmpeg makes clips");
    let camera = TestCam::start(Options { count: 2, ..Options::new(clip) }).expect("testcam starts");
    let [gate, yard] = [0, 1].map(|at| camera.urls()[at].clone());
    let text = format!(
        "[camera.gate]\nurl = \"{gate}\"\n[camera.gate.mask]\n\
         house = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]\n[camera.yard]\nurl = \"{yard}\"\n{OFF}"
    );
    (camera, text)
}

fn small() -> Vec<u8> {
    convolutions(64, &[8, 8, 8])
}

/// ^C while the cameras are watched is no failure: the model is made of what there is until then.
#[test]
fn live_cameras_make_a_model_and_nothing_else_is_written() {
    let (_cameras, text) = two_cameras();
    let folder = prepared(&text, &small());
    let mut expected = below(folder.path());
    let running = quantize(&folder, "--from-cameras 30m --forms s8s8 --range minmax --count 9").start();
    running.wait_for(&["gate: live, 640x360"]);
    running.wait_for(&["yard: live, 640x360"]);
    running.wait_for(&["off: refused:", "127.0.0.1:1", "check that the camera is on"]);
    running.signal("INT");
    let ran = running.end(PROMPT);
    ran.expect(0, &["enough", "off: no frames; refused:", "fp32", "s8s8", "written: made/small.toml"]);
    for camera in ["gate", "yard"] {
        let line =
            ran.err.lines().find(|line| line.starts_with(&format!("{camera}: ")) && line.contains("frame"));
        assert!(line.is_some_and(|line| !line.contains("no frames")), "{camera}:\n{}", ran.err);
    }
    assert_eq!(ran.err.matches("off: refused:").count(), 1, "said once, however often tried:\n{}", ran.err);
    for name in ["", "small.fp32.onnx", "small.s8s8.onnx", "small.toml"] {
        expected.insert(folder.path().join("made").join(name));
    }
    assert_eq!(below(folder.path()), expected);
    let manifest: toml::Table = std::fs::read_to_string(folder.path().join("made/small.toml"))
        .expect("a manifest")
        .parse()
        .expect("TOML");
    let made = manifest["form"]["s8s8"]["made"].as_str().unwrap_or_default();
    assert!(made.contains("vedette model quantize") && made.contains("frame"), "{made}");

    // The name is taken: said at once, not after half an hour of watching.
    let again = quantize(&folder, "--from-cameras 30m --forms s8s8").run();
    again.expect(1, &["made/small.s8s8.onnx is there already", "--force"]);
    assert!(!again.err.contains("live"), "{}", again.err);
}

#[test]
fn a_signal_while_cameras_are_watched_leaves_nothing() {
    let (_cameras, text) = two_cameras();
    let folder = prepared(&text, &small());
    let before = below(folder.path());
    let running = quantize(&folder, "--from-cameras 30m").start();
    running.wait_for(&["gate: live"]);
    running.signal("TERM");
    running.end(PROMPT).expect(1, &["error: interrupted: nothing was written"]);
    assert_eq!(below(folder.path()), before);
}

/// While forms are compared, the new model lies in a folder of its own beside its place.
#[test]
fn a_signal_while_a_model_is_compared_leaves_nothing() {
    // Slow enough to be met at it: five thousand million multiplications an inference.
    let folder = prepared("", &convolutions(512, &[64, 64, 64]));
    let before = below(folder.path());
    let clip = small_clip(Kind::H264).expect("ffmpeg makes clips");
    let words = format!("--frames {} --count 1 --forms s8s8 --range minmax", clip.display());
    let running = quantize(&folder, &words).start();
    let (clock, never) = (SystemClock::new(), Shutdown::new());
    while !folder.path().join("made").exists() {
        assert!(clock.now().0 < 4 * PROMPT, "never staged");
        clock.pause(Duration::from_millis(10), &never);
    }
    running.signal("INT");
    let ran = running.end(PROMPT);
    ran.expect(1, &["error: interrupted: nothing was written"]);
    let left: BTreeSet<_> = below(folder.path()).difference(&before).cloned().collect();
    assert_eq!(left, BTreeSet::from([folder.path().join("made")]), "nothing in it");
}

#[test]
fn cameras_that_give_nothing_are_named_with_the_remedy() {
    struct Case(&'static str, String, &'static [&'static str]);
    let (cameras, _) = two_cameras();
    let nothing = format!("[camera.lost]\nurl = \"{}\"\n", cameras.url().replace("/main", "/nothing"));
    let refused: &[_] =
        &["error: no camera gave a frame", "off: no frames; refused:", "check that the camera is on"];
    let cases = [
        // Somebody has to change something: why wait for half an hour.
        Case(
            "30m",
            nothing.clone(),
            &["error: no camera gave", "lost: no frames; not-found:", "check the path"],
        ),
        // It may come back: its whole time.
        Case("1s", OFF.to_owned(), refused),
        Case("1s", nothing + OFF, refused),
    ];
    for Case(length, text, says) in cases {
        let folder = prepared(&text, &small());
        let before = below(folder.path());
        let ran = quantize(&folder, &format!("--from-cameras {length}")).run();
        ran.expect(1, says);
        assert_eq!((below(folder.path()), ran.out.as_str()), (before, ""), "{text}");
    }
}

#[test]
fn what_cannot_be_quantised_is_said_before_a_camera_is_watched() {
    struct Case(&'static str, &'static str, i32, &'static [&'static str]);
    let cases = [
        Case(OFF, "--keep-fp32 sums0", 1, &["no layer can be int8"]),
        Case(OFF, "--keep-fp32 sum0", 1, &["`sum0` is to stay in fp32, but no node"]),
        Case("", "", 78, &["no camera to watch", "--frames"]),
        Case("[camera.off]\nurl = 5\n", "", 78, &["etc/vedette.toml:2"]),
    ];
    for Case(text, words, code, says) in cases {
        let folder = prepared(text, &convolutions(64, &[8]));
        let ran = quantize(&folder, &format!("--from-cameras 30m {words}")).run();
        ran.expect(code, says);
        assert!(!ran.err.contains("off: "), "{}", ran.err);
    }
}
