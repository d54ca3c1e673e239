//! `vedette model list | inspect | bench | eval | import | quantize`.

mod bench;
mod eval;
mod import;
mod inspect;
mod quantize;

use clap::Subcommand;
use serde::Serialize;
use vedette_models::Manifest;

use super::{Global, note, say, say_json};
use crate::exit::{Failure, Outcome};
use crate::words::columns;

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// The models there are
    List,
    /// What an ONNX file is: inputs, outputs, size, work, memory, how it is quantised
    Inspect(inspect::Arguments),
    /// Cost on this machine: CPU, load time, memory, bytes, joules
    Bench(bench::Arguments),
    /// Accuracy on COCO-format sets, through the product's own pre-processing
    Eval(eval::Arguments),
    /// Make a model of your own ONNX file: a manifest, checked and tried
    Import(import::Arguments),
    /// Quantise a model to int8 with your own pictures, and compare on this machine
    Quantize(quantize::Arguments),
}

pub(super) fn run(global: &Global, verb: &Verb) -> Outcome {
    match verb {
        Verb::List => list(global),
        Verb::Inspect(arguments) => inspect::run(global, arguments),
        Verb::Bench(arguments) => bench::run(global, arguments),
        Verb::Eval(arguments) => eval::run(global, arguments),
        Verb::Import(arguments) => import::run(global, arguments),
        Verb::Quantize(arguments) => quantize::run(global, arguments),
    }
}

fn list(global: &Global) -> Outcome {
    let folders = global.host()?.models();
    let names = Manifest::list(&folders).into_iter().map(|(name, _)| name);
    let (mut manifests, mut bad) = (Vec::new(), 0);
    for manifest in names.map(|name| Manifest::load(&folders, &name)) {
        match manifest {
            Ok(manifest) => manifests.push(manifest),
            Err(error) => {
                note(error);
                bad += 1;
            }
        }
    }
    if global.json {
        say_json(&manifests.iter().map(row).collect::<Vec<_>>())?;
    } else {
        let rows =
            manifests.iter().map(row).map(|m| [m.name, m.input, m.forms.join(" "), m.licence, m.about]);
        let head = ["model", "input", "forms", "licence", "about"].map(str::to_owned);
        columns(std::iter::once(head).chain(rows).collect()).into_iter().try_for_each(say)?;
    }
    match bad {
        0 => Ok(()),
        _ => Err(Failure::failed(format!("manifests that cannot be used: {bad}; correct or remove them"))),
    }
}

/// One line of `model list`.
#[derive(Serialize)]
struct Row {
    name: String,
    input: String,
    forms: Vec<String>,
    licence: String,
    about: String,
}

/// Of the forms those whose files are here.
fn row(manifest: &Manifest) -> Row {
    let input = manifest.input();
    Row {
        name: manifest.name().to_owned(),
        input: format!("{}x{}", input.width, input.height),
        forms: manifest
            .forms()
            .filter(|(_, file)| manifest.has(file))
            .map(|(form, _)| form.to_string())
            .collect(),
        licence: manifest.licence().to_owned(),
        about: manifest.about().to_owned(),
    }
}
