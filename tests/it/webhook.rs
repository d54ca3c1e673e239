//! Delivery to a webhook: a real HTTPS server with a certificate of its own. And a node that tells one, beside a broker
//! in the dialects `onvif` and `custom`.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;
use vedette::outbox::{Outbox, SqliteOutbox};
use vedette::sinks::webhook::Hook;
use vedette::sinks::{Latest, RunningSink, SinkDeps, SinkStatus, WebhookConfig};
use vedette_core::{Clock, Evidence, EvidenceKind, Name, Secret, Severity, Shutdown, SystemClock};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::mosquitto::{self, Mosquitto, make_certificates};
use vedette_tests::need_detector;
use vedette_tests::receiver::{Post, Receiver};
use vedette_tests::sinks;
use vedette_tests::site::{Plan, Site, camera_text};
use vedette_tests::testcam::{Options, TestCam};

const STOP: Duration = Duration::from_secs(10);
const TOKEN: &str = "hunter2";
/// Everything here happens within this, however busy the machine is.
const SOON: Duration = Duration::from_secs(60);

/// What the daemon would have logged.
pub(crate) struct Log(pub(crate) Mutex<String>);

pub(crate) static LOG: Log = Log(Mutex::new(String::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        *self.0.lock().unwrap() += &format!("{} {} {}\n", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

/// Keeps what is logged from now on.
pub(crate) fn listen() {
    // Where tests share a process, one of them was first.
    let _ = log::set_logger(&LOG);
    log::set_max_level(log::LevelFilter::Trace);
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A node `box` without cameras, with a webhook `office`.
pub(crate) struct Rig {
    outbox: Arc<SqliteOutbox>,
    clock: Arc<dyn Clock>,
    runtime: tokio::runtime::Runtime,
    state: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        listen();
        let state = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let outbox =
            Arc::new(SqliteOutbox::open(state.path(), sinks::stamp(), &[name("office")], &clock).unwrap());
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        Self { outbox, clock, runtime, state }
    }

    pub(crate) fn sink(&self, url: &str, ca: PathBuf) -> RunningSink {
        let deps = SinkDeps {
            node: name("box"),
            outbox: Arc::<SqliteOutbox>::clone(&self.outbox),
            clock: Arc::clone(&self.clock),
            runtime: self.runtime.handle().clone(),
            latest: Arc::<Latest>::default(),
            state: self.state.path().to_owned(),
            commands: None,
        };
        let (hook, token) = (Hook::parse(url).unwrap(), Some(Secret::new(TOKEN)));
        WebhookConfig {
            id: name("office"),
            hook,
            token,
            ca: Some(ca),
            replay: vedette::sinks::Replay::default(),
            interest: vedette::wire::Interest::default(),
        }
        .build(deps)
        .unwrap()
    }

    pub(crate) fn append(&self, camera: &str) -> u64 {
        let event = sinks::crossing(camera, self.clock.wall());
        self.outbox.append(event, None).unwrap()
    }

    pub(crate) fn until(
        &self,
        sink: &RunningSink,
        what: &str,
        done: impl Fn(&SinkStatus) -> bool,
    ) -> SinkStatus {
        sinks::wait_for(sink, what, done)
    }
}

fn sequence(posts: &[Post]) -> Vec<u64> {
    posts.iter().map(|post| post.event("seq").as_u64().unwrap()).collect()
}

#[test]
fn events_arrive_in_order_over_one_connection() {
    let receiver = Receiver::start();
    let rig = Rig::new();
    let expected: Vec<u64> = (0..20).map(|n| rig.append(["gate", "yard"][n % 2])).collect();
    let sink = rig.sink(&receiver.url("localhost", "/vedette?box=1"), receiver.ca());
    let posts = receiver.posts(20);
    assert_eq!(sequence(&posts), expected);
    assert!(posts.iter().all(|post| post.port() == posts[0].port()), "one connection is enough");
    let first = &posts[0];
    assert_eq!(first.path(), "/vedette?box=1");
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("authorization"), Some("Bearer hunter2"));
    assert_eq!(first.header("vedette-node"), Some("box"));
    assert_eq!(first.header("vedette-epoch"), Some(rig.outbox.epoch().to_string().as_str()));
    assert_eq!(first.header("vedette-seq"), Some(expected[0].to_string().as_str()));
    assert_eq!(first.event("epoch"), rig.outbox.epoch().to_string());
    let status = rig.until(&sink, "the last answer", |s| s.queued == 0);
    assert_eq!((status.acked, status.refused, status.connected), (20, 0, true));
    assert!(sink.stop(STOP));
}

#[test]
fn evidence_is_posted_behind_its_event() {
    let receiver = Receiver::start();
    let rig = Rig::new();
    let (event, at) = (rig.append("gate"), rig.clock.wall());
    let evidence = Evidence {
        id: Uuid::new_v4(),
        kind: EvidenceKind::Clip,
        file: "gate.mp4".into(),
        bytes: 1 << 20,
        sha256: "0123456789abcdef".repeat(4),
        from: at,
        to: at,
        camera: name("gate"),
        event_kind: "line_crossing",
        severity: Severity::Alarm,
    };
    assert_eq!(rig.outbox.append_evidence(evidence).unwrap(), event + 1);
    let sink = rig.sink(&receiver.url("localhost", "/"), receiver.ca());
    let posts = receiver.posts(2);
    assert_eq!(sequence(&posts), [event, event + 1]);
    vedette_tests::schemas::validate("vedette/box/gate/evidence", posts[1].body().as_bytes()).unwrap();
    assert_eq!(posts[1].header("vedette-seq"), Some((event + 1).to_string().as_str()));
    rig.until(&sink, "the last answer", |s| s.queued == 0);
    assert!(sink.stop(STOP));
}

#[test]
fn what_fails_is_sent_again_with_the_same_bytes() {
    let mut receiver = Receiver::start();
    receiver.answer(&["500", "503 0", "429 1"]);
    let rig = Rig::new();
    let sink = rig.sink(&receiver.url("127.0.0.1", "/"), receiver.ca());
    rig.append("gate");
    rig.append("gate");
    let posts = receiver.posts(5);
    let answers: Vec<_> = posts.iter().map(Post::answered).collect();
    assert_eq!(answers, [500, 503, 429, 200, 200]);
    assert!(posts[1..4].iter().all(|post| post.body() == posts[0].body()), "{posts:?}");
    let status = rig.until(&sink, "both", |s| s.queued == 0);
    assert_eq!((status.acked, status.given_up, status.last_error), (2, 0, None));
    assert!(sink.stop(STOP));
}

#[test]
fn an_event_that_it_stumbles_over_holds_up_its_camera_alone() {
    let mut receiver = Receiver::start();
    receiver.answer(&["500 2"]);
    let rig = Rig::new();
    let gate = [rig.append("gate"), rig.append("gate")];
    let yard = rig.append("yard");
    let sink = rig.sink(&receiver.url("localhost", "/"), receiver.ca());
    assert_eq!(sequence(&receiver.posts(4)), [gate[0], yard, gate[0], gate[1]]);
    assert!(sink.stop(STOP));
}

#[test]
fn what_it_will_not_have_is_given_up_after_three_tries() {
    let mut receiver = Receiver::start();
    receiver.answer(&["401", "401", "401"]);
    let rig = Rig::new();
    let (first, second) = (rig.append("gate"), rig.append("gate"));
    let sink = rig.sink(&receiver.url("localhost", "/"), receiver.ca());
    assert_eq!(sequence(&receiver.posts(4)), [first, first, first, second]);
    let status = rig.until(&sink, "the second event", |s| s.acked == 1);
    assert_eq!((status.refused, status.given_up, status.queued), (3, 1, 0));
    assert!(sink.stop(STOP));
    let log = LOG.0.lock().unwrap();
    let line = format!(
        "webhook office: event {first} is given up: 401 Unauthorized; check `token` of [webhook.office]"
    );
    assert!(log.contains(&line), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}

#[test]
fn a_receiver_that_was_away_gets_everything() {
    let mut receiver = Receiver::start();
    let rig = Rig::new();
    let mut expected = vec![rig.append("gate")];
    let sink = rig.sink(&receiver.url("localhost", "/secret-path"), receiver.ca());
    receiver.posts(1);
    rig.until(&sink, "the first answer", |s| s.queued == 0);
    receiver.kill();
    expected.extend((0..5).map(|_| rig.append("gate")));
    let down = rig.until(&sink, "the loss", |s| !s.connected);
    assert_eq!(down.queued, 5);
    receiver.restart();
    assert_eq!(sequence(&receiver.posts(6)), expected);
    assert!(rig.until(&sink, "the last answer", |s| s.queued == 0).connected);
    assert!(sink.stop(STOP));
    let log = LOG.0.lock().unwrap();
    assert!(log.contains("takes events again"), "{log}");
    assert!(!log.contains(TOKEN) && !log.contains("secret-path"), "{log}");
}

#[test]
fn another_ca_is_not_trusted() {
    let receiver = Receiver::start();
    let stranger = tempfile::tempdir().unwrap();
    make_certificates(stranger.path());
    let rig = Rig::new();
    rig.append("gate");
    let error = |ca: PathBuf| {
        let sink = rig.sink(&receiver.url("localhost", "/"), ca);
        let status = rig.until(&sink, "an error", |s| s.last_error.is_some());
        assert!(!status.connected && status.queued == 1, "{status:?}");
        status.last_error.unwrap()
    };
    let untrusted = error(stranger.path().join("ca.pem"));
    assert!(untrusted.contains("is not signed by a CA in"), "{untrusted}");
    let missing = error(stranger.path().join("none.pem"));
    assert!(missing.contains("none.pem"), "{missing}");
    assert_eq!(receiver.posts(0).len(), 0, "nothing was posted to a stranger");
}

#[test]
fn stopping_waits_no_longer_than_it_may() {
    let mut receiver = Receiver::start();
    receiver.kill();
    let rig = Rig::new();
    rig.append("gate");
    let sink = rig.sink(&receiver.url("localhost", "/"), receiver.ca());
    rig.until(&sink, "the refusal", |s| !s.connected);
    assert!(!sink.stop(Duration::from_millis(200)), "an event was left");
    assert_eq!(rig.outbox.depth(&name("office")), 1);
}

/// Debian's own subscriber, to everything: a line each, `<retained> <topic> <payload>`.
struct Listener {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    fn start(port: u16) -> Self {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "#", "-F", "%r %t %p"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&lines);
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| heard.lock().unwrap().push(line));
        });
        Self { child, lines }
    }

    fn wait_for(&self, beginning: &str, within: &str) -> String {
        let clock = SystemClock::new();
        loop {
            let lines = self.lines.lock().unwrap().clone();
            if let Some(line) = lines.iter().find(|l| l.starts_with(beginning) && l.contains(within)) {
                return line.clone();
            }
            assert!(clock.now().0 < SOON, "waited {SOON:?} for {beginning} … {within}: {lines:#?}");
            clock.pause(Duration::from_millis(20), &Shutdown::new());
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A camera, a broker that is told in other words, and a webhook: the whole node.
#[test]
fn a_node_tells_its_webhook_and_each_dialect() {
    need_detector!();
    let camera = TestCam::start(Options::new(small_clip(Kind::H264).unwrap())).unwrap();
    let (broker, receiver) = (Mosquitto::start(mosquitto::Options::default()), Receiver::start());
    let (port, url, ca) = (broker.port(), receiver.url("localhost", "/vedette"), receiver.ca());
    let head = format!(
        "[node]\nid = \"box\"\n[broker.main]\nurl = \"mqtt://127.0.0.1:{port}\"\ndialects = [\"onvif\", \"custom\"]\n\
         custom.topic = \"alarms/{{{{ camera }}}}/{{{{ kind }}}}\"\ncustom.payload = \"{{{{ phase }}}} of {{{{ rule }}}}\"\n\
         [webhook.office]\nurl = \"{url}\"\ntoken = \"{TOKEN}\"\nca = \"{}\"\n",
        ca.display()
    );
    let early = Listener::start(port);
    let mut site = Site::start(&Plan::new(head + &camera_text("gate", camera.url(), 5.0)));
    site.wait_live(&["gate"], SOON);
    let mut posts = Vec::new();
    while !posts.iter().any(|post: &Post| post.event("kind") == "intrusion") {
        posts = receiver.posts(posts.len() + 1);
    }
    let begin = posts.iter().find(|post| post.event("kind") == "intrusion").unwrap();
    assert_eq!((begin.event("phase"), begin.event("camera")), ("begin".into(), "gate".into()));
    let onvif = "vedette/box/onvif-ej/RuleEngine";
    let property = format!("{onvif}/FieldDetector/ObjectsInside/&gate/vedette/inside");
    early.wait_for(&format!("0 {property} "), "\"IsInside\":true");
    early.wait_for(&format!("0 {onvif}/vedette:Incident/&gate/vedette/inside "), "\"ClassTypes\":\"Human\"");
    early.wait_for("0 alarms/gate/intrusion begin of inside", "");
    let late = Listener::start(port);
    late.wait_for(&format!("1 {property} "), "\"IsInside\":");
    late.wait_for("1 vedette/box/onvif-ej/VideoSource/SignalLoss/&gate ", "\"State\":false");
    assert!(site.stop());
    let heard = early.lines.lock().unwrap();
    assert!(heard.iter().all(|line| !line.contains(TOKEN) && !line.contains("\"v\":1")), "{heard:#?}");
}
