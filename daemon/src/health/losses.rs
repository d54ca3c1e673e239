//! When it is told that a sink lost events: at once, then hourly while it goes on, and in full once the sink has taken
//! what waited, or when the node stops: what was refused is counted in memory only.
//!
//! Owns: what was told, over restarts too. Does not know: how losses are counted, who is told. A notice takes the way of
//! all events: where a store is full it takes another one's place, and a broker that refuses events refuses it as well.
//! Told each second, notices would be the next losses, without end, and in time the only thing kept.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vedette_core::{Mono, Name, Severity};

use super::Trouble;
use crate::sinks::SinkStatus;
use crate::state_file;

/// The file in the state folder: events dropped that were told, by sink.
const FILE: &str = "losses.json";

/// Between two notices of a loss that goes on.
const AGAIN: Duration = Duration::from_secs(3600);

/// After a notice that could not be produced.
const RETRY: Duration = Duration::from_secs(60);

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The event that tells it.
    pub trouble: Trouble,
    /// All events dropped at that sink since the store began.
    pub dropped: u64,
    /// Whether some of them were not told yet.
    drops: bool,
    sink: Name,
    refused: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Losses {
    folder: PathBuf,
    dropped: BTreeMap<Name, u64>,
    /// Refused for good that were told, of this run.
    refused: BTreeMap<Name, u64>,
    at: BTreeMap<Name, Mono>,
    /// Where the last notice could not be produced, and when that was.
    failed: BTreeMap<Name, Mono>,
}

impl Losses {
    /// What was told in earlier runs.
    ///
    /// # Errors
    /// The state folder cannot be read; a damaged file is set aside instead.
    pub fn open(state: &Path, now: jiff::Timestamp) -> io::Result<Self> {
        let dropped = state_file::read(state, FILE, now)?.unwrap_or_default();
        let (refused, at, failed) = Default::default();
        Ok(Self { folder: state.to_owned(), dropped, refused, at, failed })
    }

    /// Whether something is to be told of `sink` now; [`Losses::told`] once it is, [`Losses::failed`] where it cannot be.
    pub fn due(&mut self, now: Mono, sink: &Name, status: &SinkStatus) -> Option<Notice> {
        let rests = |since: Option<&Mono>, length| since.is_some_and(|at| now.since(*at) < length);
        let (told, failed) = (rests(self.at.get(sink), AGAIN), rests(self.failed.get(sink), RETRY));
        let notice = self.owed(sink, status)?;
        // Then the notice takes nobody's place.
        let through = notice.drops && status.queued == 0;
        (!failed && (!told || through)).then_some(notice)
    }

    /// What was not told of `sink` yet, whenever it was told last: for the end.
    pub fn owed(&mut self, sink: &Name, status: &SinkStatus) -> Option<Notice> {
        let told = self.dropped.entry(sink.clone()).or_default();
        // A store that was replaced begins to count anew.
        *told = (*told).min(status.dropped);
        let dropped = status.dropped - *told;
        let before = self.refused.get(sink).copied().unwrap_or(0);
        let refused = status.given_up.saturating_sub(before);
        if dropped + refused == 0 {
            return None;
        }
        let why = match (dropped, refused) {
            (dropped, 0) => {
                format!(
                    "{dropped} events for {sink} were dropped: it was away for too long, the store is full"
                )
            }
            (0, refused) => {
                format!("{refused} events were refused by {sink} for good: see the log for its reason")
            }
            (dropped, refused) => {
                format!("{sink}: {dropped} events dropped by a full store, {refused} refused for good")
            }
        };
        let (what, severity) = ("outbox-loss", Severity::Fault);
        let trouble = Trouble { camera: None, what, severity, why, patience: Duration::ZERO };
        let drops = dropped > 0;
        Some(Notice { trouble, dropped: status.dropped, drops, sink: sink.clone(), refused: status.given_up })
    }

    /// It is produced.
    pub fn told(&mut self, now: Mono, notice: &Notice) {
        let Notice { dropped, sink, refused, .. } = notice;
        self.at.insert(sink.clone(), now);
        self.failed.remove(sink);
        self.refused.insert(sink.clone(), *refused);
        if self.dropped.insert(sink.clone(), *dropped) != Some(*dropped)
            && let Err(error) = state_file::replace(&self.folder, FILE, &self.dropped)
        {
            let path = self.folder.join(FILE);
            log::error!("state file {}: {error}; this loss is told again after a restart", path.display());
        }
    }

