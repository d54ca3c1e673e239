//! A clip in memory: all access units of one video file, ready to be sent.
//!
//! Owns: reading a file once through GStreamer. Does not know: pacing, RTP, faults.

use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

/// How long one turn of the reading loop waits for a sample before it looks at the bus.
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// Why a clip could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// GStreamer failed on the file; the text is its own.
    #[error(
        "clip {path}: {text}; is it a video that `ffprobe` can read, and is gstreamer1.0-plugins-bad installed?"
    )]
    Read {
        /// The clip.
        path: PathBuf,
        /// What GStreamer said.
        text: String,
    },
    /// The file has no video of a kind that can be served.
    #[error("clip {path}: no H.264, H.265 or MJPEG video with a keyframe in it")]
    NoVideo {
        /// The clip.
        path: PathBuf,
    },
}

/// What a clip is coded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// ITU-T H.264, sent by RFC 6184.
    H264,
    /// ITU-T H.265, sent by RFC 7798.
    H265,
    /// Motion JPEG, sent by RFC 2435.
    Mjpeg,
}

impl Codec {
    fn of_caps(name: &str) -> Option<Self> {
        match name {
            "video/x-h264" => Some(Self::H264),
            "video/x-h265" => Some(Self::H265),
            "image/jpeg" => Some(Self::Mjpeg),
            _ => None,
        }
    }

    /// The caps of the access units: byte stream, parameter sets in band before each keyframe.
    pub(crate) fn caps(self) -> &'static str {
        match self {
            Self::H264 => "video/x-h264,stream-format=byte-stream,alignment=au",
            Self::H265 => "video/x-h265,stream-format=byte-stream,alignment=au",
            Self::Mjpeg => "image/jpeg,parsed=true",
        }
    }

    fn parser(self) -> &'static str {
        match self {
            Self::H264 => "h264parse config-interval=-1",
            Self::H265 => "h265parse config-interval=-1",
            Self::Mjpeg => "jpegparse",
        }
    }

    /// The payloader. Payload type 26 is JPEG's static one (RFC 3551).
    pub(crate) fn payloader(self) -> &'static str {
        match self {
            Self::H264 => "rtph264pay name=pay0 pt=96 config-interval=-1",
            Self::H265 => "rtph265pay name=pay0 pt=96 config-interval=-1",
            Self::Mjpeg => "rtpjpegpay name=pay0 pt=26",
        }
    }
}

/// One access unit. Times are nanoseconds since the first decoding time of the clip.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The bytes; without times of its own.
    pub buffer: gst::Buffer,
    /// When it is to be decoded, hence sent.
    pub dts: u64,
    /// When it is to be shown; later than `dts` where the clip has B-frames.
    pub pts: u64,
    /// Whether decoding can begin here.
    pub key: bool,
}

/// All access units of a clip in decoding order; never empty, and the first is a keyframe.
#[derive(Debug)]
pub struct Clip {
    /// What it is coded in.
    pub codec: Codec,
    /// The access units.
    pub units: Vec<Unit>,
    /// From the first unit to the first of the next round, nanoseconds.
    pub length: u64,
}

impl Clip {
    /// Reads a whole file. `gst::init` must have been called.
    pub fn load(path: &Path) -> Result<Self, ClipError> {
        let fail = |text: String| ClipError::Read { path: path.to_owned(), text };
        if !path.is_file() {
            return Err(fail("no such file".into()));
        }
        let (found, head) = crossbeam_channel::bounded(1);
        let pipeline = reader(path, found).map_err(|e| fail(e.to_string()))?;
        pipeline.set_state(gst::State::Playing).map_err(|e| fail(e.to_string()))?;
        let units = read(&pipeline, &head).map_err(fail);
        // A pipeline that only read a file stops at once; whether it says so changes nothing.
        let _ = pipeline.set_state(gst::State::Null);
        let (codec, units) = units?;
        codec
            .and_then(|codec| Self::new(codec, units))
            .ok_or_else(|| ClipError::NoVideo { path: path.to_owned() })
    }

