//! A video file as frames, for replay: every frame, in order, as fast as they are taken, the same each time.
//!
//! Owns: the file pipeline and the frames' times. Does not know: cameras or packets; nothing is dropped here, the
//! pipeline waits for whoever takes the frames.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use vedette_core::{Frame, Moment, Pts};

use crate::description::DescriptionKind;
use crate::mask::Painter;
use crate::picture::frame_of;
use crate::{Descriptions, Fault, FaultClass, Masks};

/// How often a waiting reader looks for errors.
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// Polls in which nothing is read from the file and nothing comes out before it counts as stuck: 10 s. decodebin
/// 1.22 loses an error of a demuxer that fails while it is being linked, and is silent from then on.
const PATIENCE: u32 = 50;

/// The frames of a file. After an error there is nothing more.
pub struct FileReader {
    pipeline: gst::Pipeline,
    output: AppSink,
    painter: Painter,
    start: jiff::Timestamp,
    shown: String,
    /// Buffers read from the file so far.
    reads: Arc<AtomicU64>,
    last: Option<Pts>,
    finished: bool,
}

impl FileReader {
    /// Opens any file that GStreamer has a plugin for. Its frames' wall clock counts from `start`. Fails where the
    /// file is not there, is no video, or needs a plugin that is not installed.
    pub fn open(
        path: &Path,
        descriptions: &Descriptions,
        masks: &Masks,
        start: jiff::Timestamp,
    ) -> Result<Self, Fault> {
        let shown = path.display().to_string();
        if let Err(error) = std::fs::File::open(path) {
            return Err(Fault::new(FaultClass::NotFound, format!("{shown}: {error}"), "check the path"));
        }
        let location = path.to_str().ok_or_else(|| {
            Fault::new(FaultClass::BadUrl, format!("{shown}: a name that is not UTF-8"), "rename the file")
        })?;
        let description = descriptions.of_kind("file", &[DescriptionKind::File])?;
        description.check_elements()?;
        let pipeline = description.launch(&[], gst::parse::launch)?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| description.wrong(&"one element"))?;
        let element = |name| pipeline.by_name(name).ok_or_else(|| description.lacks(name));
        let source = element("source")?;
        source.set_property("location", location);
        let reads = count_reads(&source).ok_or_else(|| description.lacks("source"))?;
        let output = element("out")?.downcast::<AppSink>().map_err(|_| description.lacks("out"))?;
        output.set_sync(false);
        output.set_enable_last_sample(false);
        output.set_max_buffers(2);
        watch_decoder(&pipeline, &element("decode")?);
        let painter = Painter::new(masks);
        let reader = Self { pipeline, output, painter, start, shown, reads, last: None, finished: false };
        reader.begin()?;
        Ok(reader)
    }

    /// Waits for the first picture, then lets the file run.
    fn begin(&self) -> Result<(), Fault> {
        let stuck = || self.fault(FaultClass::Undecodable, "does not start", "try `ffprobe` on it");
        // A failure here has left its reason on the bus.
        let paused = self.pipeline.set_state(gst::State::Paused);
        let bus = self.pipeline.bus().ok_or_else(stuck)?;
        let kinds = [gst::MessageType::Error, gst::MessageType::AsyncDone, gst::MessageType::Application];
        let message = self.patiently(|| bus.timed_pop_filtered(POLL, &kinds)).ok_or_else(stuck)?;
        match message.view() {
            gst::MessageView::Error(error) => return Err(self.error_of(error)),
            gst::MessageView::Application(_) => {
                return Err(self.fault(FaultClass::Codec, "has no video in it", "choose another file"));
            }
            _ => {}
        }
        paused.and_then(|_| self.pipeline.set_state(gst::State::Playing)).map(|_| ()).map_err(|_| stuck())
    }

    /// Asks until there is an answer, or for 10 s in which the file is not even read.
    fn patiently<T>(&self, ask: impl Fn() -> Option<T>) -> Option<T> {
        let (mut reads, mut idle) = (0, 0);
        while idle < PATIENCE {
            if let Some(answer) = ask() {
                return Some(answer);
            }
            let now = self.reads.load(Ordering::Relaxed);
            idle = if now == reads { idle + 1 } else { 0 };
            reads = now;
        }
        None
    }

    /// Its length, where the file says it.
    pub fn duration(&self) -> Option<Duration> {
        self.pipeline.query_duration::<gst::ClockTime>().map(Duration::from)
    }

    fn fault(&self, class: FaultClass, what: &str, remedy: &str) -> Fault {
        Fault::new(class, format!("{} {what}", self.shown), remedy)
    }

    fn error_of(&self, message: &gst::message::Error) -> Fault {
        let error = message.error();
        let debug = message.debug().unwrap_or_default();
        let missing = error.matches(gst::CoreError::MissingPlugin)
            || error.matches(gst::StreamError::CodecNotFound)
            || debug.contains("missing plugin");
        if missing {
            let what = format!("needs a plugin that is not installed ({})", error.message());
            return self.fault(
                FaultClass::MissingElement,
                &what,
                "install gstreamer1.0-libav and -plugins-bad",
            );
        }
        let what = format!("cannot be decoded ({})", error.message());
        self.fault(FaultClass::Undecodable, &what, "try `ffprobe` on it: it may be no video, or cut off")
    }

    /// What the pipeline has to say at the end of its frames, or while none come.
    fn pending_error(&self) -> Option<Fault> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(self.error_of(error)),
            _ => None,
        }
    }

    fn pull(&mut self) -> Result<Option<Frame>, Fault> {
        let next = self.patiently(|| {
            if let Some(sample) = self.output.try_pull_sample(POLL) {
                return Some(Ok(Some(sample)));
            }
            // In this order: the error that causes an end is on the bus before the end.
            let ended = self.output.is_eos();
            self.pending_error().map(Err).or(ended.then_some(Ok(None)))
        });
        let stuck = || self.fault(FaultClass::Stalled, "gives no more pictures", "try `ffprobe` on it");
        let Some(sample) = next.ok_or_else(stuck)?? else {
            let empty = || self.fault(FaultClass::Undecodable, "has no picture in it", "try `ffprobe` on it");
            return self.last.map(|_| None).ok_or_else(empty);
        };
        let moment = Moment::of_file(self.start, self.pts_of(&sample));
        self.painter.paint(frame_of(&sample, moment, false)?).map(Some)
    }

    /// The frame's own time from the beginning of the file; later than the last one in any case.
    fn pts_of(&mut self, sample: &gst::Sample) -> Pts {
        let given = sample.buffer().and_then(gst::BufferRef::pts);
        let running = given.and_then(|pts| {
            let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
            segment.to_running_time(pts).or(Some(pts))
        });
        let pts = match (running, self.last) {
            (Some(pts), last) => {
                let earliest = last.map_or(Pts::ZERO, |last| last + Duration::from_nanos(1));
                Pts::from_nanos(pts.nseconds()).max(earliest)
            }
            (None, Some(last)) => last + frame_length(sample),
            (None, None) => Pts::ZERO,
        };
        self.last = Some(pts);
        pts
    }
}

