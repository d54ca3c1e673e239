//! The one thread that writes the store: group commit, deletions, what to do when the disk does not follow.
//!
//! Owns: the order of writing, numbers, open incidents. Does not know: how sinks deliver. A group is whatever arrived
//! while the last commit ran, so that a lone event waits for nobody and many share one sync of the disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select};
use rusqlite::Connection;
use tokio::sync::watch;
use uuid::Uuid;
use vedette_core::{Clock, Mono, Name, Phase, Severity};

use super::commit::{self, IncidentChange, Work};
use super::file::{self, Opened};
use super::incident::OpenIncident;
use super::reserve::Reserve;
use super::state::{State, locked};
use super::{Limits, rows};
use crate::outbox::{Frozen, OutboxError, Stored};
use crate::wire::{Encoder, Message, Notice};

/// Events in one commit.
const GROUP: usize = 16;

/// How long a few acknowledgements wait for more before they are deleted: what a crash lets a sink get twice.
const SWEEP_AFTER: Duration = Duration::from_secs(5);

/// Deliveries given up at once when the file is full.
const SHED: usize = 64;

/// A file this close to its bound, in pages, is full because of the bound and not because of the disk.
const NEAR_BOUND: u64 = 256;

/// Open incidents kept; a thousand cameras' worth. Ids sort by time, so the oldest is forgotten first.
const OPEN_MAX: usize = 1000;

/// What is said of a full disk.
const FULL: &str =
    "the disk is full: only faults and alarms are stored now, in what is left of it; free space on that disk";

/// What the writer is asked.
pub(super) enum Job {
    /// Produce it.
    Append(Box<Append>),
    /// Keep events for a sink from here on.
    Attach(Name, Sender<()>),
    /// Give up what waits for a sink.
    Detach(Name, Sender<()>),
    /// Something was acknowledged; now, or in a while, it is to be deleted.
    Acked { now: bool },
    /// A sink found the store of that epoch damaged.
    Damaged { epoch: Uuid, damage: String },
    /// Other bounds from here on.
    Limit(Limits, Sender<()>),
    /// Delete, tidy up, end.
    Close(Sender<()>),
}

/// What is on its way into the store.
pub(super) struct Append {
    pub(super) notice: Notice,
    pub(super) latency: Option<Duration>,
    pub(super) reply: Sender<Result<u64, OutboxError>>,
}

/// See the module.
pub(super) struct Writer {
    pub(super) directory: PathBuf,
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) encoder: Arc<Encoder>,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) appended: watch::Sender<u64>,
    /// None where a damaged store could not be replaced yet.
    pub(super) connection: Option<Connection>,
    pub(super) open: BTreeMap<Uuid, OpenIncident>,
    /// Changes to incidents that the store does not know yet.
    pub(super) owed: Vec<IncidentChange>,
    /// Whether the last attempt to write failed.
    pub(super) failing: bool,
    /// Whether the last sweep left something to delete or to give up at once.
    pub(super) behind: bool,
    /// Given up for what is urgent when the disk is full.
    pub(super) reserve: Reserve,
}

