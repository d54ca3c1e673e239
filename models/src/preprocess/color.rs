//! YUV rows to the channels of the input. Coefficients: ITU-R BT.601 and BT.709, full and limited range.

use vedette_core::{Matrix, Range};

use super::canvas::Canvas;
use super::rows::FRACTION_BITS;
use crate::manifest::ColorOrder;

/// Bits below the point in a coefficient; the largest, 2.11, still fits 16 bits.
const COEFFICIENT_BITS: u32 = 13;
/// Pixels that are converted together.
pub(super) const BLOCK: usize = 32;

/// Where the pixels of a row go, counted in pixels of the input: the first one, and from one to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub first: usize,
    pub step: isize,
}

/// One matrix, range and channel order.
#[derive(Debug)]
pub(super) struct Converter {
    luma: [i16; BLOCK],
    luma_zero: i32,
    red_v: [i16; BLOCK],
    green_u: [i16; BLOCK],
    green_v: [i16; BLOCK],
    blue_u: [i16; BLOCK],
    order: ColorOrder,
}

impl Converter {
    pub(super) fn new(range: Range, matrix: Matrix, order: ColorOrder) -> Self {
        // Kr and Kb of the standards; the rest follows.
        let (kr, kb) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let (luma, chroma, luma_zero) = match range {
            Range::Full => (1.0, 1.0, 0),
            Range::Limited => (255.0 / 219.0, 255.0 / 224.0, 16),
        };
        let kg = 1.0 - kr - kb;
        let unit = |value: f64| [(value * f64::from(1 << COEFFICIENT_BITS)).round() as i16; BLOCK];
        Self {
            luma: unit(luma),
            luma_zero,
            red_v: unit(2.0 * (1.0 - kr) * chroma),
            green_u: unit(-2.0 * kb * (1.0 - kb) / kg * chroma),
            green_v: unit(-2.0 * kr * (1.0 - kr) / kg * chroma),
            blue_u: unit(2.0 * (1.0 - kb) * chroma),
            order,
        }
    }

    /// Writes one row; without chroma it is grey. Values are times 64 (`rows.rs`).
    pub(super) fn row(
        &self,
        luma: &[i16],
        chroma: Option<(&[i16], &[i16])>,
        target: Target,
        canvas: &mut impl Canvas,
    ) {
        const GREY: [i16; BLOCK] = [128 << FRACTION_BITS; BLOCK];
        let mut pixels = [[0u8; BLOCK]; 3];
        for (block, y) in luma.chunks(BLOCK).enumerate() {
            let at = block * BLOCK;
            let part = |line: &[i16]| {
                let mut part = GREY;
                let there = &line[at.min(line.len())..(at + y.len()).min(line.len())];
                part[..there.len()].copy_from_slice(there);
                part
            };
            let (u, v) = chroma.map_or((GREY, GREY), |(u, v)| (part(u), part(v)));
            self.block(&part(luma), &u, &v, &mut pixels);
            if self.order == ColorOrder::Bgr {
                pixels.swap(0, 2);
            }
            canvas.write(target, at, y.len(), &pixels);
        }
    }

    /// Not inlined, and the coefficients stand in lines: see `rows.rs`.
    #[inline(never)]
    fn block(&self, y: &[i16; BLOCK], u: &[i16; BLOCK], v: &[i16; BLOCK], rgb: &mut [[u8; BLOCK]; 3]) {
        let shift = COEFFICIENT_BITS + FRACTION_BITS;
        let round = (1 << (shift - 1)) - i32::from(self.luma[0]) * (self.luma_zero << FRACTION_BITS);
        let center = 128 << FRACTION_BITS;
        // Narrowed first: 16-bit limits are one instruction where 32-bit ones are three.
        let byte = |sum: i32| ((sum >> shift) as i16).clamp(0, 255) as u8;
        let product = |a: i16, b: i16| i32::from(a) * i32::from(b);
        for i in 0..BLOCK {
            let (cb, cr) = (u[i].wrapping_sub(center), v[i].wrapping_sub(center));
            let luma = product(y[i], self.luma[i]) + round;
            rgb[0][i] = byte(luma + product(cr, self.red_v[i]));
            rgb[1][i] = byte(luma + product(cb, self.green_u[i]) + product(cr, self.green_v[i]));
            rgb[2][i] = byte(luma + product(cb, self.blue_u[i]));
        }
    }
}

impl Target {
    /// The place of pixel number `at` of the row.
    pub(super) fn pixel(self, at: usize) -> Option<usize> {
        usize::try_from(self.first as isize + at as isize * self.step).ok()
    }
}
