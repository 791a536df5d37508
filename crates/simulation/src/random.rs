//! Random numbers keyed by (seed, domain, subject, step), so that no draw depends on the order of others.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood 2014), started from a mix of the key.

/// What a random number is for; two domains never share a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Where agents and resources start.
    Placement = 1,
    /// An agent's choices in one step.
    Turn = 2,
    /// Whether a resource regenerates in one step.
    Regeneration = 3,
    /// The fixed terrain of the world.
    Terrain = 4,
    /// Inputs of benchmarks: query points and moves.
    Benchmark = 5,
}

/// A short stream of random numbers belonging to one key.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Random {
    /// The stream of one subject (an agent, a resource) in one step.
    #[must_use]
    pub fn keyed(seed: u64, domain: Domain, subject: u64, step: u64) -> Self {
        let key = mix(seed ^ mix((domain as u64) << 56 ^ subject ^ mix(step.wrapping_add(GOLDEN))));
        Self { state: key }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number in `[0, 1)` with 24 random bits, which `f32` holds exactly.
    pub fn unit(&mut self) -> f32 {
        const SCALE: f32 = 1.0 / (1 << 24) as f32;
        (self.next_u64() >> 40) as f32 * SCALE
    }

    /// A whole number in `[0, bound)`; `bound` must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether an event of the given probability happens.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }
}

/// The finaliser of SplitMix64.
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
    fn a_key_gives_one_stream_whatever_was_drawn_elsewhere() {
        let draw = |subject, step| Random::keyed(7, Domain::Turn, subject, step).next_u64();
        let first = draw(3, 9);
        draw(4, 9);
        assert_eq!(draw(3, 9), first);
        assert_ne!(draw(3, 10), first);
        assert_ne!(draw(4, 9), first);
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
    fn below_stays_below() {
        let mut random = Random::keyed(1, Domain::Benchmark, 0, 0);
        let drawn: Vec<u64> = (0..1000).map(|_| random.below(7)).collect();
        assert!((0..7).all(|value| drawn.contains(&value)));
        assert!(drawn.iter().all(|&value| value < 7));
    }
}
