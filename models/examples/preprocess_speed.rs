//! Times pre-processing of a 1080p frame to 416x416 against a plain float loop over the same samples: milliseconds, best
//! and median of many, and the ratio, which depends least on the machine. Build with `--release`.
#![expect(clippy::print_stdout, reason = "prints its measurement")]

use std::hint::black_box;
use std::time::Duration;

use vedette_core::{Clock, Frame, FrameBytes, Moment, PixelFormat, Pts, SystemClock, View};
use vedette_models::{ColorOrder, Preprocessor};

const SIDE: usize = 416;
const RUNS: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (width, height) = (1920u32, 1080u32);
    let pixels = (width * height) as usize;
    let bytes: Vec<u8> =
        (0u32..).take(pixels * 3 / 2).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let moment = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::ZERO);
    let planar = Frame::packed_i420(moment, (width, height), bytes.clone())?;
    let plane = |offset| vedette_core::frame::PlaneLayout { buffer: 0, offset, stride: width as usize };
    let shared: Vec<FrameBytes> = vec![std::sync::Arc::new(bytes)];
    let interleaved =
        Frame::new(moment, (width, height), PixelFormat::Nv12, &[plane(0), plane(pixels)], shared)?;

    let clock = SystemClock::new();
    let mut output = vec![0; SIDE * SIDE * 3];
    let mut preprocessor = Preprocessor::new(SIDE, SIDE, ColorOrder::Bgr, 114);
    let [naive, _] = time(&clock, 5, || black_box(float_loop(&planar)));
    for (name, frame) in [("I420", &planar), ("NV12", &interleaved)] {
        let [best, median] = time(&clock, RUNS, || {
            let done = preprocessor.run(black_box(frame), View::WHOLE, &mut output);
            black_box(done.is_ok());
        });
        let millis = |t: Duration| t.as_secs_f64() * 1e3;
        println!(
            "{name} {width}x{height} -> {SIDE}x{SIDE}: best {:.2} ms, median {:.2} ms; float loop {:.1} ms = {:.0} times",
            millis(best),
            millis(median),
            millis(naive),
            millis(naive) / millis(best)
        );
    }
    Ok(())
}

/// Best and median of `runs`.
fn time<T>(clock: &dyn Clock, runs: usize, mut work: impl FnMut() -> T) -> [Duration; 2] {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = clock.now();
            work();
            clock.now().since(start)
        })
        .collect();
    times.sort_unstable();
    [times.first(), times.get(runs / 2)].map(|t| t.copied().unwrap_or_default())
}

/// The same picture the obvious way: every sample to RGB in floats, summed per output pixel.
fn float_loop(frame: &Frame) -> Vec<f32> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let rows = SIDE * height / width;
    let mut sums = vec![0f32; SIDE * rows * 4];
    let [Some(luma), Some(u), Some(v)] = [0, 1, 2].map(|index| frame.plane(index)) else { return sums };
    for y in 0..height {
        for x in 0..width {
            let (l, cb, cr) = (
                1.164 * (f32::from(luma.row(y)[x]) - 16.0),
                f32::from(u.row(y / 2)[x / 2]) - 128.0,
                f32::from(v.row(y / 2)[x / 2]) - 128.0,
            );
            let at = 4 * (y * rows / height * SIDE + x * SIDE / width);
            let pixel = [l + 2.112 * cb, l - 0.213 * cb - 0.533 * cr, l + 1.793 * cr, 1.0];
            for (sum, value) in sums[at..at + 4].iter_mut().zip(pixel) {
                *sum += value;
            }
        }
    }
    sums
}
