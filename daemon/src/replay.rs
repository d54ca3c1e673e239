//! The whole pipeline over a file, in lock-step: how users tune rules on their own footage and how every evaluation
//! is made.
//!
//! Owns: the loop file → detector → scene → messages. Does not know: brokers, threads, the host's clock. It is
//! deterministic: the clock is PTS from a given start, sequence numbers begin at 1, ids come from a generator seeded
//! with the SHA-256 of file and configuration, and no frame is dropped. H.264, H.265 and MJPEG are taken packet by
//! packet as a camera's stream is (`packets`), by the camera's own decoder; what a camera in the given mode would leave
//! out is left out. Any other video is decoded whole, which is `always` and no other mode.

mod packets;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use vedette_analysis::gate::{Decode, Mode};
use vedette_analysis::{Lost, Observation, Outcome, Scene};
use vedette_core::{Answer, AnswerValue, Detection, Event, Frame, IncidentIds, Moment, Pts, Role, View};
use vedette_ingest::{Descriptions, Fault, FaultClass, FileReader, Masks, PacketReader};
use vedette_models::{Detector, ModelError};

use crate::camera::scene_config;
use crate::config;
use crate::exit::{Exit, Failure};
use crate::pacer::Pacer;

/// After the end of the file the scene is told that the camera is lost, and ticks for so long, so that open incidents
/// end by themselves (`camera-lost`).
const AFTERMATH: u64 = 12;

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read or decoded.
    #[error(transparent)]
    Ingest(#[from] Fault),
    /// The detector failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The scene cannot be built.
    #[error(transparent)]
    Scene(#[from] vedette_analysis::BuildError),
    /// The file cannot be read for its checksum.
    #[error("{path}: {error}")]
    Read {
        /// Which file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        let exit = match &error {
            ReplayError::Ingest(fault) if fault.class == FaultClass::MissingElement => Exit::Unavailable,
            ReplayError::Scene(_) => Exit::Config,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// What a replay did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Frames decoded.
    pub decoded: u64,
    /// Frames analysed.
    pub analysed: u64,
    /// Events given out.
    pub events: u64,
    /// Length of the footage, in seconds of PTS.
    pub seconds: f64,
    /// How it was decoded; `None` where all of it was.
    pub adaptive: Option<Adapted>,
}

/// How the packets of a file were decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Adapted {
    /// Packets there were.
    pub received: u64,
    /// Seconds in quiet, watch and busy.
    pub states: [f64; 3],
    /// Changes between them.
    pub transitions: u64,
    /// Packets and due pictures passed over by a catch-up.
    pub skipped: u64,
}

/// One camera's configuration run over files.
pub struct Replay<'a> {
    /// The camera whose rules apply.
    pub camera: &'a config::Camera,
    /// The node's time zone, for schedules.
    pub time_zone: jiff::tz::TimeZone,
    /// First 8 hex digits of the configuration's hash; part of the seed.
    pub config_hash: &'a str,
    /// The wall time of PTS 0.
    pub start: Timestamp,
    /// Pipelines there are.
    pub descriptions: &'a Descriptions,
    /// What is decoded; `always`: all that the rate needs.
    pub mode: Mode,
}

/// What happens as a replay goes on.
pub trait Watch {
    /// An event, in order.
    fn event(&mut self, event: Event);
    /// Progress: seconds of PTS done, and of how many where the file says so.
    fn progress(&mut self, _done: f64, _of: Option<f64>) {}
    /// A frame was analysed.
    fn frame(&mut self, _frame: &Frame, _scene: &Scene) {}
    /// The decoder does something else from here on, and how this stream's motion is seen.
    fn decode(&mut self, _at: Pts, _state: Decode, _gate: &str) {}
}

