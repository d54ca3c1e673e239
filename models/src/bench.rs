//! What a network costs on this machine: processor time, wall time, energy, and how long and how big it is cold.
//!
//! An inference alone is measured, not the pre-processing before it nor the decoding after it; the values looked at do
//! not matter to any kernel. Several networks are measured in turns (A B C A B C …), so that what else the machine does
//! meets all alike, and compared by their medians.
//!
//! Owns: the order of measuring, median and best. Does not know: who wants the figures, and how they are shown.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use vedette_core::{Clock, Shutdown};

use crate::energy::{Energy, EnergyMeter, NoEnergy};
use crate::manifest::Manifest;
use crate::network::{ModelError, Network, NetworkOptions};
use crate::runtime::Runtime;
use crate::session::{self, Wish};
use crate::tensor::InputTensor;

/// Measured inferences of one turn; the first of a turn, which finds the caches full of another network, is not.
const TURN: usize = 5;
/// Stretches of rest and work whose energy is compared; the median counts.
const ENERGY_TURNS: usize = 3;
/// RAPL counts about every millisecond, boards every few: a second is a thousand steps.
const REST: Duration = Duration::from_secs(1);
/// Work of which the energy is taken.
const WORK: Duration = Duration::from_secs(2);
/// Inferences before the memory of a cold start is read: the arenas have grown by then.
const COLD_RUNS: usize = 3;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchOptions {
    /// Measured inferences of each network; at least 1, default 50.
    pub runs: usize,
    /// Inferences before these; default 5.
    pub warm_up: usize,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self { runs: 50, warm_up: 5 }
    }
}

/// What an inference of one network costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Inferences measured.
    pub runs: usize,
    /// Milliseconds of processor time, user and system, of all threads: the median.
    pub cpu_ms_median: f64,
    /// The same of the cheapest: near to an idle machine's.
    pub cpu_ms_best: f64,
    /// Milliseconds from beginning to end: the median.
    pub wall_ms_median: f64,
    /// The same of the fastest.
    pub wall_ms_best: f64,
    /// Its energy, where the machine can tell.
    pub energy: Result<Joules, NoEnergy>,
}

/// Energy of one inference: of all that the sensor sees, not of this process alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Joules {
    /// Above what the machine took at rest just before: what the inference adds.
    pub net: f64,
    /// With what rest costs, for as long as the inference takes.
    pub gross: f64,
    /// The sensor.
    pub sensor: String,
}

/// What can be measured: a network, or a test's stand-in.
pub(crate) trait Subject {
    /// Once.
    fn infer(&mut self) -> Result<(), ModelError>;
}

impl Subject for Network {
    fn infer(&mut self) -> Result<(), ModelError> {
        Self::infer(self)
    }
}

/// Where times come from.
pub(crate) trait Stopwatch {
    /// Processor time of this process.
    fn cpu(&self) -> Duration;
    /// The clock of walls and rests.
    fn clock(&self) -> &dyn Clock;
}

struct Process<'a>(&'a dyn Clock);

impl Stopwatch for Process<'_> {
    fn cpu(&self) -> Duration {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }

    fn clock(&self) -> &dyn Clock {
        self.0
    }
}

