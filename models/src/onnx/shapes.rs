//! Shapes of every value of a graph, from its inputs.
//!
//! Owns: which operator's rule applies, element types, small integer constants (exporters compute shapes in the graph).
//! Does not know: values of weights, ONNX Runtime. A rule that does not fit gives an unknown shape, never an error.
//! Rules: <https://onnx.ai/onnx/operators/>.

mod makers;
mod moves;
mod windows;

use std::collections::{BTreeSet, HashMap};

use super::{GraphProto, ModelProto, NodeProto, TensorProto, data_type, graph};

/// Integer constants of at most so many values are followed: axes, sizes, pads.
const MOST_INTS: usize = 64;
/// Larger than any tensor that could be run.
const MOST_VALUES: i64 = 1 << 40;

/// What is known of a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Value {
    /// Number of `TensorProto.DataType`, 0 where it is unknown.
    pub kind: i32,
    pub dims: Option<Vec<i64>>,
    /// Its values, where it is a small integer constant.
    pub ints: Option<Vec<i64>>,
    /// Likewise for floats: the scales of a resize.
    pub floats: Option<Vec<f32>>,
}

impl Value {
    fn shaped(kind: i32, dims: Option<Vec<i64>>) -> Self {
        let dims = dims.filter(|dims| dims.len() <= 16 && dims.iter().all(|dim| *dim >= 0));
        // Too many values stay too many, and nothing overflows where axes are added.
        let dims = dims.map(|dims| dims.into_iter().map(|dim| dim.min(MOST_VALUES)).collect());
        Self { kind, dims, ints: None, floats: None }
    }

    fn of(tensor: &TensorProto) -> Self {
        let small = tensor.count().is_ok_and(|n| n <= MOST_INTS);
        let whole = matches!(tensor.data_type(), data_type::INT64 | data_type::INT32);
        Self {
            ints: if small && whole { tensor.ints().ok() } else { None },
            floats: if small && tensor.data_type() == data_type::FLOAT { tensor.floats().ok() } else { None },
            ..Self::shaped(tensor.data_type(), Some(tensor.dims.clone()))
        }
    }

    /// How many values it has; none also where that is more than anybody can hold.
    pub(crate) fn count(&self) -> Option<u64> {
        self.dims.as_ref().and_then(|dims| product(dims)).map(i64::unsigned_abs)
    }
}

/// Of axes that are not negative, below [`MOST_VALUES`].
fn product(dims: &[i64]) -> Option<i64> {
    dims.iter().try_fold(1i64, |n, dim| {
        n.checked_mul(*dim).filter(|n| *dim >= 0 && *dim < MOST_VALUES && *n <= MOST_VALUES)
    })
}

/// Every value of a graph.
#[derive(Debug, Default)]
pub(crate) struct Shapes<'a> {
    pub values: HashMap<&'a str, Value>,
    /// Operators without a rule here.
    pub unknown_ops: BTreeSet<String>,
}

/// Of a checked model; `inputs` are the shapes that the graph's inputs have, by name.
pub(crate) fn infer<'a>(model: &'a ModelProto, inputs: &HashMap<String, Vec<i64>>) -> Shapes<'a> {
    let mut shapes = Shapes::default();
    let Some(graph) = &model.graph else { return shapes };
    for input in &graph.input {
        let kind = input
            .r#type
            .as_ref()
            .and_then(|t| t.tensor_type.as_ref())
            .map_or(0, super::TensorTypeProto::elem_type);
        shapes.values.insert(input.name(), Value::shaped(kind, inputs.get(input.name()).cloned()));
    }
    for tensor in &graph.initializer {
        shapes.values.insert(tensor.name(), Value::of(tensor));
    }
    for at in graph::sorted(graph).unwrap_or_default() {
        step(graph, at, model.opset(), &mut shapes);
    }
    shapes
}

fn step<'a>(graph: &'a GraphProto, at: usize, opset: i64, shapes: &mut Shapes<'a>) {
    let node = &graph.node[at];
    let inputs = node.input.iter().map(|name| shapes.values.get(name.as_str())).collect();
    let call = Call { node, inputs, opset };
    let results = call.outputs().unwrap_or_else(|| {
        shapes.unknown_ops.insert(node.op_type().to_owned());
        Vec::new()
    });
    let mut results = results.into_iter();
    for name in &node.output {
        let value = results.next().unwrap_or_default();
        if !name.is_empty() {
            shapes.values.insert(name, value);
        }
    }
}

/// Operators whose output has shape and type of their first input.
const LIKE_ITS_FIRST: &[&str] = &[
    "Relu",
    "LeakyRelu",
    "Clip",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Softmax",
    "LogSoftmax",
    "Softplus",
    "Elu",
    "Selu",
    "Gelu",
    "Mish",
    "Swish",
    "Erf",
    "Exp",
    "Log",
    "Sqrt",
    "Abs",
    "Neg",
    "Round",
    "Reciprocal",
    "Sign",
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LpNormalization",
    "LRN",
    "Dropout",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearSoftmax",
];

