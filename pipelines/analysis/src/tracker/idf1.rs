//! IDF1 (Ristani et al., ECCV-W 2016): how long the right id stays on the right object. Tests only.

use std::collections::BTreeMap;

use vedette_core::BBox;

use super::assign::{Costs, assign};

/// One frame: ids and boxes.
pub(crate) type Boxes = Vec<(u64, BBox)>;

/// What IDF1 is made of; sums over sequences.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Identity {
    /// Boxes of the truth and of the tracker that carry the same identity.
    pub(crate) matched: usize,
    truth: usize,
    found: usize,
}

impl Identity {
    /// 2 IDTP / (2 IDTP + IDFP + IDFN), in per cent.
    pub(crate) fn idf1(&self) -> f64 {
        200.0 * self.matched as f64 / (self.truth + self.found).max(1) as f64
    }
}

impl std::ops::Add for Identity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            matched: self.matched + other.matched,
            truth: self.truth + other.truth,
            found: self.found + other.found,
        }
    }
}

/// Scores frames of (truth, found): each true identity is given at most one found identity for the whole sequence,
/// so that as many boxes as possible agree at an IoU of 0.5.
pub(crate) fn score(frames: &[(Boxes, Boxes)]) -> Identity {
    let mut agree: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    let (mut truths, mut founds) = (Vec::new(), Vec::new());
    let mut identity = Identity::default();
    for (truth, found) in frames {
        identity.truth += truth.len();
        identity.found += found.len();
        truths.extend(truth.iter().map(|b| b.0));
        founds.extend(found.iter().map(|b| b.0));
        for (t, tb) in truth {
            for (f, _) in found.iter().filter(|(_, fb)| tb.iou(fb) >= 0.5) {
                *agree.entry((*t, *f)).or_default() += 1;
            }
        }
    }
    for ids in [&mut truths, &mut founds] {
        ids.sort_unstable();
        ids.dedup();
    }
    let mut costs = Costs::filled(truths.len(), founds.len(), 0.0);
    for ((t, f), n) in &agree {
        if let (Ok(row), Ok(column)) = (truths.binary_search(t), founds.binary_search(f)) {
            costs.set(row, column, -(*n as f64));
        }
    }
    identity.matched =
        assign(&costs, 0.0).into_iter().filter_map(|(t, f)| agree.get(&(truths[t], founds[f]))).sum();
    identity
}

#[test]
fn a_switched_id_costs_half() {
    let at = |id, x: f32| vec![(id, BBox::from_center(x, 0.5, 0.1, 0.2))];
    let right: Vec<_> = (0..10).map(|_| (at(1, 0.5), at(7, 0.5))).collect();
    assert_eq!(score(&right).idf1(), 100.0);
    let switched: Vec<_> = (0..10).map(|i| (at(1, 0.5), at(if i < 5 { 7 } else { 8 }, 0.5))).collect();
    assert_eq!(score(&switched).idf1(), 50.0);
    let elsewhere: Vec<_> = (0..10).map(|_| (at(1, 0.5), at(7, 0.9))).collect();
    assert_eq!(score(&elsewhere).idf1(), 0.0);
}
