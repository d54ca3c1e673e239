//! Forms of a model side by side on this machine, and which of them are worth keeping.
//!
//! Owns: the bounds, the table, what the manifest's cards say. Does not know: where the forms come from, how costs and
//! accuracy are measured (`vedette_models`).

use std::path::Path;

use serde::Serialize;
use vedette_core::{Role, SystemClock};
use vedette_models::quantize::QuantizedForm;
use vedette_models::{
    BenchOptions, Card, CocoSet, Detector, DetectorOptions, EnergyMeter, Form, Manifest, Measurement,
    Network, NetworkOptions, PoseEstimator, Runtime, evaluate, evaluate_pose,
};

use super::interrupt::Interrupt;
use crate::cli::progress;
use crate::exit::Failure;
use crate::words::{base_name, columns, count};

/// What an int8 form must keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of its worst output, in dB.
    pub(super) min_snr: f64,
    /// Of AP50 or mean OKS, where it was measured.
    pub(super) max_drop: f64,
}

/// What the forms are compared on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sets<'a> {
    /// The samples, in words.
    pub(super) frames: &'a str,
    /// Labelled pictures.
    pub(super) coco: &'a [CocoSet],
}

/// One form.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) form: Form,
    /// Who ran it.
    provider: String,
    bytes: u64,
    /// CPU milliseconds of one inference: the median.
    cpu_ms: f64,
    /// Of one inference, above what rest takes, where the machine can tell.
    joules: Option<f64>,
    /// Against fp32; none for fp32 itself.
    snr_db: Option<f64>,
    /// Of detectors, where labels were given.
    ap50: Option<f64>,
    person_ap50: Option<f64>,
    /// Of pose models, where labels were given.
    mean_oks: Option<f64>,
    /// What its accuracy was measured on.
    set: String,
    /// Why it is not kept; empty: it is.
    pub(super) reasons: Vec<String>,
}

impl Row {
    /// Nothing measured yet.
    fn new(form: Form, provider: &str, bytes: u64) -> Self {
        Self {
            form,
            provider: provider.to_owned(),
            bytes,
            cpu_ms: f64::NAN,
            joules: None,
            snr_db: None,
            ap50: None,
            person_ap50: None,
            mean_oks: None,
            set: String::new(),
            reasons: Vec::new(),
        }
    }

    pub(super) fn kept(&self) -> bool {
        self.reasons.is_empty()
    }

    pub(super) fn card(&self) -> Card {
        let rounded = |value: f64, by: f64| (value * by).round() / by;
        Card {
            set: self.set.clone(),
            person_ap50: self.person_ap50.map(|ap| rounded(ap, 1e3)),
            mean_oks: self.mean_oks.map(|oks| rounded(oks, 1e3)),
            snr_db: self.snr_db.map(|db| rounded(db, 10.0)),
            provider: Some(self.provider.clone()),
            cpu_ms: Some(rounded(self.cpu_ms, 10.0)),
            joules: self.joules.map(|joules| rounded(joules, 1e4)),
        }
    }

    /// The figure of the model's role, and its name.
    fn accuracy(&self) -> Option<(f64, &'static str)> {
        self.ap50.map(|ap| (ap, "AP50")).or(self.mean_oks.map(|oks| (oks, "mean OKS")))
    }

    /// Notes what speaks against this form beside `fp32`.
    fn judge(&mut self, fp32: &Self, bounds: Bounds) {
        if self.form == Form::Fp32 {
            return;
        }
        // S8S8 is for other providers than the one measured; U8S8 must be faster here.
        if self.form == Form::U8s8 && self.cpu_ms >= fp32.cpu_ms {
            self.reasons
                .push(format!("{:.1} ms, no faster than fp32 with {:.1} ms", self.cpu_ms, fp32.cpu_ms));
        }
        if let Some(snr) = self.snr_db.filter(|snr| snr.is_nan() || *snr < bounds.min_snr) {
            self.reasons.push(format!(
                "its worst output has {snr:.1} dB, wanted are {:.1} (--min-snr)",
                bounds.min_snr
            ));
        }
        if let (Some((now, name)), Some((before, _))) = (self.accuracy(), fp32.accuracy())
            && before - now > bounds.max_drop
        {
            let lost = before - now;
            self.reasons
                .push(format!("it loses {lost:.3} of {name}, allowed are {} (--max-drop)", bounds.max_drop));
        }
    }
}

