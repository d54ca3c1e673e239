//! The pass against a plain float reference, for every format, range, matrix and turn.

use std::sync::Arc;

use proptest::prelude::*;
use vedette_core::frame::PlaneLayout;
use vedette_core::{BBox, Frame, FrameBytes, Matrix, Moment, PixelFormat, Pts, Range, Rotation, View};

use super::*;

const TURNS: [Rotation; 4] =
    [Rotation::None, Rotation::Clockwise90, Rotation::Half, Rotation::CounterClockwise90];
const FORMATS: [PixelFormat; 3] = [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Gray8];
const RANGES: [Range; 2] = [Range::Limited, Range::Full];
const MATRICES: [Matrix; 2] = [Matrix::Bt601, Matrix::Bt709];

/// Edges, slopes and noise.
fn texture(x: usize, y: usize, plane: usize) -> u8 {
    let noise = (x * 7919 + y * 104_729 + plane * 31).wrapping_mul(2_654_435_761) >> 16 & 63;
    let checks = if (x / 9 + y / 7).is_multiple_of(2) { 40 } else { 140 };
    (checks + noise + (x + 2 * y) % 50).min(255) as u8
}

fn frame(format: PixelFormat, (w, h): (u32, u32), slack: usize) -> Frame {
    let (cw, ch) = ((w as usize).div_ceil(2), (h as usize).div_ceil(2));
    let planes: &[(usize, usize, usize)] = match format {
        PixelFormat::I420 => &[(w as usize, h as usize, 1), (cw, ch, 1), (cw, ch, 1)],
        PixelFormat::Nv12 => &[(w as usize, h as usize, 1), (cw, ch, 2)],
        PixelFormat::Gray8 => &[(w as usize, h as usize, 1)],
    };
    let mut layouts = Vec::new();
    let mut buffers: Vec<FrameBytes> = Vec::new();
    for (index, &(width, height, parts)) in planes.iter().enumerate() {
        let stride = width * parts + slack;
        // The last row ends with its last sample, as decoders may leave it; what lies between rows is garbage.
        let mut bytes = vec![255; index + stride * (height - 1) + width * parts];
        for y in 0..height {
            for x in 0..width {
                for part in 0..parts {
                    bytes[index + y * stride + x * parts + part] = texture(x, y, index + part);
                }
            }
        }
        layouts.push(PlaneLayout { buffer: index, offset: index, stride });
        buffers.push(Arc::new(bytes));
    }
    Frame::new(Moment::of_file(jiff_epoch(), Pts::ZERO), (w, h), format, &layouts, buffers).unwrap()
}

fn jiff_epoch() -> jiff::Timestamp {
    jiff::Timestamp::UNIX_EPOCH
}

/// The sample of plane `index` at an interval, by the definition: area average, or linear where it grows.
fn sample(frame: &Frame, index: usize, x: [f64; 2], y: [f64; 2]) -> f64 {
    let (plane, part, parts) = match (frame.format(), index) {
        (PixelFormat::Gray8, 1 | 2) => return 128.0,
        (PixelFormat::Nv12, 1 | 2) => (frame.plane(1).unwrap(), index - 1, 2),
        _ => (frame.plane(index).unwrap(), 0, 1),
    };
    let scale = if index == 0 { 1.0 } else { 0.5 };
    let weights = |[from, to]: [f64; 2], samples: usize| -> Vec<(usize, f64)> {
        let (from, to) = (from * scale, to * scale);
        if to - from > 1.0 {
            let covered = |i: usize| (to.min(i as f64 + 1.0) - from.max(i as f64)).max(0.0);
            let all: Vec<_> = (0..samples).map(|i| (i, covered(i))).filter(|w| w.1 > 0.0).collect();
            let sum: f64 = all.iter().map(|w| w.1).sum();
            return all.into_iter().map(|(i, w)| (i, w / sum)).collect();
        }
        let at = ((from + to) / 2.0 - 0.5).clamp(0.0, samples as f64 - 1.0);
        let first = at.floor() as usize;
        vec![(first, 1.0 - at.fract()), ((first + 1).min(samples - 1), at.fract())]
    };
    let (columns, rows) = (weights(x, plane.width / parts), weights(y, plane.height));
    let along = |row: usize| {
        columns.iter().map(|(c, w)| f64::from(plane.row(row)[c * parts + part]) * w).sum::<f64>()
    };
    rows.iter().map(|(row, w)| along(*row) * w).sum()
}

