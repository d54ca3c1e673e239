//! Average precision as COCO counts it (cocodataset.org, detection evaluation). Pure.
//!
//! Within an image each detection, strongest first, takes the free box of its class that it overlaps most, if by at
//! least the threshold. One that takes none but lies in a crowd counts neither way. Precision is made monotone, then
//! read at the 101 recalls 0, 0.01, … 1.

use std::collections::BTreeMap;

use vedette_core::BBox;

/// IoU thresholds: 0.50, 0.55, … 0.95.
pub(super) const THRESHOLDS: usize = 10;
/// Detections of one class counted an image, the strongest: COCO's limit.
const MOST_BOXES: usize = 100;
const RECALLS: usize = 101;

/// One detection.
pub(super) struct Found<'a> {
    pub class: &'a str,
    pub score: f32,
    pub bbox: BBox,
}

/// One box there is.
pub(super) struct Truth<'a> {
    pub class: &'a str,
    pub bbox: BBox,
    pub crowd: bool,
}

/// Collects image after image.
#[derive(Default)]
pub(super) struct Scorer {
    classes: BTreeMap<String, Tally>,
}

#[derive(Default)]
struct Tally {
    /// Boxes there are.
    truths: usize,
    /// Detections: score, and by threshold whether it hit (none: counts neither way).
    found: Vec<(f32, [Option<bool>; THRESHOLDS])>,
}

/// Average precision of one class or a mean over classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Precision {
    pub ap: f64,
    pub ap50: f64,
}

/// What was measured.
pub(super) struct Scores {
    classes: BTreeMap<String, (usize, Precision)>,
}

/// Of index 0..[`THRESHOLDS`].
pub(super) fn threshold(index: usize) -> f32 {
    0.5 + 0.05 * index as f32
}

impl Scorer {
    /// Takes one image.
    pub(super) fn add<'a>(&mut self, found: impl Iterator<Item = Found<'a>>, truths: &[Truth<'_>]) {
        for truth in truths {
            self.classes.entry(truth.class.to_owned()).or_default().truths += usize::from(!truth.crowd);
        }
        let mut by_class: BTreeMap<&str, Vec<Found<'a>>> = BTreeMap::new();
        for detection in found {
            by_class.entry(detection.class).or_default().push(detection);
        }
        for (class, mut detections) in by_class {
            detections.sort_by(|a, b| b.score.total_cmp(&a.score));
            detections.truncate(MOST_BOXES);
            let truths: Vec<_> = truths.iter().filter(|t| t.class == class).collect();
            let mut hits = vec![[None; THRESHOLDS]; detections.len()];
            for index in 0..THRESHOLDS {
                for (hit, outcome) in hits.iter_mut().zip(outcomes(&detections, &truths, threshold(index))) {
                    hit[index] = outcome;
                }
            }
            let scored = detections.iter().map(|d| d.score).zip(hits);
            self.classes.entry(class.to_owned()).or_default().found.extend(scored);
        }
    }

    /// The scores of the classes that have a box and that `known` knows.
    pub(super) fn finish(self, known: impl Fn(&str) -> bool) -> Scores {
        let there = self.classes.into_iter().filter(|(class, tally)| tally.truths > 0 && known(class));
        Scores { classes: there.map(|(class, tally)| (class, (tally.truths, tally.precision()))).collect() }
    }
}

/// For each detection, strongest first: hit, miss, or neither.
fn outcomes(detections: &[Found<'_>], truths: &[&Truth<'_>], threshold: f32) -> Vec<Option<bool>> {
    let mut taken = vec![false; truths.len()];
    let outcome = |detection: &Found<'_>| {
        let free = |(index, truth): &(usize, &&Truth<'_>)| !truth.crowd && !taken[*index];
        let overlaps = truths.iter().enumerate().filter(free).map(|(i, t)| (i, t.bbox.iou(&detection.bbox)));
        let best = overlaps.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, iou)| *iou >= threshold);
        if let Some((index, _)) = best {
            taken[index] = true;
            return Some(true);
        }
        let inside =
            |crowd: &BBox| crowd.intersection(&detection.bbox).area() >= threshold * detection.bbox.area();
        if truths.iter().any(|t| t.crowd && inside(&t.bbox)) { None } else { Some(false) }
    };
    detections.iter().map(outcome).collect()
}

impl Tally {
    fn precision(mut self) -> Precision {
        self.found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let at = |index: usize| average(self.found.iter().filter_map(|(_, hits)| hits[index]), self.truths);
        let all: Vec<f64> = (0..THRESHOLDS).map(at).collect();
        Precision { ap: all.iter().sum::<f64>() / all.len() as f64, ap50: all[0] }
    }
}

