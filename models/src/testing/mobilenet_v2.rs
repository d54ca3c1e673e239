//! MobileNetV2 (Sandler et al., CVPR 2018, table 2), the seed of most light networks, with random weights: depthwise
//! convolutions, linear bottlenecks, ReLU6, residual additions, batch normalisation or none.
//!
//! Owns: the graph and weights that behave like trained ones where quantisation is concerned: activations neither die
//! nor explode (each batch normalisation knows the variance its convolution has), and ranges differ between channels by
//! a factor of ten and more. Does not know: who runs it. The example `mobilenet_v2` writes it to a file.

use crate::onnx::{
    DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};

/// What stands behind each convolution but the linear ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Clip to 0..6, as in the paper.
    Relu6,
    Relu,
    LeakyRelu,
    /// x · sigmoid(x).
    Silu,
}

/// Which MobileNetV2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MobileNetV2 {
    /// Multiplies all channels; 1.0 has 3.5 million parameters.
    pub width: f32,
    /// Side of the input in pixels, a multiple of 32.
    pub size: usize,
    pub activation: Activation,
    /// BatchNormalization nodes; else they are folded into the convolutions.
    pub batch_norm: bool,
    pub classes: usize,
    pub seed: u64,
}

impl Default for MobileNetV2 {
    fn default() -> Self {
        let activation = Activation::Relu6;
        Self { width: 1.0, size: 224, activation, batch_norm: true, classes: 1000, seed: 1 }
    }
}

/// Expansion, channels, repeats, stride of the first.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];
const OPSET: i64 = 17;
const IR: i64 = 8;
const EPSILON: f32 = 1e-5;
/// Standard deviation of the logarithm of a channel's range in front of its normalisation, and behind.
const UNEVEN_BEFORE: f32 = 1.0;
const UNEVEN_BEHIND: f32 = 0.5;

impl MobileNetV2 {
    /// `input` f32 `[1, 3, size, size]`, zero mean and unit variance → `logits` f32 `[1, classes]`; opset 17.
    pub(crate) fn build(self) -> ModelProto {
        let mut build = Builder { network: self, noise: Noise(self.seed), nodes: vec![], constants: vec![] };
        let mut at = Value { name: "input".to_owned(), channels: 3, power: 1.0 };
        at = build.conv("stem", &at, self.channels(32), 3, 2, 1, true);
        for (stage, (expansion, channels, repeats, stride)) in STAGES.into_iter().enumerate() {
            for repeat in 0..repeats {
                let name = format!("stage{}.{repeat}", stage + 1);
                let stride = if repeat == 0 { stride } else { 1 };
                at = build.bottleneck(&name, &at, expansion, self.channels(channels), stride);
            }
        }
        // Narrow networks keep the width of the last layer, as in the paper.
        at = build.conv("last", &at, self.channels(1280).max(1280), 1, 1, 1, true);
        build.classifier(&at);
        let size = self.size as i64;
        let graph = GraphProto {
            name: Some("mobilenet_v2".to_owned()),
            node: build.nodes,
            initializer: build.constants,
            input: vec![float("input", &[1, 3, size, size])],
            output: vec![float("logits", &[1, self.classes as i64])],
            ..GraphProto::default()
        };
        let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) };
        ModelProto {
            ir_version: Some(IR),
            graph: Some(graph),
            opset_import: vec![opset],
            ..Default::default()
        }
    }

    /// The paper's rounding: multiples of 8, never less than 90 % of what was asked for.
    fn channels(self, of: usize) -> usize {
        let wanted = of as f32 * self.width;
        let rounded = (((wanted + 4.0) as usize) / 8 * 8).max(8);
        if (rounded as f32) < 0.9 * wanted { rounded + 8 } else { rounded }
    }
}

fn float(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |d: &i64| DimensionProto { dim_value: Some(*d), dim_param: None };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: Some(data_type::FLOAT), shape });
    let r#type = Some(TypeProto { tensor_type, ..Default::default() });
    ValueInfoProto { name: Some(name.to_owned()), r#type, doc_string: None }
}

