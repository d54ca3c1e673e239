//! Where the picture lies in the network's input, and the way back for boxes.

use vedette_core::{BBox, Rotation, View};

use super::color::Target;
use super::swaps_sides;

/// The part of the input that shows the picture. Rows and columns of the picture are those **before** it is turned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    input: (usize, usize),
    /// Left, top, width and height in the input, after turning.
    content: [usize; 4],
    /// The part of the frame shown, in luma pixels: x from, to; y from, to.
    source: [[f64; 2]; 2],
    size: (u32, u32),
    rotation: Rotation,
}

/// A view without area, or wholly outside the picture.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the view {0:?} shows nothing of the picture: it must have an area within 0..1")]
pub struct EmptyView(pub BBox);

impl Letterbox {
    /// Fits the view of a frame of `size` luma pixels, each `pixel_aspect` times as wide as high, into `input`
    /// (width, height): as large as it goes with its proportions kept, centred. A view that reaches beyond the picture
    /// keeps its scale and place; what it shows of the outside is padding.
    pub fn new(
        size: (u32, u32),
        pixel_aspect: f32,
        view: View,
        input: (usize, usize),
    ) -> Result<Self, EmptyView> {
        // Beyond 8 no camera goes; the bound keeps the factors of both axes within what the taps are made for.
        let aspect = f64::from(pixel_aspect.clamp(0.125, 8.0));
        Self::placed(size, view, input, |columns, rows| {
            let mut shown = (columns * aspect, rows);
            if swaps_sides(view.rotation) {
                shown = (shown.1, shown.0);
            }
            let scale = (input.0 as f64 / shown.0).min(input.1 as f64 / shown.1);
            let fit = |length: f64, limit: usize| ((length * scale).round() as usize).clamp(1, limit.max(1));
            (fit(shown.0, input.0), fit(shown.1, input.1))
        })
    }

    /// The same for networks that learned from pictures without padding: each axis is scaled until it fills `input`,
    /// whatever becomes of the proportions.
    pub fn stretched(size: (u32, u32), view: View, input: (usize, usize)) -> Result<Self, EmptyView> {
        Self::placed(size, view, input, |_, _| (input.0.max(1), input.1.max(1)))
    }

    /// `fitted` tells the view's width and height in the input, after turning, from the frame's columns and rows in it.
    fn placed(
        size: (u32, u32),
        view: View,
        input: (usize, usize),
        fitted: impl FnOnce(f64, f64) -> (usize, usize),
    ) -> Result<Self, EmptyView> {
        let (region, visible) = (view.region, view.region.clipped());
        // NaN slips through minima and maxima: looked at apart.
        let finite = <[f32; 4]>::from(region).iter().all(|v| v.is_finite());
        if !finite || visible.area() <= 0.0 {
            return Err(EmptyView(region));
        }
        let span =
            |from: f32, to: f32, pixels: u32| [f64::from(from), f64::from(to)].map(|v| v * f64::from(pixels));
        let spans = |of: BBox| [span(of.x0, of.x1, size.0), span(of.y0, of.y1, size.1)];
        let (window, source) = (spans(region), spans(visible));
        let length = |[from, to]: [f64; 2]| to - from;
        let (width, height) = fitted(length(window[0]), length(window[1]));
        let share = |axis: usize, at: usize| (source[axis][at] - window[axis][0]) / length(window[axis]);
        let corner = |at: usize| turned(view.rotation, (share(0, at), share(1, at)));
        let (a, b) = (corner(0), corner(1));
        let (left, columns) = cells([a.0, b.0], width);
        let (top, rows) = cells([a.1, b.1], height);
        let left = input.0.saturating_sub(width) / 2 + left;
        let top = input.1.saturating_sub(height) / 2 + top;
        Ok(Self { input, content: [left, top, columns, rows], source, size, rotation: view.rotation })
    }

    /// The part of the frame shown, in luma pixels: [x from, to], [y from, to].
    pub(super) fn source(&self) -> [[f64; 2]; 2] {
        self.source
    }

    /// Columns of the resampled picture before it is turned.
    pub(super) fn columns(&self) -> usize {
        if swaps_sides(self.rotation) { self.content[3] } else { self.content[2] }
    }

    /// Rows of the resampled picture before it is turned.
    pub(super) fn rows(&self) -> usize {
        if swaps_sides(self.rotation) { self.content[2] } else { self.content[3] }
    }

    /// Where the pixels of a row go.
    pub(super) fn target(&self, row: usize) -> Target {
        let [left, top, width, height] = self.content;
        let line = self.input.0 as isize;
        let (x, y, step) = match self.rotation {
            Rotation::None => (left, top + row, 1),
            Rotation::Half => (left + width - 1, top + height - 1 - row, -1),
            Rotation::Clockwise90 => (left + width - 1 - row, top, line),
            Rotation::CounterClockwise90 => (left + row, top + height - 1, -line),
        };
        Target { first: y * self.input.0 + x, step }
    }

