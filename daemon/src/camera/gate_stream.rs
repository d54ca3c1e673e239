//! A small stream of a camera that shows whether something moves, where the analysed one cannot be looked at cheaply.
//!
//! Owns: the thread `gate-<id>`, its supervision, and what it and the camera's thread tell each other. Does not know:
//! what motion leads to, which pictures are compared (`sampler`). It is received only while the camera needs it; where
//! it fails the camera is told at once, and does without.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, Sender, bounded, select};
use vedette_analysis::gate::Verdict;
use vedette_core::{BBox, Clock, Mono, Polygon, Shutdown};
use vedette_ingest::{
    Backoff, Decoder, DecoderConfig, Descriptions, Fault, FaultClass, Item, Masks, Packet, Receiver,
    SourceConfig, TimeLine, Watchdog,
};

use super::sampler::Sampler;
use super::{CameraDeps, KEYFRAME_WITHIN, TICK, decoder_config, inbox_of, source};
use crate::config;
use crate::random::Random;

/// Without a comparison for so long it shows nothing: two keyframes that are as far apart as they may be.
const BLIND_AFTER: Duration = Duration::from_secs(5);
/// Shapes of two streams that differ by more are not of one picture.
const SHAPE: f32 = 0.02;

/// How a camera's other stream is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// Not received: nobody needs it.
    #[default]
    Closed,
    /// Being opened, or its noise is not known yet.
    Learning,
    /// What moves is told.
    Sees,
    /// It cannot be looked at, for this reason.
    Failed(String),
}

/// What the two threads tell each other.
#[derive(Debug, Default)]
struct Board {
    standing: Standing,
    moved: bool,
    wanted: bool,
    /// Width over height of the analysed stream's picture.
    shape: Option<f32>,
    places: Vec<BBox>,
}

/// The camera's end: never blocks.
pub(super) struct GateView {
    board: Arc<Mutex<Board>>,
    news: Inbox<()>,
}

impl GateView {
    /// Speaks when there is something to take.
    pub(super) fn news(&self) -> &Inbox<()> {
        &self.news
    }

    /// How the stream is, and whether something moved since this was asked last.
    pub(super) fn take(&self) -> (Standing, bool) {
        let mut board = lock(&self.board);
        (board.standing.clone(), std::mem::take(&mut board.moved))
    }

    /// Whether the stream is needed, and where things stand that need not be looked at.
    pub(super) fn ask(&self, wanted: bool, places: &[BBox]) {
        let mut board = lock(&self.board);
        board.wanted = wanted;
        board.places.clear();
        board.places.extend_from_slice(places);
    }

