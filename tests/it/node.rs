//! The whole node with real peers: cameras that ask for logins, Debian's Mosquitto, subscribers; in this process and
//! as the program with its files and signals.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use vedette::camera::CameraState;
use vedette_core::Secret;
use vedette_tests::audit::{audit, audit_with_repeats, text};
use vedette_tests::binary::Vedette;
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::daemon::{Daemon, Home};
use vedette_tests::mosquitto::{self, Mosquitto};
use vedette_tests::need_detector;
use vedette_tests::site::{Plan, Site, camera_text};
use vedette_tests::subscriber::{Message, Subscriber};
use vedette_tests::testcam::{Auth, Options, TestCam};

/// Everything here happens within this, however busy the machine is.
const SOON: Duration = Duration::from_secs(60);
const USER: &str = "viewer";
const CAMERA_SECRET: &str = "cam-Geheim7";
const BROKER_SECRET: &str = "mq-Geheim8";

fn camera(kind: Kind) -> TestCam {
    TestCam::start(Options::new(small_clip(kind).unwrap())).unwrap()
}

fn locked_camera() -> TestCam {
    let login = Some((Auth::Digest, USER.to_owned(), Secret::new(CAMERA_SECRET)));
    TestCam::start(Options { login, ..Options::new(small_clip(Kind::H264).unwrap()) }).unwrap()
}

fn locked_broker() -> Mosquitto {
    let login = Some(("box", BROKER_SECRET));
    Mosquitto::start(mosquitto::Options { login, ..Default::default() })
}

fn subscriber(name: &str, broker: &Mosquitto) -> Subscriber {
    Subscriber::start(name, broker.port(), Some(("box", BROKER_SECRET)))
}

fn head(broker: &str) -> String {
    format!("[node]\nid = \"box\"\n[broker.main]\nurl = \"{broker}\"\n")
}

fn events(messages: &[Message]) -> Vec<Message> {
    messages.iter().filter(|m| m.is_event()).cloned().collect()
}

/// The last payload of each topic that is no event.
fn retained(messages: &[Message]) -> BTreeMap<&str, Value> {
    let parse = |m: &Message| serde_json::from_slice(&m.payload).unwrap_or_default();
    messages.iter().filter(|m| !m.is_event()).map(|m| (m.topic.as_str(), parse(m))).collect()
}

/// What somebody finds who comes later.
fn check_late(broker: &Mosquitto) {
    let late = subscriber("late", broker);
    let topics = [
        "vedette/box/gate/state/inside",
        "vedette/box/gate/state/kerb",
        "vedette/box/gate/status",
        "vedette/box/status",
        "vedette/box/yard/state/asleep",
        "vedette/box/yard/state/inside",
        "vedette/box/yard/state/kerb",
        "vedette/box/yard/status",
    ];
    let kept = late.wait_for("retained topics", |m| {
        topics.iter().all(|t| m.iter().any(|m| m.retained && m.topic == *t))
    });
    let kept = retained(&kept);
    assert_eq!(kept["vedette/box/status"]["state"], "online");
    assert_eq!(kept["vedette/box/gate/status"]["state"], "live");
    assert_eq!(kept["vedette/box/yard/state/asleep"]["armed"], false);
    assert_eq!(kept["vedette/box/yard/state/inside"]["armed"], true);
}