/// Measures every form of `manifest` on the CPU provider with one thread; fp32 is the first row.
pub(super) fn compare(
    runtime: &'static Runtime,
    interrupt: &Interrupt,
    manifest: &Manifest,
    sets: Sets<'_>,
    bounds: Bounds,
    made: &[QuantizedForm],
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut networks = Vec::new();
    for (form, file) in manifest.forms() {
        let only = manifest.clone().only(form).map_err(Failure::failed)?;
        let network = interrupt.open(|| Network::open(runtime, &only, &NetworkOptions::default()))?;
        let folder = manifest.path().parent().unwrap_or(Path::new("."));
        let bytes = std::fs::metadata(folder.join(&file.file)).map_or(0, |meta| meta.len());
        let mut row = Row::new(form, network.report().provider(), bytes);
        if let Some(made) = made.iter().find(|made| made.form == form) {
            row.snr_db = Some(made.snr_db);
            sets.frames.clone_into(&mut row.set);
        }
        rows.push(row);
        networks.push(network);
    }
    for (row, measured) in rows.iter_mut().zip(costs(&mut networks)?) {
        row.cpu_ms = measured.cpu_ms_median;
        row.joules = measured.energy.ok().map(|joules| joules.net);
    }
    drop(networks);
    if !sets.coco.is_empty() {
        for row in &mut rows {
            accuracy(runtime, interrupt, manifest, sets.coco, row)?;
        }
    }
    rows.sort_by_key(|row| row.form != Form::Fp32);
    let fp32 = rows.first().filter(|row| row.form == Form::Fp32).cloned();
    if let Some(fp32) = fp32 {
        rows.iter_mut().for_each(|row| row.judge(&fp32, bounds));
    }
    Ok(rows)
}

/// What an inference of each costs, as `model bench` measures it.
fn costs(networks: &mut [Network]) -> Result<Vec<Measurement>, Failure> {
    let meter = EnergyMeter::find(Path::new("/sys"));
    let bar = progress::bar(1, "comparing costs");
    let mut step = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let (options, clock) = (BenchOptions::default(), SystemClock::new());
    vedette_models::compare(networks, options, &meter, &clock, &mut step).map_err(Failure::failed)
}

/// Of detectors and pose models; labels of boxes and points say nothing about others.
fn accuracy(
    runtime: &'static Runtime,
    interrupt: &Interrupt,
    manifest: &Manifest,
    sets: &[CocoSet],
    row: &mut Row,
) -> Result<(), Failure> {
    let only = manifest.clone().only(row.form).map_err(Failure::failed)?;
    let bar = progress::bar(1, &format!("accuracy of {}", row.form));
    let mut step = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let (images, things) = match manifest.role() {
        Role::Detector => {
            let open = || Detector::open(runtime, &only, &DetectorOptions::default());
            let mut detector = interrupt.open(open)?;
            let found = evaluate(&mut detector, sets, &mut step).map_err(Failure::failed)?;
            row.ap50 = Some(found.ap50);
            let person = found.ap50_by_class.iter().find(|(class, _)| class.as_str() == "person");
            row.person_ap50 = person.map(|(_, ap)| *ap);
            (found.images, format!("{} boxes", found.boxes))
        }
        Role::Pose => {
            let open = || PoseEstimator::open(runtime, &only, &NetworkOptions::default());
            let mut estimator = interrupt.open(open)?;
            let found = evaluate_pose(&mut estimator, sets, &mut step).map_err(Failure::failed)?;
            row.mean_oks = Some(found.mean_oks);
            (found.images, count(found.persons, "person"))
        }
        _ => return Ok(()),
    };
    let of: Vec<_> = sets.iter().map(named).collect();
    let told = format!("accuracy: {} of {} with {things}", count(images, "image"), of.join(", "));
    row.set = if row.set.is_empty() { told } else { format!("{}; {told}", row.set) };
    Ok(())
}