/// Measures one network; `progress` is told how many steps of how many are done: inferences, then stretches of energy.
///
/// # Errors
/// An inference fails.
pub fn bench(
    network: &mut Network,
    options: BenchOptions,
    meter: &Result<EnergyMeter, NoEnergy>,
    clock: &dyn Clock,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Measurement, ModelError> {
    let mut measured = turns(&Process(clock), &mut [network], options, meter, progress)?;
    Ok(measured.remove(0))
}

/// Measures networks side by side, in turns; results in their order.
///
/// # Errors
/// An inference of any fails.
pub fn compare(
    networks: &mut [Network],
    options: BenchOptions,
    meter: &Result<EnergyMeter, NoEnergy>,
    clock: &dyn Clock,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Measurement>, ModelError> {
    let mut networks: Vec<&mut Network> = networks.iter_mut().collect();
    turns(&Process(clock), &mut networks, options, meter, progress)
}

fn turns<S: Subject>(
    watch: &dyn Stopwatch,
    subjects: &mut [&mut S],
    options: BenchOptions,
    meter: &Result<EnergyMeter, NoEnergy>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Measurement>, ModelError> {
    let runs = options.runs.max(1);
    for subject in &mut *subjects {
        for _ in 0..options.warm_up {
            subject.infer()?;
        }
    }
    let mut times = vec![Times::default(); subjects.len()];
    let energy_turns = if meter.is_ok() { ENERGY_TURNS } else { 0 };
    let of = (runs + energy_turns) * subjects.len();
    while times.iter().any(|times| times.cpu.len() < runs) {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            subject.infer()?;
            for _ in 0..TURN.min(runs - times.cpu.len()) {
                times.take(watch, *subject)?;
            }
        }
        progress(times.iter().map(|times| times.cpu.len()).sum(), of);
    }
    let measured = runs * subjects.len();
    let energies = energies(watch.clock(), subjects, meter, &mut |turns| progress(measured + turns, of))?;
    Ok(times.into_iter().zip(energies).map(|(times, energy)| times.measurement(energy)).collect())
}

/// Milliseconds of each inference.
#[derive(Clone, Default)]
struct Times {
    cpu: Vec<f64>,
    wall: Vec<f64>,
}

impl Times {
    fn take(&mut self, watch: &dyn Stopwatch, subject: &mut impl Subject) -> Result<(), ModelError> {
        let (cpu, wall) = (watch.cpu(), watch.clock().now());
        subject.infer()?;
        self.cpu.push(milliseconds(watch.cpu().saturating_sub(cpu)));
        self.wall.push(milliseconds(watch.clock().now().since(wall)));
        Ok(())
    }

    fn measurement(self, energy: Result<Joules, NoEnergy>) -> Measurement {
        let best = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
        Measurement {
            runs: self.cpu.len(),
            cpu_ms_median: median(&self.cpu),
            cpu_ms_best: best(&self.cpu),
            wall_ms_median: median(&self.wall),
            wall_ms_best: best(&self.wall),
            energy,
        }
    }
}

/// The energy of each, in turns of rest and work.
fn energies<S: Subject>(
    clock: &dyn Clock,
    subjects: &mut [&mut S],
    meter: &Result<EnergyMeter, NoEnergy>,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Result<Joules, NoEnergy>>, ModelError> {
    let meter = match meter {
        Ok(meter) => meter,
        Err(reason) => return Ok(vec![Err(reason.clone()); subjects.len()]),
    };
    let mut found = vec![Vec::new(); subjects.len()];
    for turn in 0..ENERGY_TURNS {
        let done = turn * subjects.len();
        for (at, (subject, found)) in subjects.iter_mut().zip(&mut found).enumerate() {
            found.push(energy(clock, *subject, meter)?);
            progress(done + at + 1);
        }
    }
    Ok(found.into_iter().map(|turns| middle(meter, turns)).collect())
}

/// Joules of one inference: net where any are left, and gross.
type PerInference = (Option<f64>, f64);

fn energy(
    clock: &dyn Clock,
    subject: &mut impl Subject,
    meter: &EnergyMeter,
) -> Result<Result<PerInference, NoEnergy>, ModelError> {
    let rest = match meter.over(clock, || clock.pause(REST, &Shutdown::new())) {
        Ok((_, rest)) => rest,
        Err(reason) => return Ok(Err(reason)),
    };
    let begin = clock.now();
    let work = || {
        let mut done = 0_u32;
        while clock.now().since(begin) < WORK {
            subject.infer()?;
            done += 1;
        }
        Ok::<u32, ModelError>(done)
    };
    match meter.over(clock, work) {
        Ok((done, work)) => Ok(Ok(per_inference(work, rest, done?))),
        Err(reason) => Ok(Err(reason)),
    }
}

fn per_inference(work: Energy, rest: Energy, inferences: u32) -> PerInference {
    let of_one = |joules: f64| joules / f64::from(inferences.max(1));
    (work.above(rest).map(of_one), of_one(work.joules))
}

/// The medians. A machine that was busier at rest than at work in any turn tells nothing.
fn middle(meter: &EnergyMeter, turns: Vec<Result<PerInference, NoEnergy>>) -> Result<Joules, NoEnergy> {
    let turns: Vec<PerInference> = turns.into_iter().collect::<Result<_, _>>()?;
    let net: Option<Vec<f64>> = turns.iter().map(|(net, _)| *net).collect();
    let net = net.ok_or_else(|| NoEnergy::because("the machine took more power at rest than at work"))?;
    let gross: Vec<f64> = turns.iter().map(|(_, gross)| *gross).collect();
    Ok(Joules { net: median(&net), gross: median(&gross), sensor: meter.name().to_owned() })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The middle value, or the mean of the two in the middle; NaN of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len() % 2) {
        (Some(&upper), 0) => f64::midpoint(sorted[sorted.len() / 2 - 1], upper),
        (Some(&middle), _) => middle,
        (None, _) => f64::NAN,
    }
}

/// A network's start in a process that has opened none before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColdStart {
    /// Milliseconds from the file's name to a session that can run: reading, checksum, checks, ONNX Runtime's own
    /// preparation. Without the profile of [`Network::open`], which tells who runs it.
    pub load_ms: f64,
    /// Resident memory of the whole process after some inferences, in MiB, ONNX Runtime itself included.
    pub rss_mib: f64,
}

/// Opens a model and runs it, for the first time in this process; a second call is not cold. The form is that of the
/// first provider wished that takes it, and must be taken by one of them where [`NetworkOptions::strict`] is on.
///
/// # Errors
/// As of [`Network::open`].
pub fn cold_start(
    runtime: &'static Runtime,
    manifest: &Manifest,
    options: &NetworkOptions,
    clock: &dyn Clock,
) -> Result<ColdStart, ModelError> {
    let NetworkOptions { providers, threads, strict, tensorrt } = options;
    let wish = Wish { runtime, manifest, providers, threads: *threads, strict: *strict, tensorrt };
    let begin = clock.now();
    let mut opened = session::open(wish)?;
    let load_ms = milliseconds(clock.now().since(begin));
    // A network keeps its session, not the file.
    opened.bytes = Vec::new();
    let failed = |e: ort::Error| ModelError::Run { model: manifest.name().to_owned(), reason: e.to_string() };
    let input = InputTensor::new(&manifest.input_of(opened.form)).map_err(failed)?;
    for _ in 0..COLD_RUNS {
        opened.session.run(ort::inputs![input.value()]).map_err(failed)?;
    }
    Ok(ColdStart { load_ms, rss_mib: resident_mib() })
}

/// Resident memory of this process; zero where /proc is hidden.
fn resident_mib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0.0) / 1024.0
}

#[cfg(test)]
#[path = "bench_tests.rs"]
mod tests;
