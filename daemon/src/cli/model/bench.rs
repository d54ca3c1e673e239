//! `vedette model bench`.
//!
//! Owns: arguments, which provider runs which form, the fresh process of a cold start. Does not know: how costs are
//! measured (`vedette_models::bench`), how rows are shown (`table`).

mod table;

use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use clap::Args;
use serde_json::Value;
use vedette_core::SystemClock;
use vedette_models::{
    BenchOptions, ColdStart, EnergyMeter, Form, Manifest, Measurement, ModelError, Network, NetworkOptions,
    Provider, Runtime, cold_start, compare,
};

use self::table::Row;
use super::super::{Global, progress};
use crate::exit::{Failure, Outcome};
use crate::node::runtime_folders;

/// More threads than any box this is for has cores.
const MOST_THREADS: usize = 64;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// Which model
    #[arg(long, value_name = "NAME", default_value = "nanodet-g-416")]
    model: String,
    /// Which form of it [default: the provider's]
    #[arg(long, value_name = "fp32|u8s8|s8s8")]
    form: Option<Form>,
    /// Several forms in turns, each against the first
    #[arg(long, value_name = "FORM,FORM", value_delimiter = ',', conflicts_with_all = ["form", "cold"])]
    compare: Vec<Form>,
    /// Who runs it: tensorrt, cuda, openvino, xnnpack, cpu [default: cpu, and xnnpack for s8s8]
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<Provider>,
    /// Threads of one inference; 1..4 measures each of 1 to 4
    #[arg(long, value_name = "N|1..N", default_value = "1")]
    threads: Threads,
    /// Measured inferences of each
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = runs)]
    runs: usize,
    /// Only the cold start: time to load, and memory
    #[arg(long)]
    cold: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Threads(RangeInclusive<usize>);

impl FromStr for Threads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|n| (1..=MOST_THREADS).contains(n));
        let range = match text.split_once("..") {
            Some((from, to)) => number(from).zip(number(to)),
            None => number(text).map(|n| (n, n)),
        };
        match range {
            Some((from, to)) if from <= to => Ok(Self(from..=to)),
            _ => {
                Err(format!("`{text}` is neither a number within 1 and {MOST_THREADS} nor a range like 1..4"))
            }
        }
    }
}

fn runs(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=100_000).contains(n));
    number.ok_or_else(|| format!("`{text}` is not within 1 and 100000"))
}

/// One thing to measure.
#[derive(Clone, Debug)]
struct Subject {
    /// With one form alone.
    manifest: Manifest,
    form: Form,
    options: NetworkOptions,
}

impl Subject {
    fn new(
        manifest: &Manifest,
        form: Option<Form>,
        asked: Option<Provider>,
        threads: usize,
    ) -> Result<Self, Failure> {
        let provider = asked.or(form.map(provider_of)).unwrap_or(Provider::Cpu);
        let form = form.or_else(|| manifest.form(provider).map(|(form, _)| form)).ok_or_else(|| {
            let well: Vec<_> = provider.forms().iter().map(|form| form.name()).collect();
            let (name, well) = (manifest.name(), well.join(", "));
            Failure::usage(format!(
                "model `{name}` has no form that {provider} runs well ({well}); name one: --form"
            ))
        })?;
        let manifest = manifest.clone().only(form).map_err(Failure::usage)?;
        // Strict: what is to be measured is this provider, not the one behind it.
        let options =
            NetworkOptions { providers: vec![provider], threads, strict: true, ..NetworkOptions::default() };
        Ok(Self { manifest, form, options })
    }

    fn provider(&self) -> Provider {
        self.options.providers.first().copied().unwrap_or(Provider::Cpu)
    }

    /// What to know when reading its figures.
    fn remark(&self) -> Option<String> {
        let (form, provider) = (self.form, self.provider());
        if !provider.forms().contains(&form) {
            return Some(format!("{form} is not for {provider}: it runs it, but slowly"));
        }
        let one = provider == Provider::Xnnpack && self.options.threads > 1;
        one.then(|| "xnnpack keeps to one thread".to_owned())
    }

    fn row(&self) -> Row {
        Row {
            model: self.manifest.name().to_owned(),
            form: self.form,
            provider: self.provider().name().to_owned(),
            threads: self.options.threads,
            remark: self.remark(),
            ..Row::default()
        }
    }

    fn open(&self, runtime: &'static Runtime) -> Result<(Network, u64), String> {
        let bytes = self.manifest.read_form(self.form).map_err(|error| error.to_string())?;
        let network = Network::open(runtime, &self.manifest, &self.options).map_err(|error| why(&error))?;
        Ok((network, bytes.len() as u64))
    }
}

/// The first of those that every box may have which runs `form` well. TensorRT and OpenVINO are asked for by name.
fn provider_of(form: Form) -> Provider {
    let usual = [Provider::Cpu, Provider::Xnnpack];
    usual.into_iter().find(|provider| provider.forms().contains(&form)).unwrap_or(Provider::Cpu)
}

