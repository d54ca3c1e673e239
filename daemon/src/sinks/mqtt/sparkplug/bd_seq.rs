//! The number that pairs a birth of the node with its death: another one for every CONNECT, over restarts too, so that
//! a late will of an earlier connection buries nobody.
//!
//! Owns: the number and its file. Does not know: messages.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vedette_core::Name;

use crate::state_file;

#[derive(Serialize, Deserialize)]
struct Kept {
    bd_seq: u8,
}

/// Of one connection of one broker.
pub(super) struct BdSeq {
    folder: PathBuf,
    file: String,
    last: Option<u8>,
    /// The last number came into no CONNECT.
    spare: bool,
}

impl BdSeq {
    /// Kept in `folder`, one file for each `sink`.
    pub(super) fn new(folder: PathBuf, sink: &Name) -> Self {
        Self { folder, file: format!("sparkplug-{sink}.json"), last: None, spare: false }
    }

    /// The number for a CONNECT: 0 the first time, 255 is followed by 0. It is on disk before it is used; without a
    /// disk the numbers of this process still differ.
    pub(super) fn next(&mut self, now: jiff::Timestamp) -> u8 {
        if let (Some(number), true) = (self.last, std::mem::take(&mut self.spare)) {
            return number;
        }
        let last = self.last.or_else(|| {
            let kept = state_file::read::<Kept>(&self.folder, &self.file, now);
            kept.unwrap_or_else(|error| self.complain(&error)).map(|kept| kept.bd_seq)
        });
        let number = last.map_or(0, |number| number.wrapping_add(1));
        if let Err(error) = state_file::replace(&self.folder, &self.file, &Kept { bd_seq: number }) {
            self.complain::<()>(&error);
        }
        self.last = Some(number);
        number
    }

    fn complain<T>(&self, error: &std::io::Error) -> Option<T> {
        let path = self.folder.join(&self.file);
        log::warn!("{}: {error}: after a restart Sparkplug's bdSeq may repeat one", path.display());
        None
    }

    /// The last number was not used.
    pub(super) fn spare(&mut self) {
        self.spare = self.last.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_over_restarts_and_wrap() {
        let folder = tempfile::tempdir().unwrap();
        let (now, sink) = (jiff::Timestamp::UNIX_EPOCH, Name::new("scada").unwrap());
        let open = || BdSeq::new(folder.path().to_owned(), &sink);
        let mut numbers = open();
        assert_eq!([numbers.next(now), numbers.next(now)], [0, 1]);
        let mut numbers = open();
        assert_eq!(numbers.next(now), 2);
        assert_eq!((3..=255).map(|_| numbers.next(now)).last(), Some(255));
        assert_eq!([numbers.next(now), numbers.next(now)], [0, 1]);
    }

    #[test]
    fn a_number_that_reached_nobody_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut numbers = BdSeq::new(folder.path().to_owned(), &Name::new("scada").unwrap());
        numbers.spare();
        assert_eq!(numbers.next(now), 0);
        numbers.spare();
        assert_eq!([numbers.next(now), numbers.next(now)], [0, 1]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_or_a_damaged_file_stop_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (now, sink) = (jiff::Timestamp::UNIX_EPOCH, Name::new("scada").unwrap());
        let mut numbers = BdSeq::new(folder.path().join("not there"), &sink);
        assert_eq!([numbers.next(now), numbers.next(now)], [0, 1]);
        std::fs::write(folder.path().join("sparkplug-scada.json"), "{\"bd_seq\":300}").unwrap();
        assert_eq!(BdSeq::new(folder.path().to_owned(), &sink).next(now), 0);
    }
}
