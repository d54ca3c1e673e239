//! `vedette model list | inspect | eval | import | quantize`.

mod import;
mod inspect;
mod quantize;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use vedette_models::{CocoSet, Detector, DetectorOptions, Form, Manifest, Runtime, evaluate};

use super::{Global, progress, say, say_json};
use crate::exit::{Failure, Outcome};
use crate::node::runtime_folders;
use crate::words::{columns, count};

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// The models there are
    List,
    /// What an ONNX file is: inputs, outputs, size, work, memory, how it is quantised
    Inspect(inspect::Arguments),
    /// Accuracy on COCO-format sets, through the product's own pre-processing
    Eval(EvalArguments),
    /// Make a model of your own ONNX file: a manifest, checked and tried
    Import(import::Arguments),
    /// Quantise a model to int8 with your own pictures, and compare on this machine
    Quantize(quantize::Arguments),
}

#[derive(Args, Debug)]
pub(super) struct EvalArguments {
    /// Which model
    #[arg(long, value_name = "NAME", default_value = "nanodet-g-416")]
    model: String,
    /// Which form of it [default: the provider's]
    #[arg(long, value_name = "fp32|u8s8|s8s8")]
    form: Option<Form>,
    /// A folder of images and its annotations; may be given several times
    #[arg(long, value_name = "IMAGES_DIR:ANNOTATIONS.json", required = true)]
    coco: Vec<CocoSet>,
}

pub(super) fn run(global: &Global, verb: &Verb) -> Outcome {
    match verb {
        Verb::List => list(global),
        Verb::Inspect(arguments) => inspect::run(global, arguments),
        Verb::Eval(arguments) => eval(global, arguments),
        Verb::Import(arguments) => import::run(global, arguments),
        Verb::Quantize(arguments) => quantize::run(global, arguments),
    }
}

fn list(global: &Global) -> Outcome {
    let folders = global.host()?.models();
    let names = Manifest::list(&folders).into_iter().map(|(name, _)| name);
    let manifests: Result<Vec<_>, _> = names.map(|name| Manifest::load(&folders, &name)).collect();
    let manifests = manifests.map_err(Failure::failed)?;
    if global.json {
        return say_json(&manifests.iter().map(row).collect::<Vec<_>>());
    }
    let rows = manifests.iter().map(row).map(|m| [m.name, m.input, m.forms.join(" "), m.licence, m.about]);
    let head = ["model", "input", "forms", "licence", "about"].map(str::to_owned);
    columns(std::iter::once(head).chain(rows).collect()).into_iter().try_for_each(say)
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

fn eval(global: &Global, arguments: &EvalArguments) -> Outcome {
    let runtime = Runtime::load(None, &runtime_folders()).map_err(Failure::unavailable)?;
    let manifest = Manifest::load(&global.host()?.models(), &arguments.model).map_err(Failure::failed)?;
    let manifest = match arguments.form {
        Some(form) => manifest.only(form).map_err(Failure::usage)?,
        None => manifest,
    };
    let mut detector =
        Detector::open(runtime, &manifest, &DetectorOptions::default()).map_err(Failure::unavailable)?;
    let bar = progress::bar(1, &arguments.model);
    let mut step = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let result = evaluate(&mut detector, &arguments.coco, &mut step).map_err(Failure::failed)?;
    bar.finish_and_clear();
    if !global.json {
        let (images, boxes) = (count(result.images, "image"), result.boxes);
        say(format!("{} ({}) on {images} with {boxes} boxes", result.model, result.form))?;
        say(format!("AP50 {:.3}   AP {:.3}", result.ap50, result.ap))?;
        let rows = result.ap50_by_class.iter().map(|(class, ap)| [class.to_string(), format!("{ap:.3}")]);
        let head = ["class", "AP50"].map(str::to_owned);
        return columns(std::iter::once(head).chain(rows).collect()).into_iter().try_for_each(say);
    }
    say_json(&json!({
        "model": arguments.model, "form": result.form, "images": result.images,
        "ap": result.ap, "ap50": result.ap50, "ap50_by_class": result.ap50_by_class, "oks_ap": null,
    }))
}