/// One node with what is known of its inputs.
struct Call<'a> {
    node: &'a NodeProto,
    inputs: Vec<Option<&'a Value>>,
    opset: i64,
}

impl Call<'_> {
    fn input(&self, at: usize) -> Option<&Value> {
        self.inputs.get(at).copied().flatten()
    }

    fn dims(&self, at: usize) -> Option<&[i64]> {
        self.input(at)?.dims.as_deref()
    }

    fn ints(&self, at: usize) -> Option<&[i64]> {
        self.input(at)?.ints.as_deref()
    }

    fn floats(&self, at: usize) -> Option<Vec<f32>> {
        self.input(at)?.floats.clone()
    }

    fn kind(&self, at: usize) -> i32 {
        self.input(at).map_or(0, |v| v.kind)
    }

    /// An attribute of old opsets that became an input.
    fn list(&self, attribute: &str, input: usize) -> Option<Vec<i64>> {
        match self.node.attribute(attribute) {
            Some(_) => Some(self.node.ints(attribute).to_vec()),
            None => self.ints(input).map(<[i64]>::to_vec),
        }
    }

    /// An axis counted from the front; negative ones count from behind.
    fn axis(axis: i64, rank: usize) -> Option<usize> {
        let rank = i64::try_from(rank).ok()?;
        usize::try_from(if axis < 0 { axis.checked_add(rank)? } else { axis })
            .ok()
            .filter(|a| (*a as i64) < rank)
    }

    /// None for an operator that has no rule here.
    fn outputs(&self) -> Option<Vec<Value>> {
        let same = |kind| Value::shaped(kind, self.dims(0).map(<[i64]>::to_vec));
        let one = |dims| vec![Value::shaped(self.kind(0), dims)];
        Some(match self.node.op_type() {
            op if LIKE_ITS_FIRST.contains(&op) => vec![same(self.kind(0))],
            "Identity" => vec![self.input(0).cloned().unwrap_or_default()],
            "Floor" | "Ceil" => vec![self.whole()],
            "Not" => vec![same(data_type::BOOL)],
            "Cast" => vec![self.cast()],
            "QuantizeLinear" => vec![same(if self.kind(2) == 0 { data_type::UINT8 } else { self.kind(2) })],
            "DequantizeLinear" => vec![same(self.kind(1))],
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Min" | "Max" | "Sum" | "Mean" | "PRelu" => {
                vec![self.arithmetic()]
            }
            "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "And" | "Or" | "Xor" => {
                vec![Value::shaped(data_type::BOOL, self.broadcast(&[0, 1]))]
            }
            "Where" => vec![Value::shaped(self.kind(1), self.broadcast(&[0, 1, 2]))],
            "QLinearAdd" | "QLinearMul" => one(self.broadcast(&[0, 3])),
            "Conv" => one(self.conv(1)),
            "QLinearConv" => vec![Value::shaped(self.kind(7), self.conv(3))],
            "ConvInteger" => vec![Value::shaped(data_type::INT32, self.conv(1))],
            "ConvTranspose" => one(self.conv_transpose()),
            "MaxPool" | "AveragePool" | "LpPool" | "QLinearAveragePool" => one(self.pool()),
            "GlobalAveragePool" | "GlobalMaxPool" | "QLinearGlobalAveragePool" => one(self.global_pool()),
            "Resize" | "Upsample" => one(self.resize()),
            "Gemm" => one(self.gemm()),
            "MatMul" => one(self.matmul(1)),
            "MatMulInteger" => vec![Value::shaped(data_type::INT32, self.matmul(1))],
            "QLinearMatMul" => vec![Value::shaped(self.kind(7), self.matmul(3))],
            "Shape" => vec![self.shape()],
            "Constant" => vec![self.constant()],
            other => return self.moves(other).or_else(|| self.makers(other)),
        })
    }

    fn cast(&self) -> Value {
        let kind = self.node.int("to").and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
        let value = self.input(0).cloned().unwrap_or_default();
        let whole = matches!(kind, data_type::INT64 | data_type::INT32);
        let to_ints = || value.floats.iter().flatten().map(|v| *v as i64).collect();
        let to_floats = || value.ints.iter().flatten().map(|n| *n as f32).collect();
        let ints = value.ints.clone().or_else(|| (whole && value.floats.is_some()).then(to_ints));
        let floats = value.floats.clone().or_else(|| (!whole && value.ints.is_some()).then(to_floats));
        Value { kind, ints: ints.filter(|_| whole), floats: floats.filter(|_| !whole), ..value }
    }

    /// Sizes that old exporters compute in floats.
    fn whole(&self) -> Value {
        let mut value = Value::shaped(self.kind(0), self.dims(0).map(<[i64]>::to_vec));
        let up = self.node.op_type() == "Ceil";
        let whole = |v: f32| if up { v.ceil() } else { v.floor() };
        value.floats = self.floats(0).map(|floats| floats.into_iter().map(whole).collect());
        value
    }

    fn constant(&self) -> Value {
        let ints = |ints: &[i64], dims: Vec<i64>| {
            let small = Some(ints.to_vec()).filter(|i| i.len() <= MOST_INTS);
            Value { ints: small, ..Value::shaped(data_type::INT64, Some(dims)) }
        };
        let floats = |floats: &[f32], dims: Vec<i64>| {
            let small = Some(floats.to_vec()).filter(|f| f.len() <= MOST_INTS);
            Value { floats: small, ..Value::shaped(data_type::FLOAT, Some(dims)) }
        };
        let Some(attribute) = self.node.attribute.first() else { return Value::default() };
        match attribute.name() {
            "value" => attribute.t.as_ref().map(Value::of).unwrap_or_default(),
            "value_int" => ints(&[attribute.i()], vec![]),
            "value_ints" => ints(&attribute.ints, vec![attribute.ints.len() as i64]),
            "value_float" => floats(&[attribute.f.unwrap_or(0.0)], vec![]),
            "value_floats" => floats(&attribute.floats, vec![attribute.floats.len() as i64]),
            _ => Value::default(),
        }
    }

    fn shape(&self) -> Value {
        let Some(dims) = self.dims(0) else { return Value { kind: data_type::INT64, ..Value::default() } };
        let rank = dims.len() as i64;
        let bound = |n: i64| (if n < 0 { n.saturating_add(rank) } else { n }).clamp(0, rank) as usize;
        let (start, end) =
            (bound(self.node.int("start").unwrap_or(0)), bound(self.node.int("end").unwrap_or(rank)));
        let dims = dims.get(start..end).unwrap_or_default().to_vec();
        Value { ints: Some(dims.clone()), ..Value::shaped(data_type::INT64, Some(vec![dims.len() as i64])) }
    }

    /// Element by element, with small constants followed.
    fn arithmetic(&self) -> Value {
        let all: Vec<usize> = (0..self.inputs.len()).collect();
        let mut value = Value::shaped(self.kind(0), self.broadcast(&all));
        let flat = value.dims.as_ref().is_some_and(|dims| dims.len() <= 1);
        if !flat || all.len() != 2 {
            return value;
        }
        let op = self.node.op_type();
        value.ints = self.ints(0).zip(self.ints(1)).and_then(|(a, b)| {
            pairs(a, b, |a, b| match op {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                "Div" => a.checked_div(b),
                _ => None,
            })
        });
        value.floats = self.floats(0).zip(self.floats(1)).and_then(|(a, b)| {
            pairs(&a, &b, |a, b| match op {
                "Add" => Some(a + b),
                "Sub" => Some(a - b),
                "Mul" => Some(a * b),
                "Div" => Some(a / b),
                _ => None,
            })
        });
        value
    }

    fn broadcast(&self, which: &[usize]) -> Option<Vec<i64>> {
        broadcast(&which.iter().map(|at| self.dims(*at)).collect::<Option<Vec<_>>>()?)
    }

    fn gemm(&self) -> Option<Vec<i64>> {
        let (a, b) = (self.dims(0)?, self.dims(1)?);
        let ([a0, a1], [b0, b1]) = (a, b) else { return None };
        let turned = |name| self.node.int(name).unwrap_or(0) != 0;
        let rows = if turned("transA") { a1 } else { a0 };
        Some(vec![*rows, if turned("transB") { *b0 } else { *b1 }])
    }

    fn matmul(&self, second: usize) -> Option<Vec<i64>> {
        let (a, b) = (self.dims(0)?, self.dims(second)?);
        let ([batch_a @ .., m, k], [batch_b @ .., l, n]) = (a, b) else { return None };
        if k != l {
            return None;
        }
        let mut dims = broadcast(&[batch_a, batch_b])?;
        dims.extend([*m, *n]);
        Some(dims)
    }
}

/// Two lists element by element; of one value with each of the other.
fn pairs<T: Copy>(a: &[T], b: &[T], of: impl Fn(T, T) -> Option<T>) -> Option<Vec<T>> {
    let at = |list: &[T], at: usize| list.get(if list.len() == 1 { 0 } else { at }).copied();
    let length = if a.len() == 1 { b.len() } else { a.len() };
    (0..length).map(|index| of(at(a, index)?, at(b, index)?)).collect()
}

/// The shape that all of these fill together.
fn broadcast(all: &[&[i64]]) -> Option<Vec<i64>> {
    let mut result: Vec<i64> = Vec::new();
    for dims in all {
        while result.len() < dims.len() {
            result.insert(0, 1);
        }
        let offset = result.len() - dims.len();
        for (mine, dim) in result[offset..].iter_mut().zip(*dims) {
            match (*mine, *dim) {
                (a, b) if a == b || b == 1 => {}
                (1, b) => *mine = b,
                _ => return None,
            }
        }
    }
    Some(result)
}

#[cfg(test)]
#[path = "shapes_tests.rs"]
mod tests;
