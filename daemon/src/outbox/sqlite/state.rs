//! What of the store is kept in memory: for each sink its counts, a window of its next events, and what it has
//! acknowledged and the store has not deleted yet.
//!
//! Owns: answers to sinks. Does not know: when the store is written. Held under one lock, never while a commit runs,
//! so that a sink waits for at most one page of reading. Memory does not grow with what waits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use uuid::Uuid;
use vedette_core::{Name, Severity};

use super::rows::{self, Hints};
use super::schema::{Content, SinkRow};
use crate::outbox::Stored;

/// Events read at once, and kept for a sink that does not take them, twice over.
const PAGE: usize = 64;

/// Acknowledged deliveries of one sink that are deleted at once. More in one commit saves nothing that shows; a
/// crash lets so many be delivered twice.
pub(super) const LOT: usize = 128;

/// See the module.
pub(super) struct State {
    pub(super) epoch: Uuid,
    /// The last number given and committed.
    pub(super) last: u64,
    pub(super) sinks: BTreeMap<Name, Sink>,
    /// See [`crate::outbox::Outbox::is_strained`].
    pub(super) strained: bool,
    /// Reads beside the writer. None only while a damaged store is replaced.
    pub(super) reader: Option<Connection>,
    /// Closed after the connections: the writer's ends with its thread, the reader's field is dropped before this one.
    index: Option<File>,
}

/// One sink.
#[derive(Debug, Default)]
pub(super) struct Sink {
    /// Whether events are kept for it.
    pub(super) attached: bool,
    /// Events that wait: stored and neither acknowledged nor given up.
    pub(super) depth: usize,
    /// Given up since the store began.
    pub(super) dropped: u64,
    /// Deliveries up to here are given up.
    pub(super) floor: u64,
    /// Whether some of those still lie in the store.
    pub(super) garbage: bool,
    /// Acknowledged, not deleted.
    pub(super) acked: BTreeSet<u64>,
    /// Where to look for what is given up next.
    pub(super) hints: Hints,
    /// Whether the store knows less than this.
    pub(super) unsaved: bool,
    /// Said once a flood: until the sink is well below its bound again.
    pub(super) complained: bool,
    windows: Windows,
}

/// What was asked for: one of all events, one of a severity's.
type Windows = BTreeMap<Option<Severity>, Window>;

/// Every event that waits for a sink, of one severity or of all, with a number above `from` and up to `to`.
#[derive(Debug, Default)]
struct Window {
    from: u64,
    to: u64,
    rows: BTreeMap<u64, Arc<Stored>>,
}

/// What the writer is to be told after an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acked {
    /// Nothing.
    Quiet,
    /// Something is to be deleted when there is time.
    First,
    /// A lot is full.
    Lot,
}

