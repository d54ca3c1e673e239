//! One row of the result from the rows of one plane: down the columns first (plain loops over bytes that the compiler
//! turns into vector code), then along the row.
//!
//! Scales: a sample is 0..255; between the two steps it is held times 128 in 16 bits (so that products stay in the
//! upper half of a 16-bit multiply), in the result times 64.

use vedette_core::Plane;

use super::taps::{ONE, Tap, Taps};

/// Bits below the point in a resampled row: values are 0..255 times 64.
pub(super) const FRACTION_BITS: u32 = 6;
/// Columns that are mixed together.
const BLOCK: usize = 64;
/// More rows than this of 255 would not fit 16 bits; beyond, rows are sampled.
const MOST_ROWS: usize = 256;

/// From 128 · [`ONE`] to 64.
const SHIFT: u32 = ONE.ilog2() + 7 - FRACTION_BITS;

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
    inner_sums: Vec<u16>,
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
    pub(super) fn row_of_two(
        &mut self,
        plane: &PlaneRows<'_>,
        [x, y]: [&Taps; 2],
        index: usize,
    ) -> (&[i16], &[i16]) {
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
            self.inner_sums.resize(needed, 0);
            blend(plane, (from, to), tap, &mut self.inner_sums, &mut self.column_sums[..needed]);
        }
    }
}

/// Factors of the three parts of a tap for [`mix`].
struct Factors {
    first: [u16; BLOCK],
    last: [u16; BLOCK],
    inner: [u16; BLOCK],
    inner_shift: u32,
}

/// One line of column averages: first row, last row and the sum of those between, each with its factor.
fn blend(plane: &PlaneRows<'_>, range: (usize, usize), tap: &Tap, sums: &mut [u16], output: &mut [i16]) {
    let stride = tap.inner.div_ceil(MOST_ROWS).max(1);
    let inner = tap.inner.div_ceil(stride);
    let factors = Factors::new(tap, inner);
    let row = |index: usize| plane.row(tap.first + 1 + index * stride, range);
    let whole = inner - inner % 4;
    sums.fill(0);
    for index in (0..whole).step_by(4) {
        add(sums, [row(index), row(index + 1), row(index + 2), row(index + 3)]);
    }
    match inner - whole {
        1 => add(sums, [row(whole)]),
        2 => add(sums, [row(whole), row(whole + 1)]),
        3 => add(sums, [row(whole), row(whole + 1), row(whole + 2)]),
        _ => {}
    }
    let (first, last) = (plane.row(tap.first, range), plane.row(tap.last, range));
    let (blocks, rest) = output.as_chunks_mut::<BLOCK>();
    let ((first, first_rest), (last, last_rest)) = (first.as_chunks::<BLOCK>(), last.as_chunks::<BLOCK>());
    let (sums, sums_rest) = sums.as_chunks::<BLOCK>();
    for (((out, a), b), sum) in blocks.iter_mut().zip(first).zip(last).zip(sums) {
        mix_block(out, a, b, sum, &factors);
    }
    for (((out, a), b), sum) in rest.iter_mut().zip(first_rest).zip(last_rest).zip(sums_rest) {
        *out = mix(*a, *b, *sum, &factors, 0);
    }
}

/// Not inlined, and the factors stand in lines as long as the block: only then does the compiler see 16-bit operands
/// and use the 16-bit multiply of every vector unit instead of a 32-bit one that baseline x86-64 lacks (3x).
#[inline(never)]
fn mix_block(
    output: &mut [i16; BLOCK],
    first: &[u8; BLOCK],
    last: &[u8; BLOCK],
    sums: &[u16; BLOCK],
    factors: &Factors,
) {
    for i in 0..BLOCK {
        output[i] = mix(first[i], last[i], sums[i], factors, i);
    }
}

/// Adds N rows at once: the sums are then read and written once for N rows.
#[inline(always)]
fn add<const N: usize>(sums: &mut [u16], rows: [&[u8]; N]) {
    let length = sums.len();
    // Cut to one length, so that the loop needs no checks and becomes vector code.
    let rows = rows.map(|row| &row[..length]);
    for (i, sum) in sums.iter_mut().enumerate() {
        let column = rows.iter().map(|row| u16::from(row[i]));
        *sum = column.fold(*sum, u16::wrapping_add);
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
        let line = |factor: u16| [factor; BLOCK];
        let (first, last) = (line(unit(tap.first_weight)), line(unit(tap.last_weight)));
        Self { first, last, inner: line(factor), inner_shift }
    }
}

/// (first · weight + last · weight + sum · weight) · 128, each product rounded down by less than 1/128 of a level.
#[inline(always)]
fn mix(first: u8, last: u8, sum: u16, f: &Factors, column: usize) -> i16 {
    let high = |a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16;
    let edges =
        high(u16::from(first) << 8, f.first[column]).wrapping_add(high(u16::from(last) << 8, f.last[column]));
    edges.wrapping_add(high(sum << f.inner_shift, f.inner[column])) as i16
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
    let (starts, weights) = taps.dot_products::<N>();
    result.resize(starts.len(), 0);
    let done = if N.is_multiple_of(4) { in_groups(line, starts, weights, result) } else { 0 };
    let rest = result.iter_mut().zip(starts).zip(weights).skip(done);
    for ((result, start), weights) in rest {
        *result = line.get(*start..*start + N).map_or(0, |samples| dot(samples, weights));
    }
}

/// As many as the machine makes in groups; how many.
#[cfg(target_arch = "x86_64")]
fn in_groups<const N: usize>(
    line: &[i16],
    starts: &[usize],
    weights: &[[i16; N]],
    result: &mut [i16],
) -> usize {
    crate::native::dot_products::<N, { SHIFT as i32 }>(line, starts, weights, result);
    result.len() - result.len() % super::sse2::TOGETHER
}

#[cfg(not(target_arch = "x86_64"))]
fn in_groups<const N: usize>(_: &[i16], _: &[usize], _: &[[i16; N]], _: &mut [i16]) -> usize {
    0
}

#[inline(always)]
fn dot(samples: &[i16], weights: &[i16]) -> i16 {
    let sum: i32 = samples.iter().zip(weights).map(|(s, w)| i32::from(*s) * i32::from(*w)).sum();
    ((sum + (1 << (SHIFT - 1))) >> SHIFT) as i16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Groups and single ones give the same integers, whatever the line, the lengths and what is left over.
        #[test]
        fn groups_are_single_dot_products_to_the_bit(
            samples in 40usize..2000, from in 0f64..0.3, to in 0.5f64..1.0, count in 1usize..500, seed in any::<u32>()
        ) {
            let taps = Taps::new([from * samples as f64, to * samples as f64], count, samples);
            let (low, high) = taps.range();
            let mut random = seed;
            let line: Vec<i16> = (0..high - low + taps.width())
                .map(|_| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (random >> 8) as i16 % (255 * 128)
                })
                .map(|v| v.max(0))
                .collect();
            let mut result = Vec::new();
            along(&line, &taps, &mut result);
            let single = taps.long_dot_products().map(|(start, weights)| dot(&line[start..], weights));
            prop_assert_eq!(result, single.collect::<Vec<_>>());
        }
    }
}
