//! Two pictures of one camera compared at an eighth of their size or less: did something move between them?
//!
//! Owns: the mean luma of each block (8x8 pixels, and as much larger as a picture is than 640 a side: what is smaller no
//! detector sees, and what a coder does to single blocks of a large picture is no motion), how noisy each block is, what counts as the light having changed. Does not
//! know: which pictures it is given. A block has changed where it differs by more than five times its own mean
//! deviation; blocks under privacy masks never count. What changes the whole picture alike (clouds, gain, exposure) is
//! fitted as gain and offset and taken out first; what is left in most of the picture at once is light too (a lamp,
//! infra-red switched on), not motion.

use vedette_core::{BBox, Frame, Plane, Point, Polygon};

/// Luma pixels a side of a block, in a picture of less than twice [`PICTURE`].
const BLOCK: usize = 8;
/// Pixels of a picture's longer side that [`BLOCK`] is for.
const PICTURE: usize = 640;
/// Every so many lines of a block's height are read: half of the smallest block's, for hardly more noise.
const LINES: usize = 4;
/// A block changed by less is unchanged, in steps of luma: coding moves it so far.
const LEAST: f32 = 2.5;
/// The multiple of its mean absolute deviation from which a block has changed: four sigma of a normal one.
const DEVIATIONS: f32 = 5.0;
/// What a block's deviation is taken for before it is known.
const FIRST_NOISE: f32 = 1.0;
/// The weight of the newest picture in a block's deviation, at least; a block that changes always becomes deaf in
/// half a minute of keyframes.
const NEWEST: f32 = 0.06;
/// Changed blocks that touch each other: one alone is a speck.
const CLUSTER: usize = 2;
/// From this part of the picture on it is the light.
const LIGHT_PART: f32 = 0.6;
/// Comparisons until a block's noise is known.
const TAUGHT: u32 = 3;
/// Places that are known to be occupied and cover more of the picture than this are not left out.
const LARGEST_PLACE: f32 = 0.15;

/// What two pictures show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is nothing to compare with: the first picture, or one of another size.
    First,
    /// Nothing moved.
    Still,
    /// The light changed.
    Light,
    /// Something moved.
    Moved,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// What happened outside the places that were left out.
    pub verdict: Verdict,
    /// Whether something changed within those places.
    pub places_changed: bool,
    /// The part of the blocks that changed, 0..1.
    pub changed: f32,
}

impl Look {
    const FIRST: Self = Self { verdict: Verdict::First, places_changed: false, changed: 0.0 };
}

/// See the module.
#[derive(Debug)]
pub struct PictureGate {
    masks: Vec<Polygon>,
    columns: usize,
    rows: usize,
    previous: Vec<f32>,
    noise: Vec<f32>,
    /// Blocks that no mask touches.
    open: Vec<bool>,
    looks: u32,
}

impl PictureGate {
    /// `masks`: polygons that are black in every picture.
    pub fn new(masks: Vec<Polygon>) -> Self {
        let (previous, noise, open) = (Vec::new(), Vec::new(), Vec::new());
        Self { masks, columns: 0, rows: 0, previous, noise, open, looks: 0 }
    }

    /// Compares with the picture before. `places` are boxes of things known to stand there (0..1 of the picture):
    /// changes within them do not count as motion, but are told.
    pub fn look(&mut self, frame: &Frame, places: &[BBox]) -> Look {
        let Some(luma) = frame.plane(0) else { return Look::FIRST };
        let side = side(&luma);
        let current = means(&luma, side);
        let (columns, rows) = (luma.width.div_ceil(side), luma.height.div_ceil(side));
        if (columns, rows) != (self.columns, self.rows) {
            (self.columns, self.rows) = (columns, rows);
            self.noise = vec![FIRST_NOISE; current.len()];
            self.open = (0..current.len()).map(|at| !self.masked(at)).collect();
            (self.previous, self.looks) = (current, 0);
            return Look::FIRST;
        }
        if self.previous.is_empty() {
            self.previous = current;
            return Look::FIRST;
        }
        let look = self.compare(&current, places);
        self.previous = current;
        self.looks = self.looks.saturating_add(1);
        look
    }

    /// Whether the picture's noise is known.
    pub fn is_taught(&self) -> bool {
        self.looks >= TAUGHT
    }

    /// The stream begins anew: the next picture is compared with none. The noise stays known.
    pub fn interrupt(&mut self) {
        self.previous.clear();
    }

