//! Which weights share a scale: all, those of one index of an axis, or a block of an axis (the standard's three kinds).
//!
//! Owns: from a weight's place in the tensor to its scale's. Does not know: what the weights are for.

use crate::onnx::NodeProto;

/// Shape of a tensor of weights and of its scales.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granularity {
    dims: Vec<usize>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tensor,
    Axis(usize),
    Block { axis: usize, size: usize },
}

impl Granularity {
    /// One scale for each index of `axis`; `None` where there is no such axis.
    pub(super) fn per_axis(dims: &[i64], axis: usize) -> Option<Self> {
        Self::new(dims, Kind::Axis(axis)).filter(|_| axis < dims.len())
    }

    /// One scale for each `size` indices of `axis`, all other axes as they are.
    pub(super) fn blocked(dims: &[i64], axis: usize, size: usize) -> Option<Self> {
        Self::new(dims, Kind::Block { axis, size }).filter(|_| axis < dims.len() && size > 0)
    }

    fn new(dims: &[i64], kind: Kind) -> Option<Self> {
        let dims = dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>()?;
        Some(Self { dims, kind })
    }

    /// What a DequantizeLinear does with a tensor and scales of these shapes; `None` where the standard has no meaning
    /// for them.
    pub(super) fn of(node: &NodeProto, dims: &[i64], scales: &[i64]) -> Option<Self> {
        let rank = dims.len() as i64;
        let axis = node.int("axis").unwrap_or(1);
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok();
        let block = usize::try_from(node.int("block_size").unwrap_or(0)).ok()?;
        let made = match (scales, block) {
            ([], 0) | ([1], 0) => Self::new(dims, Kind::Tensor),
            (_, 0) => Self::per_axis(dims, axis?),
            (_, size) => Self::blocked(dims, axis?, size),
        }?;
        (made.kind == Kind::Tensor || made.scale_dims() == scales).then_some(made)
    }

    /// Shape of the scales.
    pub(super) fn scale_dims(&self) -> Vec<i64> {
        match self.kind {
            Kind::Tensor => Vec::new(),
            Kind::Axis(axis) => vec![self.dims[axis] as i64],
            Kind::Block { axis, size } => {
                let blocks = |(at, d): (usize, &usize)| if at == axis { d.div_ceil(size) } else { *d } as i64;
                self.dims.iter().enumerate().map(blocks).collect()
            }
        }
    }

    /// How many scales.
    pub(super) fn scales(&self) -> usize {
        self.scale_dims().iter().product::<i64>() as usize
    }

    /// The scale of the weight at `at`.
    pub(super) fn scale_of(&self, at: usize) -> usize {
        let inner = |axis: usize| self.dims[axis + 1..].iter().product::<usize>();
        match self.kind {
            Kind::Tensor => 0,
            Kind::Axis(axis) => at / inner(axis) % self.dims[axis],
            Kind::Block { axis, size } => {
                let (inner, length) = (inner(axis), self.dims[axis]);
                let (outer, along) = (at / inner / length, at / inner % length);
                (outer * length.div_ceil(size) + along / size) * inner + at % inner
            }
        }
    }

    /// The weights of each scale.
    pub(super) fn groups(&self, values: &[f32]) -> Vec<Vec<f32>> {
        let mut groups = vec![Vec::new(); self.scales()];
        for (at, value) in values.iter().enumerate() {
            groups[self.scale_of(at)].push(*value);
        }
        groups
    }

    /// A DequantizeLinear of this kind.
    pub(super) fn attributes(&self, node: NodeProto) -> NodeProto {
        match self.kind {
            Kind::Tensor => node,
            Kind::Axis(axis) => node.with_int("axis", axis as i64),
            Kind::Block { axis, size } => {
                node.with_int("axis", axis as i64).with_int("block_size", size as i64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_finds_the_scale_of_a_weight() {
        let places = |g: &Granularity, count: usize| (0..count).map(|at| g.scale_of(at)).collect::<Vec<_>>();
        let rows = Granularity::per_axis(&[2, 3], 0).unwrap();
        assert_eq!((rows.scale_dims(), places(&rows, 6)), (vec![2], vec![0, 0, 0, 1, 1, 1]));
        let columns = Granularity::per_axis(&[2, 3], 1).unwrap();
        assert_eq!((columns.scale_dims(), places(&columns, 6)), (vec![3], vec![0, 1, 2, 0, 1, 2]));
        // The last block of an axis may be short.
        let blocks = Granularity::blocked(&[2, 3], 1, 2).unwrap();
        assert_eq!((blocks.scale_dims(), places(&blocks, 6)), (vec![2, 2], vec![0, 0, 1, 2, 2, 3]));
        let deep = Granularity::blocked(&[1, 4, 2], 1, 2).unwrap();
        assert_eq!((deep.scale_dims(), places(&deep, 8)), (vec![1, 2, 2], vec![0, 1, 0, 1, 2, 3, 2, 3]));
        assert_eq!(Granularity::per_axis(&[2, 3], 2), None);
        assert_eq!(Granularity::blocked(&[2, 3], 1, 0), None);
    }

    #[test]
    fn a_node_is_read_as_the_standard_says() {
        let node = || NodeProto::new("DequantizeLinear", "", &["q", "s"], &["w"]);
        let read = |node: &NodeProto, scales: &[i64]| Granularity::of(node, &[4, 6], scales);
        assert_eq!(read(&node(), &[]).unwrap().scales(), 1);
        assert_eq!(read(&node(), &[6]), Granularity::per_axis(&[4, 6], 1));
        assert_eq!(read(&node().with_int("axis", -2), &[4]), Granularity::per_axis(&[4, 6], 0));
        assert_eq!(read(&node().with_int("axis", 0), &[6]), None);
        assert_eq!(read(&node().with_int("axis", 7), &[6]), None);
        let blocked = node().with_int("axis", 1).with_int("block_size", 4);
        assert_eq!(read(&blocked, &[4, 2]), Granularity::blocked(&[4, 6], 1, 4));
        assert_eq!(read(&blocked, &[4, 3]), None);
        assert_eq!(Granularity::of(&node(), &[-4, 6], &[6]), None);
    }
}
