//! Operators that move, cut and join values without computing.
//!
//! Owns: their output shapes, and what they do to followed numbers. Does not know: windows, arithmetic.

use super::{Call, Value};
use crate::onnx::data_type;

impl Call<'_> {
    /// None for an operator that has no rule here.
    pub(super) fn moves(&self, op: &str) -> Option<Vec<Value>> {
        let kind = self.kind(0);
        let one = |dims| vec![Value::shaped(kind, dims)];
        Some(match op {
            "Concat" => vec![self.concat()],
            "Slice" => vec![self.slice()],
            "Reshape" => one(self.reshape()),
            "Flatten" => one(self.flatten()),
            "Transpose" => one(self.transpose()),
            "Squeeze" | "Unsqueeze" => {
                let dims = if op == "Squeeze" { self.squeeze() } else { self.unsqueeze() };
                let (ints, floats) = (self.ints(0).map(<[i64]>::to_vec), self.floats(0));
                vec![Value { ints, floats, ..Value::shaped(kind, dims) }]
            }
            "Pad" => one(self.pad()),
            "Split" => self.split(),
            "Gather" => vec![self.gather()],
            "GatherElements" => one(self.dims(1).map(<[i64]>::to_vec)),
            "GatherND" => one(self.gather_nd()),
            "DepthToSpace" | "SpaceToDepth" => one(self.blocks()),
            "ArgMax" | "ArgMin" => {
                let axes = vec![self.node.int("axis").unwrap_or(0)];
                vec![Value::shaped(data_type::INT64, self.reduce(Some(axes)))]
            }
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1"
            | "ReduceL2" => one(self.reduce(self.list("axes", 1))),
            _ => return None,
        })
    }

    fn concat(&self) -> Value {
        let dims = || {
            let mut dims = self.dims(0)?.to_vec();
            let axis = Self::axis(self.node.int("axis").unwrap_or(1), dims.len())?;
            for at in 1..self.inputs.len() {
                let more = self.dims(at)?;
                dims[axis] = dims[axis].checked_add(*more.get(axis)?)?;
            }
            Some(dims)
        };
        let parts: Option<Vec<&[i64]>> = (0..self.inputs.len()).map(|at| self.ints(at)).collect();
        let ints = parts.map(|parts| parts.concat()).filter(|ints| ints.len() <= super::MOST_INTS);
        let parts: Option<Vec<Vec<f32>>> = (0..self.inputs.len()).map(|at| self.floats(at)).collect();
        let floats = parts.map(|parts| parts.concat()).filter(|floats| floats.len() <= super::MOST_INTS);
        Value { ints, floats, ..Value::shaped(self.kind(0), dims()) }
    }

    fn slice(&self) -> Value {
        let cut = || {
            let mut dims = self.dims(0)?.to_vec();
            let (starts, ends) = (self.list("starts", 1)?, self.list("ends", 2)?);
            let named =
                self.node.attribute("axes").is_some() || self.inputs.get(3).is_some_and(Option::is_some);
            let axes = if named { self.list("axes", 3)? } else { (0..starts.len() as i64).collect() };
            let steps = match self.inputs.get(4) {
                Some(Some(value)) => value.ints.clone()?,
                _ => vec![1; starts.len()],
            };
            let mut ints = self.ints(0).map(<[i64]>::to_vec);
            for (((start, end), axis), step) in starts.iter().zip(ends).zip(axes).zip(steps) {
                let axis = Self::axis(axis, dims.len())?;
                let length = dims[axis];
                let bound = |n: i64| (if n < 0 { n.saturating_add(length) } else { n }).clamp(0, length);
                if step < 1 {
                    // Backwards over a whole axis turns it round; other cuts backwards are rare.
                    let whole = step == -1 && (*start == -1 || *start >= length - 1) && end < -length;
                    ints = None;
                    whole.then_some(())?;
                    continue;
                }
                let (from, to) = (bound(*start), bound(end));
                dims[axis] = (to - from).max(0).checked_add(step - 1)? / step;
                ints = ints.map(|list| {
                    list.into_iter().take(to as usize).skip(from as usize).step_by(step as usize).collect()
                });
            }
            Some((dims, ints))
        };
        match cut() {
            Some((dims, ints)) => Value { ints, ..Value::shaped(self.kind(0), Some(dims)) },
            None => Value::shaped(self.kind(0), None),
        }
    }

    /// 0 keeps an axis (unless `allowzero`), one -1 takes what is left.
    fn reshape(&self) -> Option<Vec<i64>> {
        let (old, wanted) = (self.dims(0)?, self.list("shape", 1)?);
        let keep = self.node.int("allowzero").unwrap_or(0) == 0;
        let mut dims = Vec::new();
        for (at, dim) in wanted.iter().enumerate() {
            dims.push(if *dim == 0 && keep { *old.get(at)? } else { *dim });
        }
        let total = super::product(old)?;
        if let Some(open) = dims.iter().position(|dim| *dim == -1) {
            dims[open] = 1;
            dims[open] = total.checked_div(super::product(&dims)?)?;
        }
        (super::product(&dims)? == total).then_some(dims)
    }

    fn flatten(&self) -> Option<Vec<i64>> {
        let dims = self.dims(0)?;
        let axis = self.node.int("axis").unwrap_or(1);
        let axis = if axis == dims.len() as i64 { dims.len() } else { Self::axis(axis, dims.len())? };
        Some(vec![super::product(&dims[..axis])?, super::product(&dims[axis..])?])
    }

    fn transpose(&self) -> Option<Vec<i64>> {
        let dims = self.dims(0)?;
        if self.node.attribute("perm").is_none() {
            return Some(dims.iter().rev().copied().collect());
        }
        let perm = self.node.ints("perm");
        let moved = perm
            .iter()
            .map(|axis| dims.get(usize::try_from(*axis).ok()?).copied())
            .collect::<Option<Vec<_>>>();
        moved.filter(|moved| moved.len() == dims.len())
    }

    fn squeeze(&self) -> Option<Vec<i64>> {
        let dims = self.dims(0)?;
        let Some(axes) = self.list("axes", 1) else {
            return (self.inputs.len() < 2).then(|| dims.iter().copied().filter(|n| *n != 1).collect());
        };
        let gone: Vec<usize> =
            axes.iter().map(|axis| Self::axis(*axis, dims.len())).collect::<Option<_>>()?;
        Some(dims.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, n)| *n).collect())
    }

    fn unsqueeze(&self) -> Option<Vec<i64>> {
        let (mut dims, axes) = (self.dims(0)?.to_vec(), self.list("axes", 1)?);
        let rank = dims.len() + axes.len();
        let mut axes: Vec<usize> = axes.iter().map(|axis| Self::axis(*axis, rank)).collect::<Option<_>>()?;
        axes.sort_unstable();
        for axis in axes {
            (axis <= dims.len()).then(|| dims.insert(axis, 1))?;
        }
        Some(dims)
    }

    fn pad(&self) -> Option<Vec<i64>> {
        let (dims, pads) = (self.dims(0)?, self.list("pads", 1)?);
        let two_each = pads.len() == 2 * dims.len() && self.inputs.get(3).is_none_or(Option::is_none);
        let (before, after) = two_each.then(|| pads.split_at(dims.len()))?;
        dims.iter().zip(before).zip(after).map(|((n, a), b)| n.checked_add(*a)?.checked_add(*b)).collect()
    }

    fn split(&self) -> Vec<Value> {
        let parts = self.node.output.len() as i64;
        let one = |at: usize| {
            let mut dims = self.dims(0)?.to_vec();
            let axis = Self::axis(self.node.int("axis").unwrap_or(0), dims.len())?;
            dims[axis] = match self.list("split", 1) {
                Some(sizes) => *sizes.get(at)?,
                None => {
                    let each = dims[axis].checked_add(parts - 1)? / parts.max(1);
                    each.min(dims[axis] - each.checked_mul(at as i64)?).max(0)
                }
            };
            Some(dims)
        };
        (0..self.node.output.len()).map(|at| Value::shaped(self.kind(0), one(at))).collect()
    }

    fn gather(&self) -> Value {
        let dims = || {
            let (dims, indices) = (self.dims(0)?, self.dims(1)?);
            let axis = Self::axis(self.node.int("axis").unwrap_or(0), dims.len())?;
            Some([&dims[..axis], indices, &dims[axis + 1..]].concat())
        };
        let picked = |list: &[i64], index: &i64| Some(list[Self::axis(*index, list.len())?]);
        let flat = self.dims(0).is_some_and(|dims| dims.len() == 1);
        let ints = self.ints(0).filter(|_| flat).zip(self.ints(1));
        let ints = ints.and_then(|(list, indices)| indices.iter().map(|index| picked(list, index)).collect());
        Value { ints, ..Value::shaped(self.kind(0), dims()) }
    }

    fn gather_nd(&self) -> Option<Vec<i64>> {
        let (dims, [outer @ .., depth]) = (self.dims(0)?, self.dims(1)?) else { return None };
        let batch = usize::try_from(self.node.int("batch_dims").unwrap_or(0)).ok()?;
        let rest = dims.get(batch.checked_add(usize::try_from(*depth).ok()?)?..)?;
        Some([outer, rest].concat())
    }

    fn blocks(&self) -> Option<Vec<i64>> {
        let ([n, c, h, w], size) = (self.dims(0)?, self.node.int("blocksize")?) else { return None };
        let square = size.checked_mul(size).filter(|s| *s > 0)?;
        Some(if self.node.op_type() == "DepthToSpace" {
            vec![*n, c / square, h.checked_mul(size)?, w.checked_mul(size)?]
        } else {
            vec![*n, c.checked_mul(square)?, h / size, w / size]
        })
    }

    /// No axes mean all.
    fn reduce(&self, axes: Option<Vec<i64>>) -> Option<Vec<i64>> {
        let dims = self.dims(0)?;
        let keep = self.node.int("keepdims").unwrap_or(1) != 0;
        let axes = match axes {
            Some(axes) => {
                axes.iter().map(|axis| Self::axis(*axis, dims.len())).collect::<Option<Vec<_>>>()?
            }
            None if self.inputs.len() > 1 => return None,
            None => (0..dims.len()).collect(),
        };
        let left = dims.iter().enumerate().filter(|(at, _)| keep || !axes.contains(at));
        Some(left.map(|(at, n)| if axes.contains(&at) { 1 } else { *n }).collect())
    }
}
