//! The broker inside the daemon, asked by Mosquitto's clients: who is let in, and what its end costs.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vedette::config::MqttVersion;
use vedette::sinks::embedded::{self, EmbeddedBroker, EmbeddedConfig, Serve};
use vedette::sinks::{Address, MqttConfig};
use vedette::wire::{self, CustomSettings, Settings};
use vedette_core::{Clock, Secret, Shutdown, SystemClock};

use crate::mqtt::{Rig, STOP};

const USER: &str = "viewer";
const PASSWORD: &str = "hunter2";

fn with_login() -> EmbeddedConfig {
    EmbeddedConfig { login: Some((USER.to_owned(), Secret::new(PASSWORD))), ..EmbeddedConfig::loopback(0) }
}

fn rig() -> Rig {
    Rig::speaking(vec![Arc::new(vedette::wire::vedette::Vedette)])
}

/// The daemon's own connection.
fn connection(rig: &Rig, broker: &EmbeddedBroker) -> MqttConfig {
    let (address, version) = (Address::embedded(broker.address()), Some(MqttVersion::V311));
    MqttConfig { address, version, ..rig.config(broker.port()) }
}

/// `mosquitto_sub`, line by line; ended with the value.
struct Watcher(Child, Lines<BufReader<ChildStdout>>);

impl Watcher {
    fn start(port: u16, more: &[&str]) -> Self {
        let mut command = Command::new("mosquitto_sub");
        command.args(["-p", &port.to_string(), "-t", "vedette/#", "-v", "-W", "60"]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    /// The next line with `part` in it; a panic when `mosquitto_sub` gives up after its minute.
    fn line(&mut self, part: &str) -> String {
        self.1.by_ref().map(Result::unwrap).find(|line| line.contains(part)).unwrap()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether `mosquitto_pub` could say something with this login.
fn may_publish(port: u16, login: &[&str]) -> bool {
    let mut command = Command::new("timeout");
    command.args([
        "20",
        "mosquitto_pub",
        "-p",
        &port.to_string(),
        "-q",
        "1",
        "-t",
        "vedette/x",
        "-m",
        "said",
    ]);
    command.args(login).stderr(Stdio::null()).status().unwrap().success()
}

#[test]
fn a_login_is_asked_for_and_the_right_one_is_served() {
    let broker = EmbeddedBroker::start(with_login()).unwrap();
    let rig = rig();
    let login = ["-u", USER, "-P", PASSWORD];
    for wrong in [&[][..], &["-u", USER, "-P", "hunter3"], &["-u", "me", "-P", PASSWORD]] {
        assert!(!may_publish(broker.port(), wrong), "{wrong:?}");
    }
    let stranger = rig.sink(connection(&rig, &broker));
    let status = rig.until(&stranger, "a refusal", |s| s.last_error.is_some());
    assert!(!status.connected, "{status:?}");
    drop(stranger);
    let (user, password) = (Some(USER.to_owned()), Some(Secret::new(PASSWORD)));
    let sink = rig.sink(MqttConfig { user, password, ..connection(&rig, &broker) });
    rig.until(&sink, "a connection", |s| s.connected);
    let mut watcher = Watcher::start(broker.port(), &login);
    watcher.line("\"state\":\"online\"");
    rig.append("gate");
    watcher.line("vedette/box/gate/event");
    assert!(may_publish(broker.port(), &login));
    watcher.line("said");
    assert!(sink.stop(STOP));
    broker.stop();
}

#[test]
fn the_largest_payload_that_a_template_makes_goes_through() {
    let broker = EmbeddedBroker::start(EmbeddedConfig::loopback(0)).unwrap();
    let custom = CustomSettings {
        topic: "large".to_owned(),
        payload: "x".repeat(1_200_000),
        content_type: "text/plain".to_owned(),
    };
    let settings = Settings { custom, ..Settings::default() };
    let dialects = vec![(wire::dialect("custom").unwrap().build)(&settings).unwrap()];
    let rig = Rig::speaking(dialects.clone());
    let sink = rig.sink(MqttConfig { dialects, ..connection(&rig, &broker) });
    rig.append("gate");
    let status =
        rig.until(&sink, "the acknowledgement, or its want", |s| s.acked == 1 || s.last_error.is_some());
    assert_eq!((status.acked, status.last_error), (1, None));
    assert!(sink.stop(STOP));
    broker.stop();
}

/// A client of MQTT 3.1.1 with this number, if it is let in.
fn client(port: u16, number: usize) -> Option<TcpStream> {
    let id = format!("client-{number:03}");
    let mut connect = vec![0x10, 22, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 10];
    connect.extend(id.as_bytes());
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(STOP)).unwrap();
    stream.write_all(&connect).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).ok()?;
    assert_eq!(answer, [0x20, 2, 0, 0], "{id}");
    Some(stream)
}

#[test]
fn it_has_so_many_clients_and_no_more_until_one_leaves() {
    let broker = EmbeddedBroker::start(EmbeddedConfig::loopback(0)).unwrap();
    let mut clients: Vec<_> =
        (0..embedded::MAX_CLIENTS).map(|number| client(broker.port(), number).unwrap()).collect();
    assert!(client(broker.port(), 900).is_none());
    clients[0].write_all(&[0xE0, 0]).unwrap();
    drop(clients.remove(0));
    let clock = SystemClock::new();
    let deadline = clock.now() + STOP;
    while client(broker.port(), 901).is_none() {
        assert!(clock.now() < deadline, "nobody is let in although there is room");
    }
    broker.stop();
}

/// Serves until `end`, then panics; from then on as in the daemon.
fn panics_once(end: Shutdown) -> Arc<Serve> {
    let first = AtomicBool::new(true);
    Arc::new(move |config, stop, ready| {
        if !first.swap(false, Ordering::Relaxed) {
            return embedded::serve(config, stop, ready);
        }
        let also = end.clone();
        stop.on_request(move || also.request());
        embedded::serve(config, &end, ready)?;
        panic!("the end that the test asks for")
    })
}

#[test]
fn its_end_is_counted_and_subscribers_are_served_again() {
    let end = Shutdown::new();
    let broker = EmbeddedBroker::supervise(EmbeddedConfig::loopback(0), panics_once(end.clone())).unwrap();
    let rig = rig();
    let sink = rig.sink(connection(&rig, &broker));
    rig.until(&sink, "a connection", |s| s.connected);
    let mut watcher = Watcher::start(broker.port(), &[]);
    watcher.line("\"state\":\"online\"");
    rig.append("gate");
    watcher.line("\"seq\":1,");
    assert_eq!(broker.ends(), 0);
    end.request();
    rig.until(&sink, "the end", |s| !s.connected);
    // The new broker knows of no retained value but what it is told again.
    watcher.line("\"state\":\"online\"");
    rig.append("gate");
    watcher.line("\"seq\":2,");
    assert_eq!(broker.ends(), 1);
    // Health asks, before and after a reload.
    assert_eq!((broker.news_of_ends(), broker.news_of_ends()), (1, 0));
    assert!(sink.stop(STOP));
    broker.stop();
}
