//! A small network as an ONNX file, for tests that need one of their own.
//!
//! Owns: the few messages of ONNX that it is made of. Does not know: what is done with it.

const IR: u64 = 8;
const OPSET: u64 = 17;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;
/// `AttributeProto.AttributeType.INTS`.
const INTS: u64 = 7;

/// One message under construction (protobuf's wire format).
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn numbers(self, field: u64, values: &[usize]) -> Self {
        values.iter().fold(self, |message, value| message.number(field, *value as u64))
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// 3x3 convolutions with a ReLU behind each, the first with a stride of two: `input` f32 `[1, 3, size, size]` →
/// `output` f32 `[1, C, size / 2, size / 2]`, one layer for each number of `channels`. The same arguments give the
/// same bytes.
pub fn convolutions(size: usize, channels: &[usize]) -> Vec<u8> {
    let mut graph = Message::default().text(2, "convolutions");
    let (mut from, mut before, mut seed) = ("input".to_owned(), 3, 1_u32);
    for (layer, &now) in channels.iter().enumerate() {
        let last = layer + 1 == channels.len();
        let (sums, weights) = (format!("sums{layer}"), format!("weights{layer}"));
        let to = if last { "output".to_owned() } else { format!("value{layer}") };
        let stride = if layer == 0 { 2 } else { 1 };
        let conv = node("Conv", &[&from, &weights], &sums)
            .message(5, &integers("kernel_shape", &[3, 3]))
            .message(5, &integers("pads", &[1, 1, 1, 1]))
            .message(5, &integers("strides", &[stride, stride]));
        // As He et al. (2015) begin: what goes through keeps its size.
        let scale = (2.0 / (9 * before) as f32).sqrt();
        let values = (0..now * before * 9).flat_map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (((seed >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale).to_le_bytes()
        });
        let raw: Vec<u8> = values.collect();
        let tensor = Message::default().numbers(1, &[now, before, 3, 3]).number(2, FLOAT);
        graph = graph
            .message(1, &conv)
            .message(1, &node("Relu", &[&sums], &to))
            .message(5, &tensor.text(8, &weights).bytes(9, &raw));
        (from, before) = (to, now);
    }
    graph = graph
        .message(11, &value("input", &[1, 3, size, size]))
        .message(12, &value("output", &[1, before, size / 2, size / 2]));
    let opset = Message::default().text(1, "").number(2, OPSET);
    Message::default().number(1, IR).message(7, &graph).message(8, &opset).0
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
    node.text(2, output).text(3, output).text(4, operator)
}

fn integers(name: &str, values: &[usize]) -> Message {
    Message::default().text(1, name).numbers(8, values).number(20, INTS)
}

fn value(name: &str, dims: &[usize]) -> Message {
    let dim = |shape: Message, dim: &usize| shape.message(1, &Message::default().number(1, *dim as u64));
    let shape = dims.iter().fold(Message::default(), dim);
    let tensor = Message::default().number(1, FLOAT).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}
