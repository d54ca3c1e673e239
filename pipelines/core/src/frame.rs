//! A decoded picture, as the decoder left it: planes of luma and chroma, no RGB, no copy.

use std::fmt;
use std::sync::Arc;

use crate::Moment;

/// How the planes are laid out; 8 bits, chroma at half size in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// Three planes: Y, U, V.
    I420,
    /// Two planes: Y, interleaved UV.
    Nv12,
    /// One plane: Y alone, for grey cameras.
    Gray8,
}

/// Which values black and white have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Range {
    /// Luma 16..235, chroma 16..240.
    #[default]
    Limited,
    /// 0..255.
    Full,
}

/// Which standard turns YUV into RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Matrix {
    /// ITU-R BT.601: SD cameras and JPEG.
    #[default]
    Bt601,
    /// ITU-R BT.709: HD cameras.
    Bt709,
}

/// Bytes that a decoder lends: a mapped media buffer or a plain vector.
pub type FrameBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Where one plane lies in the bytes of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneLayout {
    /// Which of the frame's buffers.
    pub buffer: usize,
    /// First byte in it.
    pub offset: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// One plane: `height` rows of `width` bytes, each `stride` bytes apart.
#[derive(Clone, Copy)]
pub struct Plane<'a> {
    /// Rows; the last one may end after `width` bytes.
    pub data: &'a [u8],
    /// Bytes from one row to the next, ≥ `width`.
    pub stride: usize,
    /// Bytes used of a row (for interleaved chroma: two a sample).
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl<'a> Plane<'a> {
    /// One row of `width` bytes; `y` < `height`.
    pub fn row(&self, y: usize) -> &'a [u8] {
        &self.data[y * self.stride..][..self.width]
    }
}

/// A decoded picture. Cheap to clone: the bytes are shared.
#[derive(Clone)]
pub struct Frame {
    moment: Moment,
    width: u32,
    height: u32,
    format: PixelFormat,
    range: Range,
    matrix: Matrix,
    pixel_aspect: f32,
    keyframe: bool,
    planes: [Option<PlaneLayout>; 3],
    buffers: Vec<FrameBytes>,
}

/// Why planes and bytes do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A picture without pixels.
    #[error("a frame of {0}x{1} pixels has no picture")]
    Empty(u32, u32),
    /// A plane that its buffer does not hold.
    #[error("plane {plane} of a {width}x{height} frame does not fit its buffer of {bytes} bytes")]
    Plane {
        /// Which plane, from 0.
        plane: usize,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Bytes there are.
        bytes: usize,
    },
}

impl Frame {
    /// Checks that every plane lies within its buffer, so that [`Frame::plane`] cannot fail later.
    /// Defaults: limited range, BT.601 below 720 lines and BT.709 from there, square pixels, not a keyframe.
    pub fn new(
        moment: Moment,
        (width, height): (u32, u32),
        format: PixelFormat,
        layouts: &[PlaneLayout],
        buffers: Vec<FrameBytes>,
    ) -> Result<Self, FrameError> {
        if width == 0 || height == 0 {
            return Err(FrameError::Empty(width, height));
        }
        let mut planes = [None; 3];
        for (plane, (slot, size)) in planes.iter_mut().zip(plane_sizes(format, width, height)).enumerate() {
            let Some((w, h)) = size else { break };
            let layout = layouts.get(plane).copied();
            let bytes = layout.and_then(|l| buffers.get(l.buffer)).map_or(0, |b| (**b).as_ref().len());
            let fits = layout.is_some_and(|l| {
                let last = l.stride.checked_mul(h - 1).and_then(|n| n.checked_add(l.offset + w));
                l.stride >= w && last.is_some_and(|end| end <= bytes)
            });
            if !fits {
                return Err(FrameError::Plane { plane, width, height, bytes });
            }
            *slot = layout;
        }
        let matrix = if height >= 720 { Matrix::Bt709 } else { Matrix::Bt601 };
        Ok(Self {
            moment,
            width,
            height,
            format,
            range: Range::default(),
            matrix,
            pixel_aspect: 1.0,
            keyframe: false,
            planes,
            buffers,
        })
    }

