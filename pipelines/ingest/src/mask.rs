//! Privacy masks: parts of the picture that are black before anything else sees it.
//!
//! Owns: painting them on a private copy. Without masks no byte is copied. The encoded packets are not masked: who
//! keeps or shows those has to decode them first.

use std::sync::Arc;

use vedette_core::frame::PlaneLayout;
use vedette_core::{Frame, PixelFormat, Polygon, Range};

use crate::{Fault, FaultClass};

/// The masks of one camera, 0..1 of its picture.
#[derive(Clone, Debug, Default)]
pub struct Masks {
    polygons: Arc<[Polygon]>,
}

impl Masks {
    /// No masks: frames are lent as the decoder left them.
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything inside any of the polygons is black.
    pub fn new(polygons: Vec<Polygon>) -> Self {
        Self { polygons: polygons.into() }
    }

    /// Whether nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.polygons.is_empty()
    }
}

/// Paints masks; keeps the raster of the last picture size.
#[derive(Debug)]
pub(crate) struct Painter {
    masks: Masks,
    size: (usize, usize),
    /// Runs of masked luma pixels: row, first, behind the last.
    luma: Vec<(usize, usize, usize)>,
    /// The same on the chroma planes: a chroma sample is masked where any of its pixels is.
    chroma: Vec<(usize, usize, usize)>,
}

impl Painter {
    pub(crate) fn new(masks: &Masks) -> Self {
        Self { masks: masks.clone(), size: (0, 0), luma: Vec::new(), chroma: Vec::new() }
    }

    /// The frame itself without masks, else a copy of it with the masks black.
    pub(crate) fn paint(&mut self, frame: Frame) -> Result<Frame, Fault> {
        if self.masks.is_empty() {
            return Ok(frame);
        }
        self.rasterise((frame.width() as usize, frame.height() as usize));
        let (mut bytes, mut layouts) = (Vec::new(), Vec::new());
        for index in 0..3 {
            let Some(plane) = frame.plane(index) else { break };
            let offset = bytes.len();
            (0..plane.height).for_each(|y| bytes.extend_from_slice(plane.row(y)));
            layouts.push(PlaneLayout { buffer: 0, offset, stride: plane.width });
            let (runs, step) = match (index, frame.format()) {
                (0, _) => (&self.luma, 1),
                (_, PixelFormat::Nv12) => (&self.chroma, 2),
                _ => (&self.chroma, 1),
            };
            let black = match (index, frame.range()) {
                (0, Range::Limited) => 16,
                (0, Range::Full) => 0,
                _ => 128,
            };
            for &(y, from, to) in runs {
                let row = offset + y * plane.width;
                bytes[row + from * step..row + to * step].fill(black);
            }
        }
        let size = (frame.width(), frame.height());
        let copy = Frame::new(frame.moment(), size, frame.format(), &layouts, vec![Arc::new(bytes)]);
        let copy = copy.map_err(|error| {
            Fault::new(FaultClass::Undecodable, format!("a masked picture: {error}"), "report this")
        })?;
        Ok(copy
            .with_color(frame.range(), frame.matrix())
            .with_pixel_aspect(frame.pixel_aspect())
            .with_keyframe(frame.is_keyframe()))
    }

    fn rasterise(&mut self, size: (usize, usize)) {
        if self.size == size {
            return;
        }
        let (width, height) = size;
        let mut masked = vec![false; width * height];
        for (y, row) in masked.chunks_mut(width).enumerate() {
            // The pixels' top, middle and bottom, each widened to whole pixels: no rim of what is masked may show.
            for line in [0.0, 0.5, 1.0] {
                let line = (y as f32 + line) / height as f32;
                self.masks.polygons.iter().for_each(|polygon| fill(row, &crossings(polygon, line)));
            }
        }
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let mut halved = vec![false; half_width * half_height];
        for (at, _) in masked.iter().enumerate().filter(|(_, masked)| **masked) {
            halved[at / width / 2 * half_width + at % width / 2] = true;
        }
        (self.size, self.luma, self.chroma) = (size, runs(&masked, width), runs(&halved, half_width));
    }
}

/// Where a horizontal line enters and leaves a polygon (even-odd), from left to right.
fn crossings(polygon: &Polygon, y: f32) -> Vec<f32> {
    let corners = polygon.corners();
    let edges = corners.iter().zip(corners.iter().cycle().skip(1));
    let spanning = edges.filter(|(a, b)| (a.y > y) != (b.y > y));
    let mut at: Vec<f32> = spanning.map(|(a, b)| a.x + (b.x - a.x) * (y - a.y) / (b.y - a.y)).collect();
    at.sort_by(f32::total_cmp);
    at
}

