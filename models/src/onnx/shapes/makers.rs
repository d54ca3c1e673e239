//! Operators whose output is as large as some value of theirs says.
//!
//! Owns: their output shapes. Does not know: whether such a size is sensible (`bounds.rs`).

use super::{Call, MOST_INTS, Value};
use crate::onnx::{TensorProto, data_type};

impl Call<'_> {
    /// None for an operator that has no rule here.
    pub(super) fn makers(&self, op: &str) -> Option<Vec<Value>> {
        let one = |dims| vec![Value::shaped(self.kind(0), dims)];
        Some(match op {
            "ConstantOfShape" => {
                let fill = self.node.attribute("value").and_then(|a| a.t.as_ref());
                let kind = fill.map_or(data_type::FLOAT, TensorProto::data_type);
                vec![Value::shaped(kind, self.ints(0).map(<[i64]>::to_vec))]
            }
            "Expand" => one(self.expand()),
            "Tile" => one(self.tile()),
            "Range" => vec![self.range()],
            "OneHot" => vec![Value::shaped(self.kind(2), self.one_hot())],
            "GridSample" => one(self.grid_sample()),
            "Einsum" => one(self.einsum()),
            _ => return None,
        })
    }

    fn expand(&self) -> Option<Vec<i64>> {
        let wanted = Value::shaped(0, Some(self.ints(1)?.to_vec()));
        let inputs = vec![self.input(0), Some(&wanted)];
        Call { node: self.node, inputs, opset: self.opset }.broadcast(&[0, 1])
    }

    fn tile(&self) -> Option<Vec<i64>> {
        let (dims, repeats) = (self.dims(0)?, self.ints(1)?);
        let product = dims.iter().zip(repeats).map(|(n, times)| n.saturating_mul(*times)).collect();
        (dims.len() == repeats.len()).then_some(product)
    }

    /// From a start in steps, below a limit.
    fn range(&self) -> Value {
        let whole = |at| Some(*self.ints(at)?.first()?);
        let float = |at| Some(f64::from(*self.floats(at)?.first()?));
        if let (Some(start), Some(limit), Some(step)) = (whole(0), whole(1), whole(2)) {
            let (way, step_128) = (i128::from(limit) - i128::from(start), i128::from(step));
            // Of two with the same sign, rounded up.
            let count = way
                .checked_div(step_128)
                .map(|n| n + i128::from(n * step_128 != way && n >= 0 && (way < 0) == (step < 0)));
            let count = count.map(|n| i64::try_from(n.max(0)).unwrap_or(i64::MAX));
            let small = count.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= MOST_INTS);
            let value = |at| start.checked_add(step.checked_mul(at)?);
            let ints = small.and_then(|n| (0..n as i64).map(value).collect());
            return Value { ints, ..Value::shaped(self.kind(0), count.map(|n| vec![n])) };
        }
        let count = || {
            let count = ((float(1)? - float(0)?) / float(2)?).ceil();
            // A cast of what is too large saturates.
            count.is_finite().then_some(count.max(0.0) as i64)
        };
        Value::shaped(self.kind(0), count().map(|n| vec![n]))
    }

    fn one_hot(&self) -> Option<Vec<i64>> {
        let (mut dims, depth) = (self.dims(0)?.to_vec(), *self.ints(1)?.first()?);
        let axis = Self::axis(self.node.int("axis").unwrap_or(-1), dims.len() + 1)?;
        dims.insert(axis, depth);
        Some(dims)
    }

    fn grid_sample(&self) -> Option<Vec<i64>> {
        let ([batch, channels, ..], [_, places @ .., _]) = (self.dims(0)?, self.dims(1)?) else {
            return None;
        };
        Some([&[*batch, *channels], places].concat())
    }

    /// With a letter for each axis, `ij,jk->ik`; other equations are rare.
    fn einsum(&self) -> Option<Vec<i64>> {
        let equation = self.node.text("equation")?.replace(' ', "");
        let (inputs, output) = equation.split_once("->")?;
        let mut sizes = std::collections::HashMap::new();
        for (at, letters) in inputs.split(',').enumerate() {
            let dims = self.dims(at)?;
            (letters.len() == dims.len()).then_some(())?;
            sizes.extend(letters.bytes().zip(dims).filter(|(_, n)| **n != 1));
        }
        let known = |letter: u8| inputs.bytes().any(|l| l == letter && letter.is_ascii_alphabetic());
        output
            .bytes()
            .map(|letter| known(letter).then(|| sizes.get(&letter).map_or(1, |n: &&i64| **n)))
            .collect()
    }
}
