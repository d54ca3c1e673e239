//! How long to wait before a camera is tried again.
//!
//! Owns: the two ladders of waits. Does not know: clocks or random generators, they are parameters.

use std::time::Duration;

use vedette_core::Mono;

use crate::FaultClass;

/// Waits that double from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    first: Duration,
    longest: Duration,
}

/// Waits that cannot be a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("waits from {first:?} to {longest:?}: the first must be more than zero and no more than the longest")]
pub struct LadderError {
    first: Duration,
    longest: Duration,
}

impl Ladder {
    /// For faults of the link: 0.5, 1, 2, 4, 5, 5 … s.
    pub const LINK: Self = Self { first: Duration::from_millis(500), longest: Duration::from_secs(5) };
    /// For faults of the configuration: 30 s doubling to 15 min. Repeated refusals lock some cameras' accounts.
    pub const CONFIGURATION: Self =
        Self { first: Duration::from_secs(30), longest: Duration::from_secs(15 * 60) };

    /// Checks that 0 < first ≤ longest.
    pub const fn new(first: Duration, longest: Duration) -> Result<Self, LadderError> {
        if first.is_zero() || first.as_nanos() > longest.as_nanos() {
            return Err(LadderError { first, longest });
        }
        Ok(Self { first, longest })
    }

    fn step(self, step: u32) -> Duration {
        let factor = 1_u32.checked_shl(step).unwrap_or(u32::MAX);
        self.first.checked_mul(factor).map_or(self.longest, |wait| wait.min(self.longest))
    }
}

/// The waits of one camera.
#[derive(Clone, Debug)]
pub struct Backoff {
    link: Ladder,
    configuration: Ladder,
    /// Faults of the link since the last one of the configuration, or since frames came.
    link_failures: u32,
    /// Faults of the configuration since frames came. What happens to the link between two of them changes nothing: a
    /// camera that locks its account may close connections meanwhile.
    configuration_failures: u32,
    frames_since: Option<Mono>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Ladder::LINK, Ladder::CONFIGURATION)
    }
}

impl Backoff {
    /// Frames for so long make up for earlier faults.
    pub const HEALTHY: Duration = Duration::from_secs(10);

    /// With ladders of one's own.
    pub const fn new(link: Ladder, configuration: Ladder) -> Self {
        Self { link, configuration, link_failures: 0, configuration_failures: 0, frames_since: None }
    }

    /// A frame (or packet, where nothing is decoded) came. After 10 s of them the waits begin anew.
    pub fn frame(&mut self, now: Mono) {
        let since = *self.frames_since.get_or_insert(now);
        if now.since(since) >= Self::HEALTHY {
            (self.link_failures, self.configuration_failures) = (0, 0);
        }
    }

    /// The wait after a fault. `random` is 0..1 (values outside count as the nearer end): faults of the link wait
    /// that share of the step (full jitter: cameras behind one dead switch do not come back together), faults of the
    /// configuration wait the whole step.
    pub fn failed(&mut self, class: FaultClass, random: f64) -> Duration {
        self.frames_since = None;
        if class.is_configuration() {
            self.link_failures = 0;
            let step = self.configuration_failures;
            self.configuration_failures = step.saturating_add(1);
            return self.configuration.step(step);
        }
        let step = self.link_failures;
        self.link_failures = step.saturating_add(1);
        let share = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
        self.link.step(step).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn the_ladders_double_to_their_ends() {
        let mut backoff = Backoff::default();
        let link: Vec<u128> = (0..6).map(|_| backoff.failed(FaultClass::Refused, 1.0).as_millis()).collect();
        assert_eq!(link, [500, 1000, 2000, 4000, 5000, 5000]);
        let configuration: Vec<u64> =
            (0..7).map(|_| backoff.failed(FaultClass::Auth, 0.0).as_secs()).collect();
        assert_eq!(configuration, [30, 60, 120, 240, 480, 900, 900]);
    }

    #[test]
    fn ten_seconds_of_frames_reset_and_nine_do_not() {
        struct Case(u64, u128);
        for Case(seconds, expected) in [Case(9, 2000), Case(10, 500)] {
            let mut backoff = Backoff::default();
            backoff.failed(FaultClass::Read, 1.0);
            backoff.failed(FaultClass::Read, 1.0);
            (0..=seconds).for_each(|s| backoff.frame(at(100 + s)));
            assert_eq!(backoff.failed(FaultClass::Read, 1.0).as_millis(), expected, "{seconds} s");
        }
    }

    #[test]
    fn a_link_that_fails_between_two_refusals_does_not_hasten_the_next_login() {
        let mut backoff = Backoff::default();
        let mut refused = || {
            let wait = backoff.failed(FaultClass::Auth, 0.0).as_secs();
            assert_eq!(backoff.failed(FaultClass::Timeout, 1.0).as_millis(), 500);
            wait
        };
        assert_eq!([refused(), refused(), refused()], [30, 60, 120]);
        (0..=10).for_each(|s| backoff.frame(at(s)));
        assert_eq!(backoff.failed(FaultClass::Auth, 0.0).as_secs(), 30, "frames make up for it");
    }

    #[test]
    fn impossible_ladders_are_refused() {
        assert!(Ladder::new(Duration::ZERO, Duration::from_secs(1)).is_err());
        assert!(Ladder::new(Duration::from_secs(2), Duration::from_secs(1)).is_err());
        assert!(Ladder::new(Duration::from_secs(1), Duration::from_secs(1)).is_ok());
    }

    proptest! {
        #[test]
        fn waits_stay_within_their_ladder(
            first in 1_u64..10_000, more in 0_u64..1_000_000, random in proptest::num::f64::ANY,
            classes in proptest::collection::vec(any::<bool>(), 1..200),
        ) {
            let ladder = Ladder::new(Duration::from_millis(first), Duration::from_millis(first + more)).unwrap();
            let mut backoff = Backoff::new(ladder, ladder);
            let mut previous: Option<(bool, Duration)> = None;
            for configuration in classes {
                let class = if configuration { FaultClass::Auth } else { FaultClass::Read };
                let wait = backoff.failed(class, random);
                prop_assert!(wait <= Duration::from_millis(first + more));
                prop_assert!(!configuration || wait >= Duration::from_millis(first));
                if let Some((same, before)) = previous && same == configuration {
                    prop_assert!(wait >= before);
                }
                previous = Some((configuration, wait));
            }
        }
    }
}
