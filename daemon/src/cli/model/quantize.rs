//! `vedette model quantize`: int8 forms of a model, calibrated with the user's own pictures, compared on this machine
//! with what they are made from, and kept only where they are worth it.
//!
//! Owns: its arguments, the order collect → quantise → compare → judge → write. Does not know: how samples are taken
//! (`collect`), how a network is quantised (`vedette_models::quantize`), how forms are compared (`compare`), what a
//! signal means (`interrupt`).

mod collect;
mod compare;
mod interrupt;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use vedette_models::quantize::{
    Progress, QuantizeOptions, QuantizedForm, RangeMethod, WeightStorage, check_network, quantize,
};
use vedette_models::{CocoSet, Draft, DraftForm, Form, InputSpec, Manifest, Runtime, Staged, sha256};

use self::collect::{Samples, collect};
use self::compare::{Bounds, Row, Sets, compare};
use self::interrupt::Interrupt;
use super::import;
use crate::cli::{Global, note, progress, say, say_json};
use crate::exit::{Failure, Outcome};
use crate::node::runtime_folders;
use crate::words::count;

/// More samples gain nothing and cost memory (a 640x640 one is 1.2 MB) and time.
const MOST_SAMPLES: usize = 500;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// A network of your own; imported first, with the options of `model import`
    #[arg(value_name = "FILE.onnx", required_unless_present = "model", conflicts_with = "model")]
    file: Option<PathBuf>,
    /// A model that has an fp32 form
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    about: import::About,
    /// A folder of pictures, or a video; may be given several times
    #[arg(long, value_name = "DIR|VIDEO", required_unless_present = "from_cameras")]
    frames: Vec<PathBuf>,
    /// Watch the configured cameras for so long, masks applied, no frame written; ^C: that is enough
    #[arg(long, value_name = "30m", value_parser = length)]
    from_cameras: Option<Duration>,
    /// How many samples, of all sources together
    #[arg(long, value_name = "N", default_value_t = 70, value_parser = samples)]
    count: usize,
    /// Which forms: u8s8 for the CPU and OpenVINO, s8s8 for XNNPACK and TensorRT
    #[arg(long, value_name = "u8s8,s8s8", value_delimiter = ',', default_value = "u8s8,s8s8")]
    forms: Vec<Form>,
    /// How the ranges of activations are chosen
    #[arg(long, value_name = "auto|minmax|percentile=P|entropy", default_value = "auto")]
    range: Range,
    /// Leave the input as it is, instead of letting the pre-processor write int8
    #[arg(long)]
    no_stem: bool,
    /// Let at most so many of the worst layers stay in fp32 until --min-snr is reached
    #[arg(long, value_name = "N", default_value_t = 0)]
    fp32_layers: usize,
    /// Nodes that stay in fp32, by name or output
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    keep_fp32: Vec<String>,
    /// How the weights are kept in the files: int4 halves them, and costs accuracy
    #[arg(long, value_name = "int8|int4", default_value = "int8", value_parser = weights)]
    weights: WeightStorage,
    /// An int8 form is dropped below this signal-to-noise ratio of its worst output, in dB
    #[arg(long, value_name = "DB", default_value_t = 10.0)]
    min_snr: f64,
    /// With --coco: an int8 form is dropped where it loses more AP50 (pose models: mean OKS) than this
    #[arg(long, value_name = "DROP", default_value_t = 0.02)]
    max_drop: f64,
    /// Labelled pictures to compare the accuracy on; may be given several times
    #[arg(long, value_name = "IMAGES_DIR:ANNOTATIONS.json")]
    coco: Vec<CocoSet>,
    /// Folder for files and manifest [default: `models` in the state folder]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Replace a model of that name
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug)]
struct Range(RangeMethod);

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = |text: &str| text.parse().ok().filter(|p| (50.0..=100.0).contains(p));
        match (text, text.strip_prefix("percentile=").and_then(percent)) {
            ("auto", _) => Ok(Self(RangeMethod::Auto)),
            ("minmax", _) => Ok(Self(RangeMethod::MinMax)),
            ("entropy", _) => Ok(Self(RangeMethod::Entropy)),
            (_, Some(percent)) => Ok(Self(RangeMethod::Percentile(percent))),
            _ => Err(format!("`{text}` is none of auto, minmax, entropy, percentile=50 to 100")),
        }
    }
}

