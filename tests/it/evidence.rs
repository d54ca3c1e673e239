//! Evidence of real incidents: cameras on loopback, Mosquitto, files on disk that somebody else's program reads.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};
use vedette_core::{Clock, Frame, Shutdown, SystemClock};
use vedette_ingest::{Descriptions, FileReader, Masks};
use vedette_tests::audit::{text, time};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::daemon::{Daemon, Home};
use vedette_tests::mosquitto::{self, Mosquitto};
use vedette_tests::need_detector;
use vedette_tests::site::{Plan, Site, camera_text};
use vedette_tests::subscriber::{Message, Subscriber};
use vedette_tests::testcam::{Options, TestCam};

use crate::cli::root;

/// Everything here happens within this, however busy the machine is.
const SOON: Duration = Duration::from_secs(150);

fn camera(kind: Kind) -> TestCam {
    TestCam::start(Options::new(small_clip(kind).unwrap())).unwrap()
}

fn head(broker: &Mosquitto, evidence: &str) -> String {
    let port = broker.port();
    format!(
        "[node]\nid = \"box\"\n[broker.main]\nurl = \"mqtt://127.0.0.1:{port}\"\n[evidence]\n{evidence}\n"
    )
}

fn is_evidence(message: &Message, kind: &str) -> bool {
    message.topic.ends_with("/evidence") && text(message, "kind") == kind
}

/// Seconds that a piece of evidence covers.
fn covers(message: &Message) -> f64 {
    time(message, "to").duration_since(time(message, "from")).as_secs_f64()
}

/// What it says of its file is so; where the file lies.
fn check_file(site: &Site, camera: &str, word: &Message) -> PathBuf {
    let path = site.state_folder().join("evidence").join(camera).join(text(word, "file"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(word.get("bytes"), bytes.len());
    let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text(word, "sha256"), sha256);
    path
}

/// Codec, decoded pictures and seconds, as ffprobe reads them.
fn ffprobe(path: &Path) -> (String, usize, f64) {
    let entries = "stream=codec_name,codec_type,nb_read_frames:format=duration";
    let asked = ["-v", "error", "-count_frames", "-of", "csv=p=0", "-show_entries", entries];
    let told = Command::new("ffprobe").args(asked).arg(path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stderr), "", "{}", path.display());
    let told = String::from_utf8(told.stdout).unwrap();
    let words: Vec<&str> = told.split([',', '\n']).filter(|w| !w.is_empty()).collect();
    let [codec, "video", frames, seconds] = words[..] else {
        panic!("one video and nothing else: {words:?}")
    };
    (codec.to_owned(), frames.parse().unwrap(), seconds.parse().unwrap())
}

fn frames(path: &Path) -> Vec<Frame> {
    vedette_ingest::init().unwrap();
    let descriptions = Descriptions::load(&[root().join("pipelines/descriptions")]).unwrap();
    let reader = FileReader::open(path, &descriptions, &Masks::none(), jiff::Timestamp::UNIX_EPOCH).unwrap();
    reader.map(|frame| frame.unwrap()).collect()
}

