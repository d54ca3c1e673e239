//! What of the outbox survives the process: the epoch, the numbers that may have been given, the open incidents.
//!
//! Owns: `outbox.json`, `incidents.json` and `outbox.lock` in the state directory. Does not know: queues and sinks.
//! Numbers are reserved on disk in blocks before they are given; after a crash the next process goes on behind the
//! block, so that no number is given twice in an epoch.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vedette_core::{Clock, Event, Phase};

use super::incident::OpenIncident;
use crate::outbox::OutboxError;
use crate::state_file as file;

const NUMBERS: &str = "outbox.json";
const INCIDENTS: &str = "incidents.json";
const LOCK: &str = "outbox.lock";

/// Numbers reserved at a time: one fsync in a hundred events, at most a hundred numbers skipped by a crash.
const BLOCK: u64 = 100;

/// Open incidents kept; a thousand cameras' worth. Ids sort by time, so the oldest is forgotten first.
const OPEN_MAX: usize = 1000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    epoch: Uuid,
    reserved: u64,
}

pub(super) struct Ledger {
    directory: PathBuf,
    epoch: Uuid,
    last: u64,
    reserved: u64,
    open: BTreeMap<Uuid, OpenIncident>,
    /// Whether a file promises `epoch` to the next process.
    epoch_saved: bool,
    /// Whether the last attempt to save anything failed.
    unsaved: bool,
    closed: bool,
    /// Held open: the system drops the lock with the process, however that ends.
    _lock: File,
}

impl Ledger {
    /// Reads what is there; also the incidents that the last process left open.
    pub(super) fn open(
        directory: &Path,
        clock: &dyn Clock,
    ) -> Result<(Self, Vec<OpenIncident>), OutboxError> {
        let denied = |source| OutboxError::Directory { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(denied)?;
        let lock = File::create(directory.join(LOCK)).map_err(denied)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OutboxError::InUse(directory.to_owned())),
            Err(TryLockError::Error(error)) => return Err(denied(error)),
        }
        let now = clock.wall();
        let numbers: Option<Numbers> = file::read(directory, NUMBERS, now).map_err(denied)?;
        let incidents: Option<Vec<OpenIncident>> = file::read(directory, INCIDENTS, now).map_err(denied)?;
        let numbers = numbers.unwrap_or_else(|| Numbers { epoch: Uuid::new_v4(), reserved: 0 });
        // Also the proof, at start, that the directory can be written.
        file::replace(directory, NUMBERS, &numbers).map_err(denied)?;
        let incidents = incidents.unwrap_or_default();
        let ledger = Self {
            directory: directory.to_owned(),
            epoch: numbers.epoch,
            last: numbers.reserved,
            reserved: numbers.reserved,
            open: incidents.iter().map(|i| (i.id, i.clone())).collect(),
            epoch_saved: true,
            unsaved: false,
            closed: false,
            _lock: lock,
        };
        Ok((ledger, incidents))
    }

    pub(super) fn epoch(&self) -> Uuid {
        self.epoch
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The number of an event, and the epoch that it counts in; a `begin` is on disk when this returns.
    pub(super) fn number(&mut self, event: &Event) -> Result<(Uuid, u64), OutboxError> {
        if self.closed {
            return Err(OutboxError::Closed);
        }
        if self.last >= self.reserved {
            self.reserve();
        }
        self.last += 1;
        if matches!(event.phase, Phase::Begin | Phase::Update) {
            self.open.insert(event.id, OpenIncident::of(event));
            if self.open.len() > OPEN_MAX {
                self.open.pop_first();
            }
        }
        if event.phase == Phase::Begin {
            self.save_incidents();
        }
        Ok((self.epoch, self.last))
    }

    /// The event is queued: an incident that it ended needs no other end.
    pub(super) fn produced(&mut self, event: &Event) {
        if event.phase == Phase::End && self.open.remove(&event.id).is_some() {
            self.save_incidents();
        }
    }

    /// Gives back what was reserved and not given.
    pub(super) fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let result = self.save_numbers(self.last);
        self.report(&result);
        self.save_incidents();
    }

    /// On a disk that cannot be written the old file still promises numbers of the old epoch to the next process:
    /// events then count in an epoch that no file knows, so that no consumer takes a new alarm for an old one.
    fn reserve(&mut self) {
        let wanted = self.last + BLOCK;
        let mut result = self.save_numbers(wanted);
        if result.is_err() && self.epoch_saved {
            self.epoch = Uuid::new_v4();
            result = self.save_numbers(wanted);
        }
        self.epoch_saved = result.is_ok();
        self.reserved = wanted;
        self.report(&result);
    }

    fn save_numbers(&self, reserved: u64) -> io::Result<()> {
        file::replace(&self.directory, NUMBERS, &Numbers { epoch: self.epoch, reserved })
    }

    fn save_incidents(&mut self) {
        let open: Vec<_> = self.open.values().collect();
        let result = file::replace(&self.directory, INCIDENTS, &open);
        self.report(&result);
    }

    /// Says it once when saving begins to fail, and once when it works again.
    fn report(&mut self, result: &io::Result<()>) {
        let directory = self.directory.display();
        match result {
            Ok(()) if self.unsaved => log::info!("state directory {directory} can be written again"),
            Err(error) if !self.unsaved => log::error!(
                "state directory {directory}: {error}; events are still delivered, but incidents that are open \
                 at a crash will not be ended: free space or repair the disk"
            ),
            _ => {}
        }
        self.unsaved = result.is_err();
    }
}
