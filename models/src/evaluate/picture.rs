//! A still picture as the frame that a decoder would have made of it.

use std::path::Path;

use vedette_core::{Frame, Matrix, Moment, Pts, Range};

use super::EvalError;

/// Reads a JPEG or PNG as an I420 frame, full range, BT.601: what JPEG itself means.
pub fn read_picture(path: &Path) -> Result<Frame, EvalError> {
    let failed = |reason: String| EvalError::Picture { path: path.to_owned(), reason };
    let bytes = std::fs::read(path).map_err(|source| EvalError::Read { path: path.to_owned(), source })?;
    let picture = image::load_from_memory(&bytes).map_err(|e| failed(e.to_string()))?.into_rgb8();
    frame_from_rgb(picture.dimensions(), picture.as_raw(), Range::Full, Matrix::Bt601)
        .ok_or_else(|| failed("has no pixels".to_owned()))
}

/// RGB, three bytes a pixel, as an I420 frame: luma for each pixel, chroma as the mean of each 2x2 block. None where
/// there are no pixels or too few bytes.
pub fn frame_from_rgb(
    (width, height): (u32, u32),
    rgb: &[u8],
    range: Range,
    matrix: Matrix,
) -> Option<Frame> {
    let (w, h) = (width as usize, height as usize);
    let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
    let pixels = rgb.as_chunks::<3>().0.get(..w * h)?;
    let (kr, kb) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let (luma, chroma, black) = match range {
        Range::Full => (1.0, 1.0, 0.0),
        Range::Limited => (219.0 / 255.0, 224.0 / 255.0, 16.0),
    };
    // Y, Cb and Cr of a pixel as the standards define them, unrounded; Cb and Cr around 0.
    let yuv = |[r, g, b]: [u8; 3]| {
        let [r, g, b] = [r, g, b].map(f64::from);
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        [y * luma + black, (b - y) / (2.0 * (1.0 - kb)) * chroma, (r - y) / (2.0 * (1.0 - kr)) * chroma]
    };
    let byte = |value: f64| value.round().clamp(0.0, 255.0) as u8;
    let mut bytes: Vec<u8> = pixels.iter().map(|pixel| byte(yuv(*pixel)[0])).collect();
    for component in [1, 2] {
        for (cy, cx) in (0..ch).flat_map(|cy| (0..cw).map(move |cx| (cy, cx))) {
            let block = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| {
                let (y, x) = ((2 * cy + dy).min(h - 1), (2 * cx + dx).min(w - 1));
                yuv(pixels[y * w + x])[component]
            });
            bytes.push(byte(block.iter().sum::<f64>() / 4.0 + 128.0));
        }
    }
    let moment = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::ZERO);
    Some(Frame::packed_i420(moment, (width, height), bytes).ok()?.with_color(range, matrix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ColorOrder;
    use crate::preprocess::Preprocessor;
    use vedette_core::View;

    #[test]
    fn colours_survive_the_way_through_planes_and_back() {
        let color = [200u8, 90, 40];
        let rgb: Vec<u8> = std::iter::repeat_n(color, 64 * 64).flatten().collect();
        for range in [Range::Full, Range::Limited] {
            for matrix in [Matrix::Bt601, Matrix::Bt709] {
                let frame = frame_from_rgb((64, 64), &rgb, range, matrix).unwrap();
                let mut output = vec![0; 32 * 32 * 3];
                Preprocessor::new(32, 32, ColorOrder::Rgb, 114)
                    .run(&frame, View::WHOLE, &mut output)
                    .unwrap();
                for (found, wanted) in output.iter().zip(color.iter().cycle()) {
                    assert!(found.abs_diff(*wanted) <= 2, "{range:?} {matrix:?}: {found} for {wanted}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_picture_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.jpg");
        std::fs::write(&path, [0xff, 0xd8, 0xff, 0xe0, 0, 16]).unwrap();
        let error = read_picture(&path).unwrap_err().to_string();
        assert!(error.contains("broken.jpg: "), "{error}");
        assert!(frame_from_rgb((4, 4), &[0; 47], Range::Full, Matrix::Bt601).is_none());
        assert!(frame_from_rgb((0, 4), &[], Range::Full, Matrix::Bt601).is_none());
    }
}
