//! A camera whose event was refused: how long it waits, where it goes on, and how often which event was refused.
//!
//! Owns: the count of refusals. Does not know: what is under way, why it was refused.

use std::collections::BTreeMap;

use vedette_core::Mono;

use crate::sinks::backoff::Backoff;
use crate::sinks::order::{PutOff, Rank};

/// See the module.
#[derive(Default)]
pub(super) struct Parked {
    until: Option<Mono>,
    backoff: Backoff,
    /// Which event was refused since the camera was last let go on; of several, the first.
    first: Option<Rank>,
    /// How often an event was the first. With alarms first there may be several.
    refusals: BTreeMap<Rank, u32>,
    /// Where to go on.
    put_off: PutOff,
}

impl Parked {
    /// Whether its events are put off.
    pub(super) fn waits(&self) -> bool {
        self.until.is_some()
    }

    /// Whether it has waited long enough.
    pub(super) fn is_over(&self, now: Mono) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// Comes later.
    pub(super) fn put_off(&mut self, rank: Rank) {
        self.put_off.note(rank);
    }

    /// The camera waits because of this event; how often it was refused, its messages of one offer together. Those
    /// behind the first one were under way already: 0, as their count begins when they are the first.
    pub(super) fn refuse(&mut self, rank: Rank, now: Mono) -> u32 {
        self.put_off.note(rank);
        if self.first.is_none() {
            self.first = Some(rank);
            self.until = Some(now + self.backoff.next());
            *self.refusals.entry(rank).or_default() += 1;
        }
        if self.first == Some(rank) { self.refusals.get(&rank).copied().unwrap_or_default() } else { 0 }
    }

    /// Lets it go on; from where.
    pub(super) fn go_on(&mut self) -> PutOff {
        (self.until, self.first) = (None, None);
        std::mem::take(&mut self.put_off)
    }

    /// Forgets refusals of events that nobody offers any more.
    pub(super) fn forget(&mut self, waits: impl Fn(Rank) -> bool) {
        self.refusals.retain(|rank, _| waits(*rank));
    }

    /// An event is delivered or given up. Where the camera waits for no other: from where it goes on, with a new story.
    pub(super) fn settle(&mut self, rank: Rank) -> Option<PutOff> {
        self.refusals.remove(&rank);
        let goes = self.until.is_none() || self.first == Some(rank);
        goes.then(|| {
            self.backoff.reset();
            self.go_on()
        })
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.until.is_none() && self.refusals.is_empty()
    }
}