/// Strict is meant here, and no setting of the user's.
fn why(error: &ModelError) -> String {
    match error {
        ModelError::Provider { provider, reason, .. } => {
            format!("provider {provider} cannot be used: {reason}")
        }
        other => other.to_string(),
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let manifest = Manifest::load(&global.host()?.models(), &arguments.model).map_err(Failure::failed)?;
    let subjects = subjects(&manifest, arguments)?;
    let runtime = Runtime::load(None, &runtime_folders()).map_err(Failure::unavailable)?;
    let compared = !arguments.compare.is_empty() || subjects.len() > 1;
    let mut rows: Vec<Row> = subjects.iter().map(Subject::row).collect();
    if let (true, [subject], [row]) = (arguments.cold || !compared, &subjects[..], &mut rows[..]) {
        let start = cold_start(runtime, &subject.manifest, &subject.options, &SystemClock::new());
        row.set_cold(start.map_err(|error| Failure::unavailable(why(&error)))?);
    } else if arguments.cold {
        return Err(Failure::usage("--cold is of one number of --threads: a process starts cold once"));
    }
    if !arguments.cold {
        measure(runtime, global, arguments.runs, &subjects, &mut rows)?;
    }
    match &rows[..] {
        [Row { reason: Some(reason), .. }] => return Err(Failure::unavailable(reason)),
        rows => table::show(global, &arguments.model, rows, compared)?,
    }
    if rows.iter().all(|row| row.reason.is_some()) {
        return Err(Failure::unavailable("nothing could be measured; the reasons stand above"));
    }
    Ok(())
}

/// Each form asked for with each number of threads.
fn subjects(manifest: &Manifest, arguments: &Arguments) -> Result<Vec<Subject>, Failure> {
    let mut forms: Vec<Option<Form>> = Vec::new();
    for form in &arguments.compare {
        if !forms.contains(&Some(*form)) {
            forms.push(Some(*form));
        }
    }
    if forms.is_empty() {
        forms.push(arguments.form);
    }
    let threads = || arguments.threads.0.clone();
    let each = forms.iter().flat_map(|form| threads().map(move |threads| (*form, threads)));
    each.map(|(form, threads)| Subject::new(manifest, form, arguments.provider, threads)).collect()
}

/// Fills the rows: cold starts in processes of their own where there are several, then all in turns in this one.
fn measure(
    runtime: &'static Runtime,
    global: &Global,
    runs: usize,
    subjects: &[Subject],
    rows: &mut [Row],
) -> Outcome {
    let mut networks = Vec::new();
    let mut open = Vec::new();
    for (at, (subject, row)) in subjects.iter().zip(&mut *rows).enumerate() {
        let _spinner = progress::spinner(&format!("opening {}", row.label()));
        match subject.open(runtime) {
            Ok((network, bytes)) => {
                row.set_opened(network.report(), bytes);
                networks.push(network);
                open.push(at);
            }
            Err(reason) => row.reason = Some(reason),
        }
        if row.reason.is_none() && subjects.len() > 1 {
            match in_a_fresh_process(global, subject) {
                Ok(start) => row.set_cold(start),
                Err(reason) => log::warn!("{}: no cold start: {reason}", row.label()),
            }
        }
    }
    let meter = EnergyMeter::find(Path::new("/sys"));
    let bar = progress::bar(1, "measuring in turns");
    let mut step = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let options = BenchOptions { runs, ..BenchOptions::default() };
    let measured: Vec<Measurement> =
        compare(&mut networks, options, &meter, &SystemClock::new(), &mut step).map_err(Failure::failed)?;
    open.into_iter().zip(measured).for_each(|(at, measured)| rows[at].set_measured(measured));
    Ok(())
}

/// This program again, for one cold start: `model bench --cold --json`.
fn in_a_fresh_process(global: &Global, subject: &Subject) -> Result<ColdStart, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["model", "bench", "--cold", "--json", "--model", subject.manifest.name()]);
    command.args(["--form", subject.form.name(), "--provider", subject.provider().name()]);
    command.arg("--threads").arg(subject.options.threads.to_string()).arg("--config").arg(&global.config);
    for (option, folder) in [("--state", &global.state), ("--share", &global.share)] {
        if let Some(folder) = folder {
            command.arg(option).arg(folder);
        }
    }
    let ran = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&ran.stdout);
    let found: Value = serde_json::from_str(told.lines().last().unwrap_or_default()).unwrap_or_default();
    match (found["load_ms"].as_f64(), found["rss_mib"].as_f64()) {
        (Some(load_ms), Some(rss_mib)) => Ok(ColdStart { load_ms, rss_mib }),
        _ => Err(String::from_utf8_lossy(&ran.stderr).trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_a_number_or_a_range() {
        assert_eq!("3".parse(), Ok(Threads(3..=3)));
        assert_eq!("1..4".parse(), Ok(Threads(1..=4)));
        for wrong in ["", "0", "0..2", "4..1", "1..", "..2", "65", "1..65", "-1", "two"] {
            assert!(wrong.parse::<Threads>().is_err(), "{wrong}");
        }
        assert!(runs("0").is_err() && runs("100001").is_err() && runs("1") == Ok(1));
    }

    #[test]
    fn each_form_goes_to_who_runs_it_well() {
        for form in Form::ALL {
            assert!(provider_of(form).forms().contains(&form), "{form}");
        }
        assert_eq!(provider_of(Form::S8s8), Provider::Xnnpack);
        assert_eq!(provider_of(Form::U8s8), Provider::Cpu);
    }

    #[test]
    fn the_reason_names_no_setting() {
        let reason = "is not in this build".to_owned();
        let error = ModelError::Provider { model: "m".into(), provider: Provider::Xnnpack, reason };
        assert_eq!(why(&error), "provider xnnpack cannot be used: is not in this build");
    }
}
