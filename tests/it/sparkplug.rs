//! Sparkplug B against a real broker, read by a host that shares no code with the daemon.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use vedette::config::MqttVersion;
use vedette::sinks::MqttConfig;
use vedette::sinks::embedded::{EmbeddedBroker, EmbeddedConfig};
use vedette::wire::sparkplug::Sparkplug;
use vedette::wire::{CameraInventory, CameraStatus, Dialect, RuleInventory, StateUpdate};
use vedette_core::Severity;
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::mosquitto::{Mosquitto, Options};
use vedette_tests::need_detector;
use vedette_tests::proxy::Proxy;
use vedette_tests::site::{Plan, Site, camera_text};
use vedette_tests::sparkplug::{Host, Told};
use vedette_tests::subscriber::{Message, Subscriber};
use vedette_tests::testcam::{self, TestCam};

use crate::mqtt::{Rig, STOP, name};

fn dialect(host: Option<&str>) -> Vec<Arc<dyn Dialect>> {
    vec![Arc::new(Sparkplug::new("plant", host).unwrap())]
}

/// The node `box` with a camera `gate` that is live.
fn rig(host: Option<&str>) -> Rig {
    let rig = Rig::speaking(dialect(host));
    let rule = RuleInventory {
        rule: name("count"),
        kind: "line_crossing".to_owned(),
        severity: Severity::Alarm,
        zone: None,
        line: Some(name("kerb")),
        lasting: false,
        counts: true,
        unit: None,
        former_kinds: Vec::new(),
    };
    rig.latest.put(&CameraInventory { camera: name("gate"), rules: vec![rule], gone: vec![] });
    camera(&rig, "live");
    rig
}

fn camera(rig: &Rig, state: &'static str) {
    let (camera, since) = (name("gate"), rig.clock.wall());
    rig.latest.put(&CameraStatus {
        camera,
        state,
        decode: "watch",
        fps: 5.0,
        gate: None,
        reason: None,
        since,
    });
}

fn count(rig: &Rig, persons: f64) {
    rig.latest.put(&StateUpdate {
        camera: name("gate"),
        rule: name("count"),
        kind: "line_crossing",
        changed: rig.clock.wall(),
        active: false,
        value: Some(persons),
        unit: Some("persons"),
        since: None,
        armed: true,
    });
}

fn config(rig: &Rig, port: u16, host: Option<&str>) -> MqttConfig {
    MqttConfig { dialects: dialect(host), ..rig.config(port) }
}

fn verbs(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.verb.as_str()).collect()
}

fn events(told: &[Told]) -> Vec<u64> {
    told.iter().filter_map(Told::event).collect()
}

fn has(verb: &'static str, times: usize) -> impl Fn(&[Told]) -> bool {
    move |told: &[Told]| told.iter().filter(|told| told.verb == verb).count() >= times
}

fn tells_and_stops(version: Option<MqttVersion>, port: u16, host: &Host) {
    let rig = rig(None);
    let sink = rig.sink(MqttConfig { version, ..config(&rig, port, None) });
    host.wait_for("the births", has("DBIRTH", 1));
    let numbers: Vec<_> = (0..300).map(|_| rig.append("gate")).collect();
    let told = host.wait_for("300 events", |told| events(told).len() >= 300);
    assert_eq!(verbs(&told[..2]), ["NBIRTH", "DBIRTH"]);
    assert_eq!(told[0].get("bdSeq"), json!(0));
    assert_eq!(events(&told), numbers, "in order, each once");
    let status = rig.until(&sink, "the answers", |s| s.queued == 0);
    assert_eq!((status.acked, status.dropped, status.given_up), (300, 0, 0));
    count(&rig, 3.0);
    let counted = |told: &[Told]| told.last().is_some_and(|told| told.get("Rule/count/Value") == json!(3.0));
    host.wait_for("the count", counted);
    assert!(sink.stop(STOP));
    let told = host.wait_for("the death", has("NDEATH", 1));
    assert_eq!(told.last().unwrap().get("bdSeq"), json!(0));
    // What the broker says after it is read too: a second connection, and no will in between.
    let sink = rig.sink(MqttConfig { version, ..config(&rig, port, None) });
    let told = host.wait_for("the next birth", has("NBIRTH", 2));
    let lives: Vec<_> = told.iter().filter(|t| ["NBIRTH", "NDEATH"].contains(&t.verb.as_str())).collect();
    let lives: Vec<_> = lives.iter().map(|t| (t.verb.as_str(), t.get("bdSeq"))).collect();
    assert_eq!(lives, [("NBIRTH", json!(0)), ("NDEATH", json!(0)), ("NBIRTH", json!(1))]);
    assert!(sink.stop(STOP));
}