/// An activation under way: its name, channels, mean square.
struct Value {
    name: String,
    channels: usize,
    power: f32,
}

struct Builder {
    network: MobileNetV2,
    noise: Noise,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Builder {
    fn constant(&mut self, name: &str, dims: &[i64], values: &[f32]) {
        self.constants.push(TensorProto::from_floats(name, dims, values));
    }

    /// Expand, filter each channel, project; add the input where shapes allow.
    fn bottleneck(
        &mut self,
        name: &str,
        input: &Value,
        expansion: usize,
        channels: usize,
        stride: usize,
    ) -> Value {
        let wide = input.channels * expansion;
        let expanded =
            (expansion > 1).then(|| self.conv(&format!("{name}.expand"), input, wide, 1, 1, 1, true));
        let from = expanded.as_ref().unwrap_or(input);
        let filtered = self.conv(&format!("{name}.depthwise"), from, wide, 3, stride, wide, true);
        let projected = self.conv(&format!("{name}.project"), &filtered, channels, 1, 1, 1, false);
        if stride != 1 || input.channels != channels {
            return projected;
        }
        let sum = format!("{name}.sum");
        let add = NodeProto::new("Add", &format!("{name}.add"), &[&input.name, &projected.name], &[&sum]);
        self.nodes.push(add);
        Value { name: sum, channels, power: input.power + projected.power }
    }

    /// Convolution, batch normalisation (a node, or folded), activation.
    #[expect(clippy::too_many_arguments, reason = "the figures of a convolution")]
    fn conv(
        &mut self,
        name: &str,
        input: &Value,
        channels: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
        active: bool,
    ) -> Value {
        let fan_in = input.channels / groups * kernel * kernel;
        let uneven: Vec<f32> = (0..channels).map(|_| self.noise.log_normal(UNEVEN_BEFORE)).collect();
        let gamma: Vec<f32> = (0..channels).map(|_| self.noise.log_normal(UNEVEN_BEHIND)).collect();
        let beta: Vec<f32> = (0..channels).map(|_| 0.5 * self.noise.normal()).collect();
        // The output then has a deviation of `uneven`; what it is divided by.
        let deviation = 1.0 / (fan_in as f32 * input.power).sqrt();
        let mut weights: Vec<f32> = (0..channels * fan_in).map(|_| deviation * self.noise.normal()).collect();
        for (row, uneven) in weights.chunks_mut(fan_in).zip(&uneven) {
            // Rectified inputs have a mean that would drown what differs between pictures.
            let mean = if groups == 1 { row.iter().sum::<f32>() / fan_in as f32 } else { 0.0 };
            row.iter_mut().for_each(|w| *w = (*w - mean) * uneven);
        }
        let raw = format!("{name}.conv");
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let linear = if self.network.batch_norm { format!("{name}.normalised") } else { raw.clone() };
        let mut inputs = vec![input.name.as_str(), &weight];
        if !self.network.batch_norm {
            let gain = gamma.iter().zip(&uneven).map(|(g, u)| g / (u * u + EPSILON).sqrt());
            for (row, gain) in weights.chunks_mut(fan_in).zip(gain) {
                row.iter_mut().for_each(|w| *w *= gain);
            }
            self.constant(&bias, &[channels as i64], &beta);
            inputs.push(&bias);
        }
        let side = kernel as i64;
        let dims = [channels as i64, (input.channels / groups) as i64, side, side];
        self.constant(&weight, &dims, &weights);
        let node = NodeProto::new("Conv", &format!("{name}.Conv"), &inputs, &[&raw]);
        self.nodes.push(
            node.with_int("group", groups as i64)
                .with_ints("kernel_shape", &[side; 2])
                .with_ints("strides", &[stride as i64; 2])
                .with_ints("pads", &[side / 2; 4]),
        );
        if self.network.batch_norm {
            self.normalise(name, [&raw, &linear], &uneven, &gamma, &beta);
        }
        let power = gamma.iter().zip(&beta).map(|(g, b)| g * g + b * b).sum::<f32>() / channels as f32;
        if !active {
            return Value { name: linear, channels, power };
        }
        // Rectified: about half of it is left.
        Value { name: self.activate(name, &linear), channels, power: power / 2.0 }
    }

    fn normalise(
        &mut self,
        name: &str,
        [from, to]: [&str; 2],
        deviation: &[f32],
        gamma: &[f32],
        beta: &[f32],
    ) {
        let dims = [gamma.len() as i64];
        let variance: Vec<f32> = deviation.iter().map(|d| d * d).collect();
        let names = ["gamma", "beta", "mean", "variance"].map(|part| format!("{name}.{part}"));
        self.constant(&names[0], &dims, gamma);
        self.constant(&names[1], &dims, beta);
        self.constant(&names[2], &dims, &vec![0.0; gamma.len()]);
        self.constant(&names[3], &dims, &variance);
        let inputs = [from, &names[0], &names[1], &names[2], &names[3]];
        self.nodes.push(NodeProto::new("BatchNormalization", &format!("{name}.bn"), &inputs, &[to]));
    }

    fn activate(&mut self, name: &str, from: &str) -> String {
        let to = format!("{name}.active");
        let label = format!("{name}.activation");
        match self.network.activation {
            Activation::Relu6 => {
                if !self.constants.iter().any(|t| t.name() == "six") {
                    self.constant("zero", &[], &[0.0]);
                    self.constant("six", &[], &[6.0]);
                }
                self.nodes.push(NodeProto::new("Clip", &label, &[from, "zero", "six"], &[&to]));
            }
            Activation::Relu => self.nodes.push(NodeProto::new("Relu", &label, &[from], &[&to])),
            Activation::LeakyRelu => self.nodes.push(NodeProto::new("LeakyRelu", &label, &[from], &[&to])),
            Activation::Silu => {
                let gate = format!("{name}.gate");
                self.nodes.push(NodeProto::new("Sigmoid", &gate, &[from], &[&gate]));
                self.nodes.push(NodeProto::new("Mul", &label, &[from, &gate], &[&to]));
            }
        }
        to
    }

    fn classifier(&mut self, input: &Value) {
        let (classes, channels) = (self.network.classes, input.channels);
        let deviation = 1.0 / (channels as f32 * input.power).sqrt();
        let rows = (0..classes).map(|_| self.noise.log_normal(UNEVEN_BEHIND) * deviation).collect::<Vec<_>>();
        let weights: Vec<f32> =
            (0..classes * channels).map(|at| rows[at / channels] * self.noise.normal()).collect();
        let bias: Vec<f32> = (0..classes).map(|_| 0.1 * self.noise.normal()).collect();
        self.constant("classifier.weight", &[classes as i64, channels as i64], &weights);
        self.constant("classifier.bias", &[classes as i64], &bias);
        let inputs = ["features", "classifier.weight", "classifier.bias"];
        self.nodes.extend([
            NodeProto::new("GlobalAveragePool", "pool", &[&input.name], &["pooled"]),
            NodeProto::new("Flatten", "flatten", &["pooled"], &["features"]),
            NodeProto::new("Gemm", "classifier", &inputs, &["logits"]).with_int("transB", 1),
        ]);
    }
}

/// Pseudo-random numbers, the same everywhere: SplitMix64 (Steele et al., OOPSLA 2014).
struct Noise(u64);

impl Noise {
    /// 0..1
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Nearly normal: the sum of twelve has variance 1. Only additions, so that every machine makes the same bits.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    /// `(1 + x/32)^32` for `exp(x)`, which each C library rounds its own way.
    fn log_normal(&mut self, deviation: f32) -> f32 {
        let root = 1.0 + deviation * self.normal() / 32.0;
        (0..5).fold(root, |power, _| power * power)
    }
}
