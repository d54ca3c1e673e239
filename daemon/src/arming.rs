//! Rules that somebody armed or disarmed while the daemon ran: what was said last holds, over restarts too.
//!
//! Owns: these overrides and their file. Does not know: who asked, schedules (a rule that is armed reports within its
//! schedule only).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use vedette_core::{CameraId, Name};

use crate::state_file;

/// The file in the state folder.
const FILE: &str = "arming.json";

type Overrides = BTreeMap<CameraId, BTreeMap<Name, bool>>;

/// See the module.
#[derive(Debug)]
pub struct Arming {
    folder: PathBuf,
    overrides: Mutex<Overrides>,
    /// Grows with every change.
    version: AtomicU64,
}

impl Arming {
    /// What was said in earlier runs.
    ///
    /// # Errors
    /// The state folder cannot be read; a damaged file is set aside instead.
    pub fn open(state: &Path, now: jiff::Timestamp) -> io::Result<Self> {
        let overrides = state_file::read(state, FILE, now)?.unwrap_or_default();
        Ok(Self { folder: state.to_owned(), overrides: Mutex::new(overrides), version: AtomicU64::new(1) })
    }

    /// Arms or disarms; when this returns it is on disk.
    ///
    /// # Errors
    /// It cannot be written; then nothing changes.
    pub fn set(&self, camera: &CameraId, rule: &Name, armed: bool) -> io::Result<()> {
        let mut overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = overrides.clone();
        next.entry(camera.clone()).or_default().insert(rule.clone(), armed);
        if next != *overrides {
            state_file::replace(&self.folder, FILE, &next)?;
            *overrides = next;
            self.version.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// The overrides of a camera where they have changed since `seen`, which then is their version.
    pub fn since(&self, seen: &mut u64, camera: &CameraId) -> Option<BTreeMap<Name, bool>> {
        let version = self.version.load(Ordering::Acquire);
        if version == *seen {
            return None;
        }
        *seen = version;
        let overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        Some(overrides.get(camera).cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_holds_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (gate, night) = (Name::new("gate").unwrap(), Name::new("night").unwrap());
        let open = || Arming::open(folder.path(), jiff::Timestamp::UNIX_EPOCH).unwrap();
        let arming = open();
        let mut seen = 0;
        assert_eq!(arming.since(&mut seen, &gate), Some(BTreeMap::new()));
        assert_eq!(arming.since(&mut seen, &gate), None);
        arming.set(&gate, &night, false).unwrap();
        let expected = BTreeMap::from([(night, false)]);
        assert_eq!(arming.since(&mut seen, &gate), Some(expected.clone()));
        assert_eq!(open().since(&mut 0, &gate), Some(expected));
    }
}