fn an_incident_is_shown(kind: Kind, codec: &str) {
    let (gate, broker) = (camera(kind), Mosquitto::start(mosquitto::Options::default()));
    let watcher = Subscriber::start("watcher", broker.port(), None);
    let wanted = "snapshot = true\nclip = true\npre = \"2s\"\npost = \"3s\"";
    let mut site = Site::start(&Plan::new(head(&broker, wanted) + &camera_text("gate", gate.url(), 5.0)));
    // The first incidents may come before there are two seconds in memory.
    let whole = |m: &Message| is_evidence(m, "clip") && covers(m) >= 4.9;
    site.wait_until("a whole clip", SOON, |_| watcher.messages().iter().any(whole));
    let messages = watcher.messages();
    let clip = messages.iter().find(|m| whole(m)).unwrap();
    let id = text(clip, "id");
    let of_it = |m: &&Message| text(m, "id") == id;
    let event = messages.iter().filter(|m| m.is_event()).find(of_it).unwrap();
    let picture = messages.iter().filter(|m| is_evidence(m, "snapshot")).find(of_it).unwrap();
    for (name, word) in [("snapshot", picture), ("clip", clip)] {
        assert_eq!(event.get("evidence")[name], word.get("file"), "{event:?}");
        assert!(word.get("seq").as_u64() > event.get("seq").as_u64(), "{word:?}");
    }
    assert_eq!(event.get("evidence")["missing"], serde_json::Value::Null);
    // Counts have none.
    let counts = messages.iter().filter(|m| m.is_event() && text(m, "kind") == "line_crossing");
    counts.for_each(|m| assert!(m.get("evidence")["clip"].is_null(), "{m:?}"));

    let path = check_file(&site, "gate", clip);
    let (found, count, seconds) = ffprobe(&path);
    // Up to one GOP (2 s) more before, and one frame less behind.
    assert!(found == codec && (4.9..7.2).contains(&seconds), "{found}, {seconds} s");
    assert!((seconds - covers(clip)).abs() < 0.3, "{seconds} s, told as {} s", covers(clip));
    assert!((seconds * 25.0 - count as f64).abs() <= 3.0, "{count} frames in {seconds} s");
    let decided = time(event, "decided");
    assert!((1.9..4.2).contains(&decided.duration_since(time(clip, "from")).as_secs_f64()), "{clip:?}");
    let shown = frames(&check_file(&site, "gate", picture));
    assert_eq!((shown.len(), shown[0].width(), shown[0].height()), (1, 640, 360));
    assert_eq!(site.camera("gate").counters().evidence_lost.get(), 0);
    assert!(site.stop());
}

#[test]
fn an_incident_is_shown_by_a_picture_and_a_clip_of_h264() {
    need_detector!();
    an_incident_is_shown(Kind::H264, "h264");
}

#[test]
fn an_incident_is_shown_by_a_picture_and_a_clip_of_h265() {
    need_detector!();
    an_incident_is_shown(Kind::H265, "hevc");
}

/// The left half of a picture of 640x360, away from its edge by what a codec smears.
fn left_is_black(frame: &Frame) -> bool {
    let luma = frame.plane(0).unwrap();
    (0..360).step_by(8).all(|y| luma.row(y)[..300].iter().all(|&v| v < 40))
}

fn right_is_not(frame: &Frame) -> bool {
    let luma = frame.plane(0).unwrap();
    luma.row(180)[330..].iter().any(|&v| v > 60)
}

#[test]
fn what_is_masked_is_black_in_pictures_and_clips() {
    need_detector!();
    let cam = TestCam::start(Options { count: 2, ..Options::new(small_clip(Kind::H264).unwrap()) }).unwrap();
    let broker = Mosquitto::start(mosquitto::Options::default());
    let watcher = Subscriber::start("watcher", broker.port(), None);
    let mut text_of = head(&broker, "snapshot = true\nclip = true\npre = \"1s\"\npost = \"1s\"");
    for (name, url) in ["gate", "yard"].iter().zip(cam.urls()) {
        let masked =
            format!("[camera.{name}.mask]\nhouse = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]\n");
        text_of += &(camera_text(name, url, 5.0) + &masked);
    }
    text_of += "[camera.gate.evidence]\nmask_clips = \"reencode\"\n";
    let mut site = Site::start(&Plan::new(text_of));
    let of = |m: &Message, camera: &str| text(m, "camera") == camera;
    site.wait_until("a clip of gate and a picture of yard", SOON, |_| {
        let messages = watcher.messages();
        let has = |kind, camera: &str| messages.iter().any(|m| is_evidence(m, kind) && of(m, camera));
        has("clip", "gate") && has("snapshot", "gate") && has("snapshot", "yard")
    });
    let messages = watcher.messages();
    for word in messages.iter().filter(|m| m.topic.ends_with("/evidence")) {
        let shown = frames(&check_file(&site, &text(word, "camera"), word));
        assert!(!shown.is_empty() && shown.iter().all(left_is_black), "{word:?}");
        assert!(shown.iter().all(right_is_not), "{word:?}");
        assert!(text(word, "kind") == "snapshot" || of(word, "gate"), "{word:?}");
    }
    let begins = messages.iter().filter(|m| m.is_event() && of(m, "yard") && text(m, "phase") == "begin");
    for begin in begins {
        let evidence = begin.get("evidence");
        assert!(evidence["clip"].is_null(), "{begin:?}");
        assert!(evidence["missing"].as_str().unwrap().contains("privacy masks"), "{begin:?}");
    }
    assert!(site.stop());
    // Neither is what was begun and not finished left behind.
    drop(broker);
}