/// `90s`, `30m`, `2h`.
fn length(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time: write 90s, 30m or 2h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    match number.checked_mul(seconds) {
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is not within 1s and 24h")),
    }
}

fn weights(text: &str) -> Result<WeightStorage, String> {
    match text {
        "int8" => Ok(WeightStorage::Int8),
        "int4" => Ok(WeightStorage::Int4),
        _ => Err(format!("`{text}` is neither int8 nor int4")),
    }
}

fn samples(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=MOST_SAMPLES).contains(n));
    number.ok_or_else(|| format!("`{text}` is not within 1 and {MOST_SAMPLES}"))
}

impl Arguments {
    fn options(&self) -> QuantizeOptions {
        QuantizeOptions {
            forms: self.forms.clone(),
            range: self.range.0,
            stem: !self.no_stem,
            max_fp32_layers: self.fp32_layers,
            target_snr_db: Some(self.min_snr),
            keep_fp32: self.keep_fp32.clone(),
            weights: self.weights,
        }
    }
}

/// The model that is quantised: its manifest so far and its fp32 file.
struct Origin {
    draft: Draft,
    fp32: Vec<u8>,
}

impl Origin {
    fn open(global: &Global, runtime: &'static Runtime, arguments: &Arguments) -> Result<Self, Failure> {
        if let Some(file) = &arguments.file {
            let (fp32, imported) = import::read(runtime, file, &arguments.about)?;
            imported.findings.iter().for_each(note);
            return Ok(Self { draft: imported.draft, fp32 });
        }
        let name = arguments.model.as_deref().unwrap_or_default();
        let manifest = Manifest::load(&global.host()?.models(), name).map_err(Failure::failed)?;
        let fp32 = manifest.read_form(Form::Fp32).map_err(Failure::failed)?;
        let mut draft = manifest.draft();
        // The shipped int8 forms are another calibration's: what is written here is one model of one origin.
        draft.forms.retain(|form| form.form == Form::Fp32);
        draft.name = arguments.about.name.clone().unwrap_or_else(|| format!("{name}-int8"));
        Ok(Self { draft, fp32 })
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    if arguments.forms.contains(&Form::Fp32) {
        return Err(Failure::usage(
            "--forms: fp32 is what the others are made from; name u8s8, s8s8 or both",
        ));
    }
    let runtime = Runtime::load(None, &runtime_folders()).map_err(Failure::unavailable)?;
    let Origin { mut draft, fp32 } = Origin::open(global, runtime, arguments)?;
    import::check_name(global, &draft.name, arguments.force)?;
    let folder = import::folder(global, arguments.into.as_deref());
    let options = arguments.options();
    // What can be refused is refused before somebody waits for half an hour.
    let files = arguments.forms.iter().chain(&[Form::Fp32]).map(|form| file_name(&draft.name, *form));
    import::check_place(&folder, files.chain([format!("{}.toml", draft.name)]), arguments.force)?;
    check_network(runtime, &fp32, &draft.input, &options).map_err(Failure::failed)?;
    let interrupt = Interrupt::listen()?;
    let samples = collect(global, arguments, &draft.input, &interrupt)?;
    let made = quantized(runtime, &options, &draft.input, &fp32, &samples.pixels)?;
    for form in &made {
        draft.forms.retain(|old| old.form != form.form);
        draft.forms.push(described(&draft.name, form, samples.pixels.len(), arguments.weights));
    }
    let mut files: Vec<(String, Vec<u8>)> =
        made.iter().map(|form| (file_name(&draft.name, form.form), form.bytes.clone())).collect();
    if let Some(form) = draft.forms.iter_mut().find(|form| form.form == Form::Fp32) {
        // All of one model's files bear its name: two models in one folder do not share any.
        form.file = file_name(&draft.name, Form::Fp32);
        files.push((form.file.clone(), fp32));
    }
    let staged = interrupt.stage(|| Staged::new(runtime, &draft, &files, &folder))?;
    let bounds = Bounds { min_snr: arguments.min_snr, max_drop: arguments.max_drop };
    let frames = in_words(&samples);
    let sets = Sets { frames: &frames, coco: &arguments.coco };
    let rows = compare(runtime, &interrupt, staged.manifest(), sets, bounds, &made)?;
    draft.forms.retain(|form| rows.iter().any(|row| row.form == form.form && row.kept()));
    for form in &mut draft.forms {
        form.card = rows.iter().find(|row| row.form == form.form).map(Row::card);
    }
    let manifest = interrupt.commit(staged, draft, arguments.force)?;
    finish(global, arguments, &manifest, &rows)
}

fn finish(global: &Global, arguments: &Arguments, manifest: &Manifest, rows: &[Row]) -> Outcome {
    if global.json {
        return say_json(&json!({ "model": manifest.name(), "manifest": manifest.path(), "forms": rows }));
    }
    compare::table(rows).into_iter().try_for_each(say)?;
    for row in rows.iter().filter(|row| !row.kept()) {
        say(format!("{} is not kept: {}", row.form, row.reasons.join("; ")))?;
    }
    say(format!("written: {}", manifest.path().display()))?;
    import::use_it(manifest, arguments.into.is_some())
}

fn file_name(model: &str, form: Form) -> String {
    format!("{model}.{form}.onnx")
}

/// The int8 forms, with a bar for each stage.
fn quantized(
    runtime: &'static Runtime,
    options: &QuantizeOptions,
    input: &InputSpec,
    fp32: &[u8],
    pixels: &[Vec<u8>],
) -> Result<Vec<QuantizedForm>, Failure> {
    let mut bar = (String::new(), progress::spinner("reading the network"));
    let mut step = |progress: Progress| {
        let (stage, done, of) = match progress {
            Progress::Calibrating { done, of } => ("calibrating".to_owned(), done, of),
            Progress::Range(form, method) => (format!("{form}: ranges by {method:?}"), 0, 1),
            Progress::Layer { done, of } => ("measuring layers alone".to_owned(), done, of),
            Progress::Measuring(form) => (format!("{form}: measuring"), 0, 1),
        };
        if bar.0 != stage {
            bar.1.finish_and_clear();
            bar = (stage.clone(), progress::bar(of as u64, &stage));
        }
        bar.1.set_length(of as u64);
        bar.1.set_position(done as u64);
    };
    let made = quantize(runtime, fp32, input, pixels, options, &mut step);
    Ok(made.map_err(Failure::failed)?.forms)
}

/// `16 frames of images, 4 frames of gate`: for the manifest, which may go to other machines.
fn in_words(samples: &Samples) -> String {
    let of = |(source, frames): &(String, usize)| format!("{} of {source}", count(*frames, "frame"));
    samples.sources.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// A form as the manifest lists it.
fn described(model: &str, form: &QuantizedForm, samples: usize, stored: WeightStorage) -> DraftForm {
    let int8 = form.layers.iter().filter(|layer| !layer.fp32).count();
    let made = format!(
        "vedette model quantize: static QDQ, ranges by {:?} over {}, {int8} of {} layers int8{}",
        form.range,
        count(samples, "frame"),
        form.layers.len(),
        if stored == WeightStorage::Int4 { ", weights stored as int4" } else { "" }
    );
    let file = file_name(model, form.form);
    DraftForm {
        form: form.form,
        file,
        sha256: sha256(&form.bytes),
        made,
        input: form.stem.clone(),
        card: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_ranges_and_numbers_are_what_people_write() {
        assert_eq!(length("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(length("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "m", "30", "0s", "25h", "-1m", "3ä", "99999999999999999999h"] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
        assert_eq!("percentile=99.99".parse::<Range>().map(|r| r.0), Ok(RangeMethod::Percentile(99.99)));
        assert!("percentile=12".parse::<Range>().is_err() && "best".parse::<Range>().is_err());
        assert!(samples("0").is_err() && samples("501").is_err() && samples("500") == Ok(500));
    }

    #[test]
    fn sources_are_told_with_their_numbers() {
        let sources = vec![("images".to_owned(), 16), ("gate".to_owned(), 1)];
        let samples = Samples { pixels: Vec::new(), sources };
        assert_eq!(in_words(&samples), "16 frames of images, 1 frame of gate");
    }
}
