//! In which order a sink takes what waits for it, and where it stands.
//!
//! Owns: the order between severities. Does not know: what is under way, who refused what. What comes while a backlog
//! is sent stands in the same order, so that with [`Replay::AlarmsFirst`] a live alarm overtakes it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vedette_core::{Name, Severity};

use crate::outbox::{Outbox, Stored};

/// In which order events that wait are sent. Default: as they were produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Replay {
    /// As they were produced.
    #[default]
    InOrder,
    /// The most urgent first, and as they were produced within a severity: a camera's events of different severities
    /// come out of order.
    AlarmsFirst,
}

/// What is sent before what.
const BY_URGENCY: [Severity; 5] =
    [Severity::Alarm, Severity::Fault, Severity::Warning, Severity::Review, Severity::Info];

/// An event's place in the order; the smaller comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Which of the [`Cursor`]'s.
    lane: usize,
    seq: u64,
}

impl Rank {
    /// Whether the event still waits for `sink`.
    pub(super) fn waits(self, outbox: &dyn Outbox, sink: &Name) -> bool {
        outbox.next(sink, self.seq.saturating_sub(1)).is_some_and(|stored| stored.seq == self.seq)
    }
}

/// Where a sink stands.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    replay: Replay,
    /// By lane, the number up to which events are under way, answered or put off. In order of production there is one
    /// lane.
    passed: [u64; BY_URGENCY.len()],
}

/// The first event of each lane that was put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PutOff([u64; BY_URGENCY.len()]);

impl Default for PutOff {
    fn default() -> Self {
        Self([u64::MAX; BY_URGENCY.len()])
    }
}

impl PutOff {
    pub(super) fn note(&mut self, rank: Rank) {
        self.0[rank.lane] = self.0[rank.lane].min(rank.seq);
    }
}

impl Cursor {
    /// Before everything.
    pub(super) fn new(replay: Replay) -> Self {
        Self { replay, passed: [0; BY_URGENCY.len()] }
    }

    /// The next event for `sink`.
    pub(super) fn next(&self, outbox: &dyn Outbox, sink: &Name) -> Option<Arc<Stored>> {
        match self.replay {
            Replay::InOrder => outbox.next(sink, self.passed[0]),
            Replay::AlarmsFirst => {
                let lanes = BY_URGENCY.into_iter().zip(self.passed);
                lanes.into_iter().find_map(|(severity, passed)| outbox.next_of(sink, severity, passed))
            }
        }
    }

    pub(super) fn rank(&self, stored: &Stored) -> Rank {
        let lane = match self.replay {
            Replay::InOrder => 0,
            Replay::AlarmsFirst => BY_URGENCY.iter().position(|s| *s == stored.severity).unwrap_or(0),
        };
        Rank { lane, seq: stored.seq }
    }

    /// Goes behind an event.
    pub(super) fn pass(&mut self, stored: &Stored) {
        let Rank { lane, seq } = self.rank(stored);
        self.passed[lane] = seq;
    }

    /// Goes back to what was put off, so that it comes next.
    pub(super) fn back_to(&mut self, put_off: PutOff) {
        for (passed, first) in self.passed.iter_mut().zip(put_off.0) {
            *passed = (*passed).min(first.saturating_sub(1));
        }
    }

    /// Goes back before everything.
    pub(super) fn rewind(&mut self) {
        self.passed = [0; BY_URGENCY.len()];
    }
}

impl Replay {
    /// Says once a connection that order is given up, where something waits.
    pub(super) fn announce(self, kind: &str, sink: &Name, waiting: usize) {
        if self == Self::AlarmsFirst && waiting > 1 {
            log::info!(
                sink = sink.as_str();
                "{kind} {sink}: {waiting} events wait and go by severity, alarms first: a camera's events are in order \
                 only within a severity"
            );
        }
    }
}
