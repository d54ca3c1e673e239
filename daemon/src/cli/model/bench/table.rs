//! What `vedette model bench` shows: keys for programs, a table for people.
//!
//! Owns: keys, columns, ratios. Does not know: how anything was measured.

use serde::Serialize;
use serde_json::json;
use vedette_models::{ColdStart, Form, Measurement, ProviderReport, ProviderShare};

use crate::cli::{Global, say, say_json};
use crate::exit::Outcome;
use crate::words::columns;

/// One form on one provider with one number of threads; what was not measured is null.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) model: String,
    pub(super) form: Form,
    /// Who ran it; where it could not be measured, who should have.
    pub(super) provider: String,
    pub(super) threads: usize,
    pub(super) runs: usize,
    pub(super) cpu_ms_median: Option<f64>,
    pub(super) cpu_ms_best: Option<f64>,
    pub(super) wall_ms_median: Option<f64>,
    pub(super) wall_ms_best: Option<f64>,
    pub(super) load_ms: Option<f64>,
    pub(super) rss_mib: Option<f64>,
    pub(super) bytes: Option<u64>,
    /// Of one inference, above what rest takes.
    pub(super) joules: Option<f64>,
    /// With what rest takes.
    pub(super) joules_gross: Option<f64>,
    pub(super) joules_sensor: Option<String>,
    pub(super) joules_reason: Option<String>,
    pub(super) shares: Vec<ProviderShare>,
    /// What to know when reading the figures.
    pub(super) remark: Option<String>,
    /// Why there are none.
    pub(super) reason: Option<String>,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            model: String::new(),
            form: Form::Fp32,
            provider: String::new(),
            threads: 1,
            runs: 0,
            cpu_ms_median: None,
            cpu_ms_best: None,
            wall_ms_median: None,
            wall_ms_best: None,
            load_ms: None,
            rss_mib: None,
            bytes: None,
            joules: None,
            joules_gross: None,
            joules_sensor: None,
            joules_reason: Some("not measured".to_owned()),
            shares: Vec::new(),
            remark: None,
            reason: None,
        }
    }
}

impl Row {
    pub(super) fn set_opened(&mut self, report: &ProviderReport, bytes: u64) {
        report.provider().clone_into(&mut self.provider);
        self.shares.clone_from(&report.shares);
        self.bytes = Some(bytes);
    }

    pub(super) fn set_cold(&mut self, start: ColdStart) {
        (self.load_ms, self.rss_mib) = (Some(start.load_ms), Some(start.rss_mib));
    }

    pub(super) fn set_measured(&mut self, measured: Measurement) {
        self.runs = measured.runs;
        (self.cpu_ms_median, self.cpu_ms_best) = (Some(measured.cpu_ms_median), Some(measured.cpu_ms_best));
        (self.wall_ms_median, self.wall_ms_best) =
            (Some(measured.wall_ms_median), Some(measured.wall_ms_best));
        match measured.energy {
            Ok(joules) => {
                (self.joules, self.joules_gross) = (Some(joules.net), Some(joules.gross));
                (self.joules_sensor, self.joules_reason) = (Some(joules.sensor), None);
            }
            Err(reason) => self.joules_reason = Some(reason.to_string()),
        }
    }

    /// `u8s8 on cpu`, with the number of threads where it is not one.
    pub(super) fn label(&self) -> String {
        match self.threads {
            1 => format!("{} on {}", self.form, self.provider),
            n => format!("{} on {} with {n} threads", self.form, self.provider),
        }
    }

    /// The part of the multiplying nodes that the provider ran.
    fn ran_by(&self) -> String {
        let share = self.shares.first().map(|share| format!(" {:.0} %", 100.0 * share.mac_share));
        format!("{}{}", self.provider, share.unwrap_or_default())
    }
}

pub(super) fn show(global: &Global, model: &str, rows: &[Row], compared: bool) -> Outcome {
    if global.json {
        return say_json(&page(model, rows, compared));
    }
    lines(rows).into_iter().try_for_each(say)
}

/// One row's keys; of several, a list of them, each with its ratios to the first.
fn page(model: &str, rows: &[Row], compared: bool) -> serde_json::Value {
    if let ([only], false) = (rows, compared) {
        return json!(only);
    }
    let first = rows.first();
    let forms: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut keys = json!(row);
            for (name, of) in RATIOS {
                keys[name] = json!(first.and_then(|first| ratio(first, row, of)));
            }
            keys
        })
        .collect();
    json!({ "model": model, "forms": forms })
}

/// A figure of a row.
type Figure = fn(&Row) -> Option<f64>;

/// Those that are compared, by their keys.
const RATIOS: [(&str, Figure); 3] =
    [("ratio_cpu", cpu), ("ratio_bytes", size), ("ratio_joules", |row| row.joules)];

fn cpu(row: &Row) -> Option<f64> {
    row.cpu_ms_median
}

fn size(row: &Row) -> Option<f64> {
    row.bytes.map(|bytes| bytes as f64)
}

/// A row's figure as a part of the first row's.
fn ratio(first: &Row, row: &Row, of: Figure) -> Option<f64> {
    Some(of(row)? / of(first)?).filter(|ratio| ratio.is_finite())
}

