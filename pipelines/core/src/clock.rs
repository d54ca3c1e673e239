//! The one place that asks the operating system for the time; clippy bans the alternatives elsewhere.
//!
//! Owns: the monotonic and the wall clock, and waiting. Does not know: PTS (a camera's time line is built from
//! arrivals by `vedette-ingest`).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::Shutdown;

/// A point on this process's monotonic clock: time since the clock was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub Duration);

impl Mono {
    /// How long after `earlier` this is; zero where it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Mono {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

/// Where time comes from. A parameter everywhere, so that tests drive it.
pub trait Clock: Send + Sync {
    /// Now, on the monotonic clock.
    fn now(&self) -> Mono;
    /// Now, in UTC.
    fn wall(&self) -> jiff::Timestamp;
    /// Waits for `length` or until `stop` is asked for; true when it was.
    fn pause(&self, length: Duration, stop: &Shutdown) -> bool;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose [`Mono`] begins now.
    #[expect(clippy::new_without_default, reason = "reading the time is not a default")]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Mono {
        Mono(Instant::now().saturating_duration_since(self.start))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::try_from(SystemTime::now()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    fn pause(&self, length: Duration, stop: &Shutdown) -> bool {
        stop.wait_timeout(length)
    }
}

/// A clock that stands still until somebody waits on it or advances it.
#[derive(Debug)]
pub struct SimulatedClock {
    state: Mutex<(Duration, jiff::Timestamp)>,
}

impl SimulatedClock {
    /// A clock that reads zero and `wall`.
    pub fn new(wall: jiff::Timestamp) -> Self {
        Self { state: Mutex::new((Duration::ZERO, wall)) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += by;
        state.1 = state.1.checked_add(by).unwrap_or(jiff::Timestamp::MAX);
    }

    /// Steps the wall clock alone, as NTP does.
    pub fn set_wall(&self, wall: jiff::Timestamp) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = wall;
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Mono {
        Mono(self.state.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn wall(&self) -> jiff::Timestamp {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn pause(&self, length: Duration, stop: &Shutdown) -> bool {
        self.advance(length);
        stop.is_requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_pause_advances_both_clocks() {
        let clock = SimulatedClock::new(jiff::Timestamp::UNIX_EPOCH);
        assert!(!clock.pause(Duration::from_secs(5), &Shutdown::new()));
        assert_eq!(clock.now(), Mono(Duration::from_secs(5)));
        assert_eq!(clock.wall().as_second(), 5);
    }
}
