//! Non-maximum suppression within each class. Pure.

use super::RawBox;

/// Sorts by score (ties: class, then position), drops what overlaps a stronger box of its class by more than `iou`,
/// and cuts at `limit`. The order is total, so that equal input gives equal output on every machine.
pub fn class_wise(mut boxes: Vec<RawBox>, iou: f32, limit: usize) -> Vec<RawBox> {
    boxes.sort_by(|a, b| {
        let place = || a.xyxy.iter().zip(&b.xyxy).map(|(p, q)| p.total_cmp(q)).find(|o| o.is_ne());
        b.score
            .total_cmp(&a.score)
            .then(a.class.cmp(&b.class))
            .then_with(|| place().unwrap_or(std::cmp::Ordering::Equal))
    });
    let mut kept: Vec<RawBox> = Vec::new();
    for candidate in boxes {
        if kept.len() >= limit {
            break;
        }
        let covered = |k: &RawBox| k.class == candidate.class && overlap(&k.xyxy, &candidate.xyxy) > iou;
        if !kept.iter().any(covered) {
            kept.push(candidate);
        }
    }
    kept
}

/// Intersection over union of two boxes in any one unit; 0 for empty ones.
fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |low: f32, high: f32| (high - low).max(0.0);
    let common = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    let area = |r: &[f32; 4]| side(r[0], r[2]) * side(r[1], r[3]);
    let union = area(a) + area(b) - common;
    if union > 0.0 { common / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boxed(class: usize, score: f32, x: f32) -> RawBox {
        RawBox { class, score, xyxy: [x, 0.0, x + 10.0, 10.0] }
    }

    #[test]
    fn only_weaker_boxes_of_the_same_class_go() {
        let kept = class_wise(vec![boxed(0, 0.5, 1.0), boxed(0, 0.9, 0.0), boxed(1, 0.4, 0.0)], 0.6, 10);
        assert_eq!(kept, [boxed(0, 0.9, 0.0), boxed(1, 0.4, 0.0)]);
    }

    #[test]
    fn an_overlap_of_exactly_the_limit_stays() {
        // 10x10 boxes 2.5 apart: 75 / 125 = 0.6.
        assert_eq!(class_wise(vec![boxed(0, 0.9, 0.0), boxed(0, 0.8, 2.5)], 0.6, 10).len(), 2);
        assert_eq!(class_wise(vec![boxed(0, 0.9, 0.0), boxed(0, 0.8, 2.4)], 0.6, 10).len(), 1);
    }

    proptest! {
        #[test]
        fn the_order_of_input_does_not_matter(
            mut boxes in proptest::collection::vec((0usize..3, 0u8..4, 0u8..40), 0..40), limit in 1usize..20
        ) {
            let of = |list: &[(usize, u8, u8)]| {
                let list = list.iter().map(|&(c, s, x)| boxed(c, f32::from(s) / 4.0, f32::from(x)));
                class_wise(list.collect(), 0.6, limit)
            };
            let one = of(&boxes);
            boxes.reverse();
            prop_assert_eq!(&one, &of(&boxes));
            prop_assert!(one.len() <= limit && one.is_sorted_by(|a, b| a.score >= b.score));
        }
    }
}
