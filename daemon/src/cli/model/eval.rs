//! `vedette model eval`.
//!
//! Owns: arguments, the table for people, the keys for programs. Does not know: how accuracy is counted.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use vedette_core::Role;
use vedette_models::{
    CocoSet, Detector, DetectorOptions, Evaluation, Form, Manifest, NetworkOptions, PoseEstimator,
    PoseEvaluation, Runtime, evaluate, evaluate_pose,
};

use super::super::{Global, progress, say, say_json};
use crate::exit::{Failure, Outcome};
use crate::node::runtime_folders;
use crate::words::{columns, count};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// Which model
    #[arg(long, value_name = "NAME", default_value = "nanodet-g-416")]
    model: String,
    /// Which form of it [default: the provider's]
    #[arg(long, value_name = "fp32|u8s8|s8s8")]
    form: Option<Form>,
    /// Several forms side by side, each against the first
    #[arg(long, value_name = "FORM,FORM", value_delimiter = ',', conflicts_with = "form")]
    compare: Vec<Form>,
    /// AP50 of each class too
    #[arg(long)]
    per_class: bool,
    /// A folder of images and its annotations; may be given several times
    #[arg(long, value_name = "IMAGES_DIR:ANNOTATIONS.json", required = true)]
    coco: Vec<CocoSet>,
}

/// One form's accuracy; what the other role has stays empty.
#[derive(Debug, Default, Serialize)]
struct Row {
    model: String,
    form: Option<Form>,
    /// Who ran it.
    provider: String,
    images: usize,
    boxes: Option<usize>,
    persons: Option<usize>,
    ap: Option<f64>,
    ap50: Option<f64>,
    ap50_by_class: BTreeMap<String, f64>,
    oks_ap: Option<f64>,
    mean_oks: Option<f64>,
    share_oks50: Option<f64>,
    /// What to know when reading it.
    note: Option<&'static str>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let runtime = Runtime::load(None, &runtime_folders()).map_err(Failure::unavailable)?;
    let load = || Manifest::load(&global.host()?.models(), &arguments.model).map_err(Failure::failed);
    let mut rows = Vec::new();
    for form in forms(arguments) {
        let manifest = load()?;
        let manifest = match form {
            Some(form) => manifest.only(form).map_err(Failure::usage)?,
            None => manifest,
        };
        rows.push(measure(runtime, &manifest, &arguments.coco)?);
    }
    if global.json {
        return say_json(&page(&arguments.model, &rows, !arguments.compare.is_empty()));
    }
    print(&rows, arguments.per_class)
}

/// The forms asked for, each once; none: the provider's choice.
fn forms(arguments: &Arguments) -> Vec<Option<Form>> {
    if arguments.compare.is_empty() {
        return vec![arguments.form];
    }
    let mut seen = BTreeSet::new();
    arguments.compare.iter().filter(|form| seen.insert(**form)).copied().map(Some).collect()
}

fn measure(runtime: &'static Runtime, manifest: &Manifest, sets: &[CocoSet]) -> Result<Row, Failure> {
    let bar = progress::bar(1, manifest.name());
    let mut step = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    match manifest.role() {
        Role::Detector => {
            let opened = Detector::open(runtime, manifest, &DetectorOptions::default());
            let mut detector = opened.map_err(Failure::unavailable)?;
            let found = evaluate(&mut detector, sets, &mut step).map_err(Failure::failed)?;
            Ok(Row::of_boxes(found, detector.report().provider()))
        }
        Role::Pose => {
            let opened = PoseEstimator::open(runtime, manifest, &NetworkOptions::default());
            let mut estimator = opened.map_err(Failure::unavailable)?;
            let found = evaluate_pose(&mut estimator, sets, &mut step).map_err(Failure::failed)?;
            Ok(Row::of_points(found, estimator.network().report().provider()))
        }
        other => Err(Failure::usage(format!(
            "model `{}` gives {other:?}: accuracy is measured of detectors and pose models",
            manifest.name()
        ))),
    }
}

impl Row {
    fn of_boxes(found: Evaluation, provider: &str) -> Self {
        Self {
            model: found.model,
            images: found.images,
            boxes: Some(found.boxes),
            ap: Some(found.ap),
            ap50: Some(found.ap50),
            ap50_by_class: found.ap50_by_class,
            ..Self::run_by(found.form, provider)
        }
    }

    fn of_points(found: PoseEvaluation, provider: &str) -> Self {
        Self {
            model: found.model,
            images: found.images,
            persons: Some(found.persons),
            oks_ap: Some(found.oks_ap),
            mean_oks: Some(found.mean_oks),
            share_oks50: Some(found.share_oks50),
            ..Self::run_by(found.form, provider)
        }
    }

    /// The CPU provider runs int8 activations correctly but slower than fp32: its figures are good, its pace is not.
    fn run_by(form: Form, provider: &str) -> Self {
        let note = (form == Form::S8s8 && provider == "cpu").then_some("on cpu: accuracy only");
        Self { form: Some(form), provider: provider.to_owned(), note, ..Self::default() }
    }

    fn form(&self) -> String {
        self.form.map(|form| form.to_string()).unwrap_or_default()
    }
}

/// One form's keys; of several, a list of them, each with its differences to the first.
fn page(model: &str, rows: &[Row], compared: bool) -> serde_json::Value {
    if let ([only], false) = (rows, compared) {
        return json!(only);
    }
    let forms: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut keys = json!(row);
            for (name, of) in FIGURES {
                keys[format!("delta_{name}")] = json!(delta(rows, row, of));
            }
            keys
        })
        .collect();
    json!({ "model": model, "forms": forms })
}

