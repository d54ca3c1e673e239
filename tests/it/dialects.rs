//! Dialects beside `vedette`, over a real broker: who listens, and what he hears.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS, RecvTimeoutError};
use vedette::outbox::{Outbox, SqliteOutbox};
use vedette::sinks::mqtt::dialects;
use vedette::sinks::{Address, Latest, MqttConfig, RunningSink, SinkDeps};
use vedette::wire::{CameraInventory, CameraStatus, Dialect, NodeStatus, RuleInventory, Settings, Stamp};
use vedette_core::{Clock, Event as Incident, Name, Severity, SystemClock};
use vedette_tests::mosquitto::{Mosquitto, Options};
use vedette_tests::sinks;

const STOP: Duration = Duration::from_secs(10);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A client that hears everything; what it heard, by topic, in order.
struct Listener {
    client: Client,
    connection: Connection,
    clock: SystemClock,
    heard: BTreeMap<String, Vec<String>>,
}

impl Listener {
    fn start(port: u16) -> Self {
        let mut options = MqttOptions::new("listener", "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, connection) = Client::new(options, 64);
        client.subscribe("#", QoS::AtLeastOnce).unwrap();
        let mut listener = Self { client, connection, clock: SystemClock::new(), heard: BTreeMap::new() };
        while !matches!(listener.next(), Some(Packet::SubAck(_))) {}
        listener
    }

    fn next(&mut self) -> Option<Packet> {
        assert!(self.clock.now().0 < Duration::from_secs(60), "waited 60 s; heard {:#?}", self.heard);
        match self.connection.recv_timeout(Duration::from_secs(1)) {
            Ok(Ok(Event::Incoming(packet))) => Some(packet),
            Ok(Ok(Event::Outgoing(_))) | Err(RecvTimeoutError::Timeout) => None,
            ended => panic!("{ended:?}"),
        }
    }

    /// Listens until the last word on `topic` holds `words`, and so many have come.
    fn until(&mut self, topic: &str, count: usize, words: &str) {
        let done = |all: &Vec<String>| all.len() >= count && all.last().is_some_and(|w| w.contains(words));
        while !self.heard.get(topic).is_some_and(done) {
            if let Some(Packet::Publish(publish)) = self.next() {
                let words = String::from_utf8(publish.payload.to_vec()).unwrap();
                self.heard.entry(publish.topic).or_default().push(words);
            }
        }
    }
}

fn say_what_there_is(latest: &Latest, since: jiff::Timestamp) {
    let rule = RuleInventory {
        rule: name("fence"),
        kind: "line_crossing".into(),
        severity: Severity::Alarm,
        zone: None,
        line: Some(name("kerb")),
        lasting: false,
        counts: false,
        unit: None,
        former_kinds: Vec::new(),
    };
    latest.put(&NodeStatus {
        state: "online",
        version: "0",
        since,
        cameras: 1,
        cameras_up: 1,
        providers: vec![],
        public_key: None,
    });
    latest.put(&CameraInventory { camera: name("gate"), rules: vec![rule], gone: vec![] });
    let camera = name("gate");
    latest.put(&CameraStatus {
        camera,
        state: "live",
        decode: "watch",
        fps: 5.0,
        gate: None,
        reason: None,
        since,
    });
}

#[test]
fn home_assistant_and_consumers_of_frigate_hear_their_own_words() {
    let broker = Mosquitto::start(Options::default());
    let state = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let asked = ["homeassistant".to_owned(), "frigate".to_owned()];
    let spoken = dialects(&name("b"), &asked, &Settings::default()).unwrap();
    let told = [name("b"), name("b-frigate")];
    let stamp = Stamp { dialects: spoken.clone(), ..sinks::stamp() };
    let outbox = Arc::new(SqliteOutbox::open(state.path(), stamp, &told, &clock).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let latest = Arc::<Latest>::default();
    say_what_there_is(&latest, clock.wall());
    let start = |id: &Name, dialects: Vec<Arc<dyn Dialect>>| -> RunningSink {
        let address = Address::parse(&format!("mqtt://127.0.0.1:{}", broker.port())).unwrap();
        let mut config = MqttConfig::new(id.clone(), address, &name("box"));
        (config.client_id, config.dialects) = (format!("vedette-{id}"), dialects);
        let deps = SinkDeps {
            node: name("box"),
            outbox: Arc::<SqliteOutbox>::clone(&outbox),
            clock: Arc::clone(&clock),
            runtime: runtime.handle().clone(),
            latest: Arc::clone(&latest),
            state: state.path().to_owned(),
            commands: None,
        };
        config.build(deps).unwrap()
    };
    let (apart, together): (Vec<_>, Vec<_>) = spoken.into_iter().partition(|d| d.own_connection());
    let running = [start(&told[0], together), start(&told[1], apart)];

    let mut listener = Listener::start(broker.port());
    listener.until("homeassistant/device/vedette_box/config", 1, "cameras_up");
    listener.until("homeassistant/device/vedette_box_gate/config", 1, "fence_event");
    listener.until("vedette/box/gate/status", 1, "live");
    listener.until("frigate/available", 1, "online");
    listener.until("frigate/gate/status/detect", 1, "online");

    let event = Incident { rule: name("fence"), ..sinks::crossing("gate", clock.wall()) };
    outbox.append(event, None).unwrap();
    listener.until("vedette/box/gate/event", 1, r#""rule":"fence""#);
    listener.until("frigate/events", 1, r#""type":"new""#);

    let before = listener.heard["homeassistant/device/vedette_box_gate/config"].len();
    listener.client.publish("homeassistant/status", QoS::AtLeastOnce, false, "online").unwrap();
    listener.until("homeassistant/device/vedette_box_gate/config", before + 1, "fence_event");

    for sink in running {
        assert!(sink.stop(STOP));
    }
    listener.until("frigate/available", 2, "offline");
    listener.until("vedette/box/status", 2, "offline");
    let events = &listener.heard["vedette/box/gate/event"];
    assert_eq!(events.len(), 1, "an event is not told again: {events:?}");
}
