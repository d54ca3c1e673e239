//! Whether the host's wall clock is synchronised: `clock_synced` of an event.
//!
//! Owns: that one question. Does not know: which servers set the clock. The kernel's own answer (adjtimex) is out of
//! reach inside the service's sandbox (`ProtectClock=yes`), so the mark that systemd-timesyncd leaves after its first
//! answer is read instead. Where another client sets the clock the answer is "not known to be": false.

use std::path::Path;

const MARK: &str = "/run/systemd/timesync/synchronized";

/// True once systemd-timesyncd has set the clock since boot.
pub fn is_synchronised() -> bool {
    Path::new(MARK).exists()
}