#[test]
fn two_cameras_and_a_broker_from_start_to_stop() {
    need_detector!();
    let (gate, yard, broker) = (locked_camera(), locked_camera(), locked_broker());
    let text_of = head(&format!("mqtt://127.0.0.1:{}", broker.port()))
        + &camera_text("gate", gate.url(), 5.0)
        + &camera_text("yard", yard.url(), 5.0)
        + "[camera.yard.rule.asleep]\nkind = \"intrusion\"\nzone = \"all\"\narmed = false\n";
    let plan = Plan::new(text_of)
        .camera_login("gate", USER, CAMERA_SECRET)
        .camera_login("yard", USER, CAMERA_SECRET)
        .broker_login("main", "box", BROKER_SECRET);
    let early = subscriber("early", &broker);
    let mut site = Site::start(&plan);
    site.wait_live(&["gate", "yard"], SOON);
    let both = |m: &[Message], phase: &str, kind: &str| {
        ["gate", "yard"].iter().all(|camera| {
            let is = |e: &&Message| {
                (text(e, "camera"), text(e, "phase"), text(e, "kind"))
                    == ((*camera).to_owned(), phase.to_owned(), kind.to_owned())
            };
            m.iter().filter(|e| e.is_event()).any(|e| is(&e))
        })
    };
    for (phase, kind) in [("begin", "intrusion"), ("once", "line_crossing"), ("end", "intrusion")] {
        early.wait_for(&format!("{phase} of {kind} at both cameras"), |m| both(m, phase, kind));
    }
    let labelled =
        early.wait_for("the camera's clock", |m| events(m).iter().any(|e| text(e, "clock") == "camera"));
    for event in events(&labelled) {
        assert_ne!(text(&event, "rule"), "asleep");
        let latency = event.get("latency_ms").as_u64().unwrap();
        assert!(latency < 5_000 || text(&event, "phase") == "end", "{latency} ms: {event:?}");
    }
    site.wait_until("the node's count", SOON, |_| {
        early.messages().iter().any(|m| m.topic == "vedette/box/status" && m.get("cameras_up") == 2)
    });

    check_late(&broker);

    // A stop while somebody is inside.
    let open = |m: &[Message]| !audit(&events(m)).open.is_empty();
    early.wait_for("an open incident", open);
    assert!(site.stop());
    let end = |m: &[Message]| retained(m).get("vedette/box/status").is_some_and(|s| s["state"] == "offline");
    let all = early.wait_for("the last word", end);
    let states: Vec<_> =
        all.iter().filter(|m| m.topic == "vedette/box/status").map(|m| text(m, "state")).collect();
    assert!(states.ends_with(&["stopping".to_owned(), "offline".to_owned()]), "{states:?}");
    let result = audit(&events(&all));
    assert!(result.open.is_empty(), "{result:?}");
    assert!(result.once > 0 && result.ended.values().any(|by| by == "restart"), "{result:?}");
}

#[test]
fn a_bad_camera_never_stops_the_others() {
    need_detector!();
    let (good, locked) = (camera(Kind::H264), locked_camera());
    let (hevc, jpeg) = (camera(Kind::H265), camera(Kind::Mjpeg));
    let nowhere = good.url().replace("/main", "/nowhere");
    let mut text_of = head("embedded");
    for (name, url) in [
        ("good", good.url()),
        ("locked", locked.url()),
        ("nowhere", &nowhere),
        ("hevc", hevc.url()),
        ("jpeg", jpeg.url()),
    ] {
        text_of += &camera_text(name, url, 1.0);
    }
    // Nothing will ever happen at this one; its state is told all the same.
    text_of += &format!(
        "[camera.quiet]\nurl = \"{}\"\nfps = 1\n[camera.quiet.zone]\nall = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]\n\
         [camera.quiet.rule.asleep]\nkind = \"intrusion\"\nzone = \"all\"\narmed = false\n",
        good.url()
    );
    let plan = Plan::new(text_of).camera_login("locked", USER, "falsch-9");
    let mut site = Site::start(&plan);
    let watcher = Subscriber::start("watcher", site.embedded_port(), None);
    site.wait_live(&["good", "hevc", "jpeg"], SOON);
    for name in ["locked", "nowhere"] {
        let wrong = |s: &Site| s.state(name) == CameraState::Misconfigured;
        site.wait_until(&format!("{name} misconfigured"), SOON, wrong);
    }
    // One attempt: repeated refusals lock accounts.
    assert_eq!(site.camera("locked").counters().configuration_faults.get(), 1);
    for name in ["good", "hevc", "jpeg"] {
        // At one a second, which is what is decoded of Motion JPEG.
        site.wait_frames(name, 10, SOON);
        assert_eq!(site.camera(name).counters().reconnects.get(), 0, "{name}");
    }
    let messages = watcher.wait_for("both reasons", |m| {
        let state = |name: &str| {
            retained(m).get(format!("vedette/box/{name}/status").as_str()).map(|s| s["state"].clone())
        };
        ["locked", "nowhere"].iter().all(|n| state(n).is_some_and(|s| s == "misconfigured"))
    });
    let kept = retained(&messages);
    let reason = |name: &str| {
        kept[format!("vedette/box/{name}/status").as_str()]["reason"].as_str().unwrap().to_owned()
    };
    assert!(
        reason("locked").contains("vedette.secrets") && !reason("locked").contains("falsch-9"),
        "{}",
        reason("locked")
    );
    assert!(reason("nowhere").contains("/nowhere"), "{}", reason("nowhere"));
    watcher.wait_for("the state of a rule that sleeps", |m| {
        retained(m).get("vedette/box/quiet/state/asleep").is_some_and(|s| s["armed"] == false)
    });
    assert!(site.stop());
}

