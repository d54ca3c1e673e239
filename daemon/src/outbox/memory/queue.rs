//! What waits for one sink: bounded, in the order of numbers; when full, the oldest of the least urgent goes.
//!
//! Owns: the bound and the count of what it dropped. Does not know: numbers' meaning, payloads.

use std::collections::BTreeMap;
use std::sync::Arc;

use vedette_core::{Name, Severity};

use crate::outbox::Stored;

const SEVERITIES: usize = Severity::Alarm as usize + 1;

/// One map for each severity, so that both the next number and the victim are found at once.
pub(super) struct Queue {
    by_severity: [BTreeMap<u64, Arc<Stored>>; SEVERITIES],
    capacity: usize,
    len: usize,
    dropped: u64,
    /// Said once a flood: until the queue is well below its bound again.
    complained: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            by_severity: std::array::from_fn(|_| BTreeMap::new()),
            capacity,
            len: 0,
            dropped: 0,
            complained: false,
        }
    }

    pub(super) fn push(&mut self, sink: &Name, stored: Arc<Stored>) {
        self.by_severity[stored.severity as usize].insert(stored.seq, stored);
        self.len += 1;
        if self.len <= self.capacity {
            return;
        }
        if self.by_severity.iter_mut().find_map(BTreeMap::pop_first).is_some() {
            self.len -= 1;
            self.dropped += 1;
        }
        if !std::mem::replace(&mut self.complained, true) {
            log::error!(
                broker = sink.as_str();
                "broker {sink}: {} events wait and no more are kept: the oldest of the lowest severity are dropped \
                 and counted until it takes them again",
                self.capacity
            );
        }
    }

    pub(super) fn next(&self, after: u64) -> Option<Arc<Stored>> {
        let first = |map: &BTreeMap<u64, Arc<Stored>>| {
            map.range(after.saturating_add(1)..).next().map(|(_, s)| Arc::clone(s))
        };
        self.by_severity.iter().filter_map(first).min_by_key(|s| s.seq)
    }

    pub(super) fn remove(&mut self, seq: u64) {
        if self.by_severity.iter_mut().any(|map| map.remove(&seq).is_some()) {
            self.len -= 1;
        }
        if self.len < self.capacity - self.capacity / 10 {
            self.complained = false;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
