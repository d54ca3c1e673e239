//! Small networks and seeded damage to them, for tests.
//!
//! Owns: what a stranger's broken file looks like. Does not know: who reads it.

use prost::Message;

use super::{
    DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|n| DimensionProto { dim_value: Some(*n), dim_param: None }).collect();
    let tensor_type = Some(TensorTypeProto { elem_type: Some(1), shape: Some(TensorShapeProto { dim }) });
    let r#type = Some(TypeProto { tensor_type, ..Default::default() });
    ValueInfoProto { name: Some(name.to_owned()), r#type, doc_string: None }
}

fn model(graph: GraphProto) -> ModelProto {
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..Default::default() }
}

/// conv -> relu, weights inside.
pub(crate) fn small() -> ModelProto {
    let conv = NodeProto::new("Conv", "stem", &["in", "w"], &["a"]).with_ints("strides", &[2, 2]);
    model(GraphProto {
        node: vec![conv, NodeProto::new("Relu", "", &["a"], &["out"])],
        name: Some("small".to_owned()),
        initializer: vec![TensorProto::from_floats("w", &[4, 3, 3, 3], &[0.5; 108])],
        input: vec![value("in", &[1, 3, 9, 9])],
        output: vec![value("out", &[1, 4, 4, 4])],
        ..Default::default()
    })
}

/// What optimisers fold and rearrange: pads, pools, transposes, products of matrices, and a shape in numbers.
pub(crate) fn branched() -> ModelProto {
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto::new(op, "", inputs, &[output]);
    let shape = TensorProto {
        dims: vec![2],
        data_type: Some(super::data_type::INT64),
        name: Some("flat".to_owned()),
        int64_data: vec![1, -1],
        ..Default::default()
    };
    let pool = node("MaxPool", &["r"], "p").with_ints("kernel_shape", &[2, 2]).with_ints("strides", &[2, 2]);
    model(GraphProto {
        node: vec![
            NodeProto::new("Conv", "stem", &["in", "w"], &["a"]).with_ints("pads", &[1, 1, 1, 1]),
            node("Relu", &["a"], "r"),
            pool,
            node("Transpose", &["p"], "t").with_ints("perm", &[0, 2, 3, 1]),
            node("Transpose", &["t"], "u").with_ints("perm", &[0, 3, 1, 2]),
            node("Add", &["u", "p"], "s"),
            node("Sigmoid", &["s"], "g"),
            node("Mul", &["s", "g"], "m"),
            node("Reshape", &["m", "flat"], "f"),
            node("MatMul", &["f", "v"], "out"),
        ],
        name: Some("branched".to_owned()),
        initializer: vec![
            TensorProto::from_floats("w", &[2, 3, 3, 3], &[0.25; 54]),
            TensorProto::from_floats("v", &[32, 3], &[0.5; 96]),
            shape,
        ],
        input: vec![value("in", &[1, 3, 8, 8])],
        output: vec![value("out", &[1, 3])],
        ..Default::default()
    })
}

/// Values whose size another value states: what a number too large makes of 300 bytes.
pub(crate) fn grown() -> ModelProto {
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto::new(op, "", inputs, &[output]);
    let ints = |name: &str, dims: &[i64], values: &[i64]| TensorProto {
        dims: dims.to_vec(),
        data_type: Some(super::data_type::INT64),
        name: Some(name.to_owned()),
        int64_data: values.to_vec(),
        ..Default::default()
    };
    let mut fill = node("ConstantOfShape", &["sides"], "c");
    fill.attribute.push(super::AttributeProto {
        name: Some("value".to_owned()),
        t: Some(TensorProto::from_floats("", &[1], &[0.5])),
        r#type: Some(4),
        ..Default::default()
    });
    model(GraphProto {
        node: vec![
            fill,
            node("Expand", &["one", "sides"], "e"),
            node("Tile", &["e", "times"], "t"),
            node("Range", &["first", "last", "step"], "r"),
            node("Cast", &["r"], "s").with_int("to", 1),
            node("Add", &["c", "t"], "u"),
            node("Mul", &["u", "s"], "v"),
            node("Add", &["in", "v"], "out"),
        ],
        name: Some("grown".to_owned()),
        initializer: vec![
            TensorProto::from_floats("one", &[1, 1], &[1.0]),
            ints("sides", &[2], &[8, 8]),
            ints("times", &[2], &[1, 1]),
            ints("first", &[], &[0]),
            ints("last", &[], &[8]),
            ints("step", &[], &[1]),
        ],
        input: vec![value("in", &[1, 3, 8, 8])],
        output: vec![value("out", &[1, 3, 8, 8])],
        ..Default::default()
    })
}