/// Average precision of hits and misses, strongest detection first.
pub(super) fn average(hits: impl Iterator<Item = bool>, truths: usize) -> f64 {
    let mut curve = Vec::new();
    let mut good = 0usize;
    for (index, hit) in hits.enumerate() {
        good += usize::from(hit);
        curve.push((good as f64 / truths as f64, good as f64 / (index + 1) as f64));
    }
    let mut best = 0.0f64;
    for (_, precision) in curve.iter_mut().rev() {
        best = best.max(*precision);
        *precision = best;
    }
    let at = |recall: f64| {
        let first = curve.partition_point(|(reached, _)| *reached < recall - 1e-12);
        curve.get(first).map_or(0.0, |(_, precision)| *precision)
    };
    (0..RECALLS).map(|i| at(i as f64 / (RECALLS - 1) as f64)).sum::<f64>() / RECALLS as f64
}

impl Scores {
    /// Mean over the classes; none where no class has a box.
    pub(super) fn mean(&self) -> Option<Precision> {
        let count = self.classes.len() as f64;
        let sum = |of: fn(&Precision) -> f64| self.classes.values().map(|(_, p)| of(p)).sum::<f64>();
        (count > 0.0).then(|| Precision { ap: sum(|p| p.ap) / count, ap50: sum(|p| p.ap50) / count })
    }

    pub(super) fn ap50_by_class(&self) -> BTreeMap<String, f64> {
        self.classes.iter().map(|(class, (_, precision))| (class.clone(), precision.ap50)).collect()
    }

    pub(super) fn boxes(&self) -> usize {
        self.classes.values().map(|(truths, _)| truths).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(class: &str, score: f32, x: f32) -> Found<'_> {
        Found { class, score, bbox: BBox { x0: x, y0: 0.0, x1: x + 0.1, y1: 0.5 } }
    }

    fn truth(class: &str, x: f32, crowd: bool) -> Truth<'_> {
        Truth { class, bbox: found(class, 0.0, x).bbox, crowd }
    }

    fn score(images: Vec<(Vec<Found<'_>>, Vec<Truth<'_>>)>) -> Scores {
        let mut scorer = Scorer::default();
        for (found, truths) in images {
            scorer.add(found.into_iter(), &truths);
        }
        scorer.finish(|_| true)
    }

    #[test]
    fn all_found_and_nothing_else_is_one() {
        let scores = score(vec![(vec![found("dog", 0.3, 0.0)], vec![truth("dog", 0.0, false)])]);
        assert_eq!(scores.mean(), Some(Precision { ap: 1.0, ap50: 1.0 }));
    }

    #[test]
    fn a_stronger_false_alarm_halves_the_precision() {
        let image = (vec![found("dog", 0.3, 0.0), found("dog", 0.9, 0.5)], vec![truth("dog", 0.0, false)]);
        let ap50 = score(vec![image]).mean().unwrap().ap50;
        assert!((ap50 - 0.5).abs() < 1e-9, "{ap50}");
    }

    #[test]
    fn a_box_is_taken_once_and_half_the_boxes_give_half_the_recall() {
        let image = (
            vec![found("dog", 0.9, 0.0), found("dog", 0.8, 0.01)],
            vec![truth("dog", 0.0, false), truth("dog", 0.6, false)],
        );
        // Recalls 0 .. 0.50 are reached at precision 1, the others never.
        let ap50 = score(vec![image]).mean().unwrap().ap50;
        assert!((ap50 - 51.0 / 101.0).abs() < 1e-9, "{ap50}");
    }

    #[test]
    fn crowds_count_neither_way_and_other_classes_do_not_mix() {
        let image = (
            vec![found("dog", 0.9, 0.5), found("dog", 0.8, 0.0), found("cat", 0.99, 0.0)],
            vec![truth("dog", 0.0, false), truth("dog", 0.5, true)],
        );
        let scores = score(vec![image]);
        assert_eq!((scores.mean().unwrap().ap50, scores.boxes()), (1.0, 1));
        assert_eq!(scores.ap50_by_class().len(), 1);
    }

    #[test]
    fn a_hundred_boxes_count_of_each_class_not_of_all_together() {
        let misses = |class, count| (0..count).map(move |_| found(class, 0.9, 0.6));
        let dog = |others: Vec<Found<'static>>| {
            let found = others.into_iter().chain([found("dog", 0.5, 0.0)]).collect();
            score(vec![(found, vec![truth("dog", 0.0, false)])]).mean().unwrap().ap50
        };
        assert_eq!(dog(misses("cat", 200).collect()), 1.0);
        assert!((dog(misses("dog", 99).collect()) - 0.01).abs() < 1e-9);
        assert_eq!(dog(misses("dog", 100).collect()), 0.0);
    }

    #[test]
    fn a_loose_box_counts_at_low_thresholds_only() {
        // Shifted by a quarter: IoU 0.6, so that 0.50, 0.55 and 0.60 of ten thresholds hold.
        let scores = score(vec![(vec![found("dog", 0.9, 0.025)], vec![truth("dog", 0.0, false)])]);
        let mean = scores.mean().unwrap();
        assert!(mean.ap50 == 1.0 && (mean.ap - 0.25).abs() <= 0.051, "{mean:?}");
    }
}
