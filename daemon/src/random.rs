//! Random numbers for jitter and ids, seeded from the operating system.

use std::io::Read;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A generator for jitter: not for secrets.
pub struct Random(ChaCha8Rng);

/// 32 bytes from the operating system.
///
/// # Errors
/// Where `/dev/urandom` cannot be read, which no Linux system should show.
pub fn system_seed() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

impl Random {
    /// Seeded from the system; where that fails, from this process's number: jitter needs no more.
    pub fn from_system() -> Self {
        let seed = system_seed().unwrap_or_else(|_| {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&std::process::id().to_le_bytes());
            seed
        });
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// The same numbers for the same seed: for what is to be repeated.
    pub fn seeded(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        // 53 bits: every double of that grid below 1.
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_lie_in_range_and_differ() {
        let mut random = Random::from_system();
        let values: Vec<_> = (0..100).map(|_| random.unit()).collect();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        assert!(values.windows(2).any(|w| w[0] != w[1]));
    }
}