    /// A tightly packed I420 frame in one vector of `w*h + 2*ceil(w/2)*ceil(h/2)` bytes.
    pub fn packed_i420(
        moment: Moment,
        (width, height): (u32, u32),
        bytes: Vec<u8>,
    ) -> Result<Self, FrameError> {
        let (w, h) = (width as usize, height as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let at = |offset, stride| PlaneLayout { buffer: 0, offset, stride };
        let layouts = [at(0, w), at(w * h, cw), at(w * h + cw * ch, cw)];
        Self::new(moment, (width, height), PixelFormat::I420, &layouts, vec![Arc::new(bytes)])
    }

    /// Says how colours are coded.
    #[must_use]
    pub fn with_color(mut self, range: Range, matrix: Matrix) -> Self {
        (self.range, self.matrix) = (range, matrix);
        self
    }

    /// Says how wide a pixel is for its height (anamorphic substreams: 16/11 and the like).
    #[must_use]
    pub fn with_pixel_aspect(mut self, ratio: f32) -> Self {
        self.pixel_aspect = if ratio.is_finite() && ratio > 0.0 { ratio } else { 1.0 };
        self
    }

    /// Says that it was coded without reference to others.
    #[must_use]
    pub fn with_keyframe(mut self, keyframe: bool) -> Self {
        self.keyframe = keyframe;
        self
    }

    /// When it was captured.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// Pixels from left to right.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Layout of the planes.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Values of black and white.
    pub fn range(&self) -> Range {
        self.range
    }

    /// How YUV becomes RGB.
    pub fn matrix(&self) -> Matrix {
        self.matrix
    }

    /// Width of a pixel over its height.
    pub fn pixel_aspect(&self) -> f32 {
        self.pixel_aspect
    }

    /// Whether it was coded without reference to others.
    pub fn is_keyframe(&self) -> bool {
        self.keyframe
    }

    /// Width over height of the picture as it is meant to be seen.
    pub fn aspect(&self) -> f32 {
        self.width as f32 * self.pixel_aspect / self.height as f32
    }

    /// Plane 0 is luma; 1 and 2 are chroma as the format has them.
    pub fn plane(&self, index: usize) -> Option<Plane<'_>> {
        let layout = (*self.planes.get(index)?)?;
        let (width, height) = plane_sizes(self.format, self.width, self.height)[index]?;
        let data = (**self.buffers.get(layout.buffer)?).as_ref().get(layout.offset..)?;
        Some(Plane { data, stride: layout.stride, width, height })
    }
}

/// Bytes a row and rows of each plane.
fn plane_sizes(format: PixelFormat, width: u32, height: u32) -> [Option<(usize, usize)>; 3] {
    let (w, h) = (width as usize, height as usize);
    let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
    match format {
        PixelFormat::I420 => [Some((w, h)), Some((cw, ch)), Some((cw, ch))],
        PixelFormat::Nv12 => [Some((w, h)), Some((2 * cw, ch)), None],
        PixelFormat::Gray8 => [Some((w, h)), None, None],
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}x{} {:?} at {:?})", self.width, self.height, self.format, self.moment.pts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pts;

    fn moment() -> Moment {
        Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::ZERO)
    }

    #[test]
    fn odd_sizes_have_rounded_up_chroma() {
        let frame = Frame::packed_i420(moment(), (5, 3), vec![7; 5 * 3 + 2 * 3 * 2]).unwrap();
        let chroma = frame.plane(2).unwrap();
        assert_eq!((chroma.width, chroma.height, chroma.row(1).len()), (3, 2, 3));
    }

    #[test]
    fn a_plane_outside_its_buffer_is_refused() {
        let error = Frame::packed_i420(moment(), (4, 4), vec![0; 23]).unwrap_err();
        assert_eq!(error.to_string(), "plane 2 of a 4x4 frame does not fit its buffer of 23 bytes");
        let huge = PlaneLayout { buffer: 0, offset: 0, stride: usize::MAX };
        let overflow = Frame::new(moment(), (4, 4), PixelFormat::Gray8, &[huge], vec![Arc::new(vec![0; 64])]);
        assert!(overflow.is_err());
    }
}
