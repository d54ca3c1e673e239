//! How fast events go out: a token bucket, so that a backlog is not thrown at a broker that would drop it.
//!
//! Stock Mosquitto keeps 1,000 messages for a subscriber that is slower than its publisher, and drops the rest.

use std::time::Duration;

use vedette_core::Mono;

/// Events that may go at once, in seconds of the rate.
const BURST: f64 = 0.25;

#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    tokens: f64,
    at: Mono,
}

impl Pace {
    /// `per_second` events in the long run; 0 counts as 1.
    pub(super) fn new(per_second: u32, now: Mono) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self { per_second, tokens: Self::most(per_second), at: now }
    }

    fn most(per_second: f64) -> f64 {
        (per_second * BURST).max(1.0)
    }

    fn tokens(&self, now: Mono) -> f64 {
        let gained = now.since(self.at).as_secs_f64() * self.per_second;
        (self.tokens + gained).min(Self::most(self.per_second))
    }

    /// How long the next event has to wait; none: not at all.
    pub(super) fn wait(&self, now: Mono) -> Option<Duration> {
        let missing = 1.0 - self.tokens(now);
        // Below a microsecond it is a rounding error.
        (missing > 1e-6).then(|| Duration::from_secs_f64(missing / self.per_second))
    }

    /// One event went.
    pub(super) fn take(&mut self, now: Mono) {
        (self.tokens, self.at) = (self.tokens(now) - 1.0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_as_many_through_as_it_says() {
        let mut now = Mono::default();
        let mut pace = Pace::new(200, now);
        let end = now + Duration::from_secs(10);
        let mut sent = 0;
        while now < end {
            match pace.wait(now) {
                Some(wait) => now = now + wait,
                None => {
                    pace.take(now);
                    sent += 1;
                }
            }
        }
        assert!((2045..=2055).contains(&sent), "{sent}");
    }

    #[test]
    fn a_single_event_never_waits_after_a_pause() {
        let mut pace = Pace::new(1, Mono::default());
        pace.take(Mono::default());
        assert!(pace.wait(Mono::default()).is_some());
        assert!(pace.wait(Mono::default() + Duration::from_secs(1)).is_none());
    }
}
