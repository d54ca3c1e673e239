//! One connection of one camera, from opening the stream to its end.
//!
//! Owns: the receiver, the decoder, the ring and the watchdog of this connection. Does not know: back-off, incidents.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, never, select};
use vedette_core::{Frame, Mono};
use vedette_ingest::ring::Ring;
use vedette_ingest::watchdog::Watchdog;
use vedette_ingest::{Decoder, Fault, Item, Packet, Receiver, open_decoder};

use super::report::CameraState;
use super::Camera;

/// How a connection ended.
pub(super) enum Ending {
    /// The daemon stops.
    Stopped,
    /// The stream failed.
    Fault {
        /// Why.
        fault: Fault,
        /// For how long it had given frames.
        good_for: Duration,
    },
}

/// What lives as long as one connection.
struct Link {
    decoder: Option<Box<dyn Decoder>>,
    ring: Ring,
    watchdog: Watchdog,
    first_frame: Option<Mono>,
}

/// Opens the stream and follows it: packets into the ring and the decoder, frames to the analyst, its events to the
/// outbox. Returns when the stream ends, fails, stalls or the daemon stops; the stream is closed by then.
pub(super) fn run_once(camera: &mut Camera) -> Ending {
    camera.report.connecting();
    let source = camera.config.source();
    let receiver = match Receiver::open(&source, &camera.deps.descriptions, camera.deps.clock.clone()) {
        Ok(receiver) => receiver,
        Err(fault) => return Ending::Fault { fault, good_for: Duration::ZERO },
    };
    camera.analyst.reconnected();
    let mut link = Link {
        decoder: None,
        ring: Ring::default(),
        watchdog: Watchdog::new(camera.deps.clock.now()),
        first_frame: None,
    };
    let end = follow(camera, &receiver, &mut link);
    receiver.close();
    match end {
        Ok(()) => Ending::Stopped,
        Err(fault) => {
            let now = camera.deps.clock.now();
            let good_for = link.first_frame.map_or(Duration::ZERO, |first| now.since(first));
            Ending::Fault { fault, good_for }
        }
    }
}

/// `Ok` when asked to stop.
fn follow(camera: &mut Camera, receiver: &Receiver, link: &mut Link) -> Result<(), Fault> {
    let mut frames: Inbox<Frame> = never();
    loop {
        select! {
            recv(receiver.items()) -> item => match item {
                Ok(Item::Packet(packet)) => on_packet(camera, link, &packet, &mut frames)?,
                Ok(Item::Fault(fault)) => return Err(fault),
                Err(_) => return Err(Fault::ended()),
            },
            recv(frames) -> frame => match frame {
                Ok(frame) => on_frame(camera, link, frame),
                Err(_) => restart_decoder(camera, link, &mut frames)?,
            },
            recv(camera.analyst.replies()) -> reply => if let Ok(reply) = reply { camera.analyst.on_reply(reply) },
            recv(camera.stop) -> _ => return Ok(()),
            recv(camera.ticks) -> _ => {
                camera.tick();
                link.watchdog.check(camera.deps.clock.now())?;
            }
        }
    }
}

fn on_packet(camera: &mut Camera, link: &mut Link, packet: &Packet, frames: &mut Inbox<Frame>) -> Result<(), Fault> {
    camera.counters.received.one();
    camera.counters.received_bytes.add(packet.len() as u64);
    link.watchdog.packet(packet.arrival, packet.keyframe);
    let wall_ok = camera.deps.wall_ok.load(Relaxed);
    let moment = camera.analyst.place(packet, wall_ok);
    link.ring.push(packet.clone(), moment);
    if link.decoder.is_none() {
        if !packet.keyframe {
            camera.counters.dropped_waiting.one();
            return Ok(());
        }
        return restart_decoder(camera, link, frames);
    }
    match link.decoder.as_mut().map(|decoder| decoder.push(packet, moment)) {
        Some(Err(fault)) if fault.is_configuration() => Err(fault),
        Some(Err(fault)) => {
            log::warn!(camera = camera.config.id.as_str(); "decoder restarted: {fault}");
            restart_decoder(camera, link, frames)
        }
        _ => Ok(()),
    }
}

/// A new decoder for the stream as it is now, fed from the last keyframe in the ring.
fn restart_decoder(camera: &Camera, link: &mut Link, frames: &mut Inbox<Frame>) -> Result<(), Fault> {
    (link.decoder, *frames) = (None, never());
    let Some(newest) = link.ring.newest() else { return Ok(()) };
    let mut decoder = open_decoder(&camera.deps.descriptions, &newest.stream, &camera.config.masks)?;
    for (packet, moment) in link.ring.from_last_keyframe() {
        decoder.push(packet, *moment)?;
    }
    *frames = decoder.frames().clone();
    link.decoder = Some(decoder);
    Ok(())
}

fn on_frame(camera: &mut Camera, link: &mut Link, frame: Frame) {
    let now = camera.deps.clock.now();
    camera.counters.decoded.one();
    link.watchdog.frame(now);
    if link.first_frame.is_none() {
        link.first_frame = Some(now);
        let size = format!("{}x{}", frame.width(), frame.height());
        if camera.report.set(CameraState::Live, None) {
            log::info!(camera = camera.config.id.as_str(); "live, {size}");
        }
    }
    camera.analyst.on_frame(frame);
}
