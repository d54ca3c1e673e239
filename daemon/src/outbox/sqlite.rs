//! The outbox in SQLite: an event is produced when it is on disk, and leaves with its last delivery.
//!
//! Owns: opening, and the calls of [`Outbox`]. Does not know: how sinks deliver. One thread writes (`writer`); sinks are
//! answered from memory (`state`), which reads beside the writer. The write-ahead log is synced with every commit, so
//! that neither a crash nor a power cut takes back what `append` has answered; what a sink acknowledged in the last
//! seconds may be offered to it again, byte-equal.

mod commit;
mod file;
mod incident;
mod messages;
mod reserve;
mod rows;
mod schema;
mod state;
pub mod status;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;
use vedette_core::{Clock, Event, Evidence, Name, Severity};

use self::file::Opened;
use self::incident::OpenIncident;
use self::reserve::Reserve;
use self::state::{Acked, State, locked};
use self::writer::{Append, Job, Writer};
use super::{Outbox, OutboxError, Stored};
use crate::wire::{Encoder, Notice, Stamp};

/// How much the store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events kept for each sink. Default: 100,000, ten days of eight busy cameras.
    pub events: usize,
    /// Pages of 4 KiB in the file; the write-ahead log beside it takes 8 MiB at most once the store is at rest.
    /// Default: 65,536, which is 256 MiB.
    pub pages: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 100_000, pages: 65_536 }
    }
}

/// See the module. Dropping it without [`Outbox::close`] loses nothing but the last acknowledgements.
pub struct SqliteOutbox {
    encoder: Arc<Encoder>,
    state: Arc<Mutex<State>>,
    /// None once the writer is asked to end by nobody being left to ask.
    jobs: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    appended: watch::Receiver<u64>,
    /// Held open: the system drops the lock with the process, however that ends. The last field: dropped last.
    _lock: File,
}

