//! A decoded picture as a JPEG.
//!
//! Owns: its encoding, and boxes drawn into it. Does not know: files, which picture is worth it. What a camera's masks
//! cover is black in the [`Frame`] already.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_video::VideoInfo;
use vedette_core::{BBox, Frame, PixelFormat};

use crate::description::DescriptionKind;
use crate::picture::{info_of, packed};
use crate::{Descriptions, Fault, FaultClass};

/// How long a picture may take on the busiest of machines; 1080p takes 5 ms.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(20);

/// Yellow, as luma and chroma of BT.601; none of the two matrices makes another colour of it that is hard to see.
const COLOR: [u8; 3] = [210, 16, 146];

/// The picture as a JPEG file, with the outlines of `boxes` (0..1 of the picture).
///
/// # Errors
/// An element that is missing, or a picture that the encoder refuses.
pub fn jpeg(frame: &Frame, boxes: &[BBox], descriptions: &Descriptions) -> Result<Vec<u8>, Fault> {
    let description = descriptions.of_kind("snapshot", &[DescriptionKind::Snapshot])?;
    description.check_elements()?;
    let info = info_of(frame)?;
    let mut picture = packed(frame, &info);
    boxes.iter().for_each(|bbox| outline(&mut picture, &info, frame.format(), *bbox));
    let pipeline = description.launch(&[], gst::parse::launch)?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| description.wrong(&"one element"))?;
    let element = |name| pipeline.by_name(name).ok_or_else(|| description.lacks(name));
    let input = element("in")?.downcast::<AppSrc>().map_err(|_| description.lacks("in"))?;
    let output = element("out")?.downcast::<AppSink>().map_err(|_| description.lacks("out"))?;
    input.set_format(gst::Format::Time);
    input.set_caps(Some(&info.to_caps().map_err(|_| description.wrong(&"no caps"))?));
    output.set_sync(false);
    let mut buffer = gst::Buffer::from_mut_slice(picture);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(gst::ClockTime::ZERO);
    }
    let sample = pipeline
        .set_state(gst::State::Playing)
        .ok()
        .and_then(|_| input.push_buffer(buffer).and_then(|_| input.end_of_stream()).ok())
        .and_then(|_| output.try_pull_sample(PATIENCE));
    let bytes =
        sample.as_ref().and_then(|sample| sample.buffer()?.map_readable().ok()).map(|map| map.to_vec());
    // A pipeline without network stops at once; a failure leaves nothing to do.
    let _ = pipeline.set_state(gst::State::Null);
    bytes.ok_or_else(|| {
        let what = format!("{frame:?} cannot be written as JPEG");
        Fault::new(FaultClass::Undecodable, what, "run `vedette doctor`")
    })
}

/// Draws the outline of a box into a packed picture.
fn outline(picture: &mut [u8], info: &VideoInfo, format: PixelFormat, bbox: BBox) {
    let bbox = bbox.clipped();
    let (width, height) = (info.width() as usize, info.height() as usize);
    let thick = (height / 270).max(2);
    // Casts saturate; what is clipped lies within 0..1.
    let edge = |at: f32, length: usize| ((at * length as f32) as usize).min(length.saturating_sub(1));
    let (x0, x1) = (edge(bbox.x0, width), edge(bbox.x1, width));
    let (y0, y1) = (edge(bbox.y0, height), edge(bbox.y1, height));
    for y in y0..=y1 {
        let whole = y < y0 + thick || y + thick > y1;
        for x in x0..=x1 {
            if whole || x < x0 + thick || x + thick > x1 {
                dot(picture, info, format, (x, y));
            }
        }
    }
}

fn dot(picture: &mut [u8], info: &VideoInfo, format: PixelFormat, (x, y): (usize, usize)) {
    let at = |plane: usize, x: usize, y: usize| {
        let stride = usize::try_from(info.stride()[plane]).unwrap_or(0);
        info.offset()[plane] + y * stride + x
    };
    let places = match format {
        PixelFormat::Gray8 => vec![at(0, x, y)],
        PixelFormat::I420 => vec![at(0, x, y), at(1, x / 2, y / 2), at(2, x / 2, y / 2)],
        PixelFormat::Nv12 => vec![at(0, x, y), at(1, x / 2 * 2, y / 2), at(1, x / 2 * 2 + 1, y / 2)],
    };
    for (place, value) in places.into_iter().zip(COLOR) {
        if let Some(byte) = picture.get_mut(place) {
            *byte = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::{FileReader, Masks};
    use vedette_core::{Matrix, Moment, Pts, Range};

    fn picture(size: (u32, u32), luma: u8) -> Frame {
        let (w, h) = (size.0 as usize, size.1 as usize);
        let mut bytes = vec![luma; w * h];
        bytes.resize(w * h + 2 * w.div_ceil(2) * h.div_ceil(2), 128);
        Frame::packed_i420(Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::ZERO), size, bytes).unwrap()
    }

    /// The picture as a decoder gives it back: full range, as all JPEG files are.
    fn back(bytes: &[u8]) -> Frame {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jpg");
        std::fs::write(&path, bytes).unwrap();
        let start = jiff::Timestamp::UNIX_EPOCH;
        FileReader::open(&path, &testing::descriptions(), &Masks::none(), start)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
    }

    #[test]
    fn white_stays_white_and_black_stays_black_in_every_range_and_size() {
        struct Case((u32, u32), u8, Range, std::ops::RangeInclusive<u8>);
        let cases = [
            Case((322, 243), 235, Range::Limited, 250..=255),
            Case((322, 243), 16, Range::Limited, 0..=5),
            Case((1920, 1080), 255, Range::Full, 250..=255),
            Case((64, 48), 0, Range::Full, 0..=5),
        ];
        for Case(size, luma, range, expected) in cases {
            let frame = picture(size, luma).with_color(range, Matrix::Bt709);
            let bytes = jpeg(&frame, &[], &testing::descriptions()).unwrap();
            assert!(bytes.starts_with(&[0xff, 0xd8, 0xff]) && bytes.ends_with(&[0xff, 0xd9]));
            let seen = back(&bytes);
            assert_eq!((seen.width(), seen.height()), size);
            let plane = seen.plane(0).unwrap();
            // The blocks at the edges of an odd size hold what lies outside of it too, and ring.
            let inner = |length: u32| length as usize - 16;
            let values = (0..inner(size.1)).flat_map(|y| &plane.row(y)[..inner(size.0)]);
            let (low, high) = (values.clone().min().unwrap(), values.max().unwrap());
            assert!(expected.contains(low) && expected.contains(high), "{size:?}: {low}..={high} {seen:?}");
        }
    }

    #[test]
    fn a_box_is_drawn_where_it_is() {
        let bbox = BBox { x0: 0.25, y0: 0.25, x1: 0.75, y1: 0.75 };
        let bytes = jpeg(&picture((320, 240), 16), &[bbox], &testing::descriptions()).unwrap();
        let seen = back(&bytes);
        let luma = seen.plane(0).unwrap();
        assert!(luma.row(120)[81] > 120 && luma.row(61)[160] > 120, "the outline");
        assert!(luma.row(120)[160] < 40 && luma.row(120)[40] < 40 && luma.row(20)[160] < 40, "nothing else");
    }

    #[test]
    fn a_box_that_leaves_the_picture_is_no_reason_to_fail() {
        for size in [(1, 1), (3, 2), (320, 240)] {
            let bbox = BBox { x0: -1.0, y0: 0.5, x1: 2.0, y1: f32::NAN };
            assert!(!jpeg(&picture(size, 16), &[bbox], &testing::descriptions()).unwrap().is_empty());
        }
    }
}
