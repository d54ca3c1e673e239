//! MobileNetV2 (Sandler et al., CVPR 2018, table 2), the seed of most light networks, with random weights: depthwise
//! convolutions, linear bottlenecks, ReLU6, residual additions, batch normalisation or none.
//!
//! Owns: the graph and weights that behave like trained ones where quantisation is concerned: each batch normalisation
//! knows nearly the mean and variance that its convolution has, so that what differs between pictures lives to the end,
//! and ranges differ between channels by a factor of ten and more. Does not know: who runs it. The example
//! `mobilenet_v2` writes it to a file.

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

impl Activation {
    fn apply(self, x: f32) -> f32 {
        match self {
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Relu => x.max(0.0),
            Self::LeakyRelu => x.max(0.01 * x),
            Self::Silu => x / (1.0 + exp(-x)),
        }
    }

    /// Moments behind it of what is normal in front: the integral over four deviations to each side.
    fn moments(self, mean: f32, deviation: f32) -> Moments {
        let points = (-32..=32i8).map(|at| f32::from(at) / 8.0);
        let weighed = points.map(|x| (exp(-x * x / 2.0), self.apply(mean + deviation * x)));
        let (all, sum, squares) = weighed
            .fold((0.0, 0.0, 0.0), |(all, sum, squares), (w, y)| (all + w, sum + w * y, squares + w * y * y));
        let mean: f32 = sum / all;
        Moments { mean, variance: squares / all - mean * mean }
    }
}

