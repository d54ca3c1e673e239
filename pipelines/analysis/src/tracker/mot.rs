//! The tracker against MOT15 ground truth at the frame rates a box can afford. Tests only.
//!
//! Sequences TUD-Campus and TUD-Stadtmitte (25 fps, 640x480, 250 frames, 18 people), pooled. Floors: DESIGN and its
//! facts, measured on other implementations; only the tracker may be changed to meet them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vedette_core::{BBox, Class, Detection, Moment, Pts};

use super::Tracker;
use super::idf1::{Boxes, Identity, score};

const FPS: f64 = 25.0;
const ASPECT: f32 = 640.0 / 480.0;
const SEEDS: u64 = 8;

/// Rows of one frame: id (-1 for detections), score, box.
type Rows = Vec<(i64, f32, BBox)>;

fn data(file: &str) -> Option<BTreeMap<u32, Rows>> {
    let root = std::env::var_os("VEDETTE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let text = std::fs::read_to_string(root.join("mot").join(file)).ok()?;
    let mut frames: BTreeMap<u32, Rows> = BTreeMap::new();
    for line in text.lines() {
        let v: Vec<f32> = line.split(',').map(|f| f.trim().parse().unwrap()).collect();
        let bbox = BBox::from([v[2] / 640.0, v[3] / 480.0, (v[2] + v[4]) / 640.0, (v[3] + v[5]) / 480.0]);
        frames.entry(v[0] as u32).or_default().push((v[1] as i64, v[6], bbox));
    }
    Some(frames)
}

/// A small generator with a fixed stream (SplitMix64): the noise must never change.
struct Noise(u64);

impl Noise {
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Normal by Box and Muller.
    fn normal(&mut self) -> f32 {
        let (a, b) = (self.unit().max(1e-7), self.unit());
        (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
    }

    /// 3 % of the sides on position and size, one box in ten missing.
    fn spoil(&mut self, rows: &Rows) -> Rows {
        let mut spoilt = Vec::new();
        for (_, _, b) in rows {
            let (w, h, c) = (b.width(), b.height(), b.center());
            let moved = BBox::from_center(
                c.x + 0.03 * w * self.normal(),
                c.y + 0.03 * h * self.normal(),
                w * (1.0 + 0.03 * self.normal()),
                h * (1.0 + 0.03 * self.normal()),
            );
            if self.unit() >= 0.10 {
                spoilt.push((-1, 0.9, moved));
            }
        }
        spoilt
    }
}

fn tracked(truth: &BTreeMap<u32, Rows>, every: u32, mut look: impl FnMut(u32) -> Rows) -> Identity {
    let mut tracker = Tracker::default();
    let last = truth.keys().max().copied().unwrap_or(0);
    let frames: Vec<(Boxes, Boxes)> = (1..=last)
        .step_by(every as usize)
        .map(|frame| {
            let at = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::from_secs_f64(f64::from(frame) / FPS));
            let detections: Vec<Detection> = look(frame)
                .into_iter()
                .map(|(_, score, bbox)| Detection { class: Class::new("person"), score, bbox })
                .collect();
            tracker.step(at, ASPECT, Some(&detections));
            let found = tracker.tracks().iter().filter(|t| t.observed).map(|t| (t.id.0, t.bbox)).collect();
            let rows = truth.get(&frame).into_iter().flatten();
            let there = rows.filter(|r| r.1 > 0.0).map(|r| (r.0 as u64, r.2)).collect();
            (there, found)
        })
        .collect();
    score(&frames)
}

#[test]
fn identities_hold_at_25_5_and_2_5_fps() {
    let mut sequences = Vec::new();
    for name in ["TUD-Campus", "TUD-Stadtmitte"] {
        let (Some(truth), Some(seen)) = (data(&format!("{name}.gt.txt")), data(&format!("{name}.det.txt")))
        else {
            println!("skipped: {name} is not in the data folder (VEDETTE_DATA)");
            return;
        };
        sequences.push((truth, seen));
    }
    struct Case {
        every: u32,
        det: f64,
        noisy: f64,
    }
    let cases = [
        Case { every: 1, det: 72.0, noisy: 92.0 },
        Case { every: 5, det: 69.0, noisy: 88.0 },
        Case { every: 10, det: 65.0, noisy: 78.0 },
    ];
    let mut failures = Vec::new();
    for Case { every, det, noisy } in cases {
        let pooled = |per: &mut dyn FnMut(usize) -> Identity| {
            (0..sequences.len()).map(per).fold(Identity::default(), |a, b| a + b).idf1()
        };
        let by_det = pooled(&mut |i| {
            let (truth, seen) = &sequences[i];
            tracked(truth, every, |frame| seen.get(&frame).cloned().unwrap_or_default())
        });
        let by_seed: Vec<f64> = (0..SEEDS)
            .map(|seed| {
                let mut noise = Noise(seed);
                pooled(&mut |i| {
                    let truth = &sequences[i].0;
                    tracked(truth, every, |frame| {
                        truth.get(&frame).map(|r| noise.spoil(r)).unwrap_or_default()
                    })
                })
            })
            .collect();
        let by_noisy = by_seed.iter().sum::<f64>() / SEEDS as f64;
        println!(
            "{} fps: IDF1 det {by_det:.1} (floor {det}), noisy truth {by_noisy:.1} (floor {noisy}) {by_seed:.1?}",
            FPS / f64::from(every)
        );
        if by_det < det || by_noisy < noisy {
            failures.push((every, by_det, by_noisy));
        }
    }
    assert!(failures.is_empty(), "below the floor (every nth frame, det, noisy): {failures:?}");
}
