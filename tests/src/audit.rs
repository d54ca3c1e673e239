//! What must hold of every series of events that one subscriber got, whatever happened to cameras, daemon and broker.
//!
//! Owns: those rules. Does not know: which events a test expects.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::subscriber::Message;

/// Whose clock labels a moment may change (the camera's is taken within 2 s of ours): so far a label may step back.
const CLOCK_STEP_MS: i64 = 2_000;

/// What a series was made of.
#[derive(Debug, Default)]
pub struct Audit {
    /// Incidents without an end, by id.
    pub open: BTreeSet<String>,
    /// Why each ended incident did: its `ended_by`.
    pub ended: BTreeMap<String, String>,
    /// Momentary ones.
    pub once: usize,
    /// The store that numbered them.
    pub epoch: String,
    /// The last number.
    pub seq: u64,
    /// Events that came again.
    pub repeated: usize,
}

/// A member of the payload as text.
pub fn text(message: &Message, key: &str) -> String {
    message.get(key).as_str().unwrap_or_default().to_owned()
}

/// A member of the payload as a time.
pub fn time(message: &Message, key: &str) -> Timestamp {
    text(message, key).parse().unwrap_or_else(|e| panic!("{key} is no time: {e}: {message:?}"))
}

/// Checks a series in the order of its arrival: one node and epoch, numbers that grow strictly (so none came twice),
/// incidents that begin once and end once, and times that run forwards.
///
/// # Panics
/// Where one of that does not hold.
pub fn audit(events: &[Message]) -> Audit {
    let audit = audit_with_repeats(events);
    assert_eq!(audit.repeated, 0, "events came twice: {audit:?}");
    audit
}

/// As [`audit`] over crashes of the daemon: what was acknowledged just before one may come again, byte-equal.
///
/// # Panics
/// As [`audit`].
pub fn audit_with_repeats(events: &[Message]) -> Audit {
    let mut audit = Audit::default();
    let mut seen: BTreeMap<u64, &[u8]> = BTreeMap::new();
    let mut decided: BTreeMap<String, Timestamp> = BTreeMap::new();
    for event in events {
        let shown = String::from_utf8_lossy(&event.payload);
        let (epoch, id) = (text(event, "epoch"), text(event, "id"));
        assert!(audit.epoch.is_empty() || audit.epoch == epoch, "another epoch: {shown}");
        audit.epoch = epoch;
        let seq = event.get("seq").as_u64().unwrap_or_default();
        if let Some(first) = seen.insert(seq, &event.payload) {
            assert!(first == event.payload, "not the bytes that came before with number {seq}: {shown}");
            audit.repeated += 1;
            continue;
        }
        assert!(seq > audit.seq, "number {seq} after {}: {shown}", audit.seq);
        audit.seq = seq;
        match text(event, "phase").as_str() {
            "begin" => {
                assert!(!audit.ended.contains_key(&id) && audit.open.insert(id), "begun twice: {shown}");
            }
            "update" => assert!(audit.open.contains(&id), "an update of nothing: {shown}"),
            "end" => {
                assert!(audit.open.remove(&id), "an end of nothing: {shown}");
                audit.ended.insert(id, text(event, "ended_by"));
            }
            _ => audit.once += 1,
        }
        let (captured, at) = (time(event, "captured"), time(event, "decided"));
        let camera = text(event, "camera");
        let before = decided.insert(camera, at).unwrap_or(Timestamp::MIN);
        for (earlier, later) in [(before, at), (captured, at)] {
            let step = earlier.as_millisecond() - later.as_millisecond();
            assert!(step <= CLOCK_STEP_MS, "time runs back by {step} ms: {shown}");
        }
    }
    audit
}
