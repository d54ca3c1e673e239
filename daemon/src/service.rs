//! What systemd is told: READY, STATUS, WATCHDOG, STOPPING.
//!
//! Owns: the notifications and what feeds the watchdog. Does not know: how to stop or restart anything. The watchdog
//! is fed only while every camera makes progress (frames analysed while live, ticks while not): a bare timer would
//! prove only that a thread lives.

use std::time::Duration;

use sd_notify::NotifyState;
use vedette_core::{Clock, Mono};

/// The status line changes at most so often.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// The line to the service manager; without one every call does nothing.
pub struct Service {
    watchdog: Option<Duration>,
    fed: Mono,
    said: (Mono, String),
    progress: Vec<u64>,
}

/// Sends, and ignores that nobody listens.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("service manager not reached: {error}");
    }
}

impl Service {
    /// Reads the watchdog's interval from the environment (`WATCHDOG_USEC`).
    pub fn from_environment(clock: &dyn Clock) -> Self {
        let now = clock.now();
        Self {
            watchdog: sd_notify::watchdog_enabled(),
            fed: now,
            said: (now, String::new()),
            progress: Vec::new(),
        }
    }

    /// Configuration, models, store and ports are up.
    pub fn ready(&mut self, clock: &dyn Clock, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status), NotifyState::Watchdog]);
        self.said = (clock.now(), status.to_owned());
        // The counters of a new node begin at zero: those of the one before would starve the watchdog.
        (self.fed, self.progress) = (clock.now(), Vec::new());
    }

    /// A reload began; [`Service::ready`] ends it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The daemon stops and needs up to `within`.
    pub fn stopping(&self, within: Duration) {
        let usec = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(usec)]);
    }

    /// The status line, sent when it changed and the last one is old enough.
    pub fn status(&mut self, clock: &dyn Clock, line: &str) {
        let now = clock.now();
        if line != self.said.1 && now.since(self.said.0) >= STATUS_EVERY {
            tell(&[NotifyState::Status(line)]);
            self.said = (now, line.to_owned());
        }
    }

    /// Feeds the watchdog, at half its interval, when each of `progress` (one number a camera) has moved since the
    /// last time, or when there is no camera.
    pub fn feed(&mut self, clock: &dyn Clock, progress: Vec<u64>) {
        let Some(interval) = self.watchdog else { return };
        let now = clock.now();
        if now.since(self.fed) < interval / 2 {
            return;
        }
        if moved(&self.progress, &progress) {
            tell(&[NotifyState::Watchdog]);
            self.fed = now;
            self.progress = progress;
        }
    }
}

/// Whether every camera made progress; a changed number of cameras counts as progress.
fn moved(before: &[u64], now: &[u64]) -> bool {
    before.len() != now.len() || before.iter().zip(now).all(|(b, n)| n > b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stuck_camera_starves_the_watchdog() {
        assert!(moved(&[], &[]));
        assert!(moved(&[], &[0]));
        assert!(moved(&[1, 5], &[2, 6]));
        assert!(!moved(&[1, 5], &[2, 5]));
    }
}