#[test]
fn a_camera_that_is_lost_ends_its_clip_and_a_disk_without_room_stops_no_event() {
    need_detector!();
    let (mut gate, broker) = (camera(Kind::H264), Mosquitto::start(mosquitto::Options::default()));
    let yard = camera(Kind::H264);
    let watcher = Subscriber::start("watcher", broker.port(), None);
    let wanted = "clip = true\npost = \"5min\"";
    let text_of = head(&broker, wanted) + &camera_text("gate", gate.url(), 5.0);
    let mut site = Site::start(&Plan::new(text_of));
    let begun = |m: &[Message]| m.iter().any(|m| m.is_event() && m.get("evidence")["clip"].is_string());
    site.wait_until("an incident", SOON, |_| begun(&watcher.messages()));
    gate.kill().unwrap();
    site.wait_until("its clip", SOON, |_| watcher.messages().iter().any(|m| is_evidence(m, "clip")));
    let messages = watcher.messages();
    let clip = messages.iter().find(|m| is_evidence(m, "clip")).unwrap();
    let (codec, count, _) = ffprobe(&check_file(&site, "gate", clip));
    assert!(codec == "h264" && count > 0);
    assert!(site.stop());

    let watcher = Subscriber::start("second", broker.port(), None);
    // More than any disk has.
    let text_of =
        head(&broker, "clip = true\nmin_free_mib = 16777216") + &camera_text("yard", yard.url(), 5.0);
    let mut site = Site::start(&Plan::new(text_of));
    let begin = |m: &Message| m.is_event() && text(m, "phase") == "begin";
    site.wait_until("an event", SOON, |_| watcher.messages().iter().any(begin));
    let event = watcher.messages().into_iter().find(|m| begin(m)).unwrap();
    assert!(event.get("evidence")["missing"].as_str().unwrap().contains("MiB are free"), "{event:?}");
    assert!(site.stop());
}

