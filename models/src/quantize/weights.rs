//! Constant weights as int8: symmetric, one scale a channel.
//!
//! Owns: the arithmetic. Does not know: which operator reads them.

/// int8 values and one scale for each index of `axis`: `values[i] ≈ int8[i] * scales[channel(i)]`, zero point 0, values
/// -127..=127. `least` is a lower bound for each scale (0 for none); a channel of zeros gets scale 1 where there is
/// none. `axis` must be below the length of `dims`, and `dims` make the number of values.
pub(crate) fn quantize_weights(
    values: &[f32],
    dims: &[i64],
    axis: usize,
    least: impl Fn(usize) -> f32,
) -> (Vec<i8>, Vec<f32>) {
    let size = |dims: &[i64]| dims.iter().product::<i64>().max(1) as usize;
    let (channels, inner) = (dims[axis].max(1) as usize, size(&dims[axis + 1..]));
    let channel = |at: usize| at / inner % channels;
    let mut scales = vec![0f32; channels];
    for (at, v) in values.iter().enumerate() {
        scales[channel(at)] = scales[channel(at)].max(v.abs() / 127.0);
    }
    for (at, scale) in scales.iter_mut().enumerate() {
        *scale = scale.max(least(at));
        // A scale below the normal floats has no inverse.
        if *scale < f32::MIN_POSITIVE * 256.0 {
            *scale = 1.0;
        }
    }
    let int8 = values.iter().enumerate().map(|(at, v)| (v / scales[channel(at)]).round_ties_even());
    (int8.map(|v| v.clamp(-127.0, 127.0) as i8).collect(), scales)
}

/// Bias as int32 at the scale of its products, `scales[c] = activation * weight[c]`.
pub(crate) fn quantize_bias(values: &[f32], scales: &[f32]) -> Vec<i32> {
    let int32 = |(v, s): (&f32, &f32)| (f64::from(*v) / f64::from(*s)).round_ties_even() as i32;
    values.iter().zip(scales).map(int32).collect()
}

/// The least weight scale at which a bias fits into half of int32's range; the other half is for the products.
pub(crate) fn least_scale(bias: f32, activation: f32) -> f32 {
    bias.abs() / activation / (1u32 << 30) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_channel_has_its_own_scale_whatever_the_axis() {
        let values = [1.27, 127.0, -0.635, 63.5];
        let (int8, scales) = quantize_weights(&values, &[2, 2], 1, |_| 0.0);
        assert_eq!(scales, [0.01, 1.0]);
        assert_eq!(int8, [127, 127, -64, 64]);
        let (int8, scales) = quantize_weights(&values, &[2, 2], 0, |_| 0.0);
        assert_eq!((int8, scales), (vec![1, 127, -1, 127], vec![1.0, 0.5]));
        assert_eq!(quantize_weights(&[0.0; 2], &[1, 2], 0, |_| 0.0), (vec![0, 0], vec![1.0]));
    }

    #[test]
    fn a_bias_beyond_its_weights_widens_their_scale() {
        let (_, scales) = quantize_weights(&[1e-9], &[1, 1], 0, |_| least_scale(100.0, 0.1));
        let bias = quantize_bias(&[100.0], &[scales[0] * 0.1]);
        assert!((f64::from(bias[0]) * f64::from(scales[0] * 0.1) - 100.0).abs() < 1e-3, "{bias:?}");
        assert!(bias[0] < i32::MAX);
    }

    proptest! {
        #[test]
        fn no_weight_moves_by_more_than_half_a_step(values in prop::collection::vec(-10f32..10.0, 12)) {
            let (int8, scales) = quantize_weights(&values, &[3, 4], 0, |_| 0.0);
            for (at, (v, q)) in values.iter().zip(&int8).enumerate() {
                let step = scales[at / 4];
                prop_assert!((v - f32::from(*q) * step).abs() <= step * 0.5001);
            }
        }
    }
}