/// The lock; a panic while it was held leaves counts that the next start puts right.
pub(super) fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Of a store that was just opened.
    pub(super) fn new(content: &Content, reader: Connection, index: Option<File>) -> Self {
        let sinks = content.sinks.iter().map(|row| (row.name.clone(), Sink::of(row))).collect();
        Self { epoch: content.epoch, last: content.last, sinks, strained: false, reader: Some(reader), index }
    }

    /// See [`crate::outbox::Outbox::next`] and [`crate::outbox::Outbox::next_of`].
    pub(super) fn next(
        &mut self,
        name: &Name,
        of: Option<Severity>,
        after: u64,
    ) -> rusqlite::Result<Option<Arc<Stored>>> {
        let Self { last, sinks, reader, .. } = self;
        let Some(sink) = sinks.get_mut(name).filter(|s| s.attached) else { return Ok(None) };
        if sink.depth == 0 {
            // What comes is kept in memory for who asked.
            sink.windows.entry(of).or_insert_with(|| Window { from: *last, to: *last, ..Window::default() });
            return Ok(None);
        }
        let after = after.max(sink.floor);
        let window = sink.windows.entry(of).or_default();
        if after < window.from || after > window.to {
            *window = Window { from: after, to: after, rows: BTreeMap::new() };
        }
        loop {
            let found = window.rows.range(after.saturating_add(1)..).next();
            if let Some((_, stored)) = found {
                return Ok(Some(Arc::clone(stored)));
            }
            if window.to >= *last {
                return Ok(None);
            }
            let Some(reader) = reader else { return Ok(None) };
            // What was passed by makes room for what comes.
            *window = Window { from: after, to: window.to, rows: BTreeMap::new() };
            let page = rows::page(reader, name, of, (window.to, *last), PAGE)?;
            window.to = if page.len() < PAGE { *last } else { page.last().map_or(*last, |s| s.seq) };
            let waiting = page.into_iter().filter(|s| !sink.acked.contains(&s.seq));
            window.rows.extend(waiting.map(|s| (s.seq, Arc::new(s))));
        }
    }

    /// See [`crate::outbox::Outbox::ack`].
    pub(super) fn ack(&mut self, name: &Name, seq: u64) -> rusqlite::Result<Acked> {
        let Self { last, sinks, reader, .. } = self;
        let Some(sink) = sinks.get_mut(name).filter(|s| s.attached) else { return Ok(Acked::Quiet) };
        if seq > *last || seq <= sink.floor || sink.acked.contains(&seq) {
            return Ok(Acked::Quiet);
        }
        if !sink.remove(seq) {
            let waits = reader.as_ref().map_or(Ok(false), |reader| rows::waits(reader, name, seq))?;
            if !waits {
                return Ok(Acked::Quiet);
            }
        }
        sink.depth = sink.depth.saturating_sub(1);
        sink.acked.insert(seq);
        Ok(match sink.acked.len() {
            1 => Acked::First,
            n if n % LOT == 0 => Acked::Lot,
            _ => Acked::Quiet,
        })
    }

    /// Keeps events for `name` from here on.
    pub(super) fn attach(&mut self, name: &Name) {
        let last = self.last;
        let sink = self.sinks.entry(name.clone()).or_default();
        if !sink.attached {
            (sink.attached, sink.floor, sink.unsaved) = (true, last, true);
            sink.hints = [last + 1; 5];
        }
    }

    /// Gives up what waits for `name` and keeps nothing more for it.
    pub(super) fn detach(&mut self, name: &Name) {
        let last = self.last;
        let Some(sink) = self.sinks.get_mut(name).filter(|s| s.attached) else { return };
        sink.attached = false;
        let waited = sink.drop_all(last);
        if waited > 0 {
            log::warn!(
                broker = name.as_str();
                "broker {name} is gone from the configuration: {waited} events that waited for it are dropped"
            );
        }
    }

    /// A new store has taken the damaged one's place, whose connections are closed.
    pub(super) fn begin_anew(&mut self, epoch: Uuid, reader: Connection, index: Option<File>) {
        (self.epoch, self.reader, self.index) = (epoch, Some(reader), index);
        self.sinks.values_mut().for_each(Sink::forget);
    }
}

impl Window {
    /// An event was numbered that does not belong here.
    fn pass(&mut self, seq: u64, before: u64) {
        if self.to >= before {
            self.to = seq;
        }
    }
}

impl Sink {
    fn of(row: &SinkRow) -> Self {
        Self {
            attached: row.attached,
            depth: usize::try_from(row.waiting).unwrap_or(usize::MAX),
            dropped: row.dropped,
            floor: row.floor,
            garbage: row.garbage,
            hints: [row.floor + 1; 5],
            ..Self::default()
        }
    }

    /// An event was stored for this sink; `before` is the number before it, as far as this window may know.
    pub(super) fn push(&mut self, stored: &Arc<Stored>, before: u64) {
        self.depth += 1;
        for (of, window) in &mut self.windows {
            if of.is_some_and(|severity| severity != stored.severity) {
                window.pass(stored.seq, before);
            } else if window.to >= before && window.rows.len() < 2 * PAGE {
                window.to = stored.seq;
                window.rows.insert(stored.seq, Arc::clone(stored));
            }
        }
    }

    /// An event was numbered that is not for this sink.
    pub(super) fn pass(&mut self, seq: u64, before: u64) {
        self.windows.values_mut().for_each(|window| window.pass(seq, before));
    }

    /// Takes it out of memory; whether it was there.
    fn remove(&mut self, seq: u64) -> bool {
        // All of them: it may stand in two.
        self.windows.values_mut().filter_map(|window| window.rows.remove(&seq)).count() > 0
    }

    /// A delivery was given up. One that was acknowledged meanwhile is delivered, not dropped.
    pub(super) fn drop_one(&mut self, seq: u64) {
        self.remove(seq);
        if self.acked.remove(&seq) {
            self.unsaved = true;
            return;
        }
        self.depth = self.depth.saturating_sub(1);
        self.dropped += 1;
    }

    /// Gives up all that waits, up to `last`; how many that were.
    fn drop_all(&mut self, last: u64) -> u64 {
        let waited = self.depth as u64;
        self.dropped += waited;
        self.garbage |= waited > 0 || !self.acked.is_empty();
        (self.depth, self.floor, self.unsaved) = (0, last, true);
        self.hints = [last + 1; 5];
        self.acked.clear();
        self.windows.clear();
        waited
    }

    /// Nothing of it is stored any more: its store is gone.
    fn forget(&mut self) {
        let waited = self.depth as u64;
        self.dropped += waited;
        (self.depth, self.garbage, self.unsaved) = (0, false, true);
        self.acked.clear();
        self.windows.clear();
    }
}
