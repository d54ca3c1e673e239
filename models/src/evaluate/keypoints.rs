//! Accuracy of a pose network on persons annotated with COCO's key points (cocodataset.org, key-point evaluation).
//!
//! Owns: object keypoint similarity (OKS), its average precision, the run over the sets. Each person is estimated in
//! the annotated box, so that no detector's misses are in the figures. Does not know: the command line, the network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vedette_core::{BBox, Class};

use super::average_precision::{THRESHOLDS, average, threshold};
use super::{CocoSet, EvalError, coco, read_picture};
use crate::pose::{KeyPoint, PoseEstimator};
use crate::provider::Form;

/// COCO's key points in the order of its annotations, each with its sigma: the spread of annotators' clicks, in square
/// roots of the person's area.
const POINTS: [(&str, f64); 17] = [
    ("nose", 0.026),
    ("left eye", 0.025),
    ("right eye", 0.025),
    ("left ear", 0.035),
    ("right ear", 0.035),
    ("left shoulder", 0.079),
    ("right shoulder", 0.079),
    ("left elbow", 0.072),
    ("right elbow", 0.072),
    ("left wrist", 0.062),
    ("right wrist", 0.062),
    ("left hip", 0.107),
    ("right hip", 0.107),
    ("left knee", 0.087),
    ("right knee", 0.087),
    ("left ankle", 0.089),
    ("right ankle", 0.089),
];

/// Share of a person's box that its outline covers, for annotations without an area (jin-s13/xtcocoapi, `cocoeval.py`).
const OUTLINE_SHARE: f64 = 0.53;

/// How accurate a pose network is in annotated boxes. Counted are persons with at least one annotated point, crowds
/// left out; all sets pooled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoseEvaluation {
    /// The model.
    pub model: String,
    /// The form that ran.
    pub form: Form,
    /// Images looked at.
    pub images: usize,
    /// Persons estimated.
    pub persons: usize,
    /// Average precision at 101 recall points, mean over the OKS thresholds 0.50, 0.55, … 0.95; an estimate's score is
    /// the mean of its points' scores.
    pub oks_ap: f64,
    /// Mean OKS of the persons, each with the estimate of its own box.
    pub mean_oks: f64,
    /// Share of the persons whose OKS is at least 0.5.
    pub share_oks50: f64,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    /// Left, top, width, height in pixels.
    bbox: [f32; 4],
    /// Of the person's outline, in square pixels; without, a share of the box stands in.
    area: Option<f64>,
    /// x, y in pixels and visibility (0: not annotated), point after point.
    #[serde(default)]
    keypoints: Vec<f64>,
    #[serde(default)]
    iscrowd: u8,
}

/// A person with key points.
struct Person {
    bbox: [f32; 4],
    area: f64,
    /// x, y in pixels; none where it is not annotated.
    points: [Option<[f64; 2]>; POINTS.len()],
}

/// What the network says: x, y in pixels, in COCO's order.
struct Estimate {
    points: [[f64; 2]; POINTS.len()],
    score: f32,
}

/// Estimates every person of `sets` in its annotated box; `progress` is told (done, all) images after each.
///
/// # Errors
/// Files that cannot be read; sets without persons with key points; a model without one of COCO's points; a failing
/// model.
pub fn evaluate_pose(
    estimator: &mut PoseEstimator,
    sets: &[CocoSet],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<PoseEvaluation, EvalError> {
    let model = estimator.name().to_owned();
    let order = order(estimator.network().manifest().labels())
        .map_err(|point| EvalError::NoPoint { model: model.clone(), point })?;
    let mut pictures = Vec::new();
    for set in sets {
        pictures.extend(read(set)?);
    }
    let mut scorer = Scorer::default();
    for (done, (path, persons)) in pictures.iter().enumerate() {
        let frame = read_picture(path)?;
        let size = [f64::from(frame.width()), f64::from(frame.height())];
        let mut estimates = Vec::new();
        for person in persons {
            let points = estimator.estimate(&frame, person.region(size))?;
            estimates.push(Estimate::new(&points, &order, size));
        }
        scorer.add(persons, &estimates);
        progress(done + 1, pictures.len());
    }
    let form = estimator.network().report().form;
    let Some(Figures { persons, oks_ap, mean_oks, share_oks50 }) = scorer.finish() else {
        return Err(EvalError::NoPersons { model });
    };
    Ok(PoseEvaluation { model, form, images: pictures.len(), persons, oks_ap, mean_oks, share_oks50 })
}

/// Where each of COCO's points stands among the model's, or the first that is missing.
fn order(labels: &[Class]) -> Result<[usize; POINTS.len()], &'static str> {
    let mut order = [0; POINTS.len()];
    for (place, (name, _)) in order.iter_mut().zip(POINTS) {
        *place = labels.iter().position(|label| label.as_str().replace('_', " ") == name).ok_or(name)?;
    }
    Ok(order)
}

