//! One row of the result from the rows of one plane: down the columns first (plain loops over bytes that the compiler
//! turns into vector code), then along the row.
//!
//! Scales: a sample is 0..255; between the two steps it is held times 128 in 16 bits (so that products stay in the
//! upper half of a 16-bit multiply), in the result times 64.

use vedette_core::Plane;

use super::taps::{ONE, Tap, Taps};

/// Bits below the point in a resampled row: values are 0..255 times 64.
pub(super) const FRACTION_BITS: u32 = 6;
/// Columns that are summed together: their sums stay in registers.
const BLOCK: usize = 32;
/// More rows than this of 255 would not fit 16 bits; beyond, rows are sampled.
const MOST_ROWS: usize = 256;

/// A plane with the number of components that its bytes interleave.
pub(super) struct PlaneRows<'a> {
    plane: Plane<'a>,
    components: usize,
}

impl<'a> PlaneRows<'a> {
    pub(super) fn new(plane: Plane<'a>, components: usize) -> Self {
        Self { plane, components }
    }

    /// The bytes of row `y` that samples `from..to` need.
    fn row(&self, y: usize, (from, to): (usize, usize)) -> &'a [u8] {
        &self.plane.row(y)[from * self.components..to * self.components]
    }
}

/// Buffers of one plane.
#[derive(Debug, Default)]
pub(super) struct Resampler {
    column_sums: Vec<i16>,
    apart: [Vec<i16>; 2],
    result: [Vec<i16>; 2],
}

impl Resampler {
    /// Row `index` of the result, for a plane of one component; `taps` are those of x and y.
    pub(super) fn row(&mut self, plane: &PlaneRows<'_>, [x, y]: [&Taps; 2], index: usize) -> &[i16] {
        self.down(plane, x, y, index);
        along(&self.column_sums, x, &mut self.result[0]);
        &self.result[0]
    }

    /// The same for a plane of two interleaved components.
    pub(super) fn row_of_two(&mut self, plane: &PlaneRows<'_>, [x, y]: [&Taps; 2], index: usize) -> (&[i16], &[i16]) {
        self.down(plane, x, y, index);
        for part in &mut self.apart {
            part.resize(self.column_sums.len() / 2, 0);
        }
        let [first, second] = &mut self.apart;
        let pairs = self.column_sums.as_chunks::<2>().0;
        for ((pair, a), b) in pairs.iter().zip(first.iter_mut()).zip(second.iter_mut()) {
            [*a, *b] = *pair;
        }
        along(first, x, &mut self.result[0]);
        along(second, x, &mut self.result[1]);
        (&self.result[0], &self.result[1])
    }

    fn down(&mut self, plane: &PlaneRows<'_>, x: &Taps, y: &Taps, index: usize) {
        let (from, to) = x.range();
        let needed = (to - from) * plane.components;
        // What dot products read beyond the last sample has weight 0.
        self.column_sums.resize(needed + x.width() * plane.components, 0);
        if let Some(tap) = y.get(index) {
            let rows = Rows { plane, range: (from, to), tap };
            rows.blend(&mut self.column_sums[..needed]);
        }
    }
}

struct Rows<'a> {
    plane: &'a PlaneRows<'a>,
    range: (usize, usize),
    tap: &'a Tap,
}

/// Factors of the three parts of a tap for [`mix`].
#[derive(Clone, Copy)]
struct Factors {
    first: u16,
    last: u16,
    inner: u16,
    inner_shift: u32,
}

impl Rows<'_> {
    fn blend(&self, output: &mut [i16]) {
        let tap = self.tap;
        let stride = tap.inner.div_ceil(MOST_ROWS).max(1);
        let inner = tap.inner.div_ceil(stride);
        let factors = Factors::new(tap, inner);
        let row = |y: usize| self.plane.row(y, self.range);
        let (first, last) = (row(tap.first), row(tap.last));
        let between = || (tap.first + 1..tap.last).step_by(stride).take(inner);
        let (blocks, rest) = output.as_chunks_mut::<BLOCK>();
        let whole = blocks.len() * BLOCK;
        let (first_blocks, first_rest) = first.as_chunks::<BLOCK>();
        let (last_blocks, last_rest) = last.as_chunks::<BLOCK>();
        for (at, ((block, a), b)) in blocks.iter_mut().zip(first_blocks).zip(last_blocks).enumerate() {
            let mut sums = [0u16; BLOCK];
            for y in between() {
                let Some(bytes) = row(y)[at * BLOCK..].first_chunk::<BLOCK>() else { continue };
                for (sum, byte) in sums.iter_mut().zip(bytes) {
                    *sum += u16::from(*byte);
                }
            }
            for (((out, a), b), sum) in block.iter_mut().zip(a).zip(b).zip(&sums) {
                *out = mix(*a, *b, *sum, factors);
            }
        }
        for (column, ((out, a), b)) in rest.iter_mut().zip(first_rest).zip(last_rest).enumerate() {
            let sum = between().map(|y| u16::from(row(y)[whole + column])).sum();
            *out = mix(*a, *b, sum, factors);
        }
    }
}

impl Factors {
    fn new(tap: &Tap, inner: usize) -> Self {
        let unit = |weight: f64| (weight * 32768.0).round() as u16;
        // The sum is moved up as far as 16 bits hold it, so that its factor keeps the most digits.
        let inner_shift = (257 / inner.clamp(1, 257)).ilog2();
        let share = tap.inner_weight * tap.inner as f64 / inner.max(1) as f64;
        // A cast saturates; the factor stays below 65536 since a shifted sum of 255s exceeds 32767.
        let factor = (share * f64::from(1u32 << 23) / f64::from(1u32 << inner_shift)).round() as u16;
        Self { first: unit(tap.first_weight), last: unit(tap.last_weight), inner: factor, inner_shift }
    }
}

/// (first · weight + last · weight + sum · weight) · 128, each product rounded down by less than 1/128 of a level.
#[inline(always)]
fn mix(first: u8, last: u8, sum: u16, f: Factors) -> i16 {
    let high = |a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16;
    let edges = high(u16::from(first) << 8, f.first) + high(u16::from(last) << 8, f.last);
    (edges + high(sum << f.inner_shift, f.inner)) as i16
}

fn along(line: &[i16], taps: &Taps, result: &mut Vec<i16>) {
    result.clear();
    match taps.width() {
        2 => dot_products::<2>(line, taps, result),
        4 => dot_products::<4>(line, taps, result),
        8 => dot_products::<8>(line, taps, result),
        16 => dot_products::<16>(line, taps, result),
        _ => result.extend(taps.long_dot_products().map(|(start, weights)| dot(&line[start..], weights))),
    }
}

fn dot_products<const N: usize>(line: &[i16], taps: &Taps, result: &mut Vec<i16>) {
    let products = taps.dot_products::<N>();
    result.extend(products.map(|(start, weights)| match line[start..].first_chunk::<N>() {
        Some(samples) => dot(samples, weights),
        None => 0,
    }));
}

#[inline(always)]
fn dot(samples: &[i16], weights: &[i16]) -> i16 {
    let sum: i32 = samples.iter().zip(weights).map(|(s, w)| i32::from(*s) * i32::from(*w)).sum();
    // From 128 · ONE to 64, rounded.
    let shift = ONE.ilog2() + 7 - FRACTION_BITS;
    ((sum + (1 << (shift - 1))) >> shift) as i16
}
