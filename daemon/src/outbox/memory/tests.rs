//! A model of the outbox, and crashes of it.

use std::fs;

use jiff::Timestamp;
use proptest::prelude::*;
use vedette_core::{ClockSource, EndedBy, Moment, Phase, Pts, Severity, SimulatedClock};

use super::*;
use crate::wire::ModelStamp;

const SEVERITIES: [Severity; 5] =
    [Severity::Info, Severity::Review, Severity::Warning, Severity::Fault, Severity::Alarm];

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH))
}

fn open(directory: &Path, capacity: usize) -> MemoryOutbox {
    let model = ModelStamp { name: "m".into(), sha256: "0123456789".into(), provider: "cpu".into() };
    let stamp = Stamp {
        node: name("box"),
        epoch: Uuid::nil(),
        config: "0123456789".into(),
        model,
        dialects: vec![std::sync::Arc::new(crate::wire::vedette::Vedette)],
    };
    MemoryOutbox::with_capacity(directory, stamp, &[name("b")], &*clock(), capacity).unwrap()
}

fn event(id: u128, phase: Phase, severity: Severity) -> Event {
    let at = Moment { pts: Pts::ZERO, wall: Timestamp::UNIX_EPOCH, wall_ok: true, clock: ClockSource::Host };
    Event {
        id: Uuid::from_u128(id),
        phase,
        kind: "intrusion",
        rule: name("night"),
        severity,
        camera: Some(name("gate")),
        zone: None,
        line: None,
        direction: None,
        captured: at,
        decided: at,
        object: None,
        value: Some(2.0),
        unit: Some("persons"),
        why: String::new(),
        ended_by: None,
        suppressed: 0,
    }
}

fn waiting(outbox: &MemoryOutbox) -> Vec<(u64, Severity)> {
    let mut after = 0;
    std::iter::from_fn(|| {
        let stored = outbox.next(&name("b"), after)?;
        after = stored.seq;
        Some((stored.seq, stored.severity))
    })
    .collect()
}

fn json(stored: &Stored) -> serde_json::Value {
    serde_json::from_slice(&stored.messages[0].payload).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Ack(usize),
    Crash,
    Stop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..SEVERITIES.len()).prop_map(Step::Append),
        4 => (0..20_usize).prop_map(Step::Ack),
        1 => Just(Step::Crash),
        1 => Just(Step::Stop),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against a plain list: bound, victim, order, and numbers that grow over crashes and stops.
    #[test]
    fn behaves_like_a_list(steps in steps()) {
        const CAPACITY: usize = 10;
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = open(folder.path(), CAPACITY);
        let (epoch, sink) = (outbox.epoch(), name("b"));
        let (mut model, mut dropped, mut last) = (Vec::<(u64, Severity)>::new(), 0, 0);
        for step in steps {
            match step {
                Step::Append(severity) => {
                    let severity = SEVERITIES[severity];
                    let seq = outbox.append(event(1, Phase::Once, severity), None).unwrap();
                    prop_assert!(seq > last, "{seq} after {last}");
                    last = seq;
                    model.push((seq, severity));
                    if model.len() > CAPACITY {
                        let victim = *model.iter().min_by_key(|(seq, severity)| (*severity, *seq)).unwrap();
                        model.retain(|e| *e != victim);
                        dropped += 1;
                    }
                }
                Step::Ack(at) => {
                    if let Some((seq, _)) = model.get(at).copied() {
                        outbox.ack(&sink, seq);
                        outbox.ack(&sink, seq);
                        model.remove(at);
                    }
                }
                Step::Crash | Step::Stop => {
                    if matches!(step, Step::Stop) {
                        outbox.close();
                    }
                    drop(outbox);
                    outbox = open(folder.path(), CAPACITY);
                    model.clear();
                    dropped = 0;
                }
            }
            prop_assert_eq!(waiting(&outbox), model.clone());
            prop_assert_eq!((outbox.depth(&sink), outbox.dropped(&sink)), (model.len(), dropped));
            prop_assert_eq!(outbox.epoch(), epoch);
        }
    }
}

#[test]
fn an_incident_that_a_crash_left_open_is_ended_by_restart() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path(), 100);
    outbox.append(event(1, Phase::Begin, Severity::Alarm), None).unwrap();
    outbox.append(event(2, Phase::Begin, Severity::Alarm), None).unwrap();
    outbox.append(event(2, Phase::End, Severity::Alarm), None).unwrap();
    drop(outbox);
    let outbox = open(folder.path(), 100);
    let end = outbox.next(&name("b"), 0).unwrap();
    let json = json(&end);
    assert_eq!(json["id"], Uuid::from_u128(1).to_string());
    assert_eq!((&json["phase"], &json["ended_by"]), (&"end".into(), &"restart".into()));
    assert_eq!((&json["kind"], &json["unit"]), (&"intrusion".into(), &"persons".into()));
    assert!(end.seq > 3);
    assert!(outbox.next(&name("b"), end.seq).is_none());
    drop(outbox);
    assert!(open(folder.path(), 100).next(&name("b"), 0).is_none(), "ended once");
}

