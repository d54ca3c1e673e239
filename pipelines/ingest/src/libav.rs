//! The decoder `libav`: libavcodec in the caller's thread, without a pipeline around it. The crate's only `unsafe`:
//! it lends the planes of a picture that libavcodec owns.
//!
//! Owns: the codec context and the pictures' planes. Does not know: GStreamer, other decoders.
#![expect(unsafe_code, reason = "the planes of an AVFrame are raw pointers")]

use std::sync::{Arc, Once};

use crossbeam_channel::Receiver;
use ffmpeg_next as ffmpeg;
use ffmpeg_next::util::error::EAGAIN;
use vedette_core::frame::PlaneLayout;
use vedette_core::{Frame, FrameBytes, Matrix, Moment, PixelFormat, Pts, Range};

use crate::decode::{Moments, Outlet, WAITING_FRAMES};
use crate::mask::Painter;
use crate::{Codec, Decoder, Fault, FaultClass, LoopFilter, Masks, Packet, Skip};

/// 8K and a little more: what a forged stream may make libavcodec allocate is 50 MB a picture.
const PIXELS_AT_MOST: u32 = 8192 * 4352;

/// An access unit above this is none.
const BYTES_AT_MOST: usize = 64 << 20;

/// Lines above which GStreamer takes an untagged stream for BT.709; `libav` must not differ in colour.
const HD_LINES: u32 = 576;

/// One decoder of libavcodec, one thread, no frame of delay that the stream does not ask for.
pub(crate) struct LibavDecoder {
    decoder: ffmpeg::decoder::Video,
    codec: Codec,
    moments: Moments,
    painter: Painter,
    outlet: Outlet,
    skip: Skip,
}

impl LibavDecoder {
    /// Whether there is a decoder for the codec, in principle.
    pub(crate) fn knows(codec: Codec) -> bool {
        id_of(codec).is_some()
    }

    pub(crate) fn open(
        codec: Codec,
        loop_filter: LoopFilter,
        masks: &Masks,
        outlet: Outlet,
    ) -> Result<Self, Fault> {
        // Its messages go to stderr, a line for each macroblock in error; where GStreamer's plugin is loaded they
        // have gone to GStreamer's log already.
        static QUIET: Once = Once::new();
        QUIET.call_once(|| ffmpeg::log::set_level(ffmpeg::log::Level::Quiet));
        let absent = |why: &dyn std::fmt::Display| {
            let what = format!("libavcodec does not decode {codec} here: {why}");
            Fault::new(FaultClass::MissingElement, what, "set `decoder` to one of GStreamer's")
        };
        let id = id_of(codec).ok_or_else(|| absent(&"not one of H.264 and H.265"))?;
        let found = ffmpeg::decoder::find(id).ok_or_else(|| absent(&"it was built without"))?;
        let mut context = ffmpeg::codec::Context::new_with_codec(found).decoder();
        if loop_filter == LoopFilter::Skip {
            context.skip_loop_filter(ffmpeg::Discard::All);
        }
        let mut options = ffmpeg::Dictionary::new();
        options.set("threads", "1");
        // As GStreamer's: pictures that begin without all they refer to are shown. Streams of periodic intra refresh
        // have no others.
        options.set("flags", "+low_delay+output_corrupt");
        options.set("max_pixels", &PIXELS_AT_MOST.to_string());
        let opened = context.open_as_with(found, options).and_then(ffmpeg::decoder::Opened::video);
        let decoder = opened.map_err(|error| absent(&error))?;
        Ok(Self {
            decoder,
            codec,
            moments: Moments::default(),
            painter: Painter::new(masks),
            outlet,
            skip: Skip::None,
        })
    }

    /// Takes out every picture that is ready.
    fn drain(&mut self) -> Result<(), Fault> {
        while self.take_out()? {}
        Ok(())
    }

    /// Takes out one picture; false where none is ready.
    fn take_out(&mut self) -> Result<bool, Fault> {
        let mut picture = ffmpeg::frame::Video::empty();
        match self.decoder.receive_frame(&mut picture) {
            Ok(()) => self.deliver(picture).map(|()| true),
            Err(ffmpeg::Error::Other { errno: EAGAIN } | ffmpeg::Error::Eof) => Ok(false),
            Err(error) => self.concealed(error).map(|()| false),
        }
    }