/// Seeded damage: the same seed, the same files.
pub(crate) struct Mutations(u64);

impl Mutations {
    pub(crate) fn new(seed: u64) -> Self {
        // Apart even for seeds that are neighbours, and never 0, where this generator would stay.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % below.max(1) as u64) as usize
    }

    /// A damaged file: half of them in a field that still decodes, the others in any byte.
    pub(crate) fn damage(&mut self, mut model: ModelProto) -> Vec<u8> {
        let of_fields = self.below(2) == 0;
        if of_fields && let Some(graph) = model.graph.as_mut() {
            self.field(graph);
        }
        let mut bytes = model.encode_to_vec();
        for _ in 0..if of_fields { self.below(2) } else { 1 + self.below(4) } {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes.insert(at, self.below(256) as u8),
                2 => drop(bytes.remove(at)),
                3 => bytes.truncate(at.max(1)),
                _ => drop(bytes.splice(at..at, [255; 9])),
            }
        }
        bytes
    }

    fn field(&mut self, graph: &mut GraphProto) {
        const NUMBERS: [i64; 10] = [0, -1, 1, 3, 20_000, 65_536, 1 << 20, 1 << 40, i64::MAX, i64::MIN];
        let number = NUMBERS[self.below(NUMBERS.len())];
        let names: Vec<String> = (graph.node.iter().flat_map(|node| node.output.clone()))
            .chain(graph.initializer.iter().map(|t| t.name().to_owned()))
            .chain(graph.input.iter().map(|i| i.name().to_owned()))
            .chain([String::new()])
            .collect();
        let name = names[self.below(names.len())].clone();
        let (at, other) = (self.below(graph.node.len()), self.below(graph.node.len()));
        match self.below(8) {
            0 => {
                let at = self.below(graph.initializer.len());
                let dims = &mut graph.initializer[at].dims;
                let axis = self.below(dims.len());
                if let Some(dim) = dims.get_mut(axis) {
                    *dim = number;
                }
            }
            1 => {
                let ints = graph.node.iter_mut().flat_map(|n| &mut n.attribute).flat_map(|a| &mut a.ints);
                let mut ints: Vec<&mut i64> = ints.collect();
                let at = self.below(ints.len());
                if let Some(int) = ints.get_mut(at) {
                    **int = number;
                }
            }
            2 => graph.node.swap(at, other),
            3 => {
                let input = self.below(graph.node[at].input.len());
                graph.node[at].input[input] = name;
            }
            4 => graph.node[at].op_type = graph.node[other].op_type.clone(),
            5 => drop(graph.node[at].input.pop()),
            6 => drop(graph.node[at].attribute.pop()),
            _ => {
                let tensor = self.below(graph.initializer.len());
                graph.initializer[tensor].int64_data.iter_mut().for_each(|n| *n = number);
                let port = &mut graph.input[0].r#type;
                if let Some(shape) = port.as_mut().and_then(|t| t.tensor_type.as_mut()?.shape.as_mut()) {
                    let axis = self.below(shape.dim.len());
                    shape.dim[axis].dim_value = Some(number);
                }
            }
        }
    }
}
