//! `vedette model inspect`.
//!
//! Owns: arguments and the page for people. Does not know: ONNX.

use std::path::PathBuf;

use clap::Args;
use vedette_models::{InspectOptions, Inspection, Port, inspect};

use super::super::{Global, say, say_json};
use crate::exit::{Failure, Outcome};
use crate::words::columns;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// An ONNX file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Width and height that open axes of the input take
    #[arg(long, value_name = "WxH", value_parser = size)]
    size: Option<(usize, usize)>,
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let side = |word: &str| word.parse().ok().filter(|n| (1..=16_384).contains(n));
    let sides = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
    sides.ok_or_else(|| format!("`{text}` should be width x height in pixels, for example 416x416"))
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let found = inspect(&arguments.file, InspectOptions { size: arguments.size }).map_err(Failure::failed)?;
    if global.json {
        return say_json(&found);
    }
    say(arguments.file.display().to_string())?;
    columns(rows(&found)).into_iter().try_for_each(say)
}

fn rows(found: &Inspection) -> Vec<[String; 2]> {
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |name: &str, value: String| rows.push([format!("  {name}"), value]);
    let unknown = "unknown: some shape is open; try --size WxH";
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| unknown.to_owned());
    row("file", format!("{}, sha256 {}", megabytes(found.bytes as u64), found.sha256));
    let by =
        if found.producer.is_empty() { String::new() } else { format!(", by {}", plain(&found.producer)) };
    row("format", format!("opset {}, IR {}{by}", found.opset, found.ir));
    for (name, list) in [("input", &found.inputs), ("output", &found.outputs)] {
        list.iter().for_each(|port| row(name, shape(port)));
    }
    row("form", found.form.to_owned());
    row("family", found.family.clone().unwrap_or_else(|| "none that is known here".to_owned()));
    let weights: Vec<_> =
        found.weight_bytes.iter().map(|(kind, bytes)| format!("{} {kind}", megabytes(*bytes))).collect();
    row("weights", format!("{} parameters: {}", thousands(found.parameters), weights.join(", ")));
    row("work", or_unknown(found.macs.map(|n| format!("{} MACs", thousands(n)))));
    if let Some(share) = found.quantised_share {
        row("quantised", format!("{:.1} % of the MACs", share * 100.0));
    }
    let memory = found.peak_activation_bytes.zip(found.total_activation_bytes);
    let memory = memory.map(|(peak, all)| format!("{} at most, {} in all", megabytes(peak), megabytes(all)));
    row("activations", or_unknown(memory));
    let mut ops: Vec<_> = found.ops.iter().collect();
    ops.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let ops: Vec<_> = ops.into_iter().map(|(op, n)| format!("{n} {}", plain(op))).collect();
    // Six a line: a page, not a paragraph.
    for (at, chunk) in ops.chunks(6).enumerate() {
        row(if at == 0 { "operators" } else { "" }, chunk.join("  "));
    }
    for (name, list) in
        [("no int8 kernel", &found.without_int8_kernel), ("shape unknown", &found.unknown_ops)]
    {
        if !list.is_empty() {
            row(name, plain(&list.join(" ")));
        }
    }
    rows
}

fn shape(port: &Port) -> String {
    format!("{}  {} [{}]", plain(&port.name), port.r#type, plain(&port.shape.join(", ")))
}

/// Names out of a stranger's file do not reach the terminal as they are.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..100_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.2} MB", bytes as f64 / 1e6),
    }
}

/// `3.81 M`, `2.09 G`.
fn thousands(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_two_numbers() {
        assert_eq!(size("416x320"), Ok((416, 320)));
        for wrong in ["416", "0x4", "x", "99999x1", "4x-1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [12, 45_600, 3_810_000, 2_090_000_000].map(thousands),
            ["12", "45.6 k", "3.81 M", "2.09 G"]
        );
        assert_eq!(plain("a\u{1b}[2J"), "a?[2J");
    }
}
