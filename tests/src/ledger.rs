//! The events that one subscriber got, held against what delivery promises: from each topic in the order of their
//! numbers, and again only byte for byte.
//!
//! Owns: those two rules. Does not know: which events a test expects.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use vedette_core::{Clock, Shutdown, SystemClock};

use crate::subscriber::Subscriber;

/// How often a subscriber is looked at.
const POLL: Duration = Duration::from_millis(5);

/// One event.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its topic: of a camera, or of the node.
    pub topic: String,
    /// Byte for byte.
    pub payload: Vec<u8>,
    /// The payload, read.
    pub json: Value,
    /// When it came first, since the subscriber began.
    pub came: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    /// First arrivals, by number.
    pub events: BTreeMap<u64, Entry>,
    /// How many came again.
    pub repeated: usize,
    /// The one store that numbered all of them.
    epoch: Option<String>,
    last: BTreeMap<String, u64>,
    read: usize,
}

impl Ledger {
    /// Takes what has come since the last look.
    ///
    /// # Panics
    /// Where order, bytes or epoch are not what they must be.
    pub fn take(&mut self, subscriber: &Subscriber) {
        let fresh = subscriber.after(self.read);
        self.read += fresh.len();
        for (came, message) in fresh.into_iter().filter(|(_, m)| m.is_event()) {
            let json: Value = serde_json::from_slice(&message.payload).expect("a schema was held against it");
            let seq = json["seq"].as_u64().expect("as above");
            let epoch = json["epoch"].as_str().expect("as above").to_owned();
            assert_eq!(*self.epoch.get_or_insert(epoch.clone()), epoch, "one store");
            if let Some(first) = self.events.get(&seq) {
                assert_eq!(first.payload, message.payload, "a re-send of {seq} differs");
                self.repeated += 1;
                continue;
            }
            let before = self.last.insert(message.topic.clone(), seq).unwrap_or(0);
            assert!(before < seq, "{}: {seq} came after {before}", message.topic);
            let (topic, payload) = (message.topic, message.payload);
            self.events.insert(seq, Entry { topic, payload, json, came });
        }
    }

    /// Takes what comes until `done`.
    ///
    /// # Panics
    /// As [`Ledger::take`], and where it is not done `within`.
    pub fn take_until(
        &mut self,
        subscriber: &Subscriber,
        what: &str,
        within: Duration,
        done: impl Fn(&Self) -> bool,
    ) {
        let (clock, patience) = (SystemClock::new(), Shutdown::new());
        loop {
            self.take(subscriber);
            if done(self) {
                return;
            }
            let (came, last) = (self.events.len(), self.events.keys().next_back());
            assert!(clock.now().0 < within, "{what}: not within {within:?}; {came} came, the last {last:?}");
            clock.pause(POLL, &patience);
        }
    }
}
