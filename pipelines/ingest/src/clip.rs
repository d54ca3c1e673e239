//! Access units or pictures into one MP4 file.
//!
//! Owns: the pipelines that end in a file, and what their errors mean. Does not know: which packets belong to a clip,
//! names, folders, when a file counts as complete. The file is fragmented: it grows by whole fragments of about a
//! second, and what was written when the power went can be played.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;
use gstreamer_video::VideoInfo;
use vedette_core::{Frame, Pts};

use crate::description::DescriptionKind;
use crate::picture::{info_of, packed};
use crate::{Codec, Description, Descriptions, Fault, Packet, StreamInfo};

/// Packets that wait within a pipeline; the next push waits with them.
const WAITING: u64 = 16;

/// How often the next push looks whether there is room.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(10);

/// How long a disk may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no clip, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// MP4 has no place for this codec.
    #[error("{0} has no place in an MP4 file: set the camera to H.264 or H.265 for clips")]
    Codec(Codec),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// The file cannot be written.
    #[error("{0}")]
    Write(String),
    /// An element is missing or fails.
    #[error("{0}")]
    Pipeline(String),
}

impl From<Fault> for ClipError {
    fn from(fault: Fault) -> Self {
        Self::Pipeline(fault.to_string())
    }
}

/// A pipeline that ends in a file. Dropped, it stops; the file then holds its whole fragments.
struct FilePipeline {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    input: AppSrc,
}

impl FilePipeline {
    fn start(description: &Description, path: &Path, caps: &gst::Caps) -> Result<Self, ClipError> {
        description.check_elements()?;
        let pipeline = description.launch(&[], gst::parse::launch)?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| description.wrong(&"one element"))?;
        let element = |name| pipeline.by_name(name).ok_or_else(|| description.lacks(name));
        let input = element("in")?.downcast::<AppSrc>().map_err(|_| description.lacks("in"))?;
        let output = element("out")?;
        if !output.has_property("location") {
            return Err(description.lacks("out").into());
        }
        output.set_property("location", path);
        input.set_format(gst::Format::Time);
        input.set_max_bytes(0);
        input.set_max_buffers(0);
        input.set_caps(Some(caps));
        let bus = pipeline.bus().ok_or_else(|| description.wrong(&"no bus"))?;
        let this = Self { pipeline, bus, input };
        if this.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(this.error().unwrap_or_else(|| description.wrong(&"does not start").into()));
        }
        Ok(this)
    }

    /// What went wrong, if something did.
    fn error(&self) -> Option<ClipError> {
        self.bus.pop_filtered(&[gst::MessageType::Error]).map(|message| error_of(&message))
    }

    /// Waits until fewer than `most` packets wait within.
    fn wait_for_room(&self, most: u64) -> Result<(), ClipError> {
        let mut looks = 0;
        while self.input.current_level_buffers() >= most {
            if let Some(message) = self.bus.timed_pop_filtered(LOOK, &[gst::MessageType::Error]) {
                return Err(error_of(&message));
            }
            looks += 1;
            if LOOK.mseconds() * looks > PATIENCE.as_millis() as u64 {
                return Err(ClipError::Write(format!("the disk took nothing for {} s", PATIENCE.as_secs())));
            }
        }
        Ok(())
    }

    fn push(&self, buffer: gst::Buffer) -> Result<(), ClipError> {
        self.wait_for_room(WAITING)?;
        let pushed = self.input.push_buffer(buffer);
        match (self.error(), pushed) {
            (Some(error), _) => Err(error),
            (None, Ok(_)) => Ok(()),
            (None, Err(error)) => Err(ClipError::Pipeline(error.to_string())),
        }
    }

    /// Writes what is left and closes the file.
    fn finish(self) -> Result<(), ClipError> {
        // An error on the way is on the bus.
        let _ = self.input.end_of_stream();
        let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(patience, &kinds);
        match message {
            Some(message) if message.type_() == gst::MessageType::Eos => Ok(()),
            Some(message) => Err(error_of(&message)),
            None => Err(ClipError::Write(format!("could not be closed within {} s", PATIENCE.as_secs()))),
        }
    }
}

