//! A decoded GStreamer sample as a [`Frame`], and the way back: size, strides and colours are read anew from every
//! sample, since a stream may change them at any picture.

use std::sync::Arc;

use gstreamer as gst;
use gstreamer_video::{
    VideoColorMatrix, VideoColorPrimaries, VideoColorRange, VideoColorimetry, VideoFormat, VideoFrame,
    VideoInfo, VideoTransferFunction,
};
use gstreamer_video::{VideoFrameExt, video_frame::Readable};
use vedette_core::frame::PlaneLayout;
use vedette_core::{Frame, FrameBytes, Matrix, Moment, PixelFormat, Range};

use crate::{Fault, FaultClass};

/// One plane of a mapped picture.
struct PlaneBytes {
    picture: Arc<VideoFrame<Readable>>,
    plane: u32,
}

impl AsRef<[u8]> for PlaneBytes {
    fn as_ref(&self) -> &[u8] {
        self.picture.plane_data(self.plane).unwrap_or_default()
    }
}

/// Lends the planes of a sample; copies nothing.
pub(crate) fn frame_of(sample: &gst::Sample, moment: Moment, keyframe: bool) -> Result<Frame, Fault> {
    let broken = |what: String| Fault::new(FaultClass::Undecodable, what, "report this stream");
    let caps = sample.caps().ok_or_else(|| broken("a decoder gave a picture without a format".into()))?;
    let info =
        VideoInfo::from_caps(caps).map_err(|error| broken(format!("a decoder gave {caps}: {error}")))?;
    let buffer = sample.buffer_owned().ok_or_else(|| broken("a decoder gave no picture".into()))?;
    let format = match info.format() {
        VideoFormat::I420 => PixelFormat::I420,
        VideoFormat::Nv12 => PixelFormat::Nv12,
        VideoFormat::Gray8 => PixelFormat::Gray8,
        other => return Err(broken(format!("a decoder gave {other:?}, not I420, NV12 or GRAY8"))),
    };
    let picture = VideoFrame::from_buffer_readable(buffer, &info)
        .map_err(|_| broken(format!("a decoder's picture of {} bytes does not fit {caps}", info.size())))?;
    let picture = Arc::new(picture);
    let (mut layouts, mut buffers) = (Vec::new(), Vec::<FrameBytes>::new());
    for (plane, &stride) in (0..picture.n_planes()).zip(picture.plane_stride()) {
        let stride = usize::try_from(stride).map_err(|_| broken("a picture upside down".into()))?;
        layouts.push(PlaneLayout { buffer: buffers.len(), offset: 0, stride });
        buffers.push(Arc::new(PlaneBytes { picture: Arc::clone(&picture), plane }));
    }
    let frame = Frame::new(moment, (info.width(), info.height()), format, &layouts, buffers)
        .map_err(|error| broken(error.to_string()))?;
    let (range, matrix) = color_of(&info, &frame);
    let aspect = info.par();
    Ok(frame
        .with_color(range, matrix)
        .with_pixel_aspect(aspect.numer() as f32 / aspect.denom() as f32)
        .with_keyframe(keyframe))
}

/// What the stream says; where it says nothing, the frame's own guess by height stands.
fn color_of(info: &VideoInfo, frame: &Frame) -> (Range, Matrix) {
    let range = match info.colorimetry().range() {
        VideoColorRange::Range0_255 => Range::Full,
        _ => Range::Limited,
    };
    let matrix = match info.colorimetry().matrix() {
        VideoColorMatrix::Bt709 => Matrix::Bt709,
        VideoColorMatrix::Bt601 | VideoColorMatrix::Fcc => Matrix::Bt601,
        _ => frame.matrix(),
    };
    (range, matrix)
}

/// How GStreamer lays out and reads the bytes of [`packed`].
pub(crate) fn info_of(frame: &Frame) -> Result<VideoInfo, Fault> {
    let format = match frame.format() {
        PixelFormat::I420 => VideoFormat::I420,
        PixelFormat::Nv12 => VideoFormat::Nv12,
        PixelFormat::Gray8 => VideoFormat::Gray8,
    };
    let range = match frame.range() {
        Range::Full => VideoColorRange::Range0_255,
        Range::Limited => VideoColorRange::Range16_235,
    };
    let matrix = match frame.matrix() {
        Matrix::Bt709 => VideoColorMatrix::Bt709,
        Matrix::Bt601 => VideoColorMatrix::Bt601,
    };
    let color =
        VideoColorimetry::new(range, matrix, VideoTransferFunction::Bt709, VideoColorPrimaries::Bt709);
    // Cameras' ratios are of small numbers: 16/11, 40/33.
    let aspect = gst::Fraction::approximate_f32(frame.pixel_aspect()).unwrap_or(gst::Fraction::new(1, 1));
    VideoInfo::builder(format, frame.width(), frame.height())
        .colorimetry(&color)
        .par(aspect)
        // Pictures carry their own times.
        .fps(gst::Fraction::new(0, 1))
        .build()
        .map_err(|error| {
            Fault::new(FaultClass::Undecodable, format!("{frame:?}: {error}"), "report this stream")
        })
}

/// The frame's bytes in one piece, laid out as `info` says.
pub(crate) fn packed(frame: &Frame, info: &VideoInfo) -> Vec<u8> {
    let mut bytes = vec![0; info.size()];
    for (index, (&offset, &stride)) in info.offset().iter().zip(info.stride()).enumerate() {
        let (Some(plane), Ok(stride)) = (frame.plane(index), usize::try_from(stride)) else { continue };
        for (y, row) in bytes[offset..].chunks_mut(stride.max(1)).take(plane.height).enumerate() {
            let length = plane.width.min(row.len());
            row[..length].copy_from_slice(&plane.row(y)[..length]);
        }
    }
    bytes
}
