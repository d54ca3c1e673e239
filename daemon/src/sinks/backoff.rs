//! How long to wait before the next attempt: 1 s doubling to 30 s, with full jitter, so that the appliances of a site
//! do not all come back to a restarted broker in the same moment.
//!
//! Owns: the lengths. Does not know: what is attempted, and how one waits.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Attempts since the last success.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after another failure: uniformly between 0.1 s and the bound.
    pub(super) fn next(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(5)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // A UUIDv4's last 32 bits are random: no generator of its own for so little.
        let share = f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX);
        bound.mul_f64(share).max(Duration::from_millis(100))
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_and_stays_at_thirty_seconds() {
        for (failures, bound) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (6, 30), (u32::MAX, 30)] {
            let waits: Vec<_> = (0..200).map(|_| Backoff { failures }.next()).collect();
            let bound = Duration::from_secs(bound);
            assert!(waits.iter().all(|w| *w <= bound && *w >= Duration::from_millis(100)), "{failures}");
            assert!(
                waits.iter().any(|w| *w > bound / 2) && waits.iter().any(|w| *w < bound / 2),
                "{failures}"
            );
        }
    }

    #[test]
    fn success_starts_again() {
        let mut backoff = Backoff::default();
        (0..9).for_each(|_| _ = backoff.next());
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