impl Drop for FilePipeline {
    fn drop(&mut self) {
        // A pipeline without network stops at once; a failure leaves nothing to do.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn error_of(message: &gst::Message) -> ClipError {
    let gst::MessageView::Error(message) = message.view() else {
        return ClipError::Pipeline("stopped".to_owned());
    };
    let error = message.error();
    if error.matches(gst::ResourceError::NoSpaceLeft) {
        return ClipError::Full;
    }
    if error.is::<gst::ResourceError>() {
        return ClipError::Write(error.message().to_owned());
    }
    ClipError::Pipeline(format!("{} ({})", error.message(), message.debug().unwrap_or_default()))
}

/// One clip, packet by packet, copied as they are. No audio: none is received.
pub struct ClipWriter {
    file: FilePipeline,
    stream: Arc<StreamInfo>,
    first: Option<Pts>,
}

impl ClipWriter {
    /// Begins the file at `path`, which may be there and is then replaced.
    ///
    /// # Errors
    /// A codec that MP4 has no place for, an element that is missing, a file that cannot be opened.
    pub fn create(
        path: &Path,
        stream: &Arc<StreamInfo>,
        descriptions: &Descriptions,
    ) -> Result<Self, ClipError> {
        let description = descriptions.clip(stream.codec).ok_or(ClipError::Codec(stream.codec))?;
        let caps =
            stream.caps.parse().map_err(|_| ClipError::Pipeline(format!("no caps: {}", stream.caps)))?;
        let file = FilePipeline::start(description, path, &caps)?;
        Ok(Self { file, stream: Arc::clone(stream), first: None })
    }

    /// Whether a packet can go into the same file: of the same codec, size and profile. A file whose profile
    /// changes is one that nobody reads.
    pub fn takes(&self, packet: &Packet) -> bool {
        let (ours, its) = (&self.stream, &packet.stream);
        Arc::ptr_eq(ours, its)
            || (ours.codec, ours.width, ours.height, &ours.profile)
                == (its.codec, its.width, its.height, &its.profile)
    }

    /// Adds a packet in decoding order; waits while the disk is behind. The first must be a keyframe; pictures that
    /// are shown before it are left out, since what they refer to is not in the file.
    ///
    /// # Errors
    /// The file cannot be written any more, or nothing was for 30 s.
    pub fn push(&mut self, packet: &Packet, pts: Pts) -> Result<(), ClipError> {
        let first = *self.first.get_or_insert(pts);
        if pts < first {
            return Ok(());
        }
        let mut buffer = gst::Buffer::from_slice(Arc::clone(&packet.data));
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(time(pts, first));
            if !packet.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        self.file.push(buffer)
    }

    /// Completes the file. Syncing and naming it is the caller's.
    ///
    /// # Errors
    /// As [`ClipWriter::push`].
    pub fn finish(self) -> Result<(), ClipError> {
        self.file.finish()
    }
}

/// One clip of decoded pictures, which are coded anew: for cameras with masks.
pub struct ClipEncoder {
    file: FilePipeline,
    info: VideoInfo,
    first: Pts,
}

impl ClipEncoder {
    /// Begins the file at `path` for pictures like `frame`, which is not yet in it.
    ///
    /// # Errors
    /// As [`ClipWriter::create`].
    pub fn create(path: &Path, frame: &Frame, descriptions: &Descriptions) -> Result<Self, ClipError> {
        let description = descriptions.of_kind("reencode", &[DescriptionKind::Encode])?;
        let info = info_of(frame)?;
        let caps = info.to_caps().map_err(|_| description.wrong(&"no caps"))?;
        Ok(Self { file: FilePipeline::start(description, path, &caps)?, info, first: frame.moment().pts })
    }

    /// Whether a picture can go into the same file: of the same size, colours and layout.
    pub fn takes(&self, frame: &Frame) -> bool {
        info_of(frame).is_ok_and(|info| info == self.info)
    }

    /// Adds a picture; waits while the encoder is behind.
    ///
    /// # Errors
    /// As [`ClipWriter::push`].
    pub fn push(&mut self, frame: &Frame) -> Result<(), ClipError> {
        let mut buffer = gst::Buffer::from_mut_slice(packed(frame, &self.info));
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(time(frame.moment().pts, self.first));
        }
        self.file.push(buffer)
    }