/// A set in a manifest, which may go to other machines: names, no paths.
fn named(set: &CocoSet) -> String {
    format!("{}:{}", base_name(&set.images), base_name(&set.annotations))
}

/// For people.
pub(super) fn table(rows: &[Row]) -> Vec<String> {
    let accuracy = rows.iter().find_map(Row::accuracy).map_or("AP50", |(_, name)| name);
    let head = ["form", "provider", "MB", "CPU ms", "SNR dB", accuracy, ""].map(str::to_owned);
    let dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let line = |row: &Row| {
        [
            row.form.to_string(),
            row.provider.clone(),
            format!("{:.1}", row.bytes as f64 / 1e6),
            format!("{:.1}", row.cpu_ms),
            dash(row.snr_db.map(|db| format!("{db:.1}"))),
            dash(row.accuracy().map(|(found, _)| format!("{found:.3}"))),
            if row.kept() { "kept" } else { "dropped" }.to_owned(),
        ]
    };
    columns(std::iter::once(head).chain(rows.iter().map(line)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(form: Form, cpu_ms: f64, snr_db: Option<f64>, ap50: Option<f64>) -> Row {
        Row { cpu_ms, snr_db, ap50, ..Row::new(form, "cpu", 0) }
    }

    #[test]
    fn a_form_is_dropped_for_each_bound_it_breaks_and_for_no_other_reason() {
        let fp32 = row(Form::Fp32, 30.0, None, Some(0.5));
        let bounds = Bounds { min_snr: 10.0, max_drop: 0.02 };
        struct Case(Row, &'static [&'static str]);
        for Case(mut row, expected) in [
            Case(row(Form::U8s8, 15.0, Some(12.0), Some(0.49)), &[]),
            Case(row(Form::U8s8, 31.0, Some(12.0), None), &["no faster"]),
            Case(row(Form::S8s8, 60.0, Some(12.0), None), &[]),
            Case(row(Form::U8s8, 15.0, Some(9.0), Some(0.4)), &["--min-snr", "--max-drop"]),
            Case(row(Form::U8s8, 15.0, Some(f64::NAN), None), &["--min-snr"]),
            Case(row(Form::Fp32, 30.0, None, None), &[]),
        ] {
            row.judge(&fp32, bounds);
            assert_eq!(row.reasons.len(), expected.len(), "{row:?}");
            assert!(row.reasons.iter().zip(expected).all(|(reason, word)| reason.contains(word)), "{row:?}");
        }
    }

    #[test]
    fn of_a_pose_model_the_key_points_count() {
        let of = |form, mean_oks| Row { mean_oks: Some(mean_oks), ..row(form, 15.0, Some(12.0), None) };
        let (fp32, bounds) = (of(Form::Fp32, 0.6), Bounds { min_snr: 10.0, max_drop: 0.02 });
        let (mut good, mut bad) = (of(Form::S8s8, 0.59), of(Form::S8s8, 0.5501));
        good.judge(&fp32, bounds);
        bad.judge(&fp32, bounds);
        assert!(good.kept(), "{good:?}");
        assert_eq!(bad.reasons, ["it loses 0.050 of mean OKS, allowed are 0.02 (--max-drop)"]);
        assert!(table(&[fp32, bad.clone()])[0].contains("mean OKS"));
        let card = bad.card();
        assert_eq!((card.mean_oks, card.person_ap50, card.cpu_ms), (Some(0.55), None, Some(15.0)));
    }

    #[test]
    fn a_set_is_named_without_its_folders() {
        let set: CocoSet = "/home/me/garden/images:/home/me/garden/persons.json".parse().unwrap();
        assert_eq!(named(&set), "images:persons.json");
    }
}
