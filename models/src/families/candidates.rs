//! Boxes on their way out of a decoder: thresholds, wanted classes, soundness. Pure.

use super::{Decoded, Keep, RawBox, nms};

/// Boxes that passed so far.
pub(super) struct Candidates<'k> {
    keep: &'k Keep,
    found: Vec<RawBox>,
}

impl<'k> Candidates<'k> {
    pub(super) fn new(keep: &'k Keep) -> Self {
        Self { keep, found: Vec::new() }
    }

    /// Takes a box unless it is weak, unwanted, empty, or any of its values is NaN or infinite.
    pub(super) fn push(&mut self, class: usize, score: f32, xyxy: [f32; 4]) {
        // NaN is not at least anything.
        let sound = score >= self.keep.min_score && score.is_finite() && xyxy.iter().all(|v| v.is_finite());
        let wanted = self.keep.classes.get(class).copied().unwrap_or(false);
        if wanted && sound && xyxy[2] > xyxy[0] && xyxy[3] > xyxy[1] {
            self.found.push(RawBox { class, score: score.min(1.0), xyxy });
        }
    }

    /// The same for the scores of every class of one box.
    pub(super) fn row(&mut self, scores: &[f32], xyxy: [f32; 4]) {
        for (class, &score) in scores.iter().enumerate() {
            self.push(class, score, xyxy);
        }
    }

    /// After suppression within each class.
    pub(super) fn suppressed(self) -> Decoded {
        Decoded::Boxes(nms::class_wise(self.found, self.keep.nms_iou, self.keep.limit))
    }

    /// Without suppression, for networks that give one box per object: strongest first.
    pub(super) fn ranked(self) -> Decoded {
        Decoded::Boxes(nms::class_wise(self.found, f32::INFINITY, self.keep.limit))
    }
}

/// Whether any score of a point reaches the threshold: nearly none does, and this loop has no branches.
pub(super) fn strong(row: &[f32], min_score: f32) -> bool {
    row.iter().fold(false, |any, &score| any | (score >= min_score))
}

/// Left, top, right, bottom of a box given by its centre, width and height.
pub(super) fn corners([x, y, width, height]: [f32; 4]) -> [f32; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}
