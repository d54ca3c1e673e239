//! An outbox in memory: bounded queues that do not survive the process, numbers and open incidents that do.
//!
//! Owns: the order of numbering, saving and queueing. Does not know: how sinks deliver. After a crash numbers go on
//! behind those that may have been given, and every incident that was open is ended with `restart`.

mod incident;
mod ledger;
mod queue;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;
use vedette_core::{Clock, Event, Name};

use self::ledger::Ledger;
use self::queue::Queue;
use super::{Frozen, Outbox, OutboxError, Stored};
use crate::wire::{Encoder, Stamp};

/// Events kept for each sink: about 10 MiB of frozen messages.
pub const CAPACITY: usize = 10_000;

/// See the module.
pub struct MemoryOutbox {
    encoder: Encoder,
    capacity: usize,
    /// Held for a whole `append`, so that numbers enter the queues in order; sinks never take it.
    ledger: Mutex<Ledger>,
    queues: Mutex<BTreeMap<Name, Queue>>,
    appended: watch::Sender<u64>,
}

impl MemoryOutbox {
    /// Opens the state in `directory` (made if it is not there) and ends the incidents that the last process left
    /// open. `stamp.epoch` is replaced by the store's own. `sinks` are attached before anything is appended.
    ///
    /// # Errors
    /// The directory cannot be used. A damaged file in it is set aside instead, and a new epoch begins.
    pub fn open(
        directory: &Path,
        stamp: Stamp,
        sinks: &[Name],
        clock: &dyn Clock,
    ) -> Result<Self, OutboxError> {
        Self::with_capacity(directory, stamp, sinks, clock, CAPACITY)
    }

    /// As [`MemoryOutbox::open`], keeping at most `capacity` events for each sink.
    ///
    /// # Errors
    /// As [`MemoryOutbox::open`].
    pub fn with_capacity(
        directory: &Path,
        stamp: Stamp,
        sinks: &[Name],
        clock: &dyn Clock,
        capacity: usize,
    ) -> Result<Self, OutboxError> {
        let (ledger, left_open) = Ledger::open(directory, clock)?;
        let outbox = Self {
            encoder: Encoder::new(stamp),
            capacity,
            appended: watch::Sender::new(ledger.last()),
            ledger: Mutex::new(ledger),
            queues: Mutex::default(),
        };
        for sink in sinks {
            outbox.attach(sink);
        }
        if !left_open.is_empty() {
            log::warn!("the last run ended without stopping: {} open incidents end now", left_open.len());
        }
        for incident in left_open {
            outbox.append(incident.ended_by_restart(clock), None)?;
        }
        Ok(outbox)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<Name, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn freeze(&self, epoch: Uuid, seq: u64, event: &Event, latency: Option<Duration>) -> Arc<Stored> {
        let latency_ms = latency.map(|l| u64::try_from(l.as_millis()).unwrap_or(u64::MAX));
        let messages = self.encoder.freeze(epoch, seq, latency_ms, event).into_iter();
        let frozen = |(dialect, m): (String, crate::wire::Message)| Frozen {
            dialect,
            topic: m.topic,
            payload: m.payload.into(),
        };
        Arc::new(Stored {
            seq,
            camera: event.camera.clone(),
            severity: event.severity,
            messages: messages.map(frozen).collect(),
        })
    }
}

impl Outbox for MemoryOutbox {
    fn append(&self, event: Event, latency: Option<Duration>) -> Result<u64, OutboxError> {
        let mut ledger = self.ledger();
        let (epoch, seq) = ledger.number(&event)?;
        let stored = self.freeze(epoch, seq, &event, latency);
        for (sink, queue) in self.queues().iter_mut() {
            queue.push(sink, Arc::clone(&stored));
        }
        self.appended.send_replace(seq);
        ledger.produced(&event);
        Ok(seq)
    }

    fn attach(&self, sink: &Name) {
        self.queues().entry(sink.clone()).or_insert_with(|| Queue::new(self.capacity));
    }

    fn detach(&self, sink: &Name) {
        self.queues().remove(sink);
    }

    fn next(&self, sink: &Name, after: u64) -> Option<Arc<Stored>> {
        self.queues().get(sink)?.next(after)
    }

    fn ack(&self, sink: &Name, seq: u64) {
        if let Some(queue) = self.queues().get_mut(sink) {
            queue.remove(seq);
        }
    }

    fn depth(&self, sink: &Name) -> usize {
        self.queues().get(sink).map_or(0, Queue::len)
    }

    fn dropped(&self, sink: &Name) -> u64 {
        self.queues().get(sink).map_or(0, Queue::dropped)
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    fn epoch(&self) -> Uuid {
        self.ledger().epoch()
    }

    fn restamp(&self, stamp: Stamp) {
        self.encoder.restamp(stamp);
    }

    fn close(&self) {
        self.ledger().close();
    }
}

#[cfg(test)]
mod tests;