    /// What shape the analysed picture has: masks and places are those of one picture.
    pub(super) fn shape(&self, shape: Option<f32>) {
        lock(&self.board).shape = shape;
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stream's thread.
pub(super) struct GateStream {
    stop: Shutdown,
    thread: JoinHandle<()>,
}

impl GateStream {
    /// Starts the thread for the stream at `url`.
    ///
    /// # Errors
    /// A thread that the system refuses.
    pub(super) fn start(
        url: &str,
        config: &config::Camera,
        deps: &CameraDeps,
    ) -> std::io::Result<(Self, GateView)> {
        let stop = Shutdown::new();
        let (bell, news) = bounded(1);
        let board = Arc::new(Mutex::new(Board::default()));
        let polygons: Vec<Polygon> = config.gate_masks.values().cloned().collect();
        let work = Work {
            source: SourceConfig { url: url.to_owned(), ..source(config) },
            // What the camera's decoder is set to may not be for this stream's codec.
            decoder: DecoderConfig { decoder: vedette_ingest::DecoderChoice::Auto, ..decoder_config(config) },
            masks: Masks::new(polygons.clone()),
            clock: Arc::clone(&deps.clock),
            descriptions: Arc::clone(&deps.descriptions),
            wall_ok: Arc::clone(&deps.wall_ok),
            board: Arc::clone(&board),
            bell,
            sampler: Sampler::new(polygons),
            line: TimeLine::default(),
            backoff: Backoff::default(),
            stopped: inbox_of(&stop),
        };
        let latch = stop.clone();
        let name = format!("gate-{}", config.id);
        let thread = std::thread::Builder::new().name(name).spawn(move || work.run(&latch))?;
        Ok((Self { stop, thread }, GateView { board, news }))
    }

    /// Asks it to stop.
    pub(super) fn request_stop(&self) {
        self.stop.request();
    }

    /// Whether it has stopped.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// A panic (a defect; the hook has logged where) is a fault like others: nobody else would begin the stream again.
fn guarded(work: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let what = "an internal error ended the gate's stream; please report the line before";
        Err(Fault::new(FaultClass::Read, what, "trying again"))
    })
}

/// Refuses a picture of another shape than the analysed one: it shows more or less of the scene, and masks may be
/// those of the other.
fn same_shape(analysed: Option<f32>, gate: Option<f32>) -> Result<(), Fault> {
    let told = |shape: Option<f32>| shape.map_or_else(|| "not told".to_owned(), |s| format!("{s:.2}:1"));
    match (analysed, gate) {
        (Some(a), Some(b)) if (b / a - 1.0).abs() <= SHAPE => Ok(()),
        _ => Err(Fault::new(
            FaultClass::Codec,
            format!("its picture ({}) and that of url ({}) are not of one shape", told(gate), told(analysed)),
            "choose two sizes of one shape in the camera",
        )),
    }
}

struct Work {
    source: SourceConfig,
    decoder: DecoderConfig,
    masks: Masks,
    clock: Arc<dyn Clock>,
    descriptions: Arc<Descriptions>,
    wall_ok: Arc<AtomicBool>,
    board: Arc<Mutex<Board>>,
    bell: Sender<()>,
    sampler: Sampler,
    line: TimeLine,
    backoff: Backoff,
    stopped: Inbox<()>,
}

/// What lives as long as one connection.
struct Link {
    decoder: Option<Box<dyn Decoder>>,
    watchdog: Watchdog,
    /// Of the last comparison; of the beginning before there is one.
    compared: Mono,
    compared_any: bool,
}

impl Work {
    fn run(mut self, stop: &Shutdown) {
        let (mut random, mut said) = (Random::from_system(), None);
        loop {
            let wait = if self.is_wanted() {
                match guarded(|| self.once(&mut said)) {
                    Ok(()) => Duration::ZERO,
                    Err(fault) => self.back_off(&fault, &mut random, &mut said),
                }
            } else {
                self.stand(Standing::Closed);
                TICK
            };
            if stop.wait_timeout(wait) {
                break;
            }
        }
    }

    fn back_off(&mut self, fault: &Fault, random: &mut Random, said: &mut Option<FaultClass>) -> Duration {
        self.stand(Standing::Failed(fault.to_string()));
        let wait = self.backoff.failed(fault.class, random.unit());
        if *said != Some(fault.class) {
            *said = Some(fault.class);
            log::warn!(
                camera = self.source.camera.as_str();
                "gate's stream: {fault}; next attempt in {:.1} s", wait.as_secs_f64()
            );
        }
        wait
    }

    fn is_wanted(&self) -> bool {
        lock(&self.board).wanted
    }

    /// Tells the camera how the stream is, where that is news.
    fn stand(&self, standing: Standing) {
        let mut board = lock(&self.board);
        if board.standing != standing {
            board.standing = standing;
            self.ring();
        }
    }

    /// A bell that has not been heard yet need not be rung again: what is heard then is the newest.
    fn ring(&self) {
        let _ = self.bell.try_send(());
    }

    /// One connection; `Ok` when asked to stop, or nobody needs it any more. `said` is the trouble that the log has
    /// last.
    fn once(&mut self, said: &mut Option<FaultClass>) -> Result<(), Fault> {
        // What was wrong stands until it is seen to be over.
        if said.is_none() {
            self.stand(Standing::Learning);
        }
        let receiver = Receiver::open(&self.source, &self.descriptions, Arc::clone(&self.clock))?;
        self.line.reconnected();
        self.sampler.interrupt();
        let now = self.clock.now();
        let mut link =
            Link { decoder: None, watchdog: Watchdog::new(now), compared: now, compared_any: false };
        let ended = self.follow(&receiver, &mut link, said);
        drop(link);
        receiver.close();
        ended
    }

