//! Cameras that somebody asked to stay awake, until their threads have heard it.
//!
//! Owns: what was asked and not heard yet. Does not know: who asked, what a camera does then.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vedette_core::CameraId;

/// See the module.
#[derive(Debug, Default)]
pub struct Wakes(Mutex<BTreeMap<CameraId, Duration>>);

impl Wakes {
    /// Asks a camera to stay awake for so long; its thread hears it within a second.
    pub fn ask(&self, camera: &CameraId, length: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(camera.clone(), length);
    }

    /// What was asked of a camera since it last looked.
    pub(crate) fn take(&self, camera: &CameraId) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(camera)
    }
}