/// The table, then what is not in it, then each row against the first in words.
fn lines(rows: &[Row]) -> Vec<String> {
    let Some(first) = rows.first() else { return Vec::new() };
    let head = [
        "form", "threads", "ran by", "CPU ms", "best", "wall ms", "load ms", "RSS MiB", "MB", "J net",
        "J gross",
    ];
    let body = rows.iter().map(|row| {
        [
            row.form.to_string(),
            row.threads.to_string(),
            row.ran_by(),
            number(row.cpu_ms_median, 1),
            number(row.cpu_ms_best, 1),
            number(row.wall_ms_median, 1),
            number(row.load_ms, 0),
            number(row.rss_mib, 0),
            number(size(row).map(|bytes| bytes / 1e6), 1),
            number(row.joules, 3),
            number(row.joules_gross, 3),
        ]
    });
    let mut lines = columns(std::iter::once(head.map(str::to_owned)).chain(body).collect());
    for row in rows {
        let telling = [&row.reason, &row.remark].into_iter().flatten();
        lines.extend(telling.map(|text| format!("{}: {text}", row.label())));
    }
    let measured = || rows.iter().filter(|row| row.runs > 0);
    if let Some(reason) = measured().find_map(|row| row.joules_reason.as_ref()) {
        lines.push(format!("joules: {reason}"));
    } else if let Some(sensor) = measured().find_map(|row| row.joules_sensor.as_ref()) {
        lines.push(format!("joules: of all that {sensor} feeds; net: without what it took at rest"));
    }
    lines.extend(rows[1..].iter().filter_map(|row| in_words(first, row)));
    lines
}

/// `u8s8 on cpu: 1.94x less CPU than fp32 on cpu, 26 % of its bytes`.
fn in_words(first: &Row, row: &Row) -> Option<String> {
    let cpu = ratio(first, row, cpu)?;
    let (times, word) = if cpu <= 1.0 { (1.0 / cpu, "less") } else { (cpu, "more") };
    let bytes = ratio(first, row, size).filter(|_| row.form != first.form);
    let bytes = bytes.map(|bytes| format!(", {:.0} % of its bytes", 100.0 * bytes)).unwrap_or_default();
    Some(format!("{}: {times:.2}x {word} CPU than {}{bytes}", row.label(), first.label()))
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use vedette_models::Joules;

    use super::*;

    fn row(form: Form, cpu_ms_median: f64, bytes: u64) -> Row {
        let mut row = Row { model: "m".into(), form, provider: "cpu".into(), ..Row::default() };
        row.bytes = Some(bytes);
        row.set_cold(ColdStart { load_ms: 123.4, rss_mib: 56.7 });
        row.set_measured(Measurement {
            runs: 5,
            cpu_ms_median,
            cpu_ms_best: cpu_ms_median - 1.0,
            wall_ms_median: cpu_ms_median,
            wall_ms_best: cpu_ms_median,
            energy: Ok(Joules { net: 0.25, gross: 0.5, sensor: "RAPL package-0".into() }),
        });
        row
    }

    #[test]
    fn forms_are_compared_with_the_first() {
        let mut absent = Row { form: Form::S8s8, provider: "xnnpack".into(), ..Row::default() };
        absent.reason = Some("provider xnnpack cannot be used: not in this build".into());
        let rows = [row(Form::Fp32, 30.0, 16_000_000), row(Form::U8s8, 15.0, 4_000_000), absent];
        let lines = lines(&rows);
        assert_eq!(
            lines[0],
            "form  threads  ran by   CPU ms  best  wall ms  load ms  RSS MiB  MB    J net  J gross"
        );
        assert_eq!(
            lines[2],
            "u8s8  1        cpu      15.0    14.0  15.0     123      57       4.0   0.250  0.500"
        );
        assert_eq!(
            lines[3],
            "s8s8  1        xnnpack  -       -     -        -        -        -     -      -"
        );
        assert_eq!(lines[4], "s8s8 on xnnpack: provider xnnpack cannot be used: not in this build");
        assert_eq!(lines[5], "joules: of all that RAPL package-0 feeds; net: without what it took at rest");
        assert_eq!(lines[6..], ["u8s8 on cpu: 2.00x less CPU than fp32 on cpu, 25 % of its bytes"]);
        let page = page("m", &rows, true);
        assert_eq!((&page["model"], &page["forms"][1]["ratio_cpu"]), (&json!("m"), &json!(0.5)));
        assert_eq!(page["forms"][1]["ratio_bytes"], 0.25);
        assert_eq!(
            (&page["forms"][2]["ratio_cpu"], &page["forms"][2]["cpu_ms_median"]),
            (&json!(null), &json!(null))
        );
        assert_eq!(page["forms"][2]["provider"], "xnnpack");
    }

    #[test]
    fn what_costs_more_is_said_so() {
        let slow = Row { threads: 2, ..row(Form::Fp32, 45.0, 16_000_000) };
        let words = in_words(&row(Form::Fp32, 30.0, 16_000_000), &slow);
        assert_eq!(words.as_deref(), Some("fp32 on cpu with 2 threads: 1.50x more CPU than fp32 on cpu"));
    }

    #[test]
    fn one_form_has_the_stable_keys_and_no_joules_without_a_reason() {
        let page = page("m", &[row(Form::Fp32, 30.0, 1)], false);
        for key in [
            "model",
            "form",
            "provider",
            "cpu_ms_median",
            "cpu_ms_best",
            "load_ms",
            "rss_mib",
            "bytes",
            "joules",
            "joules_reason",
            "shares",
        ] {
            assert!(page.get(key).is_some(), "{key}: {page}");
        }
        assert_eq!((&page["joules"], &page["joules_reason"]), (&json!(0.25), &json!(null)));
        let unmeasured = json!(Row::default());
        assert!(unmeasured["joules"].is_null() && unmeasured["joules_reason"].is_string());
    }
}
