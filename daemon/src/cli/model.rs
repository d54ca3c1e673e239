//! `vedette model list | eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use vedette_models::{CocoSet, Detector, DetectorOptions, Form, Manifest, Provider, Runtime, evaluate};

use super::{Global, progress, say, say_json};
use crate::exit::{Failure, Outcome};

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// The models there are
    List,
    /// Accuracy on COCO-format sets, through the product's own pre-processing
    Eval(EvalArguments),
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
    coco: Vec<String>,
}

pub(super) fn run(global: &Global, verb: &Verb) -> Outcome {
    match verb {
        Verb::List => list(global),
        Verb::Eval(arguments) => eval(global, arguments),
    }
}

fn list(global: &Global) -> Outcome {
    let manifests = Manifest::list(&global.share()?.manifests()).map_err(Failure::failed)?;
    if global.json {
        let rows: Vec<_> = manifests.iter().map(Manifest::summary).collect();
        return say_json(&rows);
    }
    say(format!("{:<18} {:<10} {:<9} {:<18} {}", "model", "family", "input", "forms", "licence"))?;
    for m in manifests.iter().map(Manifest::summary) {
        say(format!("{:<18} {:<10} {:<9} {:<18} {}", m.name, m.family, m.input, m.forms.join(" "), m.licence))?;
    }
    Ok(())
}

fn sets(arguments: &EvalArguments) -> Result<Vec<CocoSet>, Failure> {
    let split = |text: &String| {
        let (images, annotations) = text.rsplit_once(':').ok_or_else(|| {
            Failure::usage(format!("--coco {text}: write IMAGES_DIR:ANNOTATIONS.json"))
        })?;
        CocoSet::load(&PathBuf::from(images), &PathBuf::from(annotations)).map_err(Failure::failed)
    };
    arguments.coco.iter().map(split).collect()
}

fn eval(global: &Global, arguments: &EvalArguments) -> Outcome {
    let sets = sets(arguments)?;
    let share = global.share()?;
    let runtime = Runtime::load(None, &share.runtime_folders()).map_err(Failure::unavailable)?;
    let manifest = Manifest::load(&share.manifests(), &arguments.model).map_err(Failure::failed)?;
    // The floor of the evaluation's rules, far below what the daemon lets pass.
    let options = DetectorOptions {
        providers: vec![Provider::Cpu],
        min_score: 0.01,
        form: arguments.form,
        ..DetectorOptions::default()
    };
    let mut detector = Detector::open(runtime, &manifest, &options).map_err(Failure::unavailable)?;
    let bar = progress::bar(1, &arguments.model);
    let mut step = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let result = evaluate(&mut detector, &sets, &mut step).map_err(Failure::failed)?;
    bar.finish_and_clear();
    if !global.json {
        say(format!("{} ({}) on {} images", arguments.model, detector.form(), result.images))?;
        say(format!("AP50 {:.3}   AP {:.3}", result.ap50, result.ap))?;
        for (class, ap) in &result.ap50_by_class {
            say(format!("  {class:<16} AP50 {ap:.3}"))?;
        }
        return Ok(());
    }
    say_json(&json!({
        "model": arguments.model, "form": detector.form().to_string(), "images": result.images,
        "ap": result.ap, "ap50": result.ap50, "ap50_by_class": result.ap50_by_class, "oks_ap": null,
    }))
}