    /// Names the runs of pixels that the picture leaves, by their number in the input, row after row.
    pub(super) fn padding(&self, mut run: impl FnMut(std::ops::Range<usize>)) {
        let [left, top, width, height] = self.content;
        for y in 0..self.input.1 {
            let (first, last) = (y * self.input.0, (y + 1) * self.input.0);
            if y < top || y >= top + height {
                run(first..last);
            } else {
                run(first..first + left);
                run(first + left + width..last);
            }
        }
    }

    /// A box in input pixels (left, top, right, bottom) as 0..1 of the whole, unturned picture, cut at its borders.
    pub fn to_picture(&self, [x0, y0, x1, y1]: [f32; 4]) -> BBox {
        let (a, b) =
            (self.unturned(f64::from(x0), f64::from(y0)), self.unturned(f64::from(x1), f64::from(y1)));
        let order = |p: f64, q: f64| if p <= q { (p as f32, q as f32) } else { (q as f32, p as f32) };
        let ((x0, x1), (y0, y1)) = (order(a.0, b.0), order(a.1, b.1));
        BBox { x0, y0, x1, y1 }.clipped()
    }

    /// A box of the picture in input pixels: the inverse of [`Letterbox::to_picture`] within the view.
    pub fn to_input(&self, of: BBox) -> [f32; 4] {
        let (a, b) = (self.turned(of.x0, of.y0), self.turned(of.x1, of.y1));
        [a.0.min(b.0), a.1.min(b.1), a.0.max(b.0), a.1.max(b.1)].map(|v| v as f32)
    }

    /// A point in input pixels as 0..1 of the whole, unturned picture; outside of it where the view's padding is.
    pub fn point_to_picture(&self, x: f32, y: f32) -> (f32, f32) {
        let (x, y) = self.unturned(f64::from(x), f64::from(y));
        (x as f32, y as f32)
    }

    fn unturned(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, top, width, height] = self.content.map(|v| v as f64);
        let (u, v) = ((x - left) / width, (y - top) / height);
        let (u, v) = match self.rotation {
            Rotation::None => (u, v),
            Rotation::Half => (1.0 - u, 1.0 - v),
            Rotation::Clockwise90 => (v, 1.0 - u),
            Rotation::CounterClockwise90 => (1.0 - v, u),
        };
        let [[x0, x1], [y0, y1]] = self.source;
        ((x0 + u * (x1 - x0)) / f64::from(self.size.0), (y0 + v * (y1 - y0)) / f64::from(self.size.1))
    }

    fn turned(&self, x: f32, y: f32) -> (f64, f64) {
        let [[x0, x1], [y0, y1]] = self.source;
        let u = (f64::from(x) * f64::from(self.size.0) - x0) / (x1 - x0);
        let v = (f64::from(y) * f64::from(self.size.1) - y0) / (y1 - y0);
        let (u, v) = turned(self.rotation, (u, v));
        let [left, top, width, height] = self.content.map(|v| v as f64);
        (left + u * width, top + v * height)
    }
}

/// Where a point of the unturned view (shares of its sides) lies in the turned one.
const fn turned(rotation: Rotation, (u, v): (f64, f64)) -> (f64, f64) {
    match rotation {
        Rotation::None => (u, v),
        Rotation::Half => (1.0 - u, 1.0 - v),
        Rotation::Clockwise90 => (1.0 - v, u),
        Rotation::CounterClockwise90 => (v, 1.0 - u),
    }
}

