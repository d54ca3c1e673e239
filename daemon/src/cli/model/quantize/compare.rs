//! Forms of a model side by side on this machine, and which of them are worth keeping.
//!
//! Owns: measuring, the bounds, the table. Does not know: where the forms come from.

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use vedette_core::Role;
use vedette_models::quantize::QuantizedForm;
use vedette_models::{
    Card, CocoSet, Detector, DetectorOptions, Form, Manifest, Network, NetworkOptions, Runtime, evaluate,
};

use super::interrupt::Interrupt;
use crate::cli::progress;
use crate::exit::Failure;
use crate::words::columns;

/// Inferences of each form, in turns: what else the machine does falls on all alike.
const RUNS: usize = 30;
/// Before these, not measured.
const WARM_UP: usize = 3;

/// What an int8 form must keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of its worst output, in dB.
    pub(super) min_snr: f64,
    /// Of AP50, where it was measured.
    pub(super) max_drop: f64,
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
    /// Against fp32; none for fp32 itself.
    snr_db: Option<f64>,
    /// Where labels were given.
    ap50: Option<f64>,
    person_ap50: Option<f64>,
    set: String,
    /// Why it is not kept; empty: it is.
    pub(super) reasons: Vec<String>,
}

impl Row {
    pub(super) fn kept(&self) -> bool {
        self.reasons.is_empty()
    }

    pub(super) fn card(&self) -> Card {
        let provider = Some(self.provider.clone());
        let rounded = |value: f64, by: f64| (value * by).round() / by;
        Card {
            set: self.set.clone(),
            person_ap50: self.person_ap50.map(|ap| rounded(ap, 1e3)),
            snr_db: self.snr_db.map(|db| rounded(db, 10.0)),
            provider,
            cpu_ms: Some(rounded(self.cpu_ms, 10.0)),
            ..Card::default()
        }
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
        if let (Some(ap), Some(before)) = (self.ap50, fp32.ap50)
            && before - ap > bounds.max_drop
        {
            let lost = before - ap;
            self.reasons
                .push(format!("it loses {lost:.3} of AP50, allowed are {} (--max-drop)", bounds.max_drop));
        }
    }
}

/// Measures every form of `manifest` on the CPU provider with one thread; fp32 is the first row.
pub(super) fn compare(
    runtime: &'static Runtime,
    interrupt: &Interrupt,
    manifest: &Manifest,
    pixels: &[Vec<u8>],
    sets: &[CocoSet],
    bounds: Bounds,
    made: &[QuantizedForm],
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut networks = Vec::new();
    for (form, file) in manifest.forms() {
        let only = manifest.clone().only(form).map_err(Failure::failed)?;
        let network = interrupt.open(|| Network::open(runtime, &only, &NetworkOptions::default()))?;
        let folder = manifest.path().parent().unwrap_or(std::path::Path::new("."));
        rows.push(Row {
            form,
            provider: network.report().provider().to_owned(),
            bytes: std::fs::metadata(folder.join(&file.file)).map_or(0, |meta| meta.len()),
            cpu_ms: 0.0,
            snr_db: made.iter().find(|m| m.form == form).map(|m| m.snr_db),
            ap50: None,
            person_ap50: None,
            set: String::new(),
            reasons: Vec::new(),
        });
        networks.push(network);
    }
    let times = in_turns(&mut networks, pixels)?;
    rows.iter_mut().zip(times).for_each(|(row, ms)| row.cpu_ms = ms);
    drop(networks);
    if manifest.role() == Role::Detector && !sets.is_empty() {
        for row in &mut rows {
            accuracy(runtime, interrupt, manifest, sets, row)?;
        }
    }
    rows.sort_by_key(|row| row.form != Form::Fp32);
    let fp32 = rows.first().filter(|row| row.form == Form::Fp32).cloned();
    if let Some(fp32) = fp32 {
        rows.iter_mut().for_each(|row| row.judge(&fp32, bounds));
    }
    Ok(rows)
}

/// The median CPU milliseconds of an inference of each.
fn in_turns(networks: &mut [Network], pixels: &[Vec<u8>]) -> Result<Vec<f64>, Failure> {
    let mut times = vec![Vec::with_capacity(RUNS); networks.len()];
    let bar = progress::bar((WARM_UP + RUNS) as u64, "comparing speed");
    for (run, sample) in pixels.iter().cycle().take(WARM_UP + RUNS).enumerate() {
        for (network, times) in networks.iter_mut().zip(&mut times) {
            network.write(sample);
            let began = cpu_ms();
            network.infer().map_err(Failure::failed)?;
            if run >= WARM_UP {
                times.push(cpu_ms() - began);
            }
        }
        bar.inc(1);
    }
    Ok(times.into_iter().map(median).collect())
}

/// Of this thread: with one thread of inference, all of it runs here.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn accuracy(
    runtime: &'static Runtime,
    interrupt: &Interrupt,
    manifest: &Manifest,
    sets: &[CocoSet],
    row: &mut Row,
) -> Result<(), Failure> {
    let only = manifest.clone().only(row.form).map_err(Failure::failed)?;
    let mut detector = interrupt.open(|| Detector::open(runtime, &only, &DetectorOptions::default()))?;
    let bar = progress::bar(1, &format!("accuracy of {}", row.form));
    let mut step = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let result = evaluate(&mut detector, sets, &mut step).map_err(Failure::failed)?;
    row.ap50 = Some(result.ap50);
    row.person_ap50 =
        result.ap50_by_class.iter().find(|(class, _)| class.as_str() == "person").map(|(_, ap)| *ap);
    row.set = format!("{} images of the user's, {} boxes", result.images, result.boxes);
    Ok(())
}

/// For people.
pub(super) fn table(rows: &[Row]) -> Vec<String> {
    let head = ["form", "provider", "MB", "CPU ms", "SNR dB", "AP50", ""].map(str::to_owned);
    let dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let line = |row: &Row| {
        [
            row.form.to_string(),
            row.provider.clone(),
            format!("{:.1}", row.bytes as f64 / 1e6),
            format!("{:.1}", row.cpu_ms),
            dash(row.snr_db.map(|db| format!("{db:.1}"))),
            dash(row.ap50.map(|ap| format!("{ap:.3}"))),
            if row.kept() { "kept" } else { "dropped" }.to_owned(),
        ]
    };
    columns(std::iter::once(head).chain(rows.iter().map(line)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(form: Form, cpu_ms: f64, snr_db: Option<f64>, ap50: Option<f64>) -> Row {
        let (provider, set, person_ap50) = ("cpu".to_owned(), String::new(), None);
        Row { form, provider, bytes: 0, cpu_ms, snr_db, ap50, person_ap50, set, reasons: Vec::new() }
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
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
