//! Samples from the live cameras of a configuration.
//!
//! Owns: the connections while cameras are watched, each camera's share, and why a camera gave nothing. Does not know:
//! how long to watch, who is told. The decoder paints privacy masks before this module sees a frame.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use vedette_core::{CameraId, Clock, Frame, Mono, Shutdown};
use vedette_ingest::{
    Backoff, Decoder, Descriptions, Fault, FaultClass, Item, Masks, Packet, Receiver, SourceConfig, TimeLine,
    Watchdog,
};
use vedette_models::InputSpec;

use super::{Lens, Spread, evenly};
use crate::camera::{KEYFRAME_WITHIN, decoder_config, source};
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
    source: SourceConfig,
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

impl Link {
    fn new(now: Mono) -> Self {
        Self { decoder: None, watchdog: Watchdog::new(now), waiting_since: None }
    }

    fn is_starved(&self, now: Mono) -> bool {
        self.waiting_since.is_some_and(|since| now.since(since) >= KEYFRAME_WITHIN)
    }
}

impl<'a> Watch<'a> {
    fn new(at: usize, camera: &Arc<Camera>, deps: &'a Watching<'a>) -> Self {
        Self {
            at,
            camera: Arc::clone(camera),
            source: source(camera),
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
        let receiver = Receiver::open(&self.source, self.deps.descriptions, Arc::clone(clock))?;
        let mut link = Link::new(clock.now());
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
            if link.is_starved(now) {
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
                let config = decoder_config(&self.camera);
                none.insert(config.open(self.deps.descriptions, &packet.stream, &self.masks)?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use vedette_core::{SimulatedClock, SystemClock};
    use vedette_ingest::{Codec, StreamInfo};
    use vedette_models::Manifest;

    use crate::config;

    /// Receives without a network, as an integrator's description may.
    const WHITE: &str = "about = 'a white picture'\nkind = 'receive'\ncodec = 'h264'\nrequires = []\n\
        launch = \"\"\"videotestsrc is-live=true pattern=white ! video/x-raw,width=320,height=240,framerate=25/1 \
        ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 threads=1 \
        ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au \
        ! appsink name=packets\"\"\"\n";
    const CAMERAS: &str = "[camera.plain]\nurl = 'rtsp://127.0.0.1:1/a'\npipeline = 'white'\n\
        [camera.masked]\nurl = 'rtsp://127.0.0.1:1/b'\npipeline = 'white'\n\
        [camera.masked.mask]\nhouse = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]\n\
        [camera.off]\nurl = 'rtsp://127.0.0.1:1/c'\n";

    fn cameras() -> Vec<Arc<Camera>> {
        let config = config::from_text("cameras.toml", CAMERAS, &config::Options::default()).unwrap();
        config.cameras.values().cloned().collect()
    }

    fn descriptions() -> Descriptions {
        vedette_ingest::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("white.toml"), WHITE).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/descriptions");
        Descriptions::load(&[folder.path().to_owned(), shipped]).unwrap()
    }

    /// 64x64: of a picture of 320x240 these are 48 rows, and eight of padding above and below.
    fn input() -> InputSpec {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/manifests");
        let manifest = Manifest::load(&[manifests], "nanodet-g-416").unwrap();
        InputSpec { width: 64, height: 64, ..manifest.input().clone() }
    }

    #[test]
    fn a_masked_part_is_black_in_every_sample_and_a_camera_that_is_off_is_named() {
        let (cameras, stop) = (cameras(), Shutdown::new());
        let gallery = Gallery::new(10, cameras.len());
        let heard = Mutex::new(Vec::new());
        // All three have been heard of: enough.
        let tell = |camera: &CameraId, news: News<'_>| {
            let mut heard = heard.lock().unwrap();
            heard.push(format!("{camera}: {news:?}"));
            if heard.len() == 3 {
                stop.request();
            }
        };
        let watching = Watching {
            gallery: &gallery,
            input: &input(),
            descriptions: &descriptions(),
            clock: Arc::new(SystemClock::new()),
            stop: &stop,
            tell: &tell,
        };
        let watched = from_cameras(&cameras, &watching);
        let ids: Vec<_> = watched.iter().map(|w| w.camera.as_str()).collect();
        assert_eq!(ids, ["masked", "off", "plain"]);
        for (of, left) in [(0, 0..=2), (2, 250..=255)] {
            assert!(!watched[of].pixels.is_empty() && watched[of].fault.is_none(), "{}", ids[of]);
            for sample in &watched[of].pixels {
                assert_eq!(sample.len(), 64 * 64 * 3);
                for row in sample.chunks(64 * 3).skip(9).take(46) {
                    // The column in the middle is of both halves.
                    assert!(row[..31 * 3].iter().all(|v| left.contains(v)), "{}: {row:?}", ids[of]);
                    assert!(row[33 * 3..].iter().all(|v| *v >= 250), "{}: {row:?}", ids[of]);
                }
            }
        }
        let fault = watched[1].fault.as_ref().unwrap();
        assert!(watched[1].pixels.is_empty() && fault.class == FaultClass::Refused, "{fault}");
        let heard = heard.into_inner().unwrap();
        assert!(heard.iter().any(|line| line == "plain: Live(320, 240)"), "{heard:?}");
        assert_eq!(heard.iter().filter(|line| line.starts_with("off: Fault")).count(), 1, "{heard:?}");
    }

    #[test]
    fn packets_without_a_keyframe_are_a_fault_after_their_time() {
        let (gallery, stop, clock) = (Gallery::new(1, 1), Shutdown::new(), simulated());
        let (cameras, input, descriptions) = (cameras(), input(), descriptions());
        let watching = Watching {
            gallery: &gallery,
            input: &input,
            descriptions: &descriptions,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            stop: &stop,
            tell: &|_, _| (),
        };
        let mut watch = Watch::new(0, &cameras[0], &watching);
        let mut link = Link::new(clock.now());
        let packet = Packet {
            data: vec![0, 0, 0, 1, 0x41].into(),
            stream_pts: Some(0),
            reference: None,
            arrival: Mono(Duration::ZERO),
            keyframe: false,
            droppable: false,
            stream: Arc::new(StreamInfo {
                codec: Codec::H264,
                profile: None,
                width: 320,
                height: 240,
                fps: None,
                caps: "video/x-h264".to_owned(),
            }),
        };
        clock.advance(KEYFRAME_WITHIN);
        assert!(!link.is_starved(clock.now()), "nothing came yet");
        for second in 0..KEYFRAME_WITHIN.as_secs() {
            watch.on_packet(&packet, &mut link).unwrap();
            assert!(!link.is_starved(clock.now()), "{second} s");
            clock.advance(Duration::from_secs(1));
        }
        assert!(link.is_starved(clock.now()) && no_keyframe().to_string().contains("GOP"));
    }

    fn simulated() -> Arc<SimulatedClock> {
        Arc::new(SimulatedClock::new(jiff::Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn shares_are_even_and_what_one_is_short_of_the_others_give() {
        struct Case(&'static [usize], usize, &'static [usize]);
        for Case(held, wanted, expected) in [
            Case(&[9, 9], 6, &[3, 3]),
            Case(&[9, 9, 9], 7, &[3, 2, 2]),
            Case(&[0, 9], 6, &[0, 6]),
            Case(&[1, 9, 2], 8, &[1, 5, 2]),
            Case(&[1, 2], 9, &[1, 2]),
            Case(&[], 3, &[]),
        ] {
            assert_eq!(shares(held, wanted), expected, "{held:?} {wanted}");
        }
    }

    #[test]
    fn the_gallery_holds_twice_the_wanted_at_most_and_knows_how_it_stands() {
        let gallery = Gallery::new(10, 3);
        let held = || gallery.shelves().iter().filter_map(|s| s.spread.as_ref()).map(|s| s.kept.len()).sum();
        for (live, at) in [0, 2].into_iter().enumerate() {
            for _ in 0..100 {
                gallery.offer(at, || Some(vec![0]));
                let held: usize = held();
                assert!(held < 20, "{held}");
            }
            let expected = Progress { live: live + 1, frames: 100 * (live + 1), hopeless: false };
            assert_eq!(gallery.progress(), expected);
        }
        let fault = |class| Fault::new(class, "x", "y");
        let (refused, login) = (fault(FaultClass::Refused), fault(FaultClass::Auth));
        assert!(gallery.fail(1, &refused) && !gallery.fail(1, &refused) && gallery.fail(1, &login));
        gallery.leave(1, refused.clone());
        gallery.leave(0, refused.clone());
        let cameras = cameras();
        let given: Vec<_> = gallery.finish(&cameras).into_iter().map(|w| (w.pixels.len(), w.fault)).collect();
        assert_eq!(given, [(5, None), (0, Some(login.clone())), (5, None)]);

        let gallery = Gallery::new(10, 2);
        assert!(!gallery.progress().hopeless, "nothing is known yet");
        gallery.fail(0, &login);
        gallery.fail(1, &refused);
        assert!(!gallery.progress().hopeless, "a refused connection passes");
        gallery.fail(1, &login);
        assert!(gallery.progress().hopeless);
        gallery.offer(1, || Some(vec![0]));
        assert!(!gallery.progress().hopeless && gallery.fail(1, &login), "failing anew is news");
    }
}