/// What the file declares, else 1/25 s.
fn frame_length(sample: &gst::Sample) -> Duration {
    let rate =
        sample.caps().and_then(|c| c.structure(0)).and_then(|s| s.get::<gst::Fraction>("framerate").ok());
    rate.filter(|r| r.numer() > 0 && r.denom() > 0).map_or(Duration::from_millis(40), |r| {
        Duration::from_secs_f64(f64::from(r.denom()) / f64::from(r.numer()))
    })
}

fn count_reads(source: &gst::Element) -> Option<Arc<AtomicU64>> {
    let reads = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&reads);
    source.static_pad("src")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    })?;
    Some(reads)
}

/// One thread per decoder: threads change neither pictures nor CPU time, but how a damaged file is concealed. And
/// a word on the bus where a file has no video: the sink would wait for ever.
fn watch_decoder(pipeline: &gst::Pipeline, decode: &gst::Element) {
    pipeline.connect_deep_element_added(|_, _, element| {
        if element.has_property("max-threads") {
            element.set_property_from_str("max-threads", "1");
        }
    });
    decode.connect_no_more_pads(|decode| {
        if decode.src_pads().iter().all(|pad| !pad.is_linked()) {
            let word = gst::message::Application::new(gst::Structure::new_empty("no-video"));
            // Refused only while the pipeline is being stopped.
            let _ = decode.post_message(word);
        }
    });
}

impl Iterator for FileReader {
    type Item = Result<Frame, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let next = self.pull().transpose();
        self.finished = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        // A file pipeline stops at once; a failure leaves nothing to do.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::path::PathBuf;

    fn open(path: &Path) -> Result<FileReader, Fault> {
        FileReader::open(path, &testing::descriptions(), &Masks::none(), jiff::Timestamp::UNIX_EPOCH)
    }