#[test]
fn a_picture_can_be_asked_for() {
    need_detector!();
    let (gate, broker) = (camera(Kind::H265), Mosquitto::start(mosquitto::Options::default()));
    let commands = format!(
        "[node]\nid = \"box\"\n[broker.main]\nurl = \"mqtt://127.0.0.1:{}\"\ncommands = [\"snapshot\"]\n",
        broker.port()
    );
    let mut site = Site::start(&Plan::new(commands + &camera_text("gate", gate.url(), 5.0)));
    site.wait_live(&["gate"], SOON);
    let port = broker.port().to_string();
    let asked = ["-p", &port, "-V", "5", "-t", "vedette/box/command/snapshot", "-e", "replies/1", "-W", "60"];
    let told =
        Command::new("mosquitto_rr").args(asked).args(["-m", r#"{"camera":"gate"}"#]).output().unwrap();
    let answer: serde_json::Value =
        serde_json::from_slice(&told.stdout).unwrap_or_else(|e| panic!("{e}: {told:?}"));
    assert_eq!(answer["ok"], true, "{answer}");
    let file = answer["result"]["file"].as_str().unwrap();
    let shown = frames(&site.state_folder().join("evidence/gate").join(file));
    assert_eq!((shown.len(), shown[0].width(), shown[0].height()), (1, 640, 360));
    assert!(site.stop());
}

#[test]
fn the_main_stream_is_shown_where_there_is_one_and_masked_as_the_other() {
    need_detector!();
    let (main, sub) = (small_clip(Kind::H264).unwrap(), small_clip(Kind::Size).unwrap());
    let cam = TestCam::start(Options { sub: Some(sub), ..Options::new(main) }).unwrap();
    let broker = Mosquitto::start(mosquitto::Options::default());
    let watcher = Subscriber::start("watcher", broker.port(), None);
    let wanted = "snapshot = true\nclip = true\npre = \"1s\"\npost = \"1s\"\nmask_clips = \"reencode\"";
    let half = "house = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]\n";
    let text_of = head(&broker, wanted)
        + &camera_text("gate", cam.sub_url().unwrap(), 5.0)
            .replace("fps =", &format!("main_url = \"{}\"\nfps =", cam.url()))
        + &format!("[camera.gate.mask]\n{half}[camera.gate.main_mask]\n{half}");
    let site = Site::start(&Plan::new(text_of));
    // Before the main stream is there, pictures are of the other one.
    let of_main = |m: &Message, kind: &str| {
        is_evidence(m, kind) && frames(&check_file(&site, "gate", m)).iter().any(|f| f.width() == 640)
    };
    let messages = watcher.wait_within(SOON, "picture and clip of the main stream", |m| {
        ["snapshot", "clip"].iter().all(|kind| m.iter().any(|m| of_main(m, kind)))
    });
    for word in messages.iter().filter(|m| of_main(m, "clip") || of_main(m, "snapshot")) {
        let shown = frames(&check_file(&site, "gate", word));
        assert!(shown.iter().all(|f| f.height() == 360 && left_is_black(f) && right_is_not(f)), "{word:?}");
    }
    assert_eq!(site.camera("gate").counters().evidence_lost.get(), 0);
    assert!(site.stop());
}

#[test]
fn a_clip_that_a_crash_tore_is_completed_by_the_next_start() {
    need_detector!();
    let (gate, broker) = (camera(Kind::H264), Mosquitto::start(mosquitto::Options::default()));
    let watcher = Subscriber::start("watcher", broker.port(), None);
    let home = Home::new();
    let text_of = head(&broker, "clip = true\npost = \"5min\"") + &camera_text("gate", gate.url(), 5.0);
    home.write("vedette.toml", &text_of);
    let mut daemon = Daemon::start(&home);
    let folder = home.state().join("evidence/gate");
    let (clock, patience) = (SystemClock::new(), Shutdown::new());
    let begun = || {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        entries.filter(|e| e.metadata().is_ok_and(|m| m.len() > 100_000)).count() > 0
    };
    while !begun() {
        assert!(clock.now().0 < SOON, "no clip has begun; it logged:\n{}", daemon.log());
        clock.pause(Duration::from_millis(50), &patience);
    }
    daemon.signal("KILL");
    daemon.wait_end(SOON);
    assert!(!watcher.messages().iter().any(|m| is_evidence(m, "clip")));
    let daemon = Daemon::start(&home);
    let messages = watcher.wait_within(SOON, "the clip", |m| m.iter().any(|m| is_evidence(m, "clip")));
    let clip = messages.iter().find(|m| is_evidence(m, "clip")).unwrap();
    let promised = |m: &&Message| m.is_event() && m.get("evidence")["clip"] == clip.get("file");
    assert!(messages.iter().find(promised).is_some(), "{clip:?}");
    let (codec, count, seconds) = ffprobe(&folder.join(text(clip, "file")));
    assert!(codec == "h264" && count > 20, "{codec}, {count} frames, {seconds} s");
    drop(daemon);
}