/// R, G, B of one pixel of the resampled picture, by the standards' formulas.
fn reference(frame: &Frame, x: [f64; 2], y: [f64; 2]) -> [f64; 3] {
    let [luma, u, v] = [0, 1, 2].map(|plane| sample(frame, plane, x, y));
    let (kr, kb) = if frame.matrix() == Matrix::Bt601 { (0.299, 0.114) } else { (0.2126, 0.0722) };
    let (luma, u, v) = match frame.range() {
        Range::Full => (luma, u - 128.0, v - 128.0),
        Range::Limited => {
            ((luma - 16.0) * 255.0 / 219.0, (u - 128.0) * 255.0 / 224.0, (v - 128.0) * 255.0 / 224.0)
        }
    };
    let (r, b) = (luma + 2.0 * (1.0 - kr) * v, luma + 2.0 * (1.0 - kb) * u);
    let g = (luma - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|c| c.clamp(0.0, 255.0))
}

/// The largest difference of the pass to the reference, over picture and padding.
fn difference(frame: &Frame, view: View, (w, h): (usize, usize)) -> f64 {
    let mut output = vec![1; w * h * 3];
    let letterbox = Preprocessor::new(w, h, ColorOrder::Rgb, 114).run(frame, view, &mut output).unwrap();
    let mut expected = vec![114.0; w * h * 3];
    let ([sx, sy], columns, rows) = (letterbox.source(), letterbox.columns(), letterbox.rows());
    let place = |[from, to]: [f64; 2], i: usize, n: usize| {
        [i, i + 1].map(|k| from + (to - from) * k as f64 / n as f64)
    };
    for row in 0..rows {
        let target = letterbox.target(row);
        for column in 0..columns {
            let rgb = reference(frame, place(sx, column, columns), place(sy, row, rows));
            let at = 3 * target.pixel(column).unwrap();
            expected[at..at + 3].copy_from_slice(&rgb);
        }
    }
    output.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn every_combination_is_within_two_levels_of_the_reference() {
    let mut cases = 0;
    for (size, slack) in [((192u32, 108u32), 0), ((191, 107), 5), ((64, 48), 16), ((33, 131), 1)] {
        for (format, range, matrix, turn) in FORMATS
            .iter()
            .flat_map(|f| RANGES.map(|r| (*f, r)))
            .flat_map(|(f, r)| MATRICES.map(|m| (f, r, m)))
            .flat_map(|(f, r, m)| TURNS.map(|t| (f, r, m, t)))
        {
            let frame = frame(format, size, slack).with_color(range, matrix);
            for region in [[0.0, 0.0, 1.0, 1.0], [0.21, 0.13, 0.68, 0.94], [-0.3, 0.2, 0.6, 1.5]] {
                let view = View { region: region.into(), rotation: turn };
                let worst = difference(&frame, view, (48, 64));
                assert!(worst <= 2.0, "{frame:?} {range:?} {matrix:?} {view:?}: {worst}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 4 * 3 * 2 * 2 * 4 * 3);
}

#[test]
fn camera_sizes_and_aspects_are_within_two_levels() {
    for (size, aspect) in [
        ((1920, 1080), 1.0),
        ((704, 576), 16.0 / 11.0),
        ((640, 480), 1.0),
        ((352, 240), 40.0 / 33.0),
        ((2560, 1440), 1.0),
    ] {
        let frame = frame(PixelFormat::I420, size, 0).with_pixel_aspect(aspect);
        let worst = difference(&frame, View::WHOLE, (416, 416));
        assert!(worst <= 2.0, "{frame:?}: {worst}");
    }
}

#[test]
fn fine_stripes_become_grey_and_do_not_alias() {
    let (w, h) = (1920u32, 1080u32);
    let luma = (0..w * h).map(|i| if (i / w) % 2 == 0 { 255 } else { 0 });
    let bytes: Vec<u8> = luma.chain((0..w * h / 2).map(|_| 128)).collect();
    let frame = Frame::packed_i420(Moment::of_file(jiff_epoch(), Pts::ZERO), (w, h), bytes).unwrap();
    let frame = frame.with_color(Range::Full, Matrix::Bt709);
    let mut output = vec![0; 416 * 416 * 3];
    Preprocessor::new(416, 416, ColorOrder::Bgr, 114).run(&frame, View::WHOLE, &mut output).unwrap();
    let picture = &output[92 * 416 * 3..324 * 416 * 3];
    let (low, high) = (picture.iter().min().unwrap(), picture.iter().max().unwrap());
    // 4.6 lines a row: at most 0.62 of a line of either colour is in excess.
    assert!(*low >= 109 && *high <= 146, "{low}..{high}");
}

#[test]
fn blue_stands_first_where_the_model_wants_it() {
    let frame = frame(PixelFormat::I420, (64, 64), 0);
    let run = |order| {
        let mut output = vec![0; 32 * 32 * 3];
        Preprocessor::new(32, 32, order, 114).run(&frame, View::WHOLE, &mut output).unwrap();
        output
    };
    let (rgb, bgr) = (run(ColorOrder::Rgb), run(ColorOrder::Bgr));
    assert!(rgb != bgr);
    assert!(rgb.as_chunks::<3>().0.iter().zip(bgr.as_chunks::<3>().0).all(|(a, b)| *a == [b[2], b[1], b[0]]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_panics(
        size in (1u32..400, 1u32..400), slack in 0usize..9, format in 0usize..3, turn in 0usize..4,
        aspect in -1f32..2000.0, region in proptest::array::uniform4(-2f32..3.0),
        input in (1usize..96, 1usize..96), short in 0usize..50,
    ) {
        let frame = frame(FORMATS[format], size, slack).with_pixel_aspect(aspect);
        let mut output = vec![0; (input.0 * input.1 * 3).saturating_sub(short)];
        let view = View { region: BBox::from(region), rotation: TURNS[turn] };
        let _ = Preprocessor::new(input.0, input.1, ColorOrder::Rgb, 114).run(&frame, view, &mut output);
    }
}

#[test]
fn tables_and_planes_hold_what_the_plain_pass_holds() {
    let tables: Tables<i16> =
        std::array::from_fn(|c| std::array::from_fn(|v| v as i16 * 3 - 200 * (c as i16 + 1)));
    let (w, h) = (48, 64);
    for turn in TURNS {
        let frame = frame(PixelFormat::I420, (191, 107), 5);
        let view = View { region: [0.1, 0.0, 0.9, 1.0].into(), rotation: turn };
        let mut bytes = vec![1u8; w * h * 3];
        let mut pass = Preprocessor::new(w, h, ColorOrder::Bgr, 114);
        pass.run(&frame, view, &mut bytes).unwrap();
        for layout in [Layout::Nhwc, Layout::Nchw] {
            let mut output = vec![i16::MAX; w * h * 3];
            pass.run_with(&frame, view, (&tables, layout), &mut output).unwrap();
            for (at, byte) in bytes.iter().enumerate() {
                let (pixel, channel) = (at / 3, at % 3);
                let index = if layout == Layout::Nhwc { at } else { channel * w * h + pixel };
                assert_eq!(output[index], tables[channel][usize::from(*byte)], "{turn:?} {layout:?} {at}");
            }
        }
    }
}