impl Replay<'_> {
    /// Runs over one file.
    ///
    /// # Errors
    /// The first thing that fails; events until then have been given out.
    pub fn run(
        &self,
        path: &Path,
        detector: &mut Detector,
        watch: &mut dyn Watch,
    ) -> Result<Summary, ReplayError> {
        let ids = IncidentIds::seeded(seed(path, self.config_hash)?);
        let mut scene = Scene::build(scene_config(self.camera, &self.time_zone), ids)?;
        let mut run = Run {
            scene: &mut scene,
            watch,
            detector,
            summary: Summary::default(),
            answers: Vec::new(),
            ticked: Pts::ZERO,
        };
        let last = match PacketReader::open(path, self.descriptions, self.start) {
            Ok(reader) => self.packets(path, reader, &mut run)?,
            Err(fault) if self.mode == Mode::Always => {
                log::debug!("decoded whole: {fault}");
                self.every_frame(path, &mut run)?
            }
            Err(fault) => return Err(fault.into()),
        };
        run.finish(last);
        run.summary.seconds = last.pts.secs_f64();
        Ok(run.summary)
    }

    fn masks(&self) -> Masks {
        Masks::new(self.camera.masks.values().cloned().collect())
    }

    /// Decodes what is no camera's stream, all of it; the moment of its last frame.
    fn every_frame(&self, path: &Path, run: &mut Run<'_>) -> Result<Moment, ReplayError> {
        let reader = FileReader::open(path, self.descriptions, &self.masks(), self.start)?;
        let of = reader.duration().map(|d| d.as_secs_f64());
        let mut pacer = Pacer::new(self.camera.fps);
        let mut last = Moment::of_file(self.start, Pts::ZERO);
        for frame in reader {
            let frame = frame?;
            run.summary.decoded += 1;
            last = frame.moment();
            if !pacer.take(last.pts) {
                continue;
            }
            run.tick_until(last);
            run.step(&frame)?;
            run.watch.progress(last.pts.secs_f64(), of);
        }
        Ok(last)
    }
}

struct Run<'a> {
    scene: &'a mut Scene,
    watch: &'a mut dyn Watch,
    detector: &'a mut Detector,
    summary: Summary,
    answers: Vec<Answer>,
    ticked: Pts,
}

impl Run<'_> {
    /// Ticks at each full second of PTS up to `moment`.
    fn tick_until(&mut self, moment: Moment) {
        while self.ticked + Duration::from_secs(1) <= moment.pts {
            self.ticked = self.ticked + Duration::from_secs(1);
            let outcome = self.scene.tick(moment.shifted_to(self.ticked));
            self.deliver(outcome.events);
        }
    }

    /// The detector looks, and the scene at what it says.
    fn step(&mut self, frame: &Frame) -> Result<(), ModelError> {
        let detections = self.detector.detect(frame, View::WHOLE)?;
        self.summary.analysed += 1;
        self.observe(frame, Some(&detections))
    }

    /// The scene looks; without detections nothing has changed since the frame before.
    fn observe(&mut self, frame: &Frame, detections: Option<&[Detection]>) -> Result<(), ModelError> {
        let answers = std::mem::take(&mut self.answers);
        let observation =
            Observation { frame: Some(frame), aspect: frame.aspect(), detections, answers: &answers };
        let Outcome { events, wants } = self.scene.step(frame.moment(), &observation);
        if detections.is_some() {
            self.watch.frame(frame, self.scene);
        }
        for want in wants {
            let value = match want.role {
                Role::Detector => AnswerValue::Detections(self.detector.detect(frame, want.view)?),
                _ => AnswerValue::Unavailable,
            };
            self.answers.push(Answer { id: want.id, pts: frame.moment().pts, value });
        }
        self.deliver(events);
        Ok(())
    }

    fn finish(&mut self, last: Moment) {
        let outcome = self.scene.lost(last, Lost::NoFrames);
        self.deliver(outcome.events);
        self.tick_until(last.shifted_to(last.pts + Duration::from_secs(AFTERMATH)));
    }

    fn deliver(&mut self, events: Vec<Event>) {
        self.summary.events += events.len() as u64;
        for event in events {
            self.watch.event(event);
        }
    }
}

/// SHA-256 of the file's bytes followed by the configuration's hash.
fn seed(path: &Path, config_hash: &str) -> Result<[u8; 32], ReplayError> {
    let wrong = |error| ReplayError::Read { path: path.display().to_string(), error };
    let mut file = std::fs::File::open(path).map_err(wrong)?;
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut chunk).map_err(wrong)? {
            0 => break,
            n => digest.update(&chunk[..n]),
        }
    }
    digest.update(config_hash.as_bytes());
    Ok(digest.finalize().into())
}
