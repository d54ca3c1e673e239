//! `vedette replay FILE…`: the events of a file as JSON lines, byte-equal each time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use jiff::Timestamp;
use vedette_analysis::gate::{Decode, Mode};
use vedette_core::{CameraId, Event, Pts};
use vedette_models::Detector;

use super::{Global, note, progress, say};
use crate::config::{Camera, Config};
use crate::exit::{Failure, Outcome};
use crate::node::{Host, judge, open_detector};
use crate::replay::{Adapted, Replay, Summary, Watch};
use crate::wire::{self, ModelStamp, Stamp};
use crate::words::count;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Files that GStreamer can decode
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whose zones and rules apply, where the configuration has several cameras
    #[arg(long, value_name = "ID")]
    camera: Option<String>,
    /// The wall time of the first frame, for schedules
    #[arg(long, value_name = "TIME", default_value = "1970-01-01T00:00:00Z")]
    start: Timestamp,
    /// What is decoded: everything, or what a camera in this mode would decode (H.264, H.265 and MJPEG only)
    #[arg(long, value_name = "always|adaptive|force", default_value = "always", value_parser = parse_mode, hide_possible_values = true)]
    mode: Mode,
}

/// A mode by its word in the configuration.
pub(super) fn parse_mode(word: &str) -> Result<Mode, String> {
    let all = [("always", Mode::Always), ("adaptive", Mode::Adaptive), ("force", Mode::Force)];
    let found = all.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode);
    found.ok_or_else(|| "there are: always, adaptive, force".to_owned())
}

/// Everything that a replay needs, opened.
pub(super) struct Bench {
    pub(super) config: Config,
    pub(super) camera: Arc<Camera>,
    pub(super) detector: Detector,
    pub(super) descriptions: vedette_ingest::Descriptions,
    pub(super) start: Timestamp,
    pub(super) mode: Mode,
}

impl Bench {
    /// Opens configuration, GStreamer and model; `camera` may be left out where there is one.
    pub(super) fn open(
        global: &Global,
        camera: Option<&str>,
        start: Timestamp,
        mode: Mode,
    ) -> Result<Self, Failure> {
        let config = global.load()?;
        let host: Host = global.host()?;
        let camera = pick(&config, camera)?;
        vedette_ingest::init().map_err(Failure::unavailable)?;
        let descriptions =
            vedette_ingest::Descriptions::load(&[host.share.descriptions()]).map_err(Failure::failed)?;
        judge(&config, &host)?;
        let detector = open_detector(&config, &host)?;
        Ok(Self { config, camera, detector, descriptions, start, mode })
    }

    /// Runs over one file.
    pub(super) fn run(&mut self, file: &Path, watch: &mut dyn Watch) -> Result<Summary, Failure> {
        let replay = Replay {
            camera: &self.camera,
            time_zone: self.config.node.time_zone.clone(),
            config_hash: &self.config.hash,
            start: self.start,
            descriptions: &self.descriptions,
            mode: self.mode,
        };
        Ok(replay.run(file, &mut self.detector, watch)?)
    }
}

fn pick(config: &Config, wanted: Option<&str>) -> Result<Arc<Camera>, Failure> {
    let known = || config.cameras.keys().map(CameraId::as_str).collect::<Vec<_>>().join(", ");
    let only = || match (config.cameras.values().next(), config.cameras.len()) {
        (Some(camera), 1) => Ok(camera),
        (None, _) => Err(Failure::config(
            "the configuration has no camera: its zones, lines and rules are what a replay applies; give --config DIR",
        )),
        _ => Err(Failure::usage(format!(
            "the configuration has several cameras; name one with --camera: {}",
            known()
        ))),
    };
    let named = |id: &str| {
        let unknown =
            || Failure::usage(format!("no camera `{id}` in the configuration; there are: {}", known()));
        config.cameras.get(id).ok_or_else(unknown)
    };
    wanted.map_or_else(only, named).cloned()
}

struct Printer<'a> {
    stamp: Stamp,
    seq: u64,
    bar: &'a ProgressBar,
    outcome: Outcome,
}

impl Watch for Printer<'_> {
    fn event(&mut self, event: Event) {
        self.seq += 1;
        let bytes = wire::vedette::event(&self.stamp, self.seq, None, &event);
        if self.outcome.is_ok() {
            self.outcome = self.bar.suspend(|| say(String::from_utf8_lossy(&bytes)));
        }
    }

    fn decode(&mut self, at: Pts, state: Decode, gate: &str) {
        self.bar.suspend(|| note(format!("{:.1} s: {}; gate: {gate}", at.secs_f64(), state.as_str())));
    }

    fn progress(&mut self, done: f64, of: Option<f64>) {
        if let Some(of) = of {
            self.bar.set_length((of * 1000.0) as u64);
        }
        self.bar.set_position((done * 1000.0) as u64);
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let mut bench = Bench::open(global, arguments.camera.as_deref(), arguments.start, arguments.mode)?;
    let report = bench.detector.report();
    let model = ModelStamp {
        name: bench.detector.name().to_owned(),
        sha256: bench.detector.sha256().to_owned(),
        provider: report.provider().to_owned(),
    };
    // A replay has no store: its epoch is fixed, so that the output is byte-equal.
    let stamp = Stamp {
        dialects: Vec::new(),
        interests: std::collections::BTreeMap::new(),
        signer: None,
        node: bench.config.node.id.clone(),
        epoch: uuid::Uuid::nil(),
        config: bench.config.hash.clone(),
        model,
    };
    let mut seq = 0;
    for file in &arguments.files {
        let bar = progress::bar(1, &file.display().to_string());
        let mut printer = Printer { stamp: stamp.clone(), seq, bar: &bar, outcome: Ok(()) };
        let summary = bench.run(file, &mut printer)?;
        printer.outcome?;
        seq = printer.seq;
        bar.finish_and_clear();
        note(format!(
            "{}: {:.1} s, {} of {} frames analysed, {}",
            file.display(),
            summary.seconds,
            summary.analysed,
            summary.decoded,
            count(usize::try_from(summary.events).unwrap_or(usize::MAX), "event")
        ));
        if let Some(adapted) = &summary.adaptive {
            note(in_words(&summary, adapted));
        }
    }
    Ok(())
}

/// What was left out of the file.
fn in_words(summary: &Summary, adapted: &Adapted) -> String {
    let [quiet, watch, busy] = adapted.states;
    format!(
        "quiet {quiet:.1} s, watch {watch:.1} s, busy {busy:.1} s, {} changes; {} of {} packets decoded, {} skipped",
        adapted.transitions, summary.decoded, adapted.received, adapted.skipped
    )
}
