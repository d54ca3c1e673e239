//! Packets in, frames out. The `gst` decoder drives any GStreamer element that a description names.
//!
//! Owns: the decode pipeline and the way a packet's [`Moment`] finds its frame. Does not know: which packets are
//! worth decoding (the gate), the ring, or the camera. Memory is bounded by shape: two packets wait at the most, and
//! four frames; who does not take them in time loses the oldest, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc, AppSrcCallbacks};
use vedette_core::{Frame, Moment, Pts};

use crate::mask::Painter;
use crate::picture::frame_of;
use crate::{Description, Descriptions, Fault, FaultClass, Masks, Packet, StreamInfo};

/// Packets that wait before a decoder; the next push waits with them.
const WAITING_PACKETS: u64 = 2;

/// Frames that wait behind a decoder: one, and what a reordering stream gives at once.
const WAITING_FRAMES: usize = 4;

/// Moments of packets that have not come out yet: H.264 holds back 16 pictures at most.
const WITHIN: usize = 64;

/// How long a decoder may refuse the next packet.
const PUSH_DEADLINE: Duration = Duration::from_secs(5);

/// Turns packets into frames. The seam between the `gst` implementation and leaner ones.
pub trait Decoder: Send {
    /// Gives it the next packet in decoding order; waits while two are still before it, at most 5 s. Its frame, if
    /// it has one, comes out of [`Decoder::frames`] with this moment, soon or after some packets more.
    fn push(&mut self, packet: &Packet, moment: Moment) -> Result<(), Fault>;

    /// Frames in the order of display, their `pts` never running backwards between two flushes. Four may wait; then
    /// the oldest goes, see [`Decoder::dropped`]. Who takes frames after each push loses none.
    fn frames(&self) -> &Receiver<Frame>;

    /// Waits until all packets that were given to it have been decoded: the frames that they give are out then, but for
    /// those that a reordering stream needs later packets for. At most 5 s.
    fn settle(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    /// Drops what is inside. The next packet must be a keyframe, and may be an earlier one.
    fn flush(&mut self);

    /// Frames that nobody took in time.
    fn dropped(&self) -> u64;
}

/// Opens the decode description of the highest rank that fits the stream and whose elements there are.
pub fn open_decoder(
    descriptions: &Descriptions,
    stream: &StreamInfo,
    masks: &Masks,
) -> Result<Box<dyn Decoder>, Fault> {
    let description = descriptions.decoder(stream.codec)?;
    let pipeline = description.launch(&[], gst::parse::launch)?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| description.wrong(&"one element"))?;
    Ok(Box::new(GstDecoder::start(pipeline, description, stream, masks)?))
}

/// Which frame belongs to which packet.
#[derive(Default)]
struct Moments {
    /// Moments and keyframe marks of the packets inside, by PTS; what is not in here was flushed.
    inside: BTreeMap<Pts, (Moment, bool)>,
    last: Option<Pts>,
}

impl Moments {
    fn insert(&mut self, moment: Moment, keyframe: bool) {
        while self.inside.len() >= WITHIN {
            self.inside.pop_first();
        }
        self.inside.insert(moment.pts, (moment, keyframe));
    }

    /// Takes the moment of a frame, moved forward where a camera's clock stepped back between two keyframes.
    fn take(&mut self, pts: Pts) -> Option<(Moment, bool)> {
        let (moment, keyframe) = self.inside.remove(&pts)?;
        let earliest = self.last.map_or(Pts::ZERO, |last| last + Duration::from_nanos(1));
        let moment = if moment.pts < earliest { moment.shifted_to(earliest) } else { moment };
        self.last = Some(moment.pts);
        Some((moment, keyframe))
    }
}

/// What the decoder's threads share with the caller.
struct Shared {
    moments: Mutex<Moments>,
    fault: Mutex<Option<Fault>>,
    /// Woken when the source has room or something is wrong.
    room: Condvar,
    room_lock: Mutex<()>,
    dropped: AtomicU64,
    /// How many marks have come behind the packets before them.
    marks: AtomicU64,
}