#[test]
fn events_wait_for_a_broker_that_is_away() {
    need_detector!();
    let gate = camera(Kind::H264);
    let mut broker = Mosquitto::start(mosquitto::Options { persistent: true, ..Default::default() });
    let watcher = Subscriber::start("watcher", broker.port(), None);
    broker.kill();
    let text_of =
        head(&format!("mqtt://127.0.0.1:{}", broker.port())) + &camera_text("gate", gate.url(), 5.0);
    let mut site = Site::start(&Plan::new(text_of));
    site.wait_live(&["gate"], SOON);
    site.wait_until("ten events", SOON, |s| s.camera("gate").counters().events.get() >= 10);
    assert!(watcher.messages().is_empty());
    broker.restart();
    watcher.events(10);
    assert!(site.stop());
    let done = |m: &[Message]| retained(m).get("vedette/box/status").is_some_and(|s| s["state"] == "offline");
    let all = events(&watcher.wait_for("the last word", done));
    let result = audit(&all);
    assert_eq!(result.seq, all.len() as u64, "none is missing");
    assert!(result.open.is_empty(), "{result:?}");
}

/// The program's files: one camera and one broker with logins.
fn write_files(home: &Home, camera: &TestCam, broker: &Mosquitto) {
    let main = "secrets_file = \"vedette.secrets\"\n".to_owned()
        + &head(&format!("mqtt://127.0.0.1:{}", broker.port())).replace("[node]", "[node]\nsign = true");
    home.write("vedette.toml", &(main + &camera_text("gate", camera.url(), 5.0)));
    let secrets = format!(
        "[camera.gate]\nuser = \"{USER}\"\npassword = \"{CAMERA_SECRET}\"\n\
         [broker.main]\nuser = \"box\"\npassword = \"{BROKER_SECRET}\"\n"
    );
    home.write("vedette.secrets", &secrets);
}

fn assert_discreet(daemon: &Daemon) {
    let shown = daemon.log() + &daemon.command_line();
    assert!(!shown.contains(CAMERA_SECRET) && !shown.contains(BROKER_SECRET), "{shown}");
}

