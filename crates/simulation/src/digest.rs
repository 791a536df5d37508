//! A 64-bit digest that is the same on every machine. It is not cryptographic.

use crate::random::mix;

/// Accumulates 64-bit words into one digest. The order of the words matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    state: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { state: 0x243F_6A88_85A3_08D3 }
    }
}

impl Digest {
    /// Adds one word.
    pub fn word(&mut self, word: u64) {
        self.state = mix(self.state.rotate_left(23) ^ word).wrapping_add(self.state);
    }

    /// Adds the bits of a float.
    pub fn float(&mut self, value: f32) {
        self.word(u64::from(value.to_bits()));
    }

    /// Returns the digest of everything added so far.
    #[must_use]
    pub fn finish(self) -> u64 {
        mix(self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_value_matter() {
        let digest_of = |words: &[u64]| {
            let mut digest = Digest::default();
            words.iter().for_each(|&word| digest.word(word));
            digest.finish()
        };
        assert_eq!(digest_of(&[1, 2]), digest_of(&[1, 2]));
        assert_ne!(digest_of(&[1, 2]), digest_of(&[2, 1]));
        assert_ne!(digest_of(&[0]), digest_of(&[0, 0]));
    }
}
