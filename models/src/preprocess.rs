//! Planes to the network's input, letterboxed or stretched, in one pass over the samples that the view needs: `[H, W, 3] u8`, or
//! what the manifest makes of each byte, in either order of axes.
//!
//! Owns: where the picture lies in the input ([`Letterbox`]) and the order of the steps. Does not know: ONNX Runtime,
//! manifests' files, detections. Integer arithmetic throughout: the same bytes on every machine.
//!
//! Each plane is resampled at its own resolution (rows first, then columns: `rows.rs`), by exact area averages where
//! it shrinks and linearly where it grows (`taps.rs`); only the few pixels of the result become RGB (`color.rs`).
//! Chroma is taken to lie in the middle of its 2x2 luma samples; the quarter-sample shift of MPEG-2 siting is below
//! what a detector sees.

mod canvas;
mod color;
mod letterbox;
mod rows;
#[cfg(target_arch = "x86_64")]
pub(crate) mod sse2;
mod taps;

use vedette_core::{Frame, PixelFormat, Rotation, View};

pub use self::letterbox::{EmptyView, Letterbox};

use self::canvas::{Canvas, Plain, Tabled};
use self::color::Converter;
use self::rows::{PlaneRows, Resampler};
use self::taps::Taps;
use crate::manifest::{ColorOrder, Fit, InputSpec, Layout, Tables};

/// Brings frames into one network's input; keeps its buffers from frame to frame.
#[derive(Debug)]
pub struct Preprocessor {
    width: usize,
    height: usize,
    color: ColorOrder,
    pad: u8,
    fit: Fit,
    plan: Option<Plan>,
    luma: Resampler,
    chroma: [Resampler; 2],
}

/// What depends on the geometry alone: cameras keep theirs, so it is computed once.
#[derive(Debug)]
struct Plan {
    key: Key,
    letterbox: Letterbox,
    luma: [Taps; 2],
    chroma: [Taps; 2],
}

#[derive(Debug, PartialEq)]
struct Key {
    size: (u32, u32),
    aspect: f32,
    view: View,
}

impl Preprocessor {
    /// For an input of `width` x `height` pixels with these channels; `pad` fills what the picture leaves.
    pub fn new(width: usize, height: usize, color: ColorOrder, pad: u8) -> Self {
        let chroma = [Resampler::default(), Resampler::default()];
        Self {
            width,
            height,
            color,
            pad,
            fit: Fit::default(),
            plan: None,
            luma: Resampler::default(),
            chroma,
        }
    }

    /// For what a manifest says of an input; of its values only the picture, not what each byte becomes.
    pub fn of(input: &InputSpec) -> Self {
        let plain = Self::new(input.width, input.height, input.color, input.pad);
        Self { fit: input.fit, ..plain }
    }

    /// Writes `[height, width, 3]` bytes to `output` and says where the picture lies in it. Bytes beyond that are
    /// left alone; where `output` is shorter, rows that it does not hold are left out.
    pub fn run(&mut self, frame: &Frame, view: View, output: &mut [u8]) -> Result<Letterbox, EmptyView> {
        self.paint(frame, view, &mut Plain(output))
    }

    /// The same through a table for each channel, in the order of axes wanted.
    pub fn run_with<T: Copy>(
        &mut self,
        frame: &Frame,
        view: View,
        (tables, layout): (&Tables<T>, Layout),
        output: &mut [T],
    ) -> Result<Letterbox, EmptyView> {
        let pixels = self.width * self.height;
        self.paint(frame, view, &mut Tabled { tables, layout, pixels, output })
    }

    fn paint(&mut self, frame: &Frame, view: View, canvas: &mut impl Canvas) -> Result<Letterbox, EmptyView> {
        let key = Key { size: (frame.width(), frame.height()), aspect: frame.pixel_aspect(), view };
        let plan = match self.plan.take().filter(|plan| plan.key == key) {
            Some(plan) => plan,
            None => Plan::new(key, self.fit, (self.width, self.height))?,
        };
        self.fill(frame, &plan, canvas);
        let letterbox = plan.letterbox;
        self.plan = Some(plan);
        Ok(letterbox)
    }

    fn fill(&mut self, frame: &Frame, plan: &Plan, canvas: &mut impl Canvas) {
        let letterbox = &plan.letterbox;
        canvas.pad(letterbox, self.pad);
        let Some(luma) = frame.plane(0) else { return };
        let luma = PlaneRows::new(luma, 1);
        let planes = match frame.format() {
            PixelFormat::I420 => [frame.plane(1), frame.plane(2)],
            PixelFormat::Nv12 => [frame.plane(1), None],
            PixelFormat::Gray8 => [None, None],
        };
        let converter = Converter::new(frame.range(), frame.matrix(), self.color);
        let [left, right] = &mut self.chroma;
        for row in 0..letterbox.rows() {
            let y = self.luma.row(&luma, plan.luma.each_ref(), row);
            let target = letterbox.target(row);
            match planes {
                [Some(u), Some(v)] => {
                    let (u, v) = (PlaneRows::new(u, 1), PlaneRows::new(v, 1));
                    let u = left.row(&u, plan.chroma.each_ref(), row);
                    let v = right.row(&v, plan.chroma.each_ref(), row);
                    converter.row(y, Some((u, v)), target, canvas);
                }
                [Some(uv), None] => {
                    let uv = left.row_of_two(&PlaneRows::new(uv, 2), plan.chroma.each_ref(), row);
                    converter.row(y, Some(uv), target, canvas);
                }
                _ => converter.row(y, None, target, canvas),
            }
        }
    }
}

impl Plan {
    fn new(key: Key, fit: Fit, input: (usize, usize)) -> Result<Self, EmptyView> {
        let letterbox = match fit {
            Fit::Letterbox => Letterbox::new(key.size, key.aspect, key.view, input)?,
            Fit::Stretch => Letterbox::stretched(key.size, key.view, input)?,
        };
        let [x, y] = letterbox.source();
        let (columns, rows) = (letterbox.columns(), letterbox.rows());
        let (w, h) = (key.size.0 as usize, key.size.1 as usize);
        let half = |span: [f64; 2]| span.map(|at| at / 2.0);
        let luma = [Taps::new(x, columns, w), Taps::new(y, rows, h)];
        let chroma = [Taps::new(half(x), columns, w.div_ceil(2)), Taps::new(half(y), rows, h.div_ceil(2))];
        Ok(Self { key, letterbox, luma, chroma })
    }
}

/// Whether a rotation swaps the sides of the picture.
const fn swaps_sides(rotation: Rotation) -> bool {
    matches!(rotation, Rotation::Clockwise90 | Rotation::CounterClockwise90)
}

#[cfg(test)]
mod tests;
