//! Where pixels go: bytes pixel by pixel, or elements of another type in either order of axes, through a table.
//!
//! Owns: the addressing of the network's input. Does not know: colours, resampling.

use super::Letterbox;
use super::color::{BLOCK, Target};
use crate::manifest::{Layout, Tables};

/// Takes runs of pixels, three channels apart, in the network's order of channels.
pub(super) trait Canvas {
    /// Fills what the picture leaves with this byte.
    fn pad(&mut self, letterbox: &Letterbox, value: u8);

    /// Writes `count` pixels, the first of which is number `at` of the row that begins at `target`.
    fn write(&mut self, target: Target, at: usize, count: usize, channels: &[[u8; BLOCK]; 3]);
}

/// Bytes as they are: `[height, width, 3]`.
pub(super) struct Plain<'a>(pub &'a mut [u8]);

impl Canvas for Plain<'_> {
    fn pad(&mut self, letterbox: &Letterbox, value: u8) {
        letterbox.padding(|pixels| {
            if let Some(line) = self.0.get_mut(3 * pixels.start..3 * pixels.end) {
                line.fill(value);
            }
        });
    }

    fn write(&mut self, target: Target, at: usize, count: usize, channels: &[[u8; BLOCK]; 3]) {
        let Some(first) = target.pixel(at) else { return };
        let [a, b, c] = channels;
        if target.step == 1 {
            let pixels = self.0.get_mut(3 * first..).unwrap_or_default().as_chunks_mut::<3>().0;
            for (((pixel, a), b), c) in pixels.iter_mut().take(count).zip(a).zip(b).zip(c) {
                *pixel = [*a, *b, *c];
            }
            return;
        }
        for i in 0..count {
            let pixel = target.pixel(at + i).and_then(|p| self.0.get_mut(3 * p..3 * p + 3));
            if let Some(pixel) = pixel {
                pixel.copy_from_slice(&[a[i], b[i], c[i]]);
            }
        }
    }
}

/// Elements of any type, each by its channel's table.
pub(super) struct Tabled<'a, T> {
    /// What a byte becomes.
    pub tables: &'a Tables<T>,
    /// Order of the axes of `output`.
    pub layout: Layout,
    /// Pixels of the input.
    pub pixels: usize,
    /// The tensor's elements.
    pub output: &'a mut [T],
}

impl<T: Copy> Tabled<'_, T> {
    /// Index of a channel's element of a pixel.
    fn index(&self, channel: usize, pixel: usize) -> usize {
        match self.layout {
            Layout::Nhwc => 3 * pixel + channel,
            Layout::Nchw => channel * self.pixels + pixel,
        }
    }
}

impl<T: Copy> Canvas for Tabled<'_, T> {
    fn pad(&mut self, letterbox: &Letterbox, value: u8) {
        letterbox.padding(|pixels| {
            for channel in 0..3 {
                let element = self.tables[channel][usize::from(value)];
                for pixel in pixels.clone() {
                    let index = self.index(channel, pixel);
                    if let Some(place) = self.output.get_mut(index) {
                        *place = element;
                    }
                }
            }
        });
    }

    fn write(&mut self, target: Target, at: usize, count: usize, channels: &[[u8; BLOCK]; 3]) {
        let Some(first) = target.pixel(at) else { return };
        for (channel, bytes) in channels.iter().enumerate() {
            let table = &self.tables[channel];
            if target.step == 1 && self.layout == Layout::Nchw {
                let from = self.index(channel, first);
                let line = self.output.get_mut(from..).unwrap_or_default();
                for (place, byte) in line.iter_mut().take(count).zip(bytes) {
                    *place = table[usize::from(*byte)];
                }
                continue;
            }
            for (i, byte) in bytes.iter().take(count).enumerate() {
                let index = target.pixel(at + i).map(|pixel| self.index(channel, pixel));
                if let Some(place) = index.and_then(|index| self.output.get_mut(index)) {
                    *place = table[usize::from(*byte)];
                }
            }
        }
    }
}
