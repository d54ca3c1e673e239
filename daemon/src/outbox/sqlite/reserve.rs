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

/// See the module.
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    /// In `directory`, held where the disk has room for it. A file system that keeps no room for files has none.
    pub(super) fn new(directory: &Path) -> Self {
        let mut reserve = Self { path: directory.join(NAME), held: false };
        // What the last process held counts, however little is left beside it.
        reserve.held = reserve.path.exists() && allocate(&reserve.path).is_ok();
        reserve.hold();
        reserve
    }

    /// Holds it, where there is room for it and as much again; whether it is held then.
    pub(super) fn hold(&mut self) -> bool {
        if self.held {
            return true;
        }
        let free = statvfs(self.folder()).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize));
        self.held = free >= 2 * BYTES && allocate(&self.path).is_ok();
        if !self.held {
            // A part of it is of no use.
            let _ = fs::remove_file(&self.path);
        }
        self.held
    }

    /// Gives the room up for what is written next; false where it was not held.
    pub(super) fn release(&mut self) -> bool {
        let released = std::mem::take(&mut self.held) && fs::remove_file(&self.path).is_ok();
        // A journal has to take note before the blocks are anybody's.
        let _ = fs::File::open(self.folder()).and_then(|folder| folder.sync_all());
        released
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

fn allocate(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, BYTES) {
        // An interrupted one begins again.
        Err(Errno::INTR) => allocate(path),
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
        let mut reserve = Reserve::new(folder.path());
        assert_eq!(fs::metadata(&path).unwrap().len(), BYTES);
        assert!(reserve.release());
        assert!(!path.exists() && !reserve.release());
        assert!(reserve.hold() && path.exists());
        assert!(Reserve::new(folder.path()).release(), "the next process goes on with it");
    }

    #[test]
    fn where_there_is_no_place_for_it_there_is_none() {
        let mut reserve = Reserve::new(Path::new("/nonexistent/vedette"));
        assert!(!reserve.hold() && !reserve.release());
    }
}