/// Every event so far is signed by the daemon, over its lives; the broker and `outbox status` tell the key.
fn check_signatures(home: &Home, messages: &[Message]) {
    let line = |m: &Message| format!("{} {}\n", m.topic, String::from_utf8_lossy(&m.payload));
    std::fs::write(home.state().join("received.txt"), messages.iter().map(line).collect::<String>()).unwrap();
    let mode = std::fs::metadata(home.state().join("signing.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let told = Vedette::new(&home.state(), ["outbox", "status", "--state", ".", "--json"]).run();
    let key = told.expect(0, &[]).json()["public_key"].as_str().unwrap().to_owned();
    assert_eq!(retained(messages)["vedette/box/status"]["public_key"], key.as_str());
    let verified = Vedette::new(&home.state(), ["verify", "received.txt", "--key", &key]).run();
    verified.expect(0, &[" 0 invalid, 0 unsigned"]);
}

fn count(text: &str, word: &str) -> usize {
    text.matches(word).count()
}

#[test]
fn the_program_obeys_signals_and_says_no_secret() {
    need_detector!();
    let (gate, broker, home) = (locked_camera(), locked_broker(), Home::new());
    write_files(&home, &gate, &broker);
    let watcher = subscriber("watcher", &broker);
    let mut daemon = Daemon::start(&home);
    daemon.wait_for_log("a live camera", |log| log.contains("live, 640x360"));
    watcher.events(1);

    // A wrong type, a class that the model lacks, a model that is not there: refused, and nothing changes.
    std::fs::create_dir_all(home.config().join("conf.d")).unwrap();
    home.write("conf.d/gate.toml", "[camera.gate]\nfps = \"five\"\n");
    daemon.signal("HUP");
    daemon.wait_for_log("a refusal", |log| log.contains("reload refused"));
    daemon.wait_for_log("the place", |log| log.contains("conf.d/gate.toml:2:7"));
    home.write("conf.d/gate.toml", "[camera.gate.rule.inside]\nclasses = [\"unicorn\"]\n");
    daemon.signal("HUP");
    daemon.wait_for_log("a second refusal", |log| count(log, "reload refused") == 2);
    daemon.wait_for_log("the class", |log| log.contains("unicorn"));
    home.write("conf.d/gate.toml", "[inference]\nmodel = \"nobody\"\n");
    daemon.signal("HUP");
    daemon.wait_for_log("a third refusal", |log| count(log, "reload refused") == 3);
    assert_eq!(count(&daemon.log(), "live, 640x360"), 1, "the camera goes on");
    // Seen only when it is opened, a port that somebody else has: the node before is built again.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", 1883));
    home.write("conf.d/gate.toml", "[broker.other]\nurl = \"embedded\"\n");
    daemon.signal("HUP");
    daemon.wait_for_log("a fourth refusal", |log| log.contains("the configuration before runs again"));
    daemon.wait_for_log("the camera again", |log| count(log, "live, 640x360") == 2);

    home.write("conf.d/gate.toml", "[camera.gate.rule.inside]\nseverity = \"review\"\n");
    daemon.signal("HUP");
    daemon.wait_for_log("the reload", |log| log.contains("reloaded: configuration"));
    daemon.wait_for_log("the camera again", |log| count(log, "live, 640x360") == 3);
    watcher.wait_for("an event of the new configuration", |m| {
        events(m).iter().any(|e| text(e, "severity") == "review")
    });
    assert_discreet(&daemon);

    daemon.signal("TERM");
    let (status, took) = daemon.wait_end(Duration::from_secs(30));
    assert!(status.success(), "{status}: {}", daemon.log());
    println!("stopped within {:.2} s of SIGTERM", took.as_secs_f64());
    assert!(took < Duration::from_secs(5), "{took:?}: {}", daemon.log());
    assert_discreet(&daemon);
    let result = audit(&events(&watcher.messages()));
    assert!(result.open.is_empty(), "{result:?}");
}

#[test]
fn a_crash_loses_no_ending_and_repeats_no_number() {
    need_detector!();
    let (gate, broker, home) = (locked_camera(), locked_broker(), Home::new());
    write_files(&home, &gate, &broker);
    let watcher = subscriber("watcher", &broker);
    let mut daemon = Daemon::start(&home);
    watcher.wait_for("an open incident", |m| !audit(&events(m)).open.is_empty());

    let mut second = Daemon::start(&home);
    let (status, _) = second.wait_end(SOON);
    assert_eq!(status.code(), Some(1), "{}", second.log());
    assert!(second.log().contains("in use by another vedette"), "{}", second.log());
    assert_discreet(&second);

    // At this moment somebody may have left: an incident that is open when the process is gone counts.
    watcher.wait_for("an open incident", |m| !audit(&events(m)).open.is_empty());
    daemon.signal("KILL");
    daemon.wait_end(SOON);
    let before = audit(&events(&watcher.messages()));
    let mut again = Daemon::start(&home);
    let ended = |m: &[Message]| {
        let now = audit_with_repeats(&events(m));
        before.open.iter().all(|id| now.ended.get(id).is_some_and(|by| by == "restart"))
    };
    watcher.wait_for("the end of what was open", ended);
    watcher.wait_for("new events", |m| audit_with_repeats(&events(m)).once > before.once);
    again.signal("TERM");
    assert!(again.wait_end(SOON).0.success(), "{}", again.log());
    check_signatures(&home, &watcher.messages());
    assert_discreet(&again);
}
