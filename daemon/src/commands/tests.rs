//! Verbs against a store, and whatever else strangers may send.

use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::json;
use vedette_core::SimulatedClock;

use super::*;
use crate::outbox::OutboxError;

/// Keeps what it is given.
#[derive(Default)]
struct Kept(Mutex<Vec<vedette_core::Event>>);

impl Outbox for Kept {
    fn append(&self, event: vedette_core::Event, _: Option<std::time::Duration>) -> Result<u64, OutboxError> {
        let mut events = self.0.lock().unwrap();
        events.push(event);
        Ok(events.len() as u64)
    }
    fn append_evidence(&self, _: vedette_core::Evidence) -> Result<u64, OutboxError> {
        Err(OutboxError::Closed)
    }
    fn attach(&self, _: &Name) {}
    fn detach(&self, _: &Name) {}
    fn next(&self, _: &Name, _: u64) -> Option<Arc<crate::outbox::Stored>> {
        None
    }
    fn next_of(&self, _: &Name, _: vedette_core::Severity, _: u64) -> Option<Arc<crate::outbox::Stored>> {
        None
    }
    fn ack(&self, _: &Name, _: u64) {}
    fn depth(&self, _: &Name) -> usize {
        0
    }
    fn waiting_since(&self) -> Option<jiff::Timestamp> {
        None
    }
    fn dropped(&self, _: &Name) -> u64 {
        0
    }
    fn subscribe(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
    fn is_strained(&self) -> bool {
        false
    }
    fn epoch(&self) -> uuid::Uuid {
        uuid::Uuid::nil()
    }
    fn restamp(&self, _: crate::wire::Stamp) {}
    fn limit(&self, _: crate::outbox::Limits) {}
    fn close(&self) {}
}

fn site(folder: &std::path::Path) -> (Site, Arc<Kept>) {
    let name = |text| Name::new(text).unwrap();
    let kept = Arc::new(Kept::default());
    let site = Site {
        node: name("box"),
        rules: BTreeMap::from([(name("gate"), vec![name("night")])]),
        arming: Arc::new(Arming::open(folder, jiff::Timestamp::UNIX_EPOCH).unwrap()),
        wakes: Arc::default(),
        outbox: kept.clone(),
        evidence: Evidence::idle(),
        clock: Arc::new(SimulatedClock::new(jiff::Timestamp::UNIX_EPOCH)),
        ids: IncidentIds::seeded([3; 32]),
        status: Box::new(|| json!({"state": "online"})),
    };
    (site, kept)
}

fn ask(site: &mut Site, verb: &str, payload: &str) -> Value {
    serde_json::from_slice(&answer(site, verb, payload.as_bytes())).unwrap()
}

#[test]
fn rules_are_armed_and_disarmed_and_mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mut site, _) = site(folder.path());
    let done = ask(&mut site, "disarm", r#"{"camera":"gate","rule":"night","correlation":7}"#);
    let expected = json!({"ok": true, "correlation": 7,
        "result": {"camera": "gate", "rule": "night", "armed": false}});
    assert_eq!(done, expected);
    let overrides = site.arming.since(&mut 0, &Name::new("gate").unwrap()).unwrap();
    assert_eq!(overrides.into_iter().collect::<Vec<_>>(), [(Name::new("night").unwrap(), false)]);
    struct Case(&'static str, &'static str, &'static str);
    let cases = [
        Case("arm", r#"{"camera":"gate","rule":"day"}"#, "no rule `day`; there are: night"),
        Case("arm", r#"{"camera":"yard","rule":"night"}"#, "no camera `yard`; there are: gate"),
        Case("arm", r#"{"camera":"gate"}"#, "missing field `rule`"),
        Case("arm", r#"{"camera":"gate","rule":"night","run":"reboot"}"#, "unknown field `run`"),
        Case("snapshot", r#"{"camera":"gate"}"#, "camera gate has not started"),
        Case("arm", "[1]", "no JSON object"),
        Case("reboot", "{}", "no kind `reboot`; there are: arm, disarm, snapshot, status, test_alarm, wake"),
    ];
    for Case(verb, payload, error) in cases {
        let answer = ask(&mut site, verb, payload);
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(error), "{answer}");
    }
}

#[test]
fn a_test_alarm_is_an_event_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let (mut site, kept) = site(folder.path());
    let of_node = ask(&mut site, "test_alarm", "");
    let of_camera = ask(&mut site, "test_alarm", r#"{"camera":"gate"}"#);
    assert_eq!((&of_node["result"]["seq"], &of_camera["result"]["seq"]), (&json!(1), &json!(2)));
    let events = kept.0.lock().unwrap();
    assert_eq!(events[0].camera, None);
    assert_eq!(events[1].camera.as_ref().map(Name::as_str), Some("gate"));
    assert!(events.iter().all(|e| e.kind == "test" && e.severity == vedette_core::Severity::Alarm));
}

#[test]
fn status_answers_what_the_topics_say() {
    let folder = tempfile::tempdir().unwrap();
    let (mut site, _) = site(folder.path());
    assert_eq!(ask(&mut site, "status", "{}")["result"], json!({"state": "online"}));
}

proptest! {
    #[test]
    fn whatever_comes_is_answered_in_json(verb in ".{0,20}", payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let (mut site, _) = site(folder.path());
        let answer: Value = serde_json::from_slice(&answer(&mut site, &verb, &payload)).unwrap();
        prop_assert!(answer["ok"].is_boolean());
    }

    #[test]
    fn arguments_of_any_shape_are_answered(verb in prop::sample::select(vec!["arm", "disarm", "snapshot", "status", "test_alarm"]),
        text in r#"\{("(camera|rule|armed|correlation)":("[a-z]{0,5}"|null|[0-9]{1,3}|true|\[\]),?){0,4}\}"#) {
        let folder = tempfile::tempdir().unwrap();
        let (mut site, _) = site(folder.path());
        let answer: Value = serde_json::from_slice(&answer(&mut site, verb, text.as_bytes())).unwrap();
        prop_assert!(answer["ok"].is_boolean());
    }
}

#[test]
fn a_camera_is_woken_for_as_long_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (mut site, _) = site(folder.path());
    let gate = Name::new("gate").unwrap();
    let done = ask(&mut site, "wake", r#"{"camera":"gate"}"#);
    assert_eq!(done, json!({"ok": true, "result": {"camera": "gate", "seconds": 30.0}}));
    assert_eq!(site.wakes.take(&gate), Some(std::time::Duration::from_secs(30)));
    ask(&mut site, "wake", r#"{"camera":"gate","seconds":1.5}"#);
    assert_eq!(site.wakes.take(&gate), Some(std::time::Duration::from_millis(1500)));
    for (payload, said) in [
        (r#"{"camera":"yard"}"#, "no camera `yard`; there are: gate"),
        (r#"{"camera":"gate","seconds":0}"#, "0 is not within 1 to 3600"),
        (r#"{"camera":"gate","seconds":1e300}"#, "is not within 1 to 3600"),
        (r#"{"camera":"gate","seconds":"long"}"#, "invalid type"),
    ] {
        let refused = ask(&mut site, "wake", payload);
        assert!(refused["error"].as_str().is_some_and(|e| e.contains(said)), "{payload}: {refused}");
    }
    assert_eq!(site.wakes.take(&gate), None);
}
