//! The broker inside the daemon, asked by Mosquitto's clients: who is let in, and what its end costs.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vedette::config::MqttVersion;
use vedette::sinks::embedded::{self, EmbeddedBroker, EmbeddedConfig, Serve};
use vedette::sinks::{Address, MqttConfig};
use vedette_core::{Secret, Shutdown};

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
    assert!(sink.stop(STOP));
    broker.stop();
}
