//! A Sparkplug B host: what an edge node says, read by field numbers taken from the specification, and judged.
//!
//! Owns: a connection over plain MQTT 3.1.1, a decoder that shares nothing with the daemon's, and the host's rules:
//! [`judge`]. Does not know: what the metrics mean. With `VEDETTE_SPARKPLUG_CAPTURE=FILE` every message is also
//! appended to FILE, topic and hexadecimal payload a line, for decoders that are not part of this repository.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use vedette_core::{Clock, SystemClock};

/// One metric as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// Its code.
    pub datatype: Option<u64>,
    /// Whether it is for the archive.
    pub historical: bool,
    /// Null where it says so.
    pub value: Value,
}

/// One message of an edge node as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// `NBIRTH`, `DDATA` and so on.
    pub verb: String,
    /// None for the node's own.
    pub device: Option<String>,
    /// 0 or 1.
    pub qos: u8,
    /// Whether the broker kept it.
    pub retained: bool,
    /// Milliseconds since 1970.
    pub timestamp: Option<u64>,
    /// 0..=255.
    pub seq: Option<u64>,
    /// In the order of the payload.
    pub metrics: Vec<Metric>,
}

impl Told {
    /// A metric's value; null where it is not there.
    pub fn get(&self, name: &str) -> Value {
        self.metrics.iter().find(|m| m.name == name).map_or(Value::Null, |m| m.value.clone())
    }

    /// The number of the event that it tells; none where it tells none, or is a birth.
    pub fn event(&self) -> Option<u64> {
        if self.verb.ends_with("BIRTH") { None } else { self.get("Event/Seq").as_u64() }
    }

    fn read(publish: &rumqttc::Publish) -> Self {
        let levels: Vec<_> = publish.topic.split('/').collect();
        let mut told = Self {
            verb: levels[2].to_owned(),
            device: levels.get(4).map(|&device| device.to_owned()),
            qos: publish.qos as u8,
            retained: publish.retain,
            timestamp: None,
            seq: None,
            metrics: Vec::new(),
        };
        for (field, value) in fields(&publish.payload) {
            match (field, value) {
                (1, Field::Number(at)) => told.timestamp = Some(at),
                (2, Field::Bytes(bytes)) => told.metrics.push(metric(bytes)),
                (3, Field::Number(seq)) => told.seq = Some(seq),
                other => panic!("{}: unknown field {other:?}", publish.topic),
            }
        }
        told
    }
}