impl Shared {
    fn fail(&self, fault: Fault) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        self.wake();
    }

    fn wake(&self) {
        // Taking the lock orders this after the check of a pusher that is about to wait.
        drop(self.room_lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.room.notify_all();
    }

    fn moments(&self) -> MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A decode pipeline of GStreamer.
struct GstDecoder {
    pipeline: gst::Pipeline,
    input: AppSrc,
    frames: Receiver<Frame>,
    shared: Arc<Shared>,
    caps: String,
    /// Marks sent.
    marks: u64,
}

/// The event that [`Decoder::settle`] sends behind the packets. The source pushes one after the other on one thread,
/// and each push returns when the elements behind it are through: when the mark leaves the source, they are.
const MARK: &str = "vedette-settle";

/// Counts marks, which go no further than the source.
fn count_marks(input: &AppSrc, shared: &Arc<Shared>) -> Option<()> {
    let shared = Arc::clone(shared);
    let pad = input.static_pad("src")?;
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let mark = info.event().and_then(|event| event.structure()).is_some_and(|s| s.name() == MARK);
        if !mark {
            return gst::PadProbeReturn::Ok;
        }
        shared.marks.fetch_add(1, Ordering::Release);
        shared.wake();
        gst::PadProbeReturn::Drop
    })?;
    Some(())
}

impl GstDecoder {
    fn start(
        pipeline: gst::Pipeline,
        description: &Description,
        stream: &StreamInfo,
        masks: &Masks,
    ) -> Result<Self, Fault> {
        let element = |name| pipeline.by_name(name).ok_or_else(|| description.lacks(name));
        let input = element("in")?.downcast::<AppSrc>().map_err(|_| description.lacks("in"))?;
        let output = element("out")?.downcast::<AppSink>().map_err(|_| description.lacks("out"))?;
        let shared = Arc::new(Shared {
            moments: Mutex::default(),
            fault: Mutex::default(),
            room: Condvar::new(),
            room_lock: Mutex::default(),
            dropped: AtomicU64::new(0),
            marks: AtomicU64::new(0),
        });
        count_marks(&input, &shared).ok_or_else(|| description.lacks("in"))?;
        input.set_format(gst::Format::Time);
        input.set_max_buffers(WAITING_PACKETS);
        input.set_max_bytes(0);
        let waker = Arc::clone(&shared);
        input.set_callbacks(AppSrcCallbacks::builder().need_data(move |_, _| waker.wake()).build());
        let frames = deliver(&output, &shared, masks);
        watch_bus(&pipeline, &shared, &description.name);
        let mut this = Self { pipeline, input, frames, shared, caps: String::new(), marks: 0 };
        this.tell_caps(&stream.caps)?;
        if this.pipeline.set_state(gst::State::Playing).is_err() {
            let fault = this.take_fault();
            return Err(fault.unwrap_or_else(|| description.wrong(&"does not start")));
        }
        Ok(this)
    }

    fn tell_caps(&mut self, caps: &str) -> Result<(), Fault> {
        if self.caps != caps {
            let parsed: gst::Caps = caps.parse().map_err(|_| {
                Fault::new(FaultClass::Undecodable, format!("`{caps}` is no format"), "report this stream")
            })?;
            self.input.set_caps(Some(&parsed));
            caps.clone_into(&mut self.caps);
        }
        Ok(())
    }