/// A figure of a row.
type Figure = fn(&Row) -> Option<f64>;

/// Those that are compared, by their keys.
const FIGURES: [(&str, Figure); 4] =
    [("ap50", |r| r.ap50), ("ap", |r| r.ap), ("oks_ap", |r| r.oks_ap), ("mean_oks", |r| r.mean_oks)];

/// How much better than the first row.
fn delta(rows: &[Row], row: &Row, of: Figure) -> Option<f64> {
    Some(of(row)? - of(rows.first()?)?)
}

fn print(rows: &[Row], per_class: bool) -> Outcome {
    let Some(first) = rows.first() else { return Ok(()) };
    let images = count(first.images, "image");
    let things = match (first.boxes, first.persons) {
        (Some(boxes), _) => format!("{boxes} boxes"),
        (_, persons) => count(persons.unwrap_or_default(), "person"),
    };
    say(format!("{} on {images} with {things}", first.model))?;
    table(rows).into_iter().try_for_each(say)?;
    if !per_class || first.ap50_by_class.is_empty() {
        return Ok(());
    }
    say("")?;
    let cell = |text: String| format!("{text:>6}");
    let line = |cells: Vec<String>| cells.join("  ");
    let head = ["AP50".to_owned(), line(rows.iter().map(|row| cell(row.form())).collect())];
    let classes = first.ap50_by_class.keys().map(|class| {
        let of = |row: &Row| cell(number(row.ap50_by_class.get(class).copied()));
        [class.clone(), line(rows.iter().map(of).collect())]
    });
    columns(std::iter::once(head).chain(classes).collect()).into_iter().try_for_each(say)
}

/// A row for each form, with differences where there are several.
fn table(rows: &[Row]) -> Vec<String> {
    let pose = rows.iter().any(|row| row.oks_ap.is_some());
    let (names, figures): ([&str; 3], [Figure; 3]) = if pose {
        (["OKS-AP", "mean OKS", "OKS >= 0.5"], [|r| r.oks_ap, |r| r.mean_oks, |r| r.share_oks50])
    } else {
        (["AP50", "AP", ""], [|r| r.ap50, |r| r.ap, |_| None])
    };
    let cell = |row: &Row, of: Figure| match delta(rows, row, of).filter(|_| !std::ptr::eq(row, &rows[0])) {
        Some(delta) => format!("{} ({delta:+.3})", number(of(row))),
        None => number(of(row)),
    };
    let [a, b, c] = names.map(str::to_owned);
    let head = ["form".to_owned(), a, b, c, String::new()];
    let body = rows.iter().map(|row| {
        let [a, b, c] = figures.map(|of| cell(row, of));
        [row.form(), a, b, c, row.note.unwrap_or_default().to_owned()]
    });
    columns(std::iter::once(head).chain(body).collect())
}

fn number(value: Option<f64>) -> String {
    value.map(|value| format!("{value:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxes(form: Form, ap50: f64) -> Row {
        let ap50_by_class = [("person".to_owned(), ap50)].into();
        let found =
            Evaluation { model: "m".into(), form, images: 2, boxes: 3, ap: 0.25, ap50, ap50_by_class };
        Row::of_boxes(found, "cpu")
    }

    #[test]
    fn forms_are_compared_with_the_first() {
        let rows = [boxes(Form::Fp32, 0.5), boxes(Form::S8s8, 0.4375)];
        let lines = table(&rows);
        assert_eq!(lines[1], "fp32  0.500           0.250");
        assert_eq!(lines[2], "s8s8  0.438 (-0.062)  0.250 (+0.000)    on cpu: accuracy only");
        let page = page("m", &rows, true);
        assert_eq!(page["forms"][1]["delta_ap50"], -0.0625);
        assert_eq!((&page["forms"][1]["form"], &page["forms"][0]["note"]), (&json!("s8s8"), &json!(null)));
    }

    #[test]
    fn keys_are_the_same_for_both_roles() {
        let found = PoseEvaluation {
            model: "p".into(),
            form: Form::U8s8,
            images: 2,
            persons: 3,
            oks_ap: 0.5,
            mean_oks: 0.6,
            share_oks50: 0.7,
        };
        let (pose, detector) = (Row::of_points(found, "cpu"), boxes(Form::U8s8, 0.5));
        let pages = [page("p", &[pose], false), page("m", &[detector], false)];
        for page in &pages {
            for key in ["model", "form", "images", "ap", "ap50", "ap50_by_class", "oks_ap"] {
                assert!(page.get(key).is_some(), "{key}: {page}");
            }
        }
        assert_eq!((&pages[0]["ap50"], &pages[0]["oks_ap"]), (&json!(null), &json!(0.5)));
        assert_eq!((&pages[1]["ap50"], &pages[1]["oks_ap"]), (&json!(0.5), &json!(null)));
    }

    #[test]
    fn a_form_is_measured_once() {
        let arguments = |compare: Vec<Form>| Arguments {
            model: "m".into(),
            form: Some(Form::U8s8),
            compare,
            per_class: false,
            coco: Vec::new(),
        };
        let twice = arguments(vec![Form::S8s8, Form::Fp32, Form::S8s8]);
        assert_eq!(forms(&twice), [Some(Form::S8s8), Some(Form::Fp32)]);
        assert_eq!(forms(&arguments(Vec::new())), [Some(Form::U8s8)]);
    }
}
