//! A small, portable digest: the same bytes give the same 64 bits on every machine.

use crate::random::mix;

/// Accumulates 64-bit words into one digest; order matters.
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

    /// Adds a float by its bits.
    pub fn float(&mut self, value: f32) {
        self.word(u64::from(value.to_bits()));
    }

    /// The digest of everything added so far.
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
        let of = |words: &[u64]| {
            let mut digest = Digest::default();
            words.iter().for_each(|&word| digest.word(word));
            digest.finish()
        };
        assert_eq!(of(&[1, 2]), of(&[1, 2]));
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&[0]), of(&[0, 0]));
    }
}
