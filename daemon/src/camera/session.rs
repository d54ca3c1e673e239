//! One connection of one camera, from opening the stream to its end.
//!
//! Owns: the receiver, the decoder and the watchdog of this connection. Does not know: which packets are worth
//! decoding and what becomes of pictures (`adaptive`), back-off, incidents.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, never, select};
use vedette_analysis::gate::Decode;
use vedette_core::{Frame, Mono, Pts};
use vedette_ingest::ring::Entry;
use vedette_ingest::{
    Decoder, DecoderConfig, Fault, FaultClass, Item, Packet, Receiver, SourceConfig, Watchdog,
};

use super::adaptive::Use;
use super::cursor::Step;
use super::report::CameraState;
use super::{Camera, TICK};
use crate::config;

/// Packets that are decoded in one go while catching up: new ones come in between.
const AT_ONCE: usize = 10;

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
    watchdog: Watchdog,
    first_frame: bool,
    /// Since when packets come of which none is given to a decoder, though pictures are wanted.
    waiting_since: Option<Mono>,
    /// What this decoder has told of damage so far.
    damaged: u64,
    /// Why the decoder failed last; nothing once a picture came.
    failure: Option<Fault>,
    /// The keyframe at which a decoder that failed was begun anew: not twice at the same one.
    restarted_at: Option<Pts>,
}

/// Opens the stream and follows it: packets into the ring, those worth it into the decoder, frames to the analyst, its
/// events to the outbox. Returns when the stream ends, fails, stalls or the daemon stops; the stream is closed by then.
pub(super) fn run_once(camera: &mut Camera) -> Ending {
    camera.report.connecting();
    let deps = &camera.deps;
    let receiver = match Receiver::open(&camera.source, &deps.descriptions, deps.clock.clone()) {
        Ok(receiver) => receiver,
        Err(fault) => return Ending::Fault(fault),
    };
    camera.analyst.reconnected();
    camera.recorder.cut();
    camera.adaptive.interrupt(camera.analyst.now().pts);
    let mut link = Link {
        decoder: None,
        frames: never(),
        watchdog: Watchdog::new(camera.deps.clock.now()),
        first_frame: true,
        waiting_since: None,
        damaged: 0,
        failure: None,
        restarted_at: None,
    };
    let mut received_dropped = 0;
    let end = follow(camera, &receiver, &mut link, &mut received_dropped);
    // The decoder first: nothing is pushed into it any more.
    stop_decoder(camera, &mut link);
    count_dropped(camera, &receiver, &mut received_dropped);
    camera.recorder.cut();
    // What is open ends before the stream is closed, which may take seconds.
    if end.is_ok() {
        camera.end_incidents();
    }
    receiver.close();
    end.map_or_else(Ending::Fault, |()| Ending::Stopped)
}

/// `Ok` when asked to stop.
fn follow(camera: &mut Camera, receiver: &Receiver, link: &mut Link, dropped: &mut u64) -> Result<(), Fault> {
    let gate_news = camera.gate_view.as_ref().map_or_else(never, |view| view.news().clone());
    loop {
        select! {
            recv(receiver.items()) -> item => match item {
                Ok(Item::Packet(packet)) => on_packet(camera, link, &packet),
                Ok(Item::Fault(fault)) => return Err(fault),
                Err(_) => return Err(receiver.fault(FaultClass::Ended)),
            },
            recv(link.frames) -> frame => if let Ok(frame) = frame { on_frame(camera, link, frame) },
            recv(camera.analyst.replies()) -> reply => if let Ok(reply) = reply { camera.on_reply(reply) },
            recv(gate_news) -> _ => camera.look_beside(),
            recv(camera.stop) -> _ => return Ok(()),
            recv(camera.ticks) -> _ => {
                camera.tick();
                count_dropped(camera, receiver, dropped);
                count_damaged(camera, link);
                if link.waiting_since.is_some_and(|since| camera.deps.clock.now().since(since) >= KEYFRAME_WITHIN) {
                    return Err(receiver.fault(FaultClass::Undecodable));
                }
                // Packets that wait are no silence: a decoder may have held this thread up for as long as a stall.
                let held_up = |class: &FaultClass| *class == FaultClass::Stalled && !receiver.items().is_empty();
                if let Some(class) = link.watchdog.check(camera.deps.clock.now()).filter(|class| !held_up(class)) {
                    let failure = link.failure.take().filter(|failure| failure.class == class);
                    return Err(failure.unwrap_or_else(|| receiver.fault(class)));
                }
            }
            // A cursor that is behind goes on by itself, as soon as the detector has answered.
            default(if may_go_on(camera) { Duration::ZERO } else { TICK }) => {}
        }
        decode(camera, link)?;
    }
}

