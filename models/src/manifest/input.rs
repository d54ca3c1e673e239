//! What a network takes, and how a byte of the picture becomes one of its elements.
//!
//! Owns: the `[input]` tables of manifests and the value tables made of them. Does not know: tensors, frames.

use serde::{Deserialize, Serialize};

/// What the network takes: one tensor of `[1, height, width, 3]` (or `[1, 3, height, width]`).
///
/// A byte `v` of channel `c` of the fitted picture becomes `(v - mean[c]) / std[c]`; where `scale` is given, that
/// value already quantised: `round(value / scale) + zero_point`, ties to even, cut to the element's range.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// The graph's name for it; default: that of its only input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Order of the axes.
    pub layout: Layout,
    /// Type of an element.
    #[serde(rename = "type")]
    pub element: Element,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Order of the three channels.
    pub color: ColorOrder,
    /// How the picture comes into the input's sides; default `letterbox`.
    #[serde(default, skip_serializing_if = "Fit::is_default")]
    pub fit: Fit,
    /// Value of all channels outside the picture, 0..255; default 114.
    #[serde(default = "default_pad")]
    pub pad: u8,
    /// Subtracted from each channel, 0..255, in the order of `color`; default 0.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Divides each channel after that; default 1.
    #[serde(default = "default_std")]
    pub std: [f32; 3],
    /// Step of the quantised input; absent: it is not quantised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// The quantised value of zero; default 0.
    #[serde(default)]
    pub zero_point: i32,
    /// What the graph does to the values itself; for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub normalisation: String,
}

/// What another form of the model takes instead: its first layers are the pre-processor's work.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FormInput {
    /// Order of the axes.
    pub layout: Layout,
    /// Type of an element.
    #[serde(rename = "type")]
    pub element: Element,
    /// Order of the channels where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<ColorOrder>,
    /// As in [`InputSpec`].
    pub mean: [f32; 3],
    /// As in [`InputSpec`].
    pub std: [f32; 3],
    /// As in [`InputSpec`].
    pub scale: Option<f32>,
    /// As in [`InputSpec`].
    #[serde(default)]
    pub zero_point: i32,
}

/// Order of the axes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Batch, rows, columns, channels.
    Nhwc,
    /// Batch, channels, rows, columns.
    Nchw,
}

/// Type of an input's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// 0..255.
    U8,
    /// -128..127.
    I8,
    /// 32-bit integers.
    I32,
    /// 32-bit floats.
    F32,
}

/// Order of an input's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorOrder {
    /// Blue first.
    Bgr,
    /// Red first.
    Rgb,
}

/// How a picture of other proportions comes into the sides of an input: as the network's training did it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Its proportions are kept; it lies in the middle, with padding at two sides.
    #[default]
    Letterbox,
    /// Each axis is scaled to fill the input.
    Stretch,
}

impl Fit {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What each byte of each channel becomes.
pub type Tables<T> = [[T; 256]; 3];

const fn default_pad() -> u8 {
    114
}

const fn default_std() -> [f32; 3] {
    [1.0; 3]
}

impl InputSpec {
    /// The same picture taken by another form.
    pub fn with(&self, form: &FormInput) -> Self {
        let FormInput { layout, element, color, mean, std, scale, zero_point } = form.clone();
        let (color, normalisation) = (color.unwrap_or(self.color), String::new());
        Self { layout, element, color, mean, std, scale, zero_point, normalisation, ..self.clone() }
    }

    /// Bytes go in as they are, pixel by pixel.
    pub fn is_plain(&self) -> bool {
        let plain = self.mean == [0.0; 3] && self.std == default_std() && self.scale.is_none();
        plain && self.layout == Layout::Nhwc && self.element == Element::U8
    }

    /// The tensor's axes.
    pub fn shape(&self) -> [i64; 4] {
        let (width, height) = (self.width as i64, self.height as i64);
        match self.layout {
            Layout::Nhwc => [1, height, width, 3],
            Layout::Nchw => [1, 3, height, width],
        }
    }

    /// Elements of the tensor.
    pub fn len(&self) -> usize {
        3 * self.width * self.height
    }

    /// Never: width and height are at least 1.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a byte of a channel becomes, not yet cut to the element's range.
    pub fn value(&self, channel: usize, byte: u8) -> f32 {
        let value = (f32::from(byte) - self.mean[channel]) / self.std[channel];
        match self.scale {
            Some(scale) => (value / scale).round_ties_even() + self.zero_point as f32,
            None => value,
        }
    }

    /// The table of an element type, by its conversion from a float.
    pub(crate) fn tables<T: Copy>(&self, from: impl Fn(f32) -> T) -> Tables<T> {
        std::array::from_fn(|c| std::array::from_fn(|byte| from(self.value(c, byte as u8))))
    }

    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=4096).contains(&self.width) || !(1..=4096).contains(&self.height) {
            return Err("width and height must be 1 to 4096".to_owned());
        }
        if !self.mean.iter().all(|v| v.is_finite()) {
            return Err("mean must be three numbers".to_owned());
        }
        if !self.std.iter().all(|v| v.is_finite() && *v != 0.0) {
            return Err("std must be three numbers other than 0".to_owned());
        }
        match (self.scale, self.element) {
            (Some(scale), _) if !(scale.is_finite() && scale > 0.0) => {
                Err("scale must be above 0".to_owned())
            }
            (Some(_), Element::U8 | Element::I8) => Ok(()),
            (Some(_), _) => Err("scale is for inputs of type u8 or i8".to_owned()),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> InputSpec {
        let text = "layout = 'nchw'\ntype = 'u8'\nwidth = 4\nheight = 2\ncolor = 'rgb'";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_quantised_input_is_what_the_graph_would_have_made_of_it() {
        let spec = InputSpec {
            mean: [100.0, 0.0, 0.0],
            std: [2.0, 1.0, 1.0],
            scale: Some(0.5),
            zero_point: 7,
            ..spec()
        };
        // (103 - 100) / 2 / 0.5 + 7.
        assert_eq!(spec.value(0, 103), 10.0);
        // 0.5 rounds to the even neighbour.
        assert_eq!(InputSpec { scale: Some(2.0), zero_point: 0, ..spec.clone() }.value(1, 1), 0.0);
        let tables = spec.tables(|v| v as u8);
        assert_eq!((tables[0][0], tables[2][255]), (0, 255));
    }

    #[test]
    fn only_bytes_pixel_by_pixel_are_plain() {
        assert!(!spec().is_plain());
        let plain = InputSpec { layout: Layout::Nhwc, ..spec() };
        assert!(plain.is_plain() && !InputSpec { scale: Some(1.0), ..plain.clone() }.is_plain());
        assert_eq!((plain.shape(), spec().shape(), plain.len()), ([1, 2, 4, 3], [1, 3, 2, 4], 24));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        assert_eq!(spec().check(), Ok(()));
        for bad in [
            InputSpec { width: 0, ..spec() },
            InputSpec { std: [0.0, 1.0, 1.0], ..spec() },
            InputSpec { mean: [f32::NAN; 3], ..spec() },
            InputSpec { scale: Some(-1.0), ..spec() },
            InputSpec { scale: Some(1.0), element: Element::F32, ..spec() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
