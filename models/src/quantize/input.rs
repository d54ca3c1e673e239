//! Manifests' words for inputs and the quantiser's: one from the other.
//!
//! Owns: these two translations. Does not know: graphs.

use super::{InputElement, InputLayout, NetworkInput, QuantizeError, StemInput};
use crate::manifest::{ColorOrder, Element, FormInput, InputSpec, Layout};

impl NetworkInput {
    /// What a manifest's fp32 form takes; `name` is the graph's for it.
    pub fn from_spec(spec: &InputSpec, name: &str) -> Result<Self, QuantizeError> {
        let element = match spec.element {
            Element::U8 if spec.scale.is_none() => InputElement::U8,
            Element::I32 => InputElement::I32,
            Element::F32 => InputElement::F32,
            _ => return Err(QuantizeError::Input("is quantised already".to_owned())),
        };
        let plain = (spec.mean, spec.std) == ([0.0; 3], [1.0; 3]);
        if element != InputElement::F32 && !plain {
            return Err(QuantizeError::Input("mean and std are for inputs of type f32".to_owned()));
        }
        let layout = match spec.layout {
            Layout::Nhwc => InputLayout::Nhwc,
            Layout::Nchw => InputLayout::Nchw,
        };
        let (mean, std) = (Some(spec.mean), Some(spec.std));
        let (width, height) = (spec.width, spec.height);
        Ok(Self { name: name.to_owned(), layout, element, mean, std, width, height })
    }
}

impl StemInput {
    /// What the manifest says of this form, `color` being the order of the fp32 form's channels. None where the planes
    /// are neither in that order nor in the opposite one: a pre-processor cannot write that.
    pub fn form_input(&self, color: ColorOrder) -> Option<FormInput> {
        let opposite = match color {
            ColorOrder::Bgr => ColorOrder::Rgb,
            ColorOrder::Rgb => ColorOrder::Bgr,
        };
        let color = match self.channels {
            [0, 1, 2] => None,
            [2, 1, 0] => Some(opposite),
            _ => return None,
        };
        Some(FormInput {
            layout: Layout::Nchw,
            element: if self.signed { Element::I8 } else { Element::U8 },
            color,
            mean: self.mean,
            std: self.std,
            scale: Some(self.scale),
            zero_point: self.zero_point,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_makes_the_same_tables() {
        for (signed, zero_point) in [(false, 114), (true, -3)] {
            let stem = StemInput {
                name: "image".to_owned(),
                signed,
                channels: [2, 1, 0],
                mean: [103.53, 116.28, 123.675],
                std: [57.375, 57.12, -58.395],
                scale: 0.018_658_1,
                zero_point,
                width: 8,
                height: 4,
            };
            let text = "layout = 'nhwc'\ntype = 'u8'\nwidth = 8\nheight = 4\ncolor = 'bgr'";
            let fp32: InputSpec = toml::from_str(text).unwrap();
            let spec = fp32.with(&stem.form_input(fp32.color).unwrap());
            assert_eq!((spec.color, spec.layout), (ColorOrder::Rgb, Layout::Nchw));
            let written = if signed {
                spec.tables(|v| i32::from(v as i8))
            } else {
                spec.tables(|v| i32::from(v as u8))
            };
            assert_eq!(written, stem.tables());
            assert!(StemInput { channels: [1, 0, 2], ..stem }.form_input(fp32.color).is_none());
        }
    }

    #[test]
    fn a_quantised_input_is_not_quantised_again() {
        let text = "layout = 'nchw'\ntype = 'u8'\nwidth = 8\nheight = 4\ncolor = 'bgr'\nscale = 0.5";
        let spec: InputSpec = toml::from_str(text).unwrap();
        let error = NetworkInput::from_spec(&spec, "x").unwrap_err().to_string();
        assert_eq!(error, "the model's input: is quantised already");
    }
}