/// The images of a set, each with its persons.
fn read(set: &CocoSet) -> Result<Vec<(PathBuf, Vec<Person>)>, EvalError> {
    let file: coco::File<Annotation> = coco::parse(&set.annotations)?;
    let mut persons: BTreeMap<u64, Vec<Person>> = BTreeMap::new();
    for annotation in file.annotations.into_iter().filter(|a| a.iscrowd == 0) {
        let image = annotation.image_id;
        persons.entry(image).or_default().extend(Person::new(&annotation));
    }
    let of = |image: coco::Image| {
        (set.images.join(image.file_name), persons.remove(&image.id).unwrap_or_default())
    };
    Ok(file.images.into_iter().map(of).collect())
}

impl Person {
    /// None where no point is annotated.
    fn new(annotation: &Annotation) -> Option<Self> {
        let triples = annotation.keypoints.as_chunks::<3>().0;
        let mut points = [None; POINTS.len()];
        for (place, &[x, y, visibility]) in points.iter_mut().zip(triples) {
            *place = (visibility > 0.0).then_some([x, y]);
        }
        let there = points.iter().any(Option::is_some);
        let [.., width, height] = annotation.bbox.map(f64::from);
        let area = annotation.area.filter(|area| area.is_finite() && *area > 0.0);
        let area = area.unwrap_or(width * height * OUTLINE_SHARE);
        there.then_some(Self { bbox: annotation.bbox, area, points })
    }

    /// Its box, 0..1 of a picture of `width` x `height` pixels.
    fn region(&self, [width, height]: [f64; 2]) -> BBox {
        let [x, y, w, h] = self.bbox;
        let (width, height) = (width as f32, height as f32);
        BBox { x0: x / width, y0: y / height, x1: (x + w) / width, y1: (y + h) / height }
    }

    /// OKS: the mean over the annotated points of exp(-d² / (2 · area · (2 · sigma)²)); 1 where all agree.
    fn similarity(&self, estimate: &Estimate) -> f64 {
        let area = self.area.max(f64::EPSILON);
        let (mut sum, mut count) = (0.0, 0);
        for ((truth, found), (_, sigma)) in self.points.iter().zip(&estimate.points).zip(POINTS) {
            let Some(truth) = truth else { continue };
            let distance = (truth[0] - found[0]).powi(2) + (truth[1] - found[1]).powi(2);
            sum += (-distance / (2.0 * area * (2.0 * sigma).powi(2))).exp();
            count += 1;
        }
        sum / f64::from(count.max(1))
    }
}

impl Estimate {
    fn new(points: &[KeyPoint], order: &[usize; POINTS.len()], [width, height]: [f64; 2]) -> Self {
        let at = |index: usize| points.get(index).copied().unwrap_or(KeyPoint { x: 0.0, y: 0.0, score: 0.0 });
        let score = order.iter().map(|&index| at(index).score).sum::<f32>() / order.len() as f32;
        let place = |index: usize| [f64::from(at(index).x) * width, f64::from(at(index).y) * height];
        Self { points: order.map(place), score }
    }
}

/// Collects image after image.
#[derive(Default)]
struct Scorer {
    /// OKS of each person with its own estimate.
    own: Vec<f64>,
    /// Estimates: score, and by threshold whether it hit.
    found: Vec<(f32, [bool; THRESHOLDS])>,
}

#[derive(Debug, PartialEq)]
struct Figures {
    persons: usize,
    oks_ap: f64,
    mean_oks: f64,
    share_oks50: f64,
}

impl Scorer {
    /// Takes one image: its persons, and the estimate of each in the same order. Each estimate, strongest first, takes
    /// the free person it resembles most: two in one box may be mistaken for each other.
    fn add(&mut self, persons: &[Person], estimates: &[Estimate]) {
        self.own.extend(persons.iter().zip(estimates).map(|(person, own)| person.similarity(own)));
        let mut ranked: Vec<&Estimate> = estimates.iter().collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut taken = vec![[false; THRESHOLDS]; persons.len()];
        for estimate in ranked {
            let alike: Vec<f64> = persons.iter().map(|person| person.similarity(estimate)).collect();
            let mut hits = [false; THRESHOLDS];
            for (index, hit) in hits.iter_mut().enumerate() {
                let free = alike.iter().enumerate().filter(|(person, _)| !taken[*person][index]);
                let best = free.max_by(|a, b| a.1.total_cmp(b.1));
                if let Some((person, _)) = best.filter(|(_, oks)| **oks >= f64::from(threshold(index))) {
                    taken[person][index] = true;
                    *hit = true;
                }
            }
            self.found.push((estimate.score, hits));
        }
    }

    /// None without persons.
    fn finish(mut self) -> Option<Figures> {
        let persons = self.own.len();
        self.found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let at = |index: usize| average(self.found.iter().map(|(_, hits)| hits[index]), persons);
        let good = self.own.iter().filter(|oks| **oks >= 0.5).count();
        (persons > 0).then(|| Figures {
            persons,
            oks_ap: (0..THRESHOLDS).map(at).sum::<f64>() / THRESHOLDS as f64,
            mean_oks: self.own.iter().sum::<f64>() / persons as f64,
            share_oks50: good as f64 / persons as f64,
        })
    }
}

#[cfg(test)]
#[path = "keypoints_tests.rs"]
mod tests;