/// A field of a message of Protocol Buffers.
#[derive(Debug)]
enum Field<'a> {
    Number(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first().expect("a number should end");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
        shift += 7;
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => {
                let (eight, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Double(f64::from_le_bytes(eight.try_into().expect("eight bytes")))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length should fit");
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(content)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn metric(bytes: &[u8]) -> Metric {
    let mut metric = Metric {
        name: String::new(),
        timestamp: None,
        datatype: None,
        historical: false,
        value: Value::Null,
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text should be UTF-8");
    let mut null = false;
    for (field, value) in fields(bytes) {
        match (field, value) {
            (1, Field::Bytes(name)) => metric.name = text(name),
            (3, Field::Number(at)) => metric.timestamp = Some(at),
            (4, Field::Number(code)) => metric.datatype = Some(code),
            (5, Field::Number(flag)) => metric.historical = flag != 0,
            (7, Field::Number(flag)) => null = flag != 0,
            (11, Field::Number(long)) => metric.value = json!(long),
            (13, Field::Double(double)) => metric.value = json!(double),
            (14, Field::Number(flag)) => metric.value = json!(flag != 0),
            (15, Field::Bytes(string)) => metric.value = json!(text(string)),
            other => panic!("unknown field {other:?}"),
        }
    }
    assert_eq!(metric.value.is_null(), null, "a value, or null: {metric:?}");
    metric
}

/// What a host checks in all that an edge node said, oldest first, from the first birth on. `exact` where the broker
/// keeps a message's QoS.
pub fn judge(all: &[Told], exact: bool) {
    let mut node: Option<(u64, Value)> = None;
    let mut births: BTreeMap<Option<String>, BTreeMap<String, u64>> = BTreeMap::new();
    for told in all {
        let is_death = told.verb == "NDEATH";
        assert!(!told.retained, "{told:?}");
        assert!(!exact || told.qos == u8::from(is_death), "{told:?}");
        if is_death {
            assert_eq!(told.seq, None, "{told:?}");
            assert_eq!(told.metrics.len(), 1, "{told:?}");
            if node.as_ref().is_some_and(|(_, number)| *number == told.get("bdSeq")) {
                (node, births) = (None, BTreeMap::new());
            }
            continue;
        }
        assert!(told.timestamp.is_some(), "{told:?}");
        let seq = told.seq.unwrap_or_else(|| panic!("no sequence number: {told:?}"));
        if told.verb == "NBIRTH" {
            assert_eq!(seq, 0, "{told:?}");
            assert_eq!(told.get("Node Control/Rebirth"), json!(false));
            births.clear();
            node = Some((0, told.get("bdSeq")));
        } else {
            let (last, _) = node.as_mut().unwrap_or_else(|| panic!("nothing is born: {told:?}"));
            assert_eq!(seq, (*last + 1) % 256, "{told:?}");
            *last = seq;
        }
        match told.verb.as_str() {
            "NBIRTH" | "DBIRTH" => {
                let code = |m: &Metric| (m.name.clone(), m.datatype.expect("a type"));
                births.insert(told.device.clone(), told.metrics.iter().map(code).collect());
            }
            "DDEATH" => assert!(births.remove(&told.device).is_some(), "{told:?}"),
            _ => {
                let born = births.get(&told.device).unwrap_or_else(|| panic!("it is not born: {told:?}"));
                for metric in &told.metrics {
                    assert_eq!(born.get(&metric.name).copied(), metric.datatype, "{metric:?}");
                }
            }
        }
        assert!(told.metrics.iter().all(|m| m.timestamp.is_some()), "{told:?}");
    }
}

#[derive(Default)]
struct Shared {
    told: Vec<Told>,
    subscribed: bool,
}

/// Ends with the value.
pub struct Host {
    shared: Arc<(Mutex<Shared>, Condvar)>,
    client: Client,
    id: String,
    exact: bool,
}

impl Host {
    /// As [`Host::start`], over rumqttd, which passes everything on at the QoS of the subscription.
    pub fn start_at_rumqttd(id: &str, port: u16) -> Self {
        let mut host = Self::start(id, port);
        host.exact = false;
        host
    }

    /// The host `id`, subscribed to all there is on 127.0.0.1:`port`. It says nothing of its state by itself.
    pub fn start(id: &str, port: u16) -> Self {
        let mut options = MqttOptions::new(format!("host-{id}"), "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 64);
        let shared = Arc::<(Mutex<Shared>, Condvar)>::default();
        let host =
            Self { shared: Arc::clone(&shared), client: client.clone(), id: id.to_owned(), exact: true };
        std::thread::spawn(move || {
            for event in connection.iter() {
                let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        let _ = client.try_subscribe("spBv1.0/#", QoS::AtLeastOnce);
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => state.subscribed = true,
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        capture(&publish);
                        let of_node = !publish.topic.starts_with("spBv1.0/STATE/");
                        if of_node && !publish.topic.contains("CMD/") {
                            state.told.push(Told::read(&publish));
                        }
                    }
                    Ok(_) => continue,
                    // Its broker or the test is gone.
                    Err(_) => return,
                }
                shared.1.notify_all();
            }
        });
        host.wait("its subscription", |state| state.subscribed);
        host
    }

    fn wait(&self, what: &str, done: impl Fn(&Shared) -> bool) -> Vec<Told> {
        let clock = SystemClock::new();
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !done(&state) {
            let last: Vec<_> = state.told.iter().map(|t| (&t.verb, &t.device, t.seq, t.event())).collect();
            assert!(clock.now().0 < Duration::from_secs(30), "waited 30 s for {what}; there was {last:?}");
            let wait = self.shared.1.wait_timeout(state, Duration::from_secs(1));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.told.clone()
    }

    /// Waits until `done` says yes to all that was told so far, and gives it, judged.
    pub fn wait_for(&self, what: &str, done: impl Fn(&[Told]) -> bool) -> Vec<Told> {
        let told = self.wait(what, |state| done(&state.told));
        judge(&told, self.exact);
        told
    }

    /// Tells its state, kept by the broker.
    pub fn tell_state(&self, online: bool, timestamp: u64) {
        let payload = json!({ "online": online, "timestamp": timestamp }).to_string();
        let topic = format!("spBv1.0/STATE/{}", self.id);
        self.client.publish(topic, QoS::AtLeastOnce, true, payload).expect("the client should take it");
    }

    /// Sends a command's bytes.
    pub fn command(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, QoS::AtMostOnce, false, payload).expect("the client should take it");
    }

    /// Asks the edge node for births.
    pub fn ask_for_rebirth(&self, group: &str, node: &str) {
        // A metric: its name (field 1), its type Boolean (4), its value true (14).
        let mut metric = vec![0x0a, 20];
        metric.extend(b"Node Control/Rebirth\x20\x0b\x70\x01");
        let mut payload = vec![0x12, u8::try_from(metric.len()).expect("it is short")];
        payload.extend(metric);
        self.command(&format!("spBv1.0/{group}/NCMD/{node}"), payload);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}

fn capture(publish: &rumqttc::Publish) {
    let Some(file) = std::env::var_os("VEDETTE_SPARKPLUG_CAPTURE") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).expect("it should open");
    let hex: String = publish.payload.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{} {hex}", publish.topic).expect("it should be writable");
}