/// While behind, pictures go to the detector one at a time.
fn may_go_on(camera: &Camera) -> bool {
    camera.adaptive.is_behind() && !camera.analyst.is_waiting()
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

/// How ingest shall decode a camera.
pub(crate) fn decoder_config(config: &config::Camera) -> DecoderConfig {
    DecoderConfig {
        camera: Some(config.id.clone()),
        decoder: config.decoder.clone(),
        loop_filter: config.loop_filter,
    }
}

fn on_packet(camera: &mut Camera, link: &mut Link, packet: &Packet) {
    let now = camera.deps.clock.now();
    camera.counters.received.one();
    camera.counters.received_bytes.add(packet.data.len() as u64);
    link.watchdog.packet(now, packet.keyframe);
    let moment = camera.analyst.place(packet, camera.deps.wall_ok.load(Relaxed));
    camera.recorder.packet(packet, moment);
    if let Some(view) = camera.gate_view.as_ref().filter(|_| packet.keyframe) {
        view.shape(packet.stream.aspect());
    }
    camera.adaptive.receive(packet, moment);
    if link.decoder.is_none() && !packet.keyframe {
        camera.counters.dropped_waiting.one();
    }
    // In quiet nothing is to be decoded between two keyframes, however far apart they are.
    if link.decoder.is_none() || camera.counters.decode() != Decode::Quiet {
        link.waiting_since.get_or_insert(now);
    }
}

/// Gives the decoder what is due: at the head all there is, while behind some at a time, up to a picture that the
/// detector looks at.
fn decode(camera: &mut Camera, link: &mut Link) -> Result<(), Fault> {
    for _ in 0..AT_ONCE {
        if camera.adaptive.is_behind() && camera.analyst.is_waiting() {
            // It is the detector that is waited for.
            link.waiting_since = None;
            break;
        }
        match camera.adaptive.next() {
            None => break,
            Some(Step::Flush) => {
                if let Some(decoder) = &mut link.decoder {
                    decoder.flush();
                }
            }
            Some(Step::Push(entry)) => {
                // Before it is known whether it fails: one that fails at every keyframe owes a picture too.
                link.watchdog.pushed(camera.deps.clock.now());
                link.waiting_since = None;
                match push(camera, link, &entry) {
                    Ok(()) => {}
                    Err(fault) if fault.is_configuration() => return Err(fault),
                    Err(fault) => restart_decoder(camera, link, fault),
                }
            }
        }
        // Frames that wait behind a burst of packets are taken before the decoder has to drop them.
        while let Ok(frame) = link.frames.try_recv() {
            on_frame(camera, link, frame);
        }
    }
    Ok(())
}

/// A packet into the decoder, which begins with the first keyframe.
fn push(camera: &mut Camera, link: &mut Link, entry: &Entry) -> Result<(), Fault> {
    let decoder = match &mut link.decoder {
        Some(decoder) => decoder,
        None => {
            let stream = &entry.packet.stream;
            let config = decoder_config(&camera.config);
            let decoder = config.open(&camera.deps.descriptions, stream, &camera.masks)?;
            link.frames = decoder.frames().clone();
            link.decoder.insert(decoder)
        }
    };
    decoder.set_skip(camera.adaptive.skip(decoder.gives_keyframes_alone()));
    decoder.push(&entry.packet, entry.moment)?;
    if camera.adaptive.is_behind() { decoder.settle() } else { Ok(()) }
}

/// Once more from the last keyframe, or from the next.
fn restart_decoder(camera: &mut Camera, link: &mut Link, fault: Fault) {
    // Said once, where it fails at each keyframe for the same reason.
    if link.failure.as_ref() != Some(&fault) {
        log::warn!(camera = camera.config.id.as_str(); "decoder restarted: {fault}");
    }
    stop_decoder(camera, link);
    link.restarted_at = camera.adaptive.restart(link.restarted_at);
    link.failure = Some(fault);
}

/// Packets that the receiver had to drop since the last look.
fn count_dropped(camera: &Camera, receiver: &Receiver, before: &mut u64) {
    let now = receiver.dropped();
    camera.counters.dropped_receiving.add(now.saturating_sub(*before));
    *before = now;
}

fn count_damaged(camera: &Camera, link: &mut Link) {
    let now = link.decoder.as_ref().map_or(0, |decoder| decoder.damaged());
    camera.counters.damaged.add(now.saturating_sub(link.damaged));
    link.damaged = now;
}

fn stop_decoder(camera: &Camera, link: &mut Link) {
    count_damaged(camera, link);
    (link.frames, link.damaged) = (never(), 0);
    if let Some(decoder) = link.decoder.take() {
        camera.counters.dropped_decoded.add(decoder.dropped());
    }
}

fn on_frame(camera: &mut Camera, link: &mut Link, frame: Frame) {
    camera.counters.decoded.one();
    link.watchdog.frame();
    link.failure = None;
    camera.backoff.frame(camera.deps.clock.now());
    if std::mem::take(&mut link.first_frame) {
        let size = format!("{}x{}", frame.width(), frame.height());
        if camera.report.set(CameraState::Live, None) {
            log::info!(camera = camera.config.id.as_str(); "live, {size}");
        }
    }
    match camera.adaptive.picture(&frame) {
        Use::Nothing => {}
        Use::Still => {
            camera.analyst.still(&frame);
            camera.adaptive.looked(frame.moment().pts, camera.analyst.scene());
        }
        Use::Look { in_order } => camera.analyst.look(frame, in_order),
    }
}
