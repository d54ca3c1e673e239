//! Dot products along a row, four at a time, by the 16-bit multiply-add of SSE2. The compiler does not find it by
//! itself in sums this short: it multiplies one by one, which took half of all pre-processing.
//!
//! The same integers as [`super::rows`] has for other machines, to the bit.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_castps_si128, _mm_castsi128_ps, _mm_cvtsi128_si64, _mm_madd_epi16,
    _mm_packs_epi32, _mm_set_epi64x, _mm_set1_epi32, _mm_setzero_si128, _mm_shuffle_ps, _mm_srai_epi32,
};

/// Results that are made together.
pub(crate) const TOGETHER: usize = 4;

/// For each group of four results: four stretches of `N` samples of the line, each with its weights. `N` is a multiple
/// of 4; sums are divided by 2^`SHIFT`, rounded. What is left over behind the last group stays as it is.
#[target_feature(enable = "sse2")]
pub(crate) fn dot_products<const N: usize, const SHIFT: i32>(
    line: &[i16],
    starts: &[usize],
    weights: &[[i16; N]],
    result: &mut [i16],
) {
    let round = _mm_set1_epi32(1 << (SHIFT - 1));
    let starts = starts.as_chunks::<TOGETHER>().0;
    let weights = weights.as_chunks::<TOGETHER>().0;
    let groups = result.as_chunks_mut::<TOGETHER>().0.iter_mut().zip(starts).zip(weights);
    for ((out, starts), weights) in groups {
        let [first, second, third, fourth] = starts;
        let [a, b, c, d] = weights;
        // Each half holds two sums of two results: a a b b, c c d d.
        let halves = [pair(line, (*first, a), (*second, b)), pair(line, (*third, c), (*fourth, d))];
        let [low, high] = halves.map(|half| _mm_castsi128_ps(half));
        let even = _mm_castps_si128(_mm_shuffle_ps::<0x88>(low, high));
        let odd = _mm_castps_si128(_mm_shuffle_ps::<0xdd>(low, high));
        let sums = _mm_srai_epi32::<SHIFT>(_mm_add_epi32(_mm_add_epi32(even, odd), round));
        let packed = _mm_cvtsi128_si64(_mm_packs_epi32(sums, sums));
        *out = [packed as i16, (packed >> 16) as i16, (packed >> 32) as i16, (packed >> 48) as i16];
    }
}

/// Two stretches with their weights: two sums of each, next to each other. Zero where the line ends before.
#[inline]
#[target_feature(enable = "sse2")]
fn pair<const N: usize>(
    line: &[i16],
    (a, a_weights): (usize, &[i16; N]),
    (b, b_weights): (usize, &[i16; N]),
) -> __m128i {
    let mut sums = _mm_setzero_si128();
    let (Some(a), Some(b)) = (line.get(a..a + N), line.get(b..b + N)) else { return sums };
    for at in (0..N).step_by(4) {
        let samples = _mm_set_epi64x(four(&b[at..at + 4]), four(&a[at..at + 4]));
        let weights = _mm_set_epi64x(four(&b_weights[at..at + 4]), four(&a_weights[at..at + 4]));
        sums = _mm_add_epi32(sums, _mm_madd_epi16(samples, weights));
    }
    sums
}

/// Four samples as they lie in memory: by index, since the compiler then makes one load of them.
#[inline(always)]
fn four(v: &[i16]) -> i64 {
    let [a, b, c, d] = [v[0], v[1], v[2], v[3]].map(i16::to_le_bytes);
    i64::from_le_bytes([a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]])
}