#[test]
fn an_event_that_ended_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path(), 100);
    let mut end = event(1, Phase::End, Severity::Alarm);
    end.ended_by = Some(EndedBy::CameraLost);
    outbox.append(end, Some(Duration::from_millis(548))).unwrap();
    let json = json(&outbox.next(&name("b"), 0).unwrap());
    assert_eq!((&json["ended_by"], &json["latency_ms"]), (&"camera-lost".into(), &548.into()));
    assert_eq!(json["epoch"], outbox.epoch().to_string());
}

#[test]
fn a_clean_stop_skips_no_number_and_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path(), 100);
    assert_eq!(outbox.append(event(1, Phase::Once, Severity::Info), None).unwrap(), 1);
    outbox.close();
    let refused = outbox.append(event(1, Phase::Once, Severity::Info), None);
    assert!(matches!(refused, Err(OutboxError::Closed)));
    drop(outbox);
    assert_eq!(open(folder.path(), 100).append(event(1, Phase::Once, Severity::Info), None).unwrap(), 2);
}

#[test]
fn damaged_files_are_set_aside() {
    for (file, new_epoch) in [("outbox.json", true), ("incidents.json", false)] {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(folder.path(), 100);
        outbox.append(event(1, Phase::Begin, Severity::Info), None).unwrap();
        let epoch = outbox.epoch();
        drop(outbox);
        fs::write(folder.path().join(file), b"{\"epoch\":\"7b").unwrap();
        let outbox = open(folder.path(), 100);
        assert_eq!(outbox.epoch() != epoch, new_epoch, "{file}");
        let aside = folder.path().join(format!("{file}.corrupt-0"));
        assert_eq!(fs::read(aside).unwrap(), b"{\"epoch\":\"7b", "{file}");
    }
}

#[test]
fn two_daemons_do_not_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 100);
    let Err(error) = Ledger::open(folder.path(), &*clock()) else { panic!("opened twice") };
    assert!(error.to_string().contains("in use by another vedette"), "{error}");
    drop(first);
    assert!(Ledger::open(folder.path(), &*clock()).is_ok());
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let Err(error) = Ledger::open(&file, &*clock()) else { panic!("a file is no directory") };
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

#[test]
fn a_disk_that_fails_changes_the_epoch_and_loses_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let outbox = open(&state, 1000);
    let epoch = outbox.epoch();
    fs::remove_dir_all(&state).unwrap();
    let seqs: Vec<_> =
        (0..250).map(|_| outbox.append(event(1, Phase::Once, Severity::Info), None).unwrap()).collect();
    assert!(seqs.is_sorted() && outbox.depth(&name("b")) == 250);
    assert_ne!(outbox.epoch(), epoch, "the lost file promised these numbers to the next process");
    let unsaved = outbox.epoch();
    fs::create_dir_all(&state).unwrap();
    (0..100).for_each(|_| drop(outbox.append(event(1, Phase::Once, Severity::Info), None)));
    let last = outbox.append(event(1, Phase::Once, Severity::Info), None).unwrap();
    drop(outbox);
    let outbox = open(&state, 1000);
    assert_eq!(outbox.epoch(), unsaved);
    assert!(outbox.append(event(1, Phase::Once, Severity::Info), None).unwrap() > last);
}

#[test]
fn payloads_are_frozen_when_the_configuration_changes() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path(), 100);
    let before = outbox.append(event(1, Phase::Once, Severity::Info), None).unwrap();
    let frozen = outbox.next(&name("b"), 0).unwrap();
    let model = ModelStamp { name: "n".into(), sha256: "ffffffffff".into(), provider: "cpu".into() };
    let node = name("box");
    outbox.restamp(Stamp {
        node,
        epoch: uuid::Uuid::nil(),
        config: "ffffffffff".to_owned(),
        model,
        dialects: vec![std::sync::Arc::new(crate::wire::vedette::Vedette)],
    });
    outbox.append(event(1, Phase::Once, Severity::Info), None).unwrap();
    assert_eq!(outbox.next(&name("b"), 0).unwrap(), frozen);
    assert_eq!(json(&outbox.next(&name("b"), before).unwrap())["config"], "ffffffff");
}
