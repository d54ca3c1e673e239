//! A video file as encoded packets, for a replay that decides by itself what to decode: every access unit, in order,
//! as fast as they are taken.
//!
//! Owns: the file pipeline and the packets' places on the file's time line. Does not know: decoders, rings, cameras.

use std::path::Path;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use vedette_core::{Moment, Pts};

use crate::description::{Description, DescriptionKind};
use crate::unpack::Unpacker;
use crate::{Descriptions, Fault, FaultClass, Packet};

/// How often a waiting reader looks for errors.
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(200);
/// Polls without anything before a file counts as stuck: 10 s.
const PATIENCE: u32 = 50;

/// The packets of a file with their moments, in decoding order. After an error there is nothing more.
pub struct PacketReader {
    pipeline: gst::Pipeline,
    output: AppSink,
    unpacker: Unpacker,
    start: jiff::Timestamp,
    shown: String,
    next: Option<gst::Sample>,
    last: Pts,
    finished: bool,
}

impl PacketReader {
    /// Opens a file with H.264, H.265 or MJPEG in it. The wall clock counts from `start`.
    ///
    /// # Errors
    /// The file is not there, cannot be read, or holds no stream of these.
    pub fn open(path: &Path, descriptions: &Descriptions, start: jiff::Timestamp) -> Result<Self, Fault> {
        let shown = path.display().to_string();
        if let Err(error) = std::fs::File::open(path) {
            return Err(Fault::new(FaultClass::NotFound, format!("{shown}: {error}"), "check the path"));
        }
        let location = path.to_str().ok_or_else(|| {
            Fault::new(FaultClass::BadUrl, format!("{shown}: a name that is not UTF-8"), "rename the file")
        })?;
        let mut missing = None;
        // The parser of one codec refuses the others at once.
        for description in descriptions.all_of_kind(DescriptionKind::Packets) {
            match Self::attempt(description, location, start) {
                Ok(Some(reader)) => return Ok(reader),
                Ok(None) => {}
                Err(fault) => missing = Some(fault),
            }
        }
        let unfit = || {
            let what = format!("{shown} holds no H.264, H.265 or MJPEG that can be taken packet by packet");
            Fault::new(FaultClass::Codec, what, "replay it with `--mode always`")
        };
        Err(missing.unwrap_or_else(unfit))
    }

    /// `None` where the file is of another codec.
    fn attempt(
        description: &Description,
        location: &str,
        start: jiff::Timestamp,
    ) -> Result<Option<Self>, Fault> {
        description.check_elements()?;
        let pipeline = description.launch(&[], gst::parse::launch)?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| description.wrong(&"one element"))?;
        let element = |name| pipeline.by_name(name).ok_or_else(|| description.lacks(name));
        element("source")?.set_property("location", location);
        let output = element("packets")?.downcast::<AppSink>().map_err(|_| description.lacks("packets"))?;
        output.set_sync(false);
        output.set_enable_last_sample(false);
        output.set_max_buffers(8);
        let mut reader = Self {
            pipeline,
            output,
            unpacker: Unpacker::default(),
            start,
            shown: location.to_owned(),
            next: None,
            last: Pts::ZERO,
            finished: false,
        };
        // A failure is on the bus.
        let _ = reader.pipeline.set_state(gst::State::Playing);
        reader.next = reader.pull().ok().flatten();
        Ok(reader.next.is_some().then_some(reader))
    }

    fn pull(&self) -> Result<Option<gst::Sample>, Fault> {
        let bus = self.pipeline.bus();
        for _ in 0..PATIENCE {
            if let Some(sample) = self.output.try_pull_sample(POLL) {
                return Ok(Some(sample));
            }
            let error = bus.as_ref().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
            if let Some(gst::MessageView::Error(error)) = error.as_ref().map(|message| message.view()) {
                let what = format!("{} cannot be read ({})", self.shown, error.error().message());
                return Err(Fault::new(FaultClass::Undecodable, what, "try `ffprobe` on it"));
            }
            if self.output.is_eos() {
                return Ok(None);
            }
        }
        let what = format!("{} gives no more packets", self.shown);
        Err(Fault::new(FaultClass::Stalled, what, "try `ffprobe` on it"))
    }

    /// Its length, where the file says it.
    pub fn duration(&self) -> Option<Duration> {
        self.pipeline.query_duration::<gst::ClockTime>().map(Duration::from)
    }

    fn take(&mut self) -> Result<Option<(Packet, Moment)>, Fault> {
        loop {
            let sample = match self.next.take() {
                Some(sample) => Some(sample),
                None => self.pull()?,
            };
            let Some(sample) = sample else { return Ok(None) };
            let Some(packet) = self.unpacker.unpack(&sample, vedette_core::Mono::default()) else { continue };
            let pts = sample.buffer().and_then(gst::BufferRef::pts).map(|pts| {
                let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>());
                segment.and_then(|s| s.to_running_time(pts)).unwrap_or(pts)
            });
            let frame = packet.stream.fps.map_or(0.04, |fps| 1.0 / fps);
            let pts =
                pts.map_or(self.last + Duration::from_secs_f64(frame), |t| Pts::from_nanos(t.nseconds()));
            self.last = pts;
            return Ok(Some((packet, Moment::of_file(self.start, pts))));
        }
    }
}

impl Iterator for PacketReader {
    type Item = Result<(Packet, Moment), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let next = self.take().transpose();
        self.finished = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Drop for PacketReader {
    fn drop(&mut self) {
        // A file stops at once; a failure leaves nothing to do.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, testing};

    #[test]
    fn packets_of_every_codec_come_with_their_times_and_keyframes() {
        let descriptions = testing::descriptions();
        let folder = tempfile::tempdir().unwrap();
        for (codec, parse) in
            [(Codec::H264, "h264parse"), (Codec::H265, "h265parse"), (Codec::Mjpeg, "jpegparse")]
        {
            let path = folder.path().join(format!("{}.mkv", codec.as_str()));
            let text = format!(
                "videotestsrc num-buffers=60 {} ! {parse} ! matroskamux ! filesink location={}",
                testing::encoder(codec, "ball"),
                path.display()
            );
            let pipeline = gst::parse::launch(&text).unwrap();
            pipeline.set_state(gst::State::Playing).unwrap();
            let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
            let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
            assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
            pipeline.set_state(gst::State::Null).unwrap();
            let reader = PacketReader::open(&path, &descriptions, jiff::Timestamp::UNIX_EPOCH).unwrap();
            let packets: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
            assert_eq!(packets.len(), 60, "{codec}");
            for (n, (packet, moment)) in (0_u64..).zip(&packets) {
                assert_eq!(packet.stream.codec, codec);
                assert_eq!(packet.keyframe, codec == Codec::Mjpeg || n % 25 == 0, "{codec} {n}");
                let off = moment.pts.secs_f64() - 0.04 * n as f64;
                assert!(off.abs() < 0.002, "{codec} {n}: {off}");
            }
        }
        std::fs::write(folder.path().join("none.mkv"), "no film").unwrap();
        let none =
            PacketReader::open(&folder.path().join("none.mkv"), &descriptions, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(none.err().unwrap().class, FaultClass::Codec);
    }
}