/// Nearly the exponential, from multiplications only: each C library rounds its own in its own way.
fn exp(x: f32) -> f32 {
    let root = (1.0 + x / 256.0).max(0.0);
    (0..8).fold(root, |power, _| power * power)
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
/// Gain of a branch that is added to what goes past it: trained networks correct their way in small steps.
const BRANCH_GAIN: f32 = 0.3;

impl MobileNetV2 {
    /// `input` f32 `[1, 3, size, size]`, zero mean and unit variance → `logits` f32 `[1, classes]`; opset 17.
    pub(crate) fn build(self) -> ModelProto {
        let mut build = Builder { network: self, noise: Noise(self.seed), nodes: vec![], constants: vec![] };
        let mut at =
            Value { name: "input".to_owned(), moments: vec![Moments { mean: 0.0, variance: 1.0 }; 3] };
        at = build.conv("stem", &at, self.channels(32), 3, 2, 1, Behind::Activation);
        for (stage, (expansion, channels, repeats, stride)) in STAGES.into_iter().enumerate() {
            for repeat in 0..repeats {
                let name = format!("stage{}.{repeat}", stage + 1);
                let stride = if repeat == 0 { stride } else { 1 };
                at = build.bottleneck(&name, &at, expansion, self.channels(channels), stride);
            }
        }
        // Narrow networks keep the width of the last layer, as in the paper.
        at = build.conv("last", &at, self.channels(1280).max(1280), 1, 1, 1, Behind::Activation);
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

/// What stands behind a batch normalisation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    Activation,
    Nothing,
    /// The addition of what goes past.
    Sum,
}

/// Mean and variance of a channel, over pictures and places.
#[derive(Clone, Copy)]
struct Moments {
    mean: f32,
    variance: f32,
}

/// An activation under way, with the moments of each channel.
struct Value {
    name: String,
    moments: Vec<Moments>,
}

impl Value {
    fn channels(&self) -> usize {
        self.moments.len()
    }
}

/// Moments behind the weights of one output: channels are independent, the places of a window half so.
fn filtered(weights: &[f32], inputs: &[Moments], taps: usize) -> Moments {
    let of = |(window, input): (&[f32], &Moments)| {
        let sum = window.iter().sum::<f32>();
        let squares = window.iter().map(|w| w * w).sum::<f32>();
        Moments { mean: sum * input.mean, variance: (squares + sum * sum) / 2.0 * input.variance }
    };
    let parts = weights.chunks(taps).zip(inputs).map(of);
    let none = Moments { mean: 0.0, variance: 0.0 };
    parts.fold(none, |a, b| Moments { mean: a.mean + b.mean, variance: a.variance + b.variance })
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
        let wide = input.channels() * expansion;
        let expanded = (expansion > 1)
            .then(|| self.conv(&format!("{name}.expand"), input, wide, 1, 1, 1, Behind::Activation));
        let from = expanded.as_ref().unwrap_or(input);
        let filtered =
            self.conv(&format!("{name}.depthwise"), from, wide, 3, stride, wide, Behind::Activation);
        let residual = stride == 1 && input.channels() == channels;
        let behind = if residual { Behind::Sum } else { Behind::Nothing };
        let projected = self.conv(&format!("{name}.project"), &filtered, channels, 1, 1, 1, behind);
        if !residual {
            return projected;
        }
        let sum = format!("{name}.sum");
        let add = NodeProto::new("Add", &format!("{name}.add"), &[&input.name, &projected.name], &[&sum]);
        self.nodes.push(add);
        let add = |(a, b): (&Moments, &Moments)| Moments {
            mean: a.mean + b.mean,
            variance: a.variance + b.variance,
        };
        Value { name: sum, moments: input.moments.iter().zip(&projected.moments).map(add).collect() }
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
        behind: Behind,
    ) -> Value {
        let taps = kernel * kernel;
        let fan_in = input.channels() / groups * taps;
        let mut weights = Vec::with_capacity(channels * fan_in);
        for _ in 0..channels {
            let deviation = self.noise.log_normal(UNEVEN_BEFORE) / (fan_in as f32).sqrt();
            weights.extend((0..fan_in).map(|_| deviation * self.noise.normal()));
        }
        let inputs = |row: usize| if groups == 1 { &input.moments[..] } else { &input.moments[row..=row] };
        let found: Vec<Moments> =
            weights.chunks(fan_in).enumerate().map(|(at, row)| filtered(row, inputs(at), taps)).collect();
        let gain = if behind == Behind::Sum { BRANCH_GAIN } else { 1.0 };
        let gamma: Vec<f32> = (0..channels).map(|_| gain * self.noise.log_normal(UNEVEN_BEHIND)).collect();
        let beta: Vec<f32> = (0..channels).map(|_| gain * 0.5 * self.noise.normal()).collect();
        let folded = !self.network.batch_norm;
        let bias = folded.then(|| {
            let gain = gamma.iter().zip(&found).map(|(g, m)| g / (m.variance + EPSILON).sqrt());
            let mut bias = beta.clone();
            for (at, gain) in gain.enumerate() {
                weights[at * fan_in..(at + 1) * fan_in].iter_mut().for_each(|w| *w *= gain);
                bias[at] -= gain * found[at].mean;
            }
            bias
        });
        let dims = [channels, input.channels() / groups, kernel, kernel].map(|d| d as i64);
        let mut linear = self.convolve(name, &input.name, &weights, dims, bias.as_deref(), (stride, groups));
        if !folded {
            linear = self.normalise(name, &linear, &found, &gamma, &beta);
        }
        let normal = gamma.iter().zip(&beta);
        if behind != Behind::Activation {
            let moments = normal.map(|(g, b)| Moments { mean: *b, variance: g * g }).collect();
            return Value { name: linear, moments };
        }
        let activation = self.network.activation;
        let moments = normal.map(|(g, b)| activation.moments(*b, *g)).collect();
        Value { name: self.activate(name, &linear), moments }
    }

    fn convolve(
        &mut self,
        name: &str,
        input: &str,
        weights: &[f32],
        dims: [i64; 4],
        bias: Option<&[f32]>,
        (stride, groups): (usize, usize),
    ) -> String {
        let (weight, shift, output) =
            (format!("{name}.weight"), format!("{name}.bias"), format!("{name}.conv"));
        self.constant(&weight, &dims, weights);
        let mut inputs = vec![input, &weight];
        if let Some(bias) = bias {
            self.constant(&shift, &dims[..1], bias);
            inputs.push(&shift);
        }
        let side = dims[2];
        let node = NodeProto::new("Conv", &format!("{name}.Conv"), &inputs, &[&output]);
        self.nodes.push(
            node.with_int("group", groups as i64)
                .with_ints("kernel_shape", &[side; 2])
                .with_ints("strides", &[stride as i64; 2])
                .with_ints("pads", &[side / 2; 4]),
        );
        output
    }

    fn normalise(
        &mut self,
        name: &str,
        from: &str,
        found: &[Moments],
        gamma: &[f32],
        beta: &[f32],
    ) -> String {
        let dims = [gamma.len() as i64];
        let mean: Vec<f32> = found.iter().map(|m| m.mean).collect();
        let variance: Vec<f32> = found.iter().map(|m| m.variance).collect();
        let names = ["gamma", "beta", "mean", "variance"].map(|part| format!("{name}.{part}"));
        for (name, values) in names.iter().zip([gamma, beta, &mean, &variance]) {
            self.constant(name, &dims, values);
        }
        let (inputs, output) =
            ([from, &names[0], &names[1], &names[2], &names[3]], format!("{name}.normalised"));
        self.nodes.push(NodeProto::new("BatchNormalization", &format!("{name}.bn"), &inputs, &[&output]));
        output
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
        let (classes, channels) = (self.network.classes, input.channels());
        let power = input.moments.iter().map(|m| m.mean * m.mean + m.variance).sum::<f32>();
        let deviation = 1.0 / power.sqrt();
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

    fn log_normal(&mut self, deviation: f32) -> f32 {
        exp(deviation * self.normal())
    }
}
