//! The decoder `gst`: any GStreamer element that a decode description names, hardware ones included.
//!
//! Owns: the decode pipeline and its threads. Does not know: other decoders, which of them is best.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc, AppSrcCallbacks};
use vedette_core::{Frame, Moment, Pts};

use super::{Decoder, Moments, Outlet};
use crate::mask::Painter;
use crate::picture::frame_of;
use crate::receive::count_leaked;
use crate::{Description, Fault, FaultClass, Masks, Packet, StreamInfo};

/// Packets that wait before a decoder; the next push waits with them.
const WAITING_PACKETS: u64 = 2;

/// How long a decoder may refuse the next packet.
const PUSH_DEADLINE: Duration = Duration::from_secs(5);

/// How long a pipeline may take to stop: software takes well under 1 ms. A device that hangs never returns.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What the decoder's threads share with the caller.
struct Shared {
    moments: Mutex<Moments>,
    fault: Mutex<Option<Fault>>,
    /// Woken when the source has room or something is wrong.
    room: Condvar,
    room_lock: Mutex<()>,
    /// How many marks have come behind the packets before them.
    marks: AtomicU64,
    /// The decoder is dropped: what still comes out of a device that hung is nobody's.
    gone: AtomicBool,
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
pub(super) struct GstDecoder {
    pipeline: gst::Pipeline,
    input: AppSrc,
    outlet: Outlet,
    shared: Arc<Shared>,
    caps: String,
    /// Marks sent.
    marks: u64,
}

/// The event that [`Decoder::settle`] sends behind the packets. The source pushes one after the other on one thread,
/// and each push returns when the elements behind it are through: when the mark leaves the source, they are.
const MARK: &str = "vedette-settle";

/// Counts marks as they leave the source; nobody behind it knows them.
fn count_marks(input: &AppSrc, shared: &Arc<Shared>) -> Option<()> {
    let shared = Arc::clone(shared);
    let pad = input.static_pad("src")?;
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let mark = info.event().and_then(|event| event.structure()).is_some_and(|s| s.name() == MARK);
        if mark {
            shared.marks.fetch_add(1, Ordering::Release);
            shared.wake();
        }
        gst::PadProbeReturn::Ok
    })?;
    Some(())
}

impl GstDecoder {
    pub(super) fn start(
        description: &Description,
        stream: &StreamInfo,
        masks: &Masks,
        outlet: Outlet,
    ) -> Result<Self, Fault> {
        let pipeline = description.launch(&[], gst::parse::launch)?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| description.wrong(&"one element"))?;
        let element = |name| pipeline.by_name(name).ok_or_else(|| description.lacks(name));
        let input = element("in")?.downcast::<AppSrc>().map_err(|_| description.lacks("in"))?;
        let output = element("out")?.downcast::<AppSink>().map_err(|_| description.lacks("out"))?;
        let shared = Arc::new(Shared {
            moments: Mutex::default(),
            fault: Mutex::default(),
            room: Condvar::new(),
            room_lock: Mutex::default(),
            marks: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        });
        count_marks(&input, &shared).ok_or_else(|| description.lacks("in"))?;
        input.set_format(gst::Format::Time);
        input.set_max_buffers(WAITING_PACKETS);
        input.set_max_bytes(0);
        let waker = Arc::clone(&shared);
        input.set_callbacks(AppSrcCallbacks::builder().need_data(move |_, _| waker.wake()).build());
        deliver(&output, &shared, masks, outlet.clone());
        watch_bus(&pipeline, &shared, &description.name);
        let mut this = Self { pipeline, input, outlet, shared, caps: String::new(), marks: 0 };
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

    /// Passes through states on a thread of its own: with a device that hangs that never ends, and the caller is the
    /// camera's thread. False where it has not ended in time.
    fn pass_through(&self, states: &'static [gst::State]) -> bool {
        let (pipeline, (done, passed)) = (self.pipeline.clone(), bounded(1));
        let spawned = std::thread::Builder::new().name("decoder-state".to_owned()).spawn(move || {
            for &state in states {
                // A failure shows at the next push.
                let _ = pipeline.set_state(state);
            }
            drop(pipeline);
            let _ = done.send(());
        });
        spawned.is_ok() && passed.recv_timeout(STOP_DEADLINE).is_ok()
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
        self.outlet.frames()
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
        // Ready and back frees the pictures held inside.
        if !self.pass_through(&[gst::State::Ready, gst::State::Playing]) {
            let what = "the decoder hangs and cannot be flushed";
            let remedy = "choose another decode description if it stays so";
            self.shared.fail(Fault::new(FaultClass::Undecodable, what, remedy));
        }
        // Marks that were inside are gone with it.
        self.shared.marks.store(self.marks, Ordering::Release);
        self.outlet.clear();
    }

    fn dropped(&self) -> u64 {
        self.outlet.dropped()
    }

    fn damaged(&self) -> u64 {
        self.outlet.damaged()
    }
}

impl Drop for GstDecoder {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Release);
        if !self.pass_through(&[gst::State::Null]) {
            count_leaked();
            log::warn!("a decoder does not stop: it is left alone");
        }
    }
}

/// Takes pictures from the sink to the outlet.
fn deliver(output: &AppSink, shared: &Arc<Shared>, masks: &Masks, outlet: Outlet) {
    output.set_sync(false);
    output.set_enable_last_sample(false);
    output.set_max_buffers(1);
    let (shared, mut painter) = (Arc::clone(shared), Painter::new(masks));
    let callbacks = AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if shared.gone.load(Ordering::Acquire) {
            return Err(gst::FlowError::Flushing);
        }
        let pts = sample.buffer().and_then(gst::BufferRef::pts).map(|t| Pts::from_nanos(t.nseconds()));
        // A picture whose packet was flushed is nobody's.
        let Some((moment, keyframe)) = pts.and_then(|pts| shared.moments().take(pts)) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        if sample.buffer().is_some_and(|buffer| buffer.flags().contains(gst::BufferFlags::CORRUPTED)) {
            outlet.damage();
        }
        match frame_of(&sample, moment, keyframe).and_then(|frame| painter.paint(frame)) {
            Ok(frame) => outlet.send(frame),
            Err(fault) => {
                shared.fail(fault);
                return Err(gst::FlowError::Error);
            }
        }
        Ok(gst::FlowSuccess::Ok)
    });
    output.set_callbacks(callbacks.build());
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
