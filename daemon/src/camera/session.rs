//! One connection of one camera, from opening the stream to its end.
//!
//! Owns: the receiver, the decoder, the ring and the watchdog of this connection. Does not know: back-off, incidents.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, never, select};
use vedette_core::{Frame, Mono, Pts};
use vedette_ingest::{
    Decoder, Fault, FaultClass, Item, Packet, Receiver, Ring, SourceConfig, Watchdog, open_decoder,
};

use super::Camera;
use super::report::CameraState;
use crate::config;

/// The encoded past of a camera: enough to begin decoding anew at the last keyframe of any sane stream.
const RING_SPAN: Duration = Duration::from_secs(10);
/// 10 s of 25 Mbit/s.
const RING_BYTES: usize = 32 << 20;

/// A stream that gives no keyframe for so long is opened anew, upon which most cameras send one.
pub(crate) const KEYFRAME_WITHIN: Duration = Duration::from_secs(30);

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
    /// Since when packets come that no decoder can begin with.
    waiting_since: Option<Mono>,
    /// The keyframe at which a decoder that failed was begun anew: not twice at the same one.
    restarted_at: Option<Pts>,
}

/// Opens the stream and follows it: packets into the ring and the decoder, frames to the analyst, its events to the
/// outbox. Returns when the stream ends, fails, stalls or the daemon stops; the stream is closed by then.
pub(super) fn run_once(camera: &mut Camera) -> Ending {
    camera.report.connecting();
    let deps = &camera.deps;
    let receiver = match Receiver::open(&camera.source, &deps.descriptions, deps.clock.clone()) {
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
        waiting_since: None,
        restarted_at: None,
    };
    let mut received_dropped = 0;
    let end = follow(camera, &receiver, &mut link, &mut received_dropped);
    // The decoder first: it stops at once, and nothing is pushed into it any more.
    stop_decoder(camera, &mut link);
    count_dropped(camera, &receiver, &mut received_dropped);
    // What is open ends before the stream is closed, which may take seconds.
    if end.is_ok() {
        camera.end_incidents();
    }
    receiver.close();
    end.map_or_else(Ending::Fault, |()| Ending::Stopped)
}

/// `Ok` when asked to stop.
fn follow(camera: &mut Camera, receiver: &Receiver, link: &mut Link, dropped: &mut u64) -> Result<(), Fault> {
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
                count_dropped(camera, receiver, dropped);
                if link.waiting_since.is_some_and(|since| camera.deps.clock.now().since(since) >= KEYFRAME_WITHIN) {
                    return Err(receiver.fault(FaultClass::Undecodable));
                }
                if let Some(class) = link.watchdog.check(camera.deps.clock.now()) {
                    return Err(receiver.fault(class));
                }
            }
        }
    }
}

/// What ingest needs to know of a camera: one for all its connections.
pub(crate) fn source(config: &config::Camera) -> SourceConfig {
    SourceConfig {
        camera: config.id.clone(),
        url: config.url.clone(),
        user: config.user.clone(),
        password: config.password.clone(),
        transport: config.transport,
        route: Arc::default(),
        trust: config.trust.clone(),
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
            link.waiting_since.get_or_insert(now);
            return Ok(());
        }
    };
    match pushed {
        Ok(()) => link.watchdog.pushed(now),
        Err(fault) if fault.is_configuration() => return Err(fault),
        Err(fault) => {
            log::warn!(camera = camera.config.id.as_str(); "decoder restarted: {fault}");
            restart_decoder(camera, link);
        }
    }
    // Frames that wait behind a burst of packets are taken before the decoder has to drop them.
    while let Ok(frame) = link.frames.try_recv() {
        on_frame(camera, link, frame);
    }
    Ok(())
}

/// Packets that the receiver had to drop since the last look.
fn count_dropped(camera: &Camera, receiver: &Receiver, before: &mut u64) {
    let now = receiver.dropped();
    camera.counters.dropped_receiving.add(now.saturating_sub(*before));
    *before = now;
}

fn stop_decoder(camera: &Camera, link: &mut Link) {
    link.frames = never();
    if let Some(decoder) = link.decoder.take() {
        camera.counters.dropped_decoded.add(decoder.dropped());
    }
}

/// After a decoder has failed: once more from the last keyframe; where that one was tried already, at the next.
fn restart_decoder(camera: &Camera, link: &mut Link) {
    let keyframe = link.ring.from_last_keyframe().next().map(|entry| entry.moment.pts);
    if keyframe == link.restarted_at {
        stop_decoder(camera, link);
        return;
    }
    link.restarted_at = keyframe;
    if let Err(fault) = start_decoder(camera, link) {
        log::warn!(camera = camera.config.id.as_str(); "waiting for the next keyframe: {fault}");
        stop_decoder(camera, link);
    }
}

/// A new decoder for the stream as it is now, fed from the last keyframe in the ring.
fn start_decoder(camera: &Camera, link: &mut Link) -> Result<(), Fault> {
    stop_decoder(camera, link);
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
        link.waiting_since = None;
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
