//! Writes MobileNetV2 with random weights: `cargo run -p vedette-models --example mobilenet_v2 -- FILE [WIDTH [SIZE
//! [relu6|relu|leaky-relu|silu [folded]]]]`. Input f32 `[1, 3, SIZE, SIZE]`, output f32 `[1, 1000]`; `folded` leaves
//! out the BatchNormalization nodes. The same arguments give the same file.
#![expect(clippy::print_stdout, reason = "says what it wrote")]
#![allow(unreachable_pub, reason = "of the library")]
#![expect(dead_code, reason = "the ONNX messages have more than this uses")]
#![allow(unfulfilled_lint_expectations, reason = "of the library: nothing is public here")]

use prost::Message;

/// Files of the crate that are not public; inside an inline module they find their own parts.
#[path = "../../src"]
mod library {
    pub(crate) mod onnx;
}
#[path = "../../src/testing/mobilenet_v2.rs"]
mod mobilenet_v2;

use library::onnx;
use mobilenet_v2::{Activation, MobileNetV2};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |at: usize| words.get(at).map(String::as_str);
    let path = word(0).ok_or("usage: mobilenet_v2 FILE [WIDTH [SIZE [ACTIVATION [folded]]]]")?;
    let mut network = MobileNetV2::default();
    if let Some(width) = word(1) {
        network.width = width.parse()?;
    }
    if let Some(size) = word(2) {
        network.size = size.parse()?;
    }
    network.activation = match word(3) {
        None | Some("relu6") => Activation::Relu6,
        Some("relu") => Activation::Relu,
        Some("leaky-relu") => Activation::LeakyRelu,
        Some("silu") => Activation::Silu,
        Some(other) => return Err(format!("no activation `{other}`: relu6, relu, leaky-relu, silu").into()),
    };
    network.batch_norm = word(4) != Some("folded");
    let bytes = network.build().encode_to_vec();
    std::fs::write(path, &bytes)?;
    println!("{path}: MobileNetV2, {} bytes", bytes.len());
    Ok(())
}
