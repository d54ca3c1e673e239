//! Samples of a receive pipeline as packets.
//!
//! Owns: what is read from a buffer and its caps, and dropping up to the next keyframe where nobody takes packets.
//! Does not know: what made the pipeline.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use vedette_core::Mono;

use crate::nal::NalReader;
use crate::receive::Shared;
use crate::{Codec, Fault, FaultClass, Local, Packet, StreamInfo};

/// Takes access units from the element `packets`.
pub(crate) fn attach(bin: &gst::Bin, shared: &Arc<Shared>) -> Result<(), Fault> {
    let sink = bin.by_name("packets").and_then(|e| e.downcast::<AppSink>().ok());
    let sink = sink.ok_or_else(|| {
        Fault::new(FaultClass::MissingElement, "no appsink has name=packets", "correct the launch text")
    })?;
    // Packets are wanted when they come, and the last one need not be kept. Those of a file are all there: its times
    // are its pace.
    sink.set_sync(shared.target.local.as_ref().is_some_and(Local::repeats));
    sink.set_enable_last_sample(false);
    sink.set_max_buffers(4);
    let mut outlet = Outlet { shared: Arc::clone(shared), unpacker: Unpacker::default(), lossy: false };
    let callbacks = AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        outlet.take(&sample);
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    Ok(())
}

/// Hands packets over, on the pipeline's thread.
struct Outlet {
    shared: Arc<Shared>,
    unpacker: Unpacker,
    /// Something was dropped: nothing makes sense before the next keyframe.
    lossy: bool,
}

impl Outlet {
    fn take(&mut self, sample: &gst::SampleRef) {
        let Some(packet) = self.unpacker.unpack(sample, self.shared.clock.now()) else { return };
        self.shared.note_packet();
        if self.lossy && !packet.keyframe {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.lossy = !self.shared.offer(packet);
        if self.lossy {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Turns samples into packets.
#[derive(Default)]
pub(crate) struct Unpacker {
    nal: NalReader,
    stream: Option<(gst::Caps, Arc<StreamInfo>)>,
}

impl Unpacker {
    /// `None` for what is no access unit of a known codec.
    pub(crate) fn unpack(&mut self, sample: &gst::SampleRef, arrival: Mono) -> Option<Packet> {
        let (buffer, caps) = (sample.buffer()?, sample.caps()?);
        let stream = self.stream_of(caps)?;
        let map = buffer.map_readable().ok()?;
        let keyframe = stream.codec == Codec::Mjpeg || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        // Also of keyframes: how many layers there are stands before them.
        let droppable = self.nal.droppable(stream.codec, &map);
        Some(Packet {
            droppable: droppable && !keyframe,
            data: Arc::from(map.as_slice()),
            stream_pts: buffer.pts().map(gst::ClockTime::nseconds),
            reference: reference_time(buffer),
            arrival,
            keyframe,
            stream,
        })
    }

    fn stream_of(&mut self, caps: &gst::CapsRef) -> Option<Arc<StreamInfo>> {
        if let Some((known, stream)) = &self.stream
            && known.as_ref() == caps
        {
            return Some(Arc::clone(stream));
        }
        let stream = Arc::new(stream_info(caps)?);
        self.stream = Some((caps.to_owned(), Arc::clone(&stream)));
        Some(stream)
    }
}

fn stream_info(caps: &gst::CapsRef) -> Option<StreamInfo> {
    let fields = caps.structure(0)?;
    let pixels = |name| fields.get::<i32>(name).ok().and_then(|v| u32::try_from(v).ok()).unwrap_or(0);
    let fps = fields.get::<gst::Fraction>("framerate").ok().filter(|f| f.numer() > 0 && f.denom() > 0);
    Some(StreamInfo {
        codec: Codec::of_media_type(fields.name())?,
        profile: fields.get::<String>("profile").ok(),
        width: pixels("width"),
        height: pixels("height"),
        fps: fps.map(|f| f64::from(f.numer()) / f64::from(f.denom())),
        caps: caps.to_string(),
    })
}

/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_TO_UNIX: i64 = 2_208_988_800;

/// The camera's wall clock at capture, where a sender report told it.
fn reference_time(buffer: &gst::BufferRef) -> Option<jiff::Timestamp> {
    let ntp = buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| meta.reference().structure(0).is_some_and(|s| s.name() == "timestamp/x-ntp"))?
        .timestamp();
    unix_of_ntp(ntp.nseconds())
}

/// NTP's 32 bits of seconds overflow in 2036: what lies before 1968 is of the era after that (RFC 4330, section 3).
fn unix_of_ntp(nanos: u64) -> Option<jiff::Timestamp> {
    let (seconds, rest) =
        (i64::try_from(nanos / 1_000_000_000).ok()?, i32::try_from(nanos % 1_000_000_000).ok()?);
    let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
    jiff::Timestamp::new(seconds + era - NTP_TO_UNIX, rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_becomes_utc_beyond_2036() {
        assert_eq!(unix_of_ntp(2_208_988_800_500_000_000).unwrap().to_string(), "1970-01-01T00:00:00.5Z");
        let wrapped = unix_of_ntp(1_000_000_000).unwrap();
        assert_eq!(wrapped.to_string(), "2036-02-07T06:28:17Z");
    }
}