/// Every connection of ours was opened with this version, as a clean session.
fn assert_clean(broker: &Mosquitto, version: &str) {
    let log = broker.log();
    let ours: Vec<_> = log.lines().filter(|line| line.contains(" as vedette-box (")).collect();
    assert_eq!(ours.len(), 2, "{log}");
    assert!(ours.iter().all(|line| line.contains(&format!("({version}, c1, "))), "{ours:?}");
}

#[test]
fn a_host_hears_births_events_and_death_over_mqtt_3() {
    let broker = Mosquitto::start(Options::default());
    tells_and_stops(None, broker.port(), &Host::start("scada", broker.port()));
    assert_clean(&broker, "p2");
}

#[test]
fn a_host_hears_births_events_and_death_over_mqtt_5() {
    let broker = Mosquitto::start(Options::default());
    tells_and_stops(Some(MqttVersion::V5), broker.port(), &Host::start("scada", broker.port()));
    assert_clean(&broker, "p5");
}

#[test]
fn a_host_hears_them_over_the_embedded_broker() {
    let broker = EmbeddedBroker::start(EmbeddedConfig::loopback(0)).unwrap();
    tells_and_stops(Some(MqttVersion::V311), broker.port(), &Host::start_at_rumqttd("scada", broker.port()));
}

#[test]
fn the_broker_says_the_node_is_dead_and_the_next_life_has_another_number() {
    let broker = Mosquitto::start(Options::default());
    let host = Host::start("scada", broker.port());
    let rig = rig(None);
    for life in 0..3_u32 {
        let sink = rig.sink(config(&rig, broker.port(), None));
        let births = life as usize + 1;
        let told = host.wait_for("the birth", has("NBIRTH", births));
        assert_eq!(told.iter().rfind(|t| t.verb == "NBIRTH").unwrap().get("bdSeq"), json!(life));
        // The process dies: nobody says goodbye.
        drop(sink);
        let told = host.wait_for("the will", has("NDEATH", births));
        let death = told.iter().rfind(|t| t.verb == "NDEATH").unwrap();
        assert_eq!((death.get("bdSeq"), death.timestamp), (json!(life), None));
    }
}

#[test]
fn attempts_that_reach_nobody_use_up_no_number() {
    let mut broker = Mosquitto::start(Options::default());
    let rig = rig(None);
    broker.kill();
    let sink = rig.sink(config(&rig, broker.port(), None));
    rig.until(&sink, "a vain attempt", |s| s.last_error.is_some());
    broker.restart();
    rig.until(&sink, "a connection", |s| s.connected);
    let kept = std::fs::read_to_string(rig.state.path().join("sparkplug-b.json")).unwrap();
    assert_eq!(kept, "{\"bd_seq\":0}");
    assert!(sink.stop(STOP));
}

#[test]
fn a_rebirth_is_answered_and_rubbish_is_not() {
    let broker = Mosquitto::start(Options::default());
    let host = Host::start("scada", broker.port());
    let rig = rig(None);
    let sink = rig.sink(config(&rig, broker.port(), None));
    host.wait_for("the births", has("DBIRTH", 1));
    for rubbish in
        [&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"", b"Node Control/Rebirth", &[0x12; 4000]]
    {
        host.command("spBv1.0/plant/NCMD/box", rubbish);
        host.command("spBv1.0/plant/DCMD/box/gate", rubbish);
    }
    host.ask_for_rebirth("plant", "box");
    let told = host.wait_for("births again", has("DBIRTH", 2));
    assert_eq!(verbs(&told), ["NBIRTH", "DBIRTH", "NBIRTH", "DBIRTH"]);
    assert_eq!(told[0].get("bdSeq"), told[2].get("bdSeq"));
    let event = rig.append("gate");
    let told = host.wait_for("an event", |told| !events(told).is_empty());
    assert_eq!((events(&told), told.last().unwrap().seq), (vec![event], Some(2)));
    assert!(sink.stop(STOP));
}

#[test]
fn a_camera_comes_and_goes() {
    let broker = Mosquitto::start(Options::default());
    let host = Host::start("scada", broker.port());
    let rig = rig(None);
    let sink = rig.sink(config(&rig, broker.port(), None));
    host.wait_for("the births", has("DBIRTH", 1));
    camera(&rig, "lost");
    host.wait_for("its death", has("DDEATH", 1));
    let event = rig.append("gate");
    let told = host.wait_for("its last event", |told| events(told) == [event]);
    let last = told.last().unwrap();
    assert_eq!((last.verb.as_str(), last.get("Event/Camera")), ("NDATA", json!("gate")));
    camera(&rig, "live");
    host.wait_for("its next life", has("DBIRTH", 2));
    assert!(sink.stop(STOP));
}