    /// Makes decoding times begin at 0 and drops what precedes the first keyframe; `None` where nothing remains.
    pub(crate) fn new(codec: Codec, units: Vec<Unit>) -> Option<Self> {
        let mut units: Vec<Unit> = units.into_iter().skip_while(|u| !u.key).collect();
        let (first, last) = (units.first()?.dts, units.last()?.dts);
        // The last picture lasts as long as the others on average; a still lasts 40 ms.
        let steps = units.len() as u64 - 1;
        let frame = last.saturating_sub(first).checked_div(steps).unwrap_or(40_000_000);
        for unit in &mut units {
            unit.dts = unit.dts.saturating_sub(first);
            unit.pts = unit.pts.saturating_sub(first);
        }
        Some(Self { codec, length: last.saturating_sub(first) + frame, units })
    }

    /// Mean time from one unit to the next, nanoseconds.
    pub(crate) fn frame(&self) -> u64 {
        self.length / self.units.len() as u64
    }

    /// The keyframe at or before unit `index`.
    pub(crate) fn keyframe_before(&self, index: usize) -> usize {
        self.units.iter().take(index + 1).rposition(|u| u.key).unwrap_or(0)
    }
}

type Head = (Codec, gst_app::AppSink);

/// `filesrc ! parsebin`, to whose first video pad the parser of its codec and an appsink are linked.
fn reader(
    path: &Path,
    found: crossbeam_channel::Sender<Head>,
) -> Result<gst::Pipeline, gst::glib::BoolError> {
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("filesrc").property("location", path).build()?;
    let parse = gst::ElementFactory::make("parsebin").build()?;
    pipeline.add_many([&source, &parse])?;
    source.link(&parse)?;
    let weak = pipeline.downgrade();
    parse.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().or_else(|| Some(pad.query_caps(None)));
        let codec = caps.and_then(|c| Codec::of_caps(c.structure(0)?.name().as_str()));
        let (Some(pipeline), Some(codec)) = (weak.upgrade(), codec) else { return };
        let head = tail(&pipeline, codec, pad).map(|sink| (codec, sink));
        // A second video track finds the channel full and stays unread.
        if let Some(head) = head {
            let _ = found.try_send(head);
        }
    });
    Ok(pipeline)
}

fn tail(pipeline: &gst::Pipeline, codec: Codec, pad: &gst::Pad) -> Option<gst_app::AppSink> {
    let launch = format!("{} ! {} ! appsink name=units sync=false", codec.parser(), codec.caps());
    let bin = gst::parse::bin_from_description(&launch, true).ok()?;
    let sink = bin.by_name("units")?.downcast::<gst_app::AppSink>().ok()?;
    pipeline.add(&bin).ok()?;
    bin.sync_state_with_parent().ok()?;
    pad.link(&bin.static_pad("sink")?).ok()?;
    Some(sink)
}

/// Reads until the end of the stream. No head by then means no video.
fn read(
    pipeline: &gst::Pipeline,
    head: &crossbeam_channel::Receiver<Head>,
) -> Result<(Option<Codec>, Vec<Unit>), String> {
    let bus = pipeline.bus().ok_or("a pipeline without a bus")?;
    let mut units = Vec::new();
    let mut reading: Option<Head> = None;
    loop {
        reading = reading.or_else(|| head.try_recv().ok());
        let message = match &reading {
            Some((_, sink)) => match sink.try_pull_sample(POLL) {
                Some(sample) => {
                    units.extend(unit(&sample));
                    continue;
                }
                None if sink.is_eos() => return Ok((reading.map(|(codec, _)| codec), units)),
                None => bus.pop_filtered(&[gst::MessageType::Error]),
            },
            None => bus.timed_pop_filtered(POLL, &[gst::MessageType::Error, gst::MessageType::Eos]),
        };
        match message.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::Error(error)) => return Err(error.error().to_string()),
            Some(gst::MessageView::Eos(_)) => return Ok((None, units)),
            _ => {}
        }
    }
}

fn unit(sample: &gst::Sample) -> Option<Unit> {
    let buffer = sample.buffer()?;
    let pts = buffer.pts().or(buffer.dts())?.nseconds();
    let dts = buffer.dts().or(buffer.pts())?.nseconds();
    let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let bytes = buffer.map_readable().ok()?.as_slice().to_vec();
    Some(Unit { buffer: gst::Buffer::from_slice(bytes), dts, pts, key })
}
