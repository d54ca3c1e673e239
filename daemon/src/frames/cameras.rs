//! Samples from the live cameras of a configuration.
//!
//! Owns: the connections while cameras are watched, each camera's share, and why a camera gave nothing. Does not know:
//! how long to watch, who is told. The decoder paints privacy masks before this module sees a frame.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use vedette_core::{CameraId, Clock, Frame, Mono, Shutdown};
use vedette_ingest::{
    Backoff, Decoder, Descriptions, Fault, FaultClass, Item, Masks, Packet, Receiver, TimeLine, Watchdog,
    open_decoder,
};
use vedette_models::InputSpec;

use super::{Lens, Spread, evenly};
use crate::camera::{KEYFRAME_WITHIN, source};
use crate::config::Camera;
use crate::pacer::Pacer;
use crate::random::Random;

/// How often a camera's thread looks whether it shall stop.
const TICK: Duration = Duration::from_millis(200);

/// What a person who waits wants to hear of a camera.
#[derive(Debug)]
pub enum News<'a> {
    /// Frames come: the first ones, or again after a fault. Width and height of the stream, in pixels.
    Live(u32, u32),
    /// It fails, otherwise than before; it is tried again as in service.
    Fault(&'a Fault),
}

/// How far the watching is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Cameras that have given a frame.
    pub live: usize,
    /// Frames that were looked at, of all cameras.
    pub frames: usize,
    /// No camera has given a frame, and each has a fault that stays until somebody changes something.
    pub hopeless: bool,
}

/// What one camera gave.
#[derive(Debug)]
pub struct Watched {
    /// Which.
    pub camera: CameraId,
    /// Its samples: `[height, width, 3]` bytes each, letterboxed, in the model's colours.
    pub pixels: Vec<Vec<u8>>,
    /// Its last fault since frames came; always there for a camera without any frame.
    pub fault: Option<Fault>,
}

/// The samples of all cameras while they are watched. A camera that gives nothing leaves its share to the others.
#[derive(Debug)]
pub struct Gallery {
    wanted: usize,
    shelves: Mutex<Vec<Shelf>>,
}

/// One camera's.
#[derive(Debug, Default)]
struct Shelf {
    /// None before its first frame.
    spread: Option<Spread<Vec<u8>>>,
    fault: Option<Fault>,
    frames: usize,
}

impl Gallery {
    /// For `wanted` samples of so many cameras.
    pub fn new(wanted: usize, cameras: usize) -> Self {
        Self { wanted, shelves: Mutex::new((0..cameras).map(|_| Shelf::default()).collect()) }
    }

    fn shelves(&self) -> MutexGuard<'_, Vec<Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let shelves = self.shelves();
        let lost = |shelf: &Shelf| shelf.fault.as_ref().is_some_and(Fault::is_configuration);
        Progress {
            live: shelves.iter().filter(|shelf| shelf.spread.is_some()).count(),
            frames: shelves.iter().map(|shelf| shelf.frames).sum(),
            hopeless: shelves.iter().all(|shelf| shelf.spread.is_none() && lost(shelf)),
        }
    }

    /// A frame of camera `at`; its sample is made only where it is kept. With every camera that comes to life the
    /// shares of all become smaller.
    fn offer(&self, at: usize, make: impl FnOnce() -> Option<Vec<u8>>) {
        let mut shelves = self.shelves();
        let live = shelves.iter().filter(|shelf| shelf.spread.is_some()).count();
        let share = self.wanted.div_ceil(live + 1);
        if shelves.get(at).is_some_and(|shelf| shelf.spread.is_none()) {
            shelves.iter_mut().filter_map(|shelf| shelf.spread.as_mut()).for_each(|s| s.lower(share));
        }
        let Some(shelf) = shelves.get_mut(at) else { return };
        (shelf.fault, shelf.frames) = (None, shelf.frames + 1);
        shelf.spread.get_or_insert_with(|| Spread::new(share)).offer(make);
    }

    /// Camera `at` fails. True where that is news: it did not fail in this way before its last frame.
    fn fail(&self, at: usize, fault: &Fault) -> bool {
        let mut shelves = self.shelves();
        let Some(shelf) = shelves.get_mut(at) else { return false };
        let before = shelf.fault.replace(fault.clone());
        before.is_none_or(|before| before.class != fault.class)
    }

    /// Camera `at` is not watched any more; what is known to be wrong with it is not forgotten for `fault`.
    fn leave(&self, at: usize, fault: Fault) {
        if let Some(shelf) = self.shelves().get_mut(at).filter(|shelf| shelf.spread.is_none()) {
            shelf.fault.get_or_insert(fault);
        }
    }

    /// Even shares; what one camera is short of, the others give of what they hold beyond theirs.
    fn finish(&self, cameras: &[Arc<Camera>]) -> Vec<Watched> {
        let shelves = std::mem::take(&mut *self.shelves());
        let held: Vec<usize> =
            shelves.iter().map(|s| s.spread.as_ref().map_or(0, |s| s.kept.len())).collect();
        let of = |((shelf, camera), share): ((Shelf, &Arc<Camera>), usize)| Watched {
            camera: camera.id.clone(),
            pixels: evenly(shelf.spread.map(|spread| spread.kept).unwrap_or_default(), share),
            fault: shelf.fault,
        };
        shelves.into_iter().zip(cameras).zip(shares(&held, self.wanted)).map(of).collect()
    }
}