impl Writer {
    /// Works until [`Job::Close`], or until nobody can ask any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut sweep = after(Duration::ZERO);
        let mut next = None;
        loop {
            let job = match next.take() {
                Some(job) => job,
                None => select! {
                    recv(jobs) -> job => match job {
                        Ok(job) => job,
                        Err(_) => return,
                    },
                    recv(sweep) -> _ => {
                        sweep = self.sweep().map_or_else(never, after);
                        continue;
                    }
                },
            };
            match job {
                Job::Append(first) => {
                    let before = locked(&self.state).strained;
                    next = self.produce_group(first, jobs);
                    if locked(&self.state).strained && !before {
                        // Without another event, too, somebody has to see that there is room again.
                        sweep = after(SWEEP_AFTER);
                    }
                }
                Job::Attach(sink, done) => sweep = self.change(&done, |state| state.attach(&sink)),
                Job::Detach(sink, done) => sweep = self.change(&done, |state| state.detach(&sink)),
                Job::Acked { now } if now || self.behind => sweep = after(Duration::ZERO),
                Job::Acked { .. } => sweep = after(SWEEP_AFTER),
                Job::Damaged { epoch, damage } => {
                    // Several may have found the same; only the first word counts.
                    if locked(&self.state).epoch == epoch {
                        self.replace(&damage);
                    }
                }
                Job::Limit(limits, done) => sweep = self.limit(limits, &done),
                Job::Close(done) => return self.close(&done),
            }
        }
    }

    /// Produces `first` and what else has arrived; the job behind them, which is no event.
    fn produce_group(&mut self, first: Box<Append>, jobs: &Receiver<Job>) -> Option<Job> {
        let mut group = vec![*first];
        let mut next = None;
        while group.len() < GROUP && next.is_none() {
            match jobs.try_recv() {
                Ok(Job::Append(more)) => group.push(*more),
                Ok(other) => next = Some(other),
                Err(_) => break,
            }
        }
        let group = self.admitted(group);
        if group.is_empty() {
            return next;
        }
        let produced = self.produce(&group);
        for (at, append) in (0..).zip(group) {
            let answer = match &produced {
                Ok(first) => Ok(first + at),
                Err(problem) => Err(OutboxError::Store { path: self.path(), problem: problem.clone() }),
            };
            // A caller that does not wait for its answer needs none.
            let _ = append.reply.send(answer);
        }
        next
    }

    /// Of a group, what is produced as far as the disk goes; the rest is answered. All, but on a full disk: there what
    /// is left is kept for what is urgent.
    fn admitted(&mut self, group: Vec<Append>) -> Vec<Append> {
        if !self.strains() {
            return group;
        }
        let (urgent, others): (Vec<_>, Vec<_>) = group.into_iter().partition(is_urgent);
        for append in others {
            let problem = "the disk is full, what is left is kept for faults and alarms".to_owned();
            // Whoever does not wait for the answer needs none.
            let _ = append.reply.send(Err(OutboxError::Store { path: self.path(), problem }));
        }
        urgent
    }

    /// Whether the disk is still full; takes the reserve where it is not.
    fn strains(&mut self) -> bool {
        if !locked(&self.state).strained {
            return false;
        }
        self.reserve();
        locked(&self.state).strained
    }

    /// Takes the reserve where there is room for it; where there is none, what is left of the disk is for what is urgent.
    pub(super) fn reserve(&mut self) {
        self.reserve.hold();
        let full = self.reserve.lacks_room();
        let was_full = std::mem::replace(&mut locked(&self.state).strained, full);
        let path = self.path().display().to_string();
        match (was_full, full) {
            (false, true) => log::error!("event store {path}: {FULL}"),
            (true, false) => log::info!("event store {path}: the disk has room again, every event is stored"),
            _ => {}
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(file::NAME)
    }

    /// Stores a group, giving up what is least urgent where there is no room; the first number.
    fn produce(&mut self, group: &[Append]) -> Result<u64, String> {
        let (mut shed, mut replaced) = (0, false);
        loop {
            let (first, events) = self.freeze(group);
            let who: Vec<_> = group.iter().map(|append| self.encoder.uninterested(&append.notice)).collect();
            let work =
                Work { events: &events, uninterested: &who, shed, sweep: shed > 0, ..self.work(group) };
            let error = match self.write(&work) {
                Ok(_) => {
                    self.remember(group);
                    self.appended.send_replace(first + group.len() as u64 - 1);
                    return Ok(first);
                }
                Err(error) => error,
            };
            let problem = error.to_string();
            if file::is_full(&error) && self.more_room(group, &mut shed) {
                continue;
            }
            if file::is_damage(&error) && !std::mem::replace(&mut replaced, true) {
                self.replace(&problem);
                continue;
            }
            return Err(problem);
        }
    }

    /// Work for a group, but for its events.
    fn work(&self, group: &[Append]) -> Work<'static> {
        let mut incidents = self.owed.clone();
        for event in group.iter().filter_map(|append| append.notice.event()) {
            match event.phase {
                Phase::Begin | Phase::Update => {
                    incidents.push(IncidentChange::Open(Box::new(OpenIncident::of(event))));
                }
                Phase::End => incidents.push(IncidentChange::Ended(event.id)),
                Phase::Once => {}
            }
        }
        let at = self.clock.wall().as_millisecond();
        Work { incidents, at, capacity: self.limits.events, ..Work::default() }
    }

    /// A group was stored.
    fn remember(&mut self, group: &[Append]) {
        self.owed.clear();
        for event in group.iter().filter_map(|append| append.notice.event()) {
            match event.phase {
                Phase::Begin | Phase::Update => drop(self.open.insert(event.id, OpenIncident::of(event))),
                Phase::End => drop(self.open.remove(&event.id)),
                Phase::Once => {}
            }
        }
        while self.open.len() > OPEN_MAX {
            let forgotten = self.open.pop_first().map(|(id, _)| IncidentChange::Ended(id));
            self.owed.extend(forgotten);
        }
    }

    /// Gives a group its numbers and its bytes.
    fn freeze(&self, group: &[Append]) -> (u64, Vec<Arc<Stored>>) {
        let (epoch, first) = {
            let state = locked(&self.state);
            (state.epoch, state.last + 1)
        };
        let now = self.clock.now();
        let freeze = |(seq, Append { notice, latency, .. }): (u64, &Append)| {
            let latency_ms = latency.map(|l| u64::try_from(l.as_millis()).unwrap_or(u64::MAX));
            let messages = self.encoder.freeze(epoch, seq, latency_ms, notice).into_iter();
            let frozen = |(dialect, Message { topic, payload, .. }): (String, Message)| Frozen {
                dialect,
                topic,
                payload: payload.into(),
            };
            let (camera, severity) = (notice.camera().cloned(), notice.severity());
            let captured = latency.and_then(|latency| now.0.checked_sub(latency)).map(Mono);
            let kind = notice.event_kind().to_owned();
            let messages = messages.map(frozen).collect();
            Arc::new(Stored { seq, camera, severity, kind, messages, captured })
        };
        (first, (first..).zip(group).map(freeze).collect())
    }

    /// One transaction, and what of it the memory is to know; whether something is still to be deleted or given up.
    fn write(&mut self, work: &Work<'_>) -> rusqlite::Result<bool> {
        let result = self.write_once(work);
        self.report(&result);
        result
    }

    fn write_once(&mut self, work: &Work<'_>) -> rusqlite::Result<bool> {
        let missing =
            || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB), None);
        let connection = self.connection.as_mut().ok_or_else(missing)?;
        let committed = commit::commit(connection, &self.state, work)?;
        let left = committed.leaves_work();
        committed.publish(&mut locked(&self.state), work);
        Ok(left)
    }

    /// Whether another attempt may find room: on a disk that others have filled, in the reserve, for what is urgent. Else
    /// after the log of the store has been emptied and what is least urgent given up with it, in the same transaction,
    /// so that nothing is given up in vain. A file at its bound takes as many attempts as it needs; a disk that is full
    /// gets one.
    fn more_room(&mut self, group: &[Append], shed: &mut usize) -> bool {
        if !self.is_at_bound() && group.iter().any(is_urgent) && self.reserve.release() {
            locked(&self.state).strained = true;
            log::error!("event store {}: {FULL}", self.path().display());
            return true;
        }
        let waiting: usize = locked(&self.state).sinks.values().map(|s| s.depth).sum();
        if *shed == 0 {
            let emptied = |c: &Connection| c.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
            // Where it cannot be emptied the attempt tells.
            let _ = self.connection.as_ref().map(emptied);
            *shed = SHED;
            return true;
        }
        let more = self.is_at_bound() && *shed < waiting;
        *shed = shed.saturating_mul(2);
        more
    }

    /// Says it once when writing begins to fail, and once when it works again.
    fn report(&mut self, result: &rusqlite::Result<bool>) {
        let path = self.path();
        let path = path.display();
        match result {
            Ok(_) if self.failing => log::info!("event store {path} can be written again"),
            // At the bound somebody gives way; it is said where that is counted.
            Err(error) if file::is_full(error) && self.is_at_bound() => return,
            Err(error) if !self.failing => {
                log::error!(
                    "event store {path} cannot be written: {error}; free space on that disk, or replace it"
                );
            }
            _ => {}
        }
        self.failing = result.is_err();
    }

    fn is_at_bound(&self) -> bool {
        self.connection.as_ref().is_some_and(|c| rows::pages(c).is_ok_and(|p| p.count + NEAR_BOUND >= p.max))
    }

    /// The first transaction with this store: who is attached and who is gone.
    pub(super) fn begin(&mut self) -> Result<(), OutboxError> {
        match self.write(&Work { sweep: true, ..self.work(&[]) }) {
            Err(error) if file::is_damage(&error) => self.replace(&error.to_string()),
            Err(error) if !file::is_full(&error) => return Err(OutboxError::store(&self.path(), &error)),
            _ => {}
        }
        Ok(())
    }

    /// Deletes what was acknowledged and a part of what was given up, gives up a part of what is above a lowered bound;
    /// when to go on with what is left.
    fn sweep(&mut self) -> Option<Duration> {
        self.reserve();
        let strained = locked(&self.state).strained;
        self.clean().or(strained.then_some(SWEEP_AFTER))
    }

    fn clean(&mut self) -> Option<Duration> {
        let work = Work { sweep: true, ..self.work(&[]) };
        match self.write(&work) {
            Ok(left) => {
                self.owed.clear();
                self.behind = left;
                let acked_since = || locked(&self.state).sinks.values().any(|sink| !sink.acked.is_empty());
                if left { Some(Duration::ZERO) } else { acked_since().then_some(SWEEP_AFTER) }
            }
            Err(error) if file::is_damage(&error) => {
                self.replace(&error.to_string());
                None
            }
            Err(_) => Some(SWEEP_AFTER),
        }
    }

    fn limit(&mut self, limits: Limits, done: &Sender<()>) -> Receiver<Instant> {
        self.limits = limits;
        let refused = self.connection.as_ref().and_then(|c| file::bound(c, limits.pages).err());
        if let Some(error) = refused {
            log::error!("event store {}: its size cannot be bounded anew: {error}", self.path().display());
        }
        self.change(done, |_| {})
    }

    /// Changes what sinks there are, for whoever waits for `done`; when to go on with what that leaves to delete.
    fn change(&mut self, done: &Sender<()>, change: impl FnOnce(&mut State)) -> Receiver<Instant> {
        change(&mut locked(&self.state));
        // Where the store does not take it now, the next event brings it along.
        let next = self.sweep().map_or_else(never, after);
        let _ = done.send(());
        next
    }

    /// Sets the store aside and goes on with a new one, in a new epoch, behind the last number.
    fn replace(&mut self, damage: &str) {
        if let Some(connection) = self.connection.take() {
            // Where it cannot be kept there is a little less to look into later.
            let _ = file::keep_log(&connection, true);
        }
        locked(&self.state).reader = None;
        let now = self.clock.wall();
        let path = self.path();
        match file::set_aside(&self.directory, now) {
            Ok(aside) => log::warn!(
                "event store {} is damaged ({damage}): set aside as {aside}, a new one with a new epoch begins; \
                 events that waited in it are not delivered",
                path.display()
            ),
            // Not there any more: whoever took it away knows.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => log::error!("event store {}: cannot be set aside: {error}", path.display()),
        }
        match file::open(&self.directory, self.limits.pages, now, &mut self.reserve) {
            Ok(Opened { writer, reader, index, content }) => {
                self.connection = Some(writer);
                self.owed = self.open.values().map(|i| IncidentChange::Open(Box::new(i.clone()))).collect();
                locked(&self.state).begin_anew(content.epoch, reader, index);
            }
            Err(error) => log::error!("{error}"),
        }
    }

    fn close(mut self, done: &Sender<()>) {
        self.sweep();
        locked(&self.state).reader = None;
        if let Some(connection) = self.connection.take() {
            // The last connection empties the log and deletes it.
            let _ = connection.close();
        }
        let _ = done.send(());
    }
}

/// Whether the reserve is for it.
fn is_urgent(append: &Append) -> bool {
    append.notice.severity() >= Severity::Fault
}