    /// The box of a block, 0..1 of the picture.
    fn block(&self, at: usize) -> BBox {
        let (x, y) = ((at % self.columns) as f32, (at / self.columns) as f32);
        let (w, h) = (self.columns as f32, self.rows as f32);
        BBox::from([x / w, y / h, (x + 1.0) / w, (y + 1.0) / h])
    }

    fn masked(&self, at: usize) -> bool {
        let block = self.block(at);
        let corners = [
            block.center(),
            Point::new(block.x0, block.y0),
            Point::new(block.x1, block.y0),
            Point::new(block.x0, block.y1),
            Point::new(block.x1, block.y1),
        ];
        corners.iter().any(|&corner| self.masks.iter().any(|mask| mask.contains(corner)))
    }

    fn compare(&mut self, current: &[f32], places: &[BBox]) -> Look {
        let (gain, offset) = light(&self.previous, current, &self.open);
        let mut changed = vec![false; current.len()];
        let (mut count, mut open) = (0_usize, 0_usize);
        for at in 0..current.len() {
            if !self.open[at] {
                continue;
            }
            open += 1;
            let residual = (current[at] - (gain * self.previous[at] + offset)).abs();
            let threshold = (DEVIATIONS * self.noise[at]).max(LEAST);
            changed[at] = residual >= threshold;
            count += usize::from(changed[at]);
            let weight = (1.0 / (self.looks + 2) as f32).max(NEWEST);
            // Clipped, so that one passer-by does not make the block deaf.
            self.noise[at] += weight * (residual.min(threshold) - self.noise[at]);
        }
        let part = count as f32 / open.max(1) as f32;
        if part >= LIGHT_PART {
            return Look { verdict: Verdict::Light, places_changed: true, changed: part };
        }
        let places: Vec<BBox> =
            places.iter().copied().filter(|p| p.width() * p.height() <= LARGEST_PLACE).collect();
        let mut within = false;
        for at in (0..changed.len()).filter(|&at| changed[at]).collect::<Vec<_>>() {
            let centre = self.block(at).center();
            if places.iter().any(|p| holds(p, centre)) {
                (changed[at], within) = (false, true);
            }
        }
        let moved = (0..changed.len()).any(|at| changed[at] && self.touching(&changed, at) + 1 >= CLUSTER);
        let verdict = if moved { Verdict::Moved } else { Verdict::Still };
        Look { verdict, places_changed: within, changed: part }
    }

    /// Changed ones among the eight neighbours.
    fn touching(&self, changed: &[bool], at: usize) -> usize {
        let (column, row) = (at % self.columns, at / self.columns);
        let rows = row.saturating_sub(1)..=(row + 1).min(self.rows - 1);
        let columns = column.saturating_sub(1)..=(column + 1).min(self.columns - 1);
        let near = rows.flat_map(|y| columns.clone().map(move |x| (x, y)));
        near.filter(|&(x, y)| (x, y) != (column, row) && changed[y * self.columns + x]).count()
    }
}

fn holds(place: &BBox, point: Point) -> bool {
    (place.x0..=place.x1).contains(&point.x) && (place.y0..=place.y1).contains(&point.y)
}

/// Pixels a side of a picture's blocks.
fn side(luma: &Plane<'_>) -> usize {
    BLOCK * (luma.width.max(luma.height) / PICTURE).max(1)
}

/// Mean luma of each block of `side` pixels, from [`LINES`] of its lines.
fn means(luma: &Plane<'_>, side: usize) -> Vec<f32> {
    let columns = luma.width.div_ceil(side);
    let mut means = Vec::with_capacity(columns * luma.height.div_ceil(side));
    let mut sums = vec![0_u32; columns];
    for top in (0..luma.height).step_by(side) {
        sums.fill(0);
        let lines: Vec<usize> = (top..(top + side).min(luma.height)).step_by(side / LINES).collect();
        for &y in &lines {
            for (sum, block) in sums.iter_mut().zip(luma.row(y).chunks(side)) {
                *sum += block.iter().map(|&v| u32::from(v)).sum::<u32>();
            }
        }
        let width = |column: usize| (luma.width - column * side).min(side);
        means.extend(sums.iter().enumerate().map(|(c, &sum)| sum as f32 / (width(c) * lines.len()) as f32));
    }
    means
}