    /// Waits until the encoder has taken all pictures.
    ///
    /// # Errors
    /// As [`ClipWriter::push`].
    pub fn settle(&mut self) -> Result<(), ClipError> {
        self.file.wait_for_room(1)
    }

    /// As [`ClipWriter::finish`].
    ///
    /// # Errors
    /// As [`ClipWriter::push`].
    pub fn finish(self) -> Result<(), ClipError> {
        self.file.finish()
    }
}

fn time(pts: Pts, first: Pts) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(pts.since(first).as_nanos()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, encoded, encoder, moment};
    use crate::{FileReader, Masks, open_decoder};
    use std::process::Command;

    const FRAME: Duration = Duration::from_millis(40);

    fn at(frame: usize) -> Pts {
        // A line on which the clip does not begin.
        Pts::from_secs_f64(100.0) + FRAME * frame as u32
    }

    fn with_b_frames() -> String {
        encoder(Codec::H264, "ball").replace("tune=zerolatency", "bframes=2 b-adapt=false")
    }

    /// When each packet is shown: B-frames come after the picture they are shown before.
    fn shown(packets: &[Packet]) -> Vec<Pts> {
        let first = packets[0].stream_pts.unwrap();
        let since = |p: &Packet| Duration::from_nanos(p.stream_pts.unwrap().saturating_sub(first));
        packets.iter().map(|p| at(0) + since(p)).collect()
    }

    fn write(path: &Path, packets: &[Packet]) -> ClipWriter {
        let mut writer = ClipWriter::create(path, &packets[0].stream, &testing::descriptions()).unwrap();
        for (packet, pts) in packets.iter().zip(shown(packets)) {
            writer.push(packet, pts).unwrap();
        }
        writer
    }

    fn read(path: &Path) -> Vec<Frame> {
        let start = jiff::Timestamp::UNIX_EPOCH;
        let reader = FileReader::open(path, &testing::descriptions(), &Masks::none(), start).unwrap();
        reader.map(|frame| frame.unwrap()).collect()
    }

    /// What somebody else's reader makes of it: codec, kind, the name players know it by, decoded pictures; seconds.
    fn ffprobe(path: &Path) -> (String, f64) {
        let entries = "stream=codec_name,codec_type,codec_tag_string,nb_read_frames:format=duration";
        let asked = ["-v", "error", "-count_frames", "-of", "default=nw=1:nk=1", "-show_entries", entries];
        let told = Command::new("ffprobe").args(asked).arg(path).output().unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        let errors = String::from_utf8_lossy(&told.stderr).into_owned();
        assert_eq!(errors, "", "{text}");
        let lines: Vec<&str> = text.lines().collect();
        let (seconds, rest) = lines.split_last().unwrap();
        (rest.join(" "), seconds.parse().unwrap())
    }

    #[test]
    fn every_codec_is_copied_frame_by_frame() {
        struct Case(Codec, &'static str, String);
        let cases = [
            Case(Codec::H264, "h264 video avc1 110", encoder(Codec::H264, "ball")),
            Case(Codec::H264, "h264 video avc1 110", with_b_frames()),
            Case(Codec::H265, "hevc video hvc1 110", encoder(Codec::H265, "ball")),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (n, Case(codec, expected, encode)) in cases.iter().enumerate() {
            let path = folder.path().join(format!("{n}.mp4"));
            let packets = encoded(*codec, encode, 110);
            write(&path, &packets).finish().unwrap();
            let (streams, seconds) = ffprobe(&path);
            assert_eq!(streams, *expected, "case {n}");
            assert!((seconds - 4.4).abs() < 0.1, "case {n}: {seconds} s");
            // What is shown before the first picture that was decoded is for the reader to leave out: GStreamer's does.
            let frames = read(&path);
            let reordered = encode.contains("bframes");
            assert!(frames.len() == 110 || reordered && frames.len() >= 108, "case {n}: {}", frames.len());
            for pair in frames.windows(2) {
                let step = pair[1].moment().pts.since(pair[0].moment().pts).as_millis();
                assert!((39..=41).contains(&step), "case {n}: {step} ms after {:?}", pair[0]);
            }
        }
    }

    #[test]
    fn another_profile_is_no_part_of_a_clip_which_it_would_make_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.mp4");
        let other = encoder(Codec::H264, "ball").replace("zerolatency", "zerolatency cabac=true dct8x8=true");
        let (day, night) =
            (encoded(Codec::H264, &encoder(Codec::H264, "ball"), 50), encoded(Codec::H264, &other, 1));
        let writer = write(&path, &day);
        assert!(writer.takes(&day[49]) && !writer.takes(&night[0]));
        writer.finish().unwrap();
        assert_eq!(ffprobe(&path).0, "h264 video avc1 50");
    }

    #[test]
    fn a_crash_leaves_what_was_written_so_far() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.mp4");
        let packets = encoded(Codec::H264, &encoder(Codec::H264, "ball"), 110);
        let writer = write(&path, &packets);
        // As many fragments as come without the end, whenever the pipeline's threads get to it.
        let clock = testing::clock();
        use vedette_core::Clock;
        let stop = vedette_core::Shutdown::new();
        while std::fs::metadata(&path).unwrap().len()
            < packets.iter().map(|p| p.data.len() as u64).sum::<u64>() / 2
        {
            assert!(!clock.pause(Duration::from_millis(10), &stop) && clock.now().0 < testing::PATIENCE);
        }
        let torn = folder.path().join("torn.mp4");
        std::fs::copy(&path, &torn).unwrap();
        drop(writer);
        let frames = read(&torn).len();
        assert!((25..110).contains(&frames), "{frames}");
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let packets = encoded(Codec::H264, &encoder(Codec::H264, "ball"), 60);
        let create =
            |path: &str| ClipWriter::create(Path::new(path), &packets[0].stream, &testing::descriptions());
        let mut full = create("/dev/full").unwrap();
        let pushed: Result<(), ClipError> =
            packets.iter().zip(shown(&packets)).try_for_each(|(packet, pts)| full.push(packet, pts));
        assert_eq!(pushed.and_then(|()| full.finish()), Err(ClipError::Full));
        assert!(matches!(create("/nonexistent/x.mp4").err(), Some(ClipError::Write(_))));
        let motion_jpeg = encoded(Codec::Mjpeg, &encoder(Codec::Mjpeg, "ball"), 2);
        let refused = ClipWriter::create(Path::new("x"), &motion_jpeg[0].stream, &testing::descriptions());
        assert_eq!(refused.err(), Some(ClipError::Codec(Codec::Mjpeg)));
    }

    #[test]
    fn a_clip_of_masked_pictures_is_black_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("masked.mp4");
        let packets = encoded(Codec::H264, &encoder(Codec::H264, "white"), 40);
        let corners = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]].map(Into::into).to_vec();
        let masks = Masks::new(vec![vedette_core::Polygon::new(corners).unwrap()]);
        let mut decoder = open_decoder(&testing::descriptions(), &packets[0].stream, &masks).unwrap();
        let mut encoder: Option<ClipEncoder> = None;
        let mut frames = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            decoder.push(packet, moment(at(n))).unwrap();
            frames.extend(decoder.frames().try_iter());
        }
        while frames.len() < packets.len() {
            frames.push(decoder.frames().recv_timeout(testing::PATIENCE).unwrap());
        }
        for frame in &frames {
            let create = || ClipEncoder::create(&path, frame, &testing::descriptions()).unwrap();
            let encoder = encoder.get_or_insert_with(create);
            assert!(encoder.takes(frame));
            encoder.push(frame).unwrap();
        }
        encoder.unwrap().finish().unwrap();
        let frames = read(&path);
        assert_eq!(ffprobe(&path).0, "h264 video avc1 40");
        // As above, a reader may leave out the first.
        assert!(frames.len() >= 39, "{}", frames.len());
        for frame in frames {
            let row = frame.plane(0).unwrap().row(120).to_vec();
            assert!(row[..152].iter().all(|&v| v < 40) && row[168..].iter().all(|&v| v > 200), "{frame:?}");
        }
    }
}
