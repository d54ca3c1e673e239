//! Sample pictures for calibration: out of folders, videos and the live cameras of a configuration.
//!
//! Owns: which frames are taken, and their way into letterboxed pixels. Does not know: what they are good for, the
//! command line. Pixels are kept in memory only, privacy masks are painted before anything else sees a frame, and no
//! more than twice the number wanted is ever held.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use vedette_core::{Clock, Frame, Shutdown, View};
use vedette_ingest::{
    Backoff, Decoder, Descriptions, Fault, FaultClass, FileReader, Item, Masks, Packet, Receiver, TimeLine,
    Watchdog, open_decoder,
};
use vedette_models::{EvalError, InputSpec, Preprocessor, read_picture};

use crate::camera::source;
use crate::config::Camera;
use crate::pacer::Pacer;
use crate::random::Random;

/// How often a camera's thread looks whether it shall stop.
const TICK: Duration = Duration::from_millis(200);

/// Why there are no samples.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    /// A folder that cannot be listed.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A folder without pictures.
    #[error("{0}: no .jpg, .jpeg or .png in it")]
    NoPictures(String),
    /// A picture that is none.
    #[error(transparent)]
    Picture(#[from] EvalError),
    /// A video that is none.
    #[error(transparent)]
    Video(#[from] Fault),
}

/// Where samples came from, and the samples: `[height, width, 3]` bytes each, letterboxed, in the model's colours.
#[derive(Debug, Default)]
pub struct Samples {
    /// The samples.
    pub pixels: Vec<Vec<u8>>,
    /// Each source and how many it gave.
    pub sources: Vec<(String, usize)>,
}

/// As many of a stream as wanted, evenly over its length, which nobody knows before.
#[derive(Debug)]
pub struct Spread<T> {
    wanted: usize,
    stride: usize,
    seen: usize,
    kept: Vec<T>,
}

impl<T> Spread<T> {
    /// Of nothing yet.
    pub fn new(wanted: usize) -> Self {
        Self { wanted, stride: 1, seen: 0, kept: Vec::new() }
    }

    /// Offers the next one; it is made only where it is kept.
    pub fn offer(&mut self, make: impl FnOnce() -> Option<T>) {
        let take = self.wanted > 0 && self.seen.is_multiple_of(self.stride);
        if take && let Some(item) = make() {
            self.kept.push(item);
        } else if take {
            return;
        }
        self.seen += 1;
        if self.kept.len() >= 2 * self.wanted.max(1) {
            let mut at = 0;
            self.kept.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// Those taken: as many as wanted, or all there were.
    pub fn finish(self) -> Vec<T> {
        evenly(self.kept, self.wanted)
    }
}

/// `wanted` of them, evenly from the first on; all where there are fewer.
fn evenly<T>(items: Vec<T>, wanted: usize) -> Vec<T> {
    let len = items.len();
    if len <= wanted {
        return items;
    }
    // Item `at` begins a new step of the staircase from 0 to `wanted`.
    let begins = |at: usize| at == 0 || at * wanted / len != (at - 1) * wanted / len;
    let chosen = items.into_iter().enumerate().filter(|(at, _)| wanted > 0 && begins(*at));
    chosen.map(|(_, item)| item).collect()
}

/// Frames to samples.
struct Lens {
    preprocessor: Preprocessor,
    input: InputSpec,
}

impl Lens {
    fn new(input: &InputSpec) -> Self {
        let preprocessor = Preprocessor::of(input);
        Self { preprocessor, input: input.clone() }
    }

    /// None for a frame without pixels.
    fn take(&mut self, frame: &Frame) -> Option<Vec<u8>> {
        let mut pixels = vec![self.input.pad; self.input.len()];
        self.preprocessor.run(frame, View::WHOLE, &mut pixels).ok()?;
        Some(pixels)
    }
}

/// From a folder of pictures, a picture or a video, at most `wanted`.
///
/// # Errors
/// See [`FramesError`].
pub fn from_path(
    path: &Path,
    wanted: usize,
    input: &InputSpec,
    descriptions: &Descriptions,
) -> Result<Vec<Vec<u8>>, FramesError> {
    let mut lens = Lens::new(input);
    if !path.is_dir() && !is_picture(path) {
        let mut spread = Spread::new(wanted);
        let mut pacer = Pacer::new(5.0);
        for frame in FileReader::open(path, descriptions, &Masks::none(), jiff::Timestamp::UNIX_EPOCH)? {
            let frame = frame?;
            if pacer.take(frame.moment().pts) {
                spread.offer(|| lens.take(&frame));
            }
        }
        return Ok(spread.finish());
    }
    let pictures = if path.is_dir() { pictures(path)? } else { vec![path.to_owned()] };
    let mut pixels = Vec::new();
    for picture in evenly(pictures, wanted) {
        pixels.extend(lens.take(&read_picture(&picture)?));
    }
    Ok(pixels)
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    ending.is_some_and(|e| ["jpg", "jpeg", "png"].iter().any(|known| e == *known))
}

/// In the order of their names.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>, FramesError> {
    let shown = folder.display().to_string();
    let wrong = |source| FramesError::Read { path: shown.clone(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        found.push(entry.map_err(wrong)?.path());
    }
    found.retain(|path| is_picture(path));
    found.sort();
    if found.is_empty() { Err(FramesError::NoPictures(shown)) } else { Ok(found) }
}

/// Watches `cameras` until `stop`, all at once, at their rates of analysis; each gives an even share of `wanted`,
/// spread over the time. A camera that fails is tried again as in service, and `tell` hears why.
pub fn from_cameras(
    cameras: &[Arc<Camera>],
    wanted: usize,
    input: &InputSpec,
    descriptions: &Descriptions,
    clock: &Arc<dyn Clock>,
    stop: &Shutdown,
    tell: &(dyn Fn(&str) + Sync),
) -> Samples {
    let share = |at: usize| wanted / cameras.len() + usize::from(at < wanted % cameras.len());
    let mut samples = Samples::default();
    std::thread::scope(|scope| {
        let watch = |(at, camera): (usize, &Arc<Camera>)| {
            let camera = Arc::clone(camera);
            let watch = Watch {
                masks: Masks::new(camera.masks.values().cloned().collect()),
                descriptions,
                clock,
                stop,
                lens: Lens::new(input),
                spread: Spread::new(share(at)),
                pacer: Pacer::new(camera.fps),
                line: TimeLine::new(),
                backoff: Backoff::default(),
                camera,
            };
            scope.spawn(move || watch.run(tell))
        };
        let threads: Vec<_> = cameras.iter().enumerate().map(watch).collect();
        for (camera, thread) in cameras.iter().zip(threads) {
            // A panic of one camera costs its samples only.
            let pixels = thread.join().unwrap_or_default();
            samples.sources.push((camera.id.to_string(), pixels.len()));
            samples.pixels.extend(pixels);
        }
    });
    samples
}

/// One camera being watched.
struct Watch<'a> {
    camera: Arc<Camera>,
    masks: Masks,
    descriptions: &'a Descriptions,
    clock: &'a Arc<dyn Clock>,
    stop: &'a Shutdown,
    lens: Lens,
    spread: Spread<Vec<u8>>,
    pacer: Pacer,
    line: TimeLine,
    backoff: Backoff,
}

impl Watch<'_> {
    fn run(mut self, tell: &dyn Fn(&str)) -> Vec<Vec<u8>> {
        let mut random = Random::from_system();
        while !self.stop.is_requested() {
            let Err(fault) = self.connect() else { break };
            tell(&format!("{}: {fault}", self.camera.id));
            let wait = self.backoff.failed(fault.class, random.unit());
            self.clock.pause(wait, self.stop);
            self.line.reconnected();
        }
        self.spread.finish()
    }

    /// One connection; `Ok` when asked to stop.
    fn connect(&mut self) -> Result<(), Fault> {
        let receiver = Receiver::open(&source(&self.camera), self.descriptions, Arc::clone(self.clock))?;
        let end = self.follow(&receiver);
        receiver.close();
        end
    }

    fn follow(&mut self, receiver: &Receiver) -> Result<(), Fault> {
        let mut decoder: Option<Box<dyn Decoder>> = None;
        let mut watchdog = Watchdog::new(self.clock.now());
        while !self.stop.is_requested() {
            match receiver.items().recv_timeout(TICK) {
                Ok(Item::Packet(packet)) => self.on_packet(&packet, &mut decoder, &mut watchdog)?,
                Ok(Item::Fault(fault)) => return Err(fault),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(receiver.fault(FaultClass::Ended)),
            }
            if let Some(class) = watchdog.check(self.clock.now()) {
                return Err(receiver.fault(class));
            }
        }
        Ok(())
    }

    fn on_packet(
        &mut self,
        packet: &Packet,
        decoder: &mut Option<Box<dyn Decoder>>,
        watchdog: &mut Watchdog,
    ) -> Result<(), Fault> {
        let now = self.clock.now();
        watchdog.packet(now, packet.keyframe);
        let moment = self.line.place(packet, self.clock.wall(), true).moment;
        let decoder = match decoder {
            Some(decoder) => decoder,
            None if packet.keyframe => {
                decoder.insert(open_decoder(self.descriptions, &packet.stream, &self.masks)?)
            }
            None => return Ok(()),
        };
        decoder.push(packet, moment)?;
        watchdog.pushed(now);
        while let Ok(frame) = decoder.frames().try_recv() {
            watchdog.frame();
            self.backoff.frame(now);
            if self.pacer.take(frame.moment().pts) {
                self.spread.offer(|| self.lens.take(&frame));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_spread_is_even_bounded_and_complete(wanted in 1usize..20, length in 0usize..500) {
            let mut spread = Spread::new(wanted);
            for at in 0..length {
                spread.offer(|| Some(at));
                prop_assert!(spread.kept.len() < 2 * wanted);
            }
            let taken = spread.finish();
            prop_assert_eq!(taken.len(), wanted.min(length));
            prop_assert!(taken.windows(2).all(|w| w[0] < w[1]));
            // No hole is longer than four even steps (halving and the last choice double one each).
            let step = length.div_ceil(wanted.min(length).max(1));
            prop_assert!(taken.windows(2).all(|w| w[1] - w[0] <= 4 * step), "{:?}", taken);
            prop_assert!(taken.first().is_none_or(|first| *first == 0));
        }
    }

    #[test]
    fn folders_give_their_pictures_and_others_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.JPG"), "").unwrap();
        std::fs::write(folder.path().join("a.png"), "").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let names: Vec<_> =
            pictures(folder.path()).unwrap().into_iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.png", "b.JPG"]);
        std::fs::remove_file(folder.path().join("b.JPG")).unwrap();
        std::fs::remove_file(folder.path().join("a.png")).unwrap();
        assert!(pictures(folder.path()).unwrap_err().to_string().contains("no .jpg"));
    }
}
