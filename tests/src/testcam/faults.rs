//! Damage to access units: flipped bytes and unusable parameter sets.
//!
//! Owns: the byte work. Does not know: when to do it.

use super::clip::Codec;

/// One byte in this many is flipped in a corrupt unit (0.5 %).
const CORRUPT_ONE_IN: u64 = 200;

/// A small generator (xorshift64, Marsaglia 2003): the damage of a run is the same each time.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number in `0..sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides.max(1)
    }
}

/// Flips bits in 0.5 % of the bytes, wherever they are.
pub(crate) fn corrupt(bytes: &mut [u8], dice: &mut Dice) {
    for byte in bytes {
        if dice.roll(CORRUPT_ONE_IN) == 0 {
            *byte ^= 1 + dice.roll(255) as u8;
        }
    }
}

/// Makes every sequence parameter set in `bytes` one that no slice fits: all that follows profile and level
/// becomes ones, which reads as ids and sizes of 0. True where there was one.
pub(crate) fn spoil_parameter_sets(codec: Codec, bytes: &mut [u8]) -> bool {
    let mut spoilt = false;
    let starts: Vec<usize> = (0..bytes.len().saturating_sub(3))
        .filter(|&i| bytes[i..].starts_with(&[0, 0, 1]))
        .map(|i| i + 3)
        .collect();
    for (n, &start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).map_or(bytes.len(), |next| next - 3);
        // Bytes up to the end of profile and level: clause 7.3.2.1.1 of H.264, 7.3.2.2.1 and 7.3.3 of H.265.
        let head = match codec {
            Codec::H264 if bytes[start] & 0x1f == 7 => 4,
            Codec::H265 if (bytes[start] >> 1) & 0x3f == 33 => 15,
            _ => continue,
        };
        if let Some(body) = bytes.get_mut(start + head..end) {
            body.fill(0xff);
            spoilt = true;
        }
    }
    spoilt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_percent_is_flipped_and_always_the_same() {
        let damage = || {
            let (mut bytes, mut dice) = (vec![0; 100_000], Dice::new());
            corrupt(&mut bytes, &mut dice);
            bytes
        };
        let flipped = damage().iter().filter(|b| **b != 0).count();
        assert!((400..600).contains(&flipped), "{flipped} of 100000");
        assert_eq!(damage(), damage());
    }

    #[test]
    fn only_the_sequence_parameter_set_is_spoilt() {
        let sps = [0, 0, 0, 1, 0x67, 0x64, 0, 0x28, 0xac, 0xd9, 0, 0, 1, 0x65, 1, 2];
        let mut unit = sps;
        assert!(spoil_parameter_sets(Codec::H264, &mut unit));
        assert_eq!(unit, [0, 0, 0, 1, 0x67, 0x64, 0, 0x28, 0xff, 0xff, 0, 0, 1, 0x65, 1, 2]);
        assert!(!spoil_parameter_sets(Codec::Mjpeg, &mut sps.clone()));
        assert!(!spoil_parameter_sets(Codec::H264, &mut [0, 0, 1]));
        assert!(!spoil_parameter_sets(Codec::H264, &mut [0, 0, 1, 0x67]), "cut off");
    }
}