    fn take_fault(&self) -> Option<Fault> {
        self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the source has room for one packet.
    fn wait_for_room(&self) -> Result<(), Fault> {
        self.wait_while(|| self.input.current_level_buffers() >= WAITING_PACKETS)
    }

    fn wait_while(&self, condition: impl Fn() -> bool) -> Result<(), Fault> {
        let guard = self.shared.room_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |(): &mut ()| condition() && self.take_fault().is_none();
        let waited = self.shared.room.wait_timeout_while(guard, PUSH_DEADLINE, full);
        let (_guard, result) = waited.unwrap_or_else(PoisonError::into_inner);
        match self.take_fault() {
            Some(fault) => Err(fault),
            None if result.timed_out() => Err(Fault::new(
                FaultClass::Undecodable,
                "the decoder has taken no packet for 5 s",
                "choose another decode description if it stays so",
            )),
            None => Ok(()),
        }
    }
}

impl Decoder for GstDecoder {
    fn push(&mut self, packet: &Packet, moment: Moment) -> Result<(), Fault> {
        self.tell_caps(&packet.stream.caps)?;
        self.wait_for_room()?;
        self.shared.moments().insert(moment, packet.keyframe);
        let mut buffer = gst::Buffer::from_slice(Arc::clone(&packet.data));
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(moment.pts.nanos()));
            if !packet.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        self.input.push_buffer(buffer).map(|_| ()).map_err(|error| {
            self.take_fault().unwrap_or_else(|| {
                Fault::new(FaultClass::Undecodable, format!("the decoder stopped: {error}"), "trying again")
            })
        })
    }

    fn frames(&self) -> &Receiver<Frame> {
        &self.frames
    }

    fn settle(&mut self) -> Result<(), Fault> {
        let mark = gst::event::CustomDownstream::new(gst::Structure::new_empty(MARK));
        if !self.input.send_event(mark) {
            // A pipeline that stops takes none; the next push tells why.
            return Ok(());
        }
        self.marks += 1;
        self.wait_while(|| self.shared.marks.load(Ordering::Acquire) < self.marks)
    }

    fn flush(&mut self) {
        *self.shared.moments() = Moments::default();
        // Ready and back frees the pictures held inside; with a software decoder that takes well under 1 ms. A
        // failure shows at the next push.
        let _ = self.pipeline.set_state(gst::State::Ready);
        // Marks that were inside are gone with it.
        self.shared.marks.store(self.marks, Ordering::Release);
        let _ = self.pipeline.set_state(gst::State::Playing);
        while self.frames.try_recv().is_ok() {}
    }

    fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for GstDecoder {
    fn drop(&mut self) {
        // A pipeline without network stops at once; a failure leaves nothing to do.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Takes pictures from the sink into a bounded channel of which the oldest goes when it is full.
fn deliver(output: &AppSink, shared: &Arc<Shared>, masks: &Masks) -> Receiver<Frame> {
    let (sender, frames) = bounded(WAITING_FRAMES);
    output.set_sync(false);
    output.set_enable_last_sample(false);
    output.set_max_buffers(1);
    let (shared, taken, mut painter) = (Arc::clone(shared), frames.clone(), Painter::new(masks));
    let callbacks = AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let pts = sample.buffer().and_then(gst::BufferRef::pts).map(|t| Pts::from_nanos(t.nseconds()));
        // A picture whose packet was flushed is nobody's.
        let Some((moment, keyframe)) = pts.and_then(|pts| shared.moments().take(pts)) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        match frame_of(&sample, moment, keyframe).and_then(|frame| painter.paint(frame)) {
            Ok(frame) => send_newest(&sender, &taken, frame, &shared.dropped),
            Err(fault) => {
                shared.fail(fault);
                return Err(gst::FlowError::Error);
            }
        }
        Ok(gst::FlowSuccess::Ok)
    });
    output.set_callbacks(callbacks.build());
    frames
}

fn send_newest(sender: &Sender<Frame>, taken: &Receiver<Frame>, frame: Frame, dropped: &AtomicU64) {
    let mut waiting = frame;
    while let Err(error) = sender.try_send(waiting) {
        waiting = error.into_inner();
        if taken.try_recv().is_ok() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn watch_bus(pipeline: &gst::Pipeline, shared: &Arc<Shared>, name: &str) {
    let Some(bus) = pipeline.bus() else { return };
    let (shared, name) = (Arc::clone(shared), name.to_owned());
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            let debug = error.debug().unwrap_or_default();
            let what = format!("decoder `{name}`: {} ({debug})", error.error().message());
            shared.fail(Fault::new(FaultClass::Undecodable, what, "trying again with a new decoder"));
        }
        gst::BusSyncReply::Drop
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, PATIENCE, encoded, encoder, moment};
    use crate::{Codec, Masks};

    fn decoder(packets: &[Packet], masks: &Masks) -> Box<dyn Decoder> {
        open_decoder(&testing::descriptions(), &packets[0].stream, masks).unwrap()
    }

    /// Pushes packets 40 ms apart from `start`, taking frames as they come, until `count` of them came.
    fn run(decoder: &mut dyn Decoder, packets: &[Packet], start: u64, count: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        for (n, packet) in (start..).zip(packets) {
            decoder.push(packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
            frames.extend(decoder.frames().try_iter());
        }
        while frames.len() < count {
            frames.push(decoder.frames().recv_timeout(PATIENCE).unwrap());
        }
        frames
    }

    #[test]
    fn every_codec_gives_its_frames_with_their_moments() {
        for codec in Codec::ALL {
            let packets = encoded(codec, &encoder(codec, "white"), 30);
            let mut decoder = decoder(&packets, &Masks::none());
            let frames = run(&mut *decoder, &packets, 0, 30);
            for (n, frame) in frames.iter().enumerate() {
                assert_eq!(frame.moment().pts, Pts::from_nanos(n as u64 * 40_000_000), "{codec}");
                assert_eq!(frame.is_keyframe(), packets[n].keyframe, "{codec}");
                assert_eq!((frame.width(), frame.height()), (320, 240), "{codec}");
                assert!(frame.plane(0).unwrap().row(120).iter().all(|&v| v > 220), "{codec}: white");
            }
            assert_eq!(decoder.dropped(), 0);
        }
    }

    #[test]
    fn masked_parts_are_black() {
        let packets = encoded(Codec::H264, &encoder(Codec::H264, "white"), 3);
        let square = [[0.0, 0.0], [0.5, 0.0], [0.5, 0.5], [0.0, 0.5]].map(Into::into).to_vec();
        let masks = Masks::new(vec![vedette_core::Polygon::new(square).unwrap()]);
        for frame in run(&mut *decoder(&packets, &masks), &packets, 0, 3) {
            let luma = frame.plane(0).unwrap();
            assert!(luma.row(60)[..160].iter().all(|&v| v == 16));
            assert!(luma.row(60)[170..].iter().all(|&v| v > 220) && luma.row(180).iter().all(|&v| v > 220));
            assert!(frame.plane(1).unwrap().row(30)[..80].iter().all(|&v| v == 128));
        }
    }

    #[test]
    fn the_resolution_may_change_in_the_stream() {
        let small = encoded(Codec::H264, &encoder(Codec::H264, "white"), 10);
        let large = encoder(Codec::H264, "white").replace("width=320,height=240", "width=640,height=360");
        let large = encoded(Codec::H264, &large, 10);
        let mut decoder = decoder(&small, &Masks::none());
        assert_eq!(run(&mut *decoder, &small, 0, 10)[9].width(), 320);
        let frames = run(&mut *decoder, &large, 10, 10);
        assert_eq!((frames[0].width(), frames[0].height(), frames[9].width()), (640, 360, 640));
        assert_eq!(frames[0].plane(2).unwrap().width, 320);
    }

    #[test]
    fn the_oldest_frames_go_and_are_counted_when_nobody_takes_them() {
        let packets = encoded(Codec::H264, &encoder(Codec::H264, "white"), 30);
        let mut decoder = decoder(&packets, &Masks::none());
        for (n, packet) in (0..).zip(&packets) {
            decoder.push(packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
        }
        let mut last = decoder.frames().recv_timeout(PATIENCE).unwrap();
        let mut taken = 1;
        while last.moment().pts < Pts::from_nanos(29 * 40_000_000) {
            last = decoder.frames().recv_timeout(PATIENCE).unwrap();
            taken += 1;
        }
        assert_eq!(taken + decoder.dropped(), 30);
        assert!(decoder.dropped() >= 20, "{} dropped", decoder.dropped());
    }

    #[test]
    fn after_a_flush_an_earlier_keyframe_may_come() {
        let packets = encoded(Codec::H264, &encoder(Codec::H264, "white"), 30);
        let mut decoder = decoder(&packets, &Masks::none());
        run(&mut *decoder, &packets, 0, 30);
        decoder.flush();
        let frames = run(&mut *decoder, &packets, 0, 30);
        assert_eq!(frames.first().map(|f| f.moment().pts), Some(Pts::ZERO));
        assert_eq!(frames.len(), 30);
    }

    #[test]
    fn keyframes_alone_come_out_at_once() {
        let source = encoder(Codec::H264, "ball").replace("key-int-max=25", "key-int-max=5");
        let packets = encoded(Codec::H264, &source, 30);
        let mut decoder = decoder(&packets, &Masks::none());
        for (n, packet) in (0..).zip(&packets).filter(|(_, p)| p.keyframe) {
            decoder.push(packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
            let frame = decoder.frames().recv_timeout(PATIENCE).unwrap();
            assert_eq!(frame.moment().pts, Pts::from_nanos(n * 40_000_000));
        }
    }

    #[test]
    fn when_settled_the_frame_of_every_packet_is_there() {
        for codec in Codec::ALL {
            let packets = encoded(codec, &encoder(codec, "ball"), 30);
            let mut decoder = decoder(&packets, &Masks::none());
            for round in 0..2 {
                for (n, packet) in (0..).zip(&packets) {
                    let pts = Pts::from_nanos(n * 40_000_000);
                    decoder.push(packet, moment(pts)).unwrap();
                    decoder.settle().unwrap();
                    let frames: Vec<Pts> = decoder.frames().try_iter().map(|f| f.moment().pts).collect();
                    assert_eq!(frames, [pts], "{codec}, round {round}");
                }
                decoder.flush();
            }
        }
    }

    #[test]
    fn b_frames_come_out_in_the_order_of_display() {
        let source = encoder(Codec::H264, "ball").replace(
            "tune=zerolatency speed-preset=ultrafast",
            "bframes=2 b-adapt=false speed-preset=medium",
        );
        let packets = encoded(Codec::H264, &source, 30);
        assert!(packets.iter().any(|p| p.droppable), "some B-frames are not referred to");
        assert!(packets.windows(2).any(|w| w[1].stream_pts < w[0].stream_pts));
        let mut decoder = decoder(&packets, &Masks::none());
        let mut frames = Vec::new();
        for packet in &packets {
            decoder.push(packet, moment(Pts::from_nanos(packet.stream_pts.unwrap()))).unwrap();
            frames.extend(decoder.frames().try_iter());
        }
        while frames.len() < 24 {
            frames.push(decoder.frames().recv_timeout(PATIENCE).unwrap());
        }
        for pair in frames.windows(2) {
            assert_eq!(pair[1].moment().pts.since(pair[0].moment().pts), Duration::from_millis(40));
        }
    }

    #[test]
    fn noise_is_survived() {
        let mut packets = encoded(Codec::H264, &encoder(Codec::H264, "ball"), 60);
        for packet in &mut packets[5..20] {
            let noise: Vec<u8> =
                packet.data.iter().enumerate().map(|(n, b)| if n > 8 { b ^ 0x5a } else { *b }).collect();
            packet.data = noise.into();
        }
        let mut decoder = decoder(&packets, &Masks::none());
        for (n, packet) in (0..).zip(&packets) {
            decoder.push(packet, moment(Pts::from_nanos(n * 40_000_000))).unwrap();
        }
        let mut last = Pts::ZERO;
        while last < Pts::from_nanos(59 * 40_000_000) {
            last = decoder.frames().recv_timeout(PATIENCE).unwrap().moment().pts;
        }
    }
}