    /// Damage in a stream is no fault of the decoder: it is counted, and it goes on at the next packet that it
    /// understands, as GStreamer's does; a stream that gives no picture at all is the watchdog's.
    fn concealed(&self, error: ffmpeg::Error) -> Result<(), Fault> {
        if let ffmpeg::Error::Other { errno: ffmpeg::util::error::ENOMEM } = error {
            return Err(Fault::new(
                FaultClass::Undecodable,
                "no memory for a picture",
                "give it more memory",
            ));
        }
        log::debug!("libavcodec: {error}");
        self.outlet.damage();
        Ok(())
    }

    fn deliver(&mut self, picture: ffmpeg::frame::Video) -> Result<(), Fault> {
        let pts = picture.pts().and_then(|pts| u64::try_from(pts).ok()).map(Pts::from_nanos);
        // A picture whose packet was flushed is nobody's.
        let Some((moment, keyframe)) = pts.and_then(|pts| self.moments.take(pts)) else { return Ok(()) };
        if is_damaged(&picture) {
            self.outlet.damage();
        }
        let frame = frame_of(picture, moment)?.with_keyframe(keyframe);
        self.outlet.send(self.painter.paint(frame)?);
        Ok(())
    }
}

impl Decoder for LibavDecoder {
    fn push(&mut self, packet: &Packet, moment: Moment) -> Result<(), Fault> {
        if packet.stream.codec != self.codec {
            let what = format!("the stream turned from {} into {}", self.codec, packet.stream.codec);
            return Err(Fault::new(FaultClass::Undecodable, what, "trying again with a new decoder"));
        }
        if packet.data.is_empty() || packet.data.len() > BYTES_AT_MOST {
            return Ok(());
        }
        self.moments.insert(moment, packet.keyframe);
        // A copy, since libavcodec reads up to 64 bytes behind the end.
        let mut encoded = ffmpeg::Packet::copy(&packet.data);
        encoded.set_pts(i64::try_from(moment.pts.nanos()).ok());
        if packet.keyframe {
            encoded.set_flags(ffmpeg::packet::Flags::KEY);
        }
        if let Err(error) = self.decoder.send_packet(&encoded) {
            self.concealed(error)?;
        }
        if self.skip != Skip::NonKey {
            return self.drain();
        }
        // A stream with B-frames would hold each keyframe back until the ones after it have come.
        if let Err(error) = self.decoder.send_eof() {
            self.concealed(error)?;
        }
        let drained = self.drain();
        self.decoder.flush();
        drained
    }

    fn frames(&self) -> &Receiver<Frame> {
        self.outlet.frames()
    }

    fn finish(&mut self) -> Result<(), Fault> {
        // Refused from the second call on, when it knows already.
        let _ = self.decoder.send_eof();
        for _ in 0..WAITING_FRAMES {
            if !self.take_out()? {
                break;
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.decoder.flush();
        self.moments = Moments::default();
        self.outlet.clear();
    }

    fn dropped(&self) -> u64 {
        self.outlet.dropped()
    }

    fn gives_keyframes_alone(&self) -> bool {
        true
    }

    fn damaged(&self) -> u64 {
        self.outlet.damaged()
    }

    fn set_skip(&mut self, skip: Skip) {
        self.skip = skip;
    }
}

fn id_of(codec: Codec) -> Option<ffmpeg::codec::Id> {
    match codec {
        Codec::H264 => Some(ffmpeg::codec::Id::H264),
        Codec::H265 => Some(ffmpeg::codec::Id::HEVC),
        Codec::Mjpeg => None,
    }
}

/// Whether parts of the picture are guessed, or what it refers to was.
fn is_damaged(picture: &ffmpeg::frame::Video) -> bool {
    // SAFETY: the AVFrame that `picture` owns, never null, since av_frame_alloc's result was filled by
    // avcodec_receive_frame.
    picture.is_corrupt() || unsafe { (*picture.as_ptr()).decode_error_flags } != 0
}

/// One plane of a picture. The picture stays alive and unchanged as long as any plane does: libavcodec counts our
/// reference and writes only to buffers that nobody else refers to.
struct PlaneBytes {
    picture: Arc<ffmpeg::frame::Video>,
    plane: usize,
    /// From the first pixel to behind the last one; lies within one buffer of the picture.
    bytes: usize,
}

impl PlaneBytes {
    /// `None` where the plane is not there or does not lie within the picture's memory; else also its stride.
    fn new(
        picture: &Arc<ffmpeg::frame::Video>,
        plane: usize,
        (row_bytes, rows): (usize, usize),
    ) -> Option<(Self, usize)> {
        // SAFETY: the pointer is to the AVFrame that `picture` owns, allocated by av_frame_alloc and never null here,
        // since avcodec_receive_frame filled it.
        let raw = unsafe { &*picture.as_ptr() };
        let begin = raw.data.get(plane)?.addr();
        // Pictures upside down have a negative one; H.264 and H.265 give none.
        let stride = usize::try_from(*raw.linesize.get(plane)?).ok()?;
        let bytes = stride.checked_mul(rows.checked_sub(1)?)?.checked_add(row_bytes)?;
        let end = begin.checked_add(bytes)?;
        let holds = |&buffer: &*mut ffmpeg::ffi::AVBufferRef| {
            // SAFETY: null, or a reference that the AVFrame counts and that nobody changes while we borrow it.
            unsafe { buffer.as_ref() }
                .is_some_and(|b| b.data.addr() <= begin && end <= b.data.addr().saturating_add(b.size))
        };
        let within = begin != 0 && raw.buf.iter().any(holds);
        within.then(|| (Self { picture: Arc::clone(picture), plane, bytes }, stride))
    }
}

impl AsRef<[u8]> for PlaneBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as in `new`, which also found that so many bytes from this pointer on lie within one buffer of the
        // picture; that buffer was zeroed when it was allocated, is referred to by the picture until `self` goes, and
        // is written by nobody (see the type).
        unsafe { std::slice::from_raw_parts((*self.picture.as_ptr()).data[self.plane], self.bytes) }
    }
}

