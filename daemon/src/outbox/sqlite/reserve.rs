//! Room on the disk that is kept for urgent events: a file that is given up when others have filled the disk.
//!
//! Owns: that file. Does not know: what is urgent, when the disk is full.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// Its file, beside the store.
pub(super) const NAME: &str = "outbox.reserve";

/// A thousand events and the log that they are written by.
const BYTES: u64 = 4 << 20;

/// Free bytes with which a store opens: its log and the index of that begin.
const OPENING: u64 = 1 << 20;

/// See the module.
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
    /// Whether it is not held for want of room.
    lacks_room: bool,
}

impl Reserve {
    /// As the last process left it in `directory`: held counts, however little is left beside it.
    pub(super) fn found(directory: &Path) -> Self {
        let mut reserve = Self { path: directory.join(NAME), held: false, lacks_room: false };
        if reserve.path.exists() {
            reserve.keep(&allocate(&reserve.path, BYTES));
        }
        reserve
    }

    /// Holds it, where there is room for it and as much again. A file system that keeps no room for files has none.
    pub(super) fn hold(&mut self) {
        if self.held {
            return;
        }
        if self.free().unwrap_or(0) >= 2 * BYTES {
            self.keep(&allocate(&self.path, BYTES));
        } else if !self.lacks_room {
            // One byte tells whether this file system would keep room at all.
            let probed = allocate(&self.path, 1).and(Err(io::ErrorKind::StorageFull.into()));
            self.keep(&probed);
        }
    }

    /// Gives it up where the disk has no room for a store to open. SQLite maps the index of its log into memory: where
    /// the disk has no block for a page of that, the kernel ends the process, and there is no error to act upon.
    pub(super) fn make_room(&mut self) {
        if self.free().is_some_and(|free| free < OPENING) {
            self.release();
        }
    }

    /// Whether it would be held if the disk had room for it.
    pub(super) fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    fn keep(&mut self, allocated: &io::Result<()>) {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        self.held = allocated.is_ok();
        self.lacks_room = allocated.as_ref().is_err_and(|e| matches!(e.kind(), StorageFull | QuotaExceeded));
        if !self.held {
            // A part of it is of no use.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives the room up for what is written next; false where it was not held.
    pub(super) fn release(&mut self) -> bool {
        let released = std::mem::take(&mut self.held) && fs::remove_file(&self.path).is_ok();
        // A journal has to take note before the blocks are anybody's.
        let _ = fs::File::open(self.folder()).and_then(|folder| folder.sync_all());
        released
    }

    /// Bytes; none where the system does not tell.
    fn free(&self) -> Option<u64> {
        let found = statvfs(self.folder()).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // An interrupted one begins again.
        Err(Errno::INTR) => allocate(path, bytes),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_released_and_held_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut reserve = Reserve::found(folder.path());
        assert!(!path.exists() && !reserve.release(), "whoever only looks leaves none behind");
        reserve.hold();
        assert_eq!(fs::metadata(&path).unwrap().len(), BYTES);
        assert!(reserve.release());
        assert!(!path.exists() && !reserve.release());
        reserve.hold();
        assert!(path.exists() && !reserve.lacks_room());
        assert!(Reserve::found(folder.path()).release(), "the next process goes on with it");
    }

    #[test]
    fn where_there_is_no_place_for_it_there_is_none() {
        let mut reserve = Reserve::found(Path::new("/nonexistent/vedette"));
        reserve.hold();
        assert!(!reserve.release());
        assert!(!reserve.lacks_room(), "no room is another fault than no place");
    }
}
