//! Constant tensors of an ONNX file: their values as Rust numbers, and new ones. Little-endian raw data and the typed
//! lists are both read; only raw data is written.

use super::{TensorProto, data_type};

/// Why a tensor's values cannot be had, without its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TensorError {
    #[error("has a negative or too large axis: {0:?}")]
    Axes(Vec<i64>),
    #[error("should hold {expected} values by its axes, holds {found}")]
    Length { expected: usize, found: usize },
    #[error("is of element type {0}, which is not read here")]
    Type(i32),
    #[error("has its values in another file")]
    External,
}

/// More values than a tensor that we read may have: 2 GB of floats.
const MOST_VALUES: usize = 1 << 29;

impl TensorProto {
    /// How many values its axes make.
    pub(crate) fn count(&self) -> Result<usize, TensorError> {
        let product = self.dims.iter().try_fold(1usize, |product, dim| {
            product.checked_mul(usize::try_from(*dim).ok()?).filter(|n| *n <= MOST_VALUES)
        });
        product.ok_or_else(|| TensorError::Axes(self.dims.clone()))
    }

    /// Its values as floats (float32, float16, double, and the integer types).
    pub(crate) fn floats(&self) -> Result<Vec<f32>, TensorError> {
        match self.data_type() {
            data_type::FLOAT => self.values(&self.float_data, |v| *v, f32::from_le_bytes),
            data_type::DOUBLE => {
                self.values(&self.double_data, |v| *v as f32, |b| f64::from_le_bytes(b) as f32)
            }
            data_type::FLOAT16 => {
                self.values(&self.int32_data, |v| half(*v as u16), |b| half(u16::from_le_bytes(b)))
            }
            _ => Ok(self.ints()?.into_iter().map(|v| v as f32).collect()),
        }
    }

    /// Its values as integers (int64, int32, int8, uint8, int4, bool).
    pub(crate) fn ints(&self) -> Result<Vec<i64>, TensorError> {
        match self.data_type() {
            data_type::INT64 => self.values(&self.int64_data, |v| *v, i64::from_le_bytes),
            data_type::INT32 => {
                self.values(&self.int32_data, |v| i64::from(*v), |b| i64::from(i32::from_le_bytes(b)))
            }
            data_type::INT8 => {
                self.values(&self.int32_data, |v| i64::from(*v), |b| i64::from(i8::from_le_bytes(b)))
            }
            data_type::UINT8 | data_type::BOOL => {
                self.values(&self.int32_data, |v| i64::from(*v), |[b]| i64::from(b))
            }
            data_type::INT4 => self.nibbles(),
            other => Err(TensorError::Type(other)),
        }
    }

    fn values<T, V, const N: usize>(
        &self,
        typed: &[T],
        from_typed: impl Fn(&T) -> V,
        from_raw: impl Fn([u8; N]) -> V,
    ) -> Result<Vec<V>, TensorError> {
        self.here()?;
        let expected = self.count()?;
        let values: Vec<V> = match &self.raw_data {
            Some(raw) if raw.len() != expected * N => {
                return Err(TensorError::Length { expected, found: raw.len() / N });
            }
            Some(raw) => raw.as_chunks::<N>().0.iter().map(|bytes| from_raw(*bytes)).collect(),
            None => typed.iter().map(from_typed).collect(),
        };
        if values.len() != expected {
            return Err(TensorError::Length { expected, found: values.len() });
        }
        Ok(values)
    }

    /// Two values a byte, the lower half first; sign in bit 3.
    fn nibbles(&self) -> Result<Vec<i64>, TensorError> {
        self.here()?;
        let expected = self.count()?;
        let raw = self.raw_data.as_deref().unwrap_or_default();
        if raw.len() != expected.div_ceil(2) {
            return Err(TensorError::Length { expected, found: raw.len() * 2 });
        }
        let signed = |nibble: u8| i64::from((nibble << 4).cast_signed() >> 4);
        Ok(raw.iter().flat_map(|byte| [signed(byte & 15), signed(byte >> 4)]).take(expected).collect())
    }

    fn here(&self) -> Result<(), TensorError> {
        if self.data_location() == 1 || !self.external_data.is_empty() {
            return Err(TensorError::External);
        }
        Ok(())
    }

    fn raw(name: &str, dims: &[i64], data_type: i32, raw: Vec<u8>) -> Self {
        Self {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(data_type),
            raw_data: Some(raw),
            ..Self::default()
        }
    }

    pub(crate) fn from_floats(name: &str, dims: &[i64], values: &[f32]) -> Self {
        Self::raw(name, dims, data_type::FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    #[cfg_attr(not(test), allow(dead_code, reason = "networks for tests"))]
    pub(crate) fn from_i64(name: &str, dims: &[i64], values: &[i64]) -> Self {
        Self::raw(name, dims, data_type::INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub(crate) fn from_i32(name: &str, dims: &[i64], values: &[i32]) -> Self {
        Self::raw(name, dims, data_type::INT32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub(crate) fn from_i8(name: &str, dims: &[i64], values: &[i8]) -> Self {
        Self::raw(name, dims, data_type::INT8, values.iter().map(|v| v.cast_unsigned()).collect())
    }

    pub(crate) fn from_u8(name: &str, dims: &[i64], values: &[u8]) -> Self {
        Self::raw(name, dims, data_type::UINT8, values.to_vec())
    }

    /// Values -8..7, two a byte.
    pub(crate) fn from_i4(name: &str, dims: &[i64], values: &[i8]) -> Self {
        let nibble = |v: &i8| v.cast_unsigned() & 15;
        let bytes = values.chunks(2).map(|pair| nibble(&pair[0]) | (pair.get(1).map_or(0, nibble) << 4));
        Self::raw(name, dims, data_type::INT4, bytes.collect())
    }
}

/// IEEE 754 binary16 to binary32.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from((bits >> 10) & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_written() {
        assert_eq!(TensorProto::from_floats("a", &[2], &[1.5, -2.0]).floats(), Ok(vec![1.5, -2.0]));
        assert_eq!(TensorProto::from_i4("a", &[3], &[-8, 7, -1]).ints(), Ok(vec![-8, 7, -1]));
        assert_eq!(TensorProto::from_i8("a", &[2], &[-128, 127]).ints(), Ok(vec![-128, 127]));
        assert_eq!(TensorProto::from_u8("a", &[2], &[0, 255]).floats(), Ok(vec![0.0, 255.0]));
        assert_eq!(TensorProto::from_i32("a", &[1], &[-5]).ints(), Ok(vec![-5]));
        assert_eq!(TensorProto::from_i64("a", &[], &[9]).ints(), Ok(vec![9]));
    }

    #[test]
    fn halves_are_ieee() {
        let halves = [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 5.960_464_5e-8), (0x7bff, 65504.0)];
        for (bits, value) in halves {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }

    #[test]
    fn wrong_sizes_are_refused_before_anything_is_reserved() {
        let huge = TensorProto::from_floats("a", &[1 << 40, 1 << 40], &[]);
        assert_eq!(huge.floats(), Err(TensorError::Axes(vec![1 << 40, 1 << 40])));
        let short = TensorProto::from_floats("a", &[3], &[1.0]);
        assert_eq!(short.floats(), Err(TensorError::Length { expected: 3, found: 1 }));
        let negative = TensorProto::from_i8("a", &[-1], &[]);
        assert_eq!(negative.ints(), Err(TensorError::Axes(vec![-1])));
    }
}