/// The first and the number of the `count` pixels of a side that lie between two shares of it; at least one pixel.
fn cells([a, b]: [f64; 2], count: usize) -> (usize, usize) {
    let pixel = |share: f64| ((share * count as f64).round() as usize).min(count);
    let (from, to) = (pixel(a.min(b)).min(count - 1), pixel(a.max(b)));
    (from, to.saturating_sub(from).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TURNS: [Rotation; 4] =
        [Rotation::None, Rotation::Clockwise90, Rotation::Half, Rotation::CounterClockwise90];

    fn view(region: [f32; 4], rotation: Rotation) -> View {
        View { region: region.into(), rotation }
    }

    #[test]
    fn proportions_are_kept_and_the_picture_is_centred() {
        struct Case((u32, u32), f32, Rotation, [usize; 4]);
        let cases = [
            Case((1920, 1080), 1.0, Rotation::None, [0, 91, 416, 234]),
            Case((1920, 1080), 1.0, Rotation::Clockwise90, [91, 0, 234, 416]),
            // PAL as 16:9.
            Case((704, 576), 16.0 / 11.0, Rotation::None, [0, 91, 416, 234]),
            Case((416, 416), 1.0, Rotation::Half, [0, 0, 416, 416]),
            Case((4000, 2), 1.0, Rotation::None, [0, 207, 416, 1]),
        ];
        for Case(size, aspect, rotation, content) in cases {
            let found =
                Letterbox::new(size, aspect, view([0.0, 0.0, 1.0, 1.0], rotation), (416, 416)).unwrap();
            assert_eq!(found.content, content, "{size:?} {rotation:?}");
        }
    }

    #[test]
    fn a_stretched_picture_fills_the_input_and_boxes_come_back() {
        for turn in TURNS {
            let whole = view([0.0, 0.0, 1.0, 1.0], turn);
            let stretched = Letterbox::stretched((1920, 1080), whole, (300, 200)).unwrap();
            assert_eq!(stretched.content, [0, 0, 300, 200], "{turn:?}");
            stretched.padding(|run| assert!(run.is_empty(), "{turn:?}: {run:?}"));
            let of = BBox { x0: 0.1, y0: 0.2, x1: 0.5, y1: 0.6 };
            let back = stretched.to_picture(stretched.to_input(of));
            assert!(
                <[f32; 4]>::from(of).iter().zip(<[f32; 4]>::from(back)).all(|(a, b)| (a - b).abs() < 1e-5)
            );
        }
        // What a view shows of the outside is padding here too.
        let half = view([0.5, 0.0, 1.5, 1.0], Rotation::None);
        assert_eq!(Letterbox::stretched((1920, 1080), half, (300, 200)).unwrap().content, [0, 0, 150, 200]);
    }

    #[test]
    fn a_view_of_nothing_is_refused() {
        for region in [[0.5, 0.5, 0.5, 0.9], [1.1, 0.0, 1.5, 1.0], [f32::NAN; 4], [0.9, 0.0, 0.1, 1.0]] {
            let refused = Letterbox::new((64, 64), 1.0, view(region, Rotation::None), (32, 32));
            assert!(refused.is_err(), "{region:?}");
        }
    }

    #[test]
    fn clockwise_moves_the_top_left_corner_to_the_right() {
        let square =
            Letterbox::new((64, 64), 1.0, view([0.0, 0.0, 1.0, 1.0], Rotation::Clockwise90), (64, 64));
        let seen = square.unwrap().to_input(BBox { x0: 0.0, y0: 0.0, x1: 0.25, y1: 0.125 });
        assert_eq!(seen, [56.0, 0.0, 64.0, 16.0]);
    }

    #[test]
    fn what_reaches_beyond_the_picture_keeps_its_place() {
        struct Case([f32; 4], Rotation, [usize; 4]);
        let cases = [
            Case([-0.5, 0.0, 0.5, 1.0], Rotation::None, [50, 0, 50, 100]),
            Case([0.5, 0.25, 1.5, 1.25], Rotation::None, [0, 0, 50, 75]),
            Case([0.5, 0.25, 1.5, 1.25], Rotation::Clockwise90, [25, 0, 75, 50]),
            Case([0.5, 0.25, 1.5, 1.25], Rotation::Half, [50, 25, 50, 75]),
            Case([0.5, 0.25, 1.5, 1.25], Rotation::CounterClockwise90, [0, 50, 75, 50]),
            Case([-1e30, -1e30, 1e30, 1e30], Rotation::None, [50, 50, 1, 1]),
        ];
        for Case(region, turn, content) in cases {
            let found = Letterbox::new((200, 200), 1.0, view(region, turn), (100, 100)).unwrap();
            assert_eq!(found.content, content, "{region:?} {turn:?}");
        }
        let window = view([0.5, 0.25, 1.5, 1.25], Rotation::Clockwise90);
        let window = Letterbox::new((200, 200), 1.0, window, (100, 100)).unwrap();
        // The window's middle is its own, turned or not; its corners lie outside the picture.
        assert_eq!(window.point_to_picture(50.0, 50.0), (1.0, 0.75));
        assert_eq!(window.point_to_picture(0.0, 100.0), (1.5, 1.25));
    }

    proptest! {
        #[test]
        fn boxes_come_back_where_they_were(
            w in 1u32..5000, h in 1u32..5000, aspect in 0.3f32..3.0, turn in 0usize..4,
            region in (0f32..0.5, 0f32..0.5, 0.55f32..1.0, 0.55f32..1.0),
            at in (0f32..0.5, 0f32..0.5, 0.5f32..1.0, 0.5f32..1.0),
        ) {
            let view = view([region.0, region.1, region.2, region.3], TURNS[turn]);
            let letterbox = Letterbox::new((w, h), aspect, view, (416, 320)).unwrap();
            let place = |from: f32, to: f32, share: f32| from + (to - from) * share;
            let of = BBox {
                x0: place(region.0, region.2, at.0), y0: place(region.1, region.3, at.1),
                x1: place(region.0, region.2, at.2), y1: place(region.1, region.3, at.3),
            };
            let back = letterbox.to_picture(letterbox.to_input(of));
            for (a, b) in <[f32; 4]>::from(of).iter().zip(<[f32; 4]>::from(back)) {
                // Input pixels are f32: what is left is their rounding, over a content that may be one pixel high.
                prop_assert!((a - b).abs() < 1e-4, "{of:?} {back:?}");
            }
        }
    }
}
