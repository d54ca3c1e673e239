//! What all makers of files have in common: where files lie, and what follows when one is complete or failed.
//!
//! Owns: word of complete files, and the counts. Does not know: packets, pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use vedette_core::{Clock, Mono};
use vedette_ingest::{ClipError, Descriptions};

use super::EvidenceDeps;
use super::desk::Desk;
use super::files::{Complete, Draft, FOLDER, Label};
use crate::counters::CameraCounters;
use crate::outbox::Outbox;

/// See the module.
pub(super) struct Maker {
    pub(super) root: PathBuf,
    pub(super) descriptions: Arc<Descriptions>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) desk: Desk,
    /// When files of this process were made: the wall clock may have been set since.
    made: Mutex<BTreeMap<PathBuf, Mono>>,
}

impl Maker {
    pub(super) fn new(deps: &EvidenceDeps, desk: Desk) -> Self {
        Self {
            root: deps.state.join(FOLDER),
            descriptions: Arc::clone(&deps.descriptions),
            clock: Arc::clone(&deps.clock),
            outbox: Arc::clone(&deps.outbox),
            desk,
            made: Mutex::default(),
        }
    }

    /// Begins a file.
    pub(super) fn create(&self, label: Label) -> Result<Draft, ClipError> {
        Draft::create(&self.root, label).map_err(|error| self.of_disk(&error))
    }

    /// Completes a file and says so; `to` is the capture time of its last frame.
    pub(super) fn complete(&self, mut draft: Draft, to: Timestamp) -> Result<(), ClipError> {
        let complete = self.store(&mut draft)?;
        self.announce(draft.label().clone(), complete, to);
        // Not before: a crash in between is seen by it, and the next start says it.
        drop(draft);
        Ok(())
    }

    /// Completes a file of which nobody is told.
    pub(super) fn store(&self, draft: &mut Draft) -> Result<Complete, ClipError> {
        let path = self.root.join(draft.label().camera.as_str()).join(draft.label().name());
        let complete = draft.complete().map_err(|error| self.of_disk(&error))?;
        self.remember(&path);
        Ok(complete)
    }

    /// A file was made now, whatever its own time says.
    pub(super) fn remember(&self, path: &Path) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(path.to_owned(), self.clock.now());
    }

    /// How old a file of this process is; none for those that were there before.
    pub(super) fn age(&self, path: &Path) -> Option<Duration> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get(path).map(|made| self.clock.now().since(*made))
    }

    /// A file is gone.
    pub(super) fn forget(&self, path: &Path) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    fn announce(&self, label: Label, complete: Complete, to: Timestamp) {
        let file = label.name();
        let Label { camera, id, kind, event_kind, severity, from } = label;
        let Complete { bytes, sha256 } = complete;
        let word = vedette_core::Evidence {
            id,
            kind,
            file,
            bytes,
            sha256,
            from,
            to,
            camera: camera.clone(),
            event_kind,
            severity,
        };
        if let Err(error) = self.outbox.append_evidence(word) {
            log::error!(camera = camera.as_str(), event_id:% = id; "evidence is on disk, word of it is lost: {error}");
        }
    }

    /// What a failure of the file system means; a full disk is no place for more.
    pub(super) fn of_disk(&self, error: &std::io::Error) -> ClipError {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return ClipError::Full;
        }
        ClipError::Write(format!("{}: {error}", self.root.display()))
    }

    /// Evidence that was promised does not come.
    pub(super) fn failed(&self, label: &Label, counters: &CameraCounters, error: &ClipError) {
        counters.evidence_lost.one();
        if *error == ClipError::Full {
            // Until the next look at the disk.
            self.desk.refuse(Some("the disk is full".to_owned()));
        }
        let name = label.name();
        log::error!(camera = label.camera.as_str(), event_id:% = label.id; "no evidence {name}: {error}");
    }
}
