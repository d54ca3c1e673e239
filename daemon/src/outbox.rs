//! Between the rules and the brokers: an event that [`Outbox::append`] answered for is produced, numbered and frozen
//! as bytes; it stays for every sink until that sink has acknowledged it. So does word of evidence
//! ([`Outbox::append_evidence`]), in the same numbers: wherever events are counted below, it counts as one.
//!
//! Owns: sequence numbers, the epoch, what is not delivered yet. Does not know: MQTT, topics' prefixes, cameras'
//! threads. Payloads are frozen once per dialect at `append` ([`crate::wire::Encoder`]); a sink picks those of the
//! dialects that it speaks, and adds prefix and node to the topic, which are no part of the payload.

pub mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;
use vedette_core::{CameraId, Event, Evidence, Mono, Name, Severity};

use crate::wire::Stamp;

pub use sqlite::{Limits, SqliteOutbox};

/// Why the outbox does not open, or an event is not produced.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The directory cannot be made or written.
    #[error(
        "state directory {path}: {source}; give the daemon's user write access to it, or name another with --state"
    )]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Somebody else has it open.
    #[error(
        "state directory {0} is in use by another vedette: stop that one, or name another directory with --state"
    )]
    InUse(PathBuf),
    /// The store cannot be opened or written.
    #[error(
        "event store {path}: {problem}; free space on that disk, give the daemon's user write access, or replace the disk"
    )]
    Store {
        /// Its file.
        path: PathBuf,
        /// What SQLite says.
        problem: String,
    },
    /// The store cannot be read.
    #[error("event store {path} cannot be read: {problem}; run this as the daemon's user or as root")]
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// What SQLite says.
        problem: String,
    },
    /// [`Outbox::close`] came first.
    #[error("the outbox is closed: the daemon stops")]
    Closed,
}

impl OutboxError {
    fn unreadable(path: &Path, error: &rusqlite::Error) -> Self {
        Self::Unreadable { path: path.to_owned(), problem: error.to_string() }
    }

    fn store(path: &Path, error: &rusqlite::Error) -> Self {
        Self::Store { path: path.to_owned(), problem: error.to_string() }
    }
}

/// One frozen message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The dialect it is written in: its [`crate::wire::Dialect::key`].
    pub dialect: String,
    /// Its topic below `<prefix>/<node>`.
    pub topic: String,
    /// Its bytes; the same at every re-send.
    pub payload: Bytes,
}

/// One produced event, or word of evidence.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number: grows from event to event within an epoch, over restarts too.
    pub seq: u64,
    /// The camera; none for events of the node. Order is kept per camera.
    pub camera: Option<CameraId>,
    /// How urgent it is: what a full outbox drops first.
    pub severity: Severity,
    /// Its kind; of evidence that of the event it is of. Empty where an earlier version of the program stored it.
    pub kind: String,
    /// One message for each dialect.
    pub messages: Vec<Frozen>,
    /// When its frame was captured; none of what was read back from the disk, and where the clocks cannot tell.
    pub captured: Option<Mono>,
}

impl PartialEq for Stored {
    /// What is on disk; `captured` is not.
    fn eq(&self, other: &Self) -> bool {
        let of = |stored: &Self| (stored.seq, stored.severity);
        of(self) == of(other)
            && (&self.camera, &self.kind, &self.messages) == (&other.camera, &other.kind, &other.messages)
    }
}

impl Eq for Stored {}

/// Where produced events wait for their sinks. No call waits for a sink; `append`, `attach` and `detach` wait for the
/// disk, so they are no calls for a task that serves sockets.
pub trait Outbox: Send + Sync {
    /// Produces an event: when this returns `Ok(seq)`, the event has its number and its bytes and is on disk for every
    /// attached sink, but for those whose bound had no room for anything of its severity: there it counts as dropped.
    /// `latency` is from capture to now; none where the clocks cannot tell. Waits for one commit, at most two.
    ///
    /// # Errors
    /// The event is not produced; the caller counts it as lost.
    fn append(&self, event: Event, latency: Option<Duration>) -> Result<u64, OutboxError>;

    /// Produces word of evidence, as [`Outbox::append`] does an event. Called once the file is complete and synced, and
    /// after the event that it is of was produced: each camera's order is that of the calls.
    ///
    /// # Errors
    /// As [`Outbox::append`].
    fn append_evidence(&self, evidence: Evidence) -> Result<u64, OutboxError>;

    /// From now on events are kept for `sink`; does nothing where it is attached already.
    fn attach(&self, sink: &Name);

    /// Drops what waits for `sink`, counted, and keeps nothing more for it.
    fn detach(&self, sink: &Name);

    /// The first event for `sink` with a number above `after` that it has not acknowledged.
    fn next(&self, sink: &Name, after: u64) -> Option<Arc<Stored>>;

    /// As [`Outbox::next`], of the events of one severity.
    fn next_of(&self, sink: &Name, severity: Severity, after: u64) -> Option<Arc<Stored>>;

    /// `sink` has delivered `seq`: it is not offered to it again, but for the last ones before a crash.
    fn ack(&self, sink: &Name, seq: u64);

    /// How many events wait for `sink`.
    fn depth(&self, sink: &Name) -> usize;

    /// How many events for `sink` were dropped since the store began: by its bound, for want of room, at
    /// [`Outbox::detach`], by hand. Survives restarts.
    fn dropped(&self, sink: &Name) -> u64;

    /// When the oldest event was stored that some sink has not acknowledged; none where all have all. A sink that
    /// acknowledged in the last seconds may still count as waiting.
    fn waiting_since(&self) -> Option<Timestamp>;

    /// Changes with every append: what a sink's task waits on. The value is the last number given.
    fn subscribe(&self) -> watch::Receiver<u64>;

    /// Whether the disk is full, so that only faults and alarms are produced: in the room that was kept for them.
    fn is_strained(&self) -> bool;

    /// The store's identity: consumers de-duplicate on (node, epoch, seq). Changes while the daemon runs only where a
    /// damaged store is replaced.
    fn epoch(&self) -> Uuid;

    /// Events from here on carry another configuration or model.
    fn restamp(&self, stamp: Stamp);

    /// Other bounds from here on. What waits above a lower one is dropped and counted, the oldest of the lowest severity
    /// first: soon, in parts between which events are appended, and the last few hundred with the next event. A file
    /// that is larger already does not shrink, it only grows no more.
    fn limit(&self, limits: Limits);

    /// No event comes after this; what is to survive is saved.
    fn close(&self);
}