/// Lends the planes of a picture; copies nothing.
fn frame_of(picture: ffmpeg::frame::Video, moment: Moment) -> Result<Frame, Fault> {
    use ffmpeg::format::Pixel;
    let (format, full) = match picture.format() {
        Pixel::YUV420P => (PixelFormat::I420, false),
        Pixel::YUVJ420P => (PixelFormat::I420, true),
        Pixel::NV12 => (PixelFormat::Nv12, false),
        Pixel::GRAY8 => (PixelFormat::Gray8, false),
        other => {
            let what = format!("`libav` gives 8-bit 4:2:0 pictures and the stream is {other:?}");
            let remedy = "set the camera to 8 bits 4:2:0, or `decoder` to one of GStreamer's";
            return Err(Fault::new(FaultClass::Undecodable, what, remedy));
        }
    };
    let full = full || picture.color_range() == ffmpeg::color::Range::JPEG;
    let size @ (width, height) = (picture.width(), picture.height());
    let matrix = matrix_of(picture.color_space(), height);
    let aspect = picture.aspect_ratio();
    let picture = Arc::new(picture);
    let (mut layouts, mut buffers) = (Vec::new(), Vec::<FrameBytes>::new());
    for (plane, shape) in plane_shapes(format, width as usize, height as usize).iter().enumerate() {
        let Some((bytes, stride)) = PlaneBytes::new(&picture, plane, *shape) else { break };
        layouts.push(PlaneLayout { buffer: buffers.len(), offset: 0, stride });
        buffers.push(Arc::new(bytes));
    }
    let frame = Frame::new(moment, size, format, &layouts, buffers)
        .map_err(|error| Fault::new(FaultClass::Undecodable, error.to_string(), "report this stream"))?;
    let range = if full { Range::Full } else { Range::Limited };
    // 0/1 is "not said".
    let aspect = f64::from(aspect.numerator()) / f64::from(aspect.denominator());
    Ok(frame.with_color(range, matrix).with_pixel_aspect(aspect as f32))
}

fn matrix_of(space: ffmpeg::color::Space, height: u32) -> Matrix {
    use ffmpeg::color::Space;
    match space {
        Space::BT709 => Matrix::Bt709,
        Space::BT470BG | Space::SMPTE170M | Space::FCC => Matrix::Bt601,
        _ if height > HD_LINES => Matrix::Bt709,
        _ => Matrix::Bt601,
    }
}

/// Bytes a row and rows of each plane.
fn plane_shapes(format: PixelFormat, width: usize, height: usize) -> Vec<(usize, usize)> {
    let (half, lines) = (width.div_ceil(2), height.div_ceil(2));
    match format {
        PixelFormat::I420 => vec![(width, height), (half, lines), (half, lines)],
        PixelFormat::Nv12 => vec![(width, height), (2 * half, lines)],
        PixelFormat::Gray8 => vec![(width, height)],
    }
}
