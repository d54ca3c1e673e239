//! Seeing every activation's values on samples, a few tensors at a time.
//!
//! Owns: the memory bound. Does not know: int8.

use std::collections::BTreeMap;

use super::range::Histogram;
use super::runner;
use super::{Progress, QuantizeError};
use crate::manifest::InputSpec;
use crate::onnx::{GraphProto, ModelProto};
use crate::runtime::Runtime;

/// Tensors that one session keeps for us at most; the others are freed as the network runs.
const CHUNK_TENSORS: usize = 20;
/// Bytes of them at most (one tensor may be larger).
const CHUNK_BYTES: usize = 64 << 20;
/// What a tensor counts for whose shape the runtime does not tell.
const UNKNOWN_BYTES: usize = 4 << 20;

/// Values in groups within the bound, in the given order.
pub(super) fn chunks(graph: &GraphProto, values: &[String]) -> Vec<Vec<String>> {
    let described = graph.value_info.iter().chain(&graph.output).chain(&graph.input);
    let sizes: BTreeMap<&str, usize> = described
        .filter_map(|value| {
            let dims = &value.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?.dim;
            let bytes =
                dims.iter().try_fold(4usize, |n, d| n.checked_mul(usize::try_from(d.dim_value?).ok()?))?;
            Some((value.name(), bytes))
        })
        .collect();
    let (mut chunks, mut bytes): (Vec<Vec<String>>, usize) = (Vec::new(), usize::MAX);
    for value in values {
        let size = sizes.get(value.as_str()).copied().unwrap_or(UNKNOWN_BYTES);
        let full = bytes.saturating_add(size) > CHUNK_BYTES;
        match chunks.last_mut().filter(|chunk| !full && chunk.len() < CHUNK_TENSORS) {
            Some(chunk) => {
                chunk.push(value.clone());
                bytes += size;
            }
            None => {
                chunks.push(vec![value.clone()]);
                bytes = size;
            }
        }
    }
    chunks
}

/// A histogram of each value over all samples.
pub(super) fn calibrate(
    runtime: &'static Runtime,
    model: &ModelProto,
    input: &InputSpec,
    samples: &[&[u8]],
    values: &[String],
    progress: &mut dyn FnMut(Progress),
) -> Result<BTreeMap<String, Histogram>, QuantizeError> {
    let chunks = chunks(&model.graph.clone().unwrap_or_default(), values);
    let mut histograms: Vec<Histogram> = vec![Histogram::default(); values.len()];
    let mut first = 0;
    for (at, chunk) in chunks.iter().enumerate() {
        progress(Progress::Calibrating { done: at, of: chunks.len() });
        let model = runner::with_outputs(model, chunk);
        runner::run(runtime, &model, input, samples, |_, output, values| {
            let bad = histograms[first + output].add(values);
            if bad > 0 {
                log::debug!("calibration: `{}` has {bad} values that are not finite", chunk[output]);
            }
        })?;
        first += chunk.len();
    }
    Ok(values.iter().cloned().zip(histograms).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_order_and_bounds() {
        let values: Vec<String> = (0..50).map(|at| format!("v{at}")).collect();
        let groups = chunks(&GraphProto::default(), &values);
        assert_eq!(groups.concat(), values);
        let most = CHUNK_BYTES / UNKNOWN_BYTES;
        assert!(groups.iter().all(|group| group.len() <= most.min(CHUNK_TENSORS)), "{groups:?}");
    }
}