    /// It could not be produced, and is due again in a minute. Whether that is news: the attempt before did not fail.
    pub fn failed(&mut self, now: Mono, notice: &Notice) -> bool {
        self.failed.insert(notice.sink.clone(), now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono(Duration::ZERO);

    fn status(dropped: u64, given_up: u64, queued: usize) -> SinkStatus {
        SinkStatus { dropped, given_up, queued, ..SinkStatus::default() }
    }

    fn open(folder: &Path) -> Losses {
        Losses::open(folder, jiff::Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_full_store_is_told_at_once_then_hourly_and_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut losses, sink) = (open(folder.path()), Name::new("factory").unwrap());
        assert_eq!(losses.due(START, &sink, &status(0, 0, 1000)), None);
        let first = losses.due(START, &sink, &status(2, 0, 1000)).unwrap();
        assert!(first.trouble.why.starts_with("2 events for factory were dropped"), "{first:?}");
        losses.told(START, &first);
        // The notice itself took a place.
        let told = (1..3600)
            .filter_map(|s| losses.due(START + Duration::from_secs(s), &sink, &status(3 + s, 0, 1000)));
        assert_eq!(told.count(), 0);
        let hour = START + AGAIN;
        let second = losses.due(hour, &sink, &status(5000, 0, 1000)).unwrap();
        assert!(second.trouble.why.starts_with("4998 events") && second.dropped == 5000, "{second:?}");
        losses.told(hour, &second);
        assert_eq!(losses.due(hour, &sink, &status(5001, 0, 1)), None);
        let last = losses.due(hour, &sink, &status(5001, 0, 0)).unwrap();
        assert_eq!(last.dropped, 5001);
        losses.told(hour, &last);
        assert_eq!(losses.due(hour + AGAIN, &sink, &status(5001, 0, 0)), None);
    }

    #[test]
    fn what_was_not_told_before_a_kill_is_told_after_it_and_nothing_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (mut losses, sink) = (open(folder.path()), Name::new("factory").unwrap());
        let notice = losses.due(START, &sink, &status(7, 0, 1000)).unwrap();
        losses.told(START, &notice);
        assert_eq!(open(folder.path()).due(START, &sink, &status(7, 0, 1000)), None);
        let after = open(folder.path()).due(START, &sink, &status(9, 0, 1000)).unwrap();
        assert!(after.trouble.why.starts_with("2 events") && after.dropped == 9, "{after:?}");
        let anew = open(folder.path()).due(START, &sink, &status(1, 0, 1000));
        assert_eq!(anew, None, "a store that counts anew begins with less than was told");
    }

    #[test]
    fn a_broker_that_refuses_everything_is_told_of_hourly() {
        let folder = tempfile::tempdir().unwrap();
        let (mut losses, sink) = (open(folder.path()), Name::new("factory").unwrap());
        let first = losses.due(START, &sink, &status(0, 1, 0)).unwrap();
        assert!(first.trouble.why.starts_with("1 events were refused by factory"), "{first:?}");
        losses.told(START, &first);
        assert_eq!(losses.due(START + Duration::from_secs(5), &sink, &status(0, 2, 0)), None);
        assert!(losses.due(START + AGAIN, &sink, &status(0, 2, 0)).is_some());
    }

    #[test]
    fn what_was_told_less_than_an_hour_ago_is_owed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut losses, sink) = (open(folder.path()), Name::new("factory").unwrap());
        let first = losses.due(START, &sink, &status(0, 1, 0)).unwrap();
        losses.told(START, &first);
        assert_eq!(losses.owed(&sink, &status(0, 1, 0)), None, "all of it was told");
        assert_eq!(losses.due(START + RETRY, &sink, &status(0, 4, 0)), None);
        let last = losses.owed(&sink, &status(0, 4, 0)).unwrap();
        assert!(last.trouble.why.starts_with("3 events were refused by factory"), "{last:?}");
        losses.told(START + RETRY, &last);
        assert_eq!(losses.owed(&sink, &status(0, 4, 0)), None);
    }

    #[test]
    fn a_notice_that_cannot_be_produced_rests_and_fails_once() {
        let folder = tempfile::tempdir().unwrap();
        let (mut losses, sink) = (open(folder.path()), Name::new("factory").unwrap());
        let notice = losses.due(START, &sink, &status(2, 0, 0)).unwrap();
        assert!(losses.failed(START, &notice), "news");
        assert_eq!(losses.due(START + RETRY / 2, &sink, &status(3, 0, 0)), None, "not each second");
        let again = losses.due(START + RETRY, &sink, &status(3, 0, 0)).unwrap();
        assert!(again.trouble.why.starts_with("3 events"), "nothing counts as told: {again:?}");
        assert!(!losses.failed(START + RETRY, &again), "no news");
        let at_last = losses.due(START + RETRY * 2, &sink, &status(3, 0, 0)).unwrap();
        losses.told(START + RETRY * 2, &at_last);
        let next = losses.due(START + RETRY * 2, &sink, &status(4, 0, 0)).unwrap();
        assert!(losses.failed(START + RETRY * 2, &next), "news again");
    }
}
