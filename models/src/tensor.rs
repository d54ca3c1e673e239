//! A network's input: one ONNX Runtime tensor of the manifest's type, written by the pre-processor.
//!
//! Owns: the four element types and their value tables. Does not know: sessions, files.

use ort::session::SessionInputValue;
use ort::value::{Tensor, TensorElementType};
use vedette_core::{Frame, View};

use crate::manifest::{Element, InputSpec, Layout, Tables};
use crate::preprocess::{EmptyView, Letterbox, Preprocessor};

/// The tensor, and what each byte of the picture becomes in it.
#[derive(Debug)]
pub(crate) struct InputTensor {
    spec: InputSpec,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// Bytes as they are, pixel by pixel.
    Plain(Tensor<u8>),
    U8(Tensor<u8>, Box<Tables<u8>>),
    I8(Tensor<i8>, Box<Tables<i8>>),
    I32(Tensor<i32>, Box<Tables<i32>>),
    F32(Tensor<f32>, Box<Tables<f32>>),
}

impl InputTensor {
    /// Filled with the padding.
    pub(crate) fn new(spec: &InputSpec) -> ort::Result<Self> {
        // A float that is cast saturates, and NaN becomes 0.
        let values = match spec.element {
            Element::U8 if spec.is_plain() => Values::Plain(tensor(spec, 0)?),
            Element::U8 => Values::U8(tensor(spec, 0)?, Box::new(spec.tables(|v| v as u8))),
            Element::I8 => Values::I8(tensor(spec, 0)?, Box::new(spec.tables(|v| v as i8))),
            Element::I32 => Values::I32(tensor(spec, 0)?, Box::new(spec.tables(|v| v as i32))),
            Element::F32 => Values::F32(tensor(spec, 0.0)?, Box::new(spec.tables(|v| v))),
        };
        let mut input = Self { spec: spec.clone(), values };
        input.write(&vec![spec.pad; spec.len()]);
        Ok(input)
    }

    /// The view of a frame.
    pub(crate) fn look(
        &mut self,
        preprocessor: &mut Preprocessor,
        frame: &Frame,
        view: View,
    ) -> Result<Letterbox, EmptyView> {
        let layout = self.spec.layout;
        match &mut self.values {
            Values::Plain(tensor) => preprocessor.run(frame, view, tensor.extract_tensor_mut().1),
            Values::U8(tensor, tables) => {
                preprocessor.run_with(frame, view, (tables, layout), tensor.extract_tensor_mut().1)
            }
            Values::I8(tensor, tables) => {
                preprocessor.run_with(frame, view, (tables, layout), tensor.extract_tensor_mut().1)
            }
            Values::I32(tensor, tables) => {
                preprocessor.run_with(frame, view, (tables, layout), tensor.extract_tensor_mut().1)
            }
            Values::F32(tensor, tables) => {
                preprocessor.run_with(frame, view, (tables, layout), tensor.extract_tensor_mut().1)
            }
        }
    }

    /// A picture that is letterboxed already: `[height, width, 3]` bytes in the manifest's order of channels.
    pub(crate) fn write(&mut self, pixels: &[u8]) {
        let layout = self.spec.layout;
        match &mut self.values {
            Values::Plain(tensor) => {
                for (place, byte) in tensor.extract_tensor_mut().1.iter_mut().zip(pixels) {
                    *place = *byte;
                }
            }
            Values::U8(tensor, tables) => convert(pixels, layout, tables, tensor.extract_tensor_mut().1),
            Values::I8(tensor, tables) => convert(pixels, layout, tables, tensor.extract_tensor_mut().1),
            Values::I32(tensor, tables) => convert(pixels, layout, tables, tensor.extract_tensor_mut().1),
            Values::F32(tensor, tables) => convert(pixels, layout, tables, tensor.extract_tensor_mut().1),
        }
    }

    /// What a session takes.
    pub(crate) fn value(&self) -> SessionInputValue<'_> {
        match &self.values {
            Values::Plain(tensor) | Values::U8(tensor, _) => tensor.into(),
            Values::I8(tensor, _) => tensor.into(),
            Values::I32(tensor, _) => tensor.into(),
            Values::F32(tensor, _) => tensor.into(),
        }
    }
}

/// ONNX Runtime's name of an element type.
pub(crate) fn element_type(element: Element) -> TensorElementType {
    match element {
        Element::U8 => TensorElementType::Uint8,
        Element::I8 => TensorElementType::Int8,
        Element::I32 => TensorElementType::Int32,
        Element::F32 => TensorElementType::Float32,
    }
}

fn tensor<T>(spec: &InputSpec, value: T) -> ort::Result<Tensor<T>>
where
    T: ort::value::PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    Tensor::from_array((spec.shape(), vec![value; spec.len()]))
}

fn convert<T: Copy>(pixels: &[u8], layout: Layout, tables: &Tables<T>, output: &mut [T]) {
    let (pixels, _) = pixels.as_chunks::<3>();
    let count = pixels.len();
    for (at, pixel) in pixels.iter().enumerate() {
        for (channel, byte) in pixel.iter().enumerate() {
            let index = match layout {
                Layout::Nhwc => 3 * at + channel,
                Layout::Nchw => channel * count + at,
            };
            if let Some(place) = output.get_mut(index) {
                *place = tables[channel][usize::from(*byte)];
            }
        }
    }
}
