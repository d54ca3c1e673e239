//! One connection of one camera, from opening the stream to its end.
//!
//! Owns: the receiver, the decoder, the ring and the watchdog of this connection. Does not know: back-off, incidents.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, never, select};
use vedette_core::Frame;
use vedette_ingest::{
    Decoder, Fault, FaultClass, Item, Packet, Receiver, Ring, SourceConfig, Transport, Watchdog, open_decoder,
};

use super::Camera;
use super::report::CameraState;
use crate::config;

/// The encoded past of a camera: enough to begin decoding anew at the last keyframe of any sane stream.
const RING_SPAN: Duration = Duration::from_secs(10);
/// 10 s of 25 Mbit/s.
const RING_BYTES: usize = 32 << 20;

/// How a connection ended.
pub(super) enum Ending {
    /// The daemon stops.
    Stopped,
    /// The stream failed.
    Fault(Fault),
}

/// What lives as long as one connection.
struct Link {
    decoder: Option<Box<dyn Decoder>>,
    frames: Inbox<Frame>,
    ring: Ring,
    watchdog: Watchdog,
    first_frame: bool,
}

/// Opens the stream and follows it: packets into the ring and the decoder, frames to the analyst, its events to the
/// outbox. Returns when the stream ends, fails, stalls or the daemon stops; the stream is closed by then.
pub(super) fn run_once(camera: &mut Camera) -> Ending {
    camera.report.connecting();
    let deps = &camera.deps;
    let receiver = match Receiver::open(&source(&camera.config), &deps.descriptions, deps.clock.clone()) {
        Ok(receiver) => receiver,
        Err(fault) => return Ending::Fault(fault),
    };
    camera.analyst.reconnected();
    let mut link = Link {
        decoder: None,
        frames: never(),
        ring: Ring::new(RING_SPAN, RING_BYTES),
        watchdog: Watchdog::new(camera.deps.clock.now()),
        first_frame: true,
    };
    let end = follow(camera, &receiver, &mut link);
    // The decoder first: it stops at once, and nothing is pushed into it any more.
    drop(link);
    camera.counters.dropped_receiving.add(receiver.dropped());
    receiver.close();
    end.map_or_else(Ending::Fault, |()| Ending::Stopped)
}

/// `Ok` when asked to stop.
fn follow(camera: &mut Camera, receiver: &Receiver, link: &mut Link) -> Result<(), Fault> {
    loop {
        select! {
            recv(receiver.items()) -> item => match item {
                Ok(Item::Packet(packet)) => on_packet(camera, link, &packet)?,
                Ok(Item::Fault(fault)) => return Err(fault),
                Err(_) => return Err(receiver.fault(FaultClass::Ended)),
            },
            recv(link.frames) -> frame => if let Ok(frame) = frame { on_frame(camera, link, frame) },
            recv(camera.analyst.replies()) -> reply => if let Ok(reply) = reply { camera.analyst.on_reply(reply) },
            recv(camera.stop) -> _ => return Ok(()),
            recv(camera.ticks) -> _ => {
                camera.tick();
                if let Some(class) = link.watchdog.check(camera.deps.clock.now()) {
                    return Err(receiver.fault(class));
                }
            }
        }
    }
}

/// What ingest needs to know of a camera.
fn source(config: &config::Camera) -> SourceConfig {
    SourceConfig {
        camera: config.id.clone(),
        url: config.url.clone(),
        user: config.user.clone(),
        password: config.password.clone(),
        transport: match config.transport {
            config::Transport::Tcp => Transport::Tcp,
            config::Transport::Udp => Transport::Udp,
        },
        pipeline: config.pipeline.clone(),
    }
}

fn on_packet(camera: &mut Camera, link: &mut Link, packet: &Packet) -> Result<(), Fault> {
    let now = camera.deps.clock.now();
    camera.counters.received.one();
    camera.counters.received_bytes.add(packet.data.len() as u64);
    link.watchdog.packet(now, packet.keyframe);
    let moment = camera.analyst.place(packet, camera.deps.wall_ok.load(Relaxed));
    link.ring.push(packet.clone(), moment);
    let pushed = match &mut link.decoder {
        Some(decoder) => decoder.push(packet, moment),
        None if packet.keyframe => start_decoder(camera, link),
        None => {
            camera.counters.dropped_waiting.one();
            return Ok(());
        }
    };
    match pushed {
        Ok(()) => link.watchdog.pushed(now),
        Err(fault) if fault.is_configuration() => return Err(fault),
        Err(fault) => {
            log::warn!(camera = camera.config.id.as_str(); "decoder restarted: {fault}");
            start_decoder(camera, link)?;
        }
    }
    // Frames that wait behind a burst of packets are taken before the decoder has to drop them.
    while let Ok(frame) = link.frames.try_recv() {
        on_frame(camera, link, frame);
    }
    Ok(())
}

/// A new decoder for the stream as it is now, fed from the last keyframe in the ring.
fn start_decoder(camera: &Camera, link: &mut Link) -> Result<(), Fault> {
    (link.decoder, link.frames) = (None, never());
    let mut decoder: Option<Box<dyn Decoder>> = None;
    for entry in link.ring.from_last_keyframe() {
        let decoder = match &mut decoder {
            Some(decoder) => decoder,
            None => {
                let stream = &entry.packet.stream;
                decoder.insert(open_decoder(&camera.deps.descriptions, stream, &camera.masks)?)
            }
        };
        decoder.push(&entry.packet, entry.moment)?;
    }
    if let Some(decoder) = decoder {
        link.frames = decoder.frames().clone();
        link.decoder = Some(decoder);
    }
    Ok(())
}

fn on_frame(camera: &mut Camera, link: &mut Link, frame: Frame) {
    camera.counters.decoded.one();
    link.watchdog.frame();
    camera.backoff.frame(camera.deps.clock.now());
    if std::mem::take(&mut link.first_frame) {
        let size = format!("{}x{}", frame.width(), frame.height());
        if camera.report.set(CameraState::Live, None) {
            log::info!(camera = camera.config.id.as_str(); "live, {size}");
        }
    }
    camera.analyst.on_frame(frame);
}