/// Gain and offset that make `before` into `now`, by least squares on the open blocks; a second time on those that
/// the first fit explains, so that what moves has no part in it.
fn light(before: &[f32], now: &[f32], open: &[bool]) -> (f32, f32) {
    let fit = |keep: &dyn Fn(usize) -> bool| {
        let (mut n, mut sx, mut sy, mut sxx, mut sxy) = (0.0_f64, 0.0, 0.0, 0.0, 0.0);
        for at in (0..now.len()).filter(|&at| open[at] && keep(at)) {
            let (x, y) = (f64::from(before[at]), f64::from(now[at]));
            (n, sx, sy, sxx, sxy) = (n + 1.0, sx + x, sy + y, sxx + x * x, sxy + x * y);
        }
        let spread = n * sxx - sx * sx;
        if n < 1.0 {
            return (1.0, 0.0);
        }
        // A picture without contrast (spread of less than a step of luma) has no gain to be seen.
        let gain = if spread > n * n { ((n * sxy - sx * sy) / spread).clamp(0.25, 4.0) } else { 1.0 };
        (gain as f32, ((sy - gain * sx) / n) as f32)
    };
    let first = fit(&|_| true);
    let residual = |at: usize, (gain, offset): (f32, f32)| (now[at] - (gain * before[at] + offset)).abs();
    let all: Vec<usize> = (0..now.len()).filter(|&at| open[at]).collect();
    let mean = all.iter().map(|&at| residual(at, first)).sum::<f32>() / all.len().max(1) as f32;
    fit(&|at| residual(at, first) <= 2.0 * mean + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vedette_core::{Moment, Pts};

    const SIZE: (u32, u32) = (320, 240);

    /// A picture with structure and noise; `paint` may change it.
    fn picture(seed: u32, paint: impl Fn(usize, usize, f32) -> f32) -> Frame {
        sized(SIZE, seed, paint)
    }

    fn sized(size: (u32, u32), seed: u32, paint: impl Fn(usize, usize, f32) -> f32) -> Frame {
        let (w, h) = (size.0 as usize, size.1 as usize);
        let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
        let mut bytes = Vec::with_capacity(w * h * 3 / 2);
        for y in 0..h {
            for x in 0..w {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (state >> 24) as f32 / 16.0 - 8.0;
                let base = 60.0 + 100.0 * (x as f32 / w as f32) + 30.0 * ((y / 16) % 2) as f32;
                bytes.push(paint(x, y, base + noise).clamp(0.0, 255.0) as u8);
            }
        }
        bytes.resize(w * h * 3 / 2, 128);
        Frame::packed_i420(Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::ZERO), size, bytes).unwrap()
    }

    fn square(left: usize, top: usize, side: usize) -> impl Fn(usize, usize, f32) -> f32 {
        move |x, y, v| {
            if (left..left + side).contains(&x) && (top..top + side).contains(&y) { v + 60.0 } else { v }
        }
    }

    fn same(_: usize, _: usize, v: f32) -> f32 {
        v
    }

    fn taught(masks: Vec<Polygon>) -> PictureGate {
        let mut gate = PictureGate::new(masks);
        for seed in 0..8 {
            gate.look(&picture(seed, same), &[]);
        }
        assert!(gate.is_taught());
        gate
    }

    #[test]
    fn noise_is_still_and_a_figure_moves() {
        let mut gate = taught(Vec::new());
        for seed in 100..140 {
            assert_eq!(gate.look(&picture(seed, same), &[]).verdict, Verdict::Still, "{seed}");
        }
        // 12 by 24 pixels of a 320x240 picture, hardly lighter than what is behind.
        let figure = |x: usize, y: usize, v: f32| {
            if (150..162).contains(&x) && (100..124).contains(&y) { v + 15.0 } else { v }
        };
        assert_eq!(gate.look(&picture(200, figure), &[]).verdict, Verdict::Moved);
        assert_eq!(gate.look(&picture(201, figure), &[]).verdict, Verdict::Still, "it stands");
        assert_eq!(gate.look(&picture(202, same), &[]).verdict, Verdict::Moved, "it is gone");
    }

    #[test]
    fn in_a_large_picture_a_blot_of_the_coder_is_still_and_a_distant_person_moves() {
        const LARGE: (u32, u32) = (1920, 1080);
        let mut gate = PictureGate::new(Vec::new());
        let blot = |seed: u32| {
            let left = 64 + 16 * (seed as usize % 100);
            // Two blocks of a coder, coded anew.
            move |x: usize, y: usize, v: f32| {
                if (left..left + 16).contains(&x) && (512..520).contains(&y) { v + 6.0 } else { v }
            }
        };
        for seed in 0..20 {
            let look = gate.look(&sized(LARGE, seed, blot(seed)), &[]);
            assert_ne!(look.verdict, Verdict::Moved, "{seed}: {look:?}");
        }
        let person = |x: usize, y: usize, v: f32| {
            if (900..936).contains(&x) && (500..572).contains(&y) { v + 15.0 } else { v }
        };
        assert_eq!(gate.look(&sized(LARGE, 30, person), &[]).verdict, Verdict::Moved);
    }

    #[test]
    fn light_is_no_motion_but_motion_under_changing_light_is() {
        let mut gate = taught(Vec::new());
        struct Case(f32, f32);
        for (n, Case(gain, offset)) in (0..).zip([Case(1.0, 12.0), Case(0.8, 5.0), Case(1.25, -20.0)]) {
            gate.look(&picture(300 + n, same), &[]);
            let lit = gate.look(&picture(310 + n, |_, _, v| gain * v + offset), &[]);
            assert_eq!(lit.verdict, Verdict::Still, "gain {gain}, offset {offset}: {lit:?}");
            gate.look(&picture(320 + n, same), &[]);
            let walker = square(40, 40, 24);
            let both = gate.look(&picture(330 + n, |x, y, v| gain * walker(x, y, v) + offset), &[]);
            assert_eq!(both.verdict, Verdict::Moved, "gain {gain}, offset {offset}: {both:?}");
        }
        gate.look(&picture(340, same), &[]);
        let infrared =
            gate.look(&picture(341, |x, _, v| if x % 64 < 32 { 255.0 - v } else { v + 90.0 }), &[]);
        assert_eq!(infrared.verdict, Verdict::Light);
    }

    #[test]
    fn masks_do_not_count_even_where_light_changes_all_else() {
        let corners = [[0.0, 0.0], [0.7, 0.0], [0.7, 1.0], [0.0, 1.0]];
        let mask = Polygon::new(corners.map(Into::into).to_vec()).unwrap();
        let mut gate = PictureGate::new(vec![mask]);
        let masked = |x: usize, v: f32| if x < 224 { 16.0 } else { v };
        for seed in 0..8 {
            gate.look(&picture(seed, |x, _, v| masked(x, v)), &[]);
        }
        let behind = square(40, 40, 80);
        assert_eq!(
            gate.look(&picture(50, |x, y, v| behind(x, y, masked(x, v))), &[]).verdict,
            Verdict::Still
        );
        gate.look(&picture(51, |x, _, v| masked(x, v)), &[]);
        let lit = gate.look(&picture(52, |x, _, v| masked(x, v + 20.0)), &[]);
        assert_eq!(lit.verdict, Verdict::Still, "{lit:?}");
    }

    #[test]
    fn a_parked_car_that_changes_is_told_and_a_tree_becomes_deaf() {
        let mut gate = taught(Vec::new());
        let place = BBox::from([0.1, 0.1, 0.4, 0.4]);
        let look = gate.look(&picture(60, square(48, 48, 24)), &[place]);
        assert_eq!((look.verdict, look.places_changed), (Verdict::Still, true));
        let mut verdicts = Vec::new();
        for n in 0..60 {
            let sway = |x: usize, y: usize, v: f32| {
                if (200..260).contains(&x) && y < 60 { v + [0.0, 10.0][n as usize % 2] } else { v }
            };
            verdicts.push(gate.look(&picture(400 + n, sway), &[]).verdict);
        }
        assert_eq!((verdicts[1], verdicts[59]), (Verdict::Moved, Verdict::Still));
    }

    #[test]
    fn another_size_is_a_beginning_and_odd_sizes_work() {
        let mut gate = taught(Vec::new());
        let moment = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::ZERO);
        for size in [(1, 1), (13, 9), (641, 359)] {
            let (w, h): (u32, u32) = size;
            let bytes = vec![90; (w * h + 2 * w.div_ceil(2) * h.div_ceil(2)) as usize];
            let frame = Frame::packed_i420(moment, size, bytes).unwrap();
            assert_eq!(gate.look(&frame, &[]).verdict, Verdict::First);
            assert_eq!(gate.look(&frame, &[]).verdict, Verdict::Still);
        }
    }
}
