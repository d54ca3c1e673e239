//! A picture or clip of an incident, once it is complete on disk. The file itself never leaves the appliance by an
//! event; this says that it is there.

use jiff::Timestamp;
use uuid::Uuid;

use crate::{CameraId, Severity};

/// What the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceKind {
    /// One picture.
    Snapshot,
    /// What the camera sent, undecoded, over a time.
    Clip,
}

/// A file that was made for an incident: complete and synced to disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The incident: [`crate::Event::id`].
    pub id: Uuid,
    /// What the file is.
    pub kind: EvidenceKind,
    /// Its name below the folder of evidence, such as `0192….jpg`.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, 64 hexadecimal digits.
    pub sha256: String,
    /// Capture time of its first frame.
    pub from: Timestamp,
    /// Capture time of its last frame; a snapshot's is `from`.
    pub to: Timestamp,
    /// The camera.
    pub camera: CameraId,
    /// The kind of the incident's events, such as `intrusion`: who gets those gets this.
    pub event_kind: &'static str,
    /// How urgent the incident is: what a full outbox drops first.
    pub severity: Severity,
}
