//! Running a graph on samples: pixels to the input tensor, chosen values out.
//!
//! Owns: sessions of the quantiser and signal-to-noise ratios. Does not know: what the graph is made of.

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynValue, Tensor};
use prost::Message;

use super::stem::StemInput;
use super::{InputElement, InputLayout, NetworkInput, QuantizeError, reason};
use crate::onnx::{ModelProto, ValueInfoProto};
use crate::runtime::Runtime;

/// What a graph takes.
#[derive(Clone, Copy)]
pub(super) enum Feed<'a> {
    Network(&'a NetworkInput),
    Stem(&'a StemInput, &'a NetworkInput),
}

impl Feed<'_> {
    fn tensor(self, pixels: &[u8]) -> ort::Result<(String, DynValue)> {
        match self {
            Self::Network(input) => {
                let at = |layout: InputLayout| positions(layout, input.width * input.height);
                let value = |index: usize| pixels[at(input.layout)(index)];
                let (dims, range) = (input.dims().to_vec(), 0..pixels.len());
                let tensor = match input.element {
                    InputElement::U8 => {
                        Tensor::from_array((dims, range.map(value).collect::<Vec<u8>>()))?.into_dyn()
                    }
                    InputElement::I32 => {
                        let values: Vec<i32> = range.map(|i| i32::from(value(i))).collect();
                        Tensor::from_array((dims, values))?.into_dyn()
                    }
                    InputElement::F32 => {
                        let (mean, std) = input.normalisation();
                        let real = |i: usize| {
                            let channel = at(input.layout)(i) % 3;
                            (f32::from(value(i)) - mean[channel]) / std[channel]
                        };
                        Tensor::from_array((dims, range.map(real).collect::<Vec<f32>>()))?.into_dyn()
                    }
                };
                Ok((input.name.clone(), tensor))
            }
            Self::Stem(stem, input) => {
                let plane = input.width * input.height;
                let dims = vec![1, 3, input.height as i64, input.width as i64];
                let tables = stem.tables();
                let value = |index: usize| {
                    let (channel, pixel) = (index / plane, index % plane);
                    tables[channel][usize::from(pixels[pixel * 3 + stem.channels[channel]])]
                };
                let values = (0..pixels.len()).map(value);
                let tensor = if stem.signed {
                    Tensor::from_array((dims, values.map(|v| v as i8).collect::<Vec<_>>()))?.into_dyn()
                } else {
                    Tensor::from_array((dims, values.map(|v| v as u8).collect::<Vec<_>>()))?.into_dyn()
                };
                Ok((stem.name.clone(), tensor))
            }
        }
    }
}

/// From the index in the tensor to the index in interleaved pixels.
fn positions(layout: InputLayout, plane: usize) -> impl Fn(usize) -> usize {
    move |index| match layout {
        InputLayout::Nhwc => index,
        InputLayout::Nchw => index % plane * 3 + index / plane,
    }
}

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
    feed: Feed<'_>,
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
    let mut session = open().map_err(failed)?;
    for (sample, pixels) in samples.iter().enumerate() {
        let (name, tensor) = feed.tensor(pixels).map_err(failed)?;
        let outputs = session.run(ort::inputs![name => &tensor]).map_err(failed)?;
        for (at, (_, value)) in outputs.iter().enumerate() {
            // Integer outputs (indices, counts) have no range and no noise.
            if let Ok((_, values)) = value.try_extract_tensor::<f32>() {
                each(sample, at, values);
            }
        }
    }
    Ok(())
}

/// Power of signal and of noise, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    pub(super) fn add(&mut self, expected: &[f32], found: &[f32]) {
        for (e, f) in expected.iter().zip(found) {
            self.signal += f64::from(*e).powi(2);
            self.noise += (f64::from(*e) - f64::from(*f)).powi(2);
        }
    }

    /// `10 log10(signal / noise)`, at most 200 dB (no noise at all).
    pub(super) fn db(self) -> f64 {
        if self.noise <= self.signal * 1e-20 { 200.0 } else { 10.0 * (self.signal / self.noise).log10() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_of_a_tenth_is_twenty_decibels() {
        let mut noise = Noise::default();
        noise.add(&[1.0, -1.0], &[1.1, -0.9]);
        assert!((noise.db() - 20.0).abs() < 1e-3, "{}", noise.db());
        assert_eq!(Noise::default().db(), 200.0);
    }

    #[test]
    fn pixels_go_into_planes() {
        let order: Vec<_> = (0..6).map(positions(InputLayout::Nchw, 2)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5]);
    }
}
