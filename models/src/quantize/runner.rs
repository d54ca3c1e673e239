//! Running a graph on samples: pixels in, chosen values out.
//!
//! Owns: sessions of the quantiser and signal-to-noise ratios. Does not know: what the graph is made of.

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use prost::Message;

use super::{QuantizeError, reason};
use crate::manifest::InputSpec;
use crate::onnx::{ModelProto, ValueInfoProto};
use crate::runtime::Runtime;
use crate::tensor::InputTensor;

/// The model with these values as its outputs, instead of its own.
pub(super) fn with_outputs(model: &ModelProto, values: &[String]) -> ModelProto {
    let mut model = model.clone();
    let graph = model.graph.get_or_insert_default();
    let known = std::mem::take(&mut graph.output);
    let described = |name: &String| {
        let same = known.iter().find(|value| value.name() == name).cloned();
        same.unwrap_or_else(|| ValueInfoProto { name: Some(name.clone()), ..Default::default() })
    };
    graph.output = values.iter().map(described).collect();
    model
}

/// Runs the model on each sample and hands over its float outputs, `each(sample, output, values)`. One thread,
/// spinning off: a daemon may be analysing cameras beside it.
pub(super) fn run(
    runtime: &'static Runtime,
    model: &ModelProto,
    input: &InputSpec,
    samples: &[&[u8]],
    mut each: impl FnMut(usize, usize, &[f32]),
) -> Result<(), QuantizeError> {
    let bytes = model.encode_to_vec();
    let open = || -> ort::Result<Session> {
        Session::builder(runtime.environment())?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .commit_from_memory(&bytes)
    };
    let failed = |e: ort::Error| QuantizeError::Session(reason(e));
    let mut session = runtime.first_session(open).map_err(failed)?;
    // Outlives the outputs: one that is the input itself shares its memory.
    let mut tensor = InputTensor::new(input).map_err(failed)?;
    for (sample, pixels) in samples.iter().enumerate() {
        tensor.write(pixels);
        let outputs = session.run(ort::inputs![tensor.value()]).map_err(failed)?;
        for (at, (_, value)) in outputs.iter().enumerate() {
            // Integer outputs (indices, counts) have no range and no noise.
            if let Ok((_, values)) = value.try_extract_tensor::<f32>() {
                each(sample, at, values);
            }
        }
    }
    Ok(())
}

/// Power of signal and of noise, added up over the values that are finite where they are expected: of a logit that a
/// network masks with -inf nothing can be lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noise {
    signal: f64,
    noise: f64,
    compared: bool,
}

impl Noise {
    /// Another number of values, or one that is not finite where it should be, is noise without end.
    pub(super) fn add(&mut self, expected: &[f32], found: &[f32]) {
        if expected.len() != found.len() {
            (self.noise, self.compared) = (f64::INFINITY, true);
        }
        for (e, f) in expected.iter().zip(found).filter(|(e, _)| e.is_finite()) {
            self.signal += f64::from(*e).powi(2);
            self.noise += if f.is_finite() { (f64::from(*e) - f64::from(*f)).powi(2) } else { f64::INFINITY };
            self.compared = true;
        }
    }

    /// `10 log10(signal / noise)`: at most 200 dB (no noise at all), -inf without end of noise. None where there was
    /// nothing to compare.
    pub(super) fn db(self) -> Option<f64> {
        let db =
            if self.noise <= self.signal * 1e-20 { 200.0 } else { 10.0 * (self.signal / self.noise).log10() };
        self.compared.then_some(db)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_of_a_tenth_is_twenty_decibels() {
        let mut noise = Noise::default();
        noise.add(&[1.0, -1.0], &[1.1, -0.9]);
        assert!((noise.db().unwrap() - 20.0).abs() < 1e-3, "{noise:?}");
    }

    #[test]
    fn only_what_should_be_finite_is_compared_and_must_be_there() {
        struct Case<'a>(&'a [f32], &'a [f32], Option<f64>);
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let cases = [
            Case(&[], &[], None),
            Case(&[-inf, nan], &[-inf, 3.0], None),
            Case(&[2.0, -inf], &[2.0, -inf], Some(200.0)),
            Case(&[2.0, nan], &[2.0, 7.0], Some(200.0)),
            Case(&[0.0], &[0.0], Some(200.0)),
            Case(&[10.0, -inf], &[9.0, -inf], Some(20.0)),
            Case(&[10.0, 1.0], &[10.0, nan], Some(f64::NEG_INFINITY)),
            Case(&[10.0, 1.0], &[10.0, -inf], Some(f64::NEG_INFINITY)),
            Case(&[10.0, 1.0], &[10.0], Some(f64::NEG_INFINITY)),
            Case(&[], &[10.0], Some(f64::NEG_INFINITY)),
        ];
        for Case(expected, found, db) in cases {
            let mut noise = Noise::default();
            noise.add(expected, found);
            assert_eq!(noise.db(), db, "{expected:?} {found:?}");
        }
    }
}