/// How many of what each holds make `wanted` together, as evenly as can be; all, where that is less.
fn shares(held: &[usize], wanted: usize) -> Vec<usize> {
    let mut shares = vec![0; held.len()];
    let mut left = wanted.min(held.iter().sum());
    while left > 0 {
        for (share, held) in shares.iter_mut().zip(held) {
            if left > 0 && *share < *held {
                (*share, left) = (*share + 1, left - 1);
            }
        }
    }
    shares
}

/// What watching needs beside the cameras.
pub struct Watching<'a> {
    /// Where samples go.
    pub gallery: &'a Gallery,
    /// Their size and colours.
    pub input: &'a InputSpec,
    /// The ingest pipelines there are.
    pub descriptions: &'a Descriptions,
    /// Drives supervision.
    pub clock: Arc<dyn Clock>,
    /// Ends it.
    pub stop: &'a Shutdown,
    /// Hears of each camera from its thread.
    pub tell: &'a (dyn Fn(&CameraId, News<'_>) + Sync),
}

/// Watches `cameras` until `stop`, all at once, at their rates of analysis. A camera that fails is tried again as in
/// service. What each gave, in their order, spread over the time.
pub fn from_cameras(cameras: &[Arc<Camera>], watching: &Watching<'_>) -> Vec<Watched> {
    let gallery = watching.gallery;
    std::thread::scope(|scope| {
        let watch = |(at, camera): (usize, &Arc<Camera>)| {
            let watch = Watch::new(at, camera, watching);
            let thread = std::thread::Builder::new().name(format!("cam-{}", camera.id));
            thread.spawn_scoped(scope, move || watch.run())
        };
        let threads: Vec<_> = cameras.iter().enumerate().map(watch).collect();
        for (at, thread) in threads.into_iter().enumerate() {
            let wrong = match thread.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => "watching it failed inside of the program".to_owned(),
                Err(error) => format!("the system gives no thread to watch it: {error}"),
            };
            gallery.leave(at, Fault::new(FaultClass::Ended, wrong, "watch the others, and report this"));
        }
    });
    gallery.finish(cameras)
}

/// One camera being watched.
struct Watch<'a> {
    at: usize,
    camera: Arc<Camera>,
    masks: Masks,
    deps: &'a Watching<'a>,
    lens: Lens,
    pacer: Pacer,
    line: TimeLine,
    backoff: Backoff,
    /// Said to be live, and not since that it fails.
    said_live: bool,
}

/// What lives as long as one connection.
struct Link {
    decoder: Option<Box<dyn Decoder>>,
    watchdog: Watchdog,
    /// Since when packets come that no decoder can begin with.
    waiting_since: Option<Mono>,
}

