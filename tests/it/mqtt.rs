//! Delivery against real brokers: Debian's Mosquitto and the one inside the daemon.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;
use vedette::config::MqttVersion;
use vedette::outbox::{Outbox, SqliteOutbox};
use vedette::signing::{PublicKey, Signer};
use vedette::sinks::embedded::{EmbeddedBroker, EmbeddedConfig, EmbeddedError};
use vedette::sinks::{Address, Latest, MqttConfig, Replay, RunningSink, SinkDeps, SinkStatus};
use vedette::wire::{CameraStatus, Dialect, NodeStatus, Stamp, StateUpdate, Stats};
use vedette_core::{
    BBox, Class, Clock, Event, Evidence, EvidenceKind, Name, ObjectSummary, Secret, Severity, SpeedUnit,
    SystemClock, TrackId,
};
use vedette_tests::mosquitto::{Mosquitto, Options, make_certificates};
use vedette_tests::proxy::Proxy;
use vedette_tests::sinks;
use vedette_tests::subscriber::{Message, Subscriber};

pub(crate) const STOP: Duration = Duration::from_secs(10);

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A node `box` without cameras: an outbox, latest values and a runtime for sinks.
pub(crate) struct Rig {
    outbox: Arc<SqliteOutbox>,
    pub(crate) latest: Arc<Latest>,
    pub(crate) clock: Arc<dyn Clock>,
    runtime: tokio::runtime::Runtime,
    pub(crate) state: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::speaking(vec![Arc::new(vedette::wire::vedette::Vedette)])
    }

    pub(crate) fn speaking(dialects: Vec<Arc<dyn Dialect>>) -> Self {
        Self::with(dialects, false)
    }

    /// Its messages are signed.
    pub(crate) fn signing() -> Self {
        Self::with(vec![Arc::new(vedette::wire::vedette::Vedette)], true)
    }

    /// What verifies its messages.
    pub(crate) fn key(&self) -> Option<PublicKey> {
        Signer::read(self.state.path()).unwrap().map(|signer| signer.public())
    }

    fn with(dialects: Vec<Arc<dyn Dialect>>, sign: bool) -> Self {
        let state = tempfile::tempdir().unwrap();
        let signer = sign.then(|| Arc::new(Signer::open(state.path()).unwrap()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let stamp = Stamp { dialects, signer, ..sinks::stamp() };
        let outbox = SqliteOutbox::open(state.path(), stamp, &[name("b")], &clock).unwrap();
        let rig = Self {
            outbox: Arc::new(outbox),
            latest: Arc::default(),
            clock,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            state,
        };
        rig.status("online");
        rig
    }

    fn status(&self, state: &'static str) {
        let since = self.clock.wall();
        self.latest.put(&NodeStatus {
            state,
            version: "0",
            since,
            cameras: 1,
            cameras_up: 1,
            providers: vec![],
            public_key: self.key(),
        });
    }

    pub(crate) fn config(&self, port: u16) -> MqttConfig {
        MqttConfig::new(name("b"), Address::parse(&format!("mqtt://127.0.0.1:{port}")).unwrap(), &name("box"))
    }

    pub(crate) fn sink(&self, config: MqttConfig) -> RunningSink {
        let deps = SinkDeps {
            node: name("box"),
            outbox: Arc::<SqliteOutbox>::clone(&self.outbox),
            clock: Arc::clone(&self.clock),
            runtime: self.runtime.handle().clone(),
            latest: Arc::clone(&self.latest),
            state: self.state.path().to_owned(),
            commands: None,
        };
        config.build(deps).unwrap()
    }

    pub(crate) fn append(&self, camera: &str) -> u64 {
        self.produce(camera, Severity::Alarm)
    }

    fn produce(&self, camera: &str, severity: Severity) -> u64 {
        let object = ObjectSummary {
            track: TrackId(1),
            class: Class::new("person"),
            score: 0.5,
            bbox: BBox { x0: 0.1, y0: 0.2, x1: 0.3, y1: 0.4 },
            speed: 1.0,
            speed_unit: SpeedUnit::HeightsPerSecond,
        };
        let crossing = sinks::crossing(camera, self.clock.wall());
        let event = Event { severity, object: Some(object), ..crossing };
        self.outbox.append(event, Some(Duration::from_millis(7))).unwrap()
    }

    /// As a camera does once a file is complete.
    pub(crate) fn append_evidence(&self, camera: &str, id: Uuid) -> u64 {
        let at = self.clock.wall();
        let evidence = Evidence {
            id,
            kind: EvidenceKind::Snapshot,
            file: format!("{id}.jpg"),
            bytes: 48_211,
            sha256: "0123456789abcdef".repeat(4),
            from: at,
            to: at,
            camera: name(camera),
            event_kind: "line_crossing",
            severity: Severity::Alarm,
        };
        self.outbox.append_evidence(evidence).unwrap()
    }

    pub(crate) fn depth(&self) -> usize {
        self.outbox.depth(&name("b"))
    }

    /// Waits until `done` says yes to the sink's status.
    pub(crate) fn until(
        &self,
        sink: &RunningSink,
        what: &str,
        done: impl Fn(&SinkStatus) -> bool,
    ) -> SinkStatus {
        sinks::wait_for(sink, what, done)
    }
}

/// First arrivals, by camera, must come in the order of their numbers; repetitions must be byte-equal.
fn check_order(events: &[Message]) -> usize {
    let mut seen: BTreeMap<u64, &[u8]> = BTreeMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut repeated = 0;
    for event in events {
        let seq = event.get("seq").as_u64().unwrap();
        if let Some(first) = seen.get(&seq) {
            assert_eq!(*first, event.payload, "a re-send of {seq} differs");
            repeated += 1;
            continue;
        }
        seen.insert(seq, &event.payload);
        let previous = last.insert(&event.topic, seq).unwrap_or(0);
        assert!(previous < seq, "{}: {seq} came after {previous}", event.topic);
    }
    repeated
}

fn delivers_in_order(version: MqttVersion) {
    let broker = Mosquitto::start(Options::default());
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let rig = Rig::new();
    let mut config = rig.config(broker.port());
    config.version = Some(version);
    let sink = rig.sink(config);
    std::thread::scope(|scope| {
        for camera in ["gate", "yard", "hall", "dock"] {
            let rig = &rig;
            scope.spawn(move || (0..250).for_each(|_| _ = rig.append(camera)));
        }
    });
    let events = subscriber.events(1000);
    assert_eq!((events.len(), check_order(&events)), (1000, 0));
    let status = rig.until(&sink, "all acknowledgements", |s| s.queued == 0);
    assert_eq!((status.acked, status.refused, status.dropped), (1000, 0, 0));
    assert!(sink.stop(STOP));
}

#[test]
fn a_thousand_events_arrive_in_order_over_mqtt_5() {
    delivers_in_order(MqttVersion::V5);
}

#[test]
fn a_thousand_events_arrive_in_order_over_mqtt_3() {
    delivers_in_order(MqttVersion::V311);
}

#[test]
fn a_wrong_password_is_named_and_the_right_one_works() {
    let login = ("box", "right");
    let broker = Mosquitto::start(Options { login: Some(login), ..Options::default() });
    let rig = Rig::new();
    for version in [MqttVersion::V311, MqttVersion::V5] {
        let mut config = rig.config(broker.port());
        (config.version, config.user, config.password) =
            (Some(version), Some("box".into()), Some(Secret::new("wrong")));
        let sink = rig.sink(config);
        let status = rig.until(&sink, "a refusal", |s| s.last_error.is_some());
        let expected = "refused the user name or password; check [broker.b] in vedette.secrets";
        assert_eq!((status.connected, status.last_error.as_deref()), (false, Some(expected)), "{version:?}");
    }
    rig.append("gate");
    let subscriber = Subscriber::start("watcher", broker.port(), Some(login));
    let mut config = rig.config(broker.port());
    (config.user, config.password) = (Some("box".into()), Some(Secret::new("right")));
    let sink = rig.sink(config);
    subscriber.events(1);
    assert!(sink.stop(STOP));
}

#[test]
fn tls_trusts_its_own_ca_and_no_other() {
    let broker = Mosquitto::start(Options { tls: true, ..Options::default() });
    let stranger = tempfile::tempdir().unwrap();
    make_certificates(stranger.path());
    let rig = Rig::new();
    let config = |host: &str, ca: std::path::PathBuf| {
        let mut config = rig.config(0);
        config.address = Address::parse(&format!("mqtts://{host}:{}", broker.tls_port())).unwrap();
        config.ca = Some(ca);
        config
    };
    let error = |config| {
        let sink = rig.sink(config);
        rig.until(&sink, "an error", |s| s.last_error.is_some()).last_error.unwrap()
    };
    let untrusted = error(config("localhost", stranger.path().join("ca.pem")));
    assert!(untrusted.contains("is not signed by a CA in"), "{untrusted}");
    let missing = error(config("localhost", stranger.path().join("none.pem")));
    assert!(missing.contains("none.pem"), "{missing}");
    for host in ["localhost", "127.0.0.1"] {
        let subscriber = Subscriber::start("watcher", broker.port(), None);
        let sink = rig.sink(config(host, broker.ca()));
        rig.append("gate");
        subscriber.events(1);
        let answer = rig.until(&sink, "the answer", |s| s.acked == 1).answer;
        assert_eq!(answer.count(), 1, "{answer:?}");
        assert!(sink.stop(STOP));
    }
}

#[test]
fn a_broker_killed_in_the_middle_loses_nothing() {
    let mut broker = Mosquitto::start(Options { persistent: true, ..Options::default() });
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let rig = Rig::new();
    let sink = rig.sink(rig.config(broker.port()));
    (0..100).for_each(|_| _ = rig.append("gate"));
    subscriber.events(100);
    rig.until(&sink, "the first hundred", |s| s.queued == 0);
    broker.freeze();
    (0..100).for_each(|_| _ = rig.append("gate"));
    broker.kill();
    rig.until(&sink, "the loss of the connection", |s| !s.connected);
    (0..100).for_each(|_| _ = rig.append("gate"));
    assert_eq!(rig.depth(), 200);
    broker.restart();
    let events = subscriber.events(300);
    check_order(&events);
    rig.until(&sink, "the rest", |s| s.queued == 0);
    assert!(sink.stop(STOP));
}

#[test]
fn evidence_waits_for_the_broker_and_arrives_behind_its_event() {
    let broker = Mosquitto::start(Options::default());
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let rig = Rig::new();
    let (event, id) = (rig.append("gate"), Uuid::new_v4());
    let (snapshot, next) = (rig.append_evidence("gate", id), rig.append("gate"));
    assert_eq!((snapshot, next, rig.depth()), (event + 1, event + 2, 3));
    let sink = rig.sink(rig.config(broker.port()));
    // Each message is held against its schema there.
    let numbered = |m: &&Message| m.get("seq").is_u64();
    let all = subscriber.wait_for("all three", |m| m.iter().filter(numbered).count() >= 3);
    let all: Vec<_> = all.iter().filter(numbered).collect();
    let seqs: Vec<_> = all.iter().filter_map(|m| m.get("seq").as_u64()).collect();
    assert_eq!(seqs, [event, snapshot, next]);
    let (epoch, id) = (rig.outbox.epoch().to_string(), id.to_string());
    assert_eq!((all[1].topic.as_str(), all[1].retained), ("vedette/box/gate/evidence", false));
    assert_eq!((all[1].get("id"), all[1].get("epoch")), (id.into(), epoch.into()));
    rig.until(&sink, "the last acknowledgement", |s| s.queued == 0);
}

#[test]
fn alarms_come_first_after_an_outage_where_that_is_wished() {
    const FROM_URGENT: [&str; 5] = ["alarm", "fault", "warning", "review", "info"];
    let mut broker = Mosquitto::start(Options { persistent: true, ..Options::default() });
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let rig = Rig::new();
    let sink = rig.sink(MqttConfig { replay: Replay::AlarmsFirst, ..rig.config(broker.port()) });
    rig.until(&sink, "a connection", |s| s.connected);
    broker.kill();
    rig.until(&sink, "the loss of the connection", |s| !s.connected);
    let severities = [
        Severity::Info,
        Severity::Alarm,
        Severity::Review,
        Severity::Warning,
        Severity::Info,
        Severity::Fault,
    ];
    for n in 0..300 {
        rig.produce(["gate", "yard"][n % 2], severities[n % severities.len()]);
    }
    assert_eq!(rig.depth(), 300);
    broker.restart();
    let events = subscriber.events(300);
    let urgency = |event: &Message| {
        let severity = event.get("severity");
        FROM_URGENT.iter().position(|name| severity == *name).unwrap()
    };
    let came: Vec<_> = events.iter().map(|e| (urgency(e), e.get("seq").as_u64().unwrap())).collect();
    assert!(came.is_sorted(), "{came:?}");
    assert_eq!(came.iter().map(|(_, seq)| seq).collect::<std::collections::BTreeSet<_>>().len(), 300);
    rig.until(&sink, "the rest", |s| s.queued == 0);
    assert!(sink.stop(STOP));
}

#[test]
fn lost_acknowledgements_are_answered_by_byte_equal_re_sends() {
    let broker = Mosquitto::start(Options::default());
    let proxy = Proxy::start(broker.port());
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let rig = Rig::new();
    let sink = rig.sink(rig.config(proxy.port()));
    rig.append("gate");
    rig.until(&sink, "the first acknowledgement", |s| s.acked == 1);
    proxy.mute(true);
    (0..5).for_each(|_| _ = rig.append("gate"));
    subscriber.events(6);
    assert_eq!(rig.depth(), 5, "nothing that is not acknowledged leaves the outbox");
    proxy.mute(false);
    proxy.cut();
    rig.until(&sink, "the re-sends", |s| s.queued == 0);
    rig.append("gate");
    let events = subscriber.events(7);
    assert_eq!(check_order(&events), 5, "each of the five came twice");
    assert!(sink.stop(STOP));
}

#[test]
fn retained_values_are_there_for_a_late_subscriber() {
    let broker = Mosquitto::start(Options::default());
    let rig = Rig::new();
    let (camera, since) = (name("gate"), rig.clock.wall());
    let status = |state| CameraStatus {
        camera: name("gate"),
        state,
        decode: "watch",
        fps: 4.96,
        gate: None,
        reason: None,
        since,
    };
    rig.latest.put(&status("connecting"));
    rig.latest.send(&Stats {
        at: since,
        since,
        rss_bytes: 1,
        cameras: BTreeMap::new(),
        models: BTreeMap::new(),
        sinks: BTreeMap::new(),
    });
    let sink = rig.sink(rig.config(broker.port()));
    rig.latest.put(&StateUpdate {
        camera: camera.clone(),
        rule: name("count"),
        kind: "line_crossing",
        changed: rig.clock.wall(),
        active: false,
        value: Some(3.0),
        unit: Some("persons"),
        since: None,
        armed: true,
    });
    rig.latest.put(&status("live"));
    let early = Subscriber::start("early", broker.port(), None);
    let live =
        |m: &[Message]| m.iter().any(|m| m.topic == "vedette/box/gate/status" && m.get("state") == "live");
    early.wait_for("the camera's status", live);
    let late = Subscriber::start("late", broker.port(), None);
    let messages = late.wait_for("retained values", |m| m.len() >= 3);
    let retained: BTreeMap<_, _> = messages.iter().map(|m| (m.topic.as_str(), m.retained)).collect();
    let topics = ["vedette/box/gate/state/count", "vedette/box/gate/status", "vedette/box/status"];
    assert_eq!(
        retained,
        topics.map(|t| (t, true)).into(),
        "statistics of before the connection are not told"
    );
    rig.latest.forget(&camera, |_| false);
    late.wait_for("cleared topics", |m| m.iter().filter(|m| m.payload.is_empty()).count() == 2);
    assert!(sink.stop(STOP));
}

#[test]
fn the_broker_says_offline_when_the_daemon_dies() {
    let broker = Mosquitto::start(Options::default());
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    for version in [MqttVersion::V311, MqttVersion::V5] {
        let rig = Rig::new();
        let mut config = rig.config(broker.port());
        config.version = Some(version);
        let sink = rig.sink(config);
        let states = |m: &[Message]| {
            m.iter().filter(|m| m.topic == "vedette/box/status").map(|m| m.get("state")).collect::<Vec<_>>()
        };
        subscriber.wait_for("online", |m| states(m).last().is_some_and(|s| s == "online"));
        drop(sink);
        rig.runtime.shutdown_background();
        subscriber.wait_for("offline", |m| states(m).last().is_some_and(|s| s == "offline"));
    }
}

#[test]
fn stopping_delivers_what_waits_and_says_goodbye() {
    let broker = Mosquitto::start(Options::default());
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let rig = Rig::new();
    let sink = rig.sink(rig.config(broker.port()));
    (0..200).for_each(|_| _ = rig.append("gate"));
    rig.status("stopping");
    assert!(sink.stop(STOP));
    assert_eq!(rig.depth(), 0);
    let done = |m: &[Message]| m.last().is_some_and(|m| m.get("state") == "offline");
    let messages = subscriber.wait_for("the last word", done);
    let states: Vec<_> = messages.iter().filter(|m| !m.is_event()).map(|m| m.get("state")).collect();
    assert_eq!(states.last().unwrap(), "offline");
    assert!(states.iter().any(|s| s == "stopping"), "{states:?}");
    assert_eq!(messages.iter().filter(|m| m.is_event()).count(), 200);
}

#[test]
fn a_dead_broker_holds_up_neither_the_cameras_nor_the_stop() {
    let rig = Rig::new();
    let mut broker = Mosquitto::start(Options::default());
    let sink = rig.sink(rig.config(broker.port()));
    rig.until(&sink, "a connection", |s| s.connected);
    broker.kill();
    (0..500).for_each(|_| _ = rig.append("gate"));
    let status = rig.until(&sink, "the loss", |s| s.last_error.is_some());
    assert_eq!((status.connected, status.queued), (false, 500));
    assert!(!sink.stop(Duration::from_millis(300)), "what is left must be said");
}

#[test]
fn a_refused_event_is_kept_and_the_other_cameras_go_on() {
    let allowed =
        "topic readwrite vedette/box/status\ntopic readwrite vedette/box/yard/event\ntopic read vedette/#\n";
    let broker = Mosquitto::start(Options { acl: Some(allowed.to_owned()), ..Options::default() });
    let subscriber = Subscriber::start("watcher", broker.port(), None);
    let rig = Rig::new();
    let sink = rig.sink(rig.config(broker.port()));
    let refused = rig.append("gate");
    let taken: Vec<_> = (0..20).map(|_| rig.append("yard")).collect();
    let events = subscriber.events(20);
    assert_eq!(events.iter().filter_map(|e| e.get("seq").as_u64()).collect::<Vec<_>>(), taken);
    let status = rig.until(&sink, "the refusal", |s| s.refused >= 1 && s.acked == 20);
    assert_eq!(status.queued, 1, "refused is not delivered");
    assert!(status.last_error.unwrap().contains("0x87"));
    broker.change_acl(&format!("{allowed}topic readwrite vedette/box/gate/event\n"));
    let events = subscriber.events(21);
    assert_eq!(events.last().unwrap().get("seq"), refused);
    rig.until(&sink, "the acknowledgement", |s| s.queued == 0);
    assert!(sink.stop(STOP));
}

#[test]
fn a_plain_subscriber_works_with_the_embedded_broker() {
    let broker = EmbeddedBroker::start(EmbeddedConfig::loopback(0)).unwrap();
    let rig = Rig::new();
    let mut config = rig.config(broker.port());
    (config.address, config.version) = (Address::embedded(broker.address()), Some(MqttVersion::V311));
    let sink = rig.sink(config);
    rig.until(&sink, "a connection", |s| s.connected);
    let mut child = Command::new("mosquitto_sub")
        .args(["-p", &broker.port().to_string(), "-t", "vedette/#", "-v"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let retained = lines.next().unwrap().unwrap();
    assert!(retained.starts_with("vedette/box/status {\"v\":1,\"state\":\"online\""), "{retained}");
    for n in 1..=20 {
        rig.append("gate");
        let event = lines.next().unwrap().unwrap();
        assert!(
            event.starts_with("vedette/box/gate/event {") && event.contains(&format!("\"seq\":{n},")),
            "{event}"
        );
    }
    assert!(sink.stop(STOP));
    let last = lines.next().unwrap().unwrap();
    assert!(last.contains("offline"), "{last}");
    let _ = child.kill();
    let _ = child.wait();
    broker.stop();
}

#[test]
fn the_embedded_broker_stops_and_names_a_port_that_is_taken() {
    let first = EmbeddedBroker::start(EmbeddedConfig::loopback(0)).unwrap();
    let port = first.port();
    let Err(error) = EmbeddedBroker::start(EmbeddedConfig::loopback(port)) else {
        panic!("two brokers on one port")
    };
    assert!(matches!(error, EmbeddedError::PortTaken(at) if at.port() == port), "{error}");
    assert!(error.to_string().contains(&port.to_string()));
    first.stop();
    let again = EmbeddedBroker::start(EmbeddedConfig::loopback(port)).unwrap();
    let rig = Rig::new();
    let mut config = rig.config(port);
    config.version = Some(MqttVersion::V311);
    let sink = rig.sink(config);
    rig.append("gate");
    rig.until(&sink, "delivery by the second broker", |s| s.acked == 1);
    assert!(sink.stop(STOP));
    again.stop();
}

#[test]
fn a_broker_that_knows_only_3_1_1_is_found_out() {
    let broker = EmbeddedBroker::start(EmbeddedConfig::loopback(0)).unwrap();
    let rig = Rig::new();
    let mut config = rig.config(broker.port());
    config.version = None;
    let sink = rig.sink(config);
    rig.append("gate");
    rig.until(&sink, "the delivery in 3.1.1", |s| s.acked == 1);
    assert!(sink.stop(STOP));
    broker.stop();
}

#[test]
fn web_sockets_carry_it_too_encrypted_or_not() {
    for tls in [false, true] {
        let broker = Mosquitto::start(Options { tls, web: true, ..Options::default() });
        let rig = Rig::new();
        let subscriber = Subscriber::start("watcher", broker.port(), None);
        let mut config = rig.config(0);
        let scheme = if tls { "wss" } else { "ws" };
        config.address = Address::parse(&format!("{scheme}://localhost:{}", broker.web_port())).unwrap();
        config.ca = tls.then(|| broker.ca());
        let sink = rig.sink(config);
        rig.append("gate");
        subscriber.events(1);
        rig.until(&sink, "the acknowledgement", |s| s.acked == 1);
        assert!(sink.stop(STOP));
    }
}

#[test]
fn an_event_that_nobody_subscribes_to_is_delivered_and_noted() {
    let broker = Mosquitto::start(Options::default());
    let rig = Rig::new();
    let sink = rig.sink(rig.config(broker.port()));
    rig.append("gate");
    let status = rig.until(&sink, "the acknowledgement", |s| s.acked == 1);
    assert_eq!((status.queued, status.nobody_listens), (0, 1));
    assert!(sink.stop(STOP));
}

/// A broker of MQTT 5 that answers each CONNECT with a refusal (MQTT 5, 3.2).
fn refusing(code: u8) -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut connect = [0; 1024];
            // Who hangs up is answered in vain.
            let _ = std::io::Read::read(&mut client, &mut connect);
            let _ = std::io::Write::write_all(&mut client, &[0x20, 3, 0, code, 0]);
        }
    });
    port
}

#[test]
fn a_broker_that_refuses_the_connection_is_told_of_in_words() {
    let rig = Rig::new();
    rig.append("gate");
    for (code, words) in [
        (0x89, "it is busy (0x89)"),
        (0x8A, "refused the connection: 0x8A, this client is banned; lift that at the broker"),
        (0x9C, "refused the connection: 0x9C, another server is to be used; put that one into its URL"),
        (0x9D, "refused the connection: 0x9D, it has moved; put the new place into its URL"),
        (0x9F, "too many connections in too short a time (0x9F)"),
    ] {
        let sink = rig.sink(rig.config(refusing(code)));
        let status = rig.until(&sink, "a refusal", |s| s.last_error.is_some());
        assert_eq!((status.connected, status.last_error.as_deref()), (false, Some(words)), "{code:#x}");
    }
    assert_eq!(rig.depth(), 1);
}
