//! Sample pictures for calibration: out of folders, videos and, in `cameras`, the live cameras of a configuration.
//!
//! Owns: which frames are taken, and their way into letterboxed pixels. Does not know: what they are good for, the
//! command line. Pixels are kept in memory only, and no more than about twice the number wanted is ever held.

mod cameras;

use std::path::{Path, PathBuf};

use vedette_core::{Frame, View};
use vedette_ingest::{Descriptions, Fault, FileReader, Masks};
use vedette_models::{EvalError, InputSpec, Preprocessor, read_picture};

use crate::pacer::Pacer;

pub use self::cameras::{Gallery, News, Progress, Watched, Watching, from_cameras};

/// Why there are no samples.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    /// A folder that cannot be listed.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A folder without pictures.
    #[error("{0}: no .jpg, .jpeg or .png in it")]
    NoPictures(String),
    /// A picture that is none.
    #[error(transparent)]
    Picture(#[from] EvalError),
    /// A video that is none.
    #[error(transparent)]
    Video(#[from] Fault),
}

/// As many of a stream as wanted, evenly over its length, which nobody knows before.
#[derive(Debug)]
pub struct Spread<T> {
    wanted: usize,
    stride: usize,
    seen: usize,
    kept: Vec<T>,
}

impl<T> Spread<T> {
    /// Of nothing yet.
    pub fn new(wanted: usize) -> Self {
        Self { wanted, stride: 1, seen: 0, kept: Vec::new() }
    }

    /// Offers the next one; it is made only where it is kept.
    pub fn offer(&mut self, make: impl FnOnce() -> Option<T>) {
        let take = self.wanted > 0 && self.seen.is_multiple_of(self.stride);
        if take && let Some(item) = make() {
            self.kept.push(item);
        } else if take {
            return;
        }
        self.seen += 1;
        self.thin();
    }

    /// From now on no more than so many are wanted; a number above the present one changes nothing.
    pub fn lower(&mut self, wanted: usize) {
        self.wanted = self.wanted.min(wanted);
        self.thin();
    }

    fn thin(&mut self) {
        while self.kept.len() >= 2 * self.wanted.max(1) {
            let mut at = 0;
            self.kept.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// Those taken: as many as wanted, or all there were.
    pub fn finish(self) -> Vec<T> {
        evenly(self.kept, self.wanted)
    }
}

/// `wanted` of them, evenly from the first on; all where there are fewer.
fn evenly<T>(items: Vec<T>, wanted: usize) -> Vec<T> {
    let len = items.len();
    if len <= wanted {
        return items;
    }
    // Item `at` begins a new step of the staircase from 0 to `wanted`.
    let begins = |at: usize| at == 0 || at * wanted / len != (at - 1) * wanted / len;
    let chosen = items.into_iter().enumerate().filter(|(at, _)| wanted > 0 && begins(*at));
    chosen.map(|(_, item)| item).collect()
}

/// Frames to samples.
struct Lens {
    preprocessor: Preprocessor,
    input: InputSpec,
}

impl Lens {
    fn new(input: &InputSpec) -> Self {
        let preprocessor = Preprocessor::of(input);
        Self { preprocessor, input: input.clone() }
    }

    /// None for a frame without pixels.
    fn take(&mut self, frame: &Frame) -> Option<Vec<u8>> {
        let mut pixels = vec![self.input.pad; self.input.len()];
        self.preprocessor.run(frame, View::WHOLE, &mut pixels).ok()?;
        Some(pixels)
    }
}

/// From a folder of pictures, a picture or a video, at most `wanted`.
///
/// # Errors
/// See [`FramesError`].
pub fn from_path(
    path: &Path,
    wanted: usize,
    input: &InputSpec,
    descriptions: &Descriptions,
) -> Result<Vec<Vec<u8>>, FramesError> {
    let mut lens = Lens::new(input);
    if !path.is_dir() && !is_picture(path) {
        let mut spread = Spread::new(wanted);
        let mut pacer = Pacer::new(5.0);
        for frame in FileReader::open(path, descriptions, &Masks::none(), jiff::Timestamp::UNIX_EPOCH)? {
            let frame = frame?;
            if pacer.take(frame.moment().pts) {
                spread.offer(|| lens.take(&frame));
            }
        }
        return Ok(spread.finish());
    }
    let pictures = if path.is_dir() { pictures(path)? } else { vec![path.to_owned()] };
    let mut pixels = Vec::new();
    for picture in evenly(pictures, wanted) {
        pixels.extend(lens.take(&read_picture(&picture)?));
    }
    Ok(pixels)
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    ending.is_some_and(|e| ["jpg", "jpeg", "png"].iter().any(|known| e == *known))
}

/// In the order of their names.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>, FramesError> {
    let shown = folder.display().to_string();
    let wrong = |source| FramesError::Read { path: shown.clone(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        found.push(entry.map_err(wrong)?.path());
    }
    found.retain(|path| is_picture(path));
    found.sort();
    if found.is_empty() { Err(FramesError::NoPictures(shown)) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_spread_is_even_bounded_and_complete(
            more in 0usize..20, lowered in 0usize..500, wanted in 1usize..20, length in 0usize..500,
        ) {
            let mut spread = Spread::new(wanted + more);
            for at in 0..length {
                if at >= lowered {
                    spread.lower(wanted);
                }
                spread.offer(|| Some(at));
                prop_assert!(spread.kept.len() < 2 * spread.wanted);
            }
            spread.lower(wanted);
            let taken = spread.finish();
            prop_assert_eq!(taken.len(), wanted.min(length));
            prop_assert!(taken.windows(2).all(|w| w[0] < w[1]));
            // No hole is longer than four even steps (halving and the last choice double one each).
            let step = length.div_ceil(wanted.min(length).max(1));
            prop_assert!(taken.windows(2).all(|w| w[1] - w[0] <= 4 * step), "{:?}", taken);
            prop_assert!(taken.first().is_none_or(|first| *first == 0));
        }
    }

    #[test]
    fn folders_give_their_pictures_and_others_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.JPG"), "").unwrap();
        std::fs::write(folder.path().join("a.png"), "").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let names: Vec<_> =
            pictures(folder.path()).unwrap().into_iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.png", "b.JPG"]);
        std::fs::remove_file(folder.path().join("b.JPG")).unwrap();
        std::fs::remove_file(folder.path().join("a.png")).unwrap();
        assert!(pictures(folder.path()).unwrap_err().to_string().contains("no .jpg"));
    }
}