#[test]
fn events_wait_for_the_primary_host_and_are_history_then() {
    let broker = Mosquitto::start(Options::default());
    let host = Host::start("scada", broker.port());
    host.tell_state(false, 100);
    let rig = rig(Some("scada"));
    let mut numbers: Vec<_> = (0..20).map(|_| rig.append("gate")).collect();
    let sink = rig.sink(config(&rig, broker.port(), Some("scada")));
    rig.until(&sink, "the wait", |s| s.connected && s.last_error.is_some());
    host.tell_state(true, 101);
    let told = host.wait_for("what waited", |told| events(told).len() >= 20);
    assert_eq!((verbs(&told[..2]), events(&told)), (vec!["NBIRTH", "DBIRTH"], numbers.clone()));
    let historical = |told: &Told| told.event().is_none() || told.metrics.iter().all(|m| m.historical);
    assert!(told.iter().all(historical));
    rig.until(&sink, "the answers", |s| s.queued == 0);
    host.tell_state(false, 102);
    let told = host.wait_for("the farewell", has("NDEATH", 1));
    assert_eq!(told.last().unwrap().get("bdSeq"), json!(0));
    rig.until(&sink, "the next wait", |s| s.connected && s.last_error.is_some());
    numbers.extend((0..20).map(|_| rig.append("gate")));
    assert_eq!(rig.depth(), 20);
    host.tell_state(true, 103);
    let told = host.wait_for("the rest", |told| events(told).len() >= 40);
    assert_eq!(events(&told), numbers);
    assert!(told.iter().all(historical));
    assert_eq!(told.iter().rfind(|t| t.verb == "NBIRTH").unwrap().get("bdSeq"), json!(1));
    assert!(sink.stop(STOP));
}

#[test]
fn what_was_not_answered_is_told_again_as_history() {
    let broker = Mosquitto::start(Options::default());
    let proxy = Proxy::start(broker.port());
    let host = Host::start("scada", broker.port());
    let rig = rig(None);
    let sink = rig.sink(config(&rig, proxy.port(), None));
    rig.append("gate");
    rig.until(&sink, "the first answer", |s| s.acked == 1);
    proxy.mute(true);
    let unanswered: Vec<_> = (0..5).map(|_| rig.append("gate")).collect();
    host.wait_for("six events", |told| events(told).len() == 6);
    assert_eq!(rig.depth(), 5, "nothing that is not answered leaves the outbox");
    proxy.mute(false);
    proxy.cut();
    rig.until(&sink, "the answers", |s| s.queued == 0);
    let told = host.wait_for("them again", |told| events(told).len() == 11);
    let again: Vec<_> = told.iter().filter(|t| t.event().is_some()).skip(6).collect();
    assert_eq!(again.iter().filter_map(|t| t.event()).collect::<Vec<_>>(), unanswered);
    assert!(again.iter().all(|t| t.metrics.iter().all(|m| m.historical)));
    let lives: Vec<_> = told
        .iter()
        .filter(|t| ["NBIRTH", "NDEATH"].contains(&t.verb.as_str()))
        .map(|t| t.get("bdSeq"))
        .collect();
    assert_eq!(lives, [json!(0), json!(0), json!(1)]);
    assert!(sink.stop(STOP));
}

#[test]
fn a_whole_node_tells_hosts_the_same_events_as_everybody() {
    need_detector!();
    let (broker, camera) = (Mosquitto::start(Options::default()), small_clip(Kind::H264).unwrap());
    let camera = TestCam::start(testcam::Options::new(camera)).unwrap();
    let host = Host::start("scada", broker.port());
    let watcher = Subscriber::start("watcher", broker.port(), None);
    let head = format!(
        "[node]\nid = \"box\"\n[broker.main]\nurl = \"mqtt://127.0.0.1:{}\"\n\
         dialects = [\"vedette\", \"sparkplug\"]\nsparkplug = {{ group = \"plant\" }}\n",
        broker.port()
    );
    let site = Site::start(&Plan::new(head + &camera_text("gate", camera.url(), 5.0)));
    let told = host.wait_for("a birth of the camera and three events", |told| {
        has("DBIRTH", 1)(told) && events(told).len() >= 3
    });
    let birth = told.iter().find(|t| t.verb == "DBIRTH").unwrap();
    assert_eq!((birth.get("Camera/State"), birth.get("Rule/inside/Armed")), (json!("live"), json!(true)));
    assert!(site.stop());
    let told = host.wait_for("the death", has("NDEATH", 1));
    let offline = |m: &[Message]| m.last().is_some_and(|m| m.get("state") == "offline");
    let watched = watcher.wait_for("the last word", offline);
    let watched: BTreeSet<_> = watched.iter().filter_map(|m| m.get("seq").as_u64()).collect();
    assert_eq!(events(&told).into_iter().collect::<BTreeSet<_>>(), watched);
}