impl SqliteOutbox {
    /// Opens the store in `directory` (both are made if they are not there) and ends the incidents that the last
    /// process left open. `stamp.epoch` is replaced by the store's own. `sinks` are attached before anything is
    /// appended; what waits for others is dropped and counted.
    ///
    /// # Errors
    /// The directory cannot be used or is in use. A damaged store in it is set aside instead, and a new epoch begins.
    pub fn open(
        directory: &Path,
        stamp: Stamp,
        sinks: &[Name],
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, OutboxError> {
        Self::with_limits(directory, stamp, sinks, clock, Limits::default())
    }

    /// As [`SqliteOutbox::open`], within other limits.
    ///
    /// # Errors
    /// As [`SqliteOutbox::open`].
    pub fn with_limits(
        directory: &Path,
        stamp: Stamp,
        sinks: &[Name],
        clock: &Arc<dyn Clock>,
        limits: Limits,
    ) -> Result<Self, OutboxError> {
        let lock = file::lock(directory)?;
        let mut reserve = Reserve::found(directory);
        let Opened { writer: connection, reader, index, content } =
            file::open(directory, limits.pages, clock.wall(), &mut reserve)?;
        let mut state = State::new(&content, reader, index);
        let gone: Vec<_> = state.sinks.keys().filter(|name| !sinks.contains(name)).cloned().collect();
        gone.iter().for_each(|name| state.detach(name));
        sinks.iter().for_each(|name| state.attach(name));
        let appended = watch::Sender::new(state.last);
        let (encoder, state) = (Arc::new(Encoder::new(stamp)), Arc::new(Mutex::new(state)));
        let subscriber = appended.subscribe();
        let mut writer = Writer {
            directory: directory.to_owned(),
            limits,
            clock: Arc::clone(clock),
            encoder: Arc::clone(&encoder),
            state: Arc::clone(&state),
            appended,
            connection: Some(connection),
            open: content.incidents.iter().map(|i| (i.id, i.clone())).collect(),
            owed: Vec::new(),
            failing: false,
            behind: false,
            reserve,
        };
        writer.reserve();
        // Also the proof, at start, that the store can be written.
        writer.begin()?;
        let (jobs, work) = unbounded();
        let thread = std::thread::Builder::new().name("outbox".to_owned()).spawn(move || writer.run(&work));
        let thread =
            thread.map_err(|source| OutboxError::Directory { path: directory.to_owned(), source })?;
        let (jobs, writer) = (Some(jobs), Some(thread));
        let outbox = Self { encoder, state, jobs, writer, appended: subscriber, _lock: lock };
        outbox.end_incidents(content.incidents, &**clock)?;
        Ok(outbox)
    }

    /// Those that the last process left open; all at once, so that they share commits.
    fn end_incidents(&self, incidents: Vec<OpenIncident>, clock: &dyn Clock) -> Result<(), OutboxError> {
        if !incidents.is_empty() {
            log::warn!("the last run ended without stopping: {} open incidents end now", incidents.len());
        }
        let ends = incidents.into_iter().map(|incident| incident.ended_by_restart(clock));
        let answers: Vec<_> = ends.map(|end| self.submit(Notice::Event(end), None)).collect();
        for answer in answers {
            if let Err(error @ OutboxError::Store { .. }) = answer?.recv().unwrap_or(Err(OutboxError::Closed))
            {
                // It stays open in the store: the next start tries again.
                log::error!("an incident that was left open is not ended: {error}");
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Asks the writer; false where it works no more.
    fn ask(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// Asks the writer and waits until it has done so.
    fn ask_and_wait(&self, job: impl FnOnce(Sender<()>) -> Job) {
        let (done, wait) = bounded(1);
        if self.ask(job(done)) {
            // An error means that it works no more, which is done as well.
            let _ = wait.recv();
        }
    }

    fn submit(
        &self,
        notice: Notice,
        latency: Option<Duration>,
    ) -> Result<Receiver<Result<u64, OutboxError>>, OutboxError> {
        let (reply, answer) = bounded(1);
        let append = Box::new(Append { notice, latency, reply });
        if self.ask(Job::Append(append)) { Ok(answer) } else { Err(OutboxError::Closed) }
    }

    fn next_in(&self, sink: &Name, of: Option<Severity>, after: u64) -> Option<Arc<Stored>> {
        let (epoch, next) = {
            let mut state = self.state();
            (state.epoch, state.next(sink, of, after))
        };
        next.unwrap_or_else(|error| {
            self.unreadable(sink, epoch, &error);
            None
        })
    }

    /// A sink gets nothing from a store that cannot be read; a damaged one is replaced.
    fn unreadable(&self, sink: &Name, epoch: Uuid, error: &rusqlite::Error) {
        if file::is_damage(error) {
            self.ask(Job::Damaged { epoch, damage: error.to_string() });
        } else {
            log::error!(broker = sink.as_str(); "broker {sink}: the event store cannot be read: {error}");
        }
    }
}

impl Outbox for SqliteOutbox {
    fn append(&self, event: Event, latency: Option<Duration>) -> Result<u64, OutboxError> {
        self.submit(Notice::Event(event), latency)?.recv().unwrap_or(Err(OutboxError::Closed))
    }

    fn append_evidence(&self, evidence: Evidence) -> Result<u64, OutboxError> {
        self.submit(Notice::Evidence(evidence), None)?.recv().unwrap_or(Err(OutboxError::Closed))
    }

    fn attach(&self, sink: &Name) {
        if !self.state().sinks.get(sink).is_some_and(|s| s.attached) {
            self.ask_and_wait(|done| Job::Attach(sink.clone(), done));
        }
    }

    fn detach(&self, sink: &Name) {
        self.ask_and_wait(|done| Job::Detach(sink.clone(), done));
    }

    fn next(&self, sink: &Name, after: u64) -> Option<Arc<Stored>> {
        self.next_in(sink, None, after)
    }

    fn next_of(&self, sink: &Name, severity: Severity, after: u64) -> Option<Arc<Stored>> {
        self.next_in(sink, Some(severity), after)
    }

    fn ack(&self, sink: &Name, seq: u64) {
        let (epoch, acked) = {
            let mut state = self.state();
            (state.epoch, state.ack(sink, seq))
        };
        match acked {
            Ok(Acked::Quiet) => {}
            Ok(Acked::First) => drop(self.ask(Job::Acked { now: false })),
            Ok(Acked::Lot) => drop(self.ask(Job::Acked { now: true })),
            Err(error) => self.unreadable(sink, epoch, &error),
        }
    }

    fn depth(&self, sink: &Name) -> usize {
        self.state().sinks.get(sink).map_or(0, |s| s.depth)
    }

    fn dropped(&self, sink: &Name) -> u64 {
        self.state().sinks.get(sink).map_or(0, |s| s.dropped)
    }

    fn waiting_since(&self) -> Option<Timestamp> {
        let state = self.state();
        let (sink, epoch) = (state.sinks.keys().next().cloned(), state.epoch);
        let since = state.reader.as_ref().map_or(Ok(None), rows::waiting_since);
        drop(state);
        since.unwrap_or_else(|error| {
            // As where a sink finds the damage.
            self.unreadable(&sink?, epoch, &error);
            None
        })
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        let mut appended = self.appended.clone();
        appended.mark_unchanged();
        appended
    }

    fn is_strained(&self) -> bool {
        self.state().strained
    }

    fn epoch(&self) -> Uuid {
        self.state().epoch
    }

    fn restamp(&self, stamp: Stamp) {
        self.encoder.restamp(stamp);
    }

    fn limit(&self, limits: Limits) {
        self.ask_and_wait(|done| Job::Limit(limits, done));
    }

    fn close(&self) {
        self.ask_and_wait(Job::Close);
    }
}

impl Drop for SqliteOutbox {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // A panic there was said when it happened.
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests;