impl<'a> Watch<'a> {
    fn new(at: usize, camera: &Arc<Camera>, deps: &'a Watching<'a>) -> Self {
        Self {
            at,
            camera: Arc::clone(camera),
            masks: Masks::new(camera.masks.values().cloned().collect()),
            deps,
            lens: Lens::new(deps.input),
            pacer: Pacer::new(camera.fps),
            line: TimeLine::new(),
            backoff: Backoff::default(),
            said_live: false,
        }
    }

    fn run(mut self) {
        let mut random = Random::from_system();
        while !self.deps.stop.is_requested() {
            let Err(fault) = self.connect() else { break };
            if self.deps.gallery.fail(self.at, &fault) {
                self.said_live = false;
                (self.deps.tell)(&self.camera.id, News::Fault(&fault));
            }
            let wait = self.backoff.failed(fault.class, random.unit());
            self.deps.clock.pause(wait, self.deps.stop);
            self.line.reconnected();
        }
    }

    /// One connection; `Ok` when asked to stop.
    fn connect(&mut self) -> Result<(), Fault> {
        let clock = &self.deps.clock;
        let receiver = Receiver::open(&source(&self.camera), self.deps.descriptions, Arc::clone(clock))?;
        let mut link = Link { decoder: None, watchdog: Watchdog::new(clock.now()), waiting_since: None };
        let end = self.follow(&receiver, &mut link);
        if end.is_ok() {
            self.deps.gallery.leave(self.at, unanswered(&receiver, &link));
        }
        receiver.close();
        end
    }

    fn follow(&mut self, receiver: &Receiver, link: &mut Link) -> Result<(), Fault> {
        while !self.deps.stop.is_requested() {
            match receiver.items().recv_timeout(TICK) {
                Ok(Item::Packet(packet)) => self.on_packet(&packet, link)?,
                Ok(Item::Fault(fault)) => return Err(fault),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(receiver.fault(FaultClass::Ended)),
            }
            let now = self.deps.clock.now();
            if link.waiting_since.is_some_and(|since| now.since(since) >= KEYFRAME_WITHIN) {
                return Err(no_keyframe());
            }
            if let Some(class) = link.watchdog.check(now) {
                return Err(receiver.fault(class));
            }
        }
        Ok(())
    }

    fn on_packet(&mut self, packet: &Packet, link: &mut Link) -> Result<(), Fault> {
        let now = self.deps.clock.now();
        link.watchdog.packet(now, packet.keyframe);
        let moment = self.line.place(packet, self.deps.clock.wall(), true).moment;
        let decoder = match &mut link.decoder {
            Some(decoder) => decoder,
            none if packet.keyframe => {
                link.waiting_since = None;
                none.insert(open_decoder(self.deps.descriptions, &packet.stream, &self.masks)?)
            }
            None => {
                link.waiting_since.get_or_insert(now);
                return Ok(());
            }
        };
        decoder.push(packet, moment)?;
        link.watchdog.pushed(now);
        while let Ok(frame) = decoder.frames().try_recv() {
            link.watchdog.frame();
            self.backoff.frame(now);
            self.on_frame(&frame);
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: &Frame) {
        if !self.pacer.take(frame.moment().pts) {
            return;
        }
        self.deps.gallery.offer(self.at, || self.lens.take(frame));
        if !std::mem::replace(&mut self.said_live, true) {
            (self.deps.tell)(&self.camera.id, News::Live(frame.width(), frame.height()));
        }
    }
}

fn no_keyframe() -> Fault {
    Fault::new(
        FaultClass::Undecodable,
        "packets come, but no keyframe to begin with",
        "set a shorter keyframe interval (GOP) in the camera, 2 s or so",
    )
}

/// What is to say of a camera that had no time to give a frame.
fn unanswered(receiver: &Receiver, link: &Link) -> Fault {
    if link.waiting_since.is_some() { no_keyframe() } else { receiver.fault(FaultClass::Timeout) }
}
