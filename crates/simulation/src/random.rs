//! Random numbers keyed by (seed, domain, subject, step). A number thus never depends on the order in which others are generated.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood 2014). Its initial state is a mix of the key.

/// The purpose of a random number. Two domains never share a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Initial positions of agents and resources.
    Placement = 1,
    /// Choices of an agent in one step.
    Turn = 2,
    /// Whether a resource regenerates in one step.
    Regeneration = 3,
    /// Terrain of the world.
    Terrain = 4,
    /// Inputs of benchmarks: query points and moves.
    Benchmark = 5,
}

/// The stream of random numbers of one key.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

/// The increment of SplitMix64: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    /// Creates the stream of one subject (an agent or a resource) in one step.
    #[must_use]
    pub fn keyed(seed: u64, domain: Domain, subject: u64, step: u64) -> Self {
        let key = mix(seed ^ mix((domain as u64) << 56 ^ subject ^ mix(step.wrapping_add(GOLDEN))));
        Self { state: key }
    }

    /// Returns the next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Returns a number in `[0, 1)` with 24 random bits, which `f32` represents exactly.
    pub fn unit(&mut self) -> f32 {
        const SCALE: f32 = 1.0 / (1 << 24) as f32;
        (self.next_u64() >> 40) as f32 * SCALE
    }

    /// Returns an integer in `[0, bound)`. `bound` must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns `true` with the given probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }
}

/// Mixes the bits of a word: the finaliser of SplitMix64.
#[must_use]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_only_on_its_key() {
        let number = |subject, step| Random::keyed(7, Domain::Turn, subject, step).next_u64();
        let first = number(3, 9);
        number(4, 9);
        assert_eq!(number(3, 9), first);
        assert_ne!(number(3, 10), first);
        assert_ne!(number(4, 9), first);
        assert_ne!(Random::keyed(7, Domain::Regeneration, 3, 9).next_u64(), first);
    }

    #[test]
    fn unit_is_uniform() {
        let mut tenths = [0u32; 10];
        for subject in 0..100_000 {
            let value = Random::keyed(1, Domain::Turn, subject, 0).unit();
            assert!((0.0..1.0).contains(&value));
            tenths[(value * 10.0) as usize] += 1;
        }
        // Five standard deviations of a binomial with n = 100,000 and p = 0.1 are 474.
        for count in tenths {
            assert!(count.abs_diff(10_000) < 475, "{tenths:?}");
        }
    }

    #[test]
    fn below_returns_all_values_below_the_bound() {
        let mut random = Random::keyed(1, Domain::Benchmark, 0, 0);
        let values: Vec<u64> = (0..1000).map(|_| random.below(7)).collect();
        assert!((0..7).all(|value| values.contains(&value)));
        assert!(values.iter().all(|&value| value < 7));
    }
}
