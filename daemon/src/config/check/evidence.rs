//! Evidence: lengths and bounds, and what a camera has of its own.

use vedette_core::Span;

use super::super::raw::evidence::{RawCameraEvidence, RawEvidence};
use super::super::{CameraEvidence, Evidence};
use super::Check;

/// The longest that is kept in memory before an event.
const PRE: Span = Span::secs(30);
/// The longest clip behind an event.
const POST: Span = Span::secs(300);

/// Checks `[evidence]`: what holds for all together, and what each camera has where it says nothing.
pub(super) fn build(check: &mut Check<'_>, raw: &RawEvidence) -> (Evidence, CameraEvidence) {
    let &RawEvidence { snapshot, clip, pre, post, draw_box, severity, mask_clips, .. } = raw;
    let &RawEvidence { days, max_mib, min_free_mib, camera_share, .. } = raw;
    let mut within = |key: &str, wrong: bool, message: String| {
        if wrong {
            check.value_error(&["evidence", key], message);
        }
    };
    within("days", !(1..=3650).contains(&days), format!("{days} is not within 1 to 3650"));
    let wrong = !(16..=16_777_216).contains(&max_mib);
    within("max_mib", wrong, format!("{max_mib} is not within 16 to 16777216"));
    let wrong = min_free_mib > 16_777_216;
    within("min_free_mib", wrong, format!("{min_free_mib} is more than 16777216"));
    let wrong = !(0.01..=1.0).contains(&camera_share);
    within("camera_share", wrong, format!("{camera_share} is not within 0.01 to 1"));
    lengths(check, &["evidence"], pre, post);
    let every = CameraEvidence { snapshot, clip, pre, post, draw_box, severity, mask_clips };
    (Evidence { days, max_bytes: max_mib << 20, min_free_bytes: min_free_mib << 20, camera_share }, every)
}

/// Checks `[camera.NAME.evidence]`, on top of what every camera has.
pub(super) fn camera(
    check: &mut Check<'_>,
    id: &str,
    raw: &RawCameraEvidence,
    every: &CameraEvidence,
) -> CameraEvidence {
    let &RawCameraEvidence { snapshot, clip, pre, post, draw_box, severity, mask_clips } = raw;
    if pre.is_some() || post.is_some() {
        let (pre, post) = (pre.unwrap_or_default(), post.unwrap_or_default());
        lengths(check, &["camera", id, "evidence"], pre, post);
    }
    CameraEvidence {
        snapshot: snapshot.unwrap_or(every.snapshot),
        clip: clip.unwrap_or(every.clip),
        pre: pre.unwrap_or(every.pre),
        post: post.unwrap_or(every.post),
        draw_box: draw_box.unwrap_or(every.draw_box),
        severity: severity.unwrap_or(every.severity),
        mask_clips: mask_clips.unwrap_or(every.mask_clips),
    }
}

fn lengths(check: &mut Check<'_>, table: &[&str], pre: Span, post: Span) {
    for (key, length, most) in [("pre", pre, PRE), ("post", post, POST)] {
        if length > most {
            let keys: Vec<&str> = table.iter().copied().chain([key]).collect();
            check.value_error(&keys, format!("{length} is longer than {most}"));
        }
    }
}
