//! How trouble is found: what the node shows of itself, made into [`Trouble`] where it is wrong.
//!
//! Owns: thresholds and sentences. Does not know: incidents, events.

use std::path::Path;
use std::time::Duration;

use vedette_core::{CameraId, Name, Severity};

use super::Trouble;
use crate::camera::{CameraState, Snapshot};
use crate::sinks::SinkStatus;

/// Less free space than this, in bytes, or less than this share of the file system.
const SPACE: (u64, f64) = (256 << 20, 0.02);

fn trouble(what: &'static str, severity: Severity, patience: u64, why: String) -> Trouble {
    Trouble { camera: None, what, severity, why, patience: Duration::from_secs(patience) }
}

/// A camera that gives no frames.
pub fn camera(id: &CameraId, seen: &Snapshot) -> Option<Trouble> {
    let reason = seen.reason.clone().unwrap_or_else(|| "no frames".to_owned());
    let found = match seen.state {
        CameraState::Lost => trouble("camera-lost", Severity::Fault, 10, reason),
        CameraState::Misconfigured => trouble("camera-misconfigured", Severity::Fault, 0, reason),
        // One that never answers stays in this state until its first fault.
        CameraState::Connecting => {
            trouble("camera-lost", Severity::Fault, 60, "does not answer yet".to_owned())
        }
        CameraState::Live | CameraState::Stopped => return None,
    };
    Some(Trouble { camera: Some(id.clone()), ..found })
}

/// Little room where events are stored.
pub fn disk(state: &Path) -> Option<Trouble> {
    let found = rustix::fs::statvfs(state).ok()?;
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let scarce = free < SPACE.0 || (free as f64) < all as f64 * SPACE.1;
    scarce.then(|| {
        let why = format!(
            "{} MiB free on the file system of {}: make room, or events will be dropped",
            free >> 20,
            state.display()
        );
        trouble("disk", Severity::Fault, 30, why)
    })
}

/// A disk so full that only faults and alarms are stored.
pub fn disk_full(strained: bool, state: &Path) -> Option<Trouble> {
    let why = format!(
        "the file system of {} is full: only faults and alarms are stored, in the room that was kept for them; make room",
        state.display()
    );
    strained.then(|| trouble("disk-full", Severity::Fault, 0, why))
}

/// A wall clock that nobody sets.
pub fn clock(synchronised: bool) -> Option<Trouble> {
    let why = "the clock is not known to be synchronised: times of events may be wrong; enable systemd-timesyncd, \
         or chrony or ntpd";
    (!synchronised).then(|| trouble("clock", Severity::Warning, 300, why.to_owned()))
}

/// A model that runs on another provider than the first one wished.
pub fn provider(wished: &str, serving: &str) -> Option<Trouble> {
    let why = format!(
        "the model runs on {serving}, not on {wished}: `vedette doctor` says why; leave `{wished}` out of `providers` \
         where that is meant"
    );
    // A GPU's engine is built for minutes while another provider serves.
    (wished != serving).then(|| trouble("provider", Severity::Warning, 1800, why))
}

/// A broker that takes events which nobody subscribes to. `before` are its counters at the last look.
pub fn nobody_listens(id: &Name, now: &SinkStatus, before: &SinkStatus, was: bool) -> Option<Trouble> {
    let (unheard, acked) = (now.nobody_listens - before.nobody_listens, now.acked - before.acked);
    // Without an event nothing is learned: it stays as it was.
    let is = if acked == 0 { was } else { unheard >= acked };
    let why =
        format!("nobody subscribes to the events that broker {id} takes: check the backend's subscription");
    is.then(|| trouble("nobody-listens", Severity::Warning, 0, why))
}

/// A broker inside the daemon that ended so often since the last look.
pub fn embedded(ends: u64) -> Option<Trouble> {
    let why = "the embedded broker ended and is started again, what it held for its subscribers is gone: see the log";
    (ends > 0).then(|| trouble("embedded-broker", Severity::Fault, 0, why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(acked: u64, nobody_listens: u64) -> SinkStatus {
        SinkStatus { acked, nobody_listens, ..SinkStatus::default() }
    }

    #[test]
    fn nobody_listens_holds_until_somebody_does() {
        let id = Name::new("factory").unwrap();
        let is = |now, before, was| nobody_listens(&id, &now, &before, was).is_some();
        assert!(is(counters(3, 3), counters(0, 0), false));
        assert!(is(counters(3, 3), counters(3, 3), true), "no news");
        assert!(!is(counters(4, 3), counters(3, 3), true), "heard");
    }

    #[test]
    fn an_end_of_the_embedded_broker_is_said() {
        assert_eq!(embedded(0), None);
        assert_eq!(embedded(2).map(|t| t.what), Some("embedded-broker"));
    }

    #[test]
    fn a_folder_with_room_is_no_trouble_and_a_missing_one_neither() {
        assert_eq!(disk(Path::new("/nonexistent/vedette")), None);
    }
}