    /// Frames and a hash over all planes and times.
    fn digest(path: &Path) -> (usize, u64) {
        let (mut hasher, mut frames) = (DefaultHasher::new(), 0);
        for frame in open(path).unwrap() {
            let frame = frame.unwrap();
            frame.moment().pts.hash(&mut hasher);
            for plane in (0..3).filter_map(|n| frame.plane(n)) {
                (0..plane.height).for_each(|y| plane.row(y).hash(&mut hasher));
            }
            frames += 1;
        }
        (frames, hasher.finish())
    }

    /// A clip of 320x240 made by GStreamer: `launch` ends in a file.
    fn clip(folder: &Path, name: &str, launch: &str) -> PathBuf {
        testing::init();
        let path = folder.join(name);
        let pipeline = gst::parse::launch(&format!("{launch} ! filesink name=end")).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        pipeline.by_name("end").unwrap().set_property("location", path.to_str().unwrap());
        pipeline.set_state(gst::State::Playing).unwrap();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let end =
            pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(30), &kinds).unwrap();
        assert_eq!(end.type_(), gst::MessageType::Eos);
        pipeline.set_state(gst::State::Null).unwrap();
        path
    }

    #[test]
    fn the_pedestrians_of_vtest_are_all_there_twice_the_same() {
        let path = Path::new("/usr/share/doc/opencv-doc/examples/data/vtest.avi");
        if !path.exists() {
            println!("skipped: vtest.avi is not installed (package opencv-doc)");
            return;
        }
        let reader = open(path).unwrap();
        assert_eq!(reader.duration().map(|d| d.as_millis()), Some(79_500));
        let frames: Vec<_> = reader.take(2).collect::<Result<_, _>>().unwrap();
        assert_eq!((frames[1].width(), frames[1].height()), (768, 576));
        assert_eq!(frames[1].moment().pts.since(frames[0].moment().pts), Duration::from_millis(100));
        let first = digest(path);
        assert_eq!(first.0, 795);
        assert_eq!(digest(path), first);
    }

    #[test]
    fn a_file_with_sound_and_b_frames_gives_its_frames_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = clip(
            folder.path(),
            "b.mkv",
            "videotestsrc num-buffers=50 ! video/x-raw,width=320,height=240,framerate=25/1 \
             ! x264enc bframes=2 threads=1 ! h264parse ! matroskamux name=mux \
             audiotestsrc num-buffers=80 ! vorbisenc ! mux. mux.",
        );
        let frames: Vec<Frame> = open(&path).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(frames.len(), 50);
        for (n, pair) in frames.windows(2).enumerate() {
            let step = pair[1].moment().pts.since(pair[0].moment().pts);
            assert!((39..=41).contains(&step.as_millis()), "frame {n}: {step:?}");
        }
    }

    #[test]
    fn what_is_no_video_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let sound = clip(folder.path(), "sound.ogg", "audiotestsrc num-buffers=20 ! vorbisenc ! oggmux");
        struct Case(PathBuf, FaultClass);
        let cases = [
            Case(folder.path().join("none.mp4"), FaultClass::NotFound),
            Case(write("noise.mp4", &[0x5a; 4096]), FaultClass::Undecodable),
            Case(write("empty.mp4", &[]), FaultClass::Undecodable),
            Case(write("text.avi", b"RIFF\x10\0\0\0AVI LIST"), FaultClass::Undecodable),
            Case(sound, FaultClass::Codec),
        ];
        for Case(path, expected) in cases {
            let fault = open(&path)
                .and_then(|mut r| r.next().unwrap_or_else(|| panic!("{path:?}: no frame, no fault")));
            let fault = fault.expect_err(path.to_str().unwrap());
            assert_eq!(fault.class, expected, "{fault}");
            assert!(fault.message.contains(path.file_name().unwrap().to_str().unwrap()), "{fault}");
        }
    }

    #[test]
    fn masks_hold_for_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = clip(
            folder.path(),
            "w.avi",
            "videotestsrc num-buffers=3 pattern=white ! video/x-raw,width=320,height=240 ! jpegenc ! avimux",
        );
        let square = [[0.0, 0.0], [0.25, 0.0], [0.25, 0.25], [0.0, 0.25]];
        let polygon = vedette_core::Polygon::new(square.map(Into::into).to_vec()).unwrap();
        let masks = Masks::new(vec![polygon]);
        let mut reader =
            FileReader::open(&path, &testing::descriptions(), &masks, jiff::Timestamp::UNIX_EPOCH).unwrap();
        let frame = reader.next().unwrap().unwrap();
        let luma = frame.plane(0).unwrap();
        assert!(luma.row(10)[..80].iter().all(|&v| v <= 16));
        assert!(luma.row(10)[90..].iter().all(|&v| v > 200));
    }
}