fn fill(row: &mut [bool], crossings: &[f32]) {
    let width = row.len();
    for pair in crossings.chunks_exact(2) {
        // Casts saturate: a polygon lies within 0..1, rounding may leave it.
        let (from, to) =
            ((pair[0] * width as f32).floor() as usize, (pair[1] * width as f32).ceil() as usize);
        row[from.min(width)..to.min(width)].fill(true);
    }
}

fn runs(masked: &[bool], width: usize) -> Vec<(usize, usize, usize)> {
    let mut runs = Vec::new();
    for (y, row) in masked.chunks(width).enumerate() {
        let mut x = 0;
        while let Some(from) = row[x..].iter().position(|&m| m).map(|n| x + n) {
            let to = row[from..].iter().position(|&m| !m).map_or(width, |n| from + n);
            runs.push((y, from, to));
            x = to;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use vedette_core::{Moment, Pts};

    fn masks(corners: &[[f32; 2]]) -> Masks {
        Masks::new(vec![Polygon::new(corners.iter().map(|&c| c.into()).collect()).unwrap()])
    }

    fn grey(size: (u32, u32)) -> Frame {
        let (w, h) = (size.0 as usize, size.1 as usize);
        let bytes = vec![200; w * h + 2 * w.div_ceil(2) * h.div_ceil(2)];
        Frame::packed_i420(Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::ZERO), size, bytes).unwrap()
    }

    #[test]
    fn the_left_half_is_black_and_the_right_half_is_not() {
        let mut painter = Painter::new(&masks(&[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]));
        for size in [(8, 4), (6, 3)] {
            let frame = painter.paint(grey(size)).unwrap();
            let (luma, chroma) = (frame.plane(0).unwrap(), frame.plane(1).unwrap());
            let half = size.0 as usize / 2;
            assert!(luma.row(1)[..half].iter().all(|&v| v == 16), "{size:?}");
            assert!(luma.row(1)[half + 1..].iter().all(|&v| v == 200), "{size:?}");
            assert_eq!((chroma.row(0)[0], chroma.row(0)[chroma.width - 1]), (128, 200), "{size:?}");
        }
    }

    #[test]
    fn interleaved_chroma_and_full_range() {
        let at = |offset, stride| PlaneLayout { buffer: 0, offset, stride };
        let moment = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::ZERO);
        let bytes: Vec<u8> = vec![77; 6 * 4 + 6 * 2];
        let frame =
            Frame::new(moment, (4, 4), PixelFormat::Nv12, &[at(0, 6), at(24, 6)], vec![Arc::new(bytes)])
                .unwrap();
        let frame = frame.with_color(Range::Full, frame_matrix()).with_keyframe(true);
        let mut painter = Painter::new(&masks(&[[0.0, 0.0], [0.4, 0.0], [0.4, 0.4], [0.0, 0.4]]));
        let painted = painter.paint(frame).unwrap();
        assert_eq!(painted.plane(0).unwrap().row(0), [0, 0, 77, 77]);
        assert_eq!(painted.plane(1).unwrap().row(0), [128, 128, 77, 77]);
        assert!(painted.is_keyframe() && painted.range() == Range::Full);
    }

    fn frame_matrix() -> vedette_core::Matrix {
        vedette_core::Matrix::Bt709
    }

    proptest::proptest! {
        #[test]
        fn every_pixel_whose_middle_is_inside_is_black(
            corners in proptest::collection::vec((0.0_f32..=1.0, 0.0_f32..=1.0), 3..6), width in 1_u32..40, height in 1_u32..40,
        ) {
            let corners = corners.into_iter().map(|(x, y)| vedette_core::Point::new(x, y)).collect();
            let Ok(polygon) = Polygon::new(corners) else { return Ok(()) };
            let frame = Painter::new(&Masks::new(vec![polygon.clone()])).paint(grey((width, height))).unwrap();
            let (luma, chroma) = (frame.plane(0).unwrap(), frame.plane(1).unwrap());
            for (x, y) in (0..width as usize).flat_map(|x| (0..height as usize).map(move |y| (x, y))) {
                let middle = ((x as f32 + 0.5) / width as f32, (y as f32 + 0.5) / height as f32);
                if polygon.contains(vedette_core::Point::new(middle.0, middle.1)) {
                    proptest::prop_assert_eq!((luma.row(y)[x], chroma.row(y / 2)[x / 2]), (16, 128));
                }
            }
        }
    }

    #[test]
    fn without_masks_the_bytes_are_the_same_ones() {
        let frame = grey((4, 4));
        let before = frame.plane(0).unwrap().data.as_ptr();
        let after = Painter::new(&Masks::none()).paint(frame).unwrap();
        assert_eq!(after.plane(0).unwrap().data.as_ptr(), before);
    }
}
