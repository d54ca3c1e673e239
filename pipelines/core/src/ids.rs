//! Incident ids: UUIDv7 of a moment and a seeded generator, so that a replay gives the same ids each time.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use uuid::{Builder, Uuid};

use crate::Moment;

/// Gives incident ids. Live, it is seeded from the operating system; in replay from file and configuration.
#[derive(Debug, Clone)]
pub struct IncidentIds {
    random: ChaCha8Rng,
}

impl IncidentIds {
    /// A generator that gives the same ids for the same seed and moments.
    pub fn seeded(seed: [u8; 32]) -> Self {
        Self { random: ChaCha8Rng::from_seed(seed) }
    }

    /// The next id, at the moment in which the incident's condition first held.
    pub fn next(&mut self, at: Moment) -> Uuid {
        let mut bytes = [0; 10];
        self.random.fill_bytes(&mut bytes);
        let millis = u64::try_from(at.wall.as_millisecond()).unwrap_or(0);
        Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pts;

    #[test]
    fn same_seed_same_ids() {
        let at = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::from_secs_f64(1.0));
        let (mut a, mut b) = (IncidentIds::seeded([7; 32]), IncidentIds::seeded([7; 32]));
        let first = a.next(at);
        assert_eq!(first, b.next(at));
        assert_ne!(first, a.next(at));
        assert_eq!(first.get_version_num(), 7);
    }
}
