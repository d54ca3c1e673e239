//! The main stream of a camera whose substream is analysed: received, kept in memory, and decoded only for a picture.
//!
//! Owns: the thread `main-<id>` and its supervision. Does not know: incidents. Where it fails, pictures come from the
//! analysed stream, and events say that there is no clip.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, bounded, select};
use vedette_core::{Clock, Shutdown};
use vedette_ingest::{
    Backoff, Descriptions, Fault, FaultClass, Item, Receiver, SourceConfig, TimeLine, Watchdog,
};

use super::Recorder;
use crate::random::Random;

/// How often it is looked whether packets still come.
const TICK: Duration = Duration::from_secs(1);

/// A main stream that is received.
pub struct MainStream {
    stop: Shutdown,
    thread: JoinHandle<()>,
}

/// What receiving needs.
pub struct MainStreamDeps {
    /// Drives supervision.
    pub clock: Arc<dyn Clock>,
    /// The ingest pipelines there are.
    pub descriptions: Arc<Descriptions>,
    /// Whether the host's clock is synchronised.
    pub wall_ok: Arc<AtomicBool>,
}

impl MainStream {
    /// Starts the thread.
    ///
    /// # Errors
    /// A thread that the system refuses.
    pub fn start(
        source: SourceConfig,
        deps: MainStreamDeps,
        recorder: Arc<Recorder>,
    ) -> std::io::Result<Self> {
        let stop = Shutdown::new();
        let (tx, stopped) = bounded(1);
        stop.on_request(move || {
            let _ = tx.send(());
        });
        let name = format!("main-{}", source.camera);
        let latch = stop.clone();
        let work =
            Work { source, deps, recorder, line: TimeLine::default(), backoff: Backoff::default(), stopped };
        let thread = std::thread::Builder::new().name(name).spawn(move || work.run(&latch))?;
        Ok(Self { stop, thread })
    }

    /// Asks it to stop.
    pub fn request_stop(&self) {
        self.stop.request();
    }

    /// Whether it has stopped.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// A panic (a defect; the hook has logged where) is a fault like others: nobody else would begin the stream again.
fn guarded(work: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let what = "an internal error ended the main stream; please report the line before";
        Err(Fault::new(FaultClass::Read, what, "trying again"))
    })
}

struct Work {
    source: SourceConfig,
    deps: MainStreamDeps,
    recorder: Arc<Recorder>,
    line: TimeLine,
    backoff: Backoff,
    stopped: Inbox<()>,
}

impl Work {
    fn run(mut self, stop: &Shutdown) {
        let (mut random, mut said) = (Random::from_system(), None);
        while let Err(fault) = guarded(|| self.once(&mut said)) {
            self.recorder.main_cut(Some(fault.to_string()));
            let wait = self.backoff.failed(fault.class, random.unit());
            if said != Some(fault.class) {
                said = Some(fault.class);
                log::warn!(
                    camera = self.source.camera.as_str();
                    "main stream: {fault}; next attempt in {:.1} s", wait.as_secs_f64()
                );
            }
            if stop.wait_timeout(wait) {
                break;
            }
        }
        self.recorder.main_cut(None);
    }

    /// One connection; `Ok` when asked to stop. `said` is the trouble that the log has last.
    fn once(&mut self, said: &mut Option<FaultClass>) -> Result<(), Fault> {
        let clock = Arc::clone(&self.deps.clock);
        let receiver = Receiver::open(&self.source, &self.deps.descriptions, Arc::clone(&clock))?;
        self.line.reconnected();
        let mut watchdog = Watchdog::new(clock.now());
        let ended = loop {
            select! {
                recv(receiver.items()) -> item => match item {
                    Ok(Item::Packet(packet)) => {
                        let now = clock.now();
                        watchdog.packet(now, packet.keyframe);
                        self.backoff.frame(now);
                        if said.take().is_some() {
                            log::info!(camera = self.source.camera.as_str(); "main stream: live");
                        }
                        let waited = now.since(packet.arrival);
                        let wall = clock.wall();
                        let wall = wall.checked_sub(waited).unwrap_or(wall);
                        let placed = self.line.place(&packet, wall, self.deps.wall_ok.load(Relaxed));
                        self.recorder.main_packet(&packet, placed.moment);
                    }
                    Ok(Item::Fault(fault)) => break Err(fault),
                    Err(_) => break Err(receiver.fault(FaultClass::Ended)),
                },
                recv(self.stopped) -> _ => break Ok(()),
                default(TICK) => {}
            }
            if let Some(class) = watchdog.check(clock.now()) {
                break Err(receiver.fault(class));
            }
        };
        receiver.close();
        ended
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
}
