//! The tables of evidence, as users write them.
//!
//! Owns: keys, their types and their documentation, as `raw` does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vedette_core::{Severity, Span};

use super::super::MaskClips;

/// Pictures and clips of incidents, kept on this box. Off unless switched on: whoever keeps pictures of people has to
/// want that.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Evidence")]
pub(crate) struct RawEvidence {
    /// A picture (JPEG) of each incident.
    pub(crate) snapshot: bool,
    /// A clip (MP4) of each incident: what the camera sent, without sound.
    pub(crate) clip: bool,
    /// How long before the event a clip begins, up to 30 s; it is longer by what is left to the keyframe before.
    pub(crate) pre: Span,
    /// How long behind the event a clip ends, up to 5 min.
    pub(crate) post: Span,
    /// Draw the object's box into the picture.
    pub(crate) draw_box: bool,
    /// Events of this severity and above have evidence.
    pub(crate) severity: Severity,
    /// What becomes of the clips of a camera with masks.
    pub(crate) mask_clips: MaskClips,
    /// Evidence is deleted after so many days, 1 to 3650, whoever has not fetched it.
    #[schemars(range(min = 1, max = 3650))]
    pub(crate) days: u32,
    /// All evidence together, in MiB, 16 to 16777216; the oldest goes first.
    #[schemars(range(min = 16, max = 16_777_216))]
    pub(crate) max_mib: u64,
    /// What is left free on the disk, in MiB, up to 16777216.
    #[schemars(range(max = 16_777_216))]
    pub(crate) min_free_mib: u64,
    /// The part of `max_mib` that one camera may fill, 0.01 to 1: a busy one does not drive out what others have.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub(crate) camera_share: f32,
}

impl Default for RawEvidence {
    fn default() -> Self {
        Self {
            snapshot: false,
            clip: false,
            pre: Span::secs(5),
            post: Span::secs(10),
            draw_box: true,
            severity: Severity::Review,
            mask_clips: MaskClips::Withhold,
            days: 14,
            max_mib: 10_240,
            min_free_mib: 1024,
            camera_share: 0.5,
        }
    }
}

/// What of `[evidence]` is otherwise at one camera.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "CameraEvidence")]
pub(crate) struct RawCameraEvidence {
    /// As in `[evidence]`, whose value is the default; so are the next ones.
    pub(crate) snapshot: Option<bool>,
    /// A clip of each incident.
    pub(crate) clip: Option<bool>,
    /// How long before the event a clip begins, up to 30 s.
    pub(crate) pre: Option<Span>,
    /// How long behind the event a clip ends, up to 5 min.
    pub(crate) post: Option<Span>,
    /// Draw the object's box into the picture.
    pub(crate) draw_box: Option<bool>,
    /// Events of this severity and above have evidence.
    pub(crate) severity: Option<Severity>,
    /// What becomes of the clips of a camera with masks.
    pub(crate) mask_clips: Option<MaskClips>,
}