    fn follow(
        &mut self,
        receiver: &Receiver,
        link: &mut Link,
        said: &mut Option<FaultClass>,
    ) -> Result<(), Fault> {
        while self.is_wanted() {
            select! {
                recv(receiver.items()) -> item => match item {
                    Ok(Item::Packet(packet)) => self.on_packet(link, &packet)?,
                    Ok(Item::Fault(fault)) => return Err(fault),
                    Err(_) => return Err(receiver.fault(FaultClass::Ended)),
                },
                recv(self.stopped) -> _ => return Ok(()),
                default(TICK) => {}
            }
            let now = self.clock.now();
            if let Some(class) = link.watchdog.check(now) {
                return Err(receiver.fault(class));
            }
            let unseen = now.since(link.compared);
            if unseen >= KEYFRAME_WITHIN {
                return Err(receiver.fault(FaultClass::Undecodable));
            }
            let sees = link.compared_any && unseen < BLIND_AFTER && self.sampler.is_taught();
            if sees && said.take().is_some() {
                log::info!(camera = self.source.camera.as_str(); "gate's stream: live");
            }
            if sees {
                self.stand(Standing::Sees);
            } else if said.is_none() {
                self.stand(Standing::Learning);
            }
        }
        Ok(())
    }

    fn on_packet(&mut self, link: &mut Link, packet: &Packet) -> Result<(), Fault> {
        let now = self.clock.now();
        link.watchdog.packet(now, packet.keyframe);
        let shape = lock(&self.board).shape;
        same_shape(shape, packet.stream.aspect())?;
        let wall = self.clock.wall();
        let wall = wall.checked_sub(now.since(packet.arrival)).unwrap_or(wall);
        let moment = self.line.place(packet, wall, self.wall_ok.load(Relaxed)).moment;
        let decoder = match &mut link.decoder {
            Some(decoder) => decoder,
            None if !packet.keyframe => return Ok(()),
            None => {
                let decoder = self.decoder.open(&self.descriptions, &packet.stream, &self.masks)?;
                link.decoder.insert(decoder)
            }
        };
        let Some(skip) = self.sampler.packet(packet, moment.pts, decoder.gives_keyframes_alone()) else {
            return Ok(());
        };
        link.watchdog.pushed(now);
        decoder.set_skip(skip);
        decoder.push(packet, moment)?;
        decoder.settle()?;
        while let Ok(frame) = decoder.frames().try_recv() {
            link.watchdog.frame();
            self.backoff.frame(now);
            let places = lock(&self.board).places.clone();
            let Some(verdict) = self.sampler.picture(&frame, &places) else { continue };
            (link.compared, link.compared_any) = (now, true);
            if verdict == Verdict::Moved {
                lock(&self.board).moved = true;
                self.ring();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_fault_after_which_it_goes_on() {
        let fault = guarded(|| panic!("a defect")).unwrap_err();
        assert!(!fault.is_configuration() && fault.message.contains("internal error"), "{fault}");
        assert_eq!(guarded(|| Ok(())), Ok(()));
    }

    #[test]
    fn pictures_of_other_shapes_are_not_looked_at() {
        assert_eq!(same_shape(Some(16.0 / 9.0), Some(320.0 / 180.0)), Ok(()));
        assert_eq!(same_shape(Some(16.0 / 9.0), Some(352.0 / 200.0)), Ok(()), "within 2 %");
        for (analysed, gate) in [(Some(1.78), Some(1.33)), (None, Some(1.78)), (Some(1.78), None)] {
            let fault = same_shape(analysed, gate).unwrap_err();
            assert!(fault.is_configuration() && fault.message.contains("shape"), "{fault}");
        }
    }

    #[test]
    fn motion_is_kept_until_it_is_heard() {
        let (bell, news) = bounded(1);
        let view = GateView { board: Arc::default(), news };
        lock(&view.board).moved = true;
        lock(&view.board).standing = Standing::Sees;
        // Both rings are one.
        assert!(bell.try_send(()).is_ok() && bell.try_send(()).is_err());
        assert_eq!(view.news().try_iter().count(), 1);
        assert_eq!(view.take(), (Standing::Sees, true));
        assert_eq!(view.take(), (Standing::Sees, false));
    }
}
