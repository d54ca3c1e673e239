//! The samples that a model is calibrated with, from all the sources of a command line.
//!
//! Owns: how long cameras are watched, and what a person sees and reads meanwhile. Does not know: how a frame becomes
//! a sample (`frames`), what is done with them.

use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use vedette_core::{CameraId, Clock, Shutdown, SystemClock};
use vedette_ingest::Descriptions;
use vedette_models::InputSpec;

use super::Arguments;
use super::interrupt::Interrupt;
use crate::cli::{Global, note, progress};
use crate::config;
use crate::exit::Failure;
use crate::frames::{Gallery, News, Progress, Watched, Watching, from_cameras, from_path};
use crate::words::{base_name, count};

/// Where no camera has given a frame for so long, none will: connecting and waiting for a keyframe have 45 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the bar moves.
const TICK: Duration = Duration::from_millis(500);

type Pixels = Vec<Vec<u8>>;

/// Samples of all sources, in memory.
#[derive(Default)]
pub(super) struct Samples {
    /// `[height, width, 3]` bytes each, fitted to the input, in the model's colours.
    pub(super) pixels: Pixels,
    /// How many came from where: folders and files by their last name, cameras by theirs.
    pub(super) sources: Vec<(String, usize)>,
}

impl Samples {
    fn add(&mut self, source: String, pixels: Pixels) {
        if !pixels.is_empty() {
            self.sources.push((source, pixels.len()));
            self.pixels.extend(pixels);
        }
    }
}

/// Asks all sources.
pub(super) fn collect(
    global: &Global,
    arguments: &Arguments,
    input: &InputSpec,
    interrupt: &Interrupt,
) -> Result<Samples, Failure> {
    let share = global.share()?;
    vedette_ingest::init().map_err(Failure::unavailable)?;
    let descriptions = Descriptions::load(&[share.descriptions()]).map_err(Failure::failed)?;
    let cameras = match arguments.from_cameras {
        Some(length) => Some((length, cameras(global)?)),
        None => None,
    };
    let mut samples = Samples::default();
    let sources = arguments.frames.len() + usize::from(cameras.is_some());
    for (at, path) in arguments.frames.iter().enumerate() {
        let wanted = arguments.count / sources + usize::from(at < arguments.count % sources);
        let spinner = progress::spinner(&format!("reading {}", path.display()));
        let found = from_path(path, wanted, input, &descriptions).map_err(Failure::failed)?;
        drop(spinner);
        note(format!("{}: {}", path.display(), count(found.len(), "frame")));
        samples.add(base_name(path), found);
    }
    if let Some((length, cameras)) = cameras {
        let gallery = Gallery::new((arguments.count / sources).max(1), cameras.len());
        let bar = progress::countdown(length, "connecting", shown(length));
        let watch = Watch { length, gallery, cameras, bar, stop: Shutdown::new() };
        let watched = interrupt.enough(&watch.stop, || watch.run(input, &descriptions));
        let missing = watch.tell(watched, &mut samples);
        if samples.pixels.is_empty() {
            return Err(Failure::failed(format!(
                "no camera gave a frame: there is nothing to calibrate with\n{}",
                missing.join("\n")
            )));
        }
        missing.iter().for_each(note);
    }
    match samples.pixels.len() {
        0 => Err(Failure::failed("no frame came from any source: there is nothing to calibrate with")),
        few if few < arguments.count => {
            note(format!(
                "{} of {} wanted: more of them make better ranges",
                count(few, "frame"),
                arguments.count
            ));
            Ok(samples)
        }
        _ => Ok(samples),
    }
}

fn cameras(global: &Global) -> Result<Vec<Arc<config::Camera>>, Failure> {
    let cameras: Vec<_> = global.load()?.cameras.values().cloned().collect();
    if cameras.is_empty() {
        let remedy = "the configuration has no camera to watch; give --frames, or --config DIR";
        return Err(Failure::config(remedy));
    }
    Ok(cameras)
}

/// Cameras being watched.
struct Watch {
    length: Duration,
    gallery: Gallery,
    cameras: Vec<Arc<config::Camera>>,
    bar: ProgressBar,
    /// Pulled when there is enough.
    stop: Shutdown,
}

impl Watch {
    fn run(&self, input: &InputSpec, descriptions: &Descriptions) -> Vec<Watched> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let tell = |camera: &CameraId, news: News<'_>| {
            self.bar.suspend(|| match news {
                News::Live(width, height) => note(format!("{camera}: live, {width}x{height}")),
                News::Fault(fault) => note(format!("{camera}: {fault}")),
            });
        };
        let watching = Watching {
            gallery: &self.gallery,
            input,
            descriptions,
            clock: Arc::clone(&clock),
            stop: &self.stop,
            tell: &tell,
        };
        std::thread::scope(|scope| {
            scope.spawn(|| self.wait(&*clock));
            from_cameras(&self.cameras, &watching)
        })
    }

    /// Pulls `stop` when the time is over or nothing will come; moves the bar until then.
    fn wait(&self, clock: &dyn Clock) {
        let began = clock.now();
        loop {
            let (elapsed, progress) = (clock.now().since(began), self.gallery.progress());
            self.show(elapsed, progress);
            if is_over(elapsed, self.length, progress) || clock.pause(TICK, &self.stop) {
                break;
            }
        }
        self.bar.finish_and_clear();
        self.stop.request();
    }

    fn show(&self, elapsed: Duration, progress: Progress) {
        let (cameras, frames) = (count(self.cameras.len(), "camera"), count(progress.frames, "frame"));
        let left = shown(self.length.saturating_sub(elapsed));
        let message = format!("{} of {cameras} live, {frames} (^C: enough)", progress.live);
        self.bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        self.bar.set_prefix(left);
        self.bar.set_message(message);
    }

    /// Says what each camera gave, and keeps it. A line for each camera that gave nothing.
    fn tell(&self, watched: Vec<Watched>, samples: &mut Samples) -> Vec<String> {
        let mut missing = Vec::new();
        for Watched { camera, pixels: found, fault } in watched {
            match fault {
                Some(fault) if found.is_empty() => missing.push(format!("{camera}: no frames; {fault}")),
                _ => note(format!("{camera}: {}", count(found.len(), "frame"))),
            }
            samples.add(camera.to_string(), found);
        }
        missing
    }
}

fn is_over(elapsed: Duration, length: Duration, progress: Progress) -> bool {
    elapsed >= length || progress.hopeless || (progress.live == 0 && elapsed >= PATIENCE)
}

/// `29 m 12 s`, `9 s`.
fn shown(left: Duration) -> String {
    let whole = left.as_millis().div_ceil(1000);
    match (whole / 60, whole % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} m {seconds:02} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watching_ends_when_its_time_is_over_or_nothing_will_come() {
        let of = |live, hopeless| Progress { live, frames: 9 * live, hopeless };
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        struct Case(Duration, Progress, bool);
        for Case(elapsed, progress, over) in [
            Case(second, of(0, false), false),
            Case(second, of(0, true), true),
            Case(PATIENCE - second, of(0, false), false),
            Case(PATIENCE, of(0, false), true),
            Case(PATIENCE, of(1, false), false),
            Case(hour - second, of(1, false), false),
            Case(hour, of(1, false), true),
        ] {
            assert_eq!(is_over(elapsed, hour, progress), over, "{elapsed:?} {progress:?}");
        }
        assert_eq!((shown(second * 9), shown(hour - second)), ("9 s".to_owned(), "59 m 59 s".to_owned()));
    }
}
